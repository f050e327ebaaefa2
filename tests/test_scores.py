from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from factories import make_record

from suite.records import Episode, Record, episode_table
from suite.scores import (
    TaskBounds,
    comparable,
    headline_split,
    learning_curves,
    normalise,
    score_table,
    seed_scores,
    window_start,
)

UNBOUNDED = "gymnasium/Acrobot-v1"


def one_seed(*returns_at: tuple[int, float], split: str = "eval", budget: int = 1_000) -> Record:
    """A record of seed 0 with one episode at each step; not a whole one, but scorable."""
    episodes = [Episode(0, step, split, 0, value, 1) for step, value in returns_at]
    record = make_record(scores=[0.0], steps=budget)
    return replace(record, episodes=episode_table(episodes))


def test_the_score_is_the_mean_over_the_last_tenth_of_the_budget():
    record = one_seed((0, 5.0), (900, 1000.0), (901, 10.0), (950, 20.0), (1000, 60.0))
    assert seed_scores(record).tolist() == [30.0]


def test_the_score_is_never_the_maximum():
    record = one_seed((500, 1e6), (950, 1.0), (1000, 3.0))
    assert seed_scores(record).tolist() == [2.0]


def test_every_episode_of_the_window_counts():
    record = make_record(scores=[100.0], steps=1_000)
    last = [Episode(0, 1000, "eval", number, value, 1) for number, value in enumerate([1, 2, 6])]
    scored = replace(record, episodes=episode_table(last))
    assert seed_scores(scored).tolist() == [3.0]


def test_equal_sums_tie_whatever_they_are_sums_of():
    found = set()
    for returns in ([0.1, 0.2, 0.3], [0.3, 0.2, 0.1], [0.15, 0.15, 0.3], [0.6, 0.0, 0.0]):
        last = [Episode(0, 1000, "eval", number, each, 1) for number, each in enumerate(returns)]
        record = replace(one_seed((0, 1.0), budget=1000), episodes=episode_table(last))
        found.add(float(seed_scores(record)[0]))
    assert found == {0.2}


@pytest.mark.parametrize(
    ("budget", "window", "start"),
    [(50_000, 0.1, 45_000), (1_000, 0.1, 900), (90, 0.3, 63), (512, 0.1, 460), (1_000, 1.0, 0)],
)
def test_the_window_begins_after_exactly_this_step(budget: int, window: float, start: int):
    assert window_start(budget, window) == start


def test_another_window_may_be_asked_for():
    record = one_seed((0, 100.0), (500, 1.0), (1000, 3.0))
    assert seed_scores(record, window=0.5).tolist() == [3.0]
    assert seed_scores(record, window=0.6).tolist() == [2.0]


def test_scores_come_in_the_order_of_the_seeds():
    scores = seed_scores(make_record(scores=[300.0, 100.0, 200.0]))
    assert scores == pytest.approx([300.0, 100.0, 200.0])


@pytest.mark.parametrize("status", ["diverged", "timeout", "crashed"])
def test_a_failed_seed_scores_the_floor_and_lowers_the_mean(status: str):
    statuses = ["ok", "ok", "ok", "ok", status]
    failed = score_table([make_record(scores=[400.0] * 5, statuses=statuses)])
    scores = failed.scores["ppo"]["gymnasium/CartPole-v1"]
    assert scores.raw == pytest.approx([400.0, 400.0, 400.0, 400.0, 22.69])
    assert scores.normalised is not None
    assert scores.normalised[4] == 0.0
    assert scores.raw.mean() == pytest.approx(324.538)
    assert scores.statuses == ("ok", "ok", "ok", "ok", status)
    assert scores.failed.tolist() == [False, False, False, False, True]


def test_a_seed_that_fails_after_good_evaluations_scores_the_floor_all_the_same():
    record = one_seed((950, 500.0), (1000, 500.0))
    run = replace(record.runs[0], status="diverged", reason="loss at step 1000")
    assert seed_scores(replace(record, runs=(run,))).tolist() == [22.69]


