"""A model ready to score: its tensors, what it expects of its input, and where it comes from.

    model.safetensors   parameters and buffers of the EpisodeModel; no loss heads, no optimiser
    model.json          settings, inputs, windows, support size, calibration, origin, sha256 of all that
    ranges.json         what the training lines look like (`LineRanges`), where the run was evaluated by a version that
                        counts them; what a new line is held against

It is read from an export (that folder) or from a run's best checkpoint; both give the same tensors. Nothing is
unpickled, and an export needs neither its run nor its store. Opening costs one pass over the tensors for the digest.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from pydantic import Field
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor

from data_pipeline.durable import draft_of, publish, remove_dead_drafts, write_durably
from data_pipeline.episodes import SupportSize
from data_pipeline.errors import UserError
from data_pipeline.settings import Settings, validate
from data_pipeline.store import Kind, read_manifest
from distributed.run_folder import (
    DESCRIPTION,
    RunRecord,
    TrainingState,
    best_checkpoint,
    load_checkpoint,
    read_record,
    require_export,
    upgraded_model,
)
from distributed.settings import RunSettings
from evaluation import Calibration, Criterion
from evaluation.line_page import RANGES, LineRanges
from model.episode_model import EpisodeModel, ModelSettings

FORMAT_VERSION = 1
TENSORS = "model.safetensors"
_MODEL = "model."
"""Prefix of the EpisodeModel's tensors in a checkpoint; the rest is loss heads."""


class FrozenSpread(Settings):
    """BetweenLines of the calibration: how far its intercept is off on a line it was not fitted to."""

    units: int = Field(ge=2)
    """Lines or chromosomes it was learnt from."""
    of: Literal["lines", "chromosomes"]
    """What was left out in turn."""
    sd: float = Field(ge=0)
    """Standard deviation in logits."""
    sd_shifted: float = Field(ge=0)
    """The same after the shift to the estimated prevalence."""


class FrozenCalibration(Settings):
    """Calibration.to_dict() of the validation line; probability = sigmoid(logit / temperature + bias)."""

    temperature: float = Field(gt=0)
    """Divides the logit."""
    bias: float
    """Added after that."""
    threshold: float = Field(ge=0, le=1)
    """A pair is called at this probability and above."""
    criterion: Criterion
    """What the threshold maximised on the validation line."""
    at_recall70: float | None = Field(None, ge=0, le=1)
    """Threshold that found 70% of the interacting pairs there; null: evaluated before there was one."""
    at_mcc: float | None = Field(None, ge=0, le=1)
    """Threshold of the best MCC there; null: evaluated before there was one."""
    prevalence: float | None = Field(None, gt=0, lt=1)
    """Of the validation line's pairs, which the probabilities presume; models of before have none."""
    between: FrozenSpread | None = None
    """How far the calibration is off on other lines; null where nothing is known."""

    def threshold_of(self, name: str) -> float | None:
        """The threshold called `recall70` or `mcc`; None where it was not frozen."""
        if name == "recall70":
            return self.at_recall70
        return self.threshold if self.at_mcc is None and self.criterion == "mcc" else self.at_mcc


class Origin(Settings):
    """Where a model comes from."""

    run: str
    """Name of the run."""
    checkpoint: str
    """Folder name of its best checkpoint."""
    step: int
    """Steps trained."""
    score: float
    """Validation macro average precision of the checkpoint; -1 where none was computed."""
    store: str
    """Checksum of the store trained on."""
    fold: str
    """Identity of the fold."""
    versions: dict[str, str]
    """Of Python and the libraries the run was trained with."""


