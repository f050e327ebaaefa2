"""A3C: asynchronous advantage actor-critic, with the asynchrony made repeatable.

Mnih, Badia, Mirza, Graves, Lillicrap, Harley, Silver, Kavukcuoglu 2016, "Asynchronous Methods for
Deep Reinforcement Learning", https://arxiv.org/abs/1602.01783.

Every lane is a worker with a copy of the parameters, taken after its own latest update. It plays
``rollout_steps`` with that copy and takes the gradient there. Then the gradients reach the shared
parameters one after another, in an order drawn anew for every seed and round, and each worker takes
its next copy right after its own. So a gradient is as stale as in the paper's threads: by the
updates that others made meanwhile, between 0 and 2(E - 1). With one worker this is A2C.

How it relates to threads: the paper's workers never wait, write without locks (Recht et al. 2011,
"Hogwild!", https://arxiv.org/abs/1106.5730) and may mix the parameters of two updates in one copy;
how often they do depends on the machine. Here updates are whole, workers take turns in rounds of
one update each, and a run repeats exactly.

Further differences: those of A2C, whose loss this is. Adam's statistics are shared among workers,
as the paper's best variant shares RMSprop's. Moments of observations and rewards are shared per
seed and move after each round. Evaluation acts with the shared parameters.

Actions: as A2C. Cost: as A2C, with E optimiser steps per rollout and batches that are E times as
many and E times as small, which images feel most.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from baselines import a2c
from baselines.agent import Algorithm, Metrics, Setting
from baselines.parts.actor_critic import ActorCritic
from baselines.parts.normalise import RunningMoments
from baselines.parts.optim import ParameterMatrix
from suite.steps import Carry, Observation, Transition
from suite.streams import Streams


@dataclass(frozen=True)
class Config(a2c.Config):
    """Defaults are A2C's, with longer rollouts, because each update sees those of one lane."""

    rollout_steps: int = 16
    """T, steps of every worker between its updates."""
    learning_rate: float = 5e-4
    """Adam's step size at the start."""


class A3C(a2c.A2C):
    """A2C whose lanes update the shared parameters in turn, each from a copy of its own."""

    def __init__(self, setting: Setting, config: Config) -> None:
        super().__init__(setting, config)
        self.total_updates *= setting.lanes
        # a seed's workers are rows of their own: [S * E, ...] wherever A2C has [S, ...]
        rows = [seed for seed in self.streams.seeds for _ in range(setting.lanes)]
        streams = Streams(rows, setting.device)
        self.workers = ActorCritic(replace(setting, streams=streams, lanes=1), config)
        self.worker_matrix = ParameterMatrix(self.workers)
        self.copies = self.worker_matrix.rows().unflatten(0, (-1, setting.lanes))  # [S, E, P]
        self.copies.copy_(self.parameter_matrix.rows().unsqueeze(1))
        self.parts["workers"] = self.workers

    def act(
        self, carry: Carry, obs: Observation, first: Tensor, explore: bool
    ) -> tuple[Carry, Tensor, dict[str, Tensor]]:
        if not explore:
            return super().act(carry, obs, first, explore)
        noise = self.workers.head.noise(self.streams, "exploration", first.shape[1])
        alone = {name: leaf.flatten(0, 1).unsqueeze(1) for name, leaf in obs.items()}
        action, sample = self.workers.act(alone, noise.flatten(0, 1).unsqueeze(1))
        return (
            carry,
            action.view(*first.shape, *action.shape[2:]),
            {"sample": sample.view(*first.shape, *sample.shape[2:])},
        )

    def _update(self, rollout: Transition) -> Metrics:
        loss, metrics = self._loss(self.workers, _by_worker(rollout))
        gradients = self.worker_matrix.gradient(loss).view(self.copies.shape)
        seeds, lanes = self.copies.shape[:2]
        order = self.streams.permutation("workers", lanes)
        each = torch.arange(seeds, device=order.device)
        for worker in order.unbind(1):  # [S], another one for every seed
            self.optimiser.apply(gradients[each, worker])
            self.copies[each, worker] = self.parameter_matrix.rows()
        self.networks.encoder.update(rollout.obs)
        _share_moments(self.networks, self.workers, lanes)
        return {name: values.view(seeds, lanes).mean(dim=1) for name, values in metrics.items()}


def _by_worker(rollout: Transition) -> Transition:
    """``[S, T, E, ...] -> [S * E, T, 1, ...]``."""

    def split(leaf: Tensor) -> Tensor:
        return leaf.transpose(1, 2).flatten(0, 1).unsqueeze(2)

    return Transition(
        obs={name: split(leaf) for name, leaf in rollout.obs.items()},
        action=split(rollout.action),
        reward=split(rollout.reward),
        next_obs={name: split(leaf) for name, leaf in rollout.next_obs.items()},
        terminated=split(rollout.terminated),
        truncated=split(rollout.truncated),
        extras={name: split(leaf) for name, leaf in rollout.extras.items()},
    )


def _share_moments(shared: ActorCritic, workers: ActorCritic, lanes: int) -> None:
    """Give every worker its seed's moments of observations."""
    for mine, theirs in zip(shared.modules(), workers.modules(), strict=True):
        if isinstance(mine, RunningMoments):
            state = {
                name: buffer.repeat_interleave(lanes, 0) for name, buffer in mine.named_buffers()
            }
            theirs.load_state_dict(state)


ALGORITHM = Algorithm(
    title="A3C",
    category="actor-critic",
    key_idea="workers update shared parameters one by one, by gradients at copies of their own",
    policy="on",
    paper="Mnih et al. 2016, https://arxiv.org/abs/1602.01783",
    config=Config,
    make=A3C,
    native_actions=frozenset({"discrete", "multidiscrete", "continuous"}),
    presets=a2c.PRESETS
    | {
        # as in A2C, with step sizes for as many times more updates as there are lanes
        "minigrid": a2c.PRESETS["minigrid"] | {"rollout_steps": 16, "learning_rate": 3e-4},
        "procgen": a2c.PRESETS["procgen"] | {"learning_rate": 2e-4},
        "nethack": a2c.PRESETS["nethack"] | {"learning_rate": 1e-4},
        "dmcontrol/*-pixels": a2c.PRESETS["dmcontrol/*-pixels"] | {"learning_rate": 3e-4},
        # workers, steps and step size of PFRL
        "atari": a2c.PRESETS["atari"] | {"value_coefficient": 0.5},
    },
)
