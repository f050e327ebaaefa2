"""MBPO: SAC that learns from short rollouts of a learned model.

Janner, Fu, Zhang, Levine 2019, "When to Trust Your Model: Model-Based Policy Optimization",
https://arxiv.org/abs/1906.08253. An ensemble learns what follows a state and an
action; every ``model_period`` steps it is trained, and rollouts of a few steps branch off from
states of the replay; SAC
(``sac.py``, which this file reads as a diff of) makes several updates per environment step, on
batches of mostly imagined transitions.

Actions: native on a Box. On Discrete and MultiDiscrete the model reads one-hot choices and SAC is
the categorical one. What is no vector (images, grids, texts) is imagined in the features of the
critic's encoder, which real transitions alone train (Rafailov et al. 2020, LOMPO, do so with a
latent model).

Differences from the paper: episodes end where a learned head says so, not where a rule written for
the task does; the model takes a fixed number of steps each time instead of training until a held
out set stops improving, and its elites are those members to whom the newest transitions, which none
has trained on, are the least surprising; an imagined episode that ends begins anew at another state
of the replay; log deviations are bounded by a tanh; next states are encoded by the critic's own
encoder, not by its target. Cost: ``updates_per_step`` times SAC's, and the model's.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import cast

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from baselines import sac
from baselines.agent import Metrics, Setting
from baselines.parts.actions import Continuous
from baselines.parts.critics import action_noise
from baselines.parts.dynamics import Dynamics
from baselines.parts.networks import Encoder
from baselines.parts.replay import Replay
from baselines.parts.rollout import Rollout
from suite.spaces import Box
from suite.steps import Observation, Transition

LATENT = "features, not an observation"
"""Name of a leaf that passes an encoder as it is."""


@dataclass(frozen=True)
class Config(sac.Config):
    """Defaults are SAC's and the paper's, but with fewer updates, rollouts and model steps."""

    updates_per_step: int = 10
    """SAC's updates each time one is due (``update_period``)."""
    real_share: float = 0.05
    """Share of a batch that is taken from real transitions."""
    model_period: int = 250
    """Environment steps between two times that the model is trained and rollouts are made."""
    model_updates: int = 100
    """Steps of the model's optimiser each time."""
    model_batch_size: int = 128
    """Transitions per step and member."""
    model_learning_rate: float = 1e-3
    """Adam's step size for the model."""
    model_hidden: tuple[int, ...] = (200, 200, 200)
    """Hidden layers of each member."""
    members: int = 7
    """K, networks of the ensemble."""
    elites: int = 5
    """Of which the best so many predict."""
    rollouts: int = 5_000
    """Imagined rollouts each time."""
    horizon: int = 1
    """Steps of an imagined rollout at the start."""
    horizon_final: int = 1
    """At the end of the budget; it grows linearly."""
    retained_periods: int = 4
    """Imagined transitions are kept for so many model periods."""


class Passing(nn.Module):
    """An encoder that lets through what is features already."""

    def __init__(self, encoder: Encoder) -> None:
        super().__init__()
        self.encoder = encoder
        self.outputs = encoder.outputs

    def forward(self, obs: Observation) -> Tensor:
        if LATENT in obs:
            return obs[LATENT]
        features: Tensor = self.encoder(obs)
        return features


