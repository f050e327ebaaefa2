"""Rollouts written down by hand, and policies that are tables."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from agents_support import make_agent
from torch import Tensor

from suite.spaces import ActionSpace, Discrete, Spaces
from suite.steps import Transition

Rows = list[list[float]]
"""One list per seed with one entry per step: ``[S, T]``, of a single lane."""


def table_agent(
    algorithm: str,
    actions: ActionSpace | None = None,
    seeds: tuple[int, ...] = (0,),
    **changes: Any,
) -> Any:
    """An agent without hidden layers that observes 0 or 1."""
    spaces = Spaces({"observation": Discrete(2)}, actions or Discrete(2))
    defaults = {"lanes": 1, "hidden": (), "normalise_rewards": False}
    return make_agent(algorithm, spaces, 10_000, seeds, **(defaults | changes))


def hand_made(
    obs: Rows,
    sample: Rows,
    reward: Rows,
    terminated: Rows | None = None,
    truncated: Rows | None = None,
    next_obs: Rows | None = None,
) -> Transition:
    """A rollout ``[S, T, 1, ...]`` of observations, choices and rewards."""

    def leaf(rows: Rows | None, dtype: torch.dtype) -> Tensor:
        filled = rows if rows is not None else [[0] * len(row) for row in obs]
        return torch.tensor(filled).to(dtype).unsqueeze(-1)

    choice = leaf(sample, torch.int64)
    return Transition(
        obs={"observation": leaf(obs, torch.int64)},
        action=choice,
        reward=leaf(reward, torch.float32),
        next_obs={"observation": leaf(next_obs, torch.int64)},
        terminated=leaf(terminated, torch.bool),
        truncated=leaf(truncated, torch.bool),
        extras={"sample": choice.unsqueeze(-1)},
    )


def record(agent: Any, method: str, monkeypatch: Any) -> list[Any]:
    """What a method of an agent returns from now on."""
    original: Callable[..., Any] = getattr(agent, method)
    returned: list[Any] = []

    def recorded(*arguments: Any) -> Any:
        returned.append(original(*arguments))
        return returned[-1]

    monkeypatch.setattr(agent, method, recorded)
    return returned
