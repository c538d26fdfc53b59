"""The evaluation report as files: `report.html`, one self-contained page, and `report.json`.

The page opens with what it found in three sentences: how well on lines no training saw, against the best rival, and how
far to trust it. JSON is strict: a number that does not exist is null, never NaN. Files are written into one directory,
`report.json` last, so that its presence means the report is whole. Cost: two seconds.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Sequence
from dataclasses import asdict, replace
from pathlib import Path

import pandas as pd

from data_pipeline.durable import write_durably
from evaluation.calibration import Calibration
from evaluation.figures import (
    average_precision_by_line,
    left_out_reliability,
    precision_recall,
    reliability_diagram,
    scores_by_label,
)
from evaluation.line_transfer import judge_test_lines, leave_lines_out
from evaluation.page import Callout, Figure, Page, Part, Points, Section, write_page
from evaluation.quadrants import QUADRANTS, Row, known_predictions
from evaluation.report import Report, strict
from evaluation.report_text import (
    between,
    candidates_table,
    number,
    provenance,
    ranking_table,
    rival_names,
    rival_table,
    tells_candidates,
    threshold_table,
    transfer_table,
    verdicts,
)

PAGE, CONTENT = "report.html", "report.json"


def write_report(report: Report, predictions: pd.DataFrame, directory: Path, training: Sequence[Figure] = ()) -> None:
    """Write the page and `report.json` into `directory`, which is made where it is missing.

    `predictions` are those the report was built from, `training` the figures of what the run recorded.
    """
    directory.mkdir(parents=True, exist_ok=True)
    write_page(report_page(report, predictions, training), directory / PAGE)
    content = json.dumps(strict(asdict(report)), indent=1, allow_nan=False)
    write_durably(directory / CONTENT, content + "\n")


def report_page(report: Report, predictions: pd.DataFrame, training: Sequence[Figure] = ()) -> Page:
    """The page of `report`; arguments as in `write_report`."""
    known = known_predictions(predictions)
    shown = known[known["role"] != "train"] if (known["role"] != "train").any() else known
    run = Path(str(report.context.get("run", ""))).name
    sections = [
        Section("Alarms", list(_alarms(report))),
        Section("Ranking", list(_ranking(report, shown))),
        Section("Probabilities", list(_probabilities(report, shown, known))),
        Section("Training", [*training, *([Points(report.training)] if report.training else [])]),
        Section("Predictions that can fail", [Points(list(verdicts(report)))] if report.verify else []),
        Section("How these figures came about", [Points(list(_origin(report)))]),
    ]
    return Page(
        title=f"Evaluation of {run}" if run else "Evaluation",
        subtitle="How well the model ranks pairs of cell lines no training saw, beside its rivals, and how far its "
        "probabilities can be trusted.",
        answer=answer(report),
        sections=[section for section in sections if section.parts],
    )


def answer(report: Report) -> list[str]:
    """How well on the lines no training saw, against the best rival, and how far to trust it: three sentences."""
    row = _question(report)
    if row is None or not math.isfinite(row["ap"]):
        return ["No test line could be judged: the test pairs hold one label only, or there are none.", _trust(report)]
    return [_how_well(row), _against(row), _trust(report, row)]


def _question(report: Report) -> Row | None:
    """The row that answers the question of the product: the first quadrant of a test line, the mean of several."""
    for quadrant in QUADRANTS:
        lines, macro = (
            [row for row in rows if row["role"] == "test" and row["quadrant"] == quadrant]
            for rows in (report.lines, report.macro)
        )
        if lines:
            return lines[0] if len(lines) == 1 else macro[0]
    return None


def _how_well(row: Row) -> str:
    line, stretch = row["quadrant"].split("/")
    seen = "no training saw" if line == "unseen_line" else "of the training"
    where = f"On {row['line']}, a line {seen}" if row["line"] != "macro" else f"On {row['lines']} lines {seen}"
    genome = "that no training saw either" if stretch == "unseen_chrom" else "that training saw in other lines"
    value = f"{number(row['ap'])} {between(row['ap_low'], row['ap_high'])}".rstrip()
    more = f"; the best possible is {number(row['bayes_ap'])}" if math.isfinite(row["bayes_ap"]) else ""
    if row["line"] == "macro":
        more += f"; the worst line, {row['worst_line']}, has {number(row['worst_ap'])}"
    return (
        f"{where}, in stretches of genome {genome}, average precision is {value}, {number(row['lift'], 1)} times what "
        f"guessing gets (the prevalence, {number(row['prevalence'])}){more}."
    )


def _against(row: Row) -> str:
    known = {name: rival for name, rival in row["rivals"].items() if math.isfinite(rival["ap"])}
    if not known:
        return "It was compared with no rival."
    name = max(known, key=lambda rival: known[rival]["ap"])
    low, high = known[name]["low"], known[name]["high"]
    lead = f"{number(known[name]['difference'], sign='+')} {between(low, high)}".rstrip()
    if low > 0:
        meaning = "so the lead is not chance"
    elif high < 0:
        meaning = "so the rival is better"
    elif math.isfinite(low):
        meaning = "and an interval with zero in it does not tell the two apart"
    else:
        meaning = "and there are too few lines or clusters for an interval"
    return f"The best rival there, '{name}', has {number(known[name]['ap'])}: the model's lead is {lead}, {meaning}."


def _trust(report: Report, row: Row | None = None) -> str:
    fired = len(report.findings)
    alarms = {0: "no alarm fired", 1: "one alarm fired, which is to be read first"}.get(
        fired, f"{fired} alarms fired, which are to be read first"
    )
    if row is None or not math.isfinite(row["ece_after"]):
        return f"{alarms[0].upper()}{alarms[1:]}."
    threshold = Calibration.from_dict(report.calibration).threshold
    return (
        "With the calibration frozen on the validation line its probabilities are off by "
        f"{number(row['ece_after'])} on average there ({number(row['ece_before'])} before), calling pairs above "
        f"{number(threshold)} finds {number(row['recall'])} of the interactions with a precision of "
        f"{number(row['precision'])}, and {alarms}."
    )


def _alarms(report: Report) -> Iterator[Part]:
    yield from (Callout(sentence, "warning") for sentence in report.findings)
    if not report.findings:
        yield Callout("No alarm fired on these predictions.", "good")


def _ranking(report: Report, shown: pd.DataFrame) -> Iterator[Part]:
    by_line = average_precision_by_line(report.lines)
    if by_line.plots:
        yield by_line
    if len(shown):
        yield precision_recall(shown)
    yield replace(
        ranking_table(report),
        reads="The first rows answer the question: a line no training saw, in stretches of genome no training saw. AP "
        "is average precision with its interval, lift is AP over the prevalence.",
    )
    if names := rival_names(report):
        yield replace(
            rival_table(report, names),
            reads="Each cell has a rival's average precision and, below it, the model's lead with its interval: an "
            "interval above zero is a lead that these pairs show.",
        )
    if tells_candidates(report):
        yield replace(
            candidates_table(report),
            reads="Where nearly every enhancer has a partner, prevalence is about 1 / (number of candidates), and a "
            "score that knows gene density earns average precision. eq AP weighs every enhancer to the same "
            "prevalence; within is the mean over enhancers (genes) with both labels of the average precision among "
            "their own pairs.",
        )
        if names:
            yield replace(
                rival_table(report, names, "eq_"),
                reads="As above, by eq average precision: a rival that leads here ranks the candidates of an enhancer "
                "better.",
            )


def _probabilities(report: Report, shown: pd.DataFrame, known: pd.DataFrame) -> Iterator[Part]:
    calibration = Calibration.from_dict(report.calibration)
    if len(shown):
        yield reliability_diagram(shown, calibration)
        yield scores_by_label(shown, calibration)
    if report.transfer:
        yield left_out_reliability([*leave_lines_out(known), *judge_test_lines(known, calibration)])
        yield replace(
            transfer_table(report),
            reads="Each line is judged under a calibration that did not see its labels: intercept off is the shift in "
            "logits that would have set its mean probability right. Where the shifted columns are the better ones, "
            "predict.py --prevalence-shift is worth its assumption.",
        )
    yield replace(
        threshold_table(report),
        reads="ECE is the average distance of the probabilities from what is observed: after calibration it should be "
        "small, also on lines that the calibration did not see. Support sd is how much the draw of the support set "
        "moves AP.",
    )


def _origin(report: Report) -> Iterator[str]:
    yield from (sentence[0].upper() + sentence[1:] + "." for sentence in provenance(report))
    context = report.context
    if "checkpoint" in context:
        yield f"Scored: {context['checkpoint']} of {context['run']}, step {context['step']:,}."
        yield f"Store: {context['store']}."
