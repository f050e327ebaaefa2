"""MiniGrid: missions as words, limits and rewards, and the parity of EnvPool and minigrid.

EnvPool tells the state of a world, and a world of minigrid can be put into it. From there, the same
actions must lead along the same path to the end of the episode. How episodes begin is compared by
counting.
"""

from __future__ import annotations

import contextlib
import io
import itertools
import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import gymnasium
import numpy as np
import pytest
from minigrid.core.constants import COLOR_NAMES, IDX_TO_COLOR, OBJECT_TO_IDX, STATE_TO_IDX
from minigrid.core.grid import Grid
from minigrid.core.world_object import Ball, WorldObj
from minigrid.envs.babyai.core import verifier
from minigrid.utils.baby_ai_bot import BabyAIBot
from scipy.stats import chi2_contingency

from suite.envs.minigrid import FAMILY, find
from suite.envs.minigrid.lanes import HIGHEST_SYMBOLS, Worded, open_world
from suite.envs.minigrid.missions import WORDS, navigations, tokens, words
from suite.registry import find_task
from suite.spaces import leaf_kind
from suite.tasks import Task

POOL, REFERENCE = FAMILY.engines
SHARED = [task for task in FAMILY.tasks.values() if POOL.supports(task)]
FAST = (
    "MiniGrid-DoorKey-5x5-v0",
    "MiniGrid-RedBlueDoors-6x6-v0",
    "MiniGrid-ObstructedMaze-2Dlh-v0",
    "BabyAI-GoToSeqS5R2-v0",
)
"""Tasks of which the fast tests play what takes long for all of them."""

LEFT, RIGHT, FORWARD, PICK_UP, DROP, TOGGLE, DONE = range(7)


def by_id(tasks: list[Task], fast: tuple[str, ...] = FAST) -> dict[str, Any]:
    marks = [[] if task.name in fast else [pytest.mark.slow] for task in tasks]
    return {
        "argvalues": [
            pytest.param(task, id=task.name, marks=mark)
            for task, mark in zip(tasks, marks, strict=True)
        ]
    }


# The list of tasks.


def test_every_babyai_level_of_minigrid_is_listed():
    registered = {name for name in gymnasium.registry if name.startswith("BabyAI-")}
    assert {name for name in FAMILY.tasks if name.startswith("BabyAI-")} == registered
    assert len(FAMILY.sets["babyai"]) == len(registered) == 96
    assert len(FAMILY.sets["zoo-12"]) == 12


def test_another_registered_id_is_a_task_of_minigrid_alone():
    task = find_task("minigrid/MiniGrid-LavaGapS5-v0")
    assert (task.id, task.horizon) == ("minigrid/MiniGrid-LavaGapS5-v0", 100)
    assert [engine.name for engine in FAMILY.engines if engine.supports(task)] == ["minigrid"]
    lanes = REFERENCE.make(task, np.arange(2)[None], "train", 1)
    lanes.reset()
    ends = [lanes.step(np.full((1, 2), LEFT)).truncated.all() for _ in range(100)]
    assert ends == [False] * 99 + [True]


@pytest.mark.parametrize("name", ["MiniGrid-Nothing-v0", "CartPole-v1"])
def test_unregistered_names_and_tasks_of_other_families_are_not_found(name: str):
    assert find(name) is None


def test_a_world_whose_files_are_missing_is_refused_with_the_reason():
    with pytest.raises(ValueError, match=r"cannot be played: .*SimpleMaze"):
        find("MiniGrid-WFC-MazeSimple-v0")


# Missions.


def test_words_are_numbered_in_order_and_padded_with_zeros():
    assert list(WORDS) == sorted(set(WORDS))
    found = tokens("open the red door, then go to a ball", 10)
    assert found.dtype == words(10).dtype == np.uint8
    said = ["open", "the", "red", "door", "then", "go", "to", "a", "ball"]
    assert [WORDS[n - 1] for n in found[:9]] == said
    assert found[9] == 0


