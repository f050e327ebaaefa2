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
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.env_util import make_vec_env


def make(workload: Mapping[str, Any]) -> BaseAlgorithm:
    """Make the peer's agent: its own defaults but for the sizes that the workload names.

    Those defaults are, for PPO, separate 64-64 tanh networks for actor and critic; for SAC,
    256-256 networks and one update per environment step.
    """
    lanes = make_vec_env(workload["task"], n_envs=workload["lanes"], seed=0)
    common = {"device": "cpu", "seed": 0, "batch_size": workload["minibatch"]}
    if workload["algorithm"] == "ppo":
        rollout, epochs = workload["rollout"], workload["epochs"]
        return PPO("MlpPolicy", lanes, n_steps=rollout, n_epochs=epochs, **common)
    return SAC("MlpPolicy", lanes, **common)


def measure(workload: Mapping[str, Any]) -> dict[str, object]:
    """Train for a while unmeasured, then for ``steps`` more.

    Returns:
        ``steps`` environment steps, ``updates`` gradient updates, the ``seconds`` that they took,
        and the peer's name and version.
    """
    agent = make(workload)
    agent.learn(workload["warm_up"] * workload["lanes"])
    steps, updates = agent.num_timesteps, agent._n_updates
    begin = time.perf_counter()
    agent.learn(workload["steps"] * workload["lanes"], reset_num_timesteps=False)
    return {
        "seconds": time.perf_counter() - begin,
        "steps": agent.num_timesteps - steps,
        "updates": agent._n_updates - updates,
        "name": f"Stable-Baselines3 {stable_baselines3.__version__}",
    }


if __name__ == "__main__":
    torch.set_num_threads(1)
    json.dump(measure(json.loads(sys.argv[1])), sys.stdout)