class ModelDescription(Settings):
    """The content of `model.json`: all that a prediction must know beside the tensors."""

    format_version: int
    """Version of this layout; readers refuse any other."""
    model: ModelSettings
    """Shape and arithmetic (precision) of the model."""
    windows: dict[Kind, int]
    """Bases per enhancer and promoter that it was trained on; 0 without sequence."""
    support: int = Field(ge=1)
    """Fewest pairs in a support set: the smallest trained with."""
    support_bound: int = Field(0, ge=0)
    """Most pairs in a support set; 0, as in exports of before there was one: always `support`."""
    smooth_enhancer: int = Field(0, ge=0)
    """bp between enhancers up to which scores are averaged (`scoring.smooth_enhancer`)."""
    smooth_promoter: int = Field(0, ge=0)
    """Likewise between promoters."""
    signal_names: list[str]
    """Signal tracks it expects, in order."""
    landscape_names: list[str] = Field(default=[])
    """Tracks of landscapes it expects where it reads profiles, in order."""
    line_features: int = Field(ge=0)
    """F, numbers in a line's feature vector."""
    train_lines: list[str]
    """Cell lines it was trained on."""
    build: str = ""
    """Genome build of the store it was trained on; empty: not told."""
    calibration: FrozenCalibration | None
    """Calibration frozen on the validation line; null: the run was not evaluated."""
    origin: Origin
    """Where it comes from."""
    tensors_sha256: str = ""
    """Digest of `model.safetensors`."""
    ranges_sha256: str = ""
    """Digest of `ranges.json`; empty where there is none."""
    checksum: str = ""
    """sha256 over everything above."""

    @property
    def support_in_use(self) -> SupportSize:
        """Size of the supports that pairs are scored with."""
        return SupportSize(self.support, self.support_bound or self.support)


@dataclass(frozen=True)
class Deployment:
    """A description and the tensors by name, on the CPU."""

    description: ModelDescription
    tensors: dict[str, Tensor]
    where: str
    """Folder they were read from, for messages."""
    ranges: LineRanges | None = None
    """Of the training lines; None where the run's report has none, or there is no report."""

    def build(self) -> EpisodeModel:
        """The model in evaluation mode, on the GPU if there is one; raises `UserError` if tensors do not fit."""
        own = self.description
        tracks, lines = len(own.landscape_names), len(own.train_lines)
        model = EpisodeModel(own.model, len(own.signal_names), own.line_features, lines, tracks)
        try:
            model.load_state_dict(self.tensors)
        except RuntimeError as error:
            raise UserError(
                f"the tensors in {self.where} do not fit this program's model of the same settings; "
                "use the version of prism-epi that wrote them, or export the run again"
            ) from error
        return model.to("cuda" if torch.cuda.is_available() else "cpu").eval()


def open_run(run: Path) -> Deployment:
    """The best checkpoint of `run`, with the calibration of its report if it was evaluated.

    Raises `UserError` where run, checkpoint, or the manifest of the store it was trained on is missing or damaged.
    """
    record = read_record(run)
    checkpoint = best_checkpoint(run)
    tensors, _, state = load_checkpoint(checkpoint)
    settings = validate(RunSettings, state.settings, str(checkpoint))
    description = ModelDescription(
        format_version=FORMAT_VERSION,
        model=settings.model,
        windows=_windows(run, record, state),
        support=settings.support_in_use.least,
        support_bound=settings.support_in_use.most,
        smooth_enhancer=settings.scoring.smooth_enhancer,
        smooth_promoter=settings.scoring.smooth_promoter,
        signal_names=state.signal_names,
        landscape_names=state.landscape_names,
        line_features=state.inputs["line_features"],
        train_lines=state.train_lines,
        build=state.build,
        calibration=_calibration(run, checkpoint.name),
        origin=Origin(
            run=run.resolve().name,
            checkpoint=checkpoint.name,
            step=state.step,
            score=state.score,
            store=state.identity.store,
            fold=state.identity.fold,
            versions=record.versions,
        ),
    )
    own = {name.removeprefix(_MODEL): value for name, value in tensors.items() if name.startswith(_MODEL)}
    ranges = _ranges(run, checkpoint.name)
    return Deployment(_sealed(description, _serialised(own), _written(ranges)), own, str(checkpoint), ranges)


def write_export(deployment: Deployment, out: Path) -> None:
    """Write `deployment` as the new folder `out`, visible in one rename; raises `UserError` if `out` exists."""
    if out.exists():
        raise UserError(f"{out} exists already; give another --out or remove it first")
    partial = draft_of(out)
    tensors, ranges = _serialised(deployment.tensors), _written(deployment.ranges)
    description = _sealed(deployment.description, tensors, ranges)
    try:
        partial.mkdir(parents=True)
        remove_dead_drafts(out)
        write_durably(partial / TENSORS, tensors)
        if ranges:
            write_durably(partial / RANGES, ranges)
        write_durably(partial / DESCRIPTION, description.model_dump_json(indent=1).encode())
        publish(partial, out)
    except OSError as error:
        raise UserError(f"cannot write {out}: {error.strerror}; give an --out in a writable folder") from error
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def open_export(folder: Path) -> Deployment:
    """Read an export; raises `UserError` where it is missing, damaged, or of another format version."""
    file = require_export(folder)
    description = _described(file)
    tensors = folder / TENSORS
    content = tensors.read_bytes() if tensors.is_file() else b""
    if hashlib.sha256(content).hexdigest() != description.tensors_sha256:
        raise UserError(f"{tensors} is missing or damaged (its sha256 differs); copy or export the model again")
    try:
        return Deployment(description, load(content), str(folder), _exported_ranges(folder, description))
    except SafetensorError as error:
        raise UserError(f"{tensors} cannot be read ({error}); export the model again") from error


