"""Names: the two parts of a task's id, and what to say when nothing has a name."""

from __future__ import annotations

import difflib
from collections.abc import Iterable

MAX_LISTED = 15
"""Names that a message gives at most when none looks alike."""


def family_of(task: str) -> str:
    """The family in a task's id: ``mujoco`` of ``mujoco/HalfCheetah-v5``."""
    return task.partition("/")[0]


def name_in_family(task: str) -> str:
    """Upstream's own name in a task's id: ``HalfCheetah-v5`` of ``mujoco/HalfCheetah-v5``."""
    return task.partition("/")[2]


class UnknownName(ValueError):
    """Nothing has this name; the message, one line, gives the nearest names.

    Args:
        noun: what was looked for, e.g. ``algorithm``.
        name: that nothing has.
        valid: the names that there are.
    """

    def __init__(self, noun: str, name: str, valid: Iterable[str]) -> None:
        super().__init__(f"unknown {noun} {name!a}; {_nearest(name, list(valid))}")


def _nearest(name: str, valid: list[str]) -> str:
    """Up to three names that look alike, else the first ones there are.

    A task's name without its family looks like the whole id, and case does not count.
    """
    if not valid:
        return "there are none"
    lowered = {each.lower(): each for each in valid}
    known = {key.rpartition("/")[2]: each for key, each in lowered.items()} | lowered
    alike = difflib.get_close_matches(name.lower(), known, n=3, cutoff=0.5)
    if alike:
        return "nearest: " + ", ".join(dict.fromkeys(known[each] for each in alike))
    return "valid: " + ", ".join(valid[:MAX_LISTED]) + (", ..." if valid[MAX_LISTED:] else "")
