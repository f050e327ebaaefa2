"""A world model that can be unrolled in its own states: the recurrent state-space model.

Hafner et al. 2019 (PlaNet), https://arxiv.org/abs/1811.04551, with the categorical states and the
normalised recurrent cell of Hafner et al. 2023, https://arxiv.org/abs/2301.04104. A state is a
deterministic vector ``h``, which the cell updates, and a stochastic one ``z``: G choices among C
classes, one-hot. The *prior* guesses ``z`` from ``h``; the *posterior* also sees the observation.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from baselines.parts.layers import MLP
from suite.streams import Streams

UNIFORM_SHARE = 0.01
"""Of the uniform distribution in every distribution of classes, so that no class is ruled out."""


class State(NamedTuple):
    """``[S, B, ...]``."""

    h: Tensor
    """``[S, B, H]``."""
    z: Tensor
    """``[S, B, G * C]``, one-hot in each group."""

    @property
    def features(self) -> Tensor:
        """What heads read, ``[S, B, H + G * C]``."""
        return torch.cat([self.h, self.z], dim=-1)


class RSSM(nn.Module):
    """The state-space model of S seeds.

    Args:
        inputs: features of an observation.
        actions: numbers that describe an action.
        deterministic: H.
        groups: G.
        classes: C.
        hidden: width of the layers.
    """

    def __init__(
        self,
        streams: Streams,
        inputs: int,
        actions: int,
        deterministic: int,
        groups: int,
        classes: int,
        hidden: int,
    ) -> None:
        super().__init__()
        self.seeds, self.device = len(streams.seeds), streams.device
        self.deterministic, self.groups, self.classes = deterministic, groups, classes
        size = groups * classes
        self.features = deterministic + size
        self.enter = MLP(streams, size + actions, (hidden,), None)
        self.cell = MLP(streams, hidden + deterministic, (), 3 * deterministic)
        self.prior_layers = MLP(streams, deterministic, (hidden,), size)
        self.posterior_layers = MLP(streams, deterministic + inputs, (hidden,), size)

    def begin(self, batch: int) -> Tensor:
        """``h`` before an episode's first observation."""
        dtype = torch.get_default_dtype()
        shape = (self.seeds, batch, self.deterministic)
        return torch.zeros(shape, dtype=dtype, device=self.device)

    def advance(self, state: State, action: Tensor) -> Tensor:
        """The next ``h``, after actions ``[S, B, A]``."""
        entered = self.enter(torch.cat([state.z, action], dim=-1))
        parts = self.cell(torch.cat([entered, state.h], dim=-1))
        parts = F.layer_norm(parts, parts.shape[-1:])
        reset, candidate, update = parts.chunk(3, dim=-1)
        candidate = torch.tanh(reset.sigmoid() * candidate)
        share = (update - 1).sigmoid()  # slow to change at first
        return torch.lerp(state.h, candidate, share)

    def prior(self, h: Tensor) -> Tensor:
        """Log probabilities ``[S, B, G, C]`` without the observation."""
        return self._log_probs(self.prior_layers(h))

    def posterior(self, h: Tensor, inputs: Tensor) -> Tensor:
        """Log probabilities ``[S, B, G, C]``, given features ``[S, B, F]`` of the observation."""
        return self._log_probs(self.posterior_layers(torch.cat([h, inputs], dim=-1)))

    def _log_probs(self, outputs: Tensor) -> Tensor:
        probs = outputs.unflatten(-1, (self.groups, self.classes)).softmax(dim=-1)
        return ((1 - UNIFORM_SHARE) * probs + UNIFORM_SHARE / self.classes).log()

    def draw(self, log_probs: Tensor, gumbel: Tensor | None) -> Tensor:
        """``z`` from Gumbel noise ``[S, B, G, C]``, or the most probable one without.

        Its gradient is that of the probabilities (straight through).
        """
        noisy = log_probs if gumbel is None else log_probs + gumbel
        hot = F.one_hot(noisy.argmax(dim=-1), self.classes).to(log_probs.dtype)
        probs = log_probs.exp()
        return (hot + probs - probs.detach()).flatten(-2)


def divergence(one: Tensor, other: Tensor) -> Tensor:
    """KL(one || other) ``[S, B]`` of log probabilities ``[S, B, G, C]``, summed over groups."""
    return (one.exp() * (one - other)).sum(dim=(-2, -1))
