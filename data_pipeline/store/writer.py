"""Writing a store: shards as rows arrive, everything visible at once or not at all.

Rows go to a hidden sibling folder; `commit` writes the manifest, flushes everything to disk and renames the folder to
its name in one step. A killed or failed ingest therefore leaves no store, only a hidden folder, which the next ingest
to the same place removes. Memory holds at most one shard of pairs.
"""

from __future__ import annotations

import datetime
import shutil
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import ArrayLike, NDArray

from data_pipeline.durable import FullDiskNamed, draft_of, publish, remove_dead_drafts, write_durably
from data_pipeline.errors import UserError
from data_pipeline.store.store import KINDS, SCHEMA_VERSION, FileRecord, Kind, Manifest, manifest_digest, sha256_of

PAIRS_PER_SHARD = 1 << 20
ELEMENTS_PER_SHARD = 1 << 16
BINS_PER_SHARD = 1 << 20


class StoreWriter:
    """Collects tables and commits them as one store; use as a context manager."""

    def __init__(
        self,
        path: str | Path,
        lines: Sequence[str],
        chroms: Sequence[str],
        windows: dict[Kind, int],
        pair_signals: Sequence[str] = (),
        element_signals: Sequence[str] = (),
        line_features: ArrayLike | None = None,
        sources: Sequence[dict[str, Any]] = (),
        build: str = "",
        context: Sequence[str] = (),
        landscape: Sequence[str] = (),
    ) -> None:
        """Start a store at `path`, which must not exist.

        `windows` are bases per element (even; 0 for none); `line_features` is (C, F) float; `build` names the genome
        build, `context` the columns of context, `landscape` the tracks of bins. Raises `UserError` where `path` exists
        or cannot be written.
        """
        self.path = Path(path)
        if self.path.exists():
            raise UserError(f"{self.path} exists already; give another --out or remove it first")
        self._draft = _fresh_draft(self.path)
        self._lines, self._chroms, self._windows, self._build = list(lines), list(chroms), dict(windows), build
        self._signals = {
            "pair": list(pair_signals),
            "enhancer": list(element_signals),
            "promoter": list(element_signals),
        }
        # Only where there is any: stores without keep the checksum that they had before there was context.
        self._signals |= {"context": list(context)} if context else {}
        self._signals |= {"landscape": list(landscape)} if landscape else {}
        self._sources = list(sources)
        self._files: dict[str, FileRecord] = {}
        self._counts: dict[str, int] = {"enhancers": 0, "promoters": 0, "pairs": 0}
        self._buffer: list[dict[str, NDArray[Any]]] = []
        features = np.zeros((len(lines), 0)) if line_features is None else np.asarray(line_features)
        self._write("lines", {"name": pa.array(self._lines, pa.string()), "features": _float_list(features)})

    @property
    def quarantine(self) -> Path:
        """Folder for rejected rows; it moves with the store."""
        folder = self._draft / "quarantine"
        folder.mkdir(exist_ok=True)
        return folder

    def add_source(self, report: dict[str, Any]) -> None:
        """Describe one more source, of what is read while the store is written."""
        self._sources.append(report)

    def add_elements(
        self,
        kind: Kind,
        names: Sequence[str],
        chrom: ArrayLike,
        start: ArrayLike,
        end: ArrayLike,
        strand: ArrayLike,
        packed: NDArray[np.uint8] | None = None,
        genes: Sequence[str] | None = None,
        gene_ids: Sequence[str] | None = None,
    ) -> None:
        """Append k elements: `chrom` indices (k,), `start`/`end` bp, `strand` in {1, -1, 0}, `packed` (k, window/2).

        `genes` and `gene_ids` are (k,) symbols and Ensembl identifiers, "" where unknown; given for all of a kind or
        for none.
        """
        columns: dict[str, pa.Array] = {
            "name": pa.array(list(names), pa.string()),
            "chrom": pa.array(np.asarray(chrom, dtype=np.int16)),
            "start": pa.array(np.asarray(start, dtype=np.int32)),
            "end": pa.array(np.asarray(end, dtype=np.int32)),
            "strand": pa.array(np.asarray(strand, dtype=np.int8)),
        }
        for column, told in (("gene", genes), ("gene_id", gene_ids)):
            if told is not None:
                columns[column] = pa.array(list(told), pa.string())
        if width := self._windows[kind] // 2:
            if packed is None or packed.shape != (len(names), width):
                raise ValueError(f"{kind} sequences must be ({len(names)}, {width}) uint8")
            flat = pa.py_buffer(np.ascontiguousarray(packed))
            columns["sequence"] = pa.Array.from_buffers(pa.binary(width), len(names), [None, flat])
        for offset in range(0, len(names), ELEMENTS_PER_SHARD):
            shard = {key: column.slice(offset, ELEMENTS_PER_SHARD) for key, column in columns.items()}
            self._write(f"{kind}s", shard)
        self._counts[f"{kind}s"] += len(names)

    def add_pairs(
        self,
        enhancer: ArrayLike,
        promoter: ArrayLike,
        line: ArrayLike,
        label: ArrayLike,
        distance: ArrayLike,
        signals: ArrayLike | None = None,
        weight: ArrayLike | None = None,
        effect: ArrayLike | None = None,
        context: ArrayLike | None = None,
        enhancer_bin: ArrayLike | None = None,
        promoter_bin: ArrayLike | None = None,
        outward: ArrayLike | None = None,
    ) -> None:
        """Append k pairs: element rows, line index, label in {1, 0, -1}, bp (-1 unknown), signals (k, Sp).

        `context` is (k, Sc), as many as the writer was told of. `weight` and `effect` are (k,) float, given for all
        pairs of a store or for none. With a landscape, `enhancer_bin` and `promoter_bin` are the rows of its bins that
        the elements lie in (-1 for none), and `outward` is 1 where the promoter lies at higher positions, else -1.
        """
        chunk: dict[str, NDArray[Any]] = {
            "enhancer": np.asarray(enhancer, dtype=np.int32),
            "promoter": np.asarray(promoter, dtype=np.int32),
            "line": np.asarray(line, dtype=np.int16),
            "label": np.asarray(label, dtype=np.int8),
            "distance": np.asarray(distance, dtype=np.int32),
        }
        if self._signals["pair"]:
            chunk["signals"] = np.asarray(signals, dtype=np.float32).reshape(-1, len(self._signals["pair"]))
        if width := len(self._signals.get("context", [])):
            chunk["context"] = np.asarray(context, dtype=np.float32).reshape(-1, width)
        for column, told in (("weight", weight), ("effect", effect)):
            if told is not None:
                chunk[column] = np.asarray(told, dtype=np.float32)
        for column, told in (("enhancer_bin", enhancer_bin), ("promoter_bin", promoter_bin)):
            if told is not None:
                chunk[column] = np.asarray(told, dtype=np.int32)
        if outward is not None:
            chunk["outward"] = np.asarray(outward, dtype=np.int8)
        self._buffer.append(chunk)
        self._counts["pairs"] += len(chunk["enhancer"])
        while sum(len(part["enhancer"]) for part in self._buffer) >= PAIRS_PER_SHARD:
            self._flush_pairs(PAIRS_PER_SHARD)

    def add_element_signals(self, kind: Kind, signals: NDArray[np.float32]) -> None:
        """Append line-specific element signals, (C, elements, S) float32, NaN where missing."""
        flat = signals.reshape(-1, signals.shape[-1])
        for offset in range(0, len(flat), ELEMENTS_PER_SHARD):
            self._write(f"{kind}_signals", {"signals": _float_list(flat[offset : offset + ELEMENTS_PER_SHARD])})

    def add_landscape(self, line: ArrayLike, chrom: ArrayLike, bin: ArrayLike, values: NDArray[np.float32]) -> None:
        """Append b bins, values (b, tracks); those of one line and chromosome together, in ascending order."""
        numbers = {"line": (line, np.int16), "chrom": (chrom, np.int16), "bin": (bin, np.int32)}
        columns = {name: pa.array(np.asarray(own, dtype=kind)) for name, (own, kind) in numbers.items()}
        columns["values"] = _float_list(values)
        for offset in range(0, len(values), BINS_PER_SHARD):
            self._write("landscape", {name: own.slice(offset, BINS_PER_SHARD) for name, own in columns.items()})

    def add_input_rows(self, pair: ArrayLike, enhancer: ArrayLike, promoter: ArrayLike) -> None:
        """Write which pair (k,) each usable input row is, with the names of its elements as the row gives them."""
        names = {"enhancer": pa.array(enhancer, pa.string()), "promoter": pa.array(promoter, pa.string())}
        self._write("input_rows", {"pair": pa.array(np.asarray(pair, dtype=np.int64)), **names})

    def add_truth(self, table: str, columns: dict[str, NDArray[Any]]) -> None:
        """Write a simulator's table to `truth/<table>/`; columns are (n,) numbers or (n, width), stored as float32."""
        arrays = {key: pa.array(value) if value.ndim == 1 else _float_list(value) for key, value in columns.items()}
        self._write(f"truth/{table}", arrays)

    def commit(self, rejected: dict[str, int] | None = None, truth: dict[str, Any] | None = None) -> Manifest:
        """Write the manifest and make the store visible; `rejected` counts quarantined rows by reason."""
        self._flush_pairs(PAIRS_PER_SHARD)
        for table in ("pairs", *[f"{kind}s" for kind in KINDS]):
            if self._counts[table] == 0:
                raise UserError(
                    f"the store would have no {table}; every input row was rejected or the tables are empty"
                )
        manifest = Manifest(
            schema_version=SCHEMA_VERSION,
            created=datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
            sources=self._sources,
            windows=self._windows,
            lines=self._lines,
            chroms=self._chroms,
            build=self._build,
            signals=self._signals,
            counts=self._counts | {f"quarantine/{reason}": n for reason, n in sorted((rejected or {}).items())},
            truth=truth or {},
            files=dict(sorted(self._files.items())),
        )
        # Stores without a build keep the checksum, and so the plans, that they had before builds were recorded.
        untold = None if self._build else {"build"}
        digest = manifest_digest(manifest.model_dump(mode="json", exclude=untold))
        manifest = manifest.model_copy(update={"checksum": digest})
        write_durably(self._draft / "manifest.json", manifest.model_dump_json(indent=1, exclude=untold))
        publish(self._draft, self.path)
        return manifest

    def __enter__(self) -> StoreWriter:
        """Return the writer."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Remove whatever was not committed."""
        if self._draft.exists():
            shutil.rmtree(self._draft)

    def _flush_pairs(self, limit: int) -> None:
        if not self._buffer:
            return
        rows = {key: np.concatenate([part[key] for part in self._buffer]) for key in self._buffer[0]}
        shard = {key: values[:limit] for key, values in rows.items()}
        rest = {key: values[limit:] for key, values in rows.items()}
        columns = {key: _float_list(v) if v.ndim > 1 else pa.array(v) for key, v in shard.items()}
        self._write("pairs", columns)
        self._buffer = [rest] if len(rest["enhancer"]) else []

    def _write(self, table: str, columns: dict[str, pa.Array]) -> None:
        folder = self._draft / table
        folder.mkdir(parents=True, exist_ok=True)
        file = folder / f"{len(list(folder.iterdir())):05d}.arrow"
        batch = pa.RecordBatch.from_pydict(columns)
        with FullDiskNamed(file), file.open("wb") as sink, pa.ipc.new_file(sink, batch.schema) as writer:
            writer.write_batch(batch)
        name = file.relative_to(self._draft).as_posix()
        self._files[name] = FileRecord(rows=batch.num_rows, bytes=file.stat().st_size, sha256=sha256_of(file))


def _fresh_draft(path: Path) -> Path:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        remove_dead_drafts(path)
        draft = draft_of(path)
        draft.mkdir()
    except OSError as error:
        raise UserError(
            f"cannot write to {path.parent}: {error.strerror}; give an --out in a writable folder"
        ) from error
    return draft


def _float_list(values: NDArray[Any]) -> pa.Array:
    values = np.ascontiguousarray(values, dtype=np.float32)
    if values.shape[1]:
        return pa.FixedSizeListArray.from_arrays(pa.array(values.reshape(-1)), values.shape[1])
    return pa.Array.from_buffers(pa.list_(pa.float32(), 0), len(values), [None], children=[pa.array([], pa.float32())])
