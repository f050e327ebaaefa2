"""Figures of the reports: intervals, lines with bands, matrices; as SVG, always the same bytes.

Matplotlib is used without its global state (no pyplot). What would make two files differ is fixed:
the salt of element ids, the date, the font (outlines of the one that matplotlib brings along) and
the style of each algorithm, which depends on its name alone, never on which others are shown.
"""

from __future__ import annotations

import hashlib
import io
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator

from suite.statistics import Band, Interval

GENERATOR = "suite report"
"""Creator in the metadata of every figure; tells our files from those of others."""

_SETTINGS: dict[Any, Any] = {
    "svg.hashsalt": GENERATOR,
    "svg.fonttype": "path",
    "font.family": "DejaVu Sans",
    "font.size": 8,
    "axes.titlesize": 8,
    "axes.labelsize": 8,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": "#888888",
    "axes.linewidth": 0.6,
    "legend.frameon": False,
    "xtick.color": "#555555",
    "ytick.color": "#555555",
    "xtick.labelsize": 7,
    "ytick.labelsize": 7,
    "text.parse_math": False,  # a dollar sign in a name is a dollar sign
    "path.simplify": True,
}
_WIDTH = 7.4
"""Inches; about the text width of a rendered page."""
_PANEL_COLUMNS = 4
_QUIET = "#bbbbbb"
PROFILE_THRESHOLDS = np.linspace(0.0, 1.5, 61)
"""Of performance profiles: normalised scores from the floor to one and a half times the cap."""


@dataclass(frozen=True)
class Style:
    """How an algorithm is drawn: told apart by colour, and in grey by marker and dashes."""

    colour: str
    marker: str
    dashes: tuple[float, ...]
    """On and off lengths in points; empty for a solid line."""


_SOLID: tuple[float, ...] = ()
_DASHED = (4.0, 1.6)
_DOTTED = (1.2, 1.2)
_MIXED = (5.0, 1.5, 1.2, 1.5)

# Hues from the palettes of Okabe and Ito (2008) and of Paul Tol (2021), made for colour-blind eyes.
STYLES = {
    "random": Style("#777777", "d", _DOTTED),
    "q_learning": Style("#999933", "s", _MIXED),
    "dqn": Style("#0072b2", "o", _SOLID),
    "double_dqn": Style("#56b4e9", "D", _DASHED),
    "dueling_dqn": Style("#332288", "^", _MIXED),
    "reinforce": Style("#882255", "v", _DASHED),
    "ppo": Style("#d55e00", "s", _SOLID),
    "trpo": Style("#cc6677", "P", _DASHED),
    "a2c": Style("#117733", "X", _SOLID),
    "a3c": Style("#44aa99", "<", _MIXED),
    "sac": Style("#aa4499", "v", _SOLID),
    "td3": Style("#e69f00", "^", _SOLID),
    "dreamer": Style("#000000", "*", _SOLID),
    "mbpo": Style("#661100", ">", _DASHED),
    "muzero": Style("#6699cc", "h", _MIXED),
}
_COLOURS = ("#0072b2", "#d55e00", "#117733", "#aa4499", "#e69f00", "#332288", "#44aa99", "#882255")
_MARKERS = ("o", "s", "^", "D", "v", "P", "X", "<", ">", "h")
_DASHES = (_SOLID, _DASHED, _MIXED, _DOTTED)


def style_of(algorithm: str) -> Style:
    """Look up an algorithm's style; unknown ones get one that depends on the name alone."""
    if algorithm in STYLES:
        return STYLES[algorithm]
    number = int.from_bytes(hashlib.sha256(algorithm.encode()).digest()[:8], "big")
    number, colour = divmod(number, len(_COLOURS))
    number, marker = divmod(number, len(_MARKERS))
    return Style(_COLOURS[colour], _MARKERS[marker], _DASHES[number % len(_DASHES)])


@dataclass(frozen=True)
class Point:
    """One estimate with its interval; NaN where there is nothing to draw."""

    algorithm: str
    value: float = math.nan
    low: float = math.nan
    high: float = math.nan
    runs: tuple[float, ...] = ()
    """The scores behind the estimate, drawn as faint ticks."""
    hollow: bool = False
    """True for rows that are not ranked."""
    published: tuple[float, ...] = ()
    """Scores that others have published, drawn as hollow grey diamonds."""


@dataclass(frozen=True)
class Panel:
    """One axis of an interval plot; all panels list the same algorithms in the same order."""

    title: str
    points: tuple[Point, ...]
    span: tuple[float, ...] = (0.0, 1.0)
    """Values that are shown in any case."""


