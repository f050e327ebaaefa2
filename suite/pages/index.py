"""The index of the reports, and the page that says what algorithms and families there are."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from suite.leaderboard import cell_state
from suite.markdown import DASH, escape, file_name, link, plural, table
from suite.names import family_of
from suite.pages.common import (
    ALGORITHMS,
    HTML,
    INDEX,
    Files,
    Present,
    group_by,
    protocol_path,
    render,
    source_line,
)
from suite.protocols import PROTOCOLS
from suite.records import Record

DEFAULT_PROTOCOL = "quick"
"""Its cells are listed even when none has been run."""

_MARKS = {"native": "", "adapted": " †", "mixed": " ‡"}


_ABOUT = ("id", "name", "category", "key idea", "policy")


@dataclass(frozen=True)
class AlgorithmFacts:
    """What ``algorithms.md`` says about an algorithm."""

    title: str
    category: str
    key_idea: str
    policy: str
    paper: str
    adapter: str = ""
    """The paper whose adapter is used where the published method does not fit."""


@dataclass(frozen=True)
class FamilyFacts:
    """What ``algorithms.md`` says about a family of environments."""

    title: str
    domain: str
    complexity: str
    paper: str


@dataclass(frozen=True)
class Matrix:
    """What could be run: known to the registry, and handed in because reports do not load it."""

    algorithms: tuple[str, ...]
    families: tuple[str, ...]
    fit: Mapping[tuple[str, str], str]
    """``native``, ``adapted`` or ``mixed`` (it depends on the task) by (algorithm, family)."""
    algorithm_facts: Mapping[str, AlgorithmFacts] = field(default_factory=dict)
    family_facts: Mapping[str, FamilyFacts] = field(default_factory=dict)
    present: Present = field(default_factory=Present)
    """Tells which records are stale."""


def index_page(
    records: Sequence[Record], damaged: Sequence[tuple[str, str]], matrix: Matrix
) -> Files:
    """Write the index: where the pages are, and how far every cell of the matrix is.

    Args:
        records: of all protocols, without trials.
        damaged: path below the results folder, and reason.
        matrix: what could be run.
    """
    names = [name for name in PROTOCOLS if any(record.protocol == name for record in records)]
    names += sorted({record.protocol for record in records} - set(names))
    rows = []
    for name in names:
        own = [record for record in records if record.protocol == name]
        protocol = PROTOCOLS.get(name)
        failed = sum(run.status != "ok" for record in own for run in record.runs)
        rows.append(
            [
                link(name, protocol_path(name)),
                escape(protocol.purpose) if protocol else "not a protocol of this suite",
                "yes" if protocol and protocol.ranked else "no",
                str(len(own)),
                str(sum(len(record.runs) for record in own)),
                str(failed),
            ]
        )
    header = ["protocol", "purpose", "ranked", "records", "runs", "failed runs"]
    about = f" {link('Algorithms and families', ALGORITHMS)}." if matrix.algorithm_facts else ""
    text = [
        "# Reports",
        "Leaderboards, learning curves and every single run, made from the records in `results/` "
        f"and nothing else.{about} To sort and filter: {link(HTML, HTML)}, a page for a browser.",
        source_line(records, digits=64),
        table(header, rows, text_columns=3) if rows else "There are no records yet.",
    ]
    shown = [name for name in PROTOCOLS if name in names or name == DEFAULT_PROTOCOL]
    for name in shown if matrix.algorithms else ():
        text += [f"## Cells of {name}", _state_table(records, name, matrix)]
    if matrix.algorithms:
        text.append(
            "† adapted by a method from the literature; ‡ adapted on some of the tasks; "
            f"{DASH} no tasks in this protocol."
        )
    if damaged:
        lines = [[escape(path), escape(reason)] for path, reason in damaged]
        text += [
            "## Damaged records",
            "In no table; `suite check` names them too.",
            table(["record", "reason"], lines, text_columns=2),
        ]
    return {INDEX: render(text)}


def algorithms_page(matrix: Matrix) -> Files:
    """Write the page that describes algorithms and families."""
    rows = [
        [
            f'<a id="{file_name(name)}"></a>{escape(name)}',
            *map(escape, (facts.title, facts.category, facts.key_idea, facts.policy)),
            _reference(facts.paper),
            escape(facts.adapter) or DASH,
        ]
        for name, facts in matrix.algorithm_facts.items()
    ]
    text = [
        "# Algorithms and families",
        link("All protocols", INDEX),
        "## Algorithms",
        table([*_ABOUT, "paper", "where adapted"], rows, text_columns=7),
    ]
    if matrix.family_facts:
        rows = [
            [escape(name), *map(escape, (facts.title, facts.domain, facts.complexity, facts.paper))]
            for name, facts in matrix.family_facts.items()
        ]
        header = ["id", "name", "domain", "complexity", "key paper"]
        text += ["## Families of environments", table(header, rows, text_columns=5)]
    return {ALGORITHMS: render(text)}


def matrix_of(records: Iterable[Record]) -> Matrix:
    """The part of the matrix that records show."""
    fits: dict[tuple[str, str], set[str]] = {}
    for record in records:
        pair = record.algorithm, family_of(record.task)
        fits.setdefault(pair, set()).add(record.fit)
    return Matrix(
        algorithms=tuple(sorted({algorithm for algorithm, _ in fits})),
        families=tuple(sorted({family for _, family in fits})),
        fit={pair: fit.pop() if len(fit) == 1 else "mixed" for pair, fit in fits.items()},
    )


def _state_table(records: Sequence[Record], name: str, matrix: Matrix) -> str:
    protocol = PROTOCOLS[name]
    by_algorithm = group_by(records, lambda record: record.algorithm)
    rows = []
    for algorithm in matrix.algorithms:
        states = []
        for family in matrix.families:
            own = by_algorithm.get(algorithm, ())
            state = cell_state(own, protocol, algorithm, family, matrix.present.is_stale)
            mark = _MARKS.get(matrix.fit.get((algorithm, family), ""), "")
            states.append(DASH if state == "no tasks" else state + mark)
        rows.append([_name(algorithm, matrix), *states])
    seeds = f"algorithm ({plural(len(protocol.seeds), 'seed')})"
    families = list(map(escape, matrix.families))
    return table([seeds, *families], rows, text_columns=1 + len(families))


def _reference(paper: str) -> str:
    """A paper, linked if its address stands at the end: ``Mnih et al. 2016, https://...``."""
    name, _, address = paper.rpartition(", ")
    return link(name, address) if re.fullmatch(r"https://[\w./-]+", address) else escape(paper)


def _name(algorithm: str, matrix: Matrix) -> str:
    if algorithm in matrix.algorithm_facts:
        return link(algorithm, f"{ALGORITHMS}#{file_name(algorithm)}")
    return escape(algorithm)
