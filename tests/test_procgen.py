"""ProcGen's lanes: upstream's own games, with a seed per lane, splits of levels, and true cuts."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from suite.envs import procgen
from suite.envs.lanes import Lanes
from suite.envs.procgen import FAMILY, level_range, time_limit
from suite.steps import LaneStep
from suite.tasks import Task

ROOT = Path(__file__).parent.parent
ENGINE = FAMILY.engines[0]
STILL = 4
"""The action that presses no key."""

NEXT_LEVEL = -1
"""No action, but upstream's command to end the episode."""


def upstream(task: Task, seed: int) -> Any:
    """Upstream's own environment on the training levels.

    Lanes must have been made before: they silence what the import says.
    """
    from procgen import ProcgenGym3Env

    game, difficulty = task.name.split("-")
    levels = {"easy": 200, "hard": 500}[difficulty]
    return ProcgenGym3Env(
        num=1,
        env_name=game,
        distribution_mode=difficulty,
        num_levels=levels,
        rand_seed=seed,
        num_threads=0,
    )


def play(lanes: Lanes, actions: np.ndarray) -> list[LaneStep]:
    """Reset and step; the lanes are closed. Actions ``[steps, S, E]``."""
    lanes.reset()
    outcomes = [lanes.step(action) for action in actions]
    lanes.close()
    return outcomes


def draw(steps: int, shape: tuple[int, int]) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 15, (steps, *shape))


def assert_equal_upstream(task: Task, steps: int) -> None:
    """Step two lanes at random, each beside upstream's environment of the same seed."""
    seeds = np.array([[3], [8]])
    lanes = ENGINE.make(task, seeds, "train", 1)
    references = [upstream(task, int(seed)) for seed in seeds.ravel()]
    shown = lanes.reset()["observation"]
    elapsed, ends = np.zeros((2, 1), np.int64), 0
    for action in draw(steps, (2, 1)):
        outcome = lanes.step(action)
        ended = outcome.terminated | outcome.truncated
        elapsed += 1
        for row, reference in enumerate(references):
            reference.act(action[row])
            reward, observation, first = reference.observe()
            assert (outcome.obs["observation"][row] == observation["rgb"]).all()
            assert outcome.reward[row, 0] == reward[0]
            assert ended[row, 0] == first[0]
            if outcome.terminated[row, 0]:
                assert (outcome.next_obs["observation"][row] == shown[row]).all()
        assert (elapsed[outcome.truncated] == task.horizon).all()
        assert (elapsed[~ended] < task.horizon).all()
        elapsed[ended] = 0
        ends += int(ended.sum())
        shown = outcome.obs["observation"]
    lanes.close()
    assert ends > 1


@pytest.mark.parametrize("name", ["coinrun-easy", "maze-hard"])
def test_lanes_equal_upstream(name: str):
    assert_equal_upstream(FAMILY.tasks[name], 1100)


@pytest.mark.slow
@pytest.mark.parametrize("name", FAMILY.tasks)
def test_ten_thousand_random_steps_equal_upstream(name: str):
    assert_equal_upstream(FAMILY.tasks[name], 5000)


def test_every_game_of_upstream_is_a_task_in_both_difficulties_easy_ones_first():
    ENGINE.make(FAMILY.tasks["coinrun-easy"], np.array([[0]]), "train", 1).close()
    from procgen.env import ENV_NAMES

    names = list(FAMILY.tasks)
    assert sorted(names[:16]) == [f"{game}-easy" for game in sorted(ENV_NAMES)]
    assert sorted(names[16:]) == [f"{game}-hard" for game in sorted(ENV_NAMES)]
    assert names[0] == "coinrun-easy"


def test_horizons_are_the_time_limits_of_upstream():
    ENGINE.make(FAMILY.tasks["coinrun-easy"], np.array([[0]]), "train", 1).close()
    limits = {
        name: time_limit(upstream(task, 0).get_state()[0]) for name, task in FAMILY.tasks.items()
    }
    assert limits == {name: task.horizon for name, task in FAMILY.tasks.items()}


@pytest.mark.parametrize(
    ("name", "horizon"), [("maze-easy", 500), ("jumper-hard", 9), ("plunder-hard", 30)]
)
def test_the_limit_truncates_and_shows_what_the_last_action_leads_to(name: str, horizon: int):
    task = replace(FAMILY.tasks[name], horizon=horizon)
    seeds = np.arange(6).reshape(2, 3)
    actions = np.full((horizon, 2, 3), STILL)
    cut = play(ENGINE.make(task, seeds, "train", 1), actions)
    uncut = play(ENGINE.make(replace(task, horizon=10_000), seeds, "train", 1), actions)
    alive = ~np.any([outcome.terminated for outcome in uncut], axis=0)
    assert alive.any()
    assert not any(outcome.truncated.any() for outcome in cut[:-1])
    np.testing.assert_array_equal(cut[-1].truncated[alive], True)
    followed, expected = (run[-1].next_obs["observation"][alive] for run in (cut, uncut))
    np.testing.assert_array_equal(followed, expected)
    begun = cut[-1].obs["observation"][alive]
    assert (begun != followed).any(axis=(1, 2, 3)).all()


