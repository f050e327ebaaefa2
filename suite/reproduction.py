"""Reproduction: run a record again as it was run, and say whether its numbers come out again.

The same seeds train in the same groups, with the record's own config, engine, threads and device,
by the code and on the machine of now. On the machine of the record and by its code the result is
the same bytes, and the same final parameters. Elsewhere the last bits of sums differ, and curves
with them, as between any two runs of a chaotic system: then the scores of the runs are compared as
two independent samples.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Literal

import numpy as np
import numpy.typing as npt
from scipy import stats

from suite.cells import Cell, departures, find_device, lacking
from suite.configs import config_from_plain, plain_config
from suite.plain import finite, plain_interval
from suite.protocols import find_protocol, rules_for
from suite.provenance import versions
from suite.record_format import Record, episode_table, render_csv
from suite.registry import engine_for, find_task, load_algorithm, source_hash
from suite.scores import headline_split, seed_scores
from suite.statistics import Interval

Verdict = Literal["identical", "consistent", "different"]

CONFIDENCE = 0.95
"""Of the interval that must hold no difference; so many faithful repetitions are told so."""


@dataclass(frozen=True)
class SeedPair:
    """One seed, recorded and repeated."""

    seed: int
    recorded: float
    """Score; the floor's if the run failed."""
    repeated: float
    statuses: tuple[str, str]
    """Recorded and repeated."""
    differs_at: int | None
    """Agent steps at the first evaluation with another return or length; None: there is none."""


@dataclass(frozen=True)
class Comparison:
    """A record beside its repetition."""

    verdict: Verdict
    difference: Interval
    """Mean score repeated less mean score recorded, with Welch's interval; its ends are NaN where
    there is no spread to take it from."""
    pairs: tuple[SeedPair, ...]
    departures: tuple[str, ...]
    """What is not as it was when the record was made: ``source_hash``, ``versions.torch``, ..."""

    def plain(self) -> dict[str, object]:
        """For JSON."""
        pairs = [
            asdict(pair) | {"recorded": finite(pair.recorded), "repeated": finite(pair.repeated)}
            for pair in self.pairs
        ]
        return asdict(self) | {"difference": plain_interval(self.difference), "pairs": pairs}


def repetition(record: Record, device: str | None = None) -> Cell:
    """What to run so that a record comes about again.

    Args:
        record: may come from another version of the suite.
        device: instead of the record's own.

    Raises:
        ValueError: this version of the suite or this machine cannot run it.
    """
    name = str(record.key["protocol"])
    rules = rules_for(find_protocol(name), record.algorithm, record.task)
    if rules.version != record.protocol_version:
        commits = ", ".join(sorted({run.commit[:10] or "unknown" for run in record.runs}))
        raise ValueError(
            f"it was made under version {record.protocol_version} of protocol {name}, here it is"
            f" {rules.version}; go back to the commit that made it: {commits}"
        )
    entry = load_algorithm(record.algorithm)
    try:
        config = config_from_plain(entry, record.config)
    except TypeError as error:
        raise ValueError(f"{record.algorithm} has another config now: {error}") from error
    task = find_task(record.task)
    engine = engine_for(task, record.engine)
    missing, install = lacking(engine, task)
    cell = Cell(
        algorithm=record.algorithm,
        task=task,
        engine=engine.name,
        protocol=rules,
        steps=record.budget,
        seeds=record.seeds,
        config=plain_config(config),
        device=find_device(device or record.runs[0].device),
        threads=record.runs[0].threads,
        blank=None,
        missing_packages=missing,
        install=install,
    )
    if missing:
        return cell
    found = versions(engine.packages)
    blank = replace(
        record,
        key={**record.key, "versions": {name: found[name] for name in engine.packages}},
        config=cell.config,
        versions=found,
        source_hash=source_hash(record.algorithm),
        runs=(),
        episodes=episode_table([]),
    )
    return replace(cell, blank=blank)


def groups(record: Record) -> list[tuple[int, ...]]:
    """Seeds that trained together, group by group."""
    together: dict[tuple[int, ...], list[int]] = {}
    for run in record.runs:
        together.setdefault(tuple(run.trained_with), []).append(run.seed)
    return [tuple(seeds) for seeds in together.values()]


def compare(record: Record, repeated: Record) -> Comparison:
    """Judge a repetition; both records hold the same seeds.

    Raises:
        ValueError: a run of the repetition crashed: that says nothing about the record.
    """
    for run in repeated.runs:
        if run.status == "crashed":
            raise ValueError(f"seed {run.seed} crashed every time: {run.reason}")
    statuses = [
        (one.status, other.status) for one, other in zip(record.runs, repeated.runs, strict=True)
    ]
    before, after = seed_scores(record), seed_scores(repeated)
    is_same = render_csv(record.episodes) == render_csv(repeated.episodes) and all(
        (one.status, one.digest) == (other.status, other.digest)
        for one, other in zip(record.runs, repeated.runs, strict=True)
    )
    difference = _welch(after, before)
    if is_same:
        verdict: Verdict = "identical"
    else:
        verdict = "consistent" if difference.low <= 0 <= difference.high else "different"
    firsts = [_first_difference(record, repeated, seed) for seed in record.seeds]
    pairs = zip(record.seeds, before.tolist(), after.tolist(), statuses, firsts, strict=True)
    changed = set(departures(record, repeated, complete=False))
    for part in ("cpu", "gpu"):
        if _machines(record, part) != _machines(repeated, part):
            changed.add(f"machine.{part}")
    return Comparison(
        verdict, difference, tuple(SeedPair(*pair) for pair in pairs), tuple(sorted(changed))
    )


def _machines(record: Record, part: str) -> set[object]:
    return {run.machine.get(part) for run in record.runs}


def _first_difference(record: Record, repeated: Record, seed: int) -> int | None:
    """Step of the first evaluation of a seed that is not the same in both."""
    rows = [_rows(each, seed) for each in (record, repeated)]
    steps = sorted(set(rows[0]) | set(rows[1]))
    return next((step for step in steps if rows[0].get(step) != rows[1].get(step)), None)


def _rows(record: Record, seed: int) -> dict[int, list[tuple[float, int]]]:
    """Returns and lengths of a seed's headline episodes by step."""
    columns = record.columns
    own = (columns["seed"] == seed) & (columns["split"] == headline_split(record))
    rows: dict[int, list[tuple[float, int]]] = {}
    for step, total, length in zip(
        *(columns[name][own].tolist() for name in ("step", "return", "length")), strict=True
    ):
        rows.setdefault(step, []).append((total, length))
    return rows


def _welch(first: npt.NDArray[np.float64], second: npt.NDArray[np.float64]) -> Interval:
    """Difference of two means with Welch's t interval."""
    value = float(first.mean() - second.mean())
    if np.ptp(first) == np.ptp(second) == 0 and len(first) > 1:
        return Interval(value, value, value)
    if min(len(first), len(second)) < 2:
        return Interval(value, float("nan"), float("nan"))
    errors = np.array([first.var(ddof=1) / len(first), second.var(ddof=1) / len(second)])
    freedom = errors.sum() ** 2 / (errors**2 / [len(first) - 1, len(second) - 1]).sum()
    reach = float(stats.t.isf((1 - CONFIDENCE) / 2, freedom) * np.sqrt(errors.sum()))
    return Interval(value, value - reach, value + reach)


def workplace(record: Record, live: Path) -> Path:
    """Where the repetition of a record is kept meanwhile, below the folder of live state."""
    return live / "reproduce" / record.digest[:16]
