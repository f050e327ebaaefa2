"""TRPO's linear algebra against matrices written out, and its steps within the trust region."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from agents_support import Training, make_agent, set_table
from on_policy_support import record, table_agent
from torch import Tensor

from baselines.parts.natural_gradient import Fisher, conjugate_gradient
from suite.registry import engine_for, find_task
from suite.spaces import Discrete, MultiDiscrete, box
from suite.streams import lane_seeds

MATRICES = torch.tensor([[[4.0, 1.0], [1.0, 3.0]], [[2.0, 0.0], [0.0, 5.0]], [[1.0, 0], [0, 1.0]]])
TARGETS = torch.tensor([[1.0, 2.0], [2.0, 10.0], [3.0, 4.0]])
SOLUTIONS = [[1 / 11, 7 / 11], [1.0, 2.0], [3.0, 4.0]]


def multiply(vector: Tensor) -> Tensor:
    return (MATRICES @ vector.unsqueeze(-1)).squeeze(-1)


@pytest.mark.parametrize("iterations", [2, 10])
def test_conjugate_gradients_solve_every_seeds_system(iterations: int) -> None:
    x = conjugate_gradient(multiply, TARGETS, iterations, tolerance=1e-12)
    torch.testing.assert_close(x, torch.tensor(SOLUTIONS))


def test_one_step_solves_only_what_has_one_eigenvalue() -> None:
    x = conjugate_gradient(multiply, TARGETS, 1, tolerance=1e-12)
    errors = (x - torch.tensor(SOLUTIONS)).norm(dim=1)
    assert errors[2] == 0
    assert (errors[:2] > 0.05).all()


def test_a_seed_without_a_gradient_or_with_a_broken_one_does_not_disturb_the_others() -> None:
    targets = TARGETS.clone()
    targets[0], targets[1] = 0, torch.nan
    x = conjugate_gradient(multiply, targets, 10, tolerance=1e-12)
    assert x[0].tolist() == [0, 0]
    assert x[2].equal(conjugate_gradient(multiply, TARGETS, 10, tolerance=1e-12)[2])


def tiny_policy(actions: Any) -> Any:
    agent = table_agent("trpo", actions, seeds=(0, 1), hidden=(3,), initial_log_std=-0.3)
    with torch.no_grad():
        agent.policy_matrix.rows().mul_(3)  # so that the last layer matters
    return agent


def explicit_fisher(agent: Any, obs: dict[str, Tensor], seed: int, choices: Tensor) -> Tensor:
    """Mean over observations of the sum of ``p grad log p grad log p^T`` over all choices."""
    size = obs["observation"].shape[1]
    matrix = torch.zeros([agent.policy_matrix.rows().shape[1]] * 2)
    for item in range(size):
        for choice in choices:
            sample = choice.expand(2, size, -1)
            log_prob = agent.policy(obs).log_prob(sample)[seed, item]
            parts = torch.autograd.grad(log_prob, agent.policy_matrix.views)
            row = torch.cat([part.flatten(1) for part in parts], dim=1)[seed]
            matrix += log_prob.exp().detach() * torch.outer(row, row) / size
    return matrix


CHOICES = {
    "discrete": (Discrete(3), torch.tensor([[0], [1], [2]])),
    "multidiscrete": (
        MultiDiscrete((2, 3)),
        torch.tensor([[0, 0], [0, 1], [0, 2], [1, 0], [1, 1], [1, 2]]),
    ),
}
OBS = {"observation": torch.tensor([[0, 1, 1], [1, 0, 0]])}


@pytest.mark.parametrize("kind", CHOICES)
def test_the_product_is_that_of_a_categorical_policys_fisher_matrix(kind: str) -> None:
    actions, choices = CHOICES[kind]
    agent = tiny_policy(actions)
    fisher = Fisher(agent.policy_matrix, agent.policy(OBS), damping=0.1)
    vector = torch.linspace(-1, 1, agent.policy_matrix.rows().numel()).view(2, -1)
    product = fisher(vector)
    for seed in range(2):
        matrix = explicit_fisher(agent, OBS, seed, choices)
        expected = matrix @ vector[seed] + 0.1 * vector[seed]
        torch.testing.assert_close(product[seed], expected, rtol=1e-4, atol=1e-6)


def test_the_product_is_that_of_a_normal_policys_fisher_matrix() -> None:
    agent = tiny_policy(box(-1.0, 1.0, (2,)))
    fisher = Fisher(agent.policy_matrix, agent.policy(OBS), damping=0.0)
    vector = torch.linspace(-1, 1, agent.policy_matrix.rows().numel()).view(2, -1)
    product = fisher(vector)
    spread = [name.split(".")[1] for name in agent.policy_matrix.names].index("head")
    for seed in range(2):
        # means: sum_d grad mean_d grad mean_d^T / variance_d; log standard deviations: 2
        policy = agent.policy(OBS)
        expected = torch.zeros_like(vector[seed])
        for item in range(3):
            for d in range(2):
                parts = torch.autograd.grad(
                    policy.mean[seed, item, d],
                    agent.policy_matrix.views,
                    retain_graph=True,
                    materialize_grads=True,
                )
                row = torch.cat([part.flatten(1) for part in parts], dim=1)[seed]
                variance = policy.log_std[seed, 0, d].detach().exp() ** 2
                expected += row * (row @ vector[seed]) / variance / 3
        sizes = [view[0].numel() for view in agent.policy_matrix.views]
        start = sum(sizes[:spread])
        expected[start : start + 2] += 2 * vector[seed, start : start + 2]
        torch.testing.assert_close(product[seed], expected, rtol=1e-4, atol=1e-6)


def test_every_lane_enters_the_fisher_matrix_whatever_the_stride(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A stride over the rollout in its order would always meet the same lanes."""
    agent = table_agent("trpo", seeds=(0, 1), lanes=4, fisher_stride=4)
    seen: list[Tensor] = []
    forward = type(agent.policy).forward

    def spy(policy: Any, obs: dict[str, Tensor]) -> Any:
        seen.append(obs["observation"])
        return forward(policy, obs)

    monkeypatch.setattr(type(agent.policy), "forward", spy)
    items = {
        "obs.observation": (torch.arange(400) % 4 == 3).long().expand(2, -1),  # lane 3 sees 1
        "sample": torch.zeros(2, 400, 1, dtype=torch.int64),
        "advantage": torch.linspace(-1, 1, 400).expand(2, -1),
    }
    agent._improve_policy(items)
    (part,) = [obs for obs in seen if obs.shape[1] == 100]
    assert ((part == 1).sum(dim=1) > 10).all()
    assert not part[0].equal(part[1])  # each seed its own


