"""Protocols: what makes two numbers comparable, written down before anything is run.

A protocol fixes tasks, budgets, seeds, the evaluation schedule, the score window and the time
limit. Its numbers are frozen under its version: whoever changes one raises the version (a test
holds the digests). Budgets are agent steps (decisions) per seed.

To add a task to a protocol, add a :class:`Budget` to it, and its new digest to the test; records of
other tasks stand. To change a task's rules, give its budget a ``version`` one above the protocol's.
A family of this repository also needs a budget in ``smoke``.

Seeds come from named, disjoint ranges, so that settings are never tuned on the seeds they are
reported on, and a regression check never meets the seeds of its own bank.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from types import MappingProxyType
from typing import TYPE_CHECKING

from suite.names import UnknownName

if TYPE_CHECKING:  # suite.tasks imports numpy, and names of algorithms are listed without it
    from suite.tasks import Task

SEED_RANGES: Mapping[str, range] = MappingProxyType(
    {
        "reporting": range(0, 10_000),
        "tuning": range(10_000, 20_000),
        "bank": range(20_000, 30_000),
        "candidate": range(30_000, 40_000),
        "confirmation": range(40_000, 50_000),
    }
)
"""Run seeds by purpose. Reporting: everything a table shows. Tuning: searching for settings. Bank,
candidate, confirmation: the three sides of a regression check."""


@dataclass(frozen=True)
class Budget:
    """One task of a protocol."""

    task: str
    """``family/name``."""
    steps: int
    """Agent steps (decisions) per seed."""
    algorithms: tuple[str, ...] | None = None
    """The only algorithms that this budget is for; None: every algorithm."""
    evaluations: int | None = None
    """Where evaluating would take far longer than training; None: as often as the protocol."""
    episodes: int | None = None
    """Per evaluation and seed, where returns scatter too widely; None: as many as the protocol."""
    version: int | None = None
    """Of this row, if it has changed since the protocol's version: the others' records stand."""


@dataclass(frozen=True, kw_only=True)
class Protocol:
    """The rules under which runs are comparable."""

    name: str
    version: int
    purpose: str
    budgets: tuple[Budget, ...]
    seeds: tuple[int, ...]
    """Run seeds, in the order they are run; the first ones of one of the ``SEED_RANGES``."""
    segments: int
    """Parts that a run is cut into; at each cut the training lanes are made anew. So an episode of
    training is at most steps / segments / lanes long: what lies farther from its beginning is not
    met in training unless there are fewer lanes."""
    evaluations: int
    """Evaluations after the one at step 0, equally spaced; the last at the end of the budget."""
    episodes: int
    """Episodes per evaluation and seed, each in a lane of its own."""
    max_episode_steps: int = 27_000
    """Where an evaluation episode is cut that does not end by itself: half an hour of a 60 Hz game
    at 4 frames per step."""
    window: float = 0.1
    """The score is the mean over evaluations at a step > (1 - window) * budget."""
    time_limit: float
    """Wall hours of training per run, all seeds together, evaluation excluded; then the unfinished
    seeds have status timeout."""
    ranked: bool = True
    """False: the protocol's numbers never enter a leaderboard."""


def _first_seeds(purpose: str, number: int) -> tuple[int, ...]:
    return tuple(SEED_RANGES[purpose][:number])


_SMOKE = Protocol(
    name="smoke",
    version=2,
    purpose="Every pair runs end to end in seconds, with tiny networks. Says nothing about scores.",
    budgets=(
        Budget("gymnasium/CartPole-v1", 512),
        Budget("gymnasium/Pendulum-v1", 512),
        Budget("gymnasium/FrozenLake-v1", 512),
        Budget("mujoco/HalfCheetah-v5", 512),
        Budget("atari/Pong-v5", 128),
        Budget("dmcontrol/cartpole-swingup", 128),
        Budget("procgen/coinrun-easy", 128),
        Budget("minigrid/MiniGrid-Empty-Random-5x5-v0", 128),
        Budget("nethack/NetHackScore-v0", 128),
        Budget("isaacgym/Cartpole", 128),
    ),
    seeds=_first_seeds("reporting", 2),
    segments=2,
    evaluations=2,
    episodes=2,
    max_episode_steps=50,
    time_limit=0.25,
    ranked=False,
)

