from __future__ import annotations

import math

import mujoco
import numpy as np
import pytest
import torch

from suite.envs.isaacgym.anymal import Anymal
from suite.envs.isaacgym.physics import Mujoco, load_model
from suite.envs.isaacgym.worlds import WorldLanes

STANDING = [0.03, 0.4, -0.8, 0.03, -0.4, 0.8, -0.03, 0.4, -0.8, -0.03, -0.4, 0.8]
"""Left fore, left hind, right fore, right hind: abduction, flexion, knee."""


def dogs(worlds: int, first_seed: int = 0) -> Anymal:
    task = Anymal(Mujoco(load_model(Anymal.model), worlds), np.arange(worlds) + first_seed)
    task.begin(task.all)
    return task


def lanes(seeds: int, envs: int, first_seed: int = 0, horizon: int = 2500) -> WorldLanes:
    numbers = np.arange(seeds * envs) + first_seed
    task = Anymal(Mujoco(load_model(Anymal.model), seeds * envs), numbers)
    return WorldLanes(task, (seeds, envs), horizon)


def put(
    task: Anymal,
    quaternion: tuple[float, ...] = (1, 0, 0, 0),
    velocity: tuple[float, ...] = (0, 0, 0),
    spin: tuple[float, ...] = (0, 0, 0),
) -> None:
    """All worlds at the start, so turned and so moving, the joints at rest as the dog stands."""
    qpos = torch.tensor([0, 0, 0.62, *quaternion, *STANDING], dtype=torch.float64)
    qvel = torch.tensor([*velocity, *spin, *[0] * 12], dtype=torch.float64)
    worlds = len(task.all)
    task.physics.place(task.all, qpos.expand(worlds, -1), qvel.expand(worlds, -1))


def test_model_has_the_mass_and_limits_of_the_robot() -> None:
    model = load_model("anymal.xml")
    assert sum(model.body_mass) == pytest.approx(52.135, abs=0.01)
    assert (model.nq, model.nv, model.nu) == (19, 18, 12)
    assert model.opt.timestep * Anymal.substeps == 0.02
    names = [model.joint(joint).name for joint in range(1, 13)]
    parts = ("HAA", "HFE", "KFE")
    assert names == [f"{leg}_{part}" for leg in ("LF", "LH", "RF", "RH") for part in parts]
    assert [model.actuator(drive).name for drive in range(12)] == names
    abductions = model.jnt_range[[1, 4, 7, 10]]
    assert abductions.tolist() == [[-0.72, 0.49]] * 2 + [[-0.49, 0.72]] * 2
    assert model.actuator_gainprm[:, 0].tolist() == [85] * 12
    assert model.actuator_biasprm[:, 1:3].tolist() == [[-85, -2]] * 12
    assert model.actuator_forcerange.tolist() == [[-80, 80]] * 12


def test_left_and_right_are_mirror_images() -> None:
    model = load_model("anymal.xml")
    data = mujoco.MjData(model)
    data.qpos[:] = model.key_qpos[0]
    mujoco.mj_forward(model, data)
    for left, right in (("LF", "RF"), ("LH", "RH")):
        for part in ("HIP", "THIGH", "SHANK"):
            one, other = data.body(f"{left}_{part}"), data.body(f"{right}_{part}")
            np.testing.assert_allclose(one.xipos * [1, -1, 1], other.xipos, atol=1e-12)
            np.testing.assert_allclose(one.cinert[:3], other.cinert[:3], atol=1e-12)


def test_feet_are_where_the_lengths_of_the_legs_put_them() -> None:
    # with all joints at 0: 0.285 m down the thigh and 0.3155 m down the shank, 0.03 m thick
    model = load_model("anymal.xml")
    data = mujoco.MjData(model)
    mujoco.mj_forward(model, data)
    feet = data.geom_xpos[model.geom_type == mujoco.mjtGeom.mjGEOM_SPHERE]
    assert len(feet) == 4
    np.testing.assert_allclose(feet[0], [0.4478, 0.3012, 0.62 - 0.285 - 0.3155], atol=1e-9)


def test_rewards_of_states_worked_out_by_hand() -> None:
    task = dogs(5)
    put(task)
    task.command[:] = torch.tensor([[0, 0, 0], [0.5, 0, 0], [0.3, 0.4, 0], [0, 0, 0.5], [9, 9, 9]])
    reward, ended = task.judge(task.action)
    # every half metre or radian a second missed costs a factor of e
    expected = [0.03, 0.02 / math.e + 0.01, 0.02 / math.e + 0.01, 0.02 + 0.01 / math.e, 0]
    np.testing.assert_allclose(reward, expected, atol=1e-12)
    assert not ended.any()


