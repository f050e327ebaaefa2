"""Regression checks from the command line: verdicts, exit codes, what keeps one from a verdict."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import zlib
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from commands import suite
from factories import make_record

from suite.protocols import SEED_RANGES
from suite.records import load_all, save
from suite.revisions import Revision

ROOT = Path(__file__).parent.parent
CARTPOLE, PENDULUM = "gymnasium/CartPole-v1", "gymnasium/Pendulum-v1"
FLOORS = {CARTPOLE: 22.69, PENDULUM: -1255.55}


@dataclass
class Fake:
    """Stands for both revisions: its benches write records with normal scores, at once."""

    means: dict[str, dict[str, float]]
    """Mean score by label's first word and task; the spread is a twentieth of it."""
    same: bool = False
    """Whether the fingerprints are equal."""
    benches: list[tuple[str, str, int]] = field(default_factory=list)
    """Revision, purpose and seeds of every bench so far."""
    states: list[str] = field(default_factory=list)
    """What the first benches say of their records."""
    after_bench: Callable[[], object] = lambda: None

    def run(self, revision: Revision, command: str, *arguments: str) -> str:
        side = "candidate" if "tree" in revision.label else "base"
        options = dict(word[2:].partition("=")[::2] for word in arguments if "=" in word)
        algorithm, *tasks = arguments[arguments.index("--") + 1 :]
        if command == "fingerprint":
            mark = "same" if self.same else side
            streams = {task: {"losses": ["0", mark], "state": [mark]} for task in tasks}
            return json.dumps({"streams": streams, "lines": {task: {} for task in tasks}})
        assert command == "bench"
        purpose, seeds = options.get("range", "bank"), int(options["seeds"])
        self.benches.append((side, purpose, seeds))
        for task in tasks[0].split(","):
            rng = np.random.default_rng(zlib.crc32(f"{side} {purpose} {task}".encode()))
            mean = self.means[side][task]
            record = make_record(
                algorithm,
                task,
                "bank",
                scores=rng.normal(mean, abs(mean) / 20, seeds).tolist(),
                seeds=SEED_RANGES[purpose][:seeds],
            )
            if purpose != "bank":
                record = replace(record, protocol="trial")
            save(record, Path(options["results"]))
        self.after_bench()
        state = self.states.pop(0) if self.states else "complete"
        record = {"record": str(Path(options["results"]) / "old.json")}
        return json.dumps([{"state": state, "task": task, **record} for task in tasks])


