"""What crosses between engines and agents."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from suite.interface import to_numpy, to_tensors
from suite.spaces import Box, Discrete, box

CPU = torch.device("cpu")


def test_observations_keep_their_type_and_are_not_copied():
    leaf = np.arange(6, dtype=np.uint8).reshape(1, 2, 3)
    tensor = to_tensors({"leaf": leaf}, CPU)["leaf"]
    leaf[0, 0, 0] = 9
    assert tensor.tolist() == [[[9, 1, 2], [3, 4, 5]]]
    assert tensor.dtype == torch.uint8


def test_finite_actions_pass_unchanged():
    action = torch.tensor([[[0.25, -1.0]]])
    assert to_numpy(action, box(-1, 1, (2,))).tolist() == action.tolist()
    assert to_numpy(torch.tensor([[3]]), Discrete(4)).tolist() == [[3]]


@pytest.mark.parametrize(
    "bad",
    [(torch.nan, torch.nan), (torch.inf, -torch.inf), (torch.inf, torch.inf)],
    ids=["nan", "opposite", "inf"],
)
def test_actions_that_are_not_finite_become_the_value_nearest_to_zero(bad: tuple[float, float]):
    kind = np.dtype("float32")
    space = Box(np.array([-1, 0.5], kind), np.array([1, 2], kind), kind)
    values = to_numpy(torch.tensor([[[0.25, 0.75]], [bad]]), space)
    assert values.tolist() == [[[0.25, 0.75]], [[0.0, 0.5]]]
    assert values.dtype == np.float32


def test_large_actions_of_one_seed_are_not_mistaken_for_infinite_ones():
    action = torch.tensor([[[3e38, 3e38]]])
    assert torch.equal(torch.from_numpy(to_numpy(action, box(-1, 1, (2,)))), action)
