"""Revisions of the code side by side: a checkout of each, and commands run in it.

Every revision runs in processes of its own, by its own code from the command line down; only the
installed packages are shared.
"""

from __future__ import annotations

import hashlib
import inspect
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from difflib import SequenceMatcher
from pathlib import Path
from types import CodeType

PACKAGES = ("suite", "baselines")
"""All of the code that numbers depend on, apart from installed packages."""


class SetupError(Exception):
    """A check cannot be made; the message, one line, says why."""


@dataclass(frozen=True)
class Revision:
    """A checkout of the code."""

    label: str
    """For messages: ``main (1a2b3c4d5e)``."""
    root: Path
    commit: str
    """That it is a checkout of; of the working tree the one below its changes."""

    def digest(self) -> str:
        """SHA-256 of all source files of our packages."""
        hashed = hashlib.sha256()
        for path in self.sources:
            hashed.update(path.as_posix().encode() + b"\0")
            hashed.update((self.root / path).read_bytes() + b"\0")
        return hashed.hexdigest()

    @property
    def sources(self) -> list[Path]:
        """Paths of the source files, relative to the root."""
        files = (path for name in PACKAGES for path in (self.root / name).rglob("*.py"))
        return sorted(path.relative_to(self.root) for path in files)

    def run(self, *arguments: str) -> str:
        """Run ``suite ...`` by this revision's code; what it writes to standard output.

        Its standard error goes to ours.

        Raises:
            SetupError: it fails.
        """
        environment = {**os.environ, "PYTHONHASHSEED": "0", "PYTHONDONTWRITEBYTECODE": "1"}
        environment.pop("PYTHONSAFEPATH", None)  # the checkout's packages, not the installed ones
        command = [sys.executable, "-m", "suite", *arguments]
        done = subprocess.run(
            command, cwd=self.root, env=environment, stdout=subprocess.PIPE, text=True, check=False
        )
        if done.returncode:
            raise SetupError(f"{self.label}: suite {arguments[0]} ended with {done.returncode}")
        return done.stdout


def working_tree(root: Path) -> Revision:
    """The code as it lies here, committed or not.

    Raises:
        SetupError: it is not in a git repository.
    """
    commit = _git(root, "rev-parse", "HEAD")
    return Revision("the working tree", root, commit)


def check_out(root: Path, name: str, folder: Path) -> Revision:
    """A revision of the repository at ``root``, in a worktree of its own below ``folder``.

    Raises:
        SetupError: there is no such revision, or it has none of our packages.
    """
    try:
        query = ("--verify", "--quiet", "--end-of-options", f"{name}^{{commit}}")
        commit = _git(root, "rev-parse", *query)
    except SetupError:
        known = _git(root, "for-each-ref", "--format=%(refname:short)", "--count=8", "refs/heads")
        there = ", ".join(known.split())
        raise SetupError(f"no revision {name!a} in {root}; branches: {there}") from None
    place = folder / commit[:16]
    if place.exists():
        shutil.rmtree(place)  # an interrupted check may have left half of it
    _git(root, "worktree", "prune")
    _git(root, "worktree", "add", "--detach", "--quiet", str(place), commit)
    label = f"{name} ({commit[:10]})" if not commit.startswith(name) else commit[:10]
    return Revision(label, place, commit)


def remove(root: Path, revision: Revision) -> None:
    """Remove a revision's worktree."""
    _git(root, "worktree", "remove", "--force", str(revision.root))


def _git(root: Path, *arguments: str) -> str:
    command = ["git", "-C", str(root), *arguments]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    except OSError as error:
        raise SetupError(f"git is needed: {error}") from error
    if done.returncode:
        reason = " ".join(done.stderr.split()) or f"git {arguments[0]} failed"
        raise SetupError(reason)
    return done.stdout.strip()


Lines = dict[str, set[int]]
"""Line numbers by file, relative to the root."""


def changed_lines(base: Revision, candidate: Revision) -> tuple[Lines, Lines]:
    """Lines that only the base has, and lines that only the candidate has; new files included."""
    gone: Lines = {}
    new: Lines = {}
    for path in sorted({*base.sources, *candidate.sources}):
        before, after = (_text(each.root / path) for each in (base, candidate))
        if before != after:
            gone[path.as_posix()], new[path.as_posix()] = _differing(before, after)
    return gone, new


def _text(path: Path) -> list[str]:
    return path.read_text(encoding="utf-8").splitlines() if path.is_file() else []


def _differing(before: list[str], after: list[str]) -> tuple[set[int], set[int]]:
    gone: set[int] = set()
    new: set[int] = set()
    for word, *ends in SequenceMatcher(None, before, after, autojunk=False).get_opcodes():
        if word != "equal":
            gone.update(range(ends[0] + 1, ends[1] + 1))
            new.update(range(ends[2] + 1, ends[3] + 1))
    return gone, new


def lines_of_functions(path: Path) -> set[int]:
    """Lines of a source file that run when a function is called, not when it is imported."""
    if not path.is_file():
        return set()
    module = compile(path.read_text(encoding="utf-8"), str(path), "exec", dont_inherit=True)
    return {line for code in _inner(module) for line in _own_lines(code)}


def _inner(code: CodeType) -> Iterator[CodeType]:
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield constant
            yield from _inner(constant)


def _own_lines(code: CodeType) -> set[int]:
    """Lines of a function by itself; its first one is passed when the function is defined."""
    if not code.co_flags & inspect.CO_OPTIMIZED:  # the body of a class
        return set()
    lines = {line for *_, line in code.co_lines() if line}
    return lines - {code.co_firstlineno} if len(lines) > 1 else lines
