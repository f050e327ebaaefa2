"""The runner: the only training loop of the suite.

It steps lanes, hands transitions to the agent, counts, evaluates when due, and turns the outcome
into run records. All seeds of a group train together; a seed that fails is left behind while the
others go on, bitwise unchanged.

A run is cut into segments. At each cut the lanes are made anew, their streams keyed by (run seed,
role, segment, lane), and running episodes end as truncated with their true next observation. So a
checkpoint needs no engine state, and a resumed run equals an uninterrupted one.
"""

from __future__ import annotations

import hashlib
import os
import time
import warnings
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from suite.checkpoint import load_checkpoint, save_checkpoint
from suite.configs import config_from_plain
from suite.envs.lanes import Lanes, own_usage
from suite.evaluation import Evaluation, evaluate
from suite.interface import to_numpy, to_tensors
from suite.protocols import Protocol, canonical_json, evaluation_steps, segment_steps
from suite.provenance import code_state, machine
from suite.records import Episode, LedgerRow, SeedRun
from suite.registry import engine_for, find_task, load_algorithm, source_hash
from suite.steps import LaneStep, Transition
from suite.streams import Streams, lane_seeds

REPORT_SECONDS = 0.5
"""Least time between two progress reports."""


@dataclass(frozen=True)
class Work:
    """A group of seeds to train together; plain data, so that it can cross to a process."""

    algorithm: str
    task: str
    engine: str
    protocol: Protocol
    steps: int
    """Budget in agent steps per seed; rounded up to whole steps of all lanes."""
    seeds: tuple[int, ...]
    config: dict[str, object]
    """The algorithm's resolved config, see :func:`suite.configs.plain_config`."""
    device: str = "cpu"
    threads: int = 1
    folder: Path | None = None
    """Where the checkpoint lives; None: the run cannot be resumed."""

    def fingerprint(self) -> str:
        """Identifies what a checkpoint belongs to: everything that shapes the numbers."""
        fields = asdict(self) | {"folder": None, "source": source_hash(self.algorithm)}
        return hashlib.sha256(canonical_json(fields).encode()).hexdigest()


class Progress(NamedTuple):
    """What a running group tells about itself."""

    step: int
    """Agent steps per seed so far."""
    steps: int
    """The budget."""
    scores: tuple[float | None, ...]
    """Mean return of each seed's latest evaluation; None if it failed."""


@dataclass(frozen=True)
class Outcome:
    """What a group leaves."""

    runs: tuple[SeedRun, ...]
    episodes: tuple[Episode, ...]


Report = Callable[[Progress], None]


def run(work: Work, report: Report = lambda progress: None) -> Outcome:
    """Train and evaluate a group of seeds, from its checkpoint if there is one.

    Args:
        work: what to run.
        report: called now and then, from this process.

    Raises:
        ValueError: the config does not fit the task or the budget.
        KeyboardInterrupt: passed on; the last finished segment can be resumed.
    """
    torch.set_num_threads(work.threads)
    if work.device.startswith("cuda"):
        _prepare_cuda(work.device)
    runner = Runner(work, report)
    runner.resume()
    runner.train()
    return runner.outcome()


def _prepare_cuda(device: str) -> None:
    """Have CUDA add in a fixed order, and in float32 where it says float32.

    PyTorch is asked to warn of sums without such an order, not to refuse: it suspects the backward
    pass of max pooling whatever the layout of the images. Whether a run can be repeated is for the
    tests to find, which compare digests.
    """
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # read when cuBLAS starts
    torch.use_deterministic_algorithms(True, warn_only=True)
    warnings.filterwarnings("ignore", "max_pool2d_with_indices_backward_cuda", UserWarning)
    torch.backends.cudnn.allow_tf32 = False
    # autograd works in a thread of its own, whose first kernel must not be one of cuBLAS
    x = torch.ones(1, device=device, requires_grad=True)
    torch.autograd.grad(x.square(), x)


@dataclass
class _Seed:
    """What is known about one seed's run."""

    seed: int
    status: str = "ok"
    reason: str = ""
    ledger: list[LedgerRow] = field(default_factory=list)
    episodes: list[Episode] = field(default_factory=list)
    score: float | None = None


