"""Dueling DQN: the network tells a state's value and the advantages of its actions apart.

Wang et al. 2016, "Dueling Network Architectures for Deep Reinforcement Learning",
https://arxiv.org/abs/1511.06581. Where actions hardly matter, every action then teaches the value
that all of them share.

This file is the difference to ``dqn.py``: the network. Differences from the paper: those of
``dqn.py``, whose presets it shares, so that a comparison shows the network alone; so the bootstrap
is DQN's unless ``double`` is set, as it was in the paper's experiments. The streams part after the
encoder, which for images ends in a dense layer, not before that layer, and their gradient into the
encoder is not scaled down.

Actions: as in ``dqn.py``. On several dimensions each has a branch of advantages, and all share one
state value (Tavakoli et al. 2018, https://arxiv.org/abs/1711.08946); one dimension gives the
paper's network. Cost: the hidden layers twice, once per stream.
"""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from baselines import dqn
from baselines.agent import Setting
from baselines.parts.actions import Factored
from baselines.parts.layers import MLP
from suite.steps import Observation


class DuelingNetwork(dqn.QNetwork):
    """Observations to one value per dimension and bin, ``[S, B, D, K]``: V + A - mean of A."""

    def __init__(self, setting: Setting, config: dqn.Config, actions: Factored) -> None:
        super().__init__(setting, config, actions)  # whose own stream gives the advantages
        self.state_value = MLP(
            setting.streams, self.encoder.outputs, config.hidden, 1, config.activation
        )
        exists = actions.masked(torch.ones(self.shape, device=setting.device), 0.0)
        self.share = exists / exists.sum(dim=-1, keepdim=True)
        """``[D, K]`` weight of a bin in the mean of its dimension; 0 where there is none."""

    def forward(self, obs: Observation) -> Tensor:
        features = self.encoder(obs)
        value = self.state_value(features).unsqueeze(-1)  # [S, B, 1, 1]
        advantage = self.mlp(features).unflatten(-1, self.shape)
        return value + advantage - (advantage * self.share).sum(dim=-1, keepdim=True)


class DuelingDQN(dqn.DQN):
    """DQN with another network."""

    network = DuelingNetwork


ALGORITHM = replace(
    dqn.ALGORITHM,
    title="Dueling DQN",
    key_idea="DQN whose network adds a state's value and its actions' mean-free advantages",
    paper="Wang et al. 2016, https://arxiv.org/abs/1511.06581",
    adapter="branches of Tavakoli et al. 2018, DecQN (Seyde et al. 2022)",
    make=DuelingDQN,
)
