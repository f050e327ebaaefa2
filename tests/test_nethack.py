"""NetHack: NLE's own numbers, episodes that follow from seeds alone, and processes that may die."""

from __future__ import annotations

import _ctypes
import ctypes
import inspect
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import gymnasium
import nle.env.tasks
import numpy as np
import pandas as pd
import pytest
from nle import nethack
from test_environments import assert_same, play, random_actions

from suite import runner
from suite.bench import Bench
from suite.cells import Request, find_cells
from suite.envs.nethack import CROP, FAMILY, OBSERVATION, RECORD, STONE, Game, NetHackLanes
from suite.executors import Event, Finished, Job
from suite.records import Record, load
from suite.spaces import Discrete, contains
from suite.steps import LaneStep
from suite.streams import lane_seeds
from suite.tasks import Task

ROOT = Path(__file__).parent.parent
SCORE = FAMILY.tasks["NetHackScore-v0"]
CHALLENGE = FAMILY.tasks["NetHackChallenge-v0"]
TASKS = {"argvalues": list(FAMILY.tasks.values()), "ids": list(FAMILY.tasks)}
LEAVES = tuple(name for name in OBSERVATION if name != "crop")


def world(task: Task) -> Any:
    return getattr(nle.env.tasks, task.name.removesuffix("-v0"))


def make(seeds: Any, task: Task = SCORE, threads: int = 1) -> NetHackLanes:
    lanes = FAMILY.engines[0].make(task, np.array(seeds), "train", threads)
    assert isinstance(lanes, NetHackLanes)
    return lanes


@pytest.fixture
def record() -> np.ndarray:
    return np.zeros(1, RECORD)


@pytest.fixture
def open_game(record: np.ndarray) -> Iterator[Callable[..., Game]]:
    """Opens games in this process, and closes them at the end."""
    games: list[Game] = []

    def open_one(seed: int = 0, task: Task = SCORE, horizon: int = 5000) -> Game:
        games.append(Game(task.name, horizon, seed, record))
        games[-1].begin()
        return games[-1]

    yield open_one
    for game in games:
        game.env.close()


@pytest.mark.parametrize("task", **TASKS)
def test_spaces_and_limits_are_those_of_nle(task: Task):
    env = gymnasium.make(f"nle.env:{task.name}", observation_keys=LEAVES).unwrapped
    spaces = make([[0]], task).spaces
    assert spaces.action == Discrete(int(env.action_space.n))
    for name in LEAVES:
        theirs, ours = env.observation_space[name], OBSERVATION[name]
        assert ours.shape == theirs.shape
        if name not in ("blstats", "message"):
            assert (ours.dtype, ours.low.min(), ours.high.max()) == (
                theirs.dtype,
                theirs.low.min(),
                theirs.high.max(),
            )
    assert OBSERVATION["message"].vocabulary == 1 + int(env.observation_space["message"].high.max())
    default = inspect.signature(nle.env.base.NLE).parameters["max_episode_steps"].default
    own = inspect.signature(world(task)).parameters.get("max_episode_steps")
    assert task.horizon == (own.default if own else default)
    assert nethack.GLYPH_CMAP_OFF == STONE
    env.close()


def reference(task: Task, seed: int, episode: int) -> tuple[Any, dict[str, np.ndarray]]:
    """An environment of NLE that was made for one episode of a lane."""
    core, disp, _ = np.random.SeedSequence((seed, episode)).generate_state(3, np.uint64).tolist()
    env = world(task)(observation_keys=LEAVES, fix_moon_phase=True)
    nethack.Nethack.set_initial_seeds(env.nethack, core, disp, False)
    return env, env.reset()[0]


