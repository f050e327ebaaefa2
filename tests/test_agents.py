"""Algorithms learn worlds with known answers, and do what their papers say, in numbers."""

from __future__ import annotations

import copy
import io
import math
from collections.abc import Callable
from itertools import product
from typing import Any

import numpy as np
import pytest
import torch
from agents_support import (
    ALGORITHMS,
    LEARNERS,
    Training,
    make_agent,
    make_config,
    make_work,
    set_table,
)
from torch import Tensor

from suite.configs import resolve_config
from suite.protocols import PROTOCOLS
from suite.registry import engine_for, find_task, load_algorithm
from suite.runner import run
from suite.spaces import Discrete, MultiDiscrete, Spaces, box
from suite.steps import Transition
from suite.streams import Streams, lane_seeds

SEEDS = (0, 1)

CONFIGS: dict[str, dict[str, Any]] = {
    "dqn": {
        "lanes": 4,
        "learning_rate": 5e-3,
        "update_period": 4,
        "target_period": 20,
        "target_rate": 1.0,
        "batch_size": 64,
        "discount": 0.5,
        "hidden": (64,),
        "bins": 9,
    },
    "ppo": {
        "lanes": 8,
        "rollout_steps": 16,
        "minibatch_size": 64,
        "epochs": 4,
        "learning_rate": 1e-2,
        "discount": 0.5,
        "initial_log_std": -1.0,
        "hidden": (32,),
    },
    "sac": {
        "lanes": 4,
        "actor_learning_rate": 5e-3,
        "critic_learning_rate": 5e-3,
        "update_period": 4,
        "target_rate": 0.05,
        "batch_size": 64,
        "discount": 0.5,
        "hidden": (32,),
        "initial_temperature": 0.1,
        "discrete_entropy_share": 0.3,
    },
    "dreamer": {
        "lanes": 4,
        "batch_size": 16,
        "length": 4,
        "update_period": 4,
        "model_learning_rate": 5e-3,
        "learning_rate": 3e-3,
        "deterministic": 32,
        "groups": 8,
        "classes": 8,
        "hidden": 32,
        "buckets": 21,
        "reach": 3.0,
        "free_nats": 0.1,
        "representation_weight": 0.01,
        "entropy_coefficient": 0.03,
        "horizon": 3,
        "discount": 0.5,
    },
    "mbpo": {
        "lanes": 4,
        "actor_learning_rate": 5e-3,
        "critic_learning_rate": 5e-3,
        "update_period": 4,
        "updates_per_step": 1,
        "target_rate": 0.05,
        "batch_size": 64,
        "discount": 0.5,
        "hidden": (32,),
        "initial_temperature": 0.1,
        "discrete_entropy_share": 0.3,
        "model_period": 64,
        "model_updates": 20,
        "model_batch_size": 64,
        "model_learning_rate": 5e-3,
        "model_hidden": (32,),
        "rollouts": 128,
    },
    "td3": {
        "lanes": 4,
        "actor_learning_rate": 5e-3,
        "critic_learning_rate": 5e-3,
        "update_period": 4,
        "target_rate": 0.05,
        "batch_size": 64,
        "discount": 0.5,
        "hidden": (32,),
    },
    "muzero": {
        "lanes": 8,
        "learning_rate": 1e-2,
        "learning_starts": 64,
        "update_period": 4,
        "simulations": 8,
        "samples": 6,
        "unroll_steps": 1,
        "return_steps": 2,
        "target_rate": 0.05,
        "batch_size": 64,
        "discount": 0.5,
        "hidden": (64,),
        "latent": 16,
        "support": 10,
        "replay_capacity": 500,
    },
    "reinforce": {
        "lanes": 4,
        "rollout_steps": 16,
        "learning_rate": 2e-2,
        "discount": 0.5,
        "initial_log_std": -1.0,
        "hidden": (32,),
    },
    "a2c": {
        "lanes": 4,
        "rollout_steps": 4,
        "learning_rate": 1e-2,
        "discount": 0.5,
        "initial_log_std": -1.0,
        "hidden": (32,),
    },
    "a3c": {
        "lanes": 4,
        "rollout_steps": 8,
        "learning_rate": 5e-3,
        "discount": 0.5,
        "initial_log_std": -1.0,
        "hidden": (32,),
    },
    "trpo": {
        "lanes": 4,
        "rollout_steps": 16,
        "target_kl": 0.05,
        "critic_learning_rate": 1e-2,
        "critic_epochs": 4,
        "discount": 0.5,
        "initial_log_std": -1.0,
        "hidden": (32,),
    },
}
CONFIGS |= dict.fromkeys(("double_dqn", "dueling_dqn"), CONFIGS["dqn"] | {"update_period": 8})
CONFIGS["q_learning"] = {
    "lanes": 4,
    "discount": 0.5,
    "bins": 7,
    "tiles": 4,
    "epsilon_fraction": 1.0,
}
"""Sizes and rates that learn a probe in seconds; other algorithms keep their smoke preset."""

