"""Worlds: what a task of this family is, apart from its physics and from the lane contract.

A task is one subclass of :class:`Worlds` and one model. It is written in torch for N worlds at
once and runs unchanged on either engine; no loop goes over worlds.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import ClassVar

import mujoco
import numpy as np
import torch
from torch import Tensor

from suite.envs.isaacgym.draws import Draws
from suite.envs.isaacgym.physics import Physics, load_model
from suite.envs.lanes import Lanes
from suite.spaces import Box, Spaces
from suite.steps import LaneStep

LEAF = "observation"

_LARGEST = 1e6
"""A position or velocity beyond this is an explosion of the solver, not motion."""


class Worlds(ABC):
    """N worlds of one task.

    Attributes:
        elapsed: ``[N]`` int64, actions since the episode began; already counts the present one.
    """

    model: ClassVar[str]
    """File name in ``models/``."""
    substeps: ClassVar[int]
    """Time steps of the model per action."""
    num_observations: ClassVar[int]
    num_actions: ClassVar[int]
    limit: ClassVar[float] = np.inf
    """Observations are clipped to this, either side."""

    def __init__(self, physics: Physics, seeds: np.ndarray) -> None:
        """``seeds``: ``[N]``, one per world."""
        self.physics = physics
        self.device, self.dtype = physics.qpos.device, physics.qpos.dtype
        self.all = torch.arange(physics.worlds, device=self.device)
        self.draws = Draws(torch.as_tensor(seeds, dtype=torch.int64, device=self.device))
        self.elapsed = torch.zeros(physics.worlds, dtype=torch.int64, device=self.device)

    @classmethod
    def build_model(cls) -> mujoco.MjModel:
        """Compile the model; a task whose model holds more than its file says overrides this."""
        return load_model(cls.model)

    def tensor(self, values: object) -> Tensor:
        """Constants on the worlds' device, in their precision."""
        return torch.as_tensor(values, dtype=self.dtype, device=self.device)

    def uniform(self, which: Tensor, size: int, low: float = 0.0, high: float = 1.0) -> Tensor:
        """Draw ``[n, size]`` for the worlds of these indices, in their precision."""
        return self.draws.uniform(which, size, low, high).to(self.dtype)

    def examine(self) -> None:  # noqa: B027
        """Turn to evaluation, before the first episode; most tasks are the same as in training."""

    @abstractmethod
    def begin(self, which: Tensor) -> None:
        """Place the worlds of these indices ``[n]`` at the beginning of an episode."""

    def advance(self, action: Tensor) -> None:
        """Simulate one action ``[N, num_actions]`` in [-1, 1]."""
        self.physics.step(self.control(action), self.substeps)

    def control(self, action: Tensor) -> Tensor:
        """Controls ``[N, nu]`` of the model's actuators; the action itself unless overridden."""
        return action

    @abstractmethod
    def observe(self) -> Tensor:
        """``[N, num_observations]``, a function of the state alone: changes and draws nothing."""

    @abstractmethod
    def judge(self, action: Tensor) -> tuple[Tensor, Tensor]:
        """Reward ``[N]`` of what the action led to, and whether it ended the episode, bool."""

    def broken(self) -> Tensor:
        """``[N]`` bool: worlds whose simulation has exploded."""
        state = torch.cat([self.physics.qpos, self.physics.qvel], dim=1)
        return ~(state.abs() < _LARGEST).all(dim=1)  # also where it is not a number


class WorldLanes(Lanes):
    """Lanes ``[S, E]`` over ``N = S * E`` worlds.

    A world that explodes ends its episode as terminated, with reward 0 and an observation of
    zeros: among thousands of worlds that is an accident of the solver, not of the seed.

    Args:
        worlds: made for ``seeds.ravel()``.
        shape: ``(S, E)``.
        horizon: actions after which an episode is truncated.
    """

    def __init__(self, worlds: Worlds, shape: tuple[int, int], horizon: int) -> None:
        super().__init__(shape)
        self.worlds = worlds
        self.horizon = horizon
        limit = np.full(worlds.num_observations, worlds.limit, np.float32)
        reach = np.ones(worlds.num_actions, np.float32)
        self.spaces = Spaces(
            {LEAF: Box(-limit, limit, np.dtype(np.float32))},
            Box(-reach, reach, np.dtype(np.float32)),
        )

    def reset(self) -> dict[str, np.ndarray]:
        self._begin(self.worlds.all)
        return self._leaf(self._observe())

    def step(self, action: np.ndarray) -> LaneStep:
        worlds = self.worlds
        moves = worlds.tensor(action).reshape(-1, worlds.num_actions).clamp(-1, 1)
        worlds.elapsed += 1
        worlds.advance(moves)
        broken = worlds.broken()
        reward, terminated = worlds.judge(moves)
        reward = torch.where(broken, 0.0, reward)
        terminated = terminated | broken
        truncated = (worlds.elapsed >= self.horizon) & ~terminated
        observation = torch.where(broken[:, None], 0.0, self._observe())
        next_obs = obs = self._leaf(observation)
        ended = (terminated | truncated).nonzero()[:, 0]
        if len(ended):
            self._begin(ended)
            first = observation.clone()
            first[ended] = self._observe()[ended]
            obs = self._leaf(first)
        return LaneStep(
            obs,
            next_obs,
            reward.float().cpu().numpy().reshape(self.shape),
            terminated.cpu().numpy().reshape(self.shape),
            truncated.cpu().numpy().reshape(self.shape),
        )

    def close(self) -> None:
        self.worlds.physics.close()

    def _begin(self, which: Tensor) -> None:
        self.worlds.elapsed[which] = 0
        self.worlds.begin(which)

    def _observe(self) -> Tensor:
        return self.worlds.observe().clamp(-self.worlds.limit, self.worlds.limit).float()

    def _leaf(self, observation: Tensor) -> dict[str, np.ndarray]:
        return {LEAF: observation.cpu().numpy().reshape(*self.shape, -1)}
