"""Ablations on disk.

    RUNS/NAME/ablation.json      store, base settings, variants, folds, seeds, versions
    RUNS/NAME/runs/              one run per variant, fold and seed, as distributed/run_folder/runs.py describes
    RUNS/NAME/outcomes/          how each run ended (JSON) and its predictions (parquet): all that the report reads
    RUNS/NAME/report.html, table.md, runs.parquet

An ablation that is resumed may have more variants, folds and seeds, or fewer; what its runs share, and what a variant
of a given name is, must be what it was.
"""

from __future__ import annotations

import datetime
from pathlib import Path
from typing import Any

from pydantic import Field

from data_pipeline.durable import write_durably
from data_pipeline.errors import UserError
from data_pipeline.settings import Settings
from distributed.run_folder import FREE_TO_CHANGE, check_name, read_json, read_record_of, versions
from tune.ablation.run import Cell, Outcome
from tune.ablation.variants import DEFAULT
from tune.identity import flat

RECORD, RUNS, OUTCOMES = "ablation.json", "runs", "outcomes"
OF_A_CELL = ("fold.test_line", "fold.valid_line", "train.seed")
"""Base settings that every run has its own value of."""


class VariantRecord(Settings):
    """A variant as it was resolved."""

    name: str
    """Its name."""
    description: str = ""
    """What is different."""
    against: str = DEFAULT
    """Variant that it is compared to."""
    changes: dict[str, Any] = Field(default_factory=dict)
    """Dotted key -> value of the settings that differ from the base."""
    left_out: str = ""
    """Why it is not run; empty if it is."""


class AblationRecord(Settings):
    """The content of `ablation.json`."""

    created: str = ""
    """UTC time, ISO 8601."""
    store: str
    """Path of the store."""
    store_checksum: str
    """Its checksum."""
    base: dict[str, Any]
    """Resolved settings of the base."""
    variants: list[VariantRecord]
    """The base first, then the variants in the order of the table."""
    folds: list[tuple[str, str]]
    """Test and validation line of each fold."""
    seeds: list[int]
    """Seeds of the runs."""
    pairs: int
    """Most pairs judged per quadrant."""
    versions: dict[str, str] = Field(default_factory=dict)
    """Of Python and the libraries that matter."""

    def cells(self) -> list[Cell]:
        """All runs, so that what comes first can be compared first: by seed, then fold, then variant."""
        return [
            Cell(variant=variant.name, test_line=test, valid_line=valid, seed=seed)
            for seed in self.seeds
            for test, valid in self.folds
            for variant in self.variants
            if not variant.left_out
        ]


def claim_ablation(folder: Path, resume: bool, record: AblationRecord) -> None:
    """Make the `folder` of a new ablation, or check that the one there is this one and note what is asked now.

    Raises `UserError` where the name is taken, is not there to resume, or belongs to something else.
    """
    check_ablation(folder, resume, record)
    try:
        for part in (RUNS, OUTCOMES):
            (folder / part).mkdir(parents=True, exist_ok=True)
        created = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
        stamped = record.model_copy(update={"created": created, "versions": versions()})
        write_durably(folder / RECORD, stamped.model_dump_json(indent=1).encode())
    except OSError as error:
        raise UserError(f"cannot create {folder}: {error.strerror}; choose a writable --runs") from error


def check_ablation(folder: Path, resume: bool, record: AblationRecord) -> None:
    """The errors of `claim_ablation`, while nothing is made yet."""
    check_name("ablation", folder.name)
    if not resume:
        if folder.exists():
            raise UserError(f"ablation {folder} exists already; add --resume to continue it, or choose another --name")
        return
    earlier = read_ablation(folder)
    if earlier.store_checksum != record.store_checksum:
        raise UserError(
            f"ablation {folder} was begun on another store ({earlier.store}, {earlier.store_checksum[:12]}), not on "
            f"{record.store} ({record.store_checksum[:12]}); resume it with its own store or choose another --name"
        )
    old, new = _decisive(earlier), _decisive(record)
    # Only what both have must agree: variants may come and go.
    both = {variant.name for variant in earlier.variants} & {variant.name for variant in record.variants}
    changed = [
        f"{key} (was {old.get(key)!r}, is {new.get(key)!r})"
        for key in sorted(old.keys() | new.keys())
        if old.get(key) != new.get(key) and (not key.startswith("variant ") or key.split("'")[1] in both)
    ]
    if changed:
        raise UserError(
            f"ablation {folder} cannot be resumed with other settings: {', '.join(changed)}; give the earlier values "
            f"(they are in its {RECORD}), give the variant another name, or choose another --name"
        )


def read_ablation(folder: Path) -> AblationRecord:
    """The record of the ablation in `folder`; raises `UserError`."""
    return read_record_of("ablation", AblationRecord, folder, RECORD)


def write_outcome(folder: Path, outcome: Outcome) -> None:
    """Note how a run ended; its predictions lie there already."""
    file = folder / OUTCOMES / f"{outcome.cell.run}.json"
    write_durably(file, outcome.model_dump_json(indent=1).encode())


def read_outcomes(folder: Path, cells: list[Cell]) -> dict[str, Outcome]:
    """{name of the run: how it ended} of those of `cells` that have ended."""
    files = {cell.run: folder / OUTCOMES / f"{cell.run}.json" for cell in cells}
    return {run: read_json(Outcome, file) for run, file in files.items() if file.is_file()}


def _decisive(record: AblationRecord) -> dict[str, Any]:
    """What decides a run's outcome, by a key that says where it stands."""
    free = tuple(key for key in FREE_TO_CHANGE if key not in ("scoring", "train.patience"))
    base = {key: value for key, value in flat(record.base).items() if not key.startswith((*free, *OF_A_CELL))}
    changes = {
        f"variant '{variant.name}' {key}": value
        for variant in record.variants
        for key, value in variant.changes.items()
    }
    return {**base, **changes, "--pairs": record.pairs}
