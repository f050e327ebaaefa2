"""TD3: deterministic actor-critic with twin critics, smoothed targets and a delayed actor.

Fujimoto, van Hoof and Meger 2018, "Addressing Function Approximation Error in Actor-Critic
Methods", https://arxiv.org/abs/1802.09477.

Actions: native on a Box (tanh of the actor's output, Gaussian exploration). On Discrete and
MultiDiscrete an action is one one-hot vector per dimension, sampled by Gumbel noise on the actor's
logits; gradients pass as if it were the softmax (straight-through Gumbel-softmax: Jang et al. 2017,
https://arxiv.org/abs/1611.01144; Maddison et al. 2017), and large logits are penalised (MADDPG:
Lowe et al. 2017). Smoothing is the target's own Gumbel noise; evaluation takes the largest logits.
The critics are linear in the one-hot vectors, the mean over dimensions (Seyde et al. 2022): the
slope of any other network at a one-hot vector need not tell which choice is better, and actors went
astray. What is lost: the actor is no longer deterministic, and a dimension's value does not depend
on the others. The two kinds differ in the short methods from ``_greedy`` to ``_value`` alone.

Differences from the paper: none on vectors, but hidden layers and batches are those of the authors'
later code; images, grids and texts are encoded by a network that the critics alone train (Yarats et
al. 2021), and the actor learns from the features that the critics had before their step; control
from pixels is that of DrQ (``baselines.parts.pixels``). Cost: per update, five passes forward and
two backward through networks of the critics' size, and at every ``policy_delay``-th two more of
each.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor
from torch.nn import functional as F

from baselines.agent import Algorithm, Metrics, Setting
from baselines.parts.actions import Continuous, Factored
from baselines.parts.critics import TwinCritic, action_noise, random_action
from baselines.parts.layers import MLP
from baselines.parts.networks import Encoder, EncoderOptions, ImageNetwork
from baselines.parts.optim import Adam, ParameterMatrix, per_seed_mean
from baselines.parts.pixels import PixelEncoder, RandomShift
from baselines.parts.replay import Replay
from baselines.parts.state import Parts
from suite.spaces import Box
from suite.steps import Carry, Observation, Transition


@dataclass(frozen=True)
class Config:
    """Defaults are the paper's, on the networks of the authors' later code."""

    lanes: int = 1
    """E, environments per seed."""
    replay_capacity: int = 1_000_000
    """Transitions kept per seed."""
    batch_size: int = 256
    """B, transitions per update."""
    learning_starts: int = 1_000
    """Steps per seed with uniform actions before the first update."""
    update_period: int = 1
    """Environment steps per update."""
    actor_learning_rate: float = 1e-3
    """Adam's step size for the policy."""
    critic_learning_rate: float = 1e-3
    """Adam's step size for the critics."""
    discount: float = 0.99
    """gamma."""
    policy_delay: int = 2
    """Critic updates per update of the actor and of all targets."""
    target_rate: float = 0.005
    """Share of the networks that the targets take over then."""
    exploration_noise: float = 0.1
    """Standard deviation of what is added to actions in [-1, 1]; on a Box only."""
    smoothing_noise: float = 0.2
    """Standard deviation of what is added to target actions; on a Box only."""
    smoothing_clip: float = 0.5
    """Largest size of that noise."""
    gumbel_temperature: float = 1.0
    """Of the softmax whose gradient a one-hot action takes."""
    logit_penalty: float = 0.01
    """Weight of the mean squared logit in the actor's loss, for choices only (MADDPG's code has
    1e-3). A certain policy has no gradient: without this it stays with its first mistake."""
    hidden: tuple[int, ...] = (256, 256)
    """Hidden layers of the actor and of each critic."""
    vectors: Literal["none", "symlog"] = "none"
    """Whether vector observations are squashed."""
    image_network: ImageNetwork = "nature"
    """Convolutions for images."""
    features: int = 512
    """Outputs of the dense layer after an image or a grid of symbols."""
    drq: bool = False
    """Read images by DrQ's encoder instead, with its normalised and bounded features."""
    image_shift: int = 0
    """Images of a batch are shifted at random by at most so many pixels."""