class Runner:
    """One group of seeds while it trains."""

    def __init__(self, work: Work, report: Report) -> None:
        algorithm = load_algorithm(work.algorithm)
        self.work = work
        self.report = report
        self.task = find_task(work.task)
        self.engine = engine_for(self.task, work.engine)
        self.device = torch.device(work.device)
        self.config = config_from_plain(algorithm, work.config)
        self.lanes = self.config.lanes
        self.seeds = [_Seed(seed) for seed in work.seeds]
        self.cuts = segment_steps(work.protocol, work.steps)
        self.due = evaluation_steps(work.protocol, work.steps)
        self.step = 0
        self.segment = 0
        self.evaluations = 0
        self.started = _now()
        self.wall = self.cpu = self.memory = 0.0
        self._lane_memory = {"train": 0.0, "evaluation": 0.0}
        self._last_report = 0.0

        code_state()  # now, not at the end: the checkout may move on while this process runs
        self.streams = Streams(work.seeds, self.device)
        probe = self._make_lanes("train", "train", 0, self.lanes)
        probe.close()
        self.agent = algorithm.build(
            probe.spaces, self.lanes, work.steps, self.streams, self.config
        )

    def train(self) -> None:
        """Play the remaining segments."""
        if self.evaluations == 0:
            self._evaluate_if_due()
        while self.segment < len(self.cuts) - 1 and any(s.status == "ok" for s in self.seeds):
            self._train_segment(self.cuts[self.segment + 1])
            self.segment += 1
            self._save()

    def _train_segment(self, end: int) -> None:
        lanes = self._make_lanes("train", "train", self.segment, self.lanes)
        space = lanes.spaces.action
        clock = _Clock(lanes)
        try:
            leaves = lanes.reset()
            obs = to_tensors(leaves, self.device)
            first = torch.ones(lanes.shape, dtype=torch.bool, device=self.device)
            carry = self.agent.initial(self.lanes)
            while self.step < end:
                carry, action, extras = self.agent.act(carry, obs, first, True)
                outcome = lanes.step(to_numpy(action, space))
                self.step += self.lanes
                truncated = outcome.truncated
                if self.step >= end:
                    truncated = ~outcome.terminated
                next_obs = to_tensors(outcome.next_obs, self.device)
                terminated = torch.from_numpy(outcome.terminated).to(self.device)
                cut = torch.from_numpy(truncated).to(self.device)
                reward = torch.from_numpy(outcome.reward).to(self.device)
                metrics = self.agent.observe(
                    Transition(obs, action, reward, next_obs, terminated, cut, extras)
                )
                same = outcome.obs is outcome.next_obs
                obs = next_obs if same else to_tensors(outcome.obs, self.device)
                first = terminated | cut
                self._watch(lanes, outcome, metrics)
                if self._is_due() or self._time_to_report():
                    self._add_time(clock)
                    self._evaluate_if_due()
                    self._check_time()
                    clock = _Clock(lanes)
                if not any(seed.status == "ok" for seed in self.seeds):
                    break
        finally:
            lanes.close()
            self._add_time(clock)

    def _make_lanes(self, split: str, role: str, period: int, width: int) -> Lanes:
        seeds = lane_seeds(self.work.seeds, role, period, width)
        return self.engine.make(self.task, seeds, split, self.work.threads)

    def _watch(self, lanes: Lanes, step: LaneStep, metrics: dict[str, Tensor] | None) -> None:
        """Leave behind the seeds whose lanes failed or whose numbers are no longer finite."""
        for row, reason in lanes.failures.items():
            self._fail(row, "crashed", reason)
        self._check("reward", step.reward)
        for name, leaf in step.next_obs.items():
            if leaf.dtype.kind == "f":
                self._check(f"observation {name!r}", leaf)
        if metrics is not None and not torch.stack(list(metrics.values())).isfinite().all():
            for name, values in metrics.items():
                self._check(name, values.cpu().numpy())

    def _check(self, quantity: str, values: np.ndarray) -> None:
        """Mark the seeds of which ``values [S, ...]`` are not finite as diverged."""
        finite = np.isfinite(values)
        if not finite.all():
            for row in np.flatnonzero(~finite.reshape(len(self.seeds), -1).all(axis=1)):
                self._fail(int(row), "diverged", f"{quantity} is not finite at step {self.step}")

    def _fail(self, row: int, status: str, reason: str) -> None:
        if self.seeds[row].status == "ok":
            self.seeds[row].status, self.seeds[row].reason = status, reason

    def _is_due(self) -> bool:
        return self.evaluations < len(self.due) and self.step >= self.due[self.evaluations]

    def _evaluate_if_due(self) -> None:
        while self._is_due():
            step = self.due[self.evaluations]
            for name, rows in self.agent.parameters().items():
                self._check(f"{name} parameters", rows.cpu().numpy())
            peak = own_usage().peak_memory_mb + sum(self._lane_memory.values())
            self.memory = max(self.memory, round(peak, 1))  # of all processes of a resumed run
            played = {split: self._evaluate(index) for index, split in enumerate(self.task.splits)}
            for row, seed in enumerate(self.seeds):
                if seed.status == "ok":
                    self._enter(seed, row, step, played)
            self.evaluations += 1
        self._last_report = time.monotonic()
        scores = tuple(s.score if s.status == "ok" else None for s in self.seeds)
        self.report(Progress(min(self.step, self.work.steps), self.work.steps, scores))

    def _evaluate(self, index: int) -> Evaluation:
        """Play one of the task's splits."""
        rules = self.work.protocol
        # Keyed by a number of its own: how many random numbers an evaluation draws is decided by
        # its longest episode, whichever seed plays it.
        period = self.evaluations * len(self.task.splits) + index
        self.streams.restart("evaluation", period)
        split = self.task.splits[index]
        lanes = self._make_lanes(split, "evaluation", period, rules.episodes)
        result = evaluate(self.agent, lanes, rules.max_episode_steps, self.device)
        self._note_memory("evaluation", lanes)
        for row, reason in lanes.failures.items():
            self._fail(row, "crashed", reason)
        self._check("evaluation return", result.returns)
        return result

    def _enter(self, seed: _Seed, row: int, step: int, played: dict[str, Evaluation]) -> None:
        seed.score = float(played[self.task.splits[0]].returns[row].mean())
        seed.episodes += [
            Episode(seed.seed, step, split, i, float(total), int(length))
            for split, result in played.items()
            for i, (total, length) in enumerate(
                zip(result.returns[row], result.lengths[row], strict=True)
            )
        ]
        seed.ledger.append(
            LedgerRow(
                step=step,
                frames=step * self.task.frames_per_step,
                updates=self.agent.updates,
                wall_seconds=round(self.wall, 3),
                cpu_seconds=round(self.cpu, 3),
                peak_memory_mb=self.memory,
            )
        )

    def _time_to_report(self) -> bool:
        return time.monotonic() - self._last_report > REPORT_SECONDS

    def _add_time(self, clock: _Clock) -> None:
        wall, cpu = clock.read()
        self.wall += wall
        self.cpu += cpu
        self._note_memory("train", clock.lanes)

    def _note_memory(self, role: str, lanes: Lanes) -> None:
        """Keep the most that lanes of a role have used beside this process."""
        used = lanes.usage().peak_memory_mb
        self._lane_memory[role] = max(self._lane_memory[role], used)

    def _check_time(self) -> None:
        limit = self.work.protocol.time_limit
        if self.wall > limit * 3600 and self.step < self.cuts[-1]:
            for row in range(len(self.seeds)):
                self._fail(row, "timeout", f"not done after {limit:g} hours, at step {self.step}")

    def resume(self) -> None:
        """Take up the run where the last finished segment left it, if there is a checkpoint."""
        if self.work.folder is None:
            return
        state = load_checkpoint(self.work.folder / "checkpoint.pt", self.device)
        if state is None or state["fingerprint"] != self.work.fingerprint():
            return
        self.agent.load_state_dict(state["agent"])
        for name in ("step", "segment", "evaluations", "started", "wall", "cpu", "memory"):
            setattr(self, name, state[name])
        for seed, saved in zip(self.seeds, state["seeds"], strict=True):
            seed.status, seed.reason, seed.score = saved["status"], saved["reason"], saved["score"]
            seed.ledger = [LedgerRow(**row) for row in saved["ledger"]]
            seed.episodes = [Episode(*row) for row in saved["episodes"]]

    def _save(self) -> None:
        if self.work.folder is None:
            return
        state = {name: getattr(self, name) for name in ("step", "segment", "evaluations")}
        state |= {name: getattr(self, name) for name in ("started", "wall", "cpu", "memory")}
        state |= {"fingerprint": self.work.fingerprint(), "agent": self.agent.state_dict()}
        state["seeds"] = [
            asdict(seed)
            | {"ledger": [row._asdict() for row in seed.ledger]}
            | {"episodes": [tuple(row) for row in seed.episodes]}
            for seed in self.seeds
        ]
        save_checkpoint(self.work.folder / "checkpoint.pt", state)

    def outcome(self) -> Outcome:
        """The record of every seed of the group."""
        finished = _now()
        commit, dirty = code_state()
        digests = _digests(self.agent.parameters(), len(self.seeds))
        runs = tuple(
            SeedRun(
                seed=seed.seed,
                status=seed.status,
                reason=seed.reason,
                attempts=1,
                trained_with=self.work.seeds,
                threads=self.work.threads,
                device=self.work.device,
                ledger=tuple(seed.ledger),
                digest=digest,
                started=self.started,
                finished=finished,
                commit=commit,
                dirty=dirty,
                machine=machine(self.work.device),
            )
            for seed, digest in zip(self.seeds, digests, strict=True)
        )
        episodes = tuple(row for seed in self.seeds for row in seed.episodes)
        return Outcome(runs, episodes)


class _Clock:
    """Wall and CPU seconds since it was made, of this process and those of some lanes."""

    def __init__(self, lanes: Lanes) -> None:
        self.lanes = lanes
        self.wall, self.cpu = time.monotonic(), self._cpu_seconds()

    def read(self) -> tuple[float, float]:
        return time.monotonic() - self.wall, self._cpu_seconds() - self.cpu

    def _cpu_seconds(self) -> float:
        return own_usage().cpu_seconds + self.lanes.usage().cpu_seconds


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")


def _digests(parameters: dict[str, Tensor], seeds: int) -> list[str]:
    """SHA-256 of each seed's parameters."""
    hashes = [hashlib.sha256() for _ in range(seeds)]
    for name in sorted(parameters):
        for row, values in enumerate(parameters[name].cpu().contiguous().numpy()):
            hashes[row].update(name.encode() + values.tobytes())
    return [h.hexdigest() for h in hashes]
