"""The bridge to Isaac Gym, with a stand-in for it in ``fake_isaacgym/``."""

from __future__ import annotations

import ast
import os
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest

from suite.envs.isaacgym import FAMILY
from suite.envs.isaacgym.bridge import (
    RESETS,
    VARIABLE,
    WORKER,
    BridgeLanes,
    lacks,
    make_bridge,
    simulation_seed,
)
from suite.spaces import contains
from suite.steps import LaneStep
from suite.tasks import Task

HORIZON = 6
LANES = 4
RAISE, DIE = 0.125, 0.375
"""Actions that do so in the stand-in."""

POSITION, EPISODE, STEPS, CLOCK, ACTION, FAR = range(6)
"""What the stand-in shows."""

_CANDIDATES = np.arange(40 * LANES).reshape(40, LANES)
GOOD = np.array([lanes for lanes in _CANDIDATES if simulation_seed(lanes) % 8])
BAD = np.array([lanes for lanes in _CANDIDATES if simulation_seed(lanes) % 8 == 0])
"""Seeds with which the stand-in makes a simulation, and with which it does not."""


def task(name: str, horizon: int = HORIZON) -> Task:
    return Task(f"isaacgym/{name}", "continuous", horizon, "robot control", "low", "-")


@contextmanager
def opened(name: str, seeds: np.ndarray) -> Iterator[BridgeLanes]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(VARIABLE, sys.executable)
        patch.setenv("PYTHONPATH", str(Path(__file__).with_name("fake_isaacgym")))
        patch.setenv("OMP_NUM_THREADS", "1")
        lanes = make_bridge(task(name), seeds, "train", 1)
    assert isinstance(lanes, BridgeLanes)
    yield lanes
    lanes.close()


class Played(NamedTuple):
    """What came of some actions; observations ``[T, S, E, F]``."""

    before: np.ndarray
    """What was acted on."""
    action: np.ndarray
    """``[T, S, E]``, no larger than 1"""
    after: np.ndarray
    """``next_obs``"""
    obs: np.ndarray
    reward: np.ndarray
    terminated: np.ndarray
    truncated: np.ndarray
    shared: np.ndarray
    """``[T]``: whether obs and next_obs were the same object."""


def play(lanes: BridgeLanes, actions: np.ndarray) -> Played:
    """Begin, and take some actions ``[T, S, E]``."""
    obs = [lanes.reset()["observation"]]
    steps: list[LaneStep] = []
    for action in actions:
        steps.append(lanes.step(action[..., None].astype(np.float32)))
        obs.append(steps[-1].obs["observation"])
    return Played(
        np.array(obs[:-1]),
        np.clip(actions, -1, 1).astype(np.float32),
        np.array([step.next_obs["observation"] for step in steps]),
        np.array(obs[1:]),
        *(np.array([step[field] for step in steps]) for field in (2, 3, 4)),
        np.array([step.obs is step.next_obs for step in steps]),
    )


def mixed_actions() -> np.ndarray:
    """Actions that make some lanes fall and others not, ``[40, 1, E]``; some are too large."""
    return np.random.default_rng(0).uniform(-0.3, 1.2, (40, 1, LANES))


@cache
def played(name: str) -> Played:
    """Play the mixed actions with one seed, the first of :data:`GOOD`."""
    with opened(name, GOOD[:1]) as lanes:
        result = play(lanes, mixed_actions())
        assert lanes.failures == {}
        observation, action = lanes.spaces.observation["observation"], lanes.spaces.action
        assert contains(observation, result.after)
        assert observation.high.tolist() == [1000.0] * 6
        assert (action.low.tolist(), action.high.tolist()) == ([-1.0], [1.0])
        (simulation,) = lanes._simulations
        simulation.connection.close()  # as if this process had died
        assert simulation.process.wait(timeout=30) == 0
    return result


@pytest.mark.parametrize("name", ["Cartpole", "Ingenuity", "AnymalTerrain"])
def test_every_transition_is_one_that_the_simulator_made(name: str):
    result = played(name)
    before, after, obs = result.before, result.after, result.obs
    ended = result.terminated | result.truncated
    noise = 0.011 if name == "AnymalTerrain" else 0

    # one step of the simulator for each, in the episode that was acted on
    np.testing.assert_array_equal(after[..., CLOCK], before[..., CLOCK] + 1)
    np.testing.assert_array_equal(after[..., EPISODE], before[..., EPISODE])
    np.testing.assert_array_equal(after[..., STEPS], before[..., STEPS] + 1)
    np.testing.assert_array_equal(after[..., ACTION], result.action)
    moved = result.action
    if name == "Ingenuity":  # its speed adds up, but for the first action of an episode
        moved = np.zeros_like(result.action)
        for t in range(1, len(moved)):
            moved[t] = np.where(ended[t - 1], 0, moved[t - 1] + result.action[t])
    expected = before[..., POSITION] + moved
    np.testing.assert_allclose(after[..., POSITION], expected, atol=max(noise, 1e-5))
    np.testing.assert_allclose(result.reward, after[..., POSITION], atol=noise)

    # a fall is no cut, and a cut is no fall
    steps = after[..., STEPS] - before[0, ..., STEPS] * (after[..., EPISODE] == 0)
    np.testing.assert_array_equal(result.terminated, result.reward > 3)
    np.testing.assert_array_equal(result.truncated, (steps == HORIZON) & (result.reward <= 3))
    assert (result.terminated & (steps < HORIZON)).any()
    assert (result.terminated & (steps == HORIZON)).any()
    assert result.truncated.any()

    # episodes begin at their beginning, and at once
    np.testing.assert_array_equal(obs[ended][:, STEPS], 0)
    np.testing.assert_array_equal(obs[ended][:, EPISODE], after[ended][:, EPISODE] + 1)
    np.testing.assert_array_equal(obs[ended][:, CLOCK], after[ended][:, CLOCK])
    assert (np.abs(obs[ended][:, POSITION]) <= 0.1 + noise).all()
    np.testing.assert_array_equal(obs[~ended], after[~ended])
    np.testing.assert_array_equal(result.shared, ~ended.any(axis=(1, 2)))
    for shown in (before, after, obs):
        assert (shown[..., FAR] == 1000).all()


