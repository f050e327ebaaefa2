"""The bridge to Isaac Gym itself: each seed's simulation runs in a process of its own.

Isaac Gym Preview 4 needs Python 3.8 or older and holds one simulation per process. So for every
seed the Python that ISAACGYM_PYTHON names runs ``worker38.py``, and arrays go through a socket. A
simulation has one random generator for all its worlds: the lanes of a seed share it, seeded by the
seeds of them all, and seeds stay independent of each other. Two runs of the same seed need not
agree bit by bit, which PhysX does not promise on a graphics card.

IsaacGymEnvs resets worlds by itself, in one of three ways, each of which hides something:

- at the end of the next step (Cartpole, Ant, Humanoid, Anymal): the step after an end simulates an
  action that counts for nothing, and rewards it;
- at the start of the next step (BallBalance, Quadcopter, Ingenuity): the first observation of an
  episode is never shown;
- in the same step (AnymalTerrain): the last observation of an episode is never shown.

A step moves all worlds, so the step after an end can be neither left out nor repeated for some of
them. What the worker does instead moves none: as soon as worlds end, it resets them with the task's
own function and observes them again; where the task itself does that in the same step, the worker
observes them just before. Upstream's limit of time, which cuts one step before the horizon and
hides a fall in the last step, is lifted, and the worker counts. So every transition is one that the
simulator made, ``next_obs`` is what it led to, and a fall is told from a cut. What remains:

- BallBalance, Quadcopter and Ingenuity ignore the first action of an episode, because they clear
  the actuators of worlds that were just reset;
- what a reset does not write (force sensors, the previous action; in AnymalTerrain also the base's
  velocities and the direction of gravity) still shows the last episode in the first observation of
  the next one, as it does upstream;
- AnymalTerrain's noise is missing from the last observation of an episode, which is what a cut
  episode's value is estimated from;
- AnymalTerrain's very first episodes begin after a step with an action of zeros.

Written after the source of IsaacGymEnvs 1.5.1. It has never run with the simulator itself: the
tests put a stand-in in its place.
"""

from __future__ import annotations

import json
import multiprocessing
import os
import signal
import subprocess
import tempfile
import weakref
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import IO, Any

import numpy as np

from suite.envs.isaacgym.worlds import LEAF
from suite.envs.lanes import Lanes, Usage, total_usage
from suite.spaces import Spaces, box
from suite.steps import LaneStep
from suite.tasks import Lack, Task

VARIABLE = "ISAACGYM_PYTHON"

WORKER = Path(__file__).with_name("worker38.py")

_INSTALL = (
    "install Isaac Gym Preview 4 (https://developer.nvidia.com/isaac-gym) and IsaacGymEnvs 1.5.1"
    f" under Python 3.8, then export {VARIABLE}=/path/to/that/bin/python"
)

RESETS = {
    "Cartpole": "next-step",
    "Ant": "next-step",
    "Humanoid": "next-step",
    "BallBalance": "next-step",
    "Quadcopter": "next-step",
    "Ingenuity": "next-step",
    "Anymal": "next-step",
    "AnymalTerrain": "same-step",
}
"""When a task resets its worlds."""


class _Failure(Exception):
    """A simulation raised, or its process has died."""


@dataclass(frozen=True)
class _Simulation:
    """The process that holds a seed's worlds, seen from here."""

    row: int
    process: subprocess.Popen[bytes]
    connection: Connection
    output: IO[bytes]
    """What the process prints."""

    def ask(self, request: bytes) -> None:
        """Send a request; that the process has died shows when it is to answer."""
        with suppress(OSError):
            self.connection.send_bytes(request)

    def answer(self) -> tuple[dict[str, Any], list[bytes]]:
        """Wait for an answer.

        Raises:
            _Failure: there is none.
        """
        try:
            header = json.loads(self.connection.recv_bytes())
            arrays = [self.connection.recv_bytes() for _ in range(header.get("arrays", 0))]
        except (EOFError, OSError):
            raise _Failure(self._end()) from None
        if "error" in header:
            raise _Failure(header["error"])
        return header, arrays

    def close(self) -> None:
        """End the process at once: it has nothing to save."""
        self.process.kill()
        self.process.wait()
        self.connection.close()
        self.output.close()

    def _end(self) -> str:
        code = self.process.wait()
        cause = signal.Signals(-code).name if code < 0 else f"exit code {code}"
        self.output.seek(max(0, self.output.seek(0, os.SEEK_END) - 4096))
        said = self.output.read().decode(errors="replace").split("\n")
        last = next((f", after {line.strip()!r}" for line in reversed(said) if line.strip()), "")
        return f"the simulation's process ended with {cause}{last}"


