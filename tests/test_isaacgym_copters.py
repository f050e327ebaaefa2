"""Quadcopter and Ingenuity: numbers worked out by hand, and flight as mechanics says."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import Tensor

from suite.envs.isaacgym.copters import Copter, Ingenuity, Quadcopter
from suite.envs.isaacgym.physics import Mujoco, load_model
from suite.envs.isaacgym.worlds import WorldLanes

LEVEL = (1.0, 0.0, 0.0, 0.0)
ON_ITS_SIDE = (math.sqrt(0.5), math.sqrt(0.5), 0.0, 0.0)
"""Turned by 90 degrees about x: its y axis points up, its z axis along minus y."""
UPSIDE_DOWN = (0.0, 1.0, 0.0, 0.0)

both = pytest.mark.parametrize("task", [Quadcopter, Ingenuity])


def worlds_of(task: type[Copter], count: int = 1) -> Copter:
    return task(Mujoco(load_model(task.model), count), np.arange(count))


def lanes_of(task: type[Copter], seeds: list[int], horizon: int = 500) -> WorldLanes:
    worlds = task(Mujoco(load_model(task.model), len(seeds)), np.array(seeds))
    return WorldLanes(worlds, (1, len(seeds)), horizon)


def put(
    worlds: Copter,
    place: tuple[float, ...],
    attitude: tuple[float, ...] = LEVEL,
    velocity: tuple[float, ...] = (0, 0, 0),
    spin: tuple[float, ...] = (0, 0, 0),
) -> None:
    """Place all worlds; the spin is in the body's own frame."""
    joints = worlds.physics.model.nq - 7
    rest = [0.0] * joints
    worlds.physics.place(
        worlds.all,
        worlds.tensor([*place, *attitude, *rest]).expand(len(worlds.all), -1),
        worlds.tensor([*velocity, *spin, *rest]).expand(len(worlds.all), -1),
    )


def judged(worlds: Copter) -> tuple[float, bool]:
    reward, ended = worlds.judge(torch.zeros(1, worlds.num_actions))
    return float(reward), bool(ended)


def fly(worlds: Copter, action: list[float], times: int) -> Tensor:
    """Repeat an action; return the positions ``[N, nq]`` at the end."""
    for _ in range(times):
        worlds.advance(worlds.tensor(action).expand(len(worlds.all), -1))
    return worlds.physics.qpos


# The models.


@both
def test_the_model_has_the_published_dimensions(task: type[Copter]) -> None:
    model = load_model(task.model)
    mass, velocities, gravity = {
        Quadcopter: (0.2515369, 14, -9.81),
        Ingenuity: (1.5001167, 6, -3.721),
    }[task]
    assert model.body_mass.sum() == pytest.approx(mass, abs=1e-7)
    assert model.nv == velocities
    assert model.nu == task.num_actions
    assert model.opt.gravity.tolist() == [0, 0, gravity]
    assert model.opt.timestep * task.substeps == pytest.approx(0.01)


def test_quadcopters_rotors_stand_diagonally_and_tilt_by_30_degrees() -> None:
    model = load_model("quadcopter.xml")
    assert np.allclose(np.degrees(model.jnt_range[1:]), [-30, 30])
    worlds = worlds_of(Quadcopter)
    worlds.begin(worlds.all)
    names = [model.joint(joint).name for joint in range(1, 9)]
    assert names == [f"{axis}{arm}" for arm in range(4) for axis in ("pitch", "roll")]
    arms = np.array([model.body(f"arm{arm}").pos for arm in range(4)])
    expected = 0.1025 * np.sqrt(0.5) * np.array([[1, 1, 0], [-1, 1, 0], [-1, -1, 0], [1, -1, 0]])
    assert np.allclose(arms, expected)


# Reward and end.


