"""Aggregates of scores over runs and tasks, and intervals that hold with few runs.

Scores are normalised, higher is better, one number per training run: episodes are averaged first,
a curve is reduced to a number first. They come in two forms (``Scores``): an array
``[..., runs, tasks]`` where every task has the same number of runs, else a sequence with one array
``[..., runs]`` per task. In the second form every task keeps the same total weight. Leading
dimensions are a batch. A score that is not finite is an error: a failed run gets a value first.

Definitions are those of rliable 1.2.0 (Agarwal et al. 2021, https://arxiv.org/abs/2108.13264),
and ``ci="rliable"`` gives its intervals bit for bit if ``rng`` is the ``RandomState`` whose stream
rliable takes from numpy's global generator. Those percentile intervals cover 75-90 % instead of
95 % with 3 to 5 runs. ``ci="default"`` is ``value +- t s``, and on neither side narrower than the
percentile interval: s is the standard deviation of replicates with n - 1 draws from the n runs of a
task, whose variance is unbiased for a mean (Rao and Wu 1988), t the Student quantile with the
degrees of freedom of Satterthwaite (1946). For the mean of one task that is the t interval. With 3,
5 and 10 runs of normal, bimodal and lognormal suites it covers 93-98 % for IQM, mean and gap (the
slow tests simulate it), but only 80-97 % for the median. No method repairs what was never seen:
five runs miss a failure that strikes one run in four with probability 0.24. Hence the gates in
``ranking``.

Where all runs of one algorithm beat all of another, every resample says the same, so the
probability of improvement needs more: its default interval is besides never narrower than that of
scores (Newcombe 2006), which tells how often so few runs come out like this by chance.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import lru_cache, partial
from itertools import combinations
from types import MappingProxyType
from typing import Any, Literal, NamedTuple, get_args

import numpy as np
import numpy.typing as npt
from scipy.stats import norm
from scipy.stats import t as student

FloatArray = npt.NDArray[np.float64]
Scores = FloatArray | Sequence[FloatArray]
Statistic = Callable[..., FloatArray]
"""Maps ``Scores`` with leading dimensions ``[...]`` to values ``[...]``."""
Randomness = np.random.Generator | np.random.RandomState
IntervalKind = Literal["default", "rliable"]

CHUNK_CELLS = 100_000
"""Scores resampled at once; larger chunks leave the processor's cache and are slower."""
PAIR_CHUNK_CELLS = 2_000_000
"""Likewise where pairs are compared: by matrix products, which want many rows."""
EXACT_SINGLE = 2**24
"""Whole numbers up to here are exact in single precision."""


class Interval(NamedTuple):
    """An estimate and the ends of its interval, which are NaN where none may be given."""

    value: float
    low: float
    high: float


class Band(NamedTuple):
    """Estimates along an axis with pointwise intervals, three arrays of equal shape."""

    value: FloatArray
    low: FloatArray
    high: FloatArray


def mean(scores: Scores) -> FloatArray:
    """Average the task means: ``Scores [..., runs, tasks]`` to ``[...]``."""
    return np.asarray(_task_means(scores).mean(axis=-1))


def median(scores: Scores) -> FloatArray:
    """Take the median of the task means: ``Scores [..., runs, tasks]`` to ``[...]``."""
    return np.asarray(np.median(_task_means(scores), axis=-1))


def iqm(scores: Scores) -> FloatArray:
    """Average the middle half of all runs x tasks: the interquartile mean.

    With equally many runs per task this is rliable's definition, a quarter of the cells, rounded
    down, cut at either end: 3 cells give their mean, 4 the mean of the middle two. Otherwise each
    cell weighs 1 / (runs of its task), and the weighted quantile function is averaged over
    [1/4, 3/4], which cuts cells in parts.

    Args:
        scores: ``Scores [..., runs, tasks]``.

    Returns:
        ``[...]``.
    """
    cells, weights = _cells(scores)
    if weights is None:
        size = cells.shape[-1]
        cut = size // 4
        # Partitioned as scipy does it, for the same order of summation and so the same last bit.
        middle = np.partition(cells, (cut, size - cut - 1), axis=-1)[..., cut : size - cut]
        return np.asarray(middle.mean(axis=-1))
    order = np.argsort(cells, axis=-1)
    weight = weights[order]
    upto = np.cumsum(weight, axis=-1)
    kept = np.clip(upto, 0.25, 0.75) - np.clip(upto - weight, 0.25, 0.75)
    return np.asarray(2 * (kept * np.take_along_axis(cells, order, axis=-1)).sum(axis=-1))


