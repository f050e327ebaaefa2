"""Who may import what, and where random numbers may come from, read off the syntax trees."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
SUITE = sorted((ROOT / "suite").rglob("*.py"))
BASELINES = sorted((ROOT / "baselines").rglob("*.py"))

ENVIRONMENT_PACKAGES = {
    "ale_py",
    "dm_control",
    "dm_env",
    "envpool",
    "gym",
    "gym3",
    "gymnasium",
    "isaacgym",
    "isaacgymenvs",
    "minigrid",
    "mujoco",
    "mujoco_warp",
    "nle",
    "procgen",
}
BASELINES_MAY_IMPORT = {"suite.spaces", "suite.steps", "suite.streams"}
PURE_MODULES = (
    "curves",
    "figures",
    "leaderboard",
    "markdown",
    "outside",
    "pages.algorithm",
    "pages.html",
    "pages.protocol",
    "pages.scores",
    "pages.task",
    "pages.validation",
    "protocols",
    "ranking",
    "record_format",
    "records",
    "reports",
    "scores",
    "statistics",
)
"""What works on result files alone, on a machine without torch or any environment."""

SEEDED_NUMPY = {
    "Generator",
    "BitGenerator",
    "RandomState",
    "SeedSequence",
    "PCG64",
    "PCG64DXSM",
    "Philox",
    "SFC64",
}
DRAWING_TORCH = {
    "bernoulli",
    "manual_seed",
    "multinomial",
    "normal",
    "poisson",
    "rand",
    "rand_like",
    "randint",
    "randint_like",
    "randn",
    "randn_like",
    "randperm",
    "seed",
    "set_rng_state",
}
DRAWING_METHODS = {
    "bernoulli_",
    "cauchy_",
    "exponential_",
    "geometric_",
    "log_normal_",
    "normal_",
    "random_",
    "rsample",
    "uniform_",
}
DRAWING_LAYERS = {
    "Conv1d",
    "Conv2d",
    "Conv3d",
    "Dropout",
    "Embedding",
    "GRU",
    "GRUCell",
    "LSTM",
    "LSTMCell",
    "Linear",
    "MultiheadAttention",
}
"""Layers of torch.nn that initialise (or drop) with the global generator."""


def parse(path: Path) -> ast.Module:
    return ast.parse(path.read_text(), str(path))


def imports(tree: ast.AST) -> Iterator[str]:
    """Dotted names imported anywhere in a module, except for types alone."""
    waiting: list[ast.AST] = [tree]
    while waiting:
        node = waiting.pop()
        if isinstance(node, ast.If) and ast.unparse(node.test).endswith("TYPE_CHECKING"):
            waiting += node.orelse
            continue
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "imports are absolute in this project"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)
        waiting += ast.iter_child_nodes(node)


def package(name: str) -> str:
    return name.split(".")[0]


def global_draws(tree: ast.AST) -> list[str]:
    """What in a module draws from, or seeds, a generator that was not handed in."""
    found = [name for name in imports(tree) if package(name) == "random"]
    calls = [node for node in ast.walk(tree) if isinstance(node, ast.Call)]
    return found + [ast.unparse(call.func) for call in calls if _draws(call)]


def _draws(call: ast.Call) -> bool:
    if not isinstance(call.func, ast.Attribute):
        return False
    owner, name = ast.unparse(call.func.value), call.func.attr
    if any(keyword.arg == "generator" for keyword in call.keywords):
        return False
    if owner in ("np.random", "numpy.random"):
        return not (call.args and (name == "default_rng" or name in SEEDED_NUMPY))
    if owner in ("torch", "torch.random", "torch.cuda"):
        return name in DRAWING_TORCH or name == "manual_seed_all"
    if owner in ("nn", "torch.nn"):
        return name in DRAWING_LAYERS
    return name in DRAWING_METHODS


def named(paths: list[Path]) -> dict[str, object]:
    return {"argvalues": paths, "ids": [str(path.relative_to(ROOT)) for path in paths]}


@pytest.mark.parametrize("path", **named(SUITE))
def test_suite_knows_algorithms_by_name_only(path: Path):
    assert [name for name in imports(parse(path)) if package(name) == "baselines"] == []


@pytest.mark.parametrize("path", **named(BASELINES))
def test_baselines_import_of_the_suite_only_spaces_steps_and_streams(path: Path):
    of_suite = [name for name in imports(parse(path)) if package(name) == "suite"]
    allowed = [name for name in of_suite if name.rsplit(".", 1)[0] in BASELINES_MAY_IMPORT]
    assert of_suite == allowed


@pytest.mark.parametrize("path", **named(BASELINES))
def test_algorithms_never_see_an_environment_package(path: Path):
    assert ENVIRONMENT_PACKAGES.isdisjoint(map(package, imports(parse(path))))


def test_what_works_on_result_files_loads_neither_torch_nor_environments():
    forbidden = sorted({"torch", "baselines"} | ENVIRONMENT_PACKAGES)
    code = (
        "import importlib, sys\n"
        f"for module in {PURE_MODULES!r}:\n"
        "    importlib.import_module(f'suite.{module}')\n"
        f"    found = set({forbidden!r}).intersection(sys.modules)\n"
        "    if found: sys.exit(f'{module} loads {found}')"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert (done.stdout, done.stderr) == ("", "")


@pytest.mark.parametrize("path", **named(SUITE + BASELINES))
def test_random_numbers_come_from_streams_that_are_handed_in(path: Path):
    assert global_draws(parse(path)) == []


@pytest.mark.parametrize("path", **named(SUITE + BASELINES))
def test_every_module_says_what_it_is_for(path: Path):
    assert ast.get_docstring(parse(path))


@pytest.mark.parametrize(
    ("code", "found"),
    [
        ("import random", ["random"]),
        ("from random import choice", ["random.choice"]),
        ("np.random.seed(1)", ["np.random.seed"]),
        ("np.random.default_rng()", ["np.random.default_rng"]),
        ("np.random.default_rng(key)", []),
        ("np.random.Generator(np.random.SFC64(key))", []),
        ("torch.randn(3)", ["torch.randn"]),
        ("torch.randn(3, generator=generator)", []),
        ("torch.manual_seed(1)", ["torch.manual_seed"]),
        ("torch.cuda.manual_seed_all(1)", ["torch.cuda.manual_seed_all"]),
        ("torch.randn_like(noise)", ["torch.randn_like"]),
        ("weight.normal_()", ["weight.normal_"]),
        ("distribution.rsample()", ["distribution.rsample"]),
        ("nn.Linear(3, 4)", ["nn.Linear"]),
        ("Linear(streams, 3, 4)", []),
        ("streams.normal('noise', 3)", []),
    ],
)
def test_global_generators_are_recognised(code: str, found: list[str]):
    assert global_draws(ast.parse(code)) == found


def test_imports_for_types_alone_do_not_count():
    code = (
        "if TYPE_CHECKING:\n    import torch\nelse:\n    import numpy\n\ndef f():\n    import scipy"
    )
    assert sorted(imports(ast.parse(code))) == ["numpy", "scipy"]
