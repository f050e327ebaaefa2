"""DQN: Q-learning with a deep network, a replay memory and a target network.

Mnih et al. 2015, "Human-level control through deep reinforcement learning",
https://doi.org/10.1038/nature14236.

Differences from the paper: Adam instead of RMSprop; several lanes step together, and
``update_period`` counts steps of all of them; the target follows the online network a little at
every update (Lillicrap et al. 2016) unless ``target_rate`` is 1, because on small networks whole
copies made values overshoot and returns collapse; evaluation is greedy, except in games (Atari,
Procgen, NetHack), where it takes the paper's 5 % of random actions (a greedy policy may stand still
until the time is up).

Actions: native on Discrete. On MultiDiscrete and Box (cut into bins) the value of a joint action is
the mean over dimensions of one value per dimension and bin, so that the greedy action is found
dimension by dimension (DecQN: Seyde et al. 2022, https://arxiv.org/abs/2210.12566). With one
dimension this is plain DQN; there is no branch. What is lost on a Box: actions between the bins.
Cost: one pass per step to act; per update two passes forward and one backward.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from baselines.agent import Algorithm, Metrics, Setting
from baselines.parts.actions import Factored
from baselines.parts.exploration import epsilon_greedy
from baselines.parts.layers import MLP, Activation
from baselines.parts.networks import Encoder, EncoderOptions, ImageNetwork
from baselines.parts.optim import Adam, ParameterMatrix, linear_decay, per_seed_mean
from baselines.parts.replay import Replay
from baselines.parts.state import Parts
from suite.steps import Carry, Observation, Transition


@dataclass(frozen=True)
class Config:
    """Defaults suit low-dimensional observations."""

    lanes: int = 4
    """E, environments per seed."""
    replay_capacity: int = 100_000
    """Transitions kept per seed."""
    batch_size: int = 128
    """B, transitions per update."""
    learning_starts: int = 1_000
    """Steps per seed before the first update."""
    update_period: int = 2
    """Environment steps per update."""
    target_period: int = 1
    """Updates between moves of the target network."""
    target_rate: float = 0.005
    """Share of the online network that the target takes over then; 1 is the paper's copy."""
    learning_rate: float = 3e-4
    """Adam's step size."""
    discount: float = 0.99
    """gamma."""
    epsilon_initial: float = 1.0
    """Probability of a random choice at the start."""
    epsilon_final: float = 0.05
    """epsilon at the end of the decay."""
    epsilon_fraction: float = 0.1
    """Share of the budget over which epsilon falls linearly."""
    epsilon_factor: float | None = None
    """If given, epsilon is multiplied by this per update instead of falling linearly."""
    evaluation: Literal["greedy", "sampled"] = "greedy"
    """What acts in evaluation; sampled means epsilon-greedy, as in the paper."""
    evaluation_epsilon: float = 0.05
    """Probability of a random choice there, if sampled."""
    loss: Literal["huber", "squared"] = "huber"
    """Huber's loss is the paper's clipped error."""
    double: bool = False
    """Choose the bootstrap action with the online network (van Hasselt et al. 2016)."""
    max_gradient_norm: float = 10.0
    """Per seed."""
    hidden: tuple[int, ...] = (128, 128)
    """Hidden layers."""
    activation: Activation = "relu"
    """Nonlinearity of the hidden layers."""
    vectors: Literal["none", "symlog"] = "none"
    """Whether vector observations are squashed."""
    image_network: ImageNetwork = "nature"
    """Convolutions for images."""
    features: int = 512
    """Outputs of the dense layer after an image or a grid of symbols."""
    bins: int = 3
    """K, values per dimension of a Box; 2 would be bang-bang control."""


class QNetwork(nn.Module):
    """Observations to one value per dimension and bin, ``[S, B, D, K]``."""

    def __init__(self, setting: Setting, config: Config, actions: Factored) -> None:
        super().__init__()
        self.shape = (actions.dims, actions.bins)
        options = EncoderOptions(config.image_network, config.features, config.vectors)
        self.encoder = Encoder(setting.streams, setting.spaces.observation, options)
        outputs = actions.dims * actions.bins
        self.mlp = MLP(
            setting.streams, self.encoder.outputs, config.hidden, outputs, config.activation
        )

    def forward(self, obs: Observation) -> Tensor:
        return self.mlp(self.encoder(obs)).unflatten(-1, self.shape)


