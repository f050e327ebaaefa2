"""Tiny agents for tests: every algorithm's smoke preset, and the shortest loop that trains one."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from suite import envs
from suite.configs import plain_config, resolve_config
from suite.envs.lanes import Lanes
from suite.interface import to_numpy, to_tensors
from suite.protocols import Protocol
from suite.registry import algorithm_names, engine_for, family_names, find_task, load_algorithm
from suite.runner import Work
from suite.spaces import Spaces
from suite.steps import Transition
from suite.streams import Streams

torch.set_num_threads(1)  # networks this small only lose time to threads

CPU = torch.device("cpu")

ALGORITHMS = algorithm_names()
"""Whatever the registry finds: a new file in ``baselines/`` is tested without being listed here."""

FAMILIES = [
    name
    for name in family_names()
    if any((Path(envs.__path__[0]) / end).exists() for end in (f"{name}.py", name))
]
"""The suite's own families, whatever else is installed beside it."""

LEARNERS = [name for name in ALGORITHMS if load_algorithm(name).policy != "none"]


def make_protocol(
    segments: int = 2, evaluations: int = 2, episodes: int = 2, time_limit: float = 1.0
) -> Protocol:
    return Protocol(
        name="smoke",
        version=1,
        purpose="-",
        budgets=(),
        seeds=(0,),
        segments=segments,
        evaluations=evaluations,
        episodes=episodes,
        time_limit=time_limit,
    )


def make_config(algorithm: str, task: str = "test/World", **changes: Any) -> Any:
    """The algorithm's smoke config with some fields changed."""
    return replace(resolve_config(load_algorithm(algorithm), task, "smoke"), **changes)


def make_work(
    algorithm: str,
    task: str,
    steps: int,
    seeds: tuple[int, ...] = (0, 1),
    changes: dict[str, Any] | None = None,
    **protocol: int,
) -> Work:
    """A short run of a real task on its default engine."""
    config = make_config(algorithm, task, **(changes or {}))
    engine = engine_for(find_task(task), None).name
    rules = make_protocol(**protocol)
    return Work(algorithm, task, engine, rules, steps, seeds, plain_config(config))


def make_agent(
    algorithm: str, spaces: Spaces, steps: int, seeds: tuple[int, ...] = (0, 1), **changes: Any
) -> Any:
    """An agent of the algorithm's smoke config with some fields changed."""
    config = make_config(algorithm, **changes)
    return load_algorithm(algorithm).build(spaces, config.lanes, steps, Streams(seeds), config)


@torch.no_grad()
def set_table(mlp: Any, rows: list[list[float]]) -> None:
    """Make a network without hidden layers give these outputs for observations 0 and 1."""
    ((weight, bias),) = mlp.layers(mlp.packed)
    weight.copy_(torch.tensor(rows))
    bias.zero_()


class Training:
    """The runner's inner loop without its book-keeping, to look at an agent between its steps."""

    def __init__(self, agent: Any, lanes: Lanes) -> None:
        self.agent, self.lanes = agent, lanes
        self.actions: list[Tensor] = []
        self.obs = to_tensors(lanes.reset(), CPU)
        self.first = torch.ones(lanes.shape, dtype=torch.bool)
        self.carry = agent.initial(lanes.shape[1])

    def go_on(self, steps: int) -> None:
        """Play and learn for ``steps`` steps per seed."""
        for _ in range(0, steps, self.lanes.shape[1]):
            self.carry, action, extras = self.agent.act(self.carry, self.obs, self.first, True)
            self.actions.append(action)
            step = self.lanes.step(to_numpy(action, self.lanes.spaces.action))
            terminated = torch.from_numpy(step.terminated)
            truncated = torch.from_numpy(step.truncated)
            reward = torch.from_numpy(step.reward)
            next_obs = to_tensors(step.next_obs, CPU)
            self.agent.observe(
                Transition(self.obs, action, reward, next_obs, terminated, truncated, extras)
            )
            self.obs = to_tensors(step.obs, CPU)
            self.first = terminated | truncated
