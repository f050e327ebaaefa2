"""Fingerprints: equal for equal code, and where they part for other code."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

import pytest

from suite import fingerprint, registry
from suite.fingerprint import Fingerprint, take_fingerprint
from suite.regress import first_difference
from suite.revisions import lines_of_functions

CARTPOLE = "gymnasium/CartPole-v1"
ROOT = Path(__file__).parent.parent


@pytest.fixture(autouse=True)
def short(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fingerprint, "STEPS", 512)
    monkeypatch.setattr(fingerprint, "SMALL", {"learning_starts": 64, "replay_capacity": 128})


def changed(monkeypatch: pytest.MonkeyPatch, algorithm: str, **fields: object) -> Fingerprint:
    """The fingerprint of an algorithm whose presets say something else."""
    entry = registry.load_algorithm(algorithm)
    presets = {**entry.presets, CARTPOLE: {**entry.presets.get(CARTPOLE, {}), **fields}}
    other = replace(entry, presets=presets)
    with monkeypatch.context() as patch:
        patch.setattr("suite.cells.load_algorithm", lambda name: other)
        return take_fingerprint(algorithm, CARTPOLE)


@pytest.mark.parametrize("algorithm", ["ppo", "dqn", "q_learning", "random"])
def test_a_fingerprint_comes_out_again_and_a_checkpoint_holds_the_whole_state(algorithm: str):
    one, other = (take_fingerprint(algorithm, CARTPOLE) for _ in range(2))
    assert one.streams == other.streams
    assert first_difference(one.streams, other.streams) == ""
    assert one.streams["state"] == one.streams["resumed state"]
    assert len({len(one.streams[name]) for name in ("actions", "observations", "losses")}) == 1
    assert sys.gettrace() is None or "coverage" in sys.modules


def test_where_fingerprints_part(monkeypatch: pytest.MonkeyPatch):
    before = take_fingerprint("dqn", CARTPOLE)
    other = changed(monkeypatch, "dqn", learning_rate=2e-4)
    assert first_difference(before.streams, other.streams) == "another config"
    del before.streams["config"]
    text = first_difference(before.streams, other.streams)
    assert text.startswith("losses at update 0; equal: observations until ")
    later = changed(monkeypatch, "dqn", epsilon_initial=0.5)
    assert first_difference(before.streams, later.streams).startswith("observations at update 0")


def test_a_setting_that_the_short_run_replaces_is_not_overlooked(monkeypatch: pytest.MonkeyPatch):
    before = take_fingerprint("dqn", CARTPOLE)
    for name, value in (("replay_capacity", 10), ("learning_starts", 5_000)):
        other = changed(monkeypatch, "dqn", **{name: value})
        assert first_difference(before.streams, other.streams) == "another config"
        assert other.streams["actions"] == before.streams["actions"]


def test_parts_in_words():
    base = {"actions": ["a", "b", "c"], "losses": ["a", "b", "c"], "state": ["x"]}
    assert first_difference(base, base) == ""
    assert first_difference(base, base | {"state": ["y"]}) == "state at the end"
    settings = base | {"config": ["1"]}
    assert first_difference(settings, settings | {"config": ["2"]}) == "another config"
    late = base | {"losses": ["a", "z", "c"], "actions": ["a", "b", "z"], "state": ["y"]}
    assert first_difference(base, late) == "losses at update 1; equal: actions until 2"
    assert first_difference(base, base | {"losses": ["a"]}) == "losses at update 1"


def test_lines_that_ran_are_noted():
    found = take_fingerprint("q_learning", CARTPOLE).lines
    own = set(found["baselines/q_learning.py"])
    assert own <= lines_of_functions(ROOT / "baselines" / "q_learning.py")
    source = (ROOT / "baselines" / "q_learning.py").read_text().splitlines()
    start = next(i for i, line in enumerate(source, 1) if "def observe" in line)
    assert own & set(range(start, start + 30))
    assert not found.get("baselines/sac.py"), "other tests may have imported it"
    assert found["suite/registry.py"], "the cell is found within the fingerprint"


def test_what_is_not_in_the_bank_has_no_fingerprint():
    with pytest.raises(ValueError, match="protocol bank has no budget"):
        take_fingerprint("ppo", "gymnasium/Acrobot-v1")
