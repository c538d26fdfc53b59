"""Chromosome names, regions, and sequence windows cut from FASTA files.

A genome is read one chromosome at a time: memory is about three times the longest chromosome. FASTA files may be plain,
gzip or bgzip; pyfastx indexes them in a temporary folder, because the folder they lie in may be read-only.
"""

from __future__ import annotations

import codecs
import re
import tempfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from types import TracebackType

import numpy as np
import pandas as pd
import pyfastx
from numpy.typing import NDArray

from data_pipeline.dna import first_bad_letter, pack
from data_pipeline.errors import UserError
from data_pipeline.sources.input_files import open_bytes
from data_pipeline.sources.settings import REGION

UNPLACED = "."
"""Chromosome of an element whose source gives no coordinates."""
SIZED_NAMES = {"X", "Y", "M", "W", "Z"}


class ChromNames:
    """One name per chromosome: aliases first, then `20` -> `chr20`, `MT` -> `chrM`."""

    def __init__(self, aliases: dict[str, str]) -> None:
        """Remember the user's `aliases`."""
        self._known = dict(aliases)

    def canonical(self, name: str) -> str:
        """The name the store uses; an empty name stays empty."""
        if name not in self._known:
            bare = name.removeprefix("chr")
            bare = "M" if bare == "MT" else bare
            self._known[name] = f"chr{bare}" if bare.isdigit() or bare in SIZED_NAMES else name
        return self._known[name]

    def canonical_column(self, names: pd.Series) -> pd.Series:
        """`canonical` of every row."""
        # An empty column mapped would be one of numbers.
        return names.map({name: self.canonical(name) for name in names.unique()}) if len(names) else names


class Regions:
    """The part of the genome a store is about."""

    def __init__(self, regions: Sequence[str], names: ChromNames) -> None:
        """Parse `chr20` or `chrX:1-70000000` (counted from 1, end included)."""
        self._spans: list[tuple[str, int, float]] = []
        for region in regions:
            match = REGION.match(region)
            if match is None:
                raise UserError(f"region '{region}' is neither a chromosome nor chrom:start-end")
            start, end = match["start"], match["end"]
            span = (int(start) - 1, float(end)) if start else (0, float("inf"))
            self._spans.append((names.canonical(match["chrom"]), *span))

    @property
    def chroms(self) -> list[str]:
        """Chromosomes of the regions."""
        return [chrom for chrom, _, _ in self._spans]

    def contain(self, chrom: pd.Series, start: pd.Series, end: pd.Series) -> NDArray[np.bool_]:
        """(k,) bool: the interval lies wholly inside one region, or there are no regions."""
        inside = np.zeros(len(chrom), dtype=bool)
        for name, low, high in self._spans:
            inside |= ((chrom == name) & (start >= low) & (end <= high)).to_numpy()
        return inside if self._spans else ~inside