_QUICK = Protocol(
    name="quick",
    version=1,
    purpose="One or two tasks per family within hours on two cores; the default of a bench.",
    budgets=(
        Budget("gymnasium/CartPole-v1", 50_000),
        Budget("gymnasium/Pendulum-v1", 20_000),
        Budget("mujoco/HalfCheetah-v5", 20_000),
        Budget("mujoco/InvertedPendulum-v5", 10_000),
        Budget("atari/RoadRunner-v5", 20_000, evaluations=5, version=2),
        Budget("dmcontrol/cartpole-swingup", 20_000),
        Budget("procgen/coinrun-easy", 20_000, evaluations=5, version=2),
        Budget("minigrid/MiniGrid-DoorKey-5x5-v0", 50_000),
        Budget("minigrid/MiniGrid-Empty-Random-5x5-v0", 20_000),
        # 21 evaluations would play up to 47 times as many steps as a run trains on; most scores are
        # small and a few are large, so that ten games say little of a policy
        Budget("nethack/NetHackScore-v0", 20_000, evaluations=2, episodes=25, version=3),
        Budget("isaacgym/Cartpole", 50_000),
        Budget("isaacgym/Quadcopter", 100_000),
    ),
    seeds=_first_seeds("reporting", 5),
    segments=10,
    evaluations=20,
    episodes=10,
    time_limit=2.0,
)

_ATARI_26 = (
    "Alien",
    "Amidar",
    "Assault",
    "Asterix",
    "BankHeist",
    "BattleZone",
    "Boxing",
    "Breakout",
    "ChopperCommand",
    "CrazyClimber",
    "DemonAttack",
    "Freeway",
    "Frostbite",
    "Gopher",
    "Hero",
    "Jamesbond",
    "Kangaroo",
    "Krull",
    "KungFuMaster",
    "MsPacman",
    "Pong",
    "PrivateEye",
    "Qbert",
    "RoadRunner",
    "Seaquest",
    "UpNDown",
)

_DMCONTROL = (
    "acrobot-swingup",
    "ball_in_cup-catch",
    "cartpole-balance",
    "cartpole-balance_sparse",
    "cartpole-swingup",
    "cartpole-swingup_sparse",
    "cheetah-run",
    "finger-spin",
    "finger-turn_easy",
    "finger-turn_hard",
    "hopper-hop",
    "hopper-stand",
    "pendulum-swingup",
    "reacher-easy",
    "reacher-hard",
    "walker-run",
    "walker-stand",
    "walker-walk",
)

_PROCGEN = (
    "bigfish",
    "bossfight",
    "caveflyer",
    "chaser",
    "climber",
    "coinrun",
    "dodgeball",
    "fruitbot",
    "heist",
    "jumper",
    "leaper",
    "maze",
    "miner",
    "ninja",
    "plunder",
    "starpilot",
)

_MINIGRID = {
    "Empty-Random-5x5": 100_000,
    "DoorKey-5x5": 100_000,
    "FourRooms": 5_000_000,
    "MultiRoom-N4-S5": 10_000_000,
    "Fetch-5x5-N2": 10_000_000,
    "GoToDoor-5x5": 5_000_000,
    "PutNear-6x6-N2": 10_000_000,
    "RedBlueDoors-6x6": 1_000_000,
    "LockedRoom": 10_000_000,
    "KeyCorridorS3R1": 500_000,
    "Unlock": 100_000,
    "ObstructedMaze-2Dlh": 10_000_000,
}

_ISAACGYM = {
    "Cartpole": 819_200,
    "Ant": 32_768_000,
    "Humanoid": 131_072_000,
    "Ingenuity": 32_768_000,
    "Quadcopter": 32_768_000,
    "BallBalance": 16_384_000,
    "Anymal": 98_304_000,
    "AnymalTerrain": 147_456_000,
}

