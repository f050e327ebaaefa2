"""NetHack: the eight tasks of the NetHack Learning Environment (NLE).

Observation, 7,327 bytes per lane: the map's ``glyphs``, ``chars`` and ``colors``, ``[21, 79]``
each; ``crop``, the 9 x 9 glyphs around the hero, who is in its middle, blank stone beyond the map;
``blstats``, the numbers of the bottom line (position, attributes, score, hit points, depth, gold,
time and others, in NLE's order), raw and without bounds, float32; ``message``, the top line; glyphs
and classes of the 55 places of the inventory. Action: one of 23 keys (directions, search, kick,
eat, more), in NetHackChallenge one of 121 (nearly the whole keyboard). Reward: NLE's own, with its
penalty of 0.01 for a step in which game time stands still (none in NetHackChallenge). End: death,
and success where the task has a goal, terminate. Episodes truncate at 5,000 steps; those of
NetHackChallenge at a million, or when game time stood still for 10,000 of NLE's checks, of which it
makes two per step. Hero: a human neutral monk; in NetHackChallenge any. Source: NLE 1.3 (Küttler et
al. 2020); NetHackChallenge after Hambro et al. 2022.

Differences from NLE, all of them so that an episode is a function of its lane's seed:

- every episode gets its seeds here, also in NetHackChallenge, which forbids that, and NetHack
  never reseeds itself;
- moon, night and Friday the 13th follow from the seed and not from the clock (NLE's
  ``fix_moon_phase``), and so does the time of birth, of which shops, ants and T-shirts are made;
- an episode that succeeds or is cut ends where it is. NLE quits the game first and returns what is
  seen after that; and at the step limit it overlooks success.

A process of its own plays the lanes of each seed, because NetHack runs one game at a time per
process and may take its process down with it.
"""

from __future__ import annotations

import ctypes
import multiprocessing
import shutil
import signal
import tempfile
import warnings
import weakref
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing.connection import Connection
from multiprocessing.context import ForkServerProcess
from typing import Any

import numpy as np

from suite.envs.lanes import Lanes, Usage, own_usage, total_usage
from suite.spaces import Box, Discrete, Spaces, Text, box
from suite.steps import LaneStep
from suite.tasks import Bounds, Engine, Family, Task

CROP = 9
"""Height and width of the map around the hero; the size of NLE's own agent."""

STONE = 2359
"""The glyph of blank stone, which is also what has not been seen yet."""

_MAX_GLYPH = 5976
_MAP = (21, 79)
_INVENTORY = (55,)

OBSERVATION: Mapping[str, Box | Text] = {
    "glyphs": box(0, _MAX_GLYPH, _MAP, "int16"),
    "chars": box(0, 255, _MAP, "uint8"),
    "colors": box(0, 15, _MAP, "uint8"),
    "crop": box(0, _MAX_GLYPH, (CROP, CROP), "int16"),
    "blstats": box(-np.inf, np.inf, (27,)),
    "message": Text(256, 256),
    "inv_glyphs": box(0, _MAX_GLYPH, _INVENTORY, "int16"),
    "inv_oclasses": box(0, 18, _INVENTORY, "uint8"),
}

_OWN_LEAVES = {"crop"}
_NLE_LEAVES = tuple(name for name in OBSERVATION if name not in _OWN_LEAVES)

_LEAVES = np.dtype(
    [(name, space.dtype, space.shape) for name, space in OBSERVATION.items()], align=True
)

RECORD = np.dtype(
    [
        ("action", np.int64),
        ("next_obs", _LEAVES),
        ("reward", np.float32),
        ("terminated", bool),
        ("truncated", bool),
        ("first_obs", _LEAVES),
    ],
    align=True,
)
"""A lane in the memory that is shared with its process; ``first_obs`` opens the latest episode."""

_CONTEXT = multiprocessing.get_context("forkserver")


