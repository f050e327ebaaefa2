"""Random numbers of many worlds at once, each world's own."""

from __future__ import annotations

import torch
from torch import Tensor

_GOLDEN = 0x9E3779B97F4A7C15 - 2**64  # as the signed number with the same bits


def _shift(bits: Tensor, places: int) -> Tensor:
    """Shift right and fill with zeros, which PyTorch does not offer for signed integers."""
    return (bits >> places) & ((1 << (64 - places)) - 1)


def _mix(bits: Tensor) -> Tensor:
    """SplitMix64's finaliser (Steele, Lea and Flood 2014): every bit depends on all bits."""
    bits = (bits ^ _shift(bits, 30)) * (0xBF58476D1CE4E5B9 - 2**64)
    bits = (bits ^ _shift(bits, 27)) * (0x94D049BB133111EB - 2**64)
    return bits ^ _shift(bits, 31)


class Draws:
    """Uniform numbers that are a function of (the world's seed, how many it has drawn).

    So what a world meets does not depend on the worlds beside it, nor on the device.

    Args:
        seeds: ``[N]`` int64.
    """

    def __init__(self, seeds: Tensor) -> None:
        self._keys = _mix(seeds * _GOLDEN)
        self._count = torch.zeros_like(seeds)

    def uniform(self, which: Tensor, size: int, low: float = 0.0, high: float = 1.0) -> Tensor:
        """Draw ``[n, size]`` in [low, high), float64, for the worlds of these indices ``[n]``."""
        numbers = self.at(which, self._count[which], size)
        self._count[which] += size
        return low + (high - low) * numbers

    def at(self, which: Tensor, count: Tensor, size: int) -> Tensor:
        """The numbers ``[n, size]`` in [0, 1) that stand behind ``count`` ``[n]``; draws none."""
        steps = count[:, None] + torch.arange(1, size + 1, device=count.device)
        bits = _mix(self._keys[which][:, None] + steps * _GOLDEN)
        return _shift(bits, 11).double() * 2.0**-53
