"""Predictions follow from the throughput in records."""

from __future__ import annotations

import factories
import pytest
from test_bench import make_cell

from suite.planning import predict
from suite.records import Record

CELL = make_cell()
"""50,000 steps of ppo on CartPole."""


def test_time_grows_with_steps_and_seeds():
    record = factories.make_record(wall_seconds=360.0)  # 5 seeds together, 50,000 steps
    prediction = predict(CELL, 10, [record])
    assert prediction is not None
    assert prediction.hours == pytest.approx(0.2)
    assert prediction.memory_mb == 300.0
    assert prediction.basis == "ppo on gymnasium/CartPole-v1"


def test_other_task_of_the_family_stands_in_for_a_task_without_records():
    pendulum = factories.make_record(task="gymnasium/Pendulum-v1", wall_seconds=360.0)
    cheetah = factories.make_record(task="mujoco/HalfCheetah-v5", wall_seconds=9999.0)
    prediction = predict(CELL, 5, [cheetah, pendulum])
    assert prediction is not None
    assert prediction.basis == "ppo on gymnasium"
    assert prediction.hours == pytest.approx(0.25)  # 50,000 steps at the cost of 20,000


def test_a_family_without_records_costs_what_it_costs_other_learners_beyond_other_families():
    def record(algorithm: str, task: str, seconds: float) -> Record:
        return factories.make_record(algorithm, task, steps=20_000, wall_seconds=seconds)

    own = record("ppo", "mujoco/HalfCheetah-v5", 100.0)
    others = [
        record("sac", "mujoco/HalfCheetah-v5", 50.0),
        record("sac", "gymnasium/Pendulum-v1", 150.0),  # three times as dear
        record("random", "mujoco/HalfCheetah-v5", 1.0),
        record("random", "gymnasium/Pendulum-v1", 99.0),
        record("dqn", "mujoco/HalfCheetah-v5", 1.0),  # has no record of the family
    ]
    prediction = predict(CELL, 5, [own, *others])
    assert prediction is not None
    assert prediction.hours == pytest.approx(3 * 2.5 * 100 / 3600)
    assert prediction.basis == "ppo on other families, 3 times as dear for sac"
    alone = predict(CELL, 5, [own])
    assert alone is not None
    assert alone.hours == pytest.approx(2.5 * 100 / 3600)


def test_learners_that_replay_are_compared_with_their_like():
    def record(algorithm: str, place: str, seconds: float) -> Record:
        task = {"here": "gymnasium/CartPole-v1", "elsewhere": "mujoco/HalfCheetah-v5"}[place]
        return factories.make_record(algorithm, task, steps=20_000, wall_seconds=seconds)

    records = [record("td3", "elsewhere", 10.0)]
    records += [record("ppo", "here", 900.0), record("ppo", "elsewhere", 1.0)]
    cell = make_cell("td3")

    def basis() -> str:
        prediction = predict(cell, 5, records)
        assert prediction is not None
        return prediction.basis

    assert basis().endswith("9e+02 times as dear for ppo")  # nobody else to ask
    records += [record("sac", "here", 30.0), record("sac", "elsewhere", 10.0)]
    records += [record("gone", "here", 70.0), record("gone", "elsewhere", 10.0)]
    assert basis().endswith("3 times as dear for sac")


def test_without_records_of_the_algorithm_there_is_no_prediction():
    others = [factories.make_record("sac"), factories.make_record(protocol="smoke")]
    assert predict(CELL, 5, others) is None
