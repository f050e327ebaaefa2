"""Sequences of one lane's consecutive transitions, whatever the ring has overwritten."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from baselines.parts.sequences import SequenceReplay
from suite.spaces import Box, Space, box
from suite.streams import Streams

SMALL = box(-1e6, 1e6, (1,))
LARGE = Box(np.zeros((40, 40, 1), np.uint8), np.full((40, 40, 1), 255, np.uint8), np.dtype("uint8"))
LANES = 3


def fill(space: Space, capacity: int, steps: int) -> SequenceReplay:
    """Transition t of lane e of seed s goes from ``number`` to number + 1; every fifth ends."""
    replay = SequenceReplay(capacity, {"obs": space}, Streams((0, 1)))
    seeds, lanes = torch.arange(2).view(2, 1), torch.arange(LANES).view(1, LANES)
    for t in range(steps):
        number = (100 * seeds + 50 * lanes + t % 50).float()
        shape = (2, LANES, *space.shape)
        leaf = number.view(2, LANES, *[1] * len(space.shape)).expand(shape)
        ended = torch.full((2, LANES), t % 5 == 4)
        following = leaf + 1
        kind = torch.uint8 if len(space.shape) > 1 else torch.float32
        items = {"t": torch.full((2, LANES), t), "number": number, "ended": ended}
        replay.add(items, {"obs": leaf.to(kind)}, {"obs": following.to(kind)}, ended)
    return replay


@pytest.mark.parametrize("space", [SMALL, LARGE], ids=["small", "large"])
@pytest.mark.parametrize("steps", [8, 20, 47])
def test_a_sequence_is_what_one_lane_saw(space: Space, steps: int):
    replay = fill(space, 20 * LANES, steps)
    items, obs, next_obs = replay.sample_across(400, 4)
    assert items["t"].shape == (2, 400, 4)
    start = items["t"][..., :1]
    assert torch.equal(items["t"], start + torch.arange(4))
    held = min(steps, 20)
    assert set(start.unique().tolist()) == set(range(steps - held, steps - 3))
    lane = items["number"] - items["t"] % 50
    assert torch.equal(lane, lane[..., :1].expand(lane.shape))
    assert set(lane[0].unique().tolist()) == {0, 50, 100}
    assert set(lane[1].unique().tolist()) == {100, 150, 200}
    first = (slice(None), slice(None), slice(None), *[0] * (len(space.shape)))
    assert torch.equal(obs["obs"][first].float(), items["number"])
    assert torch.equal(next_obs["obs"][first].float(), items["number"] + 1)


def test_there_must_be_as_many_steps_as_a_sequence_has():
    replay = SequenceReplay(60, {"obs": SMALL}, Streams((0, 1)))
    assert not replay.can_sample(1)
    replay = fill(SMALL, 60, 3)
    assert replay.can_sample(3)
    assert not replay.can_sample(4)
    items, *_ = replay.sample_across(10, 3)
    assert (items["t"] == torch.arange(3)).all()
