from __future__ import annotations

import errno
import hashlib
import json
import os
import shutil
import subprocess
import sys
import threading
from collections.abc import Callable
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from factories import make_record, make_trial

from suite import record_format
from suite.record_format import render_csv
from suite.records import (
    COLUMNS,
    SPLITS,
    STATUSES,
    DamagedRecord,
    Episode,
    LedgerRow,
    Record,
    SeedRun,
    check,
    episode_table,
    load,
    load_all,
    merge,
    record_paths,
    repair,
    save,
)

ROOT = Path(__file__).parent.parent
MIXED = ["ok", "diverged", "timeout", "crashed", "ok"]
HOSTILE = "<script>alert(1)</script> | [x](javascript:1) `../../etc/passwd` \x1b[31m\n=1+1 \u202eé"


def assert_same(one: Record, other: Record) -> None:
    for field in fields(Record):
        if field.name != "episodes":
            assert getattr(one, field.name) == getattr(other, field.name), field.name
    pd.testing.assert_frame_equal(one.episodes, other.episodes)


def texts(json_path: Path) -> tuple[bytes, bytes]:
    return json_path.read_bytes(), json_path.with_suffix(".csv").read_bytes()


def reseal(content: dict[str, Any], csv: bytes) -> bytes:
    """What somebody would write who forges a record and knows its format."""
    content["csv_sha256"] = hashlib.sha256(csv).hexdigest()
    content.pop("seal", None)
    plain = json.dumps(content, sort_keys=True, separators=(",", ":"))
    content["seal"] = hashlib.sha256(plain.encode()).hexdigest()
    return json.dumps(content).encode()


def forge_json(json_path: Path, change: Callable[[dict[str, Any]], object]) -> None:
    content = json.loads(json_path.read_bytes())
    change(content)
    json_path.write_bytes(reseal(content, json_path.with_suffix(".csv").read_bytes()))


def forge_csv(json_path: Path, change: Callable[[list[str]], object]) -> None:
    lines = json_path.with_suffix(".csv").read_text().splitlines()
    change(lines)
    csv = ("\n".join(lines) + "\n").encode()
    json_path.with_suffix(".csv").write_bytes(csv)
    json_path.write_bytes(reseal(json.loads(json_path.read_bytes()), csv))


def test_a_record_comes_back_as_it_was_saved(tmp_path: Path):
    record = make_record(statuses=MIXED)
    assert_same(load(save(record, tmp_path)), record)


def test_a_record_lies_where_its_names_say(tmp_path: Path):
    path = save(make_record("sac", "mujoco/HalfCheetah-v5", "standard"), tmp_path)
    assert path == tmp_path / "standard/mujoco/HalfCheetah-v5/sac.json"
    assert sorted(path.parent.iterdir()) == [path.with_suffix(".csv"), path]


def test_a_trial_lies_under_a_hash_of_its_key_and_config(tmp_path: Path):
    trial = make_trial(steps=1_000)
    path = save(trial, tmp_path)
    assert path.parts[-5] == "trial"
    assert len(path.parts[-4]) == 16
    assert path.parts[-3:] == ("gymnasium", "CartPole-v1", "ppo.json")
    assert trial.folder != replace(trial, config={"learning_rate": 1.0}).folder
    assert trial.folder != make_trial(steps=1_001).folder
    assert_same(load(path), trial)


def test_the_csv_has_a_fixed_format():
    episodes = [
        Episode(1, 0, "eval", 1, -0.0000001, 7),
        Episode(1, 0, "eval", 0, 12.3456789, 500),
        Episode(0, 20, "eval", 0, -1e12, 1),
    ]
    assert render_csv(episode_table(episodes)) == (
        b"seed,step,split,episode,return,length\n"
        b"0,20,eval,0,-1000000000000.000000,1\n"
        b"1,0,eval,0,12.345679,500\n"
        b"1,0,eval,1,0.000000,7\n"
    )


def test_one_pandas_call_reads_the_csv(tmp_path: Path):
    record = make_record()
    pd.testing.assert_frame_equal(
        pd.read_csv(save(record, tmp_path).with_suffix(".csv")), record.episodes
    )