@dataclass(frozen=True)
class Line:
    """Estimates of one algorithm along an axis, with a pointwise band."""

    algorithm: str
    x: np.ndarray
    """``[P]``, rising."""
    band: Band
    """Three arrays ``[P]``; ends of NaN draw no band."""


@dataclass(frozen=True)
class LinePanel:
    """One axis of a line figure."""

    label: str
    """What the horizontal axis shows."""
    lines: tuple[Line, ...]
    logarithmic: bool = False


def interval_figure(panels: Sequence[Panel], label: str) -> Figure:
    """Draw estimates with their intervals, one row per algorithm, panels side by side.

    Args:
        panels: at least one; all list the same algorithms from top to bottom.
        label: what the horizontal axes show.

    Returns:
        The figure; its height follows the number of algorithms.
    """
    names = [point.algorithm for point in panels[0].points]
    columns = min(len(panels), _PANEL_COLUMNS)
    rows = math.ceil(len(panels) / columns)
    with mpl.rc_context(_SETTINGS):
        size = (_WIDTH, 0.4 + rows * (0.45 + 0.24 * len(names)))
        figure = Figure(figsize=size, layout="constrained")
        axes = figure.subplots(rows, columns, sharey=True, squeeze=False)
        for axis, panel in zip(axes.flat, panels, strict=False):
            for row, point in enumerate(panel.points):
                _draw_point(axis, row, point)
            axis.set_title(shorten(panel.title))
            axis.set_xlim(*_point_limits(panel))
            axis.xaxis.set_major_locator(MaxNLocator(8 // columns + 1, steps=[1, 2, 5, 10]))
            axis.grid(axis="x", color="#eeeeee", linewidth=0.6)
            axis.set_axisbelow(True)
            axis.tick_params(left=False)
            axis.spines["left"].set_visible(False)
        for axis in axes.flat[len(panels) :]:
            axis.set_visible(False)
        axes[0, 0].set_yticks(range(len(names)), [shorten(name) for name in names])
        axes[0, 0].set_ylim(len(names) - 0.4, -0.6)
        figure.supxlabel(label, fontsize=8)
    return figure


def line_figure(panels: Sequence[LinePanel], label: str) -> Figure:
    """Draw lines with their bands, panels side by side under one legend.

    Args:
        panels: at least one; all hold the same algorithms.
        label: what the vertical axis shows.
    """
    count = len(panels[0].lines)
    with mpl.rc_context(_SETTINGS):
        height = max(2.6, 0.5 + 0.165 * count)  # room for the legend
        figure = Figure(figsize=(_WIDTH, height), layout="constrained")
        axes = figure.subplots(1, len(panels), sharey=True, squeeze=False)[0]
        for axis, panel in zip(axes, panels, strict=True):
            for line in panel.lines:
                _draw_line(axis, line, 0.15 if count <= 6 else 0.06)
            axis.set_xlabel(panel.label)
            if panel.logarithmic:
                axis.set_xscale("log")
            else:
                axis.set_xlim(panel.lines[0].x[0], max(line.x[-1] for line in panel.lines))
                axis.xaxis.set_major_locator(MaxNLocator(5))
                axis.xaxis.set_major_formatter(FuncFormatter(lambda value, _: short_number(value)))
            axis.grid(color="#eeeeee", linewidth=0.6)
            axis.set_axisbelow(True)
        axes[0].set_ylabel(label)
        axes[-1].legend(loc="center left", bbox_to_anchor=(1.0, 0.5), handlelength=3.2, fontsize=7)
    return figure


def improvement_figure(names: Sequence[str], pairs: Mapping[tuple[str, str], Interval]) -> Figure:
    """Draw the probabilities of improvement of all pairs; see ``matrix_figure``."""
    values = np.full((len(names), len(names)), np.nan)
    sure = np.zeros_like(values, dtype=bool)
    for row, one in enumerate(names):
        for column, other in enumerate(names):
            if one != other:
                interval = pairs[one, other]
                values[row, column] = interval.value
                sure[row, column] = interval.low > 0.5 or interval.high < 0.5
    return matrix_figure(names, values, sure)


def matrix_figure(names: Sequence[str], values: np.ndarray, sure: np.ndarray) -> Figure:
    """Draw the probability that a run of the row's algorithm beats one of the column's.

    Args:
        names: from top to bottom, and from left to right.
        values: ``[n, n]`` in [0, 1]; NaN where there is none.
        sure: ``[n, n]`` bool, True where the interval excludes one half: those are set in bold.
    """
    number = len(names)
    side = min(_WIDTH, 1.6 + 0.42 * number)
    with mpl.rc_context(_SETTINGS):
        figure = Figure(figsize=(side, side * 0.85), layout="constrained")
        axis = figure.subplots()
        axis.pcolormesh(
            np.ma.masked_invalid(values), cmap="PuOr", vmin=0, vmax=1, edgecolors="white", alpha=0.6
        )
        for row, column in np.argwhere(np.isfinite(values)):
            axis.text(
                column + 0.5,
                row + 0.5,
                f"{values[row, column]:.2f}",
                ha="center",
                va="center",
                fontsize=min(7.5, 110 / number),
                fontweight="bold" if sure[row, column] else "normal",
            )
        shown = [shorten(name) for name in names]
        axis.set_xticks(np.arange(number) + 0.5, shown, rotation=90)
        axis.set_yticks(np.arange(number) + 0.5, shown)
        axis.xaxis.tick_top()
        axis.tick_params(length=0)
        axis.set_ylim(number, 0)
        axis.spines[:].set_visible(False)
    return figure


def svg_bytes(figure: Figure) -> bytes:
    """Render a figure as SVG; equal figures give equal bytes."""
    buffer = io.BytesIO()
    with mpl.rc_context(_SETTINGS):
        metadata = {"Date": None, "Creator": GENERATOR}
        figure.savefig(buffer, format="svg", metadata=metadata)
    return buffer.getvalue()


def short_count(number: float) -> str:
    """Write a count of steps shortly: ``950``, ``20k``, ``1.5M``, ``2G``."""
    for unit, size in (("G", 1e9), ("M", 1e6), ("k", 1e3)):
        if abs(number) >= size:
            return f"{number / size:.3g}{unit}"
    return f"{number:.0f}"


def short_number(number: float) -> str:
    """Write a number on an axis shortly: ``0.5``, ``20k``."""
    return short_count(number) if abs(number) >= 1000 else f"{number:.3g}"


def _draw_line(axis: Axes, line: Line, alpha: float) -> None:
    style, name = style_of(line.algorithm), shorten(line.algorithm)
    axis.fill_between(
        line.x, line.band.low, line.band.high, color=style.colour, alpha=alpha, linewidth=0
    )
    axis.plot(
        line.x,
        line.band.value,
        color=style.colour,
        linewidth=1.4,
        linestyle=(0, style.dashes) if style.dashes else "solid",
        marker=style.marker,
        markevery=max(1, len(line.x) // 6),
        markersize=4,
        markeredgewidth=0.0,
        label=name if name.lstrip("_") == name != "" else f" {name}",  # else it is hidden
    )


def _draw_point(axis: Axes, row: int, point: Point) -> None:
    style = style_of(point.algorithm)
    axis.plot(
        point.runs,
        np.full(len(point.runs), row),
        linestyle="none",
        marker="|",
        markersize=8,
        markeredgewidth=0.6,
        color=_QUIET,
        zorder=1,
    )
    axis.plot([point.low, point.high], [row, row], color=style.colour, linewidth=2, zorder=2)
    axis.plot(
        point.value,
        row,
        marker=style.marker,
        markersize=5.5,
        color=style.colour,
        markerfacecolor="white" if point.hollow else style.colour,
        markeredgewidth=1.0,
        zorder=3,
    )
    axis.plot(
        point.published,
        np.full(len(point.published), row),
        linestyle="none",
        marker="D",
        markersize=4,
        markeredgewidth=0.8,
        color="#555555",
        markerfacecolor="none",
        zorder=4,
    )


def _point_limits(panel: Panel) -> tuple[float, float]:
    """Limits that hold all estimates and intervals; ticks of single runs may lie outside."""
    shown = [*panel.span]
    for point in panel.points:
        shown += [point.value, point.low, point.high, *point.published]
    shown = [value for value in shown if math.isfinite(value)] or [0.0, 1.0]
    low, high = min(shown), max(shown)
    margin = 0.04 * (high - low) or 0.5
    return low - margin, high + margin


def shorten(name: str, length: int = 24) -> str:
    """Keep a name short enough for its place, and within what the font has."""
    name = "".join(one if one.isascii() and one.isprintable() else "?" for one in name)
    return name if len(name) <= length else name[: length - 1] + "…"
