"""Scores from anywhere: the statistics of the leaderboards for anyone's CSV of scores.

A file has the columns ``algorithm,task,seed,score``, one row per training run, higher is better.
Scores are taken as normalised unless a second file, ``task,floor,cap``, says how to normalise them.
Both are read as data only, and their size is bounded. What is wrong with a line refuses the file
and names the line; what is merely less than a full table is kept, and named in the warnings.
"""

from __future__ import annotations

import csv
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path

import numpy as np

from suite.markdown import plural
from suite.plain import plain_interval
from suite.ranking import HEADLINE_TASKS, Claim, RankInterval, claim, rank_intervals
from suite.scores import TaskBounds, normalise
from suite.statistics import (
    AGGREGATES,
    FloatArray,
    Interval,
    IntervalKind,
    Randomness,
    bootstrap_intervals,
    improvement_intervals,
    missing_bounds,
    probability_of_improvement,
)

COLUMNS = ("algorithm", "task", "seed", "score")
REFERENCE_COLUMNS = ("task", "floor", "cap")
MAX_BYTES = 64 * 2**20
MAX_NAME = 200
"""Characters of an algorithm's or a task's name."""
SEED = 0
"""Of the generator that the intervals of each algorithm are resampled with. With ``ci="rliable"``
an algorithm's intervals are those of rliable after ``numpy.random.seed(0)``."""
REPS = 10_000
MAX_REPS = 1_000_000

Table = Mapping[str, Mapping[str, FloatArray]]
"""Scores ``[runs]`` by algorithm, then by task; runs in the order of their seeds."""


@dataclass(frozen=True)
class OutsideRow:
    """One algorithm."""

    algorithm: str
    runs: tuple[int, int]
    """Fewest and most on a task."""
    tasks: int
    missing: tuple[str, ...]
    """Tasks that others have."""
    claim: Claim
    aggregates: Mapping[str, Interval]
    """By the names of ``AGGREGATES``. Ends are NaN where there are too few runs. Of an algorithm
    that lacks tasks the value is NaN, and the ends are bounds: all missing at 0, all at 1."""
    rank: RankInterval | None
    """None: too few runs, a task is missing, or there is nobody to compare with."""


@dataclass(frozen=True)
class OutsideSummary:
    """What can be said of a table of scores."""

    rows: tuple[OutsideRow, ...]
    """Best IQM first; those that lack tasks last."""
    improvement: Mapping[str, Mapping[str, Interval]]
    """How probably a run of the first beats one of the second on a task. Where one of them lacks
    tasks the value is NaN, and the ends are bounds: all of those tasks lost, or won."""
    warnings: tuple[str, ...]

    def plain(self) -> dict[str, object]:
        """For JSON, at full precision; what may not be given is null."""
        rows = sorted(self.rows, key=lambda row: row.algorithm)
        return {
            "aggregates": {
                row.algorithm: {
                    **{name: plain_interval(value) for name, value in row.aggregates.items()},
                    "runs": row.runs[0],
                    "tasks": row.tasks,
                }
                for row in rows
            },
            "improvement": {
                one: {other: plain_interval(value) for other, value in others.items()}
                for one, others in self.improvement.items()
            },
            "ranks": {row.algorithm: row.rank._asdict() if row.rank else None for row in rows},
            "warnings": list(self.warnings),
        }


def read_scores(paths: Iterable[Path]) -> dict[str, dict[str, FloatArray]]:
    """Read CSV files of scores together.

    Raises:
        ValueError: a file cannot be read, or a line is wrong; file, line and reason are named.
    """
    found: dict[str, dict[str, dict[str, float]]] = {}
    for path in paths:
        for place, row in _rows(path, COLUMNS):
            algorithm, task, seed = (_name(row, name, place) for name in COLUMNS[:3])
            runs = found.setdefault(algorithm, {}).setdefault(task, {})
            if seed in runs:
                raise ValueError(f"{place}: {algorithm} on {task} has seed {seed} twice")
            runs[seed] = _number(row, "score", place)
    if not found:
        raise ValueError("there are no scores")
    return {
        algorithm: {
            task: np.array([runs[seed] for seed in sorted(runs, key=_seed_order)])
            for task, runs in sorted(tasks.items())
        }
        for algorithm, tasks in sorted(found.items())
    }