def optimality_gap(scores: Scores, gamma: float = 1.0) -> FloatArray:
    """Average what the scores lack to ``gamma``; lower is better.

    ``gamma - mean(min(score, gamma))``: ``Scores [..., runs, tasks]`` to ``[...]``.
    """
    cells, weights = _cells(scores)
    return np.asarray(gamma - np.average(np.minimum(cells, gamma), axis=-1, weights=weights))


def probability_of_improvement(x: Scores, y: Scores) -> FloatArray:
    """Tell how probably a run of x beats a run of y on a task, averaged over tasks.

    The share of pairs (Mann and Whitney 1947) with ``x > y``, ties counting one half.

    Args:
        x: ``Scores [..., runs of x, tasks]``.
        y: ``Scores [..., runs of y, tasks]``, on the same tasks in the same order.

    Returns:
        ``[...]`` in [0, 1].

    Raises:
        ValueError: if the numbers of tasks differ, or a score is not finite.
    """
    tasks_x, tasks_y = _tasks(check_scores(x)), _tasks(check_scores(y))
    if len(tasks_x) != len(tasks_y):
        raise ValueError(f"x has {len(tasks_x)} tasks, y has {len(tasks_y)}")
    balances = [  # wins minus losses
        np.sign(runs_x[..., :, None] - runs_y[..., None, :]).mean(axis=(-2, -1))
        for runs_x, runs_y in zip(tasks_x, tasks_y, strict=True)
    ]
    return np.asarray((1 + np.mean(balances, axis=0)) / 2)


AGGREGATES: Mapping[str, Statistic] = MappingProxyType(
    {"iqm": iqm, "mean": mean, "median": median, "optimality_gap": optimality_gap}
)
"""What a leaderboard shows of its rows."""
_NEVER_BELOW: Mapping[Statistic, float] = MappingProxyType({optimality_gap: 0.0})
"""Where no lower end may lie, although the same width on both sides would take it there."""


def bootstrap_interval(
    scores: Scores,
    statistic: Statistic = iqm,
    *,
    rng: Randomness,
    ci: IntervalKind = "default",
    reps: int = 10_000,
    confidence: float = 0.95,
) -> Interval:
    """Estimate a statistic with its interval by the stratified bootstrap.

    Args:
        scores: ``Scores [runs, tasks]``; runs are resampled, independently in each task.
        statistic: ``iqm``, ``mean``, ``median``, ``optimality_gap`` or any other ``Statistic``.
        rng: where the indices come from; used up by the call, so equal states give equal results.
        ci: ``"default"`` or ``"rliable"``, see the module's head.
        reps: bootstrap replicates; 10,000 leave the ends a standard error of 0.7 % of the width.
        confidence: nominal coverage.

    Returns:
        The statistic and its interval; the ends are NaN if some task has a single run.

    Raises:
        ValueError: if a score is not finite, or ``ci`` is unknown.
    """
    band = _bootstrap(statistic, [scores], rng, ci, reps, confidence)
    if band.value.ndim:
        raise ValueError(f"scores must be [runs, tasks], got shape {np.shape(scores)}")
    low = np.maximum(band.low, _NEVER_BELOW.get(statistic, -np.inf))
    return Interval(float(band.value), float(low), float(band.high))


