"""Scores from anywhere: the statistics of the leaderboards for anyone's CSV of scores.

A file has the columns ``algorithm,task,seed,score``, one row per training run, higher is better.
It is read as data only, and its size is bounded.
"""

from __future__ import annotations

import csv
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np

from suite.plain import plain_interval
from suite.ranking import RankInterval, claim, rank_intervals
from suite.scores import TaskBounds, normalise
from suite.statistics import (
    FloatArray,
    Interval,
    Statistic,
    bootstrap_interval,
    iqm,
    mean,
    median,
    optimality_gap,
)

COLUMNS = ("algorithm", "task", "seed", "score")
MAX_BYTES = 64 * 2**20
MAX_NAME = 200
"""Characters of an algorithm's or a task's name."""
SEED = 0
"""Of the generator that every interval is resampled with."""

Table = Mapping[str, Mapping[str, FloatArray]]
"""Scores ``[runs]`` by algorithm, then by task."""


@dataclass(frozen=True)
class OutsideRow:
    """One algorithm; aggregates are None where the number of runs or a missing task forbids it."""

    algorithm: str
    runs: tuple[int, int]
    """Fewest and most on a task."""
    tasks: int
    missing: tuple[str, ...]
    """Tasks that others have."""
    iqm: Interval | None
    mean: Interval | None
    median: Interval | None
    optimality_gap: Interval | None
    rank: RankInterval | None

    def plain(self) -> dict[str, object]:
        """For JSON."""
        names = ("iqm", "mean", "median", "optimality_gap")
        rank = self.rank._asdict() if self.rank else None
        return asdict(self) | {n: plain_interval(getattr(self, n)) for n in names} | {"rank": rank}


def read_scores(paths: Iterable[Path]) -> dict[str, dict[str, FloatArray]]:
    """Read CSV files of scores together.

    Raises:
        ValueError: a file cannot be read, or a line is wrong; file, line and reason are named.
    """
    found: dict[str, dict[str, dict[str, float]]] = {}
    for path in paths:
        for line, algorithm, task, seed, score in _rows(path):
            runs = found.setdefault(algorithm, {}).setdefault(task, {})
            if seed in runs:
                raise ValueError(
                    f"{path}, line {line}: {algorithm} on {task} has seed {seed} twice"
                )
            runs[seed] = score
    return {
        algorithm: {task: np.array(list(runs.values())) for task, runs in sorted(tasks.items())}
        for algorithm, tasks in sorted(found.items())
    }


def normalise_table(table: Table, bounds: Mapping[str, TaskBounds]) -> Table:
    """Normalise all scores by the bounds of their tasks.

    Raises:
        KeyError: a task has no bounds.
    """
    return {
        algorithm: {task: normalise(scores, *bounds[task]) for task, scores in tasks.items()}
        for algorithm, tasks in table.items()
    }


def aggregate(table: Table) -> list[OutsideRow]:
    """Compute the rows of a leaderboard, best IQM first, those without one last."""
    tasks = sorted({task for own in table.values() for task in own})
    rows = {name: _row(name, own, tasks) for name, own in table.items()}
    ranked = {
        name: _columns(table[name], tasks)
        for name, row in rows.items()
        if row.iqm is not None and claim(row.runs[0], len(tasks)).ranked
    }
    ranks = rank_intervals(ranked, rng=np.random.default_rng(SEED)) if len(ranked) > 1 else {}
    done = [replace(row, rank=ranks.get(name)) for name, row in rows.items()]
    return sorted(done, key=lambda row: (-(row.iqm.value if row.iqm else -math.inf), row.algorithm))


def _rows(path: Path) -> Iterator[tuple[int, str, str, str, float]]:
    try:
        if path.stat().st_size > MAX_BYTES:
            raise ValueError(f"{path} is larger than {MAX_BYTES // 2**20} MiB")
        with path.open(encoding="utf-8", newline="") as file:
            reader = csv.DictReader(file)
            lacking = [name for name in COLUMNS if name not in (reader.fieldnames or ())]
            if lacking:
                raise ValueError(f"{path} has no column {', '.join(lacking)}")
            for row in reader:
                yield (reader.line_num, *_fields(row, f"{path}, line {reader.line_num}"))
    except OSError as error:
        raise ValueError(f"{path} cannot be read: {error.strerror}") from error
    except (UnicodeDecodeError, csv.Error) as error:
        raise ValueError(f"{path} is not a CSV in UTF-8: {error}") from error


def _fields(row: Mapping[str, str | None], place: str) -> tuple[str, str, str, float]:
    algorithm, task, seed, text = (row[name] or "" for name in COLUMNS)
    for name, value in (("algorithm", algorithm), ("task", task), ("seed", seed)):
        if not value or len(value) > MAX_NAME or not value.isprintable():
            raise ValueError(f"{place}: {name} is empty, too long or not printable")
    try:
        score = float(text)
    except ValueError:
        raise ValueError(f"{place}: score {text[:40]!r} is not a number") from None
    if not math.isfinite(score):
        raise ValueError(f"{place}: score {text} is not finite; give a failed run the floor's")
    return algorithm, task, seed, score


def _row(algorithm: str, own: Mapping[str, FloatArray], tasks: Sequence[str]) -> OutsideRow:
    counts = [scores.size for scores in own.values()]
    missing = tuple(task for task in tasks if task not in own)
    shown = not missing and claim(min(counts), len(tasks)).interval
    values = {
        statistic: _interval(_columns(own, tasks), statistic) if shown else None
        for statistic in (iqm, mean, median, optimality_gap)
    }
    return OutsideRow(
        algorithm=algorithm,
        runs=(min(counts), max(counts)),
        tasks=len(own),
        missing=missing,
        iqm=values[iqm],
        mean=values[mean],
        median=values[median],
        optimality_gap=values[optimality_gap],
        rank=None,
    )


def _columns(own: Mapping[str, FloatArray], tasks: Sequence[str]) -> list[FloatArray]:
    return [own[task] for task in tasks]


def _interval(scores: list[FloatArray], statistic: Statistic) -> Interval:
    return bootstrap_interval(scores, statistic, rng=np.random.default_rng(SEED))
