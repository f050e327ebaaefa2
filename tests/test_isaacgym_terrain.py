from __future__ import annotations

import math
from functools import cache

import mujoco
import numpy as np
import pytest
import torch

from suite.envs.isaacgym import terrain
from suite.envs.isaacgym.anymal_terrain import AnymalTerrain
from suite.envs.isaacgym.physics import Mujoco
from suite.envs.isaacgym.worlds import WorldLanes

STANDING = [0.03, 0.4, -0.8, 0.03, -0.4, 0.8, -0.03, 0.4, -0.8, -0.03, -0.4, 0.8]

field = cache(terrain.heights)
model = cache(AnymalTerrain.build_model)


def dogs(worlds: int, first_seed: int = 0) -> AnymalTerrain:
    return AnymalTerrain(Mujoco(model(), worlds), np.arange(worlds) + first_seed)


def lanes(seeds: int, envs: int, first_seed: int = 0, horizon: int = 1000) -> WorldLanes:
    return WorldLanes(dogs(seeds * envs, first_seed), (seeds, envs), horizon)


def put(
    task: AnymalTerrain,
    place: tuple[float, float, float] = (-10, -10, 0.62),
    quaternion: tuple[float, ...] = (1, 0, 0, 0),
    velocity: tuple[float, ...] = (0, 0, 0),
    spin: tuple[float, ...] = (0, 0, 0),
) -> None:
    """All worlds here (unless said otherwise on the flat border), their joints at rest."""
    qpos = torch.tensor([*place, *quaternion, *STANDING], dtype=torch.float64)
    qvel = torch.tensor([*velocity, *spin, *[0] * 12], dtype=torch.float64)
    worlds = len(task.all)
    task.physics.place(task.all, qpos.expand(worlds, -1), qvel.expand(worlds, -1))
    task.speeds_before[:] = 0


def tile(level: int, kind: int) -> np.ndarray:
    x, y = 200 + 80 * level, 200 + 80 * kind
    return field()[x : x + 80, y : y + 80]


def test_terrain_is_always_the_same_and_flat_outside() -> None:
    assert field().shape == (10 * 80 + 400, 20 * 80 + 400)
    assert (terrain.heights() == field()).all()
    assert (field()[:200] == 0).all()
    assert (field()[-200:] == 0).all()
    assert (field()[:, :200] == 0).all()
    assert (field()[:, -200:] == 0).all()


@pytest.mark.parametrize(("kind", "sign"), [(0, -1), (1, 1)])
def test_slopes_are_as_steep_as_their_level(kind: int, sign: int) -> None:
    assert (tile(0, kind) == 0).all()
    slope = tile(5, kind)  # 0.2; the platform is where 25/40 of the way in both directions end
    assert slope[10, 25] == pytest.approx(sign * 0.2 * 4 * (10 / 40) * (25 / 40))
    assert slope[40, 40] == pytest.approx(sign * 0.2 * 4 * (25 / 40) ** 2)
    assert np.ptp(slope[25:56, 25:56]) == pytest.approx(0)
    # down the middle, but not on the platform, the tile is as steep as its slope
    assert slope[5, 40] - slope[4, 40] == pytest.approx(sign * 0.2 * 0.1)


def test_rough_slopes_stay_near_the_smooth_ones() -> None:
    for kind in (2, 3):
        rough = tile(5, kind) - tile(5, kind - 2)
        assert np.abs(rough).max() == pytest.approx(0.1)
        assert rough.std() > 0.03
        corner = rough[[0, 0, -1, -1], [0, -1, 0, -1]] / 0.025
        np.testing.assert_allclose(corner, corner.round(), atol=1e-9)


@pytest.mark.parametrize("kind", range(4, 16))
def test_stairs_have_nine_steps(kind: int) -> None:
    for level, step in ((0, 0.05), (9, 0.2075)):
        sign = -1 if kind < 11 else 1
        along = sign * tile(level, kind)[:, 40] / step
        expected = [*np.repeat(np.arange(9), 3), *[9] * 26, *np.repeat(np.arange(9)[::-1], 3)]
        np.testing.assert_allclose(along, expected, atol=1e-9)
        np.testing.assert_allclose(tile(level, kind), tile(level, kind).T)


