"""What a bench shows while it runs."""

from __future__ import annotations

import io
from dataclasses import dataclass

import pytest
from rich.console import Console
from test_bench import make_cell

from suite.bench import Advanced, Ended, Remark, Started
from suite.cells import State
from suite.console import Lines, Meter, duration, make_display
from suite.runner import Progress

CELL = make_cell()


@dataclass
class Clock:
    seconds: float = 0.0

    def __call__(self) -> float:
        return self.seconds


def progress(step: int, *scores: float | None) -> Progress:
    return Progress(step, CELL.steps, scores)


def test_speed_counts_all_seeds_and_time_left_follows_from_it():
    clock = Clock()
    meter = Meter(total=1000, clock=clock)
    assert meter.text == ""
    meter.advance((0, 1), progress(0, 1.0, 2.0))
    clock.seconds = 2.0
    meter.advance((0, 1), progress(100, 10.0, 20.0))
    assert meter.speed == 100.0
    assert meter.text == "100 steps/s, 0:00:08 left, score 15.0"


def test_what_was_done_before_a_resume_does_not_count_as_speed():
    clock = Clock()
    meter = Meter(total=1000, clock=clock)
    meter.advance((0,), progress(900, None))
    clock.seconds = 1.0
    meter.advance((0,), progress(910, None))
    assert meter.text == "10 steps/s, 0:00:09 left"


def test_seeds_that_start_again_lower_what_is_done():
    meter = Meter(total=300, clock=Clock())
    meter.advance((0, 1, 2), progress(100, 1.0, 1.0, 1.0))
    meter.advance((2,), progress(10, 1.0))
    assert meter.done == 210


@pytest.mark.parametrize(
    ("seconds", "text"), [(0, "0:00:00"), (61.9, "0:01:01"), (36_610, "10:10:10")]
)
def test_duration(seconds: float, text: str):
    assert duration(seconds) == text


def test_a_log_gets_one_plain_line_per_interval():
    stream, clock = io.StringIO(), Clock()
    lines = Lines(Console(file=stream, width=40), clock)
    with lines:
        lines.tell(Started(CELL, (0, 1)))
        for second in range(0, 61, 10):
            clock.seconds = second
            lines.tell(Advanced(CELL, (0, 1), progress(10 * second, 7.0, 9.0)))
        lines.tell(Remark(CELL, "seed 1 crashed"))
        lines.tell(Ended(CELL, State(damage=None, missing=(2,)), ran=True))
    assert stream.getvalue().splitlines() == [
        "ppo on gymnasium/CartPole-v1: 2 seeds of 5, 50,000 steps each",
        "ppo on gymnasium/CartPole-v1: 600/100,000 steps, 20 steps/s, 1:22:50 left, score 8.0",
        "ppo on gymnasium/CartPole-v1: 1,200/100,000 steps, 20 steps/s, 1:22:20 left, score 8.0",
        "ppo on gymnasium/CartPole-v1: seed 1 crashed",
        "ppo on gymnasium/CartPole-v1: not run",
    ]


def test_stale_cell_says_what_differs_and_how_to_run_it_again():
    stream = io.StringIO()
    lines = Lines(Console(file=stream))
    lines.tell(Ended(CELL, State(stale=("source_hash",), record=CELL.record), ran=False))
    assert stream.getvalue() == (
        "ppo on gymnasium/CartPole-v1: stale, left as it is (source_hash); --stale runs it again\n"
    )


def test_cell_that_was_complete_says_that_nothing_was_run():
    stream = io.StringIO()
    Lines(Console(file=stream)).tell(Ended(CELL, State(record=CELL.record), ran=False))
    assert stream.getvalue() == "ppo on gymnasium/CartPole-v1: complete, nothing to run\n"


def test_a_terminal_gets_bars_that_vanish_at_the_end():
    stream = io.StringIO()
    terminal = {"TERM": "xterm"}  # whatever the tests themselves run in
    console = Console(file=stream, force_terminal=True, width=150, _environ=terminal)
    with make_display(console, 1) as display:
        display.tell(Started(CELL, (0,)))
        display.tell(Advanced(CELL, (0,), progress(500, 3.0)))
        display.tell(Ended(CELL, State(missing=(0,)), ran=True))
    assert "all cells" in stream.getvalue()
    assert "ppo on gymnasium/CartPole-v1: not run" in stream.getvalue()
