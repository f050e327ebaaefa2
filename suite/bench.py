"""A bench: run what is missing of some cells, and lose nothing on the way.

Every cell is worked on under a lock that belongs to its record, so that two benches on one results
folder share the work. Groups of seeds that train together run as jobs of an executor; their live
state lies in the live folder until the record is saved, and is taken up again by the next bench
that needs the same. A seed that crashed is run again with the same seed, at most twice; one that
diverged or ran out of time is a result.

Which seeds share a process changes the last bits of sums, so it follows from the request alone
(and from live state that is taken up), never from how busy the machine is.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import shutil
import tempfile
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from itertools import pairwise
from pathlib import Path
from typing import TypeGuard

from filelock import FileLock, Timeout

from suite import runner
from suite.cells import Cell, State, examine, seeds_to_run
from suite.executors import Died, Event, Executor, Finished, Job, Progress
from suite.protocols import key_hash
from suite.provenance import code_state, machine
from suite.records import (
    Episode,
    SeedRun,
    episode_table,
    merge,
    record_paths,
    repair,
    save,
)

ATTEMPTS = 3
"""A seed that crashes is run again with the same seed, at most twice."""

LEAST_FREE_BYTES = 64 * 2**20
"""On the disks of results and live state, before anything is trained."""

PRELOAD = ("suite.runner", "envpool")
"""Modules that most jobs need, that are slow to import, and that start no threads of their own."""

_POLL_SECONDS = 1.0
_STORAGE_ERRORS = {errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EIO}


class StorageError(Exception):
    """A folder cannot be written: full, read-only, or not a folder."""


@dataclass(frozen=True)
class Started:
    """Seeds of a cell begin to train, or go on."""

    cell: Cell
    seeds: tuple[int, ...]


@dataclass(frozen=True)
class Advanced:
    """A group of seeds told how far it is."""

    cell: Cell
    seeds: tuple[int, ...]
    progress: runner.Progress


@dataclass(frozen=True)
class Ended:
    """A cell is done with: saved, or left alone."""

    cell: Cell
    state: State
    ran: bool
    """False: there was nothing to run."""


@dataclass(frozen=True)
class Remark:
    """Something that a user should know."""

    cell: Cell
    text: str


Update = Started | Advanced | Ended | Remark


@dataclass(frozen=True)
class _Group:
    """Seeds of a cell that train together."""

    seeds: tuple[int, ...]
    attempt: int = 1
    folder_attempt: int = 1
    """Crashed seeds start again in a folder of their own; a job that died goes on in its own."""

    @property
    def name(self) -> str:
        seeds = hashlib.sha256(json.dumps(self.seeds).encode()).hexdigest()[:12]
        return f"{seeds}-{self.folder_attempt}"


@dataclass
class _Active:
    """A cell while it is worked on."""

    cell: Cell
    lock: FileLock
    state: State
    folder: Path
    groups: dict[str, _Group] = field(default_factory=dict)
    """Those not finished yet, by job name."""
    runs: list[SeedRun] = field(default_factory=list)
    episodes: list[Episode] = field(default_factory=list)


class Bench:
    """One run over a list of cells.

    Args:
        cells: that can run here.
        results: folder of the records.
        live: folder of the live state.
        executor: where jobs run.
        jobs: groups to run side by side; with fewer cells, each cell's seeds are split.
        stale: run again what is stale.
        tell: called with every update.
        groups: seeds that train together, of the only cell; empty: by ``jobs``.
    """

    def __init__(
        self,
        cells: Sequence[Cell],
        results: Path,
        live: Path,
        executor: Executor,
        jobs: int = 1,
        stale: bool = False,
        tell: Callable[[Update], None] = lambda update: None,
        groups: Sequence[tuple[int, ...]] = (),
    ) -> None:
        self.cells = cells
        self.results = results
        self.live = live_folder(results, live)
        self.executor = executor
        self.jobs = jobs
        self.stale = stale
        self.tell = tell
        self.together = groups
        self.parts = max(1, jobs // max(1, len(cells)))
        self._active: dict[str, _Active] = {}
        """By job name; a cell stands under each of its jobs."""
        self._states: dict[str, State] = {}
        self._busy: set[str] = set()
        """Cells that another bench was found to work on."""

    def run(self) -> dict[str, State]:
        """Run until every cell is complete or cannot be.

        Returns:
            How far each cell is then, by its name.

        Raises:
            StorageError: results or live state cannot be written; what was trained is kept.
        """
        for folder in (self.results, self.live):
            check_writable(folder)
        waiting = deque(self.cells)
        try:
            while waiting or self._active:
                self._fill(waiting)
                for event in self.executor.wait(_POLL_SECONDS):
                    self._handle(event)
        except OSError as error:
            if not _is_about_storage(error):
                raise
            raise _storage_error(self.results, error) from error
        finally:
            self.executor.close()
            for active in self._active.values():
                active.lock.release()
        return self._states

    def _fill(self, waiting: deque[Cell]) -> None:
        """Start cells while there is room; those that another bench works on go to the end."""
        for _ in range(len(waiting)):
            if len(self._active) >= self.jobs:
                return
            cell = waiting.popleft()
            if self._start(cell):
                continue
            waiting.append(cell)
            if cell.name not in self._busy:
                self._busy.add(cell.name)
                self.tell(Remark(cell, "another bench works on it; waiting until that is done"))

    def _start(self, cell: Cell) -> bool:
        """Begin with a cell, or leave it as it is; False if another bench works on it."""
        lock = FileLock(self._lock_path(cell))
        try:
            lock.acquire(timeout=0)
        except Timeout:
            return False
        record = cell.record
        _, path = record_paths(self.results, record.folder, record.task, record.algorithm)
        repair(path.parent, path)
        state = examine(cell, self.results)
        seeds = seeds_to_run(cell, state, self.stale)
        if not seeds:
            lock.release()
            self._end(cell, state, ran=False)
            return True
        folder = self.live / _record_path(cell) / fingerprint(cell)
        for other in folder.parent.glob("*"):
            if other != folder:  # of other code or settings: of no use any more
                shutil.rmtree(other)
        active = _Active(cell, lock, state, folder)
        self.tell(Started(cell, seeds))
        for group in self._groups(cell, seeds, folder):
            self._submit(active, group)
        return True

    def _groups(self, cell: Cell, seeds: tuple[int, ...], folder: Path) -> list[_Group]:
        """Live groups of an interrupted bench first, then the seeds that are left."""
        left = set(seeds)
        groups = []
        manifests = filter(None, map(_read_seeds, folder.glob("*-1/seeds.json")))
        for own in sorted(manifests, key=len, reverse=True):
            if left.issuperset(own):
                groups.append(_Group(own))
                left -= set(own)
        for part in self.together or split(sorted({*cell.seeds, *seeds}), self.parts):
            if own := tuple(seed for seed in part if seed in left):
                groups.append(_Group(own))
        return groups

    def _submit(self, active: _Active, group: _Group) -> None:
        folder = active.folder / group.name
        folder.mkdir(parents=True, exist_ok=True)
        manifest = folder / "seeds.json.new"
        with manifest.open("w") as file:
            json.dump(group.seeds, file)
            file.flush()
            os.fsync(file.fileno())
        manifest.replace(folder / "seeds.json")
        name = f"{active.cell.name} {group.name} {group.attempt}"
        active.groups[name] = group
        self._active[name] = active
        work = active.cell.work(group.seeds, folder)
        self.executor.submit(Job(name, train, work, folder / "log.txt"))

    def _handle(self, event: Event) -> None:
        name = event.job.name
        active = self._active[name]
        if isinstance(event, Progress):
            seeds = active.groups[name].seeds
            self.tell(Advanced(active.cell, seeds, event.news))
            return
        group = active.groups.pop(name)
        if isinstance(event, Died):
            self._after_death(active, group, event)
        elif isinstance(event.result, runner.Outcome):
            self._after_outcome(active, group, event)
        elif isinstance(event.result, Unwritable):
            raise StorageError(event.result.text)
        if not active.groups:
            self._finish(active)
        del self._active[name]

    def _after_outcome(self, active: _Active, group: _Group, event: Finished) -> None:
        outcome: runner.Outcome = event.result
        crashed = tuple(run.seed for run in outcome.runs if run.status == "crashed")
        again = crashed if group.attempt < ATTEMPTS else ()
        if again:
            reasons = {run.reason for run in outcome.runs if run.seed in again}
            self.tell(Remark(active.cell, _again(again, group.attempt, "; ".join(sorted(reasons)))))
            following = group.folder_attempt + 1
            self._submit(active, _Group(again, group.attempt + 1, following))
        active.runs += [
            replace(run, attempts=group.attempt) for run in outcome.runs if run.seed not in again
        ]
        active.episodes += [row for row in outcome.episodes if row.seed not in again]

    def _after_death(self, active: _Active, group: _Group, event: Died) -> None:
        """Go on from the checkpoint; the last attempt is made by each seed on its own."""
        if group.attempt < ATTEMPTS:
            self.tell(Remark(active.cell, _again(group.seeds, group.attempt, event.reason)))
        following = group.attempt + 1
        if following < ATTEMPTS:
            self._submit(active, replace(group, attempt=following))
        elif following == ATTEMPTS:
            for seed in group.seeds:
                self._submit(active, replace(group, seeds=(seed,), attempt=following))
        else:
            active.runs += [_lost_run(active.cell, seed, event.reason) for seed in group.seeds]

    def _finish(self, active: _Active) -> None:
        cell = active.cell
        record = replace(
            cell.record,
            runs=tuple(sorted(active.runs, key=lambda run: run.seed)),
            episodes=episode_table(active.episodes),
        )
        if active.state.record and not active.state.stale:
            record = merge(active.state.record, record)
        save(record, self.results)
        if all(run.status != "crashed" for run in record.runs):  # else the logs may help
            shutil.rmtree(active.folder.parent)
        active.lock.release()
        self._end(cell, examine(cell, self.results), ran=True)

    def _end(self, cell: Cell, state: State, ran: bool) -> None:
        self._states[cell.name] = state
        self.tell(Ended(cell, state, ran))

    def _lock_path(self, cell: Cell) -> Path:
        path = self.results / ".locks" / _record_path(cell).with_suffix(".lock")
        path.parent.mkdir(parents=True, exist_ok=True)
        return path


@dataclass(frozen=True)
class Unwritable:
    """What a job returns if its folder cannot be written, which is no failure of its seeds."""

    text: str


def train(
    work: runner.Work, report: Callable[[runner.Progress], None]
) -> runner.Outcome | Unwritable:
    """Run a group of seeds, as a job of an executor.

    The folder is locked meanwhile: a bench that was killed may leave a worker behind for a moment.
    """
    assert work.folder is not None
    with FileLock(work.folder / "worker.lock"):
        try:
            return runner.run(work, report)
        except (OSError, RuntimeError) as error:
            # torch raises a RuntimeError of its own while it handles the disk's error
            cause = error if isinstance(error, OSError) else error.__context__
            if not _is_about_storage(cause):
                raise
            return Unwritable(str(_storage_error(work.folder, cause)))


def check_writable(folder: Path) -> None:
    """Make a folder and write to it.

    Raises:
        StorageError: that fails, or the disk is nearly full.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder) as file:
            file.write(bytes(4096))
            file.flush()
            os.fsync(file.fileno())
        free = shutil.disk_usage(folder).free
    except OSError as error:
        raise _storage_error(folder, error) from error
    if free < LEAST_FREE_BYTES:
        raise StorageError(
            f"cannot write to {folder}: only {free // 2**20} MiB are free on its disk, at least"
            f" {LEAST_FREE_BYTES // 2**20} are needed"
        )


