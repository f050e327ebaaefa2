"""A learned model of the environment: an ensemble of probabilistic networks per seed.

Chua et al. 2018 (PETS), https://arxiv.org/abs/1805.12114: K networks predict a normal distribution
of what follows; that they disagree where data is scarce is what keeps a planner from exploiting
them. The K networks of S seeds are ``S * K`` networks to the layers below, in the order seed 0
member 0, seed 0 member 1, ...
"""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from baselines.parts.layers import MLP
from baselines.parts.normalise import RunningMoments
from baselines.parts.optim import Adam, ParameterMatrix, per_seed_mean
from suite.streams import Streams, stream_key

LOG_STD_RANGE = (-5.0, 0.25)
"""Bounds of the log standard deviation, in units of the targets' own deviation."""


class Prediction(NamedTuple):
    """What follows, one per item ``[S, N]``."""

    state: Tensor
    """``[S, N, F]``."""
    reward: Tensor
    terminated: Tensor
    """bool."""


class Dynamics:
    """Predicts the next state, the reward and whether the episode terminates.

    States are vectors ``[S, N, F]``, actions ``[S, N, A]``. Inputs, and targets (the change of the
    state, and the reward), are standardised by running moments.

    Args:
        streams: gives seeds; each member begins with weights of its own.
        state_size: F.
        action_size: A.
        hidden: hidden layers of each member.
        members: K.
        elites: of which only the best so many predict.
        learning_rate: Adam's step size.
    """

    def __init__(
        self,
        streams: Streams,
        state_size: int,
        action_size: int,
        hidden: tuple[int, ...],
        members: int,
        elites: int,
        learning_rate: float,
    ) -> None:
        self.streams = streams
        self.seeds, self.members, self.elites = len(streams.seeds), members, elites
        keys = [stream_key(seed, "member", k) for seed in streams.seeds for k in range(members)]
        own = Streams(keys, streams.device)
        self.targets = state_size + 1
        self.network = MLP(own, state_size + action_size, hidden, 2 * self.targets + 1)
        self.network_parameters = ParameterMatrix(self.network)
        self.optimiser = Adam(self.network_parameters, learning_rate)
        inputs = state_size + action_size
        self.input_moments = RunningMoments(self.seeds, inputs, streams.device)
        self.target_moments = RunningMoments(self.seeds, self.targets, streams.device)
        best = torch.arange(elites, device=streams.device)
        self.best = best.expand(self.seeds, elites).clone()
        """``[S, elites]``, the members that predict."""

    def take_in(self, state: Tensor, action: Tensor, target: Tensor, terminated: Tensor) -> Tensor:
        """Meet transitions ``[S, N, ...]`` that no update has seen yet.

        They enter the moments, and decide which members are the elites: those to whom they are the
        least surprising.

        Returns:
            The mean loss of all members ``[S]``.
        """
        self.input_moments.update(torch.cat([state, action], dim=-1))
        self.target_moments.update(target)
        with torch.no_grad():
            tiled = [self._tiled(each) for each in (state, action, target, terminated)]
            loss = self._loss(*tiled).view(self.seeds, self.members)
        self.best = loss.argsort(dim=1, stable=True)[:, : self.elites]
        return loss.mean(dim=1)

    def update(self, state: Tensor, action: Tensor, target: Tensor, terminated: Tensor) -> Tensor:
        """Descend one step; leaves ``[S, K * B, ...]``, B items for each member.

        Returns:
            The mean loss of all members ``[S]``.
        """
        own = [self._dealt(each) for each in (state, action, target, terminated)]
        loss = self._loss(*own)
        self.optimiser.step(loss)
        return loss.detach().view(self.seeds, self.members).mean(dim=1)

    @torch.no_grad()
    def predict(self, state: Tensor, action: Tensor) -> Prediction:
        """Draw what follows, for each item from one of the elites at random."""
        size = state.shape[1]
        outputs = self._outputs(self._tiled(state), self._tiled(action))
        outputs = outputs.unflatten(0, (self.seeds, self.members))  # [S, K, N, outputs]
        choice = self.best.gather(1, self.streams.integers("elite", self.elites, size))
        index = choice.view(self.seeds, 1, size, 1).expand(-1, -1, -1, outputs.shape[-1])
        mean, log_std, end = self._split(outputs.gather(1, index).squeeze(1))
        drawn = mean + log_std.exp() * self.streams.normal("model", size, self.targets)
        moments = self.target_moments
        spread = (moments.variance + 1e-8).sqrt()
        drawn = drawn * spread.to(drawn.dtype) + moments.mean.to(drawn.dtype)
        return Prediction(state + drawn[..., :-1], drawn[..., -1], end > 0)

    def _outputs(self, state: Tensor, action: Tensor) -> Tensor:
        """Of every member ``[S * K, B, outputs]``, for items of its own ``[S * K, B, ...]``."""
        inputs = torch.cat([state, action], dim=-1).unflatten(0, (self.seeds, self.members))
        scaled = self.input_moments(inputs.flatten(1, 2))
        return self.network(scaled.unflatten(1, (self.members, -1)).flatten(0, 1))

    def _loss(self, state: Tensor, action: Tensor, target: Tensor, terminated: Tensor) -> Tensor:
        """Negative log likelihood ``[S * K]``, up to a constant."""
        grouped = target.unflatten(0, (self.seeds, self.members)).flatten(1, 2)
        scaled = self.target_moments(grouped).unflatten(1, (self.members, -1)).flatten(0, 1)
        mean, log_std, end = self._split(self._outputs(state, action))
        error = (scaled - mean) * (-log_std).exp()
        likelihood = 0.5 * error.square() + log_std
        entropy = F.binary_cross_entropy_with_logits(
            end, terminated.to(end.dtype), reduction="none"
        )
        return per_seed_mean(likelihood.sum(dim=-1) + entropy)

    def _split(self, outputs: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Means, log deviations, and the logit of termination."""
        mean, raw, end = outputs.split([self.targets, self.targets, 1], dim=-1)
        low, high = LOG_STD_RANGE
        return mean, low + 0.5 * (high - low) * (torch.tanh(raw) + 1), end.squeeze(-1)

    def _tiled(self, leaf: Tensor) -> Tensor:
        """Items ``[S, N, ...]`` for every member, ``[S * K, N, ...]``."""
        shape = (self.seeds, self.members, *leaf.shape[1:])
        return leaf.unsqueeze(1).expand(shape).flatten(0, 1)

    def _dealt(self, leaf: Tensor) -> Tensor:
        """Items ``[S, K * B, ...]`` dealt out among members, ``[S * K, B, ...]``."""
        return leaf.unflatten(1, (self.members, -1)).flatten(0, 1)

    def rows(self) -> Tensor:
        """Everything each seed's members have learned, ``[S, K * P]``."""
        return self.network_parameters.rows().view(self.seeds, -1)

    def state_dict(self) -> dict[str, Any]:
        return {
            "network": self.network_parameters.state_dict(),
            "optimiser": self.optimiser.state_dict(),
            "input_moments": self.input_moments.state_dict(),
            "target_moments": self.target_moments.state_dict(),
            "best": self.best,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.network_parameters.load_state_dict(state["network"])
        self.optimiser.load_state_dict(state["optimiser"])
        self.input_moments.load_state_dict(state["input_moments"])
        self.target_moments.load_state_dict(state["target_moments"])
        self.best = state["best"].to(self.best.device)
