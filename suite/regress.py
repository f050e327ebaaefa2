"""A regression check: has the code here made an algorithm worse than it is at another revision?

First the fingerprints of both revisions, taken now and here: where they are equal, and every
changed line of a function was run, the check ends there, on the word of a short run. Otherwise the
sequential test of
:mod:`suite.regression`, on the tasks of the bank: the base's runs are its bank, made once and kept;
the candidate's come look by look. An alarm is confirmed by fresh runs of both. Bank, candidate and
confirmation have seeds of their own.

All runs lie below the folder of live state, by the content of the code that made them: a check that
was stopped goes on, and the next check of the same base finds its bank.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import ClassVar

import numpy as np
from filelock import FileLock, Timeout
from scipy import stats

from suite import regression
from suite.protocols import PROTOCOLS, protocol_hash
from suite.records import Record, load_all, record_paths
from suite.regression import FloatArray, Look, Profile, SequentialTest, TaskScores
from suite.revisions import (
    Revision,
    SetupError,
    changed_lines,
    check_out,
    lines_of_functions,
    remove,
    working_tree,
)
from suite.scores import seed_scores, task_bounds
from suite.statistics import probability_of_improvement

BANK = "bank"
"""The protocol of all runs."""

LEARNED = 0.05
"""A task takes part if the base beats its floor at this level: else there is nothing to lose."""


@dataclass(frozen=True)
class Settings:
    """How a check is run."""

    profile: Profile
    results: Path
    """Where a bank may lie that somebody has made before."""
    live: Path
    root: Path
    """The checkout whose code is judged."""
    base: str = "main"
    """Revision that it is compared with."""
    device: str = "cpu"
    jobs: int = 1
    threads: int = 1


@dataclass(frozen=True)
class Side:
    """Runs of one revision on one task."""

    mean: float
    """Raw score."""
    runs: int
    failed: int

    @property
    def text(self) -> str:
        """For tables."""
        failed = f", {self.failed} failed" if self.failed else ""
        return f"{self.mean:.2f} ({self.runs} runs{failed})"


@dataclass(frozen=True)
class TaskRow:
    """A task as the last look saw it."""

    task: str
    bank: Side
    candidate: Side
    change: float
    """In shares of what the bank has above the floor."""
    interval: tuple[float, float]
    """95 % confidence of the change."""
    better: float
    """Probability that a run of the candidate beats one of the bank."""

    HEADER: ClassVar[tuple[str, ...]] = (
        "task",
        "bank",
        "candidate",
        "change",
        "95 % interval",
        "P(better)",
    )

    @property
    def cells(self) -> list[str]:
        """For tables, under :data:`HEADER`."""
        low, high = self.interval
        sides = (self.bank.text, self.candidate.text)
        change, interval = f"{self.change:+.1%}", f"{low:+.1%} to {high:+.1%}"
        return [self.task, *sides, change, interval, f"{self.better:.2f}"]


@dataclass
class Check:
    """What a check found."""

    algorithm: str
    base: str
    candidate: str
    profile: Profile
    word: regression.Word = "inconclusive"
    text: str = ""
    """The verdict with its numbers."""
    fingerprint: str = ""
    """What the fingerprints said."""
    looks: list[Look] = field(default_factory=list)
    rows: list[TaskRow] = field(default_factory=list)
    confirmation: regression.Effect | None = None
    left_out: dict[str, str] = field(default_factory=dict)
    """Tasks that took no part, and why."""
    detectable: float | None = None
    """The drop that the planned seeds find in 80 % of checks."""
    versions: dict[str, str] = field(default_factory=dict)

    def plain(self) -> dict[str, object]:
        """For JSON."""
        return {"verdict": self.word, **asdict(self), "protocol": protocol_hash(PROTOCOLS[BANK])}


def check(
    algorithm: str, tasks: Sequence[str], settings: Settings, tell: Callable[[str], None]
) -> Check:
    """Judge an algorithm.

    Args:
        algorithm: its id; both revisions must have it.
        tasks: ids, all of the bank.
        settings: how.
        tell: called with a line before everything that takes time.

    Raises:
        SetupError: the check cannot be made.
    """
    bank = [row.task for row in PROTOCOLS[BANK].budgets]
    for task in tasks:
        if task not in bank:
            raise SetupError(f"{task} is not in the bank: {', '.join(bank)}")
    folder = (settings.live / "regress").resolve()
    folder.mkdir(parents=True, exist_ok=True)
    lock = FileLock(folder / "lock")
    try:
        lock.acquire(timeout=0)
    except Timeout as error:
        raise SetupError(f"another check is at work in {folder}") from error
    try:
        base = check_out(settings.root, settings.base, folder / "trees")
        try:
            candidate = working_tree(settings.root)
            return _Checker(algorithm, tasks, settings, folder, base, candidate, tell).run()
        finally:
            remove(settings.root, base)
    finally:
        lock.release()


@dataclass
class _Checker:
    algorithm: str
    tasks: Sequence[str]
    settings: Settings
    folder: Path
    base: Revision
    candidate: Revision
    tell: Callable[[str], None]

    def __post_init__(self) -> None:
        self.digests = {each: each.digest() for each in (self.base, self.candidate)}

    def run(self) -> Check:
        profile = self.settings.profile
        found = Check(self.algorithm, self.base.label, self.candidate.label, profile)
        if self.digests[self.base] == self.digests[self.candidate]:
            found.word = "no worse"
            found.text = found.fingerprint = f"identical: the code is that of {self.base.label}"
            return found
        self.tell(f"fingerprints: {self.base.label} twice, {self.candidate.label} once")
        is_same, found.fingerprint = self._compare_fingerprints()
        self.tell(found.fingerprint)
        if is_same:
            found.word, found.text = "no worse", found.fingerprint
            return found

        bank = self._bank()
        scales = self._scales(bank, found)
        tasks = [task for task in self.tasks if task in scales]
        if not tasks:
            reasons = "; ".join(f"{task}: {why}" for task, why in found.left_out.items())
            raise SetupError(f"{self.algorithm} has nothing to lose: {reasons}")
        found.versions = dict(bank[tasks[0]].versions)
        banks = {task: _normalised(bank[task], scales[task]) for task in tasks}
        looks = regression.planned_looks(profile, len(tasks))
        test = SequentialTest(profile, looks, min(map(len, banks.values())), len(tasks))
        found.detectable = regression.detectable_drop(list(banks.values()), looks[-1])
        if found.detectable > profile.margin:
            self.tell(
                f"warning: with {looks[-1]} seeds on {len(tasks)} tasks of this spread a drop of"
                f" {found.detectable:.0%} is found in 80 % of checks, the margin is"
                f" {profile.margin:.0%}: more tasks, a larger bank or a wider margin would help"
            )
        for index, seeds in enumerate(looks):
            self.tell(f"look {index + 1} of {len(looks)}: {seeds} candidate seeds per task")
            records = self._run(self.candidate, "candidate", tasks, seeds)
            scores = [
                TaskScores(task, banks[task], _normalised(records[task], scales[task]))
                for task in tasks
            ]
            found.looks.append(test.look(index, scores))
            self.tell(_look_text(found.looks[-1]))
            if found.looks[-1].is_last:
                break
        found.rows = [_row(each, bank[each.task], records[each.task]) for each in scores]
        confirmed = None
        if found.looks[-1].is_alarm:
            fresh = self._confirmation(tasks, looks[-1], scales)
            found.confirmation = regression.effect(fresh)
            confirmed = regression.is_confirmed(fresh, found.looks[-1])
        found.word = regression.verdict(found.looks[-1], confirmed)
        found.text = _verdict_text(found, scores)
        return found

    def _compare_fingerprints(self) -> tuple[bool, str]:
        """Whether they are equal and every changed line was run, and what was found."""
        try:
            first, again = (self._fingerprint(self.base) for _ in range(2))
        except SetupError:
            return False, f"no fingerprint: {self.base.label} could not take one"
        if first["streams"] != again["streams"]:
            return False, f"no fingerprint: {self.base.label} differs from itself"
        own = self._fingerprint(self.candidate)
        for task in self.tasks:
            if difference := first_difference(first["streams"][task], own["streams"][task]):
                return False, f"behaves differently on {task}: {difference}"
        missed = self._unexecuted(first["lines"], own["lines"])
        if missed:
            count = sum(missed.values())
            where = ", ".join(f"{name} ({lines})" for name, lines in sorted(missed.items()))
            return False, f"identical where it ran, but {count} changed lines did not run: {where}"
        return True, "identical: every step of a short run, and every changed line was run"

    def _fingerprint(self, revision: Revision) -> dict[str, dict[str, dict[str, list[str]]]]:
        text = revision.run("fingerprint", "--", self.algorithm, *self.tasks)
        found: dict[str, dict[str, dict[str, list[str]]]] = json.loads(text)
        return found

    def _unexecuted(
        self, base: dict[str, dict[str, list[str]]], candidate: dict[str, dict[str, list[str]]]
    ) -> dict[str, int]:
        """How many changed lines of functions ran on no task, by file."""
        missed: dict[str, int] = {}
        changed = changed_lines(self.base, self.candidate)
        sides = zip((self.base, self.candidate), changed, (base, candidate), strict=True)
        for revision, lines, ran in sides:
            for name, numbers in lines.items():
                if not any(name in files for files in ran.values()):
                    continue  # not even imported
                executed = {int(line) for files in ran.values() for line in files.get(name, ())}
                idle = (numbers & lines_of_functions(revision.root / name)) - executed
                if idle:
                    missed[name] = missed.get(name, 0) + len(idle)
        return missed

    def _bank(self) -> dict[str, Record]:
        """The base's records, from a bank that somebody has made where that is still right."""
        seeds = self.settings.profile.bank
        results = self._results(self.base, BANK)
        for task in self.tasks:
            found = record_paths(self.settings.results, BANK, task, self.algorithm)
            own = record_paths(results, BANK, task, self.algorithm)
            if all(path.is_file() for path in found) and not any(path.exists() for path in own):
                own[0].parent.mkdir(parents=True, exist_ok=True)
                for source, target in zip(found, own, strict=True):
                    shutil.copyfile(source, target)
        self.tell(f"bank: at least {seeds} seeds of {self.base.label} per task")
        return self._run(self.base, BANK, self.tasks, seeds)

    def _run(
        self, revision: Revision, purpose: str, tasks: Sequence[str], seeds: int
    ) -> dict[str, Record]:
        """Run what is missing, and again what other code or other packages have made; read it."""
        rows = self._bench(revision, purpose, tasks, seeds)
        wrong = [row for row in rows if str(row["state"]).startswith(("stale", "damaged"))]
        for row in wrong:
            path = Path(str(row["record"]))
            for each in (path, path.with_suffix(".csv")):
                each.unlink(missing_ok=True)
        if wrong:
            self._bench(revision, purpose, tasks, seeds)
        return self._records(revision, purpose, tasks, seeds)

    def _records(
        self, revision: Revision, purpose: str, tasks: Sequence[str], seeds: int
    ) -> dict[str, Record]:
        if revision.digest() != self.digests[revision]:
            raise SetupError("the code was changed during the check; start it again")
        kind = BANK if purpose == BANK else "trial"
        records, damaged = load_all(self._results(revision, purpose), kind)
        if damaged:
            raise SetupError(str(damaged[0]))
        found = {each.task: each for each in records if each.algorithm == self.algorithm}
        for task in tasks:
            if task not in found or len(found[task].runs) < seeds:
                raise SetupError(f"{revision.label} has no {seeds} runs on {task}")
        return found

    def _bench(
        self, revision: Revision, purpose: str, tasks: Sequence[str], seeds: int
    ) -> list[dict[str, object]]:
        settings = self.settings
        options = {
            "protocol": BANK,
            "seeds": seeds,
            "results": self._results(revision, purpose),
            "runs": self.folder / "live",
            "device": settings.device,
            "jobs": settings.jobs,
            "threads": settings.threads,
        }
        if purpose != BANK:
            options["range"] = purpose
        words = [f"--{name}={value}" for name, value in options.items()]
        text = revision.run("bench", *words, "--json", "--", self.algorithm, ",".join(tasks))
        rows: list[dict[str, object]] = json.loads(text)
        return rows

    def _results(self, revision: Revision, purpose: str) -> Path:
        return self.folder / self.digests[revision][:16] / purpose

    def _scales(self, bank: dict[str, Record], found: Check) -> dict[str, tuple[float, float]]:
        """Raw scores that are 0 and 1, of the tasks that take part."""
        scales = {}
        for task in self.tasks:
            bounds, scores = task_bounds(bank[task]), seed_scores(bank[task])
            if bounds is None:
                found.left_out[task] = "no floor is known"
            elif not _beats(scores, bounds.floor):
                found.left_out[task] = (
                    f"the base's mean of {scores.mean():.4g} is not surely above the floor of"
                    f" {bounds.floor:.4g}"
                )
            else:
                scales[task] = bounds.floor, float(scores.mean())
        for task, reason in found.left_out.items():
            self.tell(f"{task} takes no part: {reason}")
        return scales

    def _confirmation(
        self, tasks: Sequence[str], seeds: int, scales: dict[str, tuple[float, float]]
    ) -> list[TaskScores]:
        """Fresh runs of both revisions."""
        self.tell(f"alarm; it must be confirmed by {seeds} fresh seeds of both revisions")
        sides = [
            self._run(revision, "confirmation", tasks, seeds)
            for revision in (self.base, self.candidate)
        ]
        return [
            TaskScores(task, *(_normalised(records[task], scales[task]) for records in sides))
            for task in tasks
        ]


