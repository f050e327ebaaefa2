"""REINFORCE: the policy gradient by returns of complete episodes.

Williams 1992, "Simple Statistical Gradient-Following Algorithms for Connectionist Reinforcement
Learning", https://doi.org/10.1007/BF00992696.

A rollout of some lanes is collected; a step counts once, when its episode ends, whether by
termination or by truncation: a truncated episode is worth what it had earned so far, because there
is no value to go on with. Steps of episodes that are still open are carried over to the next
rollout, once: what counts must not depend on how long an episode lasts, or short ones would teach
more than long ones. Carried steps were chosen by the policy before the last update.
``whole_episodes=False`` lets every step count at once, with the return to the end of the rollout,
for tasks whose episodes are longer than memory.

Differences from the paper: weight by return-to-go instead of the whole return (a lower variance
for the same expectation); one Adam step per rollout on the mean over steps; returns are
standardised over each seed's rollout, which is the constant baseline of the paper, estimated from
the same data; a baseline learned by regression is optional. A seed without a finished episode in a
rollout has a zero gradient, so that only Adam's momentum moves it.

Actions: native on all spaces (categorical, or a clipped normal whose spread is a parameter).
Cost: per environment step, one actor pass to act, and one forward and backward to learn; two of
these with whole episodes, because every step is looked at in two rollouts.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from baselines.agent import Algorithm, Metrics, Setting
from baselines.parts.actor_critic import (
    Policy,
    PolicyConfig,
    Value,
    count_rollouts,
    flat_items,
    observations,
    scaled_rewards,
    summed_gradient,
)
from baselines.parts.normalise import RewardScale
from baselines.parts.optim import Adam, ParameterMatrix, linear_decay
from baselines.parts.returns import generalised_advantage
from baselines.parts.rollout import Rollout
from baselines.parts.state import Parts
from suite.steps import Carry, Observation, Transition


@dataclass(frozen=True)
class Config(PolicyConfig):
    """Defaults are for tasks whose episodes have some hundred steps."""

    lanes: int = 4
    """E, environments per seed."""
    rollout_steps: int = 512
    """T, steps of every lane between updates; longer episodes do not count from their beginning."""
    whole_episodes: bool = True
    """Only steps of finished episodes count; else all, with the return up to the rollout's end."""
    learning_rate: float = 3e-3
    """Adam's step size at the start."""
    anneal_learning_rate: bool = True
    """Decay the step size linearly to 0 at the end of the budget."""
    discount: float = 0.99
    """gamma."""
    normalise_returns: bool = True
    """Standardise the returns that count, per seed and rollout."""
    baseline: bool = False
    """Subtract a learned value from the returns first."""
    value_coefficient: float = 0.5
    """Weight of the value loss, if there is a baseline."""
    entropy_coefficient: float = 0.01
    """Weight of the entropy bonus."""
    max_gradient_norm: float = 0.5
    """Per seed."""
    normalise_rewards: bool = False
    """Divide rewards by the running deviation of the discounted return."""
    piece_size: int = 2048
    """Transitions per seed whose gradient is taken at once; bounds the memory."""


