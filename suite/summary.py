"""What a record comes to, in the few numbers that a command prints about it."""

from __future__ import annotations

from collections import Counter
from dataclasses import asdict, dataclass
from pathlib import Path

from suite import leaderboard
from suite.cells import Cell, State
from suite.plain import plain_interval
from suite.records import record_paths
from suite.scores import score_table
from suite.statistics import Interval


@dataclass(frozen=True)
class Summary:
    """One cell after a bench."""

    algorithm: str
    task: str
    fit: str
    protocol: str
    """Or ``trial``."""
    state: str
    seeds: int
    """That have a result."""
    failed: dict[str, int]
    """Runs that are not ok, by status."""
    score: Interval | None
    """Mean return over runs; the interval's ends are NaN where there are too few. None: no runs."""
    normalised: Interval | None
    hours: float
    """Of training, all groups of seeds added up."""
    record: str
    """Path of the record's JSON."""

    @property
    def is_sound(self) -> bool:
        """Whether it holds what was asked for."""
        return self.state.startswith("complete") and "crashed" not in self.failed

    def plain(self) -> dict[str, object]:
        """For JSON."""
        intervals = {name: plain_interval(getattr(self, name)) for name in ("score", "normalised")}
        return asdict(self) | intervals


def summarise(cell: Cell, state: State, results: Path) -> Summary:
    """Sum up a cell by its record, if there is one."""
    blank, record = cell.record, state.record
    _, path = record_paths(results, blank.folder, blank.task, blank.algorithm)
    scored = None
    if record is not None and record.runs:
        scores = score_table([record]).scores[record.algorithm][record.task]
        scored = leaderboard.Entry(record, scores)
    runs = record.runs if record else ()
    hours = {run.trained_with: run.ledger[-1].wall_seconds / 3600 for run in runs if run.ledger}
    return Summary(
        algorithm=cell.algorithm,
        task=cell.task.id,
        fit=blank.fit,
        protocol=blank.protocol,
        state=state.word,
        seeds=len(runs),
        failed=dict(Counter(run.status for run in runs if run.status != "ok")),
        score=scored.mean() if scored else None,
        normalised=scored.mean_normalised() if scored else None,
        hours=sum(hours.values()),
        record=str(path),
    )