def first_difference(base: dict[str, list[str]], candidate: dict[str, list[str]]) -> str:
    """Where the streams of two fingerprints part, in words; empty if nowhere."""
    parted: dict[str, int] = {}
    for name, entries in base.items():
        others = candidate.get(name, [])
        pairs = enumerate(zip(entries, others, strict=False))
        least = None if len(entries) == len(others) else min(len(entries), len(others))
        index = next((i for i, (one, other) in pairs if one != other), least)
        if index is not None:
            parted[name] = index
    if not parted:
        return ""
    if "config" in parted:
        return "another config"
    steady = {name: index for name, index in parted.items() if len(base[name]) > 1}
    if not steady:
        return f"{', '.join(parted)} at the end"
    first = min(steady, key=lambda name: steady[name])
    later = [f"{name} until {at}" for name, at in steady.items() if at > steady[first]]
    return f"{first} at update {steady[first]}" + (f"; equal: {', '.join(later)}" if later else "")


def _beats(scores: FloatArray, floor: float) -> bool:
    if np.ptp(scores) == 0:
        return bool(scores[0] > floor)
    return float(stats.ttest_1samp(scores, floor, alternative="greater").pvalue) <= LEARNED


def _normalised(record: Record, scale: tuple[float, float]) -> FloatArray:
    return regression.normalised(seed_scores(record), *scale)


