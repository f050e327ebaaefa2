"""BallBalance: numbers worked out by hand, and a tray that stands, lifts and catches."""

from __future__ import annotations

import math

import mujoco
import numpy as np
import pytest
import torch

from suite.envs.isaacgym.ball_balance import BallBalance
from suite.envs.isaacgym.physics import Mujoco, load_model
from suite.envs.isaacgym.worlds import WorldLanes

RESTING = 0.669117
"""Height of a ball that lies on the tray."""


def worlds_of(count: int = 1) -> BallBalance:
    worlds = BallBalance(Mujoco(load_model(BallBalance.model), count), np.arange(count))
    worlds.begin(worlds.all)
    return worlds


def lanes_of(seeds: list[int], horizon: int = 500) -> WorldLanes:
    physics = Mujoco(load_model(BallBalance.model), len(seeds))
    return WorldLanes(BallBalance(physics, np.array(seeds)), (1, len(seeds)), horizon)


def put_ball(
    worlds: BallBalance, place: tuple[float, ...], velocity: tuple[float, ...] = (0, 0, 0)
) -> None:
    worlds.physics.qpos[:, 13:16] = worlds.tensor(place)
    worlds.physics.qvel[:, 12:15] = worlds.tensor(velocity)


def move(worlds: BallBalance, action: tuple[float, ...], times: int) -> None:
    for _ in range(times):
        worlds.advance(worlds.tensor(action).expand(len(worlds.all), -1))


def feet(worlds: BallBalance) -> np.ndarray:
    """Where the feet of the first world are, ``[3, 3]``."""
    model = worlds.physics.model
    data = mujoco.MjData(model)
    data.qpos[:] = worlds.physics.qpos[0].numpy()
    mujoco.mj_kinematics(model, data)
    return np.array([data.site(f"foot{leg}").xpos for leg in range(3)])


PINNED = np.array([[0.4, 0, 0.02], [-0.2, 0.3464102, 0.02], [-0.2, -0.3464102, 0.02]])


# The model.


def test_the_model_has_the_published_dimensions() -> None:
    model = load_model("ball_balance.xml")
    masses = {model.body(body).name: model.body_mass[body] for body in range(model.nbody)}
    assert masses["tray"] == pytest.approx(1.570796, abs=1e-6)
    assert masses["upper1"] == masses["lower2"] == pytest.approx(0.4858997, abs=1e-6)
    assert masses["ball"] == pytest.approx(0.837758, abs=1e-6)
    assert model.body_mass.sum() == pytest.approx(5.323953, abs=1e-5)
    assert (model.nq, model.nv, model.nu, model.neq, model.nsensordata) == (20, 18, 3, 3, 18)
    assert model.opt.timestep * BallBalance.substeps == pytest.approx(0.01)


def test_hips_turn_freely_by_45_degrees_and_knees_are_driven() -> None:
    model = load_model("ball_balance.xml")
    names = [model.joint(joint).name for joint in range(1, 7)]
    assert names == ["hip0", "knee0", "hip1", "knee1", "hip2", "knee2"]
    assert np.allclose(np.degrees(model.jnt_range[1:7:2]), [-45, 45])
    assert np.allclose(np.degrees(model.jnt_range[2:7:2]), [-70, 90])
    assert model.actuator_trnid[:, 0].tolist() == [2, 4, 6]
    assert model.actuator_gainprm[:, 0].tolist() == [4000] * 3
    assert model.actuator_biasprm[:, 1:3].tolist() == [[-4000, -100]] * 3


# Reward and end.


