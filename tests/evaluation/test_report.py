"""Claims about the evaluation table, its alarms, the written report and the figures."""

import html
import io
import json
import math
import re
from dataclasses import asdict

import numpy as np
import pandas as pd
import pytest
from line_predictions import group, predictions_of_lines
from rich.console import Console
from scipy.special import expit
from sklearn.metrics import average_precision_score, matthews_corrcoef

from data_pipeline.errors import UserError
from evaluation.calibration import Calibration
from evaluation.figures import POINTS, precision_recall, training_curves
from evaluation.findings import findings
from evaluation.intervals import average_precision_draws, draw_clusters, interval
from evaluation.quadrants import (
    NEUTRAL,
    QUADRANTS,
    EvaluationSettings,
    calibrate_on_validation,
    evaluate_lines,
    macro_rows,
)
from evaluation.report import build_report, strict
from evaluation.report_page import answer, write_report
from evaluation.report_text import RIVALS_PER_TABLE, render, tables

FEW = EvaluationSettings(draws=60)


@pytest.fixture(scope="module")
def predictions():
    return predictions_of_lines()


@pytest.fixture(scope="module")
def report(predictions):
    calibration = calibrate_on_validation(predictions)
    return build_report(
        predictions, calibration, FEW, bayes={"NHEK": 0.9}, left_out={"other": "the store holds no tea leaves"}
    )


def find(rows, line, quadrant=QUADRANTS[0]):
    return next(row for row in rows if row["line"] == line and row["quadrant"] == quadrant)


def table_of(labels, logits, lines):
    """Rows of pairs (n,) on unseen stretches of their lines, and their macro row."""
    frame = {"line": lines, "quadrant": QUADRANTS[0], "role": "test", "label": labels, "logit": logits}
    rows = evaluate_lines(
        pd.DataFrame(frame | {"cluster": np.arange(len(labels)) % 50}),
        Calibration(1.0, 0.0, 0.5),
        EvaluationSettings(draws=50),
    )
    return rows, macro_rows(rows)[0]


def test_T2_4_macro_average_precision_of_random_scores_over_whole_lines_is_the_prevalence():
    generator = np.random.default_rng(2)
    lines, labels = np.repeat(["a", "b"], 20_000), np.tile([1, 0], 20_000)
    assert table_of(labels, generator.random(40_000), lines)[1]["ap"] == pytest.approx(0.5, abs=0.01)


def test_a_row_sees_only_its_line_and_the_macro_row_no_offset_between_lines():
    generator = np.random.default_rng(3)
    labels = (generator.random(400) < 0.3).astype(int)
    logits, lines = generator.normal(size=400) + labels, np.tile(["a", "b"], 200)
    rows, macro = table_of(labels, logits, lines)
    own = lines == "b"
    assert find(rows, "b")["ap"] == average_precision_score(labels[own], logits[own])
    assert macro["ap"] == np.mean([row["ap"] for row in rows])
    assert table_of(labels, logits + 100.0 * own, lines)[1]["ap"] == macro["ap"]


def test_no_line_with_two_classes_gives_no_macro_value():
    assert math.isnan(table_of(np.zeros(4, dtype=int), np.arange(4.0), np.array(["a", "b"] * 2))[1]["ap"])


def test_T9_4_threshold_is_a_function_of_validation_lines_only(predictions):
    frozen = calibrate_on_validation(predictions)
    other = predictions.copy()
    outside = other["role"] != "valid"
    other.loc[outside, "label"] = 1 - other.loc[outside, "label"]
    other.loc[outside, "logit"] *= -7
    assert calibrate_on_validation(other) == frozen
    assert calibrate_on_validation(other[~outside]) == frozen
    other.loc[~outside, "logit"] += 1
    assert calibrate_on_validation(other) != frozen


def test_T9_4_test_lines_are_scored_at_the_frozen_threshold(predictions, report):
    frozen = calibrate_on_validation(predictions)
    mine = predictions[(predictions["line"] == "NHEK") & (predictions["quadrant"] == QUADRANTS[0])]
    expected = matthews_corrcoef(mine["label"], frozen.apply(mine["logit"]) >= frozen.threshold)
    assert find(report.lines, "NHEK")["mcc"] == pytest.approx(expected)


