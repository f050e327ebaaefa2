"""The contract of lanes, kept by every engine on every task; the shared engines; the probes."""

from __future__ import annotations

import inspect
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar

import gymnasium
import numpy as np
import pytest
from gymnasium import spaces as upstream

from suite.envs import engines, probes
from suite.envs import gymnasium as gymnasium_family
from suite.envs.engines import EnvpoolLanes, GymnasiumLanes, read_observation_space, read_space
from suite.envs.lanes import Lanes
from suite.registry import family_names, load_family
from suite.spaces import Box, Discrete, MultiDiscrete, Space, contains
from suite.steps import LaneStep
from suite.streams import lane_seeds
from suite.tasks import Engine, Family, Task

ROOT = Path(__file__).parent.parent
FAMILIES: tuple[Family, ...] = tuple(map(load_family, family_names()))

FAST_TASKS = 2
"""Tasks per family that the fast tests play, where all of them would take long."""

CHEAP_FAMILIES = frozenset({"gymnasium", "mujoco", "probes"})
"""Families of which the fast tests play every task."""


def cases(*families: Family, without: frozenset[str] = frozenset()) -> dict[str, Any]:
    return {
        "argvalues": [
            pytest.param(
                engine,
                task,
                id=f"{task.id}-{engine.name}",
                marks=[]
                if family.name in CHEAP_FAMILIES or index < FAST_TASKS
                else [pytest.mark.slow],
            )
            for family in families
            for index, task in enumerate(family.tasks.values())
            for engine in family.engines
            if engine.supports(task) and task.id not in without and not engine.lacks(task)
        ]
    }


def random_actions(space: Space, shape: tuple[int, ...], steps: int, seed: int = 0) -> np.ndarray:
    """Actions ``[steps, *shape, ...]``."""
    rng = np.random.default_rng(seed)
    if isinstance(space, Box):
        size = (steps, *shape, *space.shape)
        return rng.uniform(space.low, space.high, size).astype(np.float32)
    sizes = space.n if isinstance(space, Discrete) else np.array(space.sizes)
    return rng.integers(0, sizes, (steps, *shape, *space.shape))


def play(lanes: Lanes, actions: np.ndarray) -> list[LaneStep]:
    """Reset and step; the lanes are closed. Actions ``[steps, S, E, ...]``."""
    lanes.reset()
    outcomes = [lanes.step(action) for action in actions]
    lanes.close()
    return outcomes


def assert_same(first: LaneStep, second: LaneStep, where: Any = ..., other: Any = ...) -> None:
    for name in first.obs:
        np.testing.assert_array_equal(first.obs[name][where], second.obs[name][other])
        np.testing.assert_array_equal(first.next_obs[name][where], second.next_obs[name][other])
    for values, others in zip(first[2:], second[2:], strict=True):
        np.testing.assert_array_equal(values[where], others[other])


def assert_contract(engine: Engine, task: Task, steps: int) -> None:
    """Step 20 lanes at random, ``steps`` times each, and check everything that lanes promise."""
    lanes = engine.make(task, lane_seeds((2, 3), "train", 0, 10), "train", 1)
    spaces = lanes.spaces
    first = lanes.reset()
    for name, space in spaces.observation.items():
        assert contains(space, first[name])
    for action in random_actions(spaces.action, (2, 10), steps):
        outcome = lanes.step(action)
        assert outcome.obs.keys() == outcome.next_obs.keys() == spaces.observation.keys()
        for name, space in spaces.observation.items():
            for leaf in (outcome.obs[name], outcome.next_obs[name]):
                assert leaf.shape == (2, 10, *space.shape)
                assert contains(space, leaf)
        assert (outcome.reward.dtype, outcome.reward.shape) == (np.float32, (2, 10))
        assert outcome.terminated.dtype == outcome.truncated.dtype == bool
        assert outcome.terminated.shape == outcome.truncated.shape == (2, 10)
        assert np.isfinite(outcome.reward).all()
        assert not (outcome.terminated & outcome.truncated).any()
        ended = outcome.terminated | outcome.truncated
        assert ended.any() or outcome.obs is outcome.next_obs
        for name in outcome.obs:
            np.testing.assert_array_equal(outcome.obs[name][~ended], outcome.next_obs[name][~ended])
    assert lanes.failures == {}
    lanes.close()
    lanes.close()