def _row(scores: TaskScores, bank: Record, candidate: Record) -> TaskRow:
    change = regression.effect([scores])
    better = probability_of_improvement(scores.candidate[:, None], scores.bank[:, None])
    return TaskRow(
        task=scores.task,
        bank=_side(bank),
        candidate=_side(candidate),
        change=change.value,
        interval=change.interval,
        better=float(better),
    )


def _side(record: Record) -> Side:
    failed = sum(run.status != "ok" for run in record.runs)
    return Side(float(seed_scores(record).mean()), len(record.runs), failed)


def _look_text(look: Look) -> str:
    low, high = look.effect.interval
    return f"change {look.effect.value:+.1%}, 95 % interval {low:+.1%} to {high:+.1%}"


def _verdict_text(found: Check, scores: Sequence[TaskScores]) -> str:
    """The verdict in words, with its numbers."""
    look, margin = found.looks[-1], found.profile.margin
    numbers = (
        f"{_look_text(look)}, {look.seeds} seeds x {len(scores)} tasks,"
        f" bank {min(len(each.bank) for each in scores)}"
    )
    if found.word == "regression":
        what = f"regression ({', '.join(look.broken)})" if look.broken else "regression"
        assert found.confirmation is not None
        return f"{what}: {numbers}; confirmed: {_effect_text(found.confirmation)}"
    if found.word == "no worse":
        note = "; a drop is established, smaller than the margin" if look.worse else ""
        note = note or ("; an improvement is established" if _is_improved(look) else "")
        return f"no worse than {margin:.0%}: {numbers}{note}"
    if look.is_alarm:
        assert found.confirmation is not None
        return (
            f"inconclusive: {numbers}; this alarm was not confirmed by fresh seeds of both"
            f" revisions: {_effect_text(found.confirmation)}"
        )
    seeds = regression.deciding_seeds(scores, margin)
    more = (
        f"about {seeds} candidate seeds per task would decide"
        if seeds
        else "no number of candidate seeds would decide against this bank"
    )
    return f"inconclusive: {numbers}; {more}"


def _effect_text(effect: regression.Effect) -> str:
    low, high = effect.interval
    return f"{effect.value:+.1%}, {low:+.1%} to {high:+.1%}"


def _is_improved(look: Look) -> bool:
    return look.effect.above(0.0) <= regression.ALPHA / 2