def test_the_json_is_ascii_sorted_indented_and_ends_with_a_line_feed(tmp_path: Path):
    text = save(make_record(adapter="Küttler"), tmp_path).read_bytes()
    assert text.isascii()
    assert text.decode() == json.dumps(json.loads(text), indent=2, sort_keys=True) + "\n"


def test_the_json_holds_the_hash_of_the_csv(tmp_path: Path):
    json_text, csv = texts(save(make_record(), tmp_path))
    assert json.loads(json_text)["csv_sha256"] == hashlib.sha256(csv).hexdigest()


def test_saving_twice_gives_the_same_bytes(tmp_path: Path):
    first = texts(save(make_record(statuses=MIXED), tmp_path / "first"))
    path = save(make_record(statuses=MIXED), tmp_path / "second")
    assert texts(path) == first
    assert texts(save(load(path), tmp_path / "third")) == first


def test_awkward_returns_keep_their_bytes_through_reading_and_saving(tmp_path: Path):
    returns = np.random.default_rng(0).normal(size=1050) * 10.0 ** np.arange(-5, 16).repeat(50)
    record = make_record()
    record.episodes["return"] = returns
    path = save(record, tmp_path / "first")
    assert texts(save(load(path), tmp_path / "second")) == texts(path)


def test_a_long_reason_is_cut(tmp_path: Path):
    record = make_record(statuses=MIXED)
    runs = (*record.runs[:1], replace(record.runs[1], reason="x" * 9_000), *record.runs[2:])
    assert len(load(save(replace(record, runs=runs), tmp_path)).runs[1].reason) == 4_000


def test_hostile_text_survives_as_data(tmp_path: Path):
    record = make_record(
        statuses=MIXED,
        adapter=HOSTILE,
        versions={HOSTILE: HOSTILE},
        config={HOSTILE: [HOSTILE, 1]},
        task_info={"domain": HOSTILE},
    )
    runs = (replace(record.runs[1], reason=HOSTILE, machine={"cpu": HOSTILE}),)
    record = replace(record, runs=(record.runs[0], *runs, *record.runs[2:]))
    path = save(record, tmp_path)
    assert_same(load(path), record)
    assert path.read_bytes().isascii()
    assert b"\x1b" not in path.read_bytes()


@pytest.mark.parametrize(
    ("protocol", "task", "algorithm"),
    [
        ("quick", "../../outside/x", "ppo"),
        ("quick", "gymnasium//x", "ppo"),
        ("/etc", "gymnasium/x", "ppo"),
        ("quick", "gymnasium/x", ".."),
        ("quick", "gymnasium/x", "a/b"),
        ("quick", "gymnasium/x", "a\n"),
        ("quick", "gymnasium/x", "é"),
        ("quick", "gymnasium/x", ""),
    ],
)
def test_names_cannot_leave_the_results_folder(protocol: str, task: str, algorithm: str):
    with pytest.raises(ValueError, match="cannot be part of a record's path"):
        record_paths(Path("results"), protocol, task, algorithm)


def test_a_namespaced_id_makes_a_deeper_folder():
    csv, _ = record_paths(Path("results"), "quick", "gymnasium/ALE/Pong-v5", "ppo")
    assert csv == Path("results/quick/gymnasium/ALE/Pong-v5/ppo.csv")


