"""The same code on a GPU; nothing here runs where there is none."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
import torch
from agents_support import ALGORITHMS, make_work
from torch import Tensor

from baselines.parts import layers
from baselines.parts.optim import Adam
from suite.configs import plain_config, resolve_config
from suite.protocols import PROTOCOLS, Budget
from suite.registry import engine_for, find_task, load_algorithm
from suite.runner import Outcome, Runner, Work, run

if not torch.cuda.is_available():
    pytest.skip("needs a GPU", allow_module_level=True)

SMOKE = PROTOCOLS["smoke"]


@pytest.fixture(autouse=True)
def usual_settings() -> Iterator[None]:
    yield
    torch.use_deterministic_algorithms(False)


def smoke_work(algorithm: str, task: str, steps: int) -> Work:
    config = resolve_config(load_algorithm(algorithm), task, SMOKE.name)
    engine = engine_for(find_task(task)).name
    plain = plain_config(config)
    return Work(algorithm, task, engine, SMOKE, steps, SMOKE.seeds, plain, device="cuda")


def digests(outcome: Outcome) -> list[str]:
    assert [(each.status, each.reason) for each in outcome.runs] == [("ok", "")] * len(outcome.runs)
    return [each.digest for each in outcome.runs]


@pytest.mark.filterwarnings("error::UserWarning")
@pytest.mark.parametrize("row", SMOKE.budgets, ids=lambda row: row.task)
@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_the_same_run_twice_is_the_same_run(algorithm: str, row: Budget) -> None:
    """Of every algorithm on every family, and without a warning about chance in a kernel."""
    work = smoke_work(algorithm, row.task, row.steps)
    one, other = run(work), run(work)
    assert digests(one) == digests(other)
    assert one.episodes == other.episodes


@pytest.fixture
def same_numbers(float64: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """Double precision, and nothing that a GPU does otherwise in single.

    Initial weights are made in float32, where a GPU's decomposition differs in the last bits. The
    fused Adam of CUDA reads its count as float32, whatever the default type.
    """
    orthogonal, new_adam = layers._orthogonal, Adam.__init__

    def init(self: Adam, *args: Any, **kwargs: Any) -> None:
        new_adam(self, *args, **kwargs)
        self._count = self._count.float()

    monkeypatch.setattr(
        layers, "_orthogonal", lambda noise: orthogonal(noise.cpu()).to(noise.device)
    )
    monkeypatch.setattr(Adam, "__init__", init)


def learn(work: Work) -> dict[str, Tensor]:
    running = Runner(work, lambda progress: None)
    running.train()
    assert [each.status for each in running.outcome().runs] == ["ok"] * len(work.seeds)
    return {name: rows.cpu() for name, rows in running.agent.parameters().items()}


@pytest.mark.usefixtures("same_numbers")
@pytest.mark.parametrize("task", ["gymnasium/CartPole-v1", "gymnasium/Pendulum-v1"])
@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_a_run_is_what_it_is_on_the_cpu(algorithm: str, task: str) -> None:
    work = make_work(algorithm, task, 240, (0, 1, 2))
    expected, learned = learn(work), learn(replace(work, device="cuda"))
    for name, rows in expected.items():
        torch.testing.assert_close(learned[name], rows, rtol=1e-6, atol=1e-6)


@pytest.mark.usefixtures("same_numbers")
@pytest.mark.parametrize("task", ["gymnasium/Pendulum-v1", "atari/Pong-v5"])
@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_a_seed_alone_equals_the_same_seed_among_three(algorithm: str, task: str) -> None:
    alone, together = (
        learn(replace(make_work(algorithm, task, 128, seeds), device="cuda"))
        for seeds in ((2,), (0, 1, 2))
    )
    for name, rows in alone.items():
        torch.testing.assert_close(rows[0], together[name][2], rtol=1e-6, atol=1e-6)
