"""Checkpoints: whole tensors as safetensors, everything else as JSON, digests over both.

    model.safetensors      fp32 parameters and buffers by name
    optimiser.safetensors  AdamW moments by parameter name
    state.json             position, scores, settings, identities, sha256 of the two files

Nothing in it depends on the ZeRO stage or the number of workers, and nothing is unpickled. The position is the number
of steps done: plan, dropout and schedules are functions of it, so there is no random state to save. A checkpoint is
written to a hidden folder, flushed and renamed, so it is there whole or not at all; the run's folder is the only
record of which ones there are.
"""

from __future__ import annotations

import json
import math
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

from pydantic import Field
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from data_pipeline.durable import MARK, draft_of, fsync_tree, publish
from data_pipeline.errors import UserError
from data_pipeline.settings import Settings, validate
from data_pipeline.store import sha256_of
from distributed.monitoring import WatchState
from distributed.run_folder.upgrades import upgraded_run

FILES = ("model.safetensors", "optimiser.safetensors")


class Identity(Settings):
    """What must be equal for a checkpoint to be resumed."""

    store: str
    """Checksum of the store."""
    fold: str
    """Identity of the fold."""
    plan: str
    """Identity of the episode plan."""


class TrainingState(Settings):
    """The content of `state.json` beside the digests."""

    step: int = Field(ge=0)
    """Steps done; the next step to take has this number."""
    best_score: float = -1.0
    """Best validation macro average precision so far; -1 before the first."""
    best_step: int = 0
    """Step it was reached at."""
    epochs_without_gain: int = 0
    """Validations since then."""
    bad_steps: int = 0
    """Steps in a row, up to this one, whose loss or gradient was not finite."""
    score: float = -1.0
    """Validation score of this very checkpoint; -1 where none was computed."""
    candidate: bool = True
    """Whether it may be chosen as the best: not so before `train.choose_from`."""
    finished: bool = False
    """Whether training ended here."""
    identity: Identity
    """What this run trains on."""
    inputs: dict[str, int]
    """Sizes the model was built for: signals, line_features, lines."""
    train_lines: list[str]
    """Training lines in the order the model counts them."""
    signal_names: list[str]
    """Tracks the model expects, in order."""
    landscape_names: list[str] = Field(default=[])
    """Tracks of landscapes of the store trained on, in order."""
    build: str = ""
    """Genome build of the store trained on; empty: not told."""
    settings: dict[str, Any]
    """The run's resolved settings."""
    watch: WatchState = WatchState()
    """Alarms, means of the present epoch and what responses have changed."""

    def judged(self, score: float, patience: int, steps: int, candidate: bool = True) -> TrainingState:
        """This state after a validation with `score`: it stops after `patience` of them without a better one.

        A score that is not finite is none (-1), and no gain. 0 never stops early; `steps` in all end the training too.
        The first candidate for the best is better than all that are none, and until there is one the latest counts as
        the best.
        """
        score = score if math.isfinite(score) else -1.0
        gained = score > self.best_score or not self.candidate
        bad = 0 if gained else self.epochs_without_gain + 1
        return self.model_copy(
            update={
                "score": score,
                "candidate": candidate,
                "best_score": score if gained else self.best_score,
                "best_step": self.step if gained else self.best_step,
                "epochs_without_gain": bad,
                "finished": self.step >= steps or (patience > 0 and bad >= patience),
            }
        )


def save_checkpoint(
    run: Path,
    model: dict[str, Tensor],
    optimiser: dict[str, Tensor],
    state: TrainingState,
    allowed: Callable[[], None] = lambda: None,
) -> Path:
    """Add the checkpoint of `state.step` to `run` and return its folder; one process of a run does this.

    `allowed` is called last, before the checkpoint becomes visible, and raises where it must not any more. Raises
    `UserError` where it cannot be written or a tensor is not finite; the checkpoints that are there stay as they were.
    """
    folder = run / f"checkpoint_{state.step:09d}"
    unfit = [name for part in (model, optimiser) for name, value in part.items() if not bool(value.isfinite().all())]
    if unfit:
        raise UserError(
            f"checkpoint {folder} is not written: {unfit[0]}{f' and {len(unfit) - 1} more' if unfit[1:] else ''} would "
            "not be finite; the earlier ones are: start a new run with a lower optimiser.lr"
        )
    try:
        draft = draft_of(folder)
        draft.mkdir()
        try:
            _write(draft, model, optimiser, state)
            fsync_tree(draft)
            allowed()
            if folder.exists():
                shutil.rmtree(folder)
            publish(draft, folder)
        finally:
            shutil.rmtree(draft, ignore_errors=True)
    except (OSError, SafetensorError) as error:
        raise UserError(
            f"checkpoint {folder} cannot be written: {error}; the earlier ones are whole: make room or mend the "
            "folder, then continue with --resume"
        ) from error
    return folder