def test_there_is_one_row_per_role_quadrant_and_line(predictions, report):
    keys = [(row["role"], row["quadrant"], row["line"]) for row in report.lines]
    assert len(keys) == len(set(keys)) == 10
    assert sum(row["n"] for row in report.lines) == len(predictions)


def test_a_row_holds_ranking_interval_bayes_and_support_spread(predictions, report):
    mine = predictions[(predictions["line"] == "NHEK") & (predictions["quadrant"] == QUADRANTS[0])]
    row = find(report.lines, "NHEK")
    assert row["ap"] == average_precision_score(mine["label"], mine["logit"])
    assert row["lift"] == pytest.approx(row["ap"] / mine["label"].mean())
    assert row["ap_low"] < row["ap"] < row["ap_high"]
    assert row["auroc_low"] < row["auroc"] < row["auroc_high"]
    assert row["bayes_ap"] == 0.9
    spread = [average_precision_score(mine["label"], mine[f"logit_draw_{i}"]) for i in range(5)]
    assert row["ap_support_sd"] == pytest.approx(np.std(spread, ddof=1))


def test_T9_5_the_lead_over_a_baseline_uses_the_draws_of_the_model(predictions, report):
    mine = predictions[(predictions["line"] == "NHEK") & (predictions["quadrant"] == QUADRANTS[0])]
    draws = draw_clusters(mine["cluster"], FEW.draws, FEW.seed)
    labels = mine["label"].to_numpy()
    model, rival = (average_precision_draws(labels, mine[name].to_numpy(), draws) for name in ("logit", "u"))
    lead = find(report.lines, "NHEK")["rivals"][NEUTRAL]
    assert (lead["low"], lead["high"]) == pytest.approx(interval(model - rival, draws))
    assert lead["difference"] == pytest.approx(find(report.lines, "NHEK")["ap"] - lead["ap"])


def test_calibration_lowers_the_error_of_overconfident_logits(report):
    row = find(report.lines, "IMR90")
    assert row["ece_after"] < row["ece_before"]


def test_macro_is_the_mean_over_lines_and_names_the_worst(report):
    rows = [find(report.lines, line) for line in ("NHEK", "a-long-name1")]
    macro = next(row for row in report.macro if (row["role"], row["quadrant"]) == ("test", QUADRANTS[0]))
    assert macro["ap"] == pytest.approx(np.mean([row["ap"] for row in rows]))
    assert macro["worst_line"] == min(rows, key=lambda row: row["ap"])["line"]
    assert macro["ap_low"] < macro["worst_ap"]


def test_pooled_scores_all_pairs_as_one_set_and_never_mixes_roles(predictions, report):
    pooled = find(report.pooled, "pooled")
    mine = predictions[(predictions["role"] == "test") & (predictions["quadrant"] == QUADRANTS[0])]
    assert pooled["ap"] == average_precision_score(mine["label"], mine["logit"])
    assert all(row["role"] != "valid" for row in report.pooled)


def test_a_line_of_one_class_is_reported_without_metrics(predictions):
    one_class = predictions.assign(label=np.where(predictions["line"] == "NHEK", 0, predictions["label"]))
    report = build_report(one_class, Calibration(), FEW)
    assert math.isnan(find(report.lines, "NHEK")["ap"])
    macro = next(row for row in report.macro if (row["role"], row["quadrant"]) == ("test", QUADRANTS[0]))
    assert macro["ap"] == find(report.lines, "a-long-name1")["ap"]


def test_pairs_without_a_label_are_left_out_and_counted(predictions):
    unknown = predictions.assign(label=np.where(predictions.index < 7, -1, predictions["label"]))
    report = build_report(unknown, Calibration(), FEW)
    assert report.unknown_labels == 7
    assert sum(row["n"] for row in report.lines) == len(predictions) - 7


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda frame: frame.drop(columns=["logit", "cluster"]), "lack the columns logit, cluster"),
        (lambda frame: frame.assign(quadrant="third"), "quadrant of the predictions holds 'third'"),
        (lambda frame: frame.assign(logit=np.nan), "not finite"),
    ],
)
def test_predictions_that_cannot_be_evaluated_are_refused_with_a_sentence(predictions, change, message):
    with pytest.raises(UserError, match=message):
        build_report(change(predictions), Calibration(), FEW)


