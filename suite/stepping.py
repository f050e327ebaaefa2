"""How fast lanes step, beside the package that a family stands on, as ratios taken in one run.

Ours: 2 seeds x 8 lanes of the family's default engine on two threads. The package alone: as many
environments stepped the way its own documentation shows, in a loop or by its own vector
environment. Both take turns with the same random actions in one process.
"""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from importlib import metadata
from statistics import geometric_mean, median
from typing import Any

import numpy as np

from suite.names import family_of
from suite.registry import engine_for, find_task, load_family
from suite.spaces import ActionSpace, Box, Discrete
from suite.streams import lane_seeds

SEEDS, LANES, THREADS = 2, 8, 2

Step = Callable[[np.ndarray], object]
"""Steps all environments once, given actions ``[S * E, ...]``; starts anew what has ended."""


@dataclass(frozen=True)
class Rates:
    """Steps per second of all 16 environments together, medians over the rounds."""

    task: str
    package: str
    """Name and version of what ours is compared with."""
    ours: float
    alone: float
    ratio: float
    """Above 1: ours is faster."""


def _loop(name: str, count: int) -> Step:
    import gymnasium

    envs = [gymnasium.make(name, disable_env_checker=True) for _ in range(count)]
    for seed, env in enumerate(envs):
        env.reset(seed=seed)

    def step(actions: np.ndarray) -> None:
        for env, action in zip(envs, actions, strict=True):
            _, _, terminated, truncated, _ = env.step(action)
            if terminated or truncated:
                env.reset()

    return step


def _mujoco(name: str, count: int) -> Step:
    from suite.envs.mujoco import deprecations_silenced

    with deprecations_silenced():
        return _loop(name, count)


def _nle(name: str, count: int) -> Step:
    import nle.env  # noqa: F401, registers the tasks

    with warnings.catch_warnings():
        # a rare opening that NLE does not get past; it begins another game by itself
        warnings.filterwarnings("ignore", "Not in moveloop", UserWarning)
        return _loop(name, count)


def _minigrid(name: str, count: int) -> Step:
    import minigrid  # noqa: F401, registers the tasks

    return _loop(name, count)


def _dm_control(name: str, count: int) -> Step:
    from suite.envs.dmcontrol_worlds import load

    worlds = [load(find_task(f"dmcontrol/{name}"), seed) for seed in range(count)]
    for world in worlds:
        world.reset()

    def step(actions: np.ndarray) -> None:
        for world, action in zip(worlds, actions, strict=True):
            if world.step(action).last():
                world.reset()

    return step


def _ale(name: str, count: int) -> Step:
    from ale_py.vector_env import AtariVectorEnv

    game = name.removesuffix("-v5").lower()
    envs = AtariVectorEnv(
        game,
        count,
        num_threads=THREADS,
        repeat_action_probability=0.25,
        noop_max=31,
        use_fire_reset=False,
        reward_clipping=True,
        autoreset_mode="SameStep",
    )
    envs.reset(seed=np.arange(count))
    step: Step = envs.step
    return step


def _procgen(name: str, count: int) -> Step:
    from suite.envs.procgen import known_remarks_silenced

    with known_remarks_silenced():
        from procgen import ProcgenGym3Env

    game, mode = name.split("-")
    vector = ProcgenGym3Env(
        num=count,
        env_name=game,
        distribution_mode=mode,
        start_level=0,
        num_levels=200,
        rand_seed=1,
        num_threads=THREADS,
    )
    vector.observe()

    def step(actions: np.ndarray) -> None:
        vector.act(actions)
        vector.observe()

    return step


PACKAGES: Mapping[str, tuple[str, Callable[[str, int], Step]]] = {
    "mujoco": ("gymnasium", _mujoco),
    "dmcontrol": ("dm_control", _dm_control),
    "minigrid": ("minigrid", _minigrid),
    "nethack": ("nle", _nle),
    "atari": ("ale-py", _ale),
    "procgen": ("procgen-mirror", _procgen),
}
"""What each family is compared with: a distribution, and how it is stepped without us."""


def compared_tasks() -> list[str]:
    """Name all robots' tasks, and one of each other family.

    How a robot compares depends on its weight: a light one is slow in Python, a heavy one in its
    physics.
    """
    dmcontrol = load_family("dmcontrol")
    return [
        *(task.id for task in load_family("mujoco").tasks.values()),
        *(dmcontrol.tasks[name].id for name in dmcontrol.sets["proprio-18"]),
        "minigrid/MiniGrid-DoorKey-5x5-v0",
        "nethack/NetHackScore-v0",
        "atari/Pong-v5",
        "procgen/coinrun-easy",
    ]


def run_stepping(rounds: int, tell: Callable[[str], None] = lambda text: None) -> list[Rates]:
    """Compare all of :func:`compared_tasks`; ``tell`` is called with a line before each."""
    rates = []
    for task in compared_tasks():
        tell(f"stepping {task}: {rounds} rounds")
        rates.append(compare(task, rounds))
    return rates


def family_ratios(rates: Iterable[Rates]) -> dict[str, float]:
    """Geometric mean of the ratios of each family's tasks."""
    ratios: dict[str, list[float]] = {}
    for each in rates:
        ratios.setdefault(family_of(each.task), []).append(each.ratio)
    return {family: geometric_mean(each) for family, each in ratios.items()}


def compare(task_id: str, rounds: int, steps: int = 200) -> Rates:
    """Step both sides ``rounds`` times in turn, ``steps`` steps of every lane each."""
    package, make = PACKAGES[family_of(task_id)]
    task = find_task(task_id)
    seeds = lane_seeds(range(SEEDS), "train", 0, LANES)
    lanes = engine_for(task).make(task, seeds, "train", THREADS)
    ours: list[float] = []
    alone: list[float] = []
    try:
        lanes.reset()
        step = make(task.name, seeds.size)
        for turn in range(rounds):
            actions = _random_actions(lanes.spaces.action, steps, turn)
            alone.append(_seconds(step, actions))
            shape = (SEEDS, LANES, *actions.shape[2:])
            ours.append(_seconds(lanes.step, actions.reshape(steps, *shape)))
        if lanes.failures:  # dead lanes are fast
            raise RuntimeError(f"{task_id}: {'; '.join(lanes.failures.values())}")
    finally:
        lanes.close()
    total = steps * seeds.size
    return Rates(
        task=task_id,
        package=f"{package} {metadata.version(package)}",
        ours=total / median(ours),
        alone=total / median(alone),
        ratio=median(alone) / median(ours),
    )


def _seconds(step: Callable[[Any], object], actions: np.ndarray) -> float:
    begin = time.perf_counter()
    for action in actions:
        step(action)
    return time.perf_counter() - begin


def _random_actions(space: ActionSpace, steps: int, seed: int) -> np.ndarray:
    """Uniform actions ``[steps, S * E, ...]``."""
    rng, shape = np.random.default_rng(seed), (steps, SEEDS * LANES)
    if isinstance(space, Box):
        return rng.uniform(space.low, space.high, (*shape, *space.shape)).astype(np.float32)
    sizes = space.n if isinstance(space, Discrete) else np.array(space.sizes)
    return rng.integers(0, sizes, (*shape, *space.shape))
