"""Double DQN: one network chooses the next action, the other says what it is worth.

van Hasselt, Guez and Silver 2016, "Deep Reinforcement Learning with Double Q-learning",
https://arxiv.org/abs/1509.06461. DQN's target takes the maximum of estimates that err, which errs
upwards; an action that is chosen by other estimates than those that value it does not.

This file is the difference to ``dqn.py``: the bootstrap. Differences from the paper: those of
``dqn.py``, whose presets it shares, so that a comparison shows the bootstrap alone; the paper's
longer target period and lower final epsilon are not taken over.

Actions: as in ``dqn.py``; on several dimensions each dimension's bin is chosen by one network and
valued by the other. Cost: one more pass forward per update than DQN.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from torch import Tensor

from baselines import dqn
from suite.steps import Observation


@dataclass(frozen=True)
class Config(dqn.Config):
    """DQN's numbers."""

    double: bool = True
    """Always: without it this is DQN."""

    def __post_init__(self) -> None:
        if not self.double:
            raise ValueError("double_dqn with double=False is dqn: run that")


class DoubleDQN(dqn.DQN):
    """DQN with another bootstrap."""

    def _bootstrap(self, next_obs: Observation) -> Tensor:
        """Q_target(s', argmax_a Q_online(s', a)), ``[S, B]``."""
        return self._worth(next_obs, chooser=self.online)


ALGORITHM = replace(
    dqn.ALGORITHM,
    title="Double DQN",
    key_idea="DQN whose bootstrap action is chosen by the online and valued by the target network",
    paper="van Hasselt et al. 2016, https://arxiv.org/abs/1509.06461",
    config=Config,
    make=DoubleDQN,
)
