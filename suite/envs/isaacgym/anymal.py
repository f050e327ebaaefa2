"""Anymal: a dog of 52 kg walks on a plane as it is told: forwards, sideways, turning.

Observation (48, clipped to 5): the base's velocity and angular velocity in its own frame, the
direction of gravity, the command, joint angles (0 where the dog stands) and velocities, and the
action. Action (12): targets of the joints' drives, up to 0.5 rad from where the dog stands.
Reward: up to 0.02 for moving and 0.01 for turning as told, less a cost of torque, never below 0.
End: the base or a thigh touches the ground. Source: IsaacGymEnvs 1.5.1, whose formulas are kept
where they surprise: gravity is turned by the base's attitude, not back by it.

Differences: no joint is faster than 20 rad/s there; nothing limits it here. The first observation
of an episode shows the action 0 (there, the last of the episode before).
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from suite.envs.isaacgym.physics import Physics
from suite.envs.isaacgym.rotations import rotate, rotate_back
from suite.envs.isaacgym.worlds import Worlds

PERIOD = 0.02
"""Seconds per action."""

_FORCES, _TORQUES = slice(0, 15), slice(15, 27)
"""In the model's sensors: forces on base and thighs, torques of the joints."""


class Dog(Worlds):
    """What Anymal and AnymalTerrain share: the robot, its drives, and the command it follows.

    Attributes:
        action: ``[N, 12]`` the present one.
        command: ``[N, 3]``.
    """

    num_actions = 12

    def __init__(self, physics: Physics, seeds: np.ndarray) -> None:
        super().__init__(physics, seeds)
        self.start = self.tensor(physics.model.key_qpos[0])
        self.standing = self.start[7:]
        self.scale = self.tensor([2.0, 2.0, 0.25])
        """Of velocities forwards, sideways and of turning in the observation."""
        self.down = self.tensor([0.0, 0.0, -1.0]).expand(physics.worlds, 3)
        self.action = self.tensor(np.zeros((physics.worlds, self.num_actions)))
        self.command = self.tensor(np.zeros((physics.worlds, 3)))

    def put(self, which: Tensor, base: Tensor) -> None:
        """Begin with the bases at ``[n, 3]``, level and at rest, and the joints somewhere."""
        attitude = self.start[3:7].expand(len(which), -1)
        angles = self.standing * self.uniform(which, 12, 0.5, 1.5)
        speeds = self.uniform(which, 12, -0.1, 0.1)
        self.physics.place(
            which,
            torch.cat([base, attitude, angles], dim=1),
            torch.nn.functional.pad(speeds, (6, 0)),
        )
        self.action[which] = 0

    def control(self, action: Tensor) -> Tensor:
        return self.standing + 0.5 * action

    def advance(self, action: Tensor) -> None:
        self.action = action
        super().advance(action)

    def velocity(self) -> Tensor:
        """The base's, in its own frame: ``[N, 3]``."""
        return rotate_back(self.physics.qpos[:, 3:7], self.physics.qvel[:, :3])

    def torques(self) -> Tensor:
        """Of the joints, ``[N, 12]``, in the last time step."""
        return self.physics.sensors[:, _TORQUES]

    def touching(self) -> Tensor:
        """Whether base and thighs touch anything, ``[N, 5]`` bool."""
        forces = self.physics.sensors[:, _FORCES].reshape(-1, 5, 3)
        return forces.square().sum(2) > 1  # newton

    def following(self, wanted: Tensor) -> Tensor:
        """Reward ``[N]`` for moving as wanted, ``[N, 3]``: forwards, sideways, turning."""
        missed = (wanted[:, :2] - self.velocity()[:, :2]).square().sum(1)
        turn_missed = (wanted[:, 2] - self.physics.qvel[:, 5]).square()
        return torch.exp(-missed / 0.25) + 0.5 * torch.exp(-turn_missed / 0.25)


class Anymal(Dog):
    """The command is a velocity forwards, sideways and of turning, one for the whole episode."""

    model = "anymal.xml"
    substeps = 2
    num_observations = 48
    limit = 5.0

    def begin(self, which: Tensor) -> None:
        self.put(which, self.start[:3].expand(len(which), -1))
        self.command[which] = self.uniform(which, 3, -1.0) * self.tensor([2.0, 1.0, 1.0])

    def observe(self) -> Tensor:
        qpos, qvel = self.physics.qpos, self.physics.qvel
        return torch.cat(
            [
                self.velocity() * 2,
                qvel[:, 3:6] * 0.25,
                rotate(qpos[:, 3:7], self.down),
                self.command * self.scale,
                qpos[:, 7:] - self.standing,
                qvel[:, 6:] * 0.05,
                self.action,
            ],
            dim=1,
        )

    def judge(self, action: Tensor) -> tuple[Tensor, Tensor]:
        effort = self.torques().square().sum(1)
        reward = PERIOD * (self.following(self.command) - 2.5e-5 * effort)
        return reward.clamp(min=0), self.touching().any(dim=1)
