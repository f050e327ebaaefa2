"""Cells: what a bench is asked for, one algorithm on one task each, and how far each one is.

Everything that can be wrong about a request is found here, before anything is trained.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any

import torch

from suite.configs import plain_config, resolve_config
from suite.protocols import (
    Protocol,
    budget,
    comparability_key,
    difference,
    find_protocol,
    rules_for,
    run_seeds,
)
from suite.provenance import installed_version, versions
from suite.records import DamagedRecord, Record, episode_table, load, record_paths
from suite.registry import (
    engine_for,
    fit,
    load_algorithm,
    load_family,
    resolve_algorithms,
    resolve_tasks,
    source_hash,
)
from suite.runner import Runner, Work
from suite.tasks import Engine, Task

MAX_STEPS = 10**12
MAX_THREADS = 1024


@dataclass(frozen=True)
class Request:
    """What a user asks for, in the words of the command line."""

    algorithms: str
    tasks: str
    protocol: str = "quick"
    seeds: int | None = None
    """How many; None: the protocol's number."""
    steps: int | None = None
    """Agent steps per seed; None: the protocol's."""
    device: str = "auto"
    engine: str | None = None
    preset: str | None = None
    overrides: Mapping[str, str] = field(default_factory=dict)
    """Config fields by name, values as text."""
    threads: int = 1
    """Per process; fixed, because it changes the last bits of sums."""
    seed_range: str | None = None
    """Purpose of the seeds; None: the protocol's own."""


@dataclass(frozen=True)
class Cell:
    """One algorithm on one task under the rules of one request."""

    algorithm: str
    task: Task
    engine: str
    protocol: Protocol
    steps: int
    seeds: tuple[int, ...]
    config: Mapping[str, object]
    device: str
    threads: int
    blank: Record | None
    """The record without any runs; None if packages are missing."""
    missing_packages: tuple[str, ...]
    install: str
    """The command that adds what the task needs."""

    @property
    def name(self) -> str:
        return f"{self.algorithm} on {self.task.id}"

    @property
    def record(self) -> Record:
        """The record without any runs, of a cell that can run here."""
        assert self.blank is not None, f"{self.name} lacks {self.missing_packages}"
        return self.blank

    def work(self, seeds: tuple[int, ...], folder: Path | None) -> Work:
        """What the runner needs to train some of the seeds together."""
        return Work(
            algorithm=self.algorithm,
            task=self.task.id,
            engine=self.engine,
            protocol=self.protocol,
            steps=self.steps,
            seeds=seeds,
            config=dict(self.config),
            device=self.device,
            threads=self.threads,
            folder=folder,
        )


@dataclass(frozen=True)
class State:
    """How far a cell is, by its record."""

    record: Record | None = None
    missing: tuple[int, ...] = ()
    """Seeds that have no result yet."""
    stale: tuple[str, ...] = ()
    """What differs between the record and what would run now, e.g. ``source_hash``."""
    damage: DamagedRecord | None = None

    @property
    def word(self) -> str:
        """``not run``, ``complete``, ``stale``, ..., for tables."""
        if self.damage:
            return "damaged"
        if self.record is None:
            return "not run"
        if self.stale:
            return "stale"
        if self.missing:
            return f"{len(self.record.runs)} of {len(self.record.runs) + len(self.missing)} seeds"
        failed = sum(run.status != "ok" for run in self.record.runs)
        return f"complete, {failed} failed" if failed else "complete"