def mean_interval(
    scores: FloatArray, *, seed: int, reps: int = 10_000, confidence: float = 0.95
) -> Interval:
    """Estimate the mean of a single task with its interval, thousands of times on a page.

    What :func:`bootstrap_interval` makes of ``scores[:, None]`` and a new generator of that seed,
    but the indices are drawn once for all tasks with as many runs.

    Args:
        scores: ``[runs]``, finite, at least two.
        seed: of the generator.
        reps: bootstrap replicates.
        confidence: nominal coverage.
    """
    drawn = scores[_drawn_runs(scores.size, seed, reps)]
    full, reduced = drawn.mean(axis=0), drawn[:-1].mean(axis=0)
    freedom = np.asarray(scores.size - 1)
    return Interval(*map(float, _ends(scores.mean(), full, reduced, freedom, confidence)))


@lru_cache(maxsize=64)
def _drawn_runs(runs: int, seed: int, reps: int) -> npt.NDArray[np.int64]:
    """Indices ``[draws, reps]``."""
    indices = np.random.default_rng(seed).integers(runs, size=(reps, runs))
    return np.ascontiguousarray(indices.T)


def bootstrap_intervals(
    scores: Scores,
    statistics: Mapping[str, Statistic] | None = None,
    *,
    rng: Randomness,
    ci: IntervalKind = "default",
    reps: int = 10_000,
    confidence: float = 0.95,
) -> dict[str, Interval]:
    """Estimate several statistics from the same resamples, each with its interval.

    Args:
        scores: ``Scores [runs, tasks]``.
        statistics: by name; None: all ``AGGREGATES``.
        rng: as ``ci``, ``reps`` and ``confidence`` in ``bootstrap_interval``, which gives the same
            numbers for each statistic alone.
        ci: see there.
        reps: see there.
        confidence: see there.

    Returns:
        The intervals by the same names.
    """
    wanted = AGGREGATES if statistics is None else statistics

    def together(sample: Scores) -> FloatArray:
        return np.stack([statistic(sample) for statistic in wanted.values()])

    band = _bootstrap(together, [scores], rng, ci, reps, confidence)
    if band.value.ndim != 1:
        raise ValueError(f"scores must be [runs, tasks], got shape {np.shape(scores)}")
    least = [_NEVER_BELOW.get(statistic, -np.inf) for statistic in wanted.values()]
    ends = np.stack([band.value, np.maximum(band.low, least), band.high], axis=-1).tolist()
    return {name: Interval(*three) for name, three in zip(wanted, ends, strict=True)}


def improvement_interval(
    x: Scores,
    y: Scores,
    *,
    rng: Randomness,
    ci: IntervalKind = "default",
    reps: int = 10_000,
    confidence: float = 0.95,
) -> Interval:
    """Estimate ``probability_of_improvement(x, y)`` with its interval.

    Both sides are resampled, independently of each other; arguments as in ``bootstrap_interval``.
    With ``ci="rliable"`` the interval has no width if every run of x beats every run of y: it then
    says nothing about runs unlike those seen.
    """
    pair = improvement_intervals({"x": x, "y": y}, rng=rng, ci=ci, reps=reps, confidence=confidence)
    return pair["x", "y"]


