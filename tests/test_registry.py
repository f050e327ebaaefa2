"""The registry: discovery, names and their nearest neighbours, task choices, source hashes."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from importlib import metadata
from pathlib import Path

import pytest

from suite import registry
from suite.names import UnknownName
from suite.protocols import PROTOCOLS, Budget
from suite.registry import (
    MissingPackage,
    dump_source,
    engine_for,
    family_names,
    find_task,
    fit,
    load_algorithm,
    load_family,
    resolve_algorithms,
    resolve_tasks,
    source_hash,
)
from suite.tasks import Family, Task

ROOT = Path(__file__).parent.parent
PROTOCOL = replace(
    PROTOCOLS["smoke"],
    budgets=(
        Budget("gymnasium/CartPole-v1", 10),
        Budget("mujoco/Ant-v5", 10),
        Budget("mujoco/Hopper-v5", 10),
        Budget("mujoco/Ant-v5", 20, ("ppo",)),
    ),
)


@pytest.fixture
def outside(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder for a user's package, `plugin`; entries in `entry_points.txt` count at once."""
    package = tmp_path / "plugin"
    package.mkdir()
    (package / "__init__.py").touch()
    info = tmp_path / "plugin-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: plugin\nVersion: 1.0\n")
    monkeypatch.syspath_prepend(tmp_path)
    registry._entries.cache_clear()
    yield tmp_path
    registry._entries.cache_clear()
    for name in [name for name in sys.modules if name.split(".")[0] == "plugin"]:
        del sys.modules[name]


def register(folder: Path, group: str, line: str) -> None:
    (folder / "plugin-1.0.dist-info" / "entry_points.txt").write_text(f"[{group}]\n{line}\n")
    assert any(each.value.startswith("plugin") for each in metadata.entry_points(group=group))


def test_every_file_that_defines_an_algorithm_is_one():
    files = {path.stem for path in (ROOT / "baselines").glob("*.py")}
    assert files - {"__init__", "agent"} <= set(registry.algorithm_names())
    assert not {"__init__", "agent", "parts"} & set(registry.algorithm_names())


def test_every_file_that_defines_a_family_is_one_and_probes_are_not_listed():
    assert {"gymnasium", "mujoco"} <= set(family_names())
    assert not {"lanes", "engines", "probes"} & set(family_names())
    assert load_family("probes").name == "probes"