class TD3:
    """Acts by a policy that climbs the critics' gradient, and learns from replayed transitions."""

    def __init__(self, setting: Setting, config: Config) -> None:
        self.config = config
        self.streams = setting.streams
        self.actions: Continuous | Factored
        if isinstance(setting.spaces.action, Box):
            self.actions = Continuous(setting.spaces.action, setting.device)
            extra_inputs, values, outputs = self.actions.dims, 1, self.actions.dims
        else:
            self.actions = Factored(setting.spaces.action, bins=0, device=setting.device)
            extra_inputs, values = 0, self.actions.dims * self.actions.bins
            outputs = values

        options = EncoderOptions(config.image_network, config.features, config.vectors)
        make_encoder = PixelEncoder if config.drq else Encoder
        encoder = make_encoder(self.streams, setting.spaces.observation, options)
        self.critic = TwinCritic(self.streams, encoder, config.hidden, extra_inputs, values)
        self.actor = MLP(self.streams, encoder.outputs, config.hidden, outputs)
        self.target_critic = copy.deepcopy(self.critic)
        self.target_actor = copy.deepcopy(self.actor)
        self.critic_parameters = ParameterMatrix(self.critic)
        self.actor_parameters = ParameterMatrix(self.actor)
        self.target_critic_parameters = ParameterMatrix(self.target_critic)
        self.target_actor_parameters = ParameterMatrix(self.target_actor)
        self.critic_optimiser = Adam(self.critic_parameters, config.critic_learning_rate)
        self.actor_optimiser = Adam(self.actor_parameters, config.actor_learning_rate)
        capacity = min(config.replay_capacity, setting.total_steps)
        self.replay = Replay(capacity, setting.spaces.observation, self.streams)
        self.shift = RandomShift(self.streams, setting.spaces.observation, config.image_shift)
        self.parts = Parts(
            critic=self.critic_parameters,
            actor=self.actor_parameters,
            target_critic=self.target_critic_parameters,
            target_actor=self.target_actor_parameters,
            critic_optimiser=self.critic_optimiser,
            actor_optimiser=self.actor_optimiser,
            replay=self.replay,
            streams=self.streams,
        )

    def initial(self, lanes: int) -> Carry:
        return None

    @torch.no_grad()
    def act(
        self, carry: Carry, obs: Observation, first: Tensor, explore: bool
    ) -> tuple[Carry, Tensor, dict[str, Tensor]]:
        if explore and self.replay.added < self.config.learning_starts:
            action = random_action(self.actions, self.streams, first.shape[1])
        else:
            outputs = self.actor(self.critic.encoder(obs))
            if explore:
                noise = action_noise(self.actions, self.streams, "exploration", first.shape[1])
                action = self._exploring(outputs, noise)
            else:
                action = self._greedy(outputs)
        return carry, self.actions.to_environment(action), {"action": action}

    def observe(self, transition: Transition) -> Metrics | None:
        self.replay.observe(transition, action=transition.extras["action"])
        metrics = None
        config, size = self.config, self.config.batch_size
        for _ in range(self.replay.updates_due(config.learning_starts, config.update_period)):
            noise = action_noise(self.actions, self.streams, "smoothing", size)
            batch, obs, next_obs = self.replay.sample(size)
            obs, next_obs = self.shift(obs), self.shift(next_obs)
            metrics, features = self._update_critics(batch, obs, next_obs, noise)
            if self.updates % config.policy_delay == 0:
                noise = action_noise(self.actions, self.streams, "actor", size)
                metrics |= self._update_actor_and_targets(features, noise)
        return metrics

    def _update_critics(
        self, batch: dict[str, Tensor], obs: Observation, next_obs: Observation, noise: Tensor
    ) -> tuple[Metrics, Tensor]:
        """One step of the critics; returns the features of ``obs`` from before it."""
        with torch.no_grad():
            next_features = self.target_critic.encoder(next_obs)
            next_action = self._smoothed(self.target_actor(next_features), noise)
            next_value = torch.minimum(
                self._value(self.target_critic.first, next_features, next_action),
                self._value(self.target_critic.second, next_features, next_action),
            )
            discount = self.config.discount * (~batch["terminated"])
            target = batch["reward"] + discount * next_value
        features = self.critic.encoder(obs)
        action = self._as_vector(batch["action"])
        first = self._value(self.critic.first, features, action)
        second = self._value(self.critic.second, features, action)
        loss = per_seed_mean((first - target) ** 2) + per_seed_mean((second - target) ** 2)
        self.critic_optimiser.step(loss)
        metrics = {"critic_loss": loss.detach(), "value": per_seed_mean(first.detach())}
        return metrics, features.detach()

    def _update_actor_and_targets(self, features: Tensor, noise: Tensor) -> Metrics:
        outputs = self.actor(features)
        with self.critic_parameters.frozen():
            action = self._differentiable(outputs, noise)
            value = self._value(self.critic.first, features, action)
        loss = -per_seed_mean(value)
        if isinstance(self.actions, Factored):
            loss = loss + self.config.logit_penalty * per_seed_mean(outputs**2)
        self.actor_optimiser.step(loss)
        rate = self.config.target_rate
        self.target_critic_parameters.copy_from(self.critic_parameters, rate)
        self.target_actor_parameters.copy_from(self.actor_parameters, rate)
        return {"actor_loss": loss.detach()}

    def _greedy(self, outputs: Tensor) -> Tensor:
        """The policy's action in evaluation, ``[S, E, D]``."""
        if isinstance(self.actions, Continuous):
            return torch.tanh(outputs)
        return self._logits(outputs).argmax(dim=-1)

    def _exploring(self, outputs: Tensor, noise: Tensor) -> Tensor:
        """The policy's action in training, ``[S, E, D]``, from noise of the head's kind."""
        if isinstance(self.actions, Continuous):
            return (torch.tanh(outputs) + self.config.exploration_noise * noise).clamp(-1, 1)
        return (self._logits(outputs) + noise).argmax(dim=-1)

    def _differentiable(self, outputs: Tensor, noise: Tensor) -> Tensor:
        """What the critics judge when the actor learns."""
        if isinstance(self.actions, Continuous):
            return torch.tanh(outputs)  # noise is for choices alone
        logits = self._logits(outputs) + noise
        return straight_through(logits, self.config.gumbel_temperature)

    def _smoothed(self, outputs: Tensor, noise: Tensor) -> Tensor:
        """The target policy's action where a next state is valued, as the critics judge it."""
        if isinstance(self.actions, Continuous):
            limit = self.config.smoothing_clip
            noise = (self.config.smoothing_noise * noise).clamp(-limit, limit)
            return (torch.tanh(outputs) + noise).clamp(-1, 1)
        return self._as_vector(self._exploring(outputs, noise))

    def _as_vector(self, action: Tensor) -> Tensor:
        """An action as the critics judge it: ``[S, B, D]``, or one-hot ``[S, B, D, K]``."""
        if isinstance(self.actions, Continuous):
            return action
        return F.one_hot(action, self.actions.bins).to(torch.get_default_dtype())

    def _value(self, network: MLP, features: Tensor, action: Tensor) -> Tensor:
        """Values ``[S, B]`` by one of the critics; linear in one-hot vectors."""
        if isinstance(self.actions, Continuous):
            return network(torch.cat([features, action], dim=-1)).squeeze(-1)
        return (network(features).view(action.shape) * action).sum(dim=-1).mean(dim=-1)

    def _logits(self, outputs: Tensor) -> Tensor:
        """``[S, B, D, K]``, -inf where no bin exists."""
        assert isinstance(self.actions, Factored)
        return self.actions.masked(outputs.unflatten(-1, (self.actions.dims, self.actions.bins)))

    @property
    def updates(self) -> int:
        return self.critic_optimiser.updates

    def state_dict(self) -> dict[str, Any]:
        return self.parts.state_dict()

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.parts.load_state_dict(state)

    def parameters(self) -> dict[str, Tensor]:
        return {"actor": self.actor_parameters.rows(), "critic": self.critic_parameters.rows()}


