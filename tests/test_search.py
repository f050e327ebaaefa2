"""The tree search: what it chooses, what it carries up, and that it finds what is best."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor

from baselines.parts.search import (
    Choices,
    Found,
    Node,
    Rule,
    Tree,
    Vectors,
    dirichlet,
    make_candidates,
    search,
)
from suite.spaces import Discrete, MultiDiscrete, box
from suite.streams import Streams

CPU = torch.device("cpu")


def node(value: list[list[float]], prior: list[float], latent: float = 0.0) -> Node:
    """Nodes of all trees with the same prior over as many numbered actions."""
    values = torch.tensor(value)
    shape, count = values.shape, len(prior)
    return Node(
        torch.full((*shape, 1), latent),
        values,
        torch.tensor(prior).expand(*shape, count),
        torch.arange(count).view(1, 1, count, 1).expand(*shape, count, 1),
    )


def grow(tree: Tree, leaf: list[int], candidate: list[int], value: float, reward: float) -> None:
    """Hang the same node into one seed's trees."""
    places = torch.tensor([leaf]), torch.tensor([candidate])
    count = tree.candidates
    new = node([[value] * len(leaf)], [1 / count] * count)
    tree.grow(*places, new, torch.full((1, len(leaf)), reward))


# What a tree chooses


def test_scores_by_literal_numbers() -> None:
    tree = Tree(node([[1.0]], [0.5, 0.3, 0.2]), 3, Rule(discount=1.0))
    tree.visits[0, 0, 0] = torch.tensor([2.0, 1.0, 0.0])
    tree.total[0, 0, 0] = torch.tensor([2.0, 3.0, 0.0])
    # mean returns 1 and 3; the untried one counts as the node, (1 + 2 + 3) / 4
    assert tree.values().tolist() == [[[1.5]]]
    assert tree.returns().tolist() == [[[[1.0, 3.0, 1.5]]]]
    assert tree.scaled_returns().tolist() == [[[[0.0, 1.0, 0.25]]]]
    weight = 1.25 + math.log((4 + 19652 + 1) / 19652)
    curiosity = [0.5 * 2 / 3, 0.3 * 2 / 2, 0.2 * 2 / 1]
    expected = [0 + weight * curiosity[0], 1 + weight * curiosity[1], 0.25 + weight * curiosity[2]]
    assert tree.scores()[0, 0, 0].tolist() == pytest.approx(expected)
    assert tree.scores()[0, 0, 0].tolist() == pytest.approx([0.4168, 1.3751, 0.7501], abs=1e-4)
    leaf, candidate = tree.select()
    assert (leaf.item(), candidate.item()) == (0, 1)


def test_the_prior_decides_at_first() -> None:
    tree = Tree(node([[3.0]], [0.2, 0.7, 0.1]), 1, Rule(discount=1.0))
    leaf, candidate = tree.select()
    assert (leaf.item(), candidate.item()) == (0, 1)


def test_returns_that_hardly_differ_are_not_stretched() -> None:
    tree = Tree(node([[1.0]], [0.5, 0.5]), 2, Rule(discount=1.0, least_range=0.01))
    tree.visits[0, 0, 0] = 1.0
    tree.total[0, 0, 0] = torch.tensor([1.0, 1.002])
    assert tree.scaled_returns()[0, 0, 0].tolist() == pytest.approx([0.0, 0.2], abs=1e-3)


def test_a_selection_walks_down_to_the_first_candidate_without_a_node() -> None:
    tree = Tree(node([[0.0, 0.0]], [0.9, 0.1]), 5, Rule(discount=1.0, constant=0.0))
    # first lane: a chain of candidates 1, 0, 1; second lane: one step only
    grow(tree, [0, 0], [1, 0], value=1.0, reward=0.0)
    grow(tree, [1, 0], [0, 1], value=2.0, reward=0.0)
    grow(tree, [2, 1], [1, 0], value=3.0, reward=0.0)
    leaf, _ = tree.select()
    assert leaf[0, 0].item() == 3
    assert tree.depth[0, 0].tolist() == [0, 1, 2, 3, 0, 0]


# What it carries up


