"""Scores: from the episodes of records to one number per run, ready for the statistics.

The score of a run is the mean return over its evaluation episodes of the headline split in the
window, the last part of the budget (10 % in every protocol). Never the maximum, never training
episodes. Normalised: ``(score - floor) / (cap - floor)``.

A failed run keeps its place: it scores the task's floor, and its status stands beside the score. If
its last evaluations were worse than the floor they are its score, so that failing never pays. A
task without known bounds has no normalised scores; its floor is then
the lowest return of any evaluation episode in the records at hand, trained or not.
"""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from suite.protocols import difference, key_hash
from suite.records import Record

FloatArray = npt.NDArray[np.float64]


class TaskBounds(NamedTuple):
    """The two ends of a task's normalised score."""

    floor: float
    cap: float


class LearningCurve(NamedTuple):
    """Mean evaluation return of one run over its training; two arrays ``[evaluations]``."""

    steps: npt.NDArray[np.int64]
    """Agent steps, rising, from 0."""
    returns: FloatArray


@dataclass(frozen=True, eq=False)
class TaskScores:
    """The runs of one algorithm on one task, in the order of their seeds."""

    seeds: tuple[int, ...]
    raw: FloatArray
    """``[runs]`` in units of return. NaN only for failed runs of which nothing is known: the task
    has no bounds, and no record at hand has an episode."""
    normalised: FloatArray | None
    """``[runs]``; None if the task's bounds are unknown."""
    statuses: tuple[str, ...]
    """``ok``, or why the run has the floor's score."""

    @property
    def failed(self) -> npt.NDArray[np.bool_]:
        """``[runs]``, True where the score is the floor because the run failed."""
        return np.array([status != "ok" for status in self.statuses])


@dataclass(frozen=True, eq=False)
class ScoreTable:
    """Scores by algorithm and task, all of one task under one comparability key."""

    scores: Mapping[str, Mapping[str, TaskScores]]
    """By algorithm, then by task; both sorted."""
    bounds: Mapping[str, TaskBounds]
    """Of the tasks that have normalised scores."""

    def normalised(self, algorithm: str, tasks: Sequence[str]) -> FloatArray | list[FloatArray]:
        """Normalised scores in the form that :mod:`suite.statistics` takes.

        Returns:
            ``[runs, tasks]``, or a list with ``[runs]`` for each task if their numbers differ.

        Raises:
            ValueError: the algorithm has no normalised score on one of the tasks.
        """
        columns = []
        for task in tasks:
            own = self.scores.get(algorithm, {}).get(task)
            if own is None or own.normalised is None:
                raise ValueError(f"{algorithm} has no normalised scores on {task}")
            columns.append(own.normalised)
        if len({len(column) for column in columns}) == 1:
            return np.stack(columns, axis=1)
        return columns


class SetAside(NamedTuple):
    """A record that may not stand beside the others of its task."""

    record: Record
    fields: tuple[str, ...]
    """The fields of the comparability key that differ, or ``normalisation``."""


def window_start(budget: int, window: float) -> int:
    """The last step before the score window: evaluations after it count.

    Exact, where floating point would misplace an evaluation: 0.1 means one tenth.
    """
    return math.floor(budget * (1 - Fraction(str(window))))


def normalise(score: npt.ArrayLike, floor: float, cap: float) -> FloatArray:
    """Map the floor to 0 and the cap to 1, not clipped.

    Raises:
        ValueError: the cap is not above the floor.
    """
    if not cap > floor:
        raise ValueError(f"the cap {cap} must be above the floor {floor}")
    return (np.asarray(score, dtype=np.float64) - floor) / (cap - floor)


def headline_split(record: Record) -> str:
    """The split that is scored: unseen levels where a task has them."""
    has_levels = (record.columns["split"] == "test-levels").any()
    return "test-levels" if has_levels else "eval"


def task_bounds(record: Record) -> TaskBounds | None:
    """The bounds that travel inside a record; None if its task has none."""
    if record.normalisation is None:
        return None
    floor, cap = (float(str(record.normalisation[end])) for end in ("floor", "cap"))
    return TaskBounds(floor, cap)


def bounds_hash(records: Iterable[Record]) -> str:
    """Short hash over the bounds of the records' tasks: the version of the normalisation."""
    bounds = {(record.task, task_bounds(record)) for record in records}
    return key_hash({"bounds": sorted(bounds, key=str)})


def seed_scores(
    record: Record, window: float | None = None, floor: float | None = None
) -> FloatArray:
    """Score every run of a record.

    Args:
        record: its episodes, and the status of its runs.
        window: share of the budget; None: the record's own protocol's.
        floor: score of failed runs, unless what they last scored is lower; None: the record's own
            floor, without bounds its lowest episode return.

    Returns:
        ``[runs]`` raw scores in the order of the seeds; see :class:`TaskScores` for NaN.

    Raises:
        ValueError: a run that is ok has no episode in the window.
    """
    if window is None:
        window = float(str(record.key["window"]))
    if floor is None:
        floor = _floor([record])
    start = window_start(record.budget, window)
    episodes = _Episodes.of(record, headline_split(record))
    scores = []
    for run in record.runs:
        steps, returns = episodes.of_seed(run.seed)
        inside = steps > (start if run.status == "ok" else min(start, steps.max(initial=0) - 1))
        mean = _exact_mean(returns[inside]) if inside.any() else math.nan
        if run.status == "ok" and not inside.any():
            raise ValueError(
                f"{record.algorithm} on {record.task}: seed {run.seed} is ok, but no episode of it "
                f"lies in the window after step {start}"
            )
        # fmin passes NaN over: a run without episodes has the floor's score.
        scores.append(mean if run.status == "ok" else float(np.fmin(floor, mean)))
    return np.array(scores, dtype=np.float64)


