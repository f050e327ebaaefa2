"""Isaac Gym's side of the bridge: one simulation, in a process of its own.

A program for the Python that Isaac Gym is installed in, 3.8 at most. The suite runs it by its path
and never imports it; here, nothing of the suite is at hand. What it does about resets, and why, is
told in ``bridge.py``.

Messages on the connection that the suite hands over: at first the spaces; then, at each request,
the outcome. A request is the actions ``[N, D]``, float32; an empty one begins. An answer is JSON;
unless it names an error, the arrays follow that it counts, each as bytes: the observations of a
beginning; or next_obs, reward, terminated and truncated, and obs if that differs from next_obs.
"""

from __future__ import annotations

import json
import os
import resource
import signal
import sys
import time
from contextlib import suppress
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

NEVER = 10**9
"""For upstream's own limit of time, in steps."""


class NextStepReset:
    """Worlds of a task that resets flagged worlds in the step after the one that flagged them.

    They are reset here as soon as they are flagged, by the task's own function. They stay flagged,
    as upstream leaves them, because some tasks clear the actuators of flagged worlds in their next
    step; the task's own call for a reset then finds that nothing is left to do.

    Args:
        env: a ``VecTask`` of isaacgymenvs.
        horizon: actions after which an episode is cut.
    """

    def __init__(self, env: Any, horizon: int) -> None:
        env.max_episode_length = NEVER  # flags are falls from now on: time is counted here
        self.env = env
        self.horizon = horizon
        self.elapsed = env.progress_buf.new_zeros(env.num_envs)
        self._reset = env.reset_idx
        self._returned: Any = None
        env.reset_idx = self._confirm

    def begin(self) -> Any:
        """Begin an episode in every world; what is observed, ``[N, F]``."""
        env = self.env
        env.reset_buf[:] = 0
        env.step(env.zero_actions())  # tasks allocate some buffers in their first step
        self._place((self.elapsed == 0).nonzero().flatten())
        return shown(env)

    def step(self, action: Any) -> tuple[Any, ...]:
        """Take a step: next_obs, reward, terminated, truncated, and obs if it differs."""
        self.elapsed += 1
        observed, reward, flags, _ = self.env.step(action)
        next_obs = observed["obs"]
        terminated = flags != 0
        truncated = (self.elapsed >= self.horizon) & ~terminated
        ended = (terminated | truncated).nonzero().flatten()
        if len(ended) == 0:
            return next_obs, reward, terminated, truncated
        self._place(ended)
        self.elapsed[ended] = 0
        obs = next_obs.clone()
        obs[ended] = shown(self.env)[ended]
        return next_obs, reward, terminated, truncated, obs

    def _place(self, worlds: Any) -> None:
        """Reset worlds and observe them, and leave them flagged."""
        env = self.env
        progress = env.progress_buf[worlds].clone()
        self._returned = self._reset(worlds)
        env.compute_observations()
        env.reset_buf[worlds] = 1
        env.progress_buf[worlds] = progress

    def _confirm(self, worlds: Any) -> Any:
        """Stand in for the task's ``reset_idx``: these worlds have been reset already."""
        self.env.reset_buf[worlds] = 0
        self.env.progress_buf[worlds] = 0
        return self._returned