# What is wrong, how it comes about, and what the reason says.
DAMAGES: dict[str, tuple[Callable[[Path], object], str]] = {
    "truncated csv": (
        lambda path: os.truncate(path.with_suffix(".csv"), 5_000),
        "the CSV is not the one whose SHA-256 the JSON holds",
    ),
    "truncated json": (lambda path: os.truncate(path, 5_000), "malformed or truncated"),
    "empty json": (lambda path: os.truncate(path, 0), "malformed or truncated"),
    "no csv": (lambda path: path.with_suffix(".csv").unlink(), "there is no CSV beside it"),
    "no json": (lambda path: path.unlink(), "there is no JSON beside the CSV"),
    "edited return": (
        lambda path: path.with_suffix(".csv").write_text(
            path.with_suffix(".csv").read_text().replace("99.9", "999.9")
        ),
        "the CSV is not the one whose SHA-256 the JSON holds",
    ),
    "edited json": (
        lambda path: path.write_text(path.read_text().replace('"greedy"', '"sampled"')),
        "its seal does not fit",
    ),
    "schema version": (
        lambda path: forge_json(path, lambda content: content.update(schema=0)),
        "its schema version is 0; this suite reads 1",
    ),
    "unknown status": (
        lambda path: forge_json(path, lambda content: content["runs"][0].update(status="great")),
        "$.runs[0].status: 'great' is not one of ['ok', 'diverged', 'timeout', 'crashed']",
    ),
    "unknown field": (
        lambda path: forge_json(path, lambda content: content.update(extra=1)),
        "'extra' was unexpected",
    ),
    "missing field": (
        lambda path: forge_json(path, lambda content: content.pop("engine")),
        "'engine' is a required property",
    ),
    "wrong type": (
        lambda path: forge_json(path, lambda content: content.update(budget="50000")),
        "$.budget: '50000' is not of type 'integer'",
    ),
    "float for an integer": (
        lambda path: forge_json(path, lambda content: content.update(budget=50000.0)),
        "$.budget: 50000.0 is not of type 'integer'",
    ),
    "nan": (
        lambda path: forge_json(path, lambda c: c["normalisation"].update(floor=float("nan"))),
        "a number that is not finite: NaN",
    ),
    "infinity": (
        lambda path: path.write_text(path.read_text().replace("22.69", "1e999")),
        "a number that is not finite: 1e999",
    ),
    "huge integer": (
        lambda path: path.write_text(path.read_text().replace("22.69", "1" * 5_000)),
        "Exceeds the limit",
    ),
    "cap below floor": (
        lambda path: forge_json(path, lambda content: content["normalisation"].update(cap=-1)),
        "the cap -1 is not above the floor 22.69",
    ),
    "name twice": (
        lambda path: path.write_text('{"schema": 1,' + path.read_text()[1:]),
        "a name twice in one object",
    ),
    "deep nesting": (
        lambda path: path.write_text("[" * 100_000 + "]" * 100_000),
        "nested too deeply",
    ),
    "not an object": (lambda path: path.write_text("[]"), "its schema version is None"),
    "not ascii": (lambda path: path.write_text('{"schema": "é"}', "utf-8"), "'ascii' codec"),
    "binary": (lambda path: path.write_bytes(b"\x80\x04\x95\x00"), "'ascii' codec"),
    "huge json": (lambda path: os.truncate(path, 16 * 2**20 + 1), "larger than 16 MiB"),
    "huge csv": (
        lambda path: os.truncate(path.with_suffix(".csv"), 64 * 2**20 + 1),
        "larger than 64 MiB",
    ),
    "a pipe": (
        lambda path: (path.unlink(), os.mkfifo(path)),
        "ppo.json is not a regular file",
    ),
    "a folder": (
        lambda path: (path.with_suffix(".csv").unlink(), path.with_suffix(".csv").mkdir()),
        "ppo.csv is not a regular file",
    ),
    "key hash": (
        lambda path: forge_json(path, lambda content: content.update(key_hash="0" * 16)),
        "key_hash is not the hash of the key",
    ),
    "other algorithm": (
        lambda path: forge_json(path, lambda content: content.update(algorithm="sac")),
        "its content belongs at quick/gymnasium/CartPole-v1/sac.json",
    ),
    "other task": (
        lambda path: forge_json(path, lambda content: content.update(task="gymnasium/Taxi-v3")),
        "key.task is 'gymnasium/CartPole-v1', but the record's is 'gymnasium/Taxi-v3'",
    ),
    "other protocol": (
        lambda path: forge_json(path, lambda content: content.update(protocol="standard")),
        "key.protocol is 'quick', but the record's is 'standard'",
    ),
    "other budget": (
        lambda path: forge_json(path, lambda content: content.update(budget=60_000)),
        "key.budget is 50000, but the record's is 60000",
    ),
    "passed off as a trial": (
        lambda path: forge_json(path, lambda content: content.update(protocol="trial")),
        "its content belongs at trial/",
    ),
    "path in a name": (
        lambda path: forge_json(path, lambda content: content.update(algorithm="../ppo")),
        "$.algorithm: '../ppo' does not match",
    ),
    "line feed in a name": (
        lambda path: forge_json(path, lambda content: content.update(algorithm="ppo\n")),
        "does not match",
    ),
    "repeated seed": (
        lambda path: forge_json(path, lambda c: c["runs"].insert(1, c["runs"][0])),
        "the runs' seeds are not sorted, or repeated: [0, 0, 1, 2, 3, 4]",
    ),
    "unsorted seeds": (
        lambda path: forge_json(path, lambda content: content["runs"].reverse()),
        "the runs' seeds are not sorted, or repeated: [4, 3, 2, 1, 0]",
    ),
    "no runs": (
        lambda path: forge_json(path, lambda content: content["runs"].clear()),
        "$.runs: [] should be non-empty",
    ),
    "dropped seed": (
        lambda path: forge_json(path, lambda content: content["runs"].pop(2)),
        "the CSV holds seeds without a run: [2]",
    ),
    "failure without a reason": (
        lambda path: forge_json(path, lambda content: content["runs"][1].update(status="timeout")),
        "seed 1 has status timeout and reason ''",
    ),
    "alone": (
        lambda path: forge_json(path, lambda content: content["runs"][1].update(trained_with=[0])),
        "seed 1 is not among the seeds it was trained with",
    ),
    "shrinking ledger": (
        lambda path: forge_json(
            path, lambda content: content["runs"][0]["ledger"][3].update(updates=0)
        ),
        "seed 0: the ledger does not grow at step 7500",
    ),
    "wrong columns": (
        lambda path: forge_csv(path, lambda lines: lines.__setitem__(0, "seed,step,return")),
        "the CSV's columns are 'seed,step,return', not 'seed,step,split,episode,return,length'",
    ),
    "nan return": (
        lambda path: forge_csv(path, lambda lines: lines.__setitem__(3, "0,0,eval,2,nan,100")),
        "CSV line 4 is not in the fixed format: '0,0,eval,2,nan,100'",
    ),
    "return beyond floating point": (
        lambda path: forge_csv(
            path, lambda lines: lines.__setitem__(3, f"0,0,eval,2,{'9' * 309}.000000,100")
        ),
        "CSV line 4 is not in the fixed format",
    ),
    "other decimals": (
        lambda path: forge_csv(path, lambda lines: lines.__setitem__(3, "0,0,eval,2,1.5,100")),
        "CSV line 4 is not in the fixed format: '0,0,eval,2,1.5,100'",
    ),
    "minus zero": (
        lambda path: forge_csv(path, lambda lines: lines.__setitem__(3, "0,0,eval,2,-0.000000,9")),
        "CSV line 4 is not in the fixed format",
    ),
    "quoted cell": (
        lambda path: forge_csv(path, lambda lines: lines.__setitem__(3, '0,0,"eval",2,1.000000,9')),
        "CSV line 4 is not in the fixed format",
    ),
    "unknown split": (
        lambda path: forge_csv(path, lambda lines: lines.__setitem__(3, "0,0,train,2,1.000000,9")),
        "CSV line 4 is not in the fixed format",
    ),
    "unsorted rows": (
        lambda path: forge_csv(path, lambda lines: lines.insert(2, lines.pop(5))),
        "CSV line 4 is out of order or repeats an episode",
    ),
    "repeated row": (
        lambda path: forge_csv(path, lambda lines: lines.insert(2, lines[2])),
        "CSV line 4 is out of order or repeats an episode",
    ),
    "missing row": (
        lambda path: forge_csv(path, lambda lines: lines.pop(15)),
        "seed 0 is ok, but some evaluation is not complete",
    ),
    "cut csv": (
        lambda path: forge_csv(path, lambda lines: lines.__delitem__(slice(-10, None))),
        "seed 4 is ok, but was not evaluated at 50000",
    ),
    "step beyond the budget": (
        lambda path: forge_csv(path, lambda lines: lines.append("4,50001,eval,0,1.000000,9")),
        "the CSV holds a step above the budget of 50000",
    ),
    "no end of line": (
        lambda path: (
            path.with_suffix(".csv").write_bytes(path.with_suffix(".csv").read_bytes()[:-1]),
            path.write_bytes(
                reseal(json.loads(path.read_bytes()), path.with_suffix(".csv").read_bytes())
            ),
        ),
        "the CSV does not end with a line feed: it is truncated",
    ),
}