def test_obstacles_have_their_levels_heights_and_leave_the_middle_free() -> None:
    for kind in range(16, 20):
        heights = np.unique(tile(4, kind) / (0.025 + 0.15 * 0.4))
        np.testing.assert_allclose(heights, [-1, -0.5, 0, 0.5, 1])
        assert (tile(4, kind)[25:55, 25:55] == 0).all()


def test_origins_are_the_middles_of_the_tiles_at_their_highest() -> None:
    origins = terrain.origins(field())
    assert origins.shape == (10, 20, 3)
    np.testing.assert_allclose(origins[0, 0], [4, 4, 0])
    np.testing.assert_allclose(origins[9, 12], [76, 100, 9 * 0.2075])
    np.testing.assert_allclose(origins[9, 5], [76, 44, -9 * 0.2075])
    assert origins[5, 3, 2] == tile(5, 3)[30:50, 30:50].max()


def test_the_ground_of_the_model_is_that_of_the_task() -> None:
    data = mujoco.MjData(model())
    mujoco.mj_forward(model(), data)
    rng = np.random.default_rng(0)
    hit = np.zeros(1, np.int32)
    for x, y in zip(rng.integers(210, 1190, 100), rng.integers(210, 1790, 100), strict=True):
        above = np.array([0.1 * x - 20 + 0.03, 0.1 * y - 20 + 0.04, 3.0])
        depth = mujoco.mj_ray(model(), data, above, np.array([0, 0, -1.0]), None, 1, -1, hit, None)
        around = field()[x : x + 2, y : y + 2]
        assert around.min() - 1e-6 <= 3 - depth <= around.max() + 1e-6


def test_model_has_the_drives_and_shapes_of_the_task() -> None:
    robot = model()
    assert sum(robot.body_mass) == pytest.approx(52.135, abs=0.01)
    assert robot.opt.timestep == 0.005
    assert (robot.nv, robot.nu, robot.nsensordata) == (18, 12, 39)
    assert robot.ngeom == 1 + 1 + 4 + 4  # ground, trunk, knees, feet
    assert not robot.jnt_limited.any()
    assert robot.actuator_gainprm[:, 0].tolist() == [80] * 12
    assert robot.actuator_biasprm[:, 1:3].tolist() == [[-80, -2]] * 12
    assert robot.actuator_forcerange.tolist() == [[-80, 80]] * 12


def test_torques_are_those_of_the_law_at_every_step_of_time() -> None:
    task = dogs(1)
    put(task, (-10, -10, 3))
    action = torch.tensor([[0.5, -1, 1] * 4], dtype=torch.float64)
    for substep in range(4):
        qpos, qvel = task.physics.qpos[0, 7:].clone(), task.physics.qvel[0, 6:].clone()
        task.physics.step(task.control(action), 1)
        target = task.standing + 0.5 * action[0]
        expected = (80 * (target - qpos) - 2 * qvel).clamp(-80, 80)
        np.testing.assert_allclose(task.torques()[0], expected, atol=1e-9, err_msg=str(substep))


def test_episodes_begin_on_the_first_level_around_the_middle_of_a_tile() -> None:
    task = dogs(300)
    task.begin(task.all)
    assert (task.level == 0).all()
    assert task.kind.unique().tolist() == list(range(20))
    origins = torch.from_numpy(terrain.origins(field()))[0, task.kind]
    aside = (task.physics.qpos[:, :3] - origins).numpy()
    assert np.abs(aside[:, :2]).max() <= 0.5
    assert np.ptp(aside[:, :2], axis=0).min() > 0.95
    np.testing.assert_allclose(aside[:, 2], 0.62, atol=1e-6)
    slow = (task.command == 0).all(1)
    assert 0.01 < slow.double().mean() < 0.12  # pi / 64 = 0.049
    assert (task.command[~slow, :2].norm(dim=1) > 0.25).all()
    reach = task.command.abs().amax(0)
    assert (reach <= torch.tensor([1, 1, 3.14])).all()
    assert (reach > torch.tensor([0.95, 0.95, 3.0])).all()


def test_levels_follow_the_distance_walked() -> None:
    task = dogs(6)
    task.begin(task.all)
    task.level[:] = torch.tensor([5, 5, 5, 0, 9, 5])
    task.command[:] = torch.tensor([0.6, 0.0, 3.0])  # 12 m in 20 s: at least 3 m
    task.physics.qpos[:, :2] = task.origin[:, :2]
    task.physics.qpos[:, 0] += torch.tensor([4.1, 3.5, 2.9, 0.0, 9.0, 4.1])
    task.command[5, 1] = 0.8  # 20 m: at least 5 m
    task.begin(task.all)
    assert task.level.tolist() == [6, 5, 4, 0, 0, 5]
    origins = torch.from_numpy(terrain.origins(field()))
    np.testing.assert_allclose(task.origin, origins[task.level, task.kind], atol=1e-6)


