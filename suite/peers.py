"""The peers' side of ``make perf``: Stable-Baselines3, timed in an environment of its own.

A script for the interpreter of ``.venv-peers``, which holds no part of this project::

    .venv-peers/bin/python -I suite/peers.py '{"algorithm": "sac", "task": "HalfCheetah-v5", ...}'

It takes a workload as JSON (the fields of :class:`suite.perf.Workload`) and writes what it did and
how long that took as JSON. One process, one thread, one seed: several seeds one after the other
would go at the same rate.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Mapping
from typing import Any

import stable_baselines3
import torch
from stable_baselines3 import PPO, SAC
from stable_baselines3.common.env_util import make_vec_env


def measure(workload: Mapping[str, Any]) -> dict[str, object]:
    """Work through the measured steps, after as many that are not.

    Agents have the peer's own defaults but for the sizes that the workload names: for PPO separate
    64-64 tanh networks, for SAC 256-256 networks and one update per environment step.

    Returns:
        ``steps`` (environment steps) and ``updates`` (gradient updates) in so many ``seconds``,
        and the peer's name and version.
    """
    lanes = make_vec_env(workload["task"], n_envs=workload["lanes"], seed=0)
    seconds, updates = _train(workload, lanes)
    return {
        "seconds": seconds,
        "steps": workload["steps"] * workload["lanes"],
        "updates": updates,
        "peer": f"Stable-Baselines3 {stable_baselines3.__version__}",
    }


def _train(workload: Mapping[str, Any], lanes: Any) -> tuple[float, int]:
    common = {"device": "cpu", "seed": 0, "batch_size": workload["minibatch"]}
    steps = workload["steps"] * workload["lanes"]
    if workload["algorithm"] == "ppo":
        rollout, epochs = workload["rollout"], workload["epochs"]
        agent = PPO("MlpPolicy", lanes, n_steps=rollout, n_epochs=epochs, **common)
        updates = steps * epochs // workload["minibatch"]
    else:
        agent = SAC("MlpPolicy", lanes, **common)
        updates = steps
    agent.learn(steps)
    assert agent.num_timesteps == steps, f"{agent.num_timesteps} steps instead of {steps}"
    begin = time.perf_counter()
    agent.learn(steps, reset_num_timesteps=False)
    return time.perf_counter() - begin, updates


if __name__ == "__main__":
    torch.set_num_threads(1)
    json.dump(measure(json.loads(sys.argv[1])), sys.stdout)
