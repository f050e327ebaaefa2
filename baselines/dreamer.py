"""Dreamer: an actor and a critic that learn inside a learned world model.

Hafner, Pasukonis, Ba, Lillicrap 2023, "Mastering Diverse Domains through World Models" (DreamerV3),
https://arxiv.org/abs/2301.04104. A recurrent state-space model learns to predict observations,
rewards and ends from sequences of the replay; the policy is improved on rollouts imagined from the
states that it went through.

Actions: native on all spaces (categorical, or a normal with bounded mean and spread).

Differences from the paper: networks are small and plain (ReLU, no normalisation but in the
recurrent cell), trained by Adam; every sequence begins with an empty memory, as every episode does;
lambda-returns and the baseline are the slow critic's values; the policy is not mixed with a uniform
one, and evaluation takes the most probable state and action. Vectors are predicted as they are,
symlog'd and standardised; in place of images, grids and texts the model predicts what a fixed
random copy of the encoder makes of them (Burda et al. 2018, https://arxiv.org/abs/1810.12894, learn
from such targets), so that one decoder suits all observations.
Cost: per update, ``batch_size * length``
steps of the model, and as many rollouts of ``horizon`` steps.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from baselines.agent import Algorithm, Metrics, Setting
from baselines.parts.actions import Continuous, Factored
from baselines.parts.critics import action_noise, random_action
from baselines.parts.heads import Categorical, Normal
from baselines.parts.layers import MLP
from baselines.parts.networks import Encoder, EncoderOptions, ImageNetwork
from baselines.parts.normalise import RunningMoments
from baselines.parts.optim import Adam, ParameterMatrix, per_seed_mean
from baselines.parts.rssm import RSSM, State, divergence
from baselines.parts.sequences import SequenceReplay
from baselines.parts.state import Parts
from baselines.parts.two_hot import TwoHot
from suite.spaces import Box
from suite.steps import Carry, Observation, Transition


@dataclass(frozen=True)
class Config:
    """Defaults are the paper's, but for what fits small networks and few updates."""

    lanes: int = 1
    """E, environments per seed."""
    replay_capacity: int = 200_000
    """Transitions kept per seed."""
    batch_size: int = 8
    """B, sequences per update."""
    length: int = 32
    """L, transitions of a sequence."""
    learning_starts: int = 1_000
    """Steps per seed with uniform actions before the first update."""
    update_period: int = 8
    """Environment steps per update."""
    model_learning_rate: float = 1e-3
    """Adam's step size for the world model."""
    learning_rate: float = 3e-4
    """Adam's step size for actor and critic."""
    max_gradient_norm: float = 100.0
    """Per seed."""
    deterministic: int = 128
    """H, size of the recurrent state."""
    groups: int = 8
    """G, choices of the stochastic state."""
    classes: int = 8
    """C, classes of each."""
    hidden: int = 128
    """Width of every layer."""
    buckets: int = 63
    """Of rewards and values."""
    reach: float = 10.0
    """Of the buckets, in symlog."""
    free_nats: float = 1.0
    """A divergence below this is not reduced."""
    dynamics_weight: float = 1.0
    """Of the prior's divergence from the posterior."""
    representation_weight: float = 0.1
    """Of the posterior's divergence from the prior."""
    horizon: int = 15
    """Steps of an imagined rollout."""
    discount: float = 1 - 1 / 333
    """gamma."""
    trace: float = 0.95
    """lambda of the returns."""
    entropy_coefficient: float = 3e-4
    """Weight of the policy's entropy."""
    return_rate: float = 0.01
    """Share of a batch's range of returns that the running one takes over per update."""
    target_rate: float = 0.02
    """Share of the critic that the slow one takes over per update."""
    image_network: ImageNetwork = "nature"
    """Convolutions for images."""
    features: int = 128
    """Outputs of the dense layer after an image or a grid of symbols."""


