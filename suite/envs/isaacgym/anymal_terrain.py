"""AnymalTerrain: Anymal on slopes, stairs and obstacles, which get harder as it gets on.

Observation (188, noisy): as Anymal's, with joint angles as they are, and before the action the
height over 140 points of the ground around. The command is a velocity and a heading, towards which
the dog is to turn. Action (12): as Anymal's. Reward: as Anymal's, more for long steps and less for
motion that is not asked for, jerks and knees that touch; never below 0. End: the base touches the
ground. A dog that gets more than 4 m away begins the next episode on a harder tile, one that comes
less than a quarter of the way it was sent on an easier one. Source: IsaacGymEnvs 1.5.1.

Evaluation is about all levels alike: there each world stays on one that is drawn. (Upstream scores
training episodes, on the levels that its dogs have reached.)

Differences: friction is that of the middle of upstream's range, in all worlds (it has 100 values).
Steps rise over 0.1 m and are not upright. The robot is Anymal's, of 52 kg (53 kg). How far a dog
was sent is its own command (there, the length of the commands of all that begin together). An
episode's first observation belongs to that episode, and the action before it is 0. Actions are
limited to [-1, 1] as in the other tasks. What ends by time is truncated (there, never flagged).
"""

from __future__ import annotations

import math

import mujoco
import numpy as np
import torch
from torch import Tensor

from suite.envs.isaacgym import terrain
from suite.envs.isaacgym.anymal import PERIOD, Dog
from suite.envs.isaacgym.physics import Physics
from suite.envs.isaacgym.rotations import rotate, rotate_back

_FEET = slice(27, 39)
"""In the model's sensors: forces of the shanks on the ground."""

_EPISODE = 20.0
"""Seconds; how far a dog is sent follows from it."""

_PUSH = 750
"""Steps of a world, not of an episode, between two pushes: 15 s."""

_FAR = 2**40
"""Numbers that belong to steps lie behind all that episodes draw: see ``Draws.at``."""


def _extent(model: mujoco.MjModel) -> tuple[float, float]:
    """The lowest height of the field and how far it reaches above, in metres."""
    return float(model.geom("terrain").pos[2]), float(model.hfield_size[0, 2])


def _ground(model: mujoco.MjModel) -> np.ndarray:
    """Heights as the physics has them, ``[x, y]`` metres; see ``terrain.heights``."""
    lowest, depth = _extent(model)
    shares = model.hfield_data.reshape(model.hfield_nrow[0], model.hfield_ncol[0])
    heights: np.ndarray = lowest + depth * shares.T.astype(np.float64)
    return heights


