"""Random shifts of images."""

from __future__ import annotations

import pytest
import torch
from agents_support import make_work
from torch import Tensor
from torch.nn import functional as F

from baselines.parts.augmentation import RandomShift
from suite.runner import Runner
from suite.spaces import box
from suite.streams import Streams

SPACES = {"image": box(0, 255, (6, 8, 3), "uint8"), "vector": box(-1, 1, (2,))}


def observation(batch: int) -> dict[str, Tensor]:
    image = torch.randint(0, 256, (2, batch, 6, 8, 3), generator=torch.Generator().manual_seed(0))
    return {"image": image.to(torch.uint8), "vector": torch.ones(2, batch, 2)}


def crops(image: Tensor, reach: int) -> list[Tensor]:
    """All windows of an image ``[H, W, C]`` padded with its edge, as DrQ cuts them."""
    height, width, _ = image.shape
    padded = F.pad(image.movedim(-1, 0).float(), [reach] * 4, mode="replicate").movedim(0, -1)
    return [
        padded[top : top + height, left : left + width].to(torch.uint8)
        for top in range(2 * reach + 1)
        for left in range(2 * reach + 1)
    ]


def test_every_image_becomes_one_of_the_windows_of_its_padded_self():
    obs = observation(40)
    shifted = RandomShift(Streams((3, 4)), SPACES, reach=2)(obs)
    found = set()
    for before, after in zip(
        obs["image"].flatten(0, 1), shifted["image"].flatten(0, 1), strict=True
    ):
        (window,) = [i for i, one in enumerate(crops(before, 2)) if torch.equal(one, after)]
        found.add(window)
    assert len(found) > 15  # of 25
    assert shifted["vector"] is obs["vector"]


def test_seeds_draw_their_own_shifts():
    obs = observation(40)
    obs["image"][1] = obs["image"][0]
    both = RandomShift(Streams((3, 4)), SPACES, reach=2)(obs)["image"]
    alone = {name: leaf[1:] for name, leaf in obs.items()}
    assert torch.equal(RandomShift(Streams((4,)), SPACES, reach=2)(alone)["image"][0], both[1])
    assert not torch.equal(both[0], both[1])


def test_no_reach_draws_nothing():
    streams = Streams((3, 4))
    obs = observation(4)
    assert RandomShift(streams, SPACES, reach=0)(obs)["image"] is obs["image"]
    assert streams.state_dict()["cursors"] == {}


def train(seeds: tuple[int, ...], shift: int) -> Tensor:
    changes = {"image_shift": shift}
    running = Runner(
        make_work("sac", "probes/identity-image", 120, seeds, changes), lambda progress: None
    )
    running.train()
    return running.agent.parameters()["critic"]


@pytest.mark.usefixtures("float64")
def test_sac_learns_from_shifted_images_each_seed_from_its_own():
    together = train((3, 4), shift=1)
    torch.testing.assert_close(train((4,), shift=1)[0], together[1], rtol=1e-6, atol=1e-6)
    assert not torch.equal(train((3, 4), shift=0), together)
