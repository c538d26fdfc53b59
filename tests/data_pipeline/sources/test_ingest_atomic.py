"""A killed ingest leaves no half store. A FIFO as input stops the ingest at a known place until it is killed."""

from __future__ import annotations

import errno
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from tiny_sources import build, lab, write

from data_pipeline.store.store import Store

INGEST = Path(__file__).parents[3] / "data_pipeline" / "ingest.py"


def killed_at(fifo: Path, description: dict[str, Any], out: Path) -> None:
    """Start an ingest, wait until it opens `fifo` for reading, and kill it with SIGKILL there."""
    fifo.unlink()
    os.mkfifo(fifo)
    settings = write(fifo.parent / "store.yaml", json.dumps(description))
    process = subprocess.Popen(
        [sys.executable, str(INGEST), str(settings), "--out", str(out)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
    )
    writer = opened_for_writing(fifo, process)
    process.send_signal(signal.SIGKILL)
    _, complaint = process.communicate()
    os.close(writer)
    assert process.returncode == -signal.SIGKILL, complaint.decode()
    fifo.unlink()


def opened_for_writing(fifo: Path, process: subprocess.Popen[bytes]) -> int:
    """A descriptor of the FIFO's writing end, as soon as `process` reads from the other end."""
    while process.poll() is None:
        try:
            return os.open(fifo, os.O_WRONLY | os.O_NONBLOCK)
        except OSError as error:
            if error.errno != errno.ENXIO:  # nobody reads yet
                raise
        time.sleep(0.01)
    raise AssertionError(f"the ingest ended before it read {fifo.name}: {process.communicate()[1].decode()}")


def with_peaks(root: Path) -> dict[str, Any]:
    description = lab(root) | {"peaks": {"pattern": "{line}.{mark}.bed", "marks": ["CTCF"]}}
    for line in ("K562", "NHEK"):
        write(root / f"{line}.CTCF.bed", "chr20\t3000\t3100\tpeak\t0\t.\t5\n")
    return description


@pytest.fixture
def inputs(tmp_path: Path) -> Path:
    (tmp_path / "inputs").mkdir()
    return tmp_path / "inputs"


def test_killed_while_reading_it_leaves_nothing(tmp_path: Path, inputs: Path) -> None:
    description = lab(inputs)
    (tmp_path / "stores").mkdir()
    killed_at(inputs / "pairs.tsv.gz", description, tmp_path / "stores" / "store")
    assert list((tmp_path / "stores").iterdir()) == []


def test_killed_while_writing_it_leaves_no_store_and_the_next_ingest_cleans_up(tmp_path: Path, inputs: Path) -> None:
    description = with_peaks(inputs)
    out = tmp_path / "stores" / "store"
    killed_at(inputs / "NHEK.CTCF.bed", description, out)
    (left,) = out.parent.iterdir()
    assert left.name.startswith(".store.draft-")
    assert (left / "enhancers" / "00000.arrow").exists()
    assert not (left / "manifest.json").exists()
    with_peaks(inputs)
    store = build(description, out)
    assert list(out.parent.iterdir()) == [out]
    assert Store.open(out, verify="full").checksum == store.checksum
