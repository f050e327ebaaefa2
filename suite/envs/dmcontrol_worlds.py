"""The worlds of dm_control as Gymnasium environments, so that the shared lanes can step them."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import gymnasium
import numpy as np
from gymnasium import spaces

from suite.envs.engines import SINGLE_LEAF, GymnasiumLanes
from suite.envs.lanes import Lanes
from suite.envs.mujoco import deprecations_silenced
from suite.envs.rendering import Camera
from suite.spaces import Box, Spaces
from suite.tasks import Task

SIZE = 64
"""Height and width of the images, in pixels."""

STACK = 3
"""Images per observation."""


class World(gymnasium.Env[Any, np.ndarray]):
    """One world, observed by its state.

    Args:
        task: its ``horizon`` cuts the episodes, its ``frames_per_step`` repeats the actions.
        seed: of all episodes; dm_control cannot be given another one later.
    """

    def __init__(self, task: Task, seed: int) -> None:
        self.horizon = task.horizon
        self.repeat = task.frames_per_step
        self.world = load(task, seed)
        self.elapsed = 0
        action = self.world.action_spec()
        self.action_space = spaces.Box(action.minimum, action.maximum, action.shape, np.float64)
        self.observation_space = spaces.Dict(
            {
                name: spaces.Box(-np.inf, np.inf, leaf.shape, np.float64)
                for name, leaf in self.world.observation_spec().items()
            }
        )

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Any, dict[str, Any]]:
        """Begin an episode. The seed is the constructor's, whatever is asked here."""
        self.elapsed = 0
        return self.first(self.world.reset().observation), {}

    def step(self, action: np.ndarray) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        reward = 0.0
        for _ in range(self.repeat):
            outcome = self.world.step(action)
            reward += outcome.reward
            if outcome.last():
                break
        self.elapsed += 1
        terminated = outcome.last() and outcome.discount == 0
        truncated = not terminated and (outcome.last() or self.elapsed == self.horizon)
        return self.next(outcome.observation), reward, terminated, truncated, {}

    def close(self) -> None:
        self.world.close()

    def first(self, observation: dict[str, np.ndarray]) -> Any:
        """What an episode begins with, given upstream's observation."""
        return observation

    def next(self, observation: dict[str, np.ndarray]) -> Any:
        """What follows an action, given upstream's observation."""
        return observation


class PixelWorld(World):
    """One world, observed through its camera: the last ``STACK`` images, oldest first.

    Args:
        task: see :class:`World`.
        seed: see :class:`World`.
        camera: may serve several worlds; the first one that is closed closes it.
    """

    def __init__(self, task: Task, seed: int, camera: Camera) -> None:
        super().__init__(task, seed)
        self.observation_space = spaces.Box(0, 255, (SIZE, SIZE, 3 * STACK), np.uint8)
        self.camera = camera
        self.images: list[np.ndarray] = []

    def first(self, observation: dict[str, np.ndarray]) -> np.ndarray:
        self.images = [self._draw()] * STACK
        return np.concatenate(self.images, axis=-1)

    def next(self, observation: dict[str, np.ndarray]) -> np.ndarray:
        self.images = [*self.images[1:], self._draw()]
        return np.concatenate(self.images, axis=-1)

    def close(self) -> None:
        self.camera.close()
        super().close()

    def _draw(self) -> np.ndarray:
        return self.camera.draw(self.world.physics.model.ptr, self.world.physics.data.ptr)


def load(task: Task, seed: int) -> Any:
    """Make upstream's environment of a task."""
    domain, name = task.name.removesuffix("-pixels").split("-")
    with _no_renderer():
        from dm_control import suite

    with deprecations_silenced():
        return suite.load(domain, name, task_kwargs={"random": seed})


def open_lanes(task: Task, seeds: np.ndarray) -> Lanes:
    """Make lanes ``[S, E]`` of a task that is observed by its state."""
    order = iter(seeds.ravel().tolist())  # lanes are made row by row
    return GymnasiumLanes(lambda: World(task, next(order)), seeds)


def open_pixel_lanes(task: Task, driver: str, seeds: np.ndarray) -> Lanes:
    """Make lanes ``[S, E]`` of a task that is observed through its camera."""
    order, camera = iter(seeds.ravel().tolist()), Camera(driver, SIZE)
    lanes = GymnasiumLanes(lambda: PixelWorld(task, next(order), camera), seeds)
    images = lanes.spaces.observation[SINGLE_LEAF]
    assert isinstance(images, Box)
    lanes.spaces = Spaces({SINGLE_LEAF: replace(images, stack=STACK)}, lanes.spaces.action)
    return lanes


@contextmanager
def _no_renderer() -> Iterator[None]:
    """Keep dm_control from loading an OpenGL driver of its own choice when it is imported.

    We draw with :class:`Camera`, and tasks that draw nothing must not need a driver. A choice that
    the user has made stands.
    """
    if os.environ.get("MUJOCO_GL"):
        yield
        return
    os.environ["MUJOCO_GL"] = "disable"
    try:
        yield
    finally:
        del os.environ["MUJOCO_GL"]
