"""The Makefile: values are data, set-up is all or nothing, and every command is listed."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parent.parent
DOCUMENTED = {
    "setup",
    "bench",
    "list",
    "plan",
    "report",
    "check",
    "regress",
    "reproduce",
    "perf",
    "doctor",
    "test",
    "test-all",
    "lint",
    "format",
    "type",
}

ECHO = (
    f"#!{sys.executable}\nimport json, sys\njson.dump(sys.argv[1:], open('arguments.json', 'w'))\n"
)
"""Stands in for the command line tool and notes its arguments."""


def make(folder: Path, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    clean = {"PATH": os.environ["PATH"], "HOME": str(folder), **environment}
    return subprocess.run(
        ["make", *arguments], cwd=folder, env=clean, capture_output=True, text=True
    )


def script(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    path.chmod(0o755)
    return path


@pytest.fixture
def clone(tmp_path: Path) -> Path:
    """A fresh clone's set-up files."""
    for name in ("Makefile", "requirements.lock", "pyproject.toml"):
        shutil.copy(ROOT / name, tmp_path)
    return tmp_path


@pytest.fixture
def ready(clone: Path) -> Path:
    """A clone that is set up, with a stand-in for the command line tool."""
    script(clone / ".venv/bin/suite", ECHO)
    (clone / ".venv/.ready").touch()
    return clone


def arguments_of(folder: Path, *arguments: str, **environment: str) -> list[str]:
    done = make(folder, *arguments, **environment)
    assert (done.returncode, done.stderr) == (0, "")
    return json.loads((folder / "arguments.json").read_text())


def test_bench_hands_on_what_was_given_and_nothing_else(ready: Path):
    given = arguments_of(ready, "bench", "ALGO=ppo,sac", "ENV=mujoco", "STEPS=1000", "SEEDS=3")
    assert given == ["bench", "--seeds=3", "--steps=1000", "--", "ppo,sac", "mujoco"]


def test_every_option_of_bench_has_its_variable(ready: Path):
    names = ["protocol", "seeds", "steps", "device", "engine", "jobs", "executor", "results"]
    names += ["set", "preset"]
    variables = [f"{name.upper()}=1" for name in names]
    given = arguments_of(ready, "bench", "ALGO=a", "ENV=e", *variables)
    assert given == ["bench", *(f"--{name}=1" for name in names), "--", "a", "e"]


@pytest.mark.parametrize(
    ("value", "options"),
    [("1", ["--stale"]), ("yes", ["--stale"]), ("0", []), ("no", []), ("", [])],
)
def test_stale_is_a_yes_or_a_no(ready: Path, value: str, options: list[str]):
    given = arguments_of(ready, "bench", "ALGO=a", "ENV=e", f"STALE={value}")
    assert given == ["bench", *options, "--", "a", "e"]


@pytest.mark.parametrize(
    "value",
    [
        "ppo; touch x",
        "$(shell touch x)",
        "$$(touch x)",
        "`touch x`",
        '"; touch x; "',
        "'; touch x; '",
        "two words # and a comment",
        "--help",
    ],
)
def test_value_is_data_and_never_code(ready: Path, value: str):
    given = arguments_of(ready, "bench", f"ALGO={value}", f"ENV={value}", f"SET={value}")
    assert given == ["bench", f"--set={value}", "--", value, value]
    assert not (ready / "x").exists()


def test_variables_of_the_callers_environment_change_nothing(ready: Path):
    given = arguments_of(ready, "bench", "ALGO=ppo", ENV="/etc/profile", STEPS="5", SET="a=1")
    assert given == ["bench", "--", "ppo", ""]


def test_help_is_the_default_and_lists_every_target(clone: Path):
    done = make(clone)
    assert done.returncode == 0
    listed = [line.split()[0] for line in done.stdout.splitlines() if line.startswith("  ")]
    assert set(listed) >= DOCUMENTED
    assert not (clone / ".venv").exists()


def test_unsuitable_python_is_named_and_leaves_nothing(clone: Path):
    done = make(clone, "setup", "PYTHON=/no/such/python")
    assert done.returncode != 0
    assert "needs Python 3.11 or 3.12" in done.stderr
    assert "/no/such/python" in done.stderr
    assert not (clone / ".venv").exists()


def test_setup_that_breaks_off_is_done_again(clone: Path):
    # Passes for Python 3.11, makes an environment whose pip fails.
    python = script(
        clone / "python",
        '#!/bin/sh\n[ "$1" = -m ] || exit 0\n'
        "mkdir -p .venv/bin && printf '#!/bin/sh\\nexit 1\\n' > .venv/bin/python\n"
        "chmod +x .venv/bin/python\necho made >> made\n",
    )
    for _ in range(2):
        assert make(clone, "setup", f"PYTHON={python}").returncode != 0
        assert not (clone / ".venv/.ready").exists()
    assert (clone / "made").read_text() == "made\nmade\n"


def test_setup_runs_again_when_the_lock_changes(ready: Path):
    assert make(ready, "--question", "setup").returncode == 0
    newer = (ready / ".venv/.ready").stat().st_mtime + 1
    os.utime(ready / "requirements.lock", (newer, newer))
    assert make(ready, "--question", "setup").returncode == 1


def test_lock_satisfies_what_the_project_asks_for():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    lock = (ROOT / "requirements.lock").read_text().splitlines()
    pairs = [line.split("==") for line in lock if not line.startswith("#")]
    pinned = {canonicalize_name(name): version for name, version in pairs}
    asked = [*project["dependencies"], *project["optional-dependencies"]["dev"]]
    wanted = {canonicalize_name(each.name): each.specifier for each in map(Requirement, asked)}
    assert wanted.keys() - pinned == {"torch"}, "torch comes first, for the machine's own device"
    assert all(pinned[name] in wanted[name] for name in wanted.keys() & pinned)


def test_peers_run_on_the_versions_of_the_lock():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    lock = (ROOT / "requirements.lock").read_text().splitlines()
    peers = project["optional-dependencies"]["peers"]
    assert peers == ["gymnasium[mujoco]==1.4.0", "mujoco==3.17.0", "stable-baselines3==2.9.2"]
    assert {"gymnasium==1.4.0", "mujoco==3.17.0"} <= set(lock)