@pytest.mark.parametrize(
    ("place", "attitude", "spin", "reward", "ended"),
    [
        pytest.param((0, 0, 1), LEVEL, (0, 0, 0), 3.0, False, id="at the goal"),
        pytest.param((1, 2, 3), LEVEL, (0, 0, 0), 0.3, False, id="3 m away is not too far"),
        pytest.param((1, 2, 3.01), LEVEL, (0, 0, 0), 3 / 10.0401, True, id="too far"),
        pytest.param((0, 0, 0.3), LEVEL, (0, 0, 0), 3 / 1.49, False, id="0.3 m is not too low"),
        pytest.param((0, 0, 0.2), LEVEL, (0, 0, 0), 3 / 1.64, True, id="too low"),
        pytest.param((0, 0, 1), ON_ITS_SIDE, (0, 0, 0), 2.5, False, id="on its side"),
        pytest.param((0, 0, 1), UPSIDE_DOWN, (0, 0, 0), 2.2, False, id="upside down"),
        pytest.param((0, 0, 1), LEVEL, (5, 5, -2), 2.2, False, id="yawing"),
        pytest.param((0, 0, 1), ON_ITS_SIDE, (0, 2, 5), 1.7, False, id="yawing on its side"),
        pytest.param((0, 2, 1), ON_ITS_SIDE, (0, 2, 5), 0.34, False, id="the same 2 m away"),
    ],
)
def test_quadcopters_reward_and_end(
    place: tuple[float, ...],
    attitude: tuple[float, ...],
    spin: tuple[float, ...],
    reward: float,
    ended: bool,
) -> None:
    worlds = worlds_of(Quadcopter)
    put(worlds, place, attitude, (1, 2, 3), spin)
    assert judged(worlds) == (pytest.approx(reward, rel=1e-6), ended)


@pytest.mark.parametrize(
    ("place", "attitude", "spin", "reward", "ended"),
    [
        pytest.param((1, -2, 2), LEVEL, (0, 0, 0), 7.0, False, id="at the goal"),
        pytest.param((1, 0, 2), LEVEL, (0, 0, 0), 1.4, False, id="2 m away"),
        pytest.param((9, -2, 2), LEVEL, (0, 0, 0), 7 / 65, False, id="8 m away is not too far"),
        pytest.param((9.5, -2, 2), LEVEL, (0, 0, 0), 7 / 73.25, True, id="too far"),
        pytest.param((1, -2, 0.5), LEVEL, (0, 0, 0), 7 / 3.25, False, id="0.5 m is not too low"),
        pytest.param((1, -2, 0.4), LEVEL, (0, 0, 0), 7 / 3.56, True, id="too low"),
        pytest.param((1, -2, 2), ON_ITS_SIDE, (0, 0, 0), 4.5, False, id="on its side"),
        pytest.param((1, -2, 2), UPSIDE_DOWN, (0, 0, 0), 3.0, False, id="upside down"),
        pytest.param((1, -2, 2), LEVEL, (5, 5, -2), 6.2, False, id="yawing"),
    ],
)
def test_ingenuitys_reward_and_end(
    place: tuple[float, ...],
    attitude: tuple[float, ...],
    spin: tuple[float, ...],
    reward: float,
    ended: bool,
) -> None:
    worlds = worlds_of(Ingenuity)
    worlds.goal[0] = worlds.tensor([1.0, -2.0, 2.0])
    put(worlds, place, attitude, (1, 2, 3), spin)
    assert judged(worlds) == (pytest.approx(reward, rel=1e-6), ended)


# Observation.


@both
def test_observation(task: type[Copter]) -> None:
    worlds = worlds_of(task)
    worlds.goal[0] = worlds.tensor([0.0, 0.0, 1.0])
    put(worlds, (-3, 1.5, 0.4), ON_ITS_SIDE, (2, -4, 1), (0.5 * math.pi, math.pi, 0))
    joints = 0.1 * torch.arange(worlds.physics.model.nq - 7)
    worlds.physics.qpos[0, 7:] = joints
    expected = [
        *(1, -0.5, 0.2),
        *(math.sqrt(0.5), 0, 0, math.sqrt(0.5)),
        *(1, -2, 0.5),
        *(0.5, 0, 1),
        *joints.tolist(),
    ]
    assert worlds.observe().shape == (1, task.num_observations)
    assert worlds.observe()[0].tolist() == pytest.approx(expected, abs=1e-6)


