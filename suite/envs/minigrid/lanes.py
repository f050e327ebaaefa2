"""Lanes of MiniGrid: EnvPool's worlds in C++, and minigrid's own in Python.

Both show the same three leaves: ``image``, the 7x7 cells before the agent as symbols (object,
colour, state); ``direction``; ``mission``, as words.
"""

from __future__ import annotations

import contextlib
import io
import warnings
from collections.abc import Mapping
from typing import Any

import gymnasium
import numpy as np

from suite.envs.engines import EnvpoolLanes, GymnasiumLanes, Leaf
from suite.envs.lanes import Lanes
from suite.envs.minigrid.missions import navigations, tokens, words
from suite.spaces import Box, Discrete

VIEW = (7, 7)
HIGHEST_SYMBOLS = (10, 5, 2)
"""Of the three channels: 11 kinds of object, 6 colours, and a door open, closed or locked."""

MOST_PLACES_OF_AGENT = 1000
"""A room of BabyAI has four ways to stand on each of at most 324 cells, most of them good."""


def leaves(length: int) -> Mapping[str, Leaf]:
    """Describe the observation of a task whose missions have up to ``length`` words."""
    high = np.broadcast_to(np.array(HIGHEST_SYMBOLS, np.uint8), (*VIEW, 3)).copy()
    image = Box(np.zeros_like(high), high, high.dtype)
    mission = words(length)
    return {
        "image": Leaf(("image",), image, image.dtype),
        "direction": Leaf(("direction",), Discrete(4), np.dtype(np.int64)),
        "mission": Leaf(("mission",), mission, mission.dtype),
    }


class MinigridPool(EnvpoolLanes):
    """Lanes in EnvPool, with limits of their own.

    A success is worth 1 - 0.9 x steps / limit, so the limit shapes the reward. EnvPool calls every
    end at the limit a truncation, also a success. So the pool's own limit is put where no episode
    reaches it, and truncation and reward are computed here.

    Args:
        name: EnvPool's task id.
        seeds: ``[S, E]``, one per lane.
        limit: steps after which upstream truncates, in the longest episode.
        limit_per_navigation: steps that upstream gives per place that the mission makes the agent
            go to; 0 where every episode has the same limit.
        horizon: where an episode is cut if that is sooner.
        length: words in the longest mission.
        threads: of the pool.
    """

    def __init__(
        self,
        name: str,
        seeds: np.ndarray,
        *,
        limit: int,
        limit_per_navigation: int,
        horizon: int,
        length: int,
        threads: int,
    ) -> None:
        super().__init__(
            name, seeds, horizon=max(limit, horizon), leaves=leaves(length), threads=threads
        )
        self._cut = horizon
        self._per_navigation = limit_per_navigation
        self._limits = np.full(seeds.size, limit)
        self._missions = np.zeros((seeds.size, length), words(length).dtype)

    def _begin(self, lanes: np.ndarray) -> Any:
        observation = super()._begin(lanes)
        texts = [bytes(row).rstrip(b"\0").decode() for row in observation["mission"]]
        self._missions[lanes] = [tokens(text, self._missions.shape[1]) for text in texts]
        if self._per_navigation:
            self._limits[lanes] = navigations(self._missions[lanes]) * self._per_navigation
        return observation | {"mission": self._missions[lanes]}

    def _advance(self, action: np.ndarray) -> tuple[Any, np.ndarray, np.ndarray, np.ndarray]:
        observation, reward, terminated, _, info = self._pool.step(action)
        steps = info["elapsed_step"]
        success = 1 - 0.9 * (steps / self._limits)
        reward = np.where(reward > 0, success, reward).astype(np.float32)
        truncated = (steps >= np.minimum(self._limits, self._cut)) & ~terminated
        # A mission stays the same until the episode ends.
        return observation | {"mission": self._missions.copy()}, reward, terminated, truncated


class Worded(gymnasium.ObservationWrapper[Any, Any, Any]):
    """A world of minigrid whose missions are words in numbers, and which comes to an end.

    BabyAI prints every layout that it draws and rejects; here it does not. And it searches for
    ever if every place of the agent's room faces a thing, where it should stand before nothing;
    here such a layout is rejected too.
    """

    def __init__(self, env: gymnasium.Env[Any, Any], length: int) -> None:
        super().__init__(env)
        self._length = length
        self._place = env.get_wrapper_attr("place_obj")
        self._places_of_agent = 0
        env.set_wrapper_attr("place_obj", self._place_or_reject)

    def reset(self, **options: Any) -> tuple[Any, dict[str, Any]]:
        with contextlib.redirect_stdout(io.StringIO()):
            return super().reset(**options)

    def observation(self, observation: Any) -> Any:
        return {**observation, "mission": tokens(observation["mission"], self._length)}

    def _place_or_reject(self, obj: Any, *args: Any, **options: Any) -> Any:
        """Place a thing, or the agent (None); too many places of the agent are too many."""
        from minigrid.envs.babyai.core.roomgrid_level import RejectSampling

        self._places_of_agent = 0 if obj is not None else self._places_of_agent + 1
        if self._places_of_agent > MOST_PLACES_OF_AGENT:
            self._places_of_agent = 0
            raise RejectSampling("no place of the agent faces nothing")
        return self._place(obj, *args, **options)


def reference(name: str, seeds: np.ndarray, horizon: int | None, length: int) -> Lanes:
    """Open lanes in minigrid itself; arguments as those of :class:`MinigridPool`."""
    return GymnasiumLanes(
        lambda: Worded(open_world(name, horizon), length), seeds, leaves=leaves(length)
    )


def open_world(name: str, horizon: int | None) -> gymnasium.Env[Any, Any]:
    """Open one of minigrid's worlds; ``horizon`` cuts where upstream's own limit comes later."""
    import minigrid  # noqa: F401  # registers its ids

    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", ".* is out of date", DeprecationWarning)
        return gymnasium.make(name, max_episode_steps=horizon, disable_env_checker=True)