def test_an_unknown_word_is_refused():
    with pytest.raises(ValueError, match=r"not in the vocabulary: \['teapot'\]"):
        tokens("go to the teapot", 20)


def test_a_mission_that_is_too_long_is_refused():
    with pytest.raises(ValueError, match="has 4 words, more than 3"):
        tokens("go to the ball", 3)


def test_putting_a_thing_next_to_another_takes_two_navigations():
    text = "put a key next to the box and go to a ball after you open the door and pick up a key"
    assert navigations(np.stack([tokens(text, 30), tokens("go to a ball", 30)])).tolist() == [5, 1]


def longest_missions() -> Iterator[str]:
    """Missions of four instructions, every one in its longest form."""
    places = ("in front of you", "on your left", "on your right", "behind you")
    things = [
        f"the {color} {kind} {place}"
        for color, kind, place in zip(
            COLOR_NAMES * 2, ["ball", "box", "key", "door", "object"] * 3, places * 3, strict=False
        )
    ]
    front = [thing for thing in things if "front" in thing]
    do = (f"put {front[0]} next to {front[1]}", *(f"go to {thing}" for thing in things))
    for join in (", then ", " after you "):
        for one in do:
            yield f"{do[0]} and {one}{join}{do[0]} and {do[0]}"


def test_the_longest_missions_that_babyai_could_give_fit():
    lengths = [np.count_nonzero(tokens(text, 72)) for text in longest_missions()]
    assert max(lengths) == 72


def missions_of(task: Task, resets: int) -> set[str]:
    """Missions as minigrid gives them."""
    world = open_world(task.name, None).unwrapped
    with contextlib.redirect_stdout(io.StringIO()):
        return {world.reset(seed=seed)[0]["mission"] for seed in range(resets)}


@pytest.mark.parametrize("task", FAMILY.tasks.values(), ids=lambda task: task.name)
def test_the_words_of_every_task_are_known(task: Task):
    missions = missions_of(task, 15)
    length = REFERENCE.make(task, np.array([[0]]), "train", 1).spaces.observation["mission"].length
    for mission in missions:
        numbers = tokens(mission, length)
        assert [WORDS[n - 1] for n in numbers if n] == re.findall("[a-z]+", mission)


def other_worlds() -> list[str]:
    """MiniGrid's other ids; those made by wave function collapse lack files in the package."""
    found = (name for name in gymnasium.registry if name.startswith("MiniGrid-"))
    return sorted(name for name in found if name not in FAMILY.tasks and "WFC" not in name)


@pytest.mark.slow
@pytest.mark.parametrize("name", other_worlds())
def test_the_words_of_other_worlds_are_known(name: str):
    task = find(name)
    assert task is not None
    for mission in missions_of(task, 200):
        tokens(mission, 20)


# Observations, limits, rewards.


def test_the_window_is_made_of_symbols():
    space = REFERENCE.make(SHARED[0], np.array([[0]]), "train", 1).spaces.observation["image"]
    assert leaf_kind(space) == "symbols"
    kinds, colors, states = OBJECT_TO_IDX.values(), IDX_TO_COLOR, STATE_TO_IDX.values()
    assert (max(kinds), max(colors), max(states)) == HIGHEST_SYMBOLS
    assert (space.high == HIGHEST_SYMBOLS).all()


@pytest.mark.parametrize("task", FAMILY.tasks.values(), ids=lambda task: task.name)
def test_the_horizon_is_the_longest_limit_of_upstream(task: Task):
    world = open_world(task.name, None).unwrapped
    limits = set()
    for seed in range(15):
        with contextlib.redirect_stdout(io.StringIO()):
            mission = world.reset(seed=seed)[0]["mission"]
        limits.add(world.max_steps)
        if not getattr(world, "fixed_max_steps", True):
            unit = world.room_size**2 * world.num_rows * world.num_cols
            assert world.max_steps == navigations(tokens(mission, 72)) * unit
            assert task.horizon % unit == 0
    assert max(limits) <= task.horizon
    assert len(limits) > 1 or limits == {task.horizon}