def read_bounds(path: Path) -> dict[str, TaskBounds]:
    """Read a CSV file of floors and caps.

    Raises:
        ValueError: as ``read_scores``, or a cap is not above its floor.
    """
    found: dict[str, TaskBounds] = {}
    for place, row in _rows(path, REFERENCE_COLUMNS):
        task = _name(row, "task", place)
        if task in found:
            raise ValueError(f"{place}: {task} comes twice")
        bounds = TaskBounds(_number(row, "floor", place), _number(row, "cap", place))
        if not bounds.cap > bounds.floor:
            raise ValueError(
                f"{place}: the cap {bounds.cap} must be above the floor {bounds.floor}"
            )
        found[task] = bounds
    return found


def normalise_table(table: Table, bounds: Mapping[str, TaskBounds]) -> Table:
    """Normalise all scores by the bounds of their tasks.

    Raises:
        ValueError: a task has no bounds, or such that the result is beyond :data:`MAX_SCORE`.
    """
    if lacking := sorted({task for own in table.values() for task in own} - bounds.keys()):
        raise ValueError(f"no floor and cap for {', '.join(lacking)}")
    normalised = {
        algorithm: {task: normalise(scores, *bounds[task]) for task, scores in tasks.items()}
        for algorithm, tasks in table.items()
    }
    for own in normalised.values():
        for task, scores in own.items():
            if not (np.abs(scores) <= MAX_SCORE).all():
                raise ValueError(f"{task}: floor and cap are too close to normalise by")
    return normalised


def tasks_of(table: Table) -> list[str]:
    """All tasks of a table, sorted."""
    return sorted({task for own in table.values() for task in own})


def generator(ci: IntervalKind) -> Randomness:
    """The generator that an estimate starts from."""
    return np.random.RandomState(SEED) if ci == "rliable" else np.random.default_rng(SEED)


def summarise(table: Table, ci: IntervalKind = "default", reps: int = REPS) -> OutsideSummary:
    """Compute aggregates, probabilities of improvement and ranks of normalised scores.

    Args:
        table: see ``Table``.
        ci: kind of the intervals, see :mod:`suite.statistics`; ranks have a kind of their own.
        reps: bootstrap replicates.
    """
    tasks = tasks_of(table)
    complete = {
        name: [own[task] for task in tasks] for name, own in table.items() if len(own) == len(tasks)
    }
    claims = {
        name: claim(min(scores.size for scores in own.values()), len(tasks))
        for name, own in table.items()
    }
    ranked = {name: scores for name, scores in complete.items() if claims[name].ranked}
    ranks = {}
    if len(ranked) > 1:
        ranks = rank_intervals(ranked, rng=np.random.default_rng(SEED), reps=reps)
    rows = []
    for name, own in table.items():
        counts = [scores.size for scores in own.values()]
        if name in complete:
            aggregates = bootstrap_intervals(complete[name], rng=generator(ci), ci=ci, reps=reps)
            if not claims[name].interval:
                aggregates = {key: _without_ends(one) for key, one in aggregates.items()}
        else:
            aggregates = _bounds(own, tasks)
        rows.append(
            OutsideRow(
                algorithm=name,
                runs=(min(counts), max(counts)),
                tasks=len(own),
                missing=tuple(task for task in tasks if task not in own),
                claim=claims[name],
                aggregates=aggregates,
                rank=ranks.get(name),
            )
        )
    return OutsideSummary(
        rows=tuple(sorted(rows, key=_order)),
        improvement=_improvement(table, complete, claims, ci, reps),
        warnings=tuple(_warnings(rows, len(tasks))),
    )


def _order(row: OutsideRow) -> tuple[bool, float, str]:
    iqm = row.aggregates["iqm"]
    return bool(row.missing), -(iqm.low if row.missing else iqm.value), row.algorithm


def _without_ends(interval: Interval) -> Interval:
    return Interval(interval.value, math.nan, math.nan)


def _bounds(own: Mapping[str, FloatArray], tasks: Sequence[str]) -> dict[str, Interval]:
    """Aggregates of an algorithm that lacks tasks; each should have as many runs as the fullest."""
    most = max(scores.size for scores in own.values())
    parts = [own.get(task, np.empty(0)) for task in tasks]
    return {
        name: Interval(math.nan, *missing_bounds(parts, most, statistic))
        for name, statistic in AGGREGATES.items()
    }


