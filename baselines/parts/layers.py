"""Layers of S networks at once: parameters ``[S, ...]``, features ``[S, B, F]``.

They are ordinary modules that multiply in batches, so that optimisers and state dicts are ordinary
too. Nothing here draws random numbers except at construction, from the streams.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Any, Literal, NamedTuple, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from suite.streams import Streams

Initialiser = Literal["orthogonal", "uniform"]
Activation = Literal["tanh", "relu"]


class MLP(nn.Module):
    """Affine layers with an activation between them: ``[S, B, in] -> [S, B, out]``.

    All of a seed's weights and biases are one row of ``packed [S, P]``, layer after layer, each
    weight output-major: multiplying by few outputs is up to nine times faster that way.

    Args:
        streams: the ``"parameters"`` role gives each seed its own initial weights.
        inputs: features in.
        hidden: outputs of the layers that an activation follows.
        outputs: of the last layer, which has none; None: the last hidden layer is the last one.
        activation: nonlinearity.
        init: ``orthogonal`` (Saxe et al. 2014; gain sqrt(2), zero bias), or ``uniform`` in
            ``+-1/sqrt(in)`` for weight and bias, PyTorch's own default.
        output_gain: gain of the last layer's orthogonal initialisation.
        twice_differentiable: Fisher-vector products differentiate a gradient once more, which the
            faster path cannot.
    """

    def __init__(
        self,
        streams: Streams,
        inputs: int,
        hidden: Sequence[int],
        outputs: int | None,
        activation: Activation = "relu",
        init: Initialiser = "uniform",
        output_gain: float = 1.0,
        twice_differentiable: bool = False,
    ) -> None:
        super().__init__()
        sizes = [inputs, *hidden] + ([] if outputs is None else [outputs])
        self.shapes = list(pairwise(sizes))
        self.num_active = len(hidden)
        """Layers that an activation follows."""
        self.activation = _ACTIVATIONS[activation]
        self.twice_differentiable = twice_differentiable
        rows: list[Tensor] = []
        for index, (size, following) in enumerate(self.shapes):
            gain = 2**0.5 if index < self.num_active else output_gain
            rows += _initial(streams, size, following, init, gain)
        packed = torch.cat([row.flatten(1) for row in rows], dim=1)
        self.packed = nn.Parameter(packed.to(torch.get_default_dtype()))
        self._place: tuple[int, int] | None = None
        self._views: list[tuple[Tensor, Tensor]] = []

    @property
    def outputs(self) -> int:
        return self.shapes[-1][1]

    def layers(self, packed: Tensor) -> list[tuple[Tensor, Tensor]]:
        """Views of ``packed [S, P]``: a weight ``[S, in, out]`` and a bias ``[S, 1, out]`` each."""
        (seeds, _), row = packed.shape, packed.stride(0)
        start, views = packed.storage_offset(), []
        for inputs, outputs in self.shapes:
            weight = packed.as_strided((seeds, inputs, outputs), (row, 1, inputs), start)
            start += inputs * outputs
            views.append((weight, packed.as_strided((seeds, 1, outputs), (row, outputs, 1), start)))
            start += outputs
        return views

    def fixed_layers(self) -> list[tuple[Tensor, Tensor]]:
        """``layers`` of the parameters without their gradients, kept until the parameters move."""
        place = self.packed.data_ptr(), self.packed.stride(0)
        if place != self._place:
            self._place, self._views = place, self.layers(self.packed.detach())
        return self._views

    def forward(self, x: Tensor) -> Tensor:
        if self.twice_differentiable:
            for index, (weight, bias) in enumerate(self.layers(self.packed)):
                x = torch.baddbmm(bias, x, weight)
                if index < self.num_active:
                    x = self.activation.plain(x)
            return x
        if torch.is_grad_enabled():
            return cast(Tensor, _Forward.apply(x, self.packed, self))
        return _Forward.forward(None, x, self.packed, self)


class _Forward(torch.autograd.Function):
    """An MLP as one step of autograd, which costs less than its layers' dozen."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, packed: Tensor, network: MLP) -> Tensor:
        inputs = []
        for index, (weight, bias) in enumerate(network.fixed_layers()):
            inputs.append(x)
            if index < network.num_active:
                x = network.activation.affine(bias, x, weight)
            else:
                x = torch.baddbmm(bias, x, weight)
        if ctx is not None:
            ctx.save_for_backward(packed, x, *inputs)  # packed: an error if it changes meanwhile
            ctx.network = network
        return x

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, Tensor | None, None]:
        packed, output, *inputs = ctx.saved_tensors
        network = ctx.network
        wants_input, wants_packed, _ = ctx.needs_input_grad
        gradient = torch.empty_like(packed) if wants_packed else None
        places = network.layers(gradient) if wants_packed else []
        layers = network.fixed_layers()
        for index in reversed(range(len(layers))):
            if index < network.num_active:
                after = output if index == len(layers) - 1 else inputs[index + 1]
                grad = network.activation.gradient(grad, after)
            if wants_packed:
                weight, bias = places[index]
                if weight.shape[1] < weight.shape[2]:  # the kernel is faster with a long last side
                    weight.copy_(torch.bmm(inputs[index].mT, grad))
                else:
                    torch.bmm(grad.mT, inputs[index], out=weight.mT)
                torch.sum(grad, 1, keepdim=True, out=bias)
            if index or wants_input:
                grad = torch.bmm(grad, layers[index][0].mT)
        return (grad if wants_input else None), gradient, None