# The line search


def searching_agent() -> Any:
    """Two seeds with uniform policies; choice 1 is better than choice 0."""
    agent = table_agent("trpo", seeds=(0, 1), target_kl=0.01, search_steps=5, search_factor=0.5)
    set_table(agent.policy.actor, [[0.0, 0.0], [0.0, 0.0]])
    return agent


ITEMS = {
    "obs.observation": torch.zeros(2, 2, dtype=torch.int64),
    "sample": torch.tensor([[[0], [1]]] * 2),
    "advantage": torch.tensor([[-1.0, 1.0]] * 2),
}


def step_of(agent: Any, *sizes: float) -> Tensor:
    """Add each seed's size to the logit of choice 1."""
    step = torch.zeros_like(agent.policy_matrix.rows())
    ((_, bias),) = agent.policy.actor.layers(step)
    bias[:, 0, 1] = torch.tensor(sizes)
    return step


def test_a_seed_whose_search_fails_stays_while_the_other_moves() -> None:
    agent = searching_agent()
    before = agent.policy_matrix.rows().clone()
    metrics = agent._search(ITEMS, step_of(agent, -0.1, 0.1))
    after = agent.policy_matrix.rows()
    assert after[0].equal(before[0])
    assert after[1].equal(before[1] + step_of(agent, 0, 0.1)[1])
    assert metrics["rejected"].tolist() == [1, 0]
    assert metrics["kl"][0] == 0
    assert metrics["improvement"][1].item() == pytest.approx(0.05, rel=0.01)  # 2 p - 1


def test_a_step_is_halved_until_the_divergence_is_within_its_bound() -> None:
    agent = searching_agent()
    start = agent.policy_matrix.rows().clone()
    metrics = agent._search(ITEMS, step_of(agent, 1.0, 10.0))
    # the divergence from uniform of a logit x is about x^2 / 8, at most 0.01 for x = 0.28
    moved = agent.policy_matrix.rows() - start
    torch.testing.assert_close(moved[0], 0.25 * step_of(agent, 1.0, 0)[0])
    assert metrics["kl"][0].item() == pytest.approx(0.25**2 / 8, rel=0.01)
    assert metrics["rejected"].tolist() == [0, 1]  # five lengths from 10 are all too long
    assert moved[1].eq(0).all()


@pytest.mark.parametrize("task", ["gymnasium/CartPole-v1", "gymnasium/Pendulum-v1"])
@pytest.mark.parametrize("stride", [1, 4])
def test_steps_stay_within_the_trust_region(
    task: str, stride: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = find_task(task)
    lanes = engine_for(found, None).make(found, lane_seeds((0, 1), "train", 0, 2), "train", 1)
    changes = {"rollout_steps": 64, "target_kl": 0.02, "fisher_stride": stride}
    agent = make_agent("trpo", lanes.spaces, 1_280, (0, 1), **changes)
    metrics = record(agent, "_update", monkeypatch)
    Training(agent, lanes).go_on(1_280)
    kl = torch.stack([each["kl"] for each in metrics])
    rejected = torch.stack([each["rejected"] for each in metrics])
    assert kl.shape == (10, 2)
    assert (kl <= 0.02).all()
    assert ((kl > 0) == (rejected == 0)).all()
    assert rejected.mean() < 0.3
    assert kl[rejected == 0].mean() > 0.005  # and go some way
    assert agent.updates == 10 * (1 + 2 * 4)  # per rollout: a policy step, two epochs of four
