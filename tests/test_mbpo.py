"""MBPO: what it imagines, from where, how far, and what it learns from."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from agents_support import make_agent
from torch import Tensor

from baselines.mbpo import LATENT
from suite.spaces import Box, Discrete, Spaces, box
from suite.steps import Transition

VECTOR = Spaces({"obs": box(-10.0, 10.0, (2,))}, box(-1.0, 1.0, (1,)))
CHOICE = Spaces({"obs": box(-10.0, 10.0, (2,))}, Discrete(3))
SIZES: dict[str, Any] = {
    "learning_starts": 32,
    "model_period": 32,
    "rollouts": 16,
    "model_updates": 0,
}


def step(agent: Any, obs: Tensor, terminated: bool = False) -> dict[str, Tensor] | None:
    """One transition of every lane, from ``obs [S, E, 2]`` to the same plus one."""
    first = torch.zeros(obs.shape[:2], dtype=torch.bool)
    _, action, extras = agent.act(None, {"obs": obs}, first, True)
    ends = torch.full_like(first, terminated)
    reward = torch.ones(first.shape)
    return agent.observe(
        Transition({"obs": obs}, action, reward, {"obs": obs + 1}, ends, ~ends, extras)
    )


def play(agent: Any, steps: int) -> list[dict[str, Tensor] | None]:
    return [step(agent, torch.full((2, 1, 2), float(number % 7))) for number in range(steps)]


def test_it_imagines_and_learns_once_there_is_data_for_a_model():
    agent = make_agent("mbpo", VECTOR, 200, updates_per_step=3, **SIZES)
    found = play(agent, 70)
    assert [number for number, metrics in enumerate(found) if metrics] == [31, *range(32, 70)]
    assert found[31] is not None
    assert set(found[31]) > {"model_loss", "critic_loss"}
    assert found[32] is not None
    assert "model_loss" not in found[32]
    assert agent.imagined.added == 2 * 16
    assert agent.updates == 3 * 39


def test_rollouts_branch_off_from_real_states_and_grow_longer(monkeypatch: pytest.MonkeyPatch):
    agent = make_agent("mbpo", VECTOR, 96, horizon=1, horizon_final=4, **SIZES)
    real = {float(number % 7) for number in range(96)}
    seen: list[Tensor] = []
    predict = agent.dynamics.predict

    def note(state: Tensor, action: Tensor) -> Any:
        seen.append(state)
        found = predict(state, action)
        ends = torch.zeros(state.shape[:2], dtype=torch.bool)
        ends[:, ::2] = True
        return found._replace(state=state + 100, terminated=ends)

    monkeypatch.setattr(agent.dynamics, "predict", note)
    play(agent, 96)
    horizons = [2, 3, 4]  # at a third, two thirds and the end of the budget
    assert len(seen) == sum(horizons)
    for start in (0, 2, 5):
        assert set(seen[start].unique().tolist()) <= real
    following = seen[1]
    assert set(following[:, ::2].unique().tolist()) <= real, "an ended episode begins anew"
    assert (following[:, 1::2] >= 100).all()
    _, obs, next_obs = agent.imagined.sample(500)
    assert torch.equal(next_obs[LATENT], obs[LATENT] + 100)


@pytest.mark.parametrize("spaces", [VECTOR, CHOICE])
@pytest.mark.parametrize(("share", "real"), [(0.05, 1), (0.5, 8)])
def test_a_batch_holds_its_share_of_real_transitions(
    spaces: Spaces, share: float, real: int, monkeypatch: pytest.MonkeyPatch
):
    agent = make_agent("mbpo", spaces, 200, real_share=share, batch_size=16, **SIZES)
    batches = []
    update = agent._update

    def note(batch: dict[str, Tensor], obs: Any, next_obs: Any, *noise: Tensor) -> Any:
        batches.append((batch, obs[LATENT], next_obs[LATENT]))
        return update(batch, obs, next_obs, *noise)

    monkeypatch.setattr(agent, "_update", note)
    play(agent, 40)
    batch, obs, next_obs = batches[-1]
    assert obs.shape == (2, 16, 2)
    whole = (obs[:, :real] == obs[:, :real].round()).all()
    assert whole
    assert torch.equal(next_obs[:, :real], obs[:, :real] + 1)
    assert (batch["reward"][:, :real] == 1).all()
    assert (batch["reward"][:, real:] != 1).any()
    assert batch["terminated"].dtype == torch.bool


def test_real_pictures_alone_train_the_encoder(monkeypatch: pytest.MonkeyPatch):
    space = Box(np.zeros((8, 8, 3), np.uint8), np.full((8, 8, 3), 255, np.uint8), np.dtype("uint8"))
    spaces = Spaces({"obs": space}, box(-1.0, 1.0, (1,)))
    agent = make_agent("mbpo", spaces, 200, real_share=0.25, batch_size=16, **SIZES)
    generator = torch.Generator().manual_seed(0)
    strengths = []
    update = agent._update

    def note(batch: dict[str, Tensor], obs: Any, *rest: Any) -> Any:
        parameters = list(agent.critic.encoder.parameters())
        for part in (obs[LATENT][:, :4], obs[LATENT][:, 4:]):
            gradients = torch.autograd.grad(part.sum(), parameters, retain_graph=True)
            strengths.append(sum(float(each.abs().sum()) for each in gradients))
        return update(batch, obs, *rest)

    monkeypatch.setattr(agent, "_update", note)
    for _ in range(33):
        obs, following = (
            torch.randint(0, 256, (2, 1, 8, 8, 3), dtype=torch.uint8, generator=generator)
            for _ in range(2)
        )
        first = torch.zeros(2, 1, dtype=torch.bool)
        _, action, extras = agent.act(None, {"obs": obs}, first, True)
        reward = torch.ones(2, 1)
        agent.observe(
            Transition({"obs": obs}, action, reward, {"obs": following}, first, ~first, extras)
        )
    assert len(strengths) == 4
    assert all(
        real > 0 and dreamt == 0 for real, dreamt in zip(*[iter(strengths)] * 2, strict=True)
    )


def test_more_elites_than_members_are_refused():
    with pytest.raises(ValueError, match="elites=4 is above members=3"):
        make_agent("mbpo", VECTOR, 200, elites=4)
