"""Elements without pairs: BED, narrowPeak, or a table whose header begins as BED does (ABC's `EnhancerList.txt`).

Only the first three columns are read: an element is its coordinates, and its name is `chrom:start-end`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pandas as pd

from data_pipeline.errors import UserError, listed
from data_pipeline.sources.annotation import Genes
from data_pipeline.sources.lift_over import LiftOver
from data_pipeline.sources.numbers_as_text import whole_numbers
from data_pipeline.sources.pair_rows import PLACE, Rules
from data_pipeline.sources.quarantine import Quarantine
from data_pipeline.sources.text_tables import BROWSER, HEADED_BED, Chunk, Tally, header_names, read_chunks

BED_HEADER = ("chr", "chrom", "start", "end", "chromstart", "chromend")


def read_elements(
    path: Path,
    file: int,
    tally: Tally,
    rules: Rules,
    quarantine: Quarantine,
    lift: LiftOver | None = None,
    advance: Callable[[int], None] | None = None,
) -> Iterator[pd.DataFrame]:
    """Yield the good elements of the registered `file` in chunks: chrom, start, end (bp), name, row (physical line).

    Bad rows are quarantined; elements outside the regions are among those that are yielded. Raises `UserError` where
    the file is no BED.
    """
    headed = bool(header_names(path, BED_HEADER))
    dialect = HEADED_BED if headed else BROWSER
    least = None if headed else len(PLACE)
    first = True
    for chunk in read_chunks(path, dialect, header=headed, tally=tally, least=least, advance=advance):
        if first and chunk.cells.empty:
            raise UserError(f"{path} is not BED: no row has the three columns chromosome, start and end")
        first = False
        yield _judged(chunk, file, rules, quarantine, lift)


def _judged(chunk: Chunk, file: int, rules: Rules, quarantine: Quarantine, lift: LiftOver | None) -> pd.DataFrame:
    for reason, lines in chunk.rejected.items():
        quarantine.reject(file, reason, lines)
    chrom, start, end = (chunk.cells.iloc[:, at] for at in range(3))
    table = pd.DataFrame({"chrom": rules.chroms.canonical_column(chrom), "row": chunk.line_number})
    table = table.assign(start=whole_numbers(start), end=whole_numbers(end))

    def without(reason: str, bad: pd.Series) -> pd.DataFrame:
        quarantine.reject(file, reason, table["row"].to_numpy(np.int64)[bad.to_numpy()])
        return table[~bad]

    table = without("missing_field", (chrom == "") | (start == "") | (end == ""))
    table = without("bad_coordinates", ~(table["start"] < table["end"])).astype({"start": np.int64, "end": np.int64})
    if lift:
        table, lost = lift.elements(table)
        table = without("not_lifted", pd.Series(lost, index=table.index))
    if rules.genome:
        has = rules.genome.lengths
        rules.genome.require_once(set(table["chrom"]))
        absent = ~table["chrom"].isin(has.keys())
        if absent.any():
            first = table["chrom"].to_numpy()[absent][0]
            quarantine.hint(file, "missing_chromosome", f"the row says {first!r}, the genome has {listed(list(has))}")
        table = without("missing_chromosome", absent)
        table = without("outside_genome", table["end"] > table["chrom"].map(has).astype(np.float64))
    name = table["chrom"] + ":" + table["start"].astype(str) + "-" + table["end"].astype(str)
    return table.assign(name=name).reset_index(drop=True)


def require_common_chromosome(path: Path, chroms: set[str], genes: Genes, annotation: Path) -> None:
    """Raise `UserError` where no chromosome of a file of elements has a gene: then the two name them differently."""
    if chroms and not chroms & set(genes.chroms):
        raise UserError(
            f"{path} has no element on a chromosome of {annotation}: it has {listed(sorted(chroms))}, the genes are on "
            f"{listed(genes.chroms)}; add chrom_aliases if the names differ"
        )