class DQN:
    """Acts epsilon-greedily and learns from replayed transitions."""

    network = QNetwork

    def __init__(self, setting: Setting, config: Config) -> None:
        self.config = config
        self.streams = setting.streams
        self.total_steps = setting.total_steps
        self.actions = Factored(setting.spaces.action, config.bins, setting.device)
        self.online = self.network(setting, config, self.actions)
        self.target = copy.deepcopy(self.online)
        self.online_parameters = ParameterMatrix(self.online)
        self.target_parameters = ParameterMatrix(self.target)
        self.optimiser = Adam(
            self.online_parameters, config.learning_rate, config.max_gradient_norm
        )
        capacity = min(config.replay_capacity, setting.total_steps)
        self.replay = Replay(capacity, setting.spaces.observation, self.streams)
        self.parts = Parts(
            online=self.online_parameters,
            target=self.target_parameters,
            optimiser=self.optimiser,
            replay=self.replay,
            streams=self.streams,
        )

    def initial(self, lanes: int) -> Carry:
        return None

    def epsilon(self) -> float:
        """Present probability of a random choice."""
        config = self.config
        if config.epsilon_factor is not None:
            decayed = config.epsilon_initial * config.epsilon_factor**self.updates
            return max(config.epsilon_final, decayed)
        progress = self.replay.added / max(1.0, config.epsilon_fraction * self.total_steps)
        return linear_decay(config.epsilon_initial, config.epsilon_final, progress)

    @torch.no_grad()
    def act(
        self, carry: Carry, obs: Observation, first: Tensor, explore: bool
    ) -> tuple[Carry, Tensor, dict[str, Tensor]]:
        choice = self.actions.best(self.online(obs))  # [S, E, D]
        if explore:
            choice = epsilon_greedy(self.actions, choice, self.epsilon(), self.streams)
        elif self.config.evaluation == "sampled":
            epsilon = self.config.evaluation_epsilon
            choice = epsilon_greedy(self.actions, choice, epsilon, self.streams, "evaluation")
        return carry, self.actions.to_environment(choice), {"choice": choice}

    def observe(self, transition: Transition) -> Metrics | None:
        self.replay.observe(transition, choice=transition.extras["choice"])
        metrics = None
        config = self.config
        for _ in range(self.replay.updates_due(config.learning_starts, config.update_period)):
            metrics = self._update(*self.replay.sample(config.batch_size))
            if self.updates % config.target_period == 0:
                self.target_parameters.copy_from(self.online_parameters, config.target_rate)
        return metrics

    def _update(self, batch: dict[str, Tensor], obs: Observation, next_obs: Observation) -> Metrics:
        discount = self.config.discount * (~batch["terminated"])  # [S, B]
        target = batch["reward"] + discount * self._bootstrap(next_obs)
        value = self.actions.pick(self.online(obs), batch["choice"])
        error = F.huber_loss if self.config.loss == "huber" else F.mse_loss
        loss = per_seed_mean(error(value, target.to(value.dtype), reduction="none"))
        self.optimiser.step(loss)
        return {"loss": loss.detach(), "value": per_seed_mean(value.detach())}

    def _bootstrap(self, next_obs: Observation) -> Tensor:
        """Value ``[S, B]`` of the greedy action in the next state."""
        return self._worth(next_obs, self.online if self.config.double else self.target)

    @torch.no_grad()
    def _worth(self, obs: Observation, chooser: nn.Module) -> Tensor:
        """The target network's value ``[S, B]`` of the action that is best by ``chooser``."""
        values = self.target(obs)
        choice = self.actions.best(values if chooser is self.target else chooser(obs))
        return self.actions.pick(values, choice)

    @property
    def updates(self) -> int:
        return self.optimiser.updates

    def state_dict(self) -> dict[str, Any]:
        return self.parts.state_dict()

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.parts.load_state_dict(state)

    def parameters(self) -> dict[str, Tensor]:
        return {"online": self.online_parameters.rows()}


ALGORITHM = Algorithm(
    title="DQN",
    category="value-based",
    key_idea="Q-learning with a deep network, replayed transitions and a slow target network",
    policy="off",
    paper="Mnih et al. 2015, https://doi.org/10.1038/nature14236",
    config=Config,
    make=DQN,
    native_actions=frozenset({"discrete"}),
    adapter="DecQN (Seyde et al. 2022)",
    presets={
        # batch and exploration of DecQN, on the network of RL Baselines3 Zoo
        "mujoco": {"hidden": (256, 256), "batch_size": 256, "epsilon_final": 0.1},
        "dmcontrol": {"hidden": (256, 256), "batch_size": 256, "epsilon_final": 0.1},
        "dmcontrol/*-pixels": {
            "batch_size": 64,
            "update_period": 4,
            "features": 128,
            "hidden": (128,),
        },
        # many short steps: fewer updates for each
        "isaacgym": {
            "lanes": 16,
            "hidden": (256, 256),
            "batch_size": 256,
            "update_period": 8,
            "epsilon_final": 0.1,
        },
        # batch, period and learning rate of RL Baselines3 Zoo
        "atari": {
            "lanes": 8,
            "batch_size": 32,
            "update_period": 4,
            "learning_rate": 1e-4,
            "evaluation": "sampled",
            "hidden": (),
        },
        "procgen": {
            "lanes": 8,
            "batch_size": 32,
            "update_period": 4,
            "learning_rate": 1e-4,
            "evaluation": "sampled",
            "features": 256,
            "hidden": (),
        },
        # At a larger discount an action that does nothing is worth nearly as much as the best one,
        # and the greedy policy stops at the first error of a value.
        "minigrid": {
            "lanes": 8,
            "discount": 0.9,
            "batch_size": 64,
            "update_period": 4,
            "epsilon_fraction": 0.5,
            "features": 128,
            "hidden": (64,),
        },
        "nethack": {
            "lanes": 8,
            "batch_size": 32,
            "update_period": 4,
            "learning_rate": 1e-4,
            "evaluation": "sampled",
            "replay_capacity": 50_000,
            "vectors": "symlog",
            "features": 256,
            "hidden": (),
        },
        "smoke": {
            "lanes": 2,
            "learning_starts": 32,
            "batch_size": 16,
            "hidden": (16,),
            "features": 16,
        },
        "guide": {
            "hidden": (128, 128),
            "learning_rate": 1e-3,
            "epsilon_final": 0.01,
            "epsilon_factor": 0.995,
            "replay_capacity": 10_000,
            "batch_size": 64,
            "double": True,
            "loss": "squared",
            "target_period": 250,
            "target_rate": 1.0,
        },
    },
)
