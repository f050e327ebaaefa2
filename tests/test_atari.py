"""Atari: against ale-py's emulator and vector environment; what only training changes."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import ale_py
import gymnasium
import numpy as np
import pytest
import torch
from ale_py import ALEInterface, LoggerMode
from ale_py.vector_env import AtariVectorEnv
from torch import Tensor

from suite.envs.atari import FAMILY, HORIZON, STICKINESS, _game
from suite.envs.lanes import Lanes
from suite.evaluation import evaluate
from suite.spaces import Box, Discrete
from suite.steps import LaneStep
from suite.tasks import Task

ROOT = Path(__file__).parent.parent
PIXELS = "observation"


def make(
    game: str, seeds: Any, split: str = "eval", horizon: int = HORIZON, threads: int = 1
) -> Lanes:
    task = replace(FAMILY.tasks[f"{game}-v5"], horizon=horizon)
    return FAMILY.engines[0].make(task, np.atleast_2d(seeds), split, threads)


def buttons(lanes: Lanes, steps: int) -> np.ndarray:
    """Random actions ``[steps, S, E]``; a lane's own depend on its place alone."""
    draws = np.random.default_rng(0).integers(0, lanes.spaces.action.n, (steps, 3, 4))
    return draws[:, : lanes.shape[0], : lanes.shape[1]]


class Play(NamedTuple):
    first: np.ndarray
    steps: list[LaneStep]

    def ends(self) -> np.ndarray:
        return np.array([step.terminated | step.truncated for step in self.steps])

    def array(self, name: str) -> np.ndarray:
        return np.array([getattr(step, name) for step in self.steps])


def play(lanes: Lanes, steps: int) -> Play:
    first = lanes.reset()[PIXELS]
    outcomes = [lanes.step(action) for action in buttons(lanes, steps)]
    lanes.close()
    return Play(first, outcomes)


def is_first(obs: np.ndarray) -> np.ndarray:
    """Whether a stack ``[..., 84, 84, 4]`` begins a game: only its newest frame is not black."""
    return ~obs[..., :3].any(axis=(-3, -2, -1)) & obs[..., 3].any(axis=(-2, -1))


@pytest.fixture(scope="module")
def training() -> Play:
    """Games of Ms. Pac-Man, three lives each, some points at a time."""
    return play(make("MsPacman", [[1, 2]], "train"), 900)


@pytest.fixture(scope="module")
def whole_games() -> Play:
    """The same games, with the same actions, in evaluation."""
    return play(make("MsPacman", [[1, 2]], "eval"), 900)


@pytest.mark.parametrize("task", FAMILY.tasks.values(), ids=lambda task: task.name)
def test_settings_are_those_registered_upstream(task: Task):
    gymnasium.register_envs(ale_py)
    assert gymnasium.spec(f"ALE/{task.name}").kwargs == {
        "game": _game(task),
        "full_action_space": False,
        "repeat_action_probability": STICKINESS,
        "frameskip": task.frames_per_step,
        "max_num_frames_per_episode": task.frames_per_step * task.horizon,
    }


@pytest.mark.parametrize(("game", "actions"), [("Freeway", 3), ("Breakout", 4), ("Alien", 18)])
def test_actions_are_the_buttons_that_a_game_reads(game: str, actions: int):
    lanes = make(game, [[0]])
    assert lanes.spaces.action == Discrete(actions)
    lanes.close()


def test_sets_have_as_many_games_as_their_names_say():
    assert {name: len(set(games)) for name, games in FAMILY.sets.items()} == {
        "atari-5": 5,
        "atari-10": 10,
        "atari-26": 26,
        "atari-57": 57,
    }
    assert set(FAMILY.sets["atari-5"]) < set(FAMILY.sets["atari-10"])


def test_listing_tasks_does_not_import_the_emulator():
    code = "import suite.envs.atari, sys; sys.exit('ale_py' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=False).returncode == 0


# Against the emulator alone: one lane, its frames skipped, pooled and shrunk by hand.


def area_weights(before: int, after: int) -> np.ndarray:
    """``[after, before]``: each pixel is the mean of the part of the old ones that it covers."""
    edges = np.linspace(0, before, after + 1)
    pixels = np.arange(before)
    covered = np.minimum(edges[1:, None], pixels + 1) - np.maximum(edges[:-1, None], pixels)
    return np.clip(covered, 0, None) * after / before