def improvement_intervals(
    scores: Mapping[str, Scores],
    *,
    rng: Randomness,
    ci: IntervalKind = "default",
    reps: int = 10_000,
    confidence: float = 0.95,
) -> dict[tuple[str, str], Interval]:
    """Estimate the probability of improvement of each algorithm over each other one.

    Every algorithm is resampled once, and its resamples serve all its pairs; for two algorithms
    that is what rliable does.

    Args:
        scores: ``Scores [runs, tasks]`` by algorithm, on the same tasks; run counts may differ.
        rng: as ``ci``, ``reps`` and ``confidence`` in ``bootstrap_interval``; the algorithms draw
            in the order of ``scores``.
        ci: see there.
        reps: see there.
        confidence: see there; of each pair, not of all together.

    Returns:
        By (first, second), for both orders: how probably the first beats the second.

    Raises:
        ValueError: if a score is not finite, the tasks are not as many for each, or ``ci`` is
            unknown.
    """
    _check_kind(ci)
    groups = [check_scores(group) for group in scores.values()]
    names = list(scores)
    tasks = [len(run_counts(group)) for group in groups]
    if len(set(tasks)) > 1:
        counted = zip(names, tasks, strict=True)
        raise ValueError(", ".join(f"{name} has {number} tasks" for name, number in counted))
    pairs = list(combinations(range(len(groups)), 2))
    if not pairs:
        return {}
    shares = _shares_won(groups)
    values = shares.mean(axis=-1)
    if min(min(run_counts(group)) for group in groups) < 2:
        lows, highs = np.full((2, len(pairs)), np.nan)
    else:
        full, reduced = _improvement_replicates(groups, rng, reps, with_reduced=ci == "default")
        freedom = np.array([degrees_of_freedom(groups[a], groups[b]) for a, b in pairs])
        band = _ends(values, full, reduced, freedom, confidence)
        lows, highs = np.clip(band.low, 0, 1), np.clip(band.high, 0, 1)
        if ci == "default":
            runs = np.array([run_counts(group) for group in groups])  # [groups, tasks]
            least, most = _improvement_ends(shares, runs[np.transpose(pairs)], confidence)
            lows, highs = np.minimum(lows, least), np.maximum(highs, most)
    found = {}
    ends = np.stack([values, lows, highs], axis=-1).tolist()
    for (a, b), (value, low, high) in zip(pairs, ends, strict=True):
        found[names[a], names[b]] = Interval(value, low, high)
        found[names[b], names[a]] = Interval(1 - value, 1 - high, 1 - low)
    return found


def performance_profile(
    scores: Scores,
    thresholds: npt.ArrayLike,
    *,
    rng: Randomness,
    ci: IntervalKind = "default",
    reps: int = 2_000,
    confidence: float = 0.95,
) -> Band:
    """Estimate the share of runs above each threshold, tasks weighing the same.

    Strictly above: a score at the threshold does not count (Agarwal et al. 2021, section 4.2).

    Args:
        scores: ``Scores [runs, tasks]``.
        thresholds: ``[thresholds]``.
        rng: as ``ci``, ``reps`` and ``confidence`` in ``bootstrap_interval``.
        ci: see there.
        reps: see there.
        confidence: see there; of each point, not of the whole profile.

    Returns:
        Three arrays ``[thresholds]`` in [0, 1].
    """
    shares = partial(_shares_above, thresholds=np.asarray(thresholds, np.float64))
    band = _bootstrap(shares, [scores], rng, ci, reps, confidence)
    return Band(*(np.clip(end, 0, 1) for end in band))


def sample_efficiency(
    scores: Scores,
    statistic: Statistic = iqm,
    *,
    rng: Randomness,
    ci: IntervalKind = "default",
    reps: int = 2_000,
    confidence: float = 0.95,
) -> Band:
    """Estimate a statistic at every checkpoint of training, with a pointwise band.

    A run is resampled as a whole: one draw serves all its checkpoints.

    Args:
        scores: ``[runs, tasks, checkpoints]``, or per task an array ``[runs, checkpoints]``.
        statistic: as ``rng``, ``ci``, ``reps`` and ``confidence`` in ``bootstrap_interval``.
        rng: see there.
        ci: see there.
        reps: see there.
        confidence: see there.

    Returns:
        Three arrays ``[checkpoints]``.
    """
    tasks = list(np.moveaxis(scores, 1, 0)) if isinstance(scores, np.ndarray) else scores
    if any(np.ndim(task) != 2 for task in tasks):
        raise ValueError(f"a task's curves must be [runs, checkpoints], got {np.shape(tasks[0])}")
    by_checkpoint = [np.transpose(task) for task in tasks]
    return _bootstrap(statistic, [by_checkpoint], rng, ci, reps, confidence)


