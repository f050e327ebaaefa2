"""SAC: soft actor-critic with a learned temperature.

Haarnoja et al. 2018, "Soft Actor-Critic Algorithms and Applications",
https://arxiv.org/abs/1812.05905.

Actions: native on a Box (tanh-squashed normal, one reparameterised sample). On Discrete and
MultiDiscrete the policy is categorical, the critics return the values of all choices and
expectations are exact (Christodoulou 2019, https://arxiv.org/abs/1910.07207); the two cases
differ in ``_expectation`` and ``_value_of`` alone. On several dimensions a joint value is the mean
of per-dimension values (Seyde et al. 2022).

Differences from the paper: a tanh keeps the policy's log standard deviation within bounds, and the
temperature takes steps of the critics' size (both as in CleanRL); images, grids and texts are
encoded by a network that the critic alone trains (Yarats et al. 2021), and the actor learns from
the features that the critic had before its step; control from pixels is that of DrQ
(``baselines.parts.pixels``). Cost: per update, seven passes forward and three backward through
networks of the critic's size.
"""

from __future__ import annotations

import copy
import math
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn

from baselines.agent import Algorithm, Metrics, Setting
from baselines.parts.actions import Continuous, Factored
from baselines.parts.critics import TwinCritic, action_noise, random_action
from baselines.parts.heads import Categorical, SquashedNormal
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
    """Defaults are the paper's, with the critic's learning rate of CleanRL."""

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
    actor_learning_rate: float = 3e-4
    """Adam's step size for the policy."""
    critic_learning_rate: float = 1e-3
    """Adam's step size for the critics and for the temperature."""
    discount: float = 0.99
    """gamma."""
    target_rate: float = 0.005
    """Share of the critics that the targets take over per update."""
    initial_temperature: float = 1.0
    """alpha at the start."""
    learn_temperature: bool = True
    """Adjust alpha so that the entropy meets its target."""
    discrete_entropy_share: float = 0.98
    """Target entropy on discrete actions, as a share of the uniform policy's; on a Box it is -D."""
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


LOG_STD_RANGE = (-5.0, 2.0)
"""The policy's log standard deviation is kept here by a tanh."""