class _Nonlinearity(NamedTuple):
    """How an activation is computed."""

    plain: Callable[[Tensor], Tensor]
    """By PyTorch, differentiable as often as wanted."""
    affine: Callable[[Tensor, Tensor, Tensor], Tensor]
    """``activation(bias + x @ weight)`` in few passes over memory."""
    gradient: Callable[[Tensor, Tensor], Tensor]
    """Gradient before the activation, from the one after it and the activation's value."""


def _tanh_affine(bias: Tensor, x: Tensor, weight: Tensor) -> Tensor:
    """tanh(z) as 2 sigmoid(2z) - 1: the CPU's vectorised sigmoid takes a ninth of tanh's time."""
    y = torch.baddbmm(bias, x, weight, beta=2, alpha=2).sigmoid_()
    return torch.rsub(y, -1, alpha=-2)  # 2 y - 1 in one pass


def _relu_affine(bias: Tensor, x: Tensor, weight: Tensor) -> Tensor:
    return torch.baddbmm(bias, x, weight).relu_()


_ACTIVATIONS = {
    "tanh": _Nonlinearity(torch.tanh, _tanh_affine, torch.ops.aten.tanh_backward),
    "relu": _Nonlinearity(
        torch.relu, _relu_affine, lambda grad, y: torch.ops.aten.threshold_backward(grad, y, 0)
    ),
}


def _initial(
    streams: Streams, inputs: int, outputs: int, init: Initialiser, gain: float
) -> tuple[Tensor, Tensor]:
    """Weight ``[S, out, in]`` and bias ``[S, out]`` of an affine layer."""
    if init == "orthogonal":
        weight = gain * _orthogonal(streams.normal("parameters", inputs, outputs))
        return weight.mT, weight.new_zeros(weight.shape[0], outputs)
    limit = inputs**-0.5
    weight = limit * (2 * streams.uniform("parameters", inputs, outputs) - 1)
    return weight.mT, limit * (2 * streams.uniform("parameters", outputs) - 1)


def _orthogonal(noise: Tensor) -> Tensor:
    """Orthonormal rows or columns ``[S, in, out]``, whichever are fewer, from normal noise.

    On the CPU, so that a run begins with the same weights on every device.
    """
    device, noise = noise.device, noise.cpu()
    tall = noise if noise.shape[1] >= noise.shape[2] else noise.mT
    q, r = torch.linalg.qr(tall)
    q = q * r.diagonal(dim1=1, dim2=2).sign().unsqueeze(1)  # makes the distribution uniform
    return (q if noise.shape[1] >= noise.shape[2] else q.mT).contiguous().to(device)


class Embedding(nn.Module):
    """S tables that give each of V symbols a vector: integers ``[S, ...]`` to ``[S, ..., F]``."""

    def __init__(self, streams: Streams, symbols: int, size: int) -> None:
        super().__init__()
        table = streams.normal("parameters", symbols, size)
        self.table = nn.Parameter(table.to(torch.get_default_dtype()))

    def forward(self, symbols: Tensor) -> Tensor:
        return self.total(symbols.unsqueeze(-1))

    def total(self, symbols: Tensor) -> Tensor:
        """Sum of the vectors of symbols that lie together, ``[S, ..., C]`` to ``[S, ..., F]``."""
        seeds, count, size = self.table.shape
        offset = torch.arange(seeds, device=symbols.device) * count
        index = symbols.long() + offset.view(-1, *[1] * (symbols.ndim - 1))
        rows = _SumOfRows.apply(index.flatten(0, -2), self.table.flatten(0, 1))
        return cast(Tensor, rows.view(*symbols.shape[:-1], size))


class _SumOfRows(torch.autograd.Function):
    """Rows of a table ``[V, F]`` summed over the columns of an index ``[N, C]``: ``[N, F]``.

    Looking the rows up and adding them, as PyTorch's own operations do it, takes five times as long
    on maps such as NetHack's (forward and backward).
    """

    @staticmethod
    def forward(ctx: Any, index: Tensor, table: Tensor) -> Tensor:
        ctx.save_for_backward(index)
        ctx.rows = len(table)
        return F.embedding_bag(index, table, mode="sum")

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[None, Tensor]:
        (index,) = ctx.saved_tensors
        gradient = grad.new_zeros(ctx.rows, grad.shape[1])
        for column in index.unbind(1):
            gradient.index_add_(0, column, grad)
        return None, gradient


