"""Batched networks are S separate networks, forward and backward."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from baselines.parts.layers import MLP, Embedding, Impala, PlainConvolutions
from baselines.parts.networks import EMBEDDING, NATURE, SMALL, Encoder, EncoderOptions
from suite.spaces import Box, Discrete, MultiDiscrete, Space, Text, box
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


def separate_mlp(x: Tensor, packed: Tensor, mlp: MLP, activation: str) -> Tensor:
    """One seed's network, layer by layer, from its row ``[P]`` of parameters."""
    function = {"tanh": torch.tanh, "relu": torch.relu}[activation]
    start = 0
    for index, (inputs, outputs) in enumerate(mlp.shapes):
        weight = packed[start : start + inputs * outputs].view(outputs, inputs)
        start += inputs * outputs
        x = F.linear(x, weight, packed[start : start + outputs])
        start += outputs
        x = function(x) if index < mlp.num_active else x
    assert start == len(packed)
    return x


def separate_nature(image: Tensor, parameters: list[Tensor]) -> Tensor:
    x = image
    for weight, bias, stride in zip(parameters[:3], parameters[3:], (4, 2, 1), strict=True):
        x = torch.relu(F.conv2d(x, weight, bias, stride=stride))
    return x.flatten(1)


def separate_impala(image: Tensor, parameters: list[Tensor]) -> Tensor:
    pairs = list(zip(parameters[:15], parameters[15:], strict=True))
    x = image
    for block in (pairs[:5], pairs[5:10], pairs[10:]):
        x = F.conv2d(x, *block[0], padding=1)
        x = F.max_pool2d(x, 3, 2, 1)
        for first, second in (block[1:3], block[3:5]):
            inner = F.conv2d(torch.relu(x), *first, padding=1)
            x = x + F.conv2d(torch.relu(inner), *second, padding=1)
    return torch.relu(x).flatten(1)


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
    @pytest.mark.parametrize("twice", [False, True], ids=["fast", "twice-differentiable"])
    @pytest.mark.parametrize("outputs", [1, 9, None])
    @pytest.mark.parametrize("activation", ["tanh", "relu"])
    @pytest.mark.parametrize("hidden", [(7,), (16, 4)])
    def test_mlp_equals_separate_networks(
        self, activation: str, hidden: tuple[int, ...], outputs: int | None, twice: bool
    ):
        mlp = MLP(
            Streams(SEEDS), 5, hidden, outputs, activation, "uniform", twice_differentiable=twice
        )
        assert mlp.outputs == (outputs or hidden[-1])
        assert_equals_separate(
            mlp, noise(7, 5), lambda x, p: separate_mlp(x, p[0], mlp, activation)
        )

    def test_mlp_without_hidden_layers_is_affine(self):
        mlp = MLP(Streams(SEEDS), 6, (), 2)
        assert_equals_separate(mlp, noise(5, 6), lambda x, p: separate_mlp(x, p[0], mlp, "relu"))

    def test_nature_equals_separate_convolutions(self):
        convolutions = PlainConvolutions(Streams(SEEDS), NATURE, (2, 36, 40))
        assert_equals_separate(convolutions, noise(3, 2, 36, 40), separate_nature)

    def test_impala_equals_separate_convolutions(self):
        convolutions = Impala(Streams(SEEDS), (2, 13, 16))
        assert convolutions.outputs == 32 * 2 * 2
        assert_equals_separate(convolutions, noise(2, 2, 13, 16), separate_impala)

    @pytest.mark.parametrize(
        "make",
        [
            lambda streams: PlainConvolutions(streams, SMALL, (2, 9, 8)),
            lambda streams: Impala(streams, (2, 9, 8)),
        ],
        ids=["plain", "impala"],
    )
    def test_one_grouped_call_gives_what_one_call_per_seed_gives(self, make):
        """The GPU's way, here on the CPU."""
        convolutions, x = make(Streams(SEEDS)), noise(3, 2, 9, 8)
        y = convolutions.apply_layers(
            x.transpose(0, 1).flatten(1, 2),
            [weight.flatten(0, 1) for weight in convolutions.weights],
            [bias.flatten() for bias in convolutions.biases],
            groups=3,
        )
        assert close(y.reshape(3, 3, -1).transpose(0, 1), convolutions(x))

    def test_embedding_equals_separate_tables(self):
        symbols = Streams(SEEDS).integers("symbols", 7, 4, 2)
        assert_equals_separate(
            Embedding(Streams(SEEDS), 7, 5), symbols, lambda x, p: F.embedding(x, p[0])
        )