def test_evaluation_is_spread_over_all_levels_and_stays_on_them() -> None:
    task = dogs(200)
    task.examine()
    task.begin(task.all)
    levels = task.level.clone()
    counts = levels.bincount(minlength=terrain.LEVELS)
    assert counts.min() >= 8
    assert counts.max() <= 35
    assert task.origin[:, 0].sub(4).div(8).long().equal(levels)
    task.physics.qpos[:, 0] += 5
    task.begin(task.all)
    assert task.level.equal(levels)


def place_on(task: AnymalTerrain, level: int, kinds: list[int]) -> torch.Tensor:
    """One dog in the middle of each of these tiles; the middles ``[N, 3]``."""
    origin = task.origins[level, torch.tensor(kinds)]
    start = torch.cat([origin + task.start[:3], task.start[3:].expand(len(kinds), -1)], dim=1)
    task.physics.place(task.all, start, torch.zeros(len(kinds), 18, dtype=torch.float64))
    return origin


def test_a_dog_stands_on_any_tile() -> None:
    task = dogs(20)
    origin = place_on(task, 9, list(range(20)))
    for _ in range(40):
        task.advance(torch.zeros(20, 12, dtype=torch.float64))
    height = task.physics.qpos[:, 2] - origin[:, 2]
    assert height.min() > 0.3
    assert height.max() < 0.6


def test_the_feet_feel_the_weight() -> None:
    task = dogs(2)
    place_on(task, 9, [6, 12])
    for _ in range(180):
        task.advance(torch.zeros(2, 12, dtype=torch.float64))
    up = -task.physics.sensors[:, 27:39].reshape(-1, 4, 3)[..., 2]
    assert (up > 50).all()
    np.testing.assert_allclose(up.sum(1), 52.135 * 9.81, rtol=0.02)


def test_rewards_of_states_worked_out_by_hand() -> None:
    task = dogs(8)
    put(task, velocity=(0, 0, 0))
    task.command[:] = 0
    action = torch.zeros(8, 12, dtype=torch.float64)
    task.physics.qvel[0, 2] = 0.1  # upwards: 4 * 0.01
    task.physics.qvel[1, 3:5] = torch.tensor([0.6, 0.8])  # rolling and pitching: 0.05
    task.physics.sensors[2, 15:27] = 10.0  # torque: 2e-5 * 1200
    task.physics.qvel[3, 6:] = 2.0  # joints: 5e-4 * 12
    task.speeds_before[3] = 1.0
    task.physics.sensors[4, 3] = 2.0  # two thighs
    task.physics.sensors[4, 12] = 2.0
    action[5] = 0.5  # 0.01 * 12 * 0.25
    task.physics.qvel[6, 2] = 2.0  # 16: more than there is to lose
    task.command[7] = torch.tensor([0.3, 0.4, 0.5])  # a factor of e; 0.25 rad/s missed
    reward, ended = task.judge(action)
    lost = [0.04, 0.05, 0.024, 0.006, 0.5, 0.03]
    last = math.exp(-1) + 0.5 * math.exp(-0.25)
    expected = [*(0.02 * (1.5 - np.array(lost))), 0, 0.02 * last]
    np.testing.assert_allclose(reward, expected, atol=1e-12)
    assert not ended.any()  # not even by thighs


def test_the_base_on_the_ground_ends_the_episode() -> None:
    task = dogs(2)
    put(task)
    task.physics.sensors[:, :3] = torch.tensor([[1.0, 0.0, 0.0], [0.0, 1.01, 0.0]])
    assert task.judge(task.action)[1].tolist() == [False, True]


