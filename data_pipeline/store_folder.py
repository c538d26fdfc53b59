"""Whether a folder looks like a store: the first thing that is asked about it, before anything is read."""

from __future__ import annotations

from pathlib import Path

from data_pipeline.errors import UserError


def require_store(path: Path) -> Path:
    """The manifest of the store at `path`; raises `UserError` where there is none."""
    file = path / "manifest.json"
    if not path.exists():
        raise UserError(
            f"store {path} does not exist; make one with data_pipeline/ingest.py or data_pipeline/simulate.py"
        )
    if not file.is_file():
        raise UserError(f"{path} is not a store: it has no manifest.json; give the folder that ingest wrote")
    return file