@pytest.mark.parametrize(("engine", "task"), **cases(*FAMILIES, probes.FAMILY))
def test_two_thousand_random_steps_keep_the_contract(engine: Engine, task: Task):
    assert_contract(engine, task, steps=100)


@pytest.mark.slow
@pytest.mark.parametrize(("engine", "task"), **cases(*FAMILIES, probes.FAMILY))
def test_ten_thousand_random_steps_keep_the_contract(engine: Engine, task: Task):
    assert_contract(engine, task, steps=500)


@pytest.mark.parametrize(("engine", "task"), **cases(*FAMILIES, probes.FAMILY))
def test_a_lane_depends_on_its_own_seed_alone(engine: Engine, task: Task):
    seeds = np.array([[11, 12, 13], [14, 15, 14]])
    together = engine.make(task, seeds, "train", 1)
    alone = engine.make(task, seeds[1:, :1], "train", 1)
    actions = random_actions(together.spaces.action, (2, 3), 30)
    actions[:, 1, 2] = actions[:, 1, 0]
    many, one = play(together, actions), play(alone, actions[:, 1:, :1])
    for outcome, single in zip(many, one, strict=True):
        assert_same(outcome, single, (slice(1, 2), slice(0, 1)))
        assert_same(outcome, outcome, (1, 0), (1, 2))


CHANCELESS = frozenset({"gymnasium/CliffWalking", "probes/termination", "probes/truncation"})


@pytest.mark.parametrize(("engine", "task"), **cases(*FAMILIES, probes.FAMILY, without=CHANCELESS))
def test_other_seeds_play_other_episodes(engine: Engine, task: Task):
    """A minute of some games passes before chance shows."""
    lanes = engine.make(task, np.arange(8).reshape(2, 4), "train", 1)
    lanes.reset()
    is_like_first = np.ones(8, bool)
    for action in random_actions(lanes.spaces.action, (1, 1), 900):
        outcome = lanes.step(np.repeat(action, 2, axis=0).repeat(4, axis=1))
        for leaf in outcome.obs.values():
            rows = leaf.reshape(8, -1)
            is_like_first &= (rows == rows[0]).all(axis=1)
        if not is_like_first[1:].any():
            break
    lanes.close()
    assert not is_like_first[1:].any()


DEADLY = frozenset({"procgen/jumper-hard"})
"""Every action kills some lane within 5 steps; cut in tests/test_procgen.py."""


@pytest.mark.parametrize(("engine", "task"), **cases(*FAMILIES, without=DEADLY))
def test_episodes_are_cut_at_the_horizon_with_their_true_next_observation(
    engine: Engine, task: Task
):
    lanes = engine.make(replace(task, horizon=5), np.arange(4).reshape(2, 2), "train", 1)
    actions = random_actions(lanes.spaces.action, (2, 2), 10) * 0
    if task.name == "FrozenLake-v1":
        actions += 3  # upwards: slips sideways only, along the safe first row
    if task.family == "procgen":
        actions += 4  # nothing: who runs into dodgeball's walls dies
    if task.name.startswith("BabyAI-"):
        actions += 6  # nothing: a turn may face what the mission sends the agent to
    outcomes = play(lanes, actions)
    assert [o.truncated.all() for o in outcomes] == [False] * 4 + [True] + [False] * 4 + [True]
    assert not any(o.terminated.any() for o in outcomes)
    uncut = play(engine.make(task, np.arange(4).reshape(2, 2), "train", 1), actions[:5])
    for name in outcomes[4].next_obs:
        np.testing.assert_array_equal(outcomes[4].next_obs[name], uncut[4].next_obs[name])


