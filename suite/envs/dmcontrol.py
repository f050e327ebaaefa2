"""DMControl: 18 tasks of the DeepMind control suite, each from its state and from pixels.

Observation: upstream's leaves (positions, velocities, touch, ...), float32 without bounds; in the
``-pixels`` tasks the last three camera images, 64 x 64 RGB, along the last dimension, oldest first,
because a single image shows no velocity; an episode begins with its first image three times.
Action: in [-1, 1]. Reward: in [0, 1] per control step. End: never before the time limit of 1000
control steps, at which episodes truncate. Source: dm_control 1.0.50 (Tassa et al. 2018).

A decision lasts one control step; in the ``-pixels`` tasks two, with the same action and the sum of
the rewards, so that 500 decisions make an episode. Control steps are what is counted as frames; the
physics of some domains takes up to ten steps of its own in each.

EnvPool's pools and dm_control agree: the same state and actions lead to the same states, see the
parity tests. They do not in the finger domain, where they part at the first touch (EnvPool 1.2.5
carries MuJoCo 3.6, and of the domains here this one alone has elliptic friction cones); it is left
to dm_control. So are pixels: EnvPool draws no faster, opens a graphics context for every lane, and
ends the process where there is no driver. A graphics card may round colours otherwise than software
rendering does; images are the same for the same driver. Shadows are cast by a map of 512 texels
instead of upstream's 2048, which changes fewer than one value in a hundred, and hardly, and makes
drawing 1.7 to 3.5 times as fast where there is no graphics card.
"""

from __future__ import annotations

from functools import partial

import numpy as np

from suite.envs.lanes import Lanes
from suite.tasks import Bounds, Engine, Family, Lack, Task

# Packages are imported where they are used: the tasks can be listed without them.

CONTROL_STEPS = 1000
"""Per episode, in every task."""

ACTION_REPEAT = 2
"""Control steps per decision in the tasks from pixels."""

PIXELS = "-pixels"

_BOUNDS = Bounds(
    0.0,
    "lowest possible return: the reward of a control step is in [0, 1]",
    float(CONTROL_STEPS),
    "highest possible return: 1 in each of 1000 control steps",
)

_COMPLEXITY = {
    "acrobot-swingup": "high",
    "ball_in_cup-catch": "medium",
    "cartpole-balance": "low",
    "cartpole-balance_sparse": "low",
    "cartpole-swingup": "low",
    "cartpole-swingup_sparse": "medium",
    "cheetah-run": "medium",
    "finger-spin": "medium",
    "finger-turn_easy": "medium",
    "finger-turn_hard": "medium",
    "hopper-hop": "high",
    "hopper-stand": "medium",
    "pendulum-swingup": "medium",
    "reacher-easy": "low",
    "reacher-hard": "medium",
    "walker-run": "high",
    "walker-stand": "low",
    "walker-walk": "medium",
}
"""By ``domain-task``, upstream's own names."""


def _from_state(name: str) -> Task:
    return Task(
        id=f"dmcontrol/{name}",
        actions="continuous",
        horizon=CONTROL_STEPS,
        domain="robot control",
        complexity=_COMPLEXITY[name],
        paper="Tassa et al. 2018",
        bounds=_BOUNDS,
    )


def _from_pixels(name: str) -> Task:
    return Task(
        id=f"dmcontrol/{name}{PIXELS}",
        actions="continuous",
        horizon=CONTROL_STEPS // ACTION_REPEAT,
        domain="robot control from pixels",
        complexity="high",
        paper="Tassa et al. 2018",
        bounds=_BOUNDS,
        frames_per_step=ACTION_REPEAT,
        wrappers=("64x64 pixels", f"action repeat {ACTION_REPEAT}", "frame stack 3"),
    )


_TASKS = (*map(_from_state, _COMPLEXITY), *map(_from_pixels, _COMPLEXITY))


def shows_pixels(task: Task) -> bool:
    """Tell whether a task of this family is observed through its camera."""
    return task.name.endswith(PIXELS)


def pool_name(task: Task) -> str:
    """EnvPool's id: ``BallInCupCatch-v1`` for ``dmcontrol/ball_in_cup-catch``."""
    words = task.name.replace("-", "_").split("_")
    return "".join(word.capitalize() for word in words) + "-v1"


def _make_envpool(task: Task, seeds: np.ndarray, split: str, threads: int) -> Lanes:
    from suite.envs.engines import EnvpoolLanes

    return EnvpoolLanes(
        pool_name(task), seeds, horizon=task.horizon, keeps_bounds=False, threads=threads
    )


def _make_dm_control(task: Task, seeds: np.ndarray, split: str, threads: int) -> Lanes:
    from suite.envs.dmcontrol_worlds import open_lanes, open_pixel_lanes
    from suite.envs.processes import ProcessLanes
    from suite.envs.rendering import require_driver

    if not shows_pixels(task):
        return open_lanes(task, seeds)
    # Nearly all time goes into software rendering, on which threads of one process wait in turn.
    make = partial(open_pixel_lanes, task, require_driver())
    workers = min(threads, seeds.size)
    return ProcessLanes(make, seeds, workers) if workers > 1 else make(seeds)


def _agrees(task: Task) -> bool:
    return not shows_pixels(task) and not task.name.startswith("finger-")


def _lacks(task: Task) -> Lack | None:
    from suite.envs.rendering import LACK, find_driver

    return LACK if shows_pixels(task) and find_driver() is None else None


FAMILY = Family(
    name="dmcontrol",
    title="DMControl",
    tasks={task.name: task for task in _TASKS},
    engines=(
        Engine("envpool", ("envpool",), _make_envpool, supports=_agrees),
        Engine("dm_control", ("dm_control", "mujoco"), _make_dm_control, lacks=_lacks),
    ),
    install='pip install envpool dm_control "mujoco<4"',
    sets={
        "proprio-18": tuple(_COMPLEXITY),
        "pixels-18": tuple(name + PIXELS for name in _COMPLEXITY),
    },
)
