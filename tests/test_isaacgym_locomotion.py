"""Ant and Humanoid of the Isaac Gym family, against numbers worked out by hand."""

from __future__ import annotations

import math
from collections.abc import Sequence

import mujoco
import numpy as np
import pytest
import torch
from torch import Tensor

from suite.envs.isaacgym.locomotion import Ant, Humanoid, Runner
from suite.envs.isaacgym.physics import Mujoco, load_model
from suite.envs.isaacgym.worlds import LEAF, WorldLanes

TASKS = pytest.mark.parametrize("task", [Ant, Humanoid])
STEP = 0.0166
"""Seconds per action."""
LEVEL = (1.0, 0.0, 0.0, 0.0)
FEET = {Ant: ["foot_1", "foot_2", "foot_3", "foot_4"], Humanoid: ["right_foot", "left_foot"]}
MIDDLE = np.radians([0, 65, 0, -65, 0, -65, 0, 65])
"""Every joint of the ant in the middle of its range."""


def make(task: type[Runner], worlds: int = 1) -> Runner:
    return task(Mujoco(load_model(task.model), worlds), np.arange(worlds))


def make_lanes(task: type[Runner], seeds: Sequence[int], horizon: int = 1000) -> WorldLanes:
    physics = Mujoco(load_model(task.model), len(seeds))
    return WorldLanes(task(physics, np.array(seeds)), (1, len(seeds)), horizon)


def turn(angle: float, axis: Sequence[float]) -> tuple[float, ...]:
    """Quaternion w, x, y, z of a turn about a unit vector."""
    return (math.cos(angle / 2), *(math.sin(angle / 2) * np.array(axis)))


def put(
    runner: Runner,
    position: Sequence[float],
    attitude: Sequence[float] = LEVEL,
    angles: Sequence[float] | np.ndarray | None = None,
    velocity: Sequence[float] = (0, 0, 0),
    spin: Sequence[float] = (0, 0, 0),
    speeds: Sequence[float] | np.ndarray | float = 0.0,
) -> None:
    """Place every world in this state; joints in the middle for Ant, at 0 for Humanoid."""
    if angles is None:
        angles = MIDDLE if isinstance(runner, Ant) else np.zeros(21)
    speeds = np.broadcast_to(speeds, runner.num_actions)
    qpos, qvel = np.concatenate([position, attitude, angles]), [*velocity, *spin, *speeds]
    runner.physics.place(runner.all, runner.tensor(qpos), runner.tensor(qvel))


def no_action(runner: Runner) -> Tensor:
    return torch.zeros(len(runner.all), runner.num_actions, dtype=torch.float64)


def joint(runner: Runner, name: str) -> int:
    """Index among the joints, without the torso's."""
    return int(runner.physics.model.joint(name).id) - 1


# The models are those of the facts.


@TASKS
def test_time_runs_as_upstream(task: type[Runner]) -> None:
    assert load_model(task.model).opt.timestep * task.substeps == pytest.approx(STEP)


def test_the_ant_is_made_as_upstream() -> None:
    model = load_model(Ant.model)
    assert model.body_mass.sum() == pytest.approx(0.911, abs=5e-4)
    assert (model.nv, model.nu) == (6 + 8, 8)
    assert model.actuator_gear[:, 0].tolist() == [15] * 8
    hip, out, back = [-40, 40], [30, 100], [-100, -30]
    ranges = np.degrees(model.jnt_range[1:])
    np.testing.assert_allclose(ranges, [hip, out, hip, back, hip, back, hip, out])
    assert set(model.dof_damping[6:]) == {0.1}
    assert set(model.dof_armature[6:]) == {0.01}


