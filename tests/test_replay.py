"""The replay memory, in a counting world: every number says where it comes from."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import Tensor

from baselines.parts.replay import Replay
from suite.streams import Streams

SEEDS = (4, 9)


class World:
    """Adds transitions numbered 0, 1, 2, ... (+ 1000 for the second seed) to a replay."""

    def __init__(self, capacity: int, lanes: int) -> None:
        self.replay = Replay(capacity, Streams(SEEDS))
        self.lanes = lanes
        self.next = 0

    def play(self, steps: int) -> World:
        for _ in range(steps):
            number = torch.arange(self.next, self.next + self.lanes) + torch.tensor([[0], [1000]])
            self.replay.add(
                {"number": number, "terminated": number % 3 == 0},
                {"place": number.unsqueeze(-1).float()},
                {"place": number.unsqueeze(-1).float() + 0.5},
            )
            self.next += self.lanes
        return self

    def numbers(self, batch_size: int = 400) -> Tensor:
        return self.replay.sample(batch_size)[0]["number"]


@pytest.mark.parametrize(
    ("capacity", "lanes", "steps", "held"),
    [
        (10, 2, 1, range(2)),
        (10, 2, 3, range(6)),
        (10, 2, 5, range(10)),
        (10, 2, 7, range(4, 14)),
        (7, 3, 2, range(6)),
        (7, 3, 3, range(2, 9)),
        (7, 3, 50, range(143, 150)),
        (3, 3, 4, range(9, 12)),
        (5, 1, 23, range(18, 23)),
    ],
)
def test_holds_the_latest_and_samples_nothing_else(
    capacity: int, lanes: int, steps: int, held: range
):
    world = World(capacity, lanes).play(steps)
    first, second = world.numbers()
    assert sorted(set(first.tolist())) == list(held)
    assert sorted(set(second.tolist())) == [1000 + number for number in held]


def test_counts_what_was_added_and_what_is_held():
    world = World(capacity=7, lanes=3)
    seen = [(world.play(1).replay.added, world.replay.size) for _ in range(4)]
    assert seen == [(3, 3), (6, 6), (9, 7), (12, 7)]


def test_leaves_of_an_item_belong_together_after_the_ring_has_wrapped():
    batch, obs, next_obs = World(7, 3).play(11).replay.sample(50)
    assert torch.equal(obs["place"].squeeze(-1), batch["number"].float())
    assert torch.equal(next_obs["place"], obs["place"] + 0.5)
    assert torch.equal(batch["terminated"], batch["number"] % 3 == 0)
    assert batch["terminated"].dtype == torch.bool


def test_batch_holds_the_items_by_their_own_names():
    batch, obs, next_obs = World(7, 3).play(2).replay.sample(5)
    assert set(batch) == {"number", "terminated"}
    assert set(obs) == set(next_obs) == {"place"}
    assert batch["number"].shape == (2, 5)
    assert obs["place"].shape == (2, 5, 1)


def test_seeds_sample_by_different_indices():
    first, second = World(100, 2).play(50).numbers(20)
    assert not torch.equal(first, second - 1000)


def test_consecutive_batches_differ():
    world = World(100, 2).play(50)
    assert not torch.equal(world.numbers(20), world.numbers(20))


def test_indices_of_a_seed_do_not_depend_on_the_seeds_beside_it():
    together = World(100, 2).play(50).numbers(20)[1] - 1000
    alone = Replay(100, Streams(SEEDS[1:]))
    alone.add({"number": torch.arange(100).unsqueeze(0)}, {}, {})
    assert torch.equal(alone.sample(20)[0]["number"][0], together)


def test_indices_are_uniform():
    first = World(10, 2).play(5).numbers(10_000)[0]
    counts = torch.bincount(first, minlength=10)
    assert counts.min() > 900  # 1,000 expected, standard deviation 30
    assert counts.max() < 1_100


@pytest.mark.parametrize("steps", [0, 2, 11])
def test_restored_in_the_middle_goes_on_identically(steps: int):
    world, other = World(7, 3).play(steps), World(7, 3)
    if steps:
        world.numbers(5)
    saved = copy.deepcopy((world.replay.state_dict(), world.replay.streams.state_dict()))
    world.play(3)
    other.replay.load_state_dict(saved[0])
    other.replay.streams.load_state_dict(saved[1])
    other.next = 3 * steps
    other.play(3)
    assert other.replay.added == world.replay.added
    assert torch.equal(other.numbers(50), world.numbers(50))


def test_saved_state_does_not_follow_later_additions():
    world = World(4, 2).play(2)
    saved = world.replay.state_dict()
    world.play(2)
    assert saved["leaves"]["number"].tolist() == [[0, 1, 2, 3], [1000, 1001, 1002, 1003]]


def test_only_what_is_held_is_saved():
    saved = World(1_000, 2).play(3).replay.state_dict()
    assert saved["leaves"]["obs.place"].shape == (2, 6, 1)


def test_observations_keep_their_type():
    replay = Replay(4, Streams(SEEDS))
    replay.add({}, {"image": torch.full((2, 1, 3), 255, dtype=torch.uint8)}, {})
    assert replay.sample(1)[1]["image"].dtype == torch.uint8


def test_more_lanes_than_capacity_are_refused():
    with pytest.raises(ValueError, match="3 lanes do not fit a capacity of 2"):
        World(2, 3).play(1)
