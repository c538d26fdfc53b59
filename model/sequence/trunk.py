"""The sequence trunk: packed bases of the elements in, features of the pairs out (algorithms.md 12).

Each distinct element is encoded once (`encode`), pairs are combined from element tokens (`pair_features`); training,
evaluation and prediction use these two calls and nothing else. Sizes are presets whose every number can be set.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch.nn.functional as F
from pydantic import Field, model_validator
from torch import Tensor, nn

from data_pipeline.settings import Settings
from model.sequence.encoder import ElementEncoder
from model.sequence.pairing import PairEncoder

Kind = Literal["enhancer", "promoter"]


@dataclass(frozen=True)
class TrunkShape:
    """The numbers that make a trunk."""

    width: int
    blocks: int
    layers: int
    heads: int
    kernel: int
    pool: int
    dropout: float


SIZES: dict[str, TrunkShape] = {
    "tiny": TrunkShape(width=32, blocks=2, layers=1, heads=2, kernel=11, pool=16, dropout=0.1),
    "base": TrunkShape(width=128, blocks=5, layers=2, heads=4, kernel=15, pool=16, dropout=0.1),
    "large": TrunkShape(width=192, blocks=6, layers=2, heads=6, kernel=15, pool=16, dropout=0.1),
    "xl": TrunkShape(width=1024, blocks=8, layers=4, heads=16, kernel=15, pool=16, dropout=0.1),
}


class TrunkSettings(Settings):
    """Size of the sequence trunk; a number left empty is the preset's."""

    size: Literal["none", "tiny", "base", "large", "xl"] = "base"
    """Preset: `none` uses no sequence at all, `base` has about 0.6 million parameters, `xl` more than 50 million."""
    width: int | None = Field(default=None, ge=4, le=4096)
    """Features per token and per pair."""
    blocks: int | None = Field(default=None, ge=0, le=12)
    """Dilated gated convolution blocks; block i reaches 2^(i+1) tokens to either side."""
    layers: int | None = Field(default=None, ge=0, le=24)
    """Rounds of attention between the two elements of a pair."""
    heads: int | None = Field(default=None, ge=1, le=64)
    """Attention heads; must divide `width`."""
    kernel: int | None = Field(default=None, ge=1, le=63)
    """Bases under one stem filter, an odd number."""
    pool: int | None = Field(default=None, ge=2, le=256)
    """Bases per token."""
    dropout: float | None = Field(default=None, ge=0.0, le=0.9)
    """Dropout probability in the trunk."""

    @property
    def shape(self) -> TrunkShape | None:
        """The preset with the explicit numbers put in, or None without a trunk."""
        if self.size == "none":
            return None
        preset = vars(SIZES[self.size])
        return TrunkShape(
            **{name: default if (own := getattr(self, name)) is None else own for name, default in preset.items()}
        )

    @model_validator(mode="after")
    def _consistent(self) -> TrunkSettings:
        shape = self.shape
        if shape and shape.width % shape.heads:
            raise ValueError(f"trunk width {shape.width} is not a multiple of its {shape.heads} heads")
        if shape and shape.kernel % 2 == 0:
            raise ValueError(f"trunk kernel {shape.kernel} must be odd")
        return self


class Trunk(nn.Module):
    """Element encoder and pair encoder under one roof; owns no parameter itself."""

    def __init__(self, shape: TrunkShape) -> None:
        """Build both encoders from the numbers in `shape`."""
        super().__init__()
        self.features, self.combined = 3 * shape.width, shape.width
        self.elements = ElementEncoder(shape.width, shape.blocks, shape.kernel, shape.pool, shape.dropout)
        self.pairs = PairEncoder(shape.width, shape.layers, shape.heads, shape.dropout)

    def encode(self, kind: Kind, packed: Tensor) -> tuple[Tensor, Tensor]:
        """packed (U, L/2) uint8, 4 bits per base -> tokens (U, T, width), mask (U, T) bool, T = ceil(L/pool)."""
        tokens, mask = self.elements(packed, 0 if kind == "enhancer" else 1)
        return tokens, mask

    def pair_features(
        self, enhancers: tuple[Tensor, Tensor], promoters: tuple[Tensor, Tensor], enhancer: Tensor, promoter: Tensor
    ) -> Tensor:
        """Features (B, `features`) of B pairs; the first `combined` of them are what the intrinsic energy reads.

        `enhancers`, `promoters`: tokens and mask as `encode` returns them; `enhancer`, `promoter`: (B,) int64 rows.
        """
        return self.pairs(*_rows(enhancers, enhancer), *_rows(promoters, promoter))


def _rows(encoded: tuple[Tensor, Tensor], rows: Tensor) -> tuple[Tensor, Tensor]:
    tokens, mask = encoded
    # An embedding look-up, because its backward adds repeated rows in a fixed order; indexing's does not.
    return F.embedding(rows, tokens.flatten(1)).unflatten(1, tokens.shape[1:]), mask[rows]