def missing_bounds(
    scores: Sequence[npt.ArrayLike],
    runs: int,
    statistic: Statistic = iqm,
    *,
    floor: float = 0.0,
    cap: float = 1.0,
) -> tuple[float, float]:
    """Bound a statistic when runs are missing: all at the floor, or all at the cap.

    Args:
        scores: the scores there are, one array ``[up to runs]`` per task, possibly empty.
        runs: runs that each task should have.
        statistic: see ``bootstrap_interval``.
        floor: lowest score that a missing run is taken for.
        cap: highest score that a missing run is taken for.

    Returns:
        The lower and the upper bound.

    Raises:
        ValueError: if a task has more scores than ``runs``, or a score is not finite.
    """
    tasks = [np.asarray(task, np.float64) for task in scores]
    if max(len(task) for task in tasks) > runs:
        raise ValueError(f"a task has {max(len(task) for task in tasks)} scores, not {runs}")
    ends = [
        float(statistic([np.append(task, np.full(runs - len(task), fill)) for task in tasks]))
        for fill in (floor, cap)
    ]
    return min(ends), max(ends)


def bootstrap_replicates(
    scores: Scores, statistic: Statistic = iqm, *, rng: Randomness, reps: int = 10_000
) -> FloatArray:
    """Draw stratified bootstrap replicates of a statistic.

    Args:
        scores: ``Scores [..., runs, tasks]``.
        statistic: as ``rng`` and ``reps`` in ``bootstrap_interval``.
        rng: see there.
        reps: see there.

    Returns:
        ``[..., reps]``.
    """
    samples = _resamples([check_scores(scores)], reps, rng)
    return np.concatenate([statistic(*sample) for sample in samples], axis=-1)


def degrees_of_freedom(*groups: Scores) -> FloatArray:
    """Estimate the degrees of freedom of a mean over tasks, or of a difference of such means.

    ``(sum v)^2 / sum(v^2 / (n - 1))`` over the tasks of all groups, v the variance of a task's mean
    and n its runs (Satterthwaite 1946). Between the fewest n - 1, when one task has all the
    variance, and their sum, when all have the same.

    Args:
        groups: ``Scores [..., runs, tasks]`` with at least two runs of each task.

    Returns:
        ``[...]``, at least 1.
    """
    tasks = [task for group in groups for task in _tasks(check_scores(group))]
    freedom = np.array([task.shape[-1] - 1 for task in tasks])
    variances = np.stack([task.var(axis=-1, ddof=1) / task.shape[-1] for task in tasks], axis=-1)
    total = variances.sum(axis=-1, keepdims=True)
    shares = variances / np.where(total > 0, total, 1)
    concentration = (shares**2 / freedom).sum(axis=-1)
    # Without any variance there is nothing to widen, and any number does.
    return np.asarray(1 / np.where(concentration > 0, concentration, 1))


def check_scores(scores: Scores) -> Scores:
    """Return scores as float64, as one array where all tasks have equally many runs.

    Raises:
        ValueError: if a score is not finite (names the first one), there are none, or an array
            has fewer than two dimensions.
    """
    if not isinstance(scores, np.ndarray):
        ragged = [np.asarray(task, np.float64) for task in scores]
        if len({task.shape for task in ragged}) > 1:
            _check_parts(ragged)
            return ragged
        scores = np.stack(ragged, axis=-1) if ragged else np.empty((0, 0))
    scores = np.ascontiguousarray(scores, np.float64)
    if scores.ndim < 2:
        raise ValueError(f"scores must be [runs, tasks], got shape {scores.shape}")
    _check_parts([scores])
    return scores


def run_counts(scores: Scores) -> list[int]:
    """Count the runs of each task."""
    return [task.shape[-1] for task in _tasks(scores)]


def _check_parts(parts: Sequence[FloatArray]) -> None:
    for number, part in enumerate(parts):
        if part.size == 0:
            raise ValueError(f"no scores for task {number}" if len(parts) > 1 else "no scores")
        if not np.isfinite(part).all():
            place = np.argwhere(~np.isfinite(part))[0]
            run, task = place[-2:] if len(parts) == 1 else (place[-1], number)
            raise ValueError(f"score of run {run}, task {task} is {part[tuple(place)]}")


