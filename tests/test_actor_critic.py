"""What on-policy algorithms share: which actions are scored."""

from __future__ import annotations

import pytest
import torch
from agents_support import ALGORITHMS, set_table
from on_policy_support import table_agent

from suite.configs import resolve_config
from suite.registry import load_algorithm

ON_POLICY = [name for name in ALGORITHMS if load_algorithm(name).policy == "on"]
LANES = 2000


def act_in_evaluation(algorithm: str, evaluation: str) -> tuple[torch.Tensor, set[str]]:
    """Actions ``[2, LANES]`` of a policy that takes 1 with probability 0.75, and roles drawn on."""
    agent = table_agent(algorithm, seeds=(0, 1), evaluation=evaluation)
    policy = agent.policy if hasattr(agent, "policy") else agent.networks
    logit = torch.tensor(3.0).log().item()
    set_table(policy.actor, [[0.0, logit], [0.0, logit]])
    obs = {"observation": torch.zeros(2, LANES, dtype=torch.int64)}
    first = torch.ones(2, LANES, dtype=torch.bool)
    before = set(agent.streams.state_dict()["cursors"])
    _, action, _ = agent.act(agent.initial(LANES), obs, first, False)
    after = set(agent.streams.state_dict()["cursors"])
    return action, {name.split("/")[0] for name in after - before}


@pytest.mark.parametrize("algorithm", ON_POLICY)
def test_a_greedy_evaluation_takes_the_most_probable_action_and_draws_nothing(algorithm: str):
    action, roles = act_in_evaluation(algorithm, "greedy")
    assert (action == 1).all()
    assert roles == set()


@pytest.mark.parametrize("algorithm", ON_POLICY)
def test_a_sampled_evaluation_follows_the_policy_with_numbers_of_its_own(algorithm: str):
    action, roles = act_in_evaluation(algorithm, "sampled")
    shares = action.double().mean(dim=1)
    assert shares.tolist() == pytest.approx([0.75, 0.75], abs=0.04)  # four standard deviations
    assert not torch.equal(action[0], action[1])
    assert roles == {"evaluation"}


@pytest.mark.parametrize("algorithm", ON_POLICY)
@pytest.mark.parametrize(
    ("task", "evaluation"),
    [
        ("gymnasium/CartPole-v1", "greedy"),
        ("mujoco/Hopper-v5", "greedy"),
        ("dmcontrol/walker-walk-pixels", "greedy"),
        ("atari/Breakout-v5", "sampled"),
        ("procgen/starpilot-hard", "sampled"),
        ("minigrid/MiniGrid-FourRooms-v0", "sampled"),
        ("nethack/NetHackGold-v0", "sampled"),
    ],
)
def test_policies_are_sampled_in_games_and_mazes(algorithm: str, task: str, evaluation: str):
    config = resolve_config(load_algorithm(algorithm), task, "standard")
    assert config.evaluation == evaluation
