"""Both sides of the comparison of stepping speeds run, on every family that has one."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
from agents_support import FAMILIES

from suite import stepping
from suite.envs.lanes import Lanes
from suite.registry import engine_for
from suite.stepping import PACKAGES, compare
from suite.tasks import Task


def test_every_family_that_another_package_steps_on_a_cpu_is_compared():
    """Isaac Gym's tasks are stepped by nothing else there; Gymnasium's were never compared."""
    expected = set(FAMILIES) - {"gymnasium", "isaacgym"}
    assert {task.split("/")[0] for task in PACKAGES} == expected


@pytest.mark.parametrize("task", PACKAGES)
def test_both_sides_step(task: str):
    rates = compare(task, rounds=1, steps=3)
    assert rates.ours > 0
    assert rates.ratio == pytest.approx(rates.ours / rates.alone)
    assert rates.package.startswith(PACKAGES[task][0])


def test_lanes_that_fail_have_no_speed(monkeypatch: pytest.MonkeyPatch):
    def make(task: Task, seeds: np.ndarray, split: str, threads: int) -> Lanes:
        lanes = engine_for(task).make(task, seeds, split, threads)
        lanes.failures[0] = "the lane is gone"
        return lanes

    monkeypatch.setattr(stepping, "engine_for", lambda task: SimpleNamespace(make=make))
    with pytest.raises(RuntimeError, match="DoorKey-5x5-v0: the lane is gone"):
        compare("minigrid/MiniGrid-DoorKey-5x5-v0", rounds=1, steps=3)