LEG = {  # range in degrees, strength in N m, stiffness, damping
    "hip_x": (-45, 15, 45, 10, 5),
    "hip_z": (-60, 35, 45, 10, 5),
    "hip_y": (-120, 45, 135, 20, 5),
    "knee": (-160, 2, 90, 5, 0.1),
    "ankle_y": (-50, 50, 22.5, 2, 1),
    "ankle_x": (-50, 50, 22.5, 2, 1),
}
ARM = {
    "shoulder_1": (-90, 70, 67.5, 10, 5),
    "shoulder_2": (-90, 70, 67.5, 10, 5),
    "elbow": (-90, 50, 45, 2, 1),
}
HUMANOID_JOINTS = {
    "abdomen_z": (-45, 45, 67.5, 20, 5),
    "abdomen_y": (-75, 30, 67.5, 20, 5),
    "abdomen_x": (-35, 35, 67.5, 10, 5),
    **{f"{side}_{name}": facts for side in ("right", "left") for name, facts in LEG.items()},
    **{f"{side}_{name}": facts for side in ("right", "left") for name, facts in ARM.items()},
}


def test_the_humanoid_is_made_as_upstream() -> None:
    model = load_model(Humanoid.model)
    assert model.body_mass.sum() == pytest.approx(40.84, abs=5e-3)
    assert (model.nv, model.nu) == (6 + 21, 21)
    assert [model.joint(i + 1).name for i in range(21)] == list(HUMANOID_JOINTS)
    assert model.actuator_trnid[:, 0].tolist() == list(range(1, 22))
    facts = np.array(list(HUMANOID_JOINTS.values()))
    np.testing.assert_allclose(np.degrees(model.jnt_range[1:]), facts[:, :2])
    np.testing.assert_allclose(model.actuator_gear[:, 0], facts[:, 2])
    np.testing.assert_allclose(model.jnt_stiffness[1:], facts[:, 3])
    np.testing.assert_allclose(model.dof_damping[6:], facts[:, 4])


def test_the_humanoid_has_two_like_sides() -> None:
    """Like angles on both sides put every body at the mirror image of its counterpart."""
    model = load_model(Humanoid.model)
    data = mujoco.MjData(model)
    for side in ("right", "left"):
        for index, name in enumerate([*LEG, *ARM]):
            if name != "ankle_x":  # the axes of this one are parallel, as upstream
                data.joint(f"{side}_{name}").qpos = -0.1 * (index + 1)
    mujoco.mj_kinematics(model, data)
    for part in ("thigh", "shin", "foot", "upper_arm", "lower_arm", "hand"):
        right, left = (data.body(f"{side}_{part}").xpos for side in ("right", "left"))
        np.testing.assert_allclose(left, right * [1, -1, 1], atol=1e-12)


def test_limbs_of_the_humanoid_meet_and_those_of_the_ant_do_not() -> None:
    model = load_model(Humanoid.model)
    data = mujoco.MjData(model)
    mujoco.mj_forward(model, data)
    assert data.ncon == 0
    data.joint("right_hip_x").qpos = data.joint("left_hip_x").qpos = math.radians(15)
    mujoco.mj_forward(model, data)
    bodies = {model.body(model.geom_bodyid[g]).name for pair in data.contact.geom for g in pair}
    assert {"right_shin", "left_shin"} <= bodies
    ant = load_model(Ant.model)
    limbs = ant.geom_bodyid > 0
    assert not ant.geom_contype[limbs].any()


# Episodes begin near the model's pose.


@pytest.mark.parametrize(("task", "height"), [(Ant, 0.44), (Humanoid, 1.34)])
def test_an_episode_begins_near_rest(task: type[Runner], height: float) -> None:
    runner = make(task, 50)
    runner.action += 1
    runner.begin(runner.all)
    qpos, qvel = runner.physics.qpos, runner.physics.qvel
    assert (qpos[:, :7] == torch.tensor([0, 0, height, *LEVEL], dtype=torch.float64)).all()
    assert (qvel[:, :6] == 0).all()
    rest = torch.zeros(()).clamp(runner.low, runner.high)
    angles, speeds = qpos[:, 7:], qvel[:, 6:]
    assert ((angles >= runner.low) & (angles <= runner.high)).all()
    assert ((angles - rest).abs() <= 0.2).all()
    assert (angles - rest).abs().max() > 0.19
    assert 0.09 < speeds.abs().max() <= 0.1
    assert len(angles[:, 0].unique()) == len(speeds[:, 0].unique()) == 50
    assert (runner.action == 0).all()
    assert (runner.distance == 1000).all()


