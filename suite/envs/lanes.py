"""Lanes: a batch of environments ``[S, E]`` behind one contract, whatever engine steps them.

Engines disagree on when they reset (at once, or at the next step while ignoring its action) and
on where the last observation of an episode goes. Behind :class:`Lanes` every action counts,
``next_obs`` is the true outcome of the action, and ``obs`` is what to act on next.
"""

from __future__ import annotations

from abc import ABC, abstractmethod

import numpy as np

from suite.spaces import Spaces
from suite.steps import LaneStep


class Lanes(ABC):
    """S x E environments of one task.

    Attributes:
        spaces: spaces of a single lane.
        shape: ``(S, E)``.
        failures: seed row -> reason, for seeds of which a lane raised or died. Such a seed's lanes
            return zeros from then on; the lanes of other seeds are not touched.
    """

    spaces: Spaces

    def __init__(self, shape: tuple[int, int]) -> None:
        self.shape = shape
        self.failures: dict[int, str] = {}

    @abstractmethod
    def reset(self) -> dict[str, np.ndarray]:
        """Begin an episode in every lane; call once, before the first step. ``[S, E, ...]``."""

    @abstractmethod
    def step(self, action: np.ndarray) -> LaneStep:
        """Apply one action per lane, ``[S, E, ...]``; lanes whose episode ends begin a new one.

        Returns fresh arrays every time: on the CPU, tensors share their memory.
        """

    @abstractmethod
    def close(self) -> None:
        """Free what the engine holds; may be called twice."""
