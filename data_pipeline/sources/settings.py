"""The settings that describe a store: which files hold pairs, sequences and signals, and how to read them.

One YAML file is one `StoreSettings` (docs/data.md shows every key in use). File names in it are relative to a root that
the command line or the `root` key gives, so the description itself never names a machine.
"""

from __future__ import annotations

import re
from typing import Annotated, Literal, Self

from pydantic import Field, field_validator, model_validator

from data_pipeline.context import NEED_GENES
from data_pipeline.settings import PathText, Settings
from data_pipeline.sources.context_settings import PLACEHOLDER, ContextSettings
from data_pipeline.sources.crispr_source import CrisprTable
from data_pipeline.sources.field_formats import (
    AbcTable,
    CandidateTable,
    EncodeRe2gTable,
    GeneSource,
    LoopTable,
    Sce2gTable,
)
from data_pipeline.sources.gene_settings import GeneSettings
from data_pipeline.sources.pair_source import Column, PairSource
from data_pipeline.store import KINDS, Kind, same_build

REGION = re.compile(r"^(?P<chrom>[^:]+)(?::(?P<start>\d+)-(?P<end>\d+))?$")


class PairColumns(Settings):
    """Where a table of coordinates keeps what a pair needs; by default the column names TargetFinder uses."""

    enhancer_chrom: Column = "enhancer_chrom"
    """Chromosome of the enhancer."""
    enhancer_start: Column = "enhancer_start"
    """First base of the enhancer, 0-based."""
    enhancer_end: Column = "enhancer_end"
    """One past the last base of the enhancer."""
    promoter_chrom: Column = "promoter_chrom"
    """Chromosome of the promoter."""
    promoter_start: Column | None = "promoter_start"
    """First base of the promoter, 0-based; where absent or empty, the promoter is its window around `tss`."""
    promoter_end: Column | None = "promoter_end"
    """One past the last base of the promoter; where absent or empty, as for `promoter_start`."""
    label: Column | None = "label"
    """1 or 0; not read where the source says `labels: false`."""
    line: Column | None = None
    """Cell line of the row; not needed where the source gives `line`."""
    enhancer_name: Column | None = None
    """Name of the enhancer; `chrom:start-end` where absent."""
    promoter_name: Column | None = None
    """Name of the promoter or its gene, which tells promoters of one interval apart; `chrom:start-end` where absent."""
    tss: Column | None = None
    """0-based position of the transcription start site; the promoter's centre where absent. Tells promoters apart."""
    strand: Column | None = None
    """Strand of the promoter: +, - or a dot."""
    gene: Column | None = None
    """Gene symbol of the promoter; with `genes`, a row may give the gene in place of coordinates of its promoter."""
    gene_id: Column | None = None
    """Ensembl identifier of the gene, with or without version."""


class BedpeColumns(PairColumns):
    """BEDPE by number: enhancer first, promoter second; swap the numbers if yours differ."""

    enhancer_chrom: Column = 1
    """Chromosome of the enhancer."""
    enhancer_start: Column = 2
    """First base of the enhancer, 0-based."""
    enhancer_end: Column = 3
    """One past the last base of the enhancer."""
    promoter_chrom: Column = 4
    """Chromosome of the promoter."""
    promoter_start: Column | None = 5
    """First base of the promoter, 0-based; where it equals the end, it is a TSS."""
    promoter_end: Column | None = 6
    """One past the last base of the promoter."""
    label: Column | None = 11
    """1 or 0: the first column after the ten that BEDPE defines."""


class NameColumns(Settings):
    """Where a table of named pairs keeps its columns; by default the seeds' names."""

    enhancer_name: Column = "enhancer_name"
    """Name of the enhancer, a row of the enhancer sequence table."""
    promoter_name: Column = "promoter_name"
    """Name of the promoter, a row of the promoter sequence table."""
    label: Column | None = "label"
    """1 or 0; not read where the source says `labels: false`."""
    line: Column | None = "cell_line"
    """Cell line of the row; not needed where the source gives `line`."""


class BengiTable(PairSource):
    """BENGI benchmark table: ten tab-separated columns, no header; the promoter's name carries TSS, line and strand."""

    format: Literal["bengi"]
    """Chooses this kind of source."""


class TargetFinderTable(PairSource):
    """TargetFinder `ep.csv`: comma-separated with a header; names are `LINE|chrom:start-end`."""

    format: Literal["targetfinder"]
    """Chooses this kind of source."""


class BedpeTable(PairSource):
    """BEDPE: tab-separated, no header, lines that start with # are comments."""

    format: Literal["bedpe"]
    """Chooses this kind of source."""
    columns: BedpeColumns = BedpeColumns()
    """Column numbers."""


