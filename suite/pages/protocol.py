"""A protocol's page: its rules, its leaderboards or tables, its failed runs."""

from __future__ import annotations

import posixpath

from suite.figures import short_count
from suite.leaderboard import SEED
from suite.markdown import escape, file_name, plural, table
from suite.pages.boards import board_section
from suite.pages.common import INDEX, STAR, Context, Draft, Files, apart_text, path_of, source_line
from suite.pages.validation import validation_sections
from suite.protocols import Protocol, protocol_hash
from suite.ranking import HEADLINE_TASKS
from suite.scores import bounds_hash

_INTERVALS = (
    "Brackets are 95 % intervals over training runs (small-sample stratified bootstrap, 10,000 "
    f"replicates, seed {SEED}; of probabilities to be better never narrower than Newcombe's score "
    "interval, because nothing varies where all runs win). Below 3 runs there is no interval; "
    "below 5, on a single task below 10, no rank (low n). Ends are not cut at a task's limits: an "
    "interval may pass the best return there is. A rank such as 2-4 is what simultaneous "
    "comparisons of all pairs leave open. "
    f"Over fewer than {HEADLINE_TASKS} tasks an aggregate says little: there the scores of each "
    f"task come first, and the aggregates are for orientation. {STAR}"
)
_FAILURES = (
    "A diverged or timed-out run scores the task's floor. A run that crashed for good is missing, "
    "and its row is not ranked."
)


def protocol_page(context: Context) -> Files:
    """Write a protocol's page with its figures."""
    draft = Draft(context, context.path, context.records)
    text = [f"# {escape(context.name)}", *_rules(draft)]
    if context.name == "validation":
        text += validation_sections(draft)
    else:
        for number in range(len(context.groups)):
            text += _group_sections(draft, number)
    text += ["## Failed runs", _failed_runs(draft), draft.hardware.legend()]
    return draft.finish(text)


def _rules(draft: Draft) -> list[str]:
    context, protocol = draft.context, draft.context.protocol
    purpose = f"{escape(protocol.purpose)} " if protocol else ""
    text = [f"{purpose}{draft.link('All protocols', INDEX)}.", source_line(context.records)]
    if protocol:
        text.append(
            f"Version {protocol.version} (`{protocol_hash(protocol)}`): "
            f"{plural(len(protocol.seeds), 'seed')}, "
            f"{plural(protocol.evaluations, 'evaluation')} of "
            f"{plural(protocol.episodes, 'episode')}{_exceptions(protocol)}. The score of a run is "
            "its mean return over the evaluation episodes of the last "
            f"{100 * protocol.window:g} % of its budget; "
            "normalised, 0 is the task's floor and 1 its cap, which its page names (all of them: "
            f"`{bounds_hash(context.records)}`)."
        )
    text += [_INTERVALS if context.is_ranked else "Nothing is ranked here.", _FAILURES]
    return [*text, _task_table(draft)]


def _exceptions(protocol: Protocol) -> str:
    """Rows whose number of evaluations or episodes or version is their own."""
    own = [row for row in protocol.budgets if row.evaluations or row.episodes or row.version]
    return "".join(
        f"; {escape(row.task)}: {plural(row.evaluations or protocol.evaluations, 'evaluation')} of"
        f" {row.episodes or protocol.episodes}, version {row.version or protocol.version}"
        for row in own
    )


def _task_table(draft: Draft) -> str:
    context, protocol = draft.context, draft.context.protocol
    rows = []
    for task in context.tasks:
        budgets = [record.budget for record in context.by_task.get(task, ())]
        count = len(budgets)
        budgets += [row.steps for row in protocol.budgets if row.task == task] if protocol else []
        steps = ", ".join(map(short_count, sorted(set(budgets))))
        rows.append([draft.task(task) if count else escape(task), steps, str(count)])
    return table(["task", "agent steps per seed", "records"], rows)


def _group_sections(draft: Draft, number: int) -> list[str]:
    """Sections over all tasks and over each family, for records of the same conditions."""
    context = draft.context
    group, scopes = context.groups[number], context.scopes(number)
    text, level, suffix = [], "##", ".svg"
    if number > 0:
        text, level, suffix = apart_text(group), "###", f".conditions-{number + 1}.svg"
    for family, tasks in scopes:
        title = f"{level} {escape(family) or 'All families'}"
        folder = path_of(context.name)
        figure = (posixpath.join(folder, file_name(family)) if family else folder) + suffix
        text += board_section(draft, title, number, tasks, figure)
    planned = {task for _, tasks in scopes for task in tasks}
    present = {task for own in group.entries.values() for task in own}
    if others := sorted(present - planned):
        links = ", ".join(map(draft.task, others))
        text += [f"{level} Tasks outside the protocol", f"In no table above: {links}."]
    return text


def _failed_runs(draft: Draft) -> str:
    rows = [
        [
            draft.algorithm(record.algorithm),
            draft.task(record.task),
            escape(run.status),
            escape(run.reason),
            str(run.seed),
            str(run.attempts),
        ]
        for record in draft.context.records
        for run in record.runs
        if run.status != "ok"
    ]
    header = ["algorithm", "task", "status", "reason", "seed", "attempts"]
    return table(header, rows, text_columns=4) if rows else "None."