def test_an_end_at_the_very_horizon_is_a_termination():
    task = FAMILY.tasks["jumper-hard"]
    seeds = np.arange(4)[None]
    actions = np.full((60, 1, 4), STILL)
    deaths = np.array(
        [o.terminated[0] for o in play(ENGINE.make(task, seeds, "train", 1), actions)]
    )
    lane = int(deaths.any(axis=0).argmax())
    moment = int(deaths[:, lane].argmax())
    short = replace(task, horizon=moment + 1)
    last = play(ENGINE.make(short, seeds, "train", 1), actions[: moment + 1])[-1]
    assert deaths[moment, lane]
    assert (last.terminated[0, lane], last.truncated[0, lane]) == (True, False)


def levels_played(task: Task, split: str) -> set[int]:
    """Levels of 20 episodes of 100 lanes, each ended at once by a command of upstream's own."""
    lanes: Any = ENGINE.make(task, np.arange(100)[None], split, 1)
    lanes.reset()
    levels = set()
    for _ in range(20):
        levels |= {int(info["level_seed"]) for info in lanes._vector.get_info()}
        lanes.step(np.full((1, 100), NEXT_LEVEL))
    lanes.close()
    return levels


@pytest.mark.parametrize("split", ["train", "train-levels"])
@pytest.mark.parametrize(("name", "known"), [("maze-easy", 200), ("leaper-hard", 500)])
def test_training_plays_the_levels_of_the_paper(name: str, known: int, split: str):
    levels = levels_played(FAMILY.tasks[name], split)
    assert levels <= set(range(known))
    assert len(levels) > 0.9 * known


@pytest.mark.parametrize(("name", "known"), [("maze-easy", 200), ("leaper-hard", 500)])
def test_the_score_is_on_levels_that_training_never_plays(name: str, known: int):
    levels = levels_played(FAMILY.tasks[name], "test-levels")
    assert min(levels) >= known
    assert max(levels) > 2**30
    assert len(levels) > 1990


def test_unseen_levels_reach_from_the_last_known_one_to_the_largest_number():
    first, count = level_range(FAMILY.tasks["heist-hard"], FAMILY.tasks["heist-hard"].splits[0])
    assert (first, first + count) == (500, 2**31 - 1)


def test_the_number_of_threads_changes_nothing():
    task, seeds = FAMILY.tasks["starpilot-easy"], np.arange(6).reshape(2, 3)
    one, three = (
        play(ENGINE.make(task, seeds, "train", threads), draw(150, (2, 3))) for threads in (1, 3)
    )
    for first, second in zip(one, three, strict=True):
        np.testing.assert_array_equal(first.obs["observation"], second.obs["observation"])
        for values, others in zip(first[2:], second[2:], strict=True):
            np.testing.assert_array_equal(values, others)


def test_what_a_step_returned_is_never_overwritten():
    lanes = ENGINE.make(FAMILY.tasks["miner-easy"], np.arange(4).reshape(2, 2), "train", 2)
    lanes.reset()
    outcomes = [lanes.step(action) for action in draw(3, (2, 2))]
    kept = [(o.obs["observation"].copy(), o.reward.copy()) for o in outcomes]
    for action in draw(60, (2, 2)):
        lanes.step(action)
    lanes.close()
    for outcome, (observation, reward) in zip(outcomes, kept, strict=True):
        np.testing.assert_array_equal(outcome.obs["observation"], observation)
        np.testing.assert_array_equal(outcome.reward, reward)


def test_loading_the_package_says_nothing():
    code = (
        "import numpy; from suite.envs.procgen import FAMILY;"
        "FAMILY.engines[0].make(FAMILY.tasks['maze-easy'], numpy.array([[0]]), 'train', 1).close()"
    )
    command = [sys.executable, "-W", "error", "-c", code]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_a_system_library_that_is_missing_is_named_with_the_command_that_adds_it(
    monkeypatch: pytest.MonkeyPatch,
):
    task = next(iter(FAMILY.tasks.values()))
    assert ENGINE.lacks(task) is None
    monkeypatch.setattr(procgen, "_SYSTEM_LIBRARIES", ("libc.so.6", "libwanting.so.1"))
    lack = ENGINE.lacks(task)
    assert lack is not None
    assert lack.what == "libwanting.so.1"
    assert lack.install.startswith("apt-get install ")
