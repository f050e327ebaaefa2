"""The numbers behind the leaderboards: which rows stand together, and what may be said of each.

Everything here is computed from records alone. Ranks are intervals; rows with few seeds, missing
tasks or other conditions are kept, but not ranked. Intervals are 95 %, of the small-sample kind
(:mod:`suite.statistics`), and start from the same ``SEED`` each, so equal records give equal bytes.
"""

from __future__ import annotations

import hashlib
import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from suite import statistics
from suite.protocols import Protocol, budget
from suite.ranking import HEADLINE_TASKS, Claim, RankInterval, claim, rank_intervals
from suite.records import Record
from suite.scores import FloatArray, TaskScores, comparable, score_table
from suite.statistics import Interval, bootstrap_interval, improvement_interval, missing_bounds

REFERENCE = "ppo"
"""Algorithm that the others are compared with one by one."""
SEED = 0
"""Of the generator that every interval is resampled with."""

Ends = tuple[float, float]


@dataclass(frozen=True, eq=False)
class Entry:
    """One algorithm on one task: its record and its scores."""

    record: Record
    scores: TaskScores

    @property
    def settled(self) -> npt.NDArray[np.bool_]:
        """``[runs]``, False where a run crashed for good: it is missing, not a result."""
        return np.array([status != "crashed" for status in self.scores.statuses], dtype=np.bool_)

    @property
    def raw(self) -> FloatArray:
        """Scores of the settled runs in units of return; a failed run has the floor's."""
        raw: FloatArray = self.scores.raw[self.settled]
        return raw

    @property
    def normalised(self) -> FloatArray | None:
        """Likewise, normalised; None if the task has no bounds."""
        scores = self.scores.normalised
        return None if scores is None else scores[self.settled]

    @property
    def is_scored(self) -> bool:
        """Whether there is a number to show at all."""
        return self.raw.size > 0 and bool(np.isfinite(self.raw).all())

    def mean(self) -> Interval | None:
        """Mean return over the runs; interval ends are NaN below 3 runs, None without a score."""
        return _mean_interval(self.raw) if self.is_scored else None

    def mean_normalised(self) -> Interval | None:
        """Mean normalised score, likewise."""
        scores = self.normalised
        return None if scores is None or not self.is_scored else _mean_interval(scores)


Entries = Mapping[str, Mapping[str, Entry]]
"""By algorithm, then by task."""


@dataclass(frozen=True, eq=False)
class Conditions:
    """Records that may stand in one table: equal comparability keys and bounds on each task."""

    entries: Entries
    differences: tuple[str, ...]
    """Fields in which they differ from the first conditions of the page; empty for those."""


@dataclass(frozen=True, eq=False)
class Row:
    """One algorithm of a leaderboard."""

    algorithm: str
    entries: Mapping[str, Entry]
    """By task, those there are."""
    missing: Mapping[str, str]
    """Tasks of the board without a complete result, and why; empty for a complete row."""
    claim: Claim
    iqm: Interval | None
    """Interval ends are NaN where none may be given; None for rows without aggregates."""
    gap: Interval | None
    mean: float | None
    median: float | None
    improvement: Interval | None
    """Probability that a run of it beats a run of the reference; None for the reference itself."""
    worst: tuple[str, float] | None
    """The task with the lowest mean normalised score, and that score."""
    bounds: Mapping[str, Ends]
    """Of an incomplete row: ``iqm``, ``gap`` and ``mean`` with the missing at floor and at cap."""
    rank: RankInterval | None = None


@dataclass(frozen=True, eq=False)
class Board:
    """A leaderboard over some tasks."""

    tasks: tuple[str, ...]
    """Those that are aggregated."""
    unbounded: tuple[str, ...]
    """Tasks without known floor and cap: in no aggregate."""
    rows: tuple[Row, ...]
    """Complete ones: ranked rows first, then by IQM."""
    incomplete: tuple[Row, ...]

    @property
    def has_headline(self) -> bool:
        """Whether there are enough tasks for the aggregates to be a headline."""
        return len(self.tasks) >= HEADLINE_TASKS


def data_hash(records: Iterable[Record]) -> str:
    """SHA-256 over the records, whatever their order."""
    digests = sorted(record.digest for record in records)
    return hashlib.sha256("\n".join(digests).encode()).hexdigest()


