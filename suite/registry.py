"""The registry: which algorithms, families and tasks there are, found by name.

A file in ``baselines/`` that defines ``ALGORITHM``, or a file or package in ``suite/envs/`` that
defines ``FAMILY``, is its own entry. A user's package adds entries through the entry points
``suite.algorithms`` and ``suite.families``, without touching this repository. Names are listed
without importing anything; loading an algorithm imports torch.
"""

from __future__ import annotations

import ast
import hashlib
import importlib
import importlib.util
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache, lru_cache
from importlib import metadata
from itertools import accumulate
from pathlib import Path
from typing import TYPE_CHECKING, Any

from suite.names import UnknownName, family_of
from suite.protocols import Protocol

if TYPE_CHECKING:
    from baselines.agent import Algorithm
    from suite.tasks import Engine, Family, Task

HIDDEN_FAMILIES = frozenset({"probes"})
"""Reached by id, never listed: worlds that test algorithms and rank nothing."""

SHARED_SOURCES = ("suite.spaces", "suite.steps", "suite.streams")
"""What every algorithm's numbers depend on beside its own modules."""


class MissingPackage(ImportError):
    """A family needs a package that is not installed; the message says how to install it."""


@dataclass(frozen=True)
class _Shelf:
    """One kind of registry entry: where its files lie and what they define."""

    noun: str
    package: str
    attribute: str
    entry_points: str


_ALGORITHMS = _Shelf("algorithm", "baselines", "ALGORITHM", "suite.algorithms")
_FAMILIES = _Shelf("family", "suite.envs", "FAMILY", "suite.families")


def algorithm_names() -> list[str]:
    """Name every algorithm, sorted, without importing any."""
    return sorted(_entries(_ALGORITHMS))


def load_algorithm(name: str) -> Algorithm:
    """Import an algorithm.

    Raises:
        UnknownName: there is none of this name.
    """
    algorithm: Algorithm = _load(_ALGORITHMS, name)
    return algorithm


def family_names() -> list[str]:
    """Name every family but the hidden ones, sorted, without importing any."""
    return sorted(_entries(_FAMILIES).keys() - HIDDEN_FAMILIES)


def load_family(name: str) -> Family:
    """Import a family; the packages that step its tasks are not imported yet.

    Raises:
        UnknownName: there is none of this name.
        MissingPackage: an outside family's module needs a package that is not installed.
    """
    try:
        family: Family = _load(_FAMILIES, name)
    except ModuleNotFoundError as error:
        raise MissingPackage(
            f"family {name} needs the package {error.name}; install it: pip install {error.name}"
        ) from error
    return family


def find_task(text: str) -> Task:
    """Find a task by id (``mujoco/Ant-v5``), or by its bare name where only one family has it.

    Raises:
        UnknownName: no family has it, or several have.
        MissingPackage: looking it up needs a package that is not installed.
    """
    family_name, slash, name = text.partition("/")
    if not slash or family_name not in _entries(_FAMILIES):
        found = [family.tasks[text] for family in _families() if text in family.tasks]
        if len(found) == 1:
            return found[0]
        candidates = [task.id for task in found] or [
            *family_names(),
            "all",
            *_task_sets(),
            *_task_ids(),
        ]
        raise UnknownName("task", text, candidates)
    family = load_family(family_name)
    task = family.tasks.get(name) or _look_up(family, name)
    if task is None:
        raise UnknownName("task", text, [*(t.id for t in family.tasks.values()), *_task_ids()])
    return task


def resolve_algorithms(text: str) -> list[str]:
    """Turn a user's choice into algorithm names: ids separated by commas, or ``all``.

    Raises:
        UnknownName: one of them does not exist.
    """
    names = algorithm_names()
    chosen: list[str] = []
    for word in _words(text):
        if word != "all" and word not in names:
            raise UnknownName("algorithm", word, [*names, "all"])
        chosen += names if word == "all" else [word]
    return list(dict.fromkeys(chosen))