class Emulator:
    def __init__(self, game: str, seed: int, noops: int) -> None:
        ALEInterface.setLoggerMode(LoggerMode.Error)
        self.ale = ALEInterface()
        self.ale.setFloat("repeat_action_probability", STICKINESS)
        self.ale.setInt("random_seed", seed)
        self.ale.loadROM(ale_py.roms.get_rom_path(game))
        self.ale.reset_game()
        self.buttons = self.ale.getMinimalActionSet()
        self.rows, self.columns = area_weights(210, 84), area_weights(160, 84)
        for _ in range(noops):
            self.ale.act(self.buttons[0])
        self.stack = np.zeros((84, 84, 4))
        self.push(self.ale.getScreenGrayscale())

    def push(self, screen: np.ndarray) -> None:
        frame = self.rows @ screen @ self.columns.T
        self.stack = np.concatenate([self.stack[..., 1:], frame[..., None]], axis=-1)

    def step(self, action: int) -> int:
        screens, reward = [], 0
        for _ in range(4):
            reward += self.ale.act(self.buttons[action])
            screens.append(self.ale.getScreenGrayscale())
            if self.ale.game_over():
                break
        self.push(np.maximum(*screens[-2:]) if len(screens) > 1 else screens[0])
        return reward


@pytest.mark.parametrize(
    ("game", "rom"), [("SpaceInvaders", "space_invaders"), ("MsPacman", "ms_pacman")]
)
def test_a_lane_equals_the_emulator_stepped_by_hand(game: str, rom: str):
    lanes = make(game, [[7]])
    _, info = lanes._games.reset(seed=np.array([7]))
    emulator = Emulator(rom, 7, info["episode_frame_number"][0])
    np.testing.assert_allclose(lanes.reset()[PIXELS][0, 0], emulator.stack, atol=0.51)
    rewards = set()
    for action in buttons(lanes, 1000):
        step = lanes.step(action)
        reward = emulator.step(action[0, 0])
        rewards.add(reward)
        assert step.reward[0, 0] == reward
        assert step.terminated[0, 0] == emulator.ale.game_over()
        if step.terminated[0, 0]:
            break
        np.testing.assert_allclose(step.next_obs[PIXELS][0, 0], emulator.stack, atol=0.51)
    assert step.terminated[0, 0]
    assert len(rewards) > 1


def test_a_game_begins_with_up_to_thirty_frames_without_action():
    lanes = make("Pong", [[0, 1, 2, 3]])
    lanes.reset()
    noops = {n for _ in range(40) for n in lanes._games.reset()[1]["episode_frame_number"].tolist()}
    assert (min(noops), max(noops)) == (0, 30)
    lanes.close()


# Against the vector environment alone, which resets in the step after an end.


def test_every_action_counts_but_the_one_that_the_vector_environment_ignores():
    lanes = make("Breakout", [[7]])
    reference = AtariVectorEnv(
        "breakout",
        1,
        num_threads=1,
        repeat_action_probability=0.25,
        noop_max=31,
        reward_clipping=False,
        use_fire_reset=False,
    )
    expected, _ = reference.reset(seed=np.array([7]))
    assert (lanes.reset()[PIXELS][0, 0] == expected[0].transpose(1, 2, 0)).all()
    ends = 0
    for action in buttons(lanes, 800):
        step = lanes.step(action)
        expected, reward, terminated, truncated, _ = reference.step(action[0])
        assert (step.next_obs[PIXELS][0, 0] == expected[0].transpose(1, 2, 0)).all()
        assert (step.reward[0, 0], step.terminated[0, 0]) == (reward[0], terminated[0])
        assert not truncated[0]
        if terminated[0]:
            expected, *_ = reference.step(action[0])
            ends += 1
        assert (step.obs[PIXELS][0, 0] == expected[0].transpose(1, 2, 0)).all()
    assert ends > 1


def test_ends_of_neighbours_and_threads_change_nothing():
    """Games of Breakout end by themselves, or at the horizon, at different times."""
    together = play(make("Breakout", [[1, 2], [4, 5]], "train", 150, threads=2), 400)
    truncated = together.array("truncated")
    terminated = together.array("terminated")
    assert truncated.any(axis=(0, 1)).all()
    assert any(cut.any() and not cut.all() for cut in truncated)
    alone = play(make("Breakout", [[1]], "train", 150), 400)
    for one, many in zip(alone.steps, together.steps, strict=True):
        assert (one.obs[PIXELS][0, 0] == many.obs[PIXELS][0, 0]).all()
        assert (one.next_obs[PIXELS][0, 0] == many.next_obs[PIXELS][0, 0]).all()
    assert (alone.array("reward")[:, 0, 0] == together.array("reward")[:, 0, 0]).all()
    assert (alone.array("terminated")[:, 0, 0] == terminated[:, 0, 0]).all()
    assert (alone.array("truncated")[:, 0, 0] == truncated[:, 0, 0]).all()


# What only training changes.


def test_training_rewards_are_the_signs_of_the_points_of_evaluation(
    training: Play, whole_games: Play
):
    points = whole_games.array("reward")
    assert points.max() > 1
    np.testing.assert_array_equal(training.array("reward"), np.sign(points))


