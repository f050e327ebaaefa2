"""Evaluation: how good the present policies are, without touching their training.

Lanes, streams and carry of an evaluation are its own, so that evaluating more often changes
nothing. Every lane plays the same number of episodes: taking the first ones to finish would
favour short episodes.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import torch

from suite.envs.lanes import Lanes
from suite.interface import to_numpy, to_tensors

MAX_LANES = 16
"""Evaluation lanes per seed; the episodes per seed are a multiple of the lanes."""


class Evaluation(NamedTuple):
    """What every seed's policy achieved; dimension 1 is the episode."""

    returns: np.ndarray
    """``[S, episodes]`` float64, sums of the task's own rewards."""
    lengths: np.ndarray
    """``[S, episodes]`` int64, agent steps."""


def evaluation_lanes(episodes: int) -> int:
    """Lanes per seed: the largest divisor of ``episodes`` that is at most ``MAX_LANES``."""
    return max(n for n in range(1, min(episodes, MAX_LANES) + 1) if episodes % n == 0)


def evaluate(
    agent: Any, lanes: Lanes, episodes: int, max_episode_steps: int, device: torch.device
) -> Evaluation:
    """Play ``episodes`` episodes per seed with the agent's evaluation policy.

    Args:
        agent: trains S seeds; only ``initial`` and ``act(..., explore=False)`` are called.
        lanes: fresh lanes ``[S, E]``; closed afterwards. E divides ``episodes``.
        episodes: per seed.
        max_episode_steps: an episode that has not ended by then ends there.
        device: of the agent.
    """
    seeds, width = lanes.shape
    rounds = episodes // width
    returns = np.zeros((seeds, rounds, width))
    lengths = np.zeros((seeds, rounds, width), dtype=np.int64)
    played = np.zeros((seeds, width), dtype=np.int64)
    rows, columns = np.indices((seeds, width))
    try:
        obs = lanes.reset()
        first = torch.ones(seeds, width, dtype=torch.bool, device=device)
        carry = agent.initial(width)
        while True:
            carry, action, _ = agent.act(carry, to_tensors(obs, device), first, False)
            step = lanes.step(to_numpy(action, lanes.spaces.action))
            obs = step.obs
            playing = played < rounds
            place = (rows[playing], played[playing], columns[playing])
            returns[place] += step.reward[playing]
            lengths[place] += 1
            ended = step.terminated | step.truncated
            cut = np.zeros_like(ended)
            cut[playing] = lengths[place] >= max_episode_steps
            played += playing & (ended | cut)
            played[list(lanes.failures)] = rounds  # such lanes never end an episode
            if (played >= rounds).all():
                break
            first = torch.from_numpy(ended).to(device)
    finally:
        lanes.close()
    return Evaluation(returns.reshape(seeds, -1), lengths.reshape(seeds, -1))
