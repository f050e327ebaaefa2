"""Cartpole: push a cart so that the pole on it stays upright.

Observation (4, clipped to 5): the cart's position and velocity, the pole's angle and velocity.
Action (1): force on the cart, up to 400 N. Reward: 1 minus squared angle and small costs of speed.
End: the cart further than 3 m from the middle, or the pole lying. Source: IsaacGymEnvs 1.5.1.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from suite.envs.isaacgym.worlds import Worlds


class Cartpole(Worlds):
    """Positions and velocities: of the cart, then of the pole."""

    model = "cartpole.xml"
    substeps = 2
    num_observations = 4
    num_actions = 1
    limit = 5.0

    def begin(self, which: Tensor) -> None:
        self.physics.place(
            which, self.uniform(which, 2, -0.1, 0.1), self.uniform(which, 2, -0.25, 0.25)
        )

    def observe(self) -> Tensor:
        return torch.stack([self.physics.qpos, self.physics.qvel], dim=-1).flatten(1)

    def judge(self, action: Tensor) -> tuple[Tensor, Tensor]:
        cart, pole = self.physics.qpos.unbind(1)
        cart_speed, pole_speed = self.physics.qvel.abs().unbind(1)
        over = (cart.abs() > 3) | (pole.abs() > math.pi / 2)
        reward = 1 - pole**2 - 0.01 * cart_speed - 0.005 * pole_speed
        return torch.where(over, -2.0, reward), over
