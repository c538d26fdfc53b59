"""Commands answer before they import what does their work: help and mistakes wait for no training library."""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path

import pytest

PROJECT = Path(__file__).resolve().parents[1]
SPEC = importlib.util.spec_from_file_location("command_latency", PROJECT / "bench/command_latency.py")
assert SPEC is not None
assert SPEC.loader is not None
latency = importlib.util.module_from_spec(SPEC)
SPEC.loader.exec_module(latency)

HEAVY = {"torch", "ray", "deepspeed", "sklearn", "pandas", "scipy.stats", "matplotlib", "optuna"}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder: Path = tmp_path_factory.mktemp("answers")
    latency.prepare(folder)
    return folder


def answered(command: str, words: str, folder: Path, status: int) -> str:
    """The whole answer, after which no heavy library is in the process."""
    done = latency.answer(command, words, folder, "-X", "importtime")
    imported = set(re.findall(r"^import time:.*\| +([\w.]+)$", done.stderr, re.MULTILINE))
    told = "\n".join(line for line in (done.stdout + done.stderr).splitlines() if not line.startswith("import time:"))
    assert done.returncode == status, told
    assert "Traceback" not in told
    assert "typer" in imported
    assert imported & HEAVY == set()
    return told


@pytest.mark.parametrize("command", latency.COMMANDS)
def test_help_imports_nothing_heavy(command: str, folder: Path) -> None:
    assert "Usage" in answered(command, "--help", folder, 0)


@pytest.mark.parametrize(("command", "words", "says"), latency.MISTAKES)
def test_a_mistake_is_answered_without_importing_anything_heavy(
    command: str, words: str, says: str, folder: Path
) -> None:
    assert says in answered(command, words, folder, 2)
    assert not (folder / "runs").exists()


def test_every_script_that_a_user_runs_is_among_the_commands() -> None:
    rooms = ("data_pipeline", "distributed", "tune")
    scripts = [
        file
        for room in rooms
        for file in (PROJECT / room).glob("*.py")
        if '\nif __name__ == "__main__":' in file.read_text(encoding="utf-8")
    ]
    assert sorted(latency.COMMANDS) == sorted(str(file.relative_to(PROJECT)) for file in scripts)
