"""What may be claimed from intervals: gates, simultaneous comparisons, ranks.

Ranks of bootstrap replicates go wrong when algorithms tie (they cover 40 % instead of 95 %), so
ranks follow from simultaneous intervals of all pairwise differences.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Literal, NamedTuple

import numpy as np
import numpy.typing as npt
from scipy.stats import norm
from scipy.stats import t as student

from suite.statistics import (
    FloatArray,
    Interval,
    Randomness,
    Scores,
    Statistic,
    bootstrap_replicates,
    check_scores,
    degrees_of_freedom,
    iqm,
    probability_of_improvement,
    run_counts,
)

HEADLINE_TASKS = 5
"""Tasks from which on an aggregate may stand at the head of a page."""


class RankInterval(NamedTuple):
    """Ranks that the data do not rule out; 1 is best."""

    best: int
    worst: int


@dataclass(frozen=True)
class Claim:
    """What a table may say about a row."""

    label: Literal["raw only", "low n", "ranked", "full"]
    interval: bool
    ranked: bool
    headline_iqm: bool
    """Whether the IQM over tasks may stand at the head; else per-task tables."""


def claim(runs: int, tasks: int) -> Claim:
    """Tell what a table may say about a row of ``runs`` runs on each of ``tasks`` tasks.

    Below 3 runs raw scores only; below 5 an interval but no rank; from 5 a rank, from 10 the full
    badge. A table of a single task ranks from 10 runs on. The IQM over tasks is a headline from 5
    tasks on.
    """
    if runs < 3:
        return Claim("raw only", interval=False, ranked=False, headline_iqm=False)
    headline = tasks >= HEADLINE_TASKS
    if runs < (5 if tasks > 1 else 10):
        return Claim("low n", interval=True, ranked=False, headline_iqm=headline)
    return Claim("full" if runs >= 10 else "ranked", True, True, headline)


def pairwise_intervals(
    scores: Mapping[str, Scores],
    statistic: Statistic = iqm,
    *,
    rng: Randomness,
    reps: int = 10_000,
    confidence: float = 0.95,
) -> dict[tuple[str, str], Interval]:
    """Compare all pairs of algorithms with intervals that hold simultaneously.

    The widths share one critical value, the quantile of the largest studentised deviation over all
    pairs (max-T bootstrap; Romano and Wolf 2005). Deviations are scaled by sqrt(n / (n - 1)), n the
    fewest runs of a task, and the critical value by the ratio of the t to the normal quantile at
    the level that Bonferroni would use; without the second factor four equal algorithms with three
    runs of one task are told apart in a quarter of all cases.

    Args:
        scores: ``Scores [runs, tasks]`` by algorithm, on the same tasks; run counts may differ.
        statistic: see ``bootstrap_interval``.
        rng: where the indices come from, drawn in alphabetical order of the algorithms.
        reps: bootstrap replicates.
        confidence: probability that all intervals hold together.

    Returns:
        ``statistic(first) - statistic(second)`` by (first, second), first before second in the
        alphabet. Without any spread between runs an interval has no width beyond rounding.

    Raises:
        ValueError: if some algorithm has a single run of a task, or the tasks are not as many for
            each.
    """
    names = sorted(scores)
    entries = [check_scores(scores[name]) for name in names]
    counts = {name: run_counts(entry) for name, entry in zip(names, entries, strict=True)}
    if len({len(runs) for runs in counts.values()}) > 1:
        raise ValueError(f"runs per task, not the same tasks for all: {counts}")
    if alone := [name for name, runs in counts.items() if min(runs) < 2]:
        raise ValueError(f"no comparison from a single run: {', '.join(alone)}")

    values = [float(statistic(entry)) for entry in entries]
    deviations = []  # [reps] each
    for name, entry, value in zip(names, entries, values, strict=True):
        runs = min(counts[name])
        replicates = bootstrap_replicates(entry, statistic, rng=rng, reps=reps)
        deviations.append((replicates - value) * np.sqrt(runs / (runs - 1)))

    pairs = list(combinations(range(len(names)), 2))
    if not pairs:
        return {}
    differences = np.stack([deviations[a] - deviations[b] for a, b in pairs])  # [pairs, reps]
    errors = differences.std(axis=-1)
    # Means of equal scores differ in the last bits when run counts do: that is no difference.
    rounding = 1e-12 * max(map(abs, values))
    studentised = np.abs(differences) / np.where(errors > rounding, errors, np.inf)[:, None]
    critical = np.quantile(studentised.max(axis=0), confidence)
    tail = (1 - confidence) / (2 * len(pairs))
    intervals = {}
    for (a, b), error in zip(pairs, errors, strict=True):
        ratio = student.isf(tail, degrees_of_freedom(entries[a], entries[b])) / norm.isf(tail)
        value, reach = values[a] - values[b], float(critical * ratio * error) + rounding
        intervals[names[a], names[b]] = Interval(value, value - reach, value + reach)
    return intervals


def rank_intervals(
    scores: Mapping[str, Scores],
    statistic: Statistic = iqm,
    *,
    rng: Randomness,
    reps: int = 10_000,
    confidence: float = 0.95,
) -> dict[str, RankInterval]:
    """Tell between which ranks each algorithm lies; 1 is best.

    ``[1 + algorithms surely better, all - algorithms surely worse]``, sure by
    ``pairwise_intervals``, whose arguments these are (Mogstad et al. 2024). The intervals hold
    together with probability ``confidence``, also when algorithms tie, where ranks of bootstrap
    replicates fail. The statistic must grow with quality.
    """
    intervals = pairwise_intervals(scores, statistic, rng=rng, reps=reps, confidence=confidence)
    better = dict.fromkeys(scores, 0)
    worse = dict.fromkeys(scores, 0)
    for (first, second), interval in intervals.items():
        if interval.low > 0:
            winner, loser = first, second
        elif interval.high < 0:
            winner, loser = second, first
        else:
            continue
        better[loser] += 1
        worse[winner] += 1
    return {name: RankInterval(1 + better[name], len(scores) - worse[name]) for name in scores}


def improvement_p_value(x: Scores, y: Scores) -> float:
    """Test whether runs of x and y are alike on every task, against a shift of the improvement.

    The rank-sum test stratified by task (van Elteren 1960), every task with the same weight, with
    the normal approximation corrected for ties. Its statistic is ``probability_of_improvement``.

    Args:
        x: ``Scores [runs of x, tasks]``.
        y: ``Scores [runs of y, tasks]``, on the same tasks.

    Returns:
        The two-sided p-value; 1 where all scores are equal.
    """
    tasks = [
        (np.asarray(one), np.asarray(other))
        for one, other in zip(_columns(x), _columns(y), strict=True)
    ]
    variance = 0.0
    for one, other in tasks:
        total = one.size + other.size
        _, ties = np.unique(np.concatenate([one, other]), return_counts=True)
        correction = 1 - float((ties**3 - ties).sum()) / (total**3 - total)
        variance += (total + 1) * correction / (12 * one.size * other.size)
    if variance <= 0:
        return 1.0
    shift = float(probability_of_improvement(x, y)) - 0.5
    return float(2 * norm.sf(abs(shift) * len(tasks) / np.sqrt(variance)))


def _columns(scores: Scores) -> Sequence[FloatArray]:
    return list(scores.T) if isinstance(scores, np.ndarray) else scores


def holm(p_values: npt.ArrayLike) -> FloatArray:
    """Adjust the p-values of comparisons declared in advance (Holm 1979).

    Args:
        p_values: ``[comparisons]`` in [0, 1].

    Returns:
        ``[comparisons]`` in the same order: ``max over smaller p of min(1, (m - rank) p)``, rank
        from 0. Rejecting those up to alpha keeps the chance of any false rejection below alpha.

    Raises:
        ValueError: if a p-value is NaN or outside [0, 1].
    """
    p = np.asarray(p_values, np.float64)
    if not ((p >= 0) & (p <= 1)).all():
        raise ValueError(f"p-values must lie in [0, 1], got {p}")
    order = np.argsort(p, kind="stable")
    adjusted = np.empty_like(p)
    adjusted[order] = np.maximum.accumulate(np.minimum(1, p[order] * np.arange(p.size, 0, -1)))
    return adjusted
