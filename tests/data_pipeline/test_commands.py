"""The two commands as a user runs them."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from tiny_sources import bengi, lab, write

ROOM = Path(__file__).parents[2] / "data_pipeline"


def run(script: str, *arguments: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-W", "error", str(ROOM / script), *map(str, arguments)],
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.fixture
def description(tmp_path: Path) -> dict[str, Any]:
    rows = [
        bengi(1, ("chr20", 3000, 3400), 2000),
        bengi(0, ("chr20", 3000, 3400), 4000),
        bengi(7, ("chr20", 1, 9), 4000),
    ]
    return lab(tmp_path, rows) | {"root": "elsewhere"}


def test_ingest_prints_pairs_prevalence_and_reasons_and_inspect_verifies(
    tmp_path: Path, description: dict[str, Any]
) -> None:
    settings, out = write(tmp_path / "store.yaml", json.dumps(description)), tmp_path / "store"
    done = run("ingest.py", settings, "--root", tmp_path, "--out", out)
    assert done.returncode == 0, done.stderr
    for word in ("pairs.tsv.gz", "K562", "0.500", "bad_label", "checksum"):
        assert word in done.stdout
    seen = run("inspect_store.py", out)
    assert seen.returncode == 0, seen.stderr
    assert "every sha256 matches" in seen.stdout


def test_settings_can_be_changed_on_the_command_line(tmp_path: Path, description: dict[str, Any]) -> None:
    settings, out = write(tmp_path / "store.yaml", json.dumps(description)), tmp_path / "store"
    done = run("ingest.py", settings, f"root={tmp_path}", "windows.enhancer=100", "--out", out)
    assert done.returncode == 0, done.stderr
    assert json.loads((out / "manifest.json").read_text())["windows"]["enhancer"] == 100


def test_a_users_mistake_is_one_sentence_and_status_2(tmp_path: Path, description: dict[str, Any]) -> None:
    done = run("ingest.py", write(tmp_path / "store.yaml", json.dumps(description)), "--out", tmp_path / "store")
    assert done.returncode == 2
    assert done.stderr.startswith("error: elsewhere/chr20.fa.gz does not exist")
    assert "Traceback" not in done.stderr


def test_inspect_names_a_flipped_bit_and_ends_with_status_2(tmp_path: Path, description: dict[str, Any]) -> None:
    out = tmp_path / "store"
    run("ingest.py", write(tmp_path / "store.yaml", json.dumps(description)), "--root", tmp_path, "--out", out)
    shard = out / "promoters" / "00000.arrow"
    content = bytearray(shard.read_bytes())
    content[300] ^= 4
    shard.write_bytes(content)
    done = run("inspect_store.py", out, "--json")
    assert done.returncode == 2
    assert "promoters/00000.arrow does not match its sha256" in done.stderr
