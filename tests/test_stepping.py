"""Both sides of the comparison of stepping speeds run, on every family that has one."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
from agents_support import FAMILIES

from suite import stepping
from suite.envs.lanes import Lanes
from suite.names import family_of
from suite.registry import engine_for, load_family
from suite.stepping import PACKAGES, Rates, compare, compared_tasks, family_ratios
from suite.tasks import Task


def test_every_family_that_another_package_steps_on_a_cpu_is_compared():
    """Isaac Gym's tasks are stepped by nothing else there; Gymnasium's were never compared."""
    expected = set(FAMILIES) - {"gymnasium", "isaacgym"}
    assert set(PACKAGES) == expected
    assert {family_of(task) for task in compared_tasks()} == expected


def test_every_robot_is_compared():
    compared = [family_of(task) for task in compared_tasks()]
    assert compared.count("mujoco") == len(load_family("mujoco").tasks) == 11
    assert compared.count("dmcontrol") == len(load_family("dmcontrol").sets["proprio-18"]) == 18


@pytest.mark.parametrize("family", PACKAGES)
def test_both_sides_step(family: str):
    task = next(task for task in compared_tasks() if family_of(task) == family)
    rates = compare(task, rounds=1, steps=3)
    assert rates.ours > 0
    assert rates.ratio == pytest.approx(rates.ours / rates.alone)
    assert rates.package.startswith(PACKAGES[family][0])


def test_a_family_is_as_much_faster_as_the_geometric_mean_of_its_tasks():
    rates = [
        Rates("mujoco/Ant-v5", "", 1, 1, ratio=1.0),
        Rates("atari/Pong-v5", "", 1, 1, ratio=0.9),
        Rates("mujoco/Reacher-v5", "", 1, 1, ratio=4.0),
    ]
    assert family_ratios(rates) == pytest.approx({"mujoco": 2.0, "atari": 0.9})


def test_lanes_that_fail_have_no_speed(monkeypatch: pytest.MonkeyPatch):
    def make(task: Task, seeds: np.ndarray, split: str, threads: int) -> Lanes:
        lanes = engine_for(task).make(task, seeds, split, threads)
        lanes.failures[0] = "the lane is gone"
        return lanes

    monkeypatch.setattr(stepping, "engine_for", lambda task: SimpleNamespace(make=make))
    with pytest.raises(RuntimeError, match="DoorKey-5x5-v0: the lane is gone"):
        compare("minigrid/MiniGrid-DoorKey-5x5-v0", rounds=1, steps=3)
