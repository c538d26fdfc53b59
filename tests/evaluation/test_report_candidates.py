"""Claims about eq and within-group average precision in the evaluation table, on the console and on the page."""

import html
import io

import numpy as np
import pytest
from line_predictions import predictions_of_lines
from rich.console import Console

from evaluation.candidates import equal_prevalence_precision, within_precision
from evaluation.quadrants import NEUTRAL, QUADRANTS, EvaluationSettings, calibrate_on_validation
from evaluation.report import build_report
from evaluation.report_page import write_report
from evaluation.report_text import render, tables

FEW = EvaluationSettings(draws=60)


@pytest.fixture(scope="module")
def predictions():
    return predictions_of_lines()


@pytest.fixture(scope="module")
def told(predictions):
    """The predictions with whose candidate each pair is."""
    generator = np.random.default_rng(7)
    groups = {
        "enhancer": generator.integers(0, 30, len(predictions)),
        "gene": generator.integers(0, 50, len(predictions)),
    }
    return predictions.assign(**groups)


def test_where_predictions_say_whose_candidates_pairs_are_eq_and_within_stand_in_every_row(told, predictions):
    made = build_report(told, calibrate_on_validation(told), FEW)
    mine = told[(told["line"] == "NHEK") & (told["quadrant"] == QUADRANTS[0])]
    row, macro = find(made.lines, "NHEK"), find(made.macro, "macro")
    labels, logits = mine["label"].to_numpy(), mine["logit"].to_numpy()
    assert row["eq_ap"] == equal_prevalence_precision(labels, logits, mine["enhancer"])
    assert row["within_enhancer_ap"] == within_precision(labels, logits, mine["enhancer"])
    assert row["within_gene_ap"] == within_precision(labels, logits, mine["gene"])
    for name in ("eq_ap", "within_enhancer_ap", "within_gene_ap"):
        assert row[f"{name}_low"] < row[name] < row[f"{name}_high"]
    assert macro["eq_ap"] == pytest.approx(np.mean([row["eq_ap"], find(made.lines, "a-long-name1")["eq_ap"]]))
    lead = row["rivals"][NEUTRAL]
    assert lead["eq_ap"] == equal_prevalence_precision(labels, mine["u"], mine["enhancer"])
    assert lead["eq_difference"] == pytest.approx(row["eq_ap"] - lead["eq_ap"])
    assert lead["eq_low"] < lead["eq_difference"] < lead["eq_high"]
    # Without them there are no such tables, and the plain figures are the same.
    bare = build_report(predictions, calibrate_on_validation(predictions), FEW)
    assert find(bare.lines, "NHEK")["ap_low"] == row["ap_low"]
    assert not [table for table in tables(bare) if "eq" in table.title or "candidates" in table.title]


def test_an_enhancer_of_two_lines_is_two_enhancers_in_a_pooled_row(told):
    made = build_report(told, calibrate_on_validation(told), FEW)
    mine = told[(told["role"] == "test") & (told["quadrant"] == QUADRANTS[0])]
    owner = mine["line"].astype(str) + "/" + mine["enhancer"].astype(str)
    expected = within_precision(mine["label"], mine["logit"], owner)
    assert find(made.pooled, "pooled")["within_enhancer_ap"] == pytest.approx(expected)


def test_tables_of_candidates_fit_the_console_and_stand_on_the_page(told, tmp_path):
    made = build_report(told, calibrate_on_validation(told), FEW)
    stream = io.StringIO()
    render(made, Console(file=stream, width=140))
    assert "…" not in stream.getvalue()
    write_report(made, told, tmp_path)
    text = html.unescape((tmp_path / "report.html").read_text())
    assert "Where the number of candidates tells nothing" in text
    assert "eq average precision of the rivals" in text


def find(rows, line):
    return next(row for row in rows if row["line"] == line and row["quadrant"] == QUADRANTS[0])
