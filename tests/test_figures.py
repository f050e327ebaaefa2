"""Figures: the same bytes every time, styles that stay, nothing that leaves the paper."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
from matplotlib.figure import Figure

from suite.figures import (
    STYLES,
    Line,
    LinePanel,
    Panel,
    Point,
    Style,
    interval_figure,
    line_figure,
    matrix_figure,
    short_count,
    style_of,
    svg_bytes,
)
from suite.statistics import Band

ROOT = Path(__file__).parent.parent


def overflow(figure: Figure) -> float:
    """Inches by which anything drawn leaves the figure."""
    svg_bytes(figure)
    box = figure.get_tightbbox()
    width, height = figure.get_size_inches()
    return max(-box.x0, -box.y0, box.x1 - width, box.y1 - height)


def band(*values: float) -> Band:
    value = np.array(values)
    return Band(value, value - 0.1, value + 0.1)


def lines(*names: str) -> LinePanel:
    x = np.array([0.0, 10.0, 2000.0])
    return LinePanel("agent steps", tuple(Line(name, x, band(0.1, 0.2, 0.3)) for name in names))


def every_figure() -> list[Figure]:
    return [
        interval_figure([Panel("IQM", (Point("ppo", 0.5, 0.4, 0.6),))], "score"),
        line_figure([lines("ppo", "sac")], "score"),
        matrix_figure(["ppo", "sac"], np.array([[np.nan, 0.2], [0.8, np.nan]]), np.eye(2) < 1),
    ]


def test_figures_have_the_same_bytes_in_another_process():
    code = (
        "import sys; sys.path.insert(0, 'tests');"
        "from test_figures import *;"
        "sys.stdout.buffer.write(b''.join(map(svg_bytes, every_figure())))"
    )
    other = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, check=True)
    assert b"".join(map(svg_bytes, every_figure())) == other.stdout


def test_a_figure_has_the_same_bytes_whatever_was_drawn_before_it():
    first, *_ = map(svg_bytes, every_figure())
    assert svg_bytes(every_figure()[0]) == first


def test_a_figure_holds_no_date_and_no_pixels():
    for figure in map(svg_bytes, every_figure()):
        assert b"dc:date" not in figure
        assert b"<image" not in figure


def test_lines_have_their_style_and_their_band():
    (axis,) = line_figure([lines("ppo", "sac")], "share").axes
    drawn = {line.get_label(): line for line in axis.get_lines()}
    assert drawn["ppo"].get_color() == STYLES["ppo"].colour
    assert drawn["sac"].get_marker() == STYLES["sac"].marker
    assert len(axis.collections) == 2


def test_a_matrix_writes_every_number_and_sets_sure_ones_in_bold():
    values = np.array([[np.nan, 0.2], [0.8, np.nan]])
    figure = matrix_figure(["ppo", "sac"], values, np.array([[False, False], [True, False]]))
    texts = {text.get_text(): text.get_fontweight() for text in figure.axes[0].texts}
    assert texts == {"0.20": "normal", "0.80": "bold"}


@pytest.mark.parametrize("number", [2, 15])
def test_lines_and_matrices_stay_on_the_paper(number: int):
    names = ["a_name_that_is_much_too_long_for_a_legend_of_any_size", *STYLES][:number]
    assert overflow(line_figure([lines(*names)] * 2, "share of runs above")) < 0.01
    values = np.full((number, number), 0.5)
    assert overflow(matrix_figure(names, values, values > 1)) < 0.01


@pytest.mark.parametrize(("panels", "rows"), [(1, 1), (2, 15), (5, 3)])
def test_interval_plots_stay_on_the_paper(panels: int, rows: int):
    names = ["a_name_that_is_much_too_long_for_an_axis_of_any_size", *STYLES][:rows]
    panel = Panel("a title that is too long for its place", tuple(Point(name) for name in names))
    assert overflow(interval_figure([panel] * panels, "normalised score")) < 0.01


def test_interval_plots_show_all_of_an_interval():
    figure = interval_figure([Panel("IQM", (Point("ppo", 1.5, -0.7, 3.2),))], "score")
    low, high = figure.axes[0].get_xlim()
    assert low < -0.7
    assert high > 3.2


def test_rows_that_are_not_ranked_are_hollow():
    points = (Point("ppo", 0.5, hollow=True), Point("sac", 0.5))
    figure = interval_figure([Panel("IQM", points)], "score")
    style = {line.get_marker(): line for line in figure.axes[0].get_lines()}
    assert style["s"].get_markerfacecolor() == "white"
    assert style["v"].get_markerfacecolor() == STYLES["sac"].colour


@pytest.mark.parametrize("name", ["<b>&", "$x^2$", "a\nb", "\x00\x1b[31m", "名前", "_", ""])
def test_any_name_gives_sound_svg(name: str):
    for figure in (
        interval_figure([Panel(name, (Point(name, 0.5),))], "score"),
        line_figure([lines(name)], "share"),
        matrix_figure([name, name], np.full((2, 2), 0.5), np.eye(2) > 0),
    ):
        assert ElementTree.fromstring(svg_bytes(figure)).tag.endswith("svg")


def test_a_style_depends_on_the_name_alone():
    assert style_of("ppo") == Style("#d55e00", "s", ())
    assert style_of("my_algorithm") == Style("#332288", "D", (1.2, 1.2))


def test_styles_differ_in_colour_and_also_in_grey():
    styles = STYLES.values()
    assert len({style.colour for style in styles}) == len(STYLES)
    assert len({(style.marker, style.dashes) for style in styles}) == len(STYLES)


@pytest.mark.parametrize(
    ("number", "text"),
    [(0, "0"), (950, "950"), (20_000, "20k"), (1_500_000, "1.5M"), (2e9, "2G"), (1234, "1.23k")],
)
def test_counts_of_steps_are_written_shortly(number: float, text: str):
    assert short_count(number) == text
