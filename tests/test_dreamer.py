"""Dreamer: what it remembers, what it imagines, and what its returns are."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from agents_support import make_agent
from torch import Tensor

from baselines.parts.rssm import State
from suite.spaces import Discrete, Spaces, box
from suite.steps import Transition

VECTOR = Spaces({"obs": box(-10.0, 10.0, (2,))}, Discrete(3))
SEEDS, BATCH, LENGTH = 2, 3, 8


def make(**changes: Any) -> Any:
    return make_agent("dreamer", VECTOR, 400, **changes)


def sequences(ended_at: int | None = None) -> tuple[dict[str, Tensor], Tensor, Tensor]:
    """Items, observations and next ones of sequences that may hold an episode's end."""
    generator = torch.Generator().manual_seed(0)
    obs = torch.randn(SEEDS, BATCH, LENGTH + 1, 2, generator=generator)
    ended = torch.zeros(SEEDS, BATCH, LENGTH, dtype=torch.bool)
    if ended_at is not None:
        ended[:, :, ended_at] = True
    items = {
        "action": torch.randint(0, 3, (SEEDS, BATCH, LENGTH, 1), generator=generator),
        "reward": torch.ones(SEEDS, BATCH, LENGTH),
        "terminated": ended.clone(),
        "ended": ended,
    }
    return items, obs[:, :, :-1], obs[:, :, 1:]


def unroll(agent: Any, items: dict[str, Tensor], obs: Tensor, next_obs: Tensor) -> list[Tensor]:
    """States before and after each transition ``[S, B, L, F]``, by the agent's first numbers."""
    agent.streams.load_state_dict({"cursors": {}, "starts": {}})
    features = [agent.model.encoder({"obs": each.flatten(1, 2)}) for each in (obs, next_obs)]
    before, after, _, _ = agent._unroll(items, *features)
    return [each.features.detach().unflatten(1, (BATCH, LENGTH)) for each in (before, after)]


def test_an_episode_begins_with_an_empty_memory():
    agent = make()
    items, obs, next_obs = sequences(ended_at=3)
    size = agent.config.deterministic
    before, after = unroll(agent, items, obs, next_obs)
    begins = (before[..., :size] == 0).all(dim=-1)
    assert begins[:, :, [0, 4]].all()
    assert not begins[:, :, [1, 2, 3, 5, 6, 7]].any()
    assert torch.equal(before[:, :, 1], after[:, :, 0])

    other_obs, other_next = obs.clone(), next_obs.clone()
    other_obs[:, :, :4] += 5
    other_next[:, :, :4] += 5
    changed, _ = unroll(agent, items, other_obs, other_next)
    assert not torch.equal(changed[:, :, 1:4], before[:, :, 1:4])
    assert torch.equal(changed[:, :, 4:], before[:, :, 4:]), "nothing is remembered beyond an end"


def test_without_an_end_it_remembers():
    agent = make()
    items, obs, next_obs = sequences()
    before, _ = unroll(agent, items, obs, next_obs)
    other = next_obs.clone()
    other[:, :, 0] += 5
    changed, _ = unroll(agent, items, obs, other)
    size = agent.config.deterministic
    assert torch.equal(changed[:, :, 0], before[:, :, 0])
    assert not torch.equal(changed[:, :, 2, :size], before[:, :, 2, :size])


def test_acting_follows_the_same_states_as_learning():
    agent = make()
    items, obs, next_obs = sequences()
    rssm = agent.model.rssm
    state, action = agent.initial(BATCH)
    first = torch.ones(SEEDS, BATCH, dtype=torch.bool)
    (acted, _), _, _ = agent.act((state, action), {"obs": obs[:, :, 0]}, first, False)
    posterior = rssm.posterior(rssm.begin(BATCH), agent.model.encoder({"obs": obs[:, :, 0]}))
    assert torch.equal(acted.z, rssm.draw(posterior, None))
    chosen = agent._as_input(items["action"][:, :, 0])
    (again, _), _, _ = agent.act((acted, chosen), {"obs": next_obs[:, :, 0]}, ~first, False)
    h = rssm.advance(acted, chosen)
    torch.testing.assert_close(again.h, h)
    posterior = rssm.posterior(h, agent.model.encoder({"obs": next_obs[:, :, 0]}))
    assert torch.equal(again.z, rssm.draw(posterior, None))