def test_returns_are_carried_up_with_discount() -> None:
    tree = Tree(node([[10.0, 10.0]], [0.5, 0.5]), 2, Rule(discount=0.5))
    grow(tree, [0, 0], [1, 0], value=4.0, reward=1.0)
    # the second node hangs under the first in one lane, and under the root in the other
    grow(tree, [1, 0], [0, 1], value=8.0, reward=2.0)
    deep, flat = tree.visits[0], tree.total[0]
    assert deep[0].tolist() == [[0, 2], [1, 0], [0, 0]]
    assert flat[0].tolist() == [[0, (1 + 0.5 * 4) + (1 + 0.5 * (2 + 0.5 * 8))], [6, 0], [0, 0]]
    assert deep[1].tolist() == [[1, 1], [0, 0], [0, 0]]
    assert flat[1].tolist() == [[1 + 0.5 * 4, 2 + 0.5 * 8], [0, 0], [0, 0]]
    values = [(10 + 3 + 4) / 3, (10 + 3 + 6) / 3]
    assert tree.found().value[0].tolist() == pytest.approx(values)


def test_of_equally_visited_candidates_the_better_one_is_best() -> None:
    tree = Tree(node([[0.0]], [0.4, 0.3, 0.3]), 4, Rule(discount=1.0))
    tree.visits[0, 0, 0] = torch.tensor([2.0, 2.0, 1.0])
    tree.total[0, 0, 0] = torch.tensor([2.0, 4.0, 9.0])
    assert tree.found().best.item() == 1


# What it finds


def two_steps(latent: Tensor, action: Tensor, number: int) -> tuple[Node, Tensor]:
    """State 0: action 0 earns 0.5 and leads nowhere, action 1 to state 1, where action 1 earns 2.

    Values and priors say nothing.
    """
    state, choice = latent[..., 0], action[..., 0]
    reward = torch.where((state == 0) & (choice == 0), 0.5, 0.0)
    reward = torch.where((state == 1) & (choice == 1), 2.0, reward)
    following = torch.where((state == 0) & (choice == 1), 1.0, 2.0)
    empty = node([[0.0] * state.shape[1]] * state.shape[0], [0.5, 0.5])
    return empty._replace(latent=following.unsqueeze(-1)), reward


@pytest.mark.parametrize(("discount", "best"), [(0.9, 1), (0.1, 0)])
def test_a_search_weighs_what_comes_now_against_what_comes_next(discount: float, best: int) -> None:
    root = node([[0.0] * 3] * 2, [0.5, 0.5])
    found = search(root, two_steps, 80, Rule(discount))
    assert found.visits.sum(dim=-1).tolist() == [[80] * 3] * 2
    assert found.best.tolist() == [[best] * 3] * 2
    assert (found.visits.argmax(dim=-1) == best).all()


class Table:
    """A random world of numbered states: what each action earns, where it leads, and a model's say.

    Every tree has a world of its own.
    """

    def __init__(self, lanes: int, states: int, actions: int) -> None:
        generator = torch.Generator().manual_seed(3)
        self.reward = torch.randn(1, lanes, states, actions, generator=generator).double()
        self.following = torch.randint(states, (1, lanes, states, actions), generator=generator)
        self.value = torch.randn(1, lanes, states, generator=generator).double()
        logits = torch.randn(1, lanes, states, actions, generator=generator).double()
        self.prior = logits.softmax(dim=-1)
        self.actions = torch.arange(actions).view(1, 1, actions, 1).expand(1, lanes, actions, 1)

    def node(self, state: Tensor) -> Node:
        here = state.unsqueeze(-1)
        prior = self.prior.gather(2, here.unsqueeze(-1).expand(-1, -1, 1, self.prior.shape[-1]))
        value = self.value.gather(-1, here).squeeze(-1)
        return Node(here.double(), value, prior.squeeze(2), self.actions)

    def step(self, latent: Tensor, action: Tensor, number: int) -> tuple[Node, Tensor]:
        lane = torch.arange(latent.shape[1])
        state = latent[0, :, 0].long()
        reward = self.reward[0, lane, state, action[0, :, 0]]
        following = self.following[0, lane, state, action[0, :, 0]]
        return self.node(following.unsqueeze(0)), reward.unsqueeze(0)


