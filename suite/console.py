"""What a bench shows while it runs: progress bars on a terminal, else a plain line now and then."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from types import TracebackType
from typing import Protocol, Self

from rich import progress as bars
from rich.console import Console

from suite.bench import Advanced, Ended, Remark, Started, Update
from suite.cells import Cell
from suite.runner import Progress

LINE_SECONDS = 30.0
"""Between two lines about the same cell where there is no terminal."""


@dataclass
class Meter:
    """Speed and time left of one cell."""

    total: int
    """Agent steps of all its seeds."""
    clock: Callable[[], float] = time.monotonic
    _steps: dict[int, int] = field(default_factory=dict)
    """How far each seed is."""
    _scores: dict[int, float | None] = field(default_factory=dict)
    """Mean return of each seed's latest evaluation; None if it failed."""
    _begin: tuple[float, int] | None = None
    """When the first news came, and the steps done by then: a resumed cell does not start at 0."""

    def advance(self, seeds: tuple[int, ...], progress: Progress) -> None:
        """Take in how far a group of seeds is."""
        self._steps |= dict.fromkeys(seeds, progress.step)
        self._scores |= zip(seeds, progress.scores, strict=True)
        if self._begin is None:
            self._begin = (self.clock(), self.done)

    @property
    def done(self) -> int:
        """Agent steps so far, of all seeds."""
        return sum(self._steps.values())

    @property
    def speed(self) -> float:
        """Agent steps per second, summed over the seeds; 0 as long as it is unknown."""
        if self._begin is None:
            return 0.0
        begin, done = self._begin
        seconds = self.clock() - begin
        return (self.done - done) / seconds if seconds > 0 else 0.0

    @property
    def text(self) -> str:
        """Such as ``1,234 steps/s, 0:02:10 left, score 212.5``; the score is the seeds' mean."""
        parts = []
        if self.speed:
            left = duration((self.total - self.done) / self.speed)
            parts += [f"{self.speed:,.0f} steps/s", f"{left} left"]
        scores = [score for score in self._scores.values() if score is not None]
        if scores:
            parts.append(f"score {statistics.fmean(scores):,.1f}")
        return ", ".join(parts)


class Display(Protocol):
    """Shows the updates of a bench; a context manager around its run."""

    def __enter__(self) -> Self: ...

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None: ...

    def tell(self, update: Update) -> None:
        """Take in an update."""


def make_display(console: Console, cells: int) -> Display:
    """Make the display that fits a console."""
    return Bars(console, cells) if console.is_terminal else Lines(console)


class Bars:
    """Progress bars: one over all cells and one for each that runs."""

    def __init__(self, console: Console, cells: int) -> None:
        self._console = console
        self._bars = bars.Progress(
            bars.TextColumn("{task.description}"),
            bars.BarColumn(),
            bars.MofNCompleteColumn(),
            bars.TextColumn("{task.fields[text]}"),
            console=console,
            transient=True,
        )
        self._all = self._bars.add_task("all cells", total=cells, text="")
        self._running: dict[str, tuple[Meter, bars.TaskID]] = {}

    def __enter__(self) -> Self:
        self._bars.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._bars.stop()

    def tell(self, update: Update) -> None:
        cell = update.cell
        match update:
            case Started(seeds=seeds):
                total = cell.steps * len(seeds)
                bar = self._bars.add_task(cell.name, total=total, text="starts")
                self._running[cell.name] = (Meter(total), bar)
            case Advanced(seeds=seeds, progress=progress):
                meter, bar = self._running[cell.name]
                meter.advance(seeds, progress)
                self._bars.update(bar, completed=meter.done, text=meter.text)
            case Ended():
                if cell.name in self._running:
                    self._bars.remove_task(self._running.pop(cell.name)[1])
                self._bars.advance(self._all)
                self._console.print(ending(update), markup=False, highlight=False)
            case Remark(text=text):
                self._console.print(f"{cell.name}: {text}", markup=False, highlight=False)


class Lines:
    """Plain lines, for logs."""

    def __init__(self, console: Console, clock: Callable[[], float] = time.monotonic) -> None:
        self._console = console
        self._clock = clock
        self._running: dict[str, Meter] = {}
        self._last: dict[str, float] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        return None

    def tell(self, update: Update) -> None:
        cell = update.cell
        match update:
            case Started(seeds=seeds):
                self._running[cell.name] = Meter(cell.steps * len(seeds), self._clock)
                self._last[cell.name] = self._clock()
                self._print(f"{cell.name}: {_seeds(cell, seeds)}, {cell.steps:,} steps each")
            case Advanced(seeds=seeds, progress=progress):
                meter = self._running[cell.name]
                meter.advance(seeds, progress)
                if self._clock() - self._last[cell.name] >= LINE_SECONDS:
                    self._last[cell.name] = self._clock()
                    self._print(f"{cell.name}: {meter.done:,}/{meter.total:,} steps, {meter.text}")
            case Ended():
                self._print(ending(update))
            case Remark(text=text):
                self._print(f"{cell.name}: {text}")

    def _print(self, text: str) -> None:
        self._console.print(text, markup=False, highlight=False, soft_wrap=True)


def ending(update: Ended) -> str:
    """One line about a cell that is done with."""
    state = update.state
    if state.damage:
        return f"{update.cell.name}: left alone, its record is damaged: {state.damage}"
    if state.stale:
        differs = ", ".join(state.stale)
        return f"{update.cell.name}: stale, left as it is ({differs}); --stale runs it again"
    return f"{update.cell.name}: {state.word}{'' if update.ran else ', nothing to run'}"


def duration(seconds: float) -> str:
    """Hours, minutes and seconds, such as ``1:02:03``."""
    minutes, rest = divmod(int(seconds), 60)
    return f"{minutes // 60}:{minutes % 60:02}:{rest:02}"


def _seeds(cell: Cell, seeds: tuple[int, ...]) -> str:
    number = f"{len(seeds)} seed{'s' if len(seeds) > 1 else ''}"
    return number if len(seeds) == len(cell.seeds) else f"{number} of {len(cell.seeds)}"
