"""Records on disk: ``results/<protocol>/<family>/<task>/<algorithm>.csv`` and ``.json``.

How a pair is replaced: both new files are written beside the old ones, the JSON under a name that
holds the hash of the new CSV. Renaming the CSV is the moment of change; from then on the new JSON
is the valid one, under its temporary name until it is renamed too. So readers, and whoever comes
after a power cut, find either the old pair or the new one, never halves of both.

One writer at a time per record: whoever loads, merges and saves holds a lock meanwhile.
"""

from __future__ import annotations

import gc
import hashlib
import os
import re
import stat
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import pandas as pd

from suite.protocols import (
    PROTOCOLS,
    budget,
    canonical_json,
    evaluation_steps,
    rules_for,
    run_seeds,
)
from suite.record_format import (
    COLUMNS,
    SPLITS,
    STATUSES,
    Episode,
    LedgerRow,
    Record,
    SeedRun,
    episode_table,
    parse,
    parse_json,
    read_record,
    render_csv,
    render_json,
    trial_folder,
)

__all__ = [
    "COLUMNS",
    "SPLITS",
    "STATUSES",
    "DamagedRecord",
    "Episode",
    "LedgerRow",
    "Record",
    "SeedRun",
    "check",
    "episode_table",
    "load",
    "load_all",
    "merge",
    "record_paths",
    "repair",
    "save",
    "trial_folder",
]

MAX_JSON_BYTES = 16 * 2**20
MAX_CSV_BYTES = 64 * 2**20

_READ_ATTEMPTS = 5
_PATH_PART = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.:-]{0,127}")
_LEFTOVER = re.compile(r"\.(?P<stem>[^.].*?)\.(csv|json|[0-9a-f]{16}\.json)\.tmp")


class DamagedRecord(Exception):
    """A file that cannot be trusted, and why; its text is one line of printable ASCII.

    Attributes:
        path: the file, as it is called.
        reason: printable ASCII; it may quote the file, so escape it in markdown and HTML.
    """

    def __init__(self, path: Path, reason: str) -> None:
        self.path = path
        self.reason = _printable(reason[:500])
        super().__init__(f"{_printable(str(path))}: {self.reason}")


def _printable(text: str) -> str:
    plain = (char if " " <= char <= "~" else ascii(char)[1:-1] for char in text)
    return "".join(plain)


def record_paths(results: Path, protocol: str, task: str, algorithm: str) -> tuple[Path, Path]:
    """Paths of a record's CSV and JSON.

    Args:
        results: the results folder.
        protocol: a protocol's name, or ``trial/<short hash>``, see :func:`trial_folder`.
        task: ``family/name``.
        algorithm: its id.

    Raises:
        ValueError: a name would not make a plain relative path.
    """
    parts = [*protocol.split("/"), *task.split("/"), algorithm]
    for part in parts:
        if not _PATH_PART.fullmatch(part):
            raise ValueError(f"{part[:200]!a} cannot be part of a record's path")
    folder = results.joinpath(*parts[:-1])
    return folder / f"{algorithm}.csv", folder / f"{algorithm}.json"


def save(record: Record, results: Path) -> Path:
    """Write a record in place of the one of the same name, if any; return the JSON's path.

    Raises:
        ValueError: the record breaks a rule that :func:`load` checks; nothing is written.
        OSError: the disk is full or read-only; the old record is unharmed.
    """
    csv_path, json_path = record_paths(results, record.folder, record.task, record.algorithm)
    csv = render_csv(record.episodes)
    csv_hash = hashlib.sha256(csv).hexdigest()
    json_text = render_json(record, csv_hash)
    try:
        parse(json_text, csv)
    except ValueError as error:
        raise ValueError(f"refusing to write {json_path}: {error}") from error

    folder = csv_path.parent
    folder.mkdir(parents=True, exist_ok=True)
    new_csv, new_json = (folder / f".{path.name}.tmp" for path in (csv_path, json_path))
    try:
        _write(new_csv, csv)
        _write(new_json, json_text)
        pending = new_json.replace(_pending_path(json_path, csv_hash))
        _sync_folder(folder)
        new_csv.replace(csv_path)
        pending.replace(json_path)
        _sync_folder(folder)
    finally:
        for path, owner in _leftovers(folder.glob("*.tmp")):
            if owner == json_path:
                _settle(path, json_path)
    return json_path


def _write(path: Path, content: bytes) -> None:
    with path.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())


