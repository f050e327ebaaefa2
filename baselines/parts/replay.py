"""Memory of off-policy algorithms: the last transitions of every seed, sampled uniformly."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from baselines.parts.rollout import take
from suite.steps import Observation
from suite.streams import Streams


class Replay:
    """A ring of ``capacity`` transitions per seed; leaves ``[S, capacity, ...]``.

    Args:
        capacity: transitions kept per seed.
        streams: each seed samples by its own numbers, from the ``"replay"`` role.

    Attributes:
        added: transitions ever stored, per seed.
    """

    def __init__(self, capacity: int, streams: Streams) -> None:
        self.capacity = capacity
        self.streams = streams
        self.added = 0
        self._leaves: dict[str, Tensor] = {}

    @property
    def size(self) -> int:
        """Transitions held per seed."""
        return min(self.added, self.capacity)

    def add(self, items: dict[str, Tensor], obs: Observation, next_obs: Observation) -> None:
        """Store leaves ``[S, E, ...]``, E transitions per seed, over the oldest ones.

        Raises:
            ValueError: E is larger than the capacity.
        """
        items = items | _prefixed("obs.", obs) | _prefixed("next_obs.", next_obs)
        if not self._leaves:
            self._leaves = {name: self._room(leaf) for name, leaf in items.items()}
        lanes = next(iter(items.values())).shape[1]
        start = self.added % self.capacity
        if start + lanes <= self.capacity:
            for name, leaf in items.items():
                self._leaves[name][:, start : start + lanes] = leaf
        else:
            if lanes > self.capacity:
                raise ValueError(f"{lanes} lanes do not fit a capacity of {self.capacity}")
            device = self.streams.device
            place = torch.arange(start, start + lanes, device=device) % self.capacity
            for name, leaf in items.items():
                self._leaves[name][:, place] = leaf
        self.added += lanes

    def sample(self, batch_size: int) -> tuple[dict[str, Tensor], Observation, Observation]:
        """Items, observations and next observations ``[S, B, ...]``, drawn with replacement."""
        batch = take(self._leaves, self.streams.integers("replay", self.size, batch_size))
        obs = {name[4:]: batch.pop(name) for name in list(batch) if name.startswith("obs.")}
        following = {name[9:]: batch.pop(name) for name in list(batch) if name[:9] == "next_obs."}
        return batch, obs, following

    def state_dict(self) -> dict[str, Any]:
        leaves = {name: leaf[:, : self.size].clone() for name, leaf in self._leaves.items()}
        return {"added": self.added, "leaves": leaves}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.added = state["added"]
        self._leaves = {name: self._room(leaf) for name, leaf in state["leaves"].items()}
        for name, leaf in state["leaves"].items():
            self._leaves[name][:, : self.size] = leaf

    def _room(self, leaf: Tensor) -> Tensor:
        return leaf.new_zeros(leaf.shape[0], self.capacity, *leaf.shape[2:])


def _prefixed(prefix: str, leaves: dict[str, Tensor]) -> dict[str, Tensor]:
    return {prefix + name: leaf for name, leaf in leaves.items()}
