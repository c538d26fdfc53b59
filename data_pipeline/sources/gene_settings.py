"""The description of a gene annotation: its file, and where that keeps what is wanted."""

from __future__ import annotations

from typing import Self

from pydantic import Field, model_validator

from data_pipeline.settings import PathText, Settings
from data_pipeline.sources.pair_source import Column


class GeneColumns(Settings):
    """Where a gene annotation in BED keeps what is wanted; without it, the header's names or BED's places say so."""

    chrom: Column
    """Chromosome."""
    start: Column
    """First base of the gene, or of the window around its TSS, 0-based."""
    end: Column
    """One past the last base."""
    tss: Column | None = None
    """0-based transcription start site; where absent, the interval tells it."""
    strand: Column | None = None
    """+, - or a dot."""
    symbol: Column | None = None
    """Gene symbol."""
    gene_id: Column | None = None
    """Ensembl identifier, with or without version."""
    kind: Column | None = None
    """Gene type, such as protein_coding."""

    @model_validator(mode="after")
    def _a_gene_has_a_name(self) -> Self:
        if self.symbol is None and self.gene_id is None:
            raise ValueError("give genes.columns.symbol or genes.columns.gene_id, so that genes have names")
        return self


class GeneSettings(Settings):
    """The genes of the genome: where they start and what they are called."""

    file: PathText
    """BED of genes or of windows around their TSS, GTF or GFF3, plain or gzip, relative to the root."""
    columns: GeneColumns | None = None
    """Columns of a BED that neither has a header which names them nor is BED6."""
    max_bad_fraction: float = Field(default=0.02, ge=0, le=1)
    """Share of the rows that may be quarantined before the ingest stops."""
