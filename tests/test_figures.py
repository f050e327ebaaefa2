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
    Curve,
    Panel,
    Point,
    Style,
    curve_figure,
    interval_figure,
    short_count,
    style_of,
    svg_bytes,
)

ROOT = Path(__file__).parent.parent
STEPS = np.array([0, 50, 100])


def curve(algorithm: str, *returns: list[float]) -> Curve:
    return Curve(algorithm, STEPS, np.array(returns))


def mean_line(figure: Figure, algorithm: str) -> list[float]:
    """The mean in the top panel of a figure of learning curves."""
    lines = {line.get_label(): line for line in figure.axes[0].get_lines()}
    return lines[algorithm].get_ydata().tolist()


def overflow(figure: Figure) -> float:
    """Inches by which anything drawn leaves the figure."""
    svg_bytes(figure)
    box = figure.get_tightbbox()
    width, height = figure.get_size_inches()
    return max(-box.x0, -box.y0, box.x1 - width, box.y1 - height)


def test_curves_have_the_same_bytes_in_another_process():
    code = (
        "import sys; sys.path.insert(0, 'tests');"
        "from test_figures import *;"
        "sys.stdout.buffer.write(svg_bytes(curve_figure([curve('ppo', [1, 2, 3])])))"
    )
    other = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, check=True)
    assert svg_bytes(curve_figure([curve("ppo", [1, 2, 3])])) == other.stdout


def test_a_figure_has_the_same_bytes_whatever_was_drawn_before_it():
    first = svg_bytes(interval_figure([Panel("IQM", (Point("ppo", 0.5, 0.4, 0.6),))], "score"))
    svg_bytes(curve_figure([curve("ppo", [1, 2, 3]), curve("sac", [3, 2, 1])]))
    again = svg_bytes(interval_figure([Panel("IQM", (Point("ppo", 0.5, 0.4, 0.6),))], "score"))
    assert first == again


def test_a_figure_holds_no_date():
    assert b"dc:date" not in svg_bytes(curve_figure([curve("ppo", [1, 2, 3])]))


def test_a_failed_run_counts_as_the_floor_in_the_mean():
    figure = curve_figure([curve("ppo", [1, np.nan, np.nan], [3, 5, 7])], floor=1.0)
    assert mean_line(figure, "ppo") == [2, 3, 4]


def test_without_a_floor_the_mean_ends_where_the_first_run_fails():
    figure = curve_figure([curve("ppo", [1, np.nan, np.nan], [3, 5, 7])])
    np.testing.assert_equal(mean_line(figure, "ppo"), [2, np.nan, np.nan])


def test_a_cross_marks_the_last_evaluation_of_a_failed_run():
    figure = curve_figure([curve("ppo", [1, 2, np.nan], [3, 5, 7])], floor=0.0)
    crosses = [line for line in figure.axes[0].get_lines() if line.get_marker() == "x"]
    assert [cross.get_xydata().tolist() for cross in crosses] == [[[50, 2]]]


def test_every_seed_is_drawn():
    seeds = [[1, 2, 3], [2, 3, 4], [5, 5, 5]]
    figure = curve_figure([curve("ppo", *seeds), curve("sac", [0, 0, 0])])
    panel = next(axis for axis in figure.axes if axis.get_title() == "ppo")
    drawn = [line.get_ydata().tolist() for line in panel.get_lines()]
    assert all(seed in drawn for seed in seeds)


def test_curves_of_other_lengths_stand_beside_each_other():
    short = Curve("sac", np.array([0, 10]), np.array([[1.0, 2.0]]))
    assert svg_bytes(curve_figure([curve("ppo", [1, 2, 3]), short]))


def test_constant_and_empty_curves_can_be_drawn():
    nothing = curve("sac", [np.nan, np.nan, np.nan])
    assert svg_bytes(curve_figure([curve("ppo", [5, 5, 5]), nothing]))
    assert svg_bytes(curve_figure([nothing]))


def test_a_distant_cap_does_not_flatten_the_curves():
    figure = curve_figure([curve("ppo", [1, 2, 3])], floor=0.0, cap=1e6)
    assert figure.axes[0].get_ylim()[1] < 4


@pytest.mark.parametrize("number", [1, 2, 3, 4, 15])
def test_learning_curves_stay_on_the_paper(number: int):
    names = ["a_name_that_is_much_too_long_for_a_legend_of_any_size", *STYLES][:number]
    assert overflow(curve_figure([curve(name, [-1e6, 1e6, 2e6]) for name in names])) < 0.01


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
    curves = svg_bytes(curve_figure([curve(name, [1, 2, 3]), curve("ppo", [1, 2, 3])]))
    points = svg_bytes(interval_figure([Panel(name, (Point(name, 0.5),))], "score"))
    assert ElementTree.fromstring(curves).tag.endswith("svg")
    assert ElementTree.fromstring(points).tag.endswith("svg")


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