_NETHACK = (
    "Score",
    "Staircase",
    "StaircasePet",
    "Oracle",
    "Gold",
    "Eat",
    "Scout",
)

# Published budgets, one per task and the same for every algorithm. Sources: XuanCe's benchmarks
# (agi-brain/xuance-benchmarks: 200k on classic control, 300k on LunarLander-v3, 2M on
# BipedalWalker-v3, 1M on the 11 MuJoCo v5 tasks, 5 seeds each) and, for the two tasks it lacks,
# the RL Zoo's training settings (DLR-RM/rl-baselines3-zoo: 100k for A2C on
# MountainCarContinuous-v0, 300k for TD3 on LunarLanderContinuous-v3). Atari: 100k decisions on the
# 26 games of Kaiser et al. 2020; of Atari-5 (Aitchison et al. 2023) the games beyond those at 10M.
# DMControl: 500k control steps from state, 1M (two per decision) from pixels (danijar/dreamerv3).
# ProcGen: 25M easy, 200M hard (Cobbe et al. 2020). Minigrid: PPO's settings in the RL Zoo. NetHack:
# a billion steps (Küttler et al. 2020). Isaac Gym: PPO's settings in IsaacGymEnvs.
_STANDARD = Protocol(
    name="standard",
    version=1,
    purpose="Published task sets and budgets; for a GPU or a cluster.",
    budgets=(
        Budget("gymnasium/CartPole-v1", 200_000),
        Budget("gymnasium/Acrobot-v1", 200_000),
        Budget("gymnasium/MountainCar-v0", 200_000),
        Budget("gymnasium/MountainCarContinuous-v0", 100_000),
        Budget("gymnasium/Pendulum-v1", 200_000),
        Budget("gymnasium/LunarLander-v3", 300_000),
        Budget("gymnasium/LunarLanderContinuous-v3", 300_000),
        Budget("gymnasium/BipedalWalker-v3", 2_000_000),
        Budget("mujoco/Ant-v5", 1_000_000),
        Budget("mujoco/HalfCheetah-v5", 1_000_000),
        Budget("mujoco/Hopper-v5", 1_000_000),
        Budget("mujoco/Humanoid-v5", 1_000_000),
        Budget("mujoco/HumanoidStandup-v5", 1_000_000),
        Budget("mujoco/InvertedDoublePendulum-v5", 1_000_000),
        Budget("mujoco/InvertedPendulum-v5", 1_000_000),
        Budget("mujoco/Pusher-v5", 1_000_000),
        Budget("mujoco/Reacher-v5", 1_000_000),
        Budget("mujoco/Swimmer-v5", 1_000_000),
        Budget("mujoco/Walker2d-v5", 1_000_000),
        *(Budget(f"atari/{game}-v5", 100_000) for game in _ATARI_26),
        Budget("atari/DoubleDunk-v5", 10_000_000),
        Budget("atari/NameThisGame-v5", 10_000_000),
        Budget("atari/Phoenix-v5", 10_000_000),
        *(Budget(f"dmcontrol/{task}", 500_000) for task in _DMCONTROL),
        *(Budget(f"dmcontrol/{task}-pixels", 500_000) for task in _DMCONTROL),
        *(Budget(f"procgen/{game}-easy", 25_000_000) for game in _PROCGEN),
        *(Budget(f"procgen/{game}-hard", 200_000_000) for game in _PROCGEN),
        *(Budget(f"minigrid/MiniGrid-{task}-v0", steps) for task, steps in _MINIGRID.items()),
        *(Budget(f"nethack/NetHack{task}-v0", 1_000_000_000) for task in _NETHACK),
        *(Budget(f"isaacgym/{task}", steps) for task, steps in _ISAACGYM.items()),
    ),
    seeds=_first_seeds("reporting", 10),
    segments=20,
    evaluations=50,
    episodes=10,
    time_limit=48.0,
)

