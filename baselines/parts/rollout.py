"""Memory of on-policy algorithms: the last T steps of every lane."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from suite.steps import Transition


class Rollout:
    """Collects T transitions and hands them out as one, leaves ``[S, T, E, ...]``."""

    def __init__(self, steps: int) -> None:
        self.steps = steps
        self._held: list[Transition] = []

    def add(self, transition: Transition) -> Transition | None:
        """Take in a step, not a copy of it; the rollout once it is full, else None.

        The step after a full rollout starts another.
        """
        self._held.append(transition)
        if len(self._held) < self.steps:
            return None
        held, self._held = self._held, []
        return _stack(held)

    def state_dict(self) -> dict[str, Any]:
        return {"held": _stack(self._held)._asdict() if self._held else None}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self._held = [] if state["held"] is None else _unstack(Transition(**state["held"]))


def _stack(steps: list[Transition]) -> Transition:
    """Steps as one transition, leaves ``[S, T, E, ...]``."""
    fields: list[Any] = []
    for parts in zip(*steps, strict=True):
        if isinstance(parts[0], dict):
            leaves = {name: [part[name] for part in parts] for name in parts[0]}
            fields.append({name: torch.stack(leaf, dim=1) for name, leaf in leaves.items()})
        else:
            fields.append(torch.stack(parts, dim=1))
    return Transition(*fields)


def _unstack(steps: Transition) -> list[Transition]:
    def step(part: Any, t: int) -> Any:
        if isinstance(part, dict):
            return {name: leaf[:, t] for name, leaf in part.items()}
        return part[:, t]

    return [Transition(*(step(part, t) for part in steps)) for t in range(steps.reward.shape[1])]


def take(leaves: dict[Any, Tensor], index: Tensor) -> dict[Any, Tensor]:
    """Pick items of each seed: leaves ``[S, N, ...]`` by ``index [S, B]`` give ``[S, B, ...]``."""
    seeds, size = next(iter(leaves.values())).shape[:2]
    first = torch.arange(0, seeds * size, size, device=index.device)
    flat = (index + first.unsqueeze(1)).flatten()
    return {
        name: leaf.flatten(0, 1).index_select(0, flat).view(*index.shape, *leaf.shape[2:])
        for name, leaf in leaves.items()
    }
