"""DMControl: EnvPool and dm_control step the same tasks; images are upstream's own.

EnvPool cannot be put into a state, but dm_control can: each of its worlds below is put into the
state that EnvPool's first observation tells, and both take the same actions.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy.stats import ks_2samp

from suite.cli import main
from suite.envs import rendering
from suite.envs.dmcontrol import FAMILY, pool_name, shows_pixels
from suite.envs.dmcontrol_worlds import World, load
from suite.envs.lanes import Lanes
from suite.tasks import Task

ROOT = Path(__file__).parent.parent
POOL, REFERENCE = FAMILY.engines
STATE_TASKS = [task for task in FAMILY.tasks.values() if not shows_pixels(task)]
POOL_TASKS = [task for task in STATE_TASKS if POOL.supports(task)]
FINGER_TASKS = [task for task in STATE_TASKS if task.name.startswith("finger-")]
PIXEL_TASKS = [task for task in FAMILY.tasks.values() if shows_pixels(task)]


def by_name(tasks: list[Task], slow_after_the_first_of_a_domain: bool = False) -> dict[str, Any]:
    domains = [task.name.split("-")[0] for task in tasks]
    return {
        "argvalues": [
            pytest.param(
                task,
                id=task.name,
                marks=[pytest.mark.slow]
                if slow_after_the_first_of_a_domain and domains[index] in domains[:index]
                else [],
            )
            for index, task in enumerate(tasks)
        ]
    }


def actions_of(lanes: Lanes, steps: int, reach: float = 1.0) -> np.ndarray:
    size = (steps, *lanes.shape, *lanes.spaces.action.shape)
    return np.random.default_rng(0).uniform(-reach, reach, size).astype(np.float32)


# From the same first state, the same actions lead along the same path.


def acrobot(obs: dict[str, np.ndarray]) -> np.ndarray:
    upper, lower = np.arctan2(obs["orientations"][:2], obs["orientations"][2:])
    return np.array([upper, lower - upper])


def cartpole(obs: dict[str, np.ndarray]) -> np.ndarray:
    x, cosine, sine = obs["position"]
    return np.array([x, np.arctan2(sine, cosine)])


def finger(obs: dict[str, np.ndarray]) -> np.ndarray:
    """The last two positions are those of the spinner's tip, as seen from its hinge."""
    *joints, x, z = obs["position"]
    return np.array([*joints, np.arctan2(-x, z)])


def pendulum(obs: dict[str, np.ndarray]) -> np.ndarray:
    cosine, sine = obs["orientation"]
    return np.array([np.arctan2(sine, cosine)])


def walker(obs: dict[str, np.ndarray]) -> np.ndarray:
    """Heights are measured from 1.3 m; joints turn the other way round than the torso."""
    torso, *legs = np.arctan2(obs["orientations"][1::2], obs["orientations"][::2])
    joints = np.array([torso, *legs[:2], torso, *legs[3:5]]) - legs
    within = np.arctan2(np.sin(joints), np.cos(joints))
    return np.array([obs["height"] - 1.3, 0, torso, *within])


def all_but_the_way(obs: dict[str, np.ndarray]) -> np.ndarray:
    return np.append(0, obs["position"])


def all_of_it(obs: dict[str, np.ndarray]) -> np.ndarray:
    return obs["position"]


POSITIONS: dict[str, Callable[[dict[str, np.ndarray]], np.ndarray]] = {
    "acrobot": acrobot,
    "ball_in_cup": all_of_it,
    "cartpole": cartpole,
    "finger": finger,
    "cheetah": all_but_the_way,
    "hopper": all_but_the_way,
    "pendulum": pendulum,
    "reacher": all_of_it,
    "walker": walker,
}


def place(world: Any, domain: str, obs: dict[str, np.ndarray]) -> None:
    """Put a world of dm_control into the state that an observation (float64) tells."""
    physics = world.physics
    with physics.reset_context():
        physics.data.qpos[:] = POSITIONS[domain](obs)
        physics.data.qvel[:] = obs["velocity"]
    if domain == "reacher":
        place_of_finger = physics.named.data.geom_xpos["finger", ["x", "y"]]
        physics.named.model.geom_pos["target", ["x", "y"]] = place_of_finger + obs["to_target"]
        physics.forward()
    if "target_position" in obs:
        hinge = physics.named.data.sensordata["spinner"][[0, 2]]
        physics.named.model.site_pos["target", ["x", "z"]] = hinge + obs["target_position"]
        physics.forward()


