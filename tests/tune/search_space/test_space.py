"""Spaces: what is searched, in which range, and what is refused before anything starts."""

from __future__ import annotations

from pathlib import Path

import pytest
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution
from tiny_search import run_settings, search_settings

from data_pipeline.errors import UserError
from data_pipeline.settings import keys_of, search_range, validate
from distributed.settings import RunSettings
from model.terms.registry import TERMS
from tune.command_words import SPACES
from tune.search_space.settings import SearchSettings, load_space, run_words
from tune.search_space.space import apply, distributions, searched_terms


def lambda_space(*overrides: str) -> dict[str, object]:
    return dict(distributions(load_space("lambda", []), run_settings(*overrides)))


def terms_on(*overrides: str) -> set[str]:
    settings = run_settings(*overrides)
    return {name for name in TERMS if getattr(settings.objective.terms, name).on}


def test_lambda_searches_the_ratio_of_every_term_that_is_on_under_gradnorm() -> None:
    space = lambda_space("objective.balance.mode=gradnorm_ema")
    assert set(space) == {f"objective.terms.{name}.ratio" for name in terms_on()}
    assert all(own == FloatDistribution(0.01, 4.0, log=True) for own in space.values())


def test_lambda_searches_the_weight_of_every_term_that_is_on_under_fixed_ramp() -> None:
    space = lambda_space("objective.balance.mode=fixed_ramp")
    assert set(space) == {f"objective.terms.{name}.weight" for name in terms_on()}
    assert all(own == FloatDistribution(0.01, 4.0, log=True) for own in space.values())


def test_a_term_that_is_off_is_not_searched() -> None:
    assert not any(".corr." in key for key in lambda_space("objective.terms.corr.on=false"))


def test_a_weight_is_not_searched_above_its_cap() -> None:
    space = lambda_space("objective.balance.mode=fixed_ramp", "objective.terms.corr.cap=1.5")
    assert space["objective.terms.corr.weight"] == FloatDistribution(0.01, 1.5, log=True)


def test_a_search_of_weights_without_any_term_is_refused() -> None:
    with pytest.raises(UserError, match="no loss term is on"):
        lambda_space(*[f"objective.terms.{name}.on=false" for name in TERMS])


@pytest.mark.parametrize("preset", sorted(path.stem for path in SPACES.glob("*.yaml")))
def test_every_preset_is_a_space_that_runs_accept(preset: str) -> None:
    # As docs/search.md says: sensitivity is about two weights, which have to be able to act.
    acting = ["objective.balance.mode=fixed_ramp", "objective.terms.vrex.on=true"] * (preset == "sensitivity")
    search = load_space(preset, [])
    assert distributions(search, run_settings(*run_words(search), *acting))


FIXED = "objective.balance.mode=fixed_ramp"
WEIGHT = {"choices": [0.1, 1.0]}


@pytest.mark.parametrize(
    ("key", "content", "base", "reason"),
    [
        ("objective.terms.vrex.weight", WEIGHT, [FIXED], r"objective\.terms\.vrex\.on is false; set"),
        ("objective.terms.vrex.start", WEIGHT, [FIXED], r"objective\.terms\.vrex\.on is false"),
        ("objective.terms.grl.weight", WEIGHT, ["objective.balance.mode=gradnorm_ema"], "it reads ratio"),
        ("objective.terms.grl.ramp", WEIGHT, ["objective.balance.mode=gradnorm_ema"], "it reads ratio"),
        ("objective.terms.grl.ratio", WEIGHT, [FIXED], "it reads cap and ramp and weight"),
        ("objective.terms.grl.weight", WEIGHT, ["objective.balance.mode=imtl_g_rep"], "it reads no field"),
        ("objective.terms.grl.weight", {"choices": [1.0, 8.0]}, [FIXED], "a weight above it acts as 4"),
        ("objective.terms.push.weight", WEIGHT, [], r"model\.competition\.on is false"),
        ("model.environment.id_teacher.share", {"choices": [0.1, 0.5]}, [], r"id_teacher\.on is false"),
    ],
)
def test_a_setting_that_cannot_act_is_refused_with_the_reason(
    key: str, content: dict[str, object], base: list[str], reason: str
) -> None:
    with pytest.raises(UserError, match=rf"a search of '{key}' would find nothing: .*{reason}"):
        distributions(search_settings(parameters={key: content}), run_settings(*base))