def test_ankles_of_the_ant_begin_at_the_limit_next_to_0() -> None:
    runner = make(Ant, 50)
    runner.begin(runner.all)
    ankles = torch.rad2deg(runner.physics.qpos[:, 7:][:, 1::2])
    assert ankles[:, [0, 3]].min() == pytest.approx(30)
    assert ankles[:, [1, 2]].max() == pytest.approx(-30)


# Observations, in a state placed by hand: 1 m on, 2 m to the left, facing left (along y).


FACING_LEFT = [math.pi / 2, 0, math.atan2(-0.9, 999) - math.pi / 2, 1, -2 / math.hypot(999, 2)]
"""Yaw, roll, angle to the target, upright, heading."""


def put_facing_left(runner: Runner, angles: np.ndarray, speeds: np.ndarray) -> np.ndarray:
    """Place after an action of 0.1, 0.2, ...; returns the action."""
    action = 0.1 * np.arange(1, runner.num_actions + 1) / (runner.num_actions / 8)
    runner.advance(torch.tensor(action)[None])
    put(
        runner,
        (1, 2, 0.9),
        turn(math.pi / 2, (0, 0, 1)),
        angles,
        velocity=(-0.5, 3, 0.25),
        spin=(0.4, 0.8, 1.2),
        speeds=speeds,
    )
    return action


def test_what_the_ant_observes() -> None:
    runner = make(Ant)
    angles = np.radians([20, 65, -40, -30, 0, -100, 40, 82.5])
    action = put_facing_left(runner, angles, np.arange(1, 9))
    expected = [
        *[0.9, 3, 0.5, 0.25, 0.4, 0.8, 1.2],
        *[FACING_LEFT[0], 0, FACING_LEFT[2], *FACING_LEFT[3:]],
        *[0.5, 0, -1, 1, 0, -1, 1, 0.5],
        *[0.2, 0.4, 0.6, 0.8, 1.0, 1.2, 1.4, 1.6],
        *[0] * 24,
        *action,
    ]
    np.testing.assert_allclose(runner.observe()[0], expected, atol=1e-12)


def test_what_the_humanoid_observes() -> None:
    runner = make(Humanoid)
    angles, speeds = np.zeros(21), np.zeros(21)
    scaled = np.array(  # at angle 0: minus the middle of the range, over half its width
        [0, 22.5 / 52.5, 0]
        + 2 * [15 / 30, 12.5 / 47.5, 37.5 / 82.5, 79 / 81, 0, 0]
        + 2 * [10 / 80, 10 / 80, 20 / 70]
    )
    knee, ankle = joint(runner, "right_knee"), joint(runner, "left_ankle_x")
    angles[knee], scaled[knee] = math.radians(-79), 0
    angles[ankle], scaled[ankle] = math.radians(25), 0.5
    speeds[[knee, ankle]] = 5, -2
    action = put_facing_left(runner, angles, speeds)
    torques = np.array([facts[2] for facts in HUMANOID_JOINTS.values()]) * action
    torques[knee] += 5 * math.radians(79) - 0.1 * 5
    torques[ankle] += -2 * math.radians(25) + 1 * 2
    expected = [
        *[0.9, 3, 0.5, 0.25, 0.1, 0.2, 0.3],
        *FACING_LEFT,
        *scaled,
        *(0.1 * speeds),
        *(0.01 * torques),
        *[0] * 12,
        *action,
    ]
    np.testing.assert_allclose(runner.observe()[0], expected, atol=1e-12)