def _serialised(tensors: dict[str, Tensor]) -> bytes:
    return save({name: value.contiguous() for name, value in tensors.items()})


def _written(ranges: LineRanges | None) -> bytes:
    return ranges.model_dump_json().encode() if ranges else b""


def _exported_ranges(folder: Path, description: ModelDescription) -> LineRanges | None:
    if not description.ranges_sha256:
        return None
    file = folder / RANGES
    content = file.read_bytes() if file.is_file() else b""
    if hashlib.sha256(content).hexdigest() != description.ranges_sha256:
        raise UserError(f"{file} is missing or damaged (its sha256 differs); copy or export the model again")
    return validate(LineRanges, json.loads(content), str(file))


def _sealed(description: ModelDescription, tensors: bytes, ranges: bytes) -> ModelDescription:
    digests = {"tensors_sha256": hashlib.sha256(tensors).hexdigest()}
    digests["ranges_sha256"] = hashlib.sha256(ranges).hexdigest() if ranges else ""
    named = description.model_copy(update=digests)
    return named.model_copy(update={"checksum": _checksum(named.model_dump(mode="json"))})


def _checksum(content: dict[str, Any]) -> str:
    """Digest of the content of a `model.json` as it stands there.

    Not of what this program makes of it, which would change with every setting that a later version adds.
    """
    rest = {name: value for name, value in content.items() if name != "checksum"}
    return hashlib.sha256(json.dumps(rest, sort_keys=True).encode()).hexdigest()


def _described(file: Path) -> ModelDescription:
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise UserError(f"{file} is damaged ({error}); copy or export the model again") from error
    version = content.get("format_version") if isinstance(content, dict) else None
    if version != FORMAT_VERSION:
        raise UserError(f"{file} has format version {version}, this program reads {FORMAT_VERSION}; export again")
    if content.get("checksum") != _checksum(content):
        raise UserError(f"{file} does not match its own checksum; copy or export the model again")
    if isinstance(content.get("model"), dict):
        content["model"] = upgraded_model(content["model"])
    return validate(ModelDescription, content, str(file))


def _windows(run: Path, record: RunRecord, state: TrainingState) -> dict[Kind, int]:
    manifest = read_manifest(Path(record.store))
    if manifest.checksum != state.identity.store:
        raise UserError(
            f"store {record.store} is not the one that run {run} was trained on, so the windows of its elements are "
            "not known; restore the store"
        )
    return manifest.windows


def _calibration(run: Path, checkpoint: str) -> FrozenCalibration | None:
    content = _frozen(run, checkpoint, "calibration.json")
    try:
        return FrozenCalibration(**Calibration.from_dict(content).to_dict()) if content else None
    except (KeyError, TypeError) as error:
        raise UserError(f"the report in {run / 'report'} is damaged ({error!r}); evaluate the run again") from error


def _ranges(run: Path, checkpoint: str) -> LineRanges | None:
    content = _frozen(run, checkpoint, RANGES)
    return validate(LineRanges, content, str(run / "report" / RANGES)) if content else None


def _frozen(run: Path, checkpoint: str, name: str) -> dict[str, Any] | None:
    """What `evaluate` froze for this very checkpoint; a report of another one says nothing about it."""
    report, file = run / "report" / "report.json", run / "report" / name
    if not report.is_file() or not file.is_file():
        return None
    try:
        evaluated = json.loads(report.read_text(encoding="utf-8"))["context"]["checkpoint"]
        content: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
    except (json.JSONDecodeError, UnicodeDecodeError, KeyError, TypeError) as error:
        raise UserError(f"the report in {run / 'report'} is damaged ({error!r}); evaluate the run again") from error
    return content if evaluated == checkpoint else None
