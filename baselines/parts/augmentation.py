"""Random shifts of images, with which a critic learns from few of them.

Yarats, Kostrikov, Fergus 2021, "Image Augmentation Is All You Need", https://arxiv.org/abs/2004.13649
(DrQ, with one copy of each image).
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from suite.spaces import Space, leaf_kind
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
