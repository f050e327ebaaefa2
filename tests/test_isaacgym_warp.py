"""MuJoCo Warp beside MuJoCo in C; nothing here runs where there is no GPU."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from suite.envs.isaacgym import FAMILY
from suite.envs.isaacgym.worlds import LEAF
from suite.envs.lanes import Lanes
from suite.streams import lane_seeds

pytest.importorskip("mujoco_warp")
if not torch.cuda.is_available():
    pytest.skip("needs a GPU", allow_module_level=True)

SHAPE = (2, 32)
NAMES = [task.name for task in FAMILY.tasks.values() if FAMILY.engines[1].supports(task)]
TOLERANCE = {"BallBalance": 0.05}
"""Largest share of a movement by which engines may differ; 0.001 elsewhere."""


def open_lanes(engine: str, name: str, seeds: np.ndarray) -> Lanes:
    make = next(each.make for each in FAMILY.engines if each.name == engine)
    return make(FAMILY.tasks[name], seeds, "train", 1)


def seeds(rows: tuple[int, ...] = (0, 1)) -> np.ndarray:
    return lane_seeds(rows, "train", 0, SHAPE[1])


def moves(lanes: Lanes, steps: int) -> np.ndarray:
    rng = np.random.default_rng(0)
    size = (steps, *lanes.shape, *lanes.spaces.action.shape)
    return rng.uniform(-1, 1, size).astype(np.float32)


@pytest.mark.parametrize("name", NAMES)
def test_a_step_from_the_same_state_leads_to_the_same_state(name: str) -> None:
    """Along an episode in C. A contact that opens or closes within rounding may part a world."""
    reference, ours = (open_lanes(engine, name, seeds()) for engine in ("mujoco", "mujoco-warp"))
    first = [lanes.reset()[LEAF] for lanes in (reference, ours)]
    np.testing.assert_allclose(first[1], first[0], rtol=1e-5, atol=1e-5)
    shares = []
    for action in moves(reference, 40):
        state, copy = reference.worlds.physics, ours.worlds.physics
        copy.place(ours.worlds.all, state.qpos.float().cuda(), state.qvel.float().cuda())
        ours.worlds.elapsed.copy_(reference.worlds.elapsed)
        flat = torch.from_numpy(action).flatten(0, 1)
        before = state.qpos.clone()
        reference.worlds.advance(flat.double())
        ours.worlds.advance(flat.cuda())
        moved = (state.qpos - before).abs().amax(1)
        off = (copy.qpos.cpu() - state.qpos).abs().amax(1)
        shares.append((off <= TOLERANCE.get(name, 1e-3) * moved + 1e-5).double().mean())
    assert min(shares) >= 0.9
    assert np.mean(shares) >= 0.98


@pytest.mark.parametrize("name", NAMES)
def test_a_seed_alone_begins_and_moves_like_the_same_seed_among_two(name: str) -> None:
    """Sums in another order may part a world or two after the first steps."""
    alone, together = (open_lanes("mujoco-warp", name, seeds(rows)) for rows in ((1,), (0, 1)))
    np.testing.assert_array_equal(alone.reset()[LEAF][0], together.reset()[LEAF][1])
    for action in moves(together, 3):
        one, two = alone.step(action[1:]), together.step(action)
    near = np.isclose(one.next_obs[LEAF][0], two.next_obs[LEAF][1], rtol=1e-2, atol=1e-3)
    assert near.all(axis=1).mean() >= 0.9


@pytest.mark.parametrize("name", NAMES)
def test_random_actions_end_episodes_as_often_as_in_c(name: str) -> None:
    """Both engines play 300 steps in 64 worlds; nothing explodes and no room runs out."""
    ends, rewards = [], []
    for engine in ("mujoco", "mujoco-warp"):
        lanes = open_lanes(engine, name, seeds())
        lanes.reset()
        played = [lanes.step(action) for action in moves(lanes, 300)]
        ends.append(sum(int((o.terminated | o.truncated).sum()) for o in played))
        rewards.append(np.mean([o.reward for o in played]))
        assert all(np.isfinite(o.next_obs[LEAF]).all() for o in played)
    assert ends[1] == pytest.approx(ends[0], rel=0.25, abs=10)
    assert rewards[1] == pytest.approx(rewards[0], rel=0.15, abs=0.02)
    assert not lanes.worlds.physics._data.overflow.numpy().any()
