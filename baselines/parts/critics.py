"""What off-policy actor-critics share: twin critics on one encoder, and actions in two kinds.

An action is a vector in ``[-1, 1]^D`` on a Box, and D choices among K bins on Discrete and
MultiDiscrete; both are what a replay stores and what ``to_environment`` translates.
"""

from __future__ import annotations

from torch import Tensor, nn

from baselines.parts.actions import Continuous, Factored
from baselines.parts.layers import MLP
from baselines.parts.networks import Encoder
from suite.streams import Streams


class TwinCritic(nn.Module):
    """Two value networks on one encoder (Fujimoto et al. 2018).

    Args:
        encoder: turns observations into the features that both networks read.
        hidden: hidden layers of each network.
        extra_inputs: numbers that stand beside the features, usually an action.
        outputs: values per network.
    """

    def __init__(
        self,
        streams: Streams,
        encoder: Encoder,
        hidden: tuple[int, ...],
        extra_inputs: int,
        outputs: int,
    ) -> None:
        super().__init__()
        self.encoder = encoder
        inputs = encoder.outputs + extra_inputs
        self.first = MLP(streams, inputs, hidden, outputs)
        self.second = MLP(streams, inputs, hidden, outputs)

    def forward(self, inputs: Tensor) -> tuple[Tensor, Tensor]:
        """Values ``[S, B, outputs]`` twice, from features and extra inputs side by side."""
        return self.first(inputs), self.second(inputs)


def random_action(actions: Continuous | Factored, streams: Streams, lanes: int) -> Tensor:
    """Uniform actions ``[S, E, D]``, drawn from the ``"exploration"`` role."""
    uniform = streams.uniform("exploration", lanes, actions.dims)
    return 2 * uniform - 1 if isinstance(actions, Continuous) else actions.random(uniform)


def action_noise(actions: Continuous | Factored, streams: Streams, role: str, batch: int) -> Tensor:
    """What a sample needs: normal ``[S, B, D]``, or Gumbel ``[S, B, D, K]``."""
    if isinstance(actions, Continuous):
        return streams.normal(role, batch, actions.dims)
    return streams.gumbel(role, batch, actions.dims, actions.bins)
