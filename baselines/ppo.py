"""PPO: proximal policy optimisation with a clipped surrogate objective.

Schulman, Wolski, Dhariwal, Radford, Klimov 2017, "Proximal Policy Optimization Algorithms",
https://arxiv.org/abs/1707.06347. Implementation choices follow Andrychowicz et al. 2021 ("What
Matters for On-Policy Deep Actor-Critic Methods?") and Engstrom et al. 2020: orthogonal
initialisation, per-minibatch advantage normalisation, gradient norm clipping, running observation
and reward scales.

Differences from the paper: actor and critic share no layers (they share the convolution, if there
are images); observation statistics move only between rollouts, so that the probability ratio is
exactly 1 at the first minibatch; values and log-probabilities are computed once for the whole
rollout when it is full rather than at every step, which gives the same numbers for less work.

Actions: native on all spaces (categorical, or a clipped normal whose spread is a parameter).
Cost: per environment step, one actor pass and ``epochs`` passes forward and backward.
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
    flat_items,
    observations,
    rollout_advantages,
    scaled_rewards,
    split_items,
)
from baselines.parts.normalise import RewardScale
from baselines.parts.optim import Adam, ParameterMatrix, linear_decay, per_seed_mean
from baselines.parts.rollout import Rollout, take
from baselines.parts.state import Parts
from suite.steps import Carry, Observation, Transition


@dataclass(frozen=True)
class Config(PolicyConfig):
    """Defaults are CleanRL's for continuous control, with more lanes."""

    lanes: int = 8
    """E, environments per seed."""
    rollout_steps: int = 128
    """T, steps of every lane between updates."""
    epochs: int = 10
    """Passes over a rollout."""
    minibatch_size: int = 64
    """B, transitions per gradient step; must divide rollout_steps x lanes."""
    learning_rate: float = 3e-4
    """Adam's step size at the start."""
    anneal_learning_rate: bool = True
    """Decay the step size linearly to 0 at the end of the budget."""
    discount: float = 0.99
    """gamma."""
    trace: float = 0.95
    """lambda of the advantage estimate."""
    clip: float = 0.2
    """Largest change of the probability ratio that is rewarded."""
    value_coefficient: float = 0.5
    """Weight of the value loss."""
    entropy_coefficient: float = 0.0
    """Weight of the entropy bonus."""
    max_gradient_norm: float = 0.5
    """Per seed."""
    normalise_rewards: bool = True
    """Divide rewards by the running deviation of the discounted return."""


