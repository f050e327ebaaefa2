"""The leaderboards as one HTML page that needs nothing else: sorted, filtered, curves on hover.

Everything stands in the page as text, also without its script. Names from records pass through
:func:`html.escape`; the script never turns text into markup, and loads nothing.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from html import escape
from importlib.resources import files
from urllib.parse import quote

import numpy as np

from suite.curves import curve_limits
from suite.figures import short_count, short_number
from suite.leaderboard import REFERENCE, Entry, Row
from suite.markdown import DASH, number, plural
from suite.names import family_of, name_in_family
from suite.pages.common import (
    HTML,
    MARKER,
    STAR,
    Context,
    Files,
    common_decimals,
    interval_text,
    rank_text,
    record_path,
    runs_by_tasks,
    seeds_text,
)
from suite.records import Record
from suite.scores import task_bounds

MOST_SEEDS_DRAWN = 20
_BOX = 240, 90
"""Width and height of a curve."""

Cell = tuple[str, float | str]
"""Markup, and what it is sorted by."""


def html_page(contexts: Sequence[Context]) -> Files:
    """Write the page about all protocols."""
    boards, cells = [], []
    for context in contexts:
        boards += _board_rows(context)
        cells += _cell_rows(context)
    protocols = [context.name for context in contexts]
    families = sorted({family_of(task) for one in contexts for task in one.tasks})
    resources = files("suite.pages")
    parts = {
        "style": resources.joinpath("leaderboard.css").read_text("utf-8"),
        "script": resources.joinpath("leaderboard.js").read_text("utf-8"),
        "protocols": _options(protocols),
        "families": _options(families),
        "boards": _table("boards", _BOARD_HEADER, boards),
        "cells": _table("cells", _CELL_HEADER, cells),
    }
    text = _PAGE
    for name, part in parts.items():
        text = text.replace(f"<!--{name}-->", part, 1)
    return {HTML: text.encode()}


_BOARD_HEADER = (
    "protocol",
    "family",
    "rank",
    "algorithm",
    "IQM [95 %]",
    "optimality gap",
    "mean",
    "median",
    f"P(better than {REFERENCE})",
    "worst task",
    "runs x tasks",
    "status",
)
_CELL_HEADER = (
    "protocol",
    "family",
    "task",
    "algorithm",
    "mean return [95 %]",
    "normalised",
    "seeds",
    "failed",
    "agent steps",
    "method",
    "record",
    "run it again",
)

_PAGE = f"""<!DOCTYPE html>
{MARKER}
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy"
 content="default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'">
