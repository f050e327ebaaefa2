"""The page of an algorithm in a protocol: every task, every seed's curve, its settings."""

from __future__ import annotations

from collections.abc import Sequence

from suite.curves import MOST_PANELS, CurvePanel, algorithm_figure
from suite.leaderboard import Entry
from suite.markdown import DASH, escape, file_name, number, table
from suite.names import name_in_family
from suite.pages.common import (
    ALGORITHMS,
    Context,
    Draft,
    Files,
    common_decimals,
    fit_text,
    interval_text,
    rank_text,
    record_path,
    run_counts,
    runs_by_tasks,
    score_text,
    source_line,
)
from suite.pages.published import published_for, published_table
from suite.protocols import canonical_json
from suite.ranking import claim
from suite.records import Record
from suite.scores import task_bounds


def algorithm_page(context: Context, algorithm: str) -> Files:
    """Write the page of an algorithm with its figure."""
    records = context.by_algorithm[algorithm]
    draft = Draft(context, context.algorithm_path(algorithm), records)
    about = f" {draft.link('What it is', f'{ALGORITHMS}#{file_name(algorithm)}')}."
    text = [
        f"# {escape(algorithm)}",
        f"Protocol {draft.link(context.name, context.path)}. {source_line(records)}"
        + (about if algorithm in context.described else ""),
    ]
    entries = {
        task: group.entries[algorithm][task]
        for group in context.groups
        for task in group.entries.get(algorithm, {})
    }
    text += _aggregates(draft, algorithm)
    text += ["## Tasks", *_curves(draft, entries), _task_table(draft, entries)]
    published = {task: published_for(entry.record) for task, entry in entries.items()}
    if rows := published_table(draft, published, common_decimals(entries.values())):
        text += ["## Published scores", "Not ranked; at about the same budget.", *rows]
    text += ["## Settings", _settings(records)]
    text += ["## Records", _records(draft, records), draft.hardware.legend()]
    return draft.finish(text)


def _aggregates(draft: Draft, algorithm: str) -> list[str]:
    """Its rows on the leaderboards of the first group."""
    context, rows = draft.context, []
    for family, tasks in context.scopes(0):
        board = context.board(0, tasks)
        for row in [row for row in board.rows if row.algorithm == algorithm]:
            rows.append(
                [
                    escape(family) or "all families",
                    rank_text(row.rank),
                    interval_text(row.iqm),
                    interval_text(row.gap),
                    runs_by_tasks(list(row.entries.values())),
                    row.claim.label,
                ]
            )
    header = ["over", "rank", "IQM", "optimality gap", "runs x tasks", "status"]
    return [table(header, rows)] if rows and context.is_ranked else []


def _curves(draft: Draft, entries: dict[str, Entry]) -> list[str]:
    panels = []
    for task, entry in entries.items():
        curve = draft.context.curve(entry.record)
        if curve.steps.size:
            ends = task_bounds(entry.record) or (None, None)
            panels.append(CurvePanel(name_in_family(task), curve, *ends))
    if not panels:
        return []
    left_out = len(panels) - MOST_PANELS
    caption = (
        f"Mean return of an evaluation over agent steps, {run_counts(entries.values())} runs per "
        "task. Thick: mean over the runs, failed ones counting as the floor from then on; thin: "
        "every run, with a cross where it failed; dotted: floor and cap."
        + (f" {left_out} more tasks are not drawn." if left_out > 0 else "")
    )
    path = draft.path.removesuffix(".md") + ".tasks.svg"
    return [draft.figure(path, algorithm_figure(panels), caption)]


def _task_table(draft: Draft, entries: dict[str, Entry]) -> str:
    rows = []
    for task, entry in entries.items():
        record, decimals = entry.record, common_decimals([entry])
        method = f"{record.fit} ({record.adapter})" if record.adapter else fit_text([entry])
        worst = number(float(entry.raw.min()), decimals) if entry.is_scored else DASH
        rows.append(
            [
                draft.task(task),
                score_text(entry, decimals),
                interval_text(entry.mean_normalised()),
                worst,
                runs_by_tasks([entry]).split(" x ")[0],
                *draft.costs([entry]),
                escape(method),
                draft.context.status(claim(entry.raw.size, 1).label, [entry]),
            ]
        )
    header = ["task", "mean return", "normalised", "worst run", "runs", "agent steps"]
    return table([*header, "training time", "method", "status"], rows)


def _settings(records: Sequence[Record]) -> str:
    """The resolved config, and on how many tasks each value holds where they differ."""
    names = sorted({name for record in records for name in record.config})
    rows = []
    for name in names:
        values: dict[str, list[str]] = {}
        for record in records:
            if name in record.config:
                task = name_in_family(record.task)
                values.setdefault(canonical_json(record.config[name]), []).append(task)
        alike = len(values) == 1
        for value, tasks in sorted(values.items()):
            where = "all" if alike else f"{len(tasks)}: {', '.join(tasks[:4])}"
            rows.append([escape(name), escape(value), escape(where)])
    return table(["setting", "value", "tasks"], rows, text_columns=3)


def _records(draft: Draft, records: Sequence[Record]) -> str:
    """Each record, and the command that runs it again."""
    rows = []
    for record in sorted(records, key=lambda record: record.task):
        path = escape(f"results/{record_path(record)}")
        rows.append([draft.task(record.task), f"make reproduce RECORD={path}"])
    return table(["task", "run it again"], rows, text_columns=2)
