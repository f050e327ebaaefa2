"""Learning curves: every seed, failures as such, sound SVG whatever the names and numbers."""

from __future__ import annotations

import re
import time
from xml.etree import ElementTree

import numpy as np
import pytest

from suite.curves import (
    MOST_PANELS,
    WIDTH,
    Curve,
    CurvePanel,
    algorithm_figure,
    curve_limits,
    nice_ticks,
    task_figure,
)
from suite.figures import GENERATOR, STYLES

SVG = "{http://www.w3.org/2000/svg}"
STEPS = np.array([0, 50, 100])


def curve(algorithm: str, *returns: list[float]) -> Curve:
    return Curve(algorithm, STEPS, np.array(returns, np.float64))


def drawn(figure: bytes, kind: str) -> list[ElementTree.Element]:
    root = ElementTree.fromstring(figure)
    return [element for element in root.iter() if element.get("class") == kind]


def texts(figure: bytes) -> list[str]:
    return [element.text or "" for element in ElementTree.fromstring(figure).iter(f"{SVG}text")]


def test_equal_curves_give_equal_bytes_with_our_mark():
    one, other = (task_figure([curve("ppo", [1, 2, 3]), curve("sac", [3, 2, 1])]) for _ in "ab")
    assert one == other
    assert f"<dc:title>{GENERATOR}</dc:title>" in one[:4096].decode()


def test_a_failed_run_counts_as_the_floor_in_the_mean():
    failed = curve("ppo", [1, np.nan, np.nan], [3, 5, 7])
    assert failed.mean(1.0).tolist() == [2, 3, 4]
    np.testing.assert_equal(failed.mean(None), [2, np.nan, np.nan])


def test_every_seed_is_drawn_and_every_mean_twice():
    figure = task_figure([curve("ppo", [1, 2, 3], [2, 3, 4], [5, 5, 5]), curve("sac", [0, 0, 1])])
    assert len(drawn(figure, "seed")) == 4
    assert len(drawn(figure, "mean")) == 4
    assert {"ppo", "sac"} <= set(texts(figure))


def test_a_single_algorithm_has_one_panel_with_its_seeds():
    figure = task_figure([curve("ppo", [1, 2, 3], [2, 3, 4])])
    assert len(drawn(figure, "seed")) == 2
    assert len(drawn(figure, "mean")) == 1


def test_points_lie_where_their_numbers_say():
    figure = task_figure([curve("ppo", [0, 5, 10])])
    (line,) = drawn(figure, "seed")
    points = [tuple(map(float, pair.split(","))) for pair in line.get("points", "").split()]
    (x0, y0), (x1, y1), (x2, y2) = points
    assert (x0, x1) == (0, pytest.approx(x2 / 2, abs=0.1))
    assert y0 > y1 > y2
    assert y1 == pytest.approx((y0 + y2) / 2, abs=0.1)


def test_a_cross_marks_the_last_evaluation_of_a_failed_run():
    figure = task_figure([curve("ppo", [1, 2, np.nan], [3, 5, 7])], floor=0.0)
    (cross,) = drawn(figure, "failure")
    shorter = min((line.get("points", "").split() for line in drawn(figure, "seed")), key=len)
    x, y = map(float, shorter[-1].split(","))
    assert cross.get("d", "").startswith(f"M{x - 3:.1f},{y - 3:.1f}")


def test_curves_of_other_lengths_and_without_numbers_stand_beside_each_other():
    short = Curve("sac", np.array([0, 10]), np.array([[1.0, 2.0]]))
    nothing = curve("dqn", [np.nan, np.nan, np.nan])
    assert ElementTree.fromstring(task_figure([curve("ppo", [1, 2, 3]), short, nothing]))
    assert ElementTree.fromstring(task_figure([nothing]))


@pytest.mark.parametrize("level", [0.0, 5.0, 1e20, -1e20])
def test_constant_curves_have_a_scale(level: float):
    figure = task_figure([curve("ppo", [level] * 3)])
    assert "nan" not in figure.decode()
    low, high = curve_limits([curve("ppo", [level] * 3)], None)
    assert low < level < high


def test_a_distant_cap_does_not_flatten_the_curves():
    figure = task_figure([curve("ppo", [1, 2, 3])], floor=1.0, cap=1e6)
    assert curve_limits([curve("ppo", [1, 2, 3])], 1.0)[1] < 4
    assert len(drawn(figure, "bound")) == 1


@pytest.mark.parametrize("number", [1, 2, 3, 4, 15])
def test_everything_stays_on_the_paper(number: int):
    names = ["a_name_that_is_much_too_long_for_a_legend_of_any_size", *STYLES][:number]
    figure = task_figure([curve(name, [-1e6, 1e6, 2e6]) for name in names])
    root = ElementTree.fromstring(figure)
    height = float(root.get("height", ""))
    for text in root.iter(f"{SVG}text"):
        x, y, wide = float(text.get("x", "")), float(text.get("y", "")), 6.2 * len(text.text or "")
        left = {"start": x, "middle": x - wide / 2, "end": x - wide}[text.get("text-anchor", "")]
        assert left > 0
        assert left + wide < WIDTH
        assert 0 < y < height


def test_an_algorithm_has_a_panel_for_each_task_up_to_a_limit():
    panels = [CurvePanel(f"task{n}", curve("ppo", [1, 2, 3]), 0.0, 2.5) for n in range(200)]
    figure = algorithm_figure(panels)
    assert len(drawn(figure, "mean")) == MOST_PANELS
    assert "task0" in texts(figure)
    assert len(drawn(algorithm_figure(panels[:2]), "mean")) == 2


@pytest.mark.parametrize("name", ["<b>&", "a\nb", "\x00\x1b[31m", "名前", "_", "", "]]>"])
def test_any_name_gives_sound_svg(name: str):
    ours = curve(name, [1, 2, 3])
    assert ElementTree.fromstring(task_figure([ours, curve("ppo", [1, 2, 3])]))
    assert ElementTree.fromstring(algorithm_figure([CurvePanel(name, ours, None, None)]))


@pytest.mark.parametrize(
    ("low", "high", "most", "ticks"),
    [(0, 50_000, 5, [0, 10_000, 20_000, 30_000, 40_000, 50_000]), (-0.2, 1.1, 3, [0, 0.5, 1.0])],
)
def test_ticks_are_round_numbers(low: float, high: float, most: int, ticks: list[float]):
    assert nice_ticks(low, high, most) == ticks


@pytest.mark.slow
def test_a_figure_takes_milliseconds():
    rng = np.random.default_rng(0)
    steps = np.arange(21) * 1000
    curves = [Curve(name, steps, rng.normal(size=(5, 21)).cumsum(axis=1)) for name in STYLES]
    start = time.process_time()
    figure = task_figure(curves)
    assert time.process_time() - start < 0.2
    assert len(re.findall("class=.seed", figure.decode())) == 75