@pytest.mark.usefixtures("float64")
class TestDerivatives:
    @pytest.mark.parametrize("activation", ["tanh", "relu"])
    def test_backward_pass_agrees_with_finite_differences(self, activation: str):
        mlp = MLP(Streams(SEEDS), 3, (4,), 2, activation)
        x = noise(2, 3).requires_grad_()
        packed = mlp.packed.detach().clone().requires_grad_()

        def function(x: Tensor, packed: Tensor) -> Tensor:
            return torch.func.functional_call(mlp, {"packed": packed}, (x,))

        assert torch.autograd.gradcheck(function, (x, packed))

    def test_no_gradient_is_formed_for_frozen_parameters(self):
        mlp = MLP(Streams(SEEDS), 3, (4,), 2).requires_grad_(False)
        x = noise(2, 3).requires_grad_()
        mlp(x).sum().backward()
        assert x.grad is not None
        assert mlp.packed.grad is None

    def test_hessian_vector_product_equals_that_of_separate_networks(self):
        mlp = MLP(Streams(SEEDS), 3, (4,), 2, "tanh", "orthogonal", twice_differentiable=True)
        x, vector = noise(6, 3), noise(mlp.packed.shape[1], role="vector")
        product = curvature(mlp(x), mlp.packed, vector)
        for s in range(len(SEEDS)):
            (alone,) = row(mlp, s)
            expected = curvature(separate_mlp(x[s], alone, mlp, "tanh"), alone, vector[s])
            assert close(product[s], expected)

    def test_the_fast_path_refuses_to_be_differentiated_twice(self):
        mlp = MLP(Streams(SEEDS), 3, (4,), 2, "tanh")
        with pytest.raises(RuntimeError):
            curvature(mlp(noise(6, 3)), mlp.packed, noise(mlp.packed.shape[1]))


def curvature(outputs: Tensor, parameters: Tensor, vector: Tensor) -> Tensor:
    (gradient,) = torch.autograd.grad((outputs**2).sum(), parameters, create_graph=True)
    return torch.autograd.grad((gradient * vector).sum(), parameters)[0]


def test_fast_tanh_equals_tanh_in_value_and_gradient():
    x = torch.cat([torch.linspace(-12, 12, 2001), torch.tensor([-1e30, -1e-6, 0.0, 1e-6, 1e30])])
    ours = x.view(1, -1, 1).clone().requires_grad_()
    reference = x.clone().requires_grad_()
    mlp = MLP(Streams((0,)), 1, (1,), None, "tanh")
    with torch.no_grad():
        mlp.packed.copy_(torch.tensor([[1.0, 0.0]]))
    value, expected = mlp(ours), torch.tanh(reference)
    value.sum().backward()
    expected.sum().backward()
    assert (value.flatten() - expected).abs().max() < 1e-6
    assert (ours.grad.flatten() - reference.grad).abs().max() < 1e-6


