"""Exploration: departures from the greedy action."""

from __future__ import annotations

import torch
from torch import Tensor

from baselines.parts.actions import Factored
from suite.streams import Streams


def epsilon_greedy(
    actions: Factored,
    choice: Tensor,
    epsilon: float,
    streams: Streams,
    role: str = "exploration",
) -> Tensor:
    """Replace choices by random ones, each dimension of an action for itself.

    Args:
        actions: draws the random choices.
        choice: the greedy one, ``[S, E, D]``.
        epsilon: probability of a random choice, which may be the greedy one.
        streams: each seed wanders by its own numbers.
        role: of the streams; another one in evaluation.
    """
    uniform = streams.uniform(role, *choice.shape[1:], 2)
    wander = uniform[..., 0] < epsilon
    return torch.where(wander, actions.random(uniform[..., 1]), choice)
