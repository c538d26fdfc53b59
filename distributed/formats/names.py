"""What a prediction's files are called: the formats, the endings of their names, and the words for a threshold.

Free of libraries, because distributed/predict.py checks these words before it imports any.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

from data_pipeline.errors import UserError

OutputFormat = Literal["parquet", "tsv", "abc", "bedpe", "interact", "igvf", "per_gene", "per_enhancer", "page"]
OUTPUT_FORMATS: tuple[OutputFormat, ...] = get_args(OutputFormat)
TABLES = (".tsv", ".tsv.gz")
ENDINGS: dict[OutputFormat, tuple[str, ...]] = {
    "parquet": (".parquet",),
    "tsv": TABLES,
    "abc": TABLES,
    "bedpe": (".bedpe", ".bedpe.gz"),
    "interact": (".bed", ".interact"),
    "igvf": TABLES,
    "per_gene": TABLES,
    "per_enhancer": TABLES,
    "page": (".html",),
}
"""What a file of each format may end in."""
ADDED: dict[OutputFormat, str] = {
    "parquet": ".parquet",
    "tsv": ".tsv",
    "abc": ".abc.tsv.gz",
    "bedpe": ".bedpe.gz",
    "interact": ".interact",
    "igvf": ".igvf.tsv.gz",
    "per_gene": ".per_gene.tsv",
    "per_enhancer": ".per_enhancer.tsv",
    "page": ".html",
}
"""What each format adds to --out where several are asked for."""
BY_SUFFIX: dict[str, OutputFormat] = {".parquet": "parquet", ".tsv": "tsv", ".tsv.gz": "tsv", ".bedpe": "bedpe",
                                      ".bedpe.gz": "bedpe", ".html": "page"}  # fmt: skip
"""What is meant where no format is named."""
NAMED_THRESHOLDS = ("recall70", "mcc")


@dataclass(frozen=True)
class Outputs:
    """The files a prediction writes."""

    out: Path
    """As given: the file of a single format, else what all names begin with; the record is `out` with .json added."""
    files: dict[OutputFormat, Path]
    """File of each format."""
    overwrite: bool = False
    """Whether files that exist may be replaced."""
    loci: Sequence[str] = ()
    """Genes whose loci are drawn, as the user calls them."""

    @classmethod
    def of(cls, out: Path, named: Sequence[str] = (), overwrite: bool = False, loci: Sequence[str] = ()) -> Outputs:
        """The files of the formats `named` (none: as `out` ends); raises `UserError` where they cannot be written."""
        formats = [_known(name) for name in dict.fromkeys(named)]
        if len(formats) > 1:
            known = {ending for endings in ENDINGS.values() for ending in endings}
            if ending := _ending(out, known):
                raise UserError(
                    f"with several formats --out is what their names begin with, and {out} ends in {ending}; "
                    f"give --out {str(out).removesuffix(ending)}"
                )
            files = {own: out.with_name(out.name + ADDED[own]) for own in formats}
        else:
            files = {formats[0] if formats else _told_by(out): out}
            for own in files:
                if not _ending(out, ENDINGS[own]):
                    raise UserError(f"{out} must end in {' or '.join(ENDINGS[own])}, as format {own} is written")
        outputs = cls(out, files, overwrite, tuple(dict.fromkeys(loci)))
        for file in files.values():
            outputs.require_free(file)
        return outputs

    @property
    def stem(self) -> Path:
        """What the names of pictures begin with."""
        return self.out if len(self.files) > 1 else self.out.with_name(without_ending(self.out)[0])

    def require_free(self, file: Path) -> None:
        """Raise `UserError` where `file` is there and may not be replaced."""
        if file.is_dir() or (file.exists() and not self.overwrite):
            raise UserError(f"{file} exists already; give another --out, or --overwrite to replace it")


def without_ending(file: Path) -> tuple[str, str]:
    """The name of `file` in two: what is in front of the ending of its format, and the ending."""
    ending = _ending(file, {ending for endings in ENDINGS.values() for ending in endings}) or file.suffix
    return file.name.removesuffix(ending), ending


def require_threshold(asked: str) -> str | float | None:
    """A word of `NAMED_THRESHOLDS`, a probability, or None for ''; raises `UserError` for anything else."""
    if asked in NAMED_THRESHOLDS:
        return asked
    if not asked:
        return None
    try:
        value = float(asked)
    except ValueError:
        value = math.nan
    if not 0.0 <= value <= 1.0:
        raise UserError(
            f"threshold '{asked}' is neither {' nor '.join(NAMED_THRESHOLDS)} nor a probability between 0 and 1; "
            "check --threshold"
        )
    return value


def _known(name: str) -> OutputFormat:
    for own in OUTPUT_FORMATS:
        if own == name:
            return own
    raise UserError(f"there is no format '{name}' to write; --format may be {', '.join(OUTPUT_FORMATS)}")


def _told_by(out: Path) -> OutputFormat:
    ending = _ending(out, BY_SUFFIX)
    if not ending:
        raise UserError(
            f"{out} must end in .parquet, .html, .tsv or .bedpe (the last two also with .gz), which says how it is "
            "written, or its --format be given"
        )
    return BY_SUFFIX[ending]


def _ending(file: Path, known: Sequence[str] | set[str] | dict[str, OutputFormat]) -> str:
    return max((ending for ending in known if file.name.endswith(ending)), key=len, default="")
