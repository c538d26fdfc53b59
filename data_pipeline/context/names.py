"""Names that settings need before anything is computed."""

MARKS = ("CTCF", "DNase", "H3K27ac", "H3K27me3", "H3K36me3", "H3K4me1", "H3K4me3", "H3K9me3")
"""Assays that context is made of; a landscape has them all, with 0 where one was not measured."""
GROUP_NAMES = ("barriers", "order", "promoter", "flanks", "activity")
"""Groups of context columns, in the order in which a store keeps them."""
NEED_GENES = ("order", "promoter", "activity")
"""Groups that need an annotation of genes."""
