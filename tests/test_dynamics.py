"""The learned model: it learns a known world, its members are apart, its elites are the best."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from baselines.parts.dynamics import Dynamics
from suite.streams import Streams

Facts = tuple[Tensor, Tensor, Tensor, Tensor]


def make(seeds: tuple[int, ...] = (0, 1), **changes: int) -> Dynamics:
    sizes = {"members": 3, "elites": 2, **changes}
    return Dynamics(Streams(seeds), 2, 1, (32,), learning_rate=1e-2, **sizes)


def world(size: int, seeds: tuple[int, ...] = (0, 1), role: str = "world") -> Facts:
    """A point that is pushed: its speed changes by the action; it ends beyond 1."""
    streams = Streams(seeds)
    state = 3 * streams.uniform(role, size, 2) - 1.5
    action = 2 * streams.uniform(role, size, 1) - 1
    speed = state[..., 1:] + 0.5 * action
    change = torch.cat([0.1 * speed, 0.5 * action], dim=-1)
    reward = 10 * state[..., :1] + 5
    return state, action, torch.cat([change, reward], dim=-1), state[..., 0] > 1


def train(model: Dynamics, updates: int, seeds: tuple[int, ...] = (0, 1)) -> None:
    model.take_in(*world(512, seeds, "first"))
    for number in range(updates):
        model.update(*world(model.members * 64, seeds, f"batch {number}"))


def test_it_learns_what_follows():
    model = make()
    train(model, 600)
    state, action, target, terminated = world(2000, role="test")
    found = model.predict(state, action)
    spread = target.std(dim=1, keepdim=True)
    error = torch.cat([found.state - state, found.reward.unsqueeze(-1)], dim=-1) - target
    assert ((error / spread).square().mean(dim=1).sqrt() < 0.1).all()
    assert ((found.terminated == terminated).float().mean(dim=1) > 0.97).all()


def test_members_of_all_seeds_begin_apart_and_a_seed_alone_is_the_same():
    rows = make((0, 1)).network_parameters.rows()
    assert len(torch.unique(rows, dim=0)) == 6
    alone = make((1,))
    assert torch.equal(alone.network_parameters.rows(), rows[3:])
    together = make((0, 1))
    train(alone, 5, (1,))
    train(together, 5)
    torch.testing.assert_close(alone.rows(), together.rows()[1:], rtol=1e-4, atol=1e-5)
    assert torch.equal(alone.best, together.best[1:])


def test_a_poisoned_seed_leaves_the_other_alone():
    one, other = make(), make()
    train(one, 3)
    facts = world(3 * 64, role="last")
    one.update(*facts)
    train(other, 3)
    state, *rest = world(3 * 64, role="last")
    state = state.clone()
    state[0] = torch.nan
    other.update(state, *rest)
    assert other.rows()[0].isnan().any()
    assert torch.equal(one.rows()[1], other.rows()[1])


def test_the_elites_are_the_members_that_new_transitions_surprise_least():
    model = make(members=4, elites=2)
    train(model, 500)
    with torch.no_grad():  # seed 0 loses members 0 and 2, seed 1 members 1 and 3
        for row in (0, 2, 5, 7):
            model.network_parameters.matrix[row] += 1.0
    loss = model.take_in(*world(256, role="new"))
    assert loss.shape == (2,)
    assert [set(row) for row in model.best.tolist()] == [{1, 3}, {0, 2}]
    state, action, target, _ = world(1000, role="test")
    found = model.predict(state, action)
    assert (found.reward - target[..., -1]).abs().mean() < 1.0  # of a range of 30


def test_each_member_learns_from_a_part_of_its_own():
    model = make((0,))
    train(model, 1, (0,))
    before = model.network_parameters.rows().clone()
    state, action, target, terminated = world(3 * 64, (0,), "parts")
    target = target.clone()
    target[:, :128] = torch.nan  # parts of members 0 and 1
    model.update(state, action, target, terminated)
    after = model.network_parameters.rows()
    assert after.isnan().any(dim=1).tolist() == [True, True, False]
    assert not torch.equal(after[2], before[2])


@pytest.mark.parametrize("seeds", [(0,), (0, 1)])
def test_a_constant_target_is_predicted(seeds: tuple[int, ...]):
    model = make(seeds)
    state, action, target, _ = world(256, seeds)
    target = torch.zeros_like(target)
    target[..., -1] = 1.0
    never = torch.zeros(state.shape[:2], dtype=torch.bool)
    model.take_in(state, action, target, never)
    for _ in range(20):
        model.update(state[:, :192], action[:, :192], target[:, :192], never[:, :192])
    found = model.predict(state, action)
    assert (found.reward - 1).abs().max() < 0.01
    assert (found.state - state).abs().max() < 0.01