class AnymalTerrain(Dog):
    """The command is a velocity forwards, one sideways and a heading.

    Attributes:
        level: ``[N]`` int64, difficulty of the present tile.
        is_graded: whether levels follow what dogs achieve.
        kind: ``[N]`` int64, its type, always the same.
        origin: ``[N, 3]`` its middle.
        steps: ``[N]`` int64, actions since the world was made.
    """

    model = "anymal_terrain.xml"
    substeps = 4
    num_observations = 188

    def __init__(self, physics: Physics, seeds: np.ndarray) -> None:
        super().__init__(physics, seeds)
        field = _ground(physics.model)
        self.field, self.origins = self.tensor(field), self.tensor(terrain.origins(field))
        self.last_cell = torch.tensor(self.field.shape, device=self.device) - 2
        beside = 0.1 * np.array([-5, -4, -3, -2, -1, 1, 2, 3, 4, 5])
        ahead = 0.1 * np.array([-8, -7, -6, -5, -4, -3, -2, 2, 3, 4, 5, 6, 7, 8])
        x, y = np.meshgrid(ahead, beside, indexing="ij")
        self.points = self.tensor(np.stack([x.ravel(), y.ravel(), np.zeros(x.size)], axis=1))
        sizes = [0.2, 0.05, 0.05, 0, 0.01, 0.075, 0.3, 0]
        self.noise = self.tensor(np.repeat(sizes, [3, 3, 3, 3, 12, 12, 140, 12]))
        worlds = physics.worlds
        self.kind = (self.uniform(self.all, 1)[:, 0] * terrain.TYPES).long()
        self.level = torch.zeros_like(self.kind)
        self.is_graded = True
        self.steps = torch.zeros_like(self.kind)
        # where a world is before its first episode and with no command, its level stays
        self.origin = self.tensor(np.zeros((worlds, 3)))
        self.aloft = self.tensor(np.zeros((worlds, 4)))
        """Seconds since each foot was on the ground, ``[N, 4]``."""
        self.action_before = self.action
        self.speeds_before = physics.qvel[:, 6:].clone()

    @classmethod
    def build_model(cls) -> mujoco.MjModel:
        model = super().build_model()
        lowest, depth = _extent(model)
        model.hfield_data[:] = ((terrain.heights().T - lowest) / depth).ravel()
        return model

    def examine(self) -> None:
        self.level = (self.uniform(self.all, 1)[:, 0] * terrain.LEVELS).long()
        self.is_graded = False

    def begin(self, which: Tensor) -> None:
        if self.is_graded:
            self.regrade(which)
        origin = self.origins[self.level[which], self.kind[which]]
        self.origin[which] = origin
        aside = torch.nn.functional.pad(self.uniform(which, 2, -0.5, 0.5), (0, 1))
        self.put(which, self.start[:3] + origin + aside)
        command = self.uniform(which, 3, -1.0) * self.tensor([1.0, 1.0, 3.14])
        fast = command[:, :2].square().sum(1, keepdim=True) > 0.25**2
        self.command[which] = command * fast
        self.aloft[which] = 0

    def regrade(self, which: Tensor) -> None:
        """Choose the next level by the episode that ends; behind the last comes the first."""
        walked = (self.physics.qpos[which, :2] - self.origin[which, :2]).square().sum(1).sqrt()
        sent = self.command[which, :2].square().sum(1).sqrt() * _EPISODE
        level = self.level[which] - (walked < 0.25 * sent).long() + (walked > 4).long()
        self.level[which] = level.clamp(min=0) % terrain.LEVELS

    def advance(self, action: Tensor) -> None:
        self.action_before = self.action
        self.speeds_before = self.physics.qvel[:, 6:].clone()
        super().advance(action)
        self.steps += 1
        pushed = 2 * self.drawn()[:, self.num_observations :] - 1
        now = (self.steps % _PUSH == 0)[:, None]
        self.physics.qvel[:, :2] = torch.where(now, pushed, self.physics.qvel[:, :2])

    def drawn(self) -> Tensor:
        """Numbers in [0, 1) of the present step: for the observation's noise, then for a push."""
        size = self.num_observations + 2
        return self.draws.at(self.all, _FAR + size * self.steps, size).to(self.dtype)

    def observe(self) -> Tensor:
        qpos, qvel = self.physics.qpos, self.physics.qvel
        seen = torch.cat(
            [
                self.velocity() * 2,
                qvel[:, 3:6] * 0.25,
                rotate_back(qpos[:, 3:7], self.down),
                self.wanted() * self.scale,
                qpos[:, 7:],
                qvel[:, 6:] * 0.05,
                5 * (qpos[:, 2:3] - 0.5 - self.ground()).clamp(-1, 1),
                self.action,
            ],
            dim=1,
        )
        return seen + self.noise * (2 * self.drawn()[:, : self.num_observations] - 1)

    def judge(self, action: Tensor) -> tuple[Tensor, Tensor]:
        qvel, touching = self.physics.qvel, self.touching()
        wasted = (
            4 * self.velocity()[:, 2].square()
            + 0.05 * qvel[:, 3:5].square().sum(1)
            + 2e-5 * self.torques().square().sum(1)
            + 5e-4 * (qvel[:, 6:] - self.speeds_before).square().sum(1)
            + 0.01 * (action - self.action_before).square().sum(1)
            + 0.25 * touching[:, 1:].sum(1)
        )
        reward = PERIOD * (self.following(self.wanted()) + self.strides() - wasted)
        return reward.clamp(min=0), touching[:, 0]

    def strides(self) -> Tensor:
        """Reward ``[N]`` for feet that land: how much longer than 0.5 s they were in the air."""
        # the sensor says what the foot does to the ground, not the reverse
        down = -self.physics.sensors[:, _FEET].reshape(-1, 4, 3)[..., 2] > 1
        landed = (self.aloft > 0) & down
        aloft = self.aloft + PERIOD
        self.aloft = torch.where(down, 0.0, aloft)
        moving = self.command[:, :2].square().sum(1) > 0.1**2
        return ((aloft - 0.5) * landed).sum(1) * moving

    def wanted(self) -> Tensor:
        """Velocity forwards, sideways and of turning, ``[N, 3]``: towards the heading."""
        east = self.tensor([1.0, 0.0, 0.0]).expand_as(self.command)
        nose = rotate(self.physics.qpos[:, 3:7], east)
        turn = (self.command[:, 2] - torch.atan2(nose[:, 1], nose[:, 0])) % (2 * math.pi)
        turn = torch.where(turn > math.pi, turn - 2 * math.pi, turn)
        return torch.cat([self.command[:, :2], (0.5 * turn).clamp(-1, 1)[:, None]], dim=1)

    def ground(self) -> Tensor:
        """Heights around the base, ``[N, 140]``: the lower end of each cell's diagonal."""
        qpos = self.physics.qpos
        yaw = torch.nn.functional.normalize(qpos[:, 3:7] * self.tensor([1.0, 0.0, 0.0, 1.0]))
        spots = rotate(yaw[:, None], self.points[None])[..., :2] + qpos[:, None, :2]
        cells = (spots / terrain.SPACING + terrain.BORDER).long()
        x, y = torch.minimum(cells.clamp(min=0), self.last_cell).unbind(-1)
        return torch.minimum(self.field[x, y], self.field[x + 1, y + 1])