class CsvTable(PairSource):
    """Any delimited table of coordinates with a header row."""

    format: Literal["csv"]
    """Chooses this kind of source."""
    separator: Literal["comma", "tab", "semicolon"] = "comma"
    """What separates the fields."""
    columns: PairColumns = PairColumns()
    """Column names or numbers."""


class SequenceTables(PairSource):
    """Pairs by element name, with one table of sequences per kind: CSV (with a header) or FASTA, plain or gzip."""

    format: Literal["sequences"]
    """Chooses this kind of source."""
    enhancer_sequences: PathText
    """CSV or FASTA of enhancer sequences, relative to the root."""
    promoter_sequences: PathText
    """CSV or FASTA of promoter sequences, relative to the root."""
    columns: NameColumns = NameColumns()
    """Columns of the table of pairs."""
    name_column: Column = "region"
    """Column of a CSV sequence table that holds the element's name."""
    sequence_column: Column = "sequence"
    """Column of a CSV sequence table that holds the letters."""


AnyPairSource = Annotated[
    (BengiTable | TargetFinderTable | BedpeTable | CsvTable | SequenceTables | CrisprTable)
    | (AbcTable | EncodeRe2gTable | Sce2gTable | CandidateTable | LoopTable),
    Field(discriminator="format"),
]


class PeakSettings(Settings):
    """Peak files (BED, plain or gzip), one per line and mark, summarised to one number per (line, element)."""

    pattern: PathText
    """File name with `{line}` and `{mark}`, relative to the root; the line as in `lines`."""
    marks: list[str] = Field(min_length=1)
    """Marks to read; each becomes a signal track of enhancers and of promoters."""
    aggregate: Literal["max", "sum", "mean"] = "max"
    """How the peaks that overlap an element are summarised."""
    scale: Literal["raw", "log1p", "rank"] = "log1p"
    """`rank`: the share of the file's peaks that are no stronger, comparable between laboratories."""
    flank: int = Field(default=0, ge=0, le=1_000_000)
    """Bases added on both sides of the element before peaks are looked up."""
    value_column: int = Field(default=7, ge=4)
    """Column number (from 1) of the strength; 7 is signalValue of narrowPeak."""
    max_bad_fraction: float = Field(default=0.02, ge=0, le=1)
    """Share of a file's rows that may be quarantined before the ingest stops."""

    @field_validator("pattern")
    @classmethod
    def _names_line_and_mark(cls, pattern: str) -> str:
        if "{line}" not in pattern or "{mark}" not in pattern:
            raise ValueError("must contain {line} and {mark}")
        if set("{}") & set(PLACEHOLDER.sub("", pattern)):
            raise ValueError("may have no braces but those of {line} and {mark}")
        return pattern

    def file(self, line: str, mark: str) -> str:
        """The name of a line's file of a mark, relative to the root."""
        return PLACEHOLDER.sub(lambda found: {"{line}": line, "{mark}": mark}[found[0]], self.pattern)


class SignalTable(Settings):
    """Numbers per pair, comma-separated with a header, joined by the names of the pair's elements and the line."""

    file: PathText
    """Table, plain or gzip, relative to the root."""
    enhancer_column: str = "enh_name"
    """Column of the enhancer's name as the table of pairs has it."""
    promoter_column: str = "prom_name"
    """Column of the promoter's name."""
    line_column: str = "celltype"
    """Column of the cell line."""
    ignore: list[str] = Field(default=["label", "chrom", "enhancer_distance_to_promoter"])
    """Columns that are no signals; every other column must hold numbers."""
    max_bad_fraction: float = Field(default=0.02, ge=0, le=1)
    """Share of the rows that may be quarantined before the ingest stops."""


