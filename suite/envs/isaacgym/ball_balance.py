"""BallBalance: catch a ball with a tray on three legs and hold it still over the middle.

Observation (24, clipped to 5): angles and speeds of the three knees, the ball's position and
velocity, and a twentieth of what the legs do to the tray: the force along x of each leg, then the
torques about x of each, about y and about z. Action (3): how the set angles of the knees change.
Reward: at most 1, for a ball that is slow and near a point 0.7 m above the ground, in the middle.
End: the ball fallen off. Source: IsaacGymEnvs 1.5.1.

Differences: forces and torques are those between the tray and each leg, where they meet, in the
tray's frame, and 0 in an episode's first observation (PhysX's sensors tell what acts on the tray
altogether, so that their three forces are equal). Knees carry an armature of 0.5 kg m^2, without
which their drives do not hold in MuJoCo; they follow within a tenth of a second. The first action
acts (there, the first step is made with knees set to 0). The robot meets the ball and nothing else,
and there is no ground, for episodes end above it.
"""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor

from suite.envs.isaacgym.physics import Physics
from suite.envs.isaacgym.rotations import rotate
from suite.envs.isaacgym.worlds import Worlds

_PERIOD = 0.01
"""Seconds per action."""


class BallBalance(Worlds):
    """Positions and velocities: of the tray, of hip and knee of each leg, of the ball."""

    model = "ball_balance.xml"
    substeps = 2
    num_observations = 24
    num_actions = 3
    limit = 5.0

    def __init__(self, physics: Physics, seeds: np.ndarray) -> None:
        super().__init__(physics, seeds)
        model = physics.model
        self.start = self.tensor(model.qpos0)
        self.low, self.high = self.tensor(model.actuator_ctrlrange).unbind(1)
        mounts = [model.body(f"mount{leg}").id for leg in range(3)]
        self.mounts = self.tensor(model.body_quat[mounts])
        """How the frames in which legs are felt lie in the tray's, ``[3, 4]``."""
        self.angles = self.tensor(np.zeros((physics.worlds, 3)))
        """Set angles of the knees, ``[N, 3]``."""

    def begin(self, which: Tensor) -> None:
        share, turn, height, speed = self.uniform(which, 4).unbind(1)
        turn = math.pi * (2 * turn - 1)
        way = torch.stack([turn.cos(), turn.sin()], dim=1)
        qpos = self.start.repeat(len(which), 1)
        qpos[:, 13:15] = (0.001 + 0.499 * share)[:, None] * way
        qpos[:, 15] = 1 + height
        qvel = qpos.new_zeros(len(which), self.physics.qvel.shape[1])
        qvel[:, 12:14] = (-5 * speed * share)[:, None] * way  # the further out, the faster inward
        qvel[:, 14] = -5
        self.physics.place(which, qpos, qvel)
        self.angles[which] = 0

    def advance(self, action: Tensor) -> None:
        self.angles = (self.angles + _PERIOD * 20 * action).clamp(self.low, self.high)
        super().advance(action)

    def control(self, action: Tensor) -> Tensor:
        return self.angles

    def observe(self) -> Tensor:
        qpos, qvel = self.physics.qpos, self.physics.qvel
        force, torque = self._legs().unbind(2)
        return torch.cat(
            [
                qpos[:, 8:13:2],
                qvel[:, 7:12:2],
                qpos[:, 13:16],
                qvel[:, 12:15],
                force[..., 0] / 20,
                torque.transpose(1, 2).flatten(1) / 20,
            ],
            dim=1,
        )

    def judge(self, action: Tensor) -> tuple[Tensor, Tensor]:
        ball, velocity = self.physics.qpos[:, 13:16], self.physics.qvel[:, 12:15]
        distance = torch.hypot(ball[:, :2].norm(dim=1), ball[:, 2] - 0.7)
        reward = 1 / (1 + distance) / (1 + velocity.norm(dim=1))
        return reward, ball[:, 2] < 0.15

    def _legs(self) -> Tensor:
        """Force and torque of each leg on the tray, in the tray's frame: ``[N, 3, 2, 3]``."""
        felt = -self.physics.sensors.reshape(-1, 3, 2, 3)  # MuJoCo tells the tray's on the leg
        return rotate(self.mounts[:, None].expand(*felt.shape[:-1], 4), felt)
