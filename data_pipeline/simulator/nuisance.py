"""A nuisance of simulated lines: a marker motif that tells the line, and a tie to the label that does not transfer.

Think of an artefact of the assay: elements with a certain sequence are easier to see in some lines than in others, and
one laboratory's protocol calls their pairs too often, another's too rarely. In the model of `simulator`:

    t(x)               how many of the pair's two elements carry the marker: 0, 1 or 2
    active elements    the marker adds nuisance.enrichment * u_c to the log-odds of being used, u_c spread over (-1, 1)
    logit(x, c)        gains tie_c * t(x): +nuisance.tie in the first lines, -nuisance.tie in the last, the reversed

So the marker's frequency tells the line; a model that learns from the first lines gains by reading the marker, and
loses by it in the reversed ones. Nothing unlabelled says which way a line's tie points: u_c is spread alike over both
kinds. A representation of the pair that does not tell the line cannot hold the marker.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from data_pipeline.settings import Settings


class NuisanceSettings(Settings):
    """A marker motif whose tie to the label reverses in the last lines."""

    tie: float = Field(default=0.0, ge=0.0, le=20.0)
    """Logit that each element with the marker adds in the first lines and takes in the reversed ones; 0: no marker."""
    reversed_lines: int = Field(default=4, ge=1)
    """How many lines, the last ones, have the opposite tie; fewer than `lines`."""
    enrichment: float = Field(default=2.0, ge=0.0, le=10.0)
    """Largest log-odds of being used that the marker adds in some line (and takes in another): how much it tells."""

    @property
    def on(self) -> bool:
        """Whether the world has a marker."""
        return self.tie > 0.0


def line_ties(rng: np.random.Generator, settings: NuisanceSettings, lines: int) -> NDArray[np.float64]:
    """(C, 2): the line's tie (logit per element with the marker), and u_c in (-1, 1); zeros without a marker."""
    if not settings.on:
        return np.zeros((lines, 2))
    parts = []
    for sign, count in ((1.0, lines - settings.reversed_lines), (-1.0, settings.reversed_lines)):
        use = (2.0 * rng.permutation(count) + 1.0) / count - 1.0
        parts.append(np.column_stack([np.full(count, sign * settings.tie), use]))
    return np.concatenate(parts)
