"""Probes: tiny worlds with known answers, to test algorithms and the runner.

They are reached by id (``probes/identity-discrete``) and never listed, ranked or reported. An
episode lasts 5 decisions (in ``credit`` 2). The random and the best return are the bounds of the
task; the two worlds in which there is nothing to learn have none.

- ``identity-*``: the observation names the right action of this step. A world each for Discrete,
  MultiDiscrete and Box actions, for images, and for an observation of two leaves, both of which
  matter. Any algorithm learns them without planning ahead.
- ``credit``: the first of two actions decides the reward that comes after the second.
- ``termination``, ``truncation``: reward 1 at every step, whatever is done. With discount g, the
  value at the start is ``(1 - g**5) / (1 - g)`` where the episode terminates, and ``1 / (1 - g)``
  where it is merely cut.
- ``crash``, ``poison``: identity worlds in which a lane of run seed 1 raises, or delivers NaN,
  in the third step of every segment of training.
"""

from __future__ import annotations

from abc import abstractmethod
from functools import cache
from typing import ClassVar

import numpy as np

from suite.envs.lanes import Lanes
from suite.spaces import ActionSpace, Box, Discrete, MultiDiscrete, Space, Spaces, box
from suite.steps import LaneStep
from suite.streams import lane_seeds
from suite.tasks import Bounds, Engine, Family, Task

LENGTH = 5
"""Decisions per episode."""

FAULTY_SEED = 1
"""The run seed that ``crash`` and ``poison`` hit, whichever seeds train beside it."""

FAULTY_STEP = 3
"""The step, counted from 1 in each segment, from which the fault shows."""


class Probe(Lanes):
    """S x E copies of a world; its steps are arithmetic on whole arrays.

    At every step each lane draws numbers in [0, 1) of which the world makes the next observation.
    They are a function of the lane's seed and the number of its draws, nothing else.
    """

    observation: ClassVar[dict[str, Space]]
    action: ClassVar[ActionSpace]
    length: ClassVar[int] = LENGTH
    truncates: ClassVar[bool] = False
    numbers: ClassVar[int] = 1
    """How many a lane draws per step."""

    def __init__(self, seeds: np.ndarray) -> None:
        super().__init__((seeds.shape[0], seeds.shape[1]))
        self.spaces = Spaces(self.observation, self.action)
        self._seeds = seeds.astype(np.uint64)
        self._indices = np.arange(self.numbers, dtype=np.uint64)
        self._draws: np.ndarray = np.zeros(self.shape, np.uint64)
        self.elapsed: np.ndarray = np.zeros(self.shape, np.int64)
        self.drawn: np.ndarray = np.zeros((*self.shape, self.numbers))

    @abstractmethod
    def show(self) -> dict[str, np.ndarray]:
        """The observation ``[S, E, ...]`` of the present step; always new arrays."""

    @abstractmethod
    def reward(self, action: np.ndarray) -> np.ndarray:
        """What an action earns in the present step, ``[S, E]``."""

    def reset(self) -> dict[str, np.ndarray]:
        self._begin(np.ones(self.shape, bool))
        return self.show()

    def step(self, action: np.ndarray) -> LaneStep:
        reward = self.reward(action).astype(np.float32)
        self.elapsed += 1
        self._draw(np.ones(self.shape, bool))
        next_obs = self.show()
        ended = self.elapsed >= self.length
        obs = next_obs
        if ended.any():
            self._begin(ended)
            obs = self.show()
        nowhere = np.zeros_like(ended)
        terminated, truncated = (nowhere, ended) if self.truncates else (ended, nowhere)
        return LaneStep(obs, next_obs, reward, terminated, truncated)

    def close(self) -> None:
        pass

    def _begin(self, lanes: np.ndarray) -> None:
        self.elapsed[lanes] = 0
        self._draw(lanes)

    def _draw(self, lanes: np.ndarray) -> None:
        self._draws[lanes] += np.uint64(1)
        counts = self._draws[lanes, None] * np.uint64(self.numbers) + self._indices
        self.drawn[lanes] = _uniform(_hash(self._seeds[lanes, None]) + counts)


