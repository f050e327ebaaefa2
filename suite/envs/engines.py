"""Engines that several families share: EnvPool's pools in C++ and Gymnasium's loop in Python.

Both turn what their library delivers into the same spaces and the same lane contract: float32
observations in a dictionary of leaves, integers that start at 0, the true next observation at the
end of an episode, and an end that is either a termination or a truncation, never both.
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import gymnasium
import numpy as np
from gymnasium import spaces as upstream

from suite.envs.lanes import Lanes
from suite.spaces import Box, Discrete, MultiDiscrete, Space, Spaces, Text
from suite.steps import LaneStep

SINGLE_LEAF = "observation"


@dataclass(frozen=True)
class Leaf:
    """One array of an observation, or the action: where upstream keeps it and how we show it."""

    path: tuple[str | int, ...]
    """Keys that lead to it in upstream's nested dictionaries and tuples; empty if not nested."""
    space: Space
    dtype: np.dtype[Any]
    start: np.ndarray | None = None
    """What upstream adds to our integers, which start at 0; None: theirs do too."""

    def read(self, observation: Any) -> np.ndarray:
        """Take the leaf, ``[..., *shape]``, out of what upstream delivered for one or many."""
        for key in self.path:
            observation = observation[key]
        values = np.asarray(observation)
        if self.start is not None:
            values = values - self.start
        return values.astype(self.dtype, copy=False)


def read_space(space: gymnasium.Space[Any], path: tuple[str | int, ...] = ()) -> Leaf:
    """Translate a space that is not nested.

    Raises:
        ValueError: no algorithm could read such a space (text, graphs, sequences).
    """
    match space:
        case upstream.Discrete():
            return Leaf(path, Discrete(int(space.n)), np.dtype(np.int64), _start(space.start))
        case upstream.MultiDiscrete() if space.nvec.ndim == 1:
            choices = MultiDiscrete(tuple(int(n) for n in space.nvec))
            return Leaf(path, choices, np.dtype(np.int64), _start(space.start))
        case upstream.MultiBinary() if len(space.shape) == 1:
            return Leaf(path, MultiDiscrete((2,) * space.shape[0]), np.dtype(np.int64))
        case upstream.Box():
            is_integer = np.issubdtype(space.dtype, np.integer)
            dtype = np.dtype(space.dtype if is_integer else np.float32)
            with np.errstate(over="ignore"):  # a bound beyond float32 is no bound
                low, high = space.low.astype(dtype), space.high.astype(dtype)
            return Leaf(path, Box(low, high, dtype), dtype)
    raise ValueError(f"space {space} is not supported: not a Box, Discrete or vector of choices")


def _start(values: Any) -> np.ndarray | None:
    return np.asarray(values, np.int64) if np.any(values) else None


def read_observation_space(space: gymnasium.Space[Any]) -> dict[str, Leaf]:
    """Translate an observation space into leaves by name.

    Nested names are joined with dots, tuples are numbered, and a leaf that is alone is called
    ``observation``.
    """
    leaves = list(_leaves(space, ()))
    if len(leaves) == 1:
        return {SINGLE_LEAF: leaves[0]}
    return {".".join(map(str, leaf.path)): leaf for leaf in leaves}


def _leaves(space: gymnasium.Space[Any], path: tuple[str | int, ...]) -> Iterator[Leaf]:
    if isinstance(space, upstream.Dict):
        for name, child in space.items():
            yield from _leaves(child, (*path, name))
    elif isinstance(space, upstream.Tuple):
        for index, child in enumerate(space):
            yield from _leaves(child, (*path, index))
    else:
        yield read_space(space, path)


def unbounded(space: Space) -> Space:
    """Lift the bounds of a float Box, for physics that leaves the bounds its package declares."""
    if not isinstance(space, Box) or space.dtype != np.float32:
        return space
    return Box(np.full_like(space.low, -np.inf), np.full_like(space.high, np.inf), space.dtype)


def _spaces(observation: Mapping[str, Leaf], action: Leaf, keeps_bounds: bool) -> Spaces:
    found: dict[str, Space] = {name: leaf.space for name, leaf in observation.items()}
    if not keeps_bounds:
        found = {name: unbounded(space) for name, space in found.items()}
    assert not isinstance(action.space, Text)  # `read_space` makes none
    return Spaces(found, action.space)


