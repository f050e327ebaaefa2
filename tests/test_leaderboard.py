"""Leaderboards: gates, incomplete rows, conditions, and what a failed run does to them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest
from factories import make_record

from suite.leaderboard import (
    Board,
    Entries,
    build_board,
    cell_state,
    common_board,
    data_hash,
    efficiency,
    split_by_conditions,
    task_ranks,
)
from suite.protocols import PROTOCOLS
from suite.ranking import RankInterval
from suite.records import Record

TASKS = [f"gymnasium/Task{number}-v0" for number in range(5)]
BOUNDS = {"floor": 0.0, "cap": 100.0, "floor_source": "zero", "cap_source": "a hundred"}
GOOD, BAD = (78.0, 79.0, 80.0, 81.0, 82.0), (18.0, 19.0, 20.0, 21.0, 22.0)


def record(algorithm: str, task: str, scores: Sequence[float] = GOOD, **changes: object) -> Record:
    """A record of a task with floor 0 and cap 100."""
    return make_record(algorithm, task, scores=scores, **{"normalisation": BOUNDS} | changes)


def records_of(scores: dict[str, Sequence[float]]) -> list[Record]:
    return [record(name, task, own) for name, own in scores.items() for task in TASKS]


def entries_of(records: Sequence[Record]) -> Entries:
    (conditions,) = split_by_conditions(records)
    return conditions.entries


def board_of(records: Sequence[Record]) -> Board:
    return build_board(entries_of(records), TASKS)


def test_aggregates_are_those_of_the_normalised_scores():
    (row,) = board_of(records_of({"ppo": (0.0, 20.0, 40.0, 60.0, 130.0)})).rows
    assert row.iqm is not None
    assert row.gap is not None
    # Of 25 cells six are cut from either end: all 0.0 and one 0.2, all 1.3 and one 0.6.
    assert row.iqm.value == pytest.approx((4 * 0.2 + 5 * 0.4 + 4 * 0.6) / 13)
    assert row.gap.value == pytest.approx((1.0 + 0.8 + 0.6 + 0.4 + 0.0) / 5)
    assert (row.mean, row.median) == (pytest.approx(0.5), pytest.approx(0.5))
    assert row.worst == (TASKS[0], pytest.approx(0.5))


def test_surely_different_algorithms_have_ranks_of_their_own():
    rows = board_of(records_of({"bad": BAD, "good": GOOD})).rows
    assert [(row.algorithm, row.rank) for row in rows] == [
        ("good", RankInterval(1, 1)),
        ("bad", RankInterval(2, 2)),
    ]


def test_equal_algorithms_share_their_ranks():
    rows = board_of(records_of({"one": GOOD, "two": GOOD, "bad": BAD})).rows
    assert [row.rank for row in rows] == [
        RankInterval(1, 2),
        RankInterval(1, 2),
        RankInterval(3, 3),
    ]


def test_a_single_row_has_no_rank():
    assert board_of(records_of({"ppo": GOOD})).rows[0].rank is None


@pytest.mark.parametrize(
    ("seeds", "label", "interval", "ranked"),
    [
        (2, "raw only", False, False),
        (3, "low n", True, False),
        (4, "low n", True, False),
        (5, "ranked", True, True),
        (10, "full", True, True),
    ],
)
def test_seeds_decide_what_a_row_may_claim(seeds: int, label: str, interval: bool, ranked: bool):
    scores = [70.0 + number for number in range(seeds)]
    rows = {
        row.algorithm: row
        for row in board_of(records_of({"new": scores, "old": BAD, "ppo": GOOD})).rows
    }
    row = rows["new"]
    assert row.claim.label == label
    assert (row.iqm is not None) == interval
    assert (row.rank is not None) == ranked
    assert rows["old"].rank is not None


def test_rows_with_few_seeds_stand_below_ranked_ones():
    rows = board_of(records_of({"few": GOOD[:3], "bad": BAD, "ppo": BAD})).rows
    assert [row.algorithm for row in rows] == ["bad", "ppo", "few"]


def test_the_reference_is_beaten_with_the_share_of_pairs():
    rows = board_of(records_of({"ppo": BAD, "sac": GOOD, "td3": BAD})).rows
    improvement = {row.algorithm: row.improvement for row in rows}
    assert improvement["ppo"] is None
    assert improvement["sac"] is not None
    assert improvement["td3"] is not None
    assert improvement["sac"].value == improvement["sac"].high == 1.0
    assert 0.5 < improvement["sac"].low < 1.0
    assert improvement["td3"].value == 0.5


def test_a_row_that_lacks_a_task_is_bounded_and_not_ranked():
    records = records_of({"ppo": GOOD, "sac": GOOD})
    board = board_of([one for one in records if (one.algorithm, one.task) != ("sac", TASKS[2])])
    assert [row.algorithm for row in board.rows] == ["ppo"]
    (row,) = board.incomplete
    assert row.missing == {TASKS[2]: "not run"}
    assert (row.iqm, row.rank) == (None, None)
    assert row.bounds["mean"] == (pytest.approx(0.64), pytest.approx(0.84))
    assert row.bounds["gap"] == (pytest.approx(0.16), pytest.approx(0.36))


def test_a_run_that_crashed_for_good_is_missing():
    records = records_of({"ppo": GOOD, "sac": GOOD})
    statuses = ["ok", "crashed", "ok", "ok", "ok"]
    records[-1] = record("sac", TASKS[-1], statuses=statuses)
    (row,) = board_of(records).incomplete
    assert row.missing == {TASKS[-1]: "1 of 5 crashed"}
    others = (4 * 400 + 321) / 25 / 100  # the lost run had 79
    assert row.bounds["mean"] == (pytest.approx(others), pytest.approx(others + 1 / 25))


def test_a_diverged_run_lowers_the_aggregate_and_stays_in_its_row():
    records = records_of({"ppo": GOOD, "sac": GOOD})
    before = board_of(records).rows[1]
    records[-1] = record("sac", TASKS[-1], statuses=["ok", "ok", "diverged", "ok", "ok"])
    after = {row.algorithm: row for row in board_of(records).rows}["sac"]
    assert before.algorithm == "sac"
    assert (before.mean, after.mean) == (pytest.approx(0.8), pytest.approx(0.8 - 0.8 / 25))
    assert after.gap is not None
    assert before.gap is not None
    assert after.gap.value > before.gap.value


def test_efficiency_is_what_runs_had_reached_on_each_axis():
    board = board_of(records_of({"ppo": (80.0,) * 5, "sac": GOOD[:2]}))
    curves = efficiency(board, "step")
    assert list(curves) == ["ppo"]  # two runs have no aggregate
    grid, band = curves["ppo"]
    assert (grid[0], grid[-1]) == (0, 10_000)
    assert band.value[0] == 0
    assert band.value[-1] == pytest.approx(0.8)
    assert (np.diff(band.value) >= 0).all()
    half = band.value[10]  # evaluated at the half of the budget: 5/9 of the way
    assert half == pytest.approx(0.8 * 5 / 9, abs=0.01)
    seconds, _ = efficiency(board, "wall_seconds")["ppo"]
    assert (seconds[0], seconds[-1]) == (pytest.approx(3), pytest.approx(60))


def test_efficiency_takes_a_failed_run_for_the_floor_from_its_failure_on():
    statuses = ["diverged"] * 4 + ["ok"]
    records = [record("ppo", task, (80.0,) * 5, statuses=statuses) for task in TASKS]
    _, band = efficiency(board_of(records), "step")["ppo"]
    assert band.value.max() > 0.3
    assert band.value[-1] == pytest.approx(0, abs=0.02)


def test_tasks_without_bounds_are_in_no_aggregate():
    records = [*records_of({"ppo": GOOD}), record("ppo", "gymnasium/New-v0", normalisation=None)]
    board = build_board(entries_of(records), [*TASKS, "gymnasium/New-v0"])
    assert board.unbounded == ("gymnasium/New-v0",)
    assert board.tasks == tuple(TASKS)
    assert [row.algorithm for row in board.rows] == ["ppo"]


def test_incomplete_rows_are_compared_on_the_tasks_that_all_share():
    tasks = [*TASKS, "gymnasium/More-v0"]
    records = [record(name, task) for name in ("ppo", "sac") for task in tasks][:-1]
    entries = entries_of(records)
    common = common_board(entries, build_board(entries, tasks))
    assert common is not None
    assert common.tasks == tuple(TASKS)
    assert [(row.algorithm, row.rank) for row in common.rows] == [("ppo", None), ("sac", None)]


def test_nothing_is_compared_on_too_few_common_tasks():
    entries = entries_of(records_of({"ppo": GOOD, "sac": GOOD})[:-1])
    assert common_board(entries, build_board(entries, TASKS)) is None


def test_four_tasks_make_no_headline():
    entries = entries_of(records_of({"ppo": GOOD}))
    assert not build_board(entries, TASKS[:4]).has_headline
    assert build_board(entries, TASKS).has_headline


def test_records_with_other_keys_stand_apart():
    records = [record(name, TASKS[0]) for name in ("a2c", "ppo", "sac")]
    records[1] = replace(records[1], key=dict(records[1].key) | {"engine": "other"})
    first, second = split_by_conditions(records)
    assert (sorted(first.entries), first.differences) == (["a2c", "sac"], ())
    assert (sorted(second.entries), second.differences) == (["ppo"], ("engine",))


def test_a_third_key_names_what_differs_from_the_first():
    records = [record(name, TASKS[0]) for name in ("a2c", "a3c", "ppo", "sac", "td3")]
    for place, engine in ((2, "second"), (3, "second"), (4, "third")):
        records[place] = replace(records[place], key=dict(records[place].key) | {"engine": engine})
    groups = split_by_conditions(records)
    assert [sorted(group.entries) for group in groups] == [["a2c", "a3c"], ["ppo", "sac"], ["td3"]]
    assert [group.differences for group in groups] == [(), ("engine",), ("engine",)]


def test_a_single_task_ranks_from_ten_runs_on():
    scores = {"a2c": BAD * 2, "ppo": GOOD * 2, "sac": GOOD}
    entries = entries_of([record(name, TASKS[0], own) for name, own in scores.items()])
    ranks = task_ranks({name: own[TASKS[0]] for name, own in entries.items()})
    assert ranks == {"ppo": RankInterval(1, 1), "a2c": RankInterval(2, 2)}


def test_the_data_hash_is_that_of_the_set_of_records():
    one, two = record("ppo", TASKS[0]), record("sac", TASKS[0])
    assert data_hash([one, two]) == data_hash([two, one])
    assert data_hash([one, two]) != data_hash([one])
    assert data_hash([one]) != data_hash([record("ppo", TASKS[0], BAD)])


@pytest.mark.parametrize(
    ("made", "state"),
    [
        ([], "not run"),
        ([("CartPole-v1", ["ok"] * 5)], "partial: 1 of 2 tasks"),
        ([("CartPole-v1", ["ok"] * 5), ("Pendulum-v1", ["ok"] * 5)], "complete"),
        ([("CartPole-v1", ["ok"] * 5), ("Pendulum-v1", ["ok"] * 3)], "3 of 5 seeds"),
        ([("CartPole-v1", ["diverged"] * 5)], "failed"),
        (
            [("CartPole-v1", ["ok", "diverged", "ok", "ok", "ok"]), ("Pendulum-v1", ["ok"] * 5)],
            "complete, 1 diverged",
        ),
    ],
)
def test_a_cell_says_how_far_it_is(made: list[tuple[str, list[str]]], state: str):
    records = [
        make_record("ppo", f"gymnasium/{task}", scores=GOOD[: len(statuses)], statuses=statuses)
        for task, statuses in made
    ]
    others = [make_record("sac"), make_record("ppo", protocol="smoke", scores=GOOD[:2])]
    assert cell_state([*records, *others], PROTOCOLS["quick"], "ppo", "gymnasium") == state


def test_a_cell_without_tasks_says_so():
    assert cell_state([], PROTOCOLS["bank"], "ppo", "isaacgym") == "no tasks"