# The random policy does not learn, so one of a task's two budgets is enough for it.
_VALIDATION = Protocol(
    name="validation",
    version=1,
    purpose="Pairs with short published scores: the proof that an implementation is right.",
    budgets=(
        Budget("gymnasium/CartPole-v1", 100_000, ("dqn", "ppo", "random", "trpo")),
        Budget("gymnasium/CartPole-v1", 50_000, ("sac", "td3")),
        Budget(
            "gymnasium/CartPole-v1",
            200_000,
            ("a2c", "a3c", "double_dqn", "dueling_dqn", "q_learning", "reinforce"),
        ),
        Budget("gymnasium/FrozenLake-v1", 200_000, ("q_learning", "random")),
        Budget("gymnasium/Taxi-v3", 200_000, ("q_learning", "random")),
        Budget("gymnasium/Pendulum-v1", 50_000, ("dqn", "ppo", "random", "sac", "td3")),
        Budget("mujoco/HalfCheetah-v5", 100_000, ("dqn", "random", "sac", "td3")),
        Budget("mujoco/HalfCheetah-v5", 300_000, ("ppo",)),
        Budget("mujoco/InvertedPendulum-v5", 100_000, ("random", "td3")),
        Budget("minigrid/MiniGrid-DoorKey-5x5-v0", 100_000, ("ppo", "random")),
        Budget("dmcontrol/cartpole-swingup", 50_000, ("random", "sac")),
        Budget(
            "dmcontrol/cartpole-swingup-pixels",
            25_000,
            ("random", "sac"),
            evaluations=5,
            version=2,
        ),
        Budget("atari/RoadRunner-v5", 100_000, ("dqn", "ppo", "random")),
        Budget("procgen/coinrun-easy", 100_000, ("ppo", "random")),
        Budget("isaacgym/Cartpole", 819_200, ("ppo", "random")),
        Budget("isaacgym/Ant", 10_485_760, ("ppo", "random"), evaluations=10, version=2),
    ),
    seeds=_first_seeds("reporting", 5),
    segments=10,
    evaluations=20,
    episodes=10,
    time_limit=12.0,
    ranked=False,
)

_BANK = Protocol(
    name="bank",
    version=1,
    purpose="Many seeds on cheap tasks: the baseline that a regression check compares with.",
    budgets=(
        Budget("gymnasium/CartPole-v1", 50_000),
        Budget("gymnasium/Pendulum-v1", 20_000),
        Budget("mujoco/InvertedPendulum-v5", 10_000),
        Budget("minigrid/MiniGrid-Empty-Random-5x5-v0", 20_000),
    ),
    seeds=_first_seeds("bank", 30),
    segments=10,
    evaluations=20,
    episodes=10,
    time_limit=12.0,
    ranked=False,
)

PROTOCOLS: Mapping[str, Protocol] = MappingProxyType(
    {protocol.name: protocol for protocol in (_SMOKE, _QUICK, _STANDARD, _VALIDATION, _BANK)}
)


def find_protocol(name: str) -> Protocol:
    """Look a protocol up.

    Raises:
        UnknownName: there is none of that name.
    """
    if name not in PROTOCOLS:
        raise UnknownName("protocol", name, PROTOCOLS)
    return PROTOCOLS[name]


def find_budget(protocol: Protocol, algorithm: str, task: str) -> Budget | None:
    """The row of a protocol that a pair falls under; None if it does not include the pair."""
    for row in protocol.budgets:
        if row.task == task and (row.algorithms is None or algorithm in row.algorithms):
            return row
    return None


def budget(protocol: Protocol, algorithm: str, task: str) -> int | None:
    """Agent steps per seed that a protocol gives a pair; None if it does not include the pair."""
    row = find_budget(protocol, algorithm, task)
    return None if row is None else row.steps


def rules_for(protocol: Protocol, algorithm: str, task: str) -> Protocol:
    """The protocol as it holds for a pair, with what the pair's row says otherwise."""
    row = find_budget(protocol, algorithm, task)
    if row is None:
        return protocol
    return replace(
        protocol,
        evaluations=row.evaluations or protocol.evaluations,
        episodes=row.episodes or protocol.episodes,
        version=row.version or protocol.version,
    )


