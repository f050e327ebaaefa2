"""From observations to features: the one place where an algorithm meets kinds of leaves.

Every leaf has a kind (:func:`suite.spaces.leaf_kind`): images pass a convolutional network; grids
of symbols are embedded, then convolved; texts are embedded and read by a small convolution;
categories and short rows of symbols become one-hot; vectors stay what they are, or are standardised
or squashed. What comes out of all leaves is concatenated.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, cast

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from baselines.parts.layers import MLP, Convolutions, Embedding, Impala, PlainConvolutions
from baselines.parts.normalise import RunningMoments
from suite.spaces import Box, Discrete, MultiDiscrete, Space, Text, leaf_kind
from suite.steps import Observation
from suite.streams import Streams

ImageNetwork = Literal["nature", "impala"]
VectorScale = Literal["none", "moments", "symlog"]

NATURE = ((32, 8, 4, 0), (64, 4, 2, 0), (64, 3, 1, 0))
"""Channels, kernel, stride, padding of Mnih et al. 2015, for images of at least 36 x 36 pixels."""

SMALL = ((32, 3, 2, 1), (64, 3, 2, 1))
"""The same for smaller images, and for grids of symbols."""

LARGE_GRID = 12
"""Grids whose shorter side is longer than this pass one more layer of stride 2 first."""

MAX_ONE_HOT = 1024
"""Rows of symbols that need at most this many one-hot inputs get them; longer ones are read."""

MAX_SYMBOLS = 1 << 15
"""Integers with a wider range than this are quantities."""

EMBEDDING = 32
"""Features of a symbol or token."""


@dataclass(frozen=True)
class EncoderOptions:
    """How leaves are read; algorithms fill it from their config."""

    image_network: ImageNetwork = "nature"
    features: int = 512
    """Outputs of the dense layer after an image or a grid; a text has an eighth of it."""
    vectors: VectorScale = "none"
    """``moments``: standardised by running moments. ``symlog``: sign(x) log(1 + |x|), for
    quantities of unknown scale (Hafner et al. 2023)."""
    twice_differentiable: bool = False
    """See :class:`baselines.parts.layers.MLP`."""


class Encoder(nn.Module):
    """Observation leaves to features: ``{name: [S, ..., *leaf]} -> [S, B, F]``.

    Dimensions between the seed and a leaf's own become B.
    """

    def __init__(
        self,
        streams: Streams,
        spaces: Mapping[str, Space],
        options: EncoderOptions = EncoderOptions(),
    ) -> None:
        super().__init__()
        self.readers = nn.ModuleList()
        for names in _groups(spaces):
            self.readers.append(_reader(streams, {name: spaces[name] for name in names}, options))
        self.outputs = sum(reader.outputs for reader in self._readers())

    def forward(self, obs: Observation) -> Tensor:
        features = [reader(obs) for reader in self.readers]
        return features[0] if len(features) == 1 else torch.cat(features, dim=-1)

    def update(self, obs: Observation) -> None:
        """Take a batch of observations into the running moments, if there are any."""
        for reader in self._readers():
            reader.update(obs)

    def _readers(self) -> list[Reader]:
        return [cast(Reader, reader) for reader in self.readers]


class Reader(nn.Module):
    """Reads some leaves of an observation; ``outputs`` features ``[S, B, F]``."""

    outputs: int

    def update(self, obs: Observation) -> None:
        """Take in statistics; most readers have none."""


def _groups(spaces: Mapping[str, Space]) -> list[list[str]]:
    """Leaves that are read together: grids over the same cells; others by themselves."""
    groups: dict[object, list[str]] = {}
    for name, space in spaces.items():
        key = ("grid", space.shape[:2]) if _is_grid(space) else name
        groups.setdefault(key, []).append(name)
    return list(groups.values())


def _reader(streams: Streams, spaces: dict[str, Space], options: EncoderOptions) -> Reader:
    (name, space), *_ = spaces.items()
    if leaf_kind(space) == "image":
        return _Image(streams, name, cast(Box, space), options)
    if _is_grid(space):
        return _Grid(streams, cast(dict[str, Box], spaces), options)
    if isinstance(space, Text):
        return _Sequence(streams, name, 0, space.vocabulary, options)
    if _num_symbols(space):
        space = cast(Box, space)
        if space.low.size * _num_symbols(space) > MAX_ONE_HOT:
            return _Sequence(streams, name, int(space.low.min()), _num_symbols(space), options)
    if isinstance(space, Box) and not _num_symbols(space):
        return _Vector(streams, name, space, options.vectors)
    return _OneHot(name, space)


def _num_symbols(space: Space) -> int:
    """Different values that an element of a leaf of symbols can take; 0 for other leaves."""
    if not isinstance(space, Box) or leaf_kind(space) != "symbols":
        return 0
    count = int(space.high.max()) - int(space.low.min()) + 1
    return count if count <= MAX_SYMBOLS else 0


def _is_grid(space: Space) -> bool:
    return len(space.shape) in (2, 3) and _num_symbols(space) > 0


def _batched(values: Tensor, shape: Sequence[int]) -> Tensor:
    """``[S, ..., *shape] -> [S, B, *shape]``."""
    return values.reshape(values.shape[0], -1, *shape)


class _Vector(Reader):
    """Numbers, flattened."""

    def __init__(self, streams: Streams, name: str, space: Box, scale: VectorScale) -> None:
        super().__init__()
        self.name, self.scale = name, scale
        self.outputs = space.low.size
        if scale == "moments":
            self.moments = RunningMoments(len(streams.seeds), self.outputs, streams.device)

    def forward(self, obs: Observation) -> Tensor:
        flat = self._flat(obs)
        if self.scale == "moments":
            return self.moments(flat)
        return flat.sign() * flat.abs().log1p() if self.scale == "symlog" else flat

    def update(self, obs: Observation) -> None:
        if self.scale == "moments":
            self.moments.update(self._flat(obs))

    def _flat(self, obs: Observation) -> Tensor:
        return _batched(obs[self.name], (self.outputs,)).to(torch.get_default_dtype())


class _OneHot(Reader):
    """Categories, and rows of few symbols."""

    def __init__(self, name: str, space: Space) -> None:
        super().__init__()
        self.name = name
        self.start = 0
        if isinstance(space, Discrete):
            self.sizes = [space.n]
        elif isinstance(space, MultiDiscrete):
            self.sizes = list(space.sizes)
        else:
            box = cast(Box, space)
            self.start = int(box.low.min())
            self.sizes = [_num_symbols(box)] * box.low.size
        self.outputs = sum(self.sizes)

    def forward(self, obs: Observation) -> Tensor:
        values = _batched(obs[self.name], (len(self.sizes),)).long() - self.start
        if len(set(self.sizes)) == 1:
            hot = F.one_hot(values, self.sizes[0]).flatten(2)
        else:
            parts = zip(values.unbind(-1), self.sizes, strict=True)
            hot = torch.cat([F.one_hot(part, size) for part, size in parts], dim=-1)
        return hot.to(torch.get_default_dtype())


class _Image(Reader):
    """Pixels ``[S, B, H, W, C]`` uint8: convolutions, then a dense layer."""

    def __init__(self, streams: Streams, name: str, space: Box, options: EncoderOptions) -> None:
        super().__init__()
        self.name, self.shape = name, space.shape
        height, width, channels = space.shape
        size = (channels, height, width)
        self.convolutions: Convolutions
        if options.image_network == "impala":
            self.convolutions = Impala(streams, size)
        else:
            layers = NATURE if min(height, width) >= 36 else SMALL
            self.convolutions = PlainConvolutions(streams, layers, size)
        self.dense = _dense(streams, self.convolutions.outputs, options.features, options)
        self.outputs = options.features

    def forward(self, obs: Observation) -> Tensor:
        pixels = _batched(obs[self.name], self.shape)
        x = pixels.to(torch.get_default_dtype()).mul_(1 / 255).movedim(-1, 2)
        return cast(Tensor, self.dense(self.convolutions(x)))


class _Grid(Reader):
    """Symbols on the same cells ``[S, B, H, W]`` or ``[S, B, H, W, C]``, in one or more leaves.

    What stands on a cell is the sum of its symbols' embeddings, each channel with a table of its
    own; convolutions and a dense layer follow.
    """

    def __init__(self, streams: Streams, spaces: dict[str, Box], options: EncoderOptions) -> None:
        super().__init__()
        self.shapes = {name: space.shape for name, space in spaces.items()}
        height, width = next(iter(self.shapes.values()))[:2]
        starts, counts = [], []
        for space in spaces.values():
            low = space.low.reshape(height, width, -1).min(axis=(0, 1))
            high = space.high.reshape(height, width, -1).max(axis=(0, 1))
            starts += low.tolist()
            counts += (high.astype(np.int64) - low + 1).tolist()
        # channel c's symbols begin at places[c] of the one table that holds all of them
        places = np.cumsum([0, *counts[:-1]]) - np.array(starts)
        self.places: Tensor
        self.register_buffer("places", torch.from_numpy(places).to(streams.device), False)
        self.embedding = Embedding(streams, sum(counts), EMBEDDING)
        large = min(height, width) > LARGE_GRID
        first = ((EMBEDDING, 3, 2, 1),) if large else ((EMBEDDING, 3, 1, 1),)
        layers = (*first, *(SMALL if large else SMALL[1:]))
        self.convolutions = PlainConvolutions(streams, layers, (EMBEDDING, height, width))
        self.dense = _dense(streams, self.convolutions.outputs, options.features, options)
        self.outputs = options.features

    def forward(self, obs: Observation) -> Tensor:
        channels = [
            _batched(obs[name], shape if len(shape) == 3 else (*shape, 1)).long()
            for name, shape in self.shapes.items()
        ]
        symbols = torch.cat(channels, dim=-1) + self.places  # [S, B, H, W, channels]
        cells = self.embedding.total(symbols)  # [S, B, H, W, EMBEDDING]
        return cast(Tensor, self.dense(self.convolutions(cells.movedim(-1, 2))))


class _Sequence(Reader):
    """A text, or a long row of symbols: embedded, read three at a time, the strongest kept."""

    WIDTH = 3

    def __init__(
        self, streams: Streams, name: str, start: int, symbols: int, options: EncoderOptions
    ) -> None:
        super().__init__()
        self.name, self.start = name, start
        self.embedding = Embedding(streams, symbols, EMBEDDING)
        self.outputs = max(1, options.features // 8)
        self.read = _dense(streams, self.WIDTH * EMBEDDING, self.outputs, options)

    def forward(self, obs: Observation) -> Tensor:
        length = obs[self.name].shape[-1]
        tokens = _batched(obs[self.name], (length,)).long() - self.start
        padded = F.pad(self.embedding(tokens), (0, 0, self.WIDTH // 2, self.WIDTH // 2))
        triples = padded.unfold(2, self.WIDTH, 1).flatten(3)  # [S, B, length, WIDTH * EMBEDDING]
        read = self.read(triples.flatten(1, 2)).unflatten(1, (-1, length))
        return cast(Tensor, read.amax(dim=2))


def _dense(streams: Streams, inputs: int, outputs: int, options: EncoderOptions) -> MLP:
    twice = options.twice_differentiable
    return MLP(streams, inputs, (outputs,), None, init="orthogonal", twice_differentiable=twice)