@pytest.mark.parametrize("engine", gymnasium_family.FAMILY.engines, ids=lambda engine: engine.name)
def test_an_end_at_the_very_horizon_is_a_termination(engine: Engine):
    up, right, down = 0, 1, 2
    task = replace(gymnasium_family.FAMILY.tasks["CliffWalking"], horizon=13)
    actions = np.array([up] + [right] * 11 + [down]).reshape(13, 1, 1)
    last = play(engine.make(task, np.array([[0]]), "train", 1), actions)[-1]
    assert last.terminated.all()
    assert not last.truncated.any()
    assert (last.next_obs["observation"], last.obs["observation"]) == (47, 36)


@pytest.mark.parametrize(
    "name", ["CartPole-v1", "Pendulum-v1", "MountainCar-v0", "FrozenLake-v1", "LunarLander-v3"]
)
def test_gymnasium_lanes_equal_an_environment_stepped_by_hand(name: str):
    task = gymnasium_family.FAMILY.tasks[name]
    lanes = gymnasium_family.FAMILY.engines[1].make(task, np.array([[7]]), "train", 1)
    env = gymnasium.make(name)
    expected, _ = env.reset(seed=7)
    assert (lanes.reset()["observation"][0, 0] == expected).all()
    ends = 0
    for action in random_actions(lanes.spaces.action, (1, 1), 410):
        outcome = lanes.step(action)
        expected, reward, terminated, truncated, _ = env.step(action[0, 0])
        assert (outcome.next_obs["observation"][0, 0] == expected).all()
        assert outcome.reward[0, 0] == np.float32(reward)
        assert outcome.terminated[0, 0] == terminated
        assert outcome.truncated[0, 0] == truncated
        if terminated or truncated:
            expected, _ = env.reset()
            ends += 1
        assert (outcome.obs["observation"][0, 0] == expected).all()
    assert ends > 1


@pytest.mark.parametrize(
    ("pool", "task"),
    [
        ("CartPole-v1", "gymnasium/CartPole-v1"),
        ("MountainCar-v0", "gymnasium/MountainCar-v0"),
        ("FrozenLake-v1", "gymnasium/FrozenLake-v1"),
        ("LunarLander-v3", "gymnasium/LunarLander-v3"),
        ("Hopper-v5", "mujoco/Hopper-v5"),
        ("Reacher-v5", "mujoco/Reacher-v5"),
    ],
)
@pytest.mark.filterwarnings("ignore:.*precision lowered by casting")
def test_envpool_lanes_skip_nothing_but_the_step_that_envpool_ignores(pool: str, task: str):
    """EnvPool alone resets on the step after the end, so it needs one more step per episode."""
    import envpool

    lanes = EnvpoolLanes(pool, np.array([[7]]), horizon=_task(task).horizon)
    reference = envpool.make_gymnasium(pool, num_envs=1, num_threads=1, seed=[7])
    assert (lanes.reset()["observation"][0, 0] == _single(reference.reset()[0])).all()
    ends = 0
    for action in random_actions(lanes.spaces.action, (1, 1), 410):
        outcome = lanes.step(action)
        expected, reward, terminated, truncated, _ = reference.step(action[0])
        assert (outcome.next_obs["observation"][0, 0] == _single(expected)).all()
        assert outcome.reward[0, 0] == reward[0]
        assert outcome.terminated[0, 0] == terminated[0]
        assert outcome.truncated[0, 0] == truncated[0]
        if terminated[0] or truncated[0]:
            expected, *_ = reference.step(action[0])
            ends += 1
        assert (outcome.obs["observation"][0, 0] == _single(expected)).all()
    assert ends > 1


def _single(observation: np.ndarray) -> np.ndarray:
    return observation[0].astype(np.float32)


def _task(task_id: str) -> Task:
    return next(f.tasks[t] for f in FAMILIES for t in f.tasks if f.tasks[t].id == task_id)


@pytest.mark.parametrize(
    ("cpus", "threads", "first"),
    [
        ({0, 1}, 2, 0),
        ({4, 5, 6}, 3, 4),
        ({0, 1, 2}, 2, -1),  # Linux may choose
        ({0, 2}, 2, -1),
        ({0}, 2, -1),
        ({3}, 1, -1),
    ],
)
def test_pool_threads_are_bound_where_there_is_one_cpu_for_each(
    monkeypatch: pytest.MonkeyPatch, cpus: set[int], threads: int, first: int
):
    monkeypatch.setattr(engines.os, "sched_getaffinity", lambda process: cpus)
    assert engines._first_cpu(threads) == first


