"""The frame of the Isaac Gym family, and Cartpole, its simplest task."""

from __future__ import annotations

import math
from dataclasses import replace

import mujoco
import numpy as np
import pytest
import torch
from torch import Tensor

from suite.envs.isaacgym import FAMILY
from suite.envs.isaacgym.cartpole import Cartpole
from suite.envs.isaacgym.draws import Draws
from suite.envs.isaacgym.physics import Mujoco, load_model
from suite.envs.isaacgym.rotations import conjugate, roll_and_yaw, rotate, rotate_back
from suite.envs.isaacgym.worlds import LEAF, WorldLanes
from suite.streams import lane_seeds

BITS = 2**64


def mix(bits: int) -> int:
    """SplitMix64's finaliser, in Python's own integers."""
    bits = (bits ^ (bits >> 30)) * 0xBF58476D1CE4E5B9 % BITS
    bits = (bits ^ (bits >> 27)) * 0x94D049BB133111EB % BITS
    return bits ^ (bits >> 31)


def test_draws_are_splitmix64():
    assert mix(0x9E3779B97F4A7C15) == 0xE220A8397B1DCDAF  # its first number from seed 0
    draws = Draws(torch.tensor([5, 2**31 - 1]))
    drawn = draws.uniform(torch.tensor([1]), 3)[0].tolist()
    golden = 0x9E3779B97F4A7C15
    key = mix((2**31 - 1) * golden % BITS)
    assert drawn == [(mix((key + i * golden) % BITS) >> 11) * 2.0**-53 for i in (1, 2, 3)]


def test_a_world_draws_its_own_numbers_one_after_the_other():
    draws, alone = Draws(torch.arange(4)), Draws(torch.tensor([2]))
    zero = torch.tensor([0])
    expected = alone.uniform(zero, 5)[0]
    draws.uniform(torch.tensor([0, 1]), 7)
    first = draws.uniform(torch.tensor([3, 2]), 2)[1]
    second = draws.uniform(torch.tensor([2]), 3)[0]
    assert torch.cat([first, second]).equal(expected)


def test_draws_are_uniform_and_worlds_differ():
    numbers = Draws(torch.arange(1000)).uniform(torch.arange(1000), 100, -2.0, 6.0)
    assert numbers.min() >= -2
    assert numbers.max() < 6
    assert numbers.mean().item() == pytest.approx(2, abs=0.03)
    assert numbers.std().item() == pytest.approx(8 / math.sqrt(12), abs=0.02)
    assert abs(torch.corrcoef(numbers[:50]).fill_diagonal_(0)).max() < 0.5
    assert len(numbers.unique()) == numbers.numel()


def test_rotations_are_mujocos():
    rng = np.random.default_rng(0)
    quaternions = rng.normal(size=(20, 4))
    quaternions /= np.linalg.norm(quaternions, axis=1, keepdims=True)
    vectors = rng.normal(size=(20, 3))
    turned = np.zeros((20, 3))
    for row in range(20):
        mujoco.mju_rotVecQuat(turned[row], vectors[row], quaternions[row])
    q, v = torch.from_numpy(quaternions), torch.from_numpy(vectors)
    torch.testing.assert_close(rotate(q, v), torch.from_numpy(turned))
    torch.testing.assert_close(rotate_back(q, rotate(q, v)), v)
    torch.testing.assert_close(rotate(conjugate(q), v), rotate_back(q, v))


@pytest.mark.parametrize("roll", [-2.0, 0.3, 3.0])
@pytest.mark.parametrize("yaw", [-3.0, 0.0, 1.2])
def test_roll_and_yaw_are_those_that_made_the_rotation(roll: float, yaw: float):
    about_x, about_y, about_z = np.zeros(4), np.zeros(4), np.zeros(4)
    mujoco.mju_axisAngle2Quat(about_x, np.array([1.0, 0, 0]), roll)
    mujoco.mju_axisAngle2Quat(about_y, np.array([0, 1.0, 0]), 0.4)
    mujoco.mju_axisAngle2Quat(about_z, np.array([0, 0, 1.0]), yaw)
    whole = np.zeros(4)
    mujoco.mju_mulQuat(whole, about_y, about_x)
    mujoco.mju_mulQuat(whole, about_z, whole.copy())
    found = roll_and_yaw(torch.from_numpy(whole))
    assert [angle.item() for angle in found] == pytest.approx([roll, yaw])


def cartpole(worlds: int = 3, horizon: int = 500) -> WorldLanes:
    physics = Mujoco(load_model(Cartpole.model), worlds)
    return WorldLanes(Cartpole(physics, np.arange(worlds)), (1, worlds), horizon)


def place(lanes: WorldLanes, qpos: list[float], qvel: list[float]) -> None:
    """The same state in all worlds."""
    worlds = lanes.worlds
    rows = [worlds.tensor([values]).expand(len(worlds.all), -1) for values in (qpos, qvel)]
    worlds.physics.place(worlds.all, *rows)


def judged(qpos: list[float], qvel: list[float]) -> tuple[float, bool]:
    lanes = cartpole(1)
    place(lanes, qpos, qvel)
    reward, fell = lanes.worlds.judge(torch.zeros(1, 1))
    return reward.item(), bool(fell)


