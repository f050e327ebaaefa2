"""Memory of on-policy algorithms: the last T steps of every lane."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor

from suite.steps import Transition


class Rollout:
    """Fills with T transitions and hands them out as one, leaves ``[S, T, E, ...]``."""

    def __init__(self, steps: int) -> None:
        self.steps = steps
        self.filled = 0
        self._leaves: Any = None

    def add(self, transition: Transition) -> bool:
        """Store a step; True when the rollout is full (the next step starts it anew)."""
        if self.filled == self.steps:
            self.filled = 0
        if self._leaves is None:
            self._leaves = _map(
                lambda x: x.new_empty(x.shape[0], self.steps, *x.shape[1:]), transition
            )
        _copy(self._leaves, transition, self.filled)
        self.filled += 1
        return self.filled == self.steps

    def all(self) -> Transition:
        """The whole rollout, leaves ``[S, T, E, ...]``; only valid when full."""
        return self._leaves

    def state_dict(self) -> dict[str, Any]:
        leaves = None if self._leaves is None else self._leaves._asdict()
        return {"filled": self.filled, "leaves": leaves}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.filled = state["filled"]
        leaves = state["leaves"]
        self._leaves = None if leaves is None else _map(torch.clone, Transition(**leaves))


def _map(function: Any, transition: Transition) -> Transition:
    """Apply a function to every tensor of a transition."""
    leaves: list[Any] = [
        {k: function(v) for k, v in leaf.items()} if isinstance(leaf, dict) else function(leaf)
        for leaf in transition
    ]
    return Transition(*leaves)


def _copy(leaves: Transition, transition: Transition, t: int) -> None:
    pairs: Iterable[tuple[Any, Any]] = zip(leaves, transition, strict=True)
    for target, source in pairs:
        if isinstance(target, dict):
            for name, tensor in target.items():
                tensor[:, t] = source[name]
        else:
            target[:, t] = source


def take(leaves: dict[Any, Tensor], index: Tensor) -> dict[Any, Tensor]:
    """Pick items of each seed: leaves ``[S, N, ...]`` by ``index [S, B]`` give ``[S, B, ...]``."""
    seeds, size = next(iter(leaves.values())).shape[:2]
    first = torch.arange(0, seeds * size, size, device=index.device)
    flat = (index + first.unsqueeze(1)).flatten()
    return {
        name: leaf.flatten(0, 1).index_select(0, flat).view(*index.shape, *leaf.shape[2:])
        for name, leaf in leaves.items()
    }
