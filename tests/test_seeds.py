"""Seeds that train together are what they would be alone, for every algorithm."""

from __future__ import annotations

import random
import sys
from collections.abc import Callable
from dataclasses import dataclass, field, fields, replace
from itertools import combinations
from typing import Any

import numpy as np
import pytest
import torch
from agents_support import ALGORITHMS, LEARNERS, make_work
from torch import Tensor, nn

from baselines.parts import rollout
from suite import runner
from suite.envs.lanes import Lanes
from suite.registry import load_algorithm
from suite.runner import Outcome, Runner
from suite.steps import LaneStep
from suite.tasks import Engine, Task

TASKS = ["gymnasium/CartPole-v1", "gymnasium/Pendulum-v1"]
STEPS = 240
TOLERANCE = 1e-6
"""Of parameters in double precision after some hundred steps: sums may be taken in any order."""

SAMPLERS = [
    name
    for name in LEARNERS
    if {f.name for f in fields(load_algorithm(name).config)} & {"batch_size", "minibatch_size"}
]


@dataclass
class Spy:
    """Stands between the runner and real training lanes."""

    resets: list[dict[str, np.ndarray]] = field(default_factory=list)
    actions: list[np.ndarray] = field(default_factory=list)
    trouble: Callable[[LaneStep], LaneStep] = lambda step: step
    """What to do to the outcome of a training step."""


class SpiedLanes(Lanes):
    def __init__(self, lanes: Lanes, spy: Spy) -> None:
        super().__init__(lanes.shape)
        self.lanes, self.spy = lanes, spy
        self.spaces, self.failures = lanes.spaces, lanes.failures

    def reset(self) -> dict[str, np.ndarray]:
        obs = self.lanes.reset()
        self.spy.resets.append({name: leaf.copy() for name, leaf in obs.items()})
        return obs

    def step(self, action: np.ndarray) -> LaneStep:
        self.spy.actions.append(action.copy())
        return self.spy.trouble(self.lanes.step(action))

    def close(self) -> None:
        self.lanes.close()


@pytest.fixture
def spy(monkeypatch: pytest.MonkeyPatch) -> Spy:
    spy = Spy()
    find_engine = runner.engine_for

    def engine_for(task: Task, name: str | None) -> Engine:
        engine = find_engine(task, name)

        def make(task: Task, seeds: np.ndarray, split: str, threads: int) -> Lanes:
            lanes = engine.make(task, seeds, split, threads)
            return SpiedLanes(lanes, spy) if split == "train" else lanes

        return replace(engine, make=make)

    monkeypatch.setattr(runner, "engine_for", engine_for)
    return spy


@dataclass
class Result:
    """What a run leaves, and what it learned."""

    outcome: Outcome
    parameters: dict[str, Tensor]

    def returns(self, seed: int) -> list[float]:
        return [e.return_ for e in self.outcome.episodes if e.seed == seed]


def train(algorithm: str, task: str, seeds: tuple[int, ...], evaluations: int = 1) -> Result:
    work = make_work(algorithm, task, STEPS, seeds, segments=2, evaluations=evaluations)
    running = Runner(work, lambda progress: None)
    running.train()
    return Result(running.outcome(), running.agent.parameters())


def assert_same_seed(one: Result, row: int, other: Result, other_row: int) -> None:
    seed = one.outcome.runs[row].seed
    assert other.outcome.runs[other_row].seed == seed
    assert one.returns(seed)
    assert one.returns(seed) == pytest.approx(other.returns(seed), rel=TOLERANCE)
    for name, rows in one.parameters.items():
        torch.testing.assert_close(
            rows[row], other.parameters[name][other_row], rtol=TOLERANCE, atol=TOLERANCE
        )


@pytest.mark.usefixtures("float64")
@pytest.mark.parametrize("task", TASKS)
@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_seed_3_alone_equals_seed_3_among_five(algorithm: str, task: str, spy: Spy) -> None:
    together = train(algorithm, task, (0, 1, 2, 3, 4))
    resets_together = list(spy.resets)
    spy.resets.clear()
    alone = train(algorithm, task, (3,))
    assert_same_seed(alone, 0, together, 3)
    assert len(spy.resets) == 2  # one per segment
    for mine, all_of_them in zip(spy.resets, resets_together, strict=True):
        for name, leaf in mine.items():
            assert leaf[0].tobytes() == all_of_them[name][3].tobytes()