def test_envpool_rows_are_lanes_whatever_the_number_of_threads():
    seeds = np.arange(24).reshape(3, 8)
    one, four = (EnvpoolLanes("CartPole-v1", seeds, horizon=9, threads=n) for n in (1, 4))
    actions = random_actions(Discrete(2), (3, 8), 60)
    for first, second in zip(play(one, actions), play(four, actions), strict=True):
        assert_same(first, second)


def test_what_a_step_returned_is_never_overwritten():
    lanes = EnvpoolLanes("CartPole-v1", np.arange(6).reshape(2, 3), horizon=500)
    lanes.reset()
    outcomes = [lanes.step(action) for action in random_actions(Discrete(2), (2, 3), 3)]
    kept = [outcome.obs["observation"].copy() for outcome in outcomes]
    for action in random_actions(Discrete(2), (2, 3), 100):
        lanes.step(action)
    for outcome, copy in zip(outcomes, kept, strict=True):
        np.testing.assert_array_equal(outcome.obs["observation"], copy)


def test_without_a_horizon_of_ours_the_pool_keeps_its_own():
    lanes = EnvpoolLanes("MountainCar-v0", np.array([[0]]), max_episode_steps=4)
    outcomes = play(lanes, np.zeros((8, 1, 1), np.int64))
    assert [bool(o.truncated[0, 0]) for o in outcomes] == [False, False, False, True] * 2


@pytest.mark.parametrize(("engine", "task"), **cases(*FAMILIES))
def test_spaces_do_not_depend_on_the_engine(engine: Engine, task: Task):
    family = next(f for f in FAMILIES if f.name == task.family)
    reference = [each for each in family.engines if not each.lacks(task)][-1]
    expected = reference.make(task, np.array([[0]]), "train", 1).spaces
    spaces = engine.make(task, np.array([[0]]), "train", 1).spaces
    assert spaces.observation.keys() == expected.observation.keys()
    pairs = [(spaces.action, expected.action)]
    pairs += [(space, expected.observation[name]) for name, space in spaces.observation.items()]
    for space, wanted in pairs:
        assert type(space) is type(wanted)
        assert space.shape == wanted.shape
        if isinstance(space, Box):
            np.testing.assert_array_equal(space.low, wanted.low)
            np.testing.assert_array_equal(space.high, wanted.high)
            assert space.dtype == wanted.dtype
        else:
            assert space == wanted


REGISTERED = [
    task for family in FAMILIES if family.name in CHEAP_FAMILIES for task in family.tasks.values()
]
"""Tasks that Gymnasium registers."""


@pytest.mark.parametrize("task", REGISTERED, ids=str)
@pytest.mark.filterwarnings("ignore:builtin type .* has no __module__")  # kills Box2D's import
def test_horizons_and_frames_are_those_registered_upstream(task: Task):
    renamed = {"CliffWalking": "CliffWalking-v1", "Taxi-v3": "Taxi-v4"}
    spec = gymnasium.spec(renamed.get(task.name, task.name))
    world = gymnasium.envs.registration.load_env_creator(spec.entry_point)
    frame_skip = inspect.signature(world).parameters.get("frame_skip")
    assert task.horizon == (spec.max_episode_steps or 200)
    assert task.frames_per_step == (frame_skip.default if frame_skip else 1)


def test_only_cliff_walking_is_cut_by_a_limit_of_ours():
    wrapped = {task.id: task.wrappers for task in REGISTERED}
    assert {name for name, wrappers in wrapped.items() if wrappers} == {"gymnasium/CliffWalking"}
    assert gymnasium.spec("CliffWalking-v1").max_episode_steps is None


def test_the_floor_of_cliff_walking_is_the_exact_return_of_a_random_policy():
    world = gymnasium.make("CliffWalking-v1").unwrapped
    value = np.zeros(48)
    for _ in range(200):
        value = np.array(
            [
                np.mean([r + (not end) * value[s] for [(_, s, r, end)] in world.P[state].values()])
                for state in range(48)
            ]
        )
    assert gymnasium_family.FAMILY.tasks["CliffWalking"].bounds.floor == pytest.approx(
        value[36], abs=1e-3
    )


