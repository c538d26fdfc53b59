"""Reading a store: memory-mapped Arrow files behind plain NumPy arrays.

Layout (written by `writer`):

    manifest.json                        what is in the store, a sha256 per file, and a checksum over all of it
    lines/00000.arrow                    name, features (list<float32>)
    enhancers/*.arrow, promoters/*.arrow name, chrom, start, end, strand, sequence (fixed-size binary, 4 bits per base);
                                         of promoters also gene and gene_id, where a source told them
    pairs/*.arrow                        enhancer, promoter, line, label, distance, signals (fixed-size list<float32>);
                                         weight and effect, where a source told them; context, where it was asked for
    enhancer_signals/*.arrow, promoter_signals/*.arrow   signals; row = line * elements + element
    landscape/*.arrow                    line, chrom, bin, values (fixed-size list<float32>), where profiles were asked
                                         for; pairs then have enhancer_bin and promoter_bin, rows of it, and outward
    input_rows/00000.arrow               pair and names of every usable input row, where rows are answered
    quarantine/                          rejected input rows, not part of the checksum

Every element is stored once and pairs refer to it by row number. Files are uncompressed Arrow IPC, so opening costs a
few file maps and gathering a row touches only its own pages: memory does not grow with the store.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from data_pipeline.errors import UserError
from data_pipeline.settings import Settings, validate
from data_pipeline.store.columns import Columns
from data_pipeline.store.profiles import MASKS, Profiles, columns_of
from data_pipeline.store_folder import require_store

SCHEMA_VERSION = 1
Verify = Literal["size", "full"]
Kind = Literal["enhancer", "promoter"]
KINDS: tuple[Kind, Kind] = ("enhancer", "promoter")
OWNERS: tuple[Literal["pair", "enhancer", "promoter", "context"], ...] = ("pair", "enhancer", "promoter", "context")
"""What signals belong to, in the order in which a pair has them."""
STRANDS = {"+": 1, "-": -1, ".": 0}


class FileRecord(Settings):
    """What a store file must look like."""

    rows: int = Field(ge=0)
    """Rows in the file."""
    bytes: int = Field(ge=0)
    """Size of the file in bytes."""
    sha256: str
    """Hexadecimal digest of the file."""


class Manifest(Settings):
    """The content of `manifest.json`."""

    schema_version: int
    """Version of this layout; readers refuse any other."""
    created: str
    """UTC time of the commit, ISO 8601; not part of the checksum."""
    sources: list[dict[str, Any]]
    """A description of each source as the ingest read it."""
    windows: dict[Kind, int]
    """Bases stored per enhancer and per promoter; 0 where there is no sequence."""
    lines: list[str]
    """Cell lines; a pair's `line` is an index into this list."""
    chroms: list[str]
    """Chromosomes; an element's `chrom` is an index into this list."""
    build: str = ""
    """Genome build of all coordinates, as the user names it (hg19, GRCh38); empty: not told."""
    signals: dict[Literal["pair", "enhancer", "promoter", "context", "landscape"], list[str]]
    """Names of the signal tracks per pair and per (line, element), of the columns of context per pair, and of what is
    known of a bin of a landscape."""
    counts: dict[str, int]
    """Rows by table, and rejected rows by reason (`quarantine/<reason>`)."""
    truth: dict[str, Any] = Field(default_factory=dict)
    """What a simulator knows about its own store, for example the Bayes-optimal average precision per line."""
    files: dict[str, FileRecord]
    """Every checksummed file by its path in the store."""
    checksum: str = ""
    """sha256 over this manifest without `created` and `checksum`."""


def manifest_digest(content: dict[str, Any]) -> str:
    """The checksum that a manifest with this JSON content should carry.

    Of the content as written, not as this version's `Manifest` reads it: a key added later must not invalidate stores.
    """
    covered = {key: value for key, value in content.items() if key not in ("created", "checksum")}
    return hashlib.sha256(json.dumps(covered, sort_keys=True).encode()).hexdigest()


