"""MuZero: planning by tree search in a model that is learned for nothing else.

Schrittwieser et al. 2020, "Mastering Atari, Go, Chess and Shogi by Planning with a Learned Model",
https://arxiv.org/abs/1911.08265. A representation turns an observation into a latent state, a
dynamics network turns latent state and action into the next one and a reward, a prediction network
reads policy and value from it. Actions are found by a tree search among these
(``baselines.parts.search``); the networks are unrolled along sequences of the replay and learn what
the search preferred, which rewards came and what the states were worth.

Actions: native on Discrete, where a node's candidates are all actions. On Box and MultiDiscrete
they are samples of the policy, which learns to give them the densities of their visits (Sampled
MuZero: Hubert et al. 2021, https://arxiv.org/abs/2104.06303); on a Box the policy is a normal.

Differences from the paper: networks are small and dense behind the suite's encoder, and the
dynamics network predicts a change of the latent state; values bootstrap from a slowly following
target network at the true next observation instead of from the stored search; sequences are drawn
uniformly, and Adam takes the steps; an untried candidate counts as much as its node; actions are
random until learning starts; the temperature of visits falls linearly. Cost: ``simulations`` passes
through the dynamics and prediction networks per step to act; per update, K + 2 passes forward and
backward and the target network's on K + 1 observations per sequence.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn

from baselines.agent import Algorithm, Metrics, Setting
from baselines.parts.layers import MLP
from baselines.parts.n_step import bootstrap_steps, n_step_targets
from baselines.parts.networks import Encoder, EncoderOptions, ImageNetwork
from baselines.parts.optim import Adam, ParameterMatrix, linear_decay, per_seed_mean
from baselines.parts.search import (
    Candidates,
    Choices,
    Found,
    Node,
    Rule,
    dirichlet,
    make_candidates,
    search,
)
from baselines.parts.sequences import SequenceReplay
from baselines.parts.state import Parts
from baselines.parts.support import Support
from suite.steps import Carry, Observation, Transition


@dataclass(frozen=True)
class Config:
    """Defaults suit low-dimensional observations and budgets of some ten thousand steps."""

    lanes: int = 8
    """E, environments per seed; searching in all of them at once costs little more than in one."""
    replay_capacity: int = 50_000
    """Transitions kept per seed."""
    batch_size: int = 128
    """B, sequences per update."""
    learning_starts: int = 1_000
    """Steps per seed with random candidates before the first update."""
    update_period: int = 4
    """Environment steps per update."""
    simulations: int = 16
    """Of a search; the paper's 50 on Atari are too dear for a CPU."""
    samples: int = 8
    """A, candidates of a node where actions are sampled."""
    unroll_steps: int = 5
    """K, steps that the dynamics network is unrolled; the paper's."""
    return_steps: int = 5
    """n, rewards before a value target bootstraps; 5 in EfficientZero (Ye et al. 2021)."""
    discount: float = 0.99
    """gamma."""
    learning_rate: float = 1e-3
    """Adam's step size."""
    target_rate: float = 0.02
    """Share of the networks that the target network takes over per update."""
    value_coefficient: float = 0.25
    """Weight of the value's loss, that of the paper's variant Reanalyze."""
    entropy_coefficient: float = 0.005
    """Weight of the policy's entropy where actions are sampled; LightZero's."""
    noise_share: float = 0.25
    """Of the root's prior, in training; the paper's."""
    noise_concentration: float = 0.3
    """alpha of the Dirichlet noise; below 1, the noise falls on few candidates."""
    temperature_initial: float = 1.0
    """In training a candidate is taken in proportion to its visits to the power 1 / temperature."""
    temperature_final: float = 0.25
    """At the end of the budget, that of the paper on Atari."""
    max_gradient_norm: float = 10.0
    """Per seed."""
    latent: int = 64
    """F, size of a latent state."""
    hidden: tuple[int, ...] = (128,)
    """Hidden layers of the representation, the dynamics and the prediction network each."""
    support: int = 50
    """Values and rewards between those that the squashed scale shows as minus and plus this much
    can be told apart; 50 is about 2,400."""
    vectors: Literal["none", "symlog"] = "none"
    """Whether vector observations are squashed."""
    image_network: ImageNetwork = "nature"
    """Convolutions for images."""
    features: int = 512
    """Outputs of the dense layer after an image or a grid of symbols."""