@pytest.fixture(scope="module")
def two_records(tmp_path_factory: pytest.TempPathFactory) -> Path:
    results = tmp_path_factory.mktemp("results")
    for algorithm in ("ppo", "sac"):
        save(make_record(algorithm), results)
    return results


@pytest.mark.parametrize("damage", DAMAGES)
def test_damage_is_named_with_its_path_and_reason(damage: str, two_records: Path, tmp_path: Path):
    results = tmp_path / "results"
    shutil.copytree(two_records, results)
    _, path = record_paths(results, "quick", "gymnasium/CartPole-v1", "ppo")
    bring_about, reason = DAMAGES[damage]
    bring_about(path)
    records, damaged = load_all(results)
    assert [record.algorithm for record in records] == ["sac"]
    assert [one.path for one in damaged] == [path]
    assert reason in damaged[0].reason
    assert str(path) in str(damaged[0])


@pytest.mark.parametrize("damage", ["truncated csv", "no csv", "no json", "edited json"])
def test_the_check_reports_damage(damage: str, tmp_path: Path):
    path = save(make_record(), tmp_path)
    DAMAGES[damage][0](path)
    assert [(one.path, one.reason) for one in check(tmp_path)] == [
        (one.path, one.reason) for one in load_all(tmp_path)[1]
    ]
    assert [one.path for one in check(tmp_path)] == [path]


