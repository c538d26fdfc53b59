"""The alarms of algorithms.md 13 that finished predictions can show, each as a sentence with where it fired.

Works on the rows of `quadrants`; healthy rows give an empty list. A NaN never fires an alarm. Cost: none to speak of.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

from scipy.special import expit, logit

from distributed.quadrants import NEUTRAL, Row
from model.calibration import MAX_TEMPERATURE, Calibration

SAME_RANKING = 1e-3
"""AP difference up to which two rankings count as equal: float32 rounding swaps near-ties."""


def findings(
    lines: list[Row], macro: list[Row], calibration: Calibration, environment_can_rank: bool = True
) -> list[str]:
    """Sentences of the alarms that fire on the rows `lines` and `macro`.

    `environment_can_rank` is False for one gate channel without local signals, where the environment must not
    change the ranking inside a line (algorithms.md 0.1).
    """
    sentences = [*_overfitting(macro), *_calibration(calibration)]
    for says, fires in _ROW_ALARMS:
        sentences += _sentence(says, (row for row in lines if fires(row)))
    return sentences + _environment([row for row in lines if row["role"] != "train"], environment_can_rank)


_ROW_ALARMS: list[tuple[str, Callable[[Row], bool]]] = [
    (
        "recall above .8 with precision below .6: the threshold predicts nearly all pairs as interacting",
        lambda row: row["recall"] > 0.8 and row["precision"] < 0.6,
    ),
    (
        "average precision within .03 of the prevalence with recall above .98: the model has collapsed",
        lambda row: abs(row["ap"] - row["prevalence"]) < 0.03 and row["recall"] > 0.98,
    ),
    (
        "standard deviation of the logits within the line below .05: the output is constant",
        lambda row: row["logit_sd"] < 0.05,
    ),
]


def _overfitting(macro: list[Row]) -> list[str]:
    trained = [row["ap"] for row in macro if row["role"] == "train"]
    if not trained:
        return []
    train_ap = max(trained)
    sentences = []
    if train_ap > 0.95:
        sentences.append(f"training average precision is {train_ap:.3f}, above .95: the training pairs are memorised")
    others = [row for row in macro if row["role"] != "train" and train_ap - row["ap"] > 0.2]
    return sentences + _sentence(
        f"training average precision {train_ap:.3f} is more than .2 above that of unseen pairs", others
    )


def _calibration(calibration: Calibration) -> list[str]:
    # the alarm is about a scale that temperature alone leaves, so the Platt bias is taken out again
    scaled = float(expit(logit(calibration.threshold) - calibration.bias))
    sentences = []
    if scaled < 0.05:
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
        return _sentence("a single channel must rank as U_I does, but average precision differs", changed)
    if compared and not changed:
        return ["the environment changes no line's average precision over U_I alone: it adds nothing to the ranking"]
    harmed = [row for row in changed if row["rivals"][NEUTRAL]["high"] < 0]
    return _sentence("the environment lowers average precision below that of U_I alone", harmed)


def _sentence(says: str, rows: Iterable[Row]) -> list[str]:
    places = [f"{row['line']} ({row['role']}, {row['quadrant']})" for row in rows]
    return [f"{says}: {', '.join(places)}"] if places else []