def test_returns_and_weights_by_hand(monkeypatch: pytest.MonkeyPatch):
    agent = make(horizon=3, discount=0.9, trace=0.5)
    reward, value, goes_on = 2.0, 10.0, 0.75

    def network(number: float) -> Any:
        return lambda features: torch.full((*features.shape[:2], 1), number)

    monkeypatch.setattr(agent.two_hot, "mean", lambda logits: logits.squeeze(-1))
    monkeypatch.setattr(agent.model, "reward", None)
    monkeypatch.delitem(agent.model._modules, "reward", raising=False)
    agent.model.__dict__["reward"] = network(reward)
    logit = float(torch.tensor((1 - goes_on) / goes_on).log())
    monkeypatch.delitem(agent.model._modules, "ends")
    agent.model.__dict__["ends"] = network(logit)
    agent.slow_critic = network(value)
    rssm = agent.model.rssm
    start = State(rssm.begin(4), torch.zeros(SEEDS, 4, rssm.groups * rssm.classes))
    features, choice, returns, weight = agent._imagine(start)
    assert features.shape == (SEEDS, 12, rssm.features)
    assert choice.shape == (SEEDS, 12, 1)
    discount = 0.9 * goes_on
    third = reward + discount * value
    second = reward + discount * (0.5 * value + 0.5 * third)
    first = reward + discount * (0.5 * value + 0.5 * second)
    by_step = returns.view(SEEDS, 3, 4)
    for step, number in enumerate((first, second, third)):
        assert by_step[:, step] == pytest.approx(torch.full((SEEDS, 4), number).numpy())
        expected = torch.full((SEEDS, 4), discount**step)
        assert weight.view(SEEDS, 3, 4)[:, step] == pytest.approx(expected.numpy())


def test_the_range_of_returns_is_followed_seed_by_seed():
    agent = make(return_rate=0.5)
    returns = torch.stack([torch.linspace(0, 100, 101), torch.zeros(101)])
    agent._follow_range(returns)
    assert agent.scale["range"].tolist() == [[45.0], [0.0]]
    agent._follow_range(returns)
    assert agent.scale["range"].tolist() == [[67.5], [0.0]]


@pytest.mark.parametrize("terminates", [True, False])
def test_only_a_termination_is_learned_as_an_end(terminates: bool):
    agent = make(model_learning_rate=1e-2, learning_starts=32, update_period=2)
    end = torch.ones(2, 1, dtype=torch.bool)
    carry = agent.initial(1)
    for number in range(120):
        obs = torch.full((2, 1, 2), float(number % 2))
        carry, action, extras = agent.act(carry, {"obs": obs}, end & (number % 2 == 0), True)
        last = end & (number % 2 == 1)
        ends = (last, ~end) if terminates else (~end, last)
        following = {"obs": torch.full((2, 1, 2), float(number % 2 + 1))}
        reward = torch.ones(2, 1)
        agent.observe(Transition({"obs": obs}, action, reward, following, *ends, extras))
    items, obs, next_obs = agent.replay.sample_across(BATCH, LENGTH)
    agent.streams.load_state_dict({"cursors": {}, "starts": {}})
    features = [agent.model.encoder({"obs": each["obs"].flatten(1, 2)}) for each in (obs, next_obs)]
    _, after, _, _ = agent._unroll(items, *features)
    ends = agent.model.ends(after.features).squeeze(-1).sigmoid()
    at_end = items["ended"].flatten(1)
    assert (ends[at_end].mean() > 0.5) == terminates
    assert ends[~at_end].mean() < 0.3
