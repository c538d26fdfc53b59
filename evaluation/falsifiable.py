"""The records' falsifiable predictions (R90-R93) on a trained model: confirmed, refuted or not testable, and why.

Functions of arrays; each returns a `Verdict` with its statistic, and says where the data cannot decide rather than
deciding. R90: what opens and closes the gates has two modes. R91: z_I tells nothing of the line, hence nothing of z_E,
which follows from it. R92: z_E of unseen lines lies in the hull of the training lines'. R93: loss weights in [.5, 2]
act, .1 does not. On a simulated store what was planted stands beside each, and the learnt environments are compared
with the planted ones.
Cost: seconds, for the probes of R91.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from scipy.stats import ttest_ind

from evaluation.alarms import DROWNED
from evaluation.geometry import BIMODAL, LEAST_GATES, HullTest, bimodality, hull_distance, hull_test, recovery
from evaluation.leakage import line_information
from model.terms import distance_correlation

Floats = NDArray[np.float64]
Lines = NDArray[np.integer[Any]]
Outcome = Literal["confirmed", "refuted", "not testable"]
Planted = tuple[str, Outcome | Literal[""]]
"""What the truth of a simulated store says of a claim, and the outcome that follows from it."""

NOTHING = 0.05
"""Nats below which information about the line counts as none; six lines have 1.79 to tell."""
LEAK = 0.1
"""Nats planted into the codes to see whether a probe finds that much in so many pairs."""
NEAR = 0.5
"""Distance from the hull, relative to that of a training line left out, up to which a line counts as inside."""
SURE = 0.95
"""Share of resampled supports that must agree."""
RESAMPLES = 200
MOST_FOR_DISTANCES = 600
"""Pairs that enter the distance correlation, whose cost grows with their square."""
WEAK, STRONG = (0.05, 0.2), (0.5, 2.0)
"""Weights around .1, which should do nothing, and those which should act."""
FEWEST_TRIALS = 3
"""Trials in each range of weights below which a range has no spread to speak of."""
HIGH_BY_CHANCE = 0.95
"""A canonical correlation that shuffled lines reach on average shows nothing."""


@dataclass(frozen=True)
class Verdict:
    """What became of one prediction."""

    requirement: str
    claim: str
    outcome: Outcome
    says: str
    """The statistic, or why there is none."""
    figures: dict[str, Any] = field(default_factory=dict)
    """Its numbers."""
    planted: str = ""
    """What the truth of a simulated store says of the same claim; empty elsewhere."""
    expected: Outcome | Literal[""] = ""
    """What the outcome is to be by that truth; empty where it says nothing."""


def gates_are_bimodal(drive: Floats, planted: Floats | None = None) -> Verdict:
    """R90 on what drives the gates, w R (V,) over channels, lines and runs; `planted` (P,) the same of a simulation.

    Not on the gates themselves: 2 sigma(w R) of one normal piles up at 0 and 2 once its deviation passes 2, so that
    saturation would be taken for two modes. w is positive by construction, because (w, R) and (-w, -R) are the same
    model (X8).
    """
    claim = "the gates open or close: what drives them, w R, has two modes"
    found = bimodality(drive)
    figures = {"gates": found.count, "dip": found.dip, "p": found.p, "coefficient": found.coefficient}
    figures |= {"open": float((drive > 0).mean()), "sd": float(drive.std())}
    if np.ptp(drive) < 1e-6:
        return Verdict("R90", claim, "not testable", "all gates are equal: this energy has no gates", figures)
    if not found.testable:
        says = f"{found.count} gates are too few, {LEAST_GATES} are needed: more channels, lines or runs (--beside)"
        return Verdict("R90", claim, "not testable", says, figures)
    says = (
        f"dip {found.dip:.3f} (p {found.p:.3f}), bimodality coefficient {found.coefficient:.2f} (two modes above "
        f".56, both must say so) of w R of {found.count} gates, {figures['open']:.0%} of them above neutral"
    )
    outcome: Outcome = "confirmed" if found.bimodal else "refuted"
    return Verdict("R90", claim, outcome, says, figures, *_planted_modes(planted))


def _planted_modes(planted: Floats | None) -> Planted:
    if planted is None:
        return "", ""
    truth = bimodality(planted)
    two = truth.dip > 0 and truth.p < 0.05 and truth.coefficient > BIMODAL
    says = (
        f"what drives the {truth.count} planted gains has {'two modes' if two else 'not two modes'} (dip p "
        f"{truth.p:.3f}, coefficient {truth.coefficient:.2f})"
    )
    return says, "confirmed" if two else "refuted"


def invariant_tells_nothing(
    codes: Floats, line: Lines, cluster: Lines, environment: Floats, planted: Floats | None = None
) -> Verdict:
    """R91 on z_I codes (n, dI) of pairs of training lines (n,), promoters as clusters (n,), z_E per line (C, dE).

    `planted` (n, q): what decides the labels of a simulated store. A z_I that holds it tells the line as well as that.
    """
    claim = "z_I and z_E share no information"
    lines = len(np.unique(line))
    if lines < 2:
        return Verdict("R91", claim, "not testable", "one training line has nothing to be told from")
    nats, low, high = line_information(codes, line, cluster)
    leak = line_information(_with_leak(codes, line), line, cluster)[0]
    figures = {"nats": nats, "low": low, "high": high, "most": math.log(lines), "with_leak": leak}
    figures["distance_correlation"] = _distance_correlation(codes, environment[line])
    says = (
        f"fresh probes read {nats:.3f} nats [{low:.3f}, {high:.3f}] of at most {math.log(lines):.2f} about the "
        f"line off z_I, which bounds what z_I tells of z_E; distance correlation of the two "
        f"{figures['distance_correlation']:.3f}; counts as none below {NOTHING}"
    )
    truth = _planted_leak(planted, line, cluster)
    if low > NOTHING:
        return Verdict("R91", claim, "refuted", says, figures, *truth)
    if leak < NOTHING:
        # That nothing is found then says nothing.
        says = f"{len(codes)} pairs are too few: of {LEAK} nats planted into z_I, {leak:.3f} are found; {says}"
        return Verdict("R91", claim, "not testable", says, figures, *truth)
    if high < NOTHING:
        return Verdict("R91", claim, "confirmed", says, figures, *truth)
    return Verdict("R91", claim, "not testable", f"the interval leaves it open: {says}", figures, *truth)


def _planted_leak(planted: Floats | None, line: Lines, cluster: Lines) -> Planted:
    if planted is None:
        return "", ""
    nats, low, high = line_information(planted, line, cluster)
    says = f"what decides the labels tells {nats:.3f} nats [{low:.3f}, {high:.3f}] of the line"
    return says, "refuted" if low > NOTHING else "confirmed" if high < NOTHING else ""


def _with_leak(codes: Floats, line: Lines) -> Floats:
    """Codes (n, d) with one column more that tells about `LEAK` nats of the line (n,): 1/2 log(1 + snr)."""
    place = (line - line.mean()) / line.std()
    noise = np.random.default_rng(0).normal(size=len(line))
    return np.column_stack([codes, math.sqrt(math.expm1(2 * LEAK)) * place + noise])


def _distance_correlation(a: Floats, b: Floats) -> float:
    part = np.linspace(0, len(a) - 1, min(MOST_FOR_DISTANCES, len(a))).astype(np.int64)
    return float(distance_correlation(torch.from_numpy(a[part]), torch.from_numpy(b[part])))


def unseen_lie_inside(
    training: Floats, unseen: Floats, planted: tuple[Floats, Floats] | None = None, seed: int = 0
) -> Verdict:
    """R92 on z_E of training lines (C, draws, dE) and unseen lines (U, draws, dE); `planted` latents (C, q), (U, q).

    In the first min(2, C-2) principal directions of the training lines: with C-1 or more dimensions every new point is
    outside. Support sets are resampled, so that the verdict does not hang on those that were drawn.
    """
    claim = "z_E of unseen lines lies inside the hull of the training lines'"
    components = min(2, len(training) - 2)
    means = training.mean(axis=1)
    if np.ptp(means, axis=0).max() < 1e-9:
        return Verdict("R92", claim, "not testable", "z_E is the same for every line")
    test = hull_test(means, unseen.mean(axis=1), components)
    if not test.testable:
        return Verdict("R92", claim, "not testable", test.reason)
    unit = _unit(test)
    if unit == 0:
        return Verdict("R92", claim, "not testable", "every training line lies in the hull of the others")
    ratio = test.distance / unit
    near = _share_near(training, unseen, components, NEAR * unit, seed)
    figures = {"near": near, "ratio": ratio, "inside": test.inside, "p": test.p, "components": components}
    says = (
        f"in {components} principal direction{'s' * (components > 1)} of {len(training)} lines, distance from the hull "
        f"over that of a training line left out {', '.join(f'{own:.2f}' for own in ratio)} (0 inside; counts as inside "
        f"up to {NEAR}, so for {', '.join(f'{share:.0%}' for share in near)} of resampled supports; share of training "
        f"lines as far out {', '.join(f'{p:.2f}' for p in test.p)})"
    )
    if means.shape[1] >= len(training) - 1:
        says += f"; in all {means.shape[1]} dimensions every new line would be outside"
    truth = _planted_hull(planted)
    if (near >= SURE).all():
        return Verdict("R92", claim, "confirmed", says, figures, *truth)
    if (near <= 1 - SURE).any():
        return Verdict("R92", claim, "refuted", says, figures, *truth)
    return Verdict("R92", claim, "not testable", f"the supports leave it open: {says}", figures, *truth)


def _unit(test: HullTest) -> float:
    """Distance of a typical training line from the hull of the others, in units of the points."""
    # Where most training lines lie inside the hull of the others, the farthest of them is the measure.
    return float(np.median(test.leave_one_out)) or float(test.leave_one_out.max())


def _share_near(training: Floats, unseen: Floats, components: int, reach: float, seed: int) -> Floats:
    """(U,) share of resampled support sets with which each unseen line is within `reach` of the hull."""
    rng = np.random.default_rng(seed)
    near = np.zeros(len(unseen))
    for _ in range(RESAMPLES):
        known, new = (
            np.stack([line[rng.integers(0, len(line), len(line))].mean(axis=0) for line in lines])
            for lines in (training, unseen)
        )
        centre = known.mean(axis=0)
        axes = np.linalg.svd(known - centre, full_matrices=False)[2][:components].T
        near += [hull_distance((known - centre) @ axes, (line - centre) @ axes) <= reach for line in new]
    return near / RESAMPLES


def _planted_hull(latents: tuple[Floats, Floats] | None) -> Planted:
    test = hull_test(*latents) if latents else None
    if test is None or not test.testable:
        return "", ""
    if _unit(test) == 0:
        return "the planted latents of the training lines are the same few points", ""
    ratio = test.distance / _unit(test)
    says = f"the planted latents lie at {', '.join(f'{own:.2f}' for own in ratio)}"
    return says, "confirmed" if (ratio <= NEAR).all() else "refuted"


def weights_are_sensitive(trials: pd.DataFrame) -> list[Verdict]:
    """R93 on the trials of a search: `score`, and per searched term `weight/T` or `ratio/T`, `share/T` and `acts/K/T`.

    `acts/weight/T`, `acts/ratio/T`: whether the runs read that number at all. `share/T` is the gradient of term T
    relative to the task's, as the trial's runs measured it. Under a weight that is what says whether the term acts; a
    ratio sets it, and then only the score can say.
    """
    terms = [str(name).split("/") for name in trials.columns if str(name).startswith(("weight/", "ratio/"))]
    if not terms:
        says = "no search of loss weights was given (--search)"
        return [Verdict("R93", "loss weights in [.5, 2] act, .1 does not", "not testable", says)]
    return [_sensitive(trials, kind, term) for kind, term in terms]


def _sensitive(trials: pd.DataFrame, kind: str, term: str) -> Verdict:
    claim = f"{term}: a {kind} in [.5, 2] acts, .1 does not"
    alive = trials[trials[f"acts/{kind}/{term}"].astype(bool)]
    if len(trials) and alive.empty:
        says = (
            f"in none of {len(trials)} trials could the {kind} act: the term was off or had not started, or the "
            "balance mode does not read it"
        )
        return Verdict("R93", claim, "not testable", says, {"trials_without_effect": len(trials)})
    weak, strong = (alive[alive[f"{kind}/{term}"].between(*span)] for span in (WEAK, STRONG))
    figures: dict[str, Any] = {"weak_trials": len(weak), "strong_trials": len(strong)}
    if min(len(weak), len(strong)) < FEWEST_TRIALS:
        says = f"{len(weak)} trials near .1 and {len(strong)} in [.5, 2]; {FEWEST_TRIALS} of each are needed"
        return Verdict("R93", claim, "not testable", says, figures)
    score = ttest_ind(strong["score"], weak["score"], equal_var=False).confidence_interval()
    figures["score_low"], figures["score_high"] = float(score.low), float(score.high)
    changes = f"average precision differs by [{score.low:+.3f}, {score.high:+.3f}]"
    if kind == "ratio":
        outcome: Outcome = "confirmed" if score.low > 0 or score.high < 0 else "refuted"
        return Verdict(
            "R93", claim, outcome, f"the balancer holds the gradient, so the score decides: {changes}", figures
        )
    little, much = (float(part[f"share/{term}"].median()) for part in (weak, strong))
    figures |= {"weak_share": little, "strong_share": much}
    if not math.isfinite(little + much):
        return Verdict("R93", claim, "not testable", f"the runs measured no gradients of {term}; {changes}", figures)
    says = f"gradient {little:.2g} of the task's near .1, {much:.2g} in [.5, 2]; {DROWNED} counts as drowned; {changes}"
    return Verdict("R93", claim, "confirmed" if little < DROWNED <= much else "refuted", says, figures)


def factors_are_recovered(learnt: Floats, planted: Floats) -> Verdict:
    """The learnt z_E (C, dE) against the planted latents (C, q) of a simulated store, up to a linear map."""
    claim = "the learnt environments are the planted ones up to a linear map"
    if np.ptp(learnt, axis=0).max() < 1e-9:
        return Verdict("recovery", claim, "not testable", "z_E is the same for every line")
    found = recovery(learnt, planted)
    figures = {"correlations": found.correlations, "chance": found.chance, "p": found.p}
    says = (
        f"canonical correlations {', '.join(f'{value:.3f}' for value in found.correlations)} over {len(learnt)} lines; "
        f"shuffled lines reach {found.chance:.3f} on average, p {found.p:.3f}"
    )
    if found.chance > HIGH_BY_CHANCE:
        return Verdict("recovery", claim, "not testable", f"too few lines: {says}", figures)
    return Verdict("recovery", claim, "confirmed" if found.p < 0.05 else "refuted", says, figures, "", "confirmed")
