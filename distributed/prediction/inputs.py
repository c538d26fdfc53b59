"""What distributed/predict.py is given: a model, pairs, and a place to work."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from tqdm import tqdm

from data_pipeline.errors import UserError
from data_pipeline.store import Kind, Store, read_manifest
from distributed.prediction.deployment import Deployment, ModelDescription, open_export, open_run
from distributed.prediction.unlabelled import NO_WINDOWS


@contextmanager
def work_folder(out: Path) -> Iterator[Path]:
    """A hidden folder beside `out`, of a new name, that is removed at the end."""
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        folder = tempfile.TemporaryDirectory(prefix=f".{out.name}.work-", dir=out.parent)
    except OSError as error:
        raise UserError(
            f"cannot write to {out.parent}: {error.strerror}; give an --out in a writable folder"
        ) from error
    with folder as name:
        yield Path(name)


def open_model(model: Path | None, run: Path | None) -> Deployment:
    """The exported model, or the run's best checkpoint where that is not given."""
    return open_export(model) if model else open_run(run)  # type: ignore[arg-type]


def verified(store: Path) -> Path:
    """`store` after checking every file's sha256, with a progress bar."""
    size = sum(record.bytes for record in read_manifest(store).files.values())
    with tqdm(total=size, unit="B", unit_scale=True, desc="verify store", leave=False) as bar:
        return Store.open(store, verify="full", progress=bar.update).path


def one_line(lines: Sequence[str]) -> str:
    """The cell line of a table on the command line; raises `UserError` unless there is one."""
    if len(lines) != 1:
        raise UserError("--pairs is a table of one cell line; name it with one --line (tables of several: --yaml)")
    return lines[0]


def both_or_none(enhancers: Path | None, promoters: Path | None) -> tuple[Path, Path] | None:
    """The two sequence tables; raises `UserError` where only one is given."""
    if (enhancers is None) != (promoters is None):
        raise UserError("give --enhancer-sequences and --promoter-sequences together")
    return (enhancers, promoters) if enhancers and promoters else None


def usable_windows(model: ModelDescription) -> dict[Kind, int]:
    """Bases to store per element for this model; none where it reads no sequence."""
    return model.windows if model.model.trunk.shape else NO_WINDOWS