def test_listing_tasks_imports_no_environment_package():
    code = (
        "import sys; from suite.registry import family_names, load_family;"
        "names = [load_family(name).name for name in family_names()];"
        "packages = {'ale_py', 'dm_control', 'envpool', 'gym', 'gym3', 'gymnasium', 'minigrid',"
        " 'mujoco', 'nle', 'procgen', 'torch'};"
        "sys.stdout.write(' '.join(packages & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert (done.stdout, done.stderr) == ("", "")


class Nested(gymnasium.Env):
    """An observation of every kind of leaf; reward tells the action as the world got it."""

    observation_space = upstream.Dict(
        {
            "body": upstream.Dict(
                {
                    "speed": upstream.Box(-np.inf, 1e300, (2,), np.float64),
                    "eye": upstream.Box(0, 255, (4, 4, 3), np.uint8),
                }
            ),
            "die": upstream.Discrete(6, start=1),
            "pair": upstream.Tuple((upstream.MultiBinary(3), upstream.MultiDiscrete([2, 5]))),
        }
    )
    action_space = upstream.Discrete(3, start=-1)

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[Any, dict[str, Any]]:
        super().reset(seed=seed)
        return self._observe(1), {}

    def step(self, action: int) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        assert action in (-1, 0, 1)
        return self._observe(6), float(action), False, False, {}

    def _observe(self, die: int) -> dict[str, Any]:
        eye = np.full((4, 4, 3), 200, np.uint8)
        return {
            "body": {"speed": np.array([0.1, 2.0]), "eye": eye},
            "die": die,
            "pair": (np.array([0, 1, 1], np.int8), np.array([1, 4])),
        }


def test_nested_observations_become_a_dictionary_of_leaves():
    lanes = GymnasiumLanes(Nested, np.array([[0, 1]]))
    assert {name: type(space) for name, space in lanes.spaces.observation.items()} == {
        "body.eye": Box,
        "body.speed": Box,
        "die": Discrete,
        "pair.0": MultiDiscrete,
        "pair.1": MultiDiscrete,
    }
    first = lanes.reset()
    second = lanes.step(np.array([[0, 2]]))
    for name, space in lanes.spaces.observation.items():
        assert contains(space, first[name])
        assert contains(space, second.obs[name])
    assert first["die"].tolist() == [[0, 0]]
    assert second.obs["die"].tolist() == [[5, 5]]
    assert second.obs["body.speed"].tolist() == [[[np.float32(0.1), 2.0]] * 2]
    assert second.obs["pair.0"].tolist() == [[[0, 1, 1]] * 2]
    assert second.reward.tolist() == [[-1.0, 1.0]]


def test_a_leaf_that_is_alone_is_called_observation():
    space = upstream.Dict({"outer": upstream.Dict({"inner": upstream.Discrete(3)})})
    leaves = read_observation_space(space)
    assert list(leaves) == ["observation"]
    assert leaves["observation"].read({"outer": {"inner": 2}}) == 2


def test_bounds_beyond_float32_become_infinite():
    speed = read_observation_space(Nested.observation_space)["body.speed"].space
    assert isinstance(speed, Box)
    assert speed.high.tolist() == [np.inf, np.inf]
    assert speed.dtype == np.float32


@pytest.mark.parametrize(
    "space", [upstream.Text(5), upstream.Sequence(upstream.Discrete(2)), upstream.Dict({})]
)
def test_spaces_that_no_algorithm_reads_are_refused(space: gymnasium.Space[Any]):
    with pytest.raises(ValueError, match="is not supported"):
        read_space(space)


class Fragile(gymnasium.Env):
    """Raises at a given moment if its seed is 3; otherwise counts, and ends after 4 steps.

    Once it has raised, it must be left alone.
    """

    observation_space = upstream.Box(0, 10, (1,), np.float32)
    action_space = upstream.Discrete(2)
    breaks_at: ClassVar[str] = "step"
    is_broken = False

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[Any, dict[str, Any]]:
        super().reset(seed=seed)
        self.steps = 0
        self.is_faulty = seed == 3 if seed is not None else self.is_faulty
        moment = "first reset" if seed is not None else "reset"
        if self.is_faulty and self.breaks_at == moment:
            self._break()
        return np.array([1], np.float32), {}

    def step(self, action: int) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        self.steps += 1
        if self.is_broken or (self.is_faulty and self.breaks_at == "step" and self.steps == 2):
            self._break()
        return np.array([1 + self.steps], np.float32), 1.0, self.steps == 4, False, {}

    def _break(self) -> None:
        if self.is_broken:
            raise AssertionError("touched again")
        self.is_broken = True
        raise RuntimeError("broken glass")


@pytest.mark.parametrize(("moment", "healthy"), [("first reset", 0), ("step", 1), ("reset", 3)])
def test_a_lane_that_raises_takes_out_its_own_seed_only(
    moment: str, healthy: int, monkeypatch: pytest.MonkeyPatch
):
    actions = np.zeros((9, 2, 2), np.int64)
    intact = play(GymnasiumLanes(Fragile, np.array([[1, 2], [5, 4]])), actions)
    monkeypatch.setattr(Fragile, "breaks_at", moment)
    lanes = GymnasiumLanes(Fragile, np.array([[1, 2], [5, 3]]))
    outcomes = play(lanes, actions)
    assert lanes.failures == {1: "RuntimeError: broken glass"}
    for number, (outcome, expected) in enumerate(zip(outcomes, intact, strict=True)):
        assert_same(outcome, expected, 0, 0)
        if number < healthy:
            assert_same(outcome, expected, 1, 1)
        else:
            arrays = [outcome.obs["observation"], outcome.next_obs["observation"], *outcome[2:]]
            assert not any(values[1].any() for values in arrays)


def test_any_registered_id_is_a_task_of_the_reference_engine():
    task = gymnasium_family.find("Blackjack-v1")
    assert task is not None
    assert (task.id, task.actions, task.horizon) == ("gymnasium/Blackjack-v1", "discrete", None)
    usable = [e.name for e in gymnasium_family.FAMILY.engines if e.supports(task)]
    assert usable == ["gymnasium"]
    lanes = gymnasium_family.FAMILY.engines[1].make(task, np.arange(4).reshape(2, 2), "train", 1)
    assert list(lanes.spaces.observation) == ["0", "1", "2"]
    assert play(lanes, np.zeros((3, 2, 2), np.int64))[0].terminated.all()


@pytest.mark.parametrize("name", ["HalfCheetah-v5", "Nothing-v0", "CartPole-v99", "a/b/c"])
def test_unregistered_names_and_tasks_of_other_families_are_not_found(name: str):
    assert gymnasium_family.find(name) is None


Policy = Callable[[dict[str, np.ndarray]], np.ndarray]

BEST: dict[str, Policy] = {
    "identity-discrete": lambda obs: obs["observation"],
    "identity-vector": lambda obs: obs["observation"].argmax(axis=-1),
    "identity-image": lambda obs: (
        obs["observation"][..., ::32, ::32, 0].reshape(2, -1, 4).argmax(-1)
    ),
    "identity-dict": lambda obs: 2 * obs["half"] + (obs["sign"][..., 0] > 0),
    "identity-multidiscrete": lambda obs: obs["observation"],
    "identity-continuous": lambda obs: np.array([-2, 0]) + (obs["observation"] + 1) * [2, 0.5],
    "credit": lambda obs: np.minimum(obs["observation"], 1),
}


def probe(name: str, seeds: tuple[int, ...] = (0, 2), width: int = 500, period: int = 0) -> Lanes:
    lane = lane_seeds(seeds, "train", period, width)
    return probes.FAMILY.engines[0].make(probes.FAMILY.tasks[name], lane, "train", 1)


def mean_return(name: str, policy: Policy | None) -> float:
    """Over 2,000 episodes or more; None is the random policy."""
    lanes = probe(name)
    obs = lanes.reset()
    total, episodes = 0.0, 0
    for draw in random_actions(lanes.spaces.action, (2, 500), 20):
        outcome = lanes.step(policy(obs) if policy else draw)
        obs = outcome.obs
        total += float(outcome.reward.sum())
        episodes += int(outcome.terminated.sum())
    return total / episodes


@pytest.mark.parametrize("name", BEST)
def test_the_best_return_of_a_probe_is_its_cap(name: str):
    bounds = probes.FAMILY.tasks[name].bounds
    assert mean_return(name, BEST[name]) == pytest.approx(bounds.cap, abs=1e-6)


@pytest.mark.parametrize("name", BEST)
def test_the_random_return_of_a_probe_is_its_floor(name: str):
    bounds = probes.FAMILY.tasks[name].bounds
    assert mean_return(name, None) == pytest.approx(bounds.floor, abs=0.1)


def test_credit_is_paid_after_the_second_action():
    lanes = probe("credit", width=4)
    first = lanes.reset()["observation"]
    wrong = np.array([[True, False, True, False]] * 2)
    middle = lanes.step(np.where(wrong, 1 - first, first))
    assert middle.reward.tolist() == [[0.0] * 4] * 2
    assert (middle.next_obs["observation"] == np.where(wrong, 2, 3)).all()
    last = lanes.step(np.zeros((2, 4), np.int64))
    assert (last.reward == ~wrong).all()
    assert last.terminated.all()


@pytest.mark.parametrize(("name", "terminates"), [("termination", True), ("truncation", False)])
def test_constant_reward_worlds_end_after_five_steps(name: str, terminates: bool):
    outcomes = play(probe(name, width=1), np.zeros((10, 2, 1), np.int64))
    for number, outcome in enumerate(outcomes, start=1):
        assert (outcome.reward == 1).all()
        assert (outcome.terminated == (terminates and number % 5 == 0)).all()
        assert (outcome.truncated == (not terminates and number % 5 == 0)).all()


def test_the_truncated_world_looks_the_same_at_every_step():
    outcomes = play(probe("truncation", width=1), np.zeros((10, 2, 1), np.int64))
    assert not any(o.obs["observation"].any() or o.next_obs["observation"].any() for o in outcomes)


@pytest.mark.parametrize("seeds", [(1,), (0, 1, 2), (4, 3, 2, 1)])
def test_only_run_seed_1_crashes_whichever_seeds_train_beside_it(seeds: tuple[int, ...]):
    actions = np.zeros((6, len(seeds), 2), np.int64)
    lanes = probe("crash", seeds, width=2, period=7)
    outcomes = play(lanes, actions)
    row = seeds.index(1)
    assert lanes.failures == {row: "RuntimeError: lane 0 broke at step 3"}
    intact = play(probe("identity-vector", seeds, width=2, period=7), actions)
    others = [other for other in range(len(seeds)) if other != row]
    for number, (outcome, expected) in enumerate(zip(outcomes, intact, strict=True), start=1):
        assert_same(outcome, expected, others, others)
        if number < 3:
            assert_same(outcome, expected)
        else:
            assert not outcome.obs["observation"][row].any()
            assert not outcome.reward[row].any()


def test_poison_reaches_one_lane_of_run_seed_1():
    outcomes = play(probe("poison", (0, 1, 2), width=2), np.zeros((6, 3, 2), np.int64))
    spoiled = [np.isnan(o.obs["observation"]).any(axis=-1) for o in outcomes]
    where = np.array([[False, False], [True, False], [False, False]])
    assert [found.tolist() for found in spoiled] == [[[False] * 2] * 3] * 2 + [where.tolist()] * 4


@pytest.mark.parametrize("name", ["crash", "poison"])
def test_faults_spare_evaluation(name: str):
    seeds = lane_seeds((0, 1, 2), "evaluation", 0, 2)
    lanes = probes.FAMILY.engines[0].make(probes.FAMILY.tasks[name], seeds, "eval", 1)
    outcomes = play(lanes, np.zeros((6, 3, 2), np.int64))
    assert lanes.failures == {}
    assert all(np.isfinite(o.obs["observation"]).all() for o in outcomes)