@pytest.mark.parametrize("task", **TASKS)
def test_every_episode_is_one_of_nle_stepped_by_hand(task: Task):
    """Also the second and the third, of which the first was cut in the middle."""
    lanes = make([[7]], replace(task, horizon=60))
    first = lanes.reset()
    episode, steps = 0, 0
    env, expected = reference(task, 7, episode)
    for action in random_actions(lanes.spaces.action, (1, 1), 150):
        for name in LEAVES:
            np.testing.assert_array_equal(first[name][0, 0], expected[name])
        outcome = lanes.step(action)
        expected, reward, _, _, info = env.step(int(action[0, 0]))
        steps += 1
        assert outcome.reward[0, 0] == np.float32(reward)
        assert outcome.terminated[0, 0] == (info["end_status"] > 0)
        assert outcome.truncated[0, 0] == (steps == 60 and info["end_status"] == 0)
        if info["end_status"] <= 0:
            for name in LEAVES:
                np.testing.assert_array_equal(outcome.next_obs[name][0, 0], expected[name])
        if outcome.terminated or outcome.truncated:
            env.close()
            episode, steps = episode + 1, 0
            env, expected = reference(task, 7, episode)
        first = outcome.obs
    env.close()
    lanes.close()
    assert episode >= 2


def test_the_crop_is_the_map_around_the_hero():
    lanes = make([[3, 4]])
    for outcome in play(lanes, random_actions(lanes.spaces.action, (1, 2), 200)):
        for lane in range(2):
            glyphs = outcome.next_obs["glyphs"][0, lane]
            x, y = outcome.next_obs["blstats"][0, lane, :2].astype(int)
            for (row, column), glyph in np.ndenumerate(outcome.next_obs["crop"][0, lane]):
                place = (y + row - CROP // 2, x + column - CROP // 2)
                inside = 0 <= place[0] < 21 and 0 <= place[1] < 79
                assert glyph == (glyphs[place] if inside else STONE)


def test_numbers_do_not_depend_on_the_number_of_processes():
    seeds = np.arange(6).reshape(2, 3)
    actions = random_actions(Discrete(23), (2, 3), 100)
    one, four, many = (make(seeds, threads=threads) for threads in (1, 4, 64))
    assert [lanes._parts for lanes in (one, four, many)] == [1, 2, 3]
    for first, second, third in zip(*(play(x, actions) for x in (one, four, many)), strict=True):
        assert_same(first, second)
        assert_same(first, third)


def test_a_lane_begins_with_another_game_in_every_episode():
    outcomes = play(make([[0]], replace(SCORE, horizon=2)), np.zeros((6, 1, 1), np.int64))
    firsts = [outcome.obs["glyphs"][0, 0] for outcome in outcomes[1::2]]
    assert all((a != b).any() for a, b in pairwise(firsts))


def birth(game: Game) -> int:
    library = ctypes.CDLL(game.env.nethack.dlpath)
    seconds = ctypes.c_long.in_dll(library, "ubirthday").value
    _ctypes.dlclose(library._handle)
    return seconds


def test_the_time_of_birth_follows_from_the_seed(open_game: Callable[..., Game]):
    one, same, other = open_game(1), open_game(1), open_game(2)
    assert birth(one) == birth(same)
    assert birth(one) != birth(other)
    before = birth(one)
    one.begin()
    assert birth(one) != before


def test_nle_would_read_the_time_of_birth_off_the_clock(open_game: Callable[..., Game]):
    """Else it need not be set here."""
    game = open_game()
    game.env.reset()
    assert abs(birth(game) - time.time()) < 60


def test_success_at_the_very_horizon_is_a_termination(
    open_game: Callable[..., Game], record: np.ndarray
):
    game = open_game(task=FAMILY.tasks["NetHackStaircase-v0"], horizon=1)
    game.env._is_episode_end = lambda observation: game.env.StepStatus.TASK_SUCCESSFUL
    game.step()
    assert record["terminated"][0]
    assert not record["truncated"][0]
    assert record["reward"][0] >= 0.99


def test_success_shows_the_map_and_not_the_end_of_the_game(
    open_game: Callable[..., Game], record: np.ndarray
):
    game = open_game(task=FAMILY.tasks["NetHackStaircase-v0"])
    wait = game.env.actions.index(nethack.MiscDirection.WAIT)
    record["action"] = wait
    game.env._is_episode_end = lambda observation: game.env.StepStatus.TASK_SUCCESSFUL
    before = record["first_obs"].copy()
    game.step()
    hero = CROP // 2
    assert record["next_obs"]["crop"][0, hero, hero] == before["crop"][0, hero, hero]
    assert record["next_obs"]["blstats"][0, nethack.NLE_BL_HP] > 0


def test_death_terminates(open_game: Callable[..., Game], record: np.ndarray):
    game = open_game(5)
    rng = np.random.default_rng(0)
    for _ in range(20_000):
        record["action"] = rng.integers(23)
        game.step()
        if record["terminated"][0] or record["truncated"][0]:
            break
    assert record["terminated"][0]
    assert not record["truncated"][0]


def test_the_challenge_is_cut_when_game_time_stands_still(
    open_game: Callable[..., Game], record: np.ndarray
):
    game = open_game(task=CHALLENGE, horizon=1000)
    assert game.env.no_progress_timeout == 10_000
    game.env.no_progress_timeout = 10
    record["action"] = game.env.actions.index(nethack.Command.ESC)
    for _ in range(6):
        game.step()
        assert not record["terminated"][0]
        if record["truncated"][0]:
            break
    assert record["truncated"][0]


def assert_row_failed(outcomes: list[LaneStep], intact: list[LaneStep], since: int) -> None:
    """Row 1 delivers zeros from a step on, row 0 what it always does."""
    for number, (outcome, expected) in enumerate(zip(outcomes, intact, strict=True)):
        assert_same(outcome, expected, 0, 0)
        if number < since:
            assert_same(outcome, expected, 1, 1)
        else:
            arrays = [*outcome.obs.values(), *outcome.next_obs.values(), *outcome[2:]]
            assert not any(values[1].any() for values in arrays)


@pytest.mark.parametrize("threads", [1, 4])
def test_a_process_that_is_killed_takes_out_its_own_seed_only(threads: int):
    actions = random_actions(Discrete(23), (2, 2), 40)
    intact = play(make([[1, 2], [3, 4]]), actions)
    lanes = make([[1, 2], [3, 4]], threads=threads)
    lanes.reset()
    outcomes = []
    for number, action in enumerate(actions):
        if number == 20:
            os.kill(lanes._players[-1].process.pid, signal.SIGKILL)
        outcomes.append(lanes.step(action))
    lanes.close()
    assert lanes.failures == {1: "the NetHack process ended with SIGKILL"}
    assert_row_failed(outcomes, intact, since=20)


def test_a_game_that_raises_takes_out_its_own_seed_only():
    actions = random_actions(Discrete(23), (2, 2), 10)
    intact = play(make([[1, 2], [3, 4]]), actions)
    actions[5:, 1, 1] = 999
    lanes = make([[1, 2], [3, 4]])
    outcomes = play(lanes, actions)
    assert lanes.failures == {1: "IndexError: tuple index out of range"}
    assert_row_failed(outcomes, intact, since=5)


def test_usage_is_that_of_all_players_also_after_their_end():
    lanes = make([[1, 2], [3, 4]])
    assert lanes.usage() == (0.0, 0.0)
    lanes.reset()
    begun = lanes.usage()
    assert begun.peak_memory_mb > 2 * 20
    for action in random_actions(Discrete(23), (2, 2), 300):
        lanes.step(action)
    usage = lanes.usage()
    assert usage.cpu_seconds > begun.cpu_seconds > 0
    lanes.close()
    assert lanes.usage() == usage


def is_running(pid: int) -> bool:
    return Path(f"/proc/{pid}").exists()


def test_nothing_is_left_of_closed_lanes():
    lanes = make([[1, 2], [3, 4]])
    lanes.reset()
    players = list(lanes._players)
    pids = [player.process.pid for player in players]
    assert all(map(is_running, pids))
    assert all(any(Path(player.folder).iterdir()) for player in players)
    lanes.close()
    lanes.close()
    assert not any(Path(player.folder).exists() for player in players)
    wait_until(lambda: not any(map(is_running, pids)))


def wait_until(is_so: Callable[[], bool], seconds: float = 20) -> None:
    end = time.monotonic() + seconds
    while not is_so():
        assert time.monotonic() < end, "still not so"
        time.sleep(0.05)


PARENT = """
import json, os, signal, sys
import numpy as np
from suite.envs.nethack import FAMILY

if __name__ == "__main__":
    task = FAMILY.tasks["NetHackScore-v0"]
    lanes = FAMILY.engines[0].make(task, np.array([[1], [2]]), "train", 1)
    lanes.reset()
    found = [[player.process.pid, player.folder] for player in lanes._players]
    sys.stdout.write(json.dumps(found))
    sys.stdout.flush()
    if sys.argv[1] == "killed":
        os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.mark.parametrize("end", ["killed", "without closing"])
def test_processes_end_with_their_parent_and_leave_nothing(end: str, tmp_path: Path):
    script = tmp_path / "parent.py"
    script.write_text(PARENT)
    done = subprocess.run(
        [sys.executable, str(script), end],
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        timeout=60,
    )
    assert done.returncode == (-signal.SIGKILL if end == "killed" else 0)
    found = json.loads(done.stdout)
    assert len(found) == 2
    for pid, folder in found:
        wait_until(lambda pid=pid: not is_running(pid))
        wait_until(lambda folder=folder: not Path(folder).exists())


class Inline:
    """An executor that runs each job in this process."""

    def __init__(self) -> None:
        self.jobs: list[Job] = []

    def submit(self, job: Job) -> None:
        self.jobs.append(job)

    def wait(self, seconds: float) -> list[Event]:
        if not self.jobs:
            return []
        job = self.jobs.pop(0)
        return [Finished(job, job.run(job.work, lambda news: None))]

    def close(self) -> None:
        pass


def bench(folder: Path) -> Record:
    """Run two seeds of the random agent."""
    request = Request("random", SCORE.id, protocol="smoke", steps=256, threads=1)
    cells = find_cells(request)
    Bench(cells, folder / "results", folder / "runs", Inline()).run()
    (path,) = (folder / "results").rglob("random.json")
    return load(path)


def test_a_bench_runs_a_killed_seed_again_and_ends_with_the_same_episodes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(runner, "find_task", lambda name: replace(SCORE, horizon=50))
    undisturbed = bench(tmp_path / "undisturbed")
    steps = NetHackLanes.step
    taken = 0

    def step(lanes: NetHackLanes, action: np.ndarray) -> LaneStep:
        nonlocal taken
        taken += 1
        if taken == 60:
            os.kill(lanes._players[1].process.pid, signal.SIGKILL)
        return steps(lanes, action)

    monkeypatch.setattr(NetHackLanes, "step", step)
    killed = bench(tmp_path / "killed")
    assert [(run.status, run.attempts) for run in undisturbed.runs] == [("ok", 1)] * 2
    assert [(run.status, run.attempts) for run in killed.runs] == [("ok", 1), ("ok", 2)]
    pd.testing.assert_frame_equal(killed.episodes, undisturbed.episodes)
    assert [run.digest for run in killed.runs] == [run.digest for run in undisturbed.runs]


@pytest.mark.slow
@pytest.mark.parametrize("task", **TASKS)
def test_ten_thousand_random_steps_raise_nothing(task: Task):
    lanes = make(lane_seeds((0, 1), "train", 0, 8), task, threads=2)
    lanes.reset()
    ends = 0
    for action in random_actions(lanes.spaces.action, (2, 8), 10_000 // 16):
        outcome = lanes.step(action)
        ends += int((outcome.terminated | outcome.truncated).sum())
        for name, space in OBSERVATION.items():
            assert contains(space, outcome.next_obs[name])
    assert lanes.failures == {}
    assert ends > 0
    lanes.close()