DYNAMICS_GRADIENT = 0.5
"""Gradients into each step of the dynamics are scaled by this (the paper's appendix G)."""


class Networks(nn.Module):
    """Representation, dynamics and prediction; ``[S, N, ...]`` in and out.

    Last layers are zero at first: all actions are alike, all rewards and values 0, and a latent
    state stays what it is.
    """

    def __init__(self, setting: Setting, config: Config, candidates: Candidates, bins: int) -> None:
        super().__init__()
        streams, hidden, size = setting.streams, config.hidden, config.latent
        options = EncoderOptions(config.image_network, config.features, config.vectors)
        self.encoder = Encoder(streams, setting.spaces.observation, options)
        self.representation = MLP(streams, self.encoder.outputs, hidden, size, init="orthogonal")
        self.dynamics_sizes = [size, bins]
        self.dynamics = MLP(
            streams,
            size + candidates.inputs,
            hidden,
            size + bins,
            init="orthogonal",
            output_gain=0.0,
        )
        self.prediction_sizes = [candidates.outputs, bins]
        self.prediction = MLP(
            streams, size, hidden, candidates.outputs + bins, init="orthogonal", output_gain=0.0
        )

    def represent(self, obs: Observation) -> Tensor:
        """Observations to latent states ``[S, N, F]``."""
        return _scaled(self.representation(self.encoder(obs)))

    def imagine(self, latent: Tensor, action: Tensor) -> tuple[Tensor, Tensor]:
        """The next latent states, and the rewards' logits ``[S, N, bins]``."""
        outputs = self.dynamics(torch.cat([latent, action], dim=-1))
        change, reward = outputs.split(self.dynamics_sizes, dim=-1)
        return _scaled(latent + change), reward

    def predict(self, latent: Tensor) -> tuple[Tensor, Tensor]:
        """What the policy needs, and the values' logits ``[S, N, bins]``."""
        policy, value = self.prediction(latent).split(self.prediction_sizes, dim=-1)
        return policy, value


def _scaled(latent: Tensor) -> Tensor:
    """Latent states stretched to [0, 1] each, the range of one-hot actions beside them."""
    low, high = latent.aminmax(dim=-1, keepdim=True)
    return (latent - low) / (high - low + 1e-5)


