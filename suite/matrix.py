"""The matrix: every algorithm on every family, and how far each cell is."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from suite.cells import Request, State, examine, find_cells
from suite.configs import plain_config, resolve_config
from suite.leaderboard import cell_state
from suite.pages.common import Present
from suite.pages.index import AlgorithmFacts, FamilyFacts, Matrix
from suite.protocols import find_protocol
from suite.provenance import installed_version
from suite.records import Record, load_all
from suite.registry import (
    algorithm_names,
    family_names,
    fit,
    load_algorithm,
    load_family,
    source_hash,
)
from suite.tasks import Family


@dataclass(frozen=True)
class CellLine:
    """An algorithm on a family's tasks in one protocol."""

    algorithm: str
    family: str
    fit: str
    """``native``, ``adapted``, or ``mixed`` if it depends on the task."""
    adapter: str
    """The paper whose adapter makes it possible; empty for native ones."""
    state: str
    """``no tasks``, ``not run``, ``smoke``, ``3 of 5 seeds``, ``complete``, ..., and behind it how
    many records are stale or damaged."""


def registry_matrix() -> Matrix:
    """What could be run, by the registry and by what is installed."""
    algorithms = {name: load_algorithm(name) for name in algorithm_names()}
    families = {name: load_family(name) for name in family_names()}
    fits = {}
    for algorithm, entry in algorithms.items():
        for name, family in families.items():
            found = {fit(entry, task)[0] for task in family.tasks.values()}
            fits[algorithm, name] = found.pop() if len(found) == 1 else "mixed"
    return Matrix(
        algorithms=tuple(algorithms),
        families=tuple(families),
        fit=fits,
        algorithm_facts={
            name: AlgorithmFacts(
                entry.title,
                entry.category,
                entry.key_idea,
                entry.policy,
                entry.paper,
                entry.adapter,
            )
            for name, entry in algorithms.items()
        },
        family_facts={
            name: FamilyFacts(
                family.title,
                _different(task.domain for task in family.tasks.values()),
                _different(task.complexity for task in family.tasks.values()),
                next(iter(family.tasks.values())).paper,
            )
            for name, family in families.items()
        },
        present=_present(families.values()),
    )


def _different(words: Iterable[str]) -> str:
    return ", ".join(dict.fromkeys(words))


def _present(families: Iterable[Family]) -> Present:
    packages = {
        name for family in families for engine in family.engines for name in engine.packages
    }
    found = {name: installed_version(name) for name in sorted(packages)}
    return Present(
        source_hashes={name: source_hash(name) for name in algorithm_names()},
        versions={name: version for name, version in found.items() if version is not None},
        config=_config_now,
    )


def _config_now(record: Record) -> dict[str, object] | None:
    if record.protocol == "trial" or record.algorithm not in algorithm_names():
        return None  # a trial's config is its own
    entry = load_algorithm(record.algorithm)
    return plain_config(resolve_config(entry, record.task, record.protocol))


def cell_lines(matrix: Matrix, protocol_name: str, results: Path) -> list[CellLine]:
    """How far every cell is in one protocol, by algorithm, then by family.

    Raises:
        ValueError: the protocol is unknown; the nearest names are given.
    """
    protocol = find_protocol(protocol_name)
    records, _ = load_all(results)
    states = _states(protocol_name, results)
    lines = []
    for algorithm in matrix.algorithms:
        adapter = load_algorithm(algorithm).adapter
        for family in matrix.families:
            word = cell_state(records, protocol, algorithm, family)
            if word == "not run" and _has_smoke(records, algorithm, family):
                word = "smoke"
            own_fit = matrix.fit[algorithm, family]
            lines.append(
                CellLine(
                    algorithm=algorithm,
                    family=family,
                    fit=own_fit,
                    adapter="" if own_fit == "native" else adapter,
                    state=_with_remarks(word, states.get((algorithm, family), [])),
                )
            )
    return lines


def _states(protocol: str, results: Path) -> dict[tuple[str, str], list[State]]:
    """States of the protocol's cells that can run here, by algorithm and family."""
    states: dict[tuple[str, str], list[State]] = {}
    for cell in find_cells(Request("all", "all", protocol)):
        if not cell.missing_packages:
            own = states.setdefault((cell.algorithm, cell.task.family), [])
            own.append(examine(cell, results))
    return states


def _with_remarks(word: str, states: Sequence[State]) -> str:
    stale = sum(bool(state.stale) for state in states)
    damaged = sum(state.damage is not None for state in states)
    remarks = [(stale, "stale"), (damaged, "damaged")]
    return ", ".join([word, *(f"{number} {remark}" for number, remark in remarks if number)])


def _has_smoke(records: Sequence[Record], algorithm: str, family: str) -> bool:
    return any(
        (record.algorithm, record.protocol) == (algorithm, "smoke")
        and record.task.startswith(f"{family}/")
        for record in records
    )
