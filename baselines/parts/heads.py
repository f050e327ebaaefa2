"""Policies as distributions: what losses of actor algorithms are written against.

A *head* belongs to an action space and knows how many network outputs it needs; given outputs it
makes a *distribution* with ``sample``, ``log_prob``, ``entropy``, ``kl`` and ``mode`` (SAC's
:class:`SquashedNormal` has only what SAC needs). Samples are in the head's own units (choices, or
unbounded vectors); ``to_environment`` translates. Noise is handed in, drawn from streams.
"""

from __future__ import annotations

import math
from functools import cached_property
from typing import Protocol

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from baselines.parts.actions import Continuous, Factored
from suite.spaces import ActionSpace, Box
from suite.streams import Streams

LOG_ROOT_TAU = math.log(math.sqrt(2 * math.pi))


class Categorical:
    """D independent categorical choices: ``logits [S, B, D, K]``, -inf where no bin exists."""

    def __init__(self, logits: Tensor) -> None:
        self.logits = logits

    @cached_property
    def log_probs(self) -> Tensor:
        """``[S, B, D, K]``; acting does without."""
        return torch.log_softmax(self.logits, dim=-1)

    def sample(self, gumbel: Tensor) -> Tensor:
        """Choices ``[S, B, D]`` from Gumbel noise ``[S, B, D, K]``."""
        return (self.logits + gumbel).argmax(dim=-1)

    def mode(self) -> Tensor:
        """The most probable choice ``[S, B, D]``."""
        return self.logits.argmax(dim=-1)

    def log_prob(self, choice: Tensor) -> Tensor:
        """``[S, B]`` for choices ``[S, B, D]``."""
        return self.log_probs.gather(-1, choice.unsqueeze(-1)).squeeze(-1).sum(dim=-1)

    def entropy(self) -> Tensor:
        """``[S, B]``, summed over dimensions."""
        return -(self.log_probs.exp() * self._finite(self.log_probs)).sum(dim=(-2, -1))

    def kl(self, other: Categorical) -> Tensor:
        """KL(self || other) ``[S, B]``."""
        difference = self._finite(self.log_probs) - self._finite(other.log_probs)
        return (self.log_probs.exp() * difference).sum(dim=(-2, -1))

    @staticmethod
    def _finite(log_probs: Tensor) -> Tensor:
        return log_probs.clamp_min(torch.finfo(log_probs.dtype).min)  # 0 * -inf would be NaN


class Normal:
    """Independent normals: ``mean [S, B, D]``, ``log_std [S, 1 or B, D]``."""

    def __init__(self, mean: Tensor, log_std: Tensor) -> None:
        self.mean, self.log_std = mean, log_std

    def sample(self, normal: Tensor) -> Tensor:
        """``[S, B, D]`` from standard normal noise of that shape; differentiable."""
        return self.mean + self.log_std.exp() * normal

    def mode(self) -> Tensor:
        return self.mean

    def log_prob(self, value: Tensor) -> Tensor:
        """Log density ``[S, B]``."""
        error = (value - self.mean) * (-self.log_std).exp()
        return (-0.5 * error**2 - self.log_std - LOG_ROOT_TAU).sum(dim=-1)

    def entropy(self) -> Tensor:
        """``[S, B]``, summed over dimensions."""
        total = (self.log_std + 0.5 + LOG_ROOT_TAU).sum(dim=-1)
        return total.expand(self.mean.shape[:-1])

    def kl(self, other: Normal) -> Tensor:
        """KL(self || other) ``[S, B]``."""
        ratio = (2 * (self.log_std - other.log_std)).exp()
        distance = (self.mean - other.mean) ** 2 * (-2 * other.log_std).exp()
        return (other.log_std - self.log_std + 0.5 * (ratio + distance - 1)).sum(dim=-1)


class SquashedNormal:
    """A normal squashed by tanh into (-1, 1) (Haarnoja et al. 2018, appendix C)."""

    def __init__(self, mean: Tensor, log_std: Tensor) -> None:
        self.normal = Normal(mean, log_std)

    def sample(self, normal: Tensor) -> Tensor:
        """``[S, B, D]`` from standard normal noise of that shape; differentiable."""
        return torch.tanh(self.normal.sample(normal))

    def mode(self) -> Tensor:
        """The squashed mean, the policy's habit in evaluation."""
        return torch.tanh(self.normal.mean)

    def sample_with_log_prob(self, normal: Tensor) -> tuple[Tensor, Tensor]:
        """A differentiable sample ``[S, B, D]`` and its log density ``[S, B]``."""
        before = self.normal.sample(normal)
        # log(1 - tanh(x)^2), in the form that stays finite for large |x|
        slope = 2 * (math.log(2) - before - F.softplus(-2 * before))
        return torch.tanh(before), self.normal.log_prob(before) - slope.sum(dim=-1)


Distribution = Categorical | Normal


class Head(Protocol):
    """The policy of one action space."""

    outputs: int
    """Network outputs it needs."""

    def distribution(self, outputs: Tensor) -> Distribution:
        """From network outputs ``[S, B, outputs]``."""

    def noise(self, streams: Streams, role: str, batch: int) -> Tensor:
        """What ``sample`` needs for a batch of that size."""

    def to_environment(self, sample: Tensor) -> Tensor:
        """Samples ``[S, E, D]`` as the environment's actions."""


class CategoricalHead(nn.Module):
    """Categorical policy of Discrete and MultiDiscrete spaces."""

    def __init__(self, space: ActionSpace, device: torch.device) -> None:
        super().__init__()
        self.actions = Factored(space, bins=0, device=device)
        self.outputs = self.actions.dims * self.actions.bins

    def distribution(self, outputs: Tensor) -> Categorical:
        logits = outputs.unflatten(-1, (self.actions.dims, self.actions.bins))
        return Categorical(self.actions.masked(logits))

    def noise(self, streams: Streams, role: str, batch: int) -> Tensor:
        return streams.gumbel(role, batch, self.actions.dims, self.actions.bins)

    def to_environment(self, sample: Tensor) -> Tensor:
        return self.actions.to_environment(sample)


class NormalHead(nn.Module):
    """Normal policy of a Box with a spread that does not depend on the state.

    Samples are unbounded; the environment gets them clipped (Andrychowicz et al. 2021).
    """

    def __init__(self, space: Box, seeds: int, initial_log_std: float, device: torch.device):
        super().__init__()
        self.actions = Continuous(space, device)
        self.outputs = self.actions.dims
        spread = torch.full((seeds, 1, self.outputs), initial_log_std, device=device)
        self.log_std = nn.Parameter(spread.to(torch.get_default_dtype()))

    def distribution(self, outputs: Tensor) -> Normal:
        return Normal(outputs, self.log_std)

    def noise(self, streams: Streams, role: str, batch: int) -> Tensor:
        return streams.normal(role, batch, self.outputs)

    def to_environment(self, sample: Tensor) -> Tensor:
        return self.actions.to_environment(sample)


def make_head(
    space: ActionSpace, seeds: int, initial_log_std: float, device: torch.device
) -> CategoricalHead | NormalHead:
    """The native policy of a space: categorical, or normal for a Box."""
    if isinstance(space, Box):
        return NormalHead(space, seeds, initial_log_std, device)
    return CategoricalHead(space, device)