class MuZero:
    """Acts by a search in its model and learns from replayed sequences."""

    def __init__(self, setting: Setting, config: Config) -> None:
        self.config = config
        self.streams = setting.streams
        self.total_steps = setting.total_steps
        self.rule = Rule(config.discount)
        self.candidates = make_candidates(setting.spaces.action, config.samples, setting.device)
        self.support = Support(config.support, setting.device)
        self.networks = Networks(setting, config, self.candidates, self.support.bins)
        self.target = copy.deepcopy(self.networks)
        self.networks_parameters = ParameterMatrix(self.networks)
        self.target_parameters = ParameterMatrix(self.target)
        self.optimiser = Adam(
            self.networks_parameters, config.learning_rate, config.max_gradient_norm
        )
        capacity = min(config.replay_capacity, setting.total_steps)
        self.replay = SequenceReplay(capacity, setting.spaces.observation, self.streams)
        self.parts = Parts(
            networks=self.networks_parameters,
            target=self.target_parameters,
            optimiser=self.optimiser,
            replay=self.replay,
            streams=self.streams,
        )

    def initial(self, lanes: int) -> Carry:
        return None

    def temperature(self) -> float:
        """Present temperature of the visits."""
        config = self.config
        progress = self.replay.added / self.total_steps
        return linear_decay(config.temperature_initial, config.temperature_final, progress)

    @torch.no_grad()
    def act(
        self, carry: Carry, obs: Observation, first: Tensor, explore: bool
    ) -> tuple[Carry, Tensor, dict[str, Tensor]]:
        config, lanes, count = self.config, first.shape[1], self.candidates.count
        latent = self.networks.represent(obs)
        if explore and self.replay.added < config.learning_starts:
            root = self._root(latent, self._noise("search", 1, lanes))
            visits = torch.ones_like(root.prior)
        else:
            root, found = self._search(latent, "search" if explore else "evaluation", explore)
            visits, choice = found.visits, found.best
        if explore:
            gumbel = self.streams.gumbel("exploration", lanes, count)
            choice = (visits.log() / self.temperature() + gumbel).argmax(dim=-1)
        place = choice[..., None, None].expand(-1, -1, 1, self.candidates.dims)
        action = root.action.gather(2, place).squeeze(2)  # [S, E, D]
        extras = {"action": action, "share": _shares(visits)}
        if not self.candidates.listed:
            extras["candidates"] = root.action
        return carry, self.candidates.to_environment(action), extras

    def _search(self, latent: Tensor, role: str, explore: bool) -> tuple[Node, Found]:
        """Roots at latent states ``[S, E, F]``, and what the search says of them."""
        config, lanes = self.config, latent.shape[1]
        noise = self._noise(role, config.simulations + 1, lanes)
        root = self._root(latent, noise)
        if explore:
            alpha = config.noise_concentration
            spread = dirichlet(self.streams, "exploration", lanes, self.candidates.count, alpha)
            root = root._replace(prior=root.prior.lerp(spread, config.noise_share))

        def step(latent: Tensor, action: Tensor, number: int) -> tuple[Node, Tensor]:
            latent, reward = self.networks.imagine(latent, self.candidates.embed(action))
            policy, value = self.networks.predict(latent)
            reward, value = self.support.decode(torch.stack([reward, value])).unbind()
            proposal = self.candidates.propose(policy, noise[:, number])
            return Node(latent, value, *proposal), reward

        return root, search(root, step, config.simulations, self.rule)

    def _noise(self, role: str, nodes: int, lanes: int) -> Tensor:
        return self.candidates.noise(self.streams, role, nodes, lanes)

    def _root(self, latent: Tensor, noise: Tensor) -> Node:
        policy, value = self.networks.predict(latent)
        proposal = self.candidates.propose(policy, noise[:, 0])
        return Node(latent, self.support.decode(value), *proposal)

    def observe(self, transition: Transition) -> Metrics | None:
        self.replay.observe(transition, ended=transition.ended, **transition.extras)
        metrics = None
        config = self.config
        for _ in range(self.replay.updates_due(config.learning_starts, config.update_period)):
            metrics = self._update()
            self.target_parameters.copy_from(self.networks_parameters, config.target_rate)
        return metrics

    def _update(self) -> Metrics:
        config, unroll = self.config, self.config.unroll_steps
        slots, items, last = self.replay.sample_within(
            config.batch_size, unroll + config.return_steps
        )
        obs, _ = self.replay.observations(slots[:, :, 0])
        value = self._value_target(slots, items, last)  # [S, B, K + 1]

        latent = self.networks.represent(obs)
        action = self.candidates.embed(items["action"][:, :, :unroll])
        latents, rewards = [latent], []
        for step in range(unroll):
            scaled = latent.detach().lerp(latent, DYNAMICS_GRADIENT)
            latent, logits = self.networks.imagine(scaled, action[:, :, step])
            latents.append(latent)
            rewards.append(logits)
        policy, values = self.networks.predict(torch.cat(latents, dim=1))

        position = torch.arange(unroll + 1, device=last.device)
        inside = position <= last.unsqueeze(-1)  # [S, B, K + 1], where the policy is known
        # past a terminal state come no rewards and no value; past a cut nothing is known
        known = inside | items["terminated"].gather(-1, last.unsqueeze(-1))
        reward = items["reward"][..., :unroll].masked_fill(~inside[..., :-1], 0.0)
        policy_loss = self._by_position(self._policy_loss(policy, items), inside)
        value_loss = self._by_position(self.support.cross_entropy(values, _flat(value.mT)), known)
        reward_loss = self._by_position(
            self.support.cross_entropy(torch.cat(rewards, dim=1), _flat(reward.mT)),
            known[..., :-1],
        )
        loss = policy_loss + config.value_coefficient * value_loss + reward_loss
        self.optimiser.step(loss)
        return {
            "policy_loss": policy_loss.detach(),
            "value_loss": value_loss.detach(),
            "reward_loss": reward_loss.detach(),
            "value": per_seed_mean(value[..., 0]),
        }

    @torch.no_grad()
    def _value_target(self, slots: Tensor, items: dict[str, Tensor], last: Tensor) -> Tensor:
        """What the states along sequences were worth, ``[S, B, K + 1]``."""
        config, positions = self.config, self.config.unroll_steps + 1
        final = bootstrap_steps(last, positions, config.return_steps)
        _, following = self.replay.observations(slots.gather(-1, final).flatten(1))
        _, logits = self.target.predict(self.target.represent(following))
        value = self.support.decode(logits).unflatten(1, (-1, positions))
        reward, terminated = items["reward"].to(value.dtype), items["terminated"]
        return n_step_targets(reward, terminated, last, value, config.return_steps, config.discount)

    def _policy_loss(self, policy: Tensor, items: dict[str, Tensor]) -> Tensor:
        """Cross entropy of visits, ``[S, (K + 1) * B]``, one position after the other."""
        positions = self.config.unroll_steps + 1
        share = _flat(items["share"][:, :, :positions].transpose(1, 2))
        if isinstance(self.candidates, Choices) and self.candidates.listed:
            action = self.candidates.all.expand(*policy.shape[:2], -1, -1)
            return -(share * self.candidates.log_prob(policy, action)).sum(dim=-1)
        action = _flat(items["candidates"][:, :, :positions].transpose(1, 2))
        entropy = self.candidates.policy(policy).entropy()
        likelihood = (share * self.candidates.log_prob(policy, action)).sum(dim=-1)
        return -likelihood - self.config.entropy_coefficient * entropy

    def _by_position(self, losses: Tensor, counts: Tensor) -> Tensor:
        """Weighted means ``[S]`` of losses ``[S, P * B]`` where ``counts [S, B, P]``."""
        sums = losses.view_as(counts.mT).masked_fill(~counts.mT, 0.0).mean(dim=2)  # [S, P]
        unroll = self.config.unroll_steps
        # the root's own and the mean of the unrolled ones weigh the same
        weight = torch.full_like(sums[0], 1 / unroll)
        if sums.shape[1] > unroll:
            weight[0] = 1.0
        return (sums * weight).sum(dim=1)

    @property
    def updates(self) -> int:
        return self.optimiser.updates

    def state_dict(self) -> dict[str, Any]:
        return self.parts.state_dict()

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.parts.load_state_dict(state)

    def parameters(self) -> dict[str, Tensor]:
        return {"networks": self.networks_parameters.rows()}


