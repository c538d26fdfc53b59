"""The report of an ablation on made-up runs: what is paired with what, and what a table may not hide."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from rich.console import Console
from scipy import stats
from tiny_ablation import QUADRANT, ablation, complete, predictions, record, variant

from data_pipeline.errors import UserError
from evaluation.metrics import average_precision
from tune.ablation.ablation_page import answer, clear_of_zero
from tune.ablation.comparison import AblationReport, Comparison
from tune.ablation.contrasts import Contrast, Difference, between, contrast, judged
from tune.ablation.forest import forest
from tune.ablation.identity import OUTCOMES, write_outcome
from tune.ablation.run import Outcome, activity, alarms, figures
from tune.ablation.summary import build, hand_out
from tune.ablation.tables import notes

DRAWS = 100


def row(report: AblationReport, name: str) -> Comparison:
    return next(item for item in report.comparisons[QUADRANT] if item.name == name)


def ap(line: str, signal: float, seed: int) -> float:
    table = predictions(line, signal, seed)
    return average_precision(table["label"], table["logit"])


def test_a_difference_is_the_mean_over_folds_and_seeds_with_their_t_interval(tmp_path: Path) -> None:
    report = build(ablation(tmp_path / "one", record(variant("weak")), {"default": 1.0, "weak": 0.3}), DRAWS)
    expected = [ap(line, 0.3, seed) - ap(line, 1.0, seed) for seed in (0, 1) for line in "AB"]
    found = row(report, "weak").difference
    assert found.runs == 4
    assert found.mean == pytest.approx(np.mean(expected))
    bounds = stats.t.interval(0.95, 3, np.mean(expected), stats.sem(expected))
    assert found.over_runs == pytest.approx(bounds)


def test_a_real_difference_has_bootstrap_intervals_without_zero_in_every_line(tmp_path: Path) -> None:
    report = build(ablation(tmp_path / "one", record(variant("weak")), {"default": 2.0, "weak": 0.0}), DRAWS)
    found = row(report, "weak").difference
    assert found.bootstrap[1] < 0
    assert list(found.lines) == ["A", "B"]
    assert all(low <= value <= high < 0 for value, low, high in found.lines.values())


def test_macro_average_precision_gives_every_line_the_same_weight(tmp_path: Path) -> None:
    made = record(folds=["A:C", "A:D", "B:C"], seeds=[0])
    report = build(ablation(tmp_path / "one", made, {"default": 1.0}), DRAWS)
    assert row(report, "default").ap == pytest.approx((ap("A", 1.0, 0) + ap("B", 1.0, 0)) / 2)


def test_only_runs_that_both_have_are_paired(tmp_path: Path) -> None:
    made = record(variant("weak"))
    folder = ablation(tmp_path / "one", made, {"default": 1.0})
    first = next(cell for cell in made.cells() if cell.variant == "weak")
    complete(folder, first, 0.3)
    report = build(folder, DRAWS)
    assert row(report, "weak").difference.runs == 1
    assert np.isnan(row(report, "weak").difference.over_runs).all()
    assert row(report, "weak").difference.mean == pytest.approx(ap("A", 0.3, 0) - ap("A", 1.0, 0))


def test_a_change_in_name_only_is_said(tmp_path: Path) -> None:
    signals = {"default": 1.0, "idle": 1.0, "weak": 0.3}
    folder = ablation(tmp_path / "one", record(variant("idle"), variant("weak")), signals)
    report = hand_out(folder, Console(quiet=True), DRAWS)
    assert row(report, "idle").same
    assert row(report, "idle").difference.bootstrap == (0.0, 0.0)
    assert not row(report, "weak").same
    text = (folder / "table.md").read_text()
    assert "IN NAME ONLY: idle has the logits of default in every run" in text
    assert "NAME ONLY: weak" not in text


def test_a_variant_can_stand_against_another(tmp_path: Path) -> None:
    signals = {"default": 2.0, "base": 1.0, "more": 1.0}
    made = record(variant("base"), variant("more", against="base"))
    report = build(ablation(tmp_path / "one", made, signals), DRAWS)
    assert row(report, "more").difference.mean == 0.0
    assert row(report, "base").difference.mean < 0


def test_what_the_environment_adds_is_the_lead_over_the_run_s_own_neutral_energy(tmp_path: Path) -> None:
    made = record(seeds=[0])
    folder = ablation(tmp_path / "one", made, {})
    for cell in made.cells():
        complete(folder, cell, 1.0, environment=0.7)
    found = row(build(folder, DRAWS), "default")
    expected = [ap(line, 1.0, 0) - ap(line, 0.3, 0) for line in "AB"]
    assert found.over_neutral.mean == pytest.approx(np.mean(expected))
    assert found.over_neutral.bootstrap[0] > 0
    assert found.over_wrong.mean == pytest.approx(np.mean([ap(line, 1.0, 0) - ap(line, 0.0, 0) for line in "AB"]))


def test_failed_waiting_and_left_out_are_told_and_hide_nothing_else(tmp_path: Path) -> None:
    made = record(variant("weak"), variant("broken"), variant("signals-off", left_out="the store has no signals"))
    folder = ablation(tmp_path / "one", made, {"default": 1.0, "weak": 0.3})
    broken = next(cell for cell in made.cells() if cell.variant == "broken")
    write_outcome(folder, Outcome(cell=broken, state="failed", reason="ValueError: diverged"))
    report = hand_out(folder, Console(quiet=True), DRAWS)
    text = (folder / "table.md").read_text()
    assert "8 complete, 3 waiting, 1 failed" in text
    assert f"failed: {broken.run}, ValueError: diverged" in text
    assert "left out: signals-off, the store has no signals" in text
    assert row(report, "broken").runs == 0
    assert row(report, "weak").difference.runs == 4


def test_there_is_a_report_before_the_first_run_ends(tmp_path: Path) -> None:
    folder = ablation(tmp_path / "one", record(variant("weak")), {})
    report = hand_out(folder, Console(quiet=True), DRAWS)
    assert set(report.runs["state"]) == {"waiting"}
    assert "8 waiting" in (folder / "table.md").read_text()
    page = (folder / "report.html").read_text()
    assert "No run of the base settings is complete yet." in page
    assert "figure-differences" not in page


def test_the_report_is_made_again_from_the_folder_alone(tmp_path: Path) -> None:
    folder = ablation(tmp_path / "one", record(variant("weak")), {"default": 1.0, "weak": 0.3})
    hand_out(folder, Console(quiet=True), DRAWS)
    names = ("table.md", "comparison.json", "runs.parquet", "report.html")
    before = {name: (folder / name).read_bytes() for name in names}
    hand_out(folder, Console(quiet=True), DRAWS)
    assert {name: (folder / name).read_bytes() for name in names} == before


def test_a_row_per_run_has_its_figures_and_its_activity(tmp_path: Path) -> None:
    made = record(seeds=[3])
    folder = ablation(tmp_path / "one", made, {})
    for cell in made.cells():
        complete(folder, cell, 1.0, seconds=2.5, activity={"gradient_ratio/rank": 0.4}, alarms=["leak"])
    hand_out(folder, Console(quiet=True), DRAWS)
    table = pd.read_parquet(folder / "runs.parquet")
    assert list(table["run"]) == ["default-A-C-3", "default-B-C-3"]
    assert set(table["state"]) == {"complete"}
    assert table["ap/unseen_chrom"].tolist() == pytest.approx([ap("A", 1.0, 3), ap("B", 1.0, 3)])
    assert set(table["gradient_ratio/rank"]) == {0.4}
    assert list(table["alarms"][0]) == ["leak"]


def test_shares_are_means_over_runs_and_alarms_count_runs(tmp_path: Path) -> None:
    made = record(seeds=[0])
    folder = ablation(tmp_path / "one", made, {})
    one, two = made.cells()
    complete(folder, one, 1.0, activity={"gradient_ratio/rank": 0.4, "gate/sd": 0.2}, alarms=["leak", "gap"])
    complete(folder, two, 1.0, activity={"gradient_ratio/rank": 0.2}, alarms=["leak"])
    (found,) = build(folder, DRAWS).conduct
    assert found.shares == {"rank": pytest.approx(0.3)}
    assert found.gate_sd == pytest.approx(0.2)
    assert found.alarms == {"leak": 2, "gap": 1}


def test_activity_is_that_of_the_second_half_of_the_steps() -> None:
    steps = pd.DataFrame({"step": range(8), "gradient_ratio/rank": [9.0] * 4 + [0.1, np.nan, 0.3, np.nan],
                          "gate/sd": np.nan, "learning_rate": 1.0})  # fmt: skip
    assert activity(steps) == {"gradient_ratio/rank": pytest.approx(0.2)}
    assert activity(pd.DataFrame()) == {}


def test_alarms_are_told_once_and_responses_only_where_they_acted() -> None:
    records = [
        {"alarm": "drowned", "place": "rank", "on": True},
        {"alarm": "drowned", "place": "rank", "on": False},
        {"alarm": "drowned", "place": "rank", "on": True},
        {"alarm": "leak", "place": "", "on": True},
        {"response": "decay", "requirement": "R100", "acted": True},
        {"response": "raise", "requirement": "R101", "acted": False},
    ]
    assert alarms(records) == ["drowned/rank", "leak", "R100"]


def test_right_and_wrong_supports_are_compared_one_at_a_time() -> None:
    table = predictions("A", 1.0, 0)
    table["logit_draw_1"] = table["u"][::-1].to_numpy()
    found = figures(table)
    each = [average_precision(table["label"], table[name]) for name in ("logit_draw_0", "logit_draw_1")]
    assert found["right/unseen_chrom"] == pytest.approx(np.mean(each))
    assert found["wrong/unseen_chrom"] == average_precision(table["label"], table["logit_wrong_0"])
    assert found["ap/unseen_chrom"] == average_precision(table["label"], table["logit"])


def test_T0_1_an_environment_that_cannot_rank_is_held_to_it_under_one_support(tmp_path: Path) -> None:
    table = predictions("A", 1.0, 0, environment=0.7)
    assert "theorem/unseen_chrom" not in figures(table)
    one = table[table["alike"]]
    lead = average_precision(one["label"], one["logit_draw_0"]) - average_precision(one["label"], one["u"])
    assert figures(table, can_rank=False)["theorem/unseen_chrom"] == pytest.approx(lead)
    table.loc[table["alike"], "logit_draw_0"] = table["u"] - 3.0  # another offset for the others changes nothing
    assert figures(table, can_rank=False)["theorem/unseen_chrom"] == 0.0
    made = record(seeds=[0])
    folder = ablation(tmp_path / "one", made, {})
    for cell in made.cells():
        complete(folder, cell, 1.0, figures={"theorem/unseen_chrom": -0.25})
    text = "\n".join(notes(build(folder, DRAWS)))
    assert "default has an environment that cannot rank" in text
    assert "by 0.2 at most" in text


def test_runs_on_other_pairs_are_not_compared() -> None:
    one, two = predictions("A", 1.0, 0), predictions("A", 1.0, 0).iloc[1:]
    with pytest.raises(UserError, match="runs a and b were judged on different pairs"):
        between(judged(one, DRAWS), judged(two, DRAWS), ("a", "b"))


def test_one_cluster_has_no_bootstrap_interval() -> None:
    lone = predictions("A", 1.0, 0).assign(cluster=0)
    weak = predictions("A", 0.3, 0).assign(cluster=0)
    found = contrast([between(judged(lone, DRAWS), judged(weak, DRAWS), ("a", "b"))])
    assert found.mean > 0
    assert np.isnan(found.bootstrap).all()


def test_a_difference_that_does_not_exist_is_left_out() -> None:
    found = contrast([Difference("A", 0.1), Difference("B", float("nan"))])
    assert (found.runs, found.mean, list(found.lines)) == (1, 0.1, ["A"])
    assert np.isnan(contrast([]).mean)


def test_predictions_that_are_gone_are_named(tmp_path: Path) -> None:
    folder = ablation(tmp_path / "one", record(seeds=[0]), {"default": 1.0})
    (folder / OUTCOMES / "default-A-C-0.parquet").unlink()
    with pytest.raises(UserError, match=r"default-A-C-0\.parquet is missing; delete default-A-C-0\.json"):
        build(folder, DRAWS)


def test_the_page_opens_with_the_base_what_differs_and_how_sure_it_is(tmp_path: Path) -> None:
    signals = {"default": 1.0, "weak": 0.3, "strong": 2.0, "idle": 1.0}
    made = record(variant("weak"), variant("strong"), variant("idle"))
    base, differing, sure = answer(build(ablation(tmp_path / "one", made, signals), DRAWS))
    assert base.startswith("The base settings reach a macro average precision of .")
    assert "on A, B, in stretches of genome that no training saw" in base
    assert "Of 3 variants compared, 1 is better and 1 worse with every interval clear of zero" in differing
    assert "the largest loss is 'weak' with -." in differing
    assert "the largest gain is 'strong' with +." in differing
    assert "16 complete runs (2 test lines, 2 seeds)" in sure


@pytest.mark.parametrize(
    ("over_runs", "bootstrap", "clear"),
    [
        ((0.1, 0.2), (0.05, 0.3), True),
        ((-0.2, -0.1), (-0.3, -0.05), True),
        ((-0.1, 0.2), (0.05, 0.3), False),
        ((0.1, 0.2), (-0.3, -0.05), False),
        ((np.nan, np.nan), (0.05, 0.3), True),
        ((np.nan, np.nan), (np.nan, np.nan), False),
    ],
)
def test_a_difference_is_clear_of_zero_if_every_interval_it_has_is(
    over_runs: tuple[float, float], bootstrap: tuple[float, float], clear: bool
) -> None:
    assert clear_of_zero(Contrast(0.1, over_runs, bootstrap, {}, 2)) is clear


def test_the_forest_has_a_row_per_variant_compared_and_a_mark_per_line(tmp_path: Path) -> None:
    made = record(variant("weak"), variant("more", against="weak"), variant("waiting"))
    report = build(ablation(tmp_path / "one", made, {"default": 1.0, "weak": 0.3, "more": 0.5}), DRAWS)
    (plot,) = forest(report.comparisons).plots
    assert list(plot.drawing.layout.yaxis.ticktext) == ["weak", "more<br>to weak"]
    drawn = {trace.name: trace for trace in plot.drawing.data}
    means = [row(report, name).difference.mean for name in ("weak", "more")]
    assert list(drawn["mean"].x) == means
    assert list(drawn["test lines"].text) == ["A", "B", "A", "B"]
