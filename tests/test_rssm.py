"""The recurrent state-space model: its cell, its distributions, its gradients."""

from __future__ import annotations

import math

import pytest
import torch

from baselines.parts.rssm import RSSM, State, divergence
from suite.streams import Streams


def make(seeds: tuple[int, ...] = (0, 1)) -> RSSM:
    return RSSM(Streams(seeds), 3, 2, deterministic=5, groups=2, classes=4, hidden=8)


def states(model: RSSM, batch: int) -> State:
    generator = torch.Generator().manual_seed(0)
    h = torch.rand(model.seeds, batch, 5, generator=generator) - 0.5
    z = torch.nn.functional.one_hot(
        torch.randint(0, 4, (model.seeds, batch, 2), generator=generator), 4
    )
    return State(h, z.flatten(2).float())


def test_the_cell_by_hand():
    model = make()
    state, action = states(model, 3), torch.ones(2, 3, 2)
    found = model.advance(state, action)
    entered = model.enter(torch.cat([state.z, action], -1))
    raw = model.cell(torch.cat([entered, state.h], -1))
    parts = (raw - raw.mean(-1, keepdim=True)) / (
        raw.var(-1, correction=0, keepdim=True) + 1e-5
    ).sqrt()
    reset, candidate, update = parts.split(5, dim=-1)
    share = 1 / (1 + (1 - update).exp())
    expected = (1 - share) * state.h + share * torch.tanh(candidate / (1 + (-reset).exp()))
    torch.testing.assert_close(found, expected)
    assert found.abs().max() < 1


def test_no_class_is_ruled_out():
    model = make()
    log_probs = model.posterior(states(model, 3).h, 1e4 * torch.ones(2, 3, 3))
    assert log_probs.exp().sum(-1).sub(1).abs().max() < 1e-5
    assert log_probs.exp().min() >= 0.01 / 4 - 1e-6
    assert model.prior(states(model, 3).h).shape == (2, 3, 2, 4)


def test_draws_are_one_hot_by_the_noise_and_differentiable_by_the_probabilities():
    model = make()
    raw = torch.tensor([0.7, 0.1, 0.1, 0.1]).log().expand(2, 5000, 2, 4).clone().requires_grad_()
    z = model.draw(raw, Streams((0, 1)).gumbel("test", 5000, 2, 4)).unflatten(-1, (2, 4))
    assert set(z.detach().round(decimals=5).unique().tolist()) == {0.0, 1.0}
    assert z.detach().mean(dim=1)[..., 0].sub(0.7).abs().max() < 0.03
    z[..., 0].sum().backward()
    assert raw.grad is not None
    assert raw.grad[..., 0] == pytest.approx(0.7 * torch.ones(2, 5000, 2).numpy())  # d exp(x) / dx
    assert not raw.grad[..., 1:].any()
    best = model.draw(raw.detach(), None).unflatten(-1, (2, 4))
    assert (best[..., 0] == 1).all()


def test_divergence_by_hand():
    one = torch.tensor([0.5, 0.5]).log().view(1, 1, 1, 2).expand(1, 1, 2, 2)
    other = torch.tensor([0.25, 0.75]).log().view(1, 1, 1, 2).expand(1, 1, 2, 2)
    by_hand = 2 * (0.5 * math.log(2) + 0.5 * math.log(0.5 / 0.75))
    assert divergence(one, other).item() == pytest.approx(by_hand)
    assert divergence(one, one).item() == 0


def test_a_seed_alone_is_the_same():
    together, alone = make((0, 1)), make((1,))
    h = states(together, 3).h
    inputs = torch.ones(2, 3, 3)
    torch.testing.assert_close(
        together.posterior(h, inputs)[1:], alone.posterior(h[1:], inputs[1:]), rtol=1e-5, atol=1e-6
    )
