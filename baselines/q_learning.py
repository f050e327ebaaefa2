"""Q-learning: a table of action values, moved towards one-step targets.

Watkins 1989, "Learning from Delayed Rewards", and Watkins and Dayan 1992, "Q-learning",
https://doi.org/10.1007/BF00992698.

Differences from the paper: observations that are no small set of states are aggregated into cells
(``parts/aggregation.py``: tiles, SimHash, hashes), which loses the proof of convergence; the
learning rate falls linearly instead of with the visits of each state. All lanes learn in the same
step, from the table as it was before; where several lanes meet in an entry of the table, it moves
by the mean of what each of them asks for, so that more lanes do not mean a larger learning rate.

A state lies in T cells (1 unless it is tiled) and its value is their mean, which makes each entry
move by ``learning_rate`` times the error: Sutton and Barto's linear Q-learning (2018, section 9.5)
with weights T times as large, in units of return.

Actions: native on Discrete. On MultiDiscrete and Box (cut into bins) the value of a joint action is
the mean over dimensions of one value per dimension and bin (DecQN: Seyde et al. 2022,
https://arxiv.org/abs/2210.12566); with one dimension this is plain Q-learning. What is lost on a
Box: actions between the bins. Cost: two look-ups per step and one write, no gradients; a table of
``cells * D * K`` numbers per seed.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from baselines.agent import Algorithm, Metrics, Setting
from baselines.parts.actions import Factored
from baselines.parts.aggregation import Aggregation, AggregationOptions
from baselines.parts.exploration import epsilon_greedy
from baselines.parts.optim import linear_decay, per_seed_mean
from suite.steps import Carry, Observation, Transition


@dataclass(frozen=True)
class Config:
    """Defaults suit low-dimensional observations."""

    lanes: int = 4
    """E, environments per seed."""
    learning_rate_initial: float = 0.3
    """Share of its error by which a value moves, at the start."""
    learning_rate_final: float = 0.03
    """Step size at the end of the budget."""
    discount: float = 0.99
    """gamma."""
    initial_value: float = 0.0
    """What every action is believed to be worth at first; above the truth, it makes the greedy
    policy explore."""
    epsilon_initial: float = 1.0
    """Probability of a random choice at the start."""
    epsilon_final: float = 0.05
    """epsilon at the end of the decay."""
    epsilon_fraction: float = 0.2
    """Share of the budget over which epsilon falls linearly."""
    cell_bits: int = 15
    """The table has at most 2 to this power of cells."""
    tilings: int = 8
    """T, shifted grids over vector observations of few entries; a power of two shifts all alike."""
    tiles: int = 8
    """Tiles per entry in each grid."""
    max_tiled: int = 8
    """Vector entries up to which they are tiled; more are hashed."""
    patches: int = 8
    """Patches per side to which an image is reduced."""
    levels: int = 8
    """Levels of brightness of a patch."""
    bins: int = 3
    """K, values per dimension of a Box; 2 would be bang-bang control."""


class QLearning:
    """Acts epsilon-greedily and learns from every step at once."""

    def __init__(self, setting: Setting, config: Config) -> None:
        self.config = config
        self.streams = setting.streams
        self.total_steps = setting.total_steps
        self.actions = Factored(setting.spaces.action, config.bins, setting.device)
        options = AggregationOptions(
            config.cell_bits,
            config.tilings,
            config.tiles,
            config.max_tiled,
            config.patches,
            config.levels,
        )
        self.aggregation = Aggregation(self.streams, setting.spaces.observation, options)
        shape = (self.aggregation.cells, self.actions.dims, self.actions.bins)
        self.table = torch.full(
            (setting.num_seeds, *shape), config.initial_value, device=setting.device
        )  # [S, cells, D, K]
        self.lanes = setting.lanes
        self.updates = 0
        # positions that tell entries of a table apart, for indexing with cells [S, E, T]
        self.seed = torch.arange(setting.num_seeds, device=setting.device).view(-1, 1, 1)
        self.dimension = torch.arange(self.actions.dims, device=setting.device)

    def initial(self, lanes: int) -> Carry:
        return None

    def values(self, cells: Tensor) -> Tensor:
        """Action values ``[S, B, D, K]`` of states that lie in cells ``[S, B, T]``."""
        return self.table[self.seed, cells].mean(dim=2)

    def scheduled(self, initial: float, final: float, share: float) -> float:
        """A number that falls linearly over a share of the budget."""
        progress = self.updates * self.lanes / max(1.0, share * self.total_steps)
        return linear_decay(initial, final, progress)

    def act(
        self, carry: Carry, obs: Observation, first: Tensor, explore: bool
    ) -> tuple[Carry, Tensor, dict[str, Tensor]]:
        config = self.config
        cells = self.aggregation(obs)
        choice = self.actions.best(self.values(cells))  # [S, E, D]
        if explore:
            epsilon = self.scheduled(
                config.epsilon_initial, config.epsilon_final, config.epsilon_fraction
            )
            choice = epsilon_greedy(self.actions, choice, epsilon, self.streams)
        extras = {"cells": cells, "choice": choice}
        return carry, self.actions.to_environment(choice), extras

    def observe(self, transition: Transition) -> Metrics:
        cells, choice = transition.extras["cells"], transition.extras["choice"]
        following = self.values(self.aggregation(transition.next_obs))
        bootstrap = self.actions.pick(following, self.actions.best(following))
        discount = self.config.discount * (~transition.terminated)
        value = self.actions.pick(self.values(cells), choice)
        error = transition.reward + discount * bootstrap - value  # [S, E]
        self._move(cells, choice, error)
        self.updates += 1
        return {"error": per_seed_mean(error.abs()), "value": per_seed_mean(value)}

    def _move(self, cells: Tensor, choice: Tensor, error: Tensor) -> None:
        """Move the entries of cells ``[S, E, T]`` and choices ``[S, E, D]`` by their mean error."""
        tilings = cells.shape[2]
        cell = cells.flatten(1).unsqueeze(-1)  # [S, E * T, 1]
        bin_ = choice.repeat_interleave(tilings, dim=1)  # [S, E * T, D]
        error = error.repeat_interleave(tilings, dim=1).unsqueeze(-1)  # [S, E * T, 1]
        # whoever else is in the same entry, each of them included, shares in it
        entry = cell * self.actions.bins + bin_
        sharers = (entry.unsqueeze(1) == entry.unsqueeze(2)).sum(dim=2)  # [S, E * T, D]
        config = self.config
        rate = self.scheduled(config.learning_rate_initial, config.learning_rate_final, 1.0)
        place = (self.seed, cell, self.dimension, bin_)
        self.table.index_put_(place, (rate * error / sharers).to(self.table.dtype), accumulate=True)

    def state_dict(self) -> dict[str, Any]:
        return {
            "table": self.table.clone(),
            "updates": self.updates,
            "streams": self.streams.state_dict(),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.table.copy_(state["table"])
        self.updates = state["updates"]
        self.streams.load_state_dict(state["streams"])

    def parameters(self) -> dict[str, Tensor]:
        return {"table": self.table}


ALGORITHM = Algorithm(
    title="Q-learning",
    category="value-based",
    key_idea="a table of action values, moved towards one-step targets at every step",
    policy="off",
    paper="Watkins and Dayan 1992, https://doi.org/10.1007/BF00992698",
    config=Config,
    make=QLearning,
    native_actions=frozenset({"discrete"}),
    adapter="tile coding, SimHash (Tang et al. 2017), DecQN (Seyde et al. 2022)",
    presets={
        "mujoco": {"epsilon_final": 0.1},
        "dmcontrol": {"epsilon_final": 0.1},
        "isaacgym": {"lanes": 16, "epsilon_final": 0.1},
        "atari": {"lanes": 8},
        "procgen": {"lanes": 8},
        # At a larger discount an action that does nothing is worth nearly as much as the best one,
        # and more after a late success has lowered the best one's value: the greedy policy stops.
        # Seldom rewarded tasks want some optimism, or all values are 0 when epsilon has fallen.
        "minigrid": {
            "lanes": 8,
            "discount": 0.9,
            "initial_value": 0.1,
            "epsilon_fraction": 0.5,
        },
        "nethack": {"lanes": 8},
        "smoke": {"lanes": 2, "cell_bits": 10},
    },
)