class SameStepReset:
    """Worlds of a task that judges, resets and only then observes, all in one step.

    Worlds whose time is up are flagged together with those that fell, so that the task resets all
    of them at once; and all worlds are observed just before that.

    Args:
        env: a ``VecTask`` with a ``check_termination``.
        horizon: actions after which an episode is cut.
    """

    def __init__(self, env: Any, horizon: int) -> None:
        env.max_episode_length = NEVER
        self.env = env
        self.horizon = horizon
        self.elapsed = env.progress_buf.new_zeros(env.num_envs)
        self._reset, env.reset_idx = env.reset_idx, self._observe_and_reset
        self._check, env.check_termination = env.check_termination, self._flag
        self._fallen: Any = None
        self._last: Any = None

    def begin(self) -> Any:
        """Begin an episode in every world; what is observed, ``[N, F]``."""
        # The task has reset its worlds when it was made; doing that again would move them along
        # its curriculum. It observes no earlier than after a step.
        observed = self.env.step(self.env.zero_actions())[0]
        return observed["obs"]

    def step(self, action: Any) -> tuple[Any, ...]:
        """Take a step: next_obs, reward, terminated, truncated, and obs if it differs."""
        self.elapsed += 1
        self._last = None
        observed, reward, _, _ = self.env.step(action)
        obs = observed["obs"]
        terminated = self._fallen
        truncated = (self.elapsed >= self.horizon) & ~terminated
        if self._last is None:
            return obs, reward, terminated, truncated
        ended = terminated | truncated
        self.elapsed[ended] = 0
        next_obs = obs.clone()
        next_obs[ended] = self._last[ended]
        return next_obs, reward, terminated, truncated, obs

    def _flag(self) -> None:
        """Stand in for the task's ``check_termination``."""
        self._check()
        self._fallen = self.env.reset_buf != 0
        self.env.reset_buf = self._fallen | (self.elapsed >= self.horizon)

    def _observe_and_reset(self, worlds: Any) -> Any:
        """Stand in for the task's ``reset_idx``."""
        self.env.compute_observations()
        self._last = shown(self.env)
        return self._reset(worlds)


RESETS: Any = {"next-step": NextStepReset, "same-step": SameStepReset}


def shown(env: Any) -> Any:
    """Observations as ``VecTask.step`` returns them; a copy."""
    return env.obs_buf.clamp(-env.clip_obs, env.clip_obs).to(env.rl_device)


def open_worlds(task: str, worlds: int, seed: int) -> Any:
    """Make a ``VecTask``."""
    import isaacgym  # noqa: F401  # refuses to be imported after torch
    import isaacgymenvs
    import torch
    from isaacgymenvs.utils.utils import set_seed

    set_seed(seed)  # make() takes a seed and leaves it at that
    device = "cuda:0" if torch.cuda.is_available() else "cpu"
    return isaacgymenvs.make(
        seed=seed,
        task=task,
        num_envs=worlds,
        sim_device=device,
        rl_device=device,
        graphics_device_id=-1,
        headless=True,
        force_render=False,
    )


def serve(parent: Connection, task: str, worlds: int, horizon: int, seed: int, reset: str) -> None:
    """Answer with the spaces, then each request with its outcome."""
    import numpy as np

    env = open_worlds(task, worlds, seed)
    import torch

    simulation = RESETS[reset](env, horizon)
    spaces = {"observations": env.num_obs, "actions": env.num_acts, "limit": float(env.clip_obs)}
    send(parent, **spaces)
    while True:
        request = parent.recv_bytes()
        with torch.no_grad():
            if request:
                action = np.frombuffer(request, np.float32).reshape(worlds, env.num_acts)
                outcome = simulation.step(torch.tensor(action, device=env.rl_device))
            else:
                outcome = (simulation.begin(),)
            arrays = [array.cpu().numpy().tobytes() for array in outcome]
        send(parent, arrays=len(arrays))
        for array in arrays:
            parent.send_bytes(array)


def send(parent: Connection, **answer: Any) -> None:
    """Answer, and tell what this process has used: CPU seconds and largest memory in MB."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    answer["usage"] = [time.process_time(), peak]
    parent.send_bytes(json.dumps(answer).encode())


def main(descriptor: str, task: str, worlds: str, horizon: str, seed: str, reset: str) -> None:
    """Serve until the parent closes the connection, or until something goes wrong."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's to answer
    here = Path(__file__).resolve().parent  # whose modules are not the ones that are meant
    sys.path[:] = [path for path in sys.path if Path(path).resolve() != here]
    parent = Connection(int(descriptor))
    try:
        serve(parent, task, int(worlds), int(horizon), int(seed), reset)
    except (EOFError, ConnectionError):
        pass  # closed, or the parent is gone
    except SystemExit:
        pass  # Isaac Gym prints and quits where others raise
    except Exception as error:  # noqa: BLE001
        with suppress(ConnectionError):
            send(parent, error=f"{type(error).__name__}: {error}")
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(0)  # nothing to save, and the simulator's own end may crash


if __name__ == "__main__":
    main(*sys.argv[1:])
