"""TRPO: trust region policy optimisation by natural gradients.

Schulman, Levine, Moritz, Jordan, Abbeel 2015, "Trust Region Policy Optimization",
https://arxiv.org/abs/1502.05477, with the advantages of Schulman et al. 2016
(https://arxiv.org/abs/1506.02438). Every rollout gives one step of the policy: the surrogate's
gradient, turned by conjugate gradients into the natural one, as long as the trust region allows,
and shortened until the surrogate improves and the mean KL divergence is within its bound. All seeds
solve and search together; a seed whose search fails keeps its parameters.

Differences from the paper: a critic with an encoder of its own, trained by Adam on each rollout
after the policy's step, instead of Monte Carlo returns; orthogonal initialisation and running
observation and reward scales as in PPO. All parameters of the policy take part in the natural step,
convolutions and the spread of a normal included.

Actions: native on all spaces (categorical, or a clipped normal whose spread is a parameter).
Cost: per rollout, one forward and backward of the policy, ``cg_iterations`` products of two
backward passes each on every ``fisher_stride``-th transition, some forward passes of the search,
and ``critic_epochs`` forward and backward passes of the critic.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from baselines.agent import Algorithm, Metrics, Setting
from baselines.parts.actor_critic import (
    Policy,
    PolicyConfig,
    Value,
    count_rollouts,
    flat_items,
    observations,
    rollout_advantages,
    scaled_rewards,
    split_items,
    summed_gradient,
)
from baselines.parts.natural_gradient import Fisher, conjugate_gradient, detached, kl_divergence
from baselines.parts.normalise import RewardScale
from baselines.parts.optim import Adam, ParameterMatrix, per_seed_mean
from baselines.parts.rollout import Rollout, take
from baselines.parts.state import Parts
from suite.steps import Carry, Observation, Transition


@dataclass(frozen=True)
class Config(PolicyConfig):
    """Defaults follow Stable-Baselines3 Contrib's, with more lanes and shorter rollouts.

    Besides with fewer steps of conjugate gradients, and a Fisher matrix of a part of the rollout,
    as in the paper.
    """

    lanes: int = 8
    """E, environments per seed."""
    rollout_steps: int = 128
    """T, steps of every lane between updates."""
    discount: float = 0.99
    """gamma."""
    trace: float = 0.95
    """lambda of the advantage estimate."""
    target_kl: float = 0.01
    """Bound of the mean KL divergence of a step, in nats."""
    damping: float = 0.1
    """Added to the diagonal of the Fisher matrix."""
    cg_iterations: int = 10
    """Most steps of conjugate gradients."""
    cg_tolerance: float = 1e-10
    """Squared residual, relative to the gradient's square, at which they stop."""
    fisher_stride: int = 4
    """Of so many transitions, one at random enters the Fisher matrix."""
    search_steps: int = 10
    """Most lengths that the line search tries."""
    search_factor: float = 0.8
    """Each length as a share of the one before."""
    critic_learning_rate: float = 1e-3
    """Adam's step size for the critic."""
    critic_epochs: int = 10
    """The critic's passes over a rollout."""
    critic_minibatch_size: int = 128
    """B, transitions per step of the critic."""
    normalise_rewards: bool = True
    """Divide rewards by the running deviation of the discounted return."""
    piece_size: int = 1024
    """Transitions per seed whose gradient is taken at once; bounds the memory."""