def test_observation_is_clipped() -> None:
    lanes = lanes_of(Quadcopter, [0])
    lanes.reset()
    put(lanes.worlds, (0, 0, 1), LEVEL, (0, 0, 30))
    after = lanes.step(np.zeros((1, 1, 12), np.float32)).next_obs["observation"][0, 0]
    assert after[9] == 5
    assert lanes.spaces.observation["observation"].high.tolist() == [5] * 21


# Actions.


def test_quadcopters_actions_change_angles_and_thrusts() -> None:
    worlds = worlds_of(Quadcopter)
    put(worlds, (0, 0, 1))
    step = 0.08 * math.pi
    action = worlds.tensor([[1.0, -1, 0.5, 0, 0, 0, 0, 0, 0.25, 1, 0, -1]])
    worlds.advance(action)
    first = [step, -step, 0.5, 0.5 * step, 0, 2, 0, 0, 0, 0, 0, 0]
    assert worlds.control(action)[0].tolist() == pytest.approx(first)
    worlds.advance(action)
    second = [2 * step, -2 * step, 1, step, 0, 2, 0, 0, 0, 0, 0, 0]
    assert worlds.control(action)[0].tolist() == pytest.approx(second)
    worlds.advance(action)
    most = math.pi / 6
    third = [most, -most, 1.5, 1.5 * step, 0, 2, 0, 0, 0, 0, 0, 0]
    assert worlds.control(action)[0].tolist() == pytest.approx(third)
    worlds.advance(-action)
    fourth = [most - step, step - most, 1, step, 0, 0, 0, 0, 0, 0, 0, 2]
    assert worlds.control(action)[0].tolist() == pytest.approx(fourth)


def test_ingenuitys_action_is_lift_and_a_part_of_it_sideways() -> None:
    worlds = worlds_of(Ingenuity)
    action = worlds.tensor([[0.5, -1, 0.25, 0, 0.1, -1]])
    assert worlds.control(action)[0].tolist() == pytest.approx([1, -1, 5, 0, -2, -20])


# Beginnings.


@both
def test_an_episode_begins_level_and_at_rest_around_the_goal(task: type[Copter]) -> None:
    worlds = worlds_of(task, 300)
    worlds.begin(worlds.all)
    qpos = worlds.physics.qpos
    lowest = torch.tensor([-1.5, -1.5, 0.8])
    highest = torch.tensor([1.5, 1.5, 2.5])
    share = (qpos[:, :3] - lowest) / (highest - lowest)
    assert ((share >= 0) & (share < 1)).all()
    assert share.amin(0).max() < 0.05
    assert share.amax(0).min() > 0.95
    assert (qpos[:, 3:7] == torch.tensor(LEVEL)).all()
    assert not worlds.physics.qvel.any()


def test_quadcopter_begins_with_tilted_rotors_that_stay_and_do_not_push() -> None:
    worlds = worlds_of(Quadcopter, 100)
    worlds.begin(worlds.all)
    fly(worlds, [1.0] * 12, 1)
    worlds.begin(worlds.all)
    angles = worlds.physics.qpos[:, 7:]
    assert angles.abs().max() < 0.2
    assert angles.std() == pytest.approx(0.4 / math.sqrt(12), rel=0.1)
    assert torch.equal(worlds.angles, angles)
    assert not worlds.thrusts.any()


def test_ingenuitys_goal_moves_every_500_actions() -> None:
    worlds = worlds_of(Ingenuity, 5)
    worlds.begin(worlds.all)
    before = worlds.goal.clone()
    worlds.elapsed[:] = torch.tensor([1, 500, 501, 502, 1001])
    worlds.advance(torch.zeros(5, 6))
    moved = (worlds.goal != before).any(1)
    assert moved.tolist() == [False, False, True, False, True]