@pytest.mark.parametrize(
    ("place", "velocity", "reward", "ended"),
    [
        pytest.param((0, 0, 0.7), (0, 0, 0), 1.0, False, id="held"),
        pytest.param((0.3, 0.4, 0.7), (0, 0, 0), 1 / 1.5, False, id="beside"),
        pytest.param((0, 0, 1.7), (0, 0, 0), 1 / 2, False, id="above"),
        pytest.param((0, 0, 0.7), (0, 3, -4), 1 / 6, False, id="fast"),
        pytest.param((0.3, 0.4, 0.7), (0, 3, -4), 1 / 9, False, id="beside and fast"),
        pytest.param((3, 4, 12.7), (0, 0, 0), 1 / 14, False, id="far away"),
        pytest.param((0, 0, 0.15), (0, 0, 0), 1 / 1.55, False, id="0.15 m is not too low"),
        pytest.param((0, 0, 0.1), (0, 0, 0), 1 / 1.6, True, id="fallen off"),
    ],
)
def test_reward_and_end(
    place: tuple[float, ...], velocity: tuple[float, ...], reward: float, ended: bool
) -> None:
    worlds = worlds_of()
    put_ball(worlds, place, velocity)
    worlds.physics.qvel[:, 15:18] = 9  # the ball's spin does not count
    judged = worlds.judge(torch.zeros(1, 3))
    assert (float(judged[0]), bool(judged[1])) == (pytest.approx(reward, rel=1e-6), ended)


# Observation.


def test_observation() -> None:
    worlds = worlds_of()
    physics = worlds.physics
    physics.qpos[0, 7:13] = worlds.tensor([9.0, 0.1, 9, 0.2, 9, 0.3])
    physics.qvel[0, 6:12] = worlds.tensor([9.0, 1, 9, 2, 9, 3])
    put_ball(worlds, (0.25, -0.5, 0.75), (1, -2, -3))
    # per leg: the tray's force and torque on it, in a frame whose x axis points outward
    physics.sensors[0] = worlds.tensor(
        [*(-20, 1, 2), *(40, 60, 80), *(10, 20, 5), *(0, 0, 0), *(10, 20, 5), *(0, -20, 20)]
    )
    half, root = 0.5, math.sqrt(0.75)
    assert worlds.observe().shape == (1, 24)
    assert worlds.observe()[0].tolist() == pytest.approx(
        [
            *(0.1, 0.2, 0.3),
            *(1, 2, 3),
            *(0.25, -0.5, 0.75),
            *(1, -2, -3),
            *(1, (10 * half + 20 * root) / 20, (10 * half - 20 * root) / 20),
            *(-2, 0, root),
            *(-3, 0, -half),
            *(-4, 0, -1),
        ],
        abs=1e-5,
    )


def test_observation_is_clipped() -> None:
    lanes = lanes_of([0])
    lanes.reset()
    put_ball(lanes.worlds, (0, 0, 30), (0, 0, -20))
    after = lanes.step(np.zeros((1, 1, 3), np.float32)).next_obs["observation"][0, 0]
    assert (after[8], after[11]) == (5, -5)
    assert lanes.spaces.observation["observation"].high.tolist() == [5] * 24


def test_nothing_is_felt_before_the_first_action() -> None:
    lanes = lanes_of([0])
    lanes.reset()
    lanes.step(np.zeros((1, 1, 3), np.float32))
    assert lanes.worlds.observe()[0, 12:].any()
    assert not lanes.reset()["observation"][0, 0, 12:].any()


# Actions.


def test_actions_change_the_set_angles_within_the_knees_range() -> None:
    worlds = worlds_of()
    move(worlds, (1, -0.5, 0), 1)
    control = worlds.control(torch.zeros(1, 3))
    assert control[0].tolist() == pytest.approx([0.2, -0.1, 0])
    move(worlds, (1, -1, 0.1), 2)
    control = worlds.control(torch.zeros(1, 3))
    assert control[0].tolist() == pytest.approx([0.6, -0.5, 0.04])
    move(worlds, (1, -1, 0), 20)
    control = worlds.control(torch.zeros(1, 3))
    assert control[0].tolist() == pytest.approx([math.pi / 2, math.radians(-70), 0.04])
    worlds.begin(worlds.all)
    assert not worlds.control(torch.zeros(1, 3)).any()


# Beginnings.