def test_the_name_of_a_damaged_file_is_printed_as_plain_text(tmp_path: Path):
    folder = tmp_path / "quick" / "\x1b[31m\n<b>é"
    folder.mkdir(parents=True)
    (folder / "ppo.json").write_text("\x1b[31m")
    text = str(check(tmp_path)[0])
    assert text.isascii()
    assert text.isprintable()


def test_a_reason_that_quotes_a_huge_value_stays_short(tmp_path: Path):
    path = save(make_record(), tmp_path)
    forge_json(path, lambda content: content.update(fit="x" * 1_000_000))
    with pytest.raises(DamagedRecord) as caught:
        load(path)
    assert len(caught.value.reason) <= 510


def test_a_record_that_was_moved_is_not_taken_for_another(tmp_path: Path):
    path = save(make_record(), tmp_path)
    moved = tmp_path / "standard/gymnasium/CartPole-v1/ppo.json"
    moved.parent.mkdir(parents=True)
    for kind in (".json", ".csv"):
        path.with_suffix(kind).rename(moved.with_suffix(kind))
    with pytest.raises(DamagedRecord, match=r"belongs at quick/gymnasium/CartPole-v1/ppo\.json"):
        load(moved)


def test_a_copy_of_a_folder_below_the_results_is_no_second_record(tmp_path: Path):
    path = save(make_record(), tmp_path)
    copy = tmp_path / "old" / path.relative_to(tmp_path)
    copy.parent.mkdir(parents=True)
    for kind in (".json", ".csv"):
        copy.with_suffix(kind).write_bytes(path.with_suffix(kind).read_bytes())
    sound, damaged = load_all(tmp_path)
    assert len(sound) == 1
    assert [damage.path for damage in damaged] == [copy]
    assert "belongs at quick/gymnasium/CartPole-v1/ppo.json" in damaged[0].reason
    assert [damage.path for damage in check(tmp_path)] == [copy]


def test_a_record_can_be_loaded_by_a_relative_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    path = save(make_record(), tmp_path)
    monkeypatch.chdir(path.parent)
    assert load(Path("ppo.json")).algorithm == "ppo"


INVALID: dict[str, tuple[Callable[[Record], Record], str]] = {
    "nan": (lambda record: with_return(record, float("nan")), "not in the fixed format"),
    "beyond all bounds": (lambda record: with_return(record, 1e100), "not in the fixed format"),
    "infinity": (lambda record: with_return(record, float("inf")), "not in the fixed format"),
    "status": (lambda record: with_run(record, status="unknown"), "is not one of"),
    "infinite config": (
        lambda record: replace(record, config={"clip": float("inf")}),
        "not JSON compliant",
    ),
    "nested config": (
        lambda record: replace(record, config={"a": {"b": {"c": {"d": 1}}}}),
        "not valid under any of the given schemas",
    ),
    "source": (lambda record: replace(record, source_hash="?"), "source_hash"),
    "local time": (lambda record: with_run(record, started="2025-01-01 10:00"), "started"),
    "path": (lambda record: replace(record, algorithm="../ppo"), "part of a record's path"),
}


