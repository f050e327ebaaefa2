"""The smoke protocol: every algorithm runs on a task of every family, from start to record."""

from __future__ import annotations

import math

import pytest
from agents_support import ALGORITHMS, FAMILIES

from suite.configs import plain_config, resolve_config
from suite.protocols import PROTOCOLS, Budget
from suite.registry import engine_for, find_task, load_algorithm
from suite.runner import Work, run

SMOKE = PROTOCOLS["smoke"]


def test_smoke_has_a_task_of_every_family():
    assert {row.task.split("/")[0] for row in SMOKE.budgets} == set(FAMILIES)


@pytest.mark.parametrize("row", SMOKE.budgets, ids=lambda row: row.task)
@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_every_algorithm_runs_on_every_family(algorithm: str, row: Budget):
    task = find_task(row.task)
    config = resolve_config(load_algorithm(algorithm), task.id, SMOKE.name)
    outcome = run(
        Work(
            algorithm=algorithm,
            task=task.id,
            engine=engine_for(task).name,
            protocol=SMOKE,
            steps=row.steps,
            seeds=SMOKE.seeds,
            config=plain_config(config),
        )
    )
    assert [(each.status, each.reason) for each in outcome.runs] == [("ok", "")] * 2
    learns = load_algorithm(algorithm).policy != "none"
    assert all((each.ledger[-1].updates > 0) == learns for each in outcome.runs)
    assert {episode.split for episode in outcome.episodes} == set(task.splits)
    played = (SMOKE.evaluations + 1) * SMOKE.episodes * len(SMOKE.seeds) * len(task.splits)
    assert len(outcome.episodes) == played
    assert all(math.isfinite(episode.return_) for episode in outcome.episodes)
