"""Double DQN's target, by numbers computed by hand."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from agents_support import make_agent, make_config
from torch import Tensor

from suite.configs import resolve_config
from suite.registry import load_algorithm
from suite.spaces import Discrete, MultiDiscrete, Spaces
from suite.steps import Transition

TABLES = {"online": [1.0, 5.0, 2.0], "target": [10.0, 20.0, 30.0]}
"""Values of three actions in the next state; each network prefers another one."""


def table_agent(algorithm: str, actions: Any, tables: dict[str, list[float]]) -> Any:
    """An agent whose networks are constant: the same values in every state."""
    spaces = Spaces({"observation": Discrete(2)}, actions)
    changes = {"lanes": 1, "hidden": (), "learning_starts": 1, "update_period": 1, "batch_size": 1}
    agent = make_agent(algorithm, spaces, 100, (0,), **changes, discount=0.5, loss="squared")
    for name, values in tables.items():
        mlp = getattr(agent, name).mlp
        ((weight, bias),) = mlp.layers(mlp.packed)
        with torch.no_grad():
            weight.zero_()
            bias.copy_(torch.tensor(values))
    return agent


def step(choice: list[int], terminated: bool = False) -> Transition:
    def number(value: Any, dtype: torch.dtype) -> Tensor:
        return torch.full((1, 1), value, dtype=dtype)

    return Transition(
        obs={"observation": number(0, torch.int64)},
        action=number(0, torch.int64),
        reward=number(1.0, torch.float32),
        next_obs={"observation": number(1, torch.int64)},
        terminated=number(terminated, torch.bool),
        truncated=number(False, torch.bool),
        extras={"choice": torch.tensor([[choice]])},
    )


@pytest.mark.parametrize(
    ("algorithm", "terminated", "target"),
    [
        ("dqn", False, 1 + 0.5 * 30),  # what the target network thinks best, by its own value
        ("double_dqn", False, 1 + 0.5 * 20),  # what the online network thinks best
        ("dqn", True, 1),
        ("double_dqn", True, 1),
    ],
)
def test_the_online_network_chooses_and_the_target_network_values(
    algorithm: str, terminated: bool, target: float
) -> None:
    agent = table_agent(algorithm, Discrete(3), TABLES)
    metrics = agent.observe(step([2], terminated))
    assert metrics["loss"].item() == pytest.approx((target - 2) ** 2)


def test_each_dimension_is_chosen_and_valued_for_itself() -> None:
    tables = {"online": [1.0, 2.0, 99.0, 9.0, 4.0, 8.0], "target": [7.0, 5.0, 99.0, 3.0, 6.0, 8.0]}
    agent = table_agent("double_dqn", MultiDiscrete((2, 3)), tables)
    metrics = agent.observe(step([0, 1]))
    # online prefers bins 1 and 0 (99 stands where there is no bin), which are worth 5 and 3
    value, target = (1 + 4) / 2, 1 + 0.5 * (5 + 3) / 2
    assert metrics["loss"].item() == pytest.approx((target - value) ** 2)


def test_it_differs_from_dqn_in_nothing_else() -> None:
    presets = load_algorithm("dqn").presets
    assert load_algorithm("double_dqn").presets == presets
    for preset in presets:
        ours = vars(resolve_config(load_algorithm("double_dqn"), "test/World", "test", preset))
        theirs = vars(resolve_config(load_algorithm("dqn"), "test/World", "test", preset))
        assert ours == theirs | {"double": True}


def test_without_the_double_target_it_refuses_to_be_called_double_dqn() -> None:
    with pytest.raises(ValueError, match="double=False is dqn"):
        make_config("double_dqn", double=False)
