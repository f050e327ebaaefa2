"""ProcGen: sixteen games whose levels are drawn by a program, to measure generalisation.

Observation: the screen, bytes [64, 64, 3]. Action: one of 15, directions and keys. Reward: the
game's own, not scaled. End: a life lost, a goal reached, or the game's time limit, which truncates.
Source: procgen 0.10.7 (Cobbe et al. 2020), packaged as procgen-mirror.

Every game comes in both difficulties of the paper. Training plays a fixed set of levels, numbers 0
to 199 of the easy games and 0 to 499 of the hard ones. The score is the return on ``test-levels``:
all numbers from there to 2**31 - 2, each as likely as any other. The paper tests on the whole
distribution, training levels included; here they are left out, so that no level of the score was
ever trained on, which changes one level in four million. ``train-levels`` are those of training.

Differences from upstream:

- A lane draws its levels from its own seed, as upstream's vector of a single environment with that
  seed does. Upstream has one seed per vector, and a lane's levels depend on its place in it.
- Upstream calls every end the same; here the time limit truncates, and what the last action leads
  to is shown. An episode that ends by itself at the very limit terminates.
- One exception to the contract of lanes: what a game looks like when it has terminated is never
  drawn, because upstream begins the next level before it draws. ``next_obs`` of a terminated step
  is the observation that was acted on. Its value is 0 in any target, whatever it shows.
"""

from __future__ import annotations

import ctypes
import io
import struct
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr
from typing import Any

import numpy as np

from suite.envs.lanes import Lanes
from suite.spaces import Discrete, Spaces, box
from suite.steps import LaneStep
from suite.tasks import Bounds, Engine, Family, Lack, Task

_SYSTEM_LIBRARIES = ("libgthread-2.0.so.0", "libGL.so.1")
"""Of GLib and OpenGL: procgen's wheel for Linux brings Qt along, but not what Qt needs."""

# Packages are imported where they are used: the tasks can be listed without them.

TRAIN_LEVELS = {"easy": 200, "hard": 500}
"""How many levels training plays, by difficulty: Cobbe et al. 2020, sections 2.2 and 3."""

ALL_LEVELS = 2**31 - 1
"""Level numbers are drawn below this, upstream's largest integer."""

_FLOOR = "R_min of the normalisation of Cobbe et al. 2020, openai/train-procgen constants.py"
_CAP = "R_max of the normalisation of Cobbe et al. 2020, openai/train-procgen constants.py"

_BOUNDS = {
    "coinrun": ((5.0, 10.0), (5.0, 10.0)),
    "starpilot": ((2.5, 64.0), (1.5, 35.0)),
    "caveflyer": ((3.5, 12.0), (2.0, 13.4)),
    "dodgeball": ((1.5, 19.0), (1.5, 19.0)),
    "fruitbot": ((-1.5, 32.4), (-0.5, 27.2)),
    "chaser": ((0.5, 13.0), (0.5, 14.2)),
    "miner": ((1.5, 13.0), (1.5, 20.0)),
    "jumper": ((1.0, 10.0), (1.0, 10.0)),
    "leaper": ((1.5, 10.0), (1.5, 10.0)),
    "maze": ((5.0, 10.0), (4.0, 10.0)),
    "bigfish": ((1.0, 40.0), (0.0, 40.0)),
    "heist": ((3.5, 10.0), (2.0, 10.0)),
    "climber": ((2.0, 12.6), (1.0, 12.6)),
    "plunder": ((4.5, 30.0), (3.0, 30.0)),
    "ninja": ((3.5, 10.0), (2.0, 10.0)),
    "bossfight": ((0.5, 13.0), (0.5, 13.0)),
}
"""Floor and cap of each game, easy and hard, in the order of the paper."""

_TIME_LIMITS = {"bigfish": 6000, "bossfight": 4000, "plunder": 4000, "leaper": 500, "maze": 500}
"""Steps after which upstream ends an episode, where not after 1000."""