@TASKS
def test_observing_changes_nothing(task: type[Runner]) -> None:
    runner = make(task, 3)
    runner.begin(runner.all)
    runner.advance(no_action(runner) + 0.5)
    before = runner.physics.qpos.clone(), runner.physics.qvel.clone()
    first = runner.observe()
    assert torch.equal(first, runner.observe())
    assert torch.equal(before[0], runner.physics.qpos)
    assert torch.equal(before[1], runner.physics.qvel)


def test_yaw_and_roll_of_the_ant_jump_where_it_faces_forward() -> None:
    runner = make(Ant)
    target = math.atan2(-0.5, 1000)
    for yaw, seen in ((0.01, 0.01), (-0.01, 2 * math.pi - 0.01)):
        put(runner, (0, 0, 0.5), turn(yaw, (0, 0, 1)))
        assert runner.observe()[0, 7:10].tolist() == pytest.approx([seen, 0, target - seen])
    put(runner, (0, 0, 0.5), turn(-0.01, (1, 0, 0)))
    assert runner.observe()[0, 8].item() == pytest.approx(2 * math.pi - 0.01)


def test_angles_of_the_humanoid_jump_where_it_faces_backward() -> None:
    runner = make(Humanoid)
    target = math.atan2(-1.5, 1000)
    put(runner, (0, 0, 1.5), turn(-0.01, (0, 0, 1)))
    assert runner.observe()[0, 7:10].tolist() == pytest.approx([-0.01, 0, target + 0.01])
    yaw = math.pi - 0.001
    put(runner, (0, 0, 1.5), turn(yaw, (0, 0, 1)))
    assert runner.observe()[0, 7:10].tolist() == pytest.approx([yaw, 0, target - yaw + 2 * math.pi])
    put(runner, (0, 0, 1.5), turn(-0.01, (1, 0, 0)))
    assert runner.observe()[0, 8].item() == pytest.approx(-0.01)


# Rewards, of a runner at x = 0 that was there before too, unless said otherwise.


def judge(runner: Runner, action: Tensor | None = None) -> tuple[float, bool]:
    runner.distance[:] = 1000
    reward, fell = runner.judge(no_action(runner) if action is None else action)
    return reward.item(), bool(fell)


BONUS = {Ant: 0.5 + 0.1 + 0.5, Humanoid: 2.0 + 0.1 + 0.5}
"""Of standing still, upright and facing forward."""


@TASKS
def test_reward_of_standing_and_moving(task: type[Runner]) -> None:
    runner = make(task)
    put(runner, (0, 0, 1))
    assert judge(runner) == (pytest.approx(BONUS[task]), False)
    put(runner, (2.5 * STEP, 0, 1))
    assert judge(runner) == (pytest.approx(BONUS[task] + 2.5), False)
    put(runner, (-STEP, 0, 1))
    assert judge(runner) == (pytest.approx(BONUS[task] - 1), False)


@TASKS
def test_progress_counts_from_the_step_before(task: type[Runner]) -> None:
    runner = make(task)
    runner.begin(runner.all)
    for metres in (1, 3, 2):
        put(runner, (metres * STEP, 0, 1))
        reward, _ = runner.judge(no_action(runner))
        assert reward.item() == pytest.approx(BONUS[task] + {1: 1, 3: 2, 2: -1}[metres])


@TASKS
def test_progress_is_the_forward_speed(task: type[Runner]) -> None:
    runner = make(task)
    put(runner, (0, 0, 5), velocity=(3, 0, 0))
    runner.distance[:] = 1000
    runner.advance(no_action(runner))
    reward, _ = runner.judge(no_action(runner))
    assert reward.item() == pytest.approx(BONUS[task] + 3, abs=2e-3)