class PPO:
    """Collects a rollout, then improves the policy on it for several epochs."""

    def __init__(self, setting: Setting, config: Config) -> None:
        self.config = config
        self.streams = setting.streams
        size = config.rollout_steps * setting.lanes
        rollouts = count_rollouts(setting, config.rollout_steps)
        if size % config.minibatch_size:
            raise ValueError(
                f"minibatch_size {config.minibatch_size} does not divide rollout_steps x lanes"
                f" = {size}"
            )
        self.networks = ActorCritic(setting, config)
        self.parameter_matrix = ParameterMatrix(self.networks)
        self.optimiser = Adam(
            self.parameter_matrix, config.learning_rate, config.max_gradient_norm, epsilon=1e-5
        )
        self.total_updates = rollouts * config.epochs * (size // config.minibatch_size)
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
        return self._update(rollout)

    def _update(self, rollout: Transition) -> Metrics:
        data = self._prepare(rollout)
        size = data["advantage"].shape[1]
        for _ in range(self.config.epochs):
            epoch = take(data, self.streams.permutation("minibatch", size))
            epoch |= self._surrogate_terms(epoch.pop("advantage"))
            for minibatch in split_items(epoch, self.config.minibatch_size):
                self.optimiser.step(self._loss(minibatch))
        self.networks.encoder.update(rollout.obs)
        return self._metrics(minibatch)

    @torch.no_grad()
    def _prepare(self, rollout: Transition) -> dict[str, Tensor]:
        """Flatten a rollout into items ``[S, T * E, ...]`` with advantages and returns."""
        config, networks = self.config, self.networks
        reward = rollout.reward
        if config.normalise_rewards:
            reward = scaled_rewards(rollout, self.reward_scale)
        features = networks.encoder(rollout.obs)  # [S, T * E, F]
        value = networks.value(features)
        next_value = networks.value(networks.encoder(rollout.next_obs))
        advantage = rollout_advantages(
            rollout, reward, value, next_value, config.discount, config.trace
        )
        items = flat_items(rollout)
        return items | {
            "log_prob": networks.distribution(features).log_prob(items["sample"]),
            "advantage": advantage,
            "returns": advantage + value,
        }

    def _surrogate_terms(self, advantage: Tensor) -> dict[str, Tensor]:
        """What the clipped surrogate needs beside the ratio, for an epoch ``[S, N]`` at once.

        Advantages are normalised per minibatch. ``min(ratio * A, clip(ratio) * A)`` of the paper
        equals ``A * clamp(ratio, low, high)`` with only the upper bound where A > 0 and only the
        lower bound elsewhere, in two operations instead of four.
        """
        minibatches = advantage.unflatten(1, (-1, self.config.minibatch_size))
        deviation, mean = torch.std_mean(minibatches, dim=2, keepdim=True)
        advantage = ((minibatches - mean) / (deviation + 1e-8)).flatten(1)
        gain = advantage > 0
        return {
            "advantage": advantage,
            "low": torch.where(gain, 0.0, 1 - self.config.clip),
            "high": torch.where(gain, 1 + self.config.clip, torch.inf),
        }

    def _loss(self, batch: dict[str, Tensor]) -> Tensor:
        """Loss ``[S]`` of a minibatch: surrogate, value error and entropy bonus."""
        config = self.config
        policy, value = self.networks.policy_and_value(observations(batch))
        ratio = (policy.log_prob(batch["sample"]) - batch["log_prob"]).exp()
        surrogate = batch["advantage"] * ratio.clamp(batch["low"], batch["high"])
        error = (value - batch["returns"]).square()
        loss = 0.5 * config.value_coefficient * error - surrogate
        if config.entropy_coefficient:
            loss = loss - config.entropy_coefficient * policy.entropy()
        return per_seed_mean(loss)

    @torch.no_grad()
    def _metrics(self, batch: dict[str, Tensor]) -> Metrics:
        """Figures of the improved policy on the last minibatch."""
        policy, value = self.networks.policy_and_value(observations(batch))
        log_ratio = policy.log_prob(batch["sample"]) - batch["log_prob"]
        return {
            "kl": per_seed_mean(log_ratio.exp() - 1 - log_ratio),  # Schulman's k3 estimate
            "value_error": per_seed_mean((value - batch["returns"]).square()),
            "entropy": per_seed_mean(policy.entropy()),
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


ALGORITHM = Algorithm(
    title="PPO",
    category="actor-critic",
    key_idea="clipped surrogate objective: several epochs on each rollout without leaving it far",
    policy="on",
    paper="Schulman et al. 2017, https://arxiv.org/abs/1707.06347",
    config=Config,
    make=PPO,
    native_actions=frozenset({"discrete", "multidiscrete", "continuous"}),
    presets={
        # learning rate of RL Baselines3 Zoo's CartPole-v1 and Pendulum-v1, entropy of CleanRL
        "gymnasium": {
            "learning_rate": 1e-3,
            "minibatch_size": 128,
            "entropy_coefficient": 0.01,
        },
        # discount of RL Baselines3 Zoo: the task's horizon matters less than its noise
        "gymnasium/Pendulum-v1": {
            "lanes": 4,
            "rollout_steps": 256,
            "minibatch_size": 64,
            "discount": 0.9,
            "entropy_coefficient": 0.0,
        },
        # width of RL Baselines3 Zoo's networks and a narrow initial policy as there (not as narrow,
        # and with tanh); rollout and epochs of Tianshou, whose step size is nearly constant over
        # these budgets
        "mujoco": {
            "rollout_steps": 256,
            "minibatch_size": 128,
            "anneal_learning_rate": False,
            "hidden": (256, 256),
            "initial_log_std": -1.0,
        },
        # CleanRL's ppo_atari_envpool
        "atari": {
            "evaluation": "sampled",
            "epochs": 4,
            "minibatch_size": 256,
            "learning_rate": 2.5e-4,
            "clip": 0.1,
            "entropy_coefficient": 0.01,
            "normalise_rewards": False,
            "hidden": (),
        },
        "dmcontrol": {
            "rollout_steps": 256,
            "minibatch_size": 128,
            "anneal_learning_rate": False,
            "hidden": (256, 256),
            "initial_log_std": -1.0,
        },
        "dmcontrol/*-pixels": {
            "rollout_steps": 128,
            "epochs": 4,
            "features": 128,
            "hidden": (128,),
        },
        # lanes, rollout, epochs, batch and widths of IsaacGymEnvs' AntPPO; its step size adapts
        "isaacgym": {
            "lanes": 4096,
            "rollout_steps": 16,
            "epochs": 4,
            "minibatch_size": 32_768,
            "learning_rate": 1e-3,
            "anneal_learning_rate": False,
            "max_gradient_norm": 1.0,
            "hidden": (256, 128, 64),
        },
        # as there, but lanes and rollouts for budgets that a CPU can run
        "isaacgym/Cartpole": {
            "lanes": 64,
            "rollout_steps": 16,
            "epochs": 8,
            "minibatch_size": 256,
            "anneal_learning_rate": True,
            "hidden": (32, 32),
        },
        "isaacgym/Quadcopter": {
            "lanes": 64,
            "epochs": 5,
            "minibatch_size": 256,
            "anneal_learning_rate": True,
            "hidden": (128, 64),
        },
        # Cobbe et al. 2020, made for tens of thousands of steps: Nature's smaller network;
        # few lanes, because every segment of a protocol begins its episodes anew, and with 16 a
        # segment of the quick protocol ends before most coins are reached; large minibatches,
        # because updates from rollouts without a reward are noise: with 16 lanes and batches of
        # 256, three of six tuning seeds had turned away from all coins after five updates
        "procgen": {
            "evaluation": "sampled",
            "lanes": 4,
            "rollout_steps": 512,
            "epochs": 3,
            "minibatch_size": 1024,
            "learning_rate": 5e-4,
            "anneal_learning_rate": False,
            "discount": 0.999,
            "entropy_coefficient": 0.01,
            "features": 256,
            "hidden": (),
        },
        # lanes, steps, minibatches and network as there
        "standard:procgen/*": {
            "lanes": 64,
            "rollout_steps": 256,
            "minibatch_size": 2048,
            "image_network": "impala",
        },
        # lanes and step size of rl-starter-files, with half its rollout and twice its epochs: rare
        # rewards are learned from before they are outnumbered
        "minigrid": {
            "evaluation": "sampled",
            "lanes": 16,
            "rollout_steps": 64,
            "epochs": 8,
            "minibatch_size": 128,
            "learning_rate": 1e-3,
            "entropy_coefficient": 0.01,
            "normalise_rewards": False,
            "features": 128,
            "hidden": (64,),
        },
        # discount of NLE's agent; one epoch is a third of the updates of three, and in the quick
        # protocol neither could be told from the random policy
        "nethack": {
            "evaluation": "sampled",
            "epochs": 1,
            "minibatch_size": 128,
            "learning_rate": 5e-4,
            "discount": 0.999,
            "entropy_coefficient": 0.05,
            "vectors": "symlog",
            "features": 256,
            "hidden": (),
        },
        # Stable-Baselines3's defaults, where they are not ours
        "peer": {
            "lanes": 1,
            "rollout_steps": 2048,
            "minibatch_size": 64,
            "learning_rate": 3e-4,
            "entropy_coefficient": 0.0,
            "anneal_learning_rate": False,
            "vectors": "none",
            "normalise_rewards": False,
        },
        # a widely read guide's sample agent: one minibatch, the whole rollout
        "guide": {
            "lanes": 8,
            "rollout_steps": 128,
            "minibatch_size": 8 * 128,
            "learning_rate": 3e-4,
            "anneal_learning_rate": False,
            "entropy_coefficient": 0.01,
            "vectors": "none",
            "normalise_rewards": False,
            "hidden": (64, 64),
        },
        "smoke": {
            "lanes": 2,
            "rollout_steps": 32,
            "minibatch_size": 32,
            "epochs": 2,
            "hidden": (16,),
            "image_network": "nature",
            "features": 16,
        },
    },
)
