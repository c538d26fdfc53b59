"""Checkpoints: whole tensors as safetensors, everything else as JSON, digests over both.

    model.safetensors      fp32 parameters and buffers by name
    optimiser.safetensors  AdamW moments by parameter name
    state.json             position, scores, settings, identities, sha256 of the two files

Nothing in it depends on the ZeRO stage or the number of workers, and nothing is unpickled. The position is the number
of steps done: plan, dropout and schedules are functions of it, so there is no random state to save.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from pydantic import Field
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from data_pipeline.errors import UserError
from data_pipeline.settings import Settings, validate
from data_pipeline.store import sha256_of

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
    """Epoch ends since then."""
    score: float = -1.0
    """Validation score of this very checkpoint; -1 where none was computed."""
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
    settings: dict[str, Any]
    """The run's resolved settings."""


def save_checkpoint(folder: Path, model: dict[str, Tensor], optimiser: dict[str, Tensor], state: TrainingState) -> None:
    """Write a checkpoint into the existing `folder`."""
    for name, tensors in zip(FILES, (model, optimiser), strict=True):
        save_file({key: value.contiguous() for key, value in tensors.items()}, folder / name)
    digests = {name: sha256_of(folder / name) for name in FILES}
    (folder / "state.json").write_text(json.dumps({"sha256": digests, **state.model_dump(mode="json")}, indent=1))


def read_state(folder: Path) -> TrainingState:
    """The state of the checkpoint in `folder`; raises `UserError` if it is missing or damaged."""
    return _read(folder)[0]


def load_checkpoint(folder: Path) -> tuple[dict[str, Tensor], dict[str, Tensor], TrainingState]:
    """Model tensors, optimiser tensors and state; raises `UserError` if anything is missing or damaged."""
    state, digests = _read(folder)
    tensors = []
    for name in FILES:
        file = folder / name
        if not file.is_file() or sha256_of(file) != digests.get(name):
            raise UserError(
                f"checkpoint file {file} is missing or damaged; remove {folder} to use an earlier checkpoint"
            )
        try:
            tensors.append(load_file(file))
        except SafetensorError as error:
            raise UserError(f"checkpoint file {file} cannot be read: {error}") from error
    return tensors[0], tensors[1], state


def _read(folder: Path) -> tuple[TrainingState, dict[str, str]]:
    file = folder / "state.json"
    if not file.is_file():
        raise UserError(f"{folder} is not a checkpoint: it has no state.json")
    try:
        content = json.loads(file.read_text())
        digests = content.pop("sha256")
    except (json.JSONDecodeError, UnicodeDecodeError, KeyError, AttributeError) as error:
        raise UserError(f"{file} is damaged ({error!r}); remove {folder} to use an earlier checkpoint") from error
    return validate(TrainingState, content, str(file)), digests


def checkpoints(run: Path) -> list[tuple[Path, TrainingState]]:
    """The complete checkpoints of a run, oldest first; folders of an interrupted upload are left out."""
    found = []
    for folder in sorted(run.glob("checkpoint_*")):
        try:
            found.append((folder, read_state(folder)))
        except UserError:
            continue
    return sorted(found, key=lambda item: item[1].step)


def best_checkpoint(run: Path) -> Path:
    """The run's checkpoint with the best validation score, or its latest where none was scored."""
    found = checkpoints(run)
    if not found:
        raise UserError(f"run {run} has no checkpoint; train it first (distributed/train.py)")
    return max(found, key=lambda item: (item[1].score, item[1].step))[0]
