"""A store read as a model expects it: tracks matched by name, missing numbers as missing, windows checked.

The model learnt to live without a number (a missing track is the training mean), so a track or line feature the store
lacks is reported, not refused. Windows are refused: a shorter or longer window is another input altogether. So is
another genome build, where both are told.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from data_pipeline.errors import UserError
from data_pipeline.store import KINDS, Manifest, Store, read_manifest, same_build
from distributed.prediction.deployment import ModelDescription


class MatchedStore(Store):
    """A store whose `signals` and `line_features` have the model's columns, NaN where the store has none."""

    def __init__(self, path: Path, manifest: Manifest, model: ModelDescription) -> None:
        """Raises `UserError` where the store's windows, line features or lack of tracks rule the model out."""
        super().__init__(path, manifest)
        given = self.signal_names
        self.missing_tracks = [name for name in model.signal_names if name not in given]
        """Tracks the model expects and the store lacks."""
        self.unused_tracks = [name for name in given if name not in model.signal_names]
        """Tracks the store has and the model does not know."""
        self._places = np.array([given.index(name) if name in given else -1 for name in model.signal_names], np.int64)
        self.signal_names = list(model.signal_names)
        self._require_input(model)
        self.missing_line_features = model.line_features > 0 and self.line_features.shape[1] == 0
        """Whether the model expects line features and the store has none."""
        self.line_features = self._matched_line_features(model.line_features)

    @classmethod
    def of(cls, path: Path, model: ModelDescription) -> MatchedStore:
        """Open the store at `path` for `model`; file sizes are checked as by `Store.open`."""
        Store.open(path)
        return cls(path, read_manifest(path), model)

    def signals(self, rows: NDArray[Any]) -> NDArray[np.float32]:
        """(k, S) float32 signals of pairs `rows` in the model's order; NaN where missing."""
        given = super().signals(rows)
        matched = np.full((len(rows), len(self._places)), np.nan, dtype=np.float32)
        known = self._places >= 0
        matched[:, known] = given[:, self._places[known]]
        return matched

    def _require_input(self, model: ModelDescription) -> None:
        if not same_build(self.manifest.build, model.build):
            raise UserError(
                f"store {self.path} is of genome build {self.manifest.build}, the model was trained on {model.build}; "
                f"lift the pairs to {model.build} (`lift`, or --chain), or score them with a model of their build"
            )
        if model.model.trunk.shape:
            windows = self.manifest.windows
            if any(windows[kind] != model.windows[kind] for kind in KINDS):
                has, wants = (" and ".join(f"{own[kind]} bp per {kind}" for kind in KINDS)
                              for own in (windows, model.windows))  # fmt: skip
                overrides = " ".join(f"windows.{kind}={model.windows[kind]}" for kind in KINDS)
                raise UserError(
                    f"store {self.path} holds {has}, the model was trained on {wants}; ingest the pairs again with "
                    f"{overrides}"
                )
        elif model.signal_names and len(self.missing_tracks) == len(model.signal_names):
            raise UserError(
                f"the model reads no sequence, only signals, and store {self.path} has none of its tracks "
                f"({', '.join(model.signal_names)}); ingest the pairs with these tracks"
            )

    def _matched_line_features(self, expected: int) -> NDArray[np.float32]:
        given = self.line_features
        if expected and given.shape[1] not in (0, expected):
            raise UserError(
                f"store {self.path} has {given.shape[1]} line features, the model was trained on {expected}; "
                "ingest the pairs again with the same features, or with none"
            )
        if given.shape[1] == expected:
            return given
        return np.full((len(given), expected), np.nan, dtype=np.float32)