def test_an_episode_begins_with_a_ball_thrown_at_the_middle() -> None:
    worlds = worlds_of(500)
    qpos, qvel = worlds.physics.qpos, worlds.physics.qvel
    distance = qpos[:, 13:15].norm(dim=1)
    assert 0.001 <= distance.min() < 0.01
    assert 0.49 < distance.max() < 0.5
    assert distance.mean() == pytest.approx(0.25, abs=0.02)
    height = qpos[:, 15]
    assert 1 <= height.min() < 1.01
    assert 1.99 < height.max() < 2
    assert (qvel[:, 14] == -5).all()
    inward = -(qpos[:, 13:15] * qvel[:, 12:14]).sum(1) / distance
    assert torch.allclose(inward, qvel[:, 12:14].norm(dim=1))
    share = inward / (5 * (distance - 0.001) / 0.499)
    assert 0 <= share.min() < 0.02
    assert 0.98 < share.max() < 1
    ways = torch.atan2(qpos[:, 14], qpos[:, 13])
    assert ways.min() < -3
    assert ways.max() > 3
    assert abs(float(ways.mean())) < 0.25


def test_an_episode_begins_with_the_robot_at_rest() -> None:
    worlds = worlds_of(2)
    rest = worlds.physics.qpos[:, :13].clone()
    assert rest[0].tolist() == pytest.approx([0, 0, 0.559117, 1, *[0] * 9])
    assert np.allclose(feet(worlds), PINNED, atol=1e-5)
    move(worlds, (1, -1, 0), 10)
    assert not torch.equal(worlds.physics.qpos[:, :13], rest)
    worlds.begin(worlds.all)
    assert torch.equal(worlds.physics.qpos[:, :13], rest)
    assert not worlds.physics.qvel[:, :12].any()
    assert not worlds.physics.qvel[:, 15:].any()


# Physics.


def test_the_robot_carries_the_ball() -> None:
    worlds = worlds_of()
    put_ball(worlds, (0, 0, RESTING))
    move(worlds, (0, 0, 0), 150)
    assert worlds.physics.qpos[0, 13:16].tolist() == pytest.approx([0, 0, RESTING], abs=2e-3)
    assert worlds.physics.qpos[0, 2] == pytest.approx(0.559117, abs=2e-3)
    # every leg is pressed down by a third of the weight of tray and ball, and outward
    legs = worlds.physics.sensors.view(3, 2, 3)
    assert legs[:, 0, 2].tolist() == pytest.approx([-2.408554 * 9.81 / 3] * 3, rel=1e-3)
    assert (legs[:, 0, 0] > 1).all()
    # upright legs are free at both ends, apart from the knees: no torques
    assert legs[:, 1].abs().max() < 1e-3
    # along x, the tray is pressed from the front by one leg and from behind by two
    along = worlds.observe()[0, 12:15]
    assert along[0] < 0
    assert along[1:].tolist() == pytest.approx([-0.5 * float(along[0])] * 2, rel=1e-3)


@pytest.mark.parametrize("angle", [0.4, -0.6])
def test_knees_reach_their_set_angles_and_lift_the_tray(angle: float) -> None:
    worlds = worlds_of()
    put_ball(worlds, (0, 0, RESTING))
    move(worlds, (math.copysign(1, angle),) * 3, round(abs(angle) / 0.2))
    move(worlds, (0, 0, 0), 100)
    knees = worlds.physics.qpos[0, 8:13:2]
    assert knees.tolist() == pytest.approx([angle] * 3, abs=0.005)
    # two links of 0.36 m per leg, each at 45 degrees and half the knee's angle
    height = 0.05 + 2 * 0.36 * math.sin(math.pi / 4 + angle / 2)
    assert float(worlds.physics.qpos[0, 2]) == pytest.approx(height, abs=0.003)
    assert float(worlds.physics.qpos[0, 15]) == pytest.approx(height + 0.11, abs=0.004)
    assert np.allclose(feet(worlds), PINNED, atol=1e-3)


def test_knees_follow_within_a_tenth_of_a_second() -> None:
    worlds = worlds_of()
    put_ball(worlds, (0, 0, RESTING))
    move(worlds, (1, 1, 1), 1)
    move(worlds, (0, 0, 0), 9)
    assert worlds.physics.qpos[0, 8:13:2].tolist() == pytest.approx([0.2] * 3, abs=0.01)


def test_a_tray_tilted_down_towards_a_leg_loses_the_ball_there() -> None:
    for leg, way in enumerate([(1, 0), (-0.5, 0.866), (-0.5, -0.866)]):
        worlds = worlds_of()
        put_ball(worlds, (0, 0, RESTING))
        action = [0.0, 0.0, 0.0]
        action[leg] = -0.5
        move(worlds, tuple(action), 3)
        move(worlds, (0, 0, 0), 30)
        ball = worlds.physics.qpos[0, 13:15]
        assert ball @ worlds.tensor(way) > 0.05