def find_cells(request: Request) -> list[Cell]:
    """Turn a request into cells, in the order in which they will run.

    Raises:
        ValueError: a name is unknown (nearest ones given), a value is out of bounds (the bound
            given), or nothing fits.
    """
    protocol = find_protocol(request.protocol)
    seeds = run_seeds(protocol, request.seeds, request.seed_range)
    _check_bounds("steps", request.steps, MAX_STEPS)
    _check_bounds("threads", request.threads, MAX_THREADS)
    device = find_device(request.device)
    algorithms = resolve_algorithms(request.algorithms)
    tasks = resolve_tasks(request.tasks, protocol)
    pairs = [(algorithm, task) for task in tasks for algorithm in algorithms]
    steps = {
        (algorithm, task.id): request.steps or budget(protocol, algorithm, task.id)
        for algorithm, task in pairs
    }
    if not any(steps.values()):
        raise ValueError(
            f"protocol {protocol.name} has no budget for {request.algorithms} on {request.tasks};"
            f" give --steps, or one of its tasks: {', '.join(_tasks_of(protocol))}"
        )
    return [
        _cell(request, rules_for(protocol, algorithm, task.id), algorithm, task, own, seeds, device)
        for algorithm, task in pairs
        if (own := steps[algorithm, task.id])
    ]


def find_device(name: str) -> str:
    """Check a device; ``auto`` is CUDA where there is any, else the CPU.

    Raises:
        ValueError: it is unknown, or not there.
    """
    available = ["cpu"] + [f"cuda:{number}" for number in range(torch.cuda.device_count())]
    if name == "auto":
        return "cuda" if len(available) > 1 else "cpu"
    if name in available or (name == "cuda" and len(available) > 1):
        return name
    raise ValueError(f"device {name!r} is not available; available: auto, {', '.join(available)}")


def examine(cell: Cell, results: Path) -> State:
    """Compare a cell with its record below the results folder."""
    blank = cell.record
    _, path = record_paths(results, blank.folder, blank.task, blank.algorithm)
    if not path.exists() and not path.with_suffix(".csv").exists():
        return State(missing=cell.seeds)
    try:
        record = load(path)
    except DamagedRecord as damage:
        return State(damage=damage)
    missing = tuple(seed for seed in cell.seeds if seed not in record.seeds)
    return State(record, missing, stale=departures(record, blank, complete=not missing))


def departures(record: Record, blank: Record, complete: bool) -> tuple[str, ...]:
    """What differs, apart from runs; of a complete record only what makes its numbers stale.

    Another Python or torch leaves finished results standing, but may not add seeds to them.
    """
    names = {"key", "config", "source_hash", "engine", "versions"}
    found = set(difference(_subset(record, names), _subset(blank, names)))
    if complete:
        found -= {"versions.python", "versions.torch", "versions.numpy"}
    others = {each.name for each in fields(Record)} - names
    others -= {"runs", "episodes", "normalisation", "task_info"}
    return tuple(sorted(found | set(difference(_subset(record, others), _subset(blank, others)))))


def _subset(record: Record, names: Iterable[str]) -> dict[str, object]:
    return {name: getattr(record, name) for name in names}


def seeds_to_run(cell: Cell, state: State, stale: bool) -> tuple[int, ...]:
    """Seeds that a bench trains; ``stale`` adds those that are stale or crashed for good.

    What is damaged is left alone, so that nobody's edit is overwritten.
    """
    if state.damage:
        return ()
    if state.record is None:
        return state.missing
    if state.stale:
        return tuple(sorted({*cell.seeds, *state.record.seeds})) if stale else ()
    crashed = {run.seed for run in state.record.runs if run.status == "crashed"} if stale else ()
    return tuple(sorted({*state.missing, *crashed}))


def default_engine(task: Task, device: str) -> Engine:
    """The engine that steps a task unless another one is asked for.

    Args:
        task: to be stepped.
        device: that agents train on. On a GPU, an engine that computes there comes first, if
            nothing of what it needs is missing.
    """
    kind = device.partition(":")[0]
    for engine in load_family(task.family).engines:
        is_at_home = engine.device == kind != "cpu" and engine.supports(task)
        if is_at_home and not lacking(engine, task)[0]:
            return engine
    return engine_for(task)


def lacking(engine: Engine, task: Task) -> tuple[tuple[str, ...], str]:
    """What an engine lacks here to run a task, and the command that adds it."""
    missing = tuple(name for name in engine.packages if installed_version(name) is None)
    if not missing and (lack := engine.lacks(task)):
        return (lack.what,), lack.install
    return missing, load_family(task.family).install