def test_cartpole_pays_for_an_upright_pole_and_little_motion():
    assert judged([1.0, 0.5], [-2.0, 4.0]) == (pytest.approx(1 - 0.25 - 0.02 - 0.02), False)
    assert judged([2.99, 1.57], [0.0, 0.0]) == (pytest.approx(1 - 1.57**2), False)
    assert judged([-3.01, 0.0], [0.0, 0.0]) == (-2, True)
    assert judged([0.0, -1.58], [0.0, 0.0]) == (-2, True)


def test_cartpole_shows_cart_then_pole_up_to_five():
    lanes = cartpole(1)
    place(lanes, [1.0, 0.25], [-7.0, 3.0])
    assert lanes._observe()[0].tolist() == [1.0, -5.0, 0.25, 3.0]


def test_the_force_is_400_newtons_and_the_cart_weighs_a_kilogram():
    """A pole of length 2 l, hung by its end, resists with m (1 - m l^2 / (I + m l^2)) at once."""
    lanes = cartpole(1)
    place(lanes, [0.0, 0.0], [0.0, 0.0])
    lanes.step(np.full((1, 1, 1), 5.0, np.float32))  # clamped to 1
    centre, inertia = 0.47, (0.06**2 + 1.0**2) / 12
    mass = 1 + 1 - centre**2 / (inertia + centre**2)
    speed = lanes.worlds.physics.qvel[0, 0].item()
    assert speed == pytest.approx(400 / mass * 0.0166, rel=0.02)


def test_cartpole_begins_within_upstreams_range():
    lanes = cartpole(500)
    first = lanes.reset()[LEAF][0]
    for column, reach in ((0, 0.1), (1, 0.25), (2, 0.1), (3, 0.25)):
        assert 0.95 * reach < abs(first[:, column]).max() <= reach


def test_falling_is_termination_and_time_is_truncation():
    lanes = cartpole(2, horizon=3)
    lanes.reset()
    push = np.array([[[0.0], [0.0]]], np.float32)
    outcomes = []
    for count in range(6):
        if count == 1:
            worlds = lanes.worlds
            worlds.physics.place(
                torch.tensor([1]), worlds.tensor([[0, 2]]), worlds.tensor([[0, 0]])
            )
        outcomes.append(lanes.step(push))
    assert [o.terminated[0].tolist() for o in outcomes] == [
        [False, count == 1] for count in range(6)
    ]
    assert [o.truncated[0].tolist() for o in outcomes] == [
        [count in (2, 5), count == 4] for count in range(6)
    ]
    assert abs(outcomes[1].next_obs[LEAF][0, 1, 2]) > 1.9
    assert abs(outcomes[1].obs[LEAF][0, 1, 2]) <= 0.1
    assert outcomes[0].obs is outcomes[0].next_obs


@pytest.mark.parametrize("value", [math.nan, math.inf, 1e7])
def test_an_exploded_world_ends_alone_and_begins_anew(value: float):
    lanes, unharmed = cartpole(3), cartpole(3)
    lanes.reset(), unharmed.reset()
    lanes.worlds.physics.qvel[1, 0] = value
    push = np.zeros((1, 3, 1), np.float32)
    outcome, other = lanes.step(push), unharmed.step(push)
    assert outcome.terminated[0].tolist() == [False, True, False]
    assert outcome.reward[0, 1] == 0
    assert (outcome.next_obs[LEAF][0, 1] == 0).all()
    assert abs(outcome.obs[LEAF][0, 1]).max() <= 0.25
    for row in (0, 2):
        np.testing.assert_array_equal(outcome.obs[LEAF][0, row], other.obs[LEAF][0, row])
    assert np.isfinite(lanes.step(push).reward).all()


def test_only_evaluation_is_prepared_as_such(monkeypatch: pytest.MonkeyPatch):
    asked = []
    monkeypatch.setattr(Cartpole, "examine", lambda worlds: asked.append(len(worlds.all)))
    for split, lanes in (("train", 2), ("eval", 3)):
        seeds = lane_seeds((0,), split, 0, lanes)
        FAMILY.engines[0].make(FAMILY.tasks["Cartpole"], seeds, split, 1)
    assert asked == [3]


@pytest.mark.parametrize("name", FAMILY.tasks)
def test_bits_do_not_depend_on_threads(name: str):
    seeds = lane_seeds((4, 5), "train", 0, 6)
    task = replace(FAMILY.tasks[name], horizon=10)
    rng = np.random.default_rng(0)
    played = []
    actions: list[Tensor] = []
    for threads in (1, 2):
        lanes = FAMILY.engines[0].make(task, seeds, "train", threads)
        lanes.reset()
        size = (25, 2, 6, *lanes.spaces.action.shape)
        actions = actions or list(rng.uniform(-1, 1, size).astype(np.float32))
        played.append([lanes.step(action) for action in actions])
        lanes.close()
    for one, other in zip(*played, strict=True):
        np.testing.assert_array_equal(one.obs[LEAF], other.obs[LEAF])
        np.testing.assert_array_equal(one.reward, other.reward)
