"""Folds: which cell lines and which stretches of genome play which role.

One fold leaves a test line and a validation line out of training. Because the same loci occur in every line, it also
holds stretches of the genome out: zone `test` for the unseen-chromosome quadrants, zone `valid` for everything that is
chosen (early stopping, thresholds, temperature, search). A pair belongs to a zone only if both of its elements do;
pairs that straddle two zones are used nowhere. Stretches are whole chromosomes where the store has enough of them,
otherwise blocks of a few megabases. Where there is one line only, `within_line` lets stretches alone separate what is
trained on from what chooses and what is judged; such a line is a seen line everywhere.
"""

from __future__ import annotations

import hashlib
import json
import re
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from data_pipeline.errors import UserError
from data_pipeline.settings import Settings
from data_pipeline.store import ElementTable, Store

Zone = Literal["train", "valid", "test"]
ZONES: tuple[Zone, ...] = ("train", "valid", "test")
STRADDLES = 3
"""Zone code of pairs between two zones."""

_FEWEST_CHROMS = 5
_ENDLESS = int(np.iinfo(np.int64).max)
_REGION = re.compile(r"^(?P<chrom>[^:]+)(?::(?P<start>\d+)-(?P<end>\d+))?$")


class FoldSettings(Settings):
    """Which lines and chromosomes are left out of training."""

    test_line: str = ""
    """Cell line whose labels are used by the final report only."""
    valid_line: str = ""
    """Cell line for early stopping, thresholds and search; never trained on."""
    train_lines: list[str] = Field(default_factory=list)
    """Cell lines to train on; empty: all others."""
    within_line: bool = False
    """Whether the test and the validation line may be training lines (and one line), with stretches of genome between
    the three; `train_lines` empty is then all lines. The fold says nothing about a line that nobody measured."""
    test_regions: list[str] = Field(default_factory=list)
    """Held-out stretches, `chr1` or `chr1:0-5000000` (0-based, half-open); empty: chosen by `seed`."""
    valid_regions: list[str] = Field(default_factory=list)
    """Stretches held out for validation; empty: chosen by `seed`."""
    test_fraction: float = Field(0.2, ge=0, le=0.8)
    """Share of pairs to hold out for testing where no regions are named; 0: none."""
    valid_fraction: float = Field(0.15, ge=0, le=0.8)
    """Share of pairs to hold out for validation where no regions are named; 0: validate on the training zone."""
    block: int = Field(5_000_000, ge=10_000)
    """Length in bp of a held-out stretch in stores with fewer than 5 chromosomes."""
    seed: int = Field(0, ge=0)
    """Chooses the stretches."""


@dataclass(frozen=True)
class Fold:
    """A resolved fold over the pairs of one store."""

    test_line: str
    valid_line: str
    train_lines: tuple[str, ...]
    """In the store's order; `EpisodeBatch.line` counts along it."""
    regions: dict[Zone, tuple[str, ...]]
    """Held-out stretches by zone; `train` is everything else and empty here."""
    zone: NDArray[np.int8]
    """(N,) index into `ZONES` per pair, or `STRADDLES`."""
    identity: str
    """Digest of the lines and regions; equal for equal folds."""

    def rows(self, store: Store, line: str, zone: Zone | None = None) -> NDArray[np.int64]:
        """Row numbers (k,) of `line`'s pairs in `zone`, or in any zone."""
        mine = store.pairs.line == store.lines.index(line)
        if zone is not None:
            mine &= self.zone == ZONES.index(zone)
        return np.flatnonzero(mine)

    def quadrant(self, line: str, zone: Zone) -> str:
        """`seen_line/unseen_chrom` and its like: what training saw of `line`'s pairs in `zone`."""
        known, place = line in self.train_lines, "seen_chrom" if zone == "train" else "unseen_chrom"
        return f"{'seen' if known else 'unseen'}_line/{place}"

    @property
    def choosing_zone(self) -> Zone:
        """Zone of the validation line that thresholds, temperature and early stopping may look at."""
        return "valid" if self.regions["valid"] else "train"


