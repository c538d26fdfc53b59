"""Where the locale is not UTF-8: what is written and read is UTF-8 all the same, and no print ends a command."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

PROJECT = Path(__file__).resolve().parents[1]
ENVIRONMENT = os.environ | {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0", "PYTHONIOENCODING": "latin-1"}
"""A process that opens text files as ASCII unless told otherwise, on a terminal of Latin-1."""
LINE = "Zelle-é→"
"""The name of a line: a letter that Latin-1 has and an arrow that it has not."""


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store of distances of two lines, ingested in the foreign locale."""
    folder = tmp_path_factory.mktemp("locale")
    places = "enhancer_chrom,enhancer_start,enhancer_end,promoter_chrom,promoter_start,promoter_end"
    rows = [
        f"chr1,{k}000,{k}200,chr1,{k + 5}000,{k + 5}300,{k % 2},{line}" for line in (LINE, "B") for k in range(10, 40)
    ]
    (folder / "pairs.csv").write_text("\n".join([f"{places},label,line", *rows, ""]), encoding="utf-8")
    pairs = "pairs: [{format: csv, file: pairs.csv, columns: {line: line}}]"
    description = f"lines: [{LINE}, B]\nwindows: {{enhancer: 0, promoter: 0}}\n{pairs}\n"
    (folder / "store.yaml").write_text(description, encoding="utf-8")
    run("data_pipeline/ingest.py", folder / "store.yaml", "--root", folder, "--out", folder / "store")
    return folder / "store"


def run(*words: str | Path, expected: int = 0) -> str:
    done = subprocess.run([sys.executable, *words], cwd=PROJECT, env=ENVIRONMENT, capture_output=True)
    output = (done.stdout + done.stderr).decode("latin-1")
    assert done.returncode == expected, output
    assert "Traceback" not in output
    return output


def test_a_store_written_there_is_whole_and_is_read_there(store: Path) -> None:
    assert json.loads((store / "manifest.json").read_text(encoding="utf-8"))["lines"] == [LINE, "B"]
    assert "Zelle-é\\u2192" in run("data_pipeline/inspect_store.py", store)


def test_an_error_names_what_the_terminal_cannot_show(store: Path) -> None:
    words = ["--store", store, "fold.test_line=A", "fold.valid_line=B"]
    assert "has no cell line 'A'; it has Zelle-é\\u2192, B" in run("distributed/train.py", *words, expected=2)
