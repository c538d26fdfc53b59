"""A worker that hangs leaves its stack, and one that does not leaves nothing."""

from __future__ import annotations

import time
from pathlib import Path

from distributed.hangs import stacks_of_a_hang


def hangs_here(file: Path) -> None:
    while file.stat().st_size == 0:
        time.sleep(0.05)


def test_what_takes_too_long_is_named_by_its_stack_while_it_goes_on(tmp_path: Path) -> None:
    file = tmp_path / "stacks/rank-1.txt"
    with stacks_of_a_hang(file, 0.2) as alive:
        alive()
        hangs_here(file)
    assert "hangs_here" in file.read_text()


def test_a_worker_that_makes_its_steps_leaves_no_file(tmp_path: Path) -> None:
    file = tmp_path / "stacks/rank-0.txt"
    with stacks_of_a_hang(file, 600.0) as alive:
        for _ in range(3):
            alive()
    assert not file.parent.exists()
