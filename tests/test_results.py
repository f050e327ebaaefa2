"""The results that are committed here are sound."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from suite.protocols import PROTOCOLS
from suite.records import check, load
from suite.scores import comparable, score_table

ROOT = Path(__file__).parent.parent
RESULTS = ROOT / "results"


def committed() -> list[Path]:
    """Records as they stand in the last commit; a user's own benches are none of our business."""
    git = ["git", "-C", str(ROOT), "-c", "core.quotePath=off"]
    listed = subprocess.run([*git, "ls-files", "results"], capture_output=True, text=True)
    changed = subprocess.run([*git, "diff", "--name-only", "HEAD", "results"],
                             capture_output=True, text=True)  # fmt: skip
    own = set(changed.stdout.splitlines())
    names = [name for name in listed.stdout.splitlines() if name not in own]
    return sorted(ROOT / name for name in names if name.endswith(".json"))


PATHS = committed()


def test_suite_check_finds_nothing_wrong_with_what_is_committed():
    ours = {path.with_suffix("") for path in PATHS}
    assert [str(one) for one in check(RESULTS) if one.path.with_suffix("") in ours] == []


def test_something_is_committed():
    assert len(PATHS) > 100


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
