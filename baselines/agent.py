"""What an algorithm is: an Agent that trains all seeds at once, and its entry in the registry.

The one convention an author must know: **dimension 0 is the seed; reduce over everything else.**
A loss is ``[S]`` and the backward pass starts from its sum, so that every seed gets exactly the
gradient it would get alone. Clipping, normalising and early stopping act per seed. Random numbers
come from ``streams`` only. The order to read an algorithm in: ``__init__``, ``act``, ``observe``,
``_update``.

The discount: a target is ``reward + discount * value(next_obs)``, where the value counts as 0 if
the step *terminated*; if it was merely *truncated*, the value of the true next observation counts.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol

import torch
from torch import Tensor

from suite.spaces import Spaces
from suite.steps import Carry, Observation, Transition
from suite.streams import Streams

Metrics = dict[str, Tensor]
"""Named figures of an update, each ``[S]``. A non-finite one marks that seed as diverged."""


@dataclass(frozen=True)
class Setting:
    """Everything an agent is given beside its config."""

    spaces: Spaces
    lanes: int
    """E, training lanes per seed."""
    total_steps: int
    """The budget in agent steps per seed; schedules end here."""
    streams: Streams
    """Holds the S run seeds and the device."""

    @property
    def num_seeds(self) -> int:
        return len(self.streams.seeds)

    @property
    def device(self) -> torch.device:
        return self.streams.device


class Agent(Protocol):
    """One algorithm while it trains, for all seeds."""

    @property
    def updates(self) -> int:
        """Gradient updates so far, per seed."""

    def initial(self, lanes: int) -> Carry:
        """What acting must remember at the start, for ``lanes`` lanes per seed."""

    def act(
        self, carry: Carry, obs: Observation, first: Tensor, explore: bool
    ) -> tuple[Carry, Tensor, dict[str, Tensor]]:
        """Choose actions.

        Args:
            carry: what the previous call returned.
            obs: leaves ``[S, E, ...]``; E may differ from the training lanes in evaluation.
            first: ``[S, E]`` bool, True where an episode begins.
            explore: True in training; False in evaluation, where the algorithm follows its
                published habit and draws from the ``"evaluation"`` role alone.

        Returns:
            The new carry, actions ``[S, E, ...]`` in the environment's units, and extras to be
            stored with the transition.
        """

    def observe(self, transition: Transition) -> Metrics | None:
        """Take in one step of all lanes; learn when due. Metrics of an update, else None."""

    def state_dict(self) -> dict[str, Any]:
        """Everything a resumed run needs: parameters, optimiser, memory, streams, counters.

        Tensors, numbers, texts and containers of them: checkpoints are read without running code.
        """

    def load_state_dict(self, state: dict[str, Any]) -> None: ...

    def parameters(self) -> dict[str, Tensor]:
        """All learned tensors by name, each ``[S, ...]``: for digests and divergence checks."""


@dataclass(frozen=True)
class Algorithm:
    """An algorithm's entry in the registry; each file in ``baselines/`` exports ``ALGORITHM``."""

    title: str
    category: Literal["reference", "value-based", "policy gradient", "actor-critic", "model-based"]
    key_idea: str
    policy: Literal["on", "off", "none"]
    """On-policy, off-policy, or not learning at all."""
    paper: str
    config: type
    """A frozen dataclass with a default for every field. ``lanes`` it must have: environments per
    seed. If learning waits for rollouts, ``rollout_steps`` tells their length, so that a budget too
    small for one is refused at once."""
    make: Callable[[Setting, Any], Agent]
    native_actions: frozenset[str]
    """Kinds of actions the published method covers; on others the cell is marked adapted."""
    adapter: str = ""
    """The paper whose adapter makes the remaining kinds of actions possible."""
    evaluation: Literal["greedy", "sampled"] = "greedy"
    """The published habit in evaluation; a config's own field ``evaluation`` comes first."""
    presets: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    """Overrides of the config's defaults by family (``mujoco``), by a pattern of tasks
    (``dmcontrol/*-pixels``) or of a protocol's tasks (``standard:procgen/*``), by task
    (``gymnasium/Taxi-v3``), by protocol (``smoke``) or by a name a user may ask for (``guide``)."""

    def build(
        self, spaces: Spaces, lanes: int, total_steps: int, streams: Streams, config: Any
    ) -> Agent:
        """Make the agent; how the suite, which knows no algorithm's classes, starts one.

        Raises:
            ValueError: the config does not fit the spaces, the lanes or the budget.
        """
        return self.make(Setting(spaces, lanes, total_steps, streams), config)
