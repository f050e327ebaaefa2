"""Predictions: how long a bench would take, from the throughput in records."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from suite.cells import Cell
from suite.records import LedgerRow, Record


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
    family, else on anything; those of smoke, with its tiny networks, say nothing. Time is taken to
    grow with steps and seeds in proportion.

    Returns:
        None if the algorithm has no records.
    """
    own = [
        record
        for record in records
        if record.algorithm == cell.algorithm and record.protocol != "smoke"
    ]
    bases = {
        cell.task.id: [record for record in own if record.task == cell.task.id],
        cell.task.family: [r for r in own if r.task.split("/", 1)[0] == cell.task.family],
        "other families": own,
    }
    for name, group in bases.items():
        costs = _costs(group)
        if costs:
            seconds = statistics.median(cost for cost, _ in costs) * cell.steps * seeds
            memory = statistics.median(memory for _, memory in costs)
            return Prediction(seconds / 3600, memory, f"{cell.algorithm} on {name}")
    return None


def _costs(records: Sequence[Record]) -> list[tuple[float, float]]:
    """Wall seconds per agent step and seed, and peak memory in MB, of each run."""
    ends: list[tuple[LedgerRow, int]] = [
        (run.ledger[-1], len(run.trained_with))
        for record in records
        for run in record.runs
        if run.ledger and run.ledger[-1].step
    ]
    return [(end.wall_seconds / end.step / seeds, end.peak_memory_mb) for end, seeds in ends]
