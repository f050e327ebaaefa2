from __future__ import annotations

from dataclasses import FrozenInstanceError, fields, replace
from itertools import combinations

import pytest

from suite.protocols import (
    PROTOCOLS,
    SEED_RANGES,
    Budget,
    Protocol,
    budget,
    canonical_json,
    comparability_key,
    difference,
    evaluation_steps,
    find_protocol,
    key_hash,
    protocol_hash,
    rules_for,
    run_seeds,
    segment_steps,
)
from suite.tasks import Task

FROZEN = {
    "smoke": (2, "a645fe04119b5db4"),
    "quick": (1, "2b4a2b846aae2f80"),
    "standard": (1, "707b03519d7ab940"),
    "validation": (1, "c2a5fcb4594fbf39"),
    "bank": (1, "cd62c2779e587663"),
}
"""Version and hash. A number that changes needs a new version, of its row or of the protocol."""

CARTPOLE = Task("gymnasium/CartPole-v1", "discrete", 500, "control", "low", "Brockman 2016")
OTHER_VALUES = {
    "name": "other",
    "version": 2,
    "purpose": "other",
    "budgets": (Budget("gymnasium/CartPole-v1", 1),),
    "seeds": (0,),
    "segments": 3,
    "evaluations": 3,
    "episodes": 3,
    "window": 0.2,
    "max_episode_steps": 5,
    "time_limit": 0.5,
    "ranked": False,
}


def key(**changes: object) -> dict[str, object]:
    versions = {"mujoco": "3.17.0", "gymnasium": "1.4.0"}
    return comparability_key(PROTOCOLS["quick"], CARTPOLE, 50_000, "envpool", versions) | changes


@pytest.mark.parametrize("name", PROTOCOLS)
def test_a_protocol_keeps_its_numbers_under_its_version(name: str):
    assert (PROTOCOLS[name].version, protocol_hash(PROTOCOLS[name])) == FROZEN[name]


def test_the_protocols_are_these():
    assert list(PROTOCOLS) == ["smoke", "quick", "standard", "validation", "bank"]
    assert [len(protocol.seeds) for protocol in PROTOCOLS.values()] == [2, 5, 10, 5, 30]
    assert [name for name, protocol in PROTOCOLS.items() if protocol.ranked] == [
        "quick",
        "standard",
    ]


def test_quick_has_these_budgets():
    quick = PROTOCOLS["quick"]
    assert budget(quick, "ppo", "gymnasium/CartPole-v1") == 50_000
    assert budget(quick, "ppo", "gymnasium/Pendulum-v1") == 20_000
    assert budget(quick, "sac", "mujoco/HalfCheetah-v5") == 20_000
    assert budget(quick, "sac", "mujoco/InvertedPendulum-v5") == 10_000


def test_a_row_may_have_its_own_evaluations_under_its_own_version():
    quick = PROTOCOLS["quick"]
    usual = rules_for(quick, "ppo", "gymnasium/CartPole-v1")
    rare = rules_for(quick, "ppo", "nethack/NetHackScore-v0")
    assert (usual.evaluations, usual.episodes, usual.version) == (20, 10, 1)
    assert (rare.evaluations, rare.episodes, rare.version) == (2, 25, 3)
    assert rare == replace(quick, evaluations=2, episodes=25, version=3)
    assert rules_for(quick, "ppo", "mujoco/Ant-v5") == quick  # a trial's rules


@pytest.mark.parametrize("name", PROTOCOLS)
def test_every_row_that_departs_from_its_protocol_says_since_which_version(name: str):
    for row in PROTOCOLS[name].budgets:
        departs = row.evaluations is not None or row.episodes is not None
        assert departs == (row.version is not None)
        assert (row.version or PROTOCOLS[name].version + 1) > PROTOCOLS[name].version


def test_standard_gives_a_million_steps_to_the_eleven_mujoco_tasks():
    rows = [row for row in PROTOCOLS["standard"].budgets if row.task.startswith("mujoco/")]
    assert len({row.task for row in rows}) == 11
    assert {row.steps for row in rows} == {1_000_000}


