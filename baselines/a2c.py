"""A2C: advantage actor-critic, the synchronous form of A3C.

Mnih, Badia, Mirza, Graves, Lillicrap, Harley, Silver, Kavukcuoglu 2016, "Asynchronous Methods for
Deep Reinforcement Learning", https://arxiv.org/abs/1602.01783. All lanes play a few steps with the
same parameters; one gradient step on all of them follows. A rollout's returns run to its end and go
on with the critic's value there (``trace=1``, the paper's n-step return), or mix all shorter ones.

Differences from the paper: lanes wait for each other instead of running on their own (``a3c`` lets
them run); Adam instead of RMSprop; orthogonal initialisation, running observation and reward
scales, and a gradient norm limit as in PPO; actor and critic share no layers but the convolution,
if there are images.

Actions: native on all spaces (categorical, or a clipped normal whose spread is a parameter).
Cost: per environment step, one actor pass to act, one forward and backward to learn, and one value
of the next observation.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from baselines.agent import Algorithm, Metrics, Setting
from baselines.parts.actor_critic import (
    ActorCritic,
    PolicyConfig,
    count_rollouts,
    rollout_advantages,
    scaled_rewards,
)
from baselines.parts.normalise import RewardScale
from baselines.parts.optim import Adam, ParameterMatrix, linear_decay, per_seed_mean
from baselines.parts.rollout import Rollout
from baselines.parts.state import Parts
from suite.steps import Carry, Observation, Transition


@dataclass(frozen=True)
class Config(PolicyConfig):
    """Defaults are RL Baselines3 Zoo's lanes and steps, with Adam's usual step size."""

    lanes: int = 8
    """E, environments per seed."""
    rollout_steps: int = 8
    """T, steps of every lane between updates."""
    learning_rate: float = 1e-3
    """Adam's step size at the start."""
    anneal_learning_rate: bool = True
    """Decay the step size linearly to 0 at the end of the budget."""
    discount: float = 0.99
    """gamma."""
    trace: float = 1.0
    """lambda of the advantage estimate."""
    value_coefficient: float = 0.5
    """Weight of the value loss."""
    entropy_coefficient: float = 0.01
    """Weight of the entropy bonus."""
    max_gradient_norm: float = 0.5
    """Per seed."""
    normalise_rewards: bool = True
    """Divide rewards by the running deviation of the discounted return."""


class A2C:
    """Collects a short rollout of all lanes, then takes one gradient step."""

    def __init__(self, setting: Setting, config: Config) -> None:
        self.config = config
        self.streams = setting.streams
        self.total_updates = count_rollouts(setting, config.rollout_steps)
        self.networks = ActorCritic(setting, config)
        self.parameter_matrix = ParameterMatrix(self.networks)
        self.optimiser = Adam(
            self.parameter_matrix, config.learning_rate, config.max_gradient_norm, epsilon=1e-5
        )
        self.reward_scale = RewardScale(
            setting.num_seeds, setting.lanes, config.discount, setting.device
        )
        self.rollout = Rollout(config.rollout_steps)
        self.parts = Parts(
            networks=self.networks,
            optimiser=self.optimiser,
            reward_scale=self.reward_scale,
            rollout=self.rollout,
            streams=self.streams,
        )

    def initial(self, lanes: int) -> Carry:
        return None

    def act(
        self, carry: Carry, obs: Observation, first: Tensor, explore: bool
    ) -> tuple[Carry, Tensor, dict[str, Tensor]]:
        noise = self.networks.noise(self.streams, first.shape[1], explore)
        action, sample = self.networks.act(obs, noise)
        return carry, action, {"sample": sample}

    def observe(self, transition: Transition) -> Metrics | None:
        rollout = self.rollout.add(transition)
        if rollout is None:
            return None
        if self.config.anneal_learning_rate:
            progress = self.updates / self.total_updates
            self.optimiser.learning_rate = linear_decay(self.config.learning_rate, 0.0, progress)
        if self.config.normalise_rewards:
            rollout = rollout._replace(reward=scaled_rewards(rollout, self.reward_scale))
        return self._update(rollout)

    def _update(self, rollout: Transition) -> Metrics:
        loss, metrics = self._loss(self.networks, rollout)
        self.optimiser.step(loss)
        self.networks.encoder.update(rollout.obs)
        return metrics

    def _loss(self, networks: ActorCritic, rollout: Transition) -> tuple[Tensor, Metrics]:
        """Loss ``[S]`` of a rollout ``[S, T, E, ...]``: policy gradient, value error, entropy."""
        config = self.config
        policy, value = networks.policy_and_value(rollout.obs)  # value [S, T * E]
        with torch.no_grad():
            next_value = networks.value(networks.encoder(rollout.next_obs))
            advantage = rollout_advantages(
                rollout, rollout.reward, value, next_value, config.discount, config.trace
            )
            returns = advantage + value
        log_prob = policy.log_prob(rollout.extras["sample"].flatten(1, 2))
        error = (value - returns).square()
        entropy = policy.entropy()
        loss = 0.5 * config.value_coefficient * error - advantage * log_prob
        if config.entropy_coefficient:
            loss = loss - config.entropy_coefficient * entropy
        metrics = {
            "value_error": per_seed_mean(error.detach()),
            "entropy": per_seed_mean(entropy.detach()),
        }
        return per_seed_mean(loss), metrics

    @property
    def updates(self) -> int:
        return self.optimiser.updates

    def state_dict(self) -> dict[str, Any]:
        return self.parts.state_dict()

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.parts.load_state_dict(state)

    def parameters(self) -> dict[str, Tensor]:
        return {"networks": self.parameter_matrix.rows()}


