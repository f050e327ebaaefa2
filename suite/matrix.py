"""The matrix: every algorithm on every family, and how far each cell is."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path

from suite.cells import Request, State, examine, find_cells
from suite.doctor import check_family, installed_version
from suite.leaderboard import cell_state
from suite.protocols import PROTOCOLS, find_protocol
from suite.records import Record, load_all
from suite.registry import algorithm_names, family_names, load_algorithm, load_family
from suite.tasks import Family, Task


@dataclass(frozen=True)
class AlgorithmRow:
    """What there is to know about an algorithm."""

    id: str
    title: str
    category: str
    policy: str
    key_idea: str
    paper: str
    evaluation: str


@dataclass(frozen=True)
class FamilyRow:
    """What there is to know about a family."""

    name: str
    title: str
    tasks: tuple[str, ...]
    engines: tuple[str, ...]
    installed: bool
    install: str
    domain: str
    complexity: str
    paper: str


@dataclass(frozen=True)
class MatrixCell:
    """An algorithm on a family's tasks in one protocol."""

    algorithm: str
    family: str
    fit: str
    """``native``, or ``adapted`` if it is so on one of the tasks."""
    adapter: str
    """The paper whose adapter makes it possible; empty for native ones."""
    state: str


@dataclass(frozen=True)
class Matrix:
    """What ``suite list`` shows."""

    protocol: str
    algorithms: tuple[AlgorithmRow, ...]
    families: tuple[FamilyRow, ...]
    cells: tuple[MatrixCell, ...]
    """By algorithm, then by family."""

    def plain(self) -> dict[str, object]:
        """For JSON."""
        return asdict(self)


def build_matrix(protocol_name: str, results: Path) -> Matrix:
    """Look at the registry and at the records.

    Raises:
        ValueError: the protocol is unknown; the nearest names are given.
    """
    protocol = find_protocol(protocol_name)
    records, _ = load_all(results)
    states = _states(protocol_name, results)
    families = [load_family(name) for name in family_names()]
    cells = []
    for algorithm in algorithm_names():
        entry = load_algorithm(algorithm)
        for family in families:
            tasks = [task for task in family.tasks.values() if (algorithm, task.id) in states]
            kinds = {task.actions for task in tasks or family.tasks.values()}
            native = kinds <= entry.native_actions
            cells.append(
                MatrixCell(
                    algorithm=algorithm,
                    family=family.name,
                    fit="native" if native else "adapted",
                    adapter="" if native else entry.adapter,
                    state=_state(
                        cell_state(records, protocol, algorithm, family.name),
                        [states[algorithm, task.id] for task in tasks],
                        smoked=_has_smoke(records, algorithm, family.name),
                    ),
                )
            )
    return Matrix(
        protocol=protocol_name,
        algorithms=tuple(_algorithm_row(name) for name in algorithm_names()),
        families=tuple(_family_row(family) for family in families),
        cells=tuple(cells),
    )


def _states(protocol: str, results: Path) -> dict[tuple[str, str], State]:
    """State of every pair of the protocol that can run here."""
    cells = find_cells(Request("all", "all", protocol))
    return {
        (cell.algorithm, cell.task.id): examine(cell, results)
        for cell in cells
        if not cell.missing_packages
    }


def _state(word: str, states: list[State], smoked: bool) -> str:
    if word == "not run" and smoked:
        word = "smoke"
    damaged = sum(state.damage is not None for state in states)
    stale = sum(bool(state.stale) for state in states)
    remarks = [(stale, "stale"), (damaged, "damaged")]
    return ", ".join([word, *(f"{number} {remark}" for number, remark in remarks if number)])


def _has_smoke(records: list[Record], algorithm: str, family: str) -> bool:
    smoke = PROTOCOLS["smoke"].name
    return any(
        (record.algorithm, record.protocol) == (algorithm, smoke)
        and record.task.startswith(f"{family}/")
        for record in records
    )


def _algorithm_row(name: str) -> AlgorithmRow:
    entry = load_algorithm(name)
    return AlgorithmRow(
        id=name,
        title=entry.title,
        category=entry.category,
        policy=entry.policy,
        key_idea=entry.key_idea,
        paper=entry.paper,
        evaluation=entry.evaluation,
    )


def _family_row(family: Family) -> FamilyRow:
    first: Task = next(iter(family.tasks.values()))
    return FamilyRow(
        name=family.name,
        title=family.title,
        tasks=tuple(family.tasks),
        engines=tuple(engine.name for engine in family.engines),
        installed=check_family(family, installed_version).ok,
        install=family.install,
        domain=first.domain,
        complexity=first.complexity,
        paper=first.paper,
    )
