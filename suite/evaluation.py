"""Evaluation: how good the present policies are, without touching their training.

Lanes, streams and carry of an evaluation are its own, so that evaluating more often changes
nothing. Every lane plays one episode: taking the first ones to finish would favour short episodes.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import torch

from suite.envs.lanes import Lanes
from suite.interface import to_numpy, to_tensors


class Evaluation(NamedTuple):
    """What every seed's policy achieved; dimension 1 is the episode."""

    returns: np.ndarray
    """``[S, episodes]`` float64, sums of the task's own rewards."""
    lengths: np.ndarray
    """``[S, episodes]`` int64, agent steps."""


def evaluate(agent: Any, lanes: Lanes, max_episode_steps: int, device: torch.device) -> Evaluation:
    """Play one episode per lane with the agent's evaluation policy.

    Args:
        agent: trains S seeds; only ``initial`` and ``act(..., explore=False)`` are called.
        lanes: fresh lanes ``[S, episodes]``; closed afterwards.
        max_episode_steps: an episode that has not ended by then ends there.
        device: of the agent.
    """
    returns = np.zeros(lanes.shape)
    lengths = np.zeros(lanes.shape, dtype=np.int64)
    playing = np.ones(lanes.shape, dtype=bool)
    try:
        obs = lanes.reset()
        first = torch.ones(lanes.shape, dtype=torch.bool, device=device)
        carry = agent.initial(lanes.shape[1])
        while playing.any():
            carry, action, _ = agent.act(carry, to_tensors(obs, device), first, False)
            step = lanes.step(to_numpy(action, lanes.spaces.action))
            obs = step.obs
            returns[playing] += step.reward[playing]
            lengths += playing
            ended = step.terminated | step.truncated
            playing &= ~ended & (lengths < max_episode_steps)
            playing[list(lanes.failures)] = False  # such lanes never end an episode
            first = torch.from_numpy(ended).to(device)
    finally:
        lanes.close()
    return Evaluation(returns, lengths)
