"""Speed side by side with a peer, as ratios taken in one run on one machine.

Ours and the peer's take turns, each in a process of its own with one thread, on the same task with
the same networks and sizes; the medians of some rounds are compared. Ours trains several seeds
together, and its rate is summed over them: the time that a benchmark with several seeds takes. The
peer trains one seed at a time, so several take it as many times as long.
"""

from __future__ import annotations

import json
import statistics
import subprocess
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import asdict, dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory

from suite.configs import plain_config, resolve_config
from suite.executors import Died, Finished, Job, Local, Report
from suite.protocols import Protocol
from suite.registry import engine_for, find_task, load_algorithm
from suite.runner import Work, run

PEERS = Path(".venv-peers/bin/python")
"""Interpreter of the peers' environment, made by ``make perf``."""

ROUNDS = 3


@dataclass(frozen=True)
class Workload:
    """What both sides do."""

    title: str
    algorithm: str
    """``ppo`` or ``sac``."""
    family: str
    task: str
    """Upstream's name, known to both sides."""
    unit: str
    """What is counted: ``steps`` or ``updates``."""
    seeds: int
    """That ours trains together."""
    lanes: int
    """Environments per seed."""
    steps: int
    """Steps of every lane that are measured, after as many that are not."""
    rollout: int = 0
    """Steps of every lane between PPO's updates."""
    minibatch: int = 0
    epochs: int = 0
    preset: str | None = None
    """Ours: the preset that holds the peer's settings."""
    config: Mapping[str, str] = field(default_factory=dict)
    """Overrides of our config that make it the same work."""


WORKLOADS = (
    Workload(
        title="PPO on CartPole-v1, 1 lane per seed",
        algorithm="ppo",
        family="gymnasium",
        task="CartPole-v1",
        unit="steps",
        seeds=10,
        lanes=1,
        steps=8192,
        rollout=2048,
        minibatch=64,
        epochs=10,
        preset="peer",
    ),
    Workload(
        title="PPO on CartPole-v1, 8 lanes per seed",
        algorithm="ppo",
        family="gymnasium",
        task="CartPole-v1",
        unit="steps",
        seeds=10,
        lanes=8,
        steps=1024,
        rollout=256,
        minibatch=64,
        epochs=10,
        preset="peer",
        config={"lanes": "8", "rollout_steps": "256"},
    ),
    Workload(
        title="SAC on HalfCheetah-v5, 1 lane per seed",
        algorithm="sac",
        family="mujoco",
        task="HalfCheetah-v5",
        unit="updates",
        seeds=5,
        lanes=1,
        steps=600,
        minibatch=256,
        config={"lanes": "1", "learning_starts": "100"},
    ),
)


@dataclass(frozen=True)
class Comparison:
    """Medians of both sides on one workload."""

    title: str
    unit: str
    """What the rates count, per second."""
    seeds: int
    ours: float
    """Summed over the seeds."""
    peer: float
    """Of one seed; the same for several, one after the other."""
    ratio: float
    """Above 1: ours is faster."""
    peer_name: str


def run_perf(
    workloads: Sequence[Workload] = WORKLOADS,
    rounds: int = ROUNDS,
    peers: Path = PEERS,
    tell: Callable[[str], None] = lambda text: None,
) -> list[Comparison]:
    """Measure all workloads on both sides, taking turns.

    Args:
        workloads: what to measure.
        rounds: turns of each side; the medians count.
        peers: interpreter of the peers' environment.
        tell: called with a line before each round.

    Raises:
        FileNotFoundError: the peers' environment is not there.
        RuntimeError: one side failed; the message holds its last words.
    """
    if not peers.exists():
        raise FileNotFoundError(f"{peers} is not there; `make perf` installs it")
    return list(_compare(workloads, rounds, peers, tell))


def _compare(
    workloads: Sequence[Workload], rounds: int, peers: Path, tell: Callable[[str], None]
) -> Iterator[Comparison]:
    for workload in workloads:
        ours, theirs, name = [], [], ""
        for number in range(rounds):
            tell(f"{workload.title}: round {number + 1} of {rounds}")
            ours.append(_our_rate(workload))
            rate, name = _peer_rate(workload, peers)
            theirs.append(rate)
        our_rate, peer_rate = statistics.median(ours), statistics.median(theirs)
        yield Comparison(
            title=workload.title,
            unit=workload.unit,
            seeds=workload.seeds,
            ours=our_rate,
            peer=peer_rate,
            ratio=our_rate / peer_rate,
            peer_name=name,
        )


def measure(workload: Workload, report: Report) -> float:
    """Run our side; return units per second of training, summed over the seeds."""
    task = find_task(f"{workload.family}/{workload.task}")
    algorithm = load_algorithm(workload.algorithm)
    seeds = tuple(range(workload.seeds))
    halves = Protocol(
        name="perf",
        version=1,
        purpose="Two halves, of which the second one is measured.",
        budgets=(),
        seeds=seeds,
        segments=1,
        evaluations=2,
        episodes=1,
        time_limit=1.0,
        ranked=False,
    )
    config = resolve_config(
        algorithm, task.id, halves.name, workload.preset, overrides=workload.config
    )
    work = Work(
        algorithm=workload.algorithm,
        task=task.id,
        engine=engine_for(task, None).name,
        protocol=halves,
        steps=2 * workload.steps * workload.lanes,
        seeds=seeds,
        config=plain_config(config),
    )
    (_, middle, end), *_ = [each.ledger for each in run(work).runs]
    count = getattr(end, _LEDGER[workload.unit]) - getattr(middle, _LEDGER[workload.unit])
    return float(workload.seeds * count / (end.wall_seconds - middle.wall_seconds))


_LEDGER = {"steps": "step", "updates": "updates"}


def _our_rate(workload: Workload) -> float:
    with TemporaryDirectory() as folder, closing(Local(1)) as executor:
        executor.submit(Job(workload.title, measure, workload, Path(folder) / "log.txt"))
        while True:
            for event in executor.wait(60):
                if isinstance(event, Died):
                    raise RuntimeError(f"{workload.title}: {event.reason}")
                if isinstance(event, Finished):
                    return float(event.result)


def _peer_rate(workload: Workload, peers: Path) -> tuple[float, str]:
    script = Path(__file__).with_name("peers.py")
    command = [str(peers), "-I", str(script), json.dumps(asdict(workload))]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"{workload.title}, peer: {done.stderr.strip().splitlines()[-1]}")
    result = json.loads(done.stdout)
    return result[workload.unit] / result["seconds"], result["peer"]