def _task(game: str, difficulty: str, floor: float, cap: float) -> Task:
    return Task(
        id=f"procgen/{game}-{difficulty}",
        actions="discrete",
        horizon=_TIME_LIMITS.get(game, 1000),
        domain="procedurally generated games",
        complexity="high",
        paper="Cobbe et al. 2020",
        bounds=Bounds(floor, _FLOOR, cap, _CAP),
        splits=("test-levels", "train-levels"),
    )


_EASY = tuple(_task(game, "easy", *easy) for game, (easy, _) in _BOUNDS.items())
_HARD = tuple(_task(game, "hard", *hard) for game, (_, hard) in _BOUNDS.items())


def level_range(task: Task, split: str) -> tuple[int, int]:
    """The first level that a split may draw, and how many from there on."""
    known = TRAIN_LEVELS[task.name.split("-")[1]]
    return (known, ALL_LEVELS - known) if split == "test-levels" else (0, known)


class ProcgenLanes(Lanes):
    """All lanes of all seeds in one of procgen's vectors.

    The vector takes one seed for all. To give each lane its own, its game is begun in a vector by
    itself and moved, as a saved state, to its place. A saved state also holds the game's time
    limit, so that the limit can be set, and the last action before it be tried without it.

    Args:
        task: game and difficulty by its name; its horizon becomes the game's time limit.
        seeds: ``[S, E]``, one per lane, below 2**31.
        levels: first level and number of levels, see :func:`level_range`.
        threads: of the vector; the numbers do not depend on it.
    """

    def __init__(
        self, task: Task, seeds: np.ndarray, levels: tuple[int, int], threads: int
    ) -> None:
        super().__init__((seeds.shape[0], seeds.shape[1]))
        assert task.horizon is not None, f"{task.id} has no horizon"
        self.spaces = Spaces({"observation": box(0, 255, (64, 64, 3), "uint8")}, Discrete(15))
        self._horizon = task.horizon
        self._elapsed = np.zeros(seeds.size, np.int64)
        workers = threads if threads > 1 else 0  # at 0 the caller's own thread steps
        self._vector = _open(task, seeds.size, levels, seed=0, threads=workers)
        self._trial = _open(task, 1, levels, seed=0)
        states = [_first_state(task, levels, seed) for seed in seeds.ravel().tolist()]
        self._vector.set_state([_limited(state, self._horizon) for state in states])
        self._saver = _Saver()

    def reset(self) -> dict[str, np.ndarray]:
        self._screens = self._vector.observe()[1]["rgb"]
        return self._per_seed(self._screens)

    def step(self, action: np.ndarray) -> LaneStep:
        flat = action.ravel()
        is_last = self._elapsed == self._horizon - 1
        going_on = self._try_without_limit(is_last, flat) if is_last.any() else {}
        before = self._screens
        self._vector.act(flat)
        reward, observation, first = self._vector.observe()
        self._screens = observation["rgb"]
        self._elapsed += 1
        self._elapsed[first] = 0
        next_obs = obs = self._per_seed(self._screens)
        truncated = np.zeros(first.shape, np.bool_)
        if first.any():
            screens = self._screens.copy()
            screens[first] = before[first]
            for lane, screen in going_on.items():
                screens[lane], truncated[lane] = screen, True
            next_obs = self._per_seed(screens)
        return LaneStep(
            obs,
            next_obs,
            reward.reshape(self.shape),
            (first & ~truncated).reshape(self.shape),
            truncated.reshape(self.shape),
        )

    def close(self) -> None:
        self._vector.close()
        self._trial.close()

    def _try_without_limit(self, lanes: np.ndarray, action: np.ndarray) -> dict[int, np.ndarray]:
        """What lanes show after the action if their games do not end by themselves, by lane."""
        screens = {}
        for lane in np.flatnonzero(lanes).tolist():
            state = self._saver.save(self._vector, lane)
            self._trial.set_state([_limited(state, self._horizon + 1)])
            self._trial.act(action[lane : lane + 1])
            _, observation, first = self._trial.observe()
            if not first[0]:
                screens[lane] = observation["rgb"][0]
        return screens

    def _per_seed(self, screens: np.ndarray) -> dict[str, np.ndarray]:
        return {"observation": screens.reshape(*self.shape, *screens.shape[1:])}