def straight_through(logits: Tensor, temperature: float) -> Tensor:
    """One-hot vectors of the largest logits, with the gradient of the softmax (Jang et al. 2017).

    Args:
        logits: ``[..., K]``, -inf where no bin exists.
        temperature: of the softmax.
    """
    soft = torch.softmax(logits / temperature, dim=-1)
    hard = F.one_hot(logits.argmax(dim=-1), logits.shape[-1]).to(soft.dtype)
    return hard + (soft - soft.detach())  # the bracket is exactly 0


ALGORITHM = Algorithm(
    title="TD3",
    category="actor-critic",
    key_idea="a deterministic policy climbs the smaller of two critics, slowly and with smoothing",
    policy="off",
    paper="Fujimoto et al. 2018, https://arxiv.org/abs/1802.09477",
    config=Config,
    make=TD3,
    native_actions=frozenset({"continuous"}),
    adapter="straight-through Gumbel-softmax (Jang et al. 2017)",
    presets={
        # small tasks; discounts and noise of RL Baselines3 Zoo
        "gymnasium": {"hidden": (128, 128)},
        "gymnasium/Pendulum-v1": {"discount": 0.98},
        "gymnasium/MountainCarContinuous-v0": {"exploration_noise": 0.5},
        "gymnasium/LunarLanderContinuous-v3": {
            "hidden": (256, 256),
            "discount": 0.98,
            "learning_starts": 10_000,
        },
        "gymnasium/BipedalWalker-v3": {
            "hidden": (256, 256),
            "discount": 0.98,
            "learning_starts": 10_000,
        },
        # the paper's longer start where episodes have a fixed length
        "mujoco/HalfCheetah-v5": {"learning_starts": 10_000},
        "mujoco/Ant-v5": {"learning_starts": 10_000},
        # many short steps: fewer updates for each
        "isaacgym": {"lanes": 16, "update_period": 4},
        "dmcontrol/*-pixels": {
            "lanes": 2,
            "replay_capacity": 100_000,
            "batch_size": 64,
            "update_period": 2,
            "features": 50,
            "drq": True,
            "image_shift": 4,
        },
        # batch, period and learning rate of CleanRL's sac_atari
        "atari": {
            "lanes": 8,
            "replay_capacity": 100_000,
            "batch_size": 64,
            "update_period": 4,
            "actor_learning_rate": 3e-4,
            "critic_learning_rate": 3e-4,
            "hidden": (),
        },
        "procgen": {
            "lanes": 8,
            "replay_capacity": 100_000,
            "batch_size": 64,
            "update_period": 4,
            "actor_learning_rate": 3e-4,
            "critic_learning_rate": 3e-4,
            "features": 256,
            "hidden": (),
        },
        "minigrid": {
            "lanes": 8,
            "replay_capacity": 100_000,
            "batch_size": 64,
            "update_period": 4,
            "features": 128,
            "hidden": (64,),
        },
        "nethack": {
            "lanes": 8,
            "replay_capacity": 50_000,
            "batch_size": 32,
            "update_period": 4,
            "actor_learning_rate": 3e-4,
            "critic_learning_rate": 3e-4,
            "vectors": "symlog",
            "features": 256,
            "hidden": (),
        },
        "smoke": {
            "learning_starts": 32,
            "batch_size": 16,
            "hidden": (16,),
            "features": 16,
        },
    },
)