def test_failing_never_pays():
    record = one_seed((500, 90.0), (950, 5.0), (1000, 7.0))
    run = replace(record.runs[0], status="diverged", reason="loss at step 1000")
    assert (
        seed_scores(replace(record, runs=(run,))).tolist() == seed_scores(record).tolist() == [6.0]
    )
    early = one_seed((0, 90.0), (500, 4.0), (500, 6.0))
    assert seed_scores(replace(early, runs=(run,))).tolist() == [5.0]


def test_without_bounds_the_floor_is_the_lowest_episode_return_of_the_record():
    record = make_record(task=UNBOUNDED, scores=[10.0, 20.0], statuses=["ok", "diverged"])
    assert seed_scores(record) == pytest.approx([10.0, -0.09])


def test_without_bounds_all_algorithms_of_a_task_share_the_lowest_floor():
    low = make_record("dqn", task=UNBOUNDED, scores=[-70.0, -70.0])
    failed = make_record("ppo", task=UNBOUNDED, scores=[10.0, 20.0], statuses=["ok", "timeout"])
    scores = score_table([low, failed]).scores
    assert scores["ppo"][UNBOUNDED].raw == pytest.approx([10.0, -70.09])
    assert scores["ppo"][UNBOUNDED].normalised is None


def test_a_task_of_which_nothing_is_known_has_no_number():
    record = make_record(task=UNBOUNDED, scores=[1.0], statuses=["crashed"])
    scores = score_table([record]).scores["ppo"][UNBOUNDED]
    assert np.isnan(scores.raw).tolist() == [True]
    assert scores.failed.tolist() == [True]


def test_a_finished_seed_without_an_episode_in_the_window_is_an_error():
    with pytest.raises(ValueError, match=r"seed 0 is ok, but no episode .* after step 900"):
        seed_scores(one_seed((0, 1.0), (900, 1.0)))


def test_the_floor_is_0_and_the_cap_1():
    assert normalise([10.0, 20.0, 15.0, 40.0, 5.0], 10.0, 20.0).tolist() == [0, 1, 0.5, 3, -0.5]
    assert float(normalise(-150, -1250.0, -150.0)) == 1.0


@pytest.mark.parametrize("cap", [10.0, 5.0, float("nan")])
def test_a_cap_that_is_not_above_the_floor_is_refused(cap: float):
    with pytest.raises(ValueError, match=r"must be above the floor 10\.0"):
        normalise(1.0, 10.0, cap)


def test_unseen_levels_are_the_headline_where_there_are_levels():
    record = make_record(scores=[100.0], splits=("test-levels", "train-levels"))
    assert headline_split(record) == "test-levels"
    assert seed_scores(record) == pytest.approx([100.0])
    assert headline_split(make_record(scores=[100.0])) == "eval"


def test_a_learning_curve_has_the_mean_return_of_every_evaluation():
    episodes = [
        Episode(0, 0, "eval", 0, 1.0, 1),
        Episode(0, 0, "eval", 1, 3.0, 1),
        Episode(0, 500, "eval", 0, 7.0, 1),
    ]
    record = replace(make_record(scores=[0.0, 0.0]), episodes=episode_table(episodes))
    curves = learning_curves(record)
    assert curves[0].steps.tolist() == [0, 500]
    assert curves[0].returns.tolist() == [2.0, 7.0]
    assert curves[1].steps.tolist() == []


def test_the_curve_of_a_failed_seed_ends_where_it_failed():
    curves = learning_curves(make_record(scores=[1.0, 1.0], statuses=["ok", "diverged"]))
    assert [len(curves[seed].steps) for seed in (0, 1)] == [21, 10]


def test_curves_of_other_splits_can_be_asked_for():
    record = make_record(scores=[100.0], splits=("test-levels", "train-levels"))
    assert learning_curves(record)[0].returns[-1] == pytest.approx(100.0)
    assert learning_curves(record, "train-levels")[0].returns[-1] == pytest.approx(101.0)


