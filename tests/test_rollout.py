"""Rollouts and sampling, in a counting world: every number says where it comes from."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import Tensor

from baselines.parts.rollout import Rollout, take
from suite.steps import Transition

SEEDS, LANES, STEPS = 2, 3, 4


def count(t: int) -> Tensor:
    """``[S, E]``: 100 s + 10 e + t."""
    seed = torch.arange(SEEDS).unsqueeze(1)
    return 100 * seed + 10 * torch.arange(LANES) + t


def transition(t: int) -> Transition:
    now = count(t)
    return Transition(
        obs={"place": now.unsqueeze(-1).float(), "room": now.to(torch.uint8)},
        action=now,
        reward=now.float(),
        next_obs={"place": now.unsqueeze(-1).float() + 1, "room": now.to(torch.uint8) + 1},
        terminated=now % 2 == 0,
        truncated=now % 2 == 1,
        extras={"log_prob": -now.double()},
    )


def full(first: int = 0) -> Transition:
    rollout = Rollout(STEPS)
    *early, last = [rollout.add(transition(t)) for t in range(first, first + STEPS)]
    assert early == [None] * (STEPS - 1)
    assert last is not None
    return last


def assert_equal(one: Transition | None, other: Transition) -> None:
    assert one is not None
    assert torch.equal(one.reward, other.reward)
    assert torch.equal(one.obs["room"], other.obs["room"])
    assert torch.equal(one.extras["log_prob"], other.extras["log_prob"])


def test_is_full_after_its_steps_and_not_before():
    rollout = Rollout(STEPS)
    filled = [rollout.add(transition(t)) is not None for t in range(2 * STEPS)]
    assert filled == [False, False, False, True] * 2


def test_every_leaf_lies_at_its_seed_step_and_lane():
    data = full()
    expected = torch.stack([count(t) for t in range(STEPS)], dim=1)  # [S, T, E]
    assert expected[1, 2, 1] == 112
    assert torch.equal(data.action, expected)
    assert torch.equal(data.reward, expected.float())
    assert torch.equal(data.obs["place"], expected.unsqueeze(-1).float())
    assert torch.equal(data.obs["room"], expected.to(torch.uint8))
    assert torch.equal(data.next_obs["place"], expected.unsqueeze(-1).float() + 1)
    assert torch.equal(data.extras["log_prob"], -expected.double())


def test_termination_and_truncation_stay_apart():
    data = full()
    assert torch.equal(data.terminated, data.action % 2 == 0)
    assert torch.equal(data.truncated, data.action % 2 == 1)


def test_leaves_keep_their_types():
    data = full()
    assert data.obs["room"].dtype == torch.uint8
    assert data.terminated.dtype == torch.bool
    assert data.extras["log_prob"].dtype == torch.float64


def test_a_full_rollout_starts_anew():
    rollout = Rollout(STEPS)
    data = [rollout.add(transition(t)) for t in range(2 * STEPS)]
    assert_equal(data[-1], full(STEPS))


def test_restored_in_the_middle_goes_on_identically():
    rollout, other = Rollout(STEPS), Rollout(STEPS)
    for t in range(6):
        rollout.add(transition(t))
    other.load_state_dict(copy.deepcopy(rollout.state_dict()))
    for each in (rollout, other):
        assert each.add(transition(6)) is None
        assert_equal(each.add(transition(7)), full(4))


def test_an_unused_rollout_can_be_saved():
    used = Rollout(STEPS)
    used.add(transition(0))
    used.load_state_dict(Rollout(STEPS).state_dict())
    filled = [used.add(transition(t)) is not None for t in range(STEPS)]
    assert filled == [False, False, False, True]


def test_take_picks_by_the_indices_of_each_seed():
    leaves = {
        "scalar": torch.tensor([[0, 1, 2], [10, 11, 12]]),
        "vector": torch.tensor([[[0.0], [1.0], [2.0]], [[10.0], [11.0], [12.0]]]),
    }
    picked = take(leaves, torch.tensor([[2, 2, 0, 1], [0, 1, 1, 2]]))
    assert picked["scalar"].tolist() == [[2, 2, 0, 1], [10, 11, 11, 12]]
    assert picked["vector"].tolist() == [
        [[2.0], [2.0], [0.0], [1.0]],
        [[10.0], [11.0], [11.0], [12.0]],
    ]


@pytest.mark.parametrize("seeds", [1, 3])
def test_take_equals_a_loop_over_seeds(seeds: int):
    leaf = torch.arange(seeds * 20).view(seeds, 5, 2, 2)
    index = torch.arange(seeds * 7).view(seeds, 7) * 3 % 5
    picked = take({"leaf": leaf}, index)["leaf"]
    assert torch.equal(picked, torch.stack([leaf[s][index[s]] for s in range(seeds)]))
