"""The runner, watched from outside: a world that counts and an agent that forgets nothing."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from agents_support import ALGORITHMS, CPU, make_protocol, make_work
from torch import Tensor

from baselines.agent import Algorithm, Metrics, Setting
from suite import runner
from suite.checkpoint import save_checkpoint
from suite.envs import lanes as lanes_module
from suite.envs.lanes import Lanes, Usage
from suite.evaluation import evaluate
from suite.runner import Outcome, Progress, Work, run
from suite.spaces import Discrete, Spaces, box
from suite.steps import Carry, LaneStep, Observation, Transition
from suite.tasks import Engine, Task

EPISODE_STEPS = 3


class CountingLanes(Lanes):
    """Episodes of three steps; an observation tells the lane, the episode and the time.

    Lanes with an even seed terminate, the others are truncated. The reward is the action.
    """

    spaces = Spaces({"observation": box(-np.inf, np.inf, (3,))}, Discrete(5))

    def __init__(self, seeds: np.ndarray, training: bool, world: World) -> None:
        super().__init__(seeds.shape)
        self.seeds, self.training, self.world = seeds, training, world
        self.episode = np.zeros(self.shape, np.int64)
        self.time = np.zeros(self.shape, np.int64)
        self._note("make")

    def reset(self) -> dict[str, np.ndarray]:
        self._note("reset")
        return self._obs()

    def step(self, action: np.ndarray) -> LaneStep:
        self._note("step")
        self.time += 1
        next_obs = self._obs()
        ended = self.time == self.world.episode_steps
        terminated = ended & (self.seeds % 2 == 0)
        self.episode += ended
        self.time[ended] = 0
        obs = self._obs() if ended.any() else next_obs
        reward = action.astype(np.float32)
        step = LaneStep(obs, next_obs, reward, terminated, ended & ~terminated)
        return self.world.trouble(self, step)

    def usage(self) -> Usage:
        return self.world.usage(self)

    def close(self) -> None:
        self._note("close")

    def _obs(self) -> dict[str, np.ndarray]:
        leaf = np.stack([self.seeds % 1000, self.episode, self.time], axis=-1)
        return {"observation": leaf.astype(np.float32)}

    def _note(self, event: str) -> None:
        self.world.tape.append(f"{'train' if self.training else 'evaluate'} {event}")


@dataclass
class World:
    """What happened, in order, and what should go wrong."""

    tape: list[str] = field(default_factory=list)
    lane_seeds: list[np.ndarray] = field(default_factory=list)
    transitions: list[Transition] = field(default_factory=list)
    firsts: list[Tensor] = field(default_factory=list)
    evaluated: list[Tensor] = field(default_factory=list)
    episode_steps: int = EPISODE_STEPS
    trouble: Callable[[CountingLanes, LaneStep], LaneStep] = lambda lanes, step: step
    losses: Callable[[int, Tensor], Tensor] = lambda count, loss: loss
    usage: Callable[[CountingLanes], Usage] = lambda lanes: Usage(0.0, 0.0)

    def make(self, task: Task, seeds: np.ndarray, split: str, threads: int) -> CountingLanes:
        self.lane_seeds.append(seeds)
        return CountingLanes(seeds, split == "train", self)

    def steps_taken(self) -> int:
        return self.tape.count("train step")


@dataclass(frozen=True)
class TapeConfig:
    lanes: int = 1
    number: float = 0.0


class TapeAgent:
    """Acts by its streams and folds all it sees into its parameters: any difference shows."""

    def __init__(self, setting: Setting, config: TapeConfig, world: World) -> None:
        self.streams, self.world = setting.streams, world
        self.memory = torch.full((setting.num_seeds, 1), config.number, dtype=torch.float64)
        self.updates = 0

    def initial(self, lanes: int) -> Carry:
        return 0

    def act(
        self, carry: Carry, obs: Observation, first: Tensor, explore: bool
    ) -> tuple[Carry, Tensor, dict[str, Tensor]]:
        self.world.tape.append("act" if explore else "act greedily")
        if explore:
            self.world.firsts.append(first)
        else:
            self.world.evaluated.append(torch.cat([obs["observation"], first.unsqueeze(-1)], -1))
        role = "exploration" if explore else "evaluation"
        action = self.streams.integers(role, 5, first.shape[1])
        return carry + 1, action, {"calls": torch.full(first.shape, carry)}

    def observe(self, transition: Transition) -> Metrics | None:
        self.world.tape.append("observe")
        self.world.transitions.append(transition)
        leaves = (*transition.obs.values(), *transition.next_obs.values(), *transition[1:3])
        leaves += (transition.terminated, transition.truncated, *transition.extras.values())
        seen = torch.cat([leaf.flatten(1).double() for leaf in leaves], dim=1)
        self.memory = torch.sin(self.memory + seen.cumsum(dim=1).sum(dim=1, keepdim=True))
        self.updates += 1
        return {"loss": self.world.losses(self.updates, self.memory[:, 0])}

    def state_dict(self) -> dict[str, Any]:
        streams = self.streams.state_dict()
        return {"memory": self.memory, "updates": self.updates, "streams": streams}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.memory, self.updates = state["memory"], state["updates"]
        self.streams.load_state_dict(state["streams"])

    def parameters(self) -> dict[str, Tensor]:
        return {"memory": self.memory}


@pytest.fixture
def world(monkeypatch: pytest.MonkeyPatch) -> World:
    """A world in which the runner finds the tape algorithm, whatever it looks for."""
    world = World()
    algorithm = Algorithm(
        title="Tape",
        category="reference",
        key_idea="-",
        policy="none",
        paper="-",
        config=TapeConfig,
        make=lambda setting, config: TapeAgent(setting, config, world),
        native_actions=frozenset({"discrete"}),
    )
    task = Task("test/Counting", "discrete", EPISODE_STEPS, "-", "-", "-", frames_per_step=4)
    monkeypatch.setattr(runner, "load_algorithm", lambda name: algorithm)
    monkeypatch.setattr(runner, "source_hash", lambda name: "hash of tape")
    monkeypatch.setattr(runner, "find_task", lambda name: task)
    monkeypatch.setattr(runner, "engine_for", lambda task, name: Engine("own", (), world.make))
    return world


def tape_work(
    steps: int = 12,
    seeds: tuple[int, ...] = (0, 1, 2),
    lanes: int = 1,
    folder: Path | None = None,
    number: float = 0.0,
    **protocol: Any,
) -> Work:
    rules = make_protocol(**({"segments": 3, "evaluations": 2, "episodes": 2} | protocol))
    config: dict[str, object] = {"lanes": lanes, "number": number}
    return Work("tape", "test/Counting", "own", rules, steps, seeds, config, folder=folder)


def facts(outcome: Outcome) -> object:
    """Everything of an outcome that must not depend on when and how fast it was computed."""
    seeds = [(run.seed, run.status, run.reason, run.digest) for run in outcome.runs]
    ledgers = [[(row.step, row.frames, row.updates) for row in run.ledger] for run in outcome.runs]
    return seeds, ledgers, outcome.episodes


def statuses(outcome: Outcome) -> list[str]:
    return [run.status for run in outcome.runs]


def digests(outcome: Outcome) -> list[str]:
    return [run.digest for run in outcome.runs]


def interrupt(world: World, after: int) -> Callable[[CountingLanes, LaneStep], LaneStep]:
    """Trouble: Ctrl-C at a step of any lanes, counted from now."""
    left = [after]

    def trouble(lanes: CountingLanes, step: LaneStep) -> LaneStep:
        left[0] -= 1
        if left[0] == 0:
            raise KeyboardInterrupt
        return step

    return trouble


def crash(row: int, after: int) -> Callable[[CountingLanes, LaneStep], LaneStep]:
    """Trouble: a lane of a seed dies in training; it delivers zeros from then on."""
    left = [after]

    def trouble(lanes: CountingLanes, step: LaneStep) -> LaneStep:
        left[0] -= lanes.training
        if left[0] <= 0:
            lanes.failures[row] = "the lane is gone"
            for leaf in (*step.obs.values(), *step.next_obs.values(), *step[2:]):
                leaf[row] = 0
        return step

    return trouble


# The order of events


def test_the_loop_resets_acts_steps_observes_and_evaluates_in_this_order(world: World) -> None:
    run(tape_work(steps=4, seeds=(0,), segments=2, evaluations=1, episodes=1))
    spaces = ["train make", "train close"]
    evaluation = ["evaluate make", "evaluate reset"]
    evaluation += ["act greedily", "evaluate step"] * 3 + ["evaluate close"]
    first = ["train make", "train reset", *["act", "train step", "observe"] * 2, "train close"]
    second = ["train make", "train reset", *["act", "train step", "observe"] * 2]
    assert world.tape == [*spaces, *evaluation, *first, *second, *evaluation, "train close"]


def test_transitions_hold_the_true_next_observation(world: World) -> None:
    run(tape_work(steps=12, segments=2))
    assert len(world.transitions) == 12
    for transition in world.transitions:
        change = transition.next_obs["observation"] - transition.obs["observation"]
        assert (change == torch.tensor([0.0, 0.0, 1.0])).all()


def test_acting_goes_on_from_the_new_episode_where_one_ended(world: World) -> None:
    run(tape_work(steps=6, seeds=(0,), segments=1))
    seen = [t.obs["observation"][0, 0, 1:].tolist() for t in world.transitions]
    assert seen == [[0, 0], [0, 1], [0, 2], [1, 0], [1, 1], [1, 2]]


def test_first_marks_the_steps_that_begin_an_episode_also_after_a_cut(world: World) -> None:
    run(tape_work(steps=8, segments=2))
    marked = [first.all().item() for first in world.firsts]
    assert marked == [True, False, False, True, True, False, False, True]
    assert all(first.all() == first.any() for first in world.firsts)


def test_a_cut_truncates_the_episodes_that_did_not_terminate(world: World) -> None:
    run(tape_work(steps=8, seeds=(0, 1, 2, 3), lanes=2, segments=2))
    ends = [t.terminated.any() | t.truncated.any() for t in world.transitions]
    assert ends == [False, True, False, True]
    for transition in (world.transitions[1], world.transitions[3]):
        assert not transition.terminated.any()
        assert transition.truncated.all()


def test_a_cut_leaves_a_step_that_terminated_alone(world: World) -> None:
    run(tape_work(steps=6, seeds=tuple(range(8)), segments=2))
    terminates = torch.from_numpy(world.lane_seeds[-2] % 2 == 0)  # the second segment's lanes
    assert terminates.any()
    assert (world.transitions[-1].terminated == terminates).all()
    assert (world.transitions[-1].truncated == ~terminates).all()


def test_the_carry_begins_anew_in_every_segment_and_evaluation_has_its_own(world: World) -> None:
    run(tape_work(steps=6, segments=2, evaluations=6))
    calls = [int(t.extras["calls"][0, 0]) for t in world.transitions]
    assert calls == [0, 1, 2, 0, 1, 2]


def test_lanes_of_training_evaluation_and_segments_share_no_seed(world: World) -> None:
    run(tape_work(steps=4, lanes=2, segments=2, evaluations=1, episodes=2))
    spaces, evaluated, first, second, evaluated_again = world.lane_seeds
    assert (spaces == first).all()  # only a look at the spaces
    used = np.concatenate([evaluated, first, second, evaluated_again], axis=None)
    assert len(set(used.tolist())) == len(used) == 4 * 3 * 2


# Budgets


@pytest.mark.parametrize(
    ("steps", "lanes", "played"), [(12, 1, 12), (12, 4, 12), (10, 4, 12), (3, 8, 8)]
)
def test_a_budget_is_kept_exactly_or_rounded_up_to_whole_steps_of_all_lanes(
    world: World, steps: int, lanes: int, played: int
) -> None:
    outcome = run(tape_work(steps=steps, lanes=lanes))
    assert world.steps_taken() * lanes == played
    assert outcome.runs[0].ledger[-1].step == steps


def test_evaluations_come_at_the_protocols_steps_and_before_training(world: World) -> None:
    outcome = run(tape_work(steps=10, seeds=(7,), evaluations=4, episodes=3))
    assert sorted({episode.step for episode in outcome.episodes}) == [0, 2, 5, 7, 10]
    assert [row.step for row in outcome.runs[0].ledger] == [0, 2, 5, 7, 10]
    assert [row.frames for row in outcome.runs[0].ledger] == [0, 8, 20, 28, 40]
    assert [row.updates for row in outcome.runs[0].ledger] == [0, 2, 5, 7, 10]
    assert [e.episode for e in outcome.episodes if e.step == 5] == [0, 1, 2]


def test_an_evaluation_passed_over_by_many_lanes_is_still_entered(world: World) -> None:
    outcome = run(tape_work(steps=8, lanes=4, evaluations=8))
    assert [row.step for row in outcome.runs[0].ledger] == list(range(9))
    assert [row.updates for row in outcome.runs[0].ledger] == [0, 1, 1, 1, 1, 2, 2, 2, 2]


def test_the_ledger_only_grows(world: World) -> None:
    outcome = run(tape_work(steps=40, evaluations=10))
    for seed in outcome.runs:
        for before, after in zip(seed.ledger[:-1], seed.ledger[1:], strict=True):
            pairs = zip(before, after, strict=True)
            assert all(earlier <= later for earlier, later in pairs)
        assert seed.ledger[-1].cpu_seconds > 0
        assert seed.ledger[-1].peak_memory_mb > 0


def test_training_time_leaves_evaluation_out(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    now = [0.0]

    def trouble(lanes: CountingLanes, step: LaneStep) -> LaneStep:
        now[0] += 1 if lanes.training else 100
        return step

    world.trouble = trouble
    monkeypatch.setattr(runner.time, "monotonic", lambda: now[0])
    outcome = run(tape_work(steps=6, segments=2, evaluations=3))
    assert [row.wall_seconds for row in outcome.runs[0].ledger] == [0, 2, 4, 6]


def test_the_ledger_counts_what_the_lanes_own_processes_use(world: World) -> None:
    alone = run(tape_work(steps=6, segments=2, evaluations=3)).runs[0].ledger
    used = [0.0]

    def trouble(lanes: CountingLanes, step: LaneStep) -> LaneStep:
        used[0] += 1000
        return step

    world.trouble = trouble
    world.usage = lambda lanes: Usage(used[0], 1e6 if lanes.training else 2e6)
    ledger = run(tape_work(steps=6, segments=2, evaluations=3)).runs[0].ledger
    extra = [round(row.cpu_seconds, -3) for row in ledger]
    assert extra == [0, 2000, 4000, 6000]  # of training; evaluation left out
    assert max(row.peak_memory_mb for row in alone) < 1e6
    assert [round(row.peak_memory_mb, -6) for row in ledger] == [0, 3e6, 3e6, 3e6]


def test_progress_tells_steps_and_scores(world: World) -> None:
    told: list[Progress] = []
    outcome = run(tape_work(steps=4, seeds=(0, 1), evaluations=2), told.append)
    at_evaluations = [p for p in told if p.step in (0, 2, 4)]
    assert [p.step for p in told] == sorted(p.step for p in told)
    assert {p.steps for p in told} == {4}
    last = [e.return_ for e in outcome.episodes if e.step == 4 and e.seed == 1]
    assert at_evaluations[-1].scores[1] == pytest.approx(np.mean(last))


# The same numbers again


def test_the_same_work_twice_gives_identical_episodes_and_digests(world: World) -> None:
    first, second = run(tape_work()), run(tape_work())
    assert facts(first) == facts(second)
    assert len(set(digests(first))) == 3


def test_evaluating_twice_as_often_changes_no_training(world: World) -> None:
    seldom, often = run(tape_work(evaluations=2)), run(tape_work(evaluations=4))
    assert digests(seldom) == digests(often)
    assert len(often.episodes) > len(seldom.episodes)


def test_longer_evaluations_change_no_training(world: World) -> None:
    assert digests(run(tape_work(episodes=2))) == digests(run(tape_work(episodes=5)))


@pytest.mark.parametrize("after", range(1, 12 + 3 * 3 + 1))
def test_a_run_cut_at_any_moment_and_resumed_equals_an_uninterrupted_one(
    world: World, tmp_path: Path, after: int
) -> None:
    whole = run(tape_work(steps=12, segments=4, evaluations=2))
    work = tape_work(steps=12, segments=4, evaluations=2, folder=tmp_path)
    world.trouble = interrupt(world, after)
    with pytest.raises(KeyboardInterrupt):
        run(work)
    world.trouble = lambda lanes, step: step
    assert facts(run(work)) == facts(whole)


def test_a_finished_segment_is_not_played_again(world: World, tmp_path: Path) -> None:
    work = tape_work(steps=12, segments=4, evaluations=1, folder=tmp_path)
    world.trouble = interrupt(world, 3 + 8)
    with pytest.raises(KeyboardInterrupt):
        run(work)
    world.tape.clear()
    world.trouble = lambda lanes, step: step
    run(work)
    assert world.steps_taken() == 12 - 6


def test_a_finished_run_is_read_back_without_a_step(world: World, tmp_path: Path) -> None:
    work = tape_work(folder=tmp_path)
    first = run(work)
    world.tape.clear()
    second = run(work)
    assert world.tape == ["train make", "train close"]
    assert facts(first) == facts(second)
    assert [r.ledger for r in first.runs] == [r.ledger for r in second.runs]
    assert first.runs[0].started == second.runs[0].started


@pytest.mark.parametrize(
    "change",
    [
        {"number": 1.0},
        {"seeds": (0, 1, 3)},
        {"seeds": (2, 1, 0)},
        {"steps": 15},
        {"lanes": 2},
        {"episodes": 3},
        {"segments": 6},
    ],
    ids=str,
)
def test_a_checkpoint_of_other_work_is_ignored(
    world: World, tmp_path: Path, change: dict[str, Any]
) -> None:
    run(tape_work(folder=tmp_path))
    fresh = run(tape_work(**change))
    assert facts(run(tape_work(folder=tmp_path, **change))) == facts(fresh)


def test_a_checkpoint_of_other_source_is_ignored(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run(tape_work(folder=tmp_path))
    monkeypatch.setattr(runner, "source_hash", lambda name: "hash of other source")
    world.tape.clear()
    run(tape_work(folder=tmp_path))
    assert world.steps_taken() == 12


def test_half_a_checkpoint_never_takes_the_old_ones_place(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    work = tape_work(steps=12, segments=4, folder=tmp_path)
    whole = run(tape_work(steps=12, segments=4))
    saves = []

    def save_half(path: Path, state: dict[str, Any]) -> None:
        saves.append(path)
        if len(saves) == 3:
            path.with_suffix(".new").write_bytes(b"half of")
            raise KeyboardInterrupt
        save_checkpoint(path, state)

    with monkeypatch.context() as patch:
        patch.setattr(runner, "save_checkpoint", save_half)
        with pytest.raises(KeyboardInterrupt):
            run(work)
    assert facts(run(work)) == facts(whole)


# Failures


def test_a_crashed_lane_marks_its_seed_and_the_others_go_on_unchanged(world: World) -> None:
    clean = run(tape_work())
    world.trouble = crash(row=1, after=7)
    outcome = run(tape_work())
    assert statuses(outcome) == ["ok", "crashed", "ok"]
    assert outcome.runs[1].reason == "the lane is gone"
    assert [row.step for row in outcome.runs[1].ledger] == [0, 6]
    assert {e.step for e in outcome.episodes if e.seed == 1} == {0, 6}
    for row in (0, 2):
        assert outcome.runs[row].digest == clean.runs[row].digest
        assert outcome.runs[row].reason == ""
    others = [[e for e in out.episodes if e.seed != 1] for out in (clean, outcome)]
    assert others[0] == others[1]


def test_a_lane_that_dies_in_evaluation_neither_holds_it_up_nor_hides(world: World) -> None:
    def trouble(lanes: CountingLanes, step: LaneStep) -> LaneStep:
        if not lanes.training:
            lanes.failures[1] = "the lane is gone"
            for leaf in (*step.obs.values(), *step.next_obs.values(), *step[2:]):
                leaf[1] = 0
        return step

    clean = run(tape_work(evaluations=1))
    world.tape.clear()
    world.trouble = trouble
    outcome = run(tape_work(evaluations=1))
    assert statuses(outcome) == ["ok", "crashed", "ok"]
    assert digests(outcome)[::2] == digests(clean)[::2]
    assert not [e for e in outcome.episodes if e.seed == 1]
    assert world.tape.count("evaluate step") == 2 * EPISODE_STEPS


@pytest.mark.parametrize("value", [(np.nan, 0.0), (np.inf, 0.0), (np.inf, -np.inf)], ids=str)
@pytest.mark.parametrize("quantity", ["reward", "observation"])
def test_a_number_that_is_not_finite_marks_its_seed_as_diverged(
    world: World, quantity: str, value: tuple[float, float]
) -> None:
    def trouble(lanes: CountingLanes, step: LaneStep) -> LaneStep:
        if lanes.training and world.steps_taken() == 4:
            leaf = step.reward if quantity == "reward" else step.next_obs["observation"][..., 2]
            leaf[1] = value
        return step

    clean = run(tape_work(steps=12, lanes=2, evaluations=3))
    world.tape.clear()
    world.trouble = trouble
    outcome = run(tape_work(steps=12, lanes=2, evaluations=3))
    assert statuses(outcome) == ["ok", "diverged", "ok"]
    name = {"reward": "reward", "observation": "observation 'observation'"}[quantity]
    assert outcome.runs[1].reason == f"{name} is not finite at step 8"
    assert [row.step for row in outcome.runs[1].ledger] == [0, 4]
    assert digests(outcome)[::2] == digests(clean)[::2]


def test_large_numbers_whose_sum_overflows_are_no_divergence(world: World) -> None:
    def trouble(lanes: CountingLanes, step: LaneStep) -> LaneStep:
        step.next_obs["observation"][..., 0] = 3e38
        return step

    world.trouble = trouble
    assert statuses(run(tape_work())) == ["ok", "ok", "ok"]


def test_a_loss_that_is_not_finite_marks_its_seed_as_diverged(world: World) -> None:
    def losses(count: int, loss: Tensor) -> Tensor:
        return torch.tensor([0.0, 0.0, torch.nan]) if count == 5 else loss

    world.losses = losses
    outcome = run(tape_work())
    assert statuses(outcome) == ["ok", "ok", "diverged"]
    assert outcome.runs[2].reason == "loss is not finite at step 5"


def test_parameters_that_are_not_finite_are_found_at_the_next_evaluation(world: World) -> None:
    def losses(count: int, loss: Tensor) -> Tensor:
        if count == 4:
            loss[0] = torch.nan  # a view of the parameters
        return torch.zeros(3)

    world.losses = losses
    outcome = run(tape_work(steps=12, evaluations=2))
    assert statuses(outcome) == ["diverged", "ok", "ok"]
    assert outcome.runs[0].reason == "memory parameters is not finite at step 6"
    assert [row.step for row in outcome.runs[0].ledger] == [0]


def test_a_run_ends_when_all_its_seeds_have_failed(world: World) -> None:
    world.losses = lambda count, loss: torch.full((3,), torch.nan if count == 5 else 0.0)
    outcome = run(tape_work(steps=12))
    assert statuses(outcome) == ["diverged"] * 3
    assert world.steps_taken() == 5


def test_the_first_failure_is_the_one_that_counts(world: World) -> None:
    crashed = crash(row=1, after=3)

    def trouble(lanes: CountingLanes, step: LaneStep) -> LaneStep:
        if world.steps_taken() == 2:
            step.reward[1] = np.nan
        return crashed(lanes, step)

    world.trouble = trouble
    assert run(tape_work()).runs[1].status == "diverged"


def test_failures_survive_a_resume(world: World, tmp_path: Path) -> None:
    def trouble(lanes: CountingLanes, step: LaneStep) -> LaneStep:
        if lanes.training and world.steps_taken() == 2:
            step.reward[1] = np.nan
        if lanes.training and world.steps_taken() == 10:
            raise KeyboardInterrupt
        return step

    world.trouble = trouble
    with pytest.raises(KeyboardInterrupt):
        run(tape_work(folder=tmp_path))
    world.trouble = lambda lanes, step: step
    outcome = run(tape_work(folder=tmp_path))
    assert statuses(outcome) == ["ok", "diverged", "ok"]
    assert outcome.runs[1].reason == "reward is not finite at step 2"


def test_out_of_time_every_unfinished_seed_has_status_timeout(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(runner, "REPORT_SECONDS", 0.0)
    world.losses = lambda count, loss: torch.tensor([0.0, 0.0, torch.nan])
    outcome = run(tape_work(time_limit=0.0))
    assert statuses(outcome) == ["timeout", "timeout", "diverged"]
    assert outcome.runs[0].reason == "not done after 0 hours, at step 1"
    assert world.steps_taken() == 1
    assert {e.step for e in outcome.episodes} == {0}


def test_a_run_that_reaches_its_end_is_no_timeout(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(runner, "REPORT_SECONDS", np.inf)
    assert statuses(run(tape_work(evaluations=1, time_limit=0.0))) == ["ok"] * 3


# Evaluation


class UnequalLanes(CountingLanes):
    """Lane e plays episodes of e + 1 steps and earns 1 per step."""

    def step(self, action: np.ndarray) -> LaneStep:
        step = super().step(action)
        self.time = (self.time + 0) % (np.arange(self.shape[1]) + 1)
        ended = self.time == 0
        return step._replace(reward=np.ones_like(step.reward), terminated=ended)


def tape_agent(world: World, seeds: tuple[int, ...] = (0, 1)) -> TapeAgent:
    setting = Setting(CountingLanes.spaces, 1, 100, runner.Streams(seeds))
    return TapeAgent(setting, TapeConfig(), world)


def test_every_evaluation_lane_plays_one_episode() -> None:
    world = World(episode_steps=10**9)
    lanes = UnequalLanes(np.zeros((2, 3), np.int64), False, world)
    result = evaluate(tape_agent(world), lanes, 1000, CPU)
    assert result.returns.tolist() == [[1, 2, 3]] * 2
    assert result.lengths.tolist() == [[1, 2, 3]] * 2
    assert world.tape[-1] == "evaluate close"


def test_evaluation_closes_its_lanes_when_it_is_interrupted() -> None:
    world = World()
    world.trouble = interrupt(world, 2)
    lanes = CountingLanes(np.zeros((2, 3), np.int64), False, world)
    with pytest.raises(KeyboardInterrupt):
        evaluate(tape_agent(world), lanes, 1000, CPU)
    assert world.tape[-1] == "evaluate close"


# The same with real algorithms and real engines


@pytest.mark.parametrize("task", ["gymnasium/CartPole-v1", "gymnasium/Pendulum-v1"])
@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_every_algorithm_resumes_to_the_same_bytes(
    algorithm: str, task: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    work = make_work(algorithm, task, steps=160, segments=4, evaluations=2)
    whole = run(work)
    segments: list[int] = []
    train = runner.Runner._train_segment

    def train_one(self: runner.Runner, end: int) -> None:
        if segments and segments[-1] != self.segment:
            segments.clear()
            raise KeyboardInterrupt
        segments.append(self.segment)
        train(self, end)

    monkeypatch.setattr(runner.Runner, "_train_segment", train_one)
    work = replace(work, folder=tmp_path)
    for _ in range(3):  # one segment each
        with pytest.raises(KeyboardInterrupt):
            run(work)
    assert facts(run(work)) == facts(whole)


def test_the_peak_of_memory_outlives_the_process(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A resumed run may need less than the process before it; the ledger must not shrink."""
    work = make_work("random", "gymnasium/CartPole-v1", steps=160, segments=2, evaluations=4)
    work = replace(work, folder=tmp_path)
    usage = SimpleNamespace(ru_maxrss=500 * 1024)
    monkeypatch.setattr(lanes_module.resource, "getrusage", lambda who: usage)
    first = runner.Runner(work, lambda progress: None)
    first.train()  # saves at the end of its last segment
    second = runner.Runner(work, lambda progress: None)
    second.resume()
    usage.ru_maxrss = 300 * 1024
    second.due = (*second.due, second.step)
    second._evaluate_if_due()
    assert [row.peak_memory_mb for row in second.outcome().runs[0].ledger] == [500.0] * 6
