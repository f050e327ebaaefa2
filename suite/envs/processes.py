"""Lanes in worker processes, for engines that leave only one core busy in a process."""

from __future__ import annotations

import multiprocessing
import signal
from collections.abc import Callable
from multiprocessing.connection import Connection
from typing import Any

import numpy as np

from suite.envs.lanes import Lanes, Usage, own_usage, total_usage
from suite.steps import LaneStep

_GRACE_SECONDS = 5.0
"""For a worker to end after it was asked to, before it is killed."""


class ProcessLanes(Lanes):
    """S x E lanes, spread over worker processes.

    A lane that raises takes its own seed out. A worker that dies takes out the seeds of all lanes
    it held. The numbers do not depend on the number of workers.

    Args:
        make: makes the lanes of some seeds ``[n, 1]``, in a worker; must be picklable.
        seeds: ``[S, E]``, one per lane.
        workers: at most as many as there are lanes.
    """

    def __init__(
        self, make: Callable[[np.ndarray], Lanes], seeds: np.ndarray, workers: int
    ) -> None:
        super().__init__((seeds.shape[0], seeds.shape[1]))
        context = multiprocessing.get_context("forkserver")
        self._lanes = np.array_split(np.arange(seeds.size), workers)  # of each worker
        self._connections: list[Connection] = []
        self._processes = []
        self._usages = [Usage(0.0, 0.0)] * workers
        for lanes in self._lanes:
            ours, theirs = context.Pipe()
            part = seeds.reshape(-1, 1)[lanes]
            process = context.Process(target=_serve, args=(make, part, theirs), daemon=True)
            process.start()
            theirs.close()  # the worker's copy is now the only one: its end is the pipe's end
            self._connections.append(ours)
            self._processes.append(process)
        answers = [self._receive(worker) for worker in range(workers)]
        if None in answers:
            self.close()
            raise RuntimeError(f"a worker could not make its lanes: {self.failures}")
        self.spaces = answers[0]
        self._shown = {
            name: (space.shape, getattr(space, "dtype", np.dtype(np.int64)))
            for name, space in self.spaces.observation.items()
        }

    def reset(self) -> dict[str, np.ndarray]:
        self._send([None] * len(self._lanes))
        obs = self._empty()
        for worker, lanes in enumerate(self._lanes):
            answer = self._receive(worker)
            if answer is not None:
                self._write(obs, lanes, answer)
        self._blank(*obs.values())
        return self._per_seed(obs)

    def step(self, action: np.ndarray) -> LaneStep:
        flat = action.reshape(-1, 1, *action.shape[2:])
        self._send([flat[lanes] for lanes in self._lanes])
        next_obs = obs = self._empty()
        reward = np.zeros(flat.shape[0], np.float32)
        terminated, truncated = np.zeros(len(flat), bool), np.zeros(len(flat), bool)
        firsts = []
        for worker, lanes in enumerate(self._lanes):
            answer = self._receive(worker)
            if answer is None:
                continue
            self._write(next_obs, lanes, answer.next_obs)
            reward[lanes] = answer.reward[:, 0]
            terminated[lanes] = answer.terminated[:, 0]
            truncated[lanes] = answer.truncated[:, 0]
            if answer.obs is not answer.next_obs:  # pickled together, they stay the same object
                firsts.append((lanes, answer.obs))
        if firsts:
            obs = {name: values.copy() for name, values in next_obs.items()}
            for lanes, leaves in firsts:
                self._write(obs, lanes, leaves)
        self._blank(reward, terminated, truncated, *next_obs.values(), *obs.values())
        shown = self._per_seed(next_obs)
        return LaneStep(
            self._per_seed(obs) if firsts else shown,
            shown,
            reward.reshape(self.shape),
            terminated.reshape(self.shape),
            truncated.reshape(self.shape),
        )

    def usage(self) -> Usage:
        return total_usage(self._usages)

    def close(self) -> None:
        for connection in self._connections:
            connection.close()  # a worker ends when its pipe does
        for process in self._processes:
            process.join(_GRACE_SECONDS)
            if process.is_alive():
                process.kill()
                process.join()
        self._connections = []

    def _send(self, messages: list[Any]) -> None:
        for connection, message in zip(self._connections, messages, strict=True):
            try:
                connection.send(message)
            except OSError:  # it died: its end is noticed when its answer is due
                continue

    def _receive(self, worker: int) -> Any:
        """What a worker answers; None if it died, which is the end of its lanes' seeds."""
        try:
            answer, failures, self._usages[worker] = self._connections[worker].recv()
        except (EOFError, OSError):
            process = self._processes[worker]
            process.join()
            failures = dict.fromkeys(range(len(self._lanes[worker])), _end_of(process.exitcode))
            answer = None
        for index, reason in failures.items():
            self.failures.setdefault(int(self._lanes[worker][index]) // self.shape[1], reason)
        return answer

    def _blank(self, *arrays: np.ndarray) -> None:
        for row in self.failures:
            for values in arrays:
                values[row * self.shape[1] : (row + 1) * self.shape[1]] = 0

    def _empty(self) -> dict[str, np.ndarray]:
        lanes = self.shape[0] * self.shape[1]
        return {
            name: np.zeros((lanes, *shape), dtype) for name, (shape, dtype) in self._shown.items()
        }

    def _write(
        self, obs: dict[str, np.ndarray], lanes: np.ndarray, leaves: dict[str, np.ndarray]
    ) -> None:
        for name, values in leaves.items():
            obs[name][lanes] = values[:, 0]

    def _per_seed(self, leaves: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        return {name: leaf.reshape(*self.shape, *leaf.shape[1:]) for name, leaf in leaves.items()}


def _serve(make: Callable[[np.ndarray], Lanes], seeds: np.ndarray, connection: Connection) -> None:
    """Answer with the spaces, then to None with a reset, to an action with a step."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's to answer
    lanes = make(seeds)
    answer: Any = lanes.spaces
    while True:
        try:
            connection.send((answer, lanes.failures, own_usage()))
            action = connection.recv()
        except (EOFError, OSError):  # closed, or the parent is gone
            lanes.close()
            return
        answer = lanes.reset() if action is None else lanes.step(action)


def _end_of(exit_code: int | None) -> str:
    if exit_code is not None and exit_code < 0:
        return f"the lane's process was ended by {signal.Signals(-exit_code).name}"
    return f"the lane's process ended with exit code {exit_code}"