class BridgeLanes(Lanes):
    """Worlds of Isaac Gym: one simulation of E worlds per seed.

    Processes start with the lanes, and end with them or with this process, however that ends. One
    that raises or dies is the end of its own seed alone.

    Args:
        task: of this family.
        seeds: ``[S, E]``, one per lane.
        python: the interpreter that runs the simulations.

    Raises:
        RuntimeError: not one simulation could be made.
    """

    def __init__(self, task: Task, seeds: np.ndarray, python: str) -> None:
        super().__init__((seeds.shape[0], seeds.shape[1]))
        self._simulations: list[_Simulation] = []
        self._usages = [Usage(0.0, 0.0)] * len(seeds)
        self._end_all = weakref.finalize(self, _close, self._simulations)
        for row, lanes in enumerate(seeds):
            self._simulations.append(_start(row, task, lanes, python))
        answers = self._gather()
        if not answers:
            raise RuntimeError(f"no simulation could be made: {self.failures}")
        found = next(iter(answers.values()))[0]
        limit = found["limit"]
        self.spaces = Spaces(
            {LEAF: box(-limit, limit, (found["observations"],))},
            box(-1.0, 1.0, (found["actions"],)),
        )

    def reset(self) -> dict[str, np.ndarray]:
        for simulation in self._simulations:
            simulation.ask(b"")
        obs = self._zeros()
        for row, (_, (first,)) in self._gather().items():
            _fill(obs[row], first)
        return {LEAF: obs}

    def step(self, action: np.ndarray) -> LaneStep:
        moves = np.clip(action, -1, 1).astype(np.float32)
        for simulation in self._simulations:
            simulation.ask(moves[simulation.row].tobytes())
        next_obs = self._zeros()
        reward = np.zeros(self.shape, np.float32)
        terminated, truncated = np.zeros(self.shape, bool), np.zeros(self.shape, bool)
        firsts = {}
        for row, (_, arrays) in self._gather().items():
            outcome = (next_obs, reward, terminated, truncated)
            for values, received in zip(outcome, arrays[:4], strict=True):
                _fill(values[row], received)
            if len(arrays) > 4:
                firsts[row] = arrays[4]
        obs = next_obs.copy() if firsts else next_obs
        for row, first in firsts.items():
            _fill(obs[row], first)
        shown = {LEAF: next_obs}
        return LaneStep({LEAF: obs} if firsts else shown, shown, reward, terminated, truncated)

    def usage(self) -> Usage:
        return total_usage(self._usages)

    def close(self) -> None:
        self._end_all()

    def _gather(self) -> dict[int, tuple[dict[str, Any], list[bytes]]]:
        """Wait for all simulations, by row, and leave those behind that failed."""
        answers = {}
        for simulation in list(self._simulations):
            try:
                answers[simulation.row] = simulation.answer()
            except _Failure as failure:
                self.failures[simulation.row] = str(failure)
                self._simulations.remove(simulation)
                simulation.close()
            else:
                self._usages[simulation.row] = Usage(*answers[simulation.row][0]["usage"])
        return answers

    def _zeros(self) -> np.ndarray:
        return np.zeros((*self.shape, *self.spaces.observation[LEAF].shape), np.float32)


def simulation_seed(lanes: np.ndarray) -> int:
    """The seed of a simulation, made of those of its lanes ``[E]``; 32 bits are what it takes."""
    return int(np.random.SeedSequence(lanes.tolist()).generate_state(1)[0])


def _start(row: int, task: Task, lanes: np.ndarray, python: str) -> _Simulation:
    connection, theirs = multiprocessing.Pipe()
    facts = (task.name, len(lanes), task.horizon, simulation_seed(lanes), RESETS[task.name])
    output = tempfile.TemporaryFile()  # noqa: SIM115
    process = subprocess.Popen(
        [python, str(WORKER), str(theirs.fileno()), *map(str, facts)],
        pass_fds=[theirs.fileno()],
        stdin=subprocess.DEVNULL,
        stdout=output,  # Isaac Gym talks much, and the console belongs to the bench
        stderr=subprocess.STDOUT,
    )
    theirs.close()  # the process's copy is now the only one: its end is the connection's end
    return _Simulation(row, process, connection, output)


def _close(simulations: list[_Simulation]) -> None:
    while simulations:
        simulations.pop().close()


def _fill(values: np.ndarray, received: bytes) -> None:
    values[...] = np.frombuffer(received, values.dtype).reshape(values.shape)


def lacks(task: Task) -> Lack | None:
    """What keeps this machine from running Isaac Gym."""
    python = os.environ.get(VARIABLE)
    if not python:
        return Lack(f"Isaac Gym ({VARIABLE} is not set)", _INSTALL)
    if not (Path(python).is_file() and os.access(python, os.X_OK)):
        return Lack(f"Isaac Gym ({VARIABLE}={python} is no executable file)", _INSTALL)
    return None


def make_bridge(task: Task, seeds: np.ndarray, split: str, threads: int) -> Lanes:
    """Open lanes in Isaac Gym itself; it uses its graphics card, and no threads of ours.

    Raises:
        ModuleNotFoundError: Isaac Gym is not to be found; the message tells the way out.
    """
    if lack := lacks(task):
        raise ModuleNotFoundError(f"{lack.what}: {lack.install}")
    return BridgeLanes(task, seeds, os.environ[VARIABLE])