PROBES = [
    "identity-discrete",
    "identity-vector",
    "identity-dict",
    "identity-multidiscrete",
    "identity-continuous",
    "credit",
]
STEPS = 3_000
"""Per seed, to learn a probe."""

PASS = 0.75
"""Of the way from the random to the best return."""


def make_lanes(task: str, lanes: int, seeds: tuple[int, ...] = SEEDS) -> Any:
    found = find_task(f"probes/{task}")
    return engine_for(found, None).make(found, lane_seeds(seeds, "train", 0, lanes), "train", 1)


def train(algorithm: str, task: str, steps: int, **changes: Any) -> Training:
    """An agent after some steps in a probe."""
    changes = CONFIGS.get(algorithm, {}) | changes
    lanes = make_lanes(task, make_config(algorithm, **changes).lanes)
    training = Training(make_agent(algorithm, lanes.spaces, steps, SEEDS, **changes), lanes)
    training.go_on(steps)
    return training


def normalised_scores(
    algorithm: str, task: str, steps: int, episodes: int, **changes: Any
) -> list[float]:
    """How far each seed came after ``steps`` from the random (0) to the best return (1)."""
    bounds = find_task(f"probes/{task}").bounds
    assert bounds is not None
    work = make_work(
        algorithm,
        f"probes/{task}",
        steps,
        SEEDS,
        CONFIGS.get(algorithm, {}) | changes,
        segments=2,
        evaluations=1,
        episodes=episodes,
    )
    outcome = run(work)
    assert [seed.status for seed in outcome.runs] == ["ok"] * len(SEEDS)
    scores = []
    for seed in SEEDS:
        returns = [e.return_ for e in outcome.episodes if (e.seed, e.step) == (seed, steps)]
        scores.append((float(np.mean(returns)) - bounds.floor) / (bounds.cap - bounds.floor))
    return scores


@pytest.mark.parametrize("task", PROBES)
@pytest.mark.parametrize("algorithm", LEARNERS)
def test_every_algorithm_learns_every_probe(algorithm: str, task: str) -> None:
    assert min(normalised_scores(algorithm, task, STEPS, episodes=16)) > PASS


def test_pictures_are_learned_from() -> None:
    changes = {"learning_rate": 1e-3, "batch_size": 16}
    assert min(normalised_scores("dqn", "identity-image", 600, episodes=4, **changes)) > PASS


@pytest.mark.parametrize("algorithm", LEARNERS)
def test_every_algorithm_learns_from_pictures_without_a_fault(algorithm: str) -> None:
    training = train(algorithm, "identity-image", 128)
    assert training.agent.updates > 0
    for rows in training.agent.parameters().values():
        assert rows.isfinite().all()


@pytest.mark.parametrize("task", PROBES)
def test_random_scores_what_uniform_actions_score(task: str) -> None:
    assert np.mean(normalised_scores("random", task, 8, episodes=6400)) == pytest.approx(
        0, abs=0.03
    )


# What a state is worth

DISCOUNT = 0.8


