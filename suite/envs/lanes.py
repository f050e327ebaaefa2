"""Lanes: a batch of environments ``[S, E]`` behind one contract, whatever engine steps them.

Engines disagree on when they reset (at once, or at the next step while ignoring its action) and
on where the last observation of an episode goes. Behind :class:`Lanes` every action counts,
``next_obs`` is the true outcome of the action, and ``obs`` is what to act on next.
"""

from __future__ import annotations

import resource
import time
from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np

from suite.spaces import Spaces
from suite.steps import LaneStep


class Usage(NamedTuple):
    """What processes have used so far."""

    cpu_seconds: float
    """Of all their threads."""
    peak_memory_mb: float
    """Largest resident memory of each, summed over them."""


def total_usage(usages: Iterable[Sequence[float]]) -> Usage:
    """What several processes have used together."""
    used = list(usages)
    return Usage(sum(one[0] for one in used), sum(one[1] for one in used))


def own_usage() -> Usage:
    """What this process has used."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return Usage(time.process_time(), peak / 1024)


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

    def usage(self) -> Usage:
        """What processes beside this one have used to step the lanes; also after ``close``."""
        return Usage(0.0, 0.0)

    @abstractmethod
    def close(self) -> None:
        """Free what the engine holds; may be called twice."""
