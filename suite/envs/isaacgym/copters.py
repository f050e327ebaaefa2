"""Quadcopter and Ingenuity: fly to a place and hover there, upright and without spinning.

Observation (clipped to 5): the way to the goal, the body's attitude as x, y, z, w, its linear and
angular velocity in the world's frame; Quadcopter also sees how its rotors are tilted. Action: of
Quadcopter, how the set angles of its eight tilts change, then how the thrusts of its four rotors
change; of Ingenuity, the force of the lower and of the upper rotor, sideways, sideways and upward,
in the body's frame. Reward: near the goal, and there upright and still about the vertical axis, at
most 3 and 7. End: too far from the goal or too low. Source: IsaacGymEnvs 1.5.1.

Differences: speeds are not capped (there, angular ones at 4 pi rad/s); rotors take about a tenth of
a second to tilt (there, no time: stiffness 1000 without damping, which MuJoCo cannot hold); the
first action acts (there, the first step is made without forces). There is no ground, for episodes
end above it. Ingenuity's blades, which are for show and turn, are left out.
"""

from __future__ import annotations

import math
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor

from suite.envs.isaacgym.physics import Physics
from suite.envs.isaacgym.rotations import rotate
from suite.envs.isaacgym.worlds import Worlds

_PERIOD = 0.01
"""Seconds per action."""


class Copter(Worlds):
    """What both share. The body floats freely, joints come behind it."""

    substeps = 2
    limit = 5.0
    farthest: ClassVar[float]
    """Distance from the goal, in metres, beyond which the episode ends."""
    lowest: ClassVar[float]
    """Height, in metres, below which the episode ends."""
    poise: ClassVar[float]
    """What being upright adds to the reward at the goal."""

    def __init__(self, physics: Physics, seeds: np.ndarray) -> None:
        super().__init__(physics, seeds)
        self.start = self.tensor(physics.model.qpos0)
        self.goal = self.start[:3].repeat(physics.worlds, 1)
        """Where to hover, ``[N, 3]``; for Quadcopter always at the start."""

    def begin(self, which: Tensor) -> None:
        place = torch.cat(
            [self.uniform(which, 2, -1.5, 1.5), self.uniform(which, 1, 0.8, 2.5)], dim=1
        )
        level = self.start[3:7].expand(len(which), -1)
        joints = self.uniform(which, len(self.start) - 7, -0.2, 0.2)
        rest = place.new_zeros(len(which), self.physics.qvel.shape[1])
        self.physics.place(which, torch.cat([place, level, joints], dim=1), rest)

    def observe(self) -> Tensor:
        qpos, qvel = self.physics.qpos, self.physics.qvel
        return torch.cat(
            [
                (self.goal - qpos[:, :3]) / 3,
                qpos[:, 3:7].roll(-1, dims=1),
                qvel[:, :3] / 2,
                self._spin() / math.pi,
                qpos[:, 7:],
            ],
            dim=1,
        )

    def judge(self, action: Tensor) -> tuple[Tensor, Tensor]:
        qpos = self.physics.qpos
        distance = (self.goal - qpos[:, :3]).norm(dim=1)
        tilt = 2 * qpos[:, 4:6].square().sum(1)  # 1 minus the cosine of the angle to the vertical
        upright = self.poise / (1 + tilt**2)
        still = 1 / (1 + self._spin()[:, 2] ** 2)
        reward = (1 + upright + still) / (1 + distance**2)
        return reward, (distance > self.farthest) | (qpos[:, 2] < self.lowest)

    def _spin(self) -> Tensor:
        """Angular velocity ``[N, 3]`` in the world's frame."""
        return rotate(self.physics.qpos[:, 3:7], self.physics.qvel[:, 3:6])


class Quadcopter(Copter):
    """Four rotors around a disc, each on an arm that pitches and rolls; hover 1 m above ground."""

    model = "quadcopter.xml"
    num_observations = 21
    num_actions = 12
    farthest = 3.0
    lowest = 0.3
    poise = 1.0

    def __init__(self, physics: Physics, seeds: np.ndarray) -> None:
        super().__init__(physics, seeds)
        self.low, self.high = self.tensor(physics.model.jnt_range[1:]).unbind(1)
        self.angles = self.tensor(np.zeros((physics.worlds, 8)))
        """Set angles of the tilts, ``[N, 8]``: pitch and roll of each arm."""
        self.thrusts = self.tensor(np.zeros((physics.worlds, 4)))
        """Newtons, ``[N, 4]``."""

    def begin(self, which: Tensor) -> None:
        super().begin(which)
        self.angles[which] = self.physics.qpos[which, 7:]
        self.thrusts[which] = 0

    def advance(self, action: Tensor) -> None:
        turn, push = action[:, :8], action[:, 8:]
        self.angles = (self.angles + _PERIOD * 8 * math.pi * turn).clamp(self.low, self.high)
        self.thrusts = (self.thrusts + _PERIOD * 200 * push).clamp(0, 2)
        super().advance(action)

    def control(self, action: Tensor) -> Tensor:
        arms = [self.angles.reshape(-1, 4, 2), self.thrusts[:, :, None]]
        return torch.cat(arms, dim=2).flatten(1)


class Ingenuity(Copter):
    """Two rotors above each other, in the gravity of Mars; the goal moves every 500 actions."""

    model = "ingenuity.xml"
    num_observations = 13
    num_actions = 6
    farthest = 8.0
    lowest = 0.5
    poise = 5.0

    def begin(self, which: Tensor) -> None:
        super().begin(which)
        self._move_goal(which)

    def advance(self, action: Tensor) -> None:
        # before the action, as upstream: the observation before it still shows the old goal
        due = (self.elapsed > 1) & (self.elapsed % 500 == 1)
        self._move_goal(due.nonzero()[:, 0])
        super().advance(action)

    def control(self, action: Tensor) -> Tensor:
        rotors = action.reshape(-1, 2, 3)
        lift = _PERIOD * 2000 * rotors[..., 2:]
        return torch.cat([lift * rotors[..., :2].clamp(-0.2, 0.2), lift], dim=2).flatten(1)

    def _move_goal(self, which: Tensor) -> None:
        self.goal[which] = torch.cat(
            [self.uniform(which, 2, -5.0, 5.0), self.uniform(which, 1, 1.0, 2.0)], dim=1
        )