def _write(folder: Path, model: dict[str, Tensor], optimiser: dict[str, Tensor], state: TrainingState) -> None:
    for name, tensors in zip(FILES, (model, optimiser), strict=True):
        save_file({key: value.contiguous() for key, value in tensors.items()}, folder / name)
    digests = {name: sha256_of(folder / name) for name in FILES}
    (folder / "state.json").write_text(
        json.dumps({"sha256": digests, **state.model_dump(mode="json")}, indent=1), encoding="utf-8"
    )


def prune_checkpoints(run: Path, keep: int) -> None:
    """Remove all but the `keep` best scored checkpoints and the latest, and what a killed writer left behind.

    Only the process that may write the run calls this: what any other has begun to write may not become visible.
    """
    found = checkpoints(run)
    scored = [item for item in found if item[1].score >= 0]
    best = sorted(scored, key=_merit)[-keep:]
    kept = {folder for folder, _ in [*best, *found[-1:]]}
    for folder in [*(folder for folder, _ in found if folder not in kept), *run.glob(f".checkpoint_*{MARK}*")]:
        shutil.rmtree(folder, ignore_errors=True)


def read_state(folder: Path) -> TrainingState:
    """The state of the checkpoint in `folder`; raises `UserError` if it is missing or damaged."""
    return _read(folder)[0]


def load_checkpoint(folder: Path) -> tuple[dict[str, Tensor], dict[str, Tensor], TrainingState]:
    """Model tensors, optimiser tensors and state; raises `UserError` if anything is missing or damaged."""
    state = verify_checkpoint(folder)
    model, optimiser = (load_file(folder / name) for name in FILES)
    return model, optimiser, state


def verify_checkpoint(folder: Path) -> TrainingState:
    """The state of the checkpoint in `folder` after checking the digests; raises `UserError` if it is not whole."""
    state, digests = _read(folder)
    for name in FILES:
        file = folder / name
        if not file.is_file() or sha256_of(file) != digests.get(name):
            raise UserError(
                f"checkpoint file {file} is missing or damaged; remove {folder} to use an earlier checkpoint"
            )
    return state


def set_aside_damaged(run: Path) -> list[Path]:
    """Rename the checkpoints of `run` that are newer than its latest whole one; the new names, newest first."""
    moved = []
    for folder in sorted(run.glob("checkpoint_*"), reverse=True):
        try:
            verify_checkpoint(folder)
            break
        except UserError:
            aside = folder.with_name(f"damaged_{folder.name}")
            shutil.rmtree(aside, ignore_errors=True)
            moved.append(folder.rename(aside))
    return moved


def _read(folder: Path) -> tuple[TrainingState, dict[str, str]]:
    file = folder / "state.json"
    if not file.is_file():
        raise UserError(f"{folder} is not a checkpoint: it has no state.json")
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
        digests = content.pop("sha256")
    except (json.JSONDecodeError, UnicodeDecodeError, KeyError, AttributeError) as error:
        raise UserError(f"{file} is damaged ({error!r}); remove {folder} to use an earlier checkpoint") from error
    state = validate(TrainingState, content, str(file))
    return state.model_copy(update={"settings": upgraded_run(state.settings)}), digests


def checkpoints(run: Path) -> list[tuple[Path, TrainingState]]:
    """The checkpoints of a run, oldest first; folders without a readable state are left out."""
    found = []
    for folder in sorted(run.glob("checkpoint_*")):
        try:
            found.append((folder, read_state(folder)))
        except UserError:
            continue
    return sorted(found, key=lambda item: item[1].step)


def best_checkpoint(run: Path) -> Path:
    """The run's checkpoint with the best validation score among the candidates, or its latest where none was scored."""
    found = checkpoints(run)
    if not found:
        raise UserError(f"run {run} has no checkpoint; train it first (distributed/train.py)")
    return max(found, key=_merit)[0]


def _merit(item: tuple[Path, TrainingState]) -> tuple[bool, float, int]:
    state = item[1]
    return state.candidate and state.score >= 0, state.score, state.step