def with_return(record: Record, value: float) -> Record:
    record.episodes.loc[0, "return"] = value
    return record


def with_run(record: Record, **changes: Any) -> Record:
    return replace(record, runs=(replace(record.runs[0], **changes), *record.runs[1:]))


@pytest.mark.parametrize("fault", INVALID)
def test_an_invalid_record_is_refused_and_nothing_is_written(fault: str, tmp_path: Path):
    spoil, reason = INVALID[fault]
    with pytest.raises(ValueError, match=reason):
        save(spoil(make_record()), tmp_path / "results")
    assert not (tmp_path / "results").exists()


def test_a_reader_never_sees_half_of_a_save(tmp_path: Path):
    versions = [make_record(protocol="smoke", scores=[score] * 2) for score in (100.0, 200.0)]
    path = save(versions[0], tmp_path)
    stop = threading.Event()

    def keep_saving() -> None:
        while not stop.is_set():
            for version in versions:
                save(version, tmp_path)

    writer = threading.Thread(target=keep_saving)
    writer.start()
    seen = set()
    try:
        for _ in range(150):
            last = load(path).episodes["return"].iloc[-2:].mean()
            seen.add(round(float(last), 6))
    finally:
        stop.set()
        writer.join()
    assert seen == {100.0, 200.0}
    assert check(tmp_path) == []


KILLED_SAVE = """
import os, signal, sys
from pathlib import Path
from suite.records import load, save

new, results, survived = load(Path(sys.argv[1])), Path(sys.argv[2]), int(sys.argv[3])
replace = Path.replace
def replace_or_die(self, target):
    global survived
    if survived == 0:
        os.kill(os.getpid(), signal.SIGKILL)
    survived -= 1
    return replace(self, target)
Path.replace = replace_or_die
save(new, results)
"""


@pytest.mark.parametrize("renamed", [0, 1, 2])
def test_a_save_that_is_killed_leaves_the_old_record_or_the_new(renamed: int, tmp_path: Path):
    path = save(make_record(scores=[100.0] * 5), tmp_path / "results")
    new = save(make_record(scores=[200.0] * 7), tmp_path / "new")
    arguments = [str(new), str(tmp_path / "results"), str(renamed)]
    command = [sys.executable, "-c", KILLED_SAVE, *arguments]
    assert subprocess.run(command, cwd=ROOT, check=False).returncode == -9

    expected = load(new) if renamed == 2 else make_record(scores=[100.0] * 5)
    assert_same(load(path), expected)
    leftovers = [damage.path for damage in check(tmp_path / "results")]
    assert {leftover.suffix for leftover in leftovers} == {".tmp"}
    assert "left by a save of ppo.json" in check(tmp_path / "results")[0].reason

    assert repair(tmp_path / "results") == leftovers
    assert check(tmp_path / "results") == []
    assert sorted(path.parent.iterdir()) == [path.with_suffix(".csv"), path]
    assert_same(load(path), expected)


def test_a_first_save_that_is_killed_between_the_files_is_a_record(tmp_path: Path):
    path = save(make_record(), tmp_path)
    csv_hash = json.loads(path.read_bytes())["csv_sha256"]
    path.rename(path.with_name(f".ppo.{csv_hash[:16]}.json.tmp"))
    assert [record.algorithm for record in load_all(tmp_path)[0]] == ["ppo"]
    assert repair(path.parent, path.with_name("sac.json")) == []
    assert repair(path.parent, path) != []
    assert_same(load(path), make_record())


def test_the_next_save_tidies_up_after_one_that_was_cut_off(tmp_path: Path):
    path = save(make_record(), tmp_path)
    for name in (".ppo.csv.tmp", ".ppo.json.tmp", ".ppo.0123456789abcdef.json.tmp"):
        path.with_name(name).write_text("half")
    path.with_name(".sac.csv.tmp").write_text("of another record")
    save(make_record(), tmp_path)
    assert [damage.path.name for damage in check(tmp_path)] == [".sac.csv.tmp"]


