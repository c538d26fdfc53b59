"""Genome-scale check of the store: write millions of synthetic pairs, stream them all, and watch memory stay flat.

    python bench/store_scale.py --out bench/results/store_scale.json      # 5 million pairs over 50,000 elements
    python bench/store_scale.py --pairs 100000 --elements 2000            # seconds

Pairs go through `StoreWriter` in chunks and come back through `gather` and `collate`, the functions the training
stream uses, as steps of several single-line episodes that together visit every pair once in random order. Anonymous
memory (what the process itself holds) is the figure that must not grow; mapped memory is the page cache lending the
store's own file pages, which the kernel takes back when it needs them. Full scale takes under a minute and 110 MB of
disk. Parsing of source tables is not part of it.
"""

from __future__ import annotations

import json
import resource
import tempfile
import time
from pathlib import Path
from typing import Annotated

import numpy as np
import typer
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table
from tqdm import tqdm

from data_pipeline.episodes import collate, gather
from data_pipeline.errors import command_line
from data_pipeline.store import Kind, Store, StoreWriter

WINDOWS: dict[Kind, int] = {"enhancer": 1000, "promoter": 2000}
LINES = 8
CHROMS = 23
CHUNK = 1 << 17
SUPPORT = 32
SAMPLES = 12


class Watch:
    """Rows done, seconds and memory of one phase, sampled at equal shares of its rows."""

    def __init__(self, phase: str, total: int) -> None:
        """Start the clock; `total` is the phase's number of rows."""
        self.phase, self.total, self.done = phase, total, 0
        self.samples: list[dict[str, float]] = []
        self._started = time.perf_counter()
        self._bar = tqdm(total=total, desc=phase, unit="pair", unit_scale=True)
        self.advance(0)

    def advance(self, rows: int) -> None:
        """Count `rows` more, and take a sample when one is due."""
        self.done += rows
        self._bar.update(rows)
        if self.done * SAMPLES >= len(self.samples) * self.total or self.done == self.total:
            self.samples.append({"pairs": self.done, "seconds": self.seconds, **memory()})

    @property
    def seconds(self) -> float:
        """Seconds since the start."""
        return time.perf_counter() - self._started

    def report(self) -> dict[str, object]:
        """Rate, the process's peak so far, and growth of anonymous memory after the phase's first third."""
        self._bar.close()
        anonymous = [sample["anonymous_mb"] for sample in self.samples]
        settled = anonymous[len(anonymous) // 3 :]
        last = self.samples[-1]
        return {
            "pairs": self.done,
            "seconds": last["seconds"],
            "pairs_per_second": self.done / last["seconds"],
            "peak_resident_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1.024e-3,
            "peak_anonymous_mb": max(anonymous),
            "anonymous_growth_mb": settled[-1] - settled[0],
            "samples": self.samples,
        }


def memory() -> dict[str, float]:
    """Resident and anonymous memory of this process in MB (1e6 bytes)."""
    fields = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text(encoding="utf-8").splitlines())
    kilobytes = {key: int(fields[key].split()[0]) for key in ("VmRSS", "RssAnon")}
    return {"resident_mb": kilobytes["VmRSS"] * 1.024e-3, "anonymous_mb": kilobytes["RssAnon"] * 1.024e-3}