class Convolutions(nn.Module):
    """A stack of convolutions for S seeds, ``[S, B, C, H, W] -> [S, B, F]``; see subclasses.

    On the CPU the seeds take turns: one kernel call per seed and layer takes a third to a half of
    the time of one grouped call for all (Nature's network: 2,200 against 780 to 1,100 images per
    second and thread, forward and backward). On a GPU the seeds are groups of channels, one call
    per layer, except where ``grouped`` is false. Either way each seed's numbers are its own.
    """

    grouped = True
    """Whether a GPU is faster with one call for all seeds (H200, Nature, 256 images of 5 seeds,
    forward and backward: 4.1 against 7.3 ms)."""

    def __init__(self) -> None:
        super().__init__()
        self.weights = nn.ParameterList()
        self.biases = nn.ParameterList()
        self.outputs = 0
        """F, set by the subclass."""

    def add(self, streams: Streams, inputs: int, outputs: int, kernel: int) -> None:
        """Append a layer; its weights are orthogonal, its biases zero."""
        noise = streams.normal("parameters", outputs, inputs * kernel * kernel)
        weight = (2**0.5 * _orthogonal(noise)).unflatten(2, (inputs, kernel, kernel))
        dtype = torch.get_default_dtype()
        self.weights.append(nn.Parameter(weight.to(dtype)))
        self.biases.append(nn.Parameter(weight.new_zeros(weight.shape[:2], dtype=dtype)))

    def forward(self, x: Tensor) -> Tensor:
        seeds, batch = x.shape[:2]
        if x.device.type == "cpu" or not self.grouped:
            rows = zip(
                x.unbind(),
                zip(*(weight.unbind() for weight in self.weights), strict=True),
                zip(*(bias.unbind() for bias in self.biases), strict=True),
                strict=True,
            )
            return torch.stack([self.apply_layers(*row, groups=1).flatten(1) for row in rows])
        weights = [weight.flatten(0, 1) for weight in self.weights]
        biases = [bias.flatten() for bias in self.biases]
        together = x.transpose(0, 1).flatten(1, 2)  # [B, S * C, H, W]
        y = self.apply_layers(together, weights, biases, groups=seeds)
        return y.reshape(batch, seeds, -1).transpose(0, 1)

    def apply_layers(
        self, x: Tensor, weights: Sequence[Tensor], biases: Sequence[Tensor], groups: int
    ) -> Tensor:
        """All layers on ``[B, groups * C, H, W]``."""
        raise NotImplementedError


class PlainConvolutions(Convolutions):
    """Convolutions with a ReLU after each.

    Args:
        layers: channels, kernel width, stride and padding of each.
        shape: C, H, W of the input.

    Raises:
        ValueError: a kernel is wider than what it is moved over.
    """

    def __init__(
        self,
        streams: Streams,
        layers: Sequence[tuple[int, int, int, int]],
        shape: tuple[int, int, int],
    ) -> None:
        super().__init__()
        self.layers = tuple(layers)
        channels, height, width = shape
        for outputs, kernel, stride, padding in layers:
            if min(height, width) + 2 * padding < kernel:
                raise ValueError(f"a kernel of {kernel} does not fit {height} x {width} cells")
            self.add(streams, channels, outputs, kernel)
            channels = outputs
            height = (height + 2 * padding - kernel) // stride + 1
            width = (width + 2 * padding - kernel) // stride + 1
        self.outputs = channels * height * width

    def apply_layers(
        self, x: Tensor, weights: Sequence[Tensor], biases: Sequence[Tensor], groups: int
    ) -> Tensor:
        for weight, bias, (_, _, stride, padding) in zip(weights, biases, self.layers, strict=True):
            x = F.conv2d(x, weight, bias, stride, padding, groups=groups).relu_()
        return x


class Impala(Convolutions):
    """The residual network of Espeholt et al. 2018 (IMPALA): three blocks of 16, 32, 32 channels.

    A block: a convolution, max-pooling by 2, and two residual units of two convolutions each.
    Nothing bounds what comes out, which begins near 18 per dense feature on Procgen's screens
    (Nature's network on Atari's: 0.3 to 0.6). On-policy algorithms bound it; others do not.
    """

    BLOCKS = (16, 32, 32)
    grouped = False  # measured likewise: 77 ms in one call, 36 in turns

    def __init__(self, streams: Streams, shape: tuple[int, int, int]) -> None:
        super().__init__()
        channels, height, width = shape
        for outputs in self.BLOCKS:
            for inputs in (channels, *[outputs] * 4):
                self.add(streams, inputs, outputs, 3)
            channels = outputs
            height, width = math.ceil(height / 2), math.ceil(width / 2)
        self.outputs = channels * height * width

    def apply_layers(
        self, x: Tensor, weights: Sequence[Tensor], biases: Sequence[Tensor], groups: int
    ) -> Tensor:
        layers = iter(zip(weights, biases, strict=True))
        for _ in self.BLOCKS:
            x = F.conv2d(x, *next(layers), padding=1, groups=groups)
            x = F.max_pool2d(x, kernel_size=3, stride=2, padding=1)
            for _ in range(2):
                y = F.conv2d(torch.relu(x), *next(layers), padding=1, groups=groups)
                x = x + F.conv2d(y.relu_(), *next(layers), padding=1, groups=groups)
        return torch.relu(x)
