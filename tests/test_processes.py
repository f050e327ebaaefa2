"""Lanes in worker processes equal lanes in this one, and fail apart from each other."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import gymnasium
import numpy as np
import pytest

from suite.envs.engines import GymnasiumLanes
from suite.envs.lanes import Lanes, Usage, total_usage
from suite.envs.processes import ProcessLanes
from suite.steps import LaneStep

# Workers import this file, so it keeps away from what is slow to import.

LENGTH = 5
SEEDS = np.array([[11, 12], [13, 14], [15, 16]])
ACTIONS = np.random.default_rng(0).integers(0, 4, (12, 3, 2))


class Walk(gymnasium.Env):
    """Adds the action and a number drawn from the seed; terminates after five steps."""

    observation_space = gymnasium.spaces.Box(-np.inf, np.inf, (2,), np.float32)
    action_space = gymnasium.spaces.Discrete(4)
    steps = 0

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[Any, dict[str, Any]]:
        super().reset(seed=seed)
        self.steps, self.total = 0, self.np_random.uniform()
        return np.array([self.total, 0], np.float32), {}

    def step(self, action: int) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        self.steps += 1
        self.total += action + self.np_random.uniform()
        shown = np.array([self.total, self.steps], np.float32)
        return shown, self.total, self.steps == LENGTH, False, {}


class Fragile(Walk):
    """Raises in its second step if its seed is 14."""

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[Any, dict[str, Any]]:
        self.is_faulty = seed == 14
        return super().reset(seed=seed)

    def step(self, action: int) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        if self.is_faulty and self.steps == 1:
            raise RuntimeError("broken glass")
        return super().step(action)


def make_walk(seeds: np.ndarray) -> Lanes:
    return GymnasiumLanes(Walk, seeds)


def make_fragile(seeds: np.ndarray) -> Lanes:
    return GymnasiumLanes(Fragile, seeds)


def refuse(seeds: np.ndarray) -> Lanes:
    raise ValueError(f"no lanes for {seeds.size} seeds")


@contextmanager
def opened(make: Callable[[np.ndarray], Lanes], workers: int) -> Iterator[ProcessLanes]:
    lanes = ProcessLanes(make, SEEDS, workers)
    yield lanes
    lanes.close()


def assert_same(first: LaneStep, second: LaneStep, rows: list[int]) -> None:
    for ours, theirs in ((first.obs, second.obs), (first.next_obs, second.next_obs)):
        np.testing.assert_array_equal(ours["observation"][rows], theirs["observation"][rows])
    for values, others in zip(first[2:], second[2:], strict=True):
        np.testing.assert_array_equal(values[rows], others[rows])


@pytest.mark.parametrize("workers", [1, 4])
def test_processes_deliver_what_one_process_delivers(workers: int):
    alone = make_walk(SEEDS)
    with opened(make_walk, workers) as lanes:
        assert lanes.spaces.action == alone.spaces.action
        np.testing.assert_array_equal(lanes.reset()["observation"], alone.reset()["observation"])
        ends = 0
        for action in ACTIONS:
            outcome, expected = lanes.step(action), alone.step(action)
            assert_same(outcome, expected, [0, 1, 2])
            ended = outcome.terminated.any()
            assert (outcome.obs is outcome.next_obs) == (not ended)
            ends += ended
        assert ends == 2
        assert lanes.failures == {}


def test_a_lane_that_raises_in_a_worker_takes_out_its_own_seed_only():
    alone = make_walk(SEEDS)
    alone.reset()
    with opened(make_fragile, 2) as lanes:
        lanes.reset()
        for number, action in enumerate(ACTIONS, start=1):
            outcome = lanes.step(action)
            assert_same(outcome, alone.step(action), [0, 2])
            if number >= 2:
                assert not outcome.obs["observation"][1].any()
                assert not any(values[1].any() for values in outcome[2:])
    assert lanes.failures == {1: "RuntimeError: broken glass"}


def test_a_worker_that_dies_takes_out_the_seeds_of_its_lanes():
    alone = make_walk(SEEDS)
    alone.reset()
    with opened(make_walk, 3) as lanes:
        lanes.reset()
        assert_same(lanes.step(ACTIONS[0]), alone.step(ACTIONS[0]), [0, 1, 2])
        os.kill(lanes._processes[2].pid, signal.SIGKILL)
        for action in ACTIONS[1:]:
            outcome = lanes.step(action)
            assert_same(outcome, alone.step(action), [0, 1])
            assert not outcome.next_obs["observation"][2].any()
    assert lanes.failures == {2: "the lane's process was ended by SIGKILL"}


def test_usage_is_the_workers_own_summed_and_kept_after_the_end():
    with opened(make_walk, 3) as lanes:
        lanes.reset()
        before = lanes.usage()
        for action in np.tile(ACTIONS, (20, 1, 1)):
            lanes.step(action)
        after = lanes.usage()
        assert after.cpu_seconds > before.cpu_seconds > 0
        assert after == total_usage(lanes._usages)
        own = min(usage.peak_memory_mb for usage in lanes._usages)
        assert 10 < own <= after.peak_memory_mb / 3
    assert lanes.usage() == after
    assert make_walk(SEEDS).usage() == Usage(0.0, 0.0)


def test_closing_ends_the_workers_and_may_be_done_twice():
    with opened(make_walk, 2) as lanes:
        lanes.close()
    assert [process.exitcode for process in lanes._processes] == [0, 0]


def test_lanes_that_no_worker_can_make_are_an_error():
    with pytest.raises(RuntimeError, match="ended with exit code 1"):
        ProcessLanes(refuse, np.array([[0]]), 1)
