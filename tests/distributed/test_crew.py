"""Workers that stay: the same numbers as workers of one's own, and what a failure leaves behind."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
import ray
from tiny_training import tiny_settings, tiny_store

from data_pipeline.errors import UserError
from data_pipeline.store.store import Store
from distributed.cluster import join_ray
from distributed.crew import Crew
from distributed.fit import fit
from distributed.run_folder.checkpoint import checkpoints, load_checkpoint
from distributed.run_folder.runs import claim
from distributed.settings import RunSettings

# Ray Data warns of options of its own when it copies its settings to a worker.
pytestmark = pytest.mark.filterwarnings(r"ignore:`\w+` is deprecated")
WORDS = ["train.epochs=1", "train.max_steps=6", "train.checkpoint_every=2", "objective.start=0", "workers.count=1"]


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Store]:
    made = tiny_store(tmp_path_factory.mktemp("crew") / "store")
    join_ray(cpus=4)
    yield made
    ray.shutdown()


@pytest.fixture(scope="module")
def crew(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Crew]:
    made = Crew(tmp_path_factory.mktemp("notes"))
    yield made
    made.close()


def claimed(folder: Path, name: str, store: Store, *words: str) -> tuple[Path, RunSettings]:
    settings = tiny_settings(*WORDS, *words)
    folder.mkdir(exist_ok=True)
    return claim(folder, name, False, store.path, store.checksum, settings), settings


def workers() -> set[int]:
    """Process numbers of the training workers of this process' own Ray that are alive."""
    own = psutil.Process().children(recursive=True)
    return {one.pid for one in own if "RayTrainWorker" in " ".join(one.cmdline())}


def test_a_run_among_others_has_the_bits_of_one_with_workers_of_its_own(
    tmp_path: Path, store: Store, crew: Crew
) -> None:
    seen = set()
    for name, words in (("first", ["train.seed=3", "model.energy.channels=2"]), ("second", []), ("third", [])):
        run, settings = claimed(tmp_path, name, store, *words)
        crew.fit(settings, store.path, run, "cpu")
        seen |= workers()
    own, settings = claimed(tmp_path, "own", store)
    fit(settings, store.path, own, "cpu")
    ends = [load_checkpoint(checkpoints(run)[-1][0])[0] for run in (own, tmp_path / "second", tmp_path / "third")]
    assert len(seen) == 1
    assert all(bool((value == other[key]).all()) for other in ends[1:] for key, value in ends[0].items())


def test_a_user_s_mistake_is_told_and_the_worker_takes_the_next_run(tmp_path: Path, store: Store, crew: Crew) -> None:
    run, settings = claimed(tmp_path, "good", store)
    crew.fit(settings, store.path, run, "cpu")
    before = workers()
    assert before
    spoilt, settings = claimed(tmp_path, "spoilt", store, "episodes.query=2000")
    with pytest.raises(UserError, match="has too few pairs for an episode"):
        crew.fit(settings, store.path, spoilt, "cpu")
    again, settings = claimed(tmp_path, "again", store)
    crew.fit(settings, store.path, again, "cpu")
    assert workers() == before
    assert checkpoints(again)[-1][1].finished


def test_a_worker_that_is_killed_is_replaced_and_the_run_goes_on(tmp_path: Path, store: Store, crew: Crew) -> None:
    run, settings = claimed(tmp_path, "killed", store)
    crew.fit(settings, store.path, run, "cpu")
    before = workers()
    assert before
    for own in before:
        psutil.Process(own).kill()
    shutil.rmtree(checkpoints(run)[-1][0])  # as if it had been killed before the last checkpoint
    crew.fit(settings, store.path, run, "cpu")
    assert checkpoints(run)[-1][1].finished
