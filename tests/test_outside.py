"""The statistics of the leaderboards for anyone's CSV of scores."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest
from rliable import library, metrics

from suite.outside import normalise_table, read_bounds, read_scores, summarise
from suite.pages.scores import scores_page


def write(path: Path, *lines: str, header: str = "algorithm,task,seed,score") -> Path:
    path.write_text("\n".join([header, *lines]) + "\n")
    return path


def test_files_are_read_together_whatever_the_order_of_their_columns(tmp_path: Path):
    first = write(tmp_path / "a.csv", "mine,maze,0,1.5", "mine,maze,1,2.5")
    header = "score,seed,note,task,algorithm"
    second = write(tmp_path / "b.csv", "3,0,hello,maze,theirs", header=header)
    table = read_scores([first, second])
    assert {name: {t: list(s) for t, s in own.items()} for name, own in table.items()} == {
        "mine": {"maze": [1.5, 2.5]},
        "theirs": {"maze": [3.0]},
    }


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("mine,maze,0,fast", "line 2: score 'fast' is not a number"),
        ("mine,maze,0,nan", "line 2: score nan is not finite"),
        ("mine,maze,0,1e300", "line 2: score 1e300 is beyond 1e+100"),
        ("mine,maze,0,0,5", "line 2: more fields than columns"),
        ("mine,maze,0", "line 2: score '' is not a number"),
        (",maze,0,1", "line 2: algorithm is empty"),
        ("mi\x1b[2Jne,maze,0,1", "not printable"),
        ("mine,maze,0,1\nmine,maze,0,2", "line 3: mine on maze has seed 0 twice"),
    ],
)
def test_wrong_line_is_named(tmp_path: Path, line: str, reason: str):
    path = write(tmp_path / "a.csv", line)
    with pytest.raises(ValueError, match=r"a\.csv") as error:
        read_scores([path])
    assert reason in str(error.value)


def test_file_that_is_no_such_csv_is_named(tmp_path: Path):
    with pytest.raises(ValueError, match=r"there\.csv cannot be read: No such file"):
        read_scores([tmp_path / "there.csv"])
    with pytest.raises(ValueError, match="has no column seed"):
        read_scores([write(tmp_path / "b.csv", header="algorithm,task,score")])
    header = "algorithm,task,seed,score,score"
    with pytest.raises(ValueError, match="has two columns 'score'"):
        read_scores([write(tmp_path / "d.csv", header=header)])
    (tmp_path / "c.csv").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ValueError, match="not a CSV in UTF-8"):
        read_scores([tmp_path / "c.csv"])


def test_runs_come_in_the_order_of_their_seeds(tmp_path: Path):
    path = write(tmp_path / "a.csv", "mine,maze,10,3", "mine,maze,x,4", "mine,maze,9,2")
    assert read_scores([path])["mine"]["maze"].tolist() == [2.0, 3.0, 4.0]


def test_a_file_without_scores_is_refused(tmp_path: Path):
    with pytest.raises(ValueError, match="there are no scores"):
        read_scores([write(tmp_path / "a.csv")])


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("maze,0", "line 2: cap '' is not a number"),
        ("maze,0,inf", "line 2: cap inf is not finite"),
        ("maze,1,1", "line 2: the cap 1.0 must be above the floor 1.0"),
        ("maze,0,1\nmaze,0,2", "line 3: maze comes twice"),
    ],
)
def test_wrong_reference_is_named(tmp_path: Path, line: str, reason: str):
    with pytest.raises(ValueError, match=r"refs\.csv") as error:
        read_bounds(write(tmp_path / "refs.csv", line, header="task,floor,cap"))
    assert reason in str(error.value)


def test_scores_are_normalised_by_the_bounds_of_their_tasks(tmp_path: Path):
    bounds = read_bounds(write(tmp_path / "refs.csv", "maze,10,20", header="task,floor,cap"))
    table = normalise_table({"mine": {"maze": np.array([10.0, 30.0])}}, bounds)
    assert list(table["mine"]["maze"]) == [0.0, 2.0]
    with pytest.raises(ValueError, match="no floor and cap for cave"):
        normalise_table({"mine": {"cave": np.ones(2)}}, bounds)


def some_table(runs: int = 10, tasks: int = 5) -> dict[str, dict[str, np.ndarray]]:
    rng = np.random.default_rng(0)
    return {
        name: {f"task {place}": level + 0.1 * rng.random(runs) for place in range(tasks)}
        for name, level in (("fast", 0.9), ("slow", 0.2))
    }


def test_aggregates_are_those_of_rliable_on_its_own_index_stream():
    table = some_table()
    (row, _) = summarise(table, "rliable", reps=200).rows
    matrix = np.stack(list(table["fast"].values()), axis=1)
    state = np.random.get_state()  # noqa: NPY002
    np.random.seed(0)  # noqa: NPY002
    value, ends = library.get_interval_estimates(
        {"fast": matrix}, lambda scores: np.array([metrics.aggregate_iqm(scores)]), reps=200
    )
    np.random.set_state(state)  # noqa: NPY002
    assert row.aggregates["iqm"] == (value["fast"][0], *ends["fast"][:, 0])


def test_best_algorithm_comes_first_with_its_rank():
    summary = summarise(some_table(), reps=200)
    assert [row.algorithm for row in summary.rows] == ["fast", "slow"]
    assert [row.rank for row in summary.rows] == [(1, 1), (2, 2)]
    improvement = summary.improvement["fast"]["slow"]
    assert (improvement.value, improvement.high) == (1, 1)
    assert 0.5 < improvement.low < 1
    assert summary.improvement["slow"]["fast"] == (0, 0, 1 - improvement.low)
    exactly = summarise(some_table(), reps=200, ci="rliable").improvement
    assert exactly["fast"]["slow"] == (1, 1, 1)
    assert summary.warnings == ()


def test_json_holds_what_the_command_promises():
    plain = summarise(some_table(runs=5), reps=200).plain()
    assert json.loads(json.dumps(plain, allow_nan=False)) == plain
    assert set(plain) == {"aggregates", "improvement", "ranks", "warnings"}
    fast = plain["aggregates"]["fast"]
    assert set(fast) == {"iqm", "mean", "median", "optimality_gap", "runs", "tasks"}
    assert set(fast["iqm"]) == {"value", "low", "high"}
    assert (fast["runs"], fast["tasks"]) == (5, 5)
    assert plain["improvement"]["fast"]["slow"]["value"] == 1
    assert plain["ranks"]["slow"] == {"best": 2, "worst": 2}


@pytest.mark.parametrize(
    ("runs", "warning"),
    [
        (2, "fast has 2 runs on a task: too few for an interval"),
        (4, "fast has 4 runs on a task: too few for a rank"),
    ],
)
def test_few_runs_have_no_rank_and_a_warning(runs: int, warning: str):
    summary = summarise(some_table(runs), reps=100)
    assert warning in summary.warnings
    assert [row.rank for row in summary.rows] == [None, None]
    assert math.isnan(summary.rows[0].aggregates["iqm"].low) == (runs < 3)
    assert math.isnan(summary.improvement["fast"]["slow"].low) == (runs < 3)
    assert summary.rows[0].aggregates["iqm"].value == pytest.approx(0.95, abs=0.05)


def test_few_tasks_have_a_warning():
    (warning,) = summarise(some_table(tasks=4), reps=100).warnings
    assert warning.startswith("only 4 tasks:")


def test_unequal_runs_are_weighted_and_named():
    table = some_table()
    table["slow"]["task 2"] = table["slow"]["task 2"][:7]
    summary = summarise(table, reps=100)
    assert summary.warnings == ("slow has 7 to 10 runs per task: every task keeps the same weight",)
    means = [scores.mean() for scores in table["slow"].values()]
    assert summary.rows[1].aggregates["mean"].value == pytest.approx(np.mean(means))
    assert summary.rows[1].rank == (2, 2)


def test_a_missing_task_gives_bounds_and_no_rank():
    table = some_table()
    del table["fast"]["task 2"]
    summary = summarise(table, reps=100)
    slow, fast = summary.rows
    assert (fast.algorithm, fast.missing, fast.rank) == ("fast", ("task 2",), None)
    total = sum(scores.mean() for scores in table["fast"].values())
    value, low, high = fast.aggregates["mean"]
    assert math.isnan(value)
    assert (low, high) == (pytest.approx(total / 5), pytest.approx((total + 1) / 5))
    assert summary.improvement["fast"]["slow"][1:] == pytest.approx((0.8, 1.0))
    assert summary.improvement["slow"]["fast"][1:] == pytest.approx((0.0, 0.2))
    assert slow.rank is None  # nobody is left to compare with
    assert summary.warnings[0].startswith("fast lacks task 2: its aggregates are bounds")
    assert summary.plain()["aggregates"]["fast"]["iqm"]["value"] is None


def test_algorithms_without_a_common_task_have_nothing_to_compare():
    table = {"one": {"maze": np.ones(5)}, "two": {"cave": np.ones(5)}}
    assert summarise(table, reps=100).improvement["one"]["two"][1:] == (0, 1)


def test_the_page_of_scores_shows_rows_warnings_and_figures():
    table = some_table()
    table["slow"]["task 2"] = table["slow"]["task 2"][:7]
    table["part|<b>"] = {"task 1": np.ones(3)}
    files = scores_page(table, summarise(table, reps=100), "default", 100)
    assert sorted(files) == [
        "scores.improvement.svg",
        "scores.md",
        "scores.profiles.svg",
        "scores.svg",
    ]
    text = files["scores.md"].decode()
    assert "| 1 | fast | 0.9" in text
    assert "| 7-10 x 5 |" in text
    assert "part\\|&lt;b&gt; lacks task 0, task 2" in text
    assert files == scores_page(table, summarise(table, reps=100), "default", 100)