class StoreSettings(Settings):
    """What is in a store and where it comes from."""

    lines: list[str] = Field(min_length=1)
    """Cell lines of the store, in order; rows of other lines are quarantined."""
    pairs: list[AnyPairSource] = Field(min_length=1)
    """Sources of pairs; where the same pair stands in several, the first wins."""
    windows: dict[Kind, int] = Field(default={"enhancer": 2000, "promoter": 2000})
    """Bases stored around an enhancer's centre and a promoter's TSS; even, both 0 for a store without sequences."""
    root: PathText = "."
    """Folder that file names are relative to, itself relative to the current folder; `--root` overrides it."""
    line_aliases: dict[str, str] = Field(default={})
    """Other names of lines in the files, for example {HeLa: HeLa-S3}."""
    line_features: dict[str, list[float]] = Field(default={})
    """A feature vector v_c per line: all lines or none, equally long."""
    chrom_aliases: dict[str, str] = Field(default={})
    """Other names of chromosomes in any file; `20` = `chr20` and `MT` = `chrM` need none."""
    regions: list[str] = Field(default=[])
    """Only pairs with both elements inside these are read: `chr20`, `chrX:1-70000000` (from 1); empty: all pairs."""
    genome: list[PathText] = Field(default=[])
    """FASTA files of the genome (plain, gzip or bgzip), relative to the root."""
    build: str = ""
    """Genome build of all coordinates (hg19, GRCh38, ...), recorded in the store; empty: not told."""
    genes: GeneSettings | None = None
    """Gene annotation."""
    peaks: PeakSettings | None = None
    """Peak files for signals of elements."""
    signals: list[SignalTable] = Field(default=[])
    """Tables of signals of pairs; all must have the same signal columns."""
    context: ContextSettings | None = None
    """Columns on what surrounds each pair; none where absent."""

    @field_validator("windows")
    @classmethod
    def _even_windows(cls, windows: dict[Kind, int]) -> dict[Kind, int]:
        for kind in KINDS:
            if not 0 <= windows.get(kind, -1) <= 1_000_000 or windows[kind] % 2:
                raise ValueError(f"{kind} must be an even number of bases from 0 to 1000000")
        return windows

    @field_validator("regions")
    @classmethod
    def _well_formed_regions(cls, regions: list[str]) -> list[str]:
        for region in regions:
            if not REGION.match(region):
                raise ValueError(f"'{region}' is neither a chromosome nor chrom:start-end")
        return regions

    @model_validator(mode="after")
    def _every_row_has_line_and_label(self) -> Self:
        for source in self.pairs:
            columns = getattr(source, "columns", None)
            if columns and source.line is None and columns.line is None:
                raise ValueError(f"{source.file}: give the file's `line`, or `columns.line` where the rows name it")
            if columns and source.labels and columns.label is None:
                raise ValueError(f"{source.file}: give `columns.label`, or `labels: false` for a table without labels")
            if (
                isinstance(columns, PairColumns)
                and columns.tss is None
                and not (self.genes and (columns.gene or columns.gene_id))
                and None in (columns.promoter_start, columns.promoter_end)
            ):
                raise ValueError(f"{source.file}: give `columns.tss` where the table has no promoter interval")
        return self

    @model_validator(mode="after")
    def _genes_and_builds_are_known(self) -> Self:
        for source in self.pairs:
            if isinstance(source, GeneSource) and self.genes is None:
                raise ValueError(f"{source.file}: give `genes`, an annotation, to pair {source.format} with genes")
            if source.lift and not same_build(source.lift.to, self.genome_build):
                raise ValueError(
                    f"{source.file} is lifted to {source.lift.to} and the store is of {self.genome_build}: give a "
                    "chain to the build of the store"
                )
        return self

    @model_validator(mode="after")
    def _context_has_what_it_needs(self) -> Self:
        if self.context is None:
            return self
        if self.context.landscape == "pairs" and not self.signals:
            raise ValueError("context.landscape=pairs needs `signals`; give them, or landscape: peaks or tracks")
        if self.context.landscape == "peaks" and self.peaks is None:
            raise ValueError("context.landscape=peaks needs `peaks`; give them, or landscape: pairs or tracks")
        if self.genes is None and (wanting := [g for g in self.context.groups if g in NEED_GENES]):
            raise ValueError(f"context group '{wanting[0]}' needs `genes`, an annotation; give it or name other groups")
        return self

    @property
    def genome_build(self) -> str:
        """The build of all coordinates: as told, or what pairs are lifted to; empty: not told."""
        return self.build or next((source.lift.to for source in self.pairs if source.lift), "")

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if len(set(self.lines)) != len(self.lines):
            raise ValueError("lines must be distinct")
        for alias, line in self.line_aliases.items():
            if line not in self.lines:
                raise ValueError(f"line_aliases maps '{alias}' to '{line}', which is not in lines")
        if self.line_features and {len(v) for v in map(self.line_features.get, self.lines) if v} - {
            len(self.line_features.get(self.lines[0], []))
        }:
            raise ValueError("line_features must be equally long for all lines")
        if self.line_features and set(self.line_features) != set(self.lines):
            raise ValueError("line_features must be given for all lines or for none")
        by_coordinates = [source.file for source in self.pairs if not isinstance(source, SequenceTables)]
        if any(self.windows.values()) and by_coordinates and not self.genome:
            raise ValueError(
                f"windows ask for sequence and {by_coordinates[0]} has only coordinates: give genome, "
                "or set both windows to 0"
            )
        return self