class Reinforce:
    """Collects a rollout, then makes well rewarded choices of finished episodes more probable."""

    def __init__(self, setting: Setting, config: Config) -> None:
        self.config = config
        self.streams = setting.streams
        self.total_updates = count_rollouts(setting, config.rollout_steps)
        self.policy = Policy(setting, config)
        self.baseline = Value(setting, config) if config.baseline else None
        self.networks = nn.ModuleList(filter(None, (self.policy, self.baseline)))
        self.parameter_matrix = ParameterMatrix(self.networks)
        self.optimiser = Adam(self.parameter_matrix, config.learning_rate, config.max_gradient_norm)
        self.reward_scale = RewardScale(
            setting.num_seeds, setting.lanes, config.discount, setting.device
        )
        self.rollout = Rollout(config.rollout_steps)
        self.carried = Carried()
        self.parts = Parts(
            networks=self.networks,
            optimiser=self.optimiser,
            reward_scale=self.reward_scale,
            rollout=self.rollout,
            carried=self.carried,
            streams=self.streams,
        )

    def initial(self, lanes: int) -> Carry:
        return None

    def act(
        self, carry: Carry, obs: Observation, first: Tensor, explore: bool
    ) -> tuple[Carry, Tensor, dict[str, Tensor]]:
        noise = self.policy.noise(self.streams, first.shape[1], explore)
        action, sample = self.policy.act(obs, noise)
        return carry, action, {"sample": sample}

    def observe(self, transition: Transition) -> Metrics | None:
        rollout = self.rollout.add(transition._replace(next_obs={}))  # nothing is bootstrapped
        if rollout is None:
            return None
        if self.config.anneal_learning_rate:
            progress = self.updates / self.total_updates
            self.optimiser.learning_rate = linear_decay(self.config.learning_rate, 0.0, progress)
        return self._update(rollout)

    def _update(self, rollout: Transition) -> Metrics:
        items = self._prepare(rollout)
        size = self.config.piece_size
        self.optimiser.apply(summed_gradient(self.parameter_matrix, self._loss, items, size))
        self.policy.encoder.update(rollout.obs)
        if self.baseline is not None:
            self.baseline.encoder.update(rollout.obs)
        return self._metrics(items)

    @torch.no_grad()
    def _prepare(self, rollout: Transition) -> dict[str, Tensor]:
        """Flatten a rollout, behind the one before it, into items ``[S, 2 * T * E, ...]``.

        ``weight`` is what each item contributes to a mean over the items that count, 0 for the
        others; ``advantage`` is the return, less the baseline, standardised.
        """
        config = self.config
        if config.normalise_rewards:
            rollout = rollout._replace(reward=scaled_rewards(rollout, self.reward_scale))
        counts = torch.ones_like(rollout.ended)
        if config.whole_episodes:
            rollout, counts = self.carried.join(rollout)
        weight = counts.flatten(1).to(torch.get_default_dtype())
        weight = weight / weight.sum(dim=1, keepdim=True).clamp_min(1)
        returns = returns_to_go(rollout.reward, rollout.ended, config.discount).flatten(1)
        advantage = returns
        if self.baseline is not None:
            advantage = returns - self.baseline(rollout.obs)
        if config.normalise_returns:
            advantage = standardised(advantage, weight)
        return flat_items(rollout) | {
            "weight": weight,
            "returns": returns,
            "advantage": advantage,
        }

    def _loss(self, items: dict[str, Tensor]) -> Tensor:
        """What some of the items add to the loss ``[S]``."""
        config = self.config
        obs = observations(items)
        policy = self.policy(obs)
        loss = -items["advantage"] * policy.log_prob(items["sample"])
        if self.baseline is not None:
            error = (self.baseline(obs) - items["returns"]).square()
            loss = loss + 0.5 * config.value_coefficient * error
        if config.entropy_coefficient:
            loss = loss - config.entropy_coefficient * policy.entropy()
        return (items["weight"] * loss).sum(dim=1)

    @torch.no_grad()
    def _metrics(self, items: dict[str, Tensor]) -> Metrics:
        entropy = self.policy(observations(items)).entropy()
        weight = items["weight"]
        return {
            "return_to_go": (weight * items["returns"]).sum(dim=1),
            "entropy": entropy.mean(dim=1),
            "counted": (weight > 0).to(weight.dtype).mean(dim=1),  # share of the rollout
        }

    @property
    def updates(self) -> int:
        return self.optimiser.updates

    def state_dict(self) -> dict[str, Any]:
        return self.parts.state_dict()

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.parts.load_state_dict(state)

    def parameters(self) -> dict[str, Tensor]:
        return {"networks": self.parameter_matrix.rows()}


