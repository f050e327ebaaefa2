"""Has an algorithm become worse? A sequential test against a bank of scores, with a margin.

Scores are normalised per task: the task's floor is 0, the bank's mean is 1. The effect is the mean
over tasks of the candidate's mean less the bank's. After every look at a few more candidate seeds
two one-sided tests are made of it: *worse* (the effect is below 0; levels that stop early on bad
news) and *no worse* (it is above minus the margin; levels that are strict at first). Each spends
5 % over all looks (Lan and DeMets 1983), so that looking often does not raise the rate of false
verdicts. Beside them a guard looks for a task that has broken down while others hold the mean up.

An alarm is only a regression if fresh runs of both revisions repeat it: one bank serves many
checks, and a bank that happened to be lucky would make every harmless change look bad.

:mod:`suite.regress` gets the scores; nothing here runs anything.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Literal

import numpy as np
import numpy.typing as npt
from scipy import optimize, stats

from suite.names import UnknownName

FloatArray = npt.NDArray[np.float64]
Word = Literal["no worse", "regression", "inconclusive"]

ALPHA = 0.05
"""Rate of false verdicts of either kind over all looks, each at the edge of what it denies."""

GUARD_ALPHA, GUARD_DROP = 0.01, 0.25
"""A task alone raises an alarm below this level, shared among tasks and looks, and this drop."""

LEAST_DEVIATION = 0.02
"""Five equal scores do not prove that a sixth would be the same."""

LOWEST, HIGHEST = -0.5, 2.0
"""Normalised scores are clipped to this range."""

POWER = 0.8
"""Probability with which the smallest detectable drop is detected."""

MAX_SEEDS = 10_000

_NODES = np.polynomial.legendre.leggauss(128)


@dataclass(frozen=True)
class Profile:
    """How thorough a check is."""

    name: str
    bank: int
    """Seeds of the baseline, at least."""
    looks: tuple[int, ...]
    """Candidate seeds per task after which the tests are made."""
    margin: float
    """The largest drop that passes, as a share of what the baseline has above the floor."""


PROFILES: Mapping[str, Profile] = MappingProxyType(
    {
        profile.name: profile
        for profile in (
            Profile("quick", bank=20, looks=(5, 10), margin=0.20),
            Profile("standard", bank=30, looks=(5, 10, 15, 20), margin=0.10),
            Profile("thorough", bank=60, looks=(10, 20, 30, 40), margin=0.05),
        )
    }
)


def find_profile(name: str) -> Profile:
    """Look a profile up.

    Raises:
        UnknownName: there is none of that name.
    """
    if name not in PROFILES:
        raise UnknownName("profile", name, PROFILES)
    return PROFILES[name]


def planned_looks(profile: Profile, tasks: int) -> tuple[int, ...]:
    """A profile's looks, and more of them where there are few tasks.

    A pass needs 3 / margin runs: fewer cannot exclude, at 95 %, that a share of ``margin`` of all
    runs now fails (the rule of three).
    """
    looks = list(profile.looks)
    while looks[-1] * tasks < least_runs(profile):
        looks.append(2 * looks[-1] - looks[-2])
    return tuple(looks)


def least_runs(profile: Profile) -> int:
    """Candidate runs of all tasks together without which nothing passes."""
    return math.ceil(3 / profile.margin - 1e-9)


@dataclass(frozen=True)
class TaskScores:
    """Scores of one task's runs on both sides, normalised."""

    task: str
    bank: FloatArray
    candidate: FloatArray


def normalised(scores: FloatArray, floor: float, one: float) -> FloatArray:
    """Scores with ``floor`` at 0 and ``one`` at 1, clipped to [-0.5, 2].

    Raises:
        ValueError: ``one`` is not above the floor.
    """
    if not one > floor:
        raise ValueError(f"a mean of {one:g} is not above the floor of {floor:g}")
    return ((scores - floor) / (one - floor)).clip(LOWEST, HIGHEST)