def test_names_are_listed_without_importing_torch_or_any_algorithm():
    code = (
        "import sys; from suite.registry import *;"
        "names = algorithm_names() + family_names(); source_hash(algorithm_names()[0]);"
        "sys.stdout.write(str([m for m in sys.modules if m in ('torch', 'numpy', 'baselines')]))"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert (done.stdout, done.stderr) == ("[]", "")


@pytest.mark.parametrize("name", registry.algorithm_names())
def test_algorithms_are_complete(name: str):
    algorithm = load_algorithm(name)
    assert algorithm.title
    assert algorithm.key_idea
    assert algorithm.paper
    kinds = {"discrete", "multidiscrete", "continuous"}
    assert algorithm.native_actions <= kinds
    assert algorithm.native_actions == kinds or algorithm.adapter


@pytest.mark.parametrize("name", [*family_names(), "probes"])
def test_families_are_complete(name: str):
    family = load_family(name)
    assert family.name == name
    assert family.title
    assert family.install
    assert len({engine.name for engine in family.engines}) == len(family.engines)
    for key, task in family.tasks.items():
        assert task.id == f"{name}/{key}"
        assert task.actions in ("discrete", "multidiscrete", "continuous")
        assert task.domain
        assert task.complexity
        assert task.paper
        assert engine_for(task) in family.engines
        if task.bounds is not None:
            assert task.bounds.floor < task.bounds.cap
            assert task.bounds.floor_source
            assert task.bounds.cap_source
    for tasks in family.sets.values():
        assert set(tasks) <= family.tasks.keys()


def test_bare_task_names_are_unique_across_families_so_far():
    names = [task for family in family_names() for task in load_family(family).tasks]
    assert len(names) == len(set(names))


@pytest.mark.parametrize(
    ("text", "task_id"),
    [
        ("mujoco/HalfCheetah-v5", "mujoco/HalfCheetah-v5"),
        ("HalfCheetah-v5", "mujoco/HalfCheetah-v5"),
        ("CliffWalking", "gymnasium/CliffWalking"),
        ("gymnasium/Blackjack-v1", "gymnasium/Blackjack-v1"),
        ("probes/identity-discrete", "probes/identity-discrete"),
    ],
)
def test_tasks_are_found(text: str, task_id: str):
    assert find_task(text).id == task_id


@pytest.mark.parametrize(
    ("text", "nearest"),
    [
        ("mujoco/HalfChetah-v5", "mujoco/HalfCheetah-v5"),
        ("mujco/HalfCheetah-v5", "mujoco/HalfCheetah-v5"),
        ("gymnasium/HalfCheetah-v5", "mujoco/HalfCheetah-v5"),
        ("halfcheetah", "mujoco/HalfCheetah-v5"),
        ("gymnasium/CartPole-v7", "gymnasium/CartPole-v1"),
        ("probes/identity", "probes/identity-dict"),
        ("atari-25", "atari-5, atari-57, atari-26"),
        ("zoo-21", "zoo-12"),
    ],
)
def test_an_unknown_task_gets_the_nearest_ones_in_one_line(text: str, nearest: str):
    with pytest.raises(UnknownName) as caught:
        find_task(text)
    message = str(caught.value)
    assert message.startswith(f"unknown task {text!r}; nearest: {nearest}")
    assert "\n" not in message


def test_a_bare_name_that_two_families_have_is_refused_with_both(
    monkeypatch: pytest.MonkeyPatch,
):
    twin = replace(load_family("mujoco").tasks["Ant-v5"], id="twin/Ant-v5")
    families = [load_family("mujoco"), Family("twin", "Twin", {"Ant-v5": twin}, (), "")]
    monkeypatch.setattr(registry, "_families", lambda: families)
    with pytest.raises(UnknownName) as caught:
        find_task("Ant-v5")
    assert {"mujoco/Ant-v5", "twin/Ant-v5"} <= set(str(caught.value).replace(",", "").split())


@pytest.mark.parametrize(
    ("load", "message"),
    [
        (lambda: load_algorithm("pppo"), "unknown algorithm 'pppo'; nearest: ppo"),
        (lambda: resolve_algorithms("ppo,dqm"), "unknown algorithm 'dqm'; nearest: dqn"),
        (lambda: load_family("mujocco"), "unknown family 'mujocco'; nearest: mujoco"),
        (
            lambda: engine_for(find_task("Ant-v5"), "envpol"),
            "unknown mujoco/Ant-v5 engine 'envpol'; nearest: envpool",
        ),
        (
            lambda: engine_for(find_task("Taxi-v3"), "envpool"),
            "unknown gymnasium/Taxi-v3 engine 'envpool'; valid: gymnasium",
        ),
    ],
)
def test_unknown_names_get_the_nearest_ones(load, message: str):
    with pytest.raises(UnknownName) as caught:
        load()
    assert str(caught.value).startswith(message)


def test_algorithms_are_chosen_by_name_list_or_all():
    assert resolve_algorithms("sac, ppo,sac") == ["sac", "ppo"]
    assert resolve_algorithms("all") == registry.algorithm_names()
    assert resolve_algorithms("ppo,all")[0] == "ppo"


@pytest.mark.parametrize(
    ("text", "ids"),
    [
        ("all", ["gymnasium/CartPole-v1", "mujoco/Ant-v5", "mujoco/Hopper-v5"]),
        ("mujoco", ["mujoco/Ant-v5", "mujoco/Hopper-v5"]),
        ("mujoco/Hopper-v5,mujoco", ["mujoco/Hopper-v5", "mujoco/Ant-v5"]),
        ("Swimmer-v5, gymnasium", ["mujoco/Swimmer-v5", "gymnasium/CartPole-v1"]),
        ("Ant-v5,mujoco/Ant-v5", ["mujoco/Ant-v5"]),
    ],
)
def test_tasks_are_chosen_by_id_name_family_list_or_all(text: str, ids: list[str]):
    assert [task.id for task in resolve_tasks(text, PROTOCOL)] == ids


def test_a_task_set_is_chosen_whole_whatever_the_protocol(monkeypatch: pytest.MonkeyPatch):
    family = replace(load_family("mujoco"), sets={"legless": ("Hopper-v5", "Swimmer-v5")})
    monkeypatch.setattr(registry, "_families", lambda: [family])
    chosen = resolve_tasks("legless,Ant-v5", PROTOCOL)
    assert [task.name for task in chosen] == ["Hopper-v5", "Swimmer-v5", "Ant-v5"]


def test_a_family_without_a_task_in_the_protocol_is_refused():
    with pytest.raises(ValueError, match="protocol smoke has no task of probes; name tasks"):
        resolve_tasks("probes", PROTOCOL)


@pytest.mark.parametrize("text", ["", "ppo,", ",,"])
def test_empty_names_are_refused(text: str):
    with pytest.raises(ValueError, match=r"empty name|nothing is named"):
        resolve_algorithms(text)


def test_the_default_engine_is_the_first_that_knows_the_task():
    assert engine_for(find_task("CartPole-v1")).name == "envpool"
    assert engine_for(find_task("Taxi-v3")).name == "gymnasium"
    assert engine_for(find_task("CartPole-v1"), "gymnasium").name == "gymnasium"


def test_fit_is_adapted_with_its_paper_where_the_actions_are_not_the_methods_own():
    dqn = load_algorithm("dqn")
    assert fit(dqn, find_task("CartPole-v1")) == ("native", "")
    assert fit(dqn, find_task("Ant-v5")) == ("adapted", dqn.adapter)


def test_a_missing_package_is_named_with_the_command_that_adds_it(outside: Path):
    (outside / "plugin" / "worlds.py").write_text("import no_such_package\n")
    register(outside, "suite.families", "worlds = plugin.worlds:FAMILY")
    assert "worlds" in family_names()
    with pytest.raises(MissingPackage, match=r"worlds needs .*pip install no_such_package"):
        load_family("worlds")


def test_a_task_whose_world_lacks_a_package_says_so(monkeypatch: pytest.MonkeyPatch):
    def find(name: str) -> Task | None:
        raise ModuleNotFoundError(f"No module named {name!r}")

    broken = replace(load_family("gymnasium"), find=find)
    monkeypatch.setattr(registry, "load_family", lambda name: broken)
    with pytest.raises(MissingPackage, match=r"gymnasium/Car-v0 cannot be opened.*pip install"):
        find_task("gymnasium/Car-v0")


def test_a_package_of_a_user_adds_an_algorithm(outside: Path):
    (outside / "plugin" / "mine.py").write_text("from plugin.parts import ALGORITHM\n")
    (outside / "plugin" / "parts.py").write_text("ALGORITHM = 'my algorithm'\n")
    register(outside, "suite.algorithms", "mine = plugin.mine:ALGORITHM")
    assert "mine" in registry.algorithm_names()
    assert load_algorithm("mine") == "my algorithm"
    before = source_hash("mine")
    (outside / "plugin" / "parts.py").write_text("ALGORITHM = 'my better algorithm'\n")
    assert source_hash("mine") != before


def test_a_hash_of_a_users_algorithm_covers_what_it_imports_from_ours(outside: Path):
    (outside / "plugin" / "mine.py").write_text("from baselines.parts.optim import Adam\n")
    found = registry._own_modules("plugin.mine").keys()
    assert {"plugin.mine", "baselines.parts.optim"} <= found
    assert "suite.streams" not in found  # covered for every algorithm


def test_a_name_that_is_taken_is_refused(outside: Path):
    register(outside, "suite.algorithms", "ppo = plugin.mine:ALGORITHM")
    with pytest.raises(ValueError, match="two algorithm entries are named 'ppo'"):
        registry.algorithm_names()


def test_source_hashes_are_sha256_and_differ():
    hashes = {source_hash(name) for name in registry.algorithm_names()}
    assert len(hashes) == len(registry.algorithm_names())
    assert all(len(each) == 64 for each in hashes)


def test_a_hash_leaves_presets_out(outside: Path):
    source = "ALGORITHM = dict(name='mine', presets={'atari': {'lanes': LANES}})\n"
    register(outside, "suite.algorithms", "mine = plugin.mine:ALGORITHM")
    hashes = set()
    for lanes in ("1", "2"):
        (outside / "plugin" / "mine.py").write_text(source.replace("LANES", lanes))
        hashes.add(source_hash("mine"))
    assert len(hashes) == 1


def test_a_hash_covers_what_the_algorithm_imports_from_its_package():
    modules = registry._own_modules("baselines.ppo")
    assert {"baselines.ppo", "baselines.agent", "baselines.parts.networks"} <= modules.keys()
    assert all(name.split(".")[0] == "baselines" for name in modules)
    assert "baselines.sac" not in modules


@pytest.mark.parametrize("module", ["spaces", "steps", "streams"])
def test_a_hash_covers_the_shared_modules(module: str, monkeypatch: pytest.MonkeyPatch):
    before = source_hash("random")
    examine = registry._module

    def changed(name: str) -> registry._Module:
        found = examine(name)
        return replace(found, text="changed") if name == f"suite.{module}" else found

    monkeypatch.setattr(registry, "_module", changed)
    assert source_hash("random") != before


@pytest.mark.parametrize(
    ("layout", "modules"),
    [
        ({"mine": "from . import parts"}, {"plugin.parts"}),
        ({"mine": "from .parts import x"}, {"plugin.parts"}),
        ({"mine": "import plugin.parts as p"}, {"plugin.parts"}),
        ({"mine": "import plugin.other", "other": "from plugin.parts import x"}, {"plugin.other"}),
        ({"mine": "import json, torch"}, set()),
        ({"mine": "def f():\n    import plugin.parts"}, {"plugin.parts"}),
    ],
)
def test_imports_are_followed_without_being_run(
    outside: Path, layout: dict[str, str], modules: set[str]
):
    (outside / "plugin" / "parts.py").write_text("raise RuntimeError('was imported')")
    for name, code in layout.items():
        (outside / "plugin" / f"{name}.py").write_text(code)
    found = registry._own_modules("plugin.mine").keys()
    assert modules <= found <= {"plugin", "plugin.mine", "plugin.parts", "plugin.other"}


def dump(code: str) -> str:
    return dump_source(ast.parse(code))


def test_the_dump_of_a_tree_is_the_same_on_every_python():
    assert dump("def f(a: int = 1) -> None:\n    return None") == (
        "Module(body=[FunctionDef(name='f',args=arguments(args=[arg(arg='a',"
        "annotation=Name(id='int',ctx=Load()))],defaults=[Constant(value=1)]),"
        "body=[Return(value=Constant())],returns=Constant())])"
    )


def test_lists_may_hold_names_and_gaps():
    assert "names=['a','b']" in dump("def f():\n    global a, b")
    assert dump("x = {**y, 1: 2}") != dump("x = {3: y, 1: 2}")


@pytest.mark.parametrize(
    "code",
    [
        'x = 1\n"""About x."""',
        '"""Module."""\nx = 1  # why',
        "x = (\n    1\n)",
        "x = 0x1",
    ],
)
def test_docstrings_comments_and_layout_do_not_count(code: str):
    assert dump(code) == dump("x = 1")


def test_docstrings_of_functions_and_fields_do_not_count():
    bare = "class A:\n    x: int = 1\n    def f(self):\n        return 1"
    documented = bare.replace("class A:", "class A:\n    'About A.'")
    documented = documented.replace("x: int = 1", "x: int = 1\n    'Unit.'")
    documented = documented.replace("def f(self):", "def f(self):\n        'About f.'")
    assert len(documented) > len(bare) + 20
    assert dump(documented) == dump(bare)


@pytest.mark.parametrize(
    "code", ["x = 2", "y = 1", "x = '1'", "x = 1.0", "x = True", "x = None", "x: int = 1", "x += 1"]
)
def test_everything_else_counts(code: str):
    assert dump(code) != dump("x = 1")
