"""Ant and Humanoid: run along the x axis, as fast as possible and without falling.

Observation (60, 108): height, velocities in the torso's frame, the torso's attitude and heading,
joint angles (their limits are -1 and 1) and velocities, forces, and the action before. Action (8,
21): joint torques. Reward: forward speed, staying up and facing forward, minus costs of action,
energy and joints at their limits. End: a torso too low. Source: IsaacGymEnvs 1.5.1, whose formulas
are kept where they surprise: yaw and roll of Ant jump from 0 to 2 pi, and the angle to the target
takes the height where it means the sideways distance, so that it is about minus the yaw.

Differences: a foot feels its contacts alone (PhysX's sensors sum all forces on it, so that a foot
at rest feels none). The force in a joint of Humanoid is the torque of its motor, spring, damper and
stop (PhysX measures it in the solver). Neither joints nor bodies have a limit of speed.
"""

from __future__ import annotations

import math
from abc import abstractmethod
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor

from suite.envs.isaacgym.physics import Physics
from suite.envs.isaacgym.rotations import roll_and_yaw, rotate, rotate_back
from suite.envs.isaacgym.worlds import Worlds

_TARGET = 1000.0
"""Where to run: this far along the x axis, in metres."""

_PERIOD = 0.0166
"""Seconds per action."""