@pytest.mark.parametrize(
    ("algorithm", "task", "steps"),
    [
        ("ppo", "gymnasium/CartPole-v1", 100_000),
        ("dqn", "gymnasium/CartPole-v1", 100_000),
        ("random", "gymnasium/CartPole-v1", 100_000),
        ("sac", "gymnasium/CartPole-v1", 50_000),
        ("td3", "gymnasium/CartPole-v1", 50_000),
        ("td3", "mujoco/InvertedPendulum-v5", 100_000),
        ("sac", "mujoco/InvertedPendulum-v5", None),
        ("ppo", "gymnasium/Pendulum-v1", 50_000),
        ("sac", "gymnasium/Pendulum-v1", 50_000),
        ("dqn", "gymnasium/Pendulum-v1", 50_000),
        ("sac", "mujoco/HalfCheetah-v5", 100_000),
        ("dqn", "mujoco/HalfCheetah-v5", 100_000),
        ("random", "mujoco/HalfCheetah-v5", 100_000),
        ("ppo", "mujoco/HalfCheetah-v5", 300_000),
        ("ppo", "mujoco/Ant-v5", None),
        ("reinforce", "gymnasium/CartPole-v1", 200_000),
        ("a2c", "gymnasium/CartPole-v1", 200_000),
        ("a3c", "gymnasium/CartPole-v1", 200_000),
        ("trpo", "gymnasium/CartPole-v1", 100_000),
    ],
)
def test_validation_gives_budgets_by_algorithm(algorithm: str, task: str, steps: int | None):
    assert budget(PROTOCOLS["validation"], algorithm, task) == steps


@pytest.mark.parametrize("name", PROTOCOLS)
def test_no_pair_has_two_budgets(name: str):
    for row, other in combinations(PROTOCOLS[name].budgets, 2):
        if row.task == other.task:
            assert row.algorithms is not None
            assert other.algorithms is not None
            assert set(row.algorithms).isdisjoint(other.algorithms)


def test_seed_ranges_are_disjoint():
    for one, other in combinations(SEED_RANGES.values(), 2):
        assert set(one).isdisjoint(other)


def test_only_the_bank_uses_the_bank_s_seeds():
    users = [
        name
        for name, protocol in PROTOCOLS.items()
        if set(protocol.seeds) & set(SEED_RANGES["bank"])
    ]
    assert users == ["bank"]
    assert set(PROTOCOLS["quick"].seeds) <= set(SEED_RANGES["reporting"])


@pytest.mark.parametrize("name", PROTOCOLS)
def test_a_protocol_s_seeds_are_the_first_of_its_range(name: str):
    assert run_seeds(PROTOCOLS[name]) == PROTOCOLS[name].seeds


def test_more_or_fewer_seeds_come_from_the_same_range():
    assert run_seeds(PROTOCOLS["quick"], 2) == (0, 1)
    assert run_seeds(PROTOCOLS["quick"], 7) == (0, 1, 2, 3, 4, 5, 6)
    assert run_seeds(PROTOCOLS["bank"], 1) == (20_000,)


@pytest.mark.parametrize("number", [0, -1, 10_001])
def test_an_impossible_number_of_seeds_is_refused_with_the_bounds(number: int):
    with pytest.raises(ValueError, match=rf"1\.\.10000, not {number}"):
        run_seeds(PROTOCOLS["quick"], number)


def test_evaluations_begin_before_training_and_end_with_the_budget():
    assert evaluation_steps(PROTOCOLS["smoke"], 512) == (0, 256, 512)
    quick = evaluation_steps(PROTOCOLS["quick"], 50_000)
    assert (quick[:2], quick[-2:], len(quick)) == ((0, 2_500), (47_500, 50_000), 21)


def test_a_budget_below_the_number_of_evaluations_is_evaluated_at_every_step():
    assert evaluation_steps(PROTOCOLS["quick"], 3) == (0, 1, 2, 3)


def test_segments_cut_the_budget_independently_of_the_evaluations():
    steps = segment_steps(replace(PROTOCOLS["quick"], evaluations=7), 20_000)
    assert steps == tuple(range(0, 20_001, 2_000))