@pytest.mark.parametrize(
    ("key", "switch"),
    [
        ("objective.terms.vrex.weight", {"objective.terms.vrex.on": {"choices": [True, False]}}),
        ("objective.terms.push.weight", {"model.competition.on": {"choices": [True, False]}}),
    ],
)
def test_a_setting_that_acts_in_some_trials_is_searched(key: str, switch: dict[str, object]) -> None:
    search = search_settings(parameters={key: WEIGHT, **switch})
    assert set(distributions(search, run_settings(FIXED))) == {key, *switch}


MODES = {"objective.balance.mode": {"choices": ["fixed_ramp", "gradnorm_ema", "dwa"]}}


@pytest.mark.parametrize(
    ("key", "readers"),
    [
        ("objective.terms.grl.ratio", "gradnorm_ema"),
        ("objective.balance.beta", "gradnorm_ema"),
        ("objective.balance.dwa_temperature", "dwa"),
    ],
)
def test_what_only_some_searched_modes_read_is_searched_under_those_alone(key: str, readers: str) -> None:
    base = run_settings("objective.terms.grl.on=false", "objective.terms.corr.on=false", FIXED)
    if "grl" in key:
        modes, base = {"objective.balance.mode": {"choices": ["fixed_ramp", "gradnorm_ema"]}}, run_settings(FIXED)
    else:
        modes = MODES
    with pytest.raises(UserError, match=rf"'{key}' would find nothing: .*with when: .*{readers}"):
        distributions(search_settings(parameters={key: {}, **modes}), base)
    waiting = {key: {"when": {"objective.balance.mode": [readers]}}, **modes}
    assert list(distributions(search_settings(parameters=waiting), base)) == ["objective.balance.mode", key]


def test_a_setting_waits_for_a_value_that_is_searched() -> None:
    waiting = {"objective.balance.beta": {"when": {"objective.balance.mode": ["gradnorm"]}}, **MODES}
    with pytest.raises(UserError, match=r"waits for \['gradnorm'\], and objective.balance.mode is one of"):
        search_settings(parameters=waiting)


@pytest.mark.parametrize(
    ("key", "declared"),
    [
        ("optimiser.lr", FloatDistribution(3e-4, 1e-2, log=True)),
        ("objective.balance.every", IntDistribution(1, 32, log=True)),
        ("model.environment.support_signals", CategoricalDistribution([False, True])),
    ],
)
def test_a_parameter_without_a_range_has_the_one_its_owner_declares(key: str, declared: BaseDistribution) -> None:
    search = search_settings(parameters={key: {}})
    assert distributions(search, run_settings("objective.balance.mode=gradnorm_ema")) == {key: declared}


def test_a_setting_that_declares_no_range_needs_one() -> None:
    with pytest.raises(UserError, match=r"'optimiser.clip' declares no range to search: give low and high"):
        distributions(search_settings(parameters={"optimiser.clip": {}}), run_settings())


def test_every_declared_range_lies_within_what_a_run_accepts() -> None:
    for key in keys_of(RunSettings):
        declared = search_range(RunSettings, key)
        if (
            declared is not None
            and "low" in declared
            and not key.startswith(("objective.terms.", "objective.balance."))
        ):
            for value in (declared["low"], declared["high"]):
                apply(run_settings(), {key: value})


def test_weights_are_not_searched_where_the_mode_reads_none() -> None:
    with pytest.raises(UserError, match=r"objective\.balance\.mode=imtl_g_rep reads none"):
        lambda_space("objective.balance.mode=imtl_g_rep")