def run_to_goal(observation: dict[str, np.ndarray]) -> int:
    """Go to a goal that is in sight in Empty-Random-5x5, one action at a time."""
    columns, rows = np.nonzero(observation["image"][0, 0, :, :, 0] == OBJECT_TO_IDX["goal"])
    if columns.size == 0:
        return RIGHT
    side, ahead = columns[0] - 3, 6 - rows[0]
    if ahead > 0:
        return FORWARD
    return RIGHT if side > 0 else LEFT


@pytest.mark.parametrize("engine", FAMILY.engines, ids=lambda engine: engine.name)
@pytest.mark.parametrize(("late", "ends"), [(0, "termination"), (1, "truncation")])
def test_a_success_at_the_very_limit_is_a_termination_worth_a_tenth(
    engine: Any, late: int, ends: str
):
    task = FAMILY.tasks["MiniGrid-Empty-Random-5x5-v0"]
    shortest = 0
    lanes = engine.make(task, np.array([[3]]), "train", 1)
    obs = lanes.reset()
    while True:
        shortest += 1
        outcome = lanes.step(np.array([[run_to_goal(obs)]]))
        obs = outcome.obs
        if outcome.terminated[0, 0]:
            break
    assert outcome.reward[0, 0] == np.float32(1 - 0.9 * shortest / 100)
    lanes = engine.make(task, np.array([[3]]), "train", 1)
    obs = lanes.reset()
    for step in range(1, 101):
        wait = step <= 100 + late - shortest
        outcome = lanes.step(np.array([[DONE if wait else run_to_goal(obs)]]))
        obs = outcome.obs
    assert (outcome.terminated[0, 0], outcome.truncated[0, 0]) == (
        ends == "termination",
        ends == "truncation",
    )
    assert outcome.reward[0, 0] == (np.float32(1 - 0.9) if ends == "termination" else 0)


@pytest.mark.parametrize("engine", FAMILY.engines, ids=lambda engine: engine.name)
def test_a_mistake_at_the_very_limit_is_a_termination_worth_nothing(engine: Any):
    task = FAMILY.tasks["MiniGrid-GoToDoor-5x5-v0"]
    lanes = engine.make(task, np.arange(4)[None], "train", 1)
    lanes.reset()
    for step in range(1, 101):
        outcome = lanes.step(np.full((1, 4), TOGGLE if step == 100 else LEFT))
    assert outcome.terminated.all()
    assert not outcome.truncated.any()
    assert not outcome.reward.any()


@pytest.mark.parametrize("engine", FAMILY.engines, ids=lambda engine: engine.name)
def test_limits_by_mission_follow_the_mission_of_every_episode(engine: Any):
    task = FAMILY.tasks["BabyAI-GoToSeqS5R2-v0"]
    lanes = engine.make(task, np.arange(8)[None], "train", 1)
    mission = lanes.reset()["mission"][0]
    begun, seen = np.zeros(8, np.int64), set()
    for step in range(1, 501):
        outcome = lanes.step(np.full((1, 8), DONE))
        for lane in np.flatnonzero(outcome.truncated[0]):
            assert step - begun[lane] == 100 * navigations(mission[lane])
            seen.add(step - begun[lane])
        begun[(outcome.terminated | outcome.truncated)[0]] = step
        mission = outcome.obs["mission"][0]
    assert len(seen) > 2


# Parity: a world of minigrid is put into the state of EnvPool's.


