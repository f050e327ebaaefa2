"""Checkouts side by side: content, revisions, changed lines."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from suite.revisions import (
    SetupError,
    changed_lines,
    check_out,
    lines_of_functions,
    remove,
    working_tree,
)

MODULE = '''"""A module."""

FACTOR = 2


def double(x):
    """Twice x."""
    # a remark
    y = x * FACTOR
    return y


class Box:
    size = 3

    def grow(
        self,
        by=1,
    ):
        self.size += by


triple = lambda x: 3 * x
'''


def git(root: Path, *arguments: str) -> str:
    identity = ["-c", "user.name=Nobody", "-c", "user.email=nobody@example.org"]
    command = ["git", "-C", str(root), *identity, *arguments]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A repository with one commit on main."""
    root = tmp_path / "repository"
    for package in ("suite", "baselines"):
        (root / package).mkdir(parents=True)
        (root / package / "__init__.py").write_text('"""A package."""\n')
    (root / "baselines" / "module.py").write_text(MODULE)
    (root / "README.md").write_text("read me\n")
    git(root, "init", "--quiet", "--initial-branch=main")
    git(root, "add", "--all")
    git(root, "commit", "--quiet", "--message=first")
    return root


def test_a_checkout_has_the_content_of_its_revision(root: Path, tmp_path: Path):
    before = working_tree(root).digest()
    (root / "README.md").write_text("read me again\n")
    assert working_tree(root).digest() == before, "a document is no code"
    (root / "baselines" / "module.py").write_text(MODULE.replace("2", "4"))
    assert working_tree(root).digest() != before
    base = check_out(root, "main", tmp_path / "trees")
    assert base.label == f"main ({base.commit[:10]})"
    assert base.digest() == before
    (base.root / "left-over").write_text("of an interrupted check")
    assert check_out(root, base.commit[:7], tmp_path / "trees").label == base.commit[:10]
    assert not (base.root / "left-over").exists()
    remove(root, base)
    assert not base.root.exists()
    assert len(git(root, "worktree", "list").splitlines()) == 1


def test_what_is_no_revision_is_refused(root: Path, tmp_path: Path):
    git(root, "branch", "trial")
    for name in ("mian", "--all", "", "HEAD:README.md"):
        with pytest.raises(SetupError, match=r"no revision .*; branches: main, trial$"):
            check_out(root, name, tmp_path / "trees")
    with pytest.raises(SetupError, match="not a git repository"):
        working_tree(tmp_path)


def test_a_command_runs_by_the_code_of_its_revision(root: Path):
    main = root / "suite" / "__main__.py"
    main.write_text("import sys\nprint(__file__, sys.argv[1:])\nsys.exit('fail' in sys.argv)\n")
    revision = working_tree(root)
    assert revision.run("bench", "x").split() == [str(main), "['bench',", "'x']"]
    with pytest.raises(SetupError, match=r"^the working tree: suite fail ended with 1$"):
        revision.run("fail")


def test_changed_lines_are_told_on_both_sides(root: Path, tmp_path: Path):
    base = check_out(root, "main", tmp_path / "trees")
    module = root / "baselines" / "module.py"
    module.write_text(MODULE.replace("    y = x", "    y = 0\n    y += x").replace("3 *", "4 *"))
    (root / "baselines" / "new.py").write_text("def f():\n    return 1\n")
    (root / "suite" / "__init__.py").unlink()
    gone, new = changed_lines(base, working_tree(root))
    module_name, added, removed = "baselines/module.py", "baselines/new.py", "suite/__init__.py"
    assert gone == {module_name: {9, 23}, added: set(), removed: {1}}
    assert new == {module_name: {9, 10, 24}, added: {1, 2}, removed: set()}


def test_lines_of_functions_are_those_that_calling_them_runs(root: Path):
    assert lines_of_functions(root / "baselines" / "module.py") == {9, 10, 20, 23}
    assert lines_of_functions(root / "none.py") == set()