@contextmanager
def _known_warnings_silenced() -> Iterator[None]:
    """Silence two remarks that libraries make on loading, about themselves and not about us.

    Box2D's is more than noise: where warnings are errors, it takes the process down.
    """
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", ".*precision lowered by casting", UserWarning)
        warnings.filterwarnings("ignore", "builtin type .* has no __module__", DeprecationWarning)
        yield


def _first_cpu(threads: int) -> int:
    """The CPU from which on EnvPool shall bind its threads, one to each; -1: it shall bind none.

    Threads are bound where the process has as many CPUs as threads, in a row. Left alone there,
    Linux often wakes all of them on one CPU, to run in turn: two threads on two CPUs then step
    HalfCheetah-v5 no faster than one (21,000 to 47,000 steps per second from run to run; bound,
    34,000 to 41,000).
    """
    if threads == 1 or not hasattr(os, "sched_getaffinity"):
        return -1
    cpus = sorted(os.sched_getaffinity(0))
    return cpus[0] if cpus == list(range(cpus[0], cpus[0] + threads)) else -1


class EnvpoolLanes(Lanes):
    """All lanes of all seeds in one EnvPool.

    EnvPool resets a lane on the step after its end, ignoring that step's action; here, lanes are
    reset at once by a call of their own, so that every action counts.

    Args:
        name: EnvPool's task id.
        seeds: ``[S, E]``, one per lane.
        horizon: steps after which a lane truncates. The pool's own limit is put one step further,
            because at its limit EnvPool reports every end as a truncation, also where the task
            terminated. None: the pool's limit as it is, for tasks whose reward depends on it.
        keeps_bounds: False lifts the declared bounds of the observation.
        leaves: how to read the observation; None: as its declared space says.
        threads: of the pool; the numbers do not depend on it.
        options: further settings of the EnvPool task.
    """

    def __init__(
        self,
        name: str,
        seeds: np.ndarray,
        *,
        horizon: int | None = None,
        keeps_bounds: bool = True,
        leaves: Mapping[str, Leaf] | None = None,
        threads: int = 1,
        **options: object,
    ) -> None:
        import envpool  # Gymnasium alone is enough for the other engine

        super().__init__((seeds.shape[0], seeds.shape[1]))
        self._horizon = horizon
        if horizon is not None:
            options["max_episode_steps"] = horizon + 1
        options["thread_affinity_offset"] = _first_cpu(threads)
        with _known_warnings_silenced():
            self._pool = envpool.make_gymnasium(
                name, num_envs=seeds.size, num_threads=threads, seed=seeds.ravel(), **options
            )
            self._leaves = leaves or read_observation_space(self._pool.observation_space)
            action = read_space(self._pool.action_space)
        assert action.start is None, f"actions of {name} start at {action.start}"
        self.spaces = _spaces(self._leaves, action, keeps_bounds)

    def reset(self) -> dict[str, np.ndarray]:
        return self._per_seed(self._read(self._begin(np.arange(self.shape[0] * self.shape[1]))))

    def step(self, action: np.ndarray) -> LaneStep:
        flat = action.reshape(-1, *action.shape[2:])
        observation, reward, terminated, truncated = self._advance(flat)
        leaves = self._read(observation)
        next_obs = obs = self._per_seed(leaves)
        ended = np.flatnonzero(terminated | truncated)
        if ended.size:
            obs = self._per_seed(self._restart(ended, leaves))
        return LaneStep(
            obs,
            next_obs,
            reward.reshape(self.shape),
            terminated.reshape(self.shape),
            truncated.reshape(self.shape),
        )

    def close(self) -> None:
        self._pool.close()

    def _begin(self, lanes: np.ndarray) -> Any:
        """Begin an episode in some lanes; returns the pool's observation of these."""
        return self._pool.reset(lanes)[0]

    def _advance(self, action: np.ndarray) -> tuple[Any, np.ndarray, np.ndarray, np.ndarray]:
        """Step all lanes: the pool's observation; reward, terminated and truncated ``[lanes]``."""
        observation, reward, terminated, truncated, info = self._pool.step(action)
        if self._horizon is not None:
            truncated = (info["elapsed_step"] >= self._horizon) & ~terminated
        return observation, reward, terminated, truncated

    def _restart(self, lanes: np.ndarray, leaves: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Begin an episode in some lanes; the others' observations stay as they are."""
        obs = {name: leaf.copy() for name, leaf in leaves.items()}
        for name, first in self._read(self._begin(lanes)).items():
            obs[name][lanes] = first
        return obs

    def _read(self, observation: Any) -> dict[str, np.ndarray]:
        """Leaves ``[lanes, ...]``; EnvPool shows some single numbers as arrays of one."""
        return {
            name: leaf.read(observation).reshape(-1, *leaf.space.shape)
            for name, leaf in self._leaves.items()
        }

    def _per_seed(self, leaves: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        return {name: leaf.reshape(*self.shape, *leaf.shape[1:]) for name, leaf in leaves.items()}


class GymnasiumLanes(Lanes):
    """One Gymnasium environment per lane, stepped in a Python loop: the reference engine.

    A lane that raises takes its own seed out and no other, see :attr:`Lanes.failures`.

    Args:
        make: opens one environment, its time limit included.
        seeds: ``[S, E]``; used at the first reset of a lane, later episodes follow from it.
        keeps_bounds: False lifts the declared bounds of the observation.
        leaves: how to read the observation; None: as its declared space says.
    """

    def __init__(
        self,
        make: Callable[[], gymnasium.Env[Any, Any]],
        seeds: np.ndarray,
        *,
        keeps_bounds: bool = True,
        leaves: Mapping[str, Leaf] | None = None,
    ) -> None:
        super().__init__((seeds.shape[0], seeds.shape[1]))
        self._seeds = seeds.tolist()
        with _known_warnings_silenced():
            self._envs = [[make() for _ in row] for row in self._seeds]
        first = self._envs[0][0]
        self._leaves = leaves or read_observation_space(first.observation_space)
        self._action = read_space(first.action_space)
        self._action_dtype = first.action_space.dtype
        self.spaces = _spaces(self._leaves, self._action, keeps_bounds)

    def reset(self) -> dict[str, np.ndarray]:
        obs = self._empty()
        for row, lane, env in self._alive():
            with self._guarded(row):
                self._write(obs, row, lane, env.reset(seed=self._seeds[row][lane])[0])
        self._blank(*obs.values())
        return obs

    def step(self, action: np.ndarray) -> LaneStep:
        next_obs = self._empty()
        reward = np.zeros(self.shape, np.float32)
        terminated, truncated = np.zeros(self.shape, bool), np.zeros(self.shape, bool)
        actions = self._upstream(action)
        for row, lane, env in self._alive():
            with self._guarded(row):
                observation, gain, end, cut, _ = env.step(actions[row][lane])
                self._write(next_obs, row, lane, observation)
                reward[row, lane] = gain
                terminated[row, lane] = end
                truncated[row, lane] = cut and not end
        obs = self._restart(terminated | truncated, next_obs)
        self._blank(reward, terminated, truncated, *next_obs.values(), *obs.values())
        return LaneStep(obs, next_obs, reward, terminated, truncated)

    def close(self) -> None:
        for row in self._envs:
            for env in row:
                env.close()

    def _restart(self, ended: np.ndarray, next_obs: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Begin an episode where one ended; the same object if none did."""
        if not ended.any():
            return next_obs
        obs = {name: leaf.copy() for name, leaf in next_obs.items()}
        for row, lane, env in self._alive():
            if ended[row, lane]:
                with self._guarded(row):
                    self._write(obs, row, lane, env.reset()[0])
        return obs

    def _upstream(self, action: np.ndarray) -> Any:
        """Actions as the environments want them, to be indexed with row and lane."""
        if self._action.start is not None:
            action = action + self._action.start
        if isinstance(self._action.space, Discrete):
            return action.tolist()
        return action.astype(self._action_dtype, copy=False)

    def _alive(self) -> Iterator[tuple[int, int, gymnasium.Env[Any, Any]]]:
        """Lanes of seeds that have not failed, checked at each lane: a seed may fail midway."""
        for row, envs in enumerate(self._envs):
            for lane, env in enumerate(envs):
                if row not in self.failures:
                    yield row, lane, env

    @contextmanager
    def _guarded(self, row: int) -> Iterator[None]:
        """Whatever an environment raises is the end of its seed, not of the other seeds."""
        try:
            yield
        except Exception as error:  # noqa: BLE001
            self.failures[row] = f"{type(error).__name__}: {error}"

    def _blank(self, *arrays: np.ndarray) -> None:
        for row in self.failures:
            for values in arrays:
                values[row] = 0

    def _empty(self) -> dict[str, np.ndarray]:
        return {
            name: np.zeros(self.shape + leaf.space.shape, leaf.dtype)
            for name, leaf in self._leaves.items()
        }

    def _write(self, obs: dict[str, np.ndarray], row: int, lane: int, observation: Any) -> None:
        for name, leaf in self._leaves.items():
            obs[name][row, lane] = leaf.read(observation)
