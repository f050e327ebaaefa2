"""The numbers behind the leaderboards: which rows stand together, and what may be said of each.

Everything here is computed from records alone. Ranks are intervals; rows with few seeds, missing
tasks or other conditions are kept, but not ranked. Intervals are 95 %, of the small-sample kind
(:mod:`suite.statistics`), and start from the same ``SEED`` each, so equal records give equal bytes.
"""

from __future__ import annotations

import hashlib
import math
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, lru_cache

import numpy as np
import numpy.typing as npt

from suite import statistics
from suite.protocols import Protocol, budget
from suite.ranking import (
    HEADLINE_TASKS,
    Claim,
    RankInterval,
    claim,
    holm,
    improvement_p_value,
    rank_intervals,
)
from suite.records import Record
from suite.scores import (
    FloatArray,
    TaskScores,
    comparable,
    headline_split,
    learning_curves,
    normalise,
    score_table,
    task_bounds,
    window_start,
)
from suite.statistics import (
    Band,
    Interval,
    bootstrap_interval,
    improvement_interval,
    mean_interval,
    missing_bounds,
    sample_efficiency,
)

REFERENCE = "ppo"
"""Algorithm that the others are compared with one by one."""
EFFICIENCY_POINTS = 21
EFFICIENCY_REPS = 500
SEED = 0
"""Of the generator that every interval is resampled with."""

Ends = tuple[float, float]


@dataclass(frozen=True, eq=False)
class Entry:
    """One algorithm on one task: its record and its scores."""

    record: Record
    scores: TaskScores

    @cached_property
    def settled(self) -> npt.NDArray[np.bool_]:
        """``[runs]``, False where a run crashed for good: it is missing, not a result."""
        return np.array([status != "crashed" for status in self.scores.statuses], dtype=np.bool_)

    @cached_property
    def raw(self) -> FloatArray:
        """Scores of the settled runs in units of return; a failed run has the floor's."""
        raw: FloatArray = self.scores.raw[self.settled]
        return raw

    @cached_property
    def normalised(self) -> FloatArray | None:
        """Likewise, normalised; None if the task has no bounds."""
        scores = self.scores.normalised
        return None if scores is None else scores[self.settled]

    @property
    def is_scored(self) -> bool:
        """Whether there is a number to show at all."""
        return self.raw.size > 0 and bool(np.isfinite(self.raw).all())

    @cached_property
    def training_levels(self) -> float | None:
        """Mean return on the levels trained on, of the runs that are ok; None without such."""
        if headline_split(self.record) != "test-levels":
            return None
        start = window_start(self.record.budget, float(str(self.record.key["window"])))
        curves = learning_curves(self.record, "train-levels")
        ok = [curves[run.seed] for run in self.record.runs if run.status == "ok"]
        means = [curve.returns[curve.steps > start].mean() for curve in ok]
        return float(np.mean(means)) if means else None

    def mean(self) -> Interval | None:
        """Mean return over the runs; interval ends are NaN below 3 runs, None without a score."""
        return _mean_interval(self.raw) if self.is_scored else None

    def mean_normalised(self) -> Interval | None:
        """Mean normalised score, likewise."""
        mean, bounds = self.mean(), task_bounds(self.record)
        if mean is None or bounds is None:
            return None
        return Interval(*normalise(mean, *bounds).tolist())


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
    is_sure: bool
    """Whether it differs from one half after Holm's correction for all rows of the board."""
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


def row_scores(board: Board) -> dict[str, list[FloatArray]]:
    """Normalised scores of the rows that have aggregates: ``[runs]`` per task of the board."""
    return {row.algorithm: _matrix(row.entries, board.tasks) for row in board.rows if row.iqm}


def efficiency(board: Board, axis: str) -> dict[str, tuple[FloatArray, Band]]:
    """Follow the interquartile mean of a board's rows over what had been spent.

    A run counts with its latest evaluation at that time, a failed one with the floor from its
    failure on. A run that has ended keeps its last evaluation.

    Args:
        board: rows without aggregates are left out.
        axis: ``step``, ``frames`` or ``wall_seconds`` of the ledger.

    Returns:
        By algorithm: ``[points]`` of the axis, up to the most that one of its runs has spent, and
        the band there.
    """
    found = {}
    for row in board.rows:
        if not row.iqm:
            continue
        entries = [row.entries[task] for task in board.tasks]
        spent = [value for entry in entries for value in _spent(entry.record, axis)]
        if not any(spent):
            continue
        grid = np.linspace(0, max(spent), EFFICIENCY_POINTS)
        if axis == "wall_seconds":  # some tasks take a thousand times as long as others
            grid = np.geomspace(min(value for value in spent if value > 0), max(spent), grid.size)
        curves = [_reached(entry, axis, grid) for entry in entries]
        rng = np.random.default_rng(SEED)
        found[row.algorithm] = grid, sample_efficiency(curves, rng=rng, reps=EFFICIENCY_REPS)
    return found