def curves(table):
    return training_curves(table, {"Loss": ["total", "<immax>"], "Nothing": []})


@pytest.fixture(scope="module")
def recorded():
    return pd.DataFrame({"step": range(3), "total": [1, np.nan, 2], "<immax>": range(3), "phase": ["a"] * 3})


@pytest.fixture(scope="module")
def written(predictions, report, recorded, tmp_path_factory):
    folder = tmp_path_factory.mktemp("run") / "report"
    write_report(report, predictions, folder, [curves(recorded)])
    return folder


def test_report_json_is_strict_and_round_trips(predictions, report, written):
    text = (written / "report.json").read_text()
    content = json.loads(text, parse_constant=lambda name: pytest.fail(f"{name} is not JSON"))
    assert content == strict(asdict(report))
    assert find(content["lines"], "IMR90")["bayes_ap"] is None
    assert Calibration.from_dict(content["calibration"]) == calibrate_on_validation(predictions)


def test_the_page_holds_every_figure_and_table_of_the_report_and_nothing_lies_beside_it(report, written):
    text = html.unescape((written / "report.html").read_text())
    names = re.findall(r'<figure id="figure-([a-z-]+)"', text)
    assert names == [
        "average-precision",
        "precision-recall",
        "reliability",
        "scores",
        "left-out-reliability",
        "training",
    ]
    assert "baseline other left out: the store holds no tea leaves" in text.lower()
    cells = {cell for table in tables(report) for row in table.rows for cell in row}
    assert cells - set(re.findall(r"<td[^>]*>([^<]*)</td>", text)) == set()
    assert {file.name for file in written.iterdir()} == {"report.html", "report.json"}


def test_the_same_report_gives_the_same_page(predictions, report, recorded, written, tmp_path):
    write_report(report, predictions, tmp_path, [curves(recorded)])
    assert (tmp_path / "report.html").read_bytes() == (written / "report.html").read_bytes()


def test_the_page_opens_with_how_well_against_whom_and_how_far_to_trust_it(report):
    how_well, against, trust = answer(report)
    macro = next(row for row in report.macro if (row["role"], row["quadrant"]) == ("test", QUADRANTS[0]))
    best = max(macro["rivals"], key=lambda name: macro["rivals"][name]["ap"])
    assert how_well.startswith("On 2 lines no training saw")
    assert f"average precision is {macro['ap']:.3f}".replace("0.", ".") in how_well
    assert f"'{best}', has {macro['rivals'][best]['ap']:.3f}".replace("0.", ".") in against
    assert f"off by {macro['ece_after']:.3f}".replace("0.", ".") in trust
    assert trust.endswith("which is to be read first." if len(report.findings) == 1 else "no alarm fired.")


@pytest.mark.parametrize(
    ("low", "high", "meaning"),
    [
        (0.1, 0.3, "not chance"),
        (-0.3, -0.1, "the rival is better"),
        (-0.1, 0.3, "does not tell the two apart"),
        (math.nan, math.nan, "too few lines or clusters"),
    ],
)
def test_a_lead_is_told_with_what_its_interval_allows(predictions, low, high, meaning):
    one = build_report(predictions[predictions["line"] != "a-long-name1"], Calibration(), FEW)
    for rival in find(one.lines, "NHEK")["rivals"].values():
        rival.update(low=low, high=high)
    assert meaning in answer(one)[1]


def test_a_page_of_a_test_line_that_cannot_be_judged_says_so(predictions, tmp_path):
    one_class = predictions.assign(label=np.where(predictions["role"] == "test", 0, predictions["label"]))
    made = build_report(one_class, Calibration(), FEW)
    write_report(made, one_class, tmp_path)
    assert "No test line could be judged" in (tmp_path / "report.html").read_text()


def test_a_precision_recall_curve_is_thinned_and_keeps_its_ends(predictions):
    group = predictions[(predictions["line"] == "NHEK") & (predictions["quadrant"] == QUADRANTS[0])]
    many = pd.concat([group] * 20, ignore_index=True)
    many["logit"] += np.linspace(0, 1e-6, len(many))  # no ties
    curve = precision_recall(many).plots[0].drawing.data[0]
    assert len(curve.x) <= POINTS
    assert curve.x[-1] == 1.0
    assert curve.y[-1] == pytest.approx(many["label"].mean())
    assert curve.x[0] == pytest.approx(1 / many["label"].sum())


