"""The command line: what users type, what they get, and what they are told when it is wrong."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest
from commands import suite

from suite.records import load, save

ROOT = Path(__file__).parent.parent
PAIR = ("ppo", "gymnasium/CartPole-v1")


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty working folder."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


def start(*arguments: str, cwd: Path) -> subprocess.Popen[str]:
    """Start a command in a process of its own.

    It hears Ctrl-C, also where the tests run in the background of a shell, which ignores it.
    """
    return subprocess.Popen(
        [sys.executable, "-m", "suite", *arguments],
        cwd=cwd,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )


WRONG = {
    "algorithm": (("bench", "pppo", PAIR[1]), ["'pppo'", "ppo"]),
    "task": (("bench", "ppo", "gymnasium/CartPol-v1"), ["gymnasium/CartPole-v1"]),
    "protocol": (("bench", *PAIR, "--protocol", "quik"), ["'quik'", "quick"]),
    "engine": (("bench", *PAIR, "--engine", "envpol"), ["'envpol'", "envpool"]),
    "executor": (("bench", *PAIR, "--executor", "lokal"), ["'lokal'", "local"]),
    "device": (("bench", *PAIR, "--device", "tpu"), ["'tpu'", "cpu"]),
    "preset": (("bench", *PAIR, "--preset", "guid"), ["'guid'", "guide"]),
    "config field": (("bench", *PAIR, "--set", "learning_rat=1"), ["learning_rate"]),
    "config value": (("bench", *PAIR, "--set", "learning_rate=fast"), ["a finite number"]),
    "override": (("bench", *PAIR, "--set", "learning_rate"), ["expected name=value"]),
    "negative steps": (("bench", *PAIR, "--steps=-5"), ["--steps must be in 1..", "-5"]),
    "steps below a rollout": (("bench", *PAIR, "--steps", "5"), ["at least 1024"]),
    "no seeds": (("bench", *PAIR, "--seeds", "0"), ["must be in 1.."]),
    "seeds above the range": (("bench", *PAIR, "--seeds", "10001"), ["10000"]),
    "no jobs": (("bench", *PAIR, "--jobs", "0"), ["--jobs must be in 1.."]),
    "no lanes": (("bench", *PAIR, "--set", "lanes=0"), ["lanes", "at least 1"]),
    "config that does not fit": (("bench", *PAIR, "--set", "minibatch_size=7"), ["divide", "1024"]),
    "task without a budget": (
        ("bench", "ppo", "gymnasium/Acrobot-v1"),
        ["--steps", "gymnasium/CartPole-v1"],
    ),
    "not a number": (("bench", *PAIR, "--steps", "many"), ["--steps", "integer"]),
    "missing argument": (("bench", "ppo"), ["ENV"]),
    "option": (("bench", *PAIR, "--step", "5"), ["--steps"]),
    "command": (("benhc",), ["bench"]),
    "empty name": (("bench", "ppo,", PAIR[1]), ["'ppo,'"]),
    "no name": (("bench", "", ""), ["an algorithm and a task"]),
    "family": (("bench", "ppo", "mujco"), ["nearest: mujoco"]),
    "number that overflows": (
        ("bench", "a2c", "gymnasium/Pendulum-v1", "--set", "initial_log_std=1e300"),
        ["a2c on gymnasium/Pendulum-v1"],
    ),
    "protocol of list": (("list", "--protocol", "quik"), ["quick"]),
    "plan": (("plan", "pppo", "all"), ["ppo"]),
    "scores to report": (("report", "--scores", "no.csv"), ["no.csv cannot be read"]),
    "references without scores": (("report", "--normalise", "refs.csv"), ["--scores"]),
    "folder to check": (("check", "--results", "nowhere"), ["'nowhere'"]),
    "folder to report from": (("report", "--from", "nowhere"), ["'nowhere'"]),
    "peers that are not installed": (("perf",), ["make perf"]),
}


@pytest.mark.parametrize(("arguments", "words"), WRONG.values(), ids=WRONG)
def test_wrong_argument_gets_one_line_that_helps_and_exit_2(
    folder: Path, capsys: pytest.CaptureFixture[str], arguments: Sequence[str], words: Sequence[str]
):
    assert suite(*arguments) == 2
    output = capsys.readouterr()
    assert output.out == ""
    assert output.err.startswith("suite: ")
    assert output.err.count("\n") == 1
    assert [word for word in words if word not in output.err] == []
    assert list(folder.iterdir()) == [], "nothing was written"


@pytest.mark.parametrize(
    "command", ["bench", "plan", "list", "report", "check", "reproduce", "doctor", "perf"]
)
def test_every_command_has_help_with_examples(command: str, capsys: pytest.CaptureFixture[str]):
    assert suite(command, "--help") == 0
    text = capsys.readouterr().out
    assert "Examples:\n" in text
    assert f"  suite {command}" in text
    assert "--json" in text


def test_bench_runs_what_is_missing_and_prints_the_table(
    folder: Path, capsys: pytest.CaptureFixture[str]
):
    bench = ("bench", *PAIR, "--protocol", "smoke")
    assert suite(*bench) == 0
    output = capsys.readouterr()
    assert "gymnasium/CartPole-v1" in output.out
    assert "2 of 2" in output.out
    assert output.err.splitlines() == [
        "ppo on gymnasium/CartPole-v1: 2 seeds, 512 steps each",
        "ppo on gymnasium/CartPole-v1: complete",
    ]
    record = folder / "results/smoke/gymnasium/CartPole-v1/ppo.json"
    before = record.read_bytes()

    assert suite(*bench, "--json") == 0
    output = capsys.readouterr()
    (row,) = json.loads(output.out)
    assert row["state"] == "complete"
    assert row["seeds"] == 2
    assert row["record"] == "results/smoke/gymnasium/CartPole-v1/ppo.json"
    assert output.err == "ppo on gymnasium/CartPole-v1: complete, nothing to run\n"
    assert record.read_bytes() == before
    assert list((folder / "runs").rglob("*.pt")) == []


def test_override_makes_a_trial_that_leaves_the_protocol_alone(folder: Path):
    assert suite("bench", *PAIR, "--protocol", "smoke", "--set", "hidden=8", "--seeds", "1") == 0
    (path,) = folder.glob("results/trial/*/gymnasium/CartPole-v1/ppo.json")
    assert load(path).config["hidden"] == [8]
    assert not (folder / "results/smoke").exists()


def test_a_run_that_ends_before_it_learns_says_so(folder: Path, capsys: pytest.CaptureFixture[str]):
    pair = ("dqn", "gymnasium/CartPole-v1", "--protocol", "smoke", "--seeds", "1")
    assert suite("bench", *pair, "--steps", "64", "--set", "learning_starts=64") == 0
    note = "dqn on gymnasium/CartPole-v1 learns after 64 steps only: this run ends before"
    assert note in capsys.readouterr().err
    assert suite("bench", *pair, "--steps", "64", "--set", "learning_starts=32") == 0
    assert "learns after" not in capsys.readouterr().err


def test_jobs_change_who_trains_together_and_nothing_else(folder: Path):
    for results, jobs in (("one", "1"), ("two", "2")):
        bench = ("bench", *PAIR, "--protocol", "smoke", "--results", results, "--jobs", jobs)
        assert suite(*bench) == 0
    one, two = (
        load(folder / results / "smoke/gymnasium/CartPole-v1/ppo.json")
        for results in ("one", "two")
    )
    assert [run.trained_with for run in one.runs] == [(0, 1), (0, 1)]
    assert [run.trained_with for run in two.runs] == [(0,), (1,)]
    assert one.key == two.key


def test_plan_tells_what_would_run_and_writes_nothing(
    folder: Path, capsys: pytest.CaptureFixture[str]
):
    assert suite("plan", *PAIR, "--json") == 0
    plan = json.loads(capsys.readouterr().out)
    assert plan["cells"] == [
        {
            "algorithm": "ppo",
            "task": "gymnasium/CartPole-v1",
            "state": "not run",
            "seeds": 5,
            "steps": 50_000,
            "hours": None,
            "memory_mb": None,
            "basis": "",
        }
    ]
    assert plan["unknown"] == 1
    assert list(folder.iterdir()) == []


def test_list_tells_how_far_every_cell_is(folder: Path, capsys: pytest.CaptureFixture[str]):
    suite("bench", *PAIR, "--protocol", "smoke")
    capsys.readouterr()
    assert suite("list", "--json") == 0
    matrix = json.loads(capsys.readouterr().out)
    cells = {(cell["algorithm"], cell["family"]): cell for cell in matrix["cells"]}
    assert cells["ppo", "gymnasium"]["state"] == "smoke"
    assert cells["ppo", "mujoco"]["state"] == "not run"
    assert cells["ppo", "mujoco"]["fit"] == "native"
    assert cells["dqn", "mujoco"]["fit"] == "adapted"
    assert cells["dqn", "mujoco"]["adapter"] != ""
    assert matrix["algorithms"]["ppo"]["policy"] == "on"
    assert "paper" in matrix["families"]["mujoco"]


def test_report_of_the_same_records_gives_the_same_bytes(
    folder: Path, capsys: pytest.CaptureFixture[str]
):
    suite("bench", *PAIR, "--protocol", "smoke")
    pages = []
    for out in ("first", "second"):
        assert suite("report", "--to", out) == 0
        found = [path for path in folder.joinpath(out).rglob("*") if path.is_file()]
        pages.append({path.relative_to(folder / out): path.read_bytes() for path in found})
    assert pages[0] == pages[1]
    assert len(pages[0]) > 1


def write_scores(*lines: str) -> None:
    rows = [f"{name},maze,{seed},{50 + seed}" for name in ("mine", "yours") for seed in range(5)]
    Path("scores.csv").write_text("\n".join(["algorithm,task,seed,score", *rows, *lines]))


@pytest.mark.filterwarnings("ignore:.*out of date:DeprecationWarning")
def test_an_id_that_only_another_package_can_open_says_which(
    folder: Path, capsys: pytest.CaptureFixture[str]
):
    assert suite("plan", "random", "gymnasium/HalfCheetah-v3", "--steps", "600") == 2
    *_, last = capsys.readouterr().err.splitlines()  # after upstream's own warning
    assert last.startswith("suite: gymnasium/HalfCheetah-v3 cannot be opened: ")
    assert "gymnasium-robotics" in last


@pytest.mark.parametrize(
    ("name", "hint"), [("qick", "nearest: quick"), ("", "valid: smoke"), ("../it", "valid: smoke")]
)
def test_a_protocol_that_nobody_knows_is_not_reported(
    folder: Path, capsys: pytest.CaptureFixture[str], name: str, hint: str
):
    (folder / "results").mkdir()
    assert suite("report", "--protocol", name) == 2
    assert f"unknown protocol '{name}'; {hint}" in capsys.readouterr().err
    assert not (folder / "reports").exists()
    assert suite("report", "--protocol", "quick") == 0


def test_report_sums_up_anyones_scores_and_writes_nothing(
    folder: Path, capsys: pytest.CaptureFixture[str]
):
    write_scores()
    Path("refs.csv").write_text("task,floor,cap\nmaze,50,100\n")
    command = ("report", "--scores", "scores.csv", "--reps", "100")
    assert suite(*command, "--json") == 0
    content = json.loads(capsys.readouterr().out)
    assert content["aggregates"]["mine"]["mean"]["value"] == 52
    assert suite(*command, "--json", "--normalise", "refs.csv", "--ci", "rliable") == 0
    content = json.loads(capsys.readouterr().out)
    assert content["aggregates"]["mine"]["mean"]["value"] == 0.04
    assert content["improvement"]["mine"]["yours"]["value"] == 0.5
    assert suite(*command) == 0
    output = capsys.readouterr()
    assert "yours" in output.out
    assert "warning: mine has 5 runs on a task: too few for a rank\n" in output.err
    assert sorted(path.name for path in folder.iterdir()) == ["refs.csv", "scores.csv"]


def test_report_of_scores_writes_a_page_where_it_is_told_to(
    folder: Path, capsys: pytest.CaptureFixture[str]
):
    write_scores()
    command = ("report", "--scores", "scores.csv", "--reps", "100", "--out", "summary")
    assert suite(*command) == 0
    first = {path.name: path.read_bytes() for path in folder.joinpath("summary").iterdir()}
    assert "scores.md" in first
    assert suite(*command) == 0
    assert first == {path.name: path.read_bytes() for path in folder.joinpath("summary").iterdir()}


@pytest.mark.parametrize(
    ("line", "options", "words"),
    [
        ("mine,maze,0,1", (), "line 12: mine on maze has seed 0 twice"),
        ("mine,maze,9,nan", (), "line 12: score nan is not finite"),
        ("mine,maze,9,1", ("--ci", "bca"), "'bca': valid are default and rliable"),
        ("mine,maze,9,1", ("--reps", "0"), "--reps must be in 1.."),
        ("mine,maze,9,1", ("--normalise", "no.csv"), "no.csv cannot be read"),
        ("mine,maze,9,1", ("--normalise", "scores.csv"), "no column floor, cap"),
    ],
)
def test_wrong_scores_get_one_line_and_exit_2(
    folder: Path,
    capsys: pytest.CaptureFixture[str],
    line: str,
    options: Sequence[str],
    words: str,
):
    write_scores(line)
    assert suite("report", "--scores", "scores.csv", *options) == 2
    output = capsys.readouterr()
    assert words in output.err
    assert output.err.count("\n") == 1


def test_check_names_a_damaged_record_with_its_path_and_reason(
    folder: Path, capsys: pytest.CaptureFixture[str]
):
    suite("bench", *PAIR, "--protocol", "smoke")
    assert suite("check") == 0
    path = folder / "results/smoke/gymnasium/CartPole-v1/ppo.csv"
    path.write_text(path.read_text().replace("\n0,0,eval,0,", "\n0,0,eval,0,1", 1))
    capsys.readouterr()
    assert suite("check", "--json") == 1
    (problem,) = json.loads(capsys.readouterr().out)
    assert problem["path"] == "results/smoke/gymnasium/CartPole-v1/ppo.json"
    assert "SHA-256" in problem["reason"]


def test_bench_leaves_a_damaged_record_alone_and_fails(
    folder: Path, capsys: pytest.CaptureFixture[str]
):
    path = folder / "results/smoke/gymnasium/CartPole-v1/ppo.json"
    path.parent.mkdir(parents=True)
    path.write_text("{}")
    assert suite("bench", *PAIR, "--protocol", "smoke") == 1
    assert "damaged" in capsys.readouterr().err
    assert path.read_text() == "{}"


def test_stale_record_is_marked_by_list(folder: Path, capsys: pytest.CaptureFixture[str]):
    suite("bench", *PAIR, "--protocol", "smoke")
    path = folder / "results/smoke/gymnasium/CartPole-v1/ppo.json"
    save(replace(load(path), source_hash="0" * 64), folder / "results")
    capsys.readouterr()
    suite("list", "--protocol", "smoke", "--json")
    cells = json.loads(capsys.readouterr().out)["cells"]
    (state,) = [
        cell["state"]
        for cell in cells
        if (cell["algorithm"], cell["family"]) == ("ppo", "gymnasium")
    ]
    assert state.endswith("1 stale")


def test_results_that_cannot_be_written_are_noticed_before_training(
    folder: Path, capsys: pytest.CaptureFixture[str]
):
    (folder / "results").write_text("a file in its place")
    assert suite("bench", *PAIR, "--protocol", "smoke") == 1
    assert capsys.readouterr().err == "suite: cannot write to results: File exists\n"


SLOW_TRIAL = (
    *("bench", *PAIR, "--protocol", "smoke", "--steps", "8000", "--seeds", "1"),
    *("--set", "lanes=1 rollout_steps=100 minibatch_size=100 epochs=2"),
)


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The CSV of a trial that was not interrupted."""
    folder = tmp_path_factory.mktemp("uninterrupted")
    assert suite(*SLOW_TRIAL, "--results", str(folder / "a"), "--runs", str(folder / "b")) == 0
    (path,) = folder.glob("a/trial/*/gymnasium/CartPole-v1/ppo.csv")
    return path