@TASKS
@pytest.mark.parametrize(
    ("attitude", "change"),
    [
        (turn(math.acos(0.81), (0, 0, 1)), 0),
        (turn(math.acos(0.4), (0, 0, 1)), -0.25),
        (turn(-math.acos(0.4), (0, 0, 1)), -0.25),
        (turn(math.pi, (0, 0, 1)), -0.5 - 0.625),
        (turn(math.acos(0.94), (1, 0, 0)), 0),
        (turn(math.acos(0.92), (1, 0, 0)), -0.1),
        (turn(math.pi, (1, 0, 0)), -0.1),
    ],
)
def test_reward_of_the_attitude(
    task: type[Runner], attitude: tuple[float, ...], change: float
) -> None:
    runner = make(task)
    put(runner, (0, 0, 1), attitude)
    assert judge(runner) == (pytest.approx(BONUS[task] + change), False)


@pytest.mark.parametrize(("task", "lowest", "fallen"), [(Ant, 0.31, -2), (Humanoid, 0.8, -1)])
def test_a_fall_ends_the_episode_and_replaces_the_reward(
    task: type[Runner], lowest: float, fallen: float
) -> None:
    runner = make(task)
    put(runner, (5, 0, lowest - 1e-9))
    assert judge(runner, no_action(runner) + 1) == (fallen, True)
    put(runner, (0, 0, lowest))
    assert judge(runner) == (pytest.approx(BONUS[task]), False)


def test_costs_of_the_ant() -> None:
    runner = make(Ant)
    action = torch.tensor([[0.5, -0.5, 0, 0, 0, 0, 0, 1]], dtype=torch.float64)
    put(runner, (0, 0, 1), speeds=[2, 2, 2, 0, 0, 0, 0, 0])
    effort = 0.005 * (0.25 + 0.25 + 1)
    energy = 0.05 * (0.5 * 0.4 + 0.5 * 0.4)
    assert judge(runner, action)[0] == pytest.approx(BONUS[Ant] - effort - energy)
    # only upper ends of a range cost, from 99 % on; the last is at 98.9 %
    put(runner, (0, 0, 1), angles=np.radians([40, 100, -40, -100, 39.7, -30.3, 39.9, 99.6]))
    assert judge(runner)[0] == pytest.approx(BONUS[Ant] - 0.1 * 5)


def test_costs_of_the_humanoid() -> None:
    runner = make(Humanoid)
    knee, hip, ankle = (
        joint(runner, name) for name in ("right_knee", "left_hip_y", "left_ankle_x")
    )
    action, speeds, angles = no_action(runner), np.zeros(21), np.zeros(21)
    action[0, [knee, hip]] = torch.tensor([1.0, -0.5], dtype=torch.float64)
    speeds[[knee, hip, ankle]] = 3, 4, 100
    put(runner, (0, 0, 1), speeds=speeds)
    effort = 0.01 * (1 + 0.25)
    energy = 0.05 * (1 * 0.3 * 90 / 135 + 0.5 * 0.4 * 1)
    assert judge(runner, action)[0] == pytest.approx(BONUS[Humanoid] - effort - energy)
    # beyond 98 % of a range: by how much, at either end; the knee is at 1, the others at -1, 0.97
    angles[[knee, hip, ankle]] = np.radians([2, -120, 50 * 0.97])
    put(runner, (0, 0, 1), angles=angles)
    assert judge(runner)[0] == pytest.approx(BONUS[Humanoid] - 0.25 * (90 / 135 + 1))
    angles[[knee, hip, ankle]] = np.radians([0, 0, 50 * 0.99])
    put(runner, (0, 0, 1), angles=angles)
    assert judge(runner)[0] == pytest.approx(BONUS[Humanoid] - 0.25 * 0.5 * 22.5 / 135)


# Forces.


