"""Sections of a protocol's page: a leaderboard over some tasks, or their scores side by side."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from suite.figures import (
    PROFILE_THRESHOLDS,
    Line,
    LinePanel,
    Panel,
    Point,
    improvement_figure,
    interval_figure,
    line_figure,
)
from suite.leaderboard import (
    REFERENCE,
    SEED,
    Board,
    Entries,
    Entry,
    Row,
    common_board,
    efficiency,
    failure_counts,
    row_scores,
)
from suite.markdown import DASH, escape, number, plural, table
from suite.names import name_in_family
from suite.pages.common import (
    Draft,
    common_decimals,
    fit_text,
    interval_text,
    rank_text,
    run_counts,
    runs_by_tasks,
    score_text,
)
from suite.statistics import Interval, improvement_intervals, performance_profile

PAIR_REPS = 2_000
"""Replicates behind the figure of all pairs."""
_MOST_LACKS = 4
"""Missing tasks that a row names; of more it gives the number."""


def board_section(
    draft: Draft, title: str, group: int, tasks: Sequence[str], figure: str
) -> list[str]:
    """Write a leaderboard over some tasks, with its figure and its incomplete rows.

    With too few tasks for a headline, or in a protocol that is not ranked, the scores of each task
    come first.

    Args:
        draft: gets the figure.
        title: heading of the section.
        group: number of the context's group.
        tasks: that the protocol has here.
        figure: path for the figure.

    Returns:
        Blocks of text.
    """
    ranked = draft.context.is_ranked
    board = draft.context.board(group, tasks)
    entries = draft.context.groups[group].entries
    text = [title]
    if ranked and board.has_headline:
        text += _headline(draft, board, figure)
        text += _incomplete(draft, entries, board)
        text += ["Mean return per task:", _scores_by_task(draft, entries, tasks)]
    else:
        count = plural(len(board.tasks), "task")
        if ranked:
            text.append(f"**No headline: {count}.**")
        text += _panels(draft, entries, board, figure)
        text.append(_scores_by_algorithm(draft, entries, tasks, board))
        if ranked and board.rows:
            text += [f"Aggregates (not a headline, {count}):", _board_table(draft, board.rows)]
        if ranked:
            text += _incomplete(draft, entries, board)
    if ranked and board.unbounded:
        names = ", ".join(map(escape, board.unbounded))
        text.append(f"Without known floor and cap, and so in no aggregate: {names}.")
    return text


def _headline(draft: Draft, board: Board, figure: str) -> list[str]:
    if not board.rows:
        return ["No algorithm has results on all tasks yet."]
    text: list[str] = []
    shown = [(row, row.iqm, row.gap) for row in board.rows if row.iqm and row.gap]
    if len(shown) > 1:
        panels = [
            Panel("interquartile mean", tuple(_row_point(row, iqm) for row, iqm, _ in shown)),
            Panel("optimality gap", tuple(_row_point(row, gap, False) for row, _, gap in shown)),
        ]
        caption = (
            f"Interquartile mean (higher is better) and optimality gap (lower is better) over "
            f"{len(board.tasks)} tasks. Bars: 95 % intervals; that two of them overlap is not the "
            "test behind the ranks. Grey ticks: every run on every task, some may lie outside. "
            "Hollow: not ranked."
        )
        text.append(draft.figure(figure, interval_figure(panels, "normalised score"), caption))
    text.append(_board_table(draft, board.rows))
    return [*text, *_more_figures(draft, board, figure)] if len(shown) > 1 else text


def _more_figures(draft: Draft, board: Board, figure: str) -> list[str]:
    """Profiles, sample efficiency and all pairs, of rows with aggregates."""
    scores, name = row_scores(board), figure.removesuffix(".svg")
    about = f"{len(board.tasks)} tasks, {run_counts(_entries(board))} runs"
    profiles = [
        Line(
            algorithm,
            PROFILE_THRESHOLDS,
            performance_profile(own, PROFILE_THRESHOLDS, rng=np.random.default_rng(SEED)),
        )
        for algorithm, own in scores.items()
    ]
    panel = LinePanel("normalised score", tuple(profiles))
    text = [
        draft.figure(
            f"{name}.profiles.svg",
            line_figure([panel], "share of runs above"),
            f"Performance profiles: the share of runs above a normalised score, {about}. Bands: "
            "95 % at each point, not of the whole profile.",
        )
    ]
    panels = [
        LinePanel(
            label,
            tuple(Line(algorithm, *curve) for algorithm, curve in curves.items()),
            logarithmic=axis == "wall_seconds",
        )
        for axis, label in _axes(board).items()
        if (curves := efficiency(board, axis))
    ]
    if panels:
        text.append(
            draft.figure(
                f"{name}.efficiency.svg",
                line_figure(panels, "interquartile mean"),
                f"Sample efficiency: the interquartile mean of what runs had reached, {about}. "
                "Bands: 95 % at each point. Seconds are of training, of all seeds of a process "
                "together; they compare within a hardware class only.",
            )
        )
    pairs = improvement_intervals(scores, rng=np.random.default_rng(SEED), reps=PAIR_REPS)
    text.append(
        draft.figure(
            f"{name}.improvement.svg",
            improvement_figure(list(scores), pairs),
            f"Probability of improvement: how probably a run of the row's algorithm beats one of "
            f"the column's on a task, {about}. Bold: the 95 % interval of the pair excludes one "
            "half, without correction for the number of pairs.",
        )
    )
    return text


def _axes(board: Board) -> dict[str, str]:
    """Axes of the ledger with their labels; frames only where a decision takes several."""
    frames = {entry.record.key["frames_per_step"] for entry in _entries(board)} != {1}
    return {
        "step": "agent steps per seed",
        **({"frames": "frames per seed"} if frames else {}),
        "wall_seconds": "seconds of training",
    }


def _entries(board: Board) -> list[Entry]:
    return [entry for row in board.rows if row.iqm for entry in row.entries.values()]


def _row_point(row: Row, interval: Interval, ticks: bool = True) -> Point:
    scores = [entry.normalised for entry in row.entries.values() if ticks]
    runs = tuple(float(score) for of_task in scores if of_task is not None for score in of_task)
    return Point(row.algorithm, *interval, runs=runs, hollow=row.rank is None)


def _board_table(draft: Draft, rows: Sequence[Row]) -> str:
    header = [
        "rank",
        "algorithm",
        "IQM",
        "optimality gap",
        "mean",
        "median",
        f"P(better than {REFERENCE})",
        "worst task",
        "runs x tasks",
        "agent steps",
        "training time",
        "method",
        "status",
    ]
    lines = []
    for row in rows:
        entries = list(row.entries.values())
        worst = DASH
        if row.worst:
            worst = f"{number(row.worst[1], 2)} ({escape(row.worst[0].split('/', 1)[1])})"
        lines.append(
            [
                rank_text(row.rank),
                draft.algorithm(row.algorithm),
                interval_text(row.iqm),
                interval_text(row.gap),
                DASH if row.mean is None else number(row.mean, 2),
                DASH if row.median is None else number(row.median, 2),
                interval_text(row.improvement) + (" *" if row.is_sure else ""),
                worst,
                runs_by_tasks(entries),
                *draft.costs(entries),
                fit_text(entries),
                draft.context.status(_label(row), entries),
            ]
        )
    return table(header, lines, text_columns=2)


def _label(row: Row) -> str:
    """What may be claimed of a row; one that has no rank here is not called ranked."""
    return "complete" if row.claim.ranked and row.rank is None else row.claim.label


def _incomplete(draft: Draft, entries: Entries, board: Board) -> list[str]:
    """Rows without all tasks, and all rows on the tasks that every one of them has."""
    if not board.incomplete:
        return []
    header = ["algorithm", "tasks", "lacks", "IQM", "optimality gap", "mean", "runs x tasks"]
    lines = []
    for row in board.incomplete:
        own = list(row.entries.values())
        lacks = [f"{escape(task)} ({reason})" for task, reason in row.missing.items()]
        if len(lacks) > _MOST_LACKS:
            lacks[_MOST_LACKS:] = [f"and {len(lacks) - _MOST_LACKS} more"]
        lines.append(
            [
                draft.algorithm(row.algorithm),
                f"partial: {len(board.tasks) - len(row.missing)} of {len(board.tasks)} tasks",
                "; ".join(lacks),
                *(_bounds_text(row, name) for name in ("iqm", "gap", "mean")),
                runs_by_tasks(own),
                fit_text(own),
            ]
        )
    text = [
        "Incomplete rows, not ranked. Bounds: every missing run at the floor, or at the cap.",
        table([*header, "method"], lines, text_columns=3),
    ]
    if common := common_board(entries, board):
        text.append(f"All rows on the {len(common.tasks)} tasks that they share, not ranked:")
        text.append(_board_table(draft, common.rows))
    return text


def _bounds_text(row: Row, name: str) -> str:
    if name not in row.bounds:
        return DASH
    low, high = row.bounds[name]
    return f"[{number(low, 2)}, {number(high, 2)}]"


def _panels(draft: Draft, entries: Entries, board: Board, figure: str) -> list[str]:
    """Figure of the normalised scores, one panel per task."""
    names = _by_board(entries, board.tasks, board)
    panels = [
        Panel(
            name_in_family(task),
            tuple(_entry_point(name, entries[name].get(task)) for name in names),
        )
        for task in board.tasks
        if any(task in own for own in entries.values())
    ]
    if not panels:
        return []
    caption = (
        "Mean normalised score. Bars: 95 % intervals; 0 is the task's floor, 1 its cap. Grey "
        "ticks: single runs."
    )
    return [draft.figure(figure, interval_figure(panels, "normalised score"), caption)]


def _entry_point(algorithm: str, entry: Entry | None) -> Point:
    mean = entry.mean_normalised() if entry else None
    if entry is None or entry.normalised is None or mean is None:
        return Point(algorithm)
    return Point(algorithm, *mean, runs=tuple(map(float, entry.normalised)))


def _by_board(entries: Entries, tasks: Sequence[str], board: Board) -> list[str]:
    """Algorithms with a record on one of the tasks, in the order of the board."""
    order = [row.algorithm for row in (*board.rows, *board.incomplete)]
    others = [name for name, own in entries.items() if any(task in own for task in tasks)]
    return list(dict.fromkeys([*order, *others]))


def _scores_by_algorithm(draft: Draft, entries: Entries, tasks: Sequence[str], board: Board) -> str:
    """Mean returns with intervals, a column per task: for few tasks."""
    columns = {task: [own[task] for own in entries.values() if task in own] for task in tasks}
    decimals = {task: common_decimals(column) for task, column in columns.items() if column}
    header = ["mean return", *(draft.task(task, name_in_family(task)) for task in decimals)]
    rows = []
    for name in _by_board(entries, tasks, board):
        own = entries[name]
        texts = [
            score_text(own[task], places) if task in own else DASH
            for task, places in decimals.items()
        ]
        rows.append([draft.algorithm(name), *texts])
    return table(header, rows)


def _scores_by_task(draft: Draft, entries: Entries, tasks: Sequence[str]) -> str:
    """Mean returns without intervals, a row per task: for many tasks."""
    rows = []
    for task in tasks:
        column = [own.get(task) for own in entries.values()]
        present = [entry for entry in column if entry is not None]
        if present:
            places = common_decimals(present)
            rows.append([draft.task(task), *(_short_score(entry, places) for entry in column)])
    return table(["task", *(draft.algorithm(name) for name in entries)], rows)


def _short_score(entry: Entry | None, decimals: int) -> str:
    if entry is None or not entry.is_scored:
        return DASH
    mean = number(float(entry.raw.mean()), decimals)
    failed = sum(failure_counts([entry]).values())
    return f"{mean} ({failed} failed)" if failed else mean
