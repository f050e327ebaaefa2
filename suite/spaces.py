"""Spaces: shape, type and bounds of observations and actions.

An observation is always a dictionary of leaves, also when there is only one (then its name is
``"observation"``). An action is a single leaf. Engines describe their spaces with the classes
below, so that algorithms never import an environment package.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np

LeafKind = Literal["image", "symbols", "text", "category", "vector"]


@dataclass(frozen=True, eq=False)
class Box:
    """An array of bounded or unbounded numbers.

    Args:
        low: lowest values, array of the leaf's shape; ``-inf`` where unbounded.
        high: highest values, same shape; ``inf`` where unbounded.
        dtype: what the lanes deliver: ``float32``, or an integer type for pixels and symbols.
        stack: how many frames the last dimension holds, each with the same number of channels,
            oldest first. Above 1, every step drops the oldest frame and appends a new one, so
            that a memory needs to keep each frame once.
    """

    low: np.ndarray
    high: np.ndarray
    dtype: np.dtype
    stack: int = 1

    @property
    def shape(self) -> tuple[int, ...]:
        return self.low.shape


@dataclass(frozen=True)
class Discrete:
    """One of ``n`` alternatives, an integer in ``[0, n)``; shape ``()``, int64."""

    n: int

    @property
    def shape(self) -> tuple[int, ...]:
        return ()


@dataclass(frozen=True)
class MultiDiscrete:
    """A vector of independent choices, entry ``i`` in ``[0, sizes[i])``; int64."""

    sizes: tuple[int, ...]

    @property
    def shape(self) -> tuple[int, ...]:
        return (len(self.sizes),)


@dataclass(frozen=True)
class Text:
    """``length`` tokens (characters or words), integers in ``[0, vocabulary)``; 0 is padding."""

    length: int
    vocabulary: int

    @property
    def shape(self) -> tuple[int, ...]:
        return (self.length,)

    @property
    def dtype(self) -> np.dtype:
        """What the lanes deliver: bytes where they suffice, else int16."""
        return np.dtype(np.uint8 if self.vocabulary <= 256 else np.int16)


ActionSpace = Box | Discrete | MultiDiscrete
Space = ActionSpace | Text


@dataclass(frozen=True)
class Spaces:
    """What a task's lanes deliver and accept."""

    observation: Mapping[str, Space]
    action: ActionSpace


def box(low: float, high: float, shape: tuple[int, ...], dtype: str = "float32") -> Box:
    """Make a Box with the same bounds everywhere."""
    kind = np.dtype(dtype)
    return Box(np.full(shape, low, kind), np.full(shape, high, kind), kind)


def leaf_kind(space: Space) -> LeafKind:
    """Tell how an encoder should read a leaf.

    Images are unsigned bytes with three dimensions (height, width, channels) that reach 255; other
    integer arrays are symbols, in which a number is a name and not a quantity; Discrete and
    MultiDiscrete are categories; the rest are vectors.
    """
    if isinstance(space, Discrete | MultiDiscrete):
        return "category"
    if isinstance(space, Text):
        return "text"
    if space.dtype == np.uint8 and len(space.shape) == 3 and space.high.max() == 255:
        return "image"
    return "symbols" if np.issubdtype(space.dtype, np.integer) else "vector"


def contains(space: Space, values: np.ndarray) -> bool:
    """Tell whether a batch ``[..., *space.shape]`` of values lies in the space, type included."""
    if values.shape[values.ndim - len(space.shape) :] != space.shape:
        return False
    if isinstance(space, Box):
        inside = (values >= space.low) & (values <= space.high)
        return values.dtype == space.dtype and bool(inside.all())
    if isinstance(space, Text):
        inside = (values >= 0) & (values < space.vocabulary)
        return values.dtype == space.dtype and bool(inside.all())
    sizes = np.asarray(space.n if isinstance(space, Discrete) else space.sizes)
    inside = (values >= 0) & (values < sizes)
    return bool(np.issubdtype(values.dtype, np.integer)) and bool(inside.all())