@pytest.fixture
def repository(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of the code with a commit on main and a change since."""
    root = tmp_path / "repository"
    for package in ("suite", "baselines"):
        ignored = shutil.ignore_patterns("__pycache__")
        shutil.copytree(ROOT / package, root / package, ignore=ignored)
    identity = ["-c", "user.name=Nobody", "-c", "user.email=nobody@example.org"]
    for words in (
        ["init", "--quiet", "--initial-branch=main"],
        ["add", "--all"],
        ["commit", "--quiet", "--message=first"],
    ):
        subprocess.run(["git", "-C", root, *identity, *words], check=True)
    with (root / "baselines" / "q_learning.py").open("a") as file:
        file.write("\nUNUSED = 1\n")
    monkeypatch.setattr("suite.provenance.ROOT", root)
    return root


@pytest.fixture
def regress(
    repository: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> Callable[..., tuple[int, dict[str, Any], str]]:
    """Checks against a fake: exit code, what was found, standard error."""

    def run(fake: Fake, *options: object) -> tuple[int, dict[str, Any], str]:
        monkeypatch.setattr(Revision, "run", lambda *arguments: fake.run(*arguments))
        places = ("--runs", tmp_path / "runs", "--results", tmp_path / "results")
        tasks = f"{CARTPOLE},{PENDULUM}"
        capsys.readouterr()
        code = suite("regress", "ppo", "--env", tasks, *places, "--json", *options)
        out, err = capsys.readouterr()
        return code, json.loads(out) if out else {}, err

    return run


LEARNED = {CARTPOLE: 400.0, PENDULUM: -300.0}
HALF = {CARTPOLE: 200.0, PENDULUM: -780.0}


def test_equal_fingerprints_end_the_check(regress: Any):
    fake = Fake({"base": LEARNED, "candidate": HALF}, same=True)
    code, found, _ = regress(fake)
    assert (code, found["verdict"], fake.benches) == (0, "no worse", [])
    assert found["text"].startswith("identical: every step of a short run")


def test_a_harmless_change_passes(regress: Any, tmp_path: Path):
    fake = Fake({"base": LEARNED, "candidate": LEARNED})
    code, found, err = regress(fake)
    assert (code, found["verdict"]) == (0, "no worse")
    assert fake.benches == [
        ("base", "bank", 20),
        ("candidate", "candidate", 5),
        ("candidate", "candidate", 10),
    ]
    assert "behaves differently on gymnasium/CartPole-v1: losses at update 1" in err
    assert [look["seeds"] for look in found["looks"]] == [5, 10]
    assert [(row["task"], row["bank"]["runs"]) for row in found["rows"]] == [
        (CARTPOLE, 20),
        (PENDULUM, 20),
    ]
    page = (tmp_path / "runs" / "regress" / "ppo.md").read_text()
    assert page.startswith("# ppo: no worse\n")
    assert "gymnasium/CartPole-v1" in page


def test_a_drop_is_a_regression_once_it_is_confirmed(regress: Any, tmp_path: Path):
    fake = Fake({"base": LEARNED, "candidate": HALF})
    code, found, err = regress(fake)
    assert (code, found["verdict"]) == (1, "regression")
    assert fake.benches[2:] == [("base", "confirmation", 10), ("candidate", "confirmation", 10)]
    assert found["confirmation"]["value"] == pytest.approx(-0.5, abs=0.1)
    assert "alarm; it must be confirmed by 10 fresh seeds of both revisions" in err
    assert "confirmed: -" in (tmp_path / "runs" / "regress" / "ppo.md").read_text()


def test_runs_that_other_packages_made_are_made_again_on_either_side(regress: Any):
    states = ["stale", "complete", "stale", "complete"]
    fake = Fake({"base": LEARNED, "candidate": LEARNED}, states=states)
    assert regress(fake)[0] == 0
    assert fake.benches[:2] == [("base", "bank", 20)] * 2
    assert fake.benches[2:4] == [("candidate", "candidate", 5)] * 2


def test_an_alarm_that_fresh_runs_do_not_repeat_is_inconclusive(regress: Any):
    fake = Fake({"base": LEARNED, "candidate": HALF})

    def recover() -> None:
        if len(fake.benches) == 2:
            fake.means["candidate"] = LEARNED

    fake.after_bench = recover
    code, found, _ = regress(fake)
    assert (code, found["verdict"]) == (2, "inconclusive")
    assert "this alarm was not confirmed" in found["text"]


def test_a_task_that_the_base_does_not_learn_takes_no_part(regress: Any):
    base = {CARTPOLE: 400.0, PENDULUM: -1300.0}
    code, found, err = regress(Fake({"base": base, "candidate": base}))
    assert code == 0
    assert list(found["left_out"]) == [PENDULUM]
    assert [look["seeds"] for look in found["looks"]] == [5, 10, 15]
    assert f"{PENDULUM} takes no part: the base's mean of -1" in err
    nothing = {CARTPOLE: 20.0, PENDULUM: -1300.0}
    code, found, err = regress(Fake({"base": nothing, "candidate": nothing}), "--base", "HEAD~0")
    assert (code, found) == (3, {})
    assert "suite: ppo has nothing to lose: gymnasium/CartPole-v1: " in err


def test_code_that_changes_during_a_check_is_found_out(regress: Any, repository: Path):
    fake = Fake({"base": LEARNED, "candidate": LEARNED})
    module = repository / "baselines" / "ppo.py"
    fake.after_bench = lambda: module.write_text(module.read_text() + "\nX = 1\n")
    code, _, err = regress(fake)
    assert code == 3
    assert err.endswith("suite: the code was changed during the check; start it again\n")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("pppo",), "unknown algorithm 'pppo'; nearest: ppo"),
        (("ppo,dqn",), "one algorithm is judged at a time"),
        (("ppo", "--profile", "quik"), "unknown profile 'quik'; nearest: quick"),
        (("ppo", "--base", "mian"), "no revision 'mian' in "),
        (("ppo", "--env", "gymnasium/Acrobot-v1"), "gymnasium/Acrobot-v1 is not in the bank: "),
        (("ppo", "--jobs", "many"), "Invalid value for '--jobs'"),
        ((), "Missing argument 'ALGO'"),
    ],
)
def test_what_keeps_a_check_from_a_verdict_is_exit_code_3(
    repository: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    arguments: tuple[str, ...],
    message: str,
):
    assert suite("regress", *arguments, "--runs", tmp_path / "runs") == 3
    assert message in capsys.readouterr().err


def test_a_line_that_does_not_run_is_not_taken_for_harmless_from_end_to_end(
    repository: Path, tmp_path: Path
):
    arguments = ("regress", "q_learning", "--env", CARTPOLE, "--runs", tmp_path / "runs")
    module = repository / "baselines" / "q_learning.py"
    module.write_text(module.read_text().replace("UNUSED = 1", "def unused():\n    return 1"))
    command = [sys.executable, "-m", "suite", *map(str, arguments), "--results", "none"]
    process = subprocess.Popen(command, cwd=repository, stderr=subprocess.PIPE, text=True)
    assert process.stderr is not None
    lines = []
    for line in process.stderr:  # up to the bank, which takes minutes
        lines.append(line)
        if line.startswith("bank: "):
            break
    process.terminate()
    process.communicate(timeout=60)
    assert (
        "identical where it ran, but 1 changed lines did not run: baselines/q_learning.py (1)\n"
        in lines
    )
    assert load_all(tmp_path / "runs") == ([], [])
    listed = subprocess.run(
        ["git", "-C", repository, "worktree", "list"], capture_output=True, text=True, check=True
    )
    assert len(listed.stdout.splitlines()) == 1
