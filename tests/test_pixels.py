"""Random shifts of images, and the encoder that reads them."""

from __future__ import annotations

import pytest
import torch
from agents_support import make_work
from torch import Tensor
from torch.nn import functional as F

from baselines.parts.networks import EncoderOptions
from baselines.parts.pixels import PixelEncoder, RandomShift
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


def train(algorithm: str, seeds: tuple[int, ...], shift: int) -> Tensor:
    changes = {"image_shift": shift, "drq": True}
    work = make_work(algorithm, "probes/identity-image", 60, seeds, changes)
    running = Runner(work, lambda progress: None)
    running.train()
    return running.agent.parameters()["critic"]


@pytest.mark.usefixtures("float64")
@pytest.mark.parametrize("algorithm", ["sac", "td3"])
def test_each_seed_learns_from_its_own_shifted_images(algorithm: str):
    together = train(algorithm, (3, 4), shift=1)
    single = train(algorithm, (4,), shift=1)[0]
    torch.testing.assert_close(single, together[1], rtol=1e-6, atol=1e-6)
    assert not torch.equal(train(algorithm, (3, 4), shift=0), together)


def alone(encoder: PixelEncoder, seed: int, image: Tensor) -> Tensor:
    """One seed's features ``[B, F]`` of images ``[B, H, W, C]``, by PyTorch's own operations."""
    (reader,) = encoder.readers
    rows = {name: value[seed].detach() for name, value in reader.named_parameters()}
    x = (image.double() / 255 - 0.5).movedim(-1, 1)
    for layer, stride in enumerate((2, 2, 1, 1)):
        weight, bias = (rows[f"convolutions.{kind}.{layer}"] for kind in ("weights", "biases"))
        x = torch.relu(F.conv2d(x, weight, bias, stride))
    weight, bias = rows["dense.packed"].split([x[0].numel() * 5, 5])
    x = F.linear(x.flatten(1), weight.view(5, -1), bias)
    return torch.tanh(F.layer_norm(x, (5,)) * rows["scale"] + rows["shift"])


@pytest.mark.usefixtures("float64")
def test_the_encoder_is_one_network_per_seed():
    image = torch.randint(0, 256, (2, 3, 7, 30, 32, 3), generator=torch.Generator().manual_seed(0))
    spaces = {"image": box(0, 255, (30, 32, 3), "uint8"), "vector": box(-1, 1, (2,))}
    options = EncoderOptions(features=5)
    encoder = PixelEncoder(Streams((3, 4)), {"image": spaces["image"]}, options)
    with torch.no_grad():
        encoder.readers[0].scale.mul_(3).add_(torch.arange(5))
        encoder.readers[0].shift.add_(0.1 * torch.arange(5))
    features = encoder({"image": image.to(torch.uint8)})
    for seed in range(2):
        expected = alone(encoder, seed, image[seed].flatten(0, 1))
        torch.testing.assert_close(features[seed], expected)

    vector = torch.randn(2, 3, 7, 2)
    both = PixelEncoder(Streams((3, 4)), spaces, options)
    features = both({"image": image.to(torch.uint8), "vector": vector})
    assert both.outputs == 7
    assert torch.equal(features[..., :2], vector.flatten(1, 2))
    assert features[..., 2:].abs().max() <= 1