@pytest.mark.parametrize("written", [0, 1])
def test_a_full_disk_leaves_the_old_record(
    written: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    path = save(make_record(scores=[100.0] * 5), tmp_path)
    before = texts(path)
    left = [None] * written

    def fail_when_full(descriptor: int) -> None:
        if not left:
            raise OSError(errno.ENOSPC, "No space left on device")
        left.pop()

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", fail_when_full)
        with pytest.raises(OSError, match="No space left"):
            save(make_record(scores=[200.0] * 5), tmp_path)
    assert texts(path) == before
    assert check(tmp_path) == []


def test_merging_adds_seeds():
    merged = merge(make_record(scores=[1.0, 2.0]), make_record(scores=[3.0], seeds=[2]))
    assert merged.seeds == (0, 1, 2)
    together = make_record(scores=[1.0, 2.0, 3.0])
    pd.testing.assert_frame_equal(merged.episodes, together.episodes)


def test_merging_gives_a_sound_record_in_either_order(tmp_path: Path):
    one, other = make_record(scores=[1.0, 2.0]), make_record(scores=[3.0], seeds=[2])
    first = texts(save(merge(one, other), tmp_path))
    assert check(tmp_path) == []
    assert texts(save(merge(other, one), tmp_path)) == first


def test_merging_replaces_only_what_crashed():
    old = make_record(scores=[1.0, 2.0], statuses=["ok", "crashed"])
    merged = merge(old, make_record(scores=[3.0], seeds=[1]))
    assert [run.status for run in merged.runs] == ["ok", "ok"]
    pd.testing.assert_frame_equal(merged.episodes, make_record(scores=[1.0, 3.0]).episodes)


@pytest.mark.parametrize("status", ["ok", "diverged", "timeout"])
def test_a_run_with_a_result_is_never_replaced(status: str):
    old = make_record(scores=[1.0, 2.0], statuses=["ok", status])
    with pytest.raises(ValueError, match=r"has seeds \[1\]"):
        merge(old, make_record(scores=[3.0], seeds=[1]))


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("algorithm", "sac"),
        ("task", "gymnasium/Acrobot-v1"),
        ("budget", 1),
        ("key", {"task": "other"}),
        ("config", {"learning_rate": 0.1}),
        ("source_hash", "0" * 64),
        ("versions", {"torch": "2.12.0"}),
        ("engine", "gymnasium"),
    ],
)
def test_records_that_differ_in_more_than_seeds_do_not_merge(field: str, value: object):
    other = make_record(scores=[3.0], seeds=[2], **{field: value})
    with pytest.raises(ValueError, match=f"{field} differs"):
        merge(make_record(scores=[1.0, 2.0]), other)


def test_a_tuple_in_a_config_equals_the_list_it_is_read_as():
    old = make_record(scores=[1.0], config={"hidden_sizes": [64, 64]})
    new = make_record(scores=[2.0], seeds=[1], config={"hidden_sizes": (64, 64)})
    assert merge(old, new).seeds == (0, 1)


def test_merging_takes_the_newer_facts_about_the_task():
    old = make_record(scores=[1.0], normalisation=None)
    new = make_record(scores=[2.0], seeds=[1])
    assert merge(old, new).normalisation == new.normalisation


def test_a_results_folder_that_is_missing_or_empty_is_sound(tmp_path: Path):
    for folder in (tmp_path, tmp_path / "missing"):
        assert check(folder) == []
        assert load_all(folder) == ([], [])
        assert repair(folder) == []


def test_trials_are_loaded_only_by_name(tmp_path: Path):
    for record in (make_record(), make_record(protocol="standard"), make_trial()):
        save(record, tmp_path)
    assert [record.protocol for record in load_all(tmp_path)[0]] == ["quick", "standard"]
    assert [record.protocol for record in load_all(tmp_path, "quick")[0]] == ["quick"]
    assert [record.protocol for record in load_all(tmp_path, "trial")[0]] == ["trial"]


@pytest.mark.parametrize("protocol", ["quick", "bank"])
@pytest.mark.parametrize("number", [1, 5, 31])
def test_partial_and_extended_records_pass_the_check(protocol: str, number: int, tmp_path: Path):
    save(make_record(protocol=protocol, scores=[1.0] * number), tmp_path)
    assert check(tmp_path) == []


