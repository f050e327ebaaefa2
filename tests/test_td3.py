"""TD3 does what its paper says, in numbers, and passes gradients through one-hot actions."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import torch
from agents_support import make_agent
from torch import Tensor

from baselines.td3 import straight_through
from suite.spaces import ActionSpace, Discrete, MultiDiscrete, Spaces, box
from suite.steps import Transition

BOX = box(-2.0, 2.0, (1,))
FIRST = torch.zeros(1, 1, dtype=torch.bool)


def td3_agent(actions: ActionSpace = BOX, **changes: Any) -> Any:
    """A TD3 whose networks are affine maps of a two-valued observation, one-hot, and the action."""
    spaces = Spaces({"observation": Discrete(2)}, actions)
    defaults = {"lanes": 1, "hidden": (), "learning_starts": 0, "batch_size": 1}
    return make_agent("td3", spaces, 100, (0,), **(defaults | changes))


@torch.no_grad()
def set_weights(mlp: Any, rows: list[list[float]]) -> None:
    """Outputs per input of a network without hidden layers: observation 0, 1, then actions."""
    ((weight, bias),) = mlp.layers(mlp.packed)
    weight.copy_(torch.tensor(rows))
    bias.zero_()


def observation(number: int) -> dict[str, Tensor]:
    return {"observation": torch.full((1, 1), number)}


def step_from_0_to_1(action: Tensor, terminated: bool = False) -> Transition:
    return Transition(
        obs=observation(0),
        action=action,
        reward=torch.ones(1, 1),
        next_obs=observation(1),
        terminated=torch.full((1, 1), terminated),
        truncated=FIRST,
        extras={"action": action},
    )


def stub_noise(agent: Any, monkeypatch: pytest.MonkeyPatch, **draws: float | list[float]) -> None:
    """Make the streams give these numbers, wherever they are asked for."""

    def drawn(kind: str) -> Any:
        return lambda role, *shape: torch.tensor(draws[kind]).expand(1, *shape)

    streams = SimpleNamespace(normal=drawn("normal"), gumbel=drawn("gumbel"))
    monkeypatch.setattr(agent, "streams", streams)


@pytest.mark.parametrize(
    ("noise", "next_action"),
    [(1.0, 0.5 + 0.2), (-2.0, 0.5 - 0.4), (9.0, 0.5 + 0.45), (-9.0, 0.5 - 0.45)],
    ids=["within", "negative", "clipped", "clipped-negative"],
)
@pytest.mark.parametrize("terminated", [False, True])
def test_the_target_takes_the_smaller_critic_of_an_action_with_clipped_noise(
    noise: float, next_action: float, terminated: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    agent = td3_agent(discount=0.5, smoothing_noise=0.2, smoothing_clip=0.45)
    set_weights(agent.target_actor, [[0.0], [torch.atanh(torch.tensor(0.5)).item()]])
    set_weights(agent.target_critic.first, [[0.0], [5.0], [2.0]])
    set_weights(agent.target_critic.second, [[0.0], [6.0], [-2.0]])
    set_weights(agent.critic.first, [[1.0], [0.0], [3.0]])
    set_weights(agent.critic.second, [[4.0], [0.0], [0.0]])
    stub_noise(agent, monkeypatch, normal=noise)
    metrics = agent.observe(step_from_0_to_1(torch.tensor([[[-0.5]]]), terminated))
    # the first critic is the smaller one below an action of 1/4
    next_value = min(5 + 2 * next_action, 6 - 2 * next_action)
    target = 1.0 if terminated else 1 + 0.5 * next_value
    loss = (1 - 3 * 0.5 - target) ** 2 + (4 - target) ** 2
    assert metrics["critic_loss"].item() == pytest.approx(loss, rel=1e-5)
    assert metrics["value"].item() == pytest.approx(-0.5)


@pytest.mark.parametrize(("output", "noise", "action"), [(9.0, 3.0, 1.0), (-9.0, -3.0, -1.0)])
def test_target_and_exploring_actions_stay_within_bounds(
    output: float, noise: float, action: float
) -> None:
    agent = td3_agent()
    outputs, noises = torch.full((1, 1, 1), output), torch.full((1, 1, 1), noise)
    assert agent._smoothed(outputs, noises).item() == action
    assert agent._exploring(outputs, noises).item() == action


def test_exploration_adds_noise_to_the_policys_action(monkeypatch: pytest.MonkeyPatch) -> None:
    agent = td3_agent(exploration_noise=0.3)
    set_weights(agent.actor, [[0.0], [0.0]])
    stub_noise(agent, monkeypatch, normal=-1.5)
    _, action, extras = agent.act(None, observation(0), FIRST, True)
    assert extras["action"].item() == pytest.approx(-0.45)
    assert action.item() == pytest.approx(-0.9)  # the Box is twice as wide
    _, action, _ = agent.act(None, observation(0), FIRST, False)
    assert action.item() == 0


@pytest.mark.parametrize("actions", [BOX, Discrete(3)], ids=["box", "discrete"])
def test_actor_and_targets_move_at_every_policy_delayth_update(actions: ActionSpace) -> None:
    agent = td3_agent(actions, policy_delay=3, target_rate=0.25)
    slow = [agent.actor_parameters, agent.target_actor_parameters, agent.target_critic_parameters]
    action = agent.act(None, observation(0), FIRST, True)[2]["action"]
    moved = []
    for _ in range(7):
        before = [one.rows().clone() for one in (*slow, agent.critic_parameters)]
        metrics = agent.observe(step_from_0_to_1(action))
        after = [one.rows() for one in (*slow, agent.critic_parameters)]
        same = [one.equal(other) for one, other in zip(before, after, strict=True)]
        assert not same[-1], "the critics learn at every update"
        assert len(set(same[:-1])) == 1
        assert ("actor_loss" in metrics) == (not same[0])
        moved.append(not same[0])
        if moved[-1]:
            for number, online in ((1, after[0]), (2, after[3])):
                expected = 0.75 * before[number] + 0.25 * online
                torch.testing.assert_close(after[number], expected)
    assert moved == [False, False, True, False, False, True, False]


def test_the_actor_climbs_the_first_critic() -> None:
    agent = td3_agent(policy_delay=1, actor_learning_rate=0.1, critic_learning_rate=0.0)
    set_weights(agent.actor, [[0.0], [0.0]])
    set_weights(agent.critic.first, [[0.0], [0.0], [3.0]])
    set_weights(agent.critic.second, [[0.0], [0.0], [-3.0]])
    metrics = agent.observe(step_from_0_to_1(torch.zeros(1, 1, 1)))
    assert metrics["actor_loss"].item() == 0
    ((weight, _),) = agent.actor.layers(agent.actor.packed)
    assert weight[0, :, 0].tolist() == pytest.approx([0.1, 0.0])  # Adam's first step


# Choices


def test_straight_through_is_one_hot_with_the_gradient_of_the_softmax() -> None:
    logits = torch.randn(2, 50, 3, 4, generator=torch.Generator().manual_seed(0))
    logits[..., 0, 3] = -torch.inf
    weights = torch.arange(4.0)
    logits.requires_grad_()
    hard = straight_through(logits, 0.5)
    assert ((hard == 0) | (hard == 1)).all()
    assert (hard.argmax(dim=-1) == logits.argmax(dim=-1)).all()
    assert (hard.sum(dim=-1) == 1).all()
    (through,) = torch.autograd.grad((hard * weights).sum(), logits)
    (soft,) = torch.autograd.grad((torch.softmax(2 * logits, dim=-1) * weights).sum(), logits)
    assert through.equal(soft)
    assert (through[..., 0, 3] == 0).all()
    assert (through[..., 1, :] != 0).all()


def test_the_gradient_of_a_choice_by_literal_numbers() -> None:
    logits = torch.tensor([[[[0.0, 0.0]]]], requires_grad=True)
    (gradient,) = torch.autograd.grad(straight_through(logits, 1.0)[..., 1].sum(), logits)
    assert gradient.flatten().tolist() == [-0.25, 0.25]  # p (1 - p) at p = 1/2


@pytest.mark.parametrize("starts", [0, 1_000], ids=["policy", "uniform"])
def test_bins_that_do_not_exist_are_never_chosen(starts: int) -> None:
    agent = td3_agent(MultiDiscrete((2, 4)), learning_starts=starts)
    lanes = 2_000
    set_weights(agent.actor, [[0.0, 0.0, 50.0, 50.0, 0.0, 0.0, 0.0, 0.0]] * 2)
    obs = {"observation": torch.zeros(1, lanes, dtype=torch.int64)}
    first = torch.zeros(1, lanes, dtype=torch.bool)
    _, action, _ = agent.act(None, obs, first, True)
    assert action[0].amin(dim=0).tolist() == [0, 0]
    assert action[0].amax(dim=0).tolist() == [1, 3]
    _, greedy, _ = agent.act(None, obs, first, False)
    assert (greedy[..., 0] < 2).all()
    outputs = agent.actor(agent.critic.encoder(obs))
    noise = agent.streams.gumbel("test", lanes, 2, 4)
    for asked in (agent._smoothed(outputs, noise), agent._differentiable(outputs, noise)):
        assert asked.shape == (1, lanes, 2, 4)
        assert (asked[..., 0, 2:] == 0).all()
        assert (asked.sum(dim=-1) == 1).all()


def test_the_target_of_a_choice_by_literal_numbers(monkeypatch: pytest.MonkeyPatch) -> None:
    agent = td3_agent(MultiDiscrete((2, 3)), discount=0.5)
    set_weights(agent.target_actor, [[0.0] * 6, [1.0, 0.0, 99.0, 0.0, 0.0, 2.0]])
    # the second dimension has three bins, the first only two: 99 stands where there is none
    set_weights(agent.target_critic.first, [[0.0] * 6, [10.0, 20.0, 99.0, 100.0, 200.0, 300.0]])
    set_weights(agent.target_critic.second, [[0.0] * 6, [11.0, 21.0, 99.0, 101.0, 201.0, 301.0]])
    for critic in (agent.critic.first, agent.critic.second):
        set_weights(critic, [[1.0, 2.0, 99.0, 3.0, 4.0, 5.0], [0.0] * 6])
    # noise lifts the second bin of the first dimension above the first; the second keeps its third
    stub_noise(agent, monkeypatch, gumbel=[[0.0, 1.5, 0.0], [0.0, 1.5, 0.0]])
    metrics = agent.observe(step_from_0_to_1(torch.tensor([[[0, 1]]])))
    target = 1 + 0.5 * (20 + 300) / 2
    assert metrics["value"].item() == (1 + 4) / 2
    assert metrics["critic_loss"].item() == pytest.approx(2 * (2.5 - target) ** 2)


@pytest.mark.parametrize(
    ("logit", "moved"), [(0.0, 0.1), (40.0, 39.9)], ids=["undecided", "certain"]
)
def test_the_actor_takes_the_better_choice_and_is_pulled_back_from_certainty(
    logit: float, moved: float
) -> None:
    agent = td3_agent(
        Discrete(2), policy_delay=1, actor_learning_rate=0.1, critic_learning_rate=0.0
    )
    set_weights(agent.critic.first, [[0.0, 1.0], [0.0, 0.0]])
    set_weights(agent.actor, [[-logit, logit], [0.0, 0.0]])
    agent.observe(step_from_0_to_1(torch.zeros(1, 1, 1, dtype=torch.int64)))
    ((weight, _),) = agent.actor.layers(agent.actor.packed)
    assert weight[0, 0].tolist() == pytest.approx([-moved, moved])


def test_choices_are_sampled_in_training_and_the_likeliest_in_evaluation() -> None:
    agent = td3_agent(Discrete(2))
    set_weights(agent.actor, [[0.0, 1.0], [0.0, 1.0]])
    obs = {"observation": torch.zeros(1, 10_000, dtype=torch.int64)}
    first = torch.zeros(1, 10_000, dtype=torch.bool)
    _, action, _ = agent.act(None, obs, first, True)
    assert action.double().mean().item() == pytest.approx(0.7311, abs=0.02)  # sigmoid(1)
    _, action, _ = agent.act(None, obs, first, False)
    assert (action == 1).all()