def _sync_folder(folder: Path) -> None:
    """Make renames last through a power cut."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _pending_path(json_path: Path, csv_hash: str) -> Path:
    """Where the JSON that belongs to a CSV waits for its final name; always whole."""
    return json_path.with_name(f".{json_path.stem}.{csv_hash[:16]}.json.tmp")


def _leftovers(paths: Iterator[Path]) -> Iterator[tuple[Path, Path]]:
    """Temporary files of saves, sorted, each with the JSON path of its record."""
    for path in sorted(paths):
        if match := _LEFTOVER.fullmatch(path.name):
            yield path, path.with_name(f"{match['stem']}.json")


def _settle(path: Path, json_path: Path) -> None:
    """Finish the save that a temporary file is left from, if its CSV is in place; else undo it."""
    csv_path = json_path.with_suffix(".csv")
    if csv_path.is_file():
        csv_hash = hashlib.sha256(csv_path.read_bytes()).hexdigest()
        if path == _pending_path(json_path, csv_hash):
            path.replace(json_path)
    path.unlink(missing_ok=True)


def repair(results: Path, only: Path | None = None) -> list[Path]:
    """Finish or undo every save that was cut off; call it while nothing is being saved.

    Args:
        results: a folder that holds records, at any depth.
        only: JSON path of the one record that is looked at; None: all.

    Returns:
        The temporary files that were there.
    """
    leftovers = list(_leftovers(results.rglob("*.tmp")))
    if only is not None:
        leftovers = [each for each in leftovers if each[1] == only]
    for path, json_path in leftovers:
        _settle(path, json_path)
    return [path for path, _ in leftovers]


def load(json_path: Path, results: Path | None = None) -> Record:
    """Read and check a record.

    Args:
        json_path: ends as its content says.
        results: the folder below which that is all of its path; None: wherever it lies.

    Raises:
        DamagedRecord: it is not a record as :func:`save` writes them, or not at its own path.
    """
    try:
        record = read_record(*_read_pair(json_path))
        _, own_path = record_paths(Path(), record.folder, record.task, record.algorithm)
        path = json_path.relative_to(results) if results else json_path.absolute()
        if path.parts[0 if results else -len(own_path.parts) :] != own_path.parts:
            raise ValueError(f"its content belongs at {own_path}")
    except ValueError as error:
        raise DamagedRecord(json_path, str(error)) from error
    return record


def _read_pair(json_path: Path) -> tuple[dict[str, Any], bytes]:
    """Content of the JSON, and the CSV, of one save, though another may fall between our reads."""
    for _ in range(_READ_ATTEMPTS):
        json_text = _read(json_path, MAX_JSON_BYTES)
        csv = _read(json_path.with_suffix(".csv"), MAX_CSV_BYTES)
        if csv is None:
            raise ValueError("there is no CSV beside it" if json_text else "there is no record")
        csv_hash = hashlib.sha256(csv).hexdigest()
        if json_text is not None:
            content = parse_json(json_text)
            if content.get("csv_sha256") == csv_hash:
                return content, csv
        pending = _read(_pending_path(json_path, csv_hash), MAX_JSON_BYTES)
        if pending is not None:
            return parse_json(pending), csv
    if json_text is None:
        raise ValueError("there is no JSON beside the CSV")
    raise ValueError("the CSV is not the one whose SHA-256 the JSON holds")


def _read(path: Path, limit: int) -> bytes | None:
    """The bytes of a file, at most ``limit``; None if there is none."""
    try:
        status = path.stat()
        if not stat.S_ISREG(status.st_mode):  # opening a pipe would wait for ever
            raise ValueError(f"{path.name} is not a regular file")
        with path.open("rb") as file:  # Python sets aside as much memory as it is told to read
            content = file.read(min(status.st_size, limit) + 1)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise ValueError(f"{path.name} cannot be read: {error.strerror}") from error
    if len(content) > limit:
        raise ValueError(f"{path.name} is larger than {limit // 2**20} MiB")
    return content


def load_all(
    results: Path, protocol: str | None = None
) -> tuple[list[Record], list[DamagedRecord]]:
    """Read all records of one protocol, or of every protocol; trials only if named.

    Args:
        results: the results folder; it need not exist.
        protocol: a protocol's name, ``trial``, ``trial/<short hash>``, or None.

    Returns:
        The sound records and the damaged ones, each in the order of their paths.
    """
    records, damaged = [], []
    with _collector_paused():
        for json_path in _json_paths(results / protocol if protocol else results):
            if protocol is None and json_path.relative_to(results).parts[0] == "trial":
                continue
            try:
                records.append(load(json_path, results))
            except DamagedRecord as damage:
                damaged.append(damage)
    return records, damaged


@contextmanager
def _collector_paused() -> Iterator[None]:
    """Keep Python from looking for cycles: records have none, and there may be millions of rows."""
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()


def _json_paths(folder: Path) -> list[Path]:
    """JSON paths of all records, also of those that have lost their JSON or their CSV."""
    found = [path for kind in ("json", "csv") for path in folder.rglob(f"[!.]*.{kind}")]
    return sorted({path.with_suffix(".json") for path in found})


def merge(old: Record, new: Record) -> Record:
    """Add the seeds of ``new`` to ``old``; only a seed that crashed in ``old`` may come again.

    Raises:
        ValueError: the two differ in more than their seeds (key, config, source, versions, ...),
            or both have a result of one seed: a run is never replaced because of its score.
    """
    about_the_task = {"normalisation", "task_info"}  # of these the newer ones hold
    for field in fields(Record):
        if field.name in about_the_task | {"runs", "episodes"}:
            continue
        values: list[Mapping[str, object] | str | int] = [
            getattr(record, field.name) for record in (old, new)
        ]
        if canonical_json(values[0]) != canonical_json(values[1]):
            raise ValueError(f"cannot merge {old.algorithm} on {old.task}: {field.name} differs")
    settled = {run.seed for run in old.runs if run.status != "crashed"}
    if repeated := sorted(settled & set(new.seeds)):
        raise ValueError(f"cannot merge {old.algorithm} on {old.task}: has seeds {repeated}")
    kept = [run for run in old.runs if run.seed not in new.seeds]
    episodes = pd.concat([old.episodes[~old.episodes["seed"].isin(new.seeds)], new.episodes])
    return replace(
        new,
        runs=tuple(sorted([*kept, *new.runs], key=lambda run: run.seed)),
        episodes=episodes.sort_values(COLUMNS[:4], ignore_index=True),
    )


def check(results: Path) -> list[DamagedRecord]:
    """Find everything that is wrong below a results folder, in the order of the paths.

    Beside what :func:`load` refuses (a file without its partner among it): leftovers of saves that
    were cut off, and records that are not what their protocol asks for.
    """
    found = [
        DamagedRecord(
            path,
            f"left by a save of {json_path.name} that was cut off; a bench of it will tidy up",
        )
        for path, json_path in _leftovers(results.rglob("*.tmp"))
    ]
    for json_path in _json_paths(results):
        try:
            record = load(json_path, results)
            found += [DamagedRecord(json_path, reason) for reason in _departures(record)]
        except DamagedRecord as damage:
            found.append(damage)
    return sorted(found, key=lambda damage: damage.path)


def _departures(record: Record) -> Iterator[str]:
    """Where a sound record is not what its protocol asks for; a partial one is no departure."""
    protocol = PROTOCOLS.get(str(record.key["protocol"]))
    if protocol is None:
        yield f"there is no protocol {record.key['protocol']!r}"
        return
    protocol = rules_for(protocol, record.algorithm, record.task)
    if record.protocol_version != protocol.version:
        yield (
            f"{protocol.name}'s rules for {record.task} are now version {protocol.version}, not"
            f" {record.protocol_version}"
        )
        return
    first = run_seeds(protocol, len(record.runs))
    if record.seeds != first:
        yield f"its seeds are {list(record.seeds)}, not the first of {protocol.name}: {list(first)}"
    if record.protocol == "trial":
        return
    for name in ("evaluations", "episodes", "window"):
        rule = getattr(protocol, name)
        if record.key[name] != rule:
            yield f"key.{name} is {record.key[name]}, but {protocol.name} has {rule}"
            return
    steps = budget(protocol, record.algorithm, record.task)
    if steps != record.budget:
        yield f"its budget is {record.budget}, but {protocol.name} gives it {steps}"
        return
    due = evaluation_steps(protocol, steps)
    for run in record.runs:
        evaluated = set(record.episodes.loc[record.episodes["seed"] == run.seed, "step"].tolist())
        if run.status == "ok" and evaluated != set(due):
            yield f"seed {run.seed} was evaluated {len(evaluated)} times, or not when it was due"