def _spent(record: Record, axis: str) -> list[float]:
    return [float(getattr(row, axis)) for run in record.runs for row in run.ledger]


def _reached(entry: Entry, axis: str, grid: FloatArray) -> FloatArray:
    """Normalised score of each settled run at each point of the axis: ``[runs, points]``."""
    bounds, curves = task_bounds(entry.record), learning_curves(entry.record)
    assert bounds is not None, "a board aggregates tasks with bounds alone"
    found = []
    for run in entry.record.runs:
        if run.status == "crashed":
            continue
        returns = dict(zip(*(part.tolist() for part in curves[run.seed]), strict=True))
        known = [row for row in run.ledger if row.step in returns]
        places = np.searchsorted([getattr(row, axis) for row in known], grid, side="right")
        values = np.array([bounds.floor, *(returns[row.step] for row in known)])[places]
        if run.status != "ok":
            values[grid > (getattr(known[-1], axis) if known else -1)] = bounds.floor
        found.append(normalise(values, *bounds))
    return np.stack(found)


def failure_counts(entries: Iterable[Entry]) -> dict[str, int]:
    """Count runs that are not ok, by status in alphabetical order."""
    statuses = Counter(status for entry in entries for status in entry.scores.statuses)
    return {status: statuses[status] for status in sorted(statuses) if status != "ok"}


def cell_state(
    records: Sequence[Record],
    protocol: Protocol,
    algorithm: str,
    family: str,
    is_stale: Callable[[Record], bool] = lambda record: False,
) -> str:
    """Say how far an algorithm is with a family's tasks in a protocol.

    Args:
        records: any; those of other pairs or protocols are passed over.
        protocol: gives the tasks and the number of seeds.
        algorithm: its id.
        family: its name.
        is_stale: tells which records no longer show what would run now.

    Returns:
        ``no tasks``, ``not run``, ``failed`` (every run there is), ``partial: 1 of 2 tasks``,
        ``3 of 5 seeds`` (of the task with the fewest) or ``complete``; behind it which runs failed
        and how many records are stale, as in ``complete, 1 diverged, 2 stale``.
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
    remarks = {status: statuses[status] for status in sorted(statuses) if status != "ok"}
    seeds = min((len(record.runs) for record in own), default=0)
    if not own:
        return "not run"
    if not statuses["ok"]:
        state, remarks = "failed", {}
    elif len(own) < len(tasks):
        state = f"partial: {len(own)} of {len(tasks)} tasks"
    elif seeds < len(protocol.seeds):
        state = f"{seeds} of {len(protocol.seeds)} seeds"
    else:
        state = "complete"
    remarks["stale"] = sum(map(is_stale, own))
    return ", ".join([state, *(f"{count} {what}" for what, count in remarks.items() if count)])


def _entries(records: Sequence[Record]) -> Entries:
    table = score_table(records)
    entries: dict[str, dict[str, Entry]] = {algorithm: {} for algorithm in table.scores}
    for record in records:
        scores = table.scores[record.algorithm][record.task]
        entries[record.algorithm][record.task] = Entry(record, scores)
    return entries


def _mean_interval(scores: FloatArray) -> Interval:
    return _mean_interval_of(tuple(scores.tolist()))


@lru_cache(maxsize=2**16)  # several pages show the same cell
def _mean_interval_of(scores: tuple[float, ...]) -> Interval:
    of_task = np.array(scores)
    value = float(of_task.mean())
    if not claim(of_task.size, 1).interval:
        return Interval(value, math.nan, math.nan)
    return mean_interval(of_task, seed=SEED)


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
    return Row(algorithm, own, missing, says, iqm, gap, mean, median, None, False, worst, bounds)


def _matrix(entries: Mapping[str, Entry], tasks: Sequence[str]) -> list[FloatArray]:
    """Normalised scores per task, ``[runs]`` each, of a row that lacks none."""
    columns = [entries[task].normalised for task in tasks]
    return [column for column in columns if column is not None]


def _with_improvement(rows: list[Row], tasks: Sequence[str]) -> list[Row]:
    reference = next((row for row in rows if row.algorithm == REFERENCE and row.iqm), None)
    if reference is None:
        return rows
    against = _matrix(reference.entries, tasks)
    others = [row for row in rows if row.iqm and row is not reference]
    p_values = [improvement_p_value(_matrix(row.entries, tasks), against) for row in others]
    sure = dict(zip([row.algorithm for row in others], holm(p_values) < 0.05, strict=True))
    return [
        replace(
            row,
            improvement=improvement_interval(
                _matrix(row.entries, tasks), against, rng=np.random.default_rng(SEED)
            ),
            is_sure=bool(sure[row.algorithm]),
        )
        if row.algorithm in sure
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
