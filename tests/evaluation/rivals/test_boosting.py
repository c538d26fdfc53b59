"""LightGBM beside torch: settings from the file, the same trees each time, in either order of import."""

import subprocess
import sys

import numpy as np
import pytest

from evaluation.rivals.boosting import boosted_logits, tuned_settings

BESIDE = """
import {first}, {second}
import numpy as np
from evaluation.rivals.boosting import boosted_logits, tuned_settings
features = np.random.default_rng(0).normal(size=(400, 3))
own = tuned_settings().model_copy(update=dict(rounds=5, seeds=1, threads={threads}))
before = torch.ones(300, 300) @ torch.ones(300, 300)
scores = boosted_logits(features, (features[:, 0] > 0).astype(np.int8), features, own)
assert np.isfinite(scores).all() and (torch.ones(300, 300) @ torch.ones(300, 300) == before).all()
"""


@pytest.mark.parametrize(("first", "second", "threads"), [("torch", "lightgbm", 1), ("lightgbm", "torch", 2)])
def test_trees_and_torch_share_a_process_whichever_comes_first(first, second, threads):
    code = BESIDE.format(first=first, second=second, threads=threads)
    subprocess.run([sys.executable, "-W", "error::RuntimeWarning", "-c", code], check=True)


def test_the_score_is_the_mean_logit_of_the_seeds_and_the_same_each_time():
    generator = np.random.default_rng(0)
    features = generator.normal(size=(500, 4))
    labels = (features[:, 0] + generator.normal(size=500) > 0).astype(np.int8)
    three = tuned_settings().model_copy(update={"rounds": 20, "seeds": 3})
    found = boosted_logits(features, labels, features, three)
    assert (found == boosted_logits(features, labels, features, three)).all()
    one = boosted_logits(features, labels, features, three.model_copy(update={"seeds": 1}))
    assert not np.allclose(found, one)
    assert np.corrcoef(found, one)[0, 1] > 0.9


def test_a_set_too_small_for_the_leaves_still_gives_trees():
    features = np.linspace(-1, 1, 100).reshape(-1, 1)
    labels = (features[:, 0] > 0).astype(np.int8)
    assert tuned_settings().min_data_in_leaf > len(labels) / 2
    assert np.ptp(boosted_logits(features, labels, features, tuned_settings())) > 1
