"""State aggregation: from any observation to cells of a table.

Every leaf is written as digits, numbers of finitely many values each, and the digits of all leaves
are put together into one number, the cell:

- categories, symbols and texts: their entries;
- images: brightness in a coarse grid of patches, in a few levels (as in Ecoffet et al. 2021,
  https://arxiv.org/abs/2004.12919); the channels, which may be frames of a stack, are averaged;
- few vector entries in all: tile coding (Sutton and Barto 2018, section 9.5.4). Several grids, each
  shifted by another fraction of a tile, cover the entries; an observation lies in a tile of each,
  so that near observations share most of their tiles;
- many vector entries: SimHash (Charikar 2002; Tang et al. 2017, https://arxiv.org/abs/1611.04717):
  on which side of random planes through the middle the vector lies, a digit of two values each.

If all combinations of digits have room in the table, every combination has a cell of its own.
Otherwise the cell is a hash, a random linear combination of the digits modulo 2^64 of which the
highest bits are taken (Dietzfelbinger et al. 1997), and different combinations *collide*: they
share a cell, and what is learned of one is believed of the other. With n combinations met and m
cells, one in ``1 - exp(-n/m)`` shares its cell. Planes and hashes are each seed's own, so that a
collision harms one seed and not all.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import reduce

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from suite.spaces import Box, Discrete, MultiDiscrete, Space, Text, leaf_kind
from suite.steps import Observation
from suite.streams import Streams

MAX_SYMBOLS = 1 << 15
"""Integers of a wider range than this are quantities."""

MAX_RANGE = 1e3
"""Bounds further apart than this say little about where values lie, and count as none."""


@dataclass(frozen=True)
class AggregationOptions:
    """How finely observations are told apart; algorithms fill it from their config."""

    cell_bits: int = 15
    """A table has at most 2 to this power of cells."""
    tilings: int = 8
    """Grids of the tile coding."""
    tiles: int = 8
    """Tiles per entry of a vector in each grid."""
    max_tiled: int = 8
    """Vector entries in all up to which they are tiled; more are hashed."""
    patches: int = 8
    """Patches per side of an image."""
    levels: int = 8
    """Levels of brightness of a patch."""


class Aggregation:
    """Observation leaves ``[S, B, ...]`` to cells ``[S, B, T]`` in ``[0, cells)``, int64.

    Args:
        streams: the ``"parameters"`` role gives each seed its planes and hashes.
        spaces: the observation's leaves.
        options: how finely they are told apart.

    Attributes:
        cells: how many there are.
        tilings: T, cells that an observation lies in at once; 1 unless vectors are tiled.
    """

    def __init__(
        self,
        streams: Streams,
        spaces: Mapping[str, Space],
        options: AggregationOptions = AggregationOptions(),
    ) -> None:
        vectors = {n: s for n, s in spaces.items() if isinstance(s, Box) and _is_quantity(s)}
        others = {name: space for name, space in spaces.items() if name not in vectors}
        self.readers = [_digits_of(name, space, options) for name, space in others.items()]
        self.tilings = 1
        entries = sum(space.low.size for space in vectors.values())
        if 0 < entries <= options.max_tiled:
            self.readers.append(_Tiles(vectors, options, streams.device))
            self.tilings = options.tilings
        elif entries:
            self.readers.append(_SimHash(vectors, options, streams))
        sizes = [size for reader in self.readers for size in reader.sizes]
        combinations = math.prod(sizes)
        self.is_exact = combinations <= 1 << options.cell_bits
        self.cells = combinations if self.is_exact else 1 << options.cell_bits
        self._shift = 64 - options.cell_bits
        if self.is_exact:
            places = np.cumprod([1, *sizes[:-1]], dtype=np.int64)
            weights = torch.from_numpy(places).expand(len(streams.seeds), -1).to(streams.device)
        else:
            weights = 2 * streams.integers("parameters", 1 << 62, len(sizes)) + 1
        widths = [len(reader.sizes) for reader in self.readers]
        self._weights = [part[:, None, None] for part in weights.split(widths, dim=1)]

    def __call__(self, obs: Observation) -> Tensor:
        parts = [
            (reader(obs) * weights).sum(dim=-1)  # [S, B, T or 1]; wraps around at 2^64
            for reader, weights in zip(self.readers, self._weights, strict=True)
        ]
        cells = reduce(torch.add, parts)
        return cells if self.is_exact else (cells >> self._shift) & (self.cells - 1)


class _Reader:
    """Writes leaves as digits ``[S, B, T or 1, len(sizes)]``, each in ``[0, size)``, int64."""

    sizes: list[int]

    def __call__(self, obs: Observation) -> Tensor:
        raise NotImplementedError


class _Entries(_Reader):
    """Categories, symbols and texts: the entries themselves."""

    def __init__(self, name: str, space: Space) -> None:
        self.name, self.start = name, 0
        if isinstance(space, Discrete):
            self.sizes = [space.n]
        elif isinstance(space, MultiDiscrete):
            self.sizes = list(space.sizes)
        elif isinstance(space, Text):
            self.sizes = [space.vocabulary] * space.length
        else:
            self.start = int(space.low.min())
            self.sizes = [int(space.high.max()) - self.start + 1] * space.low.size

    def __call__(self, obs: Observation) -> Tensor:
        leaf = obs[self.name]
        return leaf.reshape(*leaf.shape[:2], 1, len(self.sizes)).long() - self.start


class _Patches(_Reader):
    """Images ``[S, B, H, W, C]`` uint8: the mean brightness of patches, in levels."""

    def __init__(self, name: str, options: AggregationOptions) -> None:
        self.name, self.patches, self.levels = name, options.patches, options.levels
        self.sizes = [options.levels] * options.patches**2

    def __call__(self, obs: Observation) -> Tensor:
        pixels = obs[self.name].float().mean(dim=-1)  # [S, B, H, W]
        grey = F.adaptive_avg_pool2d(pixels, self.patches)
        return (grey * (self.levels / 256)).long().flatten(2).unsqueeze(2)


class _Vectors(_Reader):
    """All vectors together, each entry squashed into [0, 1].

    Bounded entries are stretched; of others x becomes x / (1 + |x|) first.
    """

    def __init__(self, spaces: Mapping[str, Box], device: torch.device) -> None:
        self.names = list(spaces)
        low, high = (
            np.concatenate([getattr(space, end).ravel() for space in spaces.values()], dtype=float)
            for end in ("low", "high")
        )
        bounded = high - low <= MAX_RANGE
        self.bounded = torch.from_numpy(bounded).to(device)
        self.low = torch.from_numpy(np.where(bounded, low, -1.0)).float().to(device)
        scale = np.where(bounded, np.maximum(high - low, 1e-6), 2.0)
        self.scale = torch.from_numpy(scale).float().to(device)

    def squash(self, obs: Observation) -> Tensor:
        """``[S, B, entries]``; what is not a number counts as 0."""
        x = torch.cat([obs[name].flatten(2).float() for name in self.names], dim=-1)
        x = torch.where(self.bounded, x, x / (1 + x.abs()))
        return ((x - self.low) / self.scale).nan_to_num(0.0).clamp(0, 1)


class _Tiles(_Vectors):
    """Tile coding; the first digit is the number of the tiling."""

    def __init__(
        self, spaces: Mapping[str, Box], options: AggregationOptions, device: torch.device
    ) -> None:
        super().__init__(spaces, device)
        entries, tilings = len(self.low), options.tilings
        self.steps = options.tiles - 1  # the shifts reach into one more
        self.sizes = [tilings] + [options.tiles] * entries
        self.tiling = torch.arange(tilings, device=device).unsqueeze(-1)  # [T, 1]
        # shifts by odd multiples of 1/T, another one per entry, leave no direction preferred
        odd = 2 * torch.arange(entries, device=device) + 1
        self.shift = (self.tiling * odd % tilings) / tilings  # [T, entries]

    def __call__(self, obs: Observation) -> Tensor:
        x = self.squash(obs).unsqueeze(2) * self.steps  # [S, B, 1, entries]
        tiles = (x + self.shift).long()
        return torch.cat([self.tiling.expand(*tiles.shape[:-1], 1), tiles], dim=-1)


class _SimHash(_Vectors):
    """On which side of random planes, one per bit of a cell's number, the vectors lie."""

    def __init__(
        self, spaces: Mapping[str, Box], options: AggregationOptions, streams: Streams
    ) -> None:
        super().__init__(spaces, streams.device)
        self.sizes = [2] * options.cell_bits
        self.planes = streams.normal("parameters", len(self.low), options.cell_bits).clone()

    def __call__(self, obs: Observation) -> Tensor:
        sides = torch.bmm(2 * self.squash(obs) - 1, self.planes)  # [S, B, bits]
        return (sides > 0).long().unsqueeze(2)


def _is_quantity(space: Box) -> bool:
    """Tell whether a leaf's numbers have an order and distances."""
    kind = leaf_kind(space)
    wide = int(space.high.max()) - int(space.low.min()) >= MAX_SYMBOLS if kind == "symbols" else 0
    return kind == "vector" or bool(wide)


def _digits_of(name: str, space: Space, options: AggregationOptions) -> _Reader:
    return _Patches(name, options) if leaf_kind(space) == "image" else _Entries(name, space)
