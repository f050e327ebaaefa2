"""Control from pixels: random shifts of images and an encoder with a bounded output.

Yarats, Kostrikov, Fergus 2021, "Image Augmentation Is All You Need", https://arxiv.org/abs/2004.13649
(DrQ, with one copy of each image).

Differences from the paper: half the channels in the first layer, and a stride of 2 in the second
one too; actor and critic read the same features, of which the actor trains nothing, where DrQ's
actor has a dense layer of its own.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from baselines.parts.layers import MLP, PlainConvolutions
from baselines.parts.networks import Encoder, EncoderOptions, Reader
from suite.spaces import Box, Space, leaf_kind
from suite.steps import Observation
from suite.streams import Streams


class RandomShift:
    """Moves every image of a batch by its own whole number of pixels; the edge fills the gap.

    Args:
        streams: draws the shifts, role ``"augmentation"``.
        spaces: of the observation; other leaves than images stay as they are.
        reach: the largest shift in each direction; 0 changes nothing and draws nothing.
    """

    def __init__(self, streams: Streams, spaces: Mapping[str, Space], reach: int) -> None:
        self.streams, self.reach = streams, reach
        images = [name for name, space in spaces.items() if leaf_kind(space) == "image"]
        self.images = images if reach else []

    def __call__(self, obs: Observation) -> Observation:
        """Observations ``[S, B, ...]`` with their images shifted."""
        return {**obs, **{name: self._shifted(obs[name]) for name in self.images}}

    def _shifted(self, image: Tensor) -> Tensor:
        seeds, batch, height, width = image.shape[:4]
        choices = 2 * self.reach + 1
        offset = self.streams.integers("augmentation", choices, batch, 2, 1) - self.reach
        pixel = torch.arange(max(height, width), device=image.device)
        row = (pixel[:height] + offset[:, :, 0]).clamp(0, height - 1)  # [S, B, H]
        column = (pixel[:width] + offset[:, :, 1]).clamp(0, width - 1)  # [S, B, W]
        first = torch.arange(seeds * batch, device=image.device) * (height * width)
        place = row.unsqueeze(-1) * width + column.unsqueeze(-2) + first.view(seeds, batch, 1, 1)
        return image.flatten(0, 3).index_select(0, place.flatten()).view(image.shape)


class PixelEncoder(Encoder):
    """An encoder that reads images as DrQ does, and other leaves by its options."""

    def __init__(
        self, streams: Streams, spaces: Mapping[str, Space], options: EncoderOptions
    ) -> None:
        images = {name: space for name, space in spaces.items() if leaf_kind(space) == "image"}
        others = {name: space for name, space in spaces.items() if name not in images}
        super().__init__(streams, others, options)
        for name, space in images.items():
            self.readers.append(_Pixels(streams, name, cast(Box, space), options.features))
        self.outputs += len(images) * options.features


class _Pixels(Reader):
    """Images ``[S, B, H, W, C]`` uint8: small kernels, then a normalised dense layer and tanh."""

    LAYERS = ((16, 3, 2, 0), (32, 3, 2, 0), (32, 3, 1, 0), (32, 3, 1, 0))
    """Channels, kernel, stride, padding. DrQ's strides and channels take over three times as long
    (64 images of 64 x 64, forward and backward on a CPU: 108 against 30 ms)."""

    def __init__(self, streams: Streams, name: str, space: Box, features: int) -> None:
        super().__init__()
        self.name, self.outputs = name, features
        height, width, channels = space.shape
        self.convolutions = PlainConvolutions(streams, self.LAYERS, (channels, height, width))
        self.dense = MLP(streams, self.convolutions.outputs, (), features, init="orthogonal")
        shape, kind = (len(streams.seeds), 1, features), torch.get_default_dtype()
        self.scale = nn.Parameter(torch.ones(shape, dtype=kind, device=streams.device))
        self.shift = nn.Parameter(torch.zeros(shape, dtype=kind, device=streams.device))

    def forward(self, obs: Observation) -> Tensor:
        pixels = obs[self.name].flatten(1, -4)
        x = pixels.to(torch.get_default_dtype()).mul_(1 / 255).sub_(0.5).movedim(-1, 2)
        dense = self.dense(self.convolutions(x))
        return torch.tanh(
            torch.addcmul(self.shift, F.layer_norm(dense, dense.shape[2:]), self.scale)
        )
