"""Random: uniform actions, the floor that every algorithm must leave behind.

Its score on a task, measured under the same protocol, stands beside the published random score.
A Box without finite bounds is sampled from [-1, 1].
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from baselines.agent import Algorithm, Metrics, Setting
from baselines.parts.actions import Continuous, Factored
from suite.spaces import Box
from suite.steps import Carry, Observation, Transition


@dataclass(frozen=True)
class Config:
    """Random has nothing to tune but its lanes."""

    lanes: int = 8
    """Environments per seed; a matter of speed only."""


class RandomAgent:
    """Acts uniformly, learns nothing."""

    def __init__(self, setting: Setting, config: Config) -> None:
        space = setting.spaces.action
        self.streams = setting.streams
        self.actions: Continuous | Factored
        if isinstance(space, Box):
            self.actions = Continuous(space, setting.device)
        else:
            self.actions = Factored(space, bins=0, device=setting.device)

    updates = 0

    def initial(self, lanes: int) -> Carry:
        return None

    def act(
        self, carry: Carry, obs: Observation, first: Tensor, explore: bool
    ) -> tuple[Carry, Tensor, dict[str, Tensor]]:
        role = "exploration" if explore else "evaluation"
        uniform = self.streams.uniform(role, first.shape[1], self.actions.dims)
        if isinstance(self.actions, Continuous):
            return carry, self.actions.to_environment(2 * uniform - 1), {}
        return carry, self.actions.to_environment(self.actions.random(uniform)), {}

    def observe(self, transition: Transition) -> Metrics | None:
        return None

    def state_dict(self) -> dict[str, Any]:
        return {"streams": self.streams.state_dict()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.streams.load_state_dict(state["streams"])

    def parameters(self) -> dict[str, Tensor]:
        return {"none": torch.zeros(len(self.streams.seeds), 0)}


ALGORITHM = Algorithm(
    title="Random",
    category="reference",
    key_idea="uniform actions: the floor of every task",
    policy="none",
    paper="-",
    config=Config,
    make=RandomAgent,
    native_actions=frozenset({"discrete", "multidiscrete", "continuous"}),
    evaluation="sampled",
)