class SAC:
    """Acts by a maximum-entropy policy and learns from replayed transitions."""

    def __init__(self, setting: Setting, config: Config) -> None:
        self.config = config
        self.streams = setting.streams
        space = setting.spaces.action
        self.actions: Continuous | Factored
        if isinstance(space, Box):
            self.actions = Continuous(space, setting.device)
            extra_inputs, values, policy_outputs = self.actions.dims, 1, 2 * self.actions.dims
            target_entropy = -float(self.actions.dims)
        else:
            self.actions = Factored(space, bins=0, device=setting.device)
            extra_inputs, values = 0, self.actions.dims * self.actions.bins
            policy_outputs = values
            sizes = [space.n] if not hasattr(space, "sizes") else space.sizes
            target_entropy = config.discrete_entropy_share * sum(map(math.log, sizes))
        self.target_entropy = target_entropy

        options = EncoderOptions(config.image_network, config.features, config.vectors)
        make_encoder = PixelEncoder if config.drq else Encoder
        encoder = make_encoder(self.streams, setting.spaces.observation, options)
        self.critic = TwinCritic(self.streams, encoder, config.hidden, extra_inputs, values)
        self.target = copy.deepcopy(self.critic)
        features = self.critic.encoder.outputs
        self.actor = MLP(setting.streams, features, config.hidden, policy_outputs)
        log_temperature = torch.full((setting.num_seeds, 1), math.log(config.initial_temperature))
        self.log_temperature = nn.ParameterList([log_temperature.to(setting.device)])
        self.critic_parameters = ParameterMatrix(self.critic)
        self.target_parameters = ParameterMatrix(self.target)
        self.actor_parameters = ParameterMatrix(self.actor)
        self.temperature_parameters = ParameterMatrix(self.log_temperature)
        self.critic_optimiser = Adam(self.critic_parameters, config.critic_learning_rate)
        self.actor_optimiser = Adam(self.actor_parameters, config.actor_learning_rate)
        self.temperature_optimiser = Adam(self.temperature_parameters, config.critic_learning_rate)
        capacity = min(config.replay_capacity, setting.total_steps)
        self.replay = Replay(capacity, setting.spaces.observation, self.streams)
        self.shift = RandomShift(self.streams, setting.spaces.observation, config.image_shift)
        self.parts = Parts(
            critic=self.critic_parameters,
            target=self.target_parameters,
            actor=self.actor_parameters,
            temperature=self.temperature_parameters,
            critic_optimiser=self.critic_optimiser,
            actor_optimiser=self.actor_optimiser,
            temperature_optimiser=self.temperature_optimiser,
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
            policy = self._policy(self.critic.encoder(obs))
            if explore:
                noise = action_noise(self.actions, self.streams, "exploration", first.shape[1])
                action = policy.sample(noise)
            else:
                action = policy.mode()
        return carry, self.actions.to_environment(action), {"action": action}

    def observe(self, transition: Transition) -> Metrics | None:
        self.replay.observe(transition, action=transition.extras["action"])
        metrics = None
        config, size = self.config, self.config.batch_size
        for _ in range(self.replay.updates_due(config.learning_starts, config.update_period)):
            noise = action_noise(self.actions, self.streams, "update", 2 * size)
            batch, obs, next_obs = self.replay.sample(size)
            obs, next_obs = self.shift(obs), self.shift(next_obs)
            metrics = self._update(batch, obs, next_obs, noise[:, :size], noise[:, size:])
        return metrics

    def _update(
        self,
        batch: dict[str, Tensor],
        obs: Observation,
        next_obs: Observation,
        noise: Tensor,
        next_noise: Tensor,
    ) -> Metrics:
        temperature = self.log_temperature[0].detach().exp()  # [S, 1]
        with torch.no_grad():
            policy = self._policy(self.critic.encoder(next_obs))
            next_features = self.target.encoder(next_obs)
            next_value, next_entropy = self._expectation(
                policy, self.target, next_features, next_noise
            )
            discount = self.config.discount * (~batch["terminated"])
            target = batch["reward"] + discount * (next_value + temperature * next_entropy)
        features = self.critic.encoder(obs)
        first, second = self._value_of(features, batch["action"])
        critic_loss = per_seed_mean((first - target) ** 2) + per_seed_mean((second - target) ** 2)
        self.critic_optimiser.step(critic_loss)

        features = features.detach()
        with self.critic_parameters.frozen():
            policy = self._policy(features)
            value, entropy = self._expectation(policy, self.critic, features, noise)
        actor_loss = -per_seed_mean(value + temperature * entropy)
        self.actor_optimiser.step(actor_loss)

        if self.config.learn_temperature:
            excess = per_seed_mean(entropy.detach() - self.target_entropy)
            self.temperature_optimiser.step(self.log_temperature[0][:, 0].exp() * excess)
        self.target_parameters.copy_from(self.critic_parameters, self.config.target_rate)
        return {
            "critic_loss": critic_loss.detach(),
            "actor_loss": actor_loss.detach(),
            "entropy": per_seed_mean(entropy.detach()),
            "temperature": temperature[:, 0],
        }

    def _policy(self, features: Tensor) -> Categorical | SquashedNormal:
        outputs = self.actor(features)
        if isinstance(self.actions, Factored):
            logits = outputs.unflatten(-1, (self.actions.dims, self.actions.bins))
            return Categorical(self.actions.masked(logits))
        mean, raw = outputs.chunk(2, dim=-1)
        low, high = LOG_STD_RANGE
        return SquashedNormal(mean, low + 0.5 * (high - low) * (torch.tanh(raw) + 1))

    def _expectation(
        self,
        policy: Categorical | SquashedNormal,
        critic: TwinCritic,
        features: Tensor,
        noise: Tensor,
    ) -> tuple[Tensor, Tensor]:
        """Expected value (the smaller critic's) and entropy of a policy, ``[S, B]``."""
        if isinstance(policy, SquashedNormal):
            action, log_prob = policy.sample_with_log_prob(noise)
            value = torch.minimum(*critic(torch.cat([features, action], dim=-1)))
            return value.squeeze(-1), -log_prob
        values = torch.minimum(*critic(features)).unflatten(-1, noise.shape[2:])
        return (policy.log_probs.exp() * values).sum(dim=-1).mean(dim=-1), policy.entropy()

    def _value_of(self, features: Tensor, action: Tensor) -> tuple[Tensor, Tensor]:
        """Both critics' values ``[S, B]`` of the actions taken."""
        if isinstance(self.actions, Continuous):
            first, second = self.critic(torch.cat([features, action], dim=-1))
            return first.squeeze(-1), second.squeeze(-1)
        shape = (self.actions.dims, self.actions.bins)
        first, second = (values.unflatten(-1, shape) for values in self.critic(features))
        return self.actions.pick(first, action), self.actions.pick(second, action)

    @property
    def updates(self) -> int:
        return self.critic_optimiser.updates

    def state_dict(self) -> dict[str, Any]:
        return self.parts.state_dict()

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.parts.load_state_dict(state)

    def parameters(self) -> dict[str, Tensor]:
        return {"actor": self.actor_parameters.rows(), "critic": self.critic_parameters.rows()}


ALGORITHM = Algorithm(
    title="SAC",
    category="actor-critic",
    key_idea="maximise return and entropy together, off-policy, with a learned temperature",
    policy="off",
    paper="Haarnoja et al. 2018, https://arxiv.org/abs/1812.05905",
    config=Config,
    make=SAC,
    native_actions=frozenset({"continuous"}),
    adapter="discrete SAC (Christodoulou 2019)",
    presets={
        # learning rates of XuanCe and of RL Baselines3 Zoo's Pendulum-v1; small tasks. With two
        # actions, 0.98 of the largest entropy is no policy at all and the temperature explodes.
        "gymnasium": {
            "actor_learning_rate": 1e-3,
            "hidden": (128, 128),
            "discrete_entropy_share": 0.5,
        },
        "gymnasium/LunarLanderContinuous-v3": {"hidden": (256, 256)},
        "gymnasium/BipedalWalker-v3": {"hidden": (256, 256)},
        # many short steps: fewer updates for each
        "isaacgym": {"lanes": 16, "update_period": 4},
        # DrQ's learning rates, temperature and features; smaller batches, an update per two steps
        "dmcontrol/*-pixels": {
            "lanes": 2,
            "replay_capacity": 100_000,
            "batch_size": 64,
            "update_period": 2,
            "actor_learning_rate": 1e-3,
            "initial_temperature": 0.1,
            "features": 50,
            "drq": True,
            "image_shift": 4,
        },
        # batch, period, learning rate and target entropy of CleanRL's sac_atari
        "atari": {
            "lanes": 8,
            "replay_capacity": 100_000,
            "batch_size": 64,
            "update_period": 4,
            "critic_learning_rate": 3e-4,
            "discrete_entropy_share": 0.89,
            "hidden": (),
        },
        "procgen": {
            "lanes": 8,
            "replay_capacity": 100_000,
            "batch_size": 64,
            "update_period": 4,
            "critic_learning_rate": 3e-4,
            "discrete_entropy_share": 0.89,
            "features": 256,
            "hidden": (),
        },
        # An episode that goes on has entropy to come: at a large temperature or discount that is
        # worth more than the goal, which ends the episode, and the policy learns to avoid it.
        "minigrid": {
            "lanes": 8,
            "replay_capacity": 100_000,
            "batch_size": 64,
            "update_period": 4,
            "discount": 0.9,
            "initial_temperature": 0.01,
            "discrete_entropy_share": 0.5,
            "features": 128,
            "hidden": (64,),
        },
        "nethack": {
            "lanes": 8,
            "replay_capacity": 50_000,
            "batch_size": 32,
            "update_period": 4,
            "critic_learning_rate": 3e-4,
            "discrete_entropy_share": 0.89,
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
