"""Predictions: how long a bench would take, from the throughput in records."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from suite.cells import Cell
from suite.names import UnknownName, family_of
from suite.records import LedgerRow, Record
from suite.registry import load_algorithm

_NO_LEARNER = "random"
"""Learns nothing, so its cost says nothing of what a learner's networks make of a family."""


@dataclass(frozen=True)
class Prediction:
    """What some seeds of a cell would take, trained together."""

    hours: float
    """Of training; evaluations come on top."""
    memory_mb: float
    """Of the process, at its peak."""
    basis: str
    """What it was taken from, e.g. ``ppo on mujoco``."""


def predict(cell: Cell, seeds: int, records: Iterable[Record]) -> Prediction | None:
    """Predict what it takes to train some seeds of a cell together.

    From the records of the same algorithm on the same task if there are any, else on the same
    family, else on anything, times what the family costs other learners beyond what those cost
    elsewhere: learners that replay, or do not, as the algorithm does, if there are any. Records of
    smoke, with its tiny networks, say nothing. Time is taken to grow with steps and seeds in
    proportion.

    Returns:
        None if the algorithm has no records.
    """
    known = [record for record in records if record.protocol != "smoke"]
    own = [record for record in known if record.algorithm == cell.algorithm]
    bases = {
        cell.task.id: [record for record in own if record.task == cell.task.id],
        cell.task.family: [record for record in own if _family(record) == cell.task.family],
        "other families": own,
    }
    for name, group in bases.items():
        costs = _costs(group)
        if costs:
            factor, remark = 1.0, ""
            if group is own:
                factor, remark = _family_factor(cell.task.family, cell.algorithm, known)
            seconds = _median_seconds(costs) * cell.steps * seeds * factor
            memory = statistics.median(memory for _, memory in costs)
            return Prediction(seconds / 3600, memory, f"{cell.algorithm} on {name}{remark}")
    return None


def _family_factor(family: str, algorithm: str, records: Sequence[Record]) -> tuple[float, str]:
    """How much dearer a family is than others to other learners; 1 if no record tells."""
    factors = {}
    for other in sorted({record.algorithm for record in records} - {algorithm, _NO_LEARNER}):
        theirs = [record for record in records if record.algorithm == other]
        here = _costs([record for record in theirs if _family(record) == family])
        elsewhere = _costs([record for record in theirs if _family(record) != family])
        if here and elsewhere:
            factors[other] = _median_seconds(here) / _median_seconds(elsewhere)
    # who updates once per rollout says little of who updates at every step
    policy = _policy(algorithm)
    factors = {name: each for name, each in factors.items() if _policy(name) == policy} or factors
    if not factors:
        return 1.0, ""
    factor = statistics.median(factors.values())
    return factor, f", {factor:.2g} times as dear for {', '.join(factors)}"


def _policy(algorithm: str) -> str:
    """``on``, ``off`` or ``none``; empty for an algorithm of old records that is gone."""
    try:
        return load_algorithm(algorithm).policy
    except UnknownName:
        return ""


def _family(record: Record) -> str:
    return family_of(record.task)


def _median_seconds(costs: Sequence[tuple[float, float]]) -> float:
    return statistics.median(seconds for seconds, _ in costs)


def _costs(records: Sequence[Record]) -> list[tuple[float, float]]:
    """Wall seconds per agent step and seed, and peak memory in MB, of each run."""
    ends: list[tuple[LedgerRow, int]] = [
        (run.ledger[-1], len(run.trained_with))
        for record in records
        for run in record.runs
        if run.ledger and run.ledger[-1].step
    ]
    return [(end.wall_seconds / end.step / seeds, end.peak_memory_mb) for end, seeds in ends]