def test_a_ball_that_falls_on_the_middle_stays_there() -> None:
    worlds = worlds_of()
    put_ball(worlds, (0, 0, 2), (0, 0, -5))
    lowest = 2.0
    for _ in range(100):
        move(worlds, (0, 0, 0), 1)
        lowest = min(lowest, float(worlds.physics.qpos[0, 15]))
        assert np.allclose(feet(worlds), PINNED, atol=3e-3)
    assert lowest > RESTING - 0.05  # contacts are soft
    assert worlds.physics.qpos[0, 13:16].tolist() == pytest.approx([0, 0, RESTING], abs=3e-3)


def test_a_ball_beside_the_tray_falls_until_the_episode_ends() -> None:
    lanes = lanes_of([0])
    lanes.reset()
    put_ball(lanes.worlds, (0.7, 0, 0.7))
    steps = [lanes.step(np.zeros((1, 1, 3), np.float32)) for _ in range(34)]
    # 0.55 m at 9.81 m/s^2 take 0.335 s
    assert [bool(step.terminated) for step in steps] == [False] * 33 + [True]
    assert steps[-1].next_obs["observation"][0, 0, 8] < 0.15
    assert not steps[-1].truncated.any()


def test_hard_actions_do_not_make_it_explode() -> None:
    lanes = lanes_of(list(range(8)))
    lanes.reset()
    choices = np.random.default_rng(0).choice([-1.0, 1.0], (60, 1, 8, 3))
    for action in choices.astype(np.float32).repeat(5, axis=0):
        taken = lanes.step(action)
        assert np.isfinite(taken.reward).all()
        assert np.isfinite(taken.obs["observation"]).all()
        assert (lanes.worlds.physics.qvel.abs() < 300).all()
        assert np.abs(feet(lanes.worlds) - PINNED).max() < 0.05


# Worlds beside each other.


def test_placing_some_worlds_leaves_the_others() -> None:
    worlds = worlds_of(4)
    move(worlds, (0.3, -0.2, 0.1), 5)
    physics = worlds.physics
    before = [part.clone() for part in (physics.qpos, physics.qvel, worlds.observe())]
    worlds.begin(torch.tensor([1, 3]))
    after = [physics.qpos, physics.qvel, worlds.observe()]
    for old, new in zip(before, after, strict=True):
        assert torch.equal(old[[0, 2]], new[[0, 2]])
    assert (before[0][[1, 3], 13] != physics.qpos[[1, 3], 13]).all()
    assert (worlds.angles.any(1) == torch.tensor([True, False, True, False])).all()


def test_a_world_alone_does_what_it_does_among_others() -> None:
    alone, among = lanes_of([7], horizon=40), lanes_of([3, 7, 5], horizon=40)
    first, firsts = alone.reset(), among.reset()
    assert np.array_equal(first["observation"][0, 0], firsts["observation"][0, 1])
    rng = np.random.default_rng(0)
    ends = 0
    for _ in range(150):
        action = rng.uniform(-1, 1, (1, 3, 3)).astype(np.float32)
        one, three = alone.step(action[:, 1:2]), among.step(action)
        assert np.array_equal(one.obs["observation"][0, 0], three.obs["observation"][0, 1])
        assert one.reward[0, 0] == three.reward[0, 1]
        ends += int(one.terminated[0, 0] | one.truncated[0, 0])
    assert ends > 2


def test_at_the_horizon_an_episode_is_truncated() -> None:
    lanes = lanes_of([0, 1], horizon=2)
    lanes.reset()
    action = np.zeros((1, 2, 3), np.float32)
    taken = lanes.step(action)
    assert not (taken.terminated | taken.truncated).any()
    lanes.worlds.physics.qpos[1, 13:16] = lanes.worlds.tensor([1.0, 0, 0.1])
    taken = lanes.step(action)
    assert taken.terminated.tolist() == [[False, True]]
    assert taken.truncated.tolist() == [[True, False]]