class Game:
    """One lane: games of NetHack, one after the other.

    Args:
        name: NLE's id of the task.
        horizon: steps after which an episode truncates.
        seed: of the lane.
        record: ``[1]`` of :data:`RECORD`, where actions come from and outcomes go.
    """

    def __init__(self, name: str, horizon: int, seed: int, record: np.ndarray) -> None:
        from nle.nethack import Nethack

        self.env = _open(name, horizon)
        self.env._quit_game = lambda observation, done: None  # would overwrite the last observation
        self._running = self.env.StepStatus.RUNNING
        self._set_seeds = Nethack.set_initial_seeds
        self._horizon = horizon
        self._seed = seed
        self._episode = 0
        self._elapsed = 0
        # looked up once; views of the record
        self._action, self._reward = record["action"], record["reward"]
        self._terminated, self._truncated = record["terminated"], record["truncated"]
        self._next_obs = {name: record["next_obs"][name][0] for name in OBSERVATION}
        self._first_obs = {name: record["first_obs"][name][0] for name in OBSERVATION}
        margin = CROP // 2
        self._map = np.full([size + 2 * margin for size in _MAP], STONE, np.int16)
        self._inner_map = self._map[margin:-margin, margin:-margin]

    def begin(self) -> None:
        """Begin the next episode."""
        entropy = np.random.SeedSequence((self._seed, self._episode))
        core, disp, birth = entropy.generate_state(3, np.uint64).tolist()
        self._set_seeds(self.env.nethack, core, disp, False)
        observation, _ = self.env.reset()
        set_birth(self.env.nethack.dlpath, birth % 2**31)
        self._episode += 1
        self._elapsed = 0
        self._show(observation, self._first_obs)

    def step(self) -> None:
        """Take the action that the record holds."""
        observation, reward, _, _, info = self.env.step(self._action[0])
        self._elapsed += 1
        status = info["end_status"]
        terminated = status > self._running  # a death or a success
        truncated = not terminated and (status < self._running or self._elapsed >= self._horizon)
        self._reward[0] = reward
        self._terminated[0] = terminated
        self._truncated[0] = truncated
        self._show(observation, self._next_obs)
        if terminated or truncated:
            self.begin()

    def _show(self, observation: dict[str, np.ndarray], leaves: dict[str, np.ndarray]) -> None:
        for name in _NLE_LEAVES:
            leaves[name][...] = observation[name]
        self._inner_map[...] = observation["glyphs"]
        x, y = observation["blstats"][:2].tolist()
        leaves["crop"][...] = self._map[y : y + CROP, x : x + CROP]


def _open(name: str, horizon: int) -> Any:
    from nle.env import tasks

    # not with gymnasium.make, which keeps the limit of steps to itself
    return getattr(tasks, name.removesuffix("-v0"))(
        observation_keys=_NLE_LEAVES,
        max_episode_steps=horizon + 1,  # never reached: at its limit NLE overlooks success
        fix_moon_phase=True,
    )


def set_birth(library: str, seconds: int) -> None:
    """Set the hero's time of birth, which NetHack reads off the clock whatever its seeds are.

    Not too late after a reset: nothing on the first level depends on it.

    Args:
        library: path of the game's own copy of NetHack, as NLE tells it.
        seconds: since 1970.
    """
    import _ctypes

    handle = ctypes.CDLL(library)
    ctypes.c_long.in_dll(handle, "ubirthday").value = seconds
    _ctypes.dlclose(handle._handle)  # NLE ends the process if it finds its library still open


@dataclass(frozen=True)
class _Work:
    """What a process needs to know in order to play some lanes of one seed."""

    name: str
    horizon: int
    seeds: np.ndarray
    """``[lanes]``"""
    memory: Any
    """Shared, :data:`RECORD` of all lanes of all seeds."""
    start: int
    """Position of the first of these lanes among them."""
    usage: Any
    """Shared, where the process tells its :class:`Usage`."""
    folder: str
    """For the files of the games."""


