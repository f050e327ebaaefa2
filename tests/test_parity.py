"""EnvPool and Gymnasium step the same tasks: transitions, first observations, returns.

EnvPool cannot be put into a state, but Gymnasium can: each world below is put into the state that
EnvPool shows, and both take the same action. Where a state cannot be read off the observation
(Box2D), the returns of fixed policies must have the same distribution.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import gymnasium
import mujoco
import numpy as np
import pytest
from scipy.stats import chisquare, ks_2samp

from suite.envs.engines import EnvpoolLanes
from suite.envs.gymnasium import FAMILY as GYMNASIUM
from suite.envs.mujoco import FAMILY as MUJOCO
from suite.spaces import Box
from suite.steps import LaneStep
from suite.tasks import Family, Task

POOL, REFERENCE = 0, 1
"""Positions of the two engines in a family."""

MUJOCO_TASKS = list(MUJOCO.tasks.values())
SHARED = [t for t in GYMNASIUM.tasks.values() if GYMNASIUM.engines[POOL].supports(t)]


def family_of(task: Task) -> Family:
    return {"gymnasium": GYMNASIUM, "mujoco": MUJOCO}[task.family]


def by_id(tasks: list[Task]) -> dict[str, Any]:
    return {"argvalues": tasks, "ids": [task.id for task in tasks]}


# Classic control: the observation tells the state, up to float32.


def angles(obs: np.ndarray) -> np.ndarray:
    """State of Acrobot: two angles, given by cosine and sine, and their velocities."""
    first, second = np.arctan2(obs[1], obs[0]), np.arctan2(obs[3], obs[2])
    return np.array([first, second, *obs[4:]], np.float64)


def pendulum_state(obs: np.ndarray) -> np.ndarray:
    return np.array([np.arctan2(obs[1], obs[0]), obs[2]], np.float64)


def same(obs: np.ndarray) -> np.ndarray:
    return obs.astype(np.float64)


STATES: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "CartPole-v1": same,
    "MountainCar-v0": same,
    "MountainCarContinuous-v0": same,
    "Acrobot-v1": angles,
}


def pool_steps(
    name: str, width: int, steps: int, hold: int = 1
) -> Iterator[tuple[np.ndarray, np.ndarray, LaneStep]]:
    """Observation, action and outcome of random play in EnvPool; an action is held for a while.

    Box actions reach beyond the bounds, so that clipping is compared too.
    """
    lanes = EnvpoolLanes(name, np.arange(width)[None], horizon=500)
    rng = np.random.default_rng(0)
    obs = lanes.reset()["observation"][0]
    space = lanes.spaces.action
    for step in range(steps):
        if step % hold == 0:
            if isinstance(space, Box):
                size = (1, width, *space.shape)
                action = rng.uniform(1.5 * space.low, 1.5 * space.high, size).astype(np.float32)
            else:
                action = rng.integers(0, space.n, (1, width))
        outcome = lanes.step(action)
        yield obs, action[0], outcome
        obs = outcome.obs["observation"][0]


def classic_differences(name: str, read: Callable[[np.ndarray], np.ndarray]) -> tuple[float, float]:
    """Largest difference of next observation and reward over 3,200 transitions; ends must agree."""
    world = gymnasium.make(name).unwrapped
    world.reset(seed=0)
    of_obs = of_reward = 0.0
    for obs, actions, outcome in pool_steps(name, 4, 800, hold=7):
        for lane, action in enumerate(actions):
            world.state = read(obs[lane])
            world.steps_beyond_terminated = None
            next_obs, reward, terminated, _, _ = world.step(action)
            of_obs = max(of_obs, np.abs(next_obs - outcome.next_obs["observation"][0, lane]).max())
            of_reward = max(of_reward, abs(reward - outcome.reward[0, lane]))
            assert terminated == outcome.terminated[0, lane]
    return of_obs, of_reward


@pytest.mark.parametrize("name", STATES)
def test_classic_control_has_the_same_transitions(name: str):
    of_obs, of_reward = classic_differences(name, STATES[name])
    assert of_obs < 2e-6
    assert of_reward < 2e-6


def test_pendulum_turns_differently_in_envpool_and_is_left_to_gymnasium():
    of_obs, _ = classic_differences("Pendulum-v1", pendulum_state)
    assert of_obs > 0.01
    assert not GYMNASIUM.engines[POOL].supports(GYMNASIUM.tasks["Pendulum-v1"])


# Toy text: the observation is the state, and Gymnasium tells the transition probabilities.


def transition_counts(name: str, states: int, actions: int) -> tuple[np.ndarray, set[Any]]:
    """Counts ``[states, actions, states]``, and the (state, action, next, reward, end) seen."""
    counts = np.zeros((states, actions, states))
    seen = set()
    for obs, action, outcome in pool_steps(name, 64, 1500):
        next_obs = outcome.next_obs["observation"][0]
        np.add.at(counts, (obs, action, next_obs), 1)
        rows = (obs, action, next_obs, outcome.reward[0], outcome.terminated[0])
        seen |= set(zip(*(row.tolist() for row in rows), strict=True))
    return counts, seen


@pytest.mark.parametrize(("name", "choices"), [("FrozenLake-v1", 44), ("CliffWalking-v1", 148)])
def test_toy_text_has_the_same_transition_probabilities(name: str, choices: int):
    """In every one of the choices: pairs of a state that is no end and an action."""
    world = gymnasium.make(name).unwrapped
    states, actions = world.observation_space.n, world.action_space.n
    counts, seen = transition_counts(name, int(states), int(actions))
    possible = {
        (state, action, int(next_state), float(reward), bool(end))
        for state, table in world.P.items()
        for action, rows in table.items()
        for _, next_state, reward, end in rows
    }
    assert seen <= possible
    assert np.count_nonzero(counts.sum(axis=2)) == choices
    for state, action in zip(*np.nonzero(counts.sum(axis=2)), strict=True):
        expected = np.zeros(states)
        for probability, next_state, *_ in world.P[state][action]:
            expected[next_state] += probability * counts[state, action].sum()
        support = expected > 0
        if support.sum() > 1:
            assert chisquare(counts[state, action, support], expected[support]).pvalue > 1e-4


def test_taxi_begins_elsewhere_in_envpool_and_is_left_to_gymnasium():
    lanes = EnvpoolLanes("Taxi-v3", np.arange(400)[None], horizon=200)
    states = lanes.reset()["observation"][0]
    passenger, destination = states // 4 % 5, states % 4
    assert (passenger == destination).mean() > 0.1  # never in Gymnasium: 300 first states
    assert gymnasium.make("Taxi-v4").unwrapped.initial_state_distrib[states].min() == 0
    assert not GYMNASIUM.engines[POOL].supports(GYMNASIUM.tasks["Taxi-v3"])


# MuJoCo: from the same first state, the same actions lead along the same path.


def place(world: Any, name: str, obs: np.ndarray) -> None:
    """Put a Gymnasium world into the state that a first observation (float64) tells.

    Positions that observations leave out are coordinates along which the world looks the same.
    """
    nq, nv = world.model.nq, world.model.nv
    if name in ("HalfCheetah", "Hopper", "Walker2d"):
        position, velocity = np.append(0, obs[: nq - 1]), obs[nq - 1 : nq - 1 + nv]
    elif name in ("Swimmer", "Ant", "Humanoid", "HumanoidStandup"):
        position, velocity = np.append([0, 0], obs[: nq - 2]), obs[nq - 2 : nq - 2 + nv]
    elif name == "InvertedPendulum":
        position, velocity = obs[:2], obs[2:]
    elif name == "InvertedDoublePendulum":
        joints = np.arctan2(obs[1:3], obs[3:5])
        position, velocity = np.append(obs[0], joints), obs[5:8]
    elif name == "Reacher":
        position = np.append(np.arctan2(obs[2:4], obs[:2]), obs[4:6])
        velocity = np.append(obs[6:8], [0, 0])
        world.goal = obs[4:6]
    else:
        assert name == "Pusher"
        position, velocity = np.append(obs[:7], np.zeros(4)), np.append(obs[7:14], np.zeros(4))
        world.set_state(position, velocity)
        x, y, _ = obs[17:20] - world.get_body_com("object")
        position[7:9] = y, x
    mujoco.mj_resetData(world.model, world.data)  # forgets the contact solver's last solution
    world.set_state(position, velocity)


TOLERANCES = {"Humanoid-v5": (1e-4, 8), "HumanoidStandup-v5": (1e-3, 3)}
"""Relative, and steps. Both stop the contact solver before it has converged, at 50 iterations, and
contacts amplify what is left; the others agree up to rounding."""


@pytest.mark.parametrize("task", **by_id(MUJOCO_TASKS))
@pytest.mark.filterwarnings("ignore:.*precision lowered by casting")
def test_mujoco_follows_the_same_path(task: Task):
    import envpool

    width = 4
    tolerance, steps = TOLERANCES.get(task.name, (1e-6, 20))
    pool = envpool.make_gymnasium(task.name, num_envs=width, num_threads=1, seed=list(range(width)))
    lanes = MUJOCO.engines[REFERENCE].make(task, np.arange(width)[None], "train", 1)
    lanes.reset()
    worlds = [env.unwrapped for env in lanes._envs[0]]
    first, _ = pool.reset()
    for world, obs in zip(worlds, first, strict=True):
        place(world, task.name.removesuffix("-v5"), obs)
        np.testing.assert_allclose(world._get_obs(), obs, atol=1e-12)
    low, high = pool.action_space.low, pool.action_space.high
    rng = np.random.default_rng(0)
    alive = np.ones(width, bool)
    for _ in range(steps):
        action = rng.uniform(1.2 * low, 1.2 * high, (width, *low.shape)).astype(np.float32)
        obs, reward, terminated, _, _ = pool.step(action)
        for lane in np.flatnonzero(alive):
            expected, gain, end, _, _ = worlds[lane].step(action[lane])
            joints = slice(0, worlds[lane].model.nq + worlds[lane].model.nv - 2)
            np.testing.assert_allclose(
                obs[lane][joints], expected[joints], rtol=tolerance, atol=tolerance
            )
            assert reward[lane] == pytest.approx(gain, rel=tolerance, abs=tolerance)
            assert terminated[lane] == end
        alive &= ~terminated
    pool.close()
    lanes.close()


# Every task that EnvPool steps by default: episodes begin alike.


def first_observations(task: Task, engine: int, seeds: np.ndarray) -> np.ndarray:
    """``[lanes, features]``, rounded so that rounding errors do not count as differences."""
    lanes = family_of(task).engines[engine].make(task, seeds[None], "train", 1)
    obs = lanes.reset()["observation"][0]
    lanes.close()
    return obs.reshape(len(obs), -1).round(5)


@pytest.mark.parametrize("task", **by_id(SHARED + MUJOCO_TASKS))
def test_episodes_begin_alike(task: Task):
    ours = first_observations(task, POOL, np.arange(150))
    reference = first_observations(task, REFERENCE, np.arange(150))
    for feature in range(ours.shape[1]):
        assert ks_2samp(ours[:, feature], reference[:, feature]).pvalue > 1e-4, feature


# Box2D: episodes of fixed policies have the same returns and lengths.


def thrust(obs: np.ndarray) -> np.ndarray:
    """Land upright: fire the main engine when falling fast, the side engines when tilting."""
    tilt = obs[..., 4] + obs[..., 5] + 0.5 * obs[..., 2]
    sideways = np.where(tilt > 0.1, 3, np.where(tilt < -0.1, 1, 0))
    return np.where(obs[..., 3] < -0.3, 2, sideways)


def constant(value: float, dims: int) -> Callable[[np.ndarray], np.ndarray]:
    return lambda obs: np.full((*obs.shape[:2], dims), value, np.float32)


Policy = Callable[[np.ndarray], np.ndarray]

POLICIES: dict[str, tuple[str, Policy]] = {
    "lander falls": ("LunarLander-v3", lambda obs: np.zeros(obs.shape[:2], np.int64)),
    "lander lands": ("LunarLander-v3", thrust),
    "lander at full thrust": ("LunarLanderContinuous-v3", constant(1.0, 2)),
    "walker at full torque": ("BipedalWalker-v3", constant(1.0, 4)),
}


def first_episodes(task: Task, engine: int, policy: Policy) -> tuple[np.ndarray, np.ndarray]:
    """Returns and lengths of the first two episodes of 60 lanes.

    BipedalWalker does not forget all of an episode when it begins the next (in both engines), so
    that both must play episodes of the same number.
    """
    lanes = GYMNASIUM.engines[engine].make(task, np.arange(60)[None] + 1000 * engine, "train", 1)
    obs = lanes.reset()["observation"]
    returns, lengths, played = np.zeros((60, 2)), np.zeros((60, 2)), np.zeros(60, np.int64)
    while played.min() < 2:
        outcome = lanes.step(policy(obs))
        obs = outcome.obs["observation"]
        going = np.flatnonzero(played < 2)
        returns[going, played[going]] += outcome.reward[0, going]
        lengths[going, played[going]] += 1
        played += (outcome.terminated | outcome.truncated)[0]
    lanes.close()
    return returns.ravel(), lengths.ravel()


@pytest.mark.parametrize("label", POLICIES)
def test_box2d_returns_have_the_same_distribution(label: str):
    name, policy = POLICIES[label]
    task = GYMNASIUM.tasks[name]
    ours, reference = (first_episodes(task, engine, policy) for engine in (POOL, REFERENCE))
    for mine, theirs in zip(ours, reference, strict=True):
        assert ks_2samp(mine, theirs).pvalue > 0.001
