"""The statistics of the leaderboards for anyone's CSV of scores."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from suite.outside import aggregate, normalise_table, read_scores
from suite.scores import TaskBounds


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
    (tmp_path / "c.csv").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ValueError, match="not a CSV in UTF-8"):
        read_scores([tmp_path / "c.csv"])


def test_aggregates_of_few_runs_are_withheld():
    (row,) = aggregate({"mine": {"maze": np.array([1.0, 2.0])}})
    assert row.iqm is None
    assert row.rank is None


def test_best_algorithm_comes_first_with_its_rank():
    rng = np.random.default_rng(0)
    table = {
        name: {task: level + 0.01 * rng.random(10) for task in ("maze", "cave")}
        for name, level in (("slow", 0.2), ("fast", 0.9))
    }
    fast, slow = aggregate(table)
    assert (fast.algorithm, slow.algorithm) == ("fast", "slow")
    assert tuple(fast.rank) == (1, 1)
    assert tuple(slow.rank) == (2, 2)
    assert fast.iqm.low <= fast.iqm.value <= fast.iqm.high
    assert fast.iqm.value == pytest.approx(0.905, abs=0.002)
    assert json.loads(json.dumps(fast.plain()))["rank"] == {"best": 1, "worst": 1}


def test_algorithm_without_some_task_has_no_aggregate():
    table = {
        "whole": {"maze": np.arange(5.0), "cave": np.arange(5.0)},
        "part": {"maze": np.arange(5.0)},
    }
    whole, part = aggregate(table)
    assert part.missing == ("cave",)
    assert part.iqm is None
    assert whole.iqm is not None


def test_scores_are_normalised_by_the_bounds_of_their_tasks():
    table = normalise_table(
        {"mine": {"maze": np.array([10.0, 30.0])}}, {"maze": TaskBounds(10, 20)}
    )
    assert list(table["mine"]["maze"]) == [0.0, 2.0]
