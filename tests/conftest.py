"""Tests that this machine cannot run are left out, and the last lines of the run say which, why and how to run them.

Nothing is left out of what `--must-run MARKER` names: there such a test fails and says what it lacks. CI names all that
it has installed.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import browsers
import databases
import network_hosts
import pytest

# Before torch is imported, here and in all that tests start: the models are so small that several threads only wait for
# each other, and they do so on the cores that Ray's processes need.
os.environ.setdefault("OMP_NUM_THREADS", "1")
PUBLIC = Path(__file__).resolve().parents[1] / "../shared/data/bengi"
LEFT_OUT = pytest.StashKey[list[str]]()


def _public_files() -> str:
    return "" if PUBLIC.is_dir() else "the public files of docs/data.md are not at ../shared/data: get them"


NEEDS: dict[str, tuple[Callable[[], str], str]] = {
    "postgresql": (databases.what_is_missing, "make test-postgresql"),
    "browser": (browsers.what_is_missing, "make test-browser"),
    "cluster": (network_hosts.what_is_missing, "make test-cluster"),
    "real_data": (_public_files, "make test-real-data"),
}
"""Per marker: what this machine lacks for its tests (empty: nothing), and the command that runs them."""


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--must-run", action="append", default=[], choices=sorted(NEEDS), help="leave none of these out")


@pytest.hookimpl(trylast=True)  # after -m and -k, so that what nobody asked for is not said to be left out
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    config.stash[LEFT_OUT] = []
    for marker, (missing, command) in NEEDS.items():
        own = [item for item in items if item.get_closest_marker(marker)]
        reason = missing() if own and marker not in config.getoption("--must-run") else ""
        if reason:
            config.hook.pytest_deselected(items=own)
            items[:] = [item for item in items if item not in own]
            config.stash[LEFT_OUT].append(f"{len(own)} marked {marker}: {reason}; then run `{command}`")


@pytest.hookimpl(trylast=True)
def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    for sentence in config.stash.get(LEFT_OUT, []):
        terminalreporter.section("tests left out on this machine", yellow=True)
        terminalreporter.write_line(sentence)
