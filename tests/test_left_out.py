"""What a machine cannot run is left out and named at the end, and never where it must run."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

TESTS = Path(__file__).parent


@pytest.fixture
def bare(tmp_path: Path) -> Path:
    """A folder with this conftest, far from the public files, with a test that wants them and one that does not."""
    for name in ("conftest.py", "fixtures/browsers.py", "fixtures/databases.py", "fixtures/network_hosts.py"):
        shutil.copy(TESTS / name, tmp_path)
    wants = "import pytest\n@pytest.mark.real_data\ndef test_wants():\n    assert 0\ndef test_other():\n    pass\n"
    (tmp_path / "test_bare.py").write_text(wants)
    (tmp_path / "pytest.ini").write_text(
        "[pytest]\nmarkers =\n    real_data: x\n    cluster: x\n    browser: x\n    postgresql: x\n"
    )
    return tmp_path


def run(folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    call = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", *words]
    return subprocess.run(call, cwd=folder, capture_output=True, text=True)


def test_what_is_left_out_is_named_at_the_end_with_the_command_that_runs_it(bare: Path) -> None:
    done = run(bare)
    assert done.returncode == 0, done.stdout
    *_, sentence, result = done.stdout.splitlines()
    says = "1 marked real_data: the public files of docs/data.md are not at ../shared/data: get them"
    assert sentence == f"{says}; then run `make test-real-data`"
    assert "1 passed, 1 deselected" in result
    target = (TESTS.parent / "Makefile").read_text().partition("\ntest-real-data:")[2].splitlines()[1]
    assert target.endswith("--must-run real_data -m real_data")


def test_what_must_run_is_not_left_out(bare: Path) -> None:
    done = run(bare, "--must-run", "real_data")
    assert done.returncode == 1
    assert "left out" not in done.stdout
    assert "1 failed, 1 passed" in done.stdout


def test_what_nobody_asked_for_is_not_said_to_be_left_out(bare: Path) -> None:
    done = run(bare, "-m", "not real_data")
    assert done.returncode == 0
    assert "left out" not in done.stdout


def test_ci_may_not_leave_out_the_tests_it_installs_programs_for() -> None:
    words = "--must-run browser --must-run cluster --must-run postgresql"
    assert f'make test TESTS="{words}"' in (TESTS.parent / ".ci/run").read_text()