class MBPO(sac.SAC):
    """SAC with a second, imagined memory."""

    config: Config

    def __init__(self, setting: Setting, config: Config) -> None:
        super().__init__(setting, config)
        if config.elites > config.members:
            raise ValueError(f"elites={config.elites} is above members={config.members}")
        self.total_steps = setting.total_steps
        for critic in (self.critic, self.target):
            critic.encoder = cast(Encoder, Passing(critic.encoder))
        size = self.critic.encoder.outputs
        self.dynamics = Dynamics(
            self.streams,
            size,
            self.actions.dims * getattr(self.actions, "bins", 1),
            config.model_hidden,
            config.members,
            config.elites,
            config.model_learning_rate,
        )
        rows = config.retained_periods * max(config.horizon, config.horizon_final)
        low, high = (np.full(size, end, dtype=np.float32) for end in (-np.inf, np.inf))
        space = {LATENT: Box(low, high, low.dtype)}
        self.imagined = Replay(rows * config.rollouts, space, self.streams)
        self.recent = Rollout(max(1, config.model_period // setting.lanes))
        self.parts |= {
            "dynamics": self.dynamics,
            "imagined": self.imagined,
            "recent": self.recent,
        }

    def observe(self, transition: Transition) -> Metrics | None:
        config = self.config
        self.replay.observe(transition, action=transition.extras["action"])
        metrics: Metrics = {}
        recent = self.recent.add(transition)
        if recent is not None:
            metrics["model_loss"] = self._meet(recent)
            if self.replay.added >= config.learning_starts:
                self._train_model()
                self._imagine()
        if self.imagined.added:
            due = self.replay.updates_due(config.learning_starts, config.update_period)
            for _ in range(due * config.updates_per_step):
                metrics |= self._learn()
        return metrics or None

    def _meet(self, recent: Transition) -> Tensor:
        """Show the model the newest transitions, leaves ``[S, T, E, ...]``."""
        obs, next_obs = (
            {name: leaf.flatten(1, 2) for name, leaf in leaves.items()}
            for leaves in (recent.obs, recent.next_obs)
        )
        batch = {
            "action": recent.extras["action"].flatten(1, 2),
            "reward": recent.reward.flatten(1),
            "terminated": recent.terminated.flatten(1),
        }
        return self.dynamics.take_in(*self._facts(batch, obs, next_obs))

    def _train_model(self) -> None:
        size = self.config.members * self.config.model_batch_size
        for _ in range(self.config.model_updates):
            self.dynamics.update(*self._facts(*self.replay.sample(size)))

    @torch.no_grad()
    def _facts(
        self, batch: dict[str, Tensor], obs: Observation, next_obs: Observation
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """What the model learns from: state, action, target and end."""
        state = self.critic.encoder(obs)
        change = self.critic.encoder(next_obs) - state
        target = torch.cat([change, batch["reward"].unsqueeze(-1).to(change.dtype)], dim=-1)
        return state, self._as_input(batch["action"]), target, batch["terminated"]

    def _as_input(self, action: Tensor) -> Tensor:
        """Actions ``[S, N, D]`` as numbers for the model."""
        if isinstance(self.actions, Continuous):
            return action
        hot = F.one_hot(action, self.actions.bins).flatten(2)
        return hot.to(torch.get_default_dtype())

    @torch.no_grad()
    def _imagine(self) -> None:
        """Branch rollouts off from states of the replay, by the policy of now."""
        config, size = self.config, self.config.rollouts
        progress = min(1.0, self.replay.added / self.total_steps)
        horizon = round(config.horizon + progress * (config.horizon_final - config.horizon))
        state = self._starts(size)
        for step in range(horizon):
            noise = action_noise(self.actions, self.streams, "imagination", size)
            action = self._policy(state).sample(noise)
            found = self.dynamics.predict(state, self._as_input(action))
            items = {"action": action, "reward": found.reward, "terminated": found.terminated}
            # a replay takes what follows for the next observation unless an episode has ended
            apart = torch.ones_like(found.terminated)
            self.imagined.add(items, {LATENT: state}, {LATENT: found.state}, apart)
            if step + 1 < horizon:
                fresh = self._starts(size)
                state = torch.where(found.terminated.unsqueeze(-1), fresh, found.state)

    def _starts(self, size: int) -> Tensor:
        _, obs, _ = self.replay.sample(size)
        features: Tensor = self.critic.encoder(obs)
        return features

    def _learn(self) -> Metrics:
        """One update of SAC, on real and imagined transitions."""
        size = self.config.batch_size
        real = max(1, round(self.config.real_share * size))
        noise = action_noise(self.actions, self.streams, "update", 2 * size)
        batch, obs, next_obs = self.replay.sample(real)
        obs, next_obs = self.shift(obs), self.shift(next_obs)
        dream, dream_obs, dream_next_obs = self.imagined.sample(size - real)
        with torch.no_grad():
            next_state = torch.cat([self.critic.encoder(next_obs), dream_next_obs[LATENT]], dim=1)
        state = torch.cat([self.critic.encoder(obs), dream_obs[LATENT]], dim=1)
        mixed = {
            name: torch.cat([batch[name].to(leaf.dtype), leaf], dim=1)
            for name, leaf in dream.items()
        }
        halves = noise[:, :size], noise[:, size:]
        return self._update(mixed, {LATENT: state}, {LATENT: next_state}, *halves)

    def parameters(self) -> dict[str, Tensor]:
        return super().parameters() | {"model": self.dynamics.rows()}


_SAC = sac.ALGORITHM.presets
_ENCODED = {"updates_per_step": 2, "real_share": 0.5, "model_updates": 50, "rollouts": 1_000}
"""Where the encoder must learn, which it does from real transitions alone."""

ALGORITHM = replace(
    sac.ALGORITHM,
    title="MBPO",
    category="model-based",
    key_idea="SAC on short rollouts that a learned ensemble imagines from real states",
    paper="Janner et al. 2019, https://arxiv.org/abs/1906.08253",
    config=Config,
    make=MBPO,
    presets={
        **_SAC,
        # a fifth to a tenth of the paper's updates, for the time that they take
        "gymnasium": {**_SAC["gymnasium"], "updates_per_step": 4},
        "mujoco": {"updates_per_step": 4},
        "dmcontrol": {"updates_per_step": 4},
        "isaacgym": {**_SAC["isaacgym"], "updates_per_step": 1},
        "dmcontrol/*-pixels": {**_SAC["dmcontrol/*-pixels"], **_ENCODED},
        "atari": {**_SAC["atari"], **_ENCODED},
        "procgen": {**_SAC["procgen"], **_ENCODED},
        "minigrid": {**_SAC["minigrid"], **_ENCODED},
        "nethack": {**_SAC["nethack"], **_ENCODED},
        "smoke": {
            **_SAC["smoke"],
            "updates_per_step": 1,
            "model_period": 32,
            "model_updates": 2,
            "model_batch_size": 8,
            "model_hidden": (16,),
            "members": 3,
            "elites": 2,
            "rollouts": 16,
        },
    },
)
