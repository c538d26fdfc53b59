"""What the outcomes of an ablation say: each variant beside what it is compared to, and what its mechanisms did.

Pure functions of outcomes and judged pairs; `ablation_report` reads and writes the files.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass

import numpy as np
import pandas as pd

from tune.ablation.contrasts import Contrast, Difference, Judged, between, contrast, over_neutral
from tune.ablation.identity import AblationRecord, VariantRecord
from tune.ablation.run import THEOREM, Outcome, short
from tune.ablation.variants import DEFAULT

SHARE = "gradient_ratio/"
"""Activity of loss terms: weighted gradient relative to the task's."""

Look = Callable[[str], Judged | None]
"""Name of a run -> its pairs of the quadrant in question, None if it is not complete or has none there."""


@dataclass(frozen=True)
class Comparison:
    """What one quadrant says about one variant."""

    name: str
    against: str
    runs: int
    """Complete runs."""
    ap: float
    """Average precision: mean over test lines of the mean over their runs."""
    difference: Contrast
    """To `against`, on the folds and seeds that both have."""
    over_neutral: Contrast
    """To its own U_I."""
    over_wrong: Contrast
    """Right line's supports to wrong lines' ones."""
    same: bool
    """Whether every pair of runs has equal logits: the change is in name only."""


@dataclass(frozen=True)
class Conduct:
    """What the runs of one variant did, whatever the quadrant."""

    name: str
    shares: dict[str, float]
    """Gradient of each loss term relative to the task's, late in training: mean over runs."""
    gate_sd: float
    """Spread of the gates over pairs and lines, likewise."""
    alarms: dict[str, int]
    """Alarm or response -> runs it was seen in."""
    seconds: float
    """Mean time of a run."""
    against_theorem: float = math.nan
    """Of runs whose environment cannot rank: the largest change of average precision by it, under one support set."""


@dataclass(frozen=True)
class AblationReport:
    """Everything that the tables show."""

    record: AblationRecord
    comparisons: dict[str, list[Comparison]]
    """By quadrant, variants in the record's order."""
    conduct: list[Conduct]
    """In the same order."""
    runs: pd.DataFrame
    """As `runs_table`."""
    bayes: float
    """Best possible average precision, mean over test lines; NaN where not known."""


def compare(
    record: AblationRecord, variant: VariantRecord, complete: dict[str, Outcome], look: Look, quadrant: str
) -> Comparison:
    """Compare the complete runs of `variant` with those of what it is against."""
    cells = [cell for cell in record.cells() if cell.variant == variant.name]
    own = {cell.run: found for cell in cells if (found := look(cell.run))}
    pairs = []
    for cell in cells:
        other = cell.model_copy(update={"variant": variant.against})
        if cell.run in own and variant.name != DEFAULT and (rival := look(other.run)):
            pairs.append(((cell, own[cell.run]), (other, rival)))
    by_line: dict[str, list[float]] = {}
    for run in own.values():
        by_line.setdefault(run.line, []).append(run.model)
    return Comparison(
        name=variant.name,
        against=variant.against,
        runs=len(own),
        ap=mean(mean(values) for values in by_line.values()),
        difference=contrast([between(one, two, (cell.run, other.run)) for (cell, one), (other, two) in pairs]),
        over_neutral=contrast([over_neutral(run) for run in own.values()]),
        over_wrong=contrast([_over_wrong(complete[cell.run], quadrant) for cell in cells if cell.run in own]),
        same=bool(pairs) and all(np.array_equal(one.logits, two.logits) for (_, one), (_, two) in pairs),
    )


def conduct(name: str, outcomes: Iterable[Outcome]) -> Conduct:
    """What the complete `outcomes` of variant `name` did."""
    own = [outcome for outcome in outcomes if outcome.cell.variant == name]
    terms = dict.fromkeys(key for outcome in own for key in outcome.activity if key.startswith(SHARE))
    return Conduct(
        name=name,
        shares={key.removeprefix(SHARE): mean(item.activity.get(key, math.nan) for item in own) for key in terms},
        gate_sd=mean(item.activity.get("gate/sd", math.nan) for item in own),
        alarms=dict(Counter(alarm for item in own for alarm in item.alarms).most_common()),
        seconds=mean(item.seconds for item in own),
        against_theorem=max(
            (abs(value) for item in own for key, value in item.figures.items() if key.startswith(f"{THEOREM}/")),
            default=math.nan,
        ),
    )


def _over_wrong(outcome: Outcome, quadrant: str) -> Difference:
    figures, place = outcome.figures, short(quadrant)
    value = figures.get(f"right/{place}", math.nan) - figures.get(f"wrong/{place}", math.nan)
    return Difference(outcome.cell.test_line, value)


def mean(values: Iterable[float]) -> float:
    """Mean of the `values` that are finite; NaN if none is."""
    known = [value for value in values if math.isfinite(value)]
    return float(np.mean(known)) if known else math.nan