def split(seeds: Sequence[int], parts: int) -> list[tuple[int, ...]]:
    """Cut seeds into groups of nearly equal size, in order; never an empty one."""
    parts = min(parts, len(seeds))
    cuts = [len(seeds) * part // parts for part in range(parts + 1)]
    return [tuple(seeds[a:b]) for a, b in pairwise(cuts)]


def live_folder(results: Path, live: Path) -> Path:
    """Where below ``live`` the live state for one results folder lies."""
    place = results.resolve()
    return live / f"{place.name}-{hashlib.sha256(bytes(place)).hexdigest()[:8]}"


def fingerprint(cell: Cell) -> str:
    """Short hash of everything that shapes a cell's numbers, apart from the seeds."""
    record = cell.record
    facts: Mapping[str, object] = {
        "key": record.key,
        "config": record.config,
        "source_hash": record.source_hash,
        "versions": record.versions,
        "device": cell.device,
        "threads": cell.threads,
    }
    return key_hash(facts)


def _read_seeds(manifest: Path) -> tuple[int, ...]:
    """The seeds of a live group; none if a power cut has left half a file."""
    try:
        return tuple(json.loads(manifest.read_text()))
    except ValueError:
        return ()


def _record_path(cell: Cell) -> Path:
    """``<protocol>/<family>/<task>/<algorithm>``."""
    record = cell.record
    _, path = record_paths(Path(), record.folder, record.task, record.algorithm)
    return path.with_suffix("")


def _again(seeds: tuple[int, ...], attempt: int, reason: str) -> str:
    names = f"seed{'s' * (len(seeds) > 1)} {', '.join(map(str, seeds))}"
    return f"{names} crashed ({reason}); running it again, {attempt} of {ATTEMPTS - 1}"


def _lost_run(cell: Cell, seed: int, reason: str) -> SeedRun:
    """The run of a seed whose process died every time."""
    now = datetime.now(UTC).isoformat(timespec="seconds")
    commit, dirty = code_state()
    return SeedRun(
        seed=seed,
        status="crashed",
        reason=reason,
        attempts=ATTEMPTS,
        trained_with=(seed,),
        threads=cell.threads,
        device=cell.device,
        ledger=(),
        digest="",
        started=now,
        finished=now,
        commit=commit,
        dirty=dirty,
        machine=machine(cell.device),
    )


def _is_about_storage(error: BaseException | None) -> TypeGuard[OSError]:
    return isinstance(error, OSError) and error.errno in _STORAGE_ERRORS


def _storage_error(folder: Path, error: OSError) -> StorageError:
    return StorageError(f"cannot write to {folder}: {error.strerror or error}")
