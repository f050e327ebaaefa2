"""Random streams: what depends on what, and what a resumed run sees."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from suite.streams import BLOCK, Streams, lane_seeds, stream_key

DRAWS = {
    "normal": lambda streams: streams.normal("a", 4, 3),
    "uniform": lambda streams: streams.uniform("a", 4, 3),
    "gumbel": lambda streams: streams.gumbel("a", 4, 3),
    "integers": lambda streams: streams.integers("a", 10, 4, 3),
    "permutation": lambda streams: streams.permutation("a", 12),
}


def test_stream_keys_never_change_between_releases():
    assert stream_key(0, "policy") == 0xD92EE1B1BC91AD743DBBA1CAE4410D5D
    assert stream_key(3, "lane", "train", 0, 1) == 0x74B4EF72B31A9727AF236F4DDEBBD9B3


def test_keys_differ_by_seed_and_by_every_part_of_the_role():
    keys = {
        stream_key(seed, "lane", role, period, lane)
        for seed in range(5)
        for role in ("train", "evaluation")
        for period in range(5)
        for lane in range(5)
    }
    assert len(keys) == 5 * 2 * 5 * 5


def test_lane_seeds_are_a_function_of_run_seed_role_period_and_lane():
    together = lane_seeds((0, 1, 2), "train", 4, 8)
    assert (together.shape, together.dtype) == ((3, 8), np.int64)
    assert (lane_seeds((1,), "train", 4, 3)[0] == together[1, :3]).all()


def test_neighbouring_runs_share_no_lane():
    seeds = lane_seeds(range(10), "train", 0, 16)
    assert len(np.unique(seeds)) == 160


def test_evaluation_plays_other_episodes_than_training():
    train, evaluation = (lane_seeds(range(5), role, 0, 16) for role in ("train", "evaluation"))
    assert not np.isin(train, evaluation).any()


def test_every_period_has_lanes_of_its_own():
    first, second = (lane_seeds(range(5), "train", period, 16) for period in (0, 1))
    assert not np.isin(first, second).any()


def test_lane_seeds_fit_every_engine():
    seeds = lane_seeds(range(50), "train", 0, 20)
    assert seeds.min() >= 0
    assert seeds.max() < 2**31


@pytest.mark.parametrize("kind", DRAWS)
def test_a_seed_draws_the_same_alone_and_among_others(kind: str):
    draw = DRAWS[kind]
    assert torch.equal(draw(Streams((7,)))[0], draw(Streams((5, 7, 9)))[1])


@pytest.mark.parametrize("kind", DRAWS)
def test_seeds_differ(kind: str):
    first, second = DRAWS[kind](Streams((5, 7)))
    assert not torch.equal(first, second)


@pytest.mark.parametrize("kind", DRAWS)
def test_later_draws_differ(kind: str):
    streams = Streams((5,))
    assert not torch.equal(DRAWS[kind](streams), DRAWS[kind](streams))


def test_a_role_does_not_notice_what_other_roles_draw():
    quiet, busy = Streams((5, 7)), Streams((5, 7))
    busy.normal("other", 100)
    busy.uniform("a", 100)
    assert torch.equal(quiet.normal("a", 10), busy.normal("a", 10))


def test_global_generators_are_neither_read_nor_moved():
    expected = Streams((5,)).normal("a", 10)
    torch.manual_seed(1)
    before = torch.get_rng_state()
    assert torch.equal(Streams((5,)).normal("a", 10), expected)
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize(
    ("kind", "dtype", "mean", "deviation"),
    [
        ("normal", torch.float32, 0.0, 1.0),
        ("uniform", torch.float32, 0.5, 12**-0.5),
        ("gumbel", torch.float32, 0.5772, np.pi / 6**0.5),
    ],
)
def test_moments(kind: str, dtype: torch.dtype, mean: float, deviation: float):
    numbers = getattr(Streams((0, 1)), kind)("a", 40_000)
    assert numbers.dtype == dtype
    assert numbers.mean(dim=1).numpy() == pytest.approx([mean] * 2, abs=0.03)
    assert numbers.std(dim=1).numpy() == pytest.approx([deviation] * 2, rel=0.03)


def test_uniform_numbers_are_below_one():
    numbers = Streams((0,)).uniform("a", 50_000)
    assert numbers.min() >= 0
    assert numbers.max() < 1


def test_integers_are_evenly_spread():
    numbers = Streams((0,)).integers("a", 7, 70_000)
    assert numbers.dtype == torch.int64
    assert torch.bincount(numbers[0]).numpy() == pytest.approx(np.full(7, 10_000), rel=0.05)


def test_permutations_hold_each_number_once_and_differ_between_seeds():
    orders = Streams((0, 1)).permutation("a", 100)
    assert torch.equal(orders.sort(dim=1).values, torch.arange(100).expand(2, 100))
    assert not torch.equal(orders[0], orders[1])


def test_numbers_are_used_once_across_blocks():
    streams = Streams((0,))
    parts = [streams.uniform("a", BLOCK // 3) for _ in range(7)]
    assert len(torch.cat(parts, dim=1).unique()) > 0.98 * 7 * (BLOCK // 3)  # 24 bits: a few ties


def test_a_draw_may_be_larger_than_a_block():
    assert Streams((0, 1)).normal("a", 3, BLOCK).shape == (2, 3, BLOCK)


@pytest.mark.parametrize("sizes", [[10], [BLOCK - 5], [BLOCK], [BLOCK + 100], [BLOCK - 5, 10]])
@pytest.mark.parametrize("kind", ["normal", "uniform", "gumbel"])
def test_a_resumed_stream_goes_on_as_if_it_had_not_stopped(kind: str, sizes: list[int]):
    steady = Streams((0, 1))
    for size in sizes:
        getattr(steady, kind)("a", size)
    resumed = Streams((0, 1))
    resumed.load_state_dict(steady.state_dict())
    for size in (10, 3, BLOCK, 3):
        expected = getattr(steady, kind)("a", size)
        assert torch.equal(getattr(resumed, kind)("a", size), expected)
