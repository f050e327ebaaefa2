"""Figures of the reports: learning curves and intervals, as SVG with the same bytes every time.

Matplotlib is used without its global state (no pyplot). What would make two files differ is fixed:
the salt of element ids, the date, the font (outlines of the one that matplotlib brings along) and
the style of each algorithm, which depends on its name alone, never on which others are shown.
"""

from __future__ import annotations

import hashlib
import io
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator

from suite.statistics import Band

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
_COLUMNS = 3
_PANEL_COLUMNS = 4
_QUIET = "#bbbbbb"


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
class Curve:
    """Evaluation returns of one algorithm on one task."""

    algorithm: str
    steps: np.ndarray
    """``[P]`` agent steps per seed at which it was evaluated."""
    returns: np.ndarray
    """``[S, P]`` mean return of each seed's evaluation; NaN after a seed had failed."""


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


def curve_figure(
    curves: Sequence[Curve], floor: float | None = None, cap: float | None = None
) -> Figure:
    """Draw learning curves: all means on top, then one panel per algorithm with every seed.

    The panels have the range of all means as a grey background; a cross marks a seed's failure.

    Args:
        curves: in the order of the panels; at least one.
        floor: score of the reference that counts as 0, drawn as a dotted line where it is in range.
        cap: score of the reference that counts as 1, likewise.

    Returns:
        The figure; a single curve gets a single panel.
    """
    several = len(curves) > 1
    columns = min(len(curves), _COLUMNS)
    rows = math.ceil(len(curves) / columns) if several else 0
    with mpl.rc_context(_SETTINGS):
        heights = [max(2.5, 0.4 + 0.165 * len(curves))]  # room for the legend
        heights += [1.4 * rows] if several else []
        figure = Figure(figsize=(_WIDTH, sum(heights)), layout="constrained")
        parts = figure.subfigures(len(heights), 1, height_ratios=heights, squeeze=False)[:, 0]
        top = parts[0].subplots()
        for curve in curves:
            if not several:
                _draw_seeds(top, curve)
            _draw_mean(top, curve, floor)
        top.set_ylabel("mean return of an evaluation")
        top.set_xlabel("agent steps per seed")
        top.legend(loc="center left", bbox_to_anchor=(1.0, 0.5), handlelength=3.2, fontsize=7)
        axes = [top]
        if several:
            panels = parts[1].subplots(rows, columns, sharex=True, sharey=True, squeeze=False)
            for axis, curve in zip(panels.flat, curves, strict=False):
                _draw_range(axis, curves, floor)
                _draw_seeds(axis, curve)
                _draw_mean(axis, curve, floor, markers=False)
                axis.set_title(_shorten(curve.algorithm), color=style_of(curve.algorithm).colour)
            for axis in panels.flat[len(curves) :]:
                axis.set_visible(False)
            for axis in panels.flat[max(0, len(curves) - columns) : len(curves)]:
                axis.tick_params(labelbottom=True)  # the last panel of each column
            axes = [top, *panels.flat[: len(curves)]]
        limits = _curve_limits(curves, floor)
        for axis in axes:
            _draw_bounds(axis, floor, cap)
            axis.set_ylim(*limits)
            axis.set_xlim(left=0)
            axis.xaxis.set_major_locator(MaxNLocator(5))
            axis.xaxis.set_major_formatter(FuncFormatter(lambda step, _: short_count(step)))
    return figure


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
            axis.set_title(_shorten(panel.title))
            axis.set_xlim(*_point_limits(panel))
            axis.xaxis.set_major_locator(MaxNLocator(8 // columns + 1, steps=[1, 2, 5, 10]))
            axis.grid(axis="x", color="#eeeeee", linewidth=0.6)
            axis.set_axisbelow(True)
            axis.tick_params(left=False)
            axis.spines["left"].set_visible(False)
        for axis in axes.flat[len(panels) :]:
            axis.set_visible(False)
        axes[0, 0].set_yticks(range(len(names)), [_shorten(name) for name in names])
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
                _draw_line(axis, line)
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
        shown = [_shorten(name) for name in names]
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


def _draw_line(axis: Axes, line: Line) -> None:
    style = style_of(line.algorithm)
    axis.fill_between(
        line.x, line.band.low, line.band.high, color=style.colour, alpha=0.15, linewidth=0
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
        label=_shorten(line.algorithm),
    )


def _mean(curve: Curve, floor: float | None) -> np.ndarray:
    """Mean over all seeds; a failed one counts as the floor, as it does in the score."""
    failed = np.nan if floor is None else floor  # NaN: the line ends where the first seed fails
    mean: np.ndarray = np.where(np.isfinite(curve.returns), curve.returns, failed).mean(0)
    return mean


def _draw_seeds(axis: Axes, curve: Curve) -> None:
    style = style_of(curve.algorithm)
    for seed in curve.returns:
        axis.plot(curve.steps, seed, color=style.colour, linewidth=0.5, alpha=0.55)
        alive = np.flatnonzero(np.isfinite(seed))
        if alive.size and alive[-1] + 1 < seed.size:  # where a failed seed ended
            end = alive[-1]
            axis.plot(curve.steps[end], seed[end], "x", color=style.colour, markersize=4)


def _draw_mean(axis: Axes, curve: Curve, floor: float | None, markers: bool = True) -> None:
    style = style_of(curve.algorithm)
    axis.plot(
        curve.steps,
        _mean(curve, floor),
        color=style.colour,
        linewidth=1.4,
        linestyle=(0, style.dashes) if style.dashes else "solid",
        marker=style.marker if markers else None,
        markevery=max(1, len(curve.steps) // 10),
        markersize=4,
        markeredgewidth=0.0,
        label=_shorten(curve.algorithm),
    )


def _draw_range(axis: Axes, curves: Sequence[Curve], floor: float | None) -> None:
    """Range of the means of all algorithms that were evaluated at the same steps as the first."""
    steps = curves[0].steps
    means = [_mean(curve, floor) for curve in curves if np.array_equal(curve.steps, steps)]
    axis.fill_between(
        steps, np.min(means, 0), np.max(means, 0), color="#eeeeee", linewidth=0, zorder=0
    )


def _draw_bounds(axis: Axes, floor: float | None, cap: float | None) -> None:
    for value in (floor, cap):
        if value is not None:
            axis.axhline(value, color="#999999", linewidth=0.6, linestyle=(0, (1, 2)), zorder=0)


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


def _curve_limits(curves: Sequence[Curve], floor: float | None) -> tuple[float, float]:
    """Limits that hold all means and all but the most extreme single evaluations."""
    returns = np.concatenate([curve.returns.ravel() for curve in curves])
    means = np.concatenate([_mean(curve, floor) for curve in curves])
    returns, means = returns[np.isfinite(returns)], means[np.isfinite(means)]
    if not returns.size:
        return 0.0, 1.0
    low = min(float(np.quantile(returns, 0.005)), float(means.min()))
    high = max(float(np.quantile(returns, 0.995)), float(means.max()))
    margin = 0.06 * (high - low) or 0.5
    return low - margin, high + margin


def _point_limits(panel: Panel) -> tuple[float, float]:
    """Limits that hold all estimates and intervals; ticks of single runs may lie outside."""
    shown = [*panel.span]
    for point in panel.points:
        shown += [point.value, point.low, point.high, *point.published]
    shown = [value for value in shown if math.isfinite(value)] or [0.0, 1.0]
    low, high = min(shown), max(shown)
    margin = 0.04 * (high - low) or 0.5
    return low - margin, high + margin


def _shorten(name: str, length: int = 24) -> str:
    """Keep a name short enough for its place, and within what the font has."""
    name = "".join(one if one.isascii() and one.isprintable() else "?" for one in name)
    return name if len(name) <= length else name[: length - 1] + "…"