def test_ingenuitys_goal_is_anywhere_in_its_box() -> None:
    worlds = worlds_of(Ingenuity, 300)
    worlds.begin(worlds.all)
    lowest, highest = torch.tensor([-5.0, -5, 1]), torch.tensor([5.0, 5, 2])
    share = (worlds.goal - lowest) / (highest - lowest)
    assert ((share >= 0) & (share < 1)).all()
    assert share.amin(0).max() < 0.05
    assert share.amax(0).min() > 0.95


# Flight.


@both
def test_without_thrust_it_falls_freely(task: type[Copter]) -> None:
    worlds = worlds_of(task)
    put(worlds, (0, 0, 1))
    fly(worlds, [0.0] * task.num_actions, 20)
    gravity = -worlds.physics.model.opt.gravity[2]
    assert float(worlds.physics.qvel[0, 2]) == pytest.approx(-0.2 * gravity)
    # 40 time steps of 5 ms, each of which falls with the velocity at its end
    assert float(worlds.physics.qpos[0, 2]) == pytest.approx(1 - gravity * 0.005**2 * 820)


def test_quadcopter_hovers_when_its_thrusts_are_its_weight() -> None:
    worlds = worlds_of(Quadcopter)
    put(worlds, (0, 0, 1))
    worlds.thrusts[:] = 0.2515369 * 9.81 / 4
    qpos = fly(worlds, [0.0] * 12, 200)
    assert qpos[0, :3].tolist() == pytest.approx([0, 0, 1], abs=0.01)
    assert qpos[0, 3:7].tolist() == pytest.approx(LEVEL, abs=1e-6)
    assert qpos[0, 7:].abs().max() < 0.02  # arms yield a little


def test_quadcopters_thrust_turns_with_the_rotor() -> None:
    worlds = worlds_of(Quadcopter)
    put(worlds, (0, 0, 1))
    worlds.angles[:] = worlds.tensor([0.0, 0.4] * 4)
    worlds.thrusts[:] = 0.5
    fly(worlds, [0.0] * 12, 10)
    # rolled about the arm, a rotor pushes clockwise; all four together do not push sideways
    velocity = worlds.physics.qvel[0]
    assert velocity[5] < -1
    assert velocity[:2].abs().max() < 1e-6


def test_quadcopters_rotors_reach_their_set_angles() -> None:
    worlds = worlds_of(Quadcopter)
    put(worlds, (0, 0, 1))
    angles = [0.5, -0.5, 0.3, 0.1, -0.4, 0.2, -0.1, 0.4]
    worlds.angles[:] = worlds.tensor(angles)
    assert fly(worlds, [0.0] * 12, 10)[0, 7:].tolist() == pytest.approx(angles, abs=0.02)
    assert fly(worlds, [0.0] * 12, 40)[0, 7:].tolist() == pytest.approx(angles, abs=0.002)


@pytest.mark.parametrize("rotor", [0, 1, 2, 3])
def test_each_thrust_lifts_its_own_corner(rotor: int) -> None:
    worlds = worlds_of(Quadcopter)
    put(worlds, (0, 0, 1))
    worlds.thrusts[0, rotor] = 0.5
    fly(worlds, [0.0] * 12, 2)
    # the corner that is pushed rises: the body turns about the axis to the left of its arm
    x, y = [(1, 1), (-1, 1), (-1, -1), (1, -1)][rotor]
    turning = worlds.physics.qvel[0, 3:5].sign().tolist()
    assert turning == [y, -x]


def test_ingenuity_hovers_when_its_lift_is_its_weight() -> None:
    worlds = worlds_of(Ingenuity)
    put(worlds, (0, 0, 1))
    lift = 1.5001167 * 3.721 / 2 / 20
    qpos = fly(worlds, [0, 0, lift, 0, 0, lift], 200)
    assert qpos[0].tolist() == pytest.approx([0, 0, 1, *LEVEL], abs=1e-5)


