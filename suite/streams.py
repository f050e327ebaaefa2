"""Randomness: every random number is a function of (run seed, role, count) and nothing else.

``seed + i`` would make neighbouring runs share lanes; hashing keeps all streams apart. A number
that seed 3 sees does not depend on which other seeds train beside it, on how often an unrelated
role draws, or on the device: numbers are drawn on the CPU in large blocks, each block from its own
generator keyed by (seed, role, block index), and handed out as slices of ``[S, block]``. So the
loop over seeds runs once per block, not per draw, and a checkpoint stores only cursors.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

BLOCK = 1 << 16
"""Numbers drawn at once per seed and role; a request above this gets a block of its own size."""

PERIOD = 1 << 32
"""Blocks set apart for each period of a role that is restarted, more than any can use."""


def stream_key(seed: int, *role: str | int) -> int:
    """Hash a run seed and a role to 128 bits.

    Args:
        seed: run seed, any non-negative integer.
        role: what the stream is for, e.g. ``("lane", "train", segment, lane)``.

    Returns:
        An integer in ``[0, 2**128)``.
    """
    text = "/".join(map(str, (seed, *role)))
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=16).digest(), "little")


def lane_seeds(seeds: Sequence[int], role: str, period: int, lanes: int) -> np.ndarray:
    """Seeds for environment lanes.

    Args:
        seeds: the S run seeds.
        role: ``"train"`` or ``"evaluation"``, so that the two never share episodes.
        period: segment or evaluation index: lanes are made anew at each.
        lanes: E, lanes per seed.

    Returns:
        ``[S, E]`` int64 in ``[0, 2**31)``, the range that every engine accepts.
    """
    keys = [[stream_key(s, "lane", role, period, e) % 2**31 for e in range(lanes)] for s in seeds]
    return np.array(keys, dtype=np.int64)


def _normal(rng: np.random.Generator, size: int) -> np.ndarray:
    return rng.standard_normal(size, dtype=np.float32)


def _uniform(rng: np.random.Generator, size: int) -> np.ndarray:
    return rng.random(size, dtype=np.float32)


def _gumbel(rng: np.random.Generator, size: int) -> np.ndarray:
    return rng.gumbel(size=size).astype(np.float32)


def _integer(rng: np.random.Generator, size: int) -> np.ndarray:
    return rng.integers(0, 2**62, size=size)


class Streams:
    """The random numbers of S runs that train together.

    Every method takes a role, a name for the purpose ("exploration", "minibatch"), and returns
    ``[S, *shape]`` on the device, row s from seed s alone. Treat the result as read-only: it is a
    view of a block.
    """

    def __init__(self, seeds: Sequence[int], device: torch.device | str = "cpu") -> None:
        self.seeds = tuple(seeds)
        self.device = torch.device(device)
        self._cursors: dict[str, tuple[int, int, int]] = {}
        self._starts: dict[str, int] = {}
        self._blocks: dict[str, Tensor] = {}

    def normal(self, role: str, *shape: int) -> Tensor:
        """Standard normal, float32."""
        return self._take(role, "normal", _normal, shape)

    def uniform(self, role: str, *shape: int) -> Tensor:
        """Uniform in [0, 1), float32."""
        return self._take(role, "uniform", _uniform, shape)

    def gumbel(self, role: str, *shape: int) -> Tensor:
        """Standard Gumbel, float32: ``argmax(logits + gumbel)`` samples a categorical."""
        return self._take(role, "gumbel", _gumbel, shape)

    def integers(self, role: str, high: int, *shape: int) -> Tensor:
        """Uniform integers in [0, high), int64."""
        return self._take(role, "integer", _integer, shape) % high

    def permutation(self, role: str, size: int) -> Tensor:
        """A random order of ``range(size)`` for each seed, int64 ``[S, size]``."""
        # stable, because ties occur and every device must break them alike
        return self._take(role, "uniform", _uniform, (size,)).argsort(dim=1, stable=True)

    def restart(self, role: str, period: int) -> None:
        """Begin a role's numbers anew, as those of a period: they depend on no earlier draw."""
        self._starts[role] = period * PERIOD
        for name in [name for name in self._cursors if name.startswith(f"{role}/")]:
            del self._cursors[name]
            self._blocks.pop(name, None)

    def state_dict(self) -> dict[str, Any]:
        """Where every stream stands: (block index, numbers used of it, its length) by role."""
        return {"cursors": dict(self._cursors), "starts": dict(self._starts)}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self._cursors = {name: tuple(place) for name, place in state["cursors"].items()}
        self._starts = dict(state["starts"])
        self._blocks.clear()

    def _take(
        self,
        role: str,
        kind: str,
        draw: Callable[[np.random.Generator, int], np.ndarray],
        shape: tuple[int, ...],
    ) -> Tensor:
        name = f"{role}/{kind}"
        size = math.prod(shape)
        start = (self._starts.get(role, 0), 0, max(BLOCK, size))
        block, used, length = self._cursors.get(name, start)
        if used + size > length:  # a draw never straddles two blocks
            block, used, length = block + 1, 0, max(BLOCK, size)
            self._blocks.pop(name, None)
        if name not in self._blocks:
            self._blocks[name] = self._draw(name, block, draw, length)
        self._cursors[name] = (block, used + size, length)
        return self._blocks[name][:, used : used + size].view(len(self.seeds), *shape)

    def _draw(
        self,
        name: str,
        block: int,
        draw: Callable[[np.random.Generator, int], np.ndarray],
        size: int,
    ) -> Tensor:
        rows = [
            draw(np.random.Generator(np.random.SFC64(stream_key(seed, name, block))), size)
            for seed in self.seeds
        ]
        return torch.from_numpy(np.stack(rows)).to(self.device)
