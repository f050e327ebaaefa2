"""Scores that others have published: hollow, never ranked, each with its source."""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from suite.figures import short_count
from suite.markdown import escape, number, table
from suite.pages.common import Draft
from suite.records import Record


@dataclass(frozen=True)
class Published:
    """A score that others have published: a mean over several seeds at the end of training."""

    algorithm: str
    task: str
    steps: int
    """Agent steps per seed."""
    score: float
    spread: float | None
    seeds: int
    source: str
    """Repository and file."""
    metric: str
    """What was measured, and what the spread is."""


@cache
def published_scores() -> tuple[Published, ...]:
    """Read the published scores that come with the suite."""
    with Path(__file__).parents[1].joinpath("published.csv").open(encoding="utf-8") as file:
        return tuple(
            Published(
                algorithm=row["algorithm"],
                task=row["task"],
                steps=int(row["steps"]),
                score=float(row["score"]),
                spread=float(row["spread"]) if row["spread"] else None,
                seeds=int(row["seeds"]),
                source=row["source"],
                metric=row["metric"],
            )
            for row in csv.DictReader(file)
        )


def published_for(record: Record) -> list[Published]:
    """Published scores of the same pair at 9/10 to 11/10 of its budget."""
    return [
        one
        for one in published_scores()
        if (one.algorithm, one.task) == (record.algorithm, record.task)
        and 10 * abs(one.steps - record.budget) <= record.budget
    ]


def published_table(
    draft: Draft, published: Mapping[str, Sequence[Published]], decimals: int
) -> list[str]:
    """Write the published scores of some pairs, by algorithm; nothing if there are none."""
    rows = [
        [
            f"○ {draft.algorithm(one.algorithm)}",
            escape(one.source),
            escape(one.metric),
            short_count(one.steps),
            number(one.score, decimals) + _spread_text(one, decimals),
            str(one.seeds),
        ]
        for of_pair in published.values()
        for one in of_pair
    ]
    header = ["published", "source", "what was measured", "agent steps", "score", "seeds"]
    return [table(header, rows, text_columns=3)] if rows else []


def _spread_text(published: Published, decimals: int) -> str:
    return "" if published.spread is None else f" ± {number(published.spread, decimals)}"