def test_ingenuity_is_pushed_sideways_in_its_own_frame() -> None:
    worlds = worlds_of(Ingenuity)
    put(worlds, (0, 0, 1), attitude=(math.sqrt(0.5), 0, 0, math.sqrt(0.5)))  # its x axis along y
    lift = 1.5001167 * 3.721 / 2 / 20
    fly(worlds, [0.2, 0, lift, 0.2, 0, lift], 1)
    # a fifth of its weight for 10 ms
    velocity = worlds.physics.qvel[0, :3].tolist()
    assert velocity == pytest.approx([0, 0.2 * 3.721 * 0.01, 0], abs=2e-5)


def test_ingenuitys_lower_rotor_pushes_below_the_centre_of_mass_and_the_upper_above() -> None:
    lift = 1.5001167 * 3.721 / 2 / 20
    for action, side in [([0.2, 0, lift, 0, 0, lift], -1), ([0, 0, lift, 0.2, 0, lift], 1)]:
        worlds = worlds_of(Ingenuity)
        put(worlds, (0, 0, 1))
        fly(worlds, action, 1)
        assert worlds.physics.qvel[0, 4] * side > 0.001  # about y


@both
def test_hard_actions_do_not_make_it_explode(task: type[Copter]) -> None:
    lanes = lanes_of(task, list(range(8)))
    lanes.reset()
    choices = np.random.default_rng(0).choice([-1.0, 1.0], (60, 1, 8, task.num_actions))
    for action in choices.astype(np.float32).repeat(5, axis=0):
        taken = lanes.step(action)
        assert np.isfinite(taken.reward).all()
        assert np.isfinite(taken.obs["observation"]).all()
        assert (lanes.worlds.physics.qvel.abs() < 200).all()


def test_a_fast_spin_does_not_gain_energy() -> None:
    worlds = worlds_of(Quadcopter)
    put(worlds, (0, 0, 1), spin=(60, 5, 30))
    fly(worlds, [0.0] * 12, 200)
    assert worlds.physics.qvel[0, 3:6].norm() < 68


# Worlds beside each other.


@both
def test_placing_some_worlds_leaves_the_others(task: type[Copter]) -> None:
    worlds = worlds_of(task, 4)
    worlds.begin(worlds.all)
    fly(worlds, [0.3] * task.num_actions, 5)
    physics = worlds.physics
    before = [part.clone() for part in (physics.qpos, physics.qvel, worlds.goal, worlds.observe())]
    worlds.begin(torch.tensor([1, 3]))
    after = [physics.qpos, physics.qvel, worlds.goal, worlds.observe()]
    for old, new in zip(before, after, strict=True):
        assert torch.equal(old[[0, 2]], new[[0, 2]])
    assert (before[0][[1, 3], 0] != physics.qpos[[1, 3], 0]).all()


@both
def test_a_world_alone_does_what_it_does_among_others(task: type[Copter]) -> None:
    alone, among = lanes_of(task, [7], horizon=40), lanes_of(task, [3, 7, 5], horizon=40)
    first, firsts = alone.reset(), among.reset()
    assert np.array_equal(first["observation"][0, 0], firsts["observation"][0, 1])
    rng = np.random.default_rng(0)
    ends = 0
    for _ in range(150):
        action = rng.uniform(-1, 1, (1, 3, task.num_actions)).astype(np.float32)
        one, three = alone.step(action[:, 1:2]), among.step(action)
        assert np.array_equal(one.obs["observation"][0, 0], three.obs["observation"][0, 1])
        assert one.reward[0, 0] == three.reward[0, 1]
        ends += int(one.terminated[0, 0] | one.truncated[0, 0])
    assert ends > 2


@both
def test_at_the_horizon_flying_is_truncated_and_falling_terminated(task: type[Copter]) -> None:
    lanes = lanes_of(task, [0, 1], horizon=2)
    lanes.reset()
    action = np.zeros((1, 2, task.num_actions), np.float32)
    taken = lanes.step(action)
    assert not (taken.terminated | taken.truncated).any()
    lanes.worlds.physics.qpos[1, 2] = 0.1
    taken = lanes.step(action)
    assert taken.terminated.tolist() == [[False, True]]
    assert taken.truncated.tolist() == [[True, False]]