class WorldModel(nn.Module):
    """Encoder, state-space model, and what is predicted of a state."""

    def __init__(self, setting: Setting, config: Config, actions: int) -> None:
        super().__init__()
        streams, width = setting.streams, config.hidden
        options = EncoderOptions(config.image_network, config.features, "symlog")
        self.encoder = Encoder(streams, setting.spaces.observation, options)
        inputs = self.encoder.outputs
        sizes = (config.deterministic, config.groups, config.classes)
        self.rssm = RSSM(streams, inputs, actions, *sizes, width)
        features = self.rssm.features
        self.decoder = MLP(streams, features, (width,), inputs)
        self.reward = _zero_at_first(setting, features, (width,), config.buckets)
        self.ends = MLP(streams, features, (width,), 1)


class Dreamer:
    """Acts in the states of its world model and learns in its imagination."""

    def __init__(self, setting: Setting, config: Config) -> None:
        self.config = config
        self.streams = setting.streams
        space = setting.spaces.action
        self.actions: Continuous | Factored
        if isinstance(space, Box):
            self.actions = Continuous(space, setting.device)
            size, outputs = self.actions.dims, 2 * self.actions.dims
        else:
            self.actions = Factored(space, bins=0, device=setting.device)
            size = outputs = self.actions.dims * self.actions.bins
        self.model = WorldModel(setting, config, size)
        self.fixed = copy.deepcopy(self.model.encoder)  # random for good: see the top of the file
        for parameter in self.fixed.parameters():
            parameter.requires_grad_(False)
        inputs, features = self.fixed.outputs, self.model.rssm.features
        self.moments = RunningMoments(setting.num_seeds, inputs, setting.device)
        layers = (config.hidden, config.hidden)
        self.actor = MLP(setting.streams, features, layers, outputs, "relu", "orthogonal", 0.01)
        self.critic = _zero_at_first(setting, features, layers, config.buckets)
        self.slow_critic = copy.deepcopy(self.critic)
        self.two_hot = TwoHot(config.buckets, config.reach, setting.device)
        self.model_parameters = ParameterMatrix(self.model)
        self.actor_parameters = ParameterMatrix(self.actor)
        self.critic_parameters = ParameterMatrix(self.critic)
        self.slow_parameters = ParameterMatrix(self.slow_critic)
        norm = config.max_gradient_norm
        self.model_optimiser = Adam(self.model_parameters, config.model_learning_rate, norm)
        self.actor_optimiser = Adam(self.actor_parameters, config.learning_rate, norm)
        self.critic_optimiser = Adam(self.critic_parameters, config.learning_rate, norm)
        zeros = torch.zeros(setting.num_seeds, 1, device=setting.device)
        self.scale = nn.ParameterDict({"range": nn.Parameter(zeros, requires_grad=False)})
        capacity = min(config.replay_capacity, setting.total_steps)
        self.replay = SequenceReplay(capacity, setting.spaces.observation, self.streams)
        self.parts = Parts(
            model=self.model_parameters,
            actor=self.actor_parameters,
            critic=self.critic_parameters,
            slow_critic=self.slow_parameters,
            model_optimiser=self.model_optimiser,
            actor_optimiser=self.actor_optimiser,
            critic_optimiser=self.critic_optimiser,
            moments=self.moments,
            scale=self.scale,
            replay=self.replay,
            streams=self.streams,
        )

    def initial(self, lanes: int) -> Carry:
        rssm = self.model.rssm
        h = rssm.begin(lanes)
        z = h.new_zeros(*h.shape[:2], rssm.groups * rssm.classes)
        size = self.actions.dims * getattr(self.actions, "bins", 1)
        return State(h, z), h.new_zeros(*h.shape[:2], size)

    @torch.no_grad()
    def act(
        self, carry: Carry, obs: Observation, first: Tensor, explore: bool
    ) -> tuple[Carry, Tensor, dict[str, Tensor]]:
        state, action = carry
        rssm = self.model.rssm
        h = rssm.advance(state, action).masked_fill(first.unsqueeze(-1), 0.0)
        log_probs = rssm.posterior(h, self.model.encoder(obs))
        lanes = first.shape[1]
        gumbel = self._gumbel("state", lanes) if explore else None
        state = State(h, rssm.draw(log_probs, gumbel))
        policy = self._policy(state.features)
        if not explore:
            choice = policy.mode()
        elif self.replay.added < self.config.learning_starts:
            choice = random_action(self.actions, self.streams, lanes)
        else:
            noise = action_noise(self.actions, self.streams, "exploration", lanes)
            choice = policy.sample(noise)
        carry = state, self._as_input(choice)
        return carry, self.actions.to_environment(choice), {"action": choice}

    def observe(self, transition: Transition) -> Metrics | None:
        config = self.config
        self.replay.observe(transition, action=transition.extras["action"], ended=transition.ended)
        metrics = None
        if self.replay.can_sample(config.length):
            due = self.replay.updates_due(config.learning_starts, config.update_period)
            for _ in range(due):
                sequences = self.replay.sample_across(config.batch_size, config.length)
                metrics, state = self._learn_model(*sequences)
                metrics |= self._learn_behaviour(state)
        return metrics

    def _learn_model(
        self, items: dict[str, Tensor], obs: Observation, next_obs: Observation
    ) -> tuple[Metrics, State]:
        """One step of the world model on sequences ``[S, B, L, ...]``.

        Returns:
            Figures, and the states ``[S, B * L, ...]`` in which the actions were chosen.
        """
        config, model = self.config, self.model
        flat_next = {name: leaf.flatten(1, 2) for name, leaf in next_obs.items()}
        target = self.fixed(flat_next)
        self.moments.update(target)
        target = self.moments(target)
        flat_obs = {name: leaf.flatten(1, 2) for name, leaf in obs.items()}
        before, state, prior, posterior = self._unroll(
            items, model.encoder(flat_obs), model.encoder(flat_next)
        )
        features = state.features
        terminated = items["terminated"].flatten(1)
        losses = {
            "observation_loss": 0.5 * (model.decoder(features) - target).square().sum(dim=-1),
            "reward_loss": self.two_hot.cross_entropy(
                model.reward(features), items["reward"].flatten(1).to(features.dtype)
            ),
            "end_loss": F.binary_cross_entropy_with_logits(
                model.ends(features).squeeze(-1), terminated.to(features.dtype), reduction="none"
            ),
            "dynamics_loss": divergence(posterior.detach(), prior).clamp(min=config.free_nats),
            "representation_loss": divergence(posterior, prior.detach()).clamp(
                min=config.free_nats
            ),
        }
        weights = {
            "dynamics_loss": config.dynamics_weight,
            "representation_loss": config.representation_weight,
        }
        means = {name: per_seed_mean(loss) for name, loss in losses.items()}
        self.model_optimiser.step(
            torch.stack([weights.get(name, 1.0) * loss for name, loss in means.items()]).sum(dim=0)
        )
        figures = {name: loss.detach() for name, loss in means.items()}
        return figures, State(before.h.detach(), before.z.detach())

    def _unroll(
        self, items: dict[str, Tensor], encoded: Tensor, following: Tensor
    ) -> tuple[State, State, Tensor, Tensor]:
        """Follow sequences step by step.

        Args:
            items: ``[S, B, L, ...]``.
            encoded: features ``[S, B * L, F]`` of the observations.
            following: of the next ones.

        Returns:
            States before and after every transition, priors and posteriors after them,
            ``[S, B * L, ...]``.
        """
        rssm, shape = self.model.rssm, items["ended"].shape[1:]
        size = shape[0] * shape[1]
        action = self._as_input(items["action"].flatten(1, 2)).unflatten(1, shape)
        begun = items["ended"].roll(1, dims=2)  # a transition begins an episode or a sequence
        begun[:, :, 0] = True
        posterior = rssm.posterior(rssm.begin(size), encoded)
        first_z = rssm.draw(posterior, self._gumbel("first state", size)).unflatten(1, shape)
        gumbel = self._gumbel("state", size).unflatten(1, shape)
        seen = following.unflatten(1, shape)
        state = State(rssm.begin(shape[0]), first_z[:, :, 0])
        steps: list[tuple[Tensor, ...]] = []
        for t in range(shape[1]):
            new = begun[:, :, t].unsqueeze(-1)
            z = torch.where(new, first_z[:, :, t], state.z)
            before = State(state.h.masked_fill(new, 0.0), z)
            h = rssm.advance(before, action[:, :, t])
            posterior = rssm.posterior(h, seen[:, :, t])
            state = State(h, rssm.draw(posterior, gumbel[:, :, t]))
            steps.append((*before, *state, rssm.prior(h), posterior))
        before_h, before_z, h, z, priors, posteriors = (
            torch.stack(each, dim=2).flatten(1, 2) for each in zip(*steps, strict=True)
        )
        return State(before_h, before_z), State(h, z), priors, posteriors

    def _learn_behaviour(self, start: State) -> Metrics:
        """One step of actor and critic on rollouts imagined from states ``[S, N, ...]``."""
        config = self.config
        features, choice, returns, weight = self._imagine(start)
        policy = self._policy(features)
        slow = self.two_hot.mean(self.slow_critic(features)).detach()
        self._follow_range(returns)
        scale = self.scale["range"].clamp(min=1.0)
        advantage = (returns - slow) / scale
        objective = policy.log_prob(choice) * advantage
        entropy = policy.entropy()
        actor_loss = -(weight * (objective + config.entropy_coefficient * entropy))
        self.actor_optimiser.step(per_seed_mean(actor_loss))

        logits = self.critic(features)
        critic_loss = self.two_hot.cross_entropy(logits, returns)
        critic_loss = critic_loss + self.two_hot.cross_entropy(logits, slow)
        self.critic_optimiser.step(per_seed_mean(weight * critic_loss))
        self.slow_parameters.copy_from(self.critic_parameters, config.target_rate)
        return {
            "actor_loss": per_seed_mean(actor_loss.detach()),
            "critic_loss": per_seed_mean(critic_loss.detach()),
            "entropy": per_seed_mean(entropy.detach()),
        }

    @torch.no_grad()
    def _imagine(self, state: State) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Follow the policy through the model.

        Returns:
            Features, choices, lambda-returns and weights ``[S, horizon * N, ...]``; a weight is the
            discounted probability that the episode has come so far.
        """
        config, model, rssm = self.config, self.model, self.model.rssm
        size = state.h.shape[1]
        features, choices = [state.features], []
        for _ in range(config.horizon):
            noise = action_noise(self.actions, self.streams, "imagination", size)
            choices.append(self._policy(features[-1]).sample(noise))
            h = rssm.advance(state, self._as_input(choices[-1]))
            state = State(h, rssm.draw(rssm.prior(h), self._gumbel("imagination", size)))
            features.append(state.features)
        seen = torch.stack(features, dim=1)  # [S, horizon + 1, N, F]
        flat = seen.flatten(1, 2)
        value, reward = (
            self.two_hot.mean(network(flat)).unflatten(1, (-1, size))
            for network in (self.slow_critic, model.reward)
        )
        goes_on = (-model.ends(flat).squeeze(-1)).sigmoid().unflatten(1, (-1, size))
        discount = config.discount * goes_on
        returns = [value[:, -1]]
        for t in reversed(range(config.horizon)):
            ahead = (1 - config.trace) * value[:, t + 1] + config.trace * returns[-1]
            returns.append(reward[:, t + 1] + discount[:, t + 1] * ahead)
        target = torch.stack(returns[:0:-1], dim=1)
        discount[:, 0] = 1.0  # somebody acted there: the episode had not ended
        weight = discount[:, :-1].cumprod(dim=1)
        chosen = torch.stack(choices, dim=1)
        parts = (seen[:, :-1], chosen, target, weight)
        flattened = [part.flatten(1, 2) for part in parts]
        return flattened[0], flattened[1], flattened[2], flattened[3]

    def _follow_range(self, returns: Tensor) -> None:
        """Move the running distance between the 5th and the 95th percentile of returns."""
        ordered = returns.sort(dim=1).values
        last = ordered.shape[1] - 1
        low, high = ordered[:, round(0.05 * last)], ordered[:, round(0.95 * last)]
        self.scale["range"].lerp_((high - low).unsqueeze(1), self.config.return_rate)

    def _policy(self, features: Tensor) -> Categorical | Normal:
        outputs = self.actor(features)
        if isinstance(self.actions, Factored):
            logits = outputs.unflatten(-1, (self.actions.dims, self.actions.bins))
            return Categorical(self.actions.masked(logits))
        mean, raw = outputs.chunk(2, dim=-1)
        spread = 0.1 + 0.9 * (raw + 2).sigmoid()
        return Normal(torch.tanh(mean), spread.log())

    def _as_input(self, choice: Tensor) -> Tensor:
        """Choices ``[S, N, D]`` as numbers for the model; on a Box what the environment gets."""
        if isinstance(self.actions, Continuous):
            return choice.clamp(-1.0, 1.0)
        hot = F.one_hot(choice, self.actions.bins).flatten(2)
        return hot.to(torch.get_default_dtype())

    def _gumbel(self, role: str, batch: int) -> Tensor:
        rssm = self.model.rssm
        return self.streams.gumbel(f"{role} noise", batch, rssm.groups, rssm.classes)

    @property
    def updates(self) -> int:
        return self.model_optimiser.updates

    def state_dict(self) -> dict[str, Any]:
        return self.parts.state_dict()

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.parts.load_state_dict(state)

    def parameters(self) -> dict[str, Tensor]:
        return {
            "model": self.model_parameters.rows(),
            "actor": self.actor_parameters.rows(),
            "critic": self.critic_parameters.rows(),
        }


def _zero_at_first(setting: Setting, inputs: int, hidden: tuple[int, ...], outputs: int) -> MLP:
    """A network whose first outputs are 0: of buckets, the number 0."""
    return MLP(setting.streams, inputs, hidden, outputs, "relu", "orthogonal", 0.0)


ALGORITHM = Algorithm(
    title="Dreamer",
    category="model-based",
    key_idea="actor and critic learn on rollouts imagined in the states of a recurrent world model",
    policy="off",
    paper="Hafner et al. 2023, https://arxiv.org/abs/2301.04104",
    config=Config,
    make=Dreamer,
    native_actions=frozenset({"discrete", "multidiscrete", "continuous"}),
    presets={
        # Of few numbers every one counts: where a nat costs 0.1, as in the paper, a tenth of a
        # standardised number's variance is not worth its price.
        "gymnasium": {"representation_weight": 0.01, "free_nats": 0.1},
        "mujoco": {"representation_weight": 0.01, "free_nats": 0.1},
        "dmcontrol": {"representation_weight": 0.01, "free_nats": 0.1},
        "isaacgym": {
            "lanes": 16,
            "update_period": 64,
            "representation_weight": 0.01,
            "free_nats": 0.1,
        },
        "dmcontrol/*-pixels": {
            "lanes": 2,
            "replay_capacity": 100_000,
            "representation_weight": 0.1,
            "free_nats": 1.0,
        },
        "atari": {"lanes": 8, "replay_capacity": 100_000, "update_period": 16},
        "procgen": {"lanes": 8, "replay_capacity": 100_000, "update_period": 16},
        "minigrid": {"lanes": 8, "update_period": 16},
        "nethack": {"lanes": 8, "replay_capacity": 50_000, "update_period": 16},
        "smoke": {
            "learning_starts": 32,
            "batch_size": 2,
            "length": 8,
            "deterministic": 16,
            "groups": 4,
            "classes": 4,
            "hidden": 16,
            "buckets": 15,
            "horizon": 4,
            "features": 16,
        },
    },
)
