"""MiniGrid and BabyAI: gridworlds seen through a small window, with a mission in English.

Observation: ``image``, the 7x7 cells before the agent as symbols (object, colour, state);
``direction``, where it faces; ``mission``, words in numbers. Action: turn left or right, go
forward, pick up, drop, toggle (doors, boxes), done. Reward: 1 - 0.9 x steps / limit for success,
else 0. End: success, and in some tasks a mistake, terminates; the limit truncates. Source:
minigrid 3.2 (Chevalier-Boisvert et al. 2023), with the levels of BabyAI (2019).

The limit is upstream's own. In nine BabyAI levels it depends on the mission; there the horizon is
that of the longest mission.

EnvPool 1.2.5 and minigrid agree, but minigrid steps nine tasks by itself:

- Fetch and PutNear: from the second episode on, EnvPool keeps things away from where the agent
  stood last.
- ObstructedMaze: EnvPool's boxes are blue, minigrid's grey.
- ActionObjDoor: EnvPool locks some of the doors.
- PutNext...Carrying: EnvPool's first observation shows the thing in the agent's hands.
- SynthS5R2 and MiniBossLevel: both packages draw layouts, if rarely, in which the agent's room has
  no place that faces nothing, and search for one for ever. EnvPool cannot be stopped; with
  minigrid, such a layout is drawn again here.
"""

from __future__ import annotations

import numpy as np

from suite.envs.lanes import Lanes
from suite.tasks import Bounds, Engine, Family, Task

# Packages are imported where they are used: the tasks can be listed without them.

_MINIGRID = "Chevalier-Boisvert et al. 2023"
_BABYAI = "Chevalier-Boisvert et al. 2019"

_FLOOR = "failure returns 0, minigrid 3.2"
_CAP = "limit of the reward of success, 1 - 0.9 x steps / limit, minigrid 3.2"

_ZOO_12 = {
    "DoorKey-5x5": ("low", 250),
    "Empty-Random-5x5": ("low", 100),
    "FourRooms": ("medium", 100),
    "MultiRoom-N4-S5": ("high", 120),
    "Fetch-5x5-N2": ("low", 125),
    "GoToDoor-5x5": ("low", 100),
    "PutNear-6x6-N2": ("medium", 30),
    "RedBlueDoors-6x6": ("medium", 720),
    "LockedRoom": ("high", 190),
    "KeyCorridorS3R1": ("medium", 270),
    "Unlock": ("medium", 288),
    "ObstructedMaze-2Dlh": ("high", 576),
}
"""Name: complexity and limit. The tasks of RL Baselines3 Zoo, the easiest two first."""