def test_in_training_each_of_three_lives_is_an_episode_and_in_evaluation_the_game_is(
    training: Play, whole_games: Play
):
    lives, games = training.ends(), whole_games.ends()
    for lane in range(2):
        last = np.flatnonzero(games[:, 0, lane])[-1]
        assert lives[: last + 1, 0, lane].sum() == 3 * games[:, 0, lane].sum()
        assert (lives[:, 0, lane] >= games[:, 0, lane]).all()
    assert not training.array("truncated").any()


def test_a_game_goes_on_where_only_a_life_was_lost(training: Play, whole_games: Play):
    games = whole_games.ends()
    lost = training.ends() & ~games
    assert lost.any()
    for number, step in enumerate(training.steps):
        same = whole_games.steps[number]
        assert (step.next_obs[PIXELS] == same.next_obs[PIXELS]).all()
        assert (step.obs[PIXELS] == same.obs[PIXELS]).all()
        if lost[number].any():
            where = lost[number]
            assert (step.obs[PIXELS][where] == step.next_obs[PIXELS][where]).all()
            assert step.obs[PIXELS][where][..., :3].any(axis=(1, 2)).all()
        assert is_first(step.obs[PIXELS][games[number]]).all()


# The stack of frames, which a memory relies on, and the horizon.


def test_every_step_drops_the_oldest_frame_and_appends_a_new_one(training: Play):
    space = make("MsPacman", [[0]]).spaces.observation[PIXELS]
    assert isinstance(space, Box)
    assert (space.shape, space.stack) == ((84, 84, 4), 4)
    assert is_first(training.first).all()
    obs = training.first
    assert training.ends().sum() > 2
    for step in training.steps:
        assert (step.next_obs[PIXELS][..., :3] == obs[..., 1:]).all()
        obs = step.obs[PIXELS]


def test_the_horizon_counts_the_decisions_of_a_game_and_keeps_the_stack(training: Play):
    """The first life is lost before the horizon."""
    first_loss = int(np.flatnonzero(training.ends()[:, 0, 0])[0])
    horizon = first_loss + 10
    cut = play(make("MsPacman", [[1, 2]], "train", horizon), horizon)
    for step, uncut in zip(cut.steps, training.steps, strict=False):
        assert (step.next_obs[PIXELS] == uncut.next_obs[PIXELS]).all()
    assert cut.array("terminated")[first_loss, 0, 0]
    assert cut.array("truncated")[:, 0, 0].tolist() == [False] * (horizon - 1) + [True]
    assert is_first(cut.steps[-1].obs[PIXELS][0, 0])


@pytest.mark.parametrize("split", ["train", "eval"])
def test_an_end_at_the_very_horizon_is_a_termination(split: str, training: Play, whole_games: Play):
    uncut = training if split == "train" else whole_games
    horizon = int(np.flatnonzero(uncut.ends()[:, 0, 0])[0]) + 1
    last = play(make("MsPacman", [[1, 2]], split, horizon), horizon).steps[-1]
    assert last.terminated[0, 0]
    assert not last.truncated[0, 0]
    assert is_first(last.obs[PIXELS][0, 0])


class Player:
    """Plays the same random actions as :func:`play`."""

    def __init__(self, lanes: Lanes) -> None:
        self.actions = iter(torch.from_numpy(buttons(lanes, 1000)))

    def initial(self, lanes: int) -> None:
        return None

    def act(
        self, carry: None, obs: dict[str, Tensor], first: Tensor, explore: bool
    ) -> tuple[None, Tensor, dict[str, Tensor]]:
        return carry, next(self.actions), {}


def test_evaluation_counts_one_whole_game_in_every_lane():
    seeds = [[1, 2], [4, 5]]
    lanes = make("Breakout", seeds, horizon=400)
    result = evaluate(Player(lanes), lanes, 27_000, torch.device("cpu"))
    games = play(make("Breakout", seeds, horizon=400), 400)
    ends, rewards = games.ends(), games.array("reward")
    for seed, lane in np.ndindex(2, 2):
        end = np.flatnonzero(ends[:, seed, lane])[0] + 1
        assert result.lengths[seed, lane] == end
        assert result.returns[seed, lane] == rewards[:end, seed, lane].sum()
    assert len(set(result.lengths.ravel().tolist())) > 2


def test_an_action_that_a_game_does_not_have_is_refused():
    lanes = make("Pong", [[0, 1]])
    lanes.reset()
    for action in (-1, 6):
        with pytest.raises(AssertionError, match=str(action)):
            lanes.step(np.array([[0, action]]))
    lanes.close()


def test_closed_lanes_leave_no_threads():
    before = num_threads()
    lanes = make("Pong", [[0, 1]], threads=2)
    assert num_threads() > before
    lanes.close()
    lanes.close()
    assert num_threads() == before


def num_threads() -> int:
    return sum(1 for _ in Path("/proc/self/task").iterdir())