def td3_value(agent: Any, obs: dict[str, Tensor]) -> Tensor:
    features = agent.critic.encoder(obs)
    action = agent._as_vector(agent._greedy(agent.actor(features)))
    value: Tensor = agent._value(agent.critic.first, features, action)
    return value


VALUES: dict[str, tuple[dict[str, Any], Callable[[Any, Any], Tensor]]] = {
    "dqn": ({}, lambda agent, obs: agent.online(obs).mean(dim=(-1, -2))),
    "ppo": (
        {"normalise_rewards": False},
        lambda agent, obs: agent.networks.policy_and_value(obs)[1],
    ),
    "a2c": (
        {"normalise_rewards": False},
        lambda agent, obs: agent.networks.policy_and_value(obs)[1],
    ),
    "a3c": (
        {"normalise_rewards": False},
        lambda agent, obs: agent.networks.policy_and_value(obs)[1],
    ),
    "trpo": ({"normalise_rewards": False}, lambda agent, obs: agent.critic(obs)),
    "sac": (
        {"initial_temperature": 1e-4, "learn_temperature": False},
        lambda agent, obs: agent.critic(agent.critic.encoder(obs))[0].mean(dim=-1),
    ),
    "td3": ({}, td3_value),
}
VALUES |= {"double_dqn": VALUES["dqn"], "dueling_dqn": VALUES["dqn"]}
VALUES["q_learning"] = (
    {},
    lambda agent, obs: agent.values(agent.aggregation(obs)).mean(dim=(-1, -2)),
)
"""Changes of the config under which the values are plain returns, and where to read them."""


@pytest.mark.parametrize(
    ("task", "value"),
    [("termination", (1 - DISCOUNT**5) / (1 - DISCOUNT)), ("truncation", 1 / (1 - DISCOUNT))],
)
@pytest.mark.parametrize("algorithm", VALUES)
def test_an_end_has_no_value_and_a_cut_keeps_it(algorithm: str, task: str, value: float) -> None:
    changes, value_of = VALUES[algorithm]
    training = train(algorithm, task, 4_000, discount=DISCOUNT, **changes)
    start = {"observation": torch.zeros(len(SEEDS), 1, dtype=torch.int64)}
    with torch.no_grad():
        values = value_of(training.agent, start)[:, 0]
    assert values.tolist() == pytest.approx([value] * len(SEEDS), rel=0.05)


# Saved and restored


@pytest.mark.parametrize("steps", [8, 200], ids=["before-learning", "midway"])
@pytest.mark.parametrize("task", ["identity-vector", "identity-continuous", "identity-dict"])
@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_a_restored_agent_goes_on_bitwise_identically(
    algorithm: str, task: str, steps: int
) -> None:
    lanes = make_lanes(task, make_config(algorithm).lanes)
    first = Training(make_agent(algorithm, lanes.spaces, 400, SEEDS), lanes)
    first.go_on(steps)
    file = io.BytesIO()
    torch.save(first.agent.state_dict(), file)
    file.seek(0)

    agent = make_agent(algorithm, lanes.spaces, 400, SEEDS)
    agent.load_state_dict(torch.load(file, weights_only=True))
    second = copy.copy(first)
    second.agent, second.lanes, second.actions = agent, copy.deepcopy(lanes), []
    first.actions.clear()
    for training in (first, second):
        training.go_on(150)
    assert first.agent.updates == second.agent.updates
    assert torch.stack(first.actions).equal(torch.stack(second.actions))
    for name, rows in first.agent.parameters().items():
        assert rows.equal(second.agent.parameters()[name])


# PPO