class Twin:
    """A pool of one lane, and minigrid's world in the same state."""

    def __init__(self, task: Task, seed: int) -> None:
        self.lanes = POOL.make(task, np.array([[seed]]), "train", 1)
        self.observation = self.lanes.reset()
        with contextlib.redirect_stdout(io.StringIO()):
            self.world = open_world(task.name, None).unwrapped
            self.world.reset(seed=0)
        self.task = task
        self.follow()

    def follow(self) -> None:
        """Put minigrid's world where the pool's episode begins."""
        [state] = self.lanes._pool._debug_states(np.zeros(1, np.int32))
        world = self.world
        world.grid = grid_of(state)
        world.agent_pos, world.agent_dir = tuple(state.agent_pos), state.agent_dir
        world.step_count, world.carrying = 0, None
        world.mission = state.mission
        target = world.grid.get(*state.target_pos) if min(state.target_pos) >= 0 else None
        things = {(t.type, t.color): t for t in world.grid.grid if t is not None}
        doors = [t for t in world.grid.grid if t is not None and t.type == "door"]
        if self.task.name.startswith("BabyAI-"):
            world.instrs = instruction(state.mission, STRICT.get(self.task.name, (False, False)))
            world.instrs.reset_verifier(world)
            if not world.fixed_max_steps:
                cells = world.room_size**2 * world.num_rows * world.num_cols
                world.max_steps = cells * world.num_navs_needed(world.instrs)
        elif "GoToDoor" in self.task.name:
            world.target_pos = tuple(state.target_pos)
            world.target_color = IDX_TO_COLOR[state.target_color]
        elif "RedBlueDoors" in self.task.name:
            world.red_door, world.blue_door = things["door", "red"], things["door", "blue"]
        elif "Unlock" in self.task.name:
            [world.door] = doors
        else:
            world.obj = target

    def step(self, action: int) -> tuple[float, bool]:
        """Step both, compare, and begin anew where the episode ended; the reward and the end."""
        expected, reward, terminated, truncated, _ = self.world.step(action)
        outcome = self.lanes.step(np.array([[action]]))
        length = outcome.obs["mission"].shape[-1]
        np.testing.assert_array_equal(outcome.next_obs["image"][0, 0], expected["image"])
        assert outcome.next_obs["direction"][0, 0] == expected["direction"]
        np.testing.assert_array_equal(
            outcome.next_obs["mission"][0, 0], tokens(expected["mission"], length)
        )
        assert outcome.reward[0, 0] == np.float32(reward)
        assert outcome.terminated[0, 0] == terminated
        assert outcome.truncated[0, 0] == (truncated and not terminated)
        if terminated or truncated:
            self.follow()
        return reward, terminated or truncated


def grid_of(state: Any) -> Grid:
    grid = Grid(state.width, state.height)
    shape = state.width, state.height, 3
    cells = np.array(state.grid, np.uint8).reshape(shape).tolist()
    insides = np.array(state.grid_contains, np.uint8).reshape(shape).tolist()
    for place in itertools.product(range(state.width), range(state.height)):
        thing = WorldObj.decode(*cells[place[0]][place[1]])
        if thing is not None:
            thing.init_pos = thing.cur_pos = place
            inside = WorldObj.decode(*insides[place[0]][place[1]])
            if inside is not None:
                thing.contains = inside
            grid.set(*place, thing)
    return grid


PLACES = {"in front of you": "front", "behind you": "behind", "on your left": "left"}
PLACES["on your right"] = "right"


def description(text: str) -> verifier.ObjDesc:
    place = next((place for place in PLACES if text.endswith(place)), None)
    _, *color, kind = text.removesuffix(place or "").split()
    kind = None if kind == "object" else kind
    return verifier.ObjDesc(kind, *(color or [None]), loc=PLACES.get(place))


STRICT = {
    "BabyAI-OpenRedBlueDoorsDebug-v0": (True, False),
    "BabyAI-OpenDoorDebug-v0": (True, True),
    "BabyAI-OpenDoorsOrderN2Debug-v0": (True, True),
    "BabyAI-OpenDoorsOrderN4Debug-v0": (True, True),
    "BabyAI-PickupDistDebug-v0": (True, True),
}
"""Levels in which a mistake ends the episode: in the first and in the second instruction."""


