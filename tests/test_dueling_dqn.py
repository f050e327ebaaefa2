"""The dueling network, by numbers computed by hand."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from agents_support import make_agent
from torch import Tensor

from suite.spaces import Discrete, MultiDiscrete, Spaces, box

SEEDS = (0, 1)


def make(actions: Any, **changes: Any) -> Any:
    """An agent that sees vectors of three numbers."""
    spaces = Spaces({"observation": box(-1.0, 1.0, (3,))}, actions)
    return make_agent("dueling_dqn", spaces, 100, SEEDS, **changes)


def set_outputs(mlp: Any, outputs: list[float]) -> None:
    """Make a network without hidden layers give these outputs whatever it sees."""
    ((weight, bias),) = mlp.layers(mlp.packed)
    with torch.no_grad():
        weight.zero_()
        bias.copy_(torch.tensor(outputs))


def observations() -> dict[str, Tensor]:
    return {"observation": torch.linspace(-1, 1, 2 * 4 * 3).view(2, 4, 3)}


def values(actions: Any, value: float, advantages: list[float]) -> Tensor:
    """What the network makes of a state's value and of advantages, ``[D, K]``."""
    network = make(actions, hidden=()).online
    set_outputs(network.state_value, [value])
    set_outputs(network.mlp, advantages)
    output: Tensor = network(observations())
    assert output.equal(output[:1, :1].expand_as(output))
    return output[0, 0]


def test_one_dimension_is_the_papers_formula() -> None:
    # 10 + A - mean(A), the mean being 3
    torch.testing.assert_close(
        values(Discrete(3), 10.0, [1.0, 2.0, 6.0]), torch.tensor([[8.0, 9.0, 13.0]])
    )


def test_dimensions_share_the_value_and_have_means_of_their_own() -> None:
    torch.testing.assert_close(
        values(box(-1.0, 1.0, (2,)), 10.0, [1.0, 2.0, 6.0, -5.0, 0.0, 5.0]),
        torch.tensor([[8.0, 9.0, 13.0], [5.0, 10.0, 15.0]]),
    )


def test_bins_that_do_not_exist_are_left_out_of_the_mean() -> None:
    q = values(MultiDiscrete((2, 3)), 10.0, [1.0, 3.0, 99.0, 1.0, 2.0, 6.0])
    torch.testing.assert_close(q[0, :2], torch.tensor([9.0, 11.0]))  # the mean is 2, without 99
    torch.testing.assert_close(q[1], torch.tensor([8.0, 9.0, 13.0]))


@pytest.mark.parametrize("actions", [Discrete(5), box(-1.0, 1.0, (3,))], ids=["discrete", "box"])
def test_advantages_are_mean_free_and_the_mean_is_the_state_value(actions: Any) -> None:
    network = make(actions, hidden=(16,)).online
    obs = observations()
    q = network(obs)
    value = network.state_value(network.encoder(obs))  # [S, B, 1]
    torch.testing.assert_close(q.mean(dim=-1), value.expand(q.shape[:-1]))
    assert (q.max(dim=-1).values - value > 1e-3).all()


def test_the_target_network_has_the_streams_too() -> None:
    agent = make(Discrete(3), hidden=(16,))
    obs = observations()
    assert agent.target(obs).equal(agent.online(obs))
    with torch.no_grad():
        agent.online.state_value.packed.add_(1.0)
    assert not agent.target(obs).equal(agent.online(obs))
    agent.target_parameters.copy_from(agent.online_parameters)
    assert agent.target(obs).equal(agent.online(obs))


def test_every_action_taken_teaches_the_value_of_all() -> None:
    network = make(Discrete(3), hidden=()).online
    network(observations())[..., 0].sum().backward()
    (_, bias) = network.state_value.layers(network.state_value.packed.grad)[0]
    assert bias.flatten().tolist() == [4.0] * len(SEEDS)  # one for each of four observations
