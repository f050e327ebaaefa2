"""The validation page: our scores beside those that others have published."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from matplotlib.figure import Figure

from suite.figures import Panel, Point, interval_figure, short_count
from suite.leaderboard import Entry, split_by_conditions
from suite.markdown import DASH, number, plural, table
from suite.names import name_in_family
from suite.pages.common import Draft, common_decimals, fit_text, score_text
from suite.pages.published import Published, published_for, published_table

_EXPLANATION = (
    "Published scores come without their runs, so they are drawn hollow, are not ranked, and name "
    "their source. A pair's published range holds the scores of the same algorithm and task at "
    "9/10 to 11/10 of its budget. Implementations differ by a factor of two at budgets like these: "
    "a range of several sources means more than any single number."
)


def validation_sections(draft: Draft) -> list[str]:
    """Write a section per task; nothing is ranked."""
    text = [_EXPLANATION]
    for task in draft.context.tasks:
        records = [record for record in draft.context.records if record.task == task]
        entries = {
            algorithm: own[task]
            for group in split_by_conditions(records)
            for algorithm, own in group.entries.items()
        }
        if entries:
            text += _task_section(draft, task, dict(sorted(entries.items())))
    return text


def _task_section(draft: Draft, task: str, entries: Mapping[str, Entry]) -> list[str]:
    published = {name: published_for(entry.record) for name, entry in entries.items()}
    decimals = common_decimals(entries.values())
    path = draft.context.task_path(task).removesuffix(".md") + ".published.svg"
    caption = (
        "Our scores and the published ones. Filled: our mean, with its 95 % interval; grey ticks: "
        "our runs; hollow: published."
    )
    text = [
        f"## {draft.task(task)}",
        draft.figure(path, _figure(task, entries, published), caption),
        _own_table(draft, entries, published, decimals),
    ]
    return [*text, *published_table(draft, published, decimals)]


def _own_table(
    draft: Draft,
    entries: Mapping[str, Entry],
    published: Mapping[str, Sequence[Published]],
    decimals: int,
) -> str:
    header = [
        "ours",
        "against the published",
        "agent steps",
        "mean return",
        "every seed",
        "published range",
        "training time",
        "method",
    ]
    rows = []
    for name, entry in entries.items():
        scores = zip(entry.scores.raw, entry.scores.statuses, strict=True)
        every = [DASH if status == "crashed" else number(one, decimals) for one, status in scores]
        rows.append(
            [
                draft.algorithm(name),
                _compare(entry, published[name]),
                short_count(entry.record.budget),
                score_text(entry, decimals),
                ", ".join(every),
                _range_text(published[name], decimals),
                draft.costs([entry])[1],
                fit_text([entry]),
            ]
        )
    return table(header, rows, text_columns=2)


def _figure(
    task: str, entries: Mapping[str, Entry], published: Mapping[str, Sequence[Published]]
) -> Figure:
    points = []
    for name, entry in entries.items():
        others = tuple(one.score for one in published[name])
        mean = entry.mean()
        value, low, high = mean or (math.nan, math.nan, math.nan)
        runs = tuple(map(float, entry.raw)) if mean else ()
        points.append(Point(name, value, low, high, runs=runs, published=others))
    return interval_figure([Panel(name_in_family(task), tuple(points), span=())], "mean return")


def _range_text(published: Sequence[Published], decimals: int) -> str:
    if not published:
        return DASH
    low, high = (number(end, decimals) for end in _range(published))
    count = plural(len(published), "score")
    return f"{low} to {high} ({count})" if len(published) > 1 else f"{low} ({count})"


def _range(published: Sequence[Published]) -> tuple[float, float]:
    scores = [one.score for one in published]
    return min(scores), max(scores)


def _compare(entry: Entry, published: Sequence[Published]) -> str:
    """Where our mean lies, and whether its interval reaches the published range."""
    mean = entry.mean()
    if mean is None or not published:
        return DASH
    low, high = _range(published)
    if low <= mean.value <= high:
        return "inside"
    side = "below" if mean.value < low else "above"
    reaches = mean.low <= high and mean.high >= low  # False where there is no interval
    return f"{side}, interval reaches it" if reaches else side
