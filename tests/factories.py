"""Small records for tests, made from the scores that they should have."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from suite.protocols import (
    PROTOCOLS,
    budget,
    comparability_key,
    evaluation_steps,
    rules_for,
    run_seeds,
)
from suite.records import Episode, LedgerRow, Record, SeedRun, episode_table
from suite.tasks import Task

BOUNDS: dict[str, tuple[float, float]] = {
    "gymnasium/CartPole-v1": (22.69, 500.0),
    "gymnasium/Pendulum-v1": (-1255.55, -150.0),
    "mujoco/HalfCheetah-v5": (-282.49, 12138.8),
    "mujoco/InvertedPendulum-v5": (5.23, 1000.0),
}
"""Floor and cap of the tasks that have a normalised score here; other tasks have none."""


def make_record(
    algorithm: str = "ppo",
    task: str = "gymnasium/CartPole-v1",
    protocol: str = "quick",
    scores: Sequence[float] = (100.0, 200.0, 300.0, 400.0, 500.0),
    statuses: Sequence[str] | None = None,
    splits: Sequence[str] = ("eval",),
    steps: int | None = None,
    seeds: Sequence[int] | None = None,
    wall_seconds: float = 60.0,
    **changes: Any,
) -> Record:
    """Make a valid record.

    Args:
        algorithm: its id.
        task: ``family/name``.
        protocol: a protocol's name; other names via ``changes``.
        scores: the score of each seed (were it ok): returns rise from the floor (0 without bounds)
            in a straight line over the first nine tenths of the budget, then stay at the score,
            with a spread over episodes that cancels out.
        statuses: status of each seed; one that is not ``ok`` stops after half of its evaluations,
            a crashed one has no episodes.
        splits: each split has the same returns, but ``train-levels`` one more per episode.
        steps: budget; None: the protocol's, or 10,000 where it has none.
        seeds: run seeds; None: the protocol's first ones.
        wall_seconds: training time of the whole budget.
        changes: replaces fields of the record.
    """
    rules = rules_for(PROTOCOLS[protocol], algorithm, task)
    steps = steps or budget(rules, algorithm, task) or 10_000
    seeds = tuple(seeds or run_seeds(rules, len(scores)))
    statuses = statuses or ["ok"] * len(scores)
    floor, cap = BOUNDS.get(task, (0.0, 0.0))
    due = evaluation_steps(rules, steps)

    runs, episodes = [], []
    for seed, score, status in zip(seeds, scores, statuses, strict=True):
        share = {"ok": len(due), "crashed": 0}.get(status, len(due) // 2)
        runs.append(_run(seed, status, seeds, due[:share], wall_seconds))
        for step in due[:share]:
            level = floor + (score - floor) * min(1.0, step / (0.9 * steps))
            for split in splits:
                middle = level + (split == "train-levels")
                for number in range(rules.episodes):
                    spread = 0.01 * (2 * number - rules.episodes + 1)
                    episodes.append(Episode(seed, step, split, number, middle + spread, 100))

    actions = "continuous" if task.startswith("mujoco") or "Pendulum" in task else "discrete"
    subject = Task(task, actions, 500, "test domain", "low", "Nobody 2000")
    record = Record(
        algorithm=algorithm,
        task=task,
        protocol=protocol,
        protocol_version=rules.version,
        budget=steps,
        key=comparability_key(rules, subject, steps, "gymnasium", {"gymnasium": "1.4.0"}),
        config={"learning_rate": 0.0003, "hidden_sizes": [64, 64], "activation": "tanh"},
        fit="native",
        adapter="",
        evaluation="greedy",
        engine="envpool",
        versions={"python": "3.11.9", "torch": "2.13.0", "numpy": "2.4.0", "gymnasium": "1.4.0"},
        source_hash=hashlib.sha256(algorithm.encode()).hexdigest(),
        normalisation={
            "floor": floor,
            "cap": cap,
            "floor_source": "random policy, 200 episodes",
            "cap_source": "step limit",
        }
        if task in BOUNDS
        else None,
        task_info={
            "domain": subject.domain,
            "complexity": subject.complexity,
            "paper": subject.paper,
            "actions": subject.actions,
            "horizon": subject.horizon,
        },
        runs=tuple(runs),
        episodes=episode_table(episodes),
    )
    return replace(record, **changes)


def make_trial(steps: int = 1_000, **arguments: Any) -> Record:
    """Make a record of a trial: the protocol's rules with another budget."""
    return replace(make_record(steps=steps, **arguments), protocol="trial")


def _run(
    seed: int, status: str, together: tuple[int, ...], due: Sequence[int], wall_seconds: float
) -> SeedRun:
    seconds = [round(wall_seconds * step / max(1, due[-1]), 3) for step in due]
    ledger = [
        LedgerRow(step, step, step // 10, wall, wall, 300.0)
        for step, wall in zip(due, seconds, strict=True)
    ]
    return SeedRun(
        seed=seed,
        status=status,
        reason="" if status == "ok" else f"{status} at step {due[-1] if due else 0}: loss",
        attempts=3 if status == "crashed" else 1,
        trained_with=together,
        threads=1,
        device="cpu",
        ledger=tuple(ledger),
        digest=hashlib.sha256(str(seed).encode()).hexdigest() if status == "ok" else "",
        started="2025-01-01T00:00:00Z",
        finished="2025-01-01T00:10:00Z",
        commit="0123456789abcdef0123456789abcdef01234567",
        dirty=False,
        machine={"cpu": "test processor", "cores": 2, "memory_gb": 8.0, "gpu": None},
    )