def run_seeds(
    protocol: Protocol, number: int | None = None, purpose: str | None = None
) -> tuple[int, ...]:
    """The first seeds of a protocol's range: its own, or fewer (partial) or more (extended).

    Args:
        protocol: gives the number and the range unless they are named.
        number: how many.
        purpose: one of the ``SEED_RANGES`` to take them from instead.

    Raises:
        ValueError: ``number`` is below 1 or above the size of the range, or there is no such one.
    """
    if purpose is not None and purpose not in SEED_RANGES:
        raise UnknownName("range of seeds", purpose, SEED_RANGES)
    own = next(seeds for seeds in SEED_RANGES.values() if protocol.seeds[0] in seeds)
    seeds = own if purpose is None else SEED_RANGES[purpose]
    number = len(protocol.seeds) if number is None else number
    if not 1 <= number <= len(seeds):
        raise ValueError(f"number of seeds must be in 1..{len(seeds)}, not {number}")
    return tuple(seeds[:number])


def evaluation_steps(protocol: Protocol, steps: int) -> tuple[int, ...]:
    """Agent steps at which a run is evaluated: before training, then up to ``steps`` itself."""
    return _equal_parts(steps, protocol.evaluations)


def segment_steps(protocol: Protocol, steps: int) -> tuple[int, ...]:
    """Agent steps at which segments begin, and ``steps``, where the last one ends."""
    return _equal_parts(steps, protocol.segments)


def _equal_parts(total: int, parts: int) -> tuple[int, ...]:
    """0, ..., total; a total below ``parts`` gives fewer, never a step twice."""
    return tuple(sorted({total * part // parts for part in range(parts + 1)}))


def comparability_key(
    protocol: Protocol, task: Task, steps: int, engine: str, versions: Mapping[str, str]
) -> dict[str, object]:
    """Everything that two numbers must share to stand in one table, as plain fields.

    Whether evaluation acts greedily or samples is not in it: that is the algorithm's published
    habit, not the protocol's choice.

    Args:
        protocol: the rules; of a trial, the protocol it departs from.
        task: gives the id, the wrappers and the frames per step.
        steps: budget in agent steps per seed.
        engine: engine class; engines that a parity test has shown to agree share one.
        versions: of the packages that change what the task does, by distribution name.
    """
    return {
        "task": task.id,
        "engine": engine,
        "versions": dict(sorted(versions.items())),
        "wrappers": list(task.wrappers),
        "frames_per_step": task.frames_per_step,
        "step_unit": "agent steps",
        "budget": steps,
        "evaluations": protocol.evaluations,
        "episodes": protocol.episodes,
        "window": protocol.window,
        "protocol": protocol.name,
        "protocol_version": protocol.version,
    }


def difference(key: Mapping[str, object], other: Mapping[str, object]) -> tuple[str, ...]:
    """Names of the fields in which two comparability keys differ, sorted.

    A differing version is named by its package: ``versions.mujoco``.
    """
    if canonical_json(key) == canonical_json(other):  # nearly always, and quickly found
        return ()
    left, right = _flat(key), _flat(other)
    return tuple(sorted(name for name in left | right if left.get(name) != right.get(name)))


def _flat(key: Mapping[str, object]) -> dict[str, str]:
    fields: dict[str, str] = {}
    for name, value in key.items():
        if isinstance(value, Mapping):
            fields |= {f"{name}.{part}": canonical_json(item) for part, item in value.items()}
        else:
            fields[name] = canonical_json(value)
    return fields


def canonical_json(value: object) -> str:
    """The one text of plain data: sorted keys, no spaces, ASCII.

    Raises:
        ValueError: a number is not finite.
    """
    return json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False)


def key_hash(fields: Mapping[str, object]) -> str:
    """16 hexadecimal digits of the SHA-256 of plain fields."""
    return hashlib.sha256(canonical_json(fields).encode()).hexdigest()[:16]


def protocol_hash(protocol: Protocol) -> str:
    """Short hash over every field of a protocol.

    What a budget leaves to the protocol is left out: a new kind of exception changes no old hash.
    """
    told = asdict(protocol)
    told["budgets"] = [
        {name: value for name, value in row.items() if value is not None} for row in told["budgets"]
    ]
    return key_hash(told)
