"""How many trials run at a time: as many as fit, and one sentence where none does."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import ray
from tiny_search import run_settings

from data_pipeline.errors import UserError
from distributed import local_ray
from distributed.cluster import needed_cpus
from tune.scheduling import trial_capacity


@pytest.fixture(scope="module", autouse=True)
def five_cpus() -> Iterator[None]:
    # Not join_ray: it would start as many CPUs as this machine has, where that is more.
    local_ray.start(cpus=5, gpus=0)
    yield
    ray.shutdown()


def test_as_many_trials_run_as_the_free_cpus_hold() -> None:
    assert needed_cpus(run_settings()) == 2.25
    assert trial_capacity(run_settings(), asked=0) == (2, "cpu")
    assert trial_capacity(run_settings("workers.cpus=3"), asked=0) == (1, "cpu")


def test_fewer_trials_can_be_asked_for() -> None:
    assert trial_capacity(run_settings(), asked=1) == (1, "cpu")


def test_a_trial_that_never_fits_is_refused() -> None:
    with pytest.raises(UserError, match=r"the run needs 6 CPUs .* this cluster has 5; lower workers.count"):
        trial_capacity(run_settings("workers.count=4"), asked=0)


def test_more_trials_at_a_time_than_fit_are_refused() -> None:
    with pytest.raises(UserError, match=r"3 trials at a time need 2.25 CPUs each, and 5 CPUs .* are free"):
        trial_capacity(run_settings(), asked=3)


def test_a_gpu_that_is_not_there_is_refused() -> None:
    with pytest.raises(UserError, match="asks for 1 GPUs"):
        trial_capacity(run_settings("engine.device=cuda"), asked=0)
