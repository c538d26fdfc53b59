"""The alarms of algorithms.md 13 that finished predictions can show, each as a sentence with where it fired.

Works on the rows of `quadrants`; healthy rows give an empty list. A NaN never fires an alarm. What training itself
recorded is retold by `training_findings`. Cost: none to speak of.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from scipy.special import expit, logit

from evaluation.alarms import CONSTANT, GAP, LOW_THRESHOLD, MEMORISED, SAME_RANKING, collapsed, predicts_all
from evaluation.calibration import MAX_TEMPERATURE, Calibration
from evaluation.quadrants import NEUTRAL, NO_ENVIRONMENT, Row


def findings(
    lines: list[Row], macro: list[Row], calibration: Calibration, environment_can_rank: bool = True
) -> list[str]:
    """Sentences of the alarms that fire on the rows `lines` and `macro`.

    `environment_can_rank` is False for one gate channel without local signals, where the environment cannot
    change the ranking inside a line (algorithms.md 0.1).
    """
    sentences = [*_overfitting(macro), *_calibration(calibration)]
    for says, fires in _ROW_ALARMS:
        sentences += _sentence(says, (row for row in lines if fires(row)))
    tested = [row for row in lines if row["role"] != "train"]
    behind = [row for row in tested if NO_ENVIRONMENT in row["rivals"] and row["rivals"][NO_ENVIRONMENT]["high"] < 0]
    sentences += _sentence("a model trained without environment ranks better", behind)
    return sentences + _environment(tested, environment_can_rank)


_ROW_ALARMS: list[tuple[str, Callable[[Row], bool]]] = [
    (
        "recall above .8 because the threshold calls more than two thirds of the pairs interacting",
        lambda row: predicts_all(row["recall"], row["precision"], row["prevalence"]),
    ),
    (
        "average precision within .03 of the prevalence with recall above .98: the model has collapsed",
        lambda row: collapsed(row["recall"], row["ap"], row["prevalence"]),
    ),
    (
        "standard deviation of the logits within the line below .05: the output is constant",
        lambda row: row["logit_sd"] < CONSTANT,
    ),
]


def _overfitting(macro: list[Row]) -> list[str]:
    trained = [row["ap"] for row in macro if row["role"] == "train"]
    if not trained:
        return []
    train_ap = max(trained)
    sentences = []
    if train_ap > MEMORISED:
        sentences.append(f"training average precision is {train_ap:.3f}, above .95: the training pairs are memorised")
    others = [row for row in macro if row["role"] != "train" and train_ap - row["ap"] > GAP]
    return sentences + _sentence(
        f"training average precision {train_ap:.3f} is more than .2 above that of unseen pairs", others
    )


def _calibration(calibration: Calibration) -> list[str]:
    # the alarm is about a scale that temperature alone leaves, so the Platt bias is taken out again
    scaled = float(expit(logit(calibration.threshold) - calibration.bias))
    sentences = []
    if scaled < LOW_THRESHOLD:
        sentences.append(f"the validation threshold is {scaled:.3f} after temperature scaling, below .05")
    if max(calibration.temperature, 1 / calibration.temperature) > 0.99 * MAX_TEMPERATURE:
        sentences.append(
            f"the calibration temperature {calibration.temperature:.3g} is at its bound: on the validation line the "
            "logits separate the labels perfectly or carry nothing"
        )
    return sentences


def _environment(rows: list[Row], can_rank: bool) -> list[str]:
    compared = [row for row in rows if NEUTRAL in row["rivals"] and row["rivals"][NEUTRAL]["ap"] >= 0]
    changed = [row for row in compared if abs(row["rivals"][NEUTRAL]["difference"]) > SAME_RANKING]
    if not can_rank:
        # Where no support is apart from all pairs they are served by several, each with its own offset, so here the
        # ranking may differ from U_I's by that alone; the monitor of training asks within one support set.
        return []
    if compared and not changed:
        return ["the environment changes no line's average precision over U_I alone: it adds nothing to the ranking"]
    harmed = [row for row in changed if row["rivals"][NEUTRAL]["high"] < 0]
    return _sentence("the environment lowers average precision below that of U_I alone", harmed)


def training_findings(records: Iterable[Mapping[str, Any]]) -> list[str]:
    """One sentence per alarm and place of the records of `metrics/alarms.jsonl`, and one per response, in order.

    An alarm is told with its first sentence, the step it first turned on at, and whether it was still on at the end.
    """
    told: dict[str, list[Mapping[str, Any]]] = {}
    sentences = {}
    for record in records:
        if "response" in record:
            did = "acted" if record["acted"] else "advised"
            text = f"response {record['requirement']} {did} at step {record['step']}: {record['says']}"
            sentences[text] = text
        else:
            told.setdefault(key := f"{record['alarm']}/{record['place']}", []).append(record)
            sentences.setdefault(key, key)
    return [_retold(told[key]) if key in told else text for key, text in sentences.items()]


def _retold(records: list[Mapping[str, Any]]) -> str:
    turned_on = [record for record in records if record["on"]]
    times = f", {len(turned_on)} times in all" if len(turned_on) > 1 else ""
    end = "still on at the end" if records[-1]["on"] else f"over at step {records[-1]['step']}"
    return f"in training, from step {turned_on[0]['step']}{times}, {end}: {turned_on[0]['says']}"


def _sentence(says: str, rows: Iterable[Row]) -> list[str]:
    places = [f"{row['line']} ({row['role']}, {row['quadrant']})" for row in rows]
    return [f"{says}: {', '.join(places)}"] if places else []