_BABYAI_LEVELS = (
    # One room, one thing to do.
    ("low", 16, "GoToObjS4"),
    ("low", 25, "GoToLocalS5N2"),
    ("low", 36, "GoToObjS6 GoToLocalS6N2 GoToLocalS6N3 GoToLocalS6N4"),
    ("low", 49, "GoToLocalS7N4 GoToLocalS7N5 PickupDist PickupDistDebug"),
    ("low", 64, "GoToRedBallGrey GoToRedBall GoToRedBallNoDists GoToRedBlueBall GoToObj GoToLocal"),
    ("low", 64, "GoToLocalS8N2 GoToLocalS8N3 GoToLocalS8N4 GoToLocalS8N5 GoToLocalS8N6"),
    ("low", 64, "GoToLocalS8N7 PickupLoc OneRoomS8"),
    ("low", 144, "OneRoomS12"),
    ("low", 256, "OneRoomS16"),
    ("low", 400, "OneRoomS20"),
    ("low", 50, "OpenRedDoor PutNextLocalS5N3"),
    ("low", 72, "PutNextLocalS6N4"),
    ("low", 128, "PutNextLocal"),
    ("low", 441, "GoToDoor ActionObjDoor"),
    ("low", 576, "OpenDoor OpenDoorDebug OpenDoorColor OpenDoorLoc"),
    # Two things to do, things in another room, or a small maze.
    ("medium", 64, "GoToObjMazeS4R2"),
    ("medium", 72, "UnlockPickup UnlockPickupDist"),
    ("medium", 128, "PutNextS4N1"),
    ("medium", 144, "GoToObjMazeS4"),
    ("medium", 200, "PutNextS5N2 PutNextS5N1 PutNextS5N2Carrying"),
    ("medium", 225, "GoToObjMazeS5"),
    ("medium", 270, "KeyCorridorS3R1 KeyCorridorS3R2 KeyCorridorS3R3"),
    ("medium", 288, "PickupAbove PutNextS6N3 PutNextS6N3Carrying"),
    ("medium", 324, "GoToObjMazeS6"),
    ("medium", 392, "PutNextS7N4 PutNextS7N4Carrying"),
    ("medium", 441, "GoToObjMazeS7"),
    ("medium", 576, "GoTo GoToOpen GoToObjMaze GoToObjMazeOpen GoToObjDoor Open Pickup"),
    ("medium", 576, "UnlockLocal UnlockLocalDist KeyInBox BlockedUnlockPickup"),
    ("medium", 720, "OpenTwoDoors OpenRedBlueDoors OpenRedBlueDoorsDebug OpenDoorsOrderN2"),
    ("medium", 720, "OpenDoorsOrderN4 OpenDoorsOrderN2Debug OpenDoorsOrderN4Debug"),
    # Locked doors and blocked ways in a maze, or long missions.
    ("high", 300, "SynthS5R2"),
    ("high", 400, "GoToSeqS5R2 MoveTwoAcrossS5N2"),
    ("high", 480, "KeyCorridorS4R3"),
    ("high", 500, "FindObjS5"),
    ("high", 576, "UnblockPickup Unlock GoToImpUnlock"),
    ("high", 720, "FindObjS6"),
    ("high", 750, "KeyCorridorS5R3"),
    ("high", 800, "MiniBossLevel"),
    ("high", 980, "FindObjS7"),
    ("high", 1024, "MoveTwoAcrossS8N9"),
    ("high", 1080, "UnlockToUnlock KeyCorridor KeyCorridorS6R3"),
    ("high", 1152, "Synth SynthLoc"),
    ("high", 2304, "GoToSeq"),
    ("high", 4608, "SynthSeq BossLevel BossLevelNoUnlock"),
)
"""Complexity, limit (of the longest mission) and names."""

_JAT = {
    "GoToObj": (0.1336, 0.9302),
    "GoToRedBall": (0.1665, 0.9251),
    "GoToLocal": (0.1625, 0.925),
    "PickupLoc": (0.0847, 0.9145),
    "UnlockLocal": (0.0115, 0.978),
    "BossLevel": (0.0616, 0.9419),
}
"""Mean returns of a random agent and of BabyAI's bot, huggingface/jat jat/eval/rl."""

_PER_NAVIGATION = {
    "BabyAI-GoToSeq-v0": 576,
    "BabyAI-GoToSeqS5R2-v0": 100,
    "BabyAI-Synth-v0": 576,
    "BabyAI-SynthS5R2-v0": 150,
    "BabyAI-SynthLoc-v0": 576,
    "BabyAI-SynthSeq-v0": 576,
    "BabyAI-MiniBossLevel-v0": 100,
    "BabyAI-BossLevel-v0": 576,
    "BabyAI-BossLevelNoUnlock-v0": 576,
}
"""Levels whose limit depends on the mission: steps per place to go to."""

_SHORT, _LONG = 20, 72
"""Words in the longest mission: of most tasks, and of those with limits by mission. The longest of
all puts four things next to others, "the red ball on your left" being the longest name."""