def test_velocity_that_counts_is_in_the_frame_of_the_dog() -> None:
    task = dogs(1)
    half = math.sqrt(0.5)
    put(task, (half, 0, 0, half), velocity=(-1, 2, 3), spin=(4, 5, -0.5))  # faces along y
    task.command[:] = torch.tensor([2.0, 1.0, -0.5])
    assert task.judge(task.action)[0].item() == pytest.approx(0.03)


def test_torque_costs_and_the_reward_stays_above_nothing() -> None:
    task = dogs(2)
    put(task)
    task.command[:] = 0
    task.physics.sensors[0, 15:27] = 10.0
    task.physics.sensors[1, 15:27] = 80.0
    reward, _ = task.judge(task.action)
    # 0.02 * (1.5 - 2.5e-5 * 12 * 100); the other would be 0.02 * (1.5 - 1.92)
    np.testing.assert_allclose(reward, [0.0294, 0], atol=1e-12)


def test_a_touch_of_base_or_thigh_ends_the_episode() -> None:
    task = dogs(4)
    put(task)
    task.physics.sensors[0, :3] = torch.tensor([0.0, 0.0, 1.0])  # exactly 1 N: not yet
    task.physics.sensors[1, :3] = torch.tensor([0.7, 0.0, 0.8])
    task.physics.sensors[2, 12:15] = torch.tensor([0.0, 1.1, 0.0])  # the last thigh
    task.physics.sensors[3, 15] = 80.0  # a torque
    assert task.judge(task.action)[1].tolist() == [False, True, True, False]


def test_observation_of_a_state_worked_out_by_hand() -> None:
    task = dogs(1)
    half = math.sqrt(0.5)
    put(task, (half, half, 0, 0), velocity=(1, 2, 3), spin=(4, 8, 12))  # rolled on its right side
    task.physics.qpos[0, 7:] += 0.1
    task.physics.qvel[0, 6:] = 2.0
    task.command[:] = torch.tensor([-2.0, 1.0, 0.5])
    task.action = torch.full((1, 12), 0.25, dtype=torch.float64)
    seen = task.observe()[0].numpy()
    # y of the dog is up; z of the dog points to the world's -y
    np.testing.assert_allclose(seen[:6], [2, 6, -4, 1, 2, 3], atol=1e-12)
    # turned by the attitude: what is down becomes +y of the world (its own -y is down)
    np.testing.assert_allclose(seen[6:9], [0, 1, 0], atol=1e-12)
    np.testing.assert_allclose(seen[9:12], [-4, 2, 0.125], atol=1e-12)
    np.testing.assert_allclose(seen[12:], [0.1] * 12 + [0.1] * 12 + [0.25] * 12, atol=1e-12)


def test_observation_is_clipped() -> None:
    few = lanes(1, 1)
    few.reset()
    few.worlds.physics.qvel[0, :2] = torch.tensor([9.0, -9.0])
    seen = few._observe()
    assert seen[0, :2].tolist() == [5.0, -5.0]


def test_episodes_begin_in_the_documented_ranges() -> None:
    task = dogs(400)
    qpos, qvel = task.physics.qpos, task.physics.qvel
    assert qpos[:, :7].unique(dim=0).tolist() == [[0, 0, 0.62, 1, 0, 0, 0]]
    share = qpos[:, 7:] / torch.tensor(STANDING)
    assert share.min() >= 0.5
    assert share.max() <= 1.5
    assert share.max() - share.min() > 0.99
    assert qvel[:, :6].abs().max() == 0
    assert 0.099 < qvel[:, 6:].abs().max() <= 0.1
    reach = task.command.abs().amax(0)
    assert (reach <= torch.tensor([2.0, 1.0, 1.0])).all()
    assert (reach > torch.tensor([1.9, 0.95, 0.95])).all()
    assert task.command.mean(0).abs().max() < 0.2


