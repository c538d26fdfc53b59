"""Format `igvf`: IGVF's standard table of element-gene predictions, in the names its portal's file checks ask for.

Lines that begin with # say what made the table. All pairs, or with --threshold those that reach it. What is not known
is NA: the portal's `genic` and `intergenic` need gene bodies, which a store does not have, so ElementClass is
`promoter` or NA. Beside the standard columns stand the interval of the score and isSelfPromoter.
"""

from __future__ import annotations

from contextlib import ExitStack
from importlib.metadata import version

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from distributed.formats.output_format import Format
from distributed.formats.subject import Batch
from distributed.formats.table_file import TableFile

STANDARD = (
    *("ElementChr", "ElementStart", "ElementEnd", "ElementName", "ElementClass"),
    *("GeneSymbol", "GeneEnsemblID", "GeneTSS", "SampleSummaryShort", "Score"),
)
SCHEMA = pa.schema([(name, pa.string()) for name in (*STANDARD, "ScoreLower", "ScoreUpper", "isSelfPromoter")])
"""All text, because Arrow writes a missing number as an empty field and the format wants NA."""


class IgvfFormat(Format):
    """Pairs with lines above that describe them."""

    genes = True

    def start(self, opened: ExitStack) -> None:
        """Open the table and describe it."""
        store = self.subject.store
        lines = sorted({store.lines[code] for code in np.unique(store.pairs.line[self.subject.rows])})
        said = {
            "Source": "prism-epi",
            "Version": version("prism-epi"),
            "Model": self.subject.model,
            **({"GenomeReference": store.manifest.build} if store.manifest.build else {}),
            "SampleAgnostic": "False",
            "SampleTermName": ", ".join(lines),
            "SampleSummaryShort": ", ".join(lines),
            "ScoreType": "positive_score",
            **({"ScoreThreshold": f"{self.threshold:.6g}"} if self.subject.asked else {}),
        }
        above = "".join(f"# {key}: {value}\n" for key, value in said.items())
        self._table = opened.enter_context(TableFile(self.file, SCHEMA, above=above))

    def write(self, batch: Batch) -> None:
        """The rows, or those that reach a threshold the user named."""
        kept = batch.kept() if self.subject.asked else batch
        catalogue, pairs = self.subject.catalogue, self.subject.store.pairs
        promoter = pairs.promoter[kept.rows]
        own = catalogue.overlaps_own_promoter(self.subject.store, kept.rows)
        columns = {
            "ElementChr": kept["enhancer_chrom"],
            "ElementStart": kept["enhancer_start"],
            "ElementEnd": kept["enhancer_end"],
            "ElementName": kept["enhancer"],
            "ElementClass": pa.array(np.where(catalogue.is_promoter[pairs.enhancer[kept.rows]], "promoter", "NA")),
            "GeneSymbol": catalogue.targets.take(pa.array(promoter)),
            "GeneEnsemblID": kept["gene_id"],
            "GeneTSS": pa.array(catalogue.tss[promoter]),
            "SampleSummaryShort": kept["line"],
            "Score": kept["probability"],
            "ScoreLower": kept["probability_lower"],
            "ScoreUpper": kept["probability_upper"],
            "isSelfPromoter": pa.array(np.where(own, "True", "False")),
        }
        told = {name: pc.fill_null(pc.cast(values, pa.string()), "NA") for name, values in columns.items()}
        self._table.write(pa.table(told, schema=SCHEMA))