def _shares(visits: Tensor) -> Tensor:
    return visits / visits.sum(dim=-1, keepdim=True)


def _flat(leaf: Tensor) -> Tensor:
    """Items ``[S, P, B, ...]`` one position after the other, ``[S, P * B, ...]``."""
    return leaf.flatten(1, 2)


_PIXELS = {
    "replay_capacity": 50_000,
    "batch_size": 32,
    "update_period": 8,
    "features": 256,
}

ALGORITHM = Algorithm(
    title="MuZero",
    category="model-based",
    key_idea="tree search in a learned model of rewards, values and policies",
    policy="off",
    paper="Schrittwieser et al. 2020, https://arxiv.org/abs/1911.08265",
    config=Config,
    make=MuZero,
    native_actions=frozenset({"discrete"}),
    adapter="Sampled MuZero (Hubert et al. 2021)",
    presets={
        # LightZero's learning rate on classic control
        "gymnasium": {"learning_rate": 3e-3},
        "mujoco": {"hidden": (256,), "latent": 128},
        "dmcontrol": {"hidden": (256,), "latent": 128},
        "isaacgym": {"lanes": 16, "hidden": (256,), "latent": 128, "update_period": 16},
        "dmcontrol/*-pixels": _PIXELS,
        "atari": _PIXELS,
        "procgen": _PIXELS,
        "minigrid": {"discount": 0.95, "features": 128, "update_period": 8, "batch_size": 64},
        "nethack": {**_PIXELS, "vectors": "symlog"},
        "smoke": {
            "lanes": 2,
            "learning_starts": 32,
            "batch_size": 8,
            "update_period": 8,
            "simulations": 2,
            "samples": 3,
            "unroll_steps": 2,
            "return_steps": 3,
            "latent": 8,
            "hidden": (16,),
            "features": 16,
        },
    },
)