@pytest.mark.parametrize(
    ("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGKILL, -9)]
)
def test_stopped_bench_ends_with_the_bytes_of_an_uninterrupted_one(
    folder: Path, uninterrupted: Path, number: signal.Signals, code: int
):
    process = start(*SLOW_TRIAL, cwd=folder)
    while not list(folder.glob("runs/**/checkpoint.pt")):
        assert process.poll() is None, "it ended before it could be stopped"
        time.sleep(0.01)
    process.send_signal(number)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == code, errors
    assert code < 0 or "the same command goes on" in errors
    assert not list(folder.glob("results/trial/*/gymnasium/CartPole-v1/ppo.*"))

    assert suite(*SLOW_TRIAL) == 0
    (resumed,) = folder.glob("results/trial/*/gymnasium/CartPole-v1/ppo.csv")
    assert resumed.read_bytes() == uninterrupted.read_bytes()
    one, other = (load(path.with_suffix(".json")).runs[0] for path in (uninterrupted, resumed))
    assert one.digest == other.digest
    assert one.started != other.started


def test_two_benches_at_once_do_the_work_once(folder: Path):
    bench = ("bench", "ppo,random", "gymnasium/CartPole-v1", "--protocol", "smoke")
    processes = [start(*bench, cwd=folder) for _ in range(2)]
    errors = [process.communicate(timeout=120)[1] for process in processes]
    assert [process.returncode for process in processes] == [0, 0], errors
    lines = [line for text in errors for line in text.splitlines()]
    assert sorted(line for line in lines if line.endswith("steps each")) == [
        "ppo on gymnasium/CartPole-v1: 2 seeds, 512 steps each",
        "random on gymnasium/CartPole-v1: 2 seeds, 512 steps each",
    ]
    for algorithm in ("ppo", "random"):
        path = folder / f"results/smoke/gymnasium/CartPole-v1/{algorithm}.json"
        assert load(path).seeds == (0, 1)