def _hash(values: np.ndarray) -> np.ndarray:
    """Scramble uint64 numbers: the finaliser of SplitMix64 (Steele et al. 2014)."""
    values = (values ^ (values >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    values = (values ^ (values >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    values = values ^ (values >> np.uint64(31))
    return values


def _uniform(counters: np.ndarray) -> np.ndarray:
    """Numbers in [0, 1), one for each uint64 counter: SplitMix64 with its golden-ratio step."""
    scrambled = _hash(counters * np.uint64(0x9E3779B97F4A7C15))
    return (scrambled >> np.uint64(11)).astype(np.float64) * 2.0**-53


class IdentityDiscrete(Probe):
    """Observation: one of 4 alternatives. Reward 1 for the action of the same number."""

    observation: ClassVar[dict[str, Space]] = {"observation": Discrete(4)}
    action: ClassVar[ActionSpace] = Discrete(4)

    @property
    def right(self) -> np.ndarray:
        """The right action of this step, ``[S, E]``."""
        return (self.drawn[..., 0] * 4).astype(np.int64)

    def show(self) -> dict[str, np.ndarray]:
        return {"observation": self.right}

    def reward(self, action: np.ndarray) -> np.ndarray:
        matches: np.ndarray = action == self.right
        return matches


class IdentityVector(IdentityDiscrete):
    """The same, but the observation is a one-hot vector of floats."""

    observation: ClassVar[dict[str, Space]] = {"observation": box(0.0, 1.0, (4,))}

    def show(self) -> dict[str, np.ndarray]:
        return {"observation": np.eye(4, dtype=np.float32)[self.right]}


class IdentityImage(IdentityDiscrete):
    """The same, but the observation is a dark picture with one bright quarter."""

    observation: ClassVar[dict[str, Space]] = {"observation": box(0, 255, (64, 64, 3), "uint8")}

    def show(self) -> dict[str, np.ndarray]:
        quarters = np.eye(4, dtype=np.uint8)[self.right].reshape(*self.shape, 2, 2, 1)
        bright = 255 * quarters.repeat(32, axis=2).repeat(32, axis=3)
        return {"observation": bright.repeat(3, axis=4)}


class IdentityDict(IdentityDiscrete):
    """The same, but one leaf names the half of the actions, the other the one of that half."""

    observation: ClassVar[dict[str, Space]] = {
        "half": Discrete(2),
        "sign": box(-1.0, 1.0, (1,)),
    }

    def show(self) -> dict[str, np.ndarray]:
        half, second = np.divmod(self.right, 2)
        return {"half": half, "sign": (2 * second[..., None] - 1).astype(np.float32)}


class IdentityMultiDiscrete(Probe):
    """Observation: one of 2 and one of 3 alternatives. Reward: the part of both that is matched."""

    observation: ClassVar[dict[str, Space]] = {"observation": MultiDiscrete((2, 3))}
    action: ClassVar[ActionSpace] = MultiDiscrete((2, 3))
    numbers: ClassVar[int] = 2

    def show(self) -> dict[str, np.ndarray]:
        return {"observation": (self.drawn * np.array([2, 3])).astype(np.int64)}

    def reward(self, action: np.ndarray) -> np.ndarray:
        matches: np.ndarray = (action == self.show()["observation"]).mean(axis=-1)
        return matches


class IdentityContinuous(Probe):
    """Observation: the right action as parts of its range, in [-1, 1].

    Reward: ``1 - 3 * distance``, the distance in parts of the range, averaged over dimensions. The
    ranges differ and are not centred, so that a mistake in scaling shows.
    """

    observation: ClassVar[dict[str, Space]] = {"observation": box(-1.0, 1.0, (2,))}
    action: ClassVar[ActionSpace] = Box(
        np.array([-2.0, 0.0], np.float32), np.array([2.0, 1.0], np.float32), np.dtype(np.float32)
    )
    numbers: ClassVar[int] = 2

    def show(self) -> dict[str, np.ndarray]:
        return {"observation": (2 * self.drawn - 1).astype(np.float32)}

    def reward(self, action: np.ndarray) -> np.ndarray:
        place = (action - np.array([-2.0, 0.0])) / np.array([4.0, 1.0])
        distance: np.ndarray = np.abs(place - self.drawn).mean(axis=-1)
        return 1 - 3 * distance


class Credit(Probe):
    """Observation: 0 or 1 names the right first action; then 2 if it was wrong, 3 if it was right.

    Reward: 1 after the second action, whichever it is, if the first was right.
    """

    observation: ClassVar[dict[str, Space]] = {"observation": Discrete(4)}
    action: ClassVar[ActionSpace] = Discrete(2)
    length: ClassVar[int] = 2

    def __init__(self, seeds: np.ndarray) -> None:
        super().__init__(seeds)
        self._earned: np.ndarray = np.zeros(self.shape, bool)

    def show(self) -> dict[str, np.ndarray]:
        first = (self.drawn[..., 0] * 2).astype(np.int64)
        return {"observation": np.where(self.elapsed == 0, first, 2 + self._earned)}

    def reward(self, action: np.ndarray) -> np.ndarray:
        at_start = self.elapsed == 0
        paid: np.ndarray = self._earned & ~at_start
        self._earned = np.where(at_start, action == self.show()["observation"], self._earned)
        return paid


class Termination(Probe):
    """Observation: steps so far. Reward 1; terminates."""

    observation: ClassVar[dict[str, Space]] = {"observation": Discrete(LENGTH + 1)}
    action: ClassVar[ActionSpace] = Discrete(2)

    def show(self) -> dict[str, np.ndarray]:
        return {"observation": self.elapsed.copy()}

    def reward(self, action: np.ndarray) -> np.ndarray:
        return np.ones(self.shape)


class Truncation(Termination):
    """Observation: always 0, for a time limit is not part of the world. Reward 1; truncates."""

    observation: ClassVar[dict[str, Space]] = {"observation": Discrete(1)}
    truncates: ClassVar[bool] = True

    def show(self) -> dict[str, np.ndarray]:
        return {"observation": np.zeros(self.shape, np.int64)}


class Faulty(IdentityVector):
    """An identity world of which the lanes of :data:`FAULTY_SEED` go wrong in training."""

    def __init__(self, seeds: np.ndarray) -> None:
        super().__init__(seeds)
        self._rows = np.flatnonzero(np.isin(seeds[:, 0], _faulty_lane_seeds()))
        self._steps = 0

    def step(self, action: np.ndarray) -> LaneStep:
        outcome = super().step(action)
        self._steps += 1
        if self._steps >= FAULTY_STEP:
            for row in self._rows.tolist():
                self.spoil(row, outcome)
        return outcome

    @abstractmethod
    def spoil(self, row: int, outcome: LaneStep) -> None:
        """Change what the lanes of a seed deliver."""


class Crash(Faulty):
    """A lane raises; as the contract of lanes has it, its seed delivers zeros from then on."""

    def spoil(self, row: int, outcome: LaneStep) -> None:
        self.failures.setdefault(row, f"RuntimeError: lane 0 broke at step {self._steps}")
        arrays = (*outcome.obs.values(), *outcome.next_obs.values(), *outcome[2:])
        for values in arrays:
            values[row] = 0


class Poison(Faulty):
    """The first lane delivers observations that are not a number."""

    def spoil(self, row: int, outcome: LaneStep) -> None:
        for leaves in (outcome.obs, outcome.next_obs):
            leaves["observation"][row, 0] = np.nan


@cache
def _faulty_lane_seeds() -> np.ndarray:
    """Seeds of the first training lane of the faulty run seed, in its first 1000 segments."""
    return np.concatenate([lane_seeds([FAULTY_SEED], "train", i, 1)[0] for i in range(1000)])


_WORLDS: dict[str, type[Probe]] = {
    "identity-discrete": IdentityDiscrete,
    "identity-vector": IdentityVector,
    "identity-image": IdentityImage,
    "identity-dict": IdentityDict,
    "identity-multidiscrete": IdentityMultiDiscrete,
    "identity-continuous": IdentityContinuous,
    "credit": Credit,
    "termination": Termination,
    "truncation": Truncation,
    "crash": Crash,
    "poison": Poison,
}

_RANDOM_RETURNS = {
    "identity-multidiscrete": LENGTH * (1 / 2 + 1 / 3) / 2,
    "identity-continuous": 0.0,
    "credit": 0.5,
}
_BEST_RETURNS = {"credit": 1.0}


def _task(name: str, world: type[Probe]) -> Task:
    kinds = {Box: "continuous", Discrete: "discrete", MultiDiscrete: "multidiscrete"}
    bounds = Bounds(
        _RANDOM_RETURNS.get(name, LENGTH / 4),
        "uniform random policy, exact",
        _BEST_RETURNS.get(name, float(LENGTH)),
        "best policy, exact",
    )
    return Task(
        id=f"probes/{name}",
        actions=kinds[type(world.action)],
        horizon=LENGTH if world.truncates else None,
        domain="worlds with known answers",
        complexity="trivial",
        paper="Osband et al. 2020",
        bounds=None if issubclass(world, Termination) else bounds,
    )


def _make(task: Task, seeds: np.ndarray, split: str, threads: int) -> Lanes:
    return _WORLDS[task.name](seeds)


FAMILY = Family(
    name="probes",
    title="Probes",
    tasks={name: _task(name, world) for name, world in _WORLDS.items()},
    engines=(Engine("numpy", ("numpy",), _make),),
    install="pip install numpy",
)