def _serve(work: _Work, parent: Connection) -> None:
    """Play: begin all lanes, then a step at each message, and answer with what went wrong."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's to answer
    # NLE would begin the episode again, with seeds from the system
    warnings.filterwarnings("error", "Not in moveloop")
    tempfile.tempdir = work.folder
    games: list[Game] = []

    def begin() -> None:
        records = np.frombuffer(work.memory, RECORD)
        for lane, seed in enumerate(work.seeds.tolist(), start=work.start):
            games.append(Game(work.name, work.horizon, seed, records[lane : lane + 1]))
            games[-1].begin()

    def step() -> None:
        for game in games:
            game.step()

    with suppress(EOFError, ConnectionError):  # the parent is gone, without having said so
        play = begin
        while True:
            trouble = _attempt(play)
            work.usage[:] = own_usage()
            parent.send_bytes(trouble)
            parent.recv_bytes()
            play = step
    shutil.rmtree(work.folder, ignore_errors=True)


def _attempt(play: Callable[[], None]) -> bytes:
    """What went wrong; empty if nothing did."""
    try:
        play()
    except Exception as error:  # noqa: BLE001
        return f"{type(error).__name__}: {error}".encode()
    return b""


@dataclass(frozen=True)
class _Player:
    """A process that plays some lanes of one seed, seen from the parent."""

    row: int
    process: ForkServerProcess
    connection: Connection
    folder: str

    def ask(self) -> None:
        """Let it take a step; that it has died shows when it is to answer."""
        with suppress(OSError):
            self.connection.send_bytes(b"step")

    def answer(self) -> str:
        """Wait until it is done, and tell what went wrong; empty if nothing did."""
        try:
            return self.connection.recv_bytes().decode()
        except (EOFError, OSError):
            self.process.join()
            code = self.process.exitcode or 0
            cause = signal.Signals(-code).name if code < 0 else f"exit code {code}"
            return f"the NetHack process ended with {cause}"

    def end(self) -> None:
        """End it at once: it has nothing to save."""
        self.process.kill()
        self.process.join()
        self.process.close()
        self.connection.close()
        shutil.rmtree(self.folder, ignore_errors=True)


class NetHackLanes(Lanes):
    """Processes that play NetHack: one per seed, or several if there are threads for them.

    They start with the first reset, begin and end together, and share memory with this process. One
    that dies is the end of its own seed alone. They end with this process, however that ends.

    Args:
        task: of this family.
        seeds: ``[S, E]``, one per lane.
        threads: processes to use, at least one per seed all the same.
    """

    def __init__(self, task: Task, seeds: np.ndarray, threads: int) -> None:
        super().__init__((seeds.shape[0], seeds.shape[1]))
        self.spaces = Spaces(OBSERVATION, Discrete(_num_actions(task)))
        self._task = task
        self._seeds = seeds
        self._parts = max(1, min(threads // seeds.shape[0], seeds.shape[1]))
        self._memory = _CONTEXT.RawArray("B", RECORD.itemsize * seeds.size)
        self._records = np.frombuffer(self._memory, RECORD).reshape(self.shape)
        self._players: list[_Player] = []
        self._usages: list[Any] = []
        self._end_all = weakref.finalize(self, _end, self._players)

    def reset(self) -> dict[str, np.ndarray]:
        for row in range(self.shape[0]):
            for lanes in np.array_split(np.arange(self.shape[1]), self._parts):
                self._players.append(self._start(row, lanes))
        self._gather()
        return self._read("first_obs")

    def step(self, action: np.ndarray) -> LaneStep:
        self._records["action"] = action
        for player in self._players:
            player.ask()
        self._gather()
        next_obs = obs = self._read("next_obs")
        terminated = self._records["terminated"].copy()
        truncated = self._records["truncated"].copy()
        ended = terminated | truncated
        if ended.any():
            obs = {name: leaf.copy() for name, leaf in next_obs.items()}
            for name, leaf in obs.items():
                leaf[ended] = self._records["first_obs"][name][ended]
        return LaneStep(obs, next_obs, self._records["reward"].copy(), terminated, truncated)

    def usage(self) -> Usage:
        return total_usage(self._usages)

    def close(self) -> None:
        self._end_all()

    def _start(self, row: int, lanes: np.ndarray) -> _Player:
        assert self._task.horizon is not None, f"{self._task.id} has no horizon"
        # what is slow to import, once for all processes
        _CONTEXT.set_forkserver_preload(["__main__", "nle.env.tasks", __name__])
        folder = tempfile.mkdtemp(prefix="suite-nethack-")
        connection, child = _CONTEXT.Pipe()
        self._usages.append(_CONTEXT.RawArray("d", 2))
        work = _Work(
            self._task.name,
            self._task.horizon,
            self._seeds[row, lanes],
            self._memory,
            row * self.shape[1] + int(lanes[0]),
            self._usages[-1],
            folder,
        )
        process = _CONTEXT.Process(target=_serve, args=(work, child), daemon=True)
        process.start()
        child.close()  # the process's copy is now the only one: its end is the pipe's end
        return _Player(row, process, connection, folder)

    def _gather(self) -> None:
        """Wait for all processes, and leave behind the seeds of which one failed."""
        failed: dict[int, str] = {}
        for player in self._players:
            if reason := player.answer():
                failed.setdefault(player.row, reason)
        if failed:
            self.failures |= failed
            _end([player for player in self._players if player.row in failed])
            self._players[:] = [p for p in self._players if p.row not in failed]
            self._records[list(failed)] = np.zeros((), RECORD)

    def _read(self, name: str) -> dict[str, np.ndarray]:
        leaves = self._records[name]
        return {name: leaves[name].copy() for name in OBSERVATION}


def _end(players: list[_Player]) -> None:
    while players:
        players.pop().end()


_RANDOM = "mean of a uniform random policy, NLE 1.3, 100 episodes"
_GOAL = "reward of success"
_AUTOASCEND = (
    "mean in-game score of the AutoAscend bot with a human neutral monk,"
    " corl-team/katakomba katakomba/utils/scores.py"
)


def _task(name: str, bounds: Bounds | None = None, horizon: int = 5000) -> Task:
    return Task(
        id=f"nethack/{name}-v0",
        actions="discrete",
        horizon=horizon,
        domain="dungeon exploration",
        complexity="high",
        paper="Küttler et al. 2020",
        bounds=bounds,
        wrappers=(f"Crop({CROP})", "Seeded"),
    )


_TASKS = (
    _task("NetHackScore", Bounds(21.08, _RANDOM, 17456.05, _AUTOASCEND)),
    _task("NetHackStaircase", Bounds(-10.24, _RANDOM, 1.0, _GOAL)),
    _task("NetHackStaircasePet", Bounds(-10.14, _RANDOM, 1.0, _GOAL)),
    _task("NetHackOracle", Bounds(-12.03, _RANDOM, 1.0, _GOAL)),
    # The next three have no known best return: gold, food and unseen places have no end.
    _task("NetHackGold"),
    _task("NetHackEat"),
    _task("NetHackScout"),
    # Published scores are of in-game points under other limits of time.
    _task("NetHackChallenge", horizon=1_000_000),
)


def _num_actions(task: Task) -> int:
    return 121 if task.name == "NetHackChallenge-v0" else 23


def _make(task: Task, seeds: np.ndarray, split: str, threads: int) -> Lanes:
    return NetHackLanes(task, seeds, threads)


FAMILY = Family(
    name="nethack",
    title="NetHack",
    tasks={task.name: task for task in _TASKS},
    engines=(Engine("nle", ("nle", "gymnasium"), _make),),
    install='pip install "nle>=1.3"',
    sets={"nle-7": tuple(task.name for task in _TASKS[:7])},
)
