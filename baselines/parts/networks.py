"""Networks for S seeds at once: parameters are ``[S, in, out]``, features ``[S, B, F]``.

Layers are ordinary modules that multiply in batches, so that optimisers and state dicts are
ordinary too. Nothing here draws random numbers except at construction, from the streams.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import cache
from itertools import pairwise
from typing import Any, Literal, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from baselines.parts.normalise import RunningMoments
from suite.spaces import Box, Discrete, MultiDiscrete, Space, leaf_kind
from suite.steps import Observation
from suite.streams import Streams

Initialiser = Literal["orthogonal", "uniform"]
Activation = Literal["tanh", "relu"]

NARROW = 8
"""Layers with at most this many outputs multiply in the other memory order, see _NarrowLinear."""

MAX_SYMBOLS = 64
"""Integer arrays of at most this many different values become one-hot; others stay numbers."""


class _Tanh(torch.autograd.Function):
    """tanh as 2 sigmoid(2x) - 1: the CPU's vectorised sigmoid takes a ninth of tanh's time."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        y = torch.sigmoid(x + x).mul_(2).sub_(1)
        if ctx is not None:
            ctx.save_for_backward(y)
        return y

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Tensor:
        (y,) = ctx.saved_tensors
        return torch.ops.aten.tanh_backward(grad, y)


