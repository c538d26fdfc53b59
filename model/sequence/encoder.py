"""From packed bases to tokens of one element: strand-shared stem and dilated gated blocks.

Guarantees (T12.1): tokens of the reverse complement are the flipped tokens, because the stem takes the larger of each
filter and its reverse complement and every later convolution is flip-symmetric; an N position never enters a maximum
and a token without a known base is zero after every layer, so padding by whole tokens changes nothing.
Cost: the stem's convolution output (U, 2 width, L) dominates the memory, the pointwise layers the time.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from data_pipeline.dna import one_hot_table


class Stem(nn.Module):
    """Convolution over bases with both strands sharing the filters, then max pooling to tokens."""

    table: Tensor

    def __init__(self, width: int, kernel: int, pool: int) -> None:
        """`kernel` is odd, so that a position's window has a centre; `pool` bases become one token."""
        super().__init__()
        self.kernel, self.pool = kernel, pool
        self.weight = nn.Parameter(torch.empty(width, 4, kernel))
        self.bias = nn.Parameter(torch.zeros(width))
        nn.init.kaiming_uniform_(self.weight, a=math.sqrt(5))
        self.register_buffer("table", torch.from_numpy(one_hot_table()).reshape(256, 8), persistent=False)

    def forward(self, packed: Tensor) -> tuple[Tensor, Tensor]:
        """(U, L/2) uint8 -> tokens (U, T, width) and mask (U, T) bool, true where a token holds a known base."""
        bases = F.embedding(packed.int(), self.table).view(packed.shape[0], -1, 4)
        excess = -bases.shape[1] % self.pool
        bases = F.pad(bases, (0, 0, excess // 2, excess - excess // 2))
        known = bases.sum(dim=-1) > 0
        # A and T, C and G are mirror images in the channel order, so a flip of both axes is the reverse complement.
        filters = torch.cat([self.weight, self.weight.flip(1, 2)])
        matches = F.conv1d(bases.transpose(1, 2), filters, padding=self.kernel // 2)
        # A pass over the largest tensor there is; a processor can ask whether it is needed, a GPU would have to wait.
        if known.is_cuda or not known.all():
            with torch.no_grad():
                # Outside the graph: a masked position never wins a maximum, and tokens without a base are zeroed below.
                matches.masked_fill_(~known.unsqueeze(1), -math.inf)
        # The same as max_pool1d, whose backward takes three times as long on a processor.
        matches = matches.unflatten(-1, (-1, self.pool)).max(dim=-1).values
        forward, reverse = matches.chunk(2, dim=1)
        mask = known.view(known.shape[0], -1, self.pool).any(dim=-1)
        best = torch.maximum(forward, reverse).masked_fill(~mask.unsqueeze(1), 0.0).transpose(1, 2)
        return F.gelu(best + self.bias) * mask.unsqueeze(-1), mask


class SymmetricDepthwise(nn.Module):
    """Depthwise dilated convolution along tokens whose kernel is its own mirror image, by construction."""

    def __init__(self, width: int, reach: int, dilation: int) -> None:
        """The kernel has 2 `reach` + 1 taps, `dilation` tokens apart."""
        super().__init__()
        self.reach, self.dilation = reach, dilation
        self.weight = nn.Parameter(torch.empty(reach + 1, width).uniform_(-1, 1) / math.sqrt(2 * reach + 1))

    def forward(self, x: Tensor) -> Tensor:
        """(U, T, width) -> (U, T, width); tokens beyond the ends count as zero."""
        tokens, margin = x.shape[1], self.reach * self.dilation
        padded = F.pad(x, (0, 0, margin, margin))
        # Adding the two mirrored taps before the product makes the flip symmetry exact in floating point.
        out = x * self.weight[0]
        for step in range(1, self.reach + 1):
            offset = step * self.dilation
            left = padded[:, margin - offset : margin - offset + tokens]
            right = padded[:, margin + offset : margin + offset + tokens]
            out = out + (left + right) * self.weight[step]
        return out


class GatedBlock(nn.Module):
    """Residual block: norm, symmetric depthwise convolution, gated pointwise layer, dropout."""

    def __init__(self, width: int, dilation: int, dropout: float) -> None:
        """`dilation` in tokens."""
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.mix = SymmetricDepthwise(width, reach=2, dilation=dilation)
        self.expand = nn.Linear(width, 2 * width)
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor, keep: Tensor) -> Tensor:
        """x (U, T, width), keep (U, T, 1) 0 or 1 -> (U, T, width), zero where keep is 0."""
        update = F.glu(self.expand(self.mix(self.norm(x) * keep)), dim=-1)
        return (x + self.dropout(update)) * keep


class ElementEncoder(nn.Module):
    """Tokens of enhancers and of promoters by shared weights; a learnt vector tells the kinds apart."""

    def __init__(self, width: int, blocks: int, kernel: int, pool: int, dropout: float) -> None:
        """Block i has dilation 2^i tokens."""
        super().__init__()
        self.stem = Stem(width, kernel, pool)
        self.kind = nn.Parameter(torch.randn(2, width) * 0.02)
        self.blocks = nn.ModuleList(GatedBlock(width, 2**i, dropout) for i in range(blocks))

    def forward(self, packed: Tensor, kind: int) -> tuple[Tensor, Tensor]:
        """packed (U, L/2) uint8, kind 0 enhancer or 1 promoter -> tokens (U, T, width), mask (U, T) bool."""
        x, mask = self.stem(packed)
        keep = mask.unsqueeze(-1).to(x.dtype)
        x = (x + self.kind[kind]) * keep
        for block in self.blocks:
            x = block(x, keep)
        return x, mask
