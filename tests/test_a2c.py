"""A2C's loss and gradient are those of the formula."""

from __future__ import annotations

import math

import pytest
import torch
from agents_support import set_table
from on_policy_support import hand_made, table_agent

LOG_HALF = math.log(0.5)


def uniform_agent(**changes):
    """A uniform policy; values of the observations 0 and 1 are 2 and 3."""
    agent = table_agent("a2c", discount=0.5, value_coefficient=0.8, **changes)
    set_table(agent.networks.actor, [[0.0, 0.0], [0.0, 0.0]])
    set_table(agent.networks.critic, [[2.0], [3.0]])
    return agent


@pytest.mark.parametrize(
    ("terminated", "truncated", "second", "first"),
    [
        # the last next observation is 1, worth 3; the first one is 1 too
        ([[0, 0]], [[0, 0]], 4 + 0.5 * 3, 1 + 0.5 * (4 + 0.5 * 3)),
        ([[0, 1]], [[0, 0]], 4, 1 + 0.5 * 4),
        ([[1, 0]], [[0, 0]], 4 + 0.5 * 3, 1),
        ([[0, 0]], [[1, 0]], 4 + 0.5 * 3, 1 + 0.5 * 3),
    ],
    ids=["goes-on", "terminates-last", "terminates-first", "cut-first"],
)
def test_the_loss_by_literal_numbers(terminated, truncated, second, first) -> None:
    agent = uniform_agent(entropy_coefficient=0.1, trace=1.0)
    rollout = hand_made([[0, 1]], [[0, 1]], [[1, 4]], terminated, truncated, next_obs=[[1, 1]])
    loss, metrics = agent._loss(agent.networks, rollout)
    advantages = [first - 2, second - 3]
    squares = sum(a * a for a in advantages) / 2
    policy_loss = -LOG_HALF * sum(advantages) / 2
    entropy = -LOG_HALF
    assert metrics["value_error"].item() == pytest.approx(squares)
    assert metrics["entropy"].item() == pytest.approx(entropy)
    assert loss.item() == pytest.approx(policy_loss + 0.5 * 0.8 * squares - 0.1 * entropy)


def test_the_gradient_is_that_of_the_formula() -> None:
    agent = uniform_agent(entropy_coefficient=0.1, trace=1.0)
    rollout = hand_made([[0, 1]], [[0, 1]], [[1, 4]], [[0, 1]], next_obs=[[1, 0]])
    loss, _ = agent._loss(agent.networks, rollout)
    gradient = agent.parameter_matrix.gradient(loss)

    logits = torch.zeros(2, 2, requires_grad=True)  # by observation
    values = torch.tensor([2.0, 3.0], requires_grad=True)
    log_probs = logits.log_softmax(-1)
    returns = torch.tensor([1 + 0.5 * 4, 4.0])
    advantages = (returns - values).detach()
    entropy = -(log_probs.exp() * log_probs).sum(-1)
    formula = (
        -(advantages * log_probs.diagonal()).mean()
        + 0.5 * 0.8 * (values - returns).square().mean()
        - 0.1 * entropy.mean()
    )
    by_logits, by_values = torch.autograd.grad(formula, (logits, values))
    # one-hot observations: the weights are the table, biases the sums over observations
    actor = torch.cat([by_logits.T.flatten(), by_logits.sum(0)])
    critic = torch.cat([by_values, by_values.sum(0, keepdim=True)])
    torch.testing.assert_close(gradient[0], torch.cat([actor, critic]))


def test_every_rollout_gives_one_update() -> None:
    agent = table_agent("a2c", rollout_steps=3, seeds=(0, 1))
    step = hand_made([[0], [1]], [[1], [0]], [[1], [2]])
    counts = []
    for _ in range(7):
        one = step._replace(
            **{
                name: {key: leaf[:, 0] for key, leaf in part.items()}
                if isinstance(part, dict)
                else part[:, 0]
                for name, part in step._asdict().items()
            }
        )
        agent.observe(one)
        counts.append(agent.updates)
    assert counts == [0, 0, 1, 1, 1, 2, 2]