def resolve_fold(store: Store, settings: FoldSettings) -> Fold:
    """Resolve `settings` on `store`; raises `UserError` for unknown or clashing lines and regions."""
    _check_lines(store, settings)
    left_out = () if settings.within_line else (settings.test_line, settings.valid_line)
    train = settings.train_lines or [line for line in store.lines if line not in left_out]
    train = [line for line in store.lines if line in train]
    if not train:
        raise UserError(f"no line is left to train on; the store has {', '.join(store.lines)}")
    stretches = _Stretches(store, settings.block)
    test = stretches.named(settings.test_regions) if settings.test_regions else None
    valid = stretches.named(settings.valid_regions) if settings.valid_regions else None
    if test is None:
        test = stretches.chosen(settings.test_fraction, settings.seed, avoid=valid)
    if valid is None:
        valid = stretches.chosen(settings.valid_fraction, settings.seed + 1, avoid=test)
    zone = stretches.zones(valid, test)
    regions: dict[Zone, tuple[str, ...]] = {
        "train": (),
        "valid": tuple(stretches.describe(valid)),
        "test": tuple(stretches.describe(test)),
    }
    if settings.within_line:
        _check_apart(settings, train, regions)
    content = json.dumps([settings.test_line, settings.valid_line, train, regions])
    identity = hashlib.sha256(content.encode()).hexdigest()[:16]
    return Fold(settings.test_line, settings.valid_line, tuple(train), regions, zone, identity)


def _check_lines(store: Store, settings: FoldSettings) -> None:
    for key in ("test_line", "valid_line"):
        if not getattr(settings, key):
            raise UserError(f"fold.{key} is not set; choose one of {', '.join(store.lines)}")
    for line in {settings.test_line, settings.valid_line, *settings.train_lines}:
        if line not in store.lines:
            raise UserError(f"store {store.path} has no cell line '{line}'; it has {', '.join(store.lines)}")
    if settings.within_line:
        return
    if settings.test_line == settings.valid_line:
        raise UserError(f"'{settings.test_line}' cannot be both the test and the validation line; choose another")
    for line in (settings.test_line, settings.valid_line):
        if line in settings.train_lines:
            raise UserError(f"'{line}' is left out by this fold and cannot also be in fold.train_lines")


def _check_apart(settings: FoldSettings, train: list[str], regions: dict[Zone, tuple[str, ...]]) -> None:
    """Raise `UserError` where a line would be trained on and judged, or asked to choose, on the same pairs."""
    asked: tuple[tuple[Zone, str], ...] = (("test", settings.test_line), ("valid", settings.valid_line))
    for zone, line in asked:
        if line in train and not regions[zone]:
            raise UserError(
                f"'{line}' is trained on and is the {zone} line too, but no stretch of genome is held out for it; set "
                f"fold.{zone}_regions or a larger fold.{zone}_fraction"
            )