class Runner(Worlds):
    """What Ant and Humanoid share. The torso floats freely, joints come behind it."""

    substeps = 2
    spin_scale: ClassVar[float]
    """Of the torso's angular velocity in the observation."""
    speed_scale: ClassVar[float]
    """Of the joints' velocities in the observation."""
    alive: ClassVar[float]
    """Reward for every step on its feet."""
    lowest: ClassVar[float]
    """Height of the torso, in metres, below which the episode ends."""
    fallen: ClassVar[float]
    """The whole reward then."""

    def __init__(self, physics: Physics, seeds: np.ndarray) -> None:
        super().__init__(physics, seeds)
        self.low, self.high = self.tensor(physics.model.jnt_range[1:]).unbind(1)
        self.start = self.tensor(physics.model.qpos0)
        self.action = self.tensor(np.zeros((physics.worlds, self.num_actions)))
        self.distance = self.tensor(np.zeros(physics.worlds))
        """To the target, ``[N]`` metres, before the present action."""

    def begin(self, which: Tensor) -> None:
        joints = len(self.low)
        rest = self.start[7:].clamp(self.low, self.high)
        angles = (rest + self.uniform(which, joints, -0.2, 0.2)).clamp(self.low, self.high)
        body = self.start[:7].expand(len(which), -1)
        speeds = self.uniform(which, joints, -0.1, 0.1)
        self.physics.place(
            which, torch.cat([body, angles], dim=1), torch.nn.functional.pad(speeds, (6, 0))
        )
        self.action[which] = 0
        self.distance[which] = _distance(self.physics.qpos[which])

    def advance(self, action: Tensor) -> None:
        self.action = action
        super().advance(action)

    def observe(self) -> Tensor:
        qpos, qvel = self.physics.qpos, self.physics.qvel
        roll, yaw, angle = self.bearings(qpos)
        upright, heading = _posture(qpos)
        return torch.cat(
            [
                qpos[:, 2:3],
                rotate_back(qpos[:, 3:7], qvel[:, :3]),
                qvel[:, 3:6] * self.spin_scale,
                torch.stack([yaw, roll, angle, upright, heading], dim=1),
                self.scaled_joints(),
                qvel[:, 6:] * self.speed_scale,
                self.forces(),
                self.action,
            ],
            dim=1,
        )

    def judge(self, action: Tensor) -> tuple[Tensor, Tensor]:
        qpos, qvel = self.physics.qpos, self.physics.qvel
        upright, heading = _posture(qpos)
        distance = _distance(qpos)
        progress = (self.distance - distance) / _PERIOD
        self.distance = distance
        facing = torch.where(heading > 0.8, 0.5, 0.5 * heading / 0.8)
        bonus = self.alive + 0.1 * (upright > 0.93) + facing
        reward = progress + bonus - self.costs(action, qvel[:, 6:] * self.speed_scale)
        fell = qpos[:, 2] < self.lowest
        return torch.where(fell, self.fallen, reward), fell

    def scaled_joints(self) -> Tensor:
        """Joint angles ``[N, J]``, -1 and 1 at their limits."""
        return (2 * self.physics.qpos[:, 7:] - self.low - self.high) / (self.high - self.low)

    def feet(self, readings: Tensor) -> Tensor:
        """Force and torque of its contacts on each foot, in its own frame, ``[N, feet * 6]``.

        Args:
            readings: ``[N, feet * 16]``, in the world's frame: force, torque and centre of the
                contacts, then position and attitude of the foot.
        """
        force, torque, centre, origin, attitude = torch.split(
            readings.reshape(len(readings), -1, 16), [3, 3, 3, 3, 4], dim=2
        )
        torque = torque + torch.cross(centre - origin, force, dim=2)
        wrench = torch.cat([rotate_back(attitude, force), rotate_back(attitude, torque)], dim=2)
        return -wrench.flatten(1)  # what the floor does to the foot, not the reverse

    @abstractmethod
    def bearings(self, qpos: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Roll, yaw and the angle to the target, ``[N]`` each."""

    @abstractmethod
    def forces(self) -> Tensor:
        """What is felt, scaled, ``[N, forces]``."""

    @abstractmethod
    def costs(self, action: Tensor, speeds: Tensor) -> Tensor:
        """Of action, energy and joints at their limits, ``[N]``; ``speeds`` as observed."""


def _angles(qpos: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Roll, yaw and upstream's angle to the target, as they come: in no particular interval."""
    roll, yaw = roll_and_yaw(qpos[:, 3:7])
    # where the sideways distance is meant, upstream takes the height of the target, which is 0
    target = torch.atan2(-qpos[:, 2], _TARGET - qpos[:, 0])
    return roll, yaw, target


def _posture(qpos: Tensor) -> tuple[Tensor, Tensor]:
    """How far the torso's z axis points up and its x axis to the target: cosines, ``[N]`` each."""
    quaternion = qpos[:, 3:7]
    forward, up = torch.eye(3, dtype=qpos.dtype, device=qpos.device)[[0, 2]]
    upright = rotate(quaternion, up.expand(len(qpos), 3))[:, 2]
    way = torch.stack([_TARGET - qpos[:, 0], -qpos[:, 1]], dim=1)
    nose = rotate(quaternion, forward.expand(len(qpos), 3))[:, :2]
    heading = (nose * way).sum(1) / way.norm(dim=1)
    return upright, heading


def _distance(qpos: Tensor) -> Tensor:
    return torch.hypot(_TARGET - qpos[:, 0], qpos[:, 1])


class Ant(Runner):
    """Four legs: a hip and an ankle each, and the floor felt with the feet."""

    model = "ant.xml"
    num_observations = 60
    num_actions = 8
    spin_scale = 1.0
    speed_scale = 0.2
    alive = 0.5
    lowest = 0.31
    fallen = -2.0

    def bearings(self, qpos: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        roll, yaw, target = _angles(qpos)
        roll, yaw = roll % (2 * math.pi), yaw % (2 * math.pi)
        return roll, yaw, target - yaw

    def forces(self) -> Tensor:
        return 0.1 * self.feet(self.physics.sensors)

    def costs(self, action: Tensor, speeds: Tensor) -> Tensor:
        energy = (action * speeds).abs().sum(1)
        at_limit = (self.scaled_joints() > 0.99).sum(1)  # the upper one alone, as upstream
        return 0.005 * action.square().sum(1) + 0.05 * energy + 0.1 * at_limit


class Humanoid(Runner):
    """A body with head and hands; forces are felt in every joint and with the feet."""

    model = "humanoid.xml"
    num_observations = 108
    num_actions = 21
    spin_scale = 0.25
    speed_scale = 0.1
    alive = 2.0
    lowest = 0.8
    fallen = -1.0

    def __init__(self, physics: Physics, seeds: np.ndarray) -> None:
        super().__init__(physics, seeds)
        model = physics.model
        self.strength = self.tensor(model.actuator_gear[:, 0])
        self.stiffness = self.tensor(model.jnt_stiffness[1:])
        self.damping = self.tensor(model.dof_damping[6:])

    def bearings(self, qpos: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        roll, yaw, target = _angles(qpos)
        angle = target - yaw
        return roll, yaw, torch.atan2(angle.sin(), angle.cos())

    def forces(self) -> Tensor:
        stops, readings = torch.split(self.physics.sensors, [self.num_actions, 32], dim=1)
        return 0.01 * torch.cat([self.torques(stops), self.feet(readings)], dim=1)

    def torques(self, stops: Tensor) -> Tensor:
        """Of motor, spring, damper and stop, ``[N, J]``; ``stops`` come without a direction."""
        spring = self.stiffness * self.physics.qpos[:, 7:]
        damper = self.damping * self.physics.qvel[:, 6:]
        stop = stops * self.scaled_joints().sign()
        return self.strength * self.action - spring - damper - stop

    def costs(self, action: Tensor, speeds: Tensor) -> Tensor:
        share = self.strength / self.strength.max()
        energy = ((action * speeds).abs() * share).sum(1)
        beyond = ((self.scaled_joints().abs() - 0.98).clamp(min=0) / 0.02 * share).sum(1)
        return 0.01 * action.square().sum(1) + 0.05 * energy + 0.25 * beyond
