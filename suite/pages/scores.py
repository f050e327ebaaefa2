"""The page about a table of scores from anywhere."""

from __future__ import annotations

import math

from suite.figures import (
    PROFILE_THRESHOLDS,
    Line,
    LinePanel,
    Panel,
    Point,
    improvement_figure,
    interval_figure,
    line_figure,
    svg_bytes,
)
from suite.markdown import DASH, escape, estimate, table
from suite.outside import OutsideRow, OutsideSummary, Table, generator, tasks_of
from suite.pages.common import Files, rank_text, render
from suite.ranking import HEADLINE_TASKS
from suite.statistics import Interval, IntervalKind, performance_profile

PATH = "scores.md"

_KINDS = {
    "default": "small-sample stratified bootstrap",
    "rliable": "percentiles of the stratified bootstrap, as rliable 1.2.0 gives them",
}


def scores_page(scores: Table, summary: OutsideSummary, ci: IntervalKind, reps: int) -> Files:
    """Write the page with its figures."""
    tasks = tasks_of(scores)
    files: Files = {}
    text = [
        "# Scores",
        f"{len(summary.rows)} algorithms on {len(tasks)} tasks, normalised: 0 is a task's floor "
        f"and 1 its cap. Brackets are 95 % intervals over runs ({_KINDS[ci]}, {reps:,} "
        "replicates). A rank such as 2-4 is what simultaneous comparisons of all pairs leave open. "
        f"Over fewer than {HEADLINE_TASKS} tasks an aggregate is for orientation.",
        _table(summary),
    ]
    if summary.warnings:
        text += ["## Warnings", "\n".join(f"- {escape(line)}" for line in summary.warnings)]
    complete = [row for row in summary.rows if not row.missing]
    if complete:
        files["scores.svg"] = _intervals(complete)
        files["scores.profiles.svg"] = _profiles(complete, scores, ci)
        text += [
            "## Intervals",
            "![Aggregates with their intervals](scores.svg)",
            "## Performance profiles",
            "![Share of runs above a score](scores.profiles.svg)",
            "*Share of runs above a normalised score. Bands: 95 % at each point, not of the whole "
            "profile.*",
        ]
    if len(complete) > 1:
        pairs = {
            (one, other): interval
            for one, others in summary.improvement.items()
            for other, interval in others.items()
        }
        figure = improvement_figure([row.algorithm for row in complete], pairs)
        files["scores.improvement.svg"] = svg_bytes(figure)
        text += [
            "## Probability of improvement",
            "![Probability of improvement](scores.improvement.svg)",
            "*How probably a run of the row's algorithm beats one of the column's. Bold: the "
            "interval excludes one half.*",
        ]
    return {**files, PATH: render(text)}


def _table(summary: OutsideSummary) -> str:
    header = ["rank", "algorithm", "IQM", "mean", "median", "optimality gap", "runs x tasks"]
    rows = []
    for row in summary.rows:
        fewest, most = row.runs
        runs = str(fewest) if fewest == most else f"{fewest}-{most}"
        cells = [_text(interval) for interval in row.aggregates.values()]
        rows.append([rank_text(row.rank), escape(row.algorithm), *cells, f"{runs} x {row.tasks}"])
    return table(header, rows, text_columns=2)


def _text(interval: Interval) -> str:
    """An estimate; of an incomplete row its bounds."""
    if math.isnan(interval.value):
        return f"{DASH} [{interval.low:.3f}, {interval.high:.3f}]"
    ends = None if math.isnan(interval.low) else (interval.low, interval.high)
    return estimate(interval.value, ends, 3)


def _intervals(rows: list[OutsideRow]) -> bytes:
    titles = {"iqm": "interquartile mean", "optimality_gap": "optimality gap"}
    panels = [
        Panel(
            title,
            tuple(
                Point(row.algorithm, *row.aggregates[name], hollow=row.rank is None) for row in rows
            ),
        )
        for name, title in titles.items()
    ]
    return svg_bytes(interval_figure(panels, "normalised score"))


def _profiles(rows: list[OutsideRow], scores: Table, ci: IntervalKind) -> bytes:
    lines = []
    for row in rows:
        columns = list(scores[row.algorithm].values())
        band = performance_profile(columns, PROFILE_THRESHOLDS, rng=generator(ci), ci=ci)
        lines.append(Line(row.algorithm, PROFILE_THRESHOLDS, band))
    panel = LinePanel("normalised score", tuple(lines))
    return svg_bytes(line_figure([panel], "share of runs above"))