@TASKS
def test_a_foot_feels_its_contacts_in_its_own_frame(task: type[Runner]) -> None:
    """Against the sum over MuJoCo's list of contacts."""
    runner = make(task)
    tilt = turn(0.1, (math.sqrt(0.5), math.sqrt(0.5), 0))
    put(runner, (0, 0, 0.63 if task is Ant else 1.29), tilt, velocity=(0.1, 0.2, -0.5))
    model = runner.physics.model
    data = mujoco.MjData(model)
    data.qpos[:], data.qvel[:] = runner.physics.qpos[0], runner.physics.qvel[0]
    mujoco.mj_forward(model, data)
    felt, wrench = {}, np.zeros(6)
    for name in FEET[task]:
        body = data.body(name)
        force, torque = np.zeros(3), np.zeros(3)
        for index, contact in enumerate(data.contact):
            first, second = model.geom_bodyid[contact.geom]
            if body.id in (first, second):
                mujoco.mj_contactForce(model, data, index, wrench)
                axes = contact.frame.reshape(3, 3) * (1 if second == body.id else -1)
                force += wrench[:3] @ axes
                torque += wrench[3:] @ axes + np.cross(contact.pos - body.xpos, wrench[:3] @ axes)
        own = body.xmat.reshape(3, 3)
        felt[name] = [*(force @ own), *(torque @ own)]
    loads = np.linalg.norm(list(felt.values()), axis=1)
    assert loads.max() > 1, "a foot touches"
    assert loads.min() == 0, "a foot does not"
    runner.physics.step(no_action(runner), 1)
    scale = 0.1 if task is Ant else 0.01
    seen = runner.forces()[0, -6 * len(FEET[task]) :]
    np.testing.assert_allclose(seen, scale * np.concatenate(list(felt.values())), atol=1e-9)


def test_an_ant_stands_on_its_feet() -> None:
    """Without torques it comes to rest; its feet carry it, and feel the floor push upward."""
    runner = make(Ant, 3)
    runner.begin(runner.all)
    for _ in range(300):
        runner.advance(no_action(runner))
    assert runner.physics.qvel.abs().max() < 0.02
    assert ((runner.physics.qpos[:, 2] > 0.34) & (runner.physics.qpos[:, 2] < 0.38)).all()
    model = runner.physics.model
    data = mujoco.MjData(model)
    for qpos, readings in zip(runner.physics.qpos, runner.forces(), strict=True):
        data.qpos[:] = qpos
        mujoco.mj_kinematics(model, data)
        forces = readings.reshape(4, 6)[:, :3].numpy()
        in_world = np.array(
            [
                data.body(name).xmat.reshape(3, 3) @ force
                for name, force in zip(FEET[Ant], forces, strict=True)
            ]
        )
        assert (in_world[:, 2] > 0.1).all()
        np.testing.assert_allclose(in_world.sum(0), [0, 0, 0.1 * 0.911 * 9.81], atol=2e-3)


@TASKS
def test_feet_in_the_air_feel_nothing(task: type[Runner]) -> None:
    runner = make(task)
    put(runner, (0, 0, 5))
    runner.advance(no_action(runner))
    assert (runner.forces()[:, -6 * len(FEET[task]) :] == 0).all()


def test_torques_of_the_humanoid_are_those_that_mujoco_applies() -> None:
    """Motors, springs, dampers, and stops at either end of the range."""
    runner = make(Humanoid)
    model = runner.physics.model
    angles = np.full(21, -0.3)
    stopped = [joint(runner, name) for name in ("right_elbow", "left_elbow", "right_knee")]
    angles[stopped] = np.radians([-95, 55, 6])
    speeds = np.linspace(-0.3, 0.3, 21)
    action = runner.tensor(np.linspace(-0.5, 0.5, 21))[None]
    action[0, stopped] = runner.tensor([-0.5, 0.5, 0.5])  # against the stops
    runner.advance(action)
    put(runner, (0, 0, 5), angles=angles, speeds=speeds)
    runner.physics.step(action, 1)
    stops = runner.physics.sensors[:, :21].clone()
    assert set(stops.nonzero()[:, 1].tolist()) == set(stopped)
    put(runner, (0, 0, 5), angles=angles, speeds=speeds)
    data = mujoco.MjData(model)
    data.qpos[:], data.qvel[:] = runner.physics.qpos[0], runner.physics.qvel[0]
    data.ctrl[:] = action[0]
    mujoco.mj_forward(model, data)
    assert data.ncon == 0
    applied = data.qfrc_actuator + data.qfrc_passive + data.qfrc_constraint
    np.testing.assert_allclose(runner.torques(stops)[0], applied[6:], atol=1e-6)


