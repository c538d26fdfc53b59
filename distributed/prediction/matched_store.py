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
from data_pipeline.store import KINDS, MASKS, Manifest, Store, read_manifest, same_build
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
        self._places = _places(model.signal_names, given)
        self.signal_names = list(model.signal_names)
        self._landscape = _places(model.landscape_names, self.landscape_names)
        self.missing_landscapes = self._missing_landscapes(model)
        """Tracks of landscapes that the model reads profiles of and the store lacks."""
        self.landscape_names = list(model.landscape_names)
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
        return _matched(super().signals(rows), self._places)

    def profile(self, rows: NDArray[Any], shape: tuple[int, int]) -> NDArray[np.float32]:
        """Profiles (k, L, 2 W + 4) of pairs `rows` with the model's tracks; NaN where the store lacks one."""
        given = super().profile(rows, shape)
        width = (given.shape[2] - len(MASKS)) // 2
        halves = [_matched(given[..., start : start + width], self._landscape) for start in (0, width)]
        masks = given[..., 2 * width :]
        # Where nothing is there nothing is missing either.
        return np.concatenate([*(np.where(masks[..., :1] > 0, half, 0) for half in halves), masks], axis=-1)

    def _missing_landscapes(self, model: ModelDescription) -> list[str]:
        if not model.model.environment.profile.on:
            return []
        return [name for name, place in zip(model.landscape_names, self._landscape, strict=True) if place < 0]

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


def _places(wanted: list[str], given: list[str]) -> NDArray[np.int64]:
    """(W,) where each of `wanted` stands among `given`, -1 where it does not."""
    return np.array([given.index(name) if name in given else -1 for name in wanted], np.int64)


def _matched(given: NDArray[np.float32], places: NDArray[np.int64]) -> NDArray[np.float32]:
    """(..., W) the columns `places` (W,) of `given`, NaN for -1."""
    matched = np.full((*given.shape[:-1], len(places)), np.nan, dtype=np.float32)
    known = places >= 0
    matched[..., known] = given[..., places[known]]
    return matched
