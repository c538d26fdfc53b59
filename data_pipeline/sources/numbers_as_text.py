"""Numbers in tables: finite ones are values, everything else that stands for no value is missing, the rest is an error.

A ratio's logarithm where a count is 0 (`-inf`), a number too large for float32 and the words programs write for nothing
are all missing: one infinite value would make a track's mean infinite and so the whole track useless.
"""

from __future__ import annotations

import numpy as np
import pandas as pd
from numpy.typing import NDArray

MISSING = {"", ".", "-", "?", "na", "nan", "-nan", "+nan", "n/a", "#n/a", "none", "null", "<na>", "missing"} | {
    *("inf", "+inf", "-inf", "infinity", "-infinity", "#div/0!", "#num!", "#value!", "#null!", "1.#inf", "-1.#inf"),
    *("1.#ind", "-1.#ind", "1.#qnan", "#n/a n/a", "#na"),
}
"""Words for a missing value, in lower case."""
MAX_POSITION = 2**31 - 1


def values(text: pd.Series) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """(k,) float64 values of `text`, NaN where missing or beyond float32; (k,) bool where the text is no number."""
    number = pd.to_numeric(text, errors="coerce").to_numpy(np.float64)
    unread = np.isnan(number)
    wrong = np.zeros(len(number), dtype=bool)
    wrong[unread] = ~text[unread].str.lower().isin(MISSING).to_numpy(bool)
    return finite(number), wrong


def finite(number: NDArray[np.float64]) -> NDArray[np.float64]:
    """`number` with NaN for whatever is not finite, or would not be as float32."""
    return np.where(np.abs(number) <= np.finfo(np.float32).max, number, np.nan)


def whole_numbers(text: pd.Series) -> pd.Series:
    """Numbers from 0 to 2^31 - 1 without a fraction (`3000`, `3000.0`, `3e3`), NaN for any other text."""
    number = pd.to_numeric(text, errors="coerce").astype(np.float64)
    return number.where((number >= 0) & (number <= MAX_POSITION) & (number % 1 == 0))