class _Stretches:
    """Cuts of the genome: intervals (chrom code, start, end), each a candidate to hold out."""

    def __init__(self, store: Store, block: int) -> None:
        self._store = store
        names = store.manifest.chroms
        self._position = {
            kind: (table.chrom.astype(np.int64), self._middle(table))
            for kind, table in (("enhancer", store.enhancers), ("promoter", store.promoters))
        }
        used = np.unique(np.concatenate([chrom for chrom, _ in self._position.values()]))
        whole = len(used) >= _FEWEST_CHROMS
        self._units: list[tuple[int, int, int]] = []
        for code in used:
            last = max(int(mid[chrom == code].max(initial=0)) for chrom, mid in self._position.values()) + 1
            step = last if whole else block
            self._units += [(int(code), start, start + step) for start in range(0, last, step)]
        self._whole = whole
        self._names = names

    @staticmethod
    def _middle(table: ElementTable) -> NDArray[np.int64]:
        return (table.start.astype(np.int64) + table.end) // 2

    def named(self, regions: list[str]) -> list[tuple[int, int, int]]:
        """Intervals of user-given `regions`."""
        intervals = []
        for region in regions:
            match = _REGION.match(region)
            if match is None or match["chrom"] not in self._names:
                raise UserError(
                    f"region '{region}' is not on a chromosome of the store ({', '.join(self._names)}); "
                    "write chr1 or chr1:0-5000000"
                )
            unit = (self._names.index(match["chrom"]), int(match["start"] or 0), int(match["end"] or _ENDLESS))
            if unit[1] >= unit[2]:
                raise UserError(f"region '{region}' ends before it starts; write start-end in bp, as chr1:0-5000000")
            if not any(_hit(chrom, middle, unit).any() for chrom, middle in self._position.values()):
                raise UserError(f"region '{region}' holds no element of the store; choose a larger one or another")
            intervals.append(unit)
        return intervals

    def chosen(
        self, fraction: float, seed: int, avoid: list[tuple[int, int, int]] | None
    ) -> list[tuple[int, int, int]]:
        """Random units holding at least `fraction` of the pairs by promoter, outside `avoid`; none if they cannot."""
        chrom, middle = self._position["promoter"]
        promoter = self._store.pairs.promoter
        free = [unit for unit in self._units if not any(_overlap(unit, other) for other in avoid or [])]
        picked: list[tuple[int, int, int]] = []
        share = 0.0
        for index in np.random.default_rng([seed, len(self._units)]).permutation(len(free)):
            if share >= fraction or len(picked) + 1 >= len(free):
                break
            unit = free[index]
            weight = float(_hit(chrom, middle, unit)[promoter].mean())
            if 0 < weight <= max(1.5 * fraction, fraction - share + 0.05):
                picked.append(unit)
                share += weight
        return sorted(picked)

    def zones(self, valid: list[tuple[int, int, int]], test: list[tuple[int, int, int]]) -> NDArray[np.int8]:
        """(N,) zone code per pair."""
        code = {}
        for kind, (chrom, middle) in self._position.items():
            element = np.zeros(len(chrom), dtype=np.int8)
            element[_inside(chrom, middle, valid)] = ZONES.index("valid")
            overlap = _inside(chrom, middle, test)
            if (element[overlap] != 0).any():
                raise UserError("fold.test_regions and fold.valid_regions overlap; make them disjoint")
            element[overlap] = ZONES.index("test")
            code[kind] = element
        pairs = self._store.pairs
        enhancer, promoter = code["enhancer"][pairs.enhancer], code["promoter"][pairs.promoter]
        return np.where(enhancer == promoter, enhancer, np.int8(STRADDLES))

    def describe(self, intervals: list[tuple[int, int, int]]) -> list[str]:
        """Intervals in the form the user writes them."""
        whole = [self._whole or (end == _ENDLESS and start == 0) for _, start, end in intervals]
        return [
            self._names[code] if is_whole else f"{self._names[code]}:{start}-{end}"
            for (code, start, end), is_whole in zip(intervals, whole, strict=True)
        ]


def _overlap(one: tuple[int, int, int], other: tuple[int, int, int]) -> bool:
    return one[0] == other[0] and one[1] < other[2] and other[1] < one[2]


def _hit(chrom: NDArray[np.int64], middle: NDArray[np.int64], unit: tuple[int, int, int]) -> NDArray[np.bool_]:
    code, start, end = unit
    return (chrom == code) & (middle >= start) & (middle < end)


def _inside(
    chrom: NDArray[np.int64], middle: NDArray[np.int64], intervals: list[tuple[int, int, int]]
) -> NDArray[np.bool_]:
    inside = np.zeros(len(chrom), dtype=bool)
    for unit in intervals:
        inside |= _hit(chrom, middle, unit)
    return inside