def resolve_tasks(text: str, protocol: Protocol) -> list[Task]:
    """Turn a user's choice into tasks.

    Args:
        text: separated by commas: task ids, bare task names, task sets (``atari-5``), families
            (their tasks in the protocol), or ``all`` (every task of the protocol).
        protocol: says which tasks a family, or ``all``, stands for.

    Returns:
        Tasks in the order named, none twice.

    Raises:
        UnknownName: a word is none of these.
        ValueError: the protocol has no task of a family.
        MissingPackage: looking a task up needs a package that is not installed.
    """
    ids: list[str] = []
    for word in _words(text):
        ids += _task_ids_of(word, protocol)
    return list({task.id: task for task in map(find_task, ids)}.values())


def engine_for(task: Task, name: str | None = None) -> Engine:
    """Choose what steps a task: the engine of this name, or the first that knows the task.

    Raises:
        UnknownName: no engine of this name knows the task.
    """
    engines = [each for each in load_family(task.family).engines if each.supports(task)]
    for engine in engines:
        if name in (None, engine.name):
            return engine
    raise UnknownName(f"{task.id} engine", str(name), [engine.name for engine in engines])


def fit(algorithm: Algorithm, task: Task) -> tuple[str, str]:
    """Tell whether an algorithm is ``native`` to a task or ``adapted``, and by which paper."""
    if task.actions in algorithm.native_actions:
        return "native", ""
    return "adapted", algorithm.adapter


def source_hash(algorithm: str) -> str:
    """Hash what an algorithm's numbers depend on in our code, sha256 in hex.

    Syntax trees are hashed, so that comments, formatting and docstrings may change freely: of the
    algorithm's module, of every module that it imports from its own package, and of
    :data:`SHARED_SOURCES`. Presets are left out: what they give stands in a record as its config.
    The same on every version of Python.

    Raises:
        UnknownName: there is no algorithm of this name.
    """
    module = _entry(_ALGORITHMS, algorithm).split(":")[0]
    own = _own_modules(module) | {name: _module(name) for name in SHARED_SOURCES}
    text = "\n".join(f"{name} {own[name].text}" for name in sorted(own))
    return hashlib.sha256(text.encode()).hexdigest()


def dump_source(node: ast.AST) -> str:
    """Write a syntax tree as text, without presets, docstrings or anything that is only a string.

    Fields that are empty, or that only some versions of Python have, are left out.
    """
    parts = []
    for field, value in ast.iter_fields(node):
        if field in ("type_comment", "type_params", "kind"):
            continue
        if isinstance(value, list):
            items = [_dump_value(item) for item in value if not _is_left_out(item)]
            written = f"[{','.join(items)}]" if items else ""
        else:
            written = "" if value is None else _dump_value(value)
        if written:
            parts.append(f"{field}={written}")
    return f"{type(node).__name__}({','.join(parts)})"


def _dump_value(value: object) -> str:
    return dump_source(value) if isinstance(value, ast.AST) else repr(value)


def _is_left_out(node: object) -> bool:
    if isinstance(node, ast.keyword):
        return node.arg == "presets"
    return (
        isinstance(node, ast.Expr)
        and isinstance(node.value, ast.Constant)
        and isinstance(node.value.value, str)
    )


@dataclass(frozen=True)
class _Module:
    """What a hash needs of a module."""

    text: str
    """Its syntax tree, see :func:`dump_source`."""
    imports: tuple[str, ...]
    """Names of modules that it may import."""


def _module(name: str) -> _Module:
    path = _source(name)
    assert path is not None, f"module {name} has no source"
    return _examine(name, path.name == "__init__.py", path.read_text(encoding="utf-8"))


@lru_cache(maxsize=512)  # algorithms share most of their modules, and cells their algorithm
def _examine(name: str, is_package: bool, source: str) -> _Module:
    tree = ast.parse(source, name)
    package = name if is_package else name.rpartition(".")[0]
    return _Module(dump_source(tree), tuple(_imports(package, tree)))


def _own_modules(module: str) -> dict[str, _Module]:
    """A module and all that it imports, directly or not, from its own package and from ours."""
    packages = {module.split(".")[0], _ALGORITHMS.package}
    found: dict[str, _Module] = {}
    waiting = [module]
    while waiting:
        name = waiting.pop()
        if name in found or _source(name) is None:
            continue
        found[name] = _module(name)
        own = [each for each in found[name].imports if each.split(".")[0] in packages]
        waiting += [parent for each in own for parent in accumulate(each.split("."), _join)]
    return found