<title>Leaderboards</title>
<style>
<!--style--></style>
</head>
<body>
<h1>Leaderboards</h1>
<p>From the records in <code>results/</code>; <a href="README.md">what they mean</a>. A click on a
title sorts, a second one the other way round. Rows of different protocols do not compare.</p>
<p class="controls">
<label>Protocol <select id="protocol"><!--protocols--></select></label>
<label>Family <select id="family"><!--families--></select></label>
<label>Search <input id="search" type="search"></label>
<span id="count" role="status"></span>
</p>
<h2>Over tasks</h2>
<p>Brackets are 95 % intervals over training runs. {STAR}</p>
<!--boards-->
<h2>Tasks</h2>
<p>Move over a row for its learning curves: thick the mean of all seeds, thin every seed.</p>
<!--cells-->
<div id="curves" hidden></div>
<script>
<!--script--></script>
</body>
</html>
"""


def _options(names: Iterable[str]) -> str:
    options = "".join(f"<option>{escape(name)}</option>" for name in names)
    return f'<option value="">all</option>{options}'


def _table(name: str, header: Sequence[str], rows: Sequence[str]) -> str:
    titles = "".join(f'<th scope="col"><button>{escape(one)}</button></th>' for one in header)
    body = "\n".join(rows)
    return (
        f'<table id="{name}">\n<thead><tr>{titles}</tr></thead>\n<tbody>\n{body}\n</tbody></table>'
    )


def _row(protocol: str, family: str, cells: Sequence[Cell], more: str = "") -> str:
    shown = "".join(
        f'<td data-value="{escape(str(value))}">{markup}</td>' for markup, value in cells
    )
    names = f'data-protocol="{escape(protocol)}" data-family="{escape(family)}"'
    return f"<tr {names}{more}>{shown}</tr>"


def _word(text: str) -> Cell:
    return escape(text), text


def _amount(text: str, value: float | None) -> Cell:
    return escape(text), "" if value is None or math.isnan(value) else value


def _board_rows(context: Context) -> list[str]:
    """Rows over several tasks, of the records that most share conditions with."""
    rows = []
    for family, tasks in context.scopes(0) if context.records else []:
        board = context.board(0, tasks)
        for row in [*board.rows, *board.incomplete]:
            rows.append(_row(context.name, family, _board_cells(context, family, row)))
    return rows


def _board_cells(context: Context, family: str, row: Row) -> list[Cell]:
    worst = DASH if row.worst is None else f"{number(row.worst[1], 2)} ({row.worst[0]})"
    entries = list(row.entries.values())
    claim = row.claim.label if not row.missing else f"lacks {plural(len(row.missing), 'task')}"
    iqm = interval_text(row.iqm)
    if row.bounds:
        iqm = "[{}, {}]".format(*(number(end, 2) for end in row.bounds["iqm"]))
    better = interval_text(row.improvement) + (" *" if row.is_sure else "")
    return [
        _word(context.name),
        _word(family or "all"),
        _amount(rank_text(row.rank), row.rank.best if row.rank else None),
        _word(row.algorithm),
        _amount(iqm, row.iqm.value if row.iqm else None),
        _amount(interval_text(row.gap), row.gap.value if row.gap else None),
        _amount(DASH if row.mean is None else number(row.mean, 2), row.mean),
        _amount(DASH if row.median is None else number(row.median, 2), row.median),
        _amount(better, row.improvement.value if row.improvement else None),
        _amount(worst, row.worst[1] if row.worst else None),
        _word(runs_by_tasks(entries)),
        _word(context.status(claim, entries)),
    ]


def _cell_rows(context: Context) -> list[str]:
    rows = []
    for group in context.groups:
        by_task: dict[str, list[Entry]] = {}
        for own in group.entries.values():
            for task, entry in own.items():
                by_task.setdefault(task, []).append(entry)
        for task, entries in sorted(by_task.items()):
            decimals = common_decimals(entries)
            for entry in entries:
                family, more = family_of(task), _curve_data(context, entry.record)
                rows.append(_row(context.name, family, _task_cells(context, entry, decimals), more))
    return rows


def _task_cells(context: Context, entry: Entry, decimals: int) -> list[Cell]:
    record, mean, normalised = entry.record, entry.mean(), entry.mean_normalised()
    family, name = family_of(record.task), name_in_family(record.task)
    path = f"results/{record_path(record)}"
    failed = sum(status != "ok" for status in entry.scores.statuses)
    link = f'<a href="../{escape(quote(path))}">record</a>'
    method = f"{record.fit} ({record.adapter})" if record.adapter else record.fit
    command = f"<code>make reproduce RECORD={escape(path)}</code>"
    return [
        _word(record.folder),
        _word(family),
        _word(name),
        _word(record.algorithm),
        _amount(interval_text(mean, decimals), mean.value if mean else None),
        _amount(interval_text(normalised), normalised.value if normalised else None),
        _amount(seeds_text(entry), len(record.runs)),
        _amount(str(failed), failed),
        _amount(short_count(record.budget), record.budget),
        _word(context.status(method, [entry])),
        (link, path),
        (command, path),
    ]


def _curve_data(context: Context, record: Record) -> str:
    """Attributes of a row: points of the mean, then of each seed, and the ends of the axes."""
    curve = context.curve(record)
    if not curve.steps.size:
        return ""
    bounds = task_bounds(record)
    floor = bounds.floor if bounds else None
    low, high = curve_limits([curve], floor)
    x = np.rint(curve.steps / max(1, int(curve.steps[-1])) * _BOX[0]).tolist()
    values = np.stack([curve.mean(floor), *curve.returns[:MOST_SEEDS_DRAWN]])
    y = np.rint(np.clip((high - values) / (high - low), 0, 1) * _BOX[1]).tolist()
    lines = [
        " ".join(f"{a:.0f},{b:.0f}" for a, b in zip(x, line, strict=True) if b == b)  # not NaN
        for line in y
    ]
    ends = f"{short_number(low)}|{short_number(high)}|{short_count(int(curve.steps[-1]))}"
    return f' data-curves="{";".join(lines)}" data-ends="{ends}"'
