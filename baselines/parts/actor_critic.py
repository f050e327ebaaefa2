"""What on-policy algorithms share: a policy, a value beside it, and rollouts as flat items."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from baselines.agent import Setting
from baselines.parts.heads import Distribution, make_head
from baselines.parts.layers import MLP, Activation
from baselines.parts.networks import Encoder, EncoderOptions, ImageNetwork, VectorScale
from baselines.parts.normalise import RewardScale
from baselines.parts.optim import ParameterMatrix
from baselines.parts.returns import generalised_advantage
from suite.spaces import leaf_kind
from suite.steps import Observation, Transition
from suite.streams import Streams


@dataclass(frozen=True)
class PolicyConfig:
    """The part of an on-policy algorithm's config that is about its networks and their use."""

    hidden: tuple[int, ...] = (64, 64)
    """Hidden layers of the actor, and of the critic."""
    activation: Activation = "tanh"
    """Nonlinearity of the hidden layers."""
    initial_log_std: float = 0.0
    """Log standard deviation of the policy at the start, in units of half the action range."""
    vectors: VectorScale = "moments"
    """How vector observations are scaled: by running moments, symlog or not at all."""
    image_network: ImageNetwork = "nature"
    """Convolutions for images; ``impala`` with features of bounded size."""
    features: int = 512
    """Outputs of the dense layer after an image or a grid of symbols."""
    evaluation: Literal["greedy", "sampled"] = "greedy"
    """What is scored: the policy's most probable actions, or samples of the policy. Presets take
    samples in games and mazes, as authors do there (Mnih et al. 2016, Cobbe et al. 2020, Küttler
    et al. 2020): a most probable action may be to walk into a wall for ever."""


class Policy(nn.Module):
    """An encoder, an MLP and a head: ``{name: [S, ..., *leaf]}`` to a distribution ``[S, B]``.

    Orthogonal initialisation, with a last layer so small that the first policy hardly depends on
    the observation (Andrychowicz et al. 2021).
    """

    def __init__(
        self, setting: Setting, config: PolicyConfig, twice_differentiable: bool = False
    ) -> None:
        super().__init__()
        self.encoder = _encoder(setting, config, twice_differentiable)
        self.head = make_head(
            setting.spaces.action, setting.num_seeds, config.initial_log_std, setting.device
        )
        shape = (self.encoder.outputs, self.head.outputs)
        self.actor = _mlp(setting, config, *shape, 0.01, twice_differentiable)
        self.is_sampled_in_evaluation = config.evaluation == "sampled"

    def distribution(self, features: Tensor) -> Distribution:
        """The policy where the encoder saw ``features [S, B, F]``."""
        return self.head.distribution(self.actor(features))

    def forward(self, obs: Observation) -> Distribution:
        return self.distribution(self.encoder(obs))

    def noise(self, streams: Streams, lanes: int, explore: bool) -> Tensor | None:
        """What :meth:`act` needs for so many lanes, in training or in evaluation."""
        role = "exploration" if explore else "evaluation"
        is_sampled = explore or self.is_sampled_in_evaluation
        return self.head.noise(streams, role, lanes) if is_sampled else None

    @torch.no_grad()
    def act(self, obs: Observation, noise: Tensor | None) -> tuple[Tensor, Tensor]:
        """Choose for lanes: a sample with ``noise [S, E, ...]`` of the head, the mode without.

        Returns:
            Actions ``[S, E, ...]`` in the environment's units and the choices ``[S, E, D]`` in the
            head's, to be stored with the transition.
        """
        policy = self(obs)
        sample = policy.mode() if noise is None else policy.sample(noise)
        return self.head.to_environment(sample), sample


class ActorCritic(Policy):
    """A policy and a value on one encoder; the two share no further layers."""

    def __init__(self, setting: Setting, config: PolicyConfig) -> None:
        super().__init__(setting, config)
        self.critic = _mlp(setting, config, self.encoder.outputs, 1, 1.0)

    def value(self, features: Tensor) -> Tensor:
        """Values ``[S, B]`` where the encoder saw ``features [S, B, F]``."""
        return self.critic(features).squeeze(-1)

    def policy_and_value(self, obs: Observation) -> tuple[Distribution, Tensor]:
        """The policy and the values ``[S, B]`` of some observations."""
        features = self.encoder(obs)
        return self.distribution(features), self.value(features)