PRESETS: dict[str, dict[str, Any]] = {
    # discount and trace of RL Baselines3 Zoo
    "gymnasium/Pendulum-v1": {
        "discount": 0.9,
        "trace": 0.9,
        "entropy_coefficient": 0.0,
    },
    # lanes of Tianshou; a narrow initial policy as in RL Baselines3 Zoo, not as narrow
    "mujoco": {
        "lanes": 16,
        "anneal_learning_rate": False,
        "trace": 0.95,
        "entropy_coefficient": 0.0,
        "initial_log_std": -1.0,
    },
    "isaacgym": {
        "lanes": 64,
        "anneal_learning_rate": False,
        "trace": 0.95,
        "entropy_coefficient": 0.0,
    },
    "dmcontrol": {
        "lanes": 16,
        "anneal_learning_rate": False,
        "trace": 0.95,
        "entropy_coefficient": 0.0,
        "initial_log_std": -1.0,
    },
    "dmcontrol/*-pixels": {
        "lanes": 8,
        "learning_rate": 7e-4,
        "features": 128,
        "hidden": (128,),
    },
    # lanes, steps, value coefficient and step size of RL Baselines3 Zoo
    "atari": {
        "evaluation": "sampled",
        "lanes": 16,
        "rollout_steps": 5,
        "learning_rate": 7e-4,
        "value_coefficient": 0.25,
        "normalise_rewards": False,
        "hidden": (),
    },
    # discount of Cobbe et al. 2020; few lanes, as in PPO's preset for this family
    "procgen": {
        "evaluation": "sampled",
        "lanes": 4,
        "rollout_steps": 64,
        "learning_rate": 5e-4,
        "anneal_learning_rate": False,
        "discount": 0.999,
        "trace": 0.95,
        "features": 256,
        "hidden": (),
    },
    # lanes and networks of Cobbe et al. 2020
    "standard:procgen/*": {"lanes": 64, "rollout_steps": 16, "image_network": "impala"},
    # lanes, step size and trace of rl-starter-files
    "minigrid": {
        "evaluation": "sampled",
        "lanes": 16,
        "learning_rate": 1e-3,
        "trace": 0.95,
        "normalise_rewards": False,
        "features": 128,
        "hidden": (64,),
    },
    "nethack": {
        "evaluation": "sampled",
        "rollout_steps": 16,
        "learning_rate": 3e-4,
        "trace": 0.95,
        "vectors": "symlog",
        "features": 256,
        "hidden": (),
    },
    "smoke": {
        "lanes": 2,
        "rollout_steps": 8,
        "hidden": (16,),
        "image_network": "nature",
        "features": 16,
    },
}

ALGORITHM = Algorithm(
    title="A2C",
    category="actor-critic",
    key_idea="one policy gradient step on each short rollout, with a learned value as baseline",
    policy="on",
    paper="Mnih et al. 2016, https://arxiv.org/abs/1602.01783",
    config=Config,
    make=A2C,
    native_actions=frozenset({"discrete", "multidiscrete", "continuous"}),
    presets=PRESETS,
)