def parse_overrides(texts: Iterable[str]) -> dict[str, str]:
    """Read ``name=value`` texts, several in one text if separated by spaces.

    Raises:
        ValueError: a text has another form.
    """
    found = {}
    for word in " ".join(texts).split():
        name, equals, value = word.partition("=")
        if not (name and equals and value):
            raise ValueError(f"--set {word!r}: expected name=value, e.g. learning_rate=1e-4")
        found[name] = value
    return found


def _tasks_of(protocol: Protocol) -> list[str]:
    return list(dict.fromkeys(row.task for row in protocol.budgets))


def _check_bounds(name: str, value: int | None, highest: int) -> None:
    if value is not None and not 1 <= value <= highest:
        raise ValueError(f"--{name} must be in 1..{highest}, not {value}")


def _cell(
    request: Request,
    protocol: Protocol,
    algorithm: str,
    task: Task,
    steps: int,
    seeds: tuple[int, ...],
    device: str,
) -> Cell:
    entry = load_algorithm(algorithm)
    default = default_engine(task, device)
    engine = default if request.engine is None else engine_for(task, request.engine)
    config = resolve_config(entry, task.id, protocol.name, request.preset, request.overrides)
    if not hasattr(config, "lanes"):
        raise ValueError(f"{algorithm}: its config lacks the field lanes, environments per seed")
    rollout = getattr(config, "rollout_steps", 1) * config.lanes
    if steps < rollout:
        raise ValueError(
            f"--steps {steps} is less than one rollout of {algorithm} on {task.id}: at least"
            f" {rollout}"
        )
    missing, install = lacking(engine, task)
    cell = Cell(
        algorithm=algorithm,
        task=task,
        engine=engine.name,
        protocol=protocol,
        steps=steps,
        seeds=seeds,
        config=plain_config(config),
        device=device,
        threads=request.threads,
        blank=None,
        missing_packages=missing,
        install=install,
    )
    if missing:
        return cell
    cell = replace(cell, blank=_blank(cell, entry, engine, default, request))
    if cell.record.protocol == "trial":
        _check_fit(cell)
    return cell


def _check_fit(cell: Cell) -> None:
    """Make the agent once: its config may not fit the task or the budget."""
    try:
        Runner(replace(cell, device="cpu").work(cell.seeds[:1], None), lambda progress: None)
    except (ValueError, RuntimeError, ArithmeticError, MemoryError) as error:
        raise ValueError(f"{cell.name}: {error or type(error).__name__}") from error


def _blank(cell: Cell, entry: Any, engine: Engine, default: Engine, request: Request) -> Record:
    task, protocol = cell.task, cell.protocol
    trial = (
        cell.steps != budget(protocol, cell.algorithm, task.id)
        or bool(request.overrides)
        or request.preset is not None
        or request.seed_range is not None
        or engine.name != default.name
    )
    found = versions(engine.packages)
    of_engine = {name: found[name] for name in engine.packages}
    kind, adapter = fit(entry, task)
    bounds = task.bounds
    return Record(
        algorithm=cell.algorithm,
        task=task.id,
        protocol="trial" if trial else protocol.name,
        protocol_version=protocol.version,
        budget=cell.steps,
        key=comparability_key(protocol, task, cell.steps, engine.name, of_engine),
        config=cell.config,
        fit=kind,
        adapter=adapter,
        evaluation=str(cell.config.get("evaluation", entry.evaluation)),
        engine=engine.name,
        versions=found,
        source_hash=source_hash(cell.algorithm),
        normalisation=None
        if bounds is None
        else {
            "floor": bounds.floor,
            "cap": bounds.cap,
            "floor_source": bounds.floor_source,
            "cap_source": bounds.cap_source,
        },
        task_info={
            "domain": task.domain,
            "complexity": task.complexity,
            "paper": task.paper,
            "actions": task.actions,
            "horizon": task.horizon,
        },
        runs=(),
        episodes=episode_table([]),
    )
