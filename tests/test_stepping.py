"""Both sides of the comparison of stepping speeds run, on every family that has one."""

from __future__ import annotations

import pytest

from suite.registry import family_names
from suite.stepping import PACKAGES, compare


def test_every_family_but_gymnasium_is_compared():
    assert {task.split("/")[0] for task in PACKAGES} == set(family_names()) - {"gymnasium"}


@pytest.mark.parametrize("task", PACKAGES)
def test_both_sides_step(task: str):
    rates = compare(task, rounds=1, steps=3)
    assert rates.ours > 0
    assert rates.ratio == pytest.approx(rates.ours / rates.alone)
    assert rates.package.startswith(PACKAGES[task][0])