@pytest.mark.parametrize("task", ["identity-vector", "identity-continuous"])
def test_the_ratio_is_1_at_the_first_minibatch_of_every_rollout(
    task: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    lanes = make_lanes(task, 2)
    config = {"rollout_steps": 16, "minibatch_size": 16, "epochs": 2, "learning_rate": 1e-2}
    agent = make_agent("ppo", lanes.spaces, 160, SEEDS, **config)
    loss, ratios = agent._loss, []

    def record(batch: dict[str, Tensor]) -> Any:
        policy = agent.networks({"observation": batch["obs.observation"]})
        ratios.append((policy.log_prob(batch["sample"]) - batch["log_prob"]).exp().detach())
        return loss(batch)

    monkeypatch.setattr(agent, "_loss", record)
    Training(agent, lanes).go_on(160)
    firsts, lasts = ratios[0::4], ratios[3::4]
    assert len(firsts) == 5
    for first, last in zip(firsts, lasts, strict=True):
        torch.testing.assert_close(first, torch.ones_like(first), rtol=0, atol=2e-6)
        assert (last - 1).abs().max() > 1e-3


@pytest.mark.parametrize("task", ["identity-vector", "identity-continuous"])
@pytest.mark.parametrize(("epochs", "matters"), [(1, False), (5, True)])
def test_the_clip_matters_from_the_second_step_on(task: str, epochs: int, matters: bool) -> None:
    config = {"lanes": 2, "rollout_steps": 16, "minibatch_size": 32, "learning_rate": 1e-2}
    wide, narrow = (
        train("ppo", task, 32, epochs=epochs, clip=clip, **config).agent.parameters()["networks"]
        for clip in (0.2, 1e-3)
    )
    assert wide.equal(narrow) != matters


# DQN


def table_agent(seeds: tuple[int, ...] = (0,), actions: Any = None, **changes: Any) -> Any:
    """A DQN whose network is a table: one row of values per observation (one of 2)."""
    spaces = Spaces({"observation": Discrete(2)}, actions or Discrete(3))
    defaults = {"lanes": 1, "hidden": (), "learning_starts": 1, "update_period": 1, "batch_size": 1}
    agent = make_agent("dqn", spaces, 100, seeds, **(defaults | {"loss": "squared"} | changes))
    for network in (agent.online, agent.target):
        set_table(network.mlp, [[0.0] * network.mlp.outputs] * 2)
    return agent


def step_from_0_to_1(
    extras: dict[str, Tensor], reward: float = 1.0, terminated: bool = False, lanes: int = 1
) -> Transition:
    shape = (next(iter(extras.values())).shape[0], lanes)
    return Transition(
        obs={"observation": torch.zeros(shape, dtype=torch.int64)},
        action=torch.zeros(shape, dtype=torch.int64),
        reward=torch.full(shape, reward),
        next_obs={"observation": torch.ones(shape, dtype=torch.int64)},
        terminated=torch.full(shape, terminated),
        truncated=torch.zeros(shape, dtype=torch.bool),
        extras=extras,
    )


@pytest.mark.parametrize(
    ("double", "terminated", "target"),
    [(False, False, 1 + 0.5 * 30), (True, False, 1 + 0.5 * 20), (True, True, 1), (False, True, 1)],
)
def test_the_bootstrap_takes_the_targets_value_of_the_chosen_action(
    double: bool, terminated: bool, target: float
) -> None:
    agent = table_agent(double=double, discount=0.5)
    set_table(agent.online.mlp, [[0.0, 0.0, 4.0], [1.0, 5.0, 2.0]])
    set_table(agent.target.mlp, [[0.0, 0.0, 0.0], [10.0, 20.0, 30.0]])
    metrics = agent.observe(step_from_0_to_1({"choice": torch.tensor([[[2]]])}, 1.0, terminated))
    assert metrics["value"].item() == 4
    assert metrics["loss"].item() == pytest.approx((target - 4) ** 2)


def test_hubers_loss_is_linear_beyond_an_error_of_1() -> None:
    agent = table_agent(loss="huber")
    metrics = agent.observe(step_from_0_to_1({"choice": torch.tensor([[[0]]])}, 3.0, True))
    assert metrics["loss"].item() == pytest.approx(3 - 0.5)


def test_the_value_of_a_joint_action_is_the_mean_of_its_dimensions() -> None:
    agent = table_agent(actions=MultiDiscrete((2, 3)), discount=0.5)
    set_table(agent.online.mlp, [[1.0, 2.0, 99.0, 3.0, 4.0, 8.0], [0.0] * 6])
    # the second dimension has three bins, the first only two: 99 stands where there is none
    set_table(agent.target.mlp, [[0.0] * 6, [5.0, 6.0, 99.0, 9.0, 7.0, 8.0]])
    metrics = agent.observe(step_from_0_to_1({"choice": torch.tensor([[[1, 2]]])}, 1.0))
    assert metrics["value"].item() == (2 + 8) / 2
    assert metrics["loss"].item() == pytest.approx((1 + 0.5 * (6 + 9) / 2 - 5) ** 2)


@pytest.mark.parametrize(
    ("steps", "epsilon"), [(0, 1.0), (10, 0.82), (25, 0.55), (50, 0.1), (90, 0.1)]
)
def test_epsilon_falls_linearly_over_a_share_of_the_budget(steps: int, epsilon: float) -> None:
    agent = table_agent(epsilon_final=0.1, epsilon_fraction=0.5)
    agent.replay.added = steps
    assert agent.epsilon() == pytest.approx(epsilon)


@pytest.mark.parametrize(
    ("updates", "epsilon"), [(0, 1.0), (1, 0.995), (100, 0.6057704), (919, 0.01), (5000, 0.01)]
)
def test_the_guides_epsilon_is_multiplied_at_every_update(updates: int, epsilon: float) -> None:
    agent = table_agent(epsilon_final=0.01, epsilon_factor=0.995)
    agent.optimiser.updates = updates
    assert agent.epsilon() == pytest.approx(epsilon, rel=1e-3)


@pytest.mark.parametrize("epsilon", [0.0, 0.3, 1.0])
def test_actions_are_random_with_probability_epsilon_and_greedy_else(epsilon: float) -> None:
    agent = table_agent(seeds=SEEDS, epsilon_initial=epsilon, epsilon_final=epsilon)
    set_table(agent.online.mlp, [[0.0, 1.0, 0.0], [0.0, 0.0, 0.0]])
    obs = {"observation": torch.zeros(2, 10_000, dtype=torch.int64)}
    first = torch.zeros(2, 10_000, dtype=torch.bool)
    _, action, _ = agent.act(None, obs, first, True)
    for number, share in enumerate((epsilon / 3, 1 - epsilon * 2 / 3, epsilon / 3)):
        assert (action == number).double().mean(1).tolist() == pytest.approx([share] * 2, abs=0.02)
    _, action, _ = agent.act(None, obs, first, False)
    assert (action == 1).all()


def test_a_sampled_evaluation_takes_a_small_share_of_random_actions() -> None:
    """And leaves the numbers of training alone."""
    agent = table_agent(seeds=SEEDS, evaluation="sampled", evaluation_epsilon=0.3)
    set_table(agent.online.mlp, [[0.0, 1.0, 0.0], [0.0, 0.0, 0.0]])
    obs = {"observation": torch.zeros(2, 10_000, dtype=torch.int64)}
    first = torch.zeros(2, 10_000, dtype=torch.bool)
    before = agent.streams.state_dict()["cursors"].get("exploration/uniform")
    _, action, _ = agent.act(None, obs, first, False)
    assert (action != 1).double().mean(1).tolist() == pytest.approx([0.2] * 2, abs=0.02)
    assert agent.streams.state_dict()["cursors"].get("exploration/uniform") == before


def test_the_target_is_copied_after_every_target_period_updates() -> None:
    agent = table_agent(target_period=3, target_rate=1.0, learning_starts=3)
    copied = []
    for _ in range(9):
        agent.observe(step_from_0_to_1({"choice": torch.tensor([[[0]]])}))
        copied.append(agent.target_parameters.rows().equal(agent.online_parameters.rows()))
    updates = [0, 0, 1, 2, 3, 4, 5, 6, 7]  # of which 3 and 6 end with a copy
    assert agent.updates == updates[-1]
    assert copied == [number in (0, 3, 6) for number in updates]


UPDATES = [
    (1, 1, 1, [1, 2, 3, 4, 5, 6]),
    (1, 4, 1, [0, 0, 0, 1, 1, 1]),
    (4, 2, 8, [0, 2, 4, 6, 8, 10]),
    (3, 2, 6, [0, 2, 3, 5, 6, 8]),
    (8, 1, 8, [8, 16, 24, 32, 40, 48]),
]
"""Lanes, update_period, learning_starts, and updates after every step of all lanes."""


@pytest.mark.parametrize(("lanes", "period", "starts", "updates"), UPDATES)
@pytest.mark.parametrize("algorithm", ["dqn", "sac", "td3"])
def test_updates_keep_pace_with_environment_steps_whatever_the_lanes(
    algorithm: str, lanes: int, period: int, starts: int, updates: list[int]
) -> None:
    changes = {"lanes": lanes, "update_period": period, "learning_starts": starts, "batch_size": 2}
    worlds = make_lanes("identity-vector", lanes)
    training = Training(make_agent(algorithm, worlds.spaces, 100, SEEDS, **changes), worlds)
    counts = []
    for _ in updates:
        training.go_on(lanes)
        counts.append(training.agent.updates)
    assert counts == updates


# SAC


def sac_agent(actions: Any, seeds: tuple[int, ...] = (0,), **changes: Any) -> Any:
    """A SAC whose networks are tables: one row of outputs per observation (one of 2)."""
    spaces = Spaces({"observation": Discrete(2)}, actions)
    defaults = {"lanes": 1, "hidden": (), "learning_starts": 1, "batch_size": 1}
    return make_agent("sac", spaces, 100, seeds, **(defaults | changes))


@pytest.mark.parametrize(
    ("actions", "target"),
    [
        (box(-1.0, 1.0, (3,)), -3.0),
        (Discrete(4), 0.9 * math.log(4)),
        (MultiDiscrete((2, 3)), 0.9 * (math.log(2) + math.log(3))),
    ],
    ids=["box", "discrete", "multidiscrete"],
)
def test_the_target_entropy_is_minus_d_or_a_share_of_the_largest(
    actions: Any, target: float
) -> None:
    agent = sac_agent(actions, discrete_entropy_share=0.9)
    assert agent.target_entropy == pytest.approx(target)


@pytest.mark.parametrize("terminated", [False, True])
def test_the_soft_target_by_literal_numbers(terminated: bool) -> None:
    agent = sac_agent(Discrete(2), discount=0.5, initial_temperature=0.1)
    set_table(agent.actor, [[0.0, 0.0], [0.0, 0.0]])
    set_table(agent.critic.first, [[7.0, 3.0], [0.0, 0.0]])
    set_table(agent.critic.second, [[7.0, 4.0], [0.0, 0.0]])
    set_table(agent.target.first, [[0.0, 0.0], [2.0, 4.0]])
    set_table(agent.target.second, [[0.0, 0.0], [3.0, 1.0]])
    step = step_from_0_to_1({"action": torch.tensor([[[1]]])}, 1.0, terminated)
    metrics = agent.observe(step)
    # uniform policy: the smaller values 2 and 1 count half each, and the entropy is log 2
    target = 1.0 if terminated else 1 + 0.5 * ((2 + 1) / 2 + 0.1 * math.log(2))
    loss = (3 - target) ** 2 + (4 - target) ** 2
    assert metrics["critic_loss"].item() == pytest.approx(loss, rel=1e-5)
    assert metrics["entropy"].item() == pytest.approx(math.log(2))
    assert metrics["temperature"].item() == pytest.approx(0.1)


def test_targets_take_over_their_share_of_the_critics_at_every_update() -> None:
    agent = sac_agent(Discrete(2), target_rate=0.25)
    before = agent.target_parameters.rows().clone()
    agent.observe(step_from_0_to_1({"action": torch.tensor([[[1]]])}))
    moved = before + 0.25 * (agent.critic_parameters.rows() - before)
    torch.testing.assert_close(agent.target_parameters.rows(), moved)


@pytest.mark.parametrize("sizes", [(4,), (2, 3), (3, 2, 4)], ids=str)
def test_the_categorical_expectation_equals_the_sum_over_all_joint_actions(
    sizes: tuple[int, ...],
) -> None:
    actions = Discrete(sizes[0]) if len(sizes) == 1 else MultiDiscrete(sizes)
    agent = sac_agent(actions, seeds=SEEDS)
    obs = {"observation": torch.tensor([[0, 1], [1, 0]])}
    noise = torch.zeros(2, 2, len(sizes), max(sizes))
    with torch.no_grad():
        features = agent.critic.encoder(obs)
        policy = agent._policy(features)
        value, entropy = agent._expectation(policy, agent.critic, features, noise)
        shape = (2, 2, len(sizes), max(sizes))
        logits = agent.actor(features).view(shape)
        smaller = torch.minimum(*agent.critic(features)).view(shape)
    for seed, item in product(range(2), range(2)):
        weights = [logits[seed, item, d, :n].softmax(0) for d, n in enumerate(sizes)]
        expected_value = expected_entropy = 0.0
        for joint in product(*map(range, sizes)):
            chance = math.prod(float(w[k]) for w, k in zip(weights, joint, strict=True))
            worth = np.mean([float(smaller[seed, item, d, k]) for d, k in enumerate(joint)])
            expected_value += chance * worth
            expected_entropy -= chance * math.log(chance)
        assert value[seed, item].item() == pytest.approx(expected_value, rel=1e-5)
        assert entropy[seed, item].item() == pytest.approx(expected_entropy, rel=1e-5)


def test_the_squashed_normals_expectation_equals_the_integral_over_actions() -> None:
    agent = sac_agent(box(-1.0, 1.0, (1,)), hidden=(8,))
    noise = torch.linspace(-6, 6, 4001).view(1, -1, 1)
    weight = torch.exp(-0.5 * noise[0, :, 0].double() ** 2)
    weight /= weight.sum()
    obs = {"observation": torch.ones(1, 4001, dtype=torch.int64)}
    with torch.no_grad():
        features = agent.critic.encoder(obs)
        policy = agent._policy(features)
        value, entropy = agent._expectation(policy, agent.critic, features, noise)
        mean, raw = agent.actor(features)[0, 0].double().tolist()
        # the same by the density of the action itself, on a grid of its range
        action = torch.linspace(-1, 1, 40_003, dtype=torch.float64)[1:-1]
        wide = {"observation": torch.ones(1, len(action), dtype=torch.int64)}
        inputs = torch.cat([agent.critic.encoder(wide), action.float().view(1, -1, 1)], dim=-1)
        smaller = torch.minimum(*agent.critic(inputs))[0, :, 0].double()
    deviation = math.exp(-5 + 3.5 * (math.tanh(raw) + 1))
    normal = torch.distributions.Normal(mean, deviation)
    log_density = normal.log_prob(action.atanh()) - torch.log(1 - action**2)
    density = log_density.exp()
    assert torch.trapezoid(density, action).item() == pytest.approx(1, rel=1e-4)
    assert (weight * value[0]).sum().item() == pytest.approx(
        torch.trapezoid(density * smaller, action).item(), rel=1e-3
    )
    assert (weight * entropy[0]).sum().item() == pytest.approx(
        -torch.trapezoid(density * log_density, action).item(), rel=1e-3
    )


@pytest.mark.parametrize(
    ("spread", "rises"), [(-3.0, True), (1.0, False)], ids=["too-certain", "too-random"]
)
def test_the_temperature_rises_when_a_box_policy_is_too_certain(spread: float, rises: bool) -> None:
    agent = sac_agent(box(-1.0, 1.0, (1,)))
    set_table(agent.actor, [[0.0, spread], [0.0, spread]])
    before = agent.log_temperature[0].item()
    agent.observe(step_from_0_to_1({"action": torch.zeros(1, 1, 1)}))
    assert (agent.log_temperature[0].item() > before) == rises


@pytest.mark.parametrize(
    ("preference", "rises"), [(5.0, True), (0.0, False)], ids=["too-certain", "too-random"]
)
def test_the_temperature_rises_when_a_discrete_policy_is_too_certain(
    preference: float, rises: bool
) -> None:
    agent = sac_agent(Discrete(2), discrete_entropy_share=0.5)
    set_table(agent.actor, [[0.0, preference]] * 2)
    before = agent.log_temperature[0].item()
    agent.observe(step_from_0_to_1({"action": torch.zeros(1, 1, 1, dtype=torch.int64)}))
    assert (agent.log_temperature[0].item() > before) == rises


def test_a_fixed_temperature_stays() -> None:
    agent = sac_agent(Discrete(2), learn_temperature=False, initial_temperature=0.2)
    for _ in range(3):
        agent.observe(step_from_0_to_1({"action": torch.zeros(1, 1, 1, dtype=torch.int64)}))
    assert agent.log_temperature[0].exp().item() == pytest.approx(0.2)


# Presets

SPACES = {
    "discrete": Spaces({"observation": box(-np.inf, np.inf, (4,))}, Discrete(3)),
    "continuous": Spaces({"observation": box(-np.inf, np.inf, (4,))}, box(-1.0, 1.0, (2,))),
}


def build(algorithm: str, config: Any, kind: str) -> None:
    agent = load_algorithm(algorithm).build(
        SPACES[kind], config.lanes, 100_000, Streams(SEEDS), config
    )
    assert agent.updates == 0


@pytest.mark.parametrize("kind", SPACES)
@pytest.mark.parametrize(
    ("algorithm", "preset"),
    [(name, preset) for name in ALGORITHMS for preset in (None, *load_algorithm(name).presets)],
)
def test_every_preset_builds(algorithm: str, preset: str | None, kind: str) -> None:
    config = resolve_config(load_algorithm(algorithm), "test/World", "test", preset)
    for field, value in load_algorithm(algorithm).presets.get(preset, {}).items():
        assert getattr(config, field) == value
    build(algorithm, config, kind)


@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_the_config_of_every_task_of_every_protocol_builds(algorithm: str, protocol: str) -> None:
    entry = load_algorithm(algorithm)
    tasks = {row.task for row in PROTOCOLS[protocol].budgets}
    for config in {resolve_config(entry, task, protocol) for task in tasks}:
        build(algorithm, config, "continuous")


GUIDE: dict[str, dict[str, Any]] = {
    "dqn": {
        "hidden": (128, 128),
        "activation": "relu",
        "learning_rate": 1e-3,
        "discount": 0.99,
        "epsilon_initial": 1.0,
        "epsilon_final": 0.01,
        "epsilon_factor": 0.995,
        "replay_capacity": 10_000,
        "batch_size": 64,
        "double": True,
        "loss": "squared",
    },
    "ppo": {
        "hidden": (64, 64),
        "activation": "tanh",
        "learning_rate": 3e-4,
        "anneal_learning_rate": False,
        "discount": 0.99,
        "trace": 0.95,
        "clip": 0.2,
        "epochs": 10,
        "value_coefficient": 0.5,
        "entropy_coefficient": 0.01,
    },
}


@pytest.mark.parametrize("algorithm", GUIDE)
def test_the_guides_presets_are_the_guides_numbers(algorithm: str) -> None:
    for task in ("test/World", "gymnasium/Pendulum-v1", "minigrid/MiniGrid-DoorKey-5x5-v0"):
        config = resolve_config(load_algorithm(algorithm), task, "test", "guide")
        found = {name: getattr(config, name) for name in GUIDE[algorithm]}
        assert found == GUIDE[algorithm], task


def test_the_guides_ppo_takes_the_whole_rollout_as_one_batch() -> None:
    config = resolve_config(load_algorithm("ppo"), "test/World", "test", "guide")
    assert config.minibatch_size == config.rollout_steps * config.lanes


def test_a_minibatch_that_does_not_divide_the_rollout_is_refused() -> None:
    with pytest.raises(ValueError, match="minibatch_size 7 does not divide"):
        build("ppo", make_config("ppo", minibatch_size=7), "discrete")