_NOT_IN_ENVPOOL = frozenset(
    {
        "MiniGrid-Fetch-5x5-N2-v0",
        "MiniGrid-PutNear-6x6-N2-v0",
        "MiniGrid-ObstructedMaze-2Dlh-v0",
        "BabyAI-ActionObjDoor-v0",
        "BabyAI-PutNextS5N2Carrying-v0",
        "BabyAI-PutNextS6N3Carrying-v0",
        "BabyAI-PutNextS7N4Carrying-v0",
        "BabyAI-SynthS5R2-v0",
        "BabyAI-MiniBossLevel-v0",
    }
)
"""EnvPool's version is another task or never ends, see above and the tests."""


def _task(
    name: str, complexity: str, limit: int | None, paper: str, reference: tuple[float, float] | None
) -> Task:
    bounds = Bounds(0.0, _FLOOR, 1.0, _CAP)
    if reference is not None:
        floor, cap = reference
        source = "mean of {}, huggingface/jat jat/eval/rl/scores_dict.json"
        bounds = Bounds(floor, source.format("a random agent"), cap, source.format("BabyAI's bot"))
    return Task(
        id=f"minigrid/{name}",
        actions="discrete",
        horizon=limit,
        domain="gridworld with a mission",
        complexity=complexity,
        paper=paper,
        bounds=bounds,
    )


_LISTED = (
    *(
        _task(f"MiniGrid-{name}-v0", complexity, limit, _MINIGRID, None)
        for name, (complexity, limit) in _ZOO_12.items()
    ),
    *(
        _task(
            f"BabyAI-{name}-{'v1' if name == 'GoToObjS6' else 'v0'}",
            complexity,
            limit,
            _BABYAI,
            _JAT.get(name),
        )
        for complexity, limit, names in _BABYAI_LEVELS
        for name in names.split()
    ),
)


def find(name: str) -> Task | None:
    """Look up a registered MiniGrid or BabyAI id that is not listed; None if there is none.

    Raises:
        ModuleNotFoundError: minigrid is missing.
        ValueError: the world cannot be opened, or its missions cannot be read.
    """
    import gymnasium
    import minigrid  # noqa: F401  # registers its ids

    from suite.envs.minigrid.lanes import Worded, open_world

    if not name.startswith(("MiniGrid-", "BabyAI-")) or name not in gymnasium.registry:
        return None
    world = Worded(open_world(name, None), _SHORT)
    try:
        world.reset(seed=0)
    except FileNotFoundError as error:
        raise ValueError(f"minigrid/{name} cannot be played: {error}") from error
    limit = int(world.get_wrapper_attr("max_steps"))
    world.close()
    paper = _MINIGRID if name.startswith("MiniGrid-") else _BABYAI
    return _task(name, "unknown", limit, paper, None)


def _length(task: Task) -> int:
    return _LONG if task.name in _PER_NAVIGATION else _SHORT


def _make_envpool(task: Task, seeds: np.ndarray, split: str, threads: int) -> Lanes:
    from suite.envs.minigrid.lanes import MinigridPool

    limit = FAMILY.tasks[task.name].horizon
    assert limit is not None
    assert task.horizon is not None
    return MinigridPool(
        task.name,
        seeds,
        limit=limit,
        limit_per_navigation=_PER_NAVIGATION.get(task.name, 0),
        horizon=task.horizon,
        length=_length(task),
        threads=threads,
    )


def _make_minigrid(task: Task, seeds: np.ndarray, split: str, threads: int) -> Lanes:
    from suite.envs.minigrid.lanes import reference

    return reference(task.name, seeds, task.horizon, _length(task))


def _agrees(task: Task) -> bool:
    return task.name in FAMILY.tasks and task.name not in _NOT_IN_ENVPOOL


FAMILY = Family(
    name="minigrid",
    title="MiniGrid and BabyAI",
    tasks={task.name: task for task in _LISTED},
    engines=(
        Engine("envpool", ("envpool",), _make_envpool, supports=_agrees),
        Engine("minigrid", ("minigrid",), _make_minigrid),
    ),
    install="pip install envpool minigrid",
    find=find,
    sets={
        "zoo-12": tuple(task.name for task in _LISTED if task.paper == _MINIGRID),
        "babyai": tuple(task.name for task in _LISTED if task.paper == _BABYAI),
    },
)
