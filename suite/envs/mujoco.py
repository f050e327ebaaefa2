"""MuJoCo: the eleven continuous-control tasks of Gymnasium, version 5.

Observation: positions and velocities of the joints, in some tasks also forces, float32 without
bounds. Action: joint torques within the actuators' bounds. Reward: progress or closeness to a goal,
minus the cost of control. End: a robot that falls terminates (not in every task); all tasks
truncate at their horizon. Source: Gymnasium 1.4 (Towers et al. 2024), after Todorov et al. 2012.

EnvPool's pools and Gymnasium agree: the same state and actions lead to the same states up to
rounding; in Humanoid and HumanoidStandup up to the contact solver, which stops at 50 iterations
before it has converged, and EnvPool 1.2.5 carries MuJoCo 3.6.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np

from suite.envs.lanes import Lanes
from suite.tasks import Bounds, Engine, Family, Task

if TYPE_CHECKING:
    import gymnasium

# Packages are imported where they are used: the tasks can be listed without them.

_RANDOM = "mean of a uniform random policy, Gymnasium 1.2 with MuJoCo 4.0, {} episodes"
_TIANSHOU = "SAC at 1M steps on {}, 10 seeds, thu-ml/tianshou examples/mujoco"


def _task(
    name: str,
    frame_skip: int,
    complexity: str,
    random_return: float,
    best: float,
    best_source: str,
    horizon: int = 1000,
    random_episodes: int = 100,
) -> Task:
    return Task(
        id=f"mujoco/{name}-v5",
        actions="continuous",
        horizon=horizon,
        domain="robot control",
        complexity=complexity,
        paper="Todorov et al. 2012",
        bounds=Bounds(random_return, _RANDOM.format(random_episodes), best, best_source),
        frames_per_step=frame_skip,
    )


_TASKS = (
    _task("Reacher", 2, "low", -43.29, -2.6, _TIANSHOU.format("Reacher-v2"), horizon=50),
    _task(
        "Pusher",
        5,
        "medium",
        -149.22,
        -22.45,
        "SAC at 1M steps on Pusher-v4, 3 seeds, vwxyzjn/cleanrl docs/benchmark/sac.md",
        horizon=100,
    ),
    _task(
        "InvertedPendulum",
        2,
        "low",
        5.23,
        1000.0,
        "highest possible return, reached by SAC on InvertedPendulum-v2 (thu-ml/tianshou)",
    ),
    _task(
        "InvertedDoublePendulum",
        5,
        "low",
        49.09,
        9359.5,
        _TIANSHOU.format("InvertedDoublePendulum-v2"),
    ),
    _task("HalfCheetah", 5, "medium", -282.49, 12138.8, _TIANSHOU.format("HalfCheetah-v3")),
    _task("Hopper", 4, "medium", 16.67, 3542.2, _TIANSHOU.format("Hopper-v3")),
    _task(
        "Swimmer",
        4,
        "medium",
        0.8,
        365.7,
        "TRPO with discount 0.9999 at 1M steps on Swimmer-v3, one run,"
        " DLR-RM/rl-baselines3-zoo benchmark.md",
    ),
    _task("Walker2d", 4, "medium", 1.77, 5007.0, _TIANSHOU.format("Walker2d-v3")),
    _task("Ant", 5, "high", -48.05, 5850.2, _TIANSHOU.format("Ant-v3")),
    _task("Humanoid", 5, "high", 112.6, 5488.5, _TIANSHOU.format("Humanoid-v3")),
    _task(
        "HumanoidStandup",
        5,
        "high",
        33462.81,
        150104.59,
        "PPO at 4M steps on HumanoidStandup-v5, 4 sessions, kengz/SLM-Lab docs/BENCHMARKS.md",
        random_episodes=43,
    ),
)


def _make_envpool(task: Task, seeds: np.ndarray, split: str, threads: int) -> Lanes:
    from suite.envs.engines import EnvpoolLanes

    return EnvpoolLanes(task.name, seeds, horizon=task.horizon, threads=threads)


def _make_gymnasium(task: Task, seeds: np.ndarray, split: str, threads: int) -> Lanes:
    from suite.envs.engines import GymnasiumLanes

    with deprecations_silenced():
        return GymnasiumLanes(lambda: _open(task), seeds)


def _open(task: Task) -> gymnasium.Env[Any, Any]:
    import gymnasium

    return gymnasium.make(task.name, max_episode_steps=task.horizon, disable_env_checker=True)


@contextmanager
def deprecations_silenced() -> Iterator[None]:
    """Keep MuJoCo from printing, and logging to a file, that packages' models use old attributes.

    Other warnings of the model compiler come out as Python warnings.
    """
    import mujoco

    def handle(message: str) -> None:
        if "deprecated" not in message:
            warnings.warn(message, RuntimeWarning, stacklevel=2)

    before = mujoco.get_mju_user_warning()
    mujoco.set_mju_user_warning(handle)
    try:
        yield
    finally:
        mujoco.set_mju_user_warning(before)


FAMILY = Family(
    name="mujoco",
    title="MuJoCo",
    tasks={task.name: task for task in _TASKS},
    engines=(
        Engine("envpool", ("envpool",), _make_envpool),
        Engine("gymnasium", ("gymnasium", "mujoco"), _make_gymnasium),
    ),
    install='pip install envpool "gymnasium[mujoco]"',
)
