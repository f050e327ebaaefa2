"""Tasks and families: what a benchmark is about, apart from how it is stepped."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import numpy as np

from suite.envs.lanes import Lanes
from suite.names import family_of, name_in_family


@dataclass(frozen=True)
class Bounds:
    """The two ends of the normalised score: ``(score - floor) / (cap - floor)``."""

    floor: float
    floor_source: str
    cap: float
    cap_source: str


@dataclass(frozen=True)
class Task:
    """One task under one identity, whatever engine steps it."""

    id: str
    """``family/name``, upstream's own name."""
    actions: str
    """``discrete``, ``multidiscrete`` or ``continuous``."""
    horizon: int | None
    """Decisions after which an episode is truncated; None if it never is."""
    domain: str
    complexity: str
    paper: str
    """Key paper of the task or of its family."""
    bounds: Bounds | None = None
    """None: no reference is known, and the task has no normalised score."""
    frames_per_step: int = 1
    """Simulator frames per decision (frame skip or action repeat)."""
    wrappers: tuple[str, ...] = ()
    """What is done to observations, actions or rewards; part of the comparability key."""
    splits: tuple[str, ...] = ("eval",)
    """What every evaluation plays; the first one is the score. ``("test-levels",
    "train-levels")`` where a task tells levels that were trained on from unseen ones."""

    @property
    def family(self) -> str:
        return family_of(self.id)

    @property
    def name(self) -> str:
        return name_in_family(self.id)


@dataclass(frozen=True)
class Lack:
    """Something beside Python packages that a machine lacks, e.g. a graphics driver."""

    what: str
    install: str
    """The command that adds it."""


@dataclass(frozen=True)
class Engine:
    """One way to step a family's tasks."""

    name: str
    packages: tuple[str, ...]
    """Distributions whose versions matter; the first one is what ``install`` adds."""
    make: Callable[[Task, np.ndarray, str, int], Lanes]
    """``make(task, seeds [S, E], split, threads)``: new lanes. ``split`` is ``"train"``, or one of
    the task's ``splits`` in evaluation; no number may depend on ``threads``."""
    supports: Callable[[Task], bool] = lambda task: True
    """Some engines know only part of a family's tasks."""
    lacks: Callable[[Task], Lack | None] = lambda task: None
    """What keeps this machine from stepping a task, its packages being there."""
    device: str = "cpu"
    """``cuda``: steps on a GPU, and is the default for runs that train there if it is installed."""


@dataclass(frozen=True)
class Family:
    """A group of tasks that share engines, e.g. ``mujoco``. Engines: the default comes first."""

    name: str
    title: str
    tasks: Mapping[str, Task]
    """By name (without the family), in the order they are listed."""
    engines: tuple[Engine, ...]
    install: str
    """The command that adds what the family needs."""
    find: Callable[[str], Task | None] = lambda name: None
    """Looks up a task that is not listed (any registered Gymnasium id, say)."""
    sets: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """Named task sets, e.g. ``atari-5``: task names."""