def plain_search(world: Table, lane: int, simulations: int, rule: Rule) -> tuple[list[int], float]:
    """The same search in one tree, node by node."""

    def new(state: int) -> dict[str, Any]:
        value, prior = world.value[0, lane, state].item(), world.prior[0, lane, state].tolist()
        zeros = [0.0] * len(prior)
        return {
            "state": state,
            "value": value,
            "prior": prior,
            "visits": [*zeros],
            "total": [*zeros],
            "children": {},
        }

    def mean(tree: dict[str, Any]) -> float:
        own: float = tree["value"]
        return (own + sum(tree["total"])) / (1 + sum(tree["visits"]))

    def returns(tree: dict[str, Any]) -> list[float]:
        pairs = zip(tree["total"], tree["visits"], strict=True)
        return [total / visits if visits else mean(tree) for total, visits in pairs]

    def choose(tree: dict[str, Any]) -> int:
        everything = [each for one in nodes for each in returns(one)]
        low, high = min(everything), max(everything)
        number = 1 + sum(tree["visits"])
        weight = rule.constant + math.log((number + rule.base + 1) / rule.base)
        scores = [
            (worth - low) / max(high - low, rule.least_range)
            + weight * prior * math.sqrt(number) / (1 + visits)
            for worth, prior, visits in zip(
                returns(tree), tree["prior"], tree["visits"], strict=True
            )
        ]
        return scores.index(max(scores))

    nodes = [new(0)]
    for _ in range(simulations):
        tree, path = nodes[0], []
        while True:
            choice = choose(tree)
            path.append((tree, choice))
            if choice not in tree["children"]:
                break
            tree = tree["children"][choice]
        leaf = new(int(world.following[0, lane, tree["state"], choice]))
        tree["children"][choice] = leaf
        worth = leaf["value"]
        for above, choice in reversed(path):
            worth = float(world.reward[0, lane, above["state"], choice]) + rule.discount * worth
            above["visits"][choice] += 1
            above["total"][choice] += worth
        nodes.append(leaf)
    return [int(visits) for visits in nodes[0]["visits"]], mean(nodes[0])


def test_many_trees_at_once_are_what_each_would_be_alone() -> None:
    world, rule = Table(lanes=12, states=6, actions=3), Rule(discount=0.9)
    root = world.node(torch.zeros(1, 12, dtype=torch.int64))
    found = search(root, world.step, 40, rule)
    for lane in range(12):
        visits, value = plain_search(world, lane, 40, rule)
        assert found.visits[0, lane].tolist() == visits
        assert found.value[0, lane].item() == pytest.approx(value)


def test_a_tree_that_is_not_a_number_leaves_the_others_alone() -> None:
    world, rule = Table(lanes=4, states=6, actions=3), Rule(discount=0.9)
    root = world.node(torch.zeros(1, 4, dtype=torch.int64))
    clean = search(root, world.step, 20, rule)
    world.value[0, 1] = math.nan
    world.reward[0, 1] = math.nan
    root = world.node(torch.zeros(1, 4, dtype=torch.int64))
    spoiled: Found = search(root, world.step, 20, rule)
    for one, other in zip(clean, spoiled, strict=True):
        for lane in (0, 2, 3):
            assert torch.equal(one[0, lane], other[0, lane])


# Noise at the root


@pytest.mark.parametrize("alpha", [0.3, 1.0, 2.5])
def test_dirichlet_noise_has_its_moments(alpha: float) -> None:
    size = 4
    noise = dirichlet(Streams((0, 1)), "exploration", 20_000, size, alpha)
    assert noise.sum(dim=-1).sub(1).abs().max() < 1e-5
    variance = (size - 1) / (size**2 * (size * alpha + 1))
    for seed in range(2):
        assert noise[seed].mean(dim=0).tolist() == pytest.approx([1 / size] * size, abs=0.01)
        assert noise[seed].var(dim=0).tolist() == pytest.approx([variance] * size, rel=0.05)


