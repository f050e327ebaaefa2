"""Executors: where the work of a bench runs. ``local`` gives every job a process of its own.

A process per job keeps memory figures apart, lets a job that dies take nothing else with it, and
lets an interrupted bench end at once. Workers are forked from a server that has imported what is
slow to import, so that starting one takes a moment rather than seconds.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from multiprocessing.context import ForkServerProcess
from pathlib import Path
from types import MappingProxyType
from typing import Any, Protocol

from suite.names import UnknownName

Report = Callable[[Any], None]
"""What a running job calls with news of its progress; the news must be picklable."""

MAX_JOBS = 1024

_GRACE_SECONDS = 5.0
"""For a worker to end after it was asked to, before it is killed."""


@dataclass(frozen=True)
class Job:
    """A call ``run(work, report)`` for another process; all of it must be picklable."""

    name: str
    """For messages."""
    run: Callable[[Any, Report], Any]
    """A function at the top level of a module."""
    work: Any
    log: Path
    """Takes what the process writes to its standard output and error; appended to."""


@dataclass(frozen=True)
class Progress:
    """A job told how far it is."""

    job: Job
    news: Any


@dataclass(frozen=True)
class Finished:
    """A job returned."""

    job: Job
    result: Any


@dataclass(frozen=True)
class Died:
    """A job's process ended without a result."""

    job: Job
    reason: str
    """The last line it wrote, or the signal that ended it."""


Event = Progress | Finished | Died


class Executor(Protocol):
    """Runs jobs, at most so many side by side as it was made for."""

    def submit(self, job: Job) -> None:
        """Take a job; it starts when there is room."""

    def wait(self, seconds: float) -> list[Event]:
        """Let the jobs run until something happens; return it, or nothing after some seconds."""

    def close(self) -> None:
        """End what still runs, at once; may be called twice."""


@dataclass
class _Worker:
    job: Job
    process: ForkServerProcess


class Local:
    """Processes on this machine."""

    def __init__(self, limit: int, preload: Sequence[str] = ()) -> None:
        self.limit = limit
        self._context = multiprocessing.get_context("forkserver")
        self._context.set_forkserver_preload(list(preload))
        self._waiting: deque[Job] = deque()
        self._workers: dict[Connection, _Worker] = {}

    def submit(self, job: Job) -> None:
        self._waiting.append(job)

    def wait(self, seconds: float) -> list[Event]:
        while self._waiting and len(self._workers) < self.limit:
            self._start(self._waiting.popleft())
        ready = wait(list(self._workers), timeout=seconds)
        return [self._receive(connection) for connection in ready if connection in self._workers]

    def close(self) -> None:
        self._waiting.clear()
        for worker in self._workers.values():
            worker.process.terminate()
        for connection, worker in self._workers.items():
            worker.process.join(_GRACE_SECONDS)
            if worker.process.is_alive():
                worker.process.kill()
                worker.process.join()
            connection.close()
        self._workers.clear()

    def _start(self, job: Job) -> None:
        receiver, sender = self._context.Pipe(duplex=False)
        process = self._context.Process(target=_work, args=(job, sender), name=job.name)
        process.start()
        sender.close()  # the worker's copy is now the only one: its end is the pipe's end
        self._workers[receiver] = _Worker(job, process)

    def _receive(self, connection: Connection) -> Event:
        worker = self._workers[connection]
        try:
            kind, content = connection.recv()
            event: Event = kind(worker.job, content)
        except (EOFError, OSError):  # ended before a message, or in the middle of one
            worker.process.join()
            event = Died(worker.job, _last_words(worker.job.log, worker.process.exitcode or 0))
        if not isinstance(event, Progress):
            worker.process.join()
            connection.close()
            del self._workers[connection]
        return event


EXECUTORS: Mapping[str, Callable[[int, Sequence[str]], Executor]] = MappingProxyType(
    {"local": Local}
)


def make_executor(name: str, jobs: int, preload: Sequence[str] = ()) -> Executor:
    """Make an executor.

    Args:
        name: one of ``EXECUTORS``.
        jobs: how many to run side by side.
        preload: modules to import once for all jobs, none of which may start threads; one that
            cannot be imported is passed over.

    Raises:
        ValueError: the name is unknown (the nearest ones given), or ``jobs`` out of bounds.
    """
    if name not in EXECUTORS:
        raise UnknownName("executor", name, EXECUTORS)
    if not 1 <= jobs <= MAX_JOBS:
        raise ValueError(f"--jobs must be in 1..{MAX_JOBS}, not {jobs}")
    return EXECUTORS[name](jobs, preload)


def _work(job: Job, sender: Connection) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's to answer
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    threading.Thread(target=_end_with_parent, daemon=True).start()
    job.log.parent.mkdir(parents=True, exist_ok=True)
    with job.log.open("a") as log:
        os.dup2(log.fileno(), 1)
        os.dup2(log.fileno(), 2)
    result = job.run(job.work, lambda news: sender.send((Progress, news)))
    sender.send((Finished, result))


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    assert parent is not None
    parent.join()
    os._exit(1)


def _last_words(log: Path, exit_code: int) -> str:
    if exit_code < 0:
        return f"the process was ended by {signal.Signals(-exit_code).name}"
    lines = log.read_text(errors="replace").split("\n") if log.is_file() else []
    words = next((line.strip() for line in reversed(lines) if line.strip()), "no message")
    return f"the process ended with exit code {exit_code}: {words}"