@dataclass(frozen=True)
class Effect:
    """Candidate less bank, in shares of what the bank has above the floor."""

    value: float
    error: float
    """Standard error."""
    freedom: float
    """Degrees of freedom (Satterthwaite)."""

    @property
    def interval(self) -> tuple[float, float]:
        """95 % confidence, as if there had been one look."""
        reach = float(stats.t.isf(0.025, self.freedom)) * self.error
        return self.value - reach, self.value + reach

    def below(self, bound: float) -> float:
        """One-sided p value of the claim that the effect is below a bound."""
        return float(stats.t.cdf((self.value - bound) / self.error, self.freedom))

    def above(self, bound: float) -> float:
        """One-sided p value of the claim that the effect is above a bound."""
        return float(stats.t.sf((self.value - bound) / self.error, self.freedom))


def effect(tasks: Sequence[TaskScores]) -> Effect:
    """Mean over tasks of the differences of means.

    The candidate's variance is never taken below the bank's, which is known from more runs, nor any
    deviation below ``LEAST_DEVIATION``.
    """
    values, parts, freedoms = [], [], []
    for each in tasks:
        bank = max(_variance(each.bank), LEAST_DEVIATION**2)
        candidate = max(_variance(each.candidate), bank)
        values.append(each.candidate.mean() - each.bank.mean())
        for variance, scores in ((bank, each.bank), (candidate, each.candidate)):
            parts.append(variance / len(scores) / len(tasks) ** 2)
            freedoms.append(len(scores) - 1)
    variances = np.array(parts)
    freedom = variances.sum() ** 2 / (variances**2 / freedoms).sum()
    return Effect(float(np.mean(values)), math.sqrt(variances.sum()), float(freedom))


def _variance(scores: FloatArray) -> float:
    return float(scores.var(ddof=1)) if len(scores) > 1 else 0.0


def pocock_spending(share: FloatArray) -> FloatArray:
    """What may be spent by a share of the information, early as readily as late."""
    return ALPHA * np.log1p((math.e - 1) * share)


def obrien_fleming_spending(share: FloatArray) -> FloatArray:
    """What may be spent by a share of the information, nearly all of it late."""
    return 2 * stats.norm.sf(stats.norm.isf(ALPHA / 2) / np.sqrt(share))


def nominal_levels(
    looks: Sequence[int], bank: int, spending: Callable[[FloatArray], FloatArray]
) -> list[float]:
    """One-sided levels at which each look is tested, so that all together spend ``ALPHA``.

    The statistics of the looks are a Brownian motion seen at the shares of the information of the
    last look (Jennison and Turnbull 2000, section 19.2, integrated numerically).

    Args:
        looks: candidate seeds at each.
        bank: seeds of the baseline, which all looks share.
        spending: of what share of the information which part is spent.
    """
    information = 1 / (1 / np.array(looks) + 1 / bank)
    shares = information / information[-1]
    steps = np.diff(spending(shares), prepend=0.0)
    nodes, weights = np.zeros(1), np.ones(1)  # where the motion is that has not crossed, and mass
    levels = []
    for share, before, step in zip(shares, [0.0, *shares[:-1]], steps, strict=True):
        spread = math.sqrt(share - before)

        def surplus(
            bound: float,
            step: float = float(step),
            at: tuple[FloatArray, FloatArray, float] = (nodes, weights, spread),
        ) -> float:
            crossing = at[1] @ stats.norm.sf((bound - at[0]) / at[2])
            return float(crossing) - step

        bound = optimize.brentq(surplus, -10.0, 10.0)
        levels.append(float(stats.norm.sf(bound / math.sqrt(share))))
        low = -8 * math.sqrt(share)
        following = low + (bound - low) * (_NODES[0] + 1) / 2
        density = stats.norm.pdf((following[:, None] - nodes) / spread) / spread @ weights
        nodes, weights = following, density * _NODES[1] * (bound - low) / 2
    return levels


