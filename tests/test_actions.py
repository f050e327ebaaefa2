"""Views of action spaces by literal numbers and against brute force."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
from torch import Tensor

from baselines.parts.actions import Continuous, Factored
from suite.spaces import Box, Discrete, MultiDiscrete, Space, box, contains
from suite.streams import Streams

CPU = torch.device("cpu")
SIZES = (2, 4, 3)


def bounds(low: list[float], high: list[float]) -> Box:
    kind = np.dtype("float32")
    return Box(np.array(low, kind), np.array(high, kind), kind)


def values(dims: int, bins: int, batch: int = 5) -> Tensor:
    return Streams((3, 5)).normal("values", batch, dims, bins)


class TestBins:
    @pytest.mark.parametrize(
        ("space", "bins", "expected"),
        [
            (box(-1, 1, (1,)), 3, [[-1], [0], [1]]),
            (box(-2, 2, (1,)), 5, [[-2], [-1], [0], [1], [2]]),
            (bounds([0, -1], [4, 0]), 3, [[0, -1], [2, -0.5], [4, 0]]),
            (bounds([-np.inf], [np.inf]), 3, [[-1], [0], [1]]),
            (bounds([3, -np.inf], [np.inf, 5]), 3, [[3, 3], [4, 4], [5, 5]]),
        ],
        ids=["unit", "five", "asymmetric", "unbounded", "half-bounded"],
    )
    def test_bins_are_equally_spaced_with_both_ends(
        self, space: Box, bins: int, expected: list[list[float]]
    ):
        actions = Factored(space, bins, CPU)
        choice = torch.arange(bins).view(1, bins, 1).expand(1, bins, actions.dims)
        assert actions.to_environment(choice).tolist() == [expected]

    def test_each_dimension_has_its_own_bin(self):
        actions = Factored(bounds([0, -10], [1, 10]), 3, CPU)
        assert actions.to_environment(torch.tensor([[[2, 0], [0, 1]]])).tolist() == [
            [[1.0, -10.0], [0.0, 0.0]]
        ]

    @pytest.mark.parametrize("shape", [(), (3,), (2, 3)])
    def test_actions_have_the_shape_of_the_box(self, shape: tuple[int, ...]):
        space = box(-2, 2, shape)
        actions = Factored(space, 3, CPU)
        result = actions.to_environment(
            actions.random(Streams((3, 5)).uniform("explore", 4, actions.dims))
        )
        assert result.shape == (2, 4, *shape)
        assert contains(space, result.numpy())

    def test_discrete_is_one_dimension(self):
        actions = Factored(Discrete(5), 3, CPU)
        assert (actions.dims, actions.bins, actions.mask) == (1, 5, None)
        assert actions.to_environment(torch.tensor([[[4], [0]]])).tolist() == [[4, 0]]

    def test_multidiscrete_is_itself(self):
        actions = Factored(MultiDiscrete(SIZES), 3, CPU)
        assert (actions.dims, actions.bins) == (3, 4)
        assert actions.to_environment(torch.tensor([[[1, 3, 2]]])).tolist() == [[[1, 3, 2]]]

    def test_mask_marks_the_bins_that_exist(self):
        mask = Factored(MultiDiscrete(SIZES), 3, CPU).mask
        assert mask.int().tolist() == [[1, 1, 0, 0], [1, 1, 1, 1], [1, 1, 1, 0]]

    def test_equal_sizes_need_no_mask(self):
        assert Factored(MultiDiscrete((3, 3)), 0, CPU).mask is None


class TestChoices:
    def test_value_of_an_action_is_the_mean_over_dimensions(self):
        actions = Factored(MultiDiscrete((2, 2)), 0, CPU)
        table = torch.tensor([[[[1.0, 2.0], [10.0, 20.0]]]])
        assert actions.pick(table, torch.tensor([[[1, 0]]])).tolist() == [[6.0]]

    def test_one_dimension_is_plain_q_learning(self):
        actions = Factored(Discrete(3), 0, CPU)
        table = torch.tensor([[[[1.0, 5.0, 2.0]], [[7.0, 0.0, 0.0]]]])
        best = actions.best(table)
        assert best.tolist() == [[[1], [0]]]
        assert actions.pick(table, best).tolist() == [[5.0, 7.0]]

    @pytest.mark.parametrize("sizes", [(3,), (3, 3), SIZES], ids=str)
    def test_best_is_the_best_of_all_joint_actions(self, sizes: tuple[int, ...]):
        actions = Factored(MultiDiscrete(sizes), 0, CPU)
        table = values(actions.dims, actions.bins)
        best = actions.best(table)
        for s, b in itertools.product(range(2), range(5)):
            joint = {
                choice: np.mean([table[s, b, d, k].item() for d, k in enumerate(choice)])
                for choice in itertools.product(*map(range, sizes))
            }
            assert tuple(best[s, b].tolist()) == max(joint, key=joint.get)
            assert actions.pick(table, best)[s, b].item() == pytest.approx(max(joint.values()))

    @pytest.mark.parametrize(
        "table",
        [torch.full((2, 5, 3, 4), -5.0), torch.full((2, 5, 3, 4), torch.nan)],
        ids=["negative", "not-finite"],
    )
    def test_best_never_is_a_missing_bin(self, table: Tensor):
        actions = Factored(MultiDiscrete(SIZES), 0, CPU)
        table[..., 0, 2:] = table[..., 2, 3:] = 100.0
        assert (actions.best(table) < torch.tensor(SIZES)).all()

    def test_masking_fills_what_is_missing_and_nothing_else(self):
        actions = Factored(MultiDiscrete((1, 2)), 0, CPU)
        assert actions.masked(torch.ones(1, 1, 2, 2), fill=0.0).tolist() == [[[[1, 0], [1, 1]]]]
        assert actions.masked(torch.ones(1, 1, 2, 2))[0, 0, 0, 1] == -torch.inf

    @pytest.mark.parametrize(
        ("space", "sizes"),
        [(Discrete(5), (5,)), (MultiDiscrete(SIZES), SIZES), (box(-1, 1, (2,)), (3, 3))],
        ids=["discrete", "multidiscrete", "box"],
    )
    def test_random_choices_are_uniform_over_what_exists(
        self, space: Space, sizes: tuple[int, ...]
    ):
        actions = Factored(space, 3, CPU)
        choice = actions.random(Streams((3, 5)).uniform("explore", 5_000, len(sizes)))
        for d, n in enumerate(sizes):
            shares = torch.bincount(choice[..., d].flatten(), minlength=n) / 10_000
            assert len(shares) == n
            assert (shares - 1 / n).abs().max() < 0.02

    def test_the_largest_uniform_number_gives_the_last_bin(self):
        actions = Factored(MultiDiscrete(SIZES), 0, CPU)
        largest = torch.full((1, 1, 3), 1 - 2**-24)
        assert actions.random(largest).tolist() == [[[1, 3, 2]]]


class TestContinuous:
    @pytest.mark.parametrize(
        ("space", "vector", "action"),
        [
            (bounds([-2], [2]), [0.5], [1.0]),
            (bounds([0, 10], [4, 30]), [-1, 0], [0, 20]),
            (bounds([-2], [2]), [7.0], [2.0]),
            (bounds([-np.inf], [np.inf]), [0.25], [0.25]),
            (bounds([-np.inf], [np.inf]), [-3.0], [-1.0]),
            (bounds([0], [np.inf]), [-1.0], [0.0]),
            (bounds([0], [np.inf]), [1.0], [2.0]),
            (bounds([-np.inf], [0]), [-1.0], [-2.0]),
        ],
        ids=[
            "stretched",
            "asymmetric",
            "clipped",
            "unbounded",
            "unbounded-clipped",
            "bounded-below",
            "bounded-below-top",
            "bounded-above",
        ],
    )
    def test_vector_becomes_this_action(self, space: Box, vector: list[float], action: list[float]):
        view = Continuous(space, CPU)
        assert view.to_environment(torch.tensor([[vector]])).tolist() == [[action]]

    def test_ends_never_leave_the_box_by_rounding(self):
        low = np.linspace(-0.93, 0.17, 400, dtype=np.float32)
        space = Box(low, low + np.float32(0.7), np.dtype("float32"))
        ends = torch.tensor([-1.0, 1.0]).view(1, 2, 1).expand(1, 2, 400)
        action = Continuous(space, CPU).to_environment(ends)
        assert contains(space, action.numpy())
        assert np.allclose(action[0, 1].numpy(), space.high)

    @pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
    @pytest.mark.parametrize("shape", [(), (3,), (2, 3)])
    def test_actions_have_shape_and_type_of_the_box(
        self, shape: tuple[int, ...], dtype: torch.dtype
    ):
        space = box(-2, 2, shape)
        view = Continuous(space, CPU)
        action = view.to_environment(torch.zeros(2, 4, view.dims, dtype=dtype))
        assert action.shape == (2, 4, *shape)
        assert contains(space, action.numpy())