class ElementTable:
    """The enhancers or the promoters of a store."""

    def __init__(self, columns: Columns, length: int, chrom_names: list[str]) -> None:
        """Wrap `columns`; `length` is the stored window in bases."""
        self._columns = columns
        self.length = length
        """Bases per element, 0 without sequences."""
        self.chrom_names = chrom_names

    def __len__(self) -> int:
        """Number of elements."""
        return len(self._columns)

    @property
    def names(self) -> list[str]:
        """(n,) names as the source gave them."""
        return self._columns.text("name")

    @property
    def genes(self) -> list[str]:
        """(n,) gene symbols; empty where no source told one."""
        return self._told("gene")

    @property
    def gene_ids(self) -> list[str]:
        """(n,) Ensembl gene identifiers without version; empty where no source told one."""
        return self._told("gene_id")

    def _told(self, column: str) -> list[str]:
        return self._columns.text(column) if self._columns.has(column) else [""] * len(self)

    @property
    def chrom(self) -> NDArray[np.int16]:
        """(n,) int16 index into `chrom_names`."""
        return self._columns.full("chrom")

    @property
    def start(self) -> NDArray[np.int32]:
        """(n,) int32, 0-based first base of the element (not of the window)."""
        return self._columns.full("start")

    @property
    def end(self) -> NDArray[np.int32]:
        """(n,) int32, one past the last base."""
        return self._columns.full("end")

    @property
    def strand(self) -> NDArray[np.int8]:
        """(n,) int8: 1 plus, -1 minus, 0 unknown."""
        return self._columns.full("strand")

    def packed(self, rows: NDArray[Any]) -> NDArray[np.uint8]:
        """(k, length/2) uint8 sequences of `rows`, 4 bits per base."""
        if self.length == 0:
            return np.empty((len(rows), 0), dtype=np.uint8)
        return self._columns.take("sequence", rows)


class PairTable:
    """The pairs of a store; each property is a whole column."""

    def __init__(self, columns: Columns) -> None:
        """Wrap `columns`."""
        self.columns = columns
        self.enhancer: NDArray[np.int32] = columns.full("enhancer")
        """(N,) int32 row of the enhancer."""
        self.promoter: NDArray[np.int32] = columns.full("promoter")
        """(N,) int32 row of the promoter."""
        self.line: NDArray[np.int16] = columns.full("line")
        """(N,) int16 index into the store's lines."""
        self.label: NDArray[np.int8] = columns.full("label")
        """(N,) int8: 1 interacts, 0 does not, -1 unknown."""
        self.distance: NDArray[np.int32] = columns.full("distance")
        """(N,) int32 bp, -1 unknown."""

    @property
    def weight(self) -> NDArray[np.float32]:
        """(N,) float32 weight of the pair where scores are weighted; 1 where no source told any."""
        return self.columns.full("weight") if self.columns.has("weight") else np.ones(len(self), np.float32)

    @property
    def effect(self) -> NDArray[np.float32]:
        """(N,) float32 measured effect of the enhancer on the gene, as the source gives it; NaN where not told."""
        return self.columns.full("effect") if self.columns.has("effect") else np.full(len(self), np.nan, np.float32)

    def __len__(self) -> int:
        """Number of pairs."""
        return len(self.columns)


