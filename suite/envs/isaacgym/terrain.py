"""Terrain: tiles of 8 m, from easy to hard along x and of different types along y.

Types, difficulties and dimensions are those of IsaacGymEnvs 1.5.1 (heights are not rounded to 5 mm
here). Where something is drawn, it is always drawn alike: the terrain is part of the task.
"""

from __future__ import annotations

import numpy as np

LEVELS = 10
"""Of difficulty. The first is not flat, but low."""
TYPES = 20
SPACING = 0.1
"""Between samples of the height, in metres."""
TILE = 80
"""Samples along a side of a tile."""
BORDER = 200
"""Samples of flat ground around all tiles; x and y are 0 where it ends and the first tile is."""

_CENTRE = slice(30, 50)
"""A robot begins within 1 m of the middle."""
_PLATFORM = slice(25, 55)
"""3 m in the middle, on which it has its feet."""
_STEP_WIDTH = 3
"""Samples per stair. Upstream's 0.31 m come to the same."""
_RECTANGLES = 40
"""On a tile of obstacles."""


def heights() -> np.ndarray:
    """All heights in metres, ``[x, y]``; sample (0, 0) is the corner of the border."""
    rng = np.random.default_rng(0)
    field = np.zeros((LEVELS * TILE + 2 * BORDER, TYPES * TILE + 2 * BORDER))
    for level in range(LEVELS):
        for kind in range(TYPES):
            x, y = BORDER + level * TILE, BORDER + kind * TILE
            field[x : x + TILE, y : y + TILE] = _tile(kind, level / LEVELS, rng)
    return field


def origins(field: np.ndarray) -> np.ndarray:
    """Where on each tile to begin, ``[LEVELS, TYPES, 3]``: the middle, at its highest."""
    inside = field[BORDER:-BORDER, BORDER:-BORDER].reshape(LEVELS, TILE, TYPES, TILE)
    middle = np.mgrid[:LEVELS, :TYPES].transpose(1, 2, 0) * TILE * SPACING + TILE * SPACING / 2
    top = inside[:, _CENTRE, :, _CENTRE].max(axis=(1, 3))
    return np.concatenate([middle, top[..., None]], axis=-1)


def _tile(kind: int, difficulty: float, rng: np.random.Generator) -> np.ndarray:
    """``kind``: two slopes, two rough ones, 7 stairs down and 5 up to the middle, 4 obstacles."""
    if kind < 4:
        slope = _slope(0.4 * difficulty * (-1 if kind in (0, 2) else 1))
        return slope if kind < 2 else slope + _roughness(rng)
    if kind < 16:
        return _stairs((0.05 + 0.175 * difficulty) * (-1 if kind < 11 else 1))
    return _obstacles(0.025 + 0.15 * difficulty, rng)


def _slope(slope: float) -> np.ndarray:
    """A hill, or a pit if negative, cut off by a platform."""
    half = TILE // 2
    ramp = 1 - np.abs(np.arange(TILE) - half) / half
    hill = slope * half * SPACING * np.outer(ramp, ramp)
    level = float(hill[_PLATFORM.start, _PLATFORM.start])
    cut: np.ndarray = np.clip(hill, min(level, 0.0), max(level, 0.0))
    return cut


def _roughness(rng: np.random.Generator) -> np.ndarray:
    """Up to 0.1 m either way in steps of 0.025 m each 0.2 m, with slopes between."""
    coarse = rng.choice(np.linspace(-0.1, 0.1, 9), (TILE // 2, TILE // 2))
    nodes, places = np.linspace(0, 1, TILE // 2), np.linspace(0, 1, TILE)
    weights = np.stack([np.interp(places, nodes, one) for one in np.eye(TILE // 2)], axis=1)
    fine: np.ndarray = weights @ coarse @ weights.T
    return fine


def _stairs(step: float) -> np.ndarray:
    """Nine steps up to the middle, or down if negative, on all four sides."""
    to_edge = np.minimum(np.arange(TILE), np.arange(TILE)[::-1])
    steps: np.ndarray = np.minimum.outer(to_edge, to_edge) // _STEP_WIDTH
    return step * steps.clip(max=9)


def _obstacles(height: float, rng: np.random.Generator) -> np.ndarray:
    """Rectangles with sides of 1 to 1.8 m, higher or lower than the ground; a free platform."""
    ground = np.zeros((TILE, TILE))
    for _ in range(_RECTANGLES):
        length, width = rng.choice([10, 14, 18], 2)
        x, y = rng.choice(range(0, TILE - length, 4)), rng.choice(range(0, TILE - width, 4))
        ground[x : x + length, y : y + width] = height * rng.choice([-1.0, -0.5, 0.5, 1.0])
    ground[_PLATFORM, _PLATFORM] = 0
    return ground