def test_long_steps_are_rewarded_when_the_foot_lands() -> None:
    task = dogs(3)
    put(task)
    task.command[:2, 0] = 0.3
    on_ground = torch.tensor([0, 0, -2.0] * 4)
    task.physics.sensors[:, 27:39] = on_ground
    task.physics.sensors[:, 27:30] = 0.0  # the first foot is in the air
    task.physics.sensors[1, 32] = 2.0  # the second pulls at the ground: it does not stand there
    task.aloft[:] = torch.tensor([0.4, 0.0, 0.78, 0.3], dtype=torch.float64)
    # 0.8 - 0.5 and 0.32 - 0.5; the last dog is asked to stand
    np.testing.assert_allclose(task.strides(), [0.12, 0.12, 0], atol=1e-12)
    np.testing.assert_allclose(task.aloft[:2], [[0.42, 0, 0, 0], [0.42, 0.02, 0, 0]], atol=1e-12)
    np.testing.assert_allclose(task.strides(), [0, 0, 0], atol=1e-12)


@pytest.mark.parametrize(
    ("heading", "facing", "turn"),
    [(0.5, 0, 0.25), (3.0, 0, 1), (-3.0, 0, -1), (3.0, -3.0, -0.5 * (2 * math.pi - 6))],
)
def test_turning_is_the_short_way_to_the_heading(
    heading: float, facing: float, turn: float
) -> None:
    task = dogs(1)
    put(task, quaternion=(math.cos(facing / 2), 0, 0, math.sin(facing / 2)))
    task.command[:] = torch.tensor([0.7, -0.6, heading])
    np.testing.assert_allclose(task.wanted(), [[0.7, -0.6, turn]], atol=1e-12)


def test_observation_of_a_state_worked_out_by_hand() -> None:
    task = dogs(1)
    half = math.sqrt(0.5)
    put(task, (-10, -10, 0.6), (half, half, 0, 0), velocity=(1, 2, 3), spin=(4, 8, 12))
    task.physics.qvel[0, 6:] = 2.0
    task.command[:] = torch.tensor([-0.5, 1.0, 0.8])
    task.action = torch.full((1, 12), 0.25, dtype=torch.float64)
    task.noise[:] = 0
    seen = task.observe()[0].numpy()
    np.testing.assert_allclose(seen[:6], [2, 6, -4, 1, 2, 3], atol=1e-12)
    # turned back by the attitude: the dog's own -y is down
    np.testing.assert_allclose(seen[6:9], [0, -1, 0], atol=1e-12)
    np.testing.assert_allclose(seen[9:12], [-1, 2, 0.1], atol=1e-12)
    np.testing.assert_allclose(seen[12:24], STANDING, atol=1e-12)
    expected = [0.1] * 12 + [0.5] * 140 + [0.25] * 12  # 5 * (0.6 - 0.5)
    np.testing.assert_allclose(seen[24:], expected, atol=1e-12)


def test_heights_are_those_around_the_dog_as_it_faces() -> None:
    task = dogs(3)
    task.begin(task.all)
    task.level[:], task.kind[:] = 7, torch.tensor([3, 9, 17])
    task.physics.qpos[:, :2] = task.origins[7, task.kind, :2] + torch.tensor([2.213, -1.457])
    task.physics.qpos[:, 3:7] = torch.tensor([math.cos(0.4), 0, 0, math.sin(0.4)])  # 0.8 rad
    seen = task.ground()
    ahead = [-8, -7, -6, -5, -4, -3, -2, 2, 3, 4, 5, 6, 7, 8]
    beside = [-5, -4, -3, -2, -1, 1, 2, 3, 4, 5]
    for world in range(3):
        at = task.physics.qpos[world, :2].numpy()
        for index, (i, j) in enumerate((i, j) for i in ahead for j in beside):
            x = at[0] + 0.1 * (i * math.cos(0.8) - j * math.sin(0.8)) + 20
            y = at[1] + 0.1 * (i * math.sin(0.8) + j * math.cos(0.8)) + 20
            cell = field()[int(x * 10) : int(x * 10) + 2, int(y * 10) : int(y * 10) + 2]
            assert seen[world, index] == pytest.approx(min(cell[0, 0], cell[1, 1]), abs=1e-6)


def test_heights_of_a_leaning_dog_are_those_of_one_upright() -> None:
    task = dogs(2)
    put(task, (40.3, 50.1, 1))
    task.physics.qpos[1, 3:7] = torch.tensor([0.8, 0.6, 0, 0])
    seen = task.ground()
    assert seen[0].max() > seen[0].min()
    assert (seen[0] == seen[1]).all()


def test_heights_outside_the_field_are_those_of_its_edge() -> None:
    task = dogs(2)
    put(task, (-500, 900, 0.62))
    task.physics.qpos[1, :2] = torch.nan
    assert (task.ground() == 0).all()