# Physics.


def test_a_humanoid_without_torques_collapses() -> None:
    runner = make(Humanoid, 8)
    runner.begin(runner.all)
    for _ in range(120):
        runner.advance(no_action(runner))
    assert (runner.physics.qpos[:, 2] < 0.8).all()
    assert (runner.physics.qpos[:, 2] > 0.05).all()


@TASKS
def test_random_actions_explode_nothing(task: type[Runner]) -> None:
    lanes = make_lanes(task, range(8))
    random = np.random.default_rng(0)
    lanes.reset()
    for _ in range(120):
        step = lanes.step(random.uniform(-1, 1, (1, 8, task.num_actions)).astype(np.float32))
        assert not lanes.worlds.broken().any()
        assert lanes.worlds.physics.qvel.abs().max() < 100
        assert np.isfinite(step.next_obs[LEAF]).all()


# Worlds do not see each other.


@TASKS
def test_a_world_alone_does_what_it_does_among_others(task: type[Runner]) -> None:
    alone, among = make_lanes(task, [7]), make_lanes(task, [3, 7, 11])
    random = np.random.default_rng(0)
    np.testing.assert_array_equal(alone.reset()[LEAF][0, 0], among.reset()[LEAF][0, 1])
    episodes = 0
    for _ in range(60):
        actions = random.uniform(-1, 1, (1, 3, task.num_actions)).astype(np.float32)
        one, three = alone.step(actions[:, 1:2]), among.step(actions)
        np.testing.assert_array_equal(one.obs[LEAF][0, 0], three.obs[LEAF][0, 1])
        np.testing.assert_array_equal(one.reward[0, 0], three.reward[0, 1])
        episodes += int(three.terminated.sum())
    assert episodes > 0 or task is Ant, "worlds began anew beside each other"


@TASKS
def test_beginning_some_worlds_leaves_the_others(task: type[Runner]) -> None:
    runner = make(task, 4)
    runner.begin(runner.all)
    for _ in range(20):
        runner.advance(no_action(runner) + 0.3)
        runner.judge(no_action(runner))
    before, distance = runner.observe(), runner.distance.clone()
    runner.begin(torch.tensor([1, 3]))
    after = runner.observe()
    assert torch.equal(after[[0, 2]], before[[0, 2]])
    assert torch.equal(runner.distance[[0, 2]], distance[[0, 2]])
    assert (after[[1, 3]] != before[[1, 3]]).any(1).all()
    assert (runner.distance[[1, 3]] == 1000).all()


def test_a_fall_in_the_last_step_terminates_and_does_not_truncate() -> None:
    lanes = make_lanes(Humanoid, [0, 1], horizon=3)
    lanes.reset()
    still = np.zeros((1, 2, 21), np.float32)
    for _ in range(2):
        step = lanes.step(still)
        assert not (step.terminated | step.truncated).any()
    lanes.worlds.physics.qpos[0, 2] = 0.5
    step = lanes.step(still)
    assert step.terminated.tolist() == [[True, False]]
    assert step.truncated.tolist() == [[False, True]]
    assert step.reward[0, 0] == -1
    assert step.next_obs[LEAF][0, 0, 0] < 0.8
    assert step.obs[LEAF][0, :, 0].tolist() == pytest.approx([1.34, 1.34])