class TRPO:
    """Collects a rollout, takes one natural step within the trust region, then fits the critic."""

    def __init__(self, setting: Setting, config: Config) -> None:
        self.config = config
        self.streams = setting.streams
        count_rollouts(setting, config.rollout_steps)
        self.policy = Policy(setting, config, twice_differentiable=True)
        self.critic = Value(setting, config)
        self.policy_matrix = ParameterMatrix(self.policy)
        self.critic_matrix = ParameterMatrix(self.critic)
        self.optimiser = Adam(self.critic_matrix, config.critic_learning_rate)
        size = config.rollout_steps * setting.lanes
        self.critic_steps = config.critic_epochs * -(-size // config.critic_minibatch_size)
        self.reward_scale = RewardScale(
            setting.num_seeds, setting.lanes, config.discount, setting.device
        )
        self.rollout = Rollout(config.rollout_steps)
        self.parts = Parts(
            policy=self.policy,
            critic=self.critic,
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
        noise = self.policy.noise(self.streams, first.shape[1], explore)
        action, sample = self.policy.act(obs, noise)
        return carry, action, {"sample": sample}

    def observe(self, transition: Transition) -> Metrics | None:
        rollout = self.rollout.add(transition)
        return None if rollout is None else self._update(rollout)

    def _update(self, rollout: Transition) -> Metrics:
        items = self._prepare(rollout)
        metrics = self._improve_policy(items)
        for _ in range(self.config.critic_epochs):
            order = self.streams.permutation("minibatch", items["returns"].shape[1])
            for minibatch in split_items(take(items, order), self.config.critic_minibatch_size):
                error = self.critic(observations(minibatch)) - minibatch["returns"]
                self.optimiser.step(per_seed_mean(error.square()))
        self.policy.encoder.update(rollout.obs)
        self.critic.encoder.update(rollout.obs)
        return metrics | {"value_error": per_seed_mean(error.detach().square())}

    @torch.no_grad()
    def _prepare(self, rollout: Transition) -> dict[str, Tensor]:
        """Flatten a rollout into items ``[S, T * E, ...]`` with advantages and returns.

        Advantages are standardised per seed; their scale would cancel in the step's length, but
        their mean would not.
        """
        config = self.config
        reward = rollout.reward
        if config.normalise_rewards:
            reward = scaled_rewards(rollout, self.reward_scale)
        value, next_value = self.critic(rollout.obs), self.critic(rollout.next_obs)
        advantage = rollout_advantages(
            rollout, reward, value, next_value, config.discount, config.trace
        )
        deviation, mean = torch.std_mean(advantage, dim=1, keepdim=True)
        return flat_items(rollout) | {
            "advantage": (advantage - mean) / (deviation + 1e-8),
            "returns": advantage + value,
        }

    def _improve_policy(self, items: dict[str, Tensor]) -> Metrics:
        """Take the natural step, as far as the search accepts it."""
        config = self.config
        size = items["advantage"].shape[1]

        def likelihood(piece: dict[str, Tensor]) -> Tensor:
            """What the piece adds to a sum that has the surrogate's gradient at the start."""
            log_prob = self.policy(observations(piece)).log_prob(piece["sample"])
            return (piece["advantage"] * log_prob).sum(dim=1) / size

        gradient = summed_gradient(self.policy_matrix, likelihood, items, config.piece_size)
        chosen = self.streams.permutation("fisher", size)[:, :: config.fisher_stride]
        some = take(items, chosen)
        fisher = Fisher(self.policy_matrix, self.policy(observations(some)), config.damping)
        direction = conjugate_gradient(fisher, gradient, config.cg_iterations, config.cg_tolerance)
        # the quadratic model of the divergence, x^T F x / 2, reaches the bound at this length
        curvature = (direction * fisher(direction)).sum(dim=1, keepdim=True).clamp_min(1e-12)
        return self._search(items, direction * (2 * config.target_kl / curvature).sqrt())

    @torch.no_grad()
    def _search(self, items: dict[str, Tensor], step: Tensor) -> Metrics:
        """Move each seed by the longest share of its step ``[S, P]`` that is accepted, or not.

        Accepted is what improves the surrogate and keeps the mean divergence within the bound.
        """
        config, parameters = self.config, self.policy_matrix.rows()
        start = parameters.clone()
        obs, sample, advantage = observations(items), items["sample"], items["advantage"]
        old = detached(self.policy(obs))
        old_log_prob = old.log_prob(sample)
        old_surrogate = per_seed_mean(advantage)
        accepted = torch.zeros(len(start), dtype=torch.bool, device=start.device)
        kept, kl = start.clone(), torch.zeros_like(old_surrogate)
        improvement = torch.zeros_like(old_surrogate)
        for power in range(config.search_steps):
            parameters.copy_(start + config.search_factor**power * step)
            new = self.policy(obs)
            ratio = (new.log_prob(sample) - old_log_prob).exp()
            gain = per_seed_mean(ratio * advantage) - old_surrogate
            divergence = per_seed_mean(kl_divergence(old, new))
            fits = ~accepted & (gain > 0) & (divergence <= config.target_kl)
            kept = torch.where(fits.unsqueeze(1), parameters, kept)
            kl, improvement = (
                torch.where(fits, divergence, kl),
                torch.where(fits, gain, improvement),
            )
            accepted |= fits
            if accepted.all():
                break
        parameters.copy_(kept)
        return {
            "kl": kl,
            "improvement": improvement,
            "rejected": (~accepted).to(kl.dtype),
            "entropy": per_seed_mean(old.entropy()),
        }

    @property
    def updates(self) -> int:
        """The critic's steps, and one of the policy per rollout."""
        return self.optimiser.updates + self.optimiser.updates // self.critic_steps

    def state_dict(self) -> dict[str, Any]:
        return self.parts.state_dict()

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.parts.load_state_dict(state)

    def parameters(self) -> dict[str, Tensor]:
        return {"policy": self.policy_matrix.rows(), "critic": self.critic_matrix.rows()}


ALGORITHM = Algorithm(
    title="TRPO",
    category="actor-critic",
    key_idea="natural gradient steps whose length a bound on the KL divergence decides",
    policy="on",
    paper="Schulman et al. 2015, https://arxiv.org/abs/1502.05477",
    config=Config,
    make=TRPO,
    native_actions=frozenset({"discrete", "multidiscrete", "continuous"}),
    presets={
        # discount as in PPO's preset for this task
        "gymnasium/Pendulum-v1": {
            "lanes": 4,
            "rollout_steps": 256,
            "discount": 0.9,
        },
        # networks and initial policy as in PPO's preset for this family
        "mujoco": {
            "rollout_steps": 256,
            "hidden": (256, 256),
            "initial_log_std": -1.0,
        },
        "isaacgym": {"lanes": 64, "rollout_steps": 32, "hidden": (128, 64)},
        "dmcontrol": {
            "rollout_steps": 256,
            "hidden": (256, 256),
            "initial_log_std": -1.0,
        },
        "dmcontrol/*-pixels": {
            "rollout_steps": 128,
            "critic_epochs": 3,
            "features": 128,
            "hidden": (128,),
            "piece_size": 256,
            "fisher_stride": 8,
        },
        "atari": {
            "evaluation": "sampled",
            "critic_epochs": 3,
            "critic_learning_rate": 2.5e-4,
            "critic_minibatch_size": 256,
            "normalise_rewards": False,
            "hidden": (),
            "piece_size": 256,
            "fisher_stride": 8,
        },
        # discount of Cobbe et al. 2020; few lanes, as in PPO's preset for this family
        "procgen": {
            "evaluation": "sampled",
            "lanes": 4,
            "rollout_steps": 512,
            "critic_epochs": 3,
            "critic_learning_rate": 5e-4,
            "critic_minibatch_size": 256,
            "discount": 0.999,
            "features": 256,
            "hidden": (),
            "piece_size": 128,
            "fisher_stride": 16,
        },
        # lanes, steps and networks of Cobbe et al. 2020
        "standard:procgen/*": {"lanes": 64, "rollout_steps": 256, "image_network": "impala"},
        "minigrid": {
            "evaluation": "sampled",
            "lanes": 16,
            "critic_epochs": 4,
            "normalise_rewards": False,
            "features": 128,
            "hidden": (64,),
            "piece_size": 512,
            "fisher_stride": 8,
        },
        "nethack": {
            "evaluation": "sampled",
            "critic_epochs": 3,
            "critic_learning_rate": 2.5e-4,
            "vectors": "symlog",
            "features": 256,
            "hidden": (),
            "piece_size": 256,
            "fisher_stride": 8,
        },
        "smoke": {
            "lanes": 2,
            "rollout_steps": 32,
            "cg_iterations": 5,
            "search_steps": 5,
            "critic_epochs": 2,
            "critic_minibatch_size": 32,
            "hidden": (16,),
            "image_network": "nature",
            "features": 16,
        },
    },
)
