"""Values in the form that JSON holds."""

from __future__ import annotations

import math

from suite.statistics import Interval


def plain_interval(interval: Interval | None) -> dict[str, float | None] | None:
    """An interval by the names of its parts; an end that may not be given is null."""
    if interval is None:
        return None
    return {name: finite(number) for name, number in interval._asdict().items()}


def finite(number: float) -> float | None:
    """A number; NaN is null."""
    return None if math.isnan(number) else number