class Value(nn.Module):
    """A value with an encoder of its own: ``{name: [S, ..., *leaf]}`` to ``[S, B]``."""

    def __init__(self, setting: Setting, config: PolicyConfig) -> None:
        super().__init__()
        self.encoder = _encoder(setting, config)
        self.critic = _mlp(setting, config, self.encoder.outputs, 1, 1.0)

    def forward(self, obs: Observation) -> Tensor:
        return self.critic(self.encoder(obs)).squeeze(-1)


def _encoder(setting: Setting, config: PolicyConfig, twice_differentiable: bool = False) -> Encoder:
    options = EncoderOptions(
        config.image_network, config.features, config.vectors, twice_differentiable
    )
    spaces = setting.spaces.observation
    has_images = any(leaf_kind(space) == "image" for space in spaces.values())
    is_residual = has_images and config.image_network == "impala"
    return (_BoundedEncoder if is_residual else Encoder)(setting.streams, spaces, options)


class _BoundedEncoder(Encoder):
    """An encoder whose features have a root mean square of 1 (Zhang, Sennrich 2019, RMSNorm).

    For networks with residual connections, through which features grow from block to block:
    without it the first policy and value of IMPALA's network are far from flat. On coinrun's
    screens, first values of a return whose deviation is 1 had a mean of 19 and a deviation of 33.
    """

    def forward(self, obs: Observation) -> Tensor:
        features = super().forward(obs)
        return F.rms_norm(features, features.shape[-1:], eps=1e-6)


def _mlp(
    setting: Setting,
    config: PolicyConfig,
    inputs: int,
    outputs: int,
    gain: float,
    twice_differentiable: bool = False,
) -> MLP:
    return MLP(
        setting.streams,
        inputs,
        config.hidden,
        outputs,
        config.activation,
        "orthogonal",
        gain,
        twice_differentiable,
    )


def count_rollouts(setting: Setting, rollout_steps: int) -> int:
    """Full rollouts in a budget.

    Raises:
        ValueError: there is none.
    """
    size = rollout_steps * setting.lanes
    if setting.total_steps < size:
        raise ValueError(
            f"a budget of {setting.total_steps} steps is below one rollout: rollout_steps x lanes"
            f" = {size}"
        )
    return setting.total_steps // size


def scaled_rewards(rollout: Transition, scale: RewardScale) -> Tensor:
    """Rewards ``[S, T, E]`` of a rollout, which the scale takes in first."""
    scale.update(rollout.reward, rollout.ended)
    return scale(rollout.reward)


def rollout_advantages(
    rollout: Transition,
    reward: Tensor,
    value: Tensor,
    next_value: Tensor,
    discount: float,
    trace: float,
) -> Tensor:
    """Generalised advantages ``[S, T * E]`` of a rollout.

    Args:
        rollout: says where episodes ended.
        reward: ``[S, T, E]``, scaled or not.
        value: ``[S, T * E]`` of the observations acted on.
        next_value: ``[S, T * E]`` of the true next observations.
        discount: gamma.
        trace: lambda.
    """
    shape = reward.shape
    advantage = generalised_advantage(
        reward.to(value.dtype),
        value.view(shape),
        next_value.view(shape),
        rollout.terminated,
        rollout.truncated,
        discount,
        trace,
    )
    return advantage.flatten(1)


def flat_items(rollout: Transition) -> dict[str, Tensor]:
    """Observations and samples of a rollout as items ``[S, T * E, ...]``."""
    items = {f"obs.{name}": leaf.flatten(1, 2) for name, leaf in rollout.obs.items()}
    return items | {"sample": rollout.extras["sample"].flatten(1, 2)}


def observations(items: dict[str, Tensor]) -> Observation:
    """What of some items was observed, leaves ``[S, B, ...]``."""
    return {name[4:]: leaf for name, leaf in items.items() if name.startswith("obs.")}


def split_items(items: dict[str, Tensor], size: int) -> Iterator[dict[str, Tensor]]:
    """Cut items ``[S, N, ...]`` into consecutive batches of ``size``; the last may be smaller."""
    pieces = [leaf.split(size, dim=1) for leaf in items.values()]
    for leaves in zip(*pieces, strict=True):
        yield dict(zip(items, leaves, strict=True))


def summed_gradient(
    parameters: ParameterMatrix,
    loss: Callable[[dict[str, Tensor]], Tensor],
    items: dict[str, Tensor],
    size: int,
) -> Tensor:
    """Gradient ``[S, P]`` of a loss ``[S]`` that is a sum over items, ``size`` items at a time.

    For whole rollouts of images, whose activations would not fit into memory at once.
    """
    pieces = [parameters.gradient(loss(piece)) for piece in split_items(items, size)]
    return pieces[0] if len(pieces) == 1 else torch.stack(pieces).sum(dim=0)