def test_an_unknown_protocol_is_refused_with_the_nearest_names():
    assert find_protocol("quick") is PROTOCOLS["quick"]
    with pytest.raises(ValueError, match=r"^unknown protocol 'quik'; nearest: quick$"):
        find_protocol("quik")
    with pytest.raises(ValueError, match="valid: smoke, quick, standard, validation, bank"):
        find_protocol("\x1b[31m")


def test_protocols_cannot_be_changed():
    with pytest.raises(FrozenInstanceError):
        PROTOCOLS["quick"].seeds = ()  # type: ignore[misc]
    with pytest.raises(FrozenInstanceError):
        PROTOCOLS["quick"].budgets[0].steps = 1  # type: ignore[misc]
    with pytest.raises(TypeError):
        PROTOCOLS["mine"] = PROTOCOLS["quick"]  # type: ignore[index]
    with pytest.raises(TypeError):
        SEED_RANGES["mine"] = range(3)  # type: ignore[index]


@pytest.mark.parametrize("name", [field.name for field in fields(Protocol)])
def test_the_hash_changes_with_every_field(name: str):
    quick = PROTOCOLS["quick"]
    assert protocol_hash(replace(quick, **{name: OTHER_VALUES[name]})) != protocol_hash(quick)


@pytest.mark.parametrize(
    "other",
    [
        Budget("gymnasium/Acrobot-v1", 100, None),
        Budget("gymnasium/CartPole-v1", 101, None),
        Budget("gymnasium/CartPole-v1", 100, ("ppo",)),
        Budget("gymnasium/CartPole-v1", 100, evaluations=5),
        Budget("gymnasium/CartPole-v1", 100, episodes=5),
        Budget("gymnasium/CartPole-v1", 100, version=2),
    ],
)
def test_the_hash_changes_with_every_field_of_a_budget(other: Budget):
    quick = PROTOCOLS["quick"]
    one, two = (
        replace(quick, budgets=(row,)) for row in (Budget("gymnasium/CartPole-v1", 100), other)
    )
    assert protocol_hash(one) != protocol_hash(two)


def test_the_comparability_key_has_these_fields():
    assert key() == {
        "task": "gymnasium/CartPole-v1",
        "engine": "envpool",
        "versions": {"gymnasium": "1.4.0", "mujoco": "3.17.0"},
        "wrappers": [],
        "frames_per_step": 1,
        "step_unit": "agent steps",
        "budget": 50_000,
        "evaluations": 20,
        "episodes": 10,
        "window": 0.1,
        "protocol": "quick",
        "protocol_version": 1,
    }


def test_the_key_s_hash_ignores_the_order_of_fields_and_versions():
    backwards = dict(reversed(key().items()))
    backwards["versions"] = {"mujoco": "3.17.0", "gymnasium": "1.4.0"}
    assert key_hash(backwards) == key_hash(key())


@pytest.mark.parametrize("name", key())
def test_the_key_s_hash_changes_with_every_field(name: str):
    assert key_hash(key(**{name: "other"})) != key_hash(key())


def test_the_key_s_hash_is_sixteen_digits_of_a_sha_256():
    # printf '{"a":1,"b":[2.5,"\\u00e9"]}' | sha256sum
    assert key_hash({"b": [2.5, "é"], "a": 1}) == "7209a61af76aa6f2"


def test_the_difference_names_the_fields():
    assert difference(key(), key()) == ()
    assert difference(key(), key(budget=1, episodes=3)) == ("budget", "episodes")


def test_the_difference_names_the_packages():
    other = key(versions={"gymnasium": "1.4.0", "mujoco": "3.16.0", "numpy": "2.4.0"})
    assert difference(key(), other) == ("versions.mujoco", "versions.numpy")


def test_canonical_json_refuses_what_json_has_no_number_for():
    assert canonical_json({"b": (1, 2), "a": "é"}) == '{"a":"\\u00e9","b":[1,2]}'
    with pytest.raises(ValueError, match="not JSON compliant"):
        canonical_json({"a": float("inf")})
