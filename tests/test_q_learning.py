"""Tabular Q-learning and the aggregation of states under it, by numbers computed by hand."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from agents_support import make_agent, make_config, make_work
from torch import Tensor

from baselines.parts.aggregation import Aggregation, AggregationOptions
from suite.runner import run
from suite.spaces import ActionSpace, Box, Discrete, MultiDiscrete, Space, Spaces, Text, box
from suite.steps import Transition
from suite.streams import Streams

SEEDS = (0, 1)


def aggregate(space: Space, *, seeds: tuple[int, ...] = SEEDS, **options: int) -> Aggregation:
    spaces = {"observation": space}
    return Aggregation(Streams(seeds), spaces, AggregationOptions(**options))


def cells_of(aggregation: Aggregation, values: Any) -> Tensor:
    """Cells ``[S, B, T]`` of a batch of leaves ``[B, ...]``, the same for every seed."""
    leaf = torch.as_tensor(np.asarray(values))
    return aggregation({"observation": torch.stack([leaf] * len(SEEDS))})


# Exact cells


def test_categories_have_a_cell_each() -> None:
    aggregation = aggregate(Discrete(5))
    assert (aggregation.cells, aggregation.tilings) == (5, 1)
    assert cells_of(aggregation, [0, 3, 4]).tolist() == [[[0], [3], [4]]] * 2


def test_combinations_of_categories_are_numbered_without_gaps() -> None:
    spaces = {"a": MultiDiscrete((2, 3)), "b": Discrete(4)}
    aggregation = Aggregation(Streams(SEEDS), spaces)
    pairs = torch.cartesian_prod(torch.arange(2), torch.arange(3), torch.arange(4))
    batch = pairs.expand(2, -1, -1)
    cells = aggregation({"a": batch[..., :2], "b": batch[..., 2]})
    assert aggregation.cells == 24
    assert cells[0].flatten().sort().values.tolist() == list(range(24))
    assert cells[0].equal(cells[1])


def test_small_grids_of_symbols_start_at_their_lowest_symbol() -> None:
    aggregation = aggregate(box(2, 4, (1, 2), "uint8"))
    assert aggregation.cells == 9
    assert cells_of(aggregation, [[[2, 2]], [[4, 2]], [[2, 3]]])[0].flatten().tolist() == [0, 2, 3]


# Tile coding


def test_tiles_by_hand() -> None:
    # two tilings of 4 tiles; three steps of a tile cover [0, 1]; the second is shifted by half
    aggregation = aggregate(box(0.0, 1.0, (1,)), tilings=2, tiles=4)
    assert (aggregation.cells, aggregation.tilings) == (8, 2)
    cells = cells_of(aggregation, np.array([[0.0], [0.1], [0.2], [0.5], [1.0]], np.float32))
    # tile 3x in the first tiling, 3x + 0.5 in the second; cell = tiling + 2 * tile
    assert cells[0].tolist() == [[0, 1], [0, 1], [0, 3], [2, 5], [6, 7]]


def test_an_observation_lies_in_one_tile_of_each_tiling() -> None:
    aggregation = aggregate(box(-1.0, 1.0, (4,)))
    assert (aggregation.cells, aggregation.tilings) == (8 * 8**4, 8)
    points = 2 * Streams(SEEDS).uniform("test", 500, 4) - 1
    cells = aggregation({"observation": points})
    assert cells.shape == (2, 500, 8)
    assert (cells % 8).equal(torch.arange(8).expand(2, 500, 8))
    assert cells.max() < aggregation.cells


def test_near_observations_share_tiles_and_far_ones_do_not() -> None:
    aggregation = aggregate(box(0.0, 1.0, (2,)))
    x = np.array([[0.5, 0.5], [0.52, 0.5], [0.57, 0.5], [0.65, 0.5], [0.5, 0.65]], np.float32)
    cells = cells_of(aggregation, x)[0]
    shared = [(cells[0] == other).sum().item() for other in cells]
    # a tile is 1/7 wide, and borders of the eight tilings lie at multiples of its eighth: between
    # 0.5 * 7 = 3.5, itself one of them, and 0.52 * 7 = 3.64, 0.57 * 7 = 3.99 are 1 and 3 others
    assert shared == [8, 7, 5, 0, 0]


def test_unbounded_entries_are_squashed_by_their_size() -> None:
    aggregation = aggregate(box(-np.inf, np.inf, (1,)), tilings=1, tiles=5)
    x = np.array([[-1e30], [-1.0], [-0.1], [0.0], [1.0], [3.0], [1e30]], np.float32)
    # (1 + x / (1 + |x|)) / 2 is 0, 1/4, 5/11, 1/2, 3/4, 7/8, 1; four steps cover [0, 1]
    assert cells_of(aggregation, x)[0].flatten().tolist() == [0, 1, 1, 2, 3, 3, 4]


def test_what_is_not_a_number_or_out_of_bounds_still_has_a_cell() -> None:
    low, high = np.array([0.0, -np.inf], np.float32), np.array([1.0, np.inf], np.float32)
    aggregation = aggregate(Box(low, high, np.dtype(np.float32)))
    x = np.array([[np.nan, np.nan], [np.inf, -np.inf], [7.0, 0.0]], np.float32)
    cells = cells_of(aggregation, x)
    assert cells.min() >= 0
    assert cells.max() < aggregation.cells


def test_tiles_that_do_not_fit_are_hashed() -> None:
    aggregation = aggregate(box(-1.0, 1.0, (6,)), cell_bits=12)
    assert (aggregation.cells, aggregation.tilings, aggregation.is_exact) == (4096, 8, False)
    cells = aggregation({"observation": 2 * Streams(SEEDS).uniform("test", 200, 6) - 1})
    assert cells.min() >= 0
    assert cells.max() < 4096
    assert cells[0].unique().numel() > 1000 / 2  # of 1600 tiles, of which few are shared


# Hashes


@pytest.mark.parametrize(
    ("space", "values"),
    [
        (box(-1.0, 1.0, (30,)), np.linspace(-1, 1, 60).reshape(2, 30).astype(np.float32)),
        (box(0, 10, (7, 7, 3), "uint8"), np.arange(294).reshape(2, 7, 7, 3) % 11),
    ],
    ids=["simhash", "symbols"],
)
def test_planes_and_hashes_are_each_seeds_own_whoever_trains_beside_it(
    space: Space, values: Any
) -> None:
    dtype = space.dtype if isinstance(space, Box) else None
    leaf = torch.as_tensor(np.asarray(values, dtype))
    batch = {"observation": torch.stack([leaf] * 2)}
    cells = aggregate(space)(batch)
    assert cells[0].ne(cells[1]).all()
    alone = aggregate(space, seeds=SEEDS[1:])({"observation": leaf.unsqueeze(0)})
    assert alone[0].equal(cells[1])
    assert aggregate(space)(batch).equal(cells)


def test_simhash_is_the_signs_of_random_projections() -> None:
    aggregation = aggregate(box(-1.0, 1.0, (20,)), cell_bits=6)
    assert (aggregation.cells, aggregation.is_exact) == (64, True)
    planes = Streams(SEEDS).normal("parameters", 20, 6)
    x = 2 * Streams(SEEDS).uniform("test", 50, 20) - 1
    bits = (torch.einsum("sbf,sfk->sbk", x, planes) > 0).long()
    expected = (bits * torch.tensor([1, 2, 4, 8, 16, 32])).sum(-1, keepdim=True)
    assert aggregation({"observation": x}).equal(expected)


def test_simhash_keeps_near_vectors_together_and_opposite_ones_apart() -> None:
    aggregation = aggregate(box(-1.0, 1.0, (20,)))
    x = 0.5 * (2 * Streams(SEEDS).uniform("test", 1, 20) - 1)
    obs = torch.cat([x, 1.5 * x, -x], dim=1)  # planes go through the middle
    near, same, opposite = aggregation({"observation": obs}).squeeze(-1).unbind(1)
    assert near.equal(same)
    assert (near + opposite).tolist() == [2**15 - 1] * 2


def test_hashed_combinations_collide_no_more_than_chance_has_it() -> None:
    aggregation = aggregate(box(0, 10, (7, 7, 3), "uint8"))
    grids = Streams(SEEDS).integers("test", 11, 2000, 7, 7, 3)
    cells = aggregation({"observation": grids.to(torch.uint8)})
    expected = 2**15 * (1 - math.exp(-2000 / 2**15))
    for row in cells:
        assert row.unique().numel() == pytest.approx(expected, rel=0.02)


def test_a_grid_of_which_one_symbol_changes_moves_to_another_cell() -> None:
    grids = np.full((2, 7, 7, 3), 5, np.uint8)
    grids[1, 6, 6, 2] = 6
    cells = cells_of(aggregate(box(0, 10, (7, 7, 3), "uint8")), grids)
    assert cells[:, 0].ne(cells[:, 1]).all()


def test_images_are_told_apart_by_the_brightness_of_patches() -> None:
    pictures = np.zeros((4, 64, 64, 3), np.uint8)
    pictures[1, 0, 0] = 200  # one pixel does not change the mean of its patch by a level
    pictures[2, :8, :8] = 40
    pictures[3, -8:, -8:] = 40
    aggregation = aggregate(box(0, 255, (64, 64, 3), "uint8"))
    cells = cells_of(aggregation, pictures)[0].flatten().tolist()
    assert cells[0] == cells[1]
    assert len(set(cells)) == 3


LEAVES: dict[str, tuple[Space, int]] = {
    "discrete": (Discrete(4), 3),
    "multidiscrete": (MultiDiscrete((3, 5)), 2),
    "symbols": (box(0, 10, (7, 7, 3), "uint8"), 9),
    "row": (box(0, 5976, (55,), "int16"), 5000),
    "quantities": (box(-(2**31), 2**31 - 1, (3,), "int64"), 9),
    "text": (Text(20, 256), 200),
    "image": (box(0, 255, (84, 84, 4), "uint8"), 255),
    "small image": (box(0, 255, (5, 5, 3), "uint8"), 255),
    "vector": (box(-np.inf, np.inf, (3,)), 1),
    "long vector": (box(-np.inf, np.inf, (100,)), 1),
}
"""Kinds of leaves, and a value other than 0 that may stand there."""


def leaf_of(space: Space, value: int) -> Tensor:
    dtype = torch.int64
    if isinstance(space, Box | Text):
        dtype = torch.from_numpy(np.zeros(0, space.dtype)).dtype
    return torch.full((2, 3, *space.shape), value, dtype=dtype)


@pytest.mark.parametrize("kind", LEAVES)
def test_every_kind_of_leaf_has_cells(kind: str) -> None:
    space, value = LEAVES[kind]
    aggregation = aggregate(space)
    cells, others = (aggregation({"observation": leaf_of(space, x)}) for x in (0, value))
    assert cells.shape == (2, 3, aggregation.tilings)
    assert cells.dtype == torch.int64
    assert min(cells.min(), others.min()) >= 0
    assert max(cells.max(), others.max()) < aggregation.cells <= 2**15
    assert cells.ne(others).any(-1).all()


@pytest.mark.parametrize("kind", LEAVES)
def test_every_leaf_of_a_dictionary_matters(kind: str) -> None:
    aggregation = Aggregation(Streams(SEEDS), {name: space for name, (space, _) in LEAVES.items()})
    obs = {name: leaf_of(space, 0) for name, (space, _) in LEAVES.items()}
    cells = aggregation(obs)
    # vectors are read together, 106 entries in all: to cross a plane, one must move far
    other = aggregation(obs | {kind: leaf_of(LEAVES[kind][0], LEAVES[kind][1])})
    assert cells.ne(other).all()


# Learning


THREE = Discrete(3)


def make(actions: ActionSpace, observation: Space = THREE, **changes: Any) -> Any:
    spaces = Spaces({"observation": observation}, actions)
    defaults = {"discount": 0.5, "learning_rate_initial": 0.1, "learning_rate_final": 0.1}
    return make_agent("q_learning", spaces, 1_000, SEEDS, **(defaults | changes))


def step(
    agent: Any,
    obs: list[Any],
    choice: list[list[int]],
    reward: list[float],
    next_obs: list[Any],
    terminated: bool = False,
    truncated: bool = False,
) -> Any:
    """Learn from one step of some lanes, the same for every seed; the metrics."""
    leaf, after, rewards = (torch.tensor([x] * len(SEEDS)) for x in (obs, next_obs, reward))
    flags = [torch.full(rewards.shape, flag) for flag in (terminated, truncated)]
    extras = {
        "cells": agent.aggregation({"observation": leaf}),
        "choice": torch.tensor([choice] * len(SEEDS)),
    }
    after_step = Transition(
        {"observation": leaf}, rewards, rewards, {"observation": after}, *flags, extras
    )
    return agent.observe(after_step)


def test_one_update_by_literal_numbers() -> None:
    agent = make(Discrete(2))
    agent.table[:, 0, 0] = torch.tensor([4.0, 2.0])
    agent.table[:, 1, 0] = torch.tensor([10.0, 20.0])
    metrics = step(agent, [0], [[1]], [3.0], [1])
    # 3 + 0.5 * 20 - 2 = 11
    assert metrics["error"].tolist() == [11.0] * 2
    assert metrics["value"].tolist() == [2.0] * 2
    expected = torch.tensor([[4.0, 2.0 + 0.1 * 11], [10.0, 20.0], [0.0, 0.0]])
    torch.testing.assert_close(agent.table[:, :, 0], expected.expand(2, -1, -1))
    assert agent.updates == 1


@pytest.mark.parametrize(("end", "error"), [("terminated", 1.0), ("truncated", 11.0)])
def test_an_end_has_no_value_and_a_cut_keeps_it(end: str, error: float) -> None:
    agent = make(Discrete(2))
    agent.table[:, 1, 0] = torch.tensor([10.0, 20.0])
    metrics = step(agent, [0], [[1]], [1.0], [1], **{end: True})
    assert metrics["error"].tolist() == [error] * 2


def test_lanes_that_meet_in_an_entry_move_it_by_their_mean_error() -> None:
    agent = make(Discrete(2))
    step(agent, [0, 0, 0, 1], [[0], [0], [1], [0]], [1.0, 3.0, 5.0, 7.0], [2, 2, 2, 2])
    # two lanes are in entry (0, 0), the others alone in theirs
    expected = torch.tensor([[0.1 * (1 + 3) / 2, 0.5], [0.7, 0.0], [0.0, 0.0]])
    torch.testing.assert_close(agent.table[:, :, 0], expected.expand(2, -1, -1))


def test_the_value_of_a_joint_action_is_the_mean_of_its_dimensions() -> None:
    agent = make(MultiDiscrete((2, 3)))
    agent.table[:, 0] = torch.tensor([[1.0, 2.0, 99.0], [3.0, 4.0, 8.0]])
    # the first dimension has only two bins: 99 stands where there is none
    agent.table[:, 1] = torch.tensor([[5.0, 6.0, 99.0], [9.0, 7.0, 8.0]])
    metrics = step(agent, [0], [[1, 2]], [1.0], [1])
    error = 1 + 0.5 * (6 + 9) / 2 - (2 + 8) / 2
    assert metrics["error"].tolist() == pytest.approx([abs(error)] * 2)
    moved = 0.1 * error  # both entries, and so the joint action's value
    expected = torch.tensor([[1.0, 2.0 + moved, 99.0], [3.0, 4.0, 8.0 + moved]])
    torch.testing.assert_close(agent.table[:, 0], expected.expand(2, -1, -1))


def test_an_update_moves_neighbours_by_the_share_of_tiles() -> None:
    agent = make(Discrete(2), box(0.0, 1.0, (2,)))
    step(agent, [[0.5, 0.5]], [[1]], [8.0], [[0.5, 0.5]])
    points = torch.tensor([[[0.5, 0.5], [0.52, 0.5], [0.57, 0.5], [0.65, 0.5]]] * 2)
    values = agent.values(agent.aggregation({"observation": points}))[:, :, 0]
    expected = 0.1 * 8.0 * torch.tensor([8, 7, 5, 0]) / 8
    torch.testing.assert_close(values[..., 1], expected.expand(2, -1))
    assert (values[..., 0] == 0).all()


def test_a_seeds_bad_number_stays_in_its_table() -> None:
    agent = make(Discrete(2))
    agent.table[1] = torch.nan
    step(agent, [0, 0], [[0], [1]], [1.0, 2.0], [1, 2])
    assert agent.table[0].isfinite().all()
    torch.testing.assert_close(agent.table[0, 0, 0], torch.tensor([0.1, 0.2]))


def test_rates_fall_linearly_with_the_budget() -> None:
    agent = make(
        Discrete(2),
        learning_rate_initial=0.5,
        learning_rate_final=0.1,
        epsilon_initial=1.0,
        epsilon_final=0.2,
        epsilon_fraction=0.5,
    )
    agent.updates = 125  # of two lanes: a quarter of the budget
    assert agent.scheduled(1.0, 0.2, 0.5) == pytest.approx(0.6)
    step(agent, [0], [[0]], [1.0], [1])
    assert agent.table[:, 0, 0, 0].tolist() == pytest.approx([0.4] * 2)


def test_values_start_at_the_initial_value() -> None:
    agent = make(Discrete(2), box(0.0, 1.0, (2,)), initial_value=5.0)
    cells = agent.aggregation({"observation": torch.zeros(2, 1, 2)})
    assert agent.values(cells).unique().tolist() == [5.0]


def test_smoke_tables_are_small() -> None:
    assert make_config("q_learning").cell_bits == 10


def test_a_small_maze_is_solved() -> None:
    """Doing nothing must lose against the way to the goal, late though some successes come."""
    outcome = run(
        make_work(
            "q_learning",
            "minigrid/MiniGrid-Empty-Random-5x5-v0",
            steps=10_000,
            changes={"lanes": 8, "cell_bits": 15},
            episodes=10,
        )
    )
    last = [episode.return_ for episode in outcome.episodes if episode.step == 10_000]
    assert len(last) == 20
    assert min(last) > 0.9
