"""A3C's workers learn from copies as old as they should be; one worker alone is A2C."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from agents_support import Training, make_agent

from suite.envs.lanes import Lanes
from suite.registry import engine_for, find_task
from suite.streams import lane_seeds

SEEDS = (0, 1, 2)


def make_lanes(task: str, lanes: int) -> Lanes:
    found = find_task(task)
    return engine_for(found, None).make(found, lane_seeds(SEEDS, "train", 0, lanes), "train", 1)


def trained(algorithm: str, task: str, lanes: int, steps: int) -> Any:
    worlds = make_lanes(task, lanes)
    changes = {"lanes": lanes, "rollout_steps": 5, "learning_rate": 1e-2}
    training = Training(make_agent(algorithm, worlds.spaces, 1_000, SEEDS, **changes), worlds)
    training.go_on(steps)
    return training


@pytest.mark.parametrize("task", ["gymnasium/CartPole-v1", "gymnasium/Pendulum-v1"])
def test_one_worker_is_a2c_with_one_lane(task: str) -> None:
    one, other = (trained(algorithm, task, 1, 400) for algorithm in ("a2c", "a3c"))
    assert one.agent.updates == other.agent.updates == 80
    assert torch.stack(one.actions).equal(torch.stack(other.actions))
    assert one.agent.parameters()["networks"].equal(other.agent.parameters()["networks"])


def test_several_workers_are_not_a2c() -> None:
    one, other = (trained(a, "gymnasium/CartPole-v1", 2, 400) for a in ("a2c", "a3c"))
    assert (one.agent.updates, other.agent.updates) == (40, 80)
    assert not one.agent.parameters()["networks"].equal(other.agent.parameters()["networks"])


class Descent:
    """Plain gradient descent by steps of 1, which adds up by hand."""

    def __init__(self, parameters: Any) -> None:
        self.parameters, self.updates = parameters, 0
        self.learning_rate = 1.0

    def apply(self, gradient: torch.Tensor) -> None:
        self.parameters.rows().sub_(gradient)
        self.updates += 1


def test_gradients_come_from_the_copies_and_reach_the_shared_parameters_in_turn(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Worker 0's gradient is 1, worker 1's is 10, plus a hundredth of their copies."""
    training = trained("a3c", "gymnasium/CartPole-v1", 2, 0)
    agent = training.agent
    agent.optimiser = Descent(agent.parameter_matrix)
    agent.parameter_matrix.rows().zero_()
    agent.copies.zero_()
    orders = [[[0, 1], [1, 0], [0, 1]], [[1, 0], [1, 0], [0, 1]]]  # of each seed, in each round
    drawn = iter(torch.tensor(orders))
    monkeypatch.setattr(agent.streams, "permutation", lambda role, size: next(drawn))

    def gradient(loss: torch.Tensor) -> torch.Tensor:
        constants = torch.tensor([1.0, 10.0]).view(1, 2, 1)
        return (constants + 0.01 * agent.copies).flatten(0, 1)

    monkeypatch.setattr(agent.worker_matrix, "gradient", gradient)
    training.go_on(10)  # two lanes times five steps: the first round, at copies of 0
    assert agent.parameters()["networks"][:, 0].tolist() == [-11, -11, -11]
    assert agent.copies[:, :, 0].tolist() == [[-1, -11], [-11, -10], [-1, -11]]
    training.go_on(10)
    # copies of -1 and -11 give 0.99 and 9.89, those of -11 and -10 give 0.89 and 9.9
    shared = agent.parameters()["networks"][:, 0].tolist()
    assert shared == pytest.approx([-11 - 9.89 - 0.99, -11 - 9.9 - 0.89, -11 - 0.99 - 9.89])
    copies = agent.copies[:, :, 0].flatten().tolist()
    expected = [-21.88, -20.89, -21.79, -20.9, -11.99, -21.88]
    assert copies == pytest.approx(expected)


def test_every_seed_has_its_own_order_and_every_worker_its_turn(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    training = trained("a3c", "gymnasium/CartPole-v1", 4, 0)
    permutation = training.agent.streams.permutation
    orders = []

    def record(role: str, size: int) -> torch.Tensor:
        orders.append(permutation(role, size))
        return orders[-1]

    monkeypatch.setattr(training.agent.streams, "permutation", record)
    training.go_on(100)
    drawn = torch.stack(orders, dim=1)  # [S, rounds, E]
    assert drawn.shape == (3, 5, 4)
    assert drawn.sort(dim=2).values.eq(torch.arange(4)).all()
    assert not drawn[0].equal(drawn[1])
    assert not drawn[0, 0].equal(drawn[0, 1])


def test_evaluation_acts_with_the_shared_parameters_and_training_with_the_copies() -> None:
    training = trained("a3c", "gymnasium/CartPole-v1", 2, 100)
    agent = training.agent
    _, before, _ = agent.act(None, training.obs, training.first, False)
    agent.copies.mul_(-1)
    _, after, _ = agent.act(None, training.obs, training.first, False)
    assert before.equal(after)
    agent.copies[0, 1] = torch.nan
    policy = agent.workers({n: leaf.flatten(0, 1).unsqueeze(1) for n, leaf in training.obs.items()})
    assert policy.logits.isnan().flatten(1).any(1).tolist() == [False, True] + [False] * 4


def test_workers_share_their_seeds_moments() -> None:
    agent = trained("a3c", "gymnasium/CartPole-v1", 2, 100).agent
    shared, workers = (m.encoder.readers[0].moments for m in (agent.networks, agent.workers))
    assert shared.count.flatten().tolist() == [100] * 3
    assert workers.mean.unflatten(0, (3, 2)).equal(shared.mean.unsqueeze(1).expand(3, 2, 1, 4))
    assert not shared.mean[0].equal(shared.mean[1])