def test_dirichlet_noise_of_a_seed_is_its_own() -> None:
    together = dirichlet(Streams((0, 1)), "exploration", 3, 4, 0.3)
    alone = dirichlet(Streams((1,)), "exploration", 3, 4, 0.3)
    assert together[1].equal(alone[0])
    assert (together[0] != together[1]).any()


# Candidates


def test_all_actions_of_a_discrete_space_are_candidates_with_the_policys_priors() -> None:
    candidates = make_candidates(Discrete(3), 8, CPU)
    assert isinstance(candidates, Choices)
    outputs = torch.tensor([[[0.0, math.log(2.0), 0.0]]])
    noise = candidates.noise(Streams((0,)), "search", 2, 1)
    prior, action = candidates.propose(outputs, noise[:, 0])
    assert prior[0, 0].tolist() == pytest.approx([0.25, 0.5, 0.25])
    assert action.tolist() == [[[[0], [1], [2]]]]
    log_prob = candidates.log_prob(outputs, action)
    assert log_prob[0, 0].exp().tolist() == pytest.approx([0.25, 0.5, 0.25])
    assert candidates.embed(action)[0, 0].tolist() == torch.eye(3).tolist()


def test_joint_choices_are_sampled_as_the_policy_has_it_and_have_equal_priors() -> None:
    candidates = make_candidates(MultiDiscrete((2, 3)), 5, CPU)
    assert isinstance(candidates, Choices)
    # 99 stands where the first dimension has no third choice
    weights = torch.tensor([[1.0, 3.0, 99.0], [1.0, 1.0, 2.0]])
    outputs = weights.log().flatten().expand(1, 4_000, -1)
    noise = candidates.noise(Streams((0,)), "search", 2, 4_000)
    prior, action = candidates.propose(outputs, noise[:, 1])
    assert (prior == 0.2).all()
    assert action.shape == (1, 4_000, 5, 2)
    first, second = action.flatten(0, 2).unbind(-1)
    shares = [(first == 0).double().mean(), (first == 1).double().mean()]
    assert shares == pytest.approx([0.25, 0.75], abs=0.02)
    shares = [(second == k).double().mean() for k in range(3)]
    assert shares == pytest.approx([0.25, 0.25, 0.5], abs=0.02)
    some = torch.tensor([[[[1, 2], [0, 0]]]])
    log_prob = candidates.log_prob(outputs[:, :1], some)
    assert log_prob[0, 0].exp().tolist() == pytest.approx([0.75 * 0.5, 0.25 * 0.25])
    assert candidates.embed(some)[0, 0].tolist() == [[0, 1, 0, 0, 0, 1], [1, 0, 0, 1, 0, 0]]


def test_vectors_are_sampled_from_a_normal_around_a_mean_within_bounds() -> None:
    candidates = make_candidates(box(-2.0, 2.0, (2,)), 4, CPU)
    assert isinstance(candidates, Vectors)
    outputs = torch.tensor([0.5, -9.0, 0.0, 0.4]).expand(1, 5_000, -1)
    noise = candidates.noise(Streams((0,)), "search", 1, 5_000)
    prior, action = candidates.propose(outputs, noise[:, 0])
    assert (prior == 0.25).all()
    flat = action.flatten(0, 2)
    assert flat.mean(dim=0).tolist() == pytest.approx([math.tanh(0.5), -1.0], abs=0.02)
    deviation = [math.exp(-3 + 2 * (math.tanh(raw) + 1)) for raw in (0.0, 0.4)]
    assert flat.std(dim=0).tolist() == pytest.approx(deviation, rel=0.03)
    mean = torch.tensor([math.tanh(0.5), math.tanh(-9.0)])
    expected = torch.distributions.Normal(mean, torch.tensor(deviation)).log_prob(action).sum(-1)
    torch.testing.assert_close(candidates.log_prob(outputs, action), expected)
    assert candidates.embed(torch.tensor([1.5, -3.0])).tolist() == [1.0, -1.0]
    assert candidates.to_environment(torch.tensor([[[0.5, -3.0]]])).tolist() == [[[1.0, -2.0]]]