def distance(first: dict[str, np.ndarray], second: dict[str, np.ndarray]) -> float:
    return max(np.abs(np.asarray(leaf) - second[name]).max() for name, leaf in first.items())


def side_by_side(
    task: Task, policy: Callable[[dict[str, np.ndarray], int], np.ndarray], steps: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Put three worlds of dm_control beside three of EnvPool and step both.

    Returns:
        Largest distance of the observations, difference of the rewards, and strongest touch in
        EnvPool (0 in a domain without touch); ``[steps, 3]`` each.
    """
    import envpool

    width = 3
    pool = envpool.make_gymnasium(pool_name(task), num_envs=width, num_threads=1, seed=[1, 2, 3])
    worlds = [load(task, seed) for seed in range(width)]
    obs, _ = pool.reset()
    for lane, world in enumerate(worlds):
        world.reset()
        first = {name: leaf[lane] for name, leaf in obs.items()}
        place(world, task.name.split("-")[0], first)
        assert distance(world.task.get_observation(world.physics), first) < 1e-12
    rows = []
    for step in range(steps):
        action = policy(obs, step)
        obs, reward, terminated, truncated, _ = pool.step(action)
        assert not (terminated | truncated).any()
        touch = obs.get("touch", np.zeros((width, 1))).max(axis=1)
        for lane, world in enumerate(worlds):
            outcome = world.step(action[lane])
            found = {name: leaf[lane] for name, leaf in obs.items()}
            apart = distance(outcome.observation, found)
            rows.append((apart, abs(outcome.reward - reward[lane]), touch[lane]))
    pool.close()
    return tuple(np.array(rows).reshape(steps, width, 3).transpose(2, 0, 1))


@pytest.mark.parametrize("task", **by_name(POOL_TASKS, slow_after_the_first_of_a_domain=True))
def test_envpool_follows_the_path_of_dm_control(task: Task):
    """Actions reach beyond the bounds, so that clipping is compared too."""
    actions = np.random.default_rng(0).uniform(-1.2, 1.2, (40, 3, *action_shape(task)))
    apart, of_reward, _ = side_by_side(task, lambda obs, step: actions[step], 40)
    assert apart.max() < 1e-9
    assert of_reward.max() < 1e-6


def action_shape(task: Task) -> tuple[int, ...]:
    shape: tuple[int, ...] = load(task, 0).action_spec().shape
    return shape


def swing(obs: dict[str, np.ndarray], step: int) -> np.ndarray:
    """Push each joint of the finger the way it is going, so that it hits the spinner."""
    return np.where(obs["velocity"][:, :2] >= 0, 1.0, -1.0)


@pytest.mark.parametrize("task", **by_name(FINGER_TASKS))
def test_the_finger_touches_differently_in_envpool_and_is_left_to_dm_control(task: Task):
    apart, _, touch = side_by_side(task, swing, 40)
    untouched = touch.cumsum(axis=0) == 0
    assert apart[untouched].max() < 1e-12
    assert (apart[~untouched] > 0.1).any()
    assert not POOL.supports(task)


# Every task that EnvPool steps: episodes begin alike.


@pytest.mark.parametrize("task", **by_name(POOL_TASKS, slow_after_the_first_of_a_domain=True))
def test_episodes_begin_alike(task: Task):
    lanes = POOL.make(replace(task, horizon=1), np.arange(8)[None], "train", 1)
    lanes.reset()
    steps = [lanes.step(action).obs for action in actions_of(lanes, 12)]  # an episode each
    lanes.close()
    ours = {name: np.array([obs[name] for obs in steps]).reshape(96, -1) for name in steps[0]}
    world = load(task, 0)
    firsts = [world.reset().observation for _ in range(96)]
    assert ours.keys() == firsts[0].keys()
    for name, leaf in ours.items():
        theirs = np.array([first[name] for first in firsts], np.float32).reshape(96, -1)
        for mine, other in zip(leaf.T.round(5), theirs.T.round(5), strict=True):
            assert ks_2samp(mine, other).pvalue > 1e-5, name


# The reference engine is upstream's environment.


def test_lanes_equal_an_environment_of_dm_control_stepped_by_hand():
    task = FAMILY.tasks["ball_in_cup-catch"]
    lanes = REFERENCE.make(task, np.array([[7]]), "train", 1)
    world = load(task, 7)
    expected = world.reset()
    obs = lanes.reset()
    ends = 0
    for action in actions_of(lanes, 2 * task.horizon + 1):
        assert all((obs[n][0, 0] == v.astype(np.float32)).all() for n, v in leaves(expected))
        expected = world.step(action[0, 0])
        outcome = lanes.step(action)
        assert all((outcome.next_obs[n][0, 0] == v).all() for n, v in leaves(expected))
        assert outcome.reward[0, 0] == np.float32(expected.reward)
        assert outcome.truncated[0, 0] == expected.last()
        assert not outcome.terminated[0, 0]
        if expected.last():
            expected = world.reset()
            ends += 1
        obs = outcome.obs
    assert ends == 2


def leaves(timestep: Any) -> Iterator[tuple[str, np.ndarray]]:
    return ((name, np.float32(leaf)) for name, leaf in timestep.observation.items())


@pytest.mark.parametrize(("discount", "terminates"), [(0.0, True), (1.0, False)])
def test_an_end_is_a_termination_where_the_discount_is_zero(
    discount: float, terminates: bool, monkeypatch: pytest.MonkeyPatch
):
    world = World(replace(FAMILY.tasks["pendulum-swingup"], horizon=1), 0)
    world.reset()
    monkeypatch.setattr(world.world.task, "get_termination", lambda physics: discount)
    *_, terminated, truncated, _ = world.step(np.zeros(1))
    assert (terminated, truncated) == (terminates, not terminates)


def test_tasks_and_horizons_are_those_of_upstream():
    from dm_control import suite

    for task in (STATE_TASKS[0], *PIXEL_TASKS):
        assert tuple(task.name.removesuffix("-pixels").split("-")) in suite.BENCHMARKING
        world = World(task, 0)
        assert world.world._step_limit == task.horizon * task.frames_per_step
        assert world.action_space.low.tolist() == [-1.0] * world.action_space.shape[0]
        assert world.action_space.high.tolist() == [1.0] * world.action_space.shape[0]


# Pixels.


@pytest.fixture
def driver() -> str:
    found = rendering.find_driver()
    if found is None:
        pytest.skip("no OpenGL driver here; what a user is told then is tested below")
    return found


def test_each_observation_drops_the_oldest_image_and_appends_a_new_one(driver: str):
    task = replace(FAMILY.tasks["pendulum-swingup-pixels"], horizon=3)
    lanes = REFERENCE.make(task, np.array([[1], [2]]), "train", 1)
    assert lanes.spaces.observation["observation"].stack == 3
    obs = lanes.reset()["observation"]
    cuts = 0
    for action in actions_of(lanes, 7):
        outcome = lanes.step(action)
        after, again = outcome.next_obs["observation"], outcome.obs["observation"]
        assert (after[..., :6] == obs[..., 3:]).all()
        assert (after[..., 6:] != after[..., 3:6]).any()
        if outcome.truncated.all():
            assert (again[..., 6:] != after[..., 6:]).any()
            for image in (again[..., :3], again[..., 3:6]):
                assert (image == again[..., 6:]).all()
            cuts += 1
        obs = again
    assert cuts == 2
    lanes.close()


def test_a_decision_from_pixels_takes_two_control_steps(driver: str):
    task = FAMILY.tasks["cartpole-balance-pixels"]
    lanes = REFERENCE.make(task, np.array([[5]]), "train", 1)
    lanes.reset()
    world = load(task, 5)
    world.reset()
    for action in actions_of(lanes, 3):
        by_hand = [world.step(action[0, 0]).reward for _ in range(2)]
        assert lanes.step(action).reward[0, 0] == np.float32(sum(by_hand))
    lanes.close()


def test_images_do_not_depend_on_the_number_of_processes(driver: str):
    task = replace(FAMILY.tasks["reacher-easy-pixels"], horizon=3)
    seeds = np.array([[1, 2], [3, 4]])
    one, two = (REFERENCE.make(task, seeds, "train", threads) for threads in (1, 2))
    np.testing.assert_array_equal(one.reset()["observation"], two.reset()["observation"])
    for action in actions_of(one, 4):
        first, second = one.step(action), two.step(action)
        for ours, theirs in ((first.obs, second.obs), (first.next_obs, second.next_obs)):
            np.testing.assert_array_equal(ours["observation"], theirs["observation"])
        for values, others in zip(first[2:], second[2:], strict=True):
            np.testing.assert_array_equal(values, others)
    one.close()
    two.close()


UPSTREAM = """
import sys
import numpy as np
from suite.envs.dmcontrol import FAMILY
from suite.envs.dmcontrol_worlds import load
from suite.envs.rendering import Camera

def begin(name, seed):
    world = load(FAMILY.tasks[name], seed)
    world.reset()
    for _ in range(seed):
        world.step(np.full(world.action_spec().shape, 0.5))
    return world

for name in sys.argv[2:]:
    worlds = [begin(name, seed) for seed in (0, 1)]
    camera = Camera(sys.argv[1], 64)
    ours = [camera.draw(each.physics.model.ptr, each.physics.data.ptr) for each in worlds]
    camera.close()
    camera.close()
    assert (ours[0] != ours[1]).any(), name
    for seed, image in enumerate(ours):
        assert image.std() > 5, name
        usual, coarse = begin(name, seed), begin(name, seed)
        coarse.physics.model.vis.quality.shadowsize = 512
        assert (image == coarse.physics.render(64, 64, camera_id=0)).all(), name
        difference = np.abs(image - usual.physics.render(64, 64, camera_id=0).astype(int))
        assert (difference > 0).mean() < 0.01, name
        assert difference.mean() < 0.1, name
        for world in (worlds[seed], usual, coarse):
            world.physics.free()
"""


@pytest.mark.parametrize(
    "names",
    [
        ["finger-turn_hard", "walker-run"],
        pytest.param([task.name for task in PIXEL_TASKS], marks=pytest.mark.slow, id="all"),
    ],
)
def test_one_camera_draws_every_world_as_dm_control_does_with_coarser_shadows(
    names: list[str], driver: str
):
    """In a process of its own, for dm_control loads its renderer when it is imported."""
    done = subprocess.run(
        [sys.executable, "-c", UPSTREAM, driver, *names],
        cwd=ROOT,
        env={**os.environ, "MUJOCO_GL": driver},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr


@pytest.fixture
def no_driver(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A machine on which no driver works, by the user's own choice."""
    monkeypatch.setenv("MUJOCO_GL", "disable")
    rendering.find_driver.cache_clear()
    yield
    rendering.find_driver.cache_clear()


@pytest.mark.usefixtures("no_driver")
def test_without_a_driver_pixels_name_the_command_that_installs_one(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    arguments = ["bench", "random", "dmcontrol/cheetah-run-pixels", "--steps", "512"]
    with pytest.raises(SystemExit) as exit_:
        main([*arguments, "--results", str(tmp_path)])
    assert exit_.value.code == 2
    message = " ".join(capsys.readouterr().err.split())
    assert "dmcontrol needs an OpenGL driver" in message
    assert "apt-get install libegl1" in message
    with pytest.raises(ModuleNotFoundError, match=r"apt-get install .*MUJOCO_GL=disable rules"):
        REFERENCE.make(PIXEL_TASKS[0], np.array([[0]]), "train", 1)


@pytest.mark.usefixtures("no_driver")
def test_without_a_driver_tasks_from_state_run_on_dm_control():
    task = STATE_TASKS[0]
    assert REFERENCE.lacks(task) is None
    lanes = REFERENCE.make(task, np.array([[0]]), "train", 1)
    assert np.isfinite(lanes.reset()["velocity"]).all()


@pytest.mark.parametrize("working", ["osmesa", "egl", ""])
def test_drivers_are_tried_in_their_order(working: str, monkeypatch: pytest.MonkeyPatch):
    tried = []

    def run(command: list[str], **options: Any) -> subprocess.CompletedProcess[bytes]:
        tried.append(command[-1])
        return subprocess.CompletedProcess(command, int(command[-1] != working))

    monkeypatch.delenv("MUJOCO_GL", raising=False)
    monkeypatch.setattr(rendering.subprocess, "run", run)
    rendering.find_driver.cache_clear()
    assert rendering.find_driver() == (working or None)
    assert tried == (["egl"] if working == "egl" else ["egl", "osmesa"])
    rendering.find_driver.cache_clear()


def test_listing_tasks_imports_no_environment_package():
    code = (
        "import suite.envs.dmcontrol, sys; packages = {'dm_control', 'envpool', 'gymnasium',"
        " 'mujoco', 'OpenGL'}; sys.stdout.write(' '.join(packages & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert (done.stdout, done.stderr) == ("", "")