class _Saver:
    """Saves the state of one lane of a vector; upstream's own method saves those of all lanes."""

    def __init__(self) -> None:
        from cffi import FFI
        from procgen.env import MAX_STATE_SIZE

        self._size = MAX_STATE_SIZE
        self._ffi = FFI()
        self._buffer = self._ffi.new("char[]", self._size)

    def save(self, vector: Any, lane: int) -> bytes:
        length = vector.call_c_func("get_state", lane, self._buffer, self._size)
        return bytes(self._ffi.buffer(self._buffer, length))


def _first_state(task: Task, levels: tuple[int, int], seed: int) -> bytes:
    """The saved state of a game that begins its first level."""
    vector = _open(task, 1, levels, seed)
    (state,) = vector.get_state()
    vector.close()
    return bytes(state)


def time_limit(state: bytes) -> int:
    """Read a game's time limit, in steps, from its saved state."""
    (limit,) = struct.unpack_from("=i", state, _time_limit_place(state))
    return int(limit)


def _limited(state: bytes, limit: int) -> bytes:
    """The same saved state with another time limit, in steps."""
    place = _time_limit_place(state)
    return state[:place] + struct.pack("=i", limit) + state[place + 4 :]


def _time_limit_place(state: bytes) -> int:
    """Where the time limit stands: a state is a row of 4-byte numbers and of strings.

    A string is its length followed by its bytes. Order of the fields: ``Game::serialize`` in
    procgen's src/game.cpp, format 0, which procgen checks when it reads a state.
    """

    def after_string(place: int) -> int:
        return place + 4 + int(struct.unpack_from("=i", state, place)[0])

    place = after_string(4)  # the format; the game's name
    place += 4 * 17  # 12 options, grid step, lowest and highest level, type, number
    for _ in range(2):  # the generators of levels and of the game: whether seeded; its state
        place = after_string(place + 4)
    return place + 4 * 4  # reward, done, level complete, action


def _open(task: Task, lanes: int, levels: tuple[int, int], seed: int, threads: int = 0) -> Any:
    with known_remarks_silenced():
        from procgen import ProcgenGym3Env
    game, difficulty = task.name.split("-")
    return ProcgenGym3Env(
        num=lanes,
        env_name=game,
        distribution_mode=difficulty,
        start_level=levels[0],
        num_levels=levels[1],
        rand_seed=seed,
        num_threads=threads,
    )


@contextmanager
def known_remarks_silenced() -> Iterator[None]:
    """Silence what importing procgen brings along.

    Gym, which procgen registers itself with, advises on standard error to move to Gymnasium; and
    procgen leaves the file with its version open.
    """
    with redirect_stderr(io.StringIO()):
        import gym  # noqa: F401
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", r"unclosed file .*version\.txt", ResourceWarning)
        yield


def _lacks(task: Task) -> Lack | None:
    names = _SYSTEM_LIBRARIES if sys.platform == "linux" else ()
    if missing := [name for name in names if not _loads(name)]:
        return Lack(", ".join(missing), "apt-get install libglib2.0-0 libgl1")
    return None


def _loads(library: str) -> bool:
    try:
        ctypes.CDLL(library)
    except OSError:
        return False
    return True


def _make(task: Task, seeds: np.ndarray, split: str, threads: int) -> Lanes:
    return ProcgenLanes(task, seeds, level_range(task, split), threads)


FAMILY = Family(
    name="procgen",
    title="ProcGen",
    tasks={task.name: task for task in (*_EASY, *_HARD)},
    engines=(Engine("procgen", ("procgen-mirror",), _make, lacks=_lacks),),
    # Their own pins ask for NumPy below 2, with which PyTorch of today does not go.
    install="pip install --no-deps procgen-mirror gym3 && pip install gym==0.26.2 cffi imageio",
    sets={
        "procgen-easy": tuple(task.name for task in _EASY),
        "procgen-hard": tuple(task.name for task in _HARD),
    },
)
