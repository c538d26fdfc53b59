"""Lift-over: coordinates of one genome build to another, by a chain file of the user (pyliftover reads it).

A point lifts where a chain covers it; of several chains the one of the highest score counts. An interval lifts where
its first and last base land on one chromosome and strand, and its length changes by a tenth at most: what is longer or
shorter holds other sequence. A chain that does not fit the table ends in a sentence, not in an empty store.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyliftover
from numpy.typing import NDArray

from data_pipeline.errors import UserError, listed
from data_pipeline.sources.genome import ChromNames
from data_pipeline.sources.input_files import open_bytes
from data_pipeline.sources.numbers_as_text import whole_numbers
from data_pipeline.store import KINDS

LARGEST_CHANGE = 0.1
"""Of an interval's length."""
FEWEST_LIFTED = 0.5
"""Share of a file's rows below which the chain is of another build than the file."""
OTHER_STRAND = {"+": "-", "-": "+"}


class LiftOver:
    """One chain file, used for one file of pairs or elements."""

    def __init__(self, chain: Path, names: ChromNames) -> None:
        """Read `chain`; raises `UserError` where it is no chain file or holds no chain."""
        self.chain, self._names = chain, names
        self.rows = self.lost = 0
        """Rows that were asked for, and those of them that did not lift."""
        with open_bytes(chain) as stream:
            try:
                self._chains = pyliftover.LiftOver(stream)
            except UserError:
                raise
            except Exception as error:  # pyliftover raises bare Exceptions, and what its parsing happens to meet.
                raise UserError(f"{chain} is not a UCSC chain file: {error}") from error
        self._seen: set[str] = set()
        self._spelt = {names.canonical(name): name for name in self._chains.chain_file.chain_index}
        if not self._spelt:
            raise UserError(f"{chain} holds no chain; give a UCSC chain file such as hg19ToHg38.over.chain.gz")

    def pairs(self, cells: pd.DataFrame) -> tuple[pd.DataFrame, NDArray[np.bool_]]:
        """`cells` of `RawPairs` with places lifted, and (k,) bool rows that do not lift.

        What is no place (text, an empty field) stays as it is: it is judged later.
        """
        lost = np.zeros(len(cells), dtype=bool)
        changed: dict[str, pd.Series] = {}
        for kind in KINDS:
            chrom = self._names.canonical_column(cells[f"{kind}_chrom"])
            self._seen.update(chrom.unique())
            start, end = (whole_numbers(cells[f"{kind}_{part}"]) for part in ("start", "end"))
            # A promoter may be a point, its TSS.
            spans, points = start < end, start == end
            lifted = self.intervals(chrom, start.where(spans | points), end.where(spans, end + 1))
            lost |= ((spans | points) & lifted["start"].isna()).to_numpy()
            placed = lifted["start"].notna()
            changed[f"{kind}_chrom"] = lifted["chrom"].where(placed, chrom)
            changed[f"{kind}_start"] = _text(lifted["start"], cells[f"{kind}_start"])
            changed[f"{kind}_end"] = _text(lifted["end"] - points, cells[f"{kind}_end"])
            if kind == "promoter":
                tss = whole_numbers(cells["tss"])
                point = self.intervals(chrom, tss, tss + 1)
                lost |= (tss.notna() & point["start"].isna()).to_numpy()
                lost |= (tss.notna() & placed & (point["chrom"] != lifted["chrom"])).to_numpy()
                changed["tss"] = _text(point["start"], cells["tss"])
                changed["promoter_chrom"] = changed["promoter_chrom"].where(placed | tss.isna(), point["chrom"])
                turned = lifted["turned"].where(placed, point["turned"]).fillna(False).astype(bool)
                changed["strand"] = cells["strand"].where(~turned, cells["strand"].replace(OTHER_STRAND))
        self.rows, self.lost = self.rows + len(cells), self.lost + int(lost.sum())
        return cells.assign(**changed), lost

    def elements(self, places: pd.DataFrame) -> tuple[pd.DataFrame, NDArray[np.bool_]]:
        """`places` (chrom, start, end: integers) lifted, and (k,) bool rows that do not lift (left as they are)."""
        self._seen.update(places["chrom"].unique())
        lifted = self.intervals(places["chrom"], places["start"], places["end"])
        lost = lifted["start"].isna()
        columns = {key: lifted[key].where(~lost, places[key]) for key in ("chrom", "start", "end")}
        self.rows, self.lost = self.rows + len(places), self.lost + int(lost.sum())
        return places.assign(**columns).astype({"start": np.int64, "end": np.int64}), lost.to_numpy()

    def intervals(self, chrom: pd.Series, start: pd.Series, end: pd.Series) -> pd.DataFrame:
        """chrom, start, end (float) and turned (whether the strand changes) of each interval, NaN where it is lost."""
        asked = pd.DataFrame({"chrom": chrom, "start": start, "end": end})
        distinct = asked.dropna().drop_duplicates()
        found = [self._interval(str(row.chrom), int(row.start), int(row.end)) for row in distinct.itertuples()]
        table = pd.DataFrame(found, columns=["to", "first", "past", "turned"], index=distinct.index, dtype=object)
        joined = asked.merge(distinct.join(table), on=["chrom", "start", "end"], how="left").set_index(asked.index)
        numbers = {key: joined[name].astype(np.float64) for key, name in (("start", "first"), ("end", "past"))}
        return pd.DataFrame({"chrom": joined["to"], **numbers, "turned": joined["turned"]})

    def require_fit(self, path: Path) -> None:
        """Raise `UserError` where most rows of the file at `path`, all asked for by now, did not lift."""
        has = sorted(self._seen - {""})
        if has and not self._spelt.keys() & self._seen:
            raise UserError(
                f"{self.chain} has no chromosome of {path}: it has {listed(list(self._spelt))}, the table has "
                f"{listed(has)}; give another chain, or add chrom_aliases if the names differ"
            )
        if self.rows and self.rows - self.lost < FEWEST_LIFTED * self.rows:
            raise UserError(
                f"{self.chain} lifts only {self.rows - self.lost} of {self.rows} rows of {path}, so the chain does not "
                "begin at the table's genome build; give the chain from the table's build to the store's"
            )

    def _interval(self, chrom: str, start: int, end: int) -> tuple[Any, ...]:
        first, last = self._point(chrom, start), self._point(chrom, end - 1)
        if first is None or last is None or (first[0], first[2]) != (last[0], last[2]):
            return None, None, None, None
        low, high = sorted((first[1], last[1]))
        if abs((high + 1 - low) - (end - start)) > LARGEST_CHANGE * (end - start):
            return None, None, None, None
        return self._names.canonical(first[0]), low, high + 1, first[2] == "-"

    def _point(self, chrom: str, position: int) -> tuple[str, int, str] | None:
        found = self._chains.convert_coordinate(self._spelt.get(chrom, chrom), position)
        return found[0][:3] if found else None


def _text(lifted: pd.Series, given: pd.Series) -> pd.Series:
    """Lifted numbers as text, `given` where there are none."""
    return lifted.astype("Int64").astype(str).where(lifted.notna(), given)
