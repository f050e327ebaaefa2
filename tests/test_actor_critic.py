"""What on-policy algorithms share: how they begin, and which actions are scored."""

from __future__ import annotations

import math

import pytest
import torch
from agents_support import ALGORITHMS, make_agent, set_table
from on_policy_support import table_agent

from suite.configs import resolve_config
from suite.registry import load_algorithm
from suite.spaces import Discrete, Spaces, box

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


PICTURES = torch.stack(
    [
        torch.zeros(64, 64, 3),
        torch.full((64, 64, 3), 255.0),
        torch.linspace(0, 255, 64).view(64, 1, 1).expand(64, 64, 3),
        torch.rand(64, 64, 3, generator=torch.Generator().manual_seed(0)) * 255,
        torch.full((64, 64, 3), 255.0) * (torch.arange(64).view(1, 64, 1) // 8 % 2),
    ]
).to(torch.uint8)
"""Black, white, a gradient, noise and stripes: ``[B, H, W, C]``."""


@pytest.mark.parametrize("network", ["nature", "impala"])
@pytest.mark.parametrize("seed", range(3))
def test_first_policies_and_values_of_images_are_nearly_flat(seed: int, network: str):
    spaces = Spaces({"image": box(0, 255, (64, 64, 3), "uint8")}, Discrete(15))
    agent = make_agent(
        "ppo", spaces, 10_000, (seed,), image_network=network, features=256, hidden=()
    )
    policy, value = agent.networks.policy_and_value({"image": PICTURES.unsqueeze(0)})
    assert policy.entropy().min().item() == pytest.approx(math.log(15), abs=0.01)
    assert value.abs().max().item() < 5  # of a return whose deviation is scaled to 1
    assert value.std().item() > 0.01  # what is seen does matter


def test_only_features_of_residual_networks_are_bounded():
    image = Spaces({"image": box(0, 255, (64, 64, 3), "uint8")}, Discrete(15))
    vector = Spaces({"vector": box(-1, 1, (4,))}, Discrete(15))
    for spaces, network, is_bounded in (
        (image, "impala", True),
        (image, "nature", False),
        (vector, "impala", False),
    ):
        agent = make_agent("ppo", spaces, 10_000, (0,), image_network=network, vectors="none")
        (name,) = spaces.observation
        obs = PICTURES.unsqueeze(0) if name == "image" else torch.full((1, 5, 4), 0.5)
        squares = agent.networks.encoder({name: obs}).square().mean(dim=-1)
        assert torch.allclose(squares[:, 1:], torch.ones(()), atol=1e-3) == is_bounded


@pytest.mark.parametrize("algorithm", ON_POLICY)
def test_procgen_has_the_papers_lanes_and_network_under_the_standard_protocol_alone(algorithm: str):
    entry = load_algorithm(algorithm)
    for protocol, lanes, network in (("quick", 4, "nature"), ("standard", 64, "impala")):
        config = resolve_config(entry, "procgen/coinrun-easy", protocol)
        assert (config.lanes, config.image_network) == (lanes, network)