def _bootstrap(
    statistic: Statistic,
    groups: Sequence[Scores],
    rng: Randomness,
    ci: IntervalKind,
    reps: int,
    confidence: float,
) -> Band:
    """Estimate a statistic of independently resampled groups."""
    _check_kind(ci)
    groups = [check_scores(group) for group in groups]
    value = np.asarray(statistic(*groups))
    if min(min(run_counts(group)) for group in groups) < 2:
        return Band(value, np.full_like(value, np.nan), np.full_like(value, np.nan))
    full, reduced = [], []  # [..., chunk] each
    for sample in _resamples(groups, reps, rng):
        full.append(statistic(*sample))
        if ci == "default":
            reduced.append(statistic(*map(_without_last_run, sample)))
    return _ends(
        value,
        np.concatenate(full, axis=-1),
        np.concatenate(reduced, axis=-1) if reduced else None,
        degrees_of_freedom(*groups),
        confidence,
    )


def _check_kind(ci: str) -> None:
    if ci not in get_args(IntervalKind):
        raise ValueError(f"unknown interval {ci!r}, valid: {', '.join(get_args(IntervalKind))}")


def _ends(
    value: FloatArray,
    full: FloatArray,
    reduced: FloatArray | None,
    freedom: FloatArray,
    confidence: float,
) -> Band:
    """Turn replicates ``[..., reps]`` into intervals of values ``[...]``.

    Args:
        value: estimates.
        full: replicates with n draws from n runs.
        reduced: replicates with n - 1 draws; None: percentile intervals alone.
        freedom: degrees of freedom, one number or ``[...]``.
        confidence: nominal coverage.
    """
    tail = (1 - confidence) / 2
    low, high = np.percentile(full, 100 * np.array([tail, 1 - tail]), axis=-1)
    if reduced is None:
        return Band(value, low, high)
    reach = student.isf(tail, freedom) * reduced.std(axis=-1)
    return Band(value, np.minimum(low, value - reach), np.maximum(high, value + reach))


_COMPARED_AT_ONCE = 1024
"""Runs whose comparisons with all others are held in memory."""


def _shares_won(groups: Sequence[Scores]) -> FloatArray:
    """Probability of improvement on each task, ``[pairs of groups, tasks]``."""
    shares = []
    for runs in zip(*map(_tasks, groups), strict=True):
        everyone = np.concatenate(runs)
        owner = np.repeat(np.eye(len(runs)), list(map(len, runs)), axis=0)  # [all runs, groups]
        parts = range(0, len(everyone), _COMPARED_AT_ONCE)
        pieces = [slice(start, start + _COMPARED_AT_ONCE) for start in parts]
        wins = sum(  # minus losses
            owner[piece].T @ np.sign(everyone[piece, None] - everyone) @ owner for piece in pieces
        )
        sizes = owner.sum(axis=0)
        shares.append((1 + wins / np.outer(sizes, sizes)) / 2)
    return np.stack(shares, axis=-1)[np.triu_indices(len(groups), 1)]


def _improvement_ends(
    shares: FloatArray, runs: npt.NDArray[np.int64], confidence: float
) -> tuple[FloatArray, FloatArray]:
    """Ends of intervals of probabilities of improvement that need no spread between runs.

    On each task those of Newcombe (2006, method 5): every probability that the observed one does
    not contradict, by the variance that Hanley and McNeil (1982) derived from it. Of the mean over
    tasks: their distances from the estimate add up as independent errors do (Zou and Donner 2008).

    Args:
        shares: ``[..., tasks]``, observed.
        runs: of both sides, ``[2, ..., tasks]``.
        confidence: nominal coverage.

    Returns:
        The lower and the upper ends, ``[...]`` each.
    """
    z = float(norm.isf((1 - confidence) / 2))
    below = shares - _least_probability(shares, runs, z)
    above = 1 - _least_probability(1 - shares, runs, z) - shares
    value, tasks = shares.mean(axis=-1), shares.shape[-1]
    low = value - np.linalg.norm(below, axis=-1) / tasks
    return low, value + np.linalg.norm(above, axis=-1) / tasks