def _improvement(
    table: Table,
    complete: Mapping[str, Sequence[FloatArray]],
    claims: Mapping[str, Claim],
    ci: IntervalKind,
    reps: int,
) -> dict[str, dict[str, Interval]]:
    found: dict[str, dict[str, Interval]] = {name: {} for name in table}
    pairs = improvement_intervals(complete, rng=generator(ci), ci=ci, reps=reps)
    for (one, other), interval in pairs.items():
        shown = claims[one].interval and claims[other].interval
        found[one][other] = interval if shown else _without_ends(interval)
    tasks = len(tasks_of(table))
    for one, other in combinations(table, 2):
        if (one, other) in pairs:
            continue
        common = [task for task in table[one] if task in table[other]]
        sides = [[table[name][task] for task in common] for name in (one, other)]
        won = len(common) / tasks * float(probability_of_improvement(*sides)) if common else 0.0
        left = 1 - len(common) / tasks
        found[one][other] = Interval(math.nan, won, won + left)
        found[other][one] = Interval(math.nan, 1 - won - left, 1 - won)
    return {name: dict(sorted(others.items())) for name, others in found.items()}


def _warnings(rows: Sequence[OutsideRow], tasks: int) -> Iterator[str]:
    if tasks < HEADLINE_TASKS:
        yield (
            f"only {plural(tasks, 'task')}: aggregates over fewer than {HEADLINE_TASKS} are for "
            "orientation"
        )
    for row in rows:
        fewest, most = row.runs
        if row.missing:
            yield (
                f"{row.algorithm} lacks {', '.join(row.missing)}: its aggregates are bounds with "
                "all missing runs at 0 and at 1, and it is not ranked"
            )
        if fewest != most:
            yield (
                f"{row.algorithm} has {fewest} to {most} runs per task: every task keeps the same "
                "weight"
            )
        if not row.claim.interval:
            yield f"{row.algorithm} has {plural(fewest, 'run')} on a task: too few for an interval"
        elif not row.claim.ranked:
            yield f"{row.algorithm} has {plural(fewest, 'run')} on a task: too few for a rank"


def _seed_order(seed: str) -> tuple[bool, int, str]:
    """Numbers first, by size; then everything else as text."""
    number = int(seed) if seed.isascii() and seed.isdigit() else None
    return number is None, number or 0, seed


MAX_SCORE = 1e100
"""Sums of squares of larger numbers would overflow."""


def _rows(path: Path, columns: Sequence[str]) -> Iterator[tuple[str, Mapping[str, str | None]]]:
    """Rows of a CSV file, each with the words for its place."""
    try:
        if path.stat().st_size > MAX_BYTES:
            raise ValueError(f"{path} is larger than {MAX_BYTES // 2**20} MiB")
        with path.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.DictReader(file)
            lacking = [name for name in columns if name not in (reader.fieldnames or ())]
            if lacking:
                raise ValueError(f"{path} has no column {', '.join(lacking)}")
            names = list(reader.fieldnames or ())
            if twice := sorted({name for name in names if names.count(name) > 1}):
                raise ValueError(f"{path} has two columns {', '.join(map(repr, twice))}")
            for row in reader:
                if None in row:
                    raise ValueError(f"{path}, line {reader.line_num}: more fields than columns")
                yield f"{path}, line {reader.line_num}", row
    except OSError as error:
        raise ValueError(f"{path} cannot be read: {error.strerror}") from error
    except (UnicodeDecodeError, csv.Error) as error:
        raise ValueError(f"{path} is not a CSV in UTF-8: {error}") from error


def _name(row: Mapping[str, str | None], column: str, place: str) -> str:
    value = row[column] or ""
    if not value or len(value) > MAX_NAME or not value.isprintable():
        raise ValueError(f"{place}: {column} is empty, too long or not printable")
    return value


def _number(row: Mapping[str, str | None], column: str, place: str) -> float:
    text = row[column] or ""
    try:
        number = float(text)
    except ValueError:
        raise ValueError(f"{place}: {column} {text[:40]!r} is not a number") from None
    if not math.isfinite(number):
        advice = "; give a failed run the floor's" if column == "score" else ""
        raise ValueError(f"{place}: {column} {text} is not finite{advice}")
    if abs(number) > MAX_SCORE:
        raise ValueError(f"{place}: {column} {text[:40]} is beyond {MAX_SCORE:g}")
    return number