class TestInitialWeights:
    @pytest.mark.parametrize(("inputs", "outputs"), [(12, 5), (5, 12), (7, 7)])
    def test_orthogonal_columns_or_rows_are_orthonormal_up_to_the_gain(
        self, inputs: int, outputs: int
    ):
        weight, _ = only_layer(MLP(Streams(SEEDS), inputs, (), outputs, "relu", "orthogonal", 3.0))
        product = weight @ weight.mT if inputs < outputs else weight.mT @ weight
        expected = 9 * torch.eye(min(inputs, outputs)).expand(3, -1, -1)
        assert torch.allclose(product, expected, atol=1e-4)

    def test_orthogonal_layers_start_without_bias(self):
        _, bias = only_layer(MLP(Streams(SEEDS), 4, (), 3, init="orthogonal"))
        assert not bias.any()

    def test_convolution_filters_are_orthogonal_with_gain_root_two(self):
        for weight in PlainConvolutions(Streams(SEEDS), NATURE, (1, 36, 36)).weights:
            flat = weight.flatten(2)
            expected = 2 * torch.eye(flat.shape[1]).expand(3, -1, -1)
            assert torch.allclose(flat @ flat.mT, expected, atol=1e-4)

    def test_uniform_weights_fill_the_range_of_one_over_root_inputs(self):
        for values in only_layer(MLP(Streams(SEEDS), 16, (), 500)):
            assert -0.25 <= values.min() < -0.249
            assert 0.249 < values.max() < 0.25

    def test_mlp_gains_are_root_two_inside_and_as_asked_at_the_output(self):
        mlp = MLP(Streams(SEEDS), 4, (4, 4), 4, "tanh", "orthogonal", output_gain=0.01)
        gains = [weight[0].norm(dim=0) for weight, _ in mlp.layers(mlp.packed)]
        for gain, expected in zip(gains, (math.sqrt(2), math.sqrt(2), 0.01), strict=True):
            assert torch.allclose(gain, torch.full((4,), expected), rtol=1e-5)

    @pytest.mark.parametrize("init", ["orthogonal", "uniform"])
    def test_seeds_start_from_different_weights(self, init: str):
        weight, _ = only_layer(MLP(Streams((0, 1, 2)), 4, (), 3, init=init))
        assert not torch.equal(weight[0], weight[1])
        assert not torch.equal(weight[1], weight[2])

    @pytest.mark.parametrize("others", [(5,), (5, 0), (9, 2, 5, 7)], ids=str)
    def test_weights_of_a_seed_do_not_depend_on_the_seeds_beside_it(self, others: tuple[int, ...]):
        spaces = {
            "image": box(0, 255, (36, 36, 1), "uint8"),
            "vector": box(-1, 1, (3,)),
            "map": box(0, 5, (4, 4), "uint8"),
            "words": Text(4, 9),
        }
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
        layers = (
            MLP(Streams(SEEDS), 2, (2,), 2),
            PlainConvolutions(Streams(SEEDS), NATURE, (1, 36, 36)),
            Embedding(Streams(SEEDS), 2, 2),
        )
        assert {p.dtype for layer in layers for p in layer.parameters()} == {torch.float32}


class TestPoisonedSeed:
    """What is NaN in one seed stays in that seed, to the last bit."""

    @pytest.mark.parametrize("outputs", [2, 32])
    @pytest.mark.parametrize("activation", ["tanh", "relu"])
    def test_other_seeds_of_a_network_are_untouched(self, outputs: int, activation: str):
        self.check(MLP(Streams(SEEDS), 6, (8,), outputs, activation), noise(5, 6))

    def test_other_seeds_of_a_convolution_are_untouched(self):
        self.check(PlainConvolutions(Streams(SEEDS), NATURE, (2, 36, 40)), noise(2, 2, 36, 40))

    def test_other_seeds_of_an_embedding_are_untouched(self):
        symbols = Streams(SEEDS).integers("symbols", 7, 4)
        self.check(Embedding(Streams(SEEDS), 7, 5), symbols)

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