def _exact_mean(returns: FloatArray) -> float:
    """Mean of numbers of at most six decimals, the same for equal sums of other numbers.

    Two runs that have earned the same must tie, and sums of floats depend on their order.
    """
    millionths = np.rint(returns * 1e6)
    if np.abs(millionths).sum() < 2**53:  # else not whole numbers any more
        return float(millionths.sum() / (1e6 * returns.size))
    return float(returns.mean())


def learning_curves(record: Record, split: str | None = None) -> dict[int, LearningCurve]:
    """Mean return of each evaluation, by seed; a failed run's curve ends where it failed.

    Args:
        record: its episodes.
        split: None: the headline split.
    """
    episodes = _Episodes.of(record, split or headline_split(record))
    is_new = np.ones(episodes.steps.size, np.bool_)  # an evaluation begins
    is_new[1:] = (np.diff(episodes.seeds) != 0) | (np.diff(episodes.steps) != 0)
    begins = np.flatnonzero(is_new)
    sums = np.add.reduceat(episodes.returns, begins) if begins.size else np.empty(0)
    means = sums / np.diff(begins, append=is_new.size)
    evaluations = _Episodes(episodes.seeds[begins], episodes.steps[begins], means)
    return {seed: LearningCurve(*evaluations.of_seed(seed)) for seed in record.seeds}


class _Episodes(NamedTuple):
    """The episodes of one split, in the order of seeds and steps."""

    seeds: npt.NDArray[np.int64]
    steps: npt.NDArray[np.int64]
    returns: FloatArray

    @classmethod
    def of(cls, record: Record, split: str) -> _Episodes:
        own = record.columns["split"] == split
        return cls(*(record.columns[name][own] for name in ("seed", "step", "return")))

    def of_seed(self, seed: int) -> tuple[npt.NDArray[np.int64], FloatArray]:
        start, end = np.searchsorted(self.seeds, [seed, seed + 1])
        return self.steps[start:end], self.returns[start:end]


def comparable(records: Iterable[Record]) -> tuple[list[Record], list[SetAside]]:
    """Choose, for every task, the records that may stand in one table.

    They share the comparability key and the bounds. Where there are several groups, the one with
    the most records is kept, among equals the one with the latest run.

    Returns:
        The records kept and those set aside, each sorted by task and algorithm.
    """
    groups: dict[str, dict[str, list[Record]]] = defaultdict(lambda: defaultdict(list))
    for record in sorted(records, key=lambda record: (record.task, record.algorithm)):
        groups[record.task][key_hash(_conditions(record))].append(record)
    kept, aside = [], []
    for alternatives in groups.values():
        best = max(alternatives, key=lambda name: (*_weight(alternatives[name]), name))
        reference = alternatives[best][0]
        kept += alternatives[best]
        for name, others in alternatives.items():
            if name != best:
                aside += [SetAside(other, _differences(reference, other)) for other in others]
    return kept, sorted(aside, key=lambda one: (one.record.task, one.record.algorithm))


def _conditions(record: Record) -> dict[str, object]:
    return {**record.key, "normalisation": task_bounds(record)}


def _weight(group: list[Record]) -> tuple[int, str]:
    return len(group), max(run.finished for record in group for run in record.runs)


def _differences(one: Record, other: Record) -> tuple[str, ...]:
    return difference(_conditions(one), _conditions(other))


def score_table(
    records: Iterable[Record], bounds: Mapping[str, TaskBounds] | None = None
) -> ScoreTable:
    """Score records together.

    Args:
        records: at most one per algorithm and task; all of one task comparable.
        bounds: of tasks, in place of those inside the records.

    Raises:
        ValueError: an algorithm comes twice on a task, the records of a task are not comparable
            (the message names the fields), or a run cannot be scored.
    """
    by_task: dict[str, list[Record]] = defaultdict(list)
    for record in records:
        by_task[record.task].append(record)
    scores: dict[str, dict[str, TaskScores]] = defaultdict(dict)
    known: dict[str, TaskBounds] = {}
    for task, group in sorted(by_task.items()):
        _check_group(task, group)
        ends = (bounds or {}).get(task) or task_bounds(group[0])
        if ends:
            known[task] = ends
        floor = ends.floor if ends else _floor(group)
        for record in group:
            raw = seed_scores(record, floor=floor)
            scores[record.algorithm][task] = TaskScores(
                seeds=record.seeds,
                raw=raw,
                normalised=normalise(raw, *ends) if ends else None,
                statuses=tuple(run.status for run in record.runs),
            )
    return ScoreTable(dict(sorted(scores.items())), known)


def _check_group(task: str, group: list[Record]) -> None:
    algorithm, count = Counter(record.algorithm for record in group).most_common(1)[0]
    if count > 1:
        raise ValueError(f"there are {count} records of {algorithm} on {task}")
    for record in group[1:]:
        if fields := _differences(group[0], record):
            raise ValueError(
                f"{group[0].algorithm} and {record.algorithm} on {task} are not comparable; "
                f"they differ in {', '.join(fields)}"
            )


def _floor(group: list[Record]) -> float:
    """Score of failed runs; NaN if there are neither bounds nor episodes."""
    bounds = task_bounds(group[0])
    if bounds is not None:
        return bounds.floor
    returns = [_Episodes.of(record, headline_split(record)).returns for record in group]
    lowest = min(part.min(initial=math.inf) for part in returns)
    return float(lowest) if math.isfinite(lowest) else math.nan
