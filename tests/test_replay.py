"""The replay memory, in a counting world and in a random one: it returns what was added."""

from __future__ import annotations

import copy
import io
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from baselines.parts import replay as replay_module
from baselines.parts.replay import Replay
from suite.spaces import Discrete, Space, box
from suite.streams import Streams

SEEDS = (4, 9)


@pytest.fixture(params=[0, 1024], ids=["frames", "whole"])
def every_way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Once with all observations kept frame by frame, once with all of them kept whole."""
    monkeypatch.setattr(replay_module, "WHOLE_BYTES", request.param)


class World:
    """Adds transitions numbered 0, 1, 2, ... (+ 1000 for the second seed), each an episode."""

    def __init__(self, capacity: int, lanes: int) -> None:
        self.replay = Replay(capacity, {"place": box(0, 1, (1,))}, Streams(SEEDS))
        self.lanes = lanes
        self.next = 0

    def play(self, steps: int) -> World:
        for _ in range(steps):
            number = torch.arange(self.next, self.next + self.lanes) + torch.tensor([[0], [1000]])
            self.replay.add(
                {"number": number, "terminated": number % 3 == 0},
                {"place": number.unsqueeze(-1).float()},
                {"place": number.unsqueeze(-1).float() + 0.5},
                torch.ones(number.shape, dtype=torch.bool),
            )
            self.next += self.lanes
        return self

    def numbers(self, batch_size: int = 400) -> Tensor:
        return self.replay.sample(batch_size)[0]["number"]


@pytest.mark.usefixtures("every_way")
@pytest.mark.parametrize(
    ("capacity", "lanes", "steps", "held"),
    [
        (10, 2, 1, range(2)),
        (10, 2, 3, range(6)),
        (10, 2, 5, range(10)),
        (10, 2, 6, range(2, 12)),
        (10, 2, 7, range(4, 14)),
        (7, 3, 2, range(6)),
        (7, 3, 3, range(9)),
        (7, 3, 50, range(141, 150)),
        (3, 3, 4, range(9, 12)),
        (2, 3, 4, range(9, 12)),
        (5, 1, 23, range(18, 23)),
    ],
)
def test_holds_the_latest_whole_steps_and_samples_nothing_else(
    capacity: int, lanes: int, steps: int, held: range
):
    world = World(capacity, lanes).play(steps)
    first, second = world.numbers()
    assert sorted(set(first.tolist())) == list(held)
    assert sorted(set(second.tolist())) == [1000 + number for number in held]


@pytest.mark.usefixtures("every_way")
def test_counts_what_was_added_and_what_is_held():
    world = World(capacity=6, lanes=3)
    assert (world.replay.added, world.replay.size) == (0, 0)
    seen = [(world.play(1).replay.added, world.replay.size) for _ in range(4)]
    assert seen == [(3, 3), (6, 6), (9, 6), (12, 6)]


@pytest.mark.usefixtures("every_way")
def test_leaves_of_an_item_belong_together_after_the_ring_has_wrapped():
    batch, obs, next_obs = World(7, 3).play(11).replay.sample(50)
    assert torch.equal(obs["place"].squeeze(-1), batch["number"].float())
    assert torch.equal(next_obs["place"], obs["place"] + 0.5)
    assert torch.equal(batch["terminated"], batch["number"] % 3 == 0)
    assert batch["terminated"].dtype == torch.bool


@pytest.mark.usefixtures("every_way")
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
    alone = Replay(100, {}, Streams(SEEDS[1:]))
    numbers = torch.arange(100).unsqueeze(0)
    alone.add({"number": numbers}, {}, {}, numbers > 0)
    assert torch.equal(alone.sample(20)[0]["number"][0], together)


@pytest.mark.usefixtures("every_way")
@pytest.mark.parametrize("steps", [5, 8])
def test_indices_are_uniform(steps: int):
    first = World(10, 2).play(steps).numbers(10_000)[0]
    counts = torch.bincount(first - first.min(), minlength=10)
    assert counts.min() > 900  # 1,000 expected, standard deviation 30
    assert counts.max() < 1_100


def test_saved_state_does_not_follow_later_additions():
    world = World(4, 2).play(2)
    saved = world.replay.state_dict()
    world.play(2)
    numbers = saved["whole"]["items"]["number"]
    assert numbers.tolist() == [[0, 1, 2, 3], [1000, 1001, 1002, 1003]]


def test_a_change_in_the_number_of_lanes_is_refused():
    world = World(10, 2).play(1)
    world.lanes = 1
    with pytest.raises(ValueError, match="got 1 lanes; this replay is of 2"):
        world.play(1)


# A random world, remembered whole


def stacked(shape: tuple[int, ...], stack: int, dtype: str) -> Space:
    return replace(box(0, 200, shape, dtype), stack=stack)


SPACES: dict[str, Space] = {
    "image": stacked((2, 3, 4), 4, "uint8"),
    "colours": stacked((2, 1, 6), 2, "uint8"),
    "history": stacked((9,), 3, "float32"),
    "vector": box(0, 200, (5,)),
    "category": Discrete(200),
}
WAYS = {"frames": 0, "mixed": 18, "whole": 1024}
"""Up to which size leaves are kept whole; 18 divides the leaves above."""


class RandomWorld:
    """Episodes that end at random; every number of every frame is random.

    Args:
        spaces: what is observed.
        lanes: E.
        end: probability that an episode ends, at every step.
        width: S.
    """

    def __init__(
        self, spaces: dict[str, Space], lanes: int, end: float, width: int = len(SEEDS)
    ) -> None:
        self.spaces, self.shape, self.end = spaces, (width, lanes), end
        self.rng = np.random.default_rng(3)
        self.obs = {name: self._draw(space) for name, space in spaces.items()}
        self.steps: list[dict[str, Any]] = []

    def step(self, cut: bool = False) -> dict[str, Any]:
        """The arguments of ``Replay.add`` for one more step."""
        ended = torch.from_numpy(self.rng.random(self.shape) < self.end) | cut
        following, begins = {}, {}
        for name, space in self.spaces.items():
            stack, new, old = getattr(space, "stack", 1), self._draw(space), self.obs[name]
            following[name] = new
            if stack > 1:
                channels = space.shape[-1] // stack
                shifted = [old[..., channels:], new[..., -channels:]]
                following[name] = torch.cat(shifted, dim=-1)
            mask = ended.view(*self.shape, *[1] * len(space.shape))
            begins[name] = torch.where(mask, self._draw(space), following[name])
        first = len(self.steps) * self.shape[1]
        number = torch.arange(first, first + self.shape[1]).expand(self.shape)
        step = {"items": {"number": number}, "obs": self.obs, "next_obs": following, "ended": ended}
        self.obs = begins
        self.steps.append(step)
        return step

    def play(self, replay: Replay, steps: int) -> None:
        for _ in range(steps):
            replay.add(**self.step())

    def look_up(self, group: str, name: str, number: Tensor) -> Tensor:
        """What had this number ``[S, B]``."""
        history = torch.cat([step[group][name] for step in self.steps], dim=1)  # [S, T * E, ...]
        return torch.stack([row[picked] for row, picked in zip(history, number, strict=True)])

    def _draw(self, space: Space) -> Tensor:
        values = self.rng.integers(0, 200, (*self.shape, *space.shape))
        return torch.from_numpy(values.astype(getattr(space, "dtype", np.int64)))


def assert_faithful(replay: Replay, world: RandomWorld, batch_size: int = 60) -> None:
    batch, obs, next_obs = replay.sample(batch_size)
    number = batch["number"]
    assert number.min() >= replay.added - replay.size
    for group, leaves in (("obs", obs), ("next_obs", next_obs)):
        assert set(leaves) == set(world.spaces)
        for name, leaf in leaves.items():
            expected = world.look_up(group, name, number)
            assert leaf.dtype == expected.dtype
            assert torch.equal(leaf, expected), (group, name)


@pytest.mark.parametrize("end", [0.0, 0.05, 0.4, 1.0])
@pytest.mark.parametrize(("capacity", "lanes"), [(1, 1), (17, 1), (24, 3), (25, 4), (2, 4)])
@pytest.mark.parametrize("way", WAYS)
def test_returns_every_observation_as_it_was_added(
    way: str, capacity: int, lanes: int, end: float, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(replay_module, "WHOLE_BYTES", WAYS[way])
    world = RandomWorld(SPACES, lanes, end)
    replay = Replay(capacity, SPACES, Streams(SEEDS))
    for _ in range(3 * capacity // lanes + 9):
        world.play(replay, 1)
        assert_faithful(replay, world)


def test_the_second_to_last_frame_of_a_single_row_survives(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(replay_module, "WHOLE_BYTES", 0)
    spaces = {"history": SPACES["history"]}
    replay = Replay(1, spaces, Streams((0,)))
    for newest in range(1, 8):
        obs = torch.arange(newest - 2, newest + 1).repeat_interleave(3).float().view(1, 1, 9)
        replay.add({"n": obs[..., 0]}, {"history": obs}, {"history": obs + 1}, obs[..., 0] < -9)
    _, obs, next_obs = replay.sample(1)
    assert obs["history"].flatten().tolist() == [5, 5, 5, 6, 6, 6, 7, 7, 7]
    assert next_obs["history"].flatten().tolist() == [6, 6, 6, 7, 7, 7, 8, 8, 8]


@pytest.mark.parametrize("steps", [0, 1, 5, 8, 9, 40])
@pytest.mark.parametrize("cut", [False, True])
@pytest.mark.parametrize("way", WAYS)
def test_restored_in_the_middle_goes_on_identically(
    way: str, cut: bool, steps: int, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(replay_module, "WHOLE_BYTES", WAYS[way])
    world = RandomWorld(SPACES, 3, end=0.1)
    replay, other = (Replay(24, SPACES, Streams(SEEDS)) for _ in range(2))
    world.play(replay, steps)
    if steps:
        replay.sample(5)
        if cut:
            replay.add(**world.step(cut=True))
    saved = copy.deepcopy((replay.state_dict(), replay.streams.state_dict()))
    other.load_state_dict(saved[0])
    other.streams.load_state_dict(saved[1])
    if steps:  # before the next addition brings what follows the latest
        assert_faithful(other, world)
        replay.sample(60)
    for _ in range(20):
        step = world.step()
        replay.add(**step)
        other.add(**step)
        assert (other.added, other.size) == (replay.added, replay.size)
        mine, theirs = replay.sample(30), other.sample(30)
        for one, two in zip(mine, theirs, strict=True):
            assert all(torch.equal(one[name], two[name]) for name in one)
    assert_faithful(other, world)


@pytest.mark.parametrize("way", WAYS)
def test_only_what_is_held_is_saved(way: str, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(replay_module, "WHOLE_BYTES", WAYS[way])
    replay = Replay(10_000, SPACES, Streams(SEEDS))
    RandomWorld(SPACES, 2, end=0.1).play(replay, 10)
    file = io.BytesIO()
    torch.save(replay.state_dict(), file)
    assert replay.nbytes > 1_000_000
    assert file.tell() < 20_000


@pytest.mark.usefixtures("every_way")
def test_a_seed_of_nan_leaves_the_others_bitwise_unchanged():
    spaces = {"history": SPACES["history"], "vector": SPACES["vector"]}
    world = RandomWorld(spaces, 2, end=0.2)
    clean, poisoned = (Replay(20, spaces, Streams(SEEDS)) for _ in range(2))
    for count in range(30):
        step = world.step()
        clean.add(**step)
        bad = copy.deepcopy(step)
        if count >= 5:
            for leaf in (*bad["obs"].values(), *bad["next_obs"].values()):
                leaf[1] = torch.nan
            bad["ended"][1] = count % 2
        poisoned.add(**bad)
        for one, two in zip(clean.sample(20), poisoned.sample(20), strict=True):
            assert all(torch.equal(one[name][0], two[name][0]) for name in one)


def test_a_frame_of_a_stack_is_kept_once():
    spaces = {"observation": stacked((84, 84, 4), 4, "uint8")}
    replay, lanes = Replay(1_000, spaces, Streams(SEEDS)), 4
    obs = {"observation": torch.zeros(len(SEEDS), lanes, 84, 84, 4, dtype=torch.uint8)}
    numbers = torch.zeros(len(SEEDS), lanes)
    for step in range(500):  # episodes of 250 steps
        ended = (torch.arange(lanes) * 50 + step).expand(len(SEEDS), -1) % 250 == 0
        replay.add({"reward": numbers}, obs, obs, ended)
    per_transition = replay.nbytes / (len(SEEDS) * replay.size)
    assert 84 * 84 < per_transition < 1.08 * 84 * 84


def test_small_observations_are_kept_with_their_successors():
    spaces = {"observation": box(-1, 1, (17,))}
    replay = Replay(100, spaces, Streams(SEEDS))
    obs = {"observation": torch.zeros(2, 1, 17)}
    replay.add({"reward": torch.zeros(2, 1)}, obs, obs, torch.zeros(2, 1, dtype=torch.bool))
    assert replay.nbytes == 2 * 100 * 4 * (17 + 17 + 1)


@pytest.mark.usefixtures("every_way")
def test_nothing_is_held_before_the_first_addition():
    assert Replay(10**9, SPACES, Streams(SEEDS)).nbytes == 0