class _NarrowLinear(torch.autograd.Function):
    """x @ weight + bias for few outputs.

    Batched multiplication by ``[in, 1]`` matrices is up to nine times faster when they are stored
    output-major, and so is the gradient of the weights when computed as its transpose.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        if ctx is not None:
            ctx.save_for_backward(x, weight)
        return torch.baddbmm(bias, x, weight.mT.contiguous().mT)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        x, weight = ctx.saved_tensors
        return torch.bmm(grad, weight.mT), torch.bmm(grad.mT, x).mT, grad.sum(1, keepdim=True)


def _call(function: type[torch.autograd.Function], *inputs: Tensor) -> Tensor:
    """Apply a function of ours; without gradients, skip what autograd adds to its cost."""
    if torch.is_grad_enabled():
        return cast(Tensor, function.apply(*inputs))
    return cast(Tensor, function.forward(None, *inputs))


def _tanh(x: Tensor) -> Tensor:
    return _call(_Tanh, x)


ACTIVATIONS: Mapping[str, Callable[[Tensor], Tensor]] = {"tanh": _tanh, "relu": torch.relu}


class Linear(nn.Module):
    """S affine layers side by side: ``[S, B, in] -> [S, B, out]``.

    Args:
        streams: the ``"parameters"`` role gives each seed its own initial weights.
        init: ``orthogonal`` (Saxe et al. 2014; zero bias) with ``gain``, or ``uniform`` in
            ``+-1/sqrt(in)`` for weight and bias, PyTorch's own default.
    """

    def __init__(
        self, streams: Streams, inputs: int, outputs: int, init: Initialiser, gain: float = 1.0
    ) -> None:
        super().__init__()
        if init == "orthogonal":
            weight = gain * _orthogonal(streams.normal("parameters", inputs, outputs))
            bias = weight.new_zeros(weight.shape[0], 1, outputs)
        else:
            limit = inputs**-0.5
            weight = limit * (2 * streams.uniform("parameters", inputs, outputs) - 1)
            bias = limit * (2 * streams.uniform("parameters", 1, outputs) - 1)
        dtype = torch.get_default_dtype()
        self.weight = nn.Parameter(weight.to(dtype))
        self.bias = nn.Parameter(bias.to(dtype))

    def forward(self, x: Tensor) -> Tensor:
        if self.weight.shape[2] <= NARROW:
            return _call(_NarrowLinear, x, self.weight, self.bias)
        return torch.baddbmm(self.bias, x, self.weight)


def _orthogonal(noise: Tensor) -> Tensor:
    """Orthonormal rows or columns ``[S, in, out]``, whichever are fewer, from normal noise."""
    tall = noise if noise.shape[1] >= noise.shape[2] else noise.mT
    q, r = torch.linalg.qr(tall)
    q = q * r.diagonal(dim1=1, dim2=2).sign().unsqueeze(1)  # makes the distribution uniform
    return (q if noise.shape[1] >= noise.shape[2] else q.mT).contiguous()


class MLP(nn.Module):
    """Hidden layers with an activation, then a linear layer: ``[S, B, in] -> [S, B, out]``.

    Args:
        output_gain: scale of the last layer's orthogonal initialisation.
    """

    def __init__(
        self,
        streams: Streams,
        inputs: int,
        hidden: Sequence[int],
        outputs: int,
        activation: Activation = "relu",
        init: Initialiser = "uniform",
        output_gain: float = 1.0,
    ) -> None:
        super().__init__()
        sizes = [inputs, *hidden]
        self.hidden = nn.ModuleList(
            Linear(streams, a, b, init, gain=2**0.5) for a, b in pairwise(sizes)
        )
        self.output = Linear(streams, sizes[-1], outputs, init, gain=output_gain)
        self.activation = ACTIVATIONS[activation]

    def forward(self, x: Tensor) -> Tensor:
        for layer in self.hidden:
            x = self.activation(layer(x))
        return self.output(x)


class Convolution(nn.Module):
    """The three convolutions of Mnih et al. 2015 for S seeds: pixels to ``[S, B, F]``.

    Seeds are groups of channels of one grouped convolution, which beats a loop over seeds.
    """

    LAYERS = ((32, 8, 4), (64, 4, 2), (64, 3, 1))
    """Channels, kernel width, stride."""

    def __init__(self, streams: Streams, shape: tuple[int, ...]) -> None:
        super().__init__()
        height, width, channels = shape
        self.weights = nn.ParameterList()
        self.biases = nn.ParameterList()
        dtype = torch.get_default_dtype()
        for outputs, kernel, stride in self.LAYERS:
            if min(height, width) < kernel:
                raise ValueError(f"images must measure at least 36 x 36 pixels, got {shape[:2]}")
            noise = streams.normal("parameters", outputs, channels * kernel * kernel)
            weight = 2**0.5 * _orthogonal(noise)
            weight = weight.reshape(-1, outputs, channels, kernel, kernel)
            self.weights.append(nn.Parameter(weight.to(dtype)))
            self.biases.append(nn.Parameter(weight.new_zeros(weight.shape[:2], dtype=dtype)))
            height, width, channels = (
                (height - kernel) // stride + 1,
                (width - kernel) // stride + 1,
                outputs,
            )
        self.outputs = height * width * channels

    def forward(self, pixels: Tensor) -> Tensor:
        """``[S, B, H, W, C]`` uint8 to ``[S, B, F]``."""
        seeds, batch = pixels.shape[:2]
        x = pixels.permute(1, 0, 4, 2, 3).flatten(1, 2).to(self.weights[0].dtype) / 255
        for weight, bias, (_, _, stride) in zip(
            self.weights, self.biases, self.LAYERS, strict=True
        ):
            x = torch.relu(
                F.conv2d(x, weight.flatten(0, 1), bias.flatten(), stride=stride, groups=seeds)
            )
        return x.view(batch, seeds, -1).transpose(0, 1)


class Encoder(nn.Module):
    """Observation leaves to features: ``{name: [S, ..., *leaf]} -> [S, B, F]``.

    Vectors are flattened (and standardised by running moments if asked), categories and small
    symbols become one-hot, images pass a convolution; all are concatenated. Dimensions between
    the seed and the leaf's own become B.
    """

    def __init__(
        self, streams: Streams, spaces: Mapping[str, Space], normalise: bool = False
    ) -> None:
        super().__init__()
        self.spaces = dict(spaces)
        self.moments = nn.ModuleDict()
        self.convolutions = nn.ModuleDict()
        self.outputs = 0
        for name, space in self.spaces.items():
            kind = leaf_kind(space)
            size = _flat_size(space)
            if kind == "image":
                convolution = Convolution(streams, space.shape)
                self.convolutions[_key(name)] = convolution
                size = convolution.outputs
            elif kind == "vector" and normalise:
                self.moments[_key(name)] = RunningMoments(len(streams.seeds), size, streams.device)
            self.outputs += size

    def forward(self, obs: Observation) -> Tensor:
        features = [self._leaf(name, space, obs[name]) for name, space in self.spaces.items()]
        return features[0] if len(features) == 1 else torch.cat(features, dim=-1)

    def update(self, obs: Observation) -> None:
        """Take a batch of observations into the running moments, if there are any."""
        for name, space in self.spaces.items():
            if _key(name) in self.moments:
                cast(RunningMoments, self.moments[_key(name)]).update(_flat(space, obs[name]))

    def _leaf(self, name: str, space: Space, values: Tensor) -> Tensor:
        if _key(name) in self.convolutions:
            batch = values.flatten(1, values.ndim - 1 - len(space.shape))
            return self.convolutions[_key(name)](batch)
        flat = _flat(space, values)
        return self.moments[_key(name)](flat) if _key(name) in self.moments else flat


def _key(name: str) -> str:
    # a module's name may hold no dot, nor be a method of ModuleDict ("values", "type")
    return f"leaf/{name}".replace(".", "/")


def _flat_size(space: Space) -> int:
    if isinstance(space, Discrete):
        return space.n
    if isinstance(space, MultiDiscrete):
        return sum(space.sizes)
    return space.low.size * max(1, _num_symbols(space))


@cache
def _num_symbols(space: Box) -> int:
    """Values that an element of a leaf of symbols can take; 0 if the leaf is not to be one-hot."""
    if leaf_kind(space) != "symbols":
        return 0
    count = int(space.high.max()) - int(space.low.min()) + 1
    return count if count <= MAX_SYMBOLS else 0


def _flat(space: Space, values: Tensor) -> Tensor:
    """A leaf's values ``[S, ..., *leaf]`` as floats ``[S, B, F]``."""
    dtype = torch.get_default_dtype()
    if isinstance(space, Box):
        values = values.reshape(values.shape[0], -1, space.low.size)
        if count := _num_symbols(space):
            values = F.one_hot(values.long() - int(space.low.min()), count).flatten(2)
        return values.to(dtype)
    if isinstance(space, Discrete):
        return F.one_hot(values.flatten(1), space.n).to(dtype)
    parts = values.reshape(values.shape[0], -1, len(space.sizes)).unbind(-1)
    hot = [F.one_hot(part, n) for part, n in zip(parts, space.sizes, strict=True)]
    return torch.cat(hot, dim=-1).to(dtype)