def instruction(text: str, is_strict: tuple[bool, bool]) -> verifier.Instr:
    """Read a mission of BabyAI."""
    joins = {
        ", then ": verifier.BeforeInstr,
        " after you ": verifier.AfterInstr,
        " and ": verifier.AndInstr,
    }
    for join, kind in joins.items():
        if join in text:
            parts = zip(text.split(join), is_strict, strict=True)
            return kind(*(instruction(part, (strict, strict)) for part, strict in parts))
    if text.startswith("put "):
        move, fixed = text.removeprefix("put ").split(" next to ")
        return verifier.PutNextInstr(description(move), description(fixed))
    if text.startswith("go to "):
        return verifier.GoToInstr(description(text.removeprefix("go to ")))
    verb = "open " if text.startswith("open ") else "pick up "
    kind = verifier.OpenInstr if verb == "open " else verifier.PickupInstr
    return kind(description(text.removeprefix(verb)), strict=is_strict[0])


UNSOLVED = frozenset({"BabyAI-KeyInBox-v0", "BabyAI-UnlockToUnlock-v0"})
"""Levels that BabyAI's bot cannot play, by its own description; in the second it plans for ever."""


@pytest.mark.parametrize("task", **by_id(SHARED))
def test_both_engines_follow_the_same_path(task: Task):
    """At random; in levels of BabyAI, every other episode is played by its bot."""
    rng = np.random.default_rng(0)
    twin = Twin(task, seed=1)
    has_bot = task.name.startswith("BabyAI-") and task.name not in UNSOLVED
    episode, successes, bot = 0, 0, None
    for drawn in rng.choice(7, 1500, p=[0.15, 0.15, 0.36, 0.1, 0.05, 0.15, 0.04]):
        if has_bot and episode % 2 == 0:
            bot = bot or BabyAIBot(twin.world)
        action = int(drawn) if bot is None else int(bot.replan())
        reward, has_ended = twin.step(action)
        successes += reward > 0
        if has_ended:
            episode, bot = episode + 1, None
    assert episode > 0
    assert successes > 0 or not has_bot


# Parity: episodes begin alike.


def beginnings(task: Task, engine: Any, seeds: np.ndarray, rounds: int) -> np.ndarray:
    """First observations of the first and of later episodes, flat: ``[episodes, features]``."""
    horizon = 3
    lanes = engine.make(replace(task, horizon=horizon), seeds[None], "train", 1)
    rng = np.random.default_rng(1)
    found = [lanes.reset()]
    while len(found) < rounds:
        for _ in range(horizon):
            outcome = lanes.step(rng.choice([LEFT, FORWARD], (1, len(seeds))))
        found.append(outcome.obs)
    leaves = ("image", "direction", "mission")
    rows = [[obs[name].reshape(len(seeds), -1) for name in leaves] for obs in found]
    return np.concatenate([np.concatenate(row, axis=1) for row in rows])


def smallest_pvalue(first: np.ndarray, second: np.ndarray) -> float:
    """Of chi-square tests, feature by feature; values that are rare in both count as one."""
    smallest = 1.0
    for mine, theirs in zip(first.T, second.T, strict=True):
        table = np.array([np.bincount(values, minlength=256) for values in (mine, theirs)])
        rare = table.sum(axis=0) < 20
        table = np.column_stack([table[:, ~rare], table[:, rare].sum(axis=1)])
        table = table[:, table.sum(axis=0) > 0]
        if table.shape[1] > 1:
            smallest = min(smallest, chi2_contingency(table).pvalue)
    return smallest


@pytest.mark.parametrize("task", **by_id(SHARED, fast=FAST[:2]))
def test_episodes_begin_alike(task: Task):
    ours = beginnings(task, POOL, np.arange(100), rounds=8)
    reference = beginnings(task, REFERENCE, np.arange(100), rounds=8)
    assert smallest_pvalue(ours, reference) > 1e-5


BEGIN_OTHERWISE = {
    "MiniGrid-ObstructedMaze-2Dlh-v0": "the color of boxes",
    "BabyAI-ActionObjDoor-v0": "locked doors",
    "BabyAI-PutNextS5N2Carrying-v0": "the thing in hand",
    "BabyAI-PutNextS6N3Carrying-v0": "the thing in hand",
    "BabyAI-PutNextS7N4Carrying-v0": "the thing in hand",
}