def _least_probability(shares: FloatArray, runs: npt.NDArray[np.int64], z: float) -> FloatArray:
    """The smallest probability within ``z`` standard errors of its own of each observed share."""
    spare, pairs = runs.mean(axis=0) - 1, runs.prod(axis=0)
    low, high = np.zeros_like(shares), shares
    for _ in range(40):  # halves what is left, to below 1e-12
        middle = (low + high) / 2
        factor = 1 + spare * ((1 - middle) / (2 - middle) + middle / (1 + middle))
        variance = middle * (1 - middle) * factor / pairs
        is_ruled_out = (shares - middle) ** 2 > z**2 * variance
        low, high = np.where(is_ruled_out, middle, low), np.where(is_ruled_out, high, middle)
    return high


def _improvement_replicates(
    groups: Sequence[Scores], rng: Randomness, reps: int, with_reduced: bool
) -> tuple[FloatArray, FloatArray | None]:
    """Replicate the probability of improvement of all pairs, ``[pairs, reps]`` each.

    On a task a resample is a count per run, and wins minus losses of a pair are
    ``counts of x @ signs of all differences @ counts of y``: whole numbers, which single precision
    holds exactly.
    """
    tasks = [_tasks(group) for group in groups]
    full, reduced = [], []  # [pairs, chunk] each
    for indices in _indices(groups, reps, rng, PAIR_CHUNK_CELLS):
        of_groups = [_split_tasks(group, part) for group, part in zip(groups, indices, strict=True)]
        sums = [np.zeros(1) for _ in range(2)]
        for task in range(len(tasks[0])):
            runs = [of_group[task] for of_group in tasks]
            drawn = [of_group[task] for of_group in of_groups]  # [chunk, runs] each
            sums[0] = sums[0] + _balances(runs, drawn)
            if with_reduced:
                sums[1] = sums[1] + _balances(runs, [part[:, :-1] for part in drawn])
        full.append((1 + sums[0] / len(tasks[0])) / 2)
        reduced.append((1 + sums[1] / len(tasks[0])) / 2)
    return np.concatenate(full, axis=-1), np.concatenate(reduced, -1) if with_reduced else None


def _balances(runs: Sequence[FloatArray], drawn: Sequence[npt.NDArray[np.int64]]) -> FloatArray:
    """Mean of wins minus losses over the pairs of resampled runs, on one task.

    Args:
        runs: ``[runs]`` of each group.
        drawn: ``[chunk, draws]`` of each group.

    Returns:
        ``[pairs of groups, chunk]`` in [-1, 1].
    """
    sizes = [len(group) for group in runs]
    ends = np.cumsum(sizes)
    draws = np.array([part.shape[1] for part in drawn])
    exact = np.float32 if draws.max() ** 2 < EXACT_SINGLE else np.float64
    counted = [_counts(part, size) for part, size in zip(drawn, sizes, strict=True)]
    counts: npt.NDArray[Any] = np.concatenate(counted, axis=1).astype(exact)
    everyone = np.concatenate(runs)
    owner = np.repeat(np.eye(len(runs), dtype=exact), sizes, axis=0)  # [all runs, groups]
    found = []
    for place, (size, end) in enumerate(zip(sizes[:-1], ends[:-1], strict=True)):
        start = end - size
        signs = np.sign(everyone[start:end, None] - everyone[None, end:]).astype(exact)
        wins = (counts[:, start:end] @ signs) * counts[:, end:]
        of_pairs = wins @ owner[end:, place + 1 :]  # [chunk, groups after this one]
        found.append(of_pairs.T.astype(np.float64) / (draws[place] * draws[place + 1 :, None]))
    return np.concatenate(found)


def _counts(drawn: npt.NDArray[np.int64], size: int) -> npt.NDArray[np.int64]:
    """How often each of ``size`` runs was drawn: ``[chunk, draws]`` to ``[chunk, size]``."""
    rows = np.arange(len(drawn))[:, None] * size
    return np.bincount((drawn + rows).ravel(), minlength=len(drawn) * size).reshape(-1, size)