def split_by_conditions(records: Sequence[Record]) -> list[Conditions]:
    """Sort records into tables such that each holds comparable ones only.

    Args:
        records: at most one per algorithm and task.

    Returns:
        The conditions that most records share come first; at least one if there are records.
    """
    groups: list[Conditions] = []
    reasons: dict[tuple[str, str], tuple[str, ...]] = {}
    rest = list(records)
    while rest:
        kept, aside = comparable(rest)
        for one in aside:
            reasons.setdefault((one.record.algorithm, one.record.task), one.fields)
        fields = {field for one in kept for field in reasons.get((one.algorithm, one.task), ())}
        groups.append(Conditions(_entries(kept), tuple(sorted(fields))))
        rest = [one.record for one in aside]
    return groups


def build_board(entries: Entries, tasks: Sequence[str], *, ranked: bool = True) -> Board:
    """Compute a leaderboard.

    Args:
        entries: of one ``Conditions``.
        tasks: what a complete row has; all of them should be in the protocol.
        ranked: False: no ranks, whatever the number of seeds.
    """
    by_task = {task: [own[task] for own in entries.values() if task in own] for task in tasks}
    unbounded = [task for task in tasks if any(entry.normalised is None for entry in by_task[task])]
    aggregated = [task for task in tasks if task not in unbounded]
    rows = [
        _row(algorithm, own, aggregated)
        for algorithm, own in entries.items()
        if any(task in own for task in aggregated)
    ]
    complete = _with_improvement([row for row in rows if not row.missing], aggregated)
    if ranked:
        complete = _with_ranks(complete, aggregated)
    return Board(
        tasks=tuple(aggregated),
        unbounded=tuple(unbounded),
        rows=tuple(sorted(complete, key=_order)),
        incomplete=tuple(sorted((row for row in rows if row.missing), key=_order)),
    )


def common_board(entries: Entries, board: Board) -> Board | None:
    """Recompute all rows of a board on the tasks that they share, unranked.

    Returns:
        None if no row is incomplete, or too few tasks are common for an aggregate to mean much.
    """
    rows = (*board.rows, *board.incomplete)
    common = [task for task in board.tasks if all(task not in row.missing for row in rows)]
    if not board.incomplete or len(common) < HEADLINE_TASKS:
        return None
    return build_board(entries, common, ranked=False)


def task_ranks(entries: Mapping[str, Entry]) -> dict[str, RankInterval]:
    """Rank algorithms on a single task by their mean return; only those with enough runs."""
    scores = {
        algorithm: entry.raw[:, None]
        for algorithm, entry in entries.items()
        if entry.settled.all() and entry.is_scored and claim(entry.raw.size, 1).ranked
    }
    if len(scores) < 2:
        return {}
    return rank_intervals(scores, statistics.mean, rng=np.random.default_rng(SEED))


def failure_counts(entries: Iterable[Entry]) -> dict[str, int]:
    """Count runs that are not ok, by status in alphabetical order."""
    statuses = Counter(status for entry in entries for status in entry.scores.statuses)
    return {status: statuses[status] for status in sorted(statuses) if status != "ok"}


def cell_state(records: Sequence[Record], protocol: Protocol, algorithm: str, family: str) -> str:
    """Say how far an algorithm is with a family's tasks in a protocol.

    Args:
        records: any; those of other pairs or protocols are passed over.
        protocol: gives the tasks and the number of seeds.
        algorithm: its id.
        family: its name.

    Returns:
        ``no tasks``, ``not run``, ``failed`` (every run there is), ``partial: 1 of 2 tasks``,
        ``3 of 5 seeds`` (of the task with the fewest) or ``complete``; behind it what failed, as
        in ``complete, 1 diverged``.
    """
    tasks = {
        row.task
        for row in protocol.budgets
        if row.task.startswith(f"{family}/") and budget(protocol, algorithm, row.task) is not None
    }
    if not tasks:
        return "no tasks"
    own = [
        record
        for record in records
        if (record.algorithm, record.protocol) == (algorithm, protocol.name)
        and record.task in tasks
    ]
    statuses = Counter(run.status for record in own for run in record.runs)
    failed = {status: statuses[status] for status in sorted(statuses) if status != "ok"}
    seeds = min((len(record.runs) for record in own), default=0)
    if not own:
        return "not run"
    if not statuses["ok"]:
        return "failed"
    if len(own) < len(tasks):
        state = f"partial: {len(own)} of {len(tasks)} tasks"
    elif seeds < len(protocol.seeds):
        state = f"{seeds} of {len(protocol.seeds)} seeds"
    else:
        state = "complete"
    return ", ".join([state, *(f"{count} {status}" for status, count in failed.items())])