def write_store(path: Path, pairs: int, elements: int, seed: int) -> dict[str, object]:
    """Write `pairs` random pairs over `elements` elements (four enhancers to a promoter) to `path`, chunk by chunk."""
    rng = np.random.default_rng(seed)
    counts: dict[Kind, int] = {"enhancer": elements - elements // 5, "promoter": elements // 5}
    watch = Watch("ingest", pairs)
    names = [f"line{line + 1}" for line in range(LINES)]
    chroms = [f"chr{number + 1}" for number in range(CHROMS)]
    with StoreWriter(path, lines=names, chroms=chroms, windows=WINDOWS, sources=[{"kind": "synthetic"}]) as writer:
        for kind, count in counts.items():
            _add_random_elements(writer, rng, kind, count)
        for start in range(0, pairs, CHUNK):
            rows = min(CHUNK, pairs - start)
            line = np.arange(start, start + rows) * LINES // pairs
            enhancer, promoter = (rng.integers(0, counts[kind], rows) for kind in ("enhancer", "promoter"))
            writer.add_pairs(enhancer, promoter, line, rng.random(rows) < 0.1, rng.integers(2_000, 500_000, rows))
            watch.advance(rows)
        writer.commit()
    watch.samples.append({"pairs": pairs, "seconds": watch.seconds, **memory()})
    return watch.report()


def stream_store(path: Path, episodes: int, pairs_per_episode: int, seed: int) -> dict[str, object]:
    """Visit every pair of the store at `path` once, in random order, as steps of `episodes` single-line episodes."""
    store = Store.open(path)
    rng = np.random.default_rng(seed)
    watch = Watch("stream", len(store.pairs))
    visited = np.zeros(len(store.pairs), dtype=bool)
    for line in range(LINES):
        order = rng.permutation(np.flatnonzero(store.pairs.line == line))
        for start in range(0, len(order), episodes * pairs_per_episode):
            rows = order[start : start + episodes * pairs_per_episode]
            for block in _blocks(rows, pairs_per_episode):
                step = {"rows": block, "line": np.full(len(block), line)}
                batch = collate(gather(store, step, min(SUPPORT, block.shape[1])), min(SUPPORT, block.shape[1]))
                visited[batch.rows.numpy().reshape(-1)] = True
            watch.advance(len(rows))
    if not visited.all():
        raise RuntimeError(f"{(~visited).sum()} pairs were never streamed")
    return watch.report()


def _add_random_elements(writer: StoreWriter, rng: np.random.Generator, kind: Kind, count: int) -> None:
    for first in range(0, count, 10_000):
        size = min(10_000, count - first)
        bases = np.left_shift(np.uint8(1), rng.integers(0, 4, (size, WINDOWS[kind]), dtype=np.uint8)).astype(np.uint8)
        packed = (bases[:, 0::2] << 4 | bases[:, 1::2]).astype(np.uint8)
        start = rng.integers(0, 200_000_000, size)
        names = [f"{kind}{row}" for row in range(first, first + size)]
        strand = np.zeros(size) if kind == "enhancer" else rng.choice([-1, 1], size)
        writer.add_elements(kind, names, rng.integers(0, CHROMS, size), start, start + WINDOWS[kind], strand, packed)


def _blocks(rows: NDArray[np.int64], width: int) -> list[NDArray[np.int64]]:
    """`rows` as full episodes (k, width) and, where some are left, one shorter episode (1, rest)."""
    full = len(rows) // width * width
    return [block for block in (rows[:full].reshape(-1, width), rows[None, full:]) if block.size]


def print_report(report: dict[str, dict[str, object]]) -> None:
    """Print the figures of each phase, then memory over time."""
    figures = Table(title="store at scale")
    for column in ("phase", "pairs", "s", "pairs/s", "peak resident MB", "peak anonymous MB", "anonymous growth MB"):
        figures.add_column(column, justify="right")
    course = Table(title="memory over time")
    for column in ("phase", "pairs", "s", "resident MB", "anonymous MB"):
        course.add_column(column, justify="right")
    for phase in ("ingest", "stream"):
        keys = ("pairs", "seconds", "pairs_per_second", "peak_resident_mb", "peak_anonymous_mb", "anonymous_growth_mb")
        figures.add_row(phase, *[f"{report[phase][key]:,.{1 if key == 'seconds' else 0}f}" for key in keys])
        for sample in report[phase]["samples"]:  # type: ignore[attr-defined]
            course.add_row(phase, *[f"{value:,.{1 if key == 'seconds' else 0}f}" for key, value in sample.items()])
    Console().print(course, figures)


def main(
    pairs: Annotated[int, typer.Option(min=LINES, help="Pairs to write and stream.")] = 5_000_000,
    elements: Annotated[int, typer.Option(min=10, help="Enhancers and promoters together.")] = 50_000,
    episodes: Annotated[int, typer.Option(min=1, help="Episodes of a step.")] = 8,
    pairs_per_episode: Annotated[int, typer.Option(min=1, help="Support and query pairs of an episode.")] = 96,
    seed: Annotated[int, typer.Option(min=0, help="Seed of the synthetic rows.")] = 1,
    out: Annotated[Path | None, typer.Option(help="JSON file for the report.")] = None,
    folder: Annotated[Path | None, typer.Option(help="Where the temporary store goes.")] = None,
) -> None:
    """Measure writing and streaming of a genome-scale store."""
    with tempfile.TemporaryDirectory(dir=folder) as temporary:
        path = Path(temporary) / "store"
        ingest = write_store(path, pairs, elements, seed)
        megabytes = sum(file.stat().st_size for file in path.rglob("*") if file.is_file()) / 1e6
        stream = stream_store(path, episodes, pairs_per_episode, seed)
    print_report({"ingest": ingest, "stream": stream})
    print(f"{elements:,} elements and {pairs:,} pairs take {megabytes:,.1f} MB on disk")
    if out:
        out.parent.mkdir(parents=True, exist_ok=True)
        content = {"pairs": pairs, "elements": elements, "disk_mb": megabytes, "ingest": ingest, "stream": stream}
        out.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    command_line(lambda: typer.run(main))