@pytest.mark.parametrize(
    ("record", "reason"),
    [
        (
            make_record(scores=[1.0, 2.0], seeds=[0, 2]),
            "its seeds are [0, 2], not the first of quick: [0, 1]",
        ),
        (
            make_record(scores=[1.0], seeds=[20_000]),
            "its seeds are [20000], not the first of quick: [0]",
        ),
        (make_record(steps=60_000), "its budget is 60000, but quick gives it 50000"),
        (make_record(task="gymnasium/Taxi-v3"), "its budget is 10000, but quick gives it None"),
        (
            make_record("sac", "mujoco/InvertedPendulum-v5", "validation", steps=100_000),
            "its budget is 100000, but validation gives it None",
        ),
        (make_trial(scores=[1.0], seeds=[1]), "its seeds are [1], not the first of quick: [0]"),
    ],
    ids=["gap", "range", "budget", "task", "algorithm", "trial"],
)
def test_what_is_not_the_protocol_s_is_reported(record: Record, reason: str, tmp_path: Path):
    path = save(record, tmp_path)
    load(path)
    assert [(one.path, one.reason) for one in check(tmp_path)] == [(path, reason)]


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        (
            {"protocol_version": 2},
            "quick's rules for gymnasium/CartPole-v1 are now version 1, not 2",
        ),
        ({"protocol": "slow"}, "there is no protocol 'slow'"),
        ({"window": 0.5}, "key.window is 0.5, but quick has 0.1"),
    ],
)
def test_other_rules_under_a_protocol_s_name_are_reported(
    changes: dict[str, Any], reason: str, tmp_path: Path
):
    record = make_record()
    own = {name: value for name, value in changes.items() if name != "window"}
    save(replace(record, key=record.key | changes, **own), tmp_path)
    assert reason in check(tmp_path)[0].reason


def test_an_evaluation_that_is_left_out_is_reported(tmp_path: Path):
    record = make_record()
    episodes = record.episodes.query("not (seed == 3 and step == 2500)").reset_index(drop=True)
    save(replace(record, episodes=episodes), tmp_path)
    assert "seed 3 was evaluated 20 times" in check(tmp_path)[0].reason


def test_the_schema_names_what_the_dataclasses_name():
    schema = json.loads((ROOT / "suite/record_schema.json").read_text())
    extra = {"schema", "key_hash", "csv_sha256", "seal"}
    assert set(schema["properties"]) - extra == {f.name for f in fields(Record)} - {"episodes"}
    assert set(schema["properties"]["key"]["properties"]) == set(make_record().key)
    parts = schema["$defs"]
    assert set(parts["run"]["properties"]) == {field.name for field in fields(SeedRun)}
    assert set(parts["ledger_row"]["properties"]) == set(LedgerRow._fields)
    assert tuple(parts["run"]["properties"]["status"]["enum"]) == STATUSES
    for part in (schema, schema["properties"]["key"], parts["run"], parts["ledger_row"]):
        assert set(part["required"]) == set(part["properties"])


def test_splits_are_those_of_the_contract():
    assert set(SPLITS) == {"eval", "train-levels", "test-levels"}


@pytest.mark.parametrize("digits", [3, 9, 10, 15, 95])
def test_numbers_of_a_csv_are_what_int_and_float_make_of_them(digits: int):
    rng = np.random.default_rng(digits)
    rows = []
    for number in range(200):
        count = 1 + int(rng.integers(digits))
        whole = str(rng.integers(1, 10)) + "".join(map(str, rng.integers(0, 10, count - 1)))
        sign = "-" if rng.random() < 0.5 else ""
        returned = f"{sign}{whole}.{rng.integers(1, 10**6):06d}"
        rows.append(("0", str(number * 10 ** int(rng.integers(12))), "eval", "0", returned, whole))
    rows.sort(key=lambda row: int(row[1]))
    rows = list({row[1]: (*row[:5], row[5][:15]) for row in rows}.values())
    text = ",".join(COLUMNS) + "\n" + "".join(",".join(row) + "\n" for row in rows)
    columns = record_format._parse_csv(text.encode())
    assert columns["step"].tolist() == [int(row[1]) for row in rows]
    assert columns["length"].tolist() == [int(row[5]) for row in rows]
    assert columns["return"].tolist() == [float(row[4]) for row in rows]
    assert {name: column.dtype.kind for name, column in columns.items()} == dict(
        zip(COLUMNS, "iiOifi", strict=True)
    )
