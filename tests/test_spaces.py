"""Spaces: what belongs to one, and how an encoder should read one."""

from __future__ import annotations

import numpy as np
import pytest

from suite.spaces import Box, Discrete, MultiDiscrete, Space, Text, box, contains, leaf_kind


@pytest.mark.parametrize(
    ("space", "kind"),
    [
        (Discrete(4), "category"),
        (MultiDiscrete((2, 3)), "category"),
        (box(0, 255, (64, 64, 3), "uint8"), "image"),
        (box(0, 10, (7, 7, 3), "int64"), "symbols"),
        (box(0, 255, (21, 79), "uint8"), "symbols"),
        (box(0, 10, (7, 7, 3), "uint8"), "symbols"),
        (Text(8, 30), "text"),
        (box(-1.0, 1.0, (64, 64, 3)), "vector"),
        (box(-1.0, 1.0, (3,)), "vector"),
        (box(-np.inf, np.inf, ()), "vector"),
    ],
)
def test_leaf_kinds(space: Space, kind: str):
    assert leaf_kind(space) == kind


@pytest.mark.parametrize(
    ("space", "shape"),
    [
        (Discrete(4), ()),
        (MultiDiscrete((2, 3)), (2,)),
        (box(0, 255, (64, 64, 3), "uint8"), (64, 64, 3)),
        (Text(8, 30), (8,)),
    ],
)
def test_shapes(space: Space, shape: tuple[int, ...]):
    assert space.shape == shape


def test_box_has_the_same_bounds_everywhere():
    space = box(-2.0, 1.0, (3,))
    assert space.dtype == np.float32
    assert space.low.tolist() == [-2.0] * 3
    assert space.high.tolist() == [1.0] * 3


VECTOR = Box(np.array([-1, 0], np.float32), np.array([1, np.inf], np.float32), np.dtype("float32"))


@pytest.mark.parametrize(
    ("space", "values"),
    [
        (Discrete(3), np.array([[0, 2]])),
        (Discrete(3), np.array(1)),
        (MultiDiscrete((2, 3)), np.array([[1, 2], [0, 0]])),
        (VECTOR, np.array([[[-1, 0], [1, 1e30]]], np.float32)),
        (box(0, 255, (2, 2, 1), "uint8"), np.full((5, 2, 2, 1), 255, np.uint8)),
        (Text(2, 256), np.array([[0, 255]], np.uint8)),
        (Text(2, 257), np.array([[0, 256]], np.int16)),
    ],
)
def test_contains(space: Space, values: np.ndarray):
    assert contains(space, values)


@pytest.mark.parametrize(
    ("space", "values"),
    [
        (Discrete(3), np.array([0, 3])),
        (Discrete(3), np.array([-1])),
        (Discrete(3), np.array([1.0])),
        (MultiDiscrete((2, 3)), np.array([2, 0])),
        (MultiDiscrete((2, 3)), np.array([0, 0, 0])),
        (VECTOR, np.array([0, -0.1], np.float32)),
        (VECTOR, np.array([0, 0], np.float64)),
        (VECTOR, np.array([0, np.nan], np.float32)),
        (VECTOR, np.array([[0], [0]], np.float32)),
        (box(0, 255, (2, 2, 1), "uint8"), np.zeros((2, 2), np.uint8)),
        (Text(2, 30), np.array([0, 30], np.uint8)),
        (Text(2, 30), np.array([0, 1])),
    ],
)
def test_does_not_contain(space: Space, values: np.ndarray):
    assert not contains(space, values)
