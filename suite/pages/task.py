"""The page of a task: learning curves, every algorithm, every run."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from suite.curves import task_figure
from suite.leaderboard import Entry, task_ranks
from suite.markdown import DASH, duration, escape, number, table
from suite.names import family_of, name_in_family
from suite.pages.common import (
    Context,
    Draft,
    Files,
    apart_text,
    common_decimals,
    interval_text,
    rank_text,
    run_counts,
    score_text,
    seeds_text,
    source_line,
)
from suite.pages.published import published_for, published_table
from suite.ranking import claim
from suite.records import Record, SeedRun
from suite.scores import task_bounds, window_start


def task_page(context: Context, task: str) -> Files:
    """Write the page of a task with its figures."""
    records = context.by_task[task]
    draft = Draft(context, context.task_path(task), records)
    family, name = family_of(task), name_in_family(task)
    protocol = draft.link(context.name, context.path)
    text = [
        f"# {escape(name)}",
        f"Family {escape(family)}, protocol {protocol}. {source_line(records)}",
        *_facts(records),
    ]
    scored: dict[str, Entry] = {}
    for place, group in enumerate(context.task_groups(task), start=1):
        entries = {algorithm: own[task] for algorithm, own in group.entries.items()}
        scored |= entries
        if place > 1:
            text += apart_text(group)
        suffix = f".conditions-{place}.svg" if place > 1 else ".svg"
        text += _curves(draft, entries, draft.path.removesuffix(".md") + suffix)
        text.append(_algorithm_table(draft, entries))
    published = {name: published_for(entry.record) for name, entry in sorted(scored.items())}
    if rows := published_table(draft, published, common_decimals(scored.values())):
        text += ["## Published scores", "Not ranked; at about the same budget.", *rows]
    text += ["## Every run", _run_table(draft, scored), draft.hardware.legend()]
    text += ["## Versions", _version_table(records)]
    return draft.finish(text)


def _facts(records: Sequence[Record]) -> list[str]:
    """What the records say about their task; where they differ, all of it."""
    facts, bounds = set(), set()
    for record in records:
        known = {name: value for name, value in record.task_info.items() if value not in (None, "")}
        facts.add("; ".join(f"{escape(name)}: {escape(known[name])}" for name in sorted(known)))
        if record.normalisation is not None and (ends := task_bounds(record)):
            floor_source, cap_source = (
                escape(record.normalisation[f"{end}_source"]) for end in ("floor", "cap")
            )
            bounds.add(
                f"Floor {number(ends.floor)} ({floor_source}), cap {number(ends.cap)} "
                f"({cap_source})."
            )
    unknown = (
        "No floor and cap are known, so there are no normalised scores, and a failed run scores "
        "the lowest episode return of any record."
    )
    return [*sorted(facts - {""}), *(sorted(bounds) or [unknown])]


def _curves(draft: Draft, entries: Mapping[str, Entry], path: str) -> list[str]:
    curves = [
        draft.context.curve(entry.record) for _, entry in sorted(entries.items(), key=_by_mean)
    ]
    curves = [curve for curve in curves if curve.steps.size]
    if not curves:
        return []
    record = next(iter(entries.values())).record
    start = window_start(record.budget, float(str(record.key["window"])))
    caption = (
        f"Mean return of {record.key['episodes']} evaluation episodes over agent steps. "
        f"{run_counts(entries.values())} runs per algorithm. The score is taken after step "
        f"{start:,}. Thick: mean over the runs, failed ones counting as the floor from then on; "
        "thin: every run, with a cross where it failed; grey: range of the means of all "
        "algorithms; dotted: floor and cap."
    )
    return [draft.figure(path, task_figure(curves, *(task_bounds(record) or ())), caption)]


def _algorithm_table(draft: Draft, entries: Mapping[str, Entry]) -> str:
    ranks = task_ranks(entries) if draft.context.is_ranked else {}
    decimals = common_decimals(entries.values())
    levels = any(entry.training_levels is not None for entry in entries.values())
    header = [
        "rank",
        "algorithm",
        "mean return",
        *(["on training levels"] if levels else []),
        "normalised",
        "worst run",
        "runs",
        "agent steps",
        "training time",
        "evaluation",
        "method",
        "status",
    ]
    rows = []
    for algorithm, entry in sorted(entries.items(), key=_by_mean):
        record = entry.record
        method = f"{record.fit} ({record.adapter})" if record.adapter else record.fit
        rows.append(
            [
                rank_text(ranks.get(algorithm)),
                draft.algorithm(algorithm),
                score_text(entry, decimals),
                *([_training_levels(entry, decimals)] if levels else []),
                interval_text(entry.mean_normalised()),
                number(float(entry.raw.min()), decimals) if entry.is_scored else DASH,
                seeds_text(entry),
                *draft.costs([entry]),
                escape(record.evaluation),
                escape(method),
                draft.context.status(claim(entry.raw.size, 1).label, [entry]),
            ]
        )
    return table(header, rows, text_columns=2)


def _by_mean(item: tuple[str, Entry]) -> tuple[float, str]:
    algorithm, entry = item
    return -float(entry.raw.mean()) if entry.is_scored else math.inf, algorithm


def _training_levels(entry: Entry, decimals: int) -> str:
    levels = entry.training_levels
    return DASH if levels is None else number(levels, decimals)


def _run_table(draft: Draft, entries: Mapping[str, Entry]) -> str:
    header = [
        "algorithm",
        "status",
        "seed",
        "score",
        "normalised",
        "agent steps",
        "frames",
        "updates",
        "training time",
        "CPU time",
        "memory",
        "hardware",
        "code",
    ]
    decimals = common_decimals(entries.values())
    rows = []
    for algorithm, entry in sorted(entries.items()):
        name = draft.algorithm(algorithm)
        for place, run in enumerate(entry.record.runs):
            raw, normalised = float(entry.scores.raw[place]), entry.scores.normalised
            is_scored = run.status != "crashed" and math.isfinite(raw)
            rows.append(
                [
                    name,
                    escape(run.status),
                    str(run.seed),
                    number(raw, decimals) if is_scored else DASH,
                    number(normalised[place], 2) if is_scored and normalised is not None else DASH,
                    *_ledger_end(run),
                    draft.hardware.label(run),
                    escape(run.commit[:10] or "unknown") + (" + changes" if run.dirty else ""),
                ]
            )
    return table(header, rows, text_columns=2)


def _ledger_end(run: SeedRun) -> list[str]:
    """What a run cost in the end."""
    if not run.ledger:
        return [DASH] * 6
    last = run.ledger[-1]
    return [
        f"{last.step:,}",
        f"{last.frames:,}",
        f"{last.updates:,}",
        duration(last.wall_seconds),
        duration(last.cpu_seconds),
        f"{last.peak_memory_mb:.0f} MB",
    ]


def _version_table(records: Sequence[Record]) -> str:
    rows = []
    for record in sorted(records, key=lambda record: record.algorithm):
        versions = ", ".join(f"{name} {record.versions[name]}" for name in sorted(record.versions))
        rows.append([record.algorithm, record.engine, record.source_hash[:16], versions])
    escaped = [[escape(value) for value in row] for row in rows]
    return table(["algorithm", "engine", "source hash", "versions"], escaped, text_columns=4)
