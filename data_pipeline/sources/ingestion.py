"""From files to a store, step by step (the work of data_pipeline/ingest.py).

Read and judge every row of every pair source; cut or take the sequence of every element; drop duplicates and conflicts;
write elements, signals and pairs; make the store visible in one rename. Every line of a file is accounted for.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn, TransferSpeedColumn

from data_pipeline.context import MARKS, NEED_GENES
from data_pipeline.errors import UserError, listed
from data_pipeline.sources.annotation import Genes, read_genes
from data_pipeline.sources.content import Content, only_used, unique_pairs, with_sequences
from data_pipeline.sources.context_source import Context, context_of, from_pairs, from_tracks, profile_tracks
from data_pipeline.sources.crispr_source import CrisprTable
from data_pipeline.sources.element_names import ElementNames
from data_pipeline.sources.field_formats import CandidateTable, GeneSource, LoopTable
from data_pipeline.sources.gene_sources import GeneSourceReader, Reading
from data_pipeline.sources.genome import ChromNames, Genome, Regions
from data_pipeline.sources.lift_over import LiftOver
from data_pipeline.sources.pair_rows import PairCollector, Rules
from data_pipeline.sources.pair_tables import SIGNAL, read_pairs
from data_pipeline.sources.peaks import empty_signals, peak_files, peak_signal, peaks_apart, read_peaks
from data_pipeline.sources.quarantine import Quarantine
from data_pipeline.sources.sequence_tables import read_sequences
from data_pipeline.sources.settings import AnyPairSource, SequenceTables, StoreSettings
from data_pipeline.sources.signal_tables import PairSignals
from data_pipeline.sources.text_tables import Tally
from data_pipeline.sources.tracks import BIG_WIG, Track, intervals, read_bed_graph, read_big_wig, require_together
from data_pipeline.store import KINDS, Kind, Manifest, StoreWriter


def ingest(
    settings: StoreSettings,
    out: str | Path,
    root: str | Path | None = None,
    console: Console | None = None,
    answer_rows: bool = False,
) -> Manifest:
    """Build the store `settings` describes at `out` from files below `root` (default: the settings' own root).

    With `answer_rows` every row is answered for: the store remembers which pair each input row is, under the row's own
    names, and rows outside `regions` are quarantined like others that are not used. Progress goes to `console` (none by
    default): a bar on a terminal, plain lines elsewhere. Raises `UserError` for every mistake in the settings or files;
    nothing is left at `out` then.
    """
    files = Path(settings.root if root is None else root)
    run = _Ingest(settings, files, Path(out), console or Console(quiet=True), answer_rows)
    if run.out.exists():
        raise UserError(f"{run.out} exists already; give another --out or remove it first")
    shutil.rmtree(run.out.with_name(f"{run.out.name}.quarantine"), ignore_errors=True)
    run.require_files()
    try:
        return run.write(run.content())
    except UserError as error:
        if folder := run.quarantine.write_beside(run.out):
            raise UserError(f"{error}; the rejected rows are in {folder}") from error
        raise


class _Ingest:
    """One ingest on its way."""

    def __init__(self, settings: StoreSettings, root: Path, out: Path, console: Console, answer_rows: bool) -> None:
        self.settings, self.root, self.out, self.console = settings, root, out, console
        self.answer_rows = answer_rows
        self.chroms = ChromNames(settings.chrom_aliases)
        self.lines = {line: index for index, line in enumerate(settings.lines)}
        self.lines |= {alias: self.lines[line] for alias, line in settings.line_aliases.items()}
        self.names = ElementNames(self.lines, self.chroms)
        regions, window = Regions(settings.regions, self.chroms), settings.windows["promoter"]
        self.rules = Rules(self.chroms, regions, self.lines, self.names, window, name_outside=answer_rows)
        self.quarantine = Quarantine()
        self.collector = PairCollector(self.rules, self.quarantine)
        self.peaks = peak_files(settings.peaks, settings.lines, root) if settings.peaks else {}
        self.peak_tables: dict[tuple[int, int], pd.DataFrame] = {}
        self.peak_notes: list[str] = []
        self.reports: list[dict[str, Any]] = []
        self.pair_reports: dict[int, dict[str, Any]] = {}
        self.tallies: dict[int, Tally] = {}

    def require_files(self) -> None:
        names = [*self.settings.genome, *(table.file for table in self.settings.signals)]
        for source in self.settings.pairs:
            names.append(source.file)
            if isinstance(source, SequenceTables):
                names += [source.enhancer_sequences, source.promoter_sequences]
            if isinstance(source, LoopTable) and source.elements:
                names.append(source.elements)
            if source.lift:
                names.append(source.lift.chain)
            if isinstance(source, CrisprTable) and source.genes:
                names.append(source.genes)
        if self.settings.genes:
            names.append(self.settings.genes.file)
        for file in [*(self.root / name for name in names), *self.peaks.values()]:
            if not file.exists() or file.is_dir():
                raise UserError(f"{file} does not exist (or is a folder); check the name, or give another --root")

    def content(self) -> Content:
        with self._genome() as genome:
            genes = self._genes()
            for source in self.settings.pairs:
                if isinstance(source, GeneSource) and genes:
                    self._read_gene_source(source, genes)
                else:
                    self._read_source(source)
            content = with_sequences(self.collector, self.settings.windows, genome, self.quarantine)
        if genome:
            padded = {"file": ", ".join(self.settings.genome), "format": "genome", "edge_padded": content.edge_padded}
            self.reports.append(padded)
        content, duplicates = unique_pairs(content, self.quarantine)
        kept = content.pairs["file"].value_counts()
        for source, (file, report) in zip(self.settings.pairs, self.pair_reports.items(), strict=True):
            report |= {"duplicates": int(duplicates.get(file, 0)), "pairs": int(kept.get(file, 0))}
            report["quarantined"] = self.quarantine.counts(file)
            if not isinstance(source, GeneSource):
                fates = {key: report[key] for key in ("pairs", "duplicates", "outside_regions")}
                self.quarantine.require_whole(file, self.tallies[file], fates)
            self.quarantine.check(file, report["rows"] - report["outside_regions"], source.max_bad_fraction)
        if content.pairs.empty:
            raise UserError(f"no pair is left: every row was rejected or lies outside `regions`{self._outside()}")
        return only_used(content)

    def _outside(self) -> str:
        outside = self.collector.first_outside
        if not outside:
            return ""
        chrom, regions = next(iter(outside.values())), listed(self.settings.regions)
        return f" (the first row outside lies on {chrom}, regions are {regions})"

    def write(self, content: Content) -> Manifest:
        signals = self._pair_signals(content)
        context = self._context(content, signals)
        told = [key for key in content.pairs if key.startswith(SIGNAL)]
        chroms, settings = content.chroms, self.settings
        with StoreWriter(
            self.out,
            settings.lines,
            chroms,
            settings.windows,
            pair_signals=[*signals.tracks, *(key.removeprefix(SIGNAL) for key in told)],
            element_signals=settings.peaks.marks if settings.peaks else (),
            line_features=[settings.line_features[line] for line in settings.lines] if settings.line_features else None,
            sources=self.reports,
            build=settings.genome_build,
            context=context.names if context else (),
            landscape=profile_tracks(settings.context),
        ) as writer:
            for kind in KINDS:
                table = content.elements[kind]
                chrom = table["chrom"].map({name: code for code, name in enumerate(chroms)})
                start, end, strand = (table[key] for key in ("start", "end", "strand"))
                genes, ids = (self._told(table[key]) for key in ("symbol", "gene_id"))
                packed = content.packed[kind]
                writer.add_elements(kind, table["name"].tolist(), chrom, start, end, strand, packed, genes, ids)
            self._element_signals(content, writer)
            pairs = {key: content.pairs[key] for key in ("enhancer", "promoter", "line", "label", "distance")}
            values = np.concatenate([signals.values, content.pairs[told].to_numpy(np.float32)], axis=1)
            profile = context.profile if context else None
            if profile:
                writer.add_landscape(profile.line, profile.chrom, profile.bin, profile.values)
            writer.add_pairs(
                **pairs,
                signals=values,
                context=context.values if context else None,
                weight=self._numbers_told(content, "weight", 1),
                effect=self._numbers_told(content, "effect", np.nan),
                **(profile.places if profile else {}),
            )
            # Pairs that no file has a row for are their own rows.
            if self.answer_rows and not all(isinstance(source, GeneSource) for source in settings.pairs):
                writer.add_input_rows(**self._asked(content))
            self.quarantine.write(writer.quarantine)
            return writer.commit(self.quarantine.counts())

    @staticmethod
    def _numbers_told(content: Content, key: str, missing: float) -> NDArray[np.float32] | None:
        """(N,) what the sources told of the pairs, `missing` where one did not; None if none did."""
        return content.pairs[key].fillna(missing).to_numpy(np.float32) if key in content.pairs else None

    @contextmanager
    def _reading(self, what: str, files: list[Path]) -> Iterator[Callable[[int], None]]:
        columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TransferSpeedColumn())
        live = self.console.is_terminal and not self.console.quiet
        with Progress(*columns, TimeRemainingColumn(), console=self.console, disable=not live, transient=True) as bar:
            task = bar.add_task(what, total=sum(file.stat().st_size for file in files))
            yield lambda count: bar.advance(task, count)
        self.console.print(f"read {what}", soft_wrap=True, highlight=False)

    @contextmanager
    def _genome(self) -> Iterator[Genome | None]:
        if not self.settings.genome or not any(self.settings.windows.values()):
            yield None
            return
        files = [self.root / name for name in self.settings.genome]
        with self._reading(", ".join(self.settings.genome), files) as advance:
            genome = Genome(files, self.chroms, advance)
        with genome:
            genome.require(self.rules.regions.chroms)
            self.rules.genome = genome
            yield genome

    def _read_source(self, source: AnyPairSource) -> None:
        path = self.root / source.file
        if isinstance(source, CrisprTable) and source.genes:
            source = source.model_copy(update={"genes": str(self.root / source.genes)})
        sequences = self._sequences(source) if isinstance(source, SequenceTables) else None
        file = self.quarantine.register(source.file, path)
        tally = self.tallies[file] = Tally()
        lift = LiftOver(self.root / source.lift.chain, self.chroms) if source.lift else None
        with self._reading(source.file, [path]) as advance:
            for raw in read_pairs(source, path, tally, advance):
                self.collector.add(file, raw, source.labels, sequences, lift)
        if lift:
            lift.require_fit(path)
        if self.settings.genes:
            self.collector.compared.require_agreement(file, path, self.root / self.settings.genes.file)
        outside = self.collector.outside_regions.get(file, 0)
        self.quarantine.check(file, tally.rows - outside, source.max_bad_fraction)
        report = {"file": source.file, "format": source.format, "rows": tally.rows, "outside_regions": outside}
        report |= tally.passed_over
        self.pair_reports[file] = report
        self.reports.append(report)

    def _genes(self) -> Genes | None:
        if (settings := self.settings.genes) is None:
            return None
        path = self.root / settings.file
        with self._reading(settings.file, [path]) as advance:
            self.rules.genes = read_genes(path, settings.file, settings, self.chroms, self.quarantine, advance)
        self.reports.append({"file": settings.file, "format": "genes", "genes": len(self.rules.genes)})
        return self.rules.genes

    def _read_gene_source(self, source: CandidateTable | LoopTable, genes: Genes) -> None:
        path = self.root / source.file
        file = self.quarantine.register(source.file, path)
        tally = self.tallies[file] = Tally()
        lift = LiftOver(self.root / source.lift.chain, self.chroms) if source.lift else None
        annotation = self.root / self.settings.genes.file if self.settings.genes else path
        reader = GeneSourceReader(self.collector, genes, annotation, self.root)
        with self._reading(source.file, [path]) as advance:
            fates = reader.read(source, Reading(path, file, tally, lift, advance))
        self.quarantine.check(file, tally.rows - fates.outside_regions, source.max_bad_fraction)
        report = {"file": source.file, "format": source.format, "rows": tally.rows} | vars(fates) | tally.passed_over
        self.pair_reports[file] = report
        self.reports.append(report)

    @staticmethod
    def _told(text: pd.Series) -> list[str] | None:
        """Names of genes; None where no source told any, so that stores without stay as they were."""
        return text.tolist() if (text != "").any() else None

    def _sequences(self, source: SequenceTables) -> dict[Kind, dict[str, NDArray[np.uint8]]]:
        tables: dict[Kind, str] = {"enhancer": source.enhancer_sequences, "promoter": source.promoter_sequences}
        packed: dict[Kind, dict[str, NDArray[np.uint8]]] = {}
        for kind, name in tables.items():
            with self._reading(name, [self.root / name]) as advance:
                window = self.settings.windows[kind]
                packed[kind] = read_sequences(source, self.root / name, name, window, self.quarantine, advance)
            self.reports.append({"file": name, "format": f"{kind} sequences", "usable": len(packed[kind])})
        return packed

    def _pair_signals(self, content: Content) -> PairSignals:
        signals = PairSignals(content.pairs, self.collector.names, self.lines, self.names)
        for table in self.settings.signals:
            with self._reading(table.file, [self.root / table.file]) as advance:
                found, notes = signals.add(table, self.root / table.file, self.quarantine, advance)
            self.reports.append({"file": table.file, "format": "pair signals", "joined": found} | noted(notes))
        return signals

    def _context(self, content: Content, signals: PairSignals) -> Context | None:
        if (settings := self.settings.context) is None:
            return None
        if settings.landscape == "pairs":
            landscapes = from_pairs(content, signals.tracks, signals.values, settings)
        else:
            peaks = settings.landscape == "peaks"
            landscapes = from_tracks(self._peak_tracks(content) if peaks else self._tracks(content))
        genes = self.rules.genes if settings.profile or set(settings.groups) & set(NEED_GENES) else None
        context = context_of(content, settings, genes, landscapes)
        unknown = int(np.isnan(context.values).all(axis=1).sum())
        self.reports.append({"file": "context of pairs", "format": "context", "joined": len(context.values) - unknown})
        return context

    def _peak_tracks(self, content: Content) -> dict[tuple[int, str], Track]:
        context, peaks = self.settings.context, self.settings.peaks
        assert context is not None
        assert peaks is not None
        called = {context.called(mark).casefold(): mark for mark in MARKS}
        marks = {
            number: called[name.casefold()] for number, name in enumerate(peaks.marks) if name.casefold() in called
        }
        if not marks:
            raise UserError(
                f"peaks.marks ({listed(peaks.marks)}) has none of the assays of context ({listed(MARKS)}); name them "
                "with context.assays"
            )
        self.peak_tables = dict(self._peaks(content))
        tables = self.peak_tables.items()
        return {(line, marks[number]): intervals(table) for (line, number), table in tables if number in marks}

    def _peaks(self, content: Content) -> Iterator[tuple[tuple[int, int], pd.DataFrame]]:
        """Line index and mark index with the peaks of their file, each of which is read once."""
        peaks = self.settings.peaks
        assert peaks is not None
        if self.peak_tables:
            yield from self.peak_tables.items()
            return
        chroms = [name for kind in KINDS for name in content.elements[kind]["chrom"]]
        with self._reading(peaks.pattern, list(self.peaks.values())) as advance:
            for (line, mark), path in self.peaks.items():
                shown = peaks.file(self.settings.lines[line], peaks.marks[mark])
                table, notes = read_peaks(path, shown, peaks, self.chroms, self.quarantine, advance)
                self.peak_notes += [*notes, *peaks_apart(path, table, chroms)]
                yield (line, mark), table

    def _tracks(self, content: Content) -> dict[tuple[int, str], Track]:
        context, missing, found = self.settings.context, dict[str, list[str]](), dict[tuple[int, str], Track]()
        assert context is not None
        for (line, name), mark in product(enumerate(self.settings.lines), MARKS):
            path = self.root / context.track(name, mark)
            if not path.is_file():
                missing.setdefault(name, []).append(mark)
                continue
            with self._reading(path.name, [path]) as advance:
                if path.suffix.lower() in BIG_WIG:
                    track = read_big_wig(path, self.chroms)
                else:
                    track = read_bed_graph(path, context.track(name, mark), self.chroms, self.quarantine, advance)
            require_together(path, track, content.chroms)
            found[line, mark] = track
        for line, name in enumerate(self.settings.lines):
            if not any(of == line for of, _ in found):
                raise UserError(
                    f"line '{name}' has no track at all: {self.root / context.track(name, MARKS[0])} and those of "
                    f"{listed(MARKS[1:])} are not there; check context.tracks, or name the files with context.assays"
                )
        notes = [
            f"line '{name}' has no track of {', '.join(marks)} (no {context.track(name, marks[0])}, for example)"
            for name, marks in missing.items()
        ]
        self.reports.append({"file": context.tracks, "format": "tracks", "files": len(found)} | noted(notes))
        return found

    def _asked(self, content: Content) -> dict[str, Any]:
        if content.asked is None:
            raise ValueError("the pairs must be unique before their input rows can be written")
        names = {kind: np.array(list(self.collector.names[kind].codes), dtype=object) for kind in KINDS}
        columns: dict[str, Any] = {kind: names[kind][content.asked[f"{kind}_name"].to_numpy()] for kind in KINDS}
        return {"pair": content.asked["pair"].to_numpy(np.int64), **columns}

    def _element_signals(self, content: Content, writer: StoreWriter) -> None:
        if not self.settings.peaks:
            return
        signals = {
            kind: empty_signals(self.settings.peaks, len(self.settings.lines), content.elements[kind]) for kind in KINDS
        }
        for (line, mark), peaks in self._peaks(content):
            for kind in KINDS:
                signals[kind][line, :, mark] = peak_signal(content.elements[kind], peaks, self.settings.peaks)
        for kind in KINDS:
            writer.add_element_signals(kind, signals[kind])
        if self.peak_notes:
            report = {"file": self.settings.peaks.pattern, "format": "peaks", "files": len(self.peaks)}
            writer.add_source(report | noted(self.peak_notes))


def noted(notes: list[str]) -> dict[str, Any]:
    """An entry of a source's report that says what is unusual about it, if anything is."""
    return {"notes": notes} if notes else {}