def test_a_seed_that_fails_is_left_behind_and_the_others_go_on():
    expected = played("Cartpole")
    actions = np.repeat(mixed_actions()[:12], 5, axis=1)
    actions[3, 2, 0] = RAISE
    actions[5, 3, 0] = DIE
    unmade = "the simulation's process ended with exit code 0, after '*** Failed to create sim'"
    with opened("Cartpole", np.concatenate([GOOD[:1], BAD[:1], GOOD[1:4]])) as lanes:
        assert lanes.failures == {1: unmade}
        pids = [simulation.process.pid for simulation in lanes._simulations]
        assert len(pids) == 4
        started = lanes.usage()
        first = lanes.reset()["observation"]
        assert not first[1].any()
        assert len({tuple(row[:, POSITION]) for row in first}) == 5  # seeds differ
        for t, action in enumerate(actions):
            if t == 7:
                os.kill(pids[-1], signal.SIGKILL)
            outcome = lanes.step(action[..., None].astype(np.float32))
            np.testing.assert_array_equal(outcome.obs["observation"][0], expected.obs[t, 0])
            np.testing.assert_array_equal(outcome.next_obs["observation"][0], expected.after[t, 0])
            np.testing.assert_array_equal(outcome.reward[0], expected.reward[t, 0])
            for row, last in ((1, 0), (2, 3), (3, 5), (4, 7)):
                for values in (*outcome.obs.values(), *outcome.next_obs.values(), *outcome[2:]):
                    assert not (t >= last and values[row].any())
                assert t >= last or outcome.next_obs["observation"][row].any()
        assert lanes.failures == {
            1: unmade,
            2: "RuntimeError: broken glass",
            3: "the simulation's process ended with exit code 3, after 'out of memory'",
            4: "the simulation's process ended with SIGKILL, after 'stepping'",
        }
        assert lanes.usage().cpu_seconds > started.cpu_seconds > 0
        assert lanes.usage().peak_memory_mb > 4 * 20
        used = lanes.usage()
        lanes.close()
        lanes.close()
        assert lanes.usage() == used
    assert not any(is_running(pid) for pid in pids)


def is_running(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def test_no_simulation_at_all_is_an_error():
    with pytest.raises(RuntimeError, match=r"0: .*ended with exit code 1"):
        BridgeLanes(task("Cartpole"), GOOD[:1], "/bin/false")


def test_lanes_of_a_simulation_all_count_for_its_seed():
    rows = ([1, 2], [2, 1], [1, 3], [1, 2, 4])
    seeds = {simulation_seed(np.array(row)) for row in rows}
    assert len(seeds) == 4
    assert all(0 <= seed < 2**32 for seed in seeds)


def test_what_is_missing_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    ant = task("Ant")
    monkeypatch.setenv(VARIABLE, sys.executable)
    assert lacks(ant) is None
    for wrong in (tmp_path / "python", tmp_path, WORKER):  # absent, a folder, not executable
        monkeypatch.setenv(VARIABLE, str(wrong))
        lack = lacks(ant)
        assert lack is not None
        assert lack.what == f"Isaac Gym ({VARIABLE}={wrong} is no executable file)"
    monkeypatch.delenv(VARIABLE)
    lack = lacks(ant)
    assert lack is not None
    assert lack.what == f"Isaac Gym ({VARIABLE} is not set)"
    assert "https://developer.nvidia.com/isaac-gym" in lack.install
    with pytest.raises(ModuleNotFoundError, match=rf"{VARIABLE} is not set.*export {VARIABLE}"):
        make_bridge(ant, GOOD, "train", 1)


def test_it_is_known_of_every_task_when_it_resets_its_worlds():
    assert RESETS.keys() == FAMILY.tasks.keys()


def test_the_worker_keeps_to_python_3_8_and_to_what_isaac_gym_brings():
    assert not any(name.endswith("worker38") for name in sys.modules)
    tree = ast.parse(WORKER.read_text(), feature_version=(3, 8))
    imported = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            imported |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            imported.add((node.module or ".").partition(".")[0])
    third_party = imported - sys.stdlib_module_names
    assert third_party == {"isaacgym", "isaacgymenvs", "numpy", "torch"}