@pytest.mark.parametrize("task", **by_id([FAMILY.tasks[name] for name in BEGIN_OTHERWISE]))
def test_episodes_begin_otherwise_in_envpool_and_are_left_to_minigrid(task: Task):
    ours = beginnings(task, POOL, np.arange(100), rounds=8)
    reference = beginnings(task, REFERENCE, np.arange(100), rounds=8)
    assert smallest_pvalue(ours, reference) < 1e-7
    assert not POOL.supports(task)


@pytest.mark.parametrize("name", ["MiniGrid-Fetch-5x5-N2-v0", "MiniGrid-PutNear-6x6-N2-v0"])
def test_later_episodes_begin_otherwise_in_envpool_and_are_left_to_minigrid(name: str):
    """EnvPool never puts a thing where the agent stood last."""
    task = FAMILY.tasks[name]
    lanes = POOL.make(task, np.arange(100)[None], "train", 1)
    world = open_world(task.name, None).unwrapped
    covered = dict.fromkeys(("envpool", "minigrid"), 0)
    lanes.reset()
    world.reset(seed=0)
    for _ in range(4):
        before = lanes._pool._debug_states(np.arange(100, dtype=np.int32))
        lanes.reset()
        after = lanes._pool._debug_states(np.arange(100, dtype=np.int32))
        for old, new in zip(before, after, strict=True):
            covered["envpool"] += grid_of(new).get(*old.agent_pos) is not None
            place = world.agent_pos
            world.reset()
            covered["minigrid"] += world.grid.get(*place) is not None
    assert covered["envpool"] == 0
    assert covered["minigrid"] > 20
    assert not POOL.supports(task)
    lanes.close()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "seed", "resets"),
    [("BabyAI-SynthS5R2-v0", 0, 30), ("BabyAI-MiniBossLevel-v0", 100, 70_000)],
)
def test_envpool_searches_for_ever_in_levels_that_are_left_to_minigrid(
    name: str, seed: int, resets: int
):
    code = (
        "import envpool, sys;"
        f"pool = envpool.make_gymnasium({name!r}, num_envs=16, num_threads=1,"
        f" seed=list(range({seed}, {seed + 16})));"
        f"[pool.reset() for _ in range({resets})]"
    )
    with pytest.raises(subprocess.TimeoutExpired):
        subprocess.run([sys.executable, "-c", code], timeout=0.003 * resets + 20, check=False)
    assert not POOL.supports(FAMILY.tasks[name])


def test_a_layout_in_which_the_agent_cannot_stand_is_drawn_again(monkeypatch: pytest.MonkeyPatch):
    """Things fill all of the only room but one cell, so that the agent could only face things."""
    monkeypatch.setattr("suite.envs.minigrid.lanes.MOST_PLACES_OF_AGENT", 30)
    world = Worded(open_world("BabyAI-GoToObj-v0", None), 20)
    level, drawn = world.unwrapped, []
    draw = level.gen_mission

    def crowded_at_first() -> None:
        drawn.append(len(drawn))
        if len(drawn) == 1:
            for place in itertools.product(range(1, 7), range(1, 7)):
                if place != (3, 3):
                    level.put_obj(Ball("red"), *place)
            level.agent_pos = (-1, -1)
            level.place_agent(0, 0)
        draw()

    level.gen_mission = crowded_at_first
    world.reset(seed=0)
    assert drawn == [0, 1]


@pytest.mark.parametrize("name", ["BabyAI-GoToLocal-v0"])
def test_rejected_layouts_are_not_printed(name: str, capsys: pytest.CaptureFixture[str]):
    world = open_world(name, None)
    for seed in range(20):
        world.reset(seed=seed)
    assert "Sampling rejected" in capsys.readouterr().out
    world = Worded(world, 20)
    for seed in range(20):
        world.reset(seed=seed)
    assert capsys.readouterr().out == ""