def test_a_monitor_has_no_weight_to_search() -> None:
    assert not any("dependence" in key for key in lambda_space("objective.terms.dependence.on=true"))


def test_a_term_searched_by_name_is_known_to_be_searched() -> None:
    search = search_settings(parameters={"objective.terms.grl.weight": WEIGHT})
    assert set(searched_terms(search, run_settings(FIXED))) == {"grl"}


def test_parameters_become_ranges_whole_numbers_and_choices() -> None:
    search = search_settings(
        parameters={
            "optimiser.lr": {"low": 1e-4, "high": 1e-2, "log": True},
            "model.energy.channels": {"low": 1, "high": 4, "integer": True},
            "episodes.query": {"choices": [16, 32]},
        }
    )
    assert distributions(search, run_settings()) == {
        "optimiser.lr": FloatDistribution(1e-4, 1e-2, log=True),
        "model.energy.channels": IntDistribution(1, 4),
        "episodes.query": CategoricalDistribution([16, 32]),
    }


@pytest.mark.parametrize(
    ("key", "content", "message"),
    [
        ("optimiser.rate", {"low": 1, "high": 2}, "unknown key 'optimiser.rate'"),
        ("optimiser.lr.peak", {"low": 1, "high": 2}, "unknown key 'optimiser.lr.peak'"),
        ("optimiser.lr", {"low": 0.1, "high": 5}, "optimiser.lr.*less than or equal to 1"),
        ("optimiser.schedule", {"choices": ["cosine", "linear"]}, "optimiser.schedule"),
        ("fold.test_line", {"choices": ["sim1", "sim2"]}, "'fold.test_line' cannot be searched"),
        ("scoring.valid_pairs", {"low": 50, "high": 60, "integer": True}, "cannot be searched"),
    ],
)
def test_a_key_or_value_that_no_run_accepts_is_named(key: str, content: dict[str, object], message: str) -> None:
    with pytest.raises(UserError, match=message):
        distributions(search_settings(parameters={key: content}), run_settings())


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"low": 1.0}, "give low and high"),
        ({"log": True}, "give low and high with log"),
        ({"choices": [1, 2], "shares": [1]}, "a whole number of at least 1 per choice"),
        ({"low": 2.0, "high": 1.0}, "low below high"),
        ({"low": 0.0, "high": 1.0, "log": True}, "low above 0"),
        ({"low": 0.5, "high": 2.0, "integer": True}, "whole low and high"),
        ({"choices": [1]}, "at least two different"),
        ({"choices": [1, 2], "low": 0.0}, "not both"),
    ],
)
def test_a_range_that_is_none_is_refused(content: dict[str, object], message: str) -> None:
    with pytest.raises(UserError, match=message):
        validate(SearchSettings, {"parameters": {"optimiser.lr": content}}, "space.yaml")


def test_a_space_without_anything_to_search_is_refused() -> None:
    with pytest.raises(UserError, match="nothing to search"):
        validate(SearchSettings, {}, "space.yaml")


def test_an_unknown_space_is_answered_with_the_ones_there_are() -> None:
    with pytest.raises(UserError, match="no search space 'lamda'; give one of all, balance, "):
        load_space("lamda", [])


def test_a_file_is_a_space_too(tmp_path: Path) -> None:
    file = tmp_path / "own.yaml"
    file.write_text("parameters:\n  optimiser.lr: {low: 1.0e-4, high: 1.0e-2, log: true}\ntrials: 5\n")
    assert load_space(str(file), ["folds=2"]).model_dump(include={"trials", "folds"}) == {"trials": 5, "folds": 2}


def test_a_point_changes_its_own_keys_only() -> None:
    base = run_settings()
    changed = apply(base, {"objective.terms.corr.ratio": 0.3})
    assert changed.objective.terms.corr.ratio == 0.3
    assert apply(changed, {"objective.terms.corr.ratio": base.objective.terms.corr.ratio}) == base