class Carried:
    """The rollout before the present one, which may end its open episodes."""

    def __init__(self) -> None:
        self.before: Transition | None = None

    def join(self, rollout: Transition) -> tuple[Transition, Tensor]:
        """Put the rollout before this one in front of it, and keep this one for the next time.

        Returns:
            Both together, leaves ``[S, 2 T, E, ...]`` (``[S, T, E, ...]`` the first time), and
            where a step counts: its episode has ended now, and had not before.
        """
        before, self.before = self.before, rollout
        if before is None:
            return rollout, finished(rollout.ended)
        both = Transition(*map(_joined, before, rollout))
        counts = finished(both.ended)
        counts[:, : before.ended.shape[1]] &= ~finished(before.ended)
        return both, counts

    def state_dict(self) -> dict[str, Any]:
        return {"before": self.before and self.before._asdict()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.before = state["before"] and Transition(**state["before"])


def _joined(first: Any, second: Any) -> Any:
    if isinstance(first, dict):
        return {name: torch.cat([leaf, second[name]], dim=1) for name, leaf in first.items()}
    return torch.cat([first, second], dim=1)


def finished(ended: Tensor) -> Tensor:
    """Where an episode ends in this step or a later one: ``[S, T, E]`` bool to the same."""
    return ended.flip(1).cummax(dim=1).values.flip(1)


def returns_to_go(reward: Tensor, ended: Tensor, discount: float) -> Tensor:
    """Discounted rewards ``[S, T, E]`` from each step to its episode's or the rollout's end.

    They are advantages over values that are 0 everywhere, with a trace of 1.
    """
    reward = reward.to(torch.get_default_dtype())
    zero = torch.zeros_like(reward)
    return generalised_advantage(reward, zero, zero, ended, torch.zeros_like(ended), discount, 1.0)


def standardised(values: Tensor, weight: Tensor) -> Tensor:
    """Values ``[S, B]`` less their mean, by their deviation, both weighted by ``weight [S, B]``."""
    centred = values - (weight * values).sum(dim=1, keepdim=True)
    variance = (weight * centred.square()).sum(dim=1, keepdim=True)
    return centred / (variance.sqrt() + 1e-8)


ALGORITHM = Algorithm(
    title="REINFORCE",
    category="policy gradient",
    key_idea="choices become more probable in proportion to the return that followed them",
    policy="on",
    paper="Williams 1992, https://doi.org/10.1007/BF00992696",
    config=Config,
    make=Reinforce,
    native_actions=frozenset({"discrete", "multidiscrete", "continuous"}),
    presets={
        # one episode of every lane; discount as in PPO's preset for this task
        "gymnasium/Pendulum-v1": {
            "lanes": 5,
            "rollout_steps": 200,
            "discount": 0.9,
            "entropy_coefficient": 0.0,
        },
        # longer episodes
        "gymnasium/MountainCarContinuous-v0": {"rollout_steps": 1_000},
        "gymnasium/LunarLander*": {"rollout_steps": 1_000},
        "gymnasium/BipedalWalker-v3": {"lanes": 2, "rollout_steps": 1_600},
        # episodes of 1,000 steps
        "mujoco": {
            "lanes": 2,
            "rollout_steps": 1_000,
            "entropy_coefficient": 0.0,
            "initial_log_std": -1.0,
        },
        # episodes of 1,000 steps at most, and of two tasks longer ones
        "isaacgym": {"lanes": 16, "rollout_steps": 1_000, "entropy_coefficient": 0.0},
        "isaacgym/Ingenuity": {"rollout_steps": 2_000},
        "isaacgym/Anymal": {"rollout_steps": 2_500},
        # episodes of 1,000 steps, or 500 decisions from pixels
        "dmcontrol": {
            "lanes": 2,
            "rollout_steps": 1_000,
            "entropy_coefficient": 0.0,
            "initial_log_std": -1.0,
        },
        "dmcontrol/*-pixels": {
            "rollout_steps": 500,
            "learning_rate": 1e-3,
            "features": 128,
            "hidden": (128,),
            "piece_size": 256,
        },
        # episodes of thousands of steps
        "atari": {
            "evaluation": "sampled",
            "rollout_steps": 128,
            "lanes": 8,
            "whole_episodes": False,
            "learning_rate": 1e-3,
            "hidden": (),
            "piece_size": 256,
        },
        # discount of Cobbe et al. 2020; few lanes, as in PPO's preset for this family
        "procgen": {
            "evaluation": "sampled",
            "lanes": 4,
            "rollout_steps": 512,
            "whole_episodes": False,
            "learning_rate": 1e-3,
            "discount": 0.999,
            "features": 256,
            "hidden": (),
            "piece_size": 128,
        },
        # lanes, steps and networks of Cobbe et al. 2020
        "standard:procgen/*": {"lanes": 64, "rollout_steps": 256, "image_network": "impala"},
        # episodes of 100 to 288 steps
        "minigrid": {
            "evaluation": "sampled",
            "lanes": 8,
            "rollout_steps": 288,
            "features": 128,
            "hidden": (64,),
            "piece_size": 512,
        },
        "minigrid/MiniGrid-RedBlueDoors*": {"lanes": 4, "rollout_steps": 720},
        "minigrid/MiniGrid-ObstructedMaze*": {"lanes": 4, "rollout_steps": 576},
        "nethack": {
            "evaluation": "sampled",
            "lanes": 8,
            "rollout_steps": 128,
            "whole_episodes": False,
            "learning_rate": 1e-3,
            "vectors": "symlog",
            "features": 256,
            "hidden": (),
            "piece_size": 128,
        },
        "smoke": {
            "lanes": 2,
            "rollout_steps": 32,
            "hidden": (16,),
            "image_network": "nature",
            "features": 16,
        },
    },
)