def test_it_stands_and_its_weight_rests_on_the_feet() -> None:
    task = dogs(1)
    put(task)
    still = torch.zeros(1, 12, dtype=torch.float64)
    for _ in range(250):
        task.advance(still)
    assert 0.48 < task.physics.qpos[0, 2] < 0.62
    assert task.physics.qvel.abs().max() < 0.1
    assert not task.judge(still)[1]
    # drives are springs: 85 N m for each radian between target and angle
    stretch = torch.tensor(STANDING) - task.physics.qpos[0, 7:]
    np.testing.assert_allclose(task.torques()[0], 85 * stretch, atol=0.3)
    model = task.physics.model
    data = mujoco.MjData(model)
    data.qpos[:], data.ctrl[:] = task.physics.qpos[0], STANDING
    mujoco.mj_forward(model, data)
    force, up = np.zeros(6), 0.0
    for contact in range(data.ncon):
        mujoco.mj_contactForce(model, data, contact, force)
        up += force[0]
    assert up == pytest.approx(52.135 * 9.81, rel=0.02)


def test_drives_reach_their_targets_in_the_air() -> None:
    task = dogs(1)
    task.physics.model.opt.gravity[:] = 0
    put(task)
    task.physics.qpos[0, 2] = 5.0
    action = torch.tensor([[0, 0, 1.0] * 4], dtype=torch.float64)  # knees, whose drives are fast
    for _ in range(15):
        task.advance(action)
    knees = torch.tensor(STANDING)[2::3] + 0.5
    np.testing.assert_allclose(task.physics.qpos[0, 9::3], knees, atol=0.01)


def test_it_falls_freely_until_it_lands() -> None:
    task = dogs(1)
    put(task)
    task.physics.qpos[0, 2] = 5.0
    for _ in range(25):
        task.advance(torch.zeros(1, 12, dtype=torch.float64))
    data = mujoco.MjData(task.physics.model)
    data.qpos[:], data.qvel[:] = task.physics.qpos[0], task.physics.qvel[0]
    mujoco.mj_forward(task.physics.model, data)
    mujoco.mj_subtreeVel(task.physics.model, data)
    assert data.subtree_linvel[0, 2] == pytest.approx(-9.81 * 0.5)  # of the centre of mass


def test_lying_on_its_back_ends_the_episode() -> None:
    task = dogs(1)
    put(task, (0, 1, 0, 0))
    task.physics.qpos[0, 2] = 0.25
    ended = False
    for _ in range(25):
        task.advance(torch.zeros(1, 12, dtype=torch.float64))
        ended = ended or bool(task.judge(task.action)[1])
    assert ended


def test_random_actions_never_explode() -> None:
    many = lanes(1, 8)
    many.reset()
    rng = np.random.default_rng(0)
    for _ in range(150):
        step = many.step(rng.uniform(-1, 1, (1, 8, 12)).astype(np.float32))
        assert np.isfinite(step.next_obs["observation"]).all()
        assert (step.reward >= 0).all()
        assert (step.reward <= 0.03).all()
        assert not many.worlds.broken().any()
        assert many.worlds.physics.qvel.abs().max() < 200


def test_a_world_does_alone_what_it_does_among_others() -> None:
    many, alone = lanes(2, 2, first_seed=5), lanes(1, 1, first_seed=8)
    actions = np.random.default_rng(0).uniform(-1, 1, (60, 12)).astype(np.float32)
    assert (many.reset()["observation"][1, 1] == alone.reset()["observation"][0, 0]).all()
    for action in actions:
        among = many.step(np.tile(action, (2, 2, 1)))
        lone = alone.step(action[None, None])
        assert (among.next_obs["observation"][1, 1] == lone.next_obs["observation"][0, 0]).all()
        assert among.reward[1, 1] == lone.reward[0, 0]


def test_beginning_some_worlds_leaves_the_others_alone() -> None:
    task = dogs(3)
    for _ in range(5):
        task.advance(torch.full((3, 12), 0.5, dtype=torch.float64))
    before, state = task.observe().clone(), task.physics.qpos.clone()
    task.begin(torch.tensor([1]))
    after = task.observe()
    assert (after[[0, 2]] == before[[0, 2]]).all()
    assert (task.physics.qpos[[0, 2]] == state[[0, 2]]).all()
    assert (after[1, 12:] != before[1, 12:]).any()
    assert (after[1, 36:] == 0).all()


def test_observing_changes_nothing() -> None:
    task = dogs(2)
    assert (task.observe() == task.observe()).all()


def test_the_horizon_truncates() -> None:
    few = lanes(1, 2, horizon=3)
    few.reset()
    still = np.zeros((1, 2, 12), np.float32)
    steps = [few.step(still) for _ in range(3)]
    assert [step.truncated.all() for step in steps] == [False, False, True]
    assert not any(step.terminated.any() for step in steps)
