"""The page of a regression check."""

from __future__ import annotations

from suite.markdown import escape, table
from suite.protocols import PROTOCOLS, protocol_hash
from suite.regress import BANK, Check, TaskRow
from suite.regression import ALPHA, Look


def render_check(check: Check) -> str:
    """What was decided, on what, and how, as markdown."""
    profile = check.profile
    blocks = [
        f"# {escape(check.algorithm)}: {check.word}",
        "; ".join(map(escape, check.text.split("; "))) + ".",
        f"{escape(check.candidate)} against {escape(check.base)}; profile {profile.name}, margin"
        f" {profile.margin:.0%}.",
        f"Fingerprints: {'; '.join(map(escape, check.fingerprint.split('; ')))}.",
    ]
    if check.rows:
        rows = [list(map(escape, row.cells)) for row in check.rows]
        blocks += ["## Tasks", table(TaskRow.HEADER, rows)]
    blocks += [
        f"{escape(task)} took no part: {escape(why)}." for task, why in check.left_out.items()
    ]
    if check.looks:
        blocks += ["## Looks", _looks(check)]
        blocks.append(
            f"Each of the two tests is wrong in at most {ALPHA:.0%} of checks over all looks, where"
            " what it denies is just true. An alarm is a regression only if fresh runs of both"
            " revisions repeat it. Changes are shares of what the bank has above the floor;"
            " intervals are those of a single look."
        )
    if check.confirmation is not None:
        low, high = check.confirmation.interval
        blocks.append(
            f"Fresh runs of both revisions: {check.confirmation.value:+.1%},"
            f" 95 % interval {low:+.1%} to {high:+.1%}."
        )
    if check.detectable is not None:
        blocks.append(
            f"With all looks, a drop of {check.detectable:.1%} is found in 80 % of checks."
        )
    if check.versions:
        found = ", ".join(f"{name} {version}" for name, version in check.versions.items())
        blocks.append(
            f"Protocol {BANK} {protocol_hash(PROTOCOLS[BANK])}; {escape(found)}. Again:"
            f" `suite regress {check.algorithm} --profile {profile.name}`."
        )
    return "\n\n".join(blocks) + "\n"


def _looks(check: Check) -> str:
    header = ["seeds per task", "change", "95 % interval", "found"]
    return table(
        header,
        [
            [
                str(look.seeds),
                f"{look.effect.value:+.1%}",
                "{:+.1%} to {:+.1%}".format(*look.effect.interval),
                _found(look),
            ]
            for look in check.looks
        ],
    )


def _found(look: Look) -> str:
    words = [f"alarm on {escape(task)}" for task in look.broken]
    words += ["worse"] * look.worse + ["no worse than the margin"] * look.no_worse
    return ", ".join(words) or "nothing yet"