def test_heights_are_clipped() -> None:
    task = dogs(1)
    task.noise[:] = 0
    for height, seen in ((9.0, 5.0), (-9.0, -5.0)):
        put(task, (-10, -10, height))
        assert (task.observe()[0, 36:176] == seen).all()


def test_noise_is_of_the_seed_and_the_step_alone() -> None:
    task, other = dogs(3), dogs(1, first_seed=2)
    for some in (task, other):
        put(some)
    noise = np.repeat([0.2, 0.05, 0.05, 0, 0.01, 0.075, 0.3, 0], [3, 3, 3, 3, 12, 12, 140, 12])
    first = task.observe()
    assert (first == task.observe()).all()
    assert (first[2] == other.observe()[0]).all()
    task.steps += 1
    off = (task.observe() - first).numpy()
    assert (np.abs(off) <= 2 * noise).all()
    assert (np.abs(off[:, noise > 0]).max(0) > 0).all()
    middle = np.concatenate(
        [[0] * 6, [0, 0, -1], [0] * 3, STANDING, [0] * 12, [0.6] * 140, [0] * 12]
    )
    assert (np.abs(first.numpy() - middle) <= noise + 1e-6).all()


def test_a_push_comes_every_15_seconds_of_a_world() -> None:
    task = dogs(200)
    put(task, (-10, -10, 5), velocity=(3, 3, 0))
    still = torch.zeros(200, 12, dtype=torch.float64)
    task.steps[:] = 748
    task.advance(still)
    assert (task.physics.qvel[:, :2] > 2).all()
    task.advance(still)
    pushed = task.physics.qvel[:, :2]
    assert pushed.abs().max() <= 1
    assert (pushed.max(0).values - pushed.min(0).values > 1.9).all()
    task.advance(still)
    assert (task.physics.qvel[:, :2] - pushed).abs().max() < 0.2


def test_random_actions_never_explode() -> None:
    many = lanes(1, 8)
    many.reset()
    many.worlds.level[:] = 9  # from the next episode on one more, so from the first again
    rng = np.random.default_rng(0)
    for _ in range(100):
        step = many.step(rng.uniform(-1, 1, (1, 8, 12)).astype(np.float32))
        assert np.isfinite(step.next_obs["observation"]).all()
        assert (step.reward >= 0).all()
        assert not many.worlds.broken().any()
        assert many.worlds.physics.qvel.abs().max() < 200


def test_a_world_does_alone_what_it_does_among_others() -> None:
    many, alone = lanes(2, 2, 5, horizon=20), lanes(1, 1, 8, horizon=20)
    actions = np.random.default_rng(0).uniform(-1, 1, (50, 12)).astype(np.float32)
    assert (many.reset()["observation"][1, 1] == alone.reset()["observation"][0, 0]).all()
    for action in actions:
        among = many.step(np.tile(action, (2, 2, 1)))
        lone = alone.step(action[None, None])
        assert (among.obs["observation"][1, 1] == lone.obs["observation"][0, 0]).all()
        assert (among.next_obs["observation"][1, 1] == lone.next_obs["observation"][0, 0]).all()
        assert among.reward[1, 1] == lone.reward[0, 0]


def test_beginning_some_worlds_leaves_the_others_alone() -> None:
    task = dogs(3)
    task.begin(task.all)
    for _ in range(5):
        task.advance(torch.full((3, 12), 0.5, dtype=torch.float64))
        task.judge(task.action)
    before, aloft, level = task.observe(), task.aloft.clone(), task.level.clone()
    task.begin(torch.tensor([1]))
    after = task.observe()
    assert (after[[0, 2]] == before[[0, 2]]).all()
    assert (task.aloft[[0, 2]] == aloft[[0, 2]]).all()
    assert (task.level[[0, 2]] == level[[0, 2]]).all()
    assert (after[1, 12:24] != before[1, 12:24]).any()
    assert (after[1, 176:] == 0).all()
    assert (task.aloft[1] == 0).all()


def test_time_truncates_and_does_not_end() -> None:
    few = lanes(1, 2, horizon=3)
    few.reset()
    still = np.zeros((1, 2, 12), np.float32)
    steps = [few.step(still) for _ in range(3)]
    assert [step.truncated.all() for step in steps] == [False, False, True]
    assert not any(step.terminated.any() for step in steps)
