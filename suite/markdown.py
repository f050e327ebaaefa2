"""Small pieces of markdown: escaped names, safe file names, tables and numbers.

Everything that comes from a record is untrusted: it passes through :func:`escape` before it
reaches a page, and through :func:`file_name` before it reaches a path.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Sequence
from functools import lru_cache

DASH = "—"
"""What a table shows where there is no number; never 0."""

_MAX_LENGTH = 200
_SPECIAL = re.compile(r"([\\`*\[\]#|~$@]|(?<!\w)_|_(?!\w)|:(?=//)|(?<=www)\.)", re.IGNORECASE)
_HTML = str.maketrans({"&": "&amp;", "<": "&lt;", ">": "&gt;"})
_DEVICES = re.compile(r"(con|prn|aux|nul|com\d|lpt\d)(\..*)?", re.IGNORECASE)


def escape(text: object) -> str:
    """Make text show as itself: no markup, no HTML, no links, one line, at most 200 characters.

    Underscores inside a word and dots stay as they are, so that ``q_learning`` reads well.
    """
    return _escape(str(text))


@lru_cache(maxsize=2**14)  # the same few names stand in every row
def _escape(text: str) -> str:
    line = " ".join(text.split())
    line = "".join(character if character.isprintable() else "?" for character in line)
    if len(line) > _MAX_LENGTH:
        line = line[: _MAX_LENGTH - 1] + "…"
    return _SPECIAL.sub(r"\\\1", line.translate(_HTML))


def file_name(name: str) -> str:
    """Turn any name into one path component without separators, leading dots or surprises.

    A name that had to be changed gets a piece of its hash, so that two names never share a file.
    """
    safe = re.sub(r"[^A-Za-z0-9._-]", "_", name).lstrip(".-")[:80]
    if safe and safe == name and not _DEVICES.fullmatch(safe):
        return name
    return f"{safe or 'name'}-{hashlib.sha256(name.encode()).hexdigest()[:8]}"


def link(text: object, target: str) -> str:
    """Link to a page of ours; ``target`` is made of :func:`file_name` parts."""
    return f"[{escape(text)}]({target})"


def table(header: Sequence[str], rows: Iterable[Sequence[str]], text_columns: int = 1) -> str:
    """Lay out a table whose cells are already escaped.

    Args:
        header: titles of the columns.
        rows: cells, as many as there are titles.
        text_columns: how many columns from the left hold text; the others are aligned right.
    """
    align = [":--" if column < text_columns else "--:" for column in range(len(header))]
    lines = [f"| {' | '.join(cells)} |" for cells in [header, align, *rows]]
    return "\n".join(lines) + "\n"


def decimals_for(*values: float) -> int:
    """Number of decimals that suits scores of this size: 0 from 1000, 1 from 100, 2 from 1."""
    largest = max(map(abs, values))
    for bound, decimals in ((1000, 0), (100, 1), (1, 2)):
        if largest >= bound:
            return decimals
    return 3


def number(value: float, decimals: int | None = None) -> str:
    """Write a score; never ``-0.00``."""
    text = f"{value:.{decimals_for(value) if decimals is None else decimals}f}"
    return text.removeprefix("-") if not text.strip("-0.") else text


def estimate(value: float, ends: tuple[float, float] | None, decimals: int | None = None) -> str:
    """Write an estimate with its interval, if there is one: ``487.3 [470.1, 500.0]``."""
    if decimals is None:
        decimals = decimals_for(value, *(ends or ()))
    if ends is None:
        return number(value, decimals)
    return f"{number(value, decimals)} [{number(ends[0], decimals)}, {number(ends[1], decimals)}]"


def duration(seconds: float) -> str:
    """Write a time in the unit that suits it: ``8.2 s``, ``3.4 min``, ``1.5 h``."""
    for unit, size in (("h", 3600.0), ("min", 60.0)):
        if seconds >= 1.95 * size:
            return f"{seconds / size:.1f} {unit}"
    return f"{seconds:.1f} s"


def plural(count: int, noun: str) -> str:
    """Write a count with its noun: ``1 seed``, ``5 seeds``."""
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"
