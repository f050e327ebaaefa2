"""Records that are run again: the verdict, and what it takes to be run at all."""

from __future__ import annotations

import json
from dataclasses import replace
from itertools import starmap
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from commands import suite
from factories import make_record

from suite.records import load, save
from suite.reproduction import _welch, compare, groups, repetition

CELL = ("dqn", "gymnasium/CartPole-v1", "--protocol", "smoke")


@pytest.fixture(scope="module")
def recorded(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The JSON of a bench whose two seeds trained apart."""
    folder = tmp_path_factory.mktemp("recorded")
    assert suite("bench", *CELL, "--results", folder, "--runs", folder / "runs", "--jobs", 2) == 0
    return folder / "smoke" / CELL[1] / "dqn.json"


def reproduce(
    path: Path, live: Path, capsys: pytest.CaptureFixture[str]
) -> tuple[int, dict[str, Any]]:
    capsys.readouterr()
    code = suite("reproduce", path, "--runs", live, "--json")
    return code, json.loads(capsys.readouterr().out)


def test_a_record_comes_out_again_to_the_last_digit(
    recorded: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    before = recorded.read_bytes()
    for _ in range(2):  # a second time it runs again
        code, found = reproduce(recorded, tmp_path, capsys)
        assert (code, found["verdict"], found["departures"]) == (0, "identical", [])
        assert [pair["differs_at"] for pair in found["pairs"]] == [None, None]
        assert capsys.readouterr().err == ""
    assert recorded.read_bytes() == before
    assert groups(load(recorded)) == [(0,), (1,)]


def test_the_table_and_the_verdict_are_printed(
    recorded: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    assert suite("reproduce", recorded, "--runs", tmp_path) == 0
    out = capsys.readouterr().out
    assert "first difference" in out
    assert "identical: every evaluation episode came out again" in out


def test_a_record_whose_config_was_another_is_run_with_that_config(
    recorded: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    old = load(recorded)
    changed = replace(old, config={**old.config, "learning_rate": 0.5}, source_hash="0" * 64)
    save(changed, tmp_path / "results")
    path = tmp_path / "results" / recorded.relative_to(recorded.parents[3])
    _, found = reproduce(path, tmp_path / "runs", capsys)
    assert found["departures"] == ["source_hash"]
    assert found["verdict"] != "identical"
    steps = [pair["differs_at"] for pair in found["pairs"]]
    assert any(steps)
    assert 0 not in steps  # nothing is learned by then


class TestVerdict:
    SCORES = (100.0, 120.0, 130.0, 140.0, 160.0)

    def verdict(self, scores: tuple[float, ...], **changes: object) -> str:
        return compare(
            make_record(scores=self.SCORES), make_record(scores=scores, **changes)
        ).verdict

    def test_other_numbers_of_the_same_size_are_consistent(self):
        assert self.verdict((105.0, 110.0, 128.0, 150.0, 151.0)) == "consistent"

    def test_numbers_of_another_size_are_different(self):
        assert self.verdict((205.0, 210.0, 228.0, 250.0, 251.0)) == "different"

    def test_the_same_numbers_with_another_status_are_not_identical(self):
        failed = compare(
            make_record(scores=self.SCORES),
            make_record(scores=self.SCORES, statuses=["ok"] * 4 + ["diverged"]),
        )
        assert failed.verdict != "identical"
        assert failed.pairs[4].statuses == ("ok", "diverged")

    def test_equal_scores_without_spread_are_consistent_and_others_different(self):
        steady = make_record(scores=(100.0,) * 5)
        other = replace(steady, episodes=steady.episodes.assign(length=99))
        assert compare(steady, other).verdict == "consistent"
        assert compare(steady, make_record(scores=(101.0,) * 5)).verdict == "different"

    def test_a_single_run_has_no_spread_to_judge_by(self):
        found = compare(make_record(scores=(100.0,)), make_record(scores=(101.0,)))
        assert found.verdict == "different"
        assert found.plain()["difference"] == {"value": 1.0, "low": None, "high": None}

    def test_one_in_twenty_faithful_repetitions_fails(self):
        draws = np.random.default_rng(0).normal(100, 20, size=(1000, 2, 5))
        missed = [not one.low <= 0 <= one.high for one in starmap(_welch, draws)]
        assert 0.03 < np.mean(missed) < 0.07


def test_parameters_that_differ_are_not_identical(recorded: Path):
    record = load(recorded)
    runs = tuple(replace(run, digest="0" * 64) for run in record.runs)
    assert compare(replace(record, runs=runs), record).verdict == "consistent"


def test_a_repetition_that_crashes_says_nothing():
    crashed = make_record(statuses=["crashed"] * 5)
    with pytest.raises(ValueError, match="seed 0 crashed every time"):
        compare(make_record(), crashed)


def test_what_cannot_be_run_here_says_why():
    with pytest.raises(
        ValueError, match=r"version 9 of protocol quick, here it is \d+; go back to"
    ):
        repetition(make_record(protocol_version=9))
    with pytest.raises(ValueError, match=r"dqn has another config now: .*hidden_sizes"):
        repetition(make_record(algorithm="dqn"))
    with pytest.raises(ValueError, match="unknown algorithm 'ppoo'"):
        repetition(make_record(algorithm="ppoo"))


def test_a_path_without_a_record_is_a_wrong_argument(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    assert suite("reproduce", tmp_path / "none.json") == 2
    assert capsys.readouterr().err == f"suite: {tmp_path / 'none.json'}: there is no record\n"
