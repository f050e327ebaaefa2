"""Isaac Gym: IsaacGymEnvs' robot tasks, rebuilt on MuJoCo, thousands of worlds at once.

Observation: a vector, float32. Action: in [-1, 1]. Reward and end: each task's own, see its module.
All tasks truncate at their horizon. Source: the task definitions of IsaacGymEnvs 1.5.1 (Makoviychuk
et al. 2021), written anew over MuJoCo 3.17 with models of our own.

MuJoCo and MuJoCo Warp agree: in nearly all worlds the same state and action lead to the same state
up to a thousandth of the way moved, in BallBalance, whose legs are held by stiff constraints, up to
a hundredth or two. They do not on AnymalTerrain's height field, which is left to MuJoCo.

These are not Isaac Gym's results: contacts, motors and limits of speed are PhysX's there. The
simulator itself runs through the engine ``isaacgym``, where it is installed.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

import numpy as np

from suite.envs.lanes import Lanes
from suite.tasks import Bounds, Engine, Family, Lack, Task

if TYPE_CHECKING:
    from suite.envs.isaacgym.physics import Physics
    from suite.envs.isaacgym.worlds import Worlds

# Packages are imported where they are used: the tasks can be listed without them.

_FLOOR = "0 is taken for the lowest score: no return of a random policy has been published"
_RL_GAMES = (
    "rl_games' PPO on Isaac Gym (PhysX), vwxyzjn/cleanrl docs/rl-algorithms/ppo-isaacgymenvs.md"
)


def _task(
    name: str, horizon: int, complexity: str, best: float | None = None, frames_per_step: int = 2
) -> Task:
    return Task(
        id=f"isaacgym/{name}",
        actions="continuous",
        horizon=horizon,
        domain="robot control",
        complexity=complexity,
        paper="Makoviychuk et al. 2021",
        bounds=None if best is None else Bounds(0.0, _FLOOR, best, _RL_GAMES),
        frames_per_step=frames_per_step,
    )


_TASKS = (
    _task("Cartpole", 500, "low", 417.49),
    _task("Ant", 1000, "medium", 5873.05),
    _task("Humanoid", 1000, "high", 6254.73),
    _task("Ingenuity", 2000, "medium"),
    _task("Quadcopter", 500, "medium"),
    _task("BallBalance", 500, "medium", 319.76),
    _task("Anymal", 2500, "high", 62.76),
    _task("AnymalTerrain", 1000, "high", frames_per_step=4),
)

_MODULES = {
    "Cartpole": "cartpole",
    "Ant": "locomotion",
    "Humanoid": "locomotion",
    "Ingenuity": "copters",
    "Quadcopter": "copters",
    "BallBalance": "ball_balance",
    "Anymal": "anymal",
    "AnymalTerrain": "anymal_terrain",
}
"""Where the class of a task's name is."""


def _worlds(task: Task) -> type[Worlds]:
    module = import_module(f"suite.envs.isaacgym.{_MODULES[task.name]}")
    found: type[Worlds] = getattr(module, task.name)
    return found


def _make_mujoco(task: Task, seeds: np.ndarray, split: str, threads: int) -> Lanes:
    from suite.envs.isaacgym.physics import Mujoco

    worlds = _worlds(task)
    return _open(task, worlds, Mujoco(worlds.build_model(), seeds.size, threads), seeds, split)


def _make_warp(task: Task, seeds: np.ndarray, split: str, threads: int) -> Lanes:
    from suite.envs.isaacgym.warp import Warp

    worlds = _worlds(task)
    return _open(task, worlds, Warp(worlds.build_model(), seeds.size), seeds, split)


def _make_bridge(task: Task, seeds: np.ndarray, split: str, threads: int) -> Lanes:
    from suite.envs.isaacgym.bridge import make_bridge

    return make_bridge(task, seeds, split, threads)


def _open(task: Task, kind: type[Worlds], physics: Physics, seeds: np.ndarray, split: str) -> Lanes:
    from suite.envs.isaacgym.worlds import WorldLanes

    worlds = kind(physics, seeds.ravel())
    if split != "train":
        worlds.examine()
    assert task.horizon is not None
    return WorldLanes(worlds, (seeds.shape[0], seeds.shape[1]), task.horizon)


def _agrees(task: Task) -> bool:
    return task.name != "AnymalTerrain"


def _lacks_gpu(task: Task) -> Lack | None:
    import torch

    if torch.cuda.is_available():
        return None
    return Lack("a GPU that PyTorch can use", "without one, take the default engine: ENGINE=mujoco")


def _lacks_simulator(task: Task) -> Lack | None:
    from suite.envs.isaacgym.bridge import lacks

    return lacks(task)


FAMILY = Family(
    name="isaacgym",
    title="Isaac Gym",
    tasks={task.name: task for task in _TASKS},
    engines=(
        Engine("mujoco", ("mujoco",), _make_mujoco),
        Engine(
            "mujoco-warp",
            ("mujoco-warp", "warp-lang", "mujoco"),
            _make_warp,
            supports=_agrees,
            lacks=_lacks_gpu,
            device="cuda",
        ),
        Engine("isaacgym", (), _make_bridge, lacks=_lacks_simulator),
    ),
    install='pip install "mujoco<4" mujoco-warp==3.17.0',
)