class Store:
    """An opened store; see the module's layout."""

    def __init__(self, path: Path, manifest: Manifest) -> None:
        """Use `Store.open`."""
        self.path = path
        self.manifest = manifest
        self.checksum = manifest.checksum
        self.lines = manifest.lines
        lines = self._columns("lines")
        self.line_features: NDArray[np.float32] = lines.full("features")
        """(C, F) float32, F = 0 without features."""
        self.enhancers = ElementTable(self._columns("enhancers"), manifest.windows["enhancer"], manifest.chroms)
        self.promoters = ElementTable(self._columns("promoters"), manifest.windows["promoter"], manifest.chroms)
        self.pairs = PairTable(self._columns("pairs"))
        self._element_signals = {
            kind: self._columns(f"{kind}_signals") if manifest.signals[kind] else None for kind in KINDS
        }
        self.signal_names = [f"{owner}:{name}" for owner in OWNERS for name in manifest.signals.get(owner, [])]
        self.landscape_names = list(manifest.signals.get("landscape", []))
        """W tracks of `profile`; none where the store has no landscapes."""
        self._profiles = Profiles(self._columns("landscape"), self.pairs.columns) if self.landscape_names else None

    @classmethod
    def open(cls, path: str | Path, verify: Verify = "size", progress: Callable[[int], None] | None = None) -> Store:
        """Open the store at `path`.

        `verify="size"` checks that every file is there with its size (milliseconds); `"full"` also checks every
        sha256, calling `progress` with the bytes done. Raises `UserError` naming the broken file and what to do.
        """
        path = Path(path)
        manifest = read_manifest(path)
        for name, record in manifest.files.items():
            _check_file(path, name, record, verify)
            if progress:
                progress(record.bytes)
        return cls(path, manifest)

    def signals(self, rows: NDArray[Any]) -> NDArray[np.float32]:
        """(k, S) float32 signals of pairs `rows` in the order of `signal_names`; NaN where missing."""
        parts = []
        if self.manifest.signals["pair"]:
            parts.append(self.pairs.columns.take("signals", rows))
        for kind, elements, column in (
            ("enhancer", self.enhancers, self.pairs.enhancer),
            ("promoter", self.promoters, self.pairs.promoter),
        ):
            table = self._element_signals[kind]  # type: ignore[index]
            if table is not None:
                keys = self.pairs.line[rows].astype(np.int64) * len(elements) + column[rows]
                parts.append(table.take("signals", keys))
        if self.manifest.signals.get("context"):
            parts.append(self.pairs.columns.take("context", rows))
        if not parts:
            return np.empty((len(rows), 0), dtype=np.float32)
        return np.concatenate(parts, axis=1)

    def profile(self, rows: NDArray[Any], shape: tuple[int, int]) -> NDArray[np.float32]:
        """(k, L, 2 W + 4) float32 profiles of pairs `rows`; `Profiles.cut` says what is in them, and what `shape` is.

        Nothing is there where the store has no landscapes.
        """
        if self._profiles is None:
            return np.zeros((len(rows), columns_of(shape), len(MASKS)), dtype=np.float32)
        return self._profiles.cut(rows, shape)

    def input_rows(self) -> tuple[NDArray[np.int64], list[str], list[str]] | None:
        """Pair (K,) and names of the elements of every usable input row, in the input's order; None if not kept."""
        if not any(name.startswith("input_rows/") for name in self.manifest.files):
            return None
        rows = self._columns("input_rows")
        return rows.full("pair"), rows.text("enhancer"), rows.text("promoter")

    def _columns(self, table: str) -> Columns:
        files = sorted(name for name in self.manifest.files if name.startswith(f"{table}/"))
        return Columns([self.path / name for name in files])


def read_manifest(path: Path) -> Manifest:
    """Read and check `manifest.json` of the store at `path`; raises `UserError`."""
    file = require_store(path)
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise UserError(f"{file} is damaged ({error}); ingest the store again or restore the file") from error
    version = content.get("schema_version") if isinstance(content, dict) else None
    if version != SCHEMA_VERSION:
        raise UserError(
            f"{file} has schema version {version}, this program reads {SCHEMA_VERSION}; ingest the store again"
        )
    manifest = validate(Manifest, content, str(file))
    if manifest.checksum != manifest_digest(content):
        raise UserError(f"{file} does not match its own checksum; ingest the store again or restore the file")
    return manifest


def _check_file(path: Path, name: str, record: FileRecord, verify: Verify) -> None:
    file = path / name
    if not file.is_file():
        raise UserError(f"store file {file} is missing; ingest the store again or restore the file")
    size = file.stat().st_size
    if size != record.bytes:
        raise UserError(
            f"store file {file} has {size} bytes instead of {record.bytes} (truncated or overwritten); "
            "ingest the store again or restore the file"
        )
    if verify == "full" and sha256_of(file) != record.sha256:
        raise UserError(f"store file {file} does not match its sha256; ingest the store again or restore the file")


def sha256_of(file: Path) -> str:
    """Hexadecimal sha256 of a file."""
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
