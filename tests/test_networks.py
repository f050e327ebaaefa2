"""Batched networks are S separate networks, forward and backward."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from baselines.parts.networks import (
    ACTIVATIONS,
    MLP,
    NARROW,
    Convolution,
    Encoder,
    Linear,
    _NarrowLinear,
)
from suite.spaces import Box, Discrete, MultiDiscrete, Space, box
from suite.streams import Streams

SEEDS = (3, 5, 8)
CPU = torch.device("cpu")


def noise(*shape: int, role: str = "input") -> Tensor:
    return Streams(SEEDS).normal(role, *shape).to(torch.get_default_dtype()).clone()


def pixels(batch: int, height: int = 36, width: int = 40, channels: int = 2) -> Tensor:
    values = Streams(SEEDS).integers("pixels", 256, batch, height, width, channels)
    return values.to(torch.uint8)


def close(a: Tensor, b: Tensor) -> bool:
    return torch.allclose(a, b, rtol=1e-11, atol=1e-12)


def row(module: nn.Module, seed: int) -> list[Tensor]:
    """Parameters of one seed, detached from the batch."""
    return [p.detach()[seed].clone().requires_grad_() for p in module.parameters()]


def separate_linear(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    return F.linear(x, weight.T, bias[0])


def separate_mlp(x: Tensor, parameters: list[Tensor], activation: str) -> Tensor:
    function = {"tanh": torch.tanh, "relu": torch.relu}[activation]
    pairs = list(zip(parameters[::2], parameters[1::2], strict=True))
    for weight, bias in pairs[:-1]:
        x = function(separate_linear(x, weight, bias))
    return separate_linear(x, *pairs[-1])


def separate_convolution(image: Tensor, parameters: list[Tensor]) -> Tensor:
    x = image.permute(0, 3, 1, 2) / 255.0
    for weight, bias, stride in zip(parameters[:3], parameters[3:], (4, 2, 1), strict=True):
        x = torch.relu(F.conv2d(x, weight, bias, stride=stride))
    return x.flatten(1)


def assert_equals_separate(module: nn.Module, x: Tensor, separate) -> None:
    """Compare outputs and all gradients with one pass per seed of ``separate(x, parameters)``."""
    differentiable = x.is_floating_point()
    x = x.clone().requires_grad_(differentiable)
    outputs = module(x)
    weights = noise(*outputs.shape[1:], role="loss")
    (outputs * weights).sum().backward()
    for s in range(len(SEEDS)):
        parameters = row(module, s)
        alone = x.detach()[s].clone().requires_grad_(differentiable)
        expected = separate(alone, parameters)
        (expected * weights[s]).sum().backward()
        assert close(outputs[s], expected)
        for batched, single in zip(module.parameters(), parameters, strict=True):
            assert close(batched.grad[s], single.grad)
        if differentiable:
            assert close(x.grad[s], alone.grad)


@pytest.mark.usefixtures("float64")
class TestBatchedEqualsSeparate:
    @pytest.mark.parametrize("outputs", [1, NARROW, NARROW + 1, 32])
    @pytest.mark.parametrize("init", ["orthogonal", "uniform"])
    def test_linear_equals_separate_layers(self, outputs: int, init: str):
        layer = Linear(Streams(SEEDS), 6, outputs, init)
        assert_equals_separate(layer, noise(5, 6), lambda x, p: separate_linear(x, *p))

    @pytest.mark.parametrize("activation", ["tanh", "relu"])
    @pytest.mark.parametrize("hidden", [(), (16,), (16, 4)])
    def test_mlp_equals_separate_networks(self, activation: str, hidden: tuple[int, ...]):
        mlp = MLP(Streams(SEEDS), 5, hidden, 3, activation, "orthogonal", output_gain=0.5)
        assert_equals_separate(mlp, noise(7, 5), lambda x, p: separate_mlp(x, p, activation))

    def test_convolution_equals_separate_convolutions(self):
        convolution = Convolution(Streams(SEEDS), (36, 40, 2))
        assert_equals_separate(convolution, pixels(3), separate_convolution)


@pytest.mark.usefixtures("float64")
class TestDerivatives:
    """Trust-region methods differentiate twice, which a custom backward pass can get wrong."""

    def test_tanh_has_first_and_second_derivatives(self):
        x = noise(2, 4).requires_grad_()
        assert torch.autograd.gradcheck(ACTIVATIONS["tanh"], (x,))
        assert torch.autograd.gradgradcheck(ACTIVATIONS["tanh"], (x,))

    def test_narrow_linear_has_first_and_second_derivatives(self):
        inputs = (noise(2, 4), noise(4, 3, role="weight"), noise(1, 3, role="bias"))
        inputs = tuple(x.requires_grad_() for x in inputs)
        assert torch.autograd.gradcheck(_NarrowLinear.apply, inputs)
        assert torch.autograd.gradgradcheck(_NarrowLinear.apply, inputs)

    def test_hessian_vector_product_of_a_network_equals_that_of_separate_networks(self):
        mlp = MLP(Streams(SEEDS), 3, (4,), 2, "tanh", "orthogonal")
        x = noise(6, 3)
        parameters = list(mlp.parameters())
        vector = [noise(*p.shape[1:], role="vector") for p in parameters]
        product = curvature(mlp(x), parameters, vector)
        for s in range(len(SEEDS)):
            alone = row(mlp, s)
            expected = curvature(separate_mlp(x[s], alone, "tanh"), alone, [v[s] for v in vector])
            for batched, single in zip(product, expected, strict=True):
                assert close(batched[s], single)


def curvature(outputs: Tensor, parameters: list[Tensor], vector: list[Tensor]) -> list[Tensor]:
    gradient = torch.autograd.grad((outputs**2).sum(), parameters, create_graph=True)
    along = sum((g * v).sum() for g, v in zip(gradient, vector, strict=True))
    return list(torch.autograd.grad(along, parameters))


def test_fast_tanh_equals_tanh_in_value_and_gradient():
    x = torch.cat([torch.linspace(-12, 12, 2001), torch.tensor([-1e30, -1e-6, 0.0, 1e-6, 1e30])])
    ours, reference = x.clone().requires_grad_(), x.clone().requires_grad_()
    value, expected = ACTIVATIONS["tanh"](ours), torch.tanh(reference)
    value.sum().backward()
    expected.sum().backward()
    assert (value - expected).abs().max() < 1e-6
    assert (ours.grad - reference.grad).abs().max() < 1e-6


class TestInitialWeights:
    @pytest.mark.parametrize(("inputs", "outputs"), [(12, 5), (5, 12), (7, 7)])
    def test_orthogonal_columns_or_rows_are_orthonormal_up_to_the_gain(
        self, inputs: int, outputs: int
    ):
        weight = Linear(Streams(SEEDS), inputs, outputs, "orthogonal", gain=3.0).weight / 3
        product = weight @ weight.mT if inputs < outputs else weight.mT @ weight
        expected = torch.eye(min(inputs, outputs)).expand(3, -1, -1)
        assert torch.allclose(product, expected, atol=1e-5)

    def test_orthogonal_layers_start_without_bias(self):
        assert not Linear(Streams(SEEDS), 4, 3, "orthogonal").bias.any()

    def test_convolution_filters_are_orthogonal_with_gain_root_two(self):
        for weight in Convolution(Streams(SEEDS), (36, 36, 1)).weights:
            flat = weight.flatten(2)
            expected = 2 * torch.eye(flat.shape[1]).expand(3, -1, -1)
            assert torch.allclose(flat @ flat.mT, expected, atol=1e-4)

    def test_uniform_weights_fill_the_range_of_one_over_root_inputs(self):
        layer = Linear(Streams(SEEDS), 16, 500, "uniform")
        for values in (layer.weight, layer.bias):
            assert -0.25 <= values.min() < -0.249
            assert 0.249 < values.max() < 0.25

    def test_mlp_gains_are_root_two_inside_and_as_asked_at_the_output(self):
        mlp = MLP(Streams(SEEDS), 4, (4, 4), 4, "tanh", "orthogonal", output_gain=0.01)
        gains = [layer.weight[0].norm(dim=0) for layer in (*mlp.hidden, mlp.output)]
        for gain, expected in zip(gains, (math.sqrt(2), math.sqrt(2), 0.01), strict=True):
            assert torch.allclose(gain, torch.full((4,), expected), rtol=1e-5)

    @pytest.mark.parametrize("init", ["orthogonal", "uniform"])
    def test_seeds_start_from_different_weights(self, init: str):
        weight = Linear(Streams((0, 1, 2)), 4, 3, init).weight
        assert not torch.equal(weight[0], weight[1])
        assert not torch.equal(weight[1], weight[2])

    @pytest.mark.parametrize("others", [(5,), (5, 0), (9, 2, 5, 7)], ids=str)
    def test_weights_of_a_seed_do_not_depend_on_the_seeds_beside_it(self, others: tuple[int, ...]):
        spaces = {"image": box(0, 255, (36, 36, 1), "uint8"), "vector": box(-1, 1, (3,))}
        place = others.index(5)
        for init in ("orthogonal", "uniform"):
            for make in (
                lambda streams, init=init: MLP(streams, 4, (6,), 2, init=init),
                lambda streams: Encoder(streams, spaces),
            ):
                beside, alone = make(Streams(others)), make(Streams((5,)))
                for many, one in zip(beside.parameters(), alone.parameters(), strict=True):
                    assert torch.equal(many[place], one[0])

    def test_parameters_take_the_default_precision(self):
        layers = (Linear(Streams(SEEDS), 2, 2, "uniform"), Convolution(Streams(SEEDS), (36, 36, 1)))
        assert {p.dtype for layer in layers for p in layer.parameters()} == {torch.float32}


class TestPoisonedSeed:
    """What is NaN in one seed stays in that seed, to the last bit."""

    @pytest.mark.parametrize("outputs", [2, 32])
    def test_other_seeds_of_a_linear_layer_are_untouched(self, outputs: int):
        layer = Linear(Streams(SEEDS), 6, outputs, "uniform")
        self.check(layer, noise(5, 6))

    def test_other_seeds_of_a_convolution_are_untouched(self):
        self.check(Convolution(Streams(SEEDS), (36, 40, 2)), pixels(2))

    def check(self, module: nn.Module, x: Tensor) -> None:
        clean, clean_gradients = self.run(module, x)
        with torch.no_grad():
            for parameter in module.parameters():
                parameter[1] = torch.nan
        poisoned, poisoned_gradients = self.run(module, x)
        assert poisoned[1].isnan().all()
        for before, after in zip(
            (clean, *clean_gradients), (poisoned, *poisoned_gradients), strict=True
        ):
            assert torch.equal(before[[0, 2]], after[[0, 2]])

    @staticmethod
    def run(module: nn.Module, x: Tensor) -> tuple[Tensor, tuple[Tensor, ...]]:
        outputs = module(x)
        return outputs, torch.autograd.grad((outputs**2).sum(), list(module.parameters()))


def integers(low: int, high: int, shape: tuple[int, ...]) -> Box:
    return box(low, high, shape, "int64")


class TestEncoder:
    @pytest.mark.parametrize(
        ("space", "value", "features"),
        [
            (box(-9, 9, (3,)), [1.5, -2.0, 3.0], [1.5, -2, 3]),
            (box(-9, 9, (2, 2)), [[1.0, 2.0], [3.0, 4.0]], [1, 2, 3, 4]),
            (box(0, 1, (2,), "bool"), [True, False], [1, 0]),
            (Discrete(4), 2, [0, 0, 1, 0]),
            (MultiDiscrete((2, 3)), [1, 0], [0, 1, 1, 0, 0]),
            (integers(-1, 1, (2,)), [-1, 1], [1, 0, 0, 0, 0, 1]),
            (box(0, 2, (2,), "uint8"), [0, 2], [1, 0, 0, 0, 0, 1]),
            (integers(0, 63, (1,)), [63], [0] * 63 + [1]),
            (integers(0, 64, (2,)), [7, 64], [7, 64]),
            (integers(-(2**31), 2**31 - 1, (1,)), [12], [12]),
        ],
        ids=[
            "vector",
            "matrix",
            "bool",
            "category",
            "multidiscrete",
            "symbols",
            "bytes",
            "most-symbols",
            "too-many-symbols",
            "unbounded-integers",
        ],
    )
    def test_leaf_becomes_these_features(self, space: Space, value: object, features: list[float]):
        encoder = Encoder(Streams(SEEDS), {"leaf": space})
        dtype = space.dtype if isinstance(space, Box) else np.int64
        obs = {
            "leaf": torch.from_numpy(
                np.broadcast_to(np.array(value, dtype), (3, 2, *space.shape)).copy()
            )
        }
        expected = torch.tensor(features, dtype=torch.float32).expand(3, 2, -1)
        assert encoder.outputs == len(features)
        assert torch.equal(encoder(obs), expected)

    def test_image_leaf_passes_the_convolution(self):
        encoder = Encoder(Streams(SEEDS), {"image": box(0, 255, (36, 40, 2), "uint8")})
        convolution = Convolution(Streams(SEEDS), (36, 40, 2))
        assert torch.equal(encoder({"image": pixels(3)}), convolution(pixels(3)))
        assert encoder.outputs == convolution.outputs == 64

    def test_several_leaves_are_concatenated_in_the_order_of_the_spaces(self):
        spaces = {
            "speed": box(-9, 9, (2,)),
            "image": box(0, 255, (36, 40, 2), "uint8"),
            "gear": Discrete(3),
        }
        encoder = Encoder(Streams(SEEDS), spaces)
        obs = {
            "gear": torch.full((3, 2), 1),
            "image": pixels(2),
            "speed": torch.tensor([0.5, -0.5]).expand(3, 2, 2),
        }
        features = encoder(obs)
        assert features.shape == (3, 2, encoder.outputs) == (3, 2, 2 + 64 + 3)
        assert torch.equal(features[..., :2], obs["speed"])
        assert torch.equal(features[..., 2:66], Convolution(Streams(SEEDS), (36, 40, 2))(pixels(2)))
        assert torch.equal(features[..., 66:], torch.tensor([0.0, 1.0, 0.0]).expand(3, 2, 3))

    @pytest.mark.parametrize(
        "space",
        [box(-9, 9, (3,)), Discrete(4), MultiDiscrete((2, 3)), integers(0, 1, (2, 2))],
        ids=["vector", "category", "multidiscrete", "symbols"],
    )
    def test_time_and_lanes_become_the_batch_in_that_order(self, space: Space):
        encoder = Encoder(Streams(SEEDS), {"leaf": space})
        leaf = Streams(SEEDS).integers("leaf", 2, 5, 4, *space.shape)
        if isinstance(space, Box) and space.dtype == np.float32:
            leaf = leaf.float()
        features = encoder({"leaf": leaf})
        assert features.shape == (3, 20, encoder.outputs)
        for t, e in ((0, 0), (0, 3), (4, 1)):
            step = encoder({"leaf": leaf[:, t, e : e + 1]})
            assert torch.equal(features[:, t * 4 + e], step[:, 0])

    def test_images_of_rollouts_become_the_batch_in_the_same_order(self):
        encoder = Encoder(Streams(SEEDS), {"image": box(0, 255, (36, 40, 2), "uint8")})
        image = pixels(6).unflatten(1, (2, 3))
        assert torch.allclose(
            encoder({"image": image})[:, 4], encoder({"image": image[:, 1, 1:2]})[:, 0]
        )

    def test_only_vectors_are_standardised(self):
        spaces = {"speed": box(-9, 9, (1,)), "gear": Discrete(2)}
        encoder = Encoder(Streams((0,)), spaces, normalise=True)
        obs = {"speed": torch.tensor([[[1.0], [5.0]]]), "gear": torch.tensor([[0, 1]])}
        encoder.update(obs)
        expected = torch.tensor([[[-1.0, 1.0, 0.0], [1.0, 0.0, 1.0]]])
        assert torch.allclose(encoder(obs), expected, atol=1e-6)

    def test_vectors_pass_as_they_are_unless_standardising_is_asked_for(self):
        encoder = Encoder(Streams((0,)), {"speed": box(-9, 9, (1,))})
        obs = {"speed": torch.tensor([[[1.0], [5.0]]])}
        encoder.update(obs)
        assert torch.equal(encoder(obs), obs["speed"])

    @pytest.mark.parametrize("size", [(36, 36), (36, 84), (84, 84)])
    def test_images_from_36_pixels_on_are_accepted(self, size: tuple[int, int]):
        convolution = Convolution(Streams((0,)), (*size, 1))
        features = convolution(torch.zeros(1, 1, *size, 1, dtype=torch.uint8))
        assert features.shape == (1, 1, convolution.outputs)

    @pytest.mark.parametrize("size", [(35, 36), (36, 35), (7, 7)])
    def test_smaller_images_are_refused(self, size: tuple[int, int]):
        with pytest.raises(ValueError, match="at least 36 x 36 pixels"):
            Encoder(Streams((0,)), {"image": box(0, 255, (*size, 3), "uint8")})

    @pytest.mark.parametrize("name", ["values", "type", "left.wheel", ""])
    def test_leaves_may_have_any_name(self, name: str):
        encoder = Encoder(Streams((0,)), {name: box(-1, 1, (2,))}, normalise=True)
        assert encoder({name: torch.ones(1, 1, 2)}).tolist() == [[[1.0, 1.0]]]