def test_training_curves_skip_gaps_and_panels_without_columns(recorded):
    (plot,) = curves(recorded).plots
    assert [list(trace.x) for trace in plot.drawing.data] == [[0, 2], [0, 1, 2]]
    assert plot.drawing.data[1].name == "&lt;immax&gt;"


def test_console_tables_fit_140_columns_and_cut_nothing(report):
    stream = io.StringIO()
    render(report, Console(file=stream, width=140))
    printed = stream.getvalue()
    assert "…" not in printed
    for table in tables(report):
        for cell in (cell for row in table.rows for cell in row):
            assert all(part in printed for part in cell.split("\n"))
    assert "baseline other left out: the store holds no tea leaves" in printed


def test_more_rivals_than_fit_go_to_another_table(predictions):
    more = predictions.assign(baseline_fifth=predictions["u"])
    made = tables(build_report(more, Calibration(), FEW))
    rivals = [table for table in made if "of the rivals" in table.title]
    assert [len(table.columns) - 3 for table in rivals] == [RIVALS_PER_TABLE, 1]


def test_a_rival_without_a_score_for_a_pair_is_not_compared(predictions):
    holed = predictions.assign(u=predictions["u"].where(predictions.index != 0))
    report = build_report(holed, Calibration(), FEW)
    assert sum(math.isnan(row["rivals"][NEUTRAL]["ap"]) for row in report.lines) == 1


def fired(predictions, calibration=None, can_rank=True):
    lines = evaluate_lines(predictions, calibration or Calibration(), FEW)
    return findings(lines, macro_rows(lines), calibration or Calibration(), can_rank)


def test_T13_1_a_healthy_report_raises_no_alarm():
    generator = np.random.default_rng(4)
    healthy = pd.concat(
        [group("A", "seen_line/seen_chrom", "train", generator), group("B", QUADRANTS[0], "test", generator)]
    )
    assert fired(healthy, calibrate_on_validation(healthy.assign(role="valid"))) == []


def perfect_training(frame):
    return frame.assign(logit=np.where(frame["role"] == "train", frame["label"] * 6.0 - 3, frame["logit"]))


@pytest.mark.parametrize(
    ("sentence", "change"),
    [
        ("above .95: the training pairs are memorised", perfect_training),
        ("more than .2 above that of unseen pairs", perfect_training),
        ("recall above .8 because the threshold calls", lambda frame: frame.assign(logit=frame["logit"] + 9)),
        (
            "the model has collapsed",
            lambda frame: frame.assign(logit=np.random.default_rng(3).normal(8, 1, len(frame))),
        ),
        ("the output is constant", lambda frame: frame.assign(logit=frame["logit"] / 1000)),
        ("the environment changes no line's average precision", lambda frame: frame.assign(u=2 * frame["logit"] - 1)),
        ("lowers average precision below that of U_I alone", lambda frame: frame.assign(u=frame["label"] + 0.0)),
    ],
)
def test_T13_1_an_alarm_fires_on_predictions_made_for_it(predictions, sentence, change):
    assert [text for text in fired(change(predictions)) if sentence in text]


def test_T13_1_a_low_threshold_after_temperature_scaling_is_an_alarm_whatever_the_bias(predictions):
    low = Calibration(bias=2.0, threshold=float(expit(-3.5 + 2.0)))
    rare = Calibration(bias=-2.0, threshold=float(expit(-1.5 - 2.0)))
    assert [text for text in fired(predictions, low) if "threshold is 0.029" in text]
    assert not [text for text in fired(predictions, rare) if "after temperature scaling" in text]


def test_T13_1_a_calibration_temperature_at_its_bound_is_an_alarm(predictions):
    assert [text for text in fired(predictions, Calibration(temperature=50.0)) if "at its bound" in text]


def test_T13_1_a_single_channel_is_not_asked_to_improve_on_its_neutral_energy(predictions):
    same = predictions.assign(u=predictions["logit"])
    assert [text for text in fired(same) if "U_I" in text]
    assert not [text for text in fired(same, can_rank=False) if "U_I" in text]
