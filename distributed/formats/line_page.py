"""Format `page`, one HTML file about the prediction, and pictures of the loci of genes the user names (SVG and PNG)."""

from __future__ import annotations

import re
from contextlib import ExitStack
from pathlib import Path

from distributed.formats.line_counts import CountedLines
from distributed.formats.locus_finder import LocusFinder
from distributed.formats.output_format import Format
from distributed.formats.subject import Batch, Subject
from distributed.formats.whole_file import WholeFile


class PageFormat(Format):
    """The page."""

    placed = False

    def __init__(self, file: Path, subject: Subject) -> None:
        """Loci are found at once, so that an unknown gene is named before pairs are scored."""
        super().__init__(file, subject)
        self._loci = [LocusFinder(subject, gene) for gene in subject.background.loci]

    def start(self, opened: ExitStack) -> None:
        """Nothing is written until all is counted."""
        self._whole = opened.enter_context(WholeFile(self.file))
        self._counted = CountedLines(self.subject, self.file, opened)

    def write(self, batch: Batch) -> None:
        """Count the rows."""
        self._counted.add(batch)
        for own in self._loci:
            own.add(batch)

    def finish(self) -> None:
        """Make the page."""
        from evaluation.line_page import Facts, line_page, locus_figure
        from evaluation.page import page_html

        background = self.subject.background
        facts = Facts(
            run=self.subject.model,
            threshold=self.threshold,
            logit_threshold=background.logit_threshold,
            train_lines=background.train_lines,
            missing_tracks=background.missing_tracks,
            ranges=background.ranges,
            notes=background.notes,
        )
        loci = [locus_figure(own.locus(), place) for place, own in enumerate(self._loci)]
        self._whole.content = page_html(line_page(self._counted.lines(), facts, loci))


class LocusFormat(Format):
    """Two pictures of one gene, asked for by --locus and not by --format."""

    def __init__(self, file: Path, subject: Subject, gene: str) -> None:
        """`file` is what the names begin with."""
        super().__init__(file, subject)
        self._finder = LocusFinder(subject, gene)

    @property
    def files(self) -> list[Path]:
        """An SVG and a PNG."""
        name = re.sub(r"[^\w.-]", "_", self._finder.name)
        return [self.file.with_name(f"{self.file.name}.{name}.{kind}") for kind in ("svg", "png")]

    def start(self, opened: ExitStack) -> None:
        """Nothing is written until all is seen."""
        self._whole = [opened.enter_context(WholeFile(file)) for file in self.files]

    def write(self, batch: Batch) -> None:
        """Keep the gene's rows."""
        self._finder.add(batch)

    def finish(self) -> None:
        """Draw them."""
        from evaluation.line_page import locus_picture

        locus = self._finder.locus()
        for whole, kind in zip(self._whole, ("svg", "png"), strict=True):
            whole.content = locus_picture(locus, kind)  # type: ignore[arg-type]
