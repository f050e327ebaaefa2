"""Gymnasium: classic control, Box2D physics and toy text, and any other registered id.

Observation: a few numbers, or the index of a cell. Action: one of a few, or a short vector. Reward
and end: upstream's own. Source: Gymnasium 1.4 (Towers et al. 2024), heir of Brockman et al. 2016.

Differences from upstream:

- CliffWalking has no time limit upstream; here it truncates after 200 decisions, so that a policy
  that never arrives can be evaluated. Its upstream id is CliffWalking-v1.
- Taxi-v3 is called Taxi-v4 in Gymnasium 1.4, which changed only its optional rain and fickleness.
- Observations of Box2D tasks have no bounds: upstream declares some, and its physics leaves them.

EnvPool steps all tasks on which it agrees with Gymnasium. It does not on two: its Taxi also begins
with the passenger at the destination already, and its Pendulum turns by the angular velocity from
before the speed limit rather than after.
"""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, Any

import numpy as np

from suite.envs import mujoco
from suite.envs.lanes import Lanes
from suite.tasks import Bounds, Engine, Family, Task

if TYPE_CHECKING:
    import gymnasium

# Packages are imported where they are used: the tasks can be listed without them.

_RANDOM = "mean of a uniform random policy, Gymnasium 1.2, {} episodes"
_THRESHOLD = "reward threshold registered in Gymnasium"
_PAPER = "Brockman et al. 2016"

CLIFF_WALKING_HORIZON = 200
"""Decisions; the shortest way takes 13."""

_UPSTREAM = {"CliffWalking": "CliffWalking-v1", "Taxi-v3": "Taxi-v4"}
"""Where Gymnasium 1.4 has another id than we and EnvPool."""

_POOLS = {"CliffWalking": "CliffWalking-v1"}
"""Where EnvPool has another id."""

_DISAGREES = frozenset({"Pendulum-v1", "Taxi-v3"})
"""EnvPool's version is another task, see above and the parity tests."""

_CLASSIC, _BOX2D, _TOY = "classic control", "Box2D physics", "toy text"
_DOMAINS = {"classic_control": _CLASSIC, "box2d": _BOX2D, "toy_text": _TOY}
"""By Gymnasium's own folders."""


def _task(
    name: str,
    domain: str,
    actions: str,
    horizon: int,
    floor: float,
    cap: float,
    *,
    complexity: str = "low",
    floor_source: str = _RANDOM.format(200),
    cap_source: str = _THRESHOLD,
    wrappers: tuple[str, ...] = (),
) -> Task:
    return Task(
        id=f"gymnasium/{name}",
        actions=actions,
        horizon=horizon,
        domain=domain,
        complexity=complexity,
        paper=_PAPER,
        bounds=Bounds(floor, floor_source, cap, cap_source),
        wrappers=wrappers,
    )


_LISTED = (
    _task("CartPole-v1", _CLASSIC, "discrete", 500, 22.69, 475.0),
    _task("Acrobot-v1", _CLASSIC, "discrete", 500, -497.37, -100.0),
    _task("MountainCar-v0", _CLASSIC, "discrete", 200, -200.0, -110.0),
    _task("MountainCarContinuous-v0", _CLASSIC, "continuous", 999, -33.21, 90.0),
    _task(
        "Pendulum-v1",
        _CLASSIC,
        "continuous",
        200,
        -1255.55,
        -150.0,
        cap_source="rounded from TD3, TQC and DDPG, DLR-RM/rl-baselines3-zoo benchmark.md",
    ),
    _task("LunarLander-v3", _BOX2D, "discrete", 1000, -185.49, 200.0, complexity="medium"),
    _task(
        "LunarLanderContinuous-v3",
        _BOX2D,
        "continuous",
        1000,
        -212.5,
        200.0,
        complexity="medium",
    ),
    _task(
        "BipedalWalker-v3",
        _BOX2D,
        "continuous",
        1600,
        -102.45,
        300.0,
        complexity="high",
        floor_source=_RANDOM.format(144),
    ),
    _task("FrozenLake-v1", _TOY, "discrete", 100, 0.0033, 0.7, floor_source=_RANDOM.format(300)),
    _task("Taxi-v3", _TOY, "discrete", 200, -774.31, 8.0, floor_source=_RANDOM.format(300)),
    _task(
        "CliffWalking",
        _TOY,
        "discrete",
        CLIFF_WALKING_HORIZON,
        -2079.116,
        -13.0,
        floor_source="uniform random policy, exact by dynamic programming over 200 decisions",
        cap_source="the shortest way (Sutton and Barto 2018, example 6.6)",
        wrappers=(f"TimeLimit({CLIFF_WALKING_HORIZON})",),
    ),
)


@cache
def find(name: str) -> Task | None:
    """Look up a registered Gymnasium id that is not listed; None if there is none.

    Raises:
        ModuleNotFoundError: Gymnasium, or a package that the environment needs, is missing.
        ValueError: no algorithm could read its spaces.
    """
    import gymnasium

    from suite.envs.engines import read_observation_space, read_space

    if name in mujoco.FAMILY.tasks:  # one task, one identity
        return None
    try:
        spec = gymnasium.spec(name)
    except gymnasium.error.Error:
        return None
    env = _open(name, None)
    read_observation_space(env.observation_space)
    space = read_space(env.action_space).space
    env.close()
    kinds = {"Box": "continuous", "Discrete": "discrete", "MultiDiscrete": "multidiscrete"}
    folders = str(spec.entry_point).split(":", maxsplit=1)[0].split(".")
    return Task(
        id=f"gymnasium/{name}",
        actions=kinds[type(space).__name__],
        horizon=spec.max_episode_steps,
        domain=next((_DOMAINS[folder] for folder in folders if folder in _DOMAINS), "other"),
        complexity="unknown",
        paper=_PAPER,
    )


def _open(name: str, horizon: int | None) -> gymnasium.Env[Any, Any]:
    """Open one environment; ``horizon`` None keeps the registered limit."""
    import gymnasium

    name = _UPSTREAM.get(name, name)
    try:
        return gymnasium.make(name, max_episode_steps=horizon, disable_env_checker=True)
    except gymnasium.error.DependencyNotInstalled as error:
        raise ModuleNotFoundError(str(error)) from error


def _make_envpool(task: Task, seeds: np.ndarray, split: str, threads: int) -> Lanes:
    from suite.envs.engines import EnvpoolLanes

    name = _POOLS.get(task.name, task.name)
    return EnvpoolLanes(
        name,
        seeds,
        horizon=task.horizon,
        keeps_bounds=task.domain != _BOX2D,
        threads=threads,
    )


def _make_gymnasium(task: Task, seeds: np.ndarray, split: str, threads: int) -> Lanes:
    from suite.envs.engines import GymnasiumLanes

    return GymnasiumLanes(
        lambda: _open(task.name, task.horizon), seeds, keeps_bounds=task.domain != _BOX2D
    )


def _agrees(task: Task) -> bool:
    return task.name in FAMILY.tasks and task.name not in _DISAGREES


FAMILY = Family(
    name="gymnasium",
    title="Gymnasium",
    tasks={task.name: task for task in _LISTED},
    engines=(
        Engine("envpool", ("envpool",), _make_envpool, supports=_agrees),
        Engine("gymnasium", ("gymnasium", "Box2D"), _make_gymnasium),
    ),
    install='pip install envpool "gymnasium[box2d]"',
    find=find,
)