class Genome:
    """FASTA files as one genome; use as a context manager."""

    def __init__(self, files: Sequence[Path], names: ChromNames, advance: Callable[[int], None] | None = None) -> None:
        """Index `files`; raises `UserError` for a missing, damaged or empty file.

        A chromosome given twice (UCSC's hg19 has chrM and chrMT) is a mistake only once it is asked for.
        """
        self.files = list(files)
        self._folder = tempfile.TemporaryDirectory(prefix="prism-epi-fasta-")
        self._records: dict[str, tuple[pyfastx.Fasta, str]] = {}
        self._twice: dict[str, str] = {}
        self.lengths: dict[str, int] = {}
        try:
            for index, file in enumerate(files):
                self._add(file, Path(self._folder.name) / f"{index}.fxi", names, advance)
        except BaseException:
            self._folder.cleanup()
            raise

    def _add(self, file: Path, index: Path, names: ChromNames, advance: Callable[[int], None] | None) -> None:
        fasta = open_fasta(file, index, advance)
        for record in fasta:
            if not record.name:
                raise UserError(
                    f"{file} has a record without a name; its header must be like '>chr1', without a blank after '>'"
                )
            chrom = names.canonical(record.name)
            if chrom in self._records:
                other = self._records[chrom][1]
                self._twice[chrom] = f"{file} holds chromosome {chrom} a second time ('{record.name}', '{other}')"
                continue
            self._records[chrom] = (fasta, record.name)
            self.lengths[chrom] = len(record)

    def require(self, chroms: Sequence[str]) -> None:
        """Raise `UserError` if a chromosome is not in the files."""
        self.require_once(chroms)
        for chrom in chroms:
            if chrom not in self.lengths:
                raise UserError(
                    f"{', '.join(map(str, self.files))} has no chromosome {chrom}, which `regions` asks for; it has "
                    f"{', '.join(self.lengths)} (add chrom_aliases if the names differ)"
                )

    def require_once(self, chroms: Iterable[str]) -> None:
        """Raise `UserError` if one of `chroms` stands in the files twice."""
        for chrom in chroms:
            if chrom in self._twice:
                raise UserError(
                    f"{self._twice[chrom]} and a pair or region asks for it; give each chromosome once, "
                    "or keep the two apart with chrom_aliases, for example {chrMT: chrMT}"
                )

    def cut(
        self, chrom: NDArray[np.object_], anchor: NDArray[np.int64], length: int
    ) -> tuple[NDArray[np.uint8], NDArray[np.bool_], int]:
        """Windows of `length` bases centred on `anchor` (0-based; bases anchor - length/2 up to anchor + length/2 - 1).

        Returns (k, length/2) uint8 packed windows, (k,) bool rows with a letter that is no IUPAC base (their windows
        are all N), and how many windows reach over the chromosome's edge, where N fills them.
        """
        packed = np.full((len(anchor), length // 2), 0xFF, dtype=np.uint8)
        bad = np.zeros(len(anchor), dtype=bool)
        padded = 0
        for name in pd.unique(chrom):
            fasta, record = self._records[name]
            sequence = fasta[record].seq
            for row in np.flatnonzero(chrom == name):
                start = int(anchor[row]) - length // 2
                inside = sequence[max(start, 0) : max(start + length, 0)]
                left = min(max(-start, 0), length)
                padded += len(inside) < length
                if first_bad_letter(inside):
                    bad[row] = True
                else:
                    packed[row] = pack("N" * left + inside + "N" * (length - left - len(inside)), length)
        return packed, bad, padded

    def __enter__(self) -> Genome:
        """Return the genome."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Remove the index."""
        self._records.clear()
        self._folder.cleanup()


def open_fasta(file: Path, index: Path, advance: Callable[[int], None] | None = None) -> pyfastx.Fasta:
    """A pyfastx FASTA whose index is the file `index`; raises `UserError` for a missing, damaged or foreign file."""
    # pyfastx takes a truncated gzip file for a shorter sequence, so the file is read to its end here first.
    with open_bytes(file, advance) as stream:
        if stream.read(1) != b">":
            raise UserError(f"{file} is not FASTA: it does not begin with '>'")
        text, before = codecs.getincrementaldecoder("utf-8")(), b""
        try:
            while block := stream.read(1 << 20):
                text.decode(block)
                before = _past_line_ends(file, before + block)
            _past_line_ends(file, before, final=True)
            text.decode(b"", final=True)
        except UnicodeDecodeError as error:
            raise UserError(f"{file} is damaged: it holds bytes that are no text ({error.reason})") from error
    try:
        return pyfastx.Fasta(str(file), index_file=str(index))
    except (RuntimeError, OSError) as error:
        raise UserError(f"{file} cannot be read as FASTA: {error}") from error


def _past_line_ends(file: Path, block: bytes, final: bool = False) -> bytes:
    """The carriage return at the end of `block`, which what follows judges; raises `UserError` for a lone one.

    pyfastx takes it for a letter, and the line that follows for a part of the same one.
    """
    if re.search(rb"\r[^\n]", block) or (final and block.endswith(b"\r")):
        raise UserError(
            f"{file} has a line that ends in a carriage return alone, or is damaged: save it with the line ends of "
            "Unix (LF) or Windows (CRLF)"
        )
    return b"\r" if block.endswith(b"\r") else b""


def fasta_records(file: Path) -> Iterator[tuple[str, str]]:
    """Yield (name, sequence) of a FASTA file; the name ends at the first blank."""
    with tempfile.TemporaryDirectory(prefix="prism-epi-fasta-") as folder:
        for record in open_fasta(file, Path(folder) / "records.fxi"):
            yield record.name, record.seq