def _entries(records: Sequence[Record]) -> Entries:
    table = score_table(records)
    entries: dict[str, dict[str, Entry]] = {algorithm: {} for algorithm in table.scores}
    for record in records:
        scores = table.scores[record.algorithm][record.task]
        entries[record.algorithm][record.task] = Entry(record, scores)
    return entries


def _mean_interval(scores: FloatArray) -> Interval:
    value = float(scores.mean())
    if not claim(scores.size, 1).interval:
        return Interval(value, math.nan, math.nan)
    return _interval(scores[:, None], statistics.mean)


def _interval(scores: statistics.Scores, statistic: statistics.Statistic) -> Interval:
    return bootstrap_interval(scores, statistic, rng=np.random.default_rng(SEED))


def _row(algorithm: str, entries: Mapping[str, Entry], tasks: Sequence[str]) -> Row:
    own = {task: entries[task] for task in tasks if task in entries}
    missing = {task: "not run" for task in tasks if task not in own}
    for task, entry in own.items():
        crashed = int((~entry.settled).sum())
        if crashed:
            missing[task] = f"{crashed} of {len(entry.settled)} crashed"
    runs = min(len(entry.settled) for entry in own.values())
    says = claim(runs, len(tasks))
    scores = {task: entry.normalised for task, entry in own.items() if entry.normalised is not None}
    means = {task: float(of_task.mean()) for task, of_task in scores.items() if of_task.size}
    worst = min(means.items(), key=lambda item: (item[1], item[0]), default=None)
    iqm, gap, mean, median, bounds = None, None, None, None, {}
    if says.interval and not missing:
        complete = _matrix(own, tasks)
        iqm = _interval(complete, statistics.iqm)
        gap = _interval(complete, statistics.optimality_gap)
        mean = float(statistics.mean(complete))
        median = float(statistics.median(complete))
    elif says.interval:
        parts = [scores.get(task, np.empty(0)) for task in tasks]
        most = max(len(entry.settled) for entry in own.values())
        bounds = {
            "iqm": missing_bounds(parts, most, statistics.iqm),
            "gap": missing_bounds(parts, most, statistics.optimality_gap),
            "mean": missing_bounds(parts, most, statistics.mean),
        }
    return Row(algorithm, own, missing, says, iqm, gap, mean, median, None, worst, bounds)


def _matrix(entries: Mapping[str, Entry], tasks: Sequence[str]) -> list[FloatArray]:
    """Normalised scores per task, ``[runs]`` each, of a row that lacks none."""
    columns = [entries[task].normalised for task in tasks]
    return [column for column in columns if column is not None]


def _with_improvement(rows: list[Row], tasks: Sequence[str]) -> list[Row]:
    reference = next((row for row in rows if row.algorithm == REFERENCE and row.iqm), None)
    if reference is None:
        return rows
    against = _matrix(reference.entries, tasks)
    return [
        replace(
            row,
            improvement=improvement_interval(
                _matrix(row.entries, tasks), against, rng=np.random.default_rng(SEED)
            ),
        )
        if row.iqm and row is not reference
        else row
        for row in rows
    ]


def _with_ranks(rows: list[Row], tasks: Sequence[str]) -> list[Row]:
    scores = {row.algorithm: _matrix(row.entries, tasks) for row in rows if row.claim.ranked}
    if len(scores) < 2:  # a rank among one says nothing
        return rows
    ranks = rank_intervals(scores, statistics.iqm, rng=np.random.default_rng(SEED))
    return [replace(row, rank=ranks.get(row.algorithm)) for row in rows]


def _order(row: Row) -> tuple[bool, float, str]:
    low = row.bounds["iqm"][0] if row.bounds else -math.inf
    return not row.claim.ranked, -(row.iqm.value if row.iqm else low), row.algorithm