@pytest.mark.usefixtures("float64")
@pytest.mark.parametrize("task", TASKS)
@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_permuting_the_seeds_permutes_the_results(algorithm: str, task: str) -> None:
    ordered = train(algorithm, task, (0, 1, 2))
    permuted = train(algorithm, task, (2, 0, 1))
    for row, other_row in ((0, 1), (1, 2), (2, 0)):
        assert_same_seed(ordered, row, permuted, other_row)


def assert_rows_differ(rows: Tensor | np.ndarray) -> None:
    for one, other in combinations(rows, 2):
        assert (one != other).any()


@pytest.mark.parametrize("algorithm", LEARNERS)
def test_seeds_differ_in_initial_weights(algorithm: str) -> None:
    work = make_work(algorithm, TASKS[0], STEPS, (0, 1, 2))
    agent = Runner(work, lambda progress: None).agent
    modules = [part for part in vars(agent).values() if isinstance(part, nn.Module)]
    weights = [p.detach() for module in modules for p in module.parameters()]
    drawn = [w for w in weights if w[0].numel() > 1 and (w[0] != w[0].flatten()[0]).any()]
    for rows in drawn:  # constants, such as a bias of zeros, are rightly the same
        assert_rows_differ(rows[:: len(rows) // 3])  # a3c's workers begin with equal copies
    assert drawn or not modules


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_seeds_differ_in_first_actions(algorithm: str, spy: Spy) -> None:
    train(algorithm, TASKS[0], (0, 1, 2))
    assert_rows_differ(np.stack(spy.actions[:16], axis=1))  # [S, T, E]


@pytest.mark.parametrize("algorithm", SAMPLERS)
def test_seeds_differ_in_first_sampled_indices(
    algorithm: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    sampled: list[Tensor] = []
    take = rollout.take

    def record(leaves: dict[str, Tensor], index: Tensor) -> dict[str, Tensor]:
        sampled.append(index)
        return take(leaves, index)

    for name, module in list(sys.modules.items()):
        if name.startswith("baselines.") and hasattr(module, "take"):
            monkeypatch.setattr(module, "take", record)
    train(algorithm, TASKS[0], (0, 1, 2))
    assert_rows_differ(sampled[0])


@pytest.mark.parametrize("task", TASKS)
def test_seeds_differ_in_environment_resets(task: str, spy: Spy) -> None:
    train("random", task, (0, 1, 2))
    for obs in spy.resets:
        for leaf in obs.values():
            assert_rows_differ(leaf)
            assert len(np.unique(leaf[..., 0])) == leaf[..., 0].size  # and so do their lanes


@pytest.mark.parametrize("task", TASKS)
@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_evaluating_more_often_changes_no_training(algorithm: str, task: str, spy: Spy) -> None:
    seldom = train(algorithm, task, (0, 1), evaluations=1)
    actions = list(spy.actions)
    spy.actions.clear()
    often = train(algorithm, task, (0, 1), evaluations=3)
    assert [run.digest for run in seldom.outcome.runs] == [run.digest for run in often.outcome.runs]
    assert np.stack(actions).tobytes() == np.stack(spy.actions).tobytes()


# One seed's numbers turn bad


def spoil(quantity: str, start: int) -> Callable[[LaneStep], LaneStep]:
    """Trouble: from a step on, seed row 1 gets NaN for rewards or observations."""
    count = [0]

    def trouble(step: LaneStep) -> LaneStep:
        count[0] += 1
        if count[0] < start:
            return step
        if quantity == "reward":
            reward = step.reward.copy()
            reward[1] = np.nan
            return step._replace(reward=reward)
        return step._replace(obs=spoiled(step.obs), next_obs=spoiled(step.next_obs))

    return trouble


def spoiled(obs: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    copies = {name: leaf.copy() for name, leaf in obs.items()}
    for leaf in copies.values():
        leaf[1] = np.nan
    return copies


def assert_others_unchanged(clean: Result, spoiled: Result) -> None:
    for row in (0, 2):
        one, other = clean.outcome.runs[row], spoiled.outcome.runs[row]
        assert (one.status, one.digest) == (other.status, other.digest)
        assert other.status == "ok"
        assert clean.returns(one.seed) == spoiled.returns(one.seed)


@pytest.mark.parametrize("quantity", ["observation", "reward"])
@pytest.mark.parametrize("task", TASKS)
@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_a_seed_poisoned_by_its_lanes_leaves_the_others_bitwise_unchanged(
    algorithm: str, task: str, quantity: str, spy: Spy
) -> None:
    clean = train(algorithm, task, (0, 1, 2))
    spy.actions.clear()
    spy.trouble = spoil(quantity, start=20)
    poisoned = train(algorithm, task, (0, 1, 2))
    lanes = spy.actions[0].shape[1]
    assert_others_unchanged(clean, poisoned)
    failed = poisoned.outcome.runs[1]
    assert failed.status == "diverged"
    assert failed.reason.startswith(quantity)
    assert failed.reason.endswith(f"is not finite at step {20 * lanes}")


@pytest.mark.parametrize("task", TASKS)
@pytest.mark.parametrize("algorithm", LEARNERS)
def test_a_seed_with_poisoned_parameters_leaves_the_others_bitwise_unchanged(
    algorithm: str, task: str, spy: Spy, monkeypatch: pytest.MonkeyPatch
) -> None:
    clean = train(algorithm, task, (0, 1, 2))
    agents: list[Any] = []
    start = Runner.train

    def train_one(self: Runner) -> None:
        agents.append(self.agent)
        start(self)

    def trouble(step: LaneStep) -> LaneStep:
        if len(spy.actions) == 20:
            for rows in agents[0].parameters().values():
                rows[1] = torch.nan
        return step

    monkeypatch.setattr(Runner, "train", train_one)
    spy.actions.clear()
    spy.trouble = trouble
    poisoned = train(algorithm, task, (0, 1, 2))
    assert_others_unchanged(clean, poisoned)
    assert poisoned.outcome.runs[1].status == "diverged"
    assert " is not finite at step " in poisoned.outcome.runs[1].reason


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_a_seed_whose_lane_raises_leaves_the_others_bitwise_unchanged(algorithm: str) -> None:
    clean = train(algorithm, "probes/identity-vector", (0, 1, 2))
    crashed = train(algorithm, "probes/crash", (0, 1, 2))
    assert_others_unchanged(clean, crashed)
    failed = crashed.outcome.runs[1]
    assert (failed.status, failed.reason) == ("crashed", "RuntimeError: lane 0 broke at step 3")


# No randomness but the streams


def global_generators() -> tuple[object, ...]:
    numpy_state = np.random.get_state()  # noqa: NPY002 - the very thing nobody may use
    return random.getstate(), numpy_state[1].tobytes(), torch.get_rng_state().numpy().tobytes()


def scramble(seed: int) -> None:
    random.seed(seed)
    np.random.seed(seed)  # noqa: NPY002
    torch.manual_seed(seed)


@pytest.mark.parametrize("task", TASKS)
@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_global_generators_are_neither_read_nor_moved(algorithm: str, task: str, spy: Spy) -> None:
    results = []
    for seed in (1, 2):
        scramble(seed)

        def trouble(step: LaneStep, seed: int = seed) -> LaneStep:
            if len(spy.actions) == 30:
                scramble(10 + seed)
            return step

        spy.actions.clear()
        spy.trouble = trouble
        results.append(train(algorithm, task, (0, 1)))
        after = global_generators()
        scramble(10 + seed)
        assert global_generators() == after
    one, other = (result.outcome for result in results)
    assert [run.digest for run in one.runs] == [run.digest for run in other.runs]
    assert one.episodes == other.episodes