def _resamples(groups: Sequence[Scores], reps: int, rng: Randomness) -> Iterator[list[Scores]]:
    """Resample runs within tasks, in chunks ``[..., chunk, runs, tasks]`` of each group."""
    for parts in _indices(groups, reps, rng, CHUNK_CELLS):
        yield [_take(group, part) for group, part in zip(groups, parts, strict=True)]


def _indices(
    groups: Sequence[Scores], reps: int, rng: Randomness, chunk_cells: int
) -> Iterator[list[npt.NDArray[np.int64]]]:
    """Draw runs within tasks, in chunks ``[chunk, cells]`` of each group."""
    draw = rng.randint if isinstance(rng, np.random.RandomState) else rng.integers
    # One bound per cell, in rliable's order: it draws replicate by replicate, group by group.
    bounds = [_index_bounds(group) for group in groups]
    all_bounds = np.concatenate(bounds)
    ends = np.cumsum([part.size for part in bounds])
    # A curve's checkpoints share their draws, but each takes room.
    cells = sum(task.size for group in groups for task in _tasks(group))
    chunk = max(1, chunk_cells // cells)
    equal = bool((all_bounds == all_bounds[0]).all())
    high = int(all_bounds[0]) if equal else all_bounds  # the same stream, and one number is faster
    for start in range(0, reps, chunk):
        indices = draw(high, size=(min(chunk, reps - start), all_bounds.size))
        yield np.split(indices, ends[:-1], axis=1)


def _index_bounds(scores: Scores) -> npt.NDArray[np.int64]:
    if isinstance(scores, np.ndarray):
        runs, tasks = scores.shape[-2:]
        return np.full(runs * tasks, runs)
    return np.repeat(run_counts(scores), run_counts(scores))


def _take(scores: Scores, indices: npt.NDArray[np.int64]) -> Scores:
    if isinstance(scores, np.ndarray):
        runs, tasks = scores.shape[-2:]
        cells = indices.reshape(-1, runs, tasks) * tasks + np.arange(tasks)
        return np.asarray(scores.reshape(*scores.shape[:-2], -1).take(cells, axis=-1))
    return [
        task[..., part] for task, part in zip(scores, _split_tasks(scores, indices), strict=True)
    ]


def _split_tasks(scores: Scores, indices: npt.NDArray[np.int64]) -> Sequence[npt.NDArray[np.int64]]:
    """Indices ``[chunk, cells]`` of a group by task, ``[chunk, runs]`` each."""
    if isinstance(scores, np.ndarray):
        runs, tasks = scores.shape[-2:]
        return list(np.moveaxis(indices.reshape(-1, runs, tasks), -1, 0))
    return np.split(indices, np.cumsum(run_counts(scores))[:-1], axis=1)


def _without_last_run(scores: Scores) -> Scores:
    if isinstance(scores, np.ndarray):
        return scores[..., :-1, :]
    return [task[..., :-1] for task in scores]


def _tasks(scores: Scores) -> Sequence[FloatArray]:
    """List the tasks' scores, each ``[..., runs]``."""
    return list(np.moveaxis(scores, -1, 0)) if isinstance(scores, np.ndarray) else scores


def _task_means(scores: Scores) -> FloatArray:
    scores = check_scores(scores)
    if isinstance(scores, np.ndarray):
        return np.asarray(scores.mean(axis=-2))
    return np.stack([task.mean(axis=-1) for task in scores], axis=-1)


def _cells(scores: Scores) -> tuple[FloatArray, FloatArray | None]:
    """Line up all runs, ``[..., runs x tasks]``, with weights that sum to 1; None: all equal."""
    scores = check_scores(scores)
    if isinstance(scores, np.ndarray):
        return scores.reshape(*scores.shape[:-2], -1), None
    sizes = np.array(run_counts(scores))
    return np.concatenate(scores, axis=-1), np.repeat(1 / (sizes * sizes.size), sizes)


def _shares_above(scores: Scores, thresholds: FloatArray) -> FloatArray:
    cells, weights = _cells(scores)
    above = [np.average(cells > threshold, axis=-1, weights=weights) for threshold in thresholds]
    return np.stack(above)  # [thresholds, ...]