@dataclass(frozen=True)
class Look:
    """What was found at a look."""

    seeds: int
    """Candidate seeds per task so far."""
    effect: Effect
    worse: bool
    """Alarm: the effect is below 0."""
    no_worse: bool
    """The effect is above minus the margin, and there are runs enough to say so."""
    broken: tuple[str, ...]
    """Tasks that raise an alarm by themselves."""

    @property
    def is_last(self) -> bool:
        """Whether the looks end here, before their number does."""
        return self.worse or self.no_worse or bool(self.broken)

    @property
    def is_alarm(self) -> bool:
        """Whether fresh runs must decide."""
        return bool(self.broken) or (self.worse and not self.no_worse)


class SequentialTest:
    """The looks of one check.

    Args:
        profile: its margin counts.
        looks: candidate seeds per task at each.
        bank: seeds of the baseline per task, the smallest number if they differ.
        tasks: how many.
    """

    def __init__(self, profile: Profile, looks: Sequence[int], bank: int, tasks: int) -> None:
        self.margin = profile.margin
        self.looks = tuple(looks)
        self.least_runs = least_runs(profile)
        self.guard_level = GUARD_ALPHA / (tasks * len(looks))
        self.levels = list(
            zip(
                nominal_levels(looks, bank, pocock_spending),
                nominal_levels(looks, bank, obrien_fleming_spending),
                strict=True,
            )
        )

    def look(self, index: int, tasks: Sequence[TaskScores]) -> Look:
        """Test all candidate scores so far, at look ``index``."""
        found = effect(tasks)
        worse_level, no_worse_level = self.levels[index]
        runs = self.looks[index] * len(tasks)
        return Look(
            seeds=self.looks[index],
            effect=found,
            worse=found.below(0.0) <= worse_level,
            no_worse=runs >= self.least_runs and found.above(-self.margin) <= no_worse_level,
            broken=tuple(each.task for each in tasks if self._is_broken(each)),
        )

    def _is_broken(self, task: TaskScores) -> bool:
        alone = effect([task])
        return alone.value < -GUARD_DROP and alone.below(0.0) <= self.guard_level


def is_confirmed(tasks: Sequence[TaskScores], alarm: Look) -> bool:
    """Whether fresh runs of both revisions repeat an alarm.

    Args:
        tasks: fresh scores; ``bank`` holds those of the baseline.
        alarm: the look that raised it.
    """
    claims = [[each] for each in tasks if each.task in alarm.broken]
    if alarm.worse and not alarm.no_worse:
        claims.append(list(tasks))
    return any(effect(claim).below(0.0) <= ALPHA / len(claims) for claim in claims)


def verdict(look: Look, confirmed: bool | None) -> Word:
    """The answer after the last look.

    Args:
        look: the last one.
        confirmed: what fresh runs said of its alarm; None without one.
    """
    if look.is_alarm:
        return "regression" if confirmed else "inconclusive"
    return "no worse" if look.no_worse else "inconclusive"


def detectable_drop(bank: Sequence[FloatArray], seeds: int) -> float:
    """The smallest drop that one test of so many candidate seeds finds in 80 % of checks.

    Args:
        bank: normalised scores of the baseline, task by task.
        seeds: of the candidate, per task.
    """
    variance = np.array([max(_variance(scores), LEAST_DEVIATION**2) for scores in bank])
    runs = np.array([len(scores) for scores in bank])
    error = math.sqrt((variance * (1 / seeds + 1 / runs)).sum()) / len(bank)
    return float((stats.norm.isf(ALPHA) + stats.norm.ppf(POWER)) * error)


def deciding_seeds(tasks: Sequence[TaskScores], margin: float) -> int | None:
    """Candidate seeds per task at which means and spreads like these would decide.

    None: with a bank of this size no number would.
    """
    found = effect(tasks)
    distance = max(-found.value, found.value + margin)
    wanted = distance / stats.norm.isf(ALPHA)
    of_bank = of_run = 0.0
    for each in tasks:
        bank = max(_variance(each.bank), LEAST_DEVIATION**2)
        of_bank += bank / len(each.bank) / len(tasks) ** 2
        of_run += max(_variance(each.candidate), bank) / len(tasks) ** 2
    room = wanted**2 - of_bank
    if room <= 0 or of_run / room > MAX_SEEDS:
        return None
    return max(math.ceil(of_run / room), *(len(each.candidate) + 1 for each in tasks))
