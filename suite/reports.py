"""Reports: markdown pages and figures, generated from result files and from nothing else.

The same result files give the same bytes, on any machine and on any day: there is no clock in here,
no environment and no algorithm. Names from records are untrusted, see :mod:`suite.markdown`.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from rich import box
from rich.table import Table as ConsoleTable
from rich.text import Text

from suite.figures import GENERATOR, short_count
from suite.leaderboard import Entry, failure_counts, split_by_conditions
from suite.outside import OutsideSummary, Table
from suite.pages.algorithm import algorithm_page
from suite.pages.common import MARKER, Context, interval_text, path_of, seeds_text
from suite.pages.html import html_page
from suite.pages.index import (
    AlgorithmFacts,
    FamilyFacts,
    Matrix,
    algorithms_page,
    index_page,
    matrix_of,
)
from suite.pages.protocol import protocol_page
from suite.pages.scores import scores_page
from suite.pages.task import task_page
from suite.records import Record, load_all
from suite.statistics import IntervalKind

__all__ = [
    "AlgorithmFacts",
    "FamilyFacts",
    "Matrix",
    "ReportSummary",
    "render_console",
    "write_reports",
    "write_scores",
]

_TRIAL = "trial"
_HEAD_BYTES = 4096
"""Where the mark of a generated file is looked for."""


@dataclass(frozen=True)
class ReportSummary:
    """What a report was made from, and which files it touched."""

    records: int
    """Records on the pages that were made anew."""
    pages: tuple[str, ...]
    """Files below the reports folder that are now up to date, sorted."""
    removed: tuple[str, ...]
    """Files of earlier reports whose records are gone, sorted."""
    damaged: tuple[str, ...]
    """Path and reason of every record that could not be read."""


def write_reports(
    results: Path, out: Path, protocol: str | None = None, matrix: Matrix | None = None
) -> ReportSummary:
    """Regenerate the pages and figures of all protocols, or of one; the index always.

    Args:
        results: the results folder; it need not exist.
        out: the reports folder. Only files that an earlier report made are overwritten or removed.
        protocol: a protocol's name, ``trial`` or ``trial/<short hash>``; None: all but trials.
        matrix: what could be run; None: the part of it that the records show.

    Raises:
        FileExistsError: a file that no report made stands in the place of a page.
        OSError: a file cannot be written.
    """
    records, damaged = load_all(results)
    shown = records if protocol is None else [one for one in records if one.protocol == protocol]
    if protocol is not None and protocol.split("/")[0] == _TRIAL:
        shown, damaged_trials = load_all(results, protocol)
        damaged = [*damaged, *damaged_trials]
    matrix = matrix or matrix_of(records)
    faults = [(damage.path.relative_to(results).as_posix(), damage.reason) for damage in damaged]

    files = index_page(records, faults, matrix)
    if matrix.algorithm_facts:
        files |= algorithms_page(matrix)
    described = frozenset(matrix.algorithm_facts)
    contexts = {
        name: Context(
            name,
            tuple(record for record in chosen if record.folder == name),
            described,
            matrix.present,
        )
        for chosen in (records, shown)
        for name in sorted({record.folder for record in chosen})
    }
    files |= html_page([contexts[name] for name in sorted({record.folder for record in records})])
    for name in sorted({record.folder for record in shown}):
        context = contexts[name]
        own = context.records
        files |= protocol_page(context)
        for task in sorted({record.task for record in own}):
            files |= task_page(context, task)
        for algorithm in sorted({record.algorithm for record in own}):
            files |= algorithm_page(context, algorithm)

    for path, content in files.items():
        _write(out / path, content)
    stale = [path for path in _generated(out, protocol) if path not in files]
    for path in stale:
        _remove(out, path)
    return ReportSummary(
        records=len(shown),
        pages=tuple(sorted(files)),
        removed=tuple(stale),
        damaged=tuple(f"{path}: {reason}" for path, reason in faults),
    )


def write_scores(
    table: Table, summary: OutsideSummary, out: Path, ci: IntervalKind, reps: int
) -> tuple[str, ...]:
    """Write the page about anyone's scores, with its figures.

    Args:
        table: the scores.
        summary: of them.
        out: folder; only files that an earlier report made are overwritten.
        ci: kind of the intervals.
        reps: bootstrap replicates they were made with.

    Returns:
        The files below the folder, sorted.

    Raises:
        FileExistsError: a file that no report made stands in the place of one.
        OSError: a file cannot be written.
    """
    files = scores_page(table, summary, ci, reps)
    for path, content in files.items():
        _write(out / path, content)
    return tuple(sorted(files))


def render_console(records: Iterable[Record]) -> ConsoleTable:
    """Lay out scores as a compact table for a terminal: what a bench prints at its end.

    Args:
        records: at most one per algorithm and task, of one protocol; those under different
            conditions are told apart by a rule between them.
    """
    table = ConsoleTable(box=box.SIMPLE, show_edge=False)
    table.add_column("task")
    table.add_column("algorithm")
    for title in ("score [95 %]", "normalised", "seeds", "steps", "minutes"):
        table.add_column(title, justify="right")
    for group in split_by_conditions(list(records)):
        rows = [
            (task, algorithm, entry)
            for algorithm, own in group.entries.items()
            for task, entry in own.items()
        ]
        for task, algorithm, entry in sorted(rows, key=lambda row: row[:2]):
            texts = [task, algorithm, *_console_texts(entry)]
            table.add_row(*(Text(_printable(text)) for text in texts))
        table.add_section()
    return table


def _console_texts(entry: Entry) -> list[str]:
    record = entry.record
    seeds = [seeds_text(entry)]
    seeds += [f"{count} {status}" for status, count in failure_counts([entry]).items()]
    seconds = max((run.ledger[-1].wall_seconds for run in record.runs if run.ledger), default=0.0)
    return [
        interval_text(entry.mean(), None),
        interval_text(entry.mean_normalised()),
        ", ".join(seeds),
        short_count(record.budget),
        f"{seconds / 60:.1f}",
    ]


def _printable(text: str) -> str:
    """Without control characters, which could steer the terminal."""
    return "".join(character if character.isprintable() else "?" for character in text)


def _write(path: Path, content: bytes) -> None:
    """Write a file of ours, unless it has these bytes already."""
    if path.exists():
        if not _is_ours(path):
            raise FileExistsError(f"{path} was not made by a report; move it out of the way")
        if path.read_bytes() == content:
            return
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)


def _generated(out: Path, protocol: str | None) -> list[str]:
    """Files that reports have made: of one protocol, or of all but the trials."""
    found = [
        path for kind in ("md", "svg", "html") for path in out.rglob(f"*.{kind}") if _is_ours(path)
    ]
    paths = sorted(path.relative_to(out).as_posix() for path in found)
    if protocol is None:
        return [path for path in paths if not path.startswith(f"{_TRIAL}/")]
    folder = path_of(protocol)
    return [path for path in paths if path.startswith((f"{folder}/", f"{folder}."))]


def _is_ours(path: Path) -> bool:
    """Whether a file has the mark that pages and figures carry in their head."""
    with path.open("rb") as file:
        head = file.read(_HEAD_BYTES)
    if path.suffix == ".md":
        return head.startswith(MARKER.encode())
    if path.suffix == ".html":
        return MARKER.encode() in head
    return f"<dc:title>{GENERATOR}</dc:title>".encode() in head


def _remove(out: Path, path: str) -> None:
    """Remove a file, and the folders that are empty without it."""
    out.joinpath(path).unlink()
    for folder in out.joinpath(path).parents:
        if folder == out or any(folder.iterdir()):
            return
        folder.rmdir()
