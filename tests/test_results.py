"""The results that are committed here are sound."""

from __future__ import annotations

from pathlib import Path

import pytest

from suite.protocols import PROTOCOLS
from suite.records import check, load
from suite.scores import comparable, score_table

RESULTS = Path(__file__).parent.parent / "results"
PATHS = sorted(
    path for path in RESULTS.rglob("*.json") if path.relative_to(RESULTS).parts[0] != "trial"
)


def test_suite_check_finds_nothing_wrong_with_what_is_committed():
    wrong = [one for one in check(RESULTS) if one.path.relative_to(RESULTS).parts[0] != "trial"]
    assert [str(one) for one in wrong] == []


@pytest.mark.parametrize("path", PATHS, ids=[str(path.relative_to(RESULTS)) for path in PATHS])
def test_every_committed_record_can_be_scored(path: Path):
    kept, _ = comparable([load(path)])
    scores = score_table(kept).scores
    assert [list(tasks) for tasks in scores.values()] == [[load(path).task]]


@pytest.mark.parametrize("path", PATHS, ids=[str(path.relative_to(RESULTS)) for path in PATHS])
def test_every_committed_record_holds_all_seeds_of_its_protocol(path: Path):
    record = load(path)
    assert set(PROTOCOLS[record.protocol].seeds) <= set(record.seeds)


@pytest.mark.parametrize("path", PATHS, ids=[str(path.relative_to(RESULTS)) for path in PATHS])
def test_every_committed_record_names_the_code_it_came_from(path: Path):
    for run in load(path).runs:
        assert run.commit, f"seed {run.seed} has no commit"
        assert not run.dirty, f"seed {run.seed} ran on uncommitted changes"