def test_the_table_is_sorted_whatever_the_order_of_the_records():
    records = [
        make_record("sac", "mujoco/HalfCheetah-v5"),
        make_record("sac", "gymnasium/Pendulum-v1"),
        make_record("dqn", "gymnasium/Pendulum-v1"),
    ]
    table = score_table(records)
    assert {name: list(tasks) for name, tasks in table.scores.items()} == {
        "dqn": ["gymnasium/Pendulum-v1"],
        "sac": ["gymnasium/Pendulum-v1", "mujoco/HalfCheetah-v5"],
    }
    assert list(table.scores) == ["dqn", "sac"]
    assert table.bounds["gymnasium/Pendulum-v1"] == TaskBounds(-1255.55, -150.0)


def test_normalised_scores_come_as_runs_by_tasks():
    tasks = ["gymnasium/CartPole-v1", "gymnasium/Pendulum-v1"]
    table = score_table(
        [
            make_record(task=tasks[0], scores=[22.69, 500.0, 500.0]),
            make_record(task=tasks[1], scores=[-150.0, -150.0, -1255.55]),
        ]
    )
    scores = table.normalised("ppo", tasks)
    assert isinstance(scores, np.ndarray)
    assert scores == pytest.approx(np.array([[0, 1], [1, 1], [1, 0]]), abs=1e-12)


def test_unequal_numbers_of_runs_come_as_one_array_per_task():
    tasks = ["gymnasium/CartPole-v1", "gymnasium/Pendulum-v1"]
    records = [make_record(task=task, scores=[-150.0] * n) for n, task in enumerate(tasks, start=2)]
    scores = score_table(records).normalised("ppo", tasks)
    assert [column.shape for column in scores] == [(2,), (3,)]


@pytest.mark.parametrize("task", [UNBOUNDED, "gymnasium/Pendulum-v1"])
def test_normalised_scores_that_do_not_exist_are_refused(task: str):
    table = score_table([make_record(task=UNBOUNDED)])
    with pytest.raises(ValueError, match=f"ppo has no normalised scores on {task}"):
        table.normalised("ppo", [task])


def test_other_bounds_may_take_the_place_of_the_record_s():
    task = "gymnasium/CartPole-v1"
    record = make_record(scores=[50.0, 80.0], statuses=["ok", "diverged"])
    scores = score_table([record], {task: TaskBounds(0.0, 100.0)}).scores["ppo"][task]
    assert scores.raw == pytest.approx([50.0, 0.0])
    assert scores.normalised == pytest.approx([0.5, 0.0])


def test_two_records_of_one_cell_are_refused():
    with pytest.raises(ValueError, match="2 records of ppo on gymnasium/CartPole-v1"):
        score_table([make_record(), make_record("sac"), make_record()])


def test_records_under_different_rules_are_never_scored_together():
    with pytest.raises(
        ValueError, match=r"dqn and ppo on .* not comparable; they differ in budget"
    ):
        score_table([make_record("dqn"), make_record("ppo", steps=60_000)])


def test_other_bounds_are_other_rules():
    bounds = {"floor": 0.0, "cap": 1.0, "floor_source": "", "cap_source": ""}
    with pytest.raises(ValueError, match="they differ in normalisation"):
        score_table([make_record("dqn"), make_record("ppo", normalisation=bounds)])


def test_the_larger_group_is_kept_and_the_rest_set_aside_with_the_fields():
    records = [make_record("a2c", steps=60_000), make_record("dqn"), make_record("ppo")]
    kept, aside = comparable(records)
    assert [record.algorithm for record in kept] == ["dqn", "ppo"]
    assert [(one.record.algorithm, one.fields) for one in aside] == [("a2c", ("budget",))]


def test_of_two_equal_groups_the_newer_one_is_kept():
    old = make_record("dqn")
    new = make_record("ppo", steps=60_000)
    new = replace(
        new, runs=tuple(replace(run, finished="2026-01-01T00:00:00Z") for run in new.runs)
    )
    assert [record.algorithm for record in comparable([old, new])[0]] == ["ppo"]
    assert [one.record.algorithm for one in comparable([new, old])[1]] == ["dqn"]


def test_tasks_are_grouped_apart():
    records = [make_record(task="mujoco/HalfCheetah-v5"), make_record(task=UNBOUNDED)]
    kept, aside = comparable(records)
    assert [record.task for record in kept] == [UNBOUNDED, "mujoco/HalfCheetah-v5"]
    assert aside == []