def only_layer(mlp: MLP) -> tuple[Tensor, Tensor]:
    """Weight ``[S, in, out]`` and bias ``[S, 1, out]``."""
    (layer,) = mlp.layers(mlp.packed.detach())
    return layer


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
            (integers(0, 1023, (1,)), [1023], [0] * 1023 + [1]),
            (integers(0, 1 << 15, (2,)), [7, 1 << 15], [7, 1 << 15]),
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

    def test_image_leaf_passes_the_convolutions_and_a_dense_layer(self):
        options = EncoderOptions(features=6)
        encoder = Encoder(Streams(SEEDS), {"image": box(0, 255, (36, 40, 2), "uint8")}, options)
        image = pixels(3)
        streams = Streams(SEEDS)
        convolutions = PlainConvolutions(streams, NATURE, (2, 36, 40))
        dense = MLP(streams, 64, (6,), None, init="orthogonal")
        expected = dense(convolutions(image.permute(0, 1, 4, 2, 3) / 255))
        assert torch.allclose(encoder({"image": image}), expected, atol=1e-6)
        assert encoder.outputs == 6

    @pytest.mark.parametrize("network", ["nature", "impala"])
    @pytest.mark.parametrize("size", [(84, 84), (36, 35), (7, 7), (3, 5)])
    def test_images_of_any_size_are_read(self, size: tuple[int, int], network: str):
        spaces = {"image": box(0, 255, (*size, 3), "uint8")}
        encoder = Encoder(Streams((0,)), spaces, EncoderOptions(network, features=8))
        black = torch.zeros(1, 1, *size, 3, dtype=torch.uint8)
        white = torch.full_like(black, 255)
        assert encoder({"image": white}).shape == (1, 1, 8)
        assert not torch.equal(encoder({"image": white}), encoder({"image": black}))

    @pytest.mark.parametrize("shape", [(7, 7, 3), (9, 9), (21, 79)], ids=str)
    def test_every_cell_of_a_grid_matters(self, shape: tuple[int, ...]):
        spaces = {"map": box(0, 5, shape, "uint8")}
        encoder = Encoder(Streams((0,)), spaces, EncoderOptions(features=64))
        empty = torch.zeros(1, 1, *shape, dtype=torch.uint8)
        for place in ((0, 0), (shape[0] - 1, shape[1] - 1), (shape[0] // 2, 3)):
            marked = empty.clone()
            marked[0, 0][place] = 5
            assert not torch.equal(encoder({"map": marked}), encoder({"map": empty}))

    def test_symbols_on_the_same_cells_are_embedded_by_tables_of_their_own_and_added(self):
        low, high = np.zeros((2, 2, 2), np.uint8), np.zeros((2, 2, 2), np.uint8)
        high[..., 0], high[..., 1] = 3, 1
        spaces = {"kind": Box(low, high, np.dtype("uint8")), "depth": integers(-2, 1, (2, 2))}
        encoder = Encoder(Streams(SEEDS), spaces, EncoderOptions(features=8))
        kind = torch.tensor([[[3, 0], [1, 1]], [[0, 1], [2, 0]]], dtype=torch.uint8)
        obs = {"kind": kind.expand(3, 1, 2, 2, 2), "depth": torch.full((3, 1, 2, 2), -1)}
        streams = Streams(SEEDS)
        table = streams.normal("parameters", 4 + 2 + 4, EMBEDDING)
        convolutions = PlainConvolutions(
            streams, ((EMBEDDING, 3, 1, 1), *SMALL[1:]), (EMBEDDING, 2, 2)
        )
        dense = MLP(streams, convolutions.outputs, (8,), None, init="orthogonal")
        cells = table[:, kind[..., 0].long()] + table[:, 4 + kind[..., 1].long()]
        cells = cells + table[:, 6 + 1].view(3, 1, 1, EMBEDDING)  # [S, H, W, EMBEDDING]
        expected = dense(convolutions(cells.unsqueeze(1).movedim(-1, 2)))
        assert torch.allclose(encoder(obs), expected, atol=1e-5)
        assert encoder.outputs == 8

    def test_grids_of_other_sizes_are_read_apart(self):
        spaces = {"map": integers(0, 3, (4, 4)), "crop": integers(0, 3, (3, 3))}
        assert Encoder(Streams((0,)), spaces, EncoderOptions(features=8)).outputs == 16

    def test_the_order_of_words_matters_and_padding_behind_does_not(self):
        encoder = Encoder(Streams(SEEDS), {"text": Text(6, 9)}, EncoderOptions(features=64))

        def read(*words: int) -> Tensor:
            return encoder({"text": torch.tensor(words, dtype=torch.uint8).expand(3, 1, -1)})

        assert encoder.outputs == 8
        assert not torch.equal(read(1, 2, 3, 0, 0, 0), read(3, 2, 1, 0, 0, 0))
        assert torch.equal(read(1, 2, 3, 0, 0, 0), read(1, 2, 3, 0, 0, 0, 0, 0))

    def test_long_rows_of_symbols_are_read_like_a_text(self):
        encoder = Encoder(Streams(SEEDS), {"bag": integers(-1, 99, (55,))})
        bag = torch.full((3, 2, 55), -1)
        assert encoder({"bag": bag}).shape == (3, 2, encoder.outputs)
        bag[:, 1, 7] = 99
        features = encoder({"bag": bag})
        assert not torch.equal(features[:, 0], features[:, 1])

    def test_several_leaves_are_concatenated_in_the_order_of_the_spaces(self):
        spaces = {
            "speed": box(-9, 9, (2,)),
            "image": box(0, 255, (36, 40, 2), "uint8"),
            "gear": Discrete(3),
        }
        options = EncoderOptions(features=6)
        encoder = Encoder(Streams(SEEDS), spaces, options)
        obs = {
            "gear": torch.full((3, 2), 1),
            "image": pixels(2),
            "speed": torch.tensor([0.5, -0.5]).expand(3, 2, 2),
        }
        features = encoder(obs)
        image = Encoder(Streams(SEEDS), {"image": spaces["image"]}, options)
        assert features.shape == (3, 2, encoder.outputs) == (3, 2, 2 + 6 + 3)
        assert torch.equal(features[..., :2], obs["speed"])
        assert torch.equal(features[..., 2:8], image(obs))
        assert torch.equal(features[..., 8:], torch.tensor([0.0, 1.0, 0.0]).expand(3, 2, 3))

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
            assert torch.allclose(features[:, t * 4 + e], step[:, 0], atol=1e-6)

    def test_images_of_rollouts_become_the_batch_in_the_same_order(self):
        encoder = Encoder(Streams(SEEDS), {"image": box(0, 255, (36, 40, 2), "uint8")})
        image = pixels(6).unflatten(1, (2, 3))
        features, alone = encoder({"image": image}), encoder({"image": image[:, 1, 1:2]})
        assert torch.allclose(features[:, 4], alone[:, 0], atol=1e-6)

    def test_only_vectors_are_standardised(self):
        spaces = {"speed": box(-9, 9, (1,)), "gear": Discrete(2)}
        encoder = Encoder(Streams((0,)), spaces, EncoderOptions(vectors="moments"))
        obs = {"speed": torch.tensor([[[1.0], [5.0]]]), "gear": torch.tensor([[0, 1]])}
        encoder.update(obs)
        expected = torch.tensor([[[-1.0, 1.0, 0.0], [1.0, 0.0, 1.0]]])
        assert torch.allclose(encoder(obs), expected, atol=1e-6)

    def test_vectors_pass_as_they_are_unless_standardising_is_asked_for(self):
        encoder = Encoder(Streams((0,)), {"speed": box(-9, 9, (1,))})
        obs = {"speed": torch.tensor([[[1.0], [5.0]]])}
        encoder.update(obs)
        assert torch.equal(encoder(obs), obs["speed"])

    def test_symlog_squashes_both_signs(self):
        encoder = Encoder(
            Streams((0,)), {"gold": box(-9, 9, (3,))}, EncoderOptions(vectors="symlog")
        )
        features = encoder({"gold": torch.tensor([[[0.0, math.e - 1, 1 - math.e**3]]])})
        assert torch.allclose(features, torch.tensor([[[0.0, 1.0, -3.0]]]), atol=1e-5)

    @pytest.mark.parametrize("name", ["values", "type", "left.wheel", ""])
    def test_leaves_may_have_any_name(self, name: str):
        options = EncoderOptions(vectors="moments")
        encoder = Encoder(Streams((0,)), {name: box(-1, 1, (2,))}, options)
        assert encoder({name: torch.ones(1, 1, 2)}).tolist() == [[[1.0, 1.0]]]