def _join(parent: str, child: str) -> str:
    return f"{parent}.{child}"


def _imports(package: str, tree: ast.Module) -> Iterator[str]:
    """Names of modules that a tree may import; ``from a import b`` may mean the module a.b."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = importlib.util.resolve_name("." * node.level + (node.module or ""), package)
            yield from (_join(base, alias.name) for alias in node.names)


def _source(module: str) -> Path | None:
    """The file of a module, found without importing anything; None if there is no such module."""
    top, *rest = module.split(".")
    spec = importlib.util.find_spec(top)
    if spec is None:
        return None
    if not rest and spec.submodule_search_locations is None:
        return Path(spec.origin) if spec.origin is not None else None
    for folder in spec.submodule_search_locations or ():
        path = Path(folder, *rest)
        for file in (path / "__init__.py", path.with_name(f"{path.name}.py")):
            if file.is_file():
                return file
    return None


@cache
def _entries(shelf: _Shelf) -> Mapping[str, str]:
    """Where each entry is found, ``module:attribute`` by name.

    Raises:
        ValueError: an outside package uses a name that is taken.
    """
    defines = re.compile(rf"^{shelf.attribute}\s*[:=]", re.MULTILINE)
    found = {}
    spec = importlib.util.find_spec(shelf.package)
    for folder in (spec and spec.submodule_search_locations) or ():
        for path in [*Path(folder).glob("*.py"), *Path(folder).glob("*/__init__.py")]:
            if defines.search(path.read_text(encoding="utf-8")):
                name = path.parent.name if path.name == "__init__.py" else path.stem
                found[name] = f"{shelf.package}.{name}:{shelf.attribute}"
    for outside in metadata.entry_points(group=shelf.entry_points):
        if found.setdefault(outside.name, outside.value) != outside.value:
            raise ValueError(
                f"two {shelf.noun} entries are named {outside.name!r}:"
                f" {found[outside.name]} and {outside.value}"
            )
    return found


def _entry(shelf: _Shelf, name: str) -> str:
    entries = _entries(shelf)
    if name not in entries:
        raise UnknownName(shelf.noun, name, sorted(entries.keys() - HIDDEN_FAMILIES))
    return entries[name]


def _load(shelf: _Shelf, name: str) -> Any:
    module, attribute = _entry(shelf, name).split(":")
    return getattr(importlib.import_module(module), attribute)


def _look_up(family: Family, name: str) -> Task | None:
    try:
        return family.find(name)
    except ImportError as error:
        raise MissingPackage(
            f"{family.name}/{name} cannot be opened: {error}"
            f" (the family's own packages come with: {family.install})"
        ) from error


def _families() -> list[Family]:
    return [load_family(name) for name in family_names()]


def _task_ids() -> list[str]:
    return [task.id for family in _families() for task in family.tasks.values()]


def _task_sets() -> list[str]:
    return [name for family in _families() for name in family.sets]


def _task_ids_of(word: str, protocol: Protocol) -> list[str]:
    """Task ids that one word of a user's choice stands for."""
    of_protocol = list(dict.fromkeys(row.task for row in protocol.budgets))
    if word == "all":
        return of_protocol
    if word in _entries(_FAMILIES):
        ids = [each for each in of_protocol if family_of(each) == word]
        if not ids:
            raise ValueError(
                f"protocol {protocol.name} has no task of {word}; name tasks, e.g. "
                + ", ".join(task.id for task in list(load_family(word).tasks.values())[:3])
            )
        return ids
    for family in _families():
        if word in family.sets:
            return [family.tasks[name].id for name in family.sets[word]]
    return [word]


def _words(text: str) -> list[str]:
    if not text.strip():
        raise ValueError("nothing is named: give an algorithm and a task, or all")
    words = [word.strip() for word in text.split(",")]
    if not all(words):
        raise ValueError(f"empty name in {text!r}: separate names by single commas")
    return words
