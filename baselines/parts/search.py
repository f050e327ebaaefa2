"""Tree search in a learned model, in the trees of all lanes of all seeds at once.

Schrittwieser et al. 2020, https://arxiv.org/abs/1911.08265, appendix B. A tree has one node for the
root and one for every simulation, and every node has A candidate actions: all of them where actions
are few and numbered, and samples of the policy elsewhere (Hubert et al. 2021,
https://arxiv.org/abs/2104.06303). So the tensors of a tree have fixed shapes, ``[S, E, nodes, A]``,
and a simulation is one call of the model for all trees.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from baselines.parts.actions import Continuous, Factored
from baselines.parts.heads import Categorical, Normal
from suite.spaces import Box, Discrete, MultiDiscrete
from suite.streams import Streams


class Node(NamedTuple):
    """What a model says of states."""

    latent: Tensor
    """``[S, E, F]``."""
    value: Tensor
    """``[S, E]``."""
    prior: Tensor
    """``[S, E, A]``, probabilities of the candidates."""
    action: Tensor
    """``[S, E, A, D]``, the candidates."""


Step = Callable[[Tensor, Tensor, int], tuple[Node, Tensor]]
"""A model's step: latents ``[S, E, F]``, actions ``[S, E, D]`` and the number of the simulation,
from 1 on, to the states that follow and the rewards ``[S, E]`` on the way."""


class Found(NamedTuple):
    """What a search found out about its roots."""

    visits: Tensor
    """``[S, E, A]``, simulations that began with a candidate; a number in the value's type."""
    value: Tensor
    """``[S, E]``, the mean of the root's own value and of all simulations' returns."""
    best: Tensor
    """``[S, E]``, the most visited candidate; of equals the one with the largest return."""


@dataclass(frozen=True)
class Rule:
    """What a simulation follows; the constants are the paper's."""

    discount: float
    constant: float = 1.25
    """c1, the weight of the prior."""
    base: float = 19652.0
    """c2: from so many visits on, the prior weighs more."""
    least_range: float = 0.01
    """Returns in a tree that differ by less are not stretched to [0, 1] (Ye et al. 2021): their
    differences are noise."""


def search(root: Node, step: Step, simulations: int, rule: Rule) -> Found:
    """Grow a tree from every root by that many nodes and tell what is worth trying."""
    tree = Tree(root, simulations, rule)
    for number in range(1, simulations + 1):
        leaf, candidate = tree.select()
        latent, action = tree.look_up(leaf, candidate)
        node, reward = step(latent, action, number)
        tree.grow(leaf, candidate, node, reward)
    return tree.found()


class Tree:
    """Trees ``[S, E]`` of which each has as many nodes; node 0 is the root.

    Args:
        root: of every tree.
        simulations: nodes that will be added.
        rule: how candidates are chosen.

    Attributes:
        size: nodes so far.
        visits: ``[S, E, nodes, A]``, how often a candidate was followed.
        total: ``[S, E, nodes, A]``, sum of the returns that followed.
    """

    def __init__(self, root: Node, simulations: int, rule: Rule) -> None:
        self.rule = rule
        self.size = 0
        self.candidates = root.prior.shape[-1]
        shape = (*root.value.shape, simulations + 1)
        self.latent = root.latent.new_zeros(*shape, root.latent.shape[-1])
        self.value = root.value.new_zeros(shape)
        self.prior = root.prior.new_zeros(*shape, self.candidates)
        self.action = root.action.new_zeros(*shape, *root.action.shape[-2:])
        self.visits = torch.zeros_like(self.prior)
        self.total = torch.zeros_like(self.prior)
        self.reward = torch.zeros_like(self.value)
        """On the way to a node, ``[S, E, nodes]``."""
        self.children = torch.zeros_like(self.prior, dtype=torch.int64)
        """``[S, E, nodes, A]``; 0, the root, stands for none."""
        self.origin = torch.zeros_like(self.value, dtype=torch.int64)
        """``[S, E, nodes]``, parent times A plus the candidate that leads to the node."""
        self.depth = torch.zeros_like(self.origin)
        self._append(root)

    def values(self) -> Tensor:
        """Mean of a node's own value and of the returns from it, ``[S, E, size]``."""
        total, visits = self.total[:, :, : self.size], self.visits[:, :, : self.size]
        return (self.value[:, :, : self.size] + total.sum(-1)) / (1 + visits.sum(-1))

    def returns(self) -> Tensor:
        """Mean return of every candidate ``[S, E, size, A]``; if untried, its node's value.

        The paper counts an untried candidate as 0, which few simulations cannot make up for.
        """
        total, visits = self.total[:, :, : self.size], self.visits[:, :, : self.size]
        return torch.where(visits > 0, total / visits.clamp(min=1), self.values().unsqueeze(-1))

    def scaled_returns(self) -> Tensor:
        """The same, where 0 and 1 are the least and the largest of the tree."""
        returns = self.returns()
        low, high = returns.flatten(2).aminmax(dim=-1, keepdim=True)
        span = (high - low).clamp(min=self.rule.least_range)
        return (returns - low.unsqueeze(-1)) / span.unsqueeze(-1)

    def scores(self) -> Tensor:
        """The pUCB rule's score of every candidate, ``[S, E, size, A]``.

        A node's making counts as a visit of it, so that the prior alone decides at first.
        """
        visits = self.visits[:, :, : self.size]
        number = 1 + visits.sum(dim=-1, keepdim=True)
        weight = self.rule.constant + ((number + self.rule.base + 1) / self.rule.base).log()
        curiosity = self.prior[:, :, : self.size] * number.sqrt() / (1 + visits)
        return self.scaled_returns() + weight * curiosity

    def select(self) -> tuple[Tensor, Tensor]:
        """Follow the best candidates from the root to one that leads to no node yet.

        Returns:
            The node ``[S, E]`` where that is, and the candidate ``[S, E]``.
        """
        best = self.scores().argmax(dim=-1)  # [S, E, size]
        child = self.children[:, :, : self.size].gather(-1, best.unsqueeze(-1)).squeeze(-1)
        here = torch.arange(self.size, device=child.device)
        place = torch.where(child > 0, child, here)
        # every pass doubles the steps that a node's entry looks ahead
        for _ in range((self.size - 1).bit_length()):
            place = place.gather(-1, place)
        leaf = place[..., :1]
        return leaf.squeeze(-1), best.gather(-1, leaf).squeeze(-1)

    def look_up(self, node: Tensor, candidate: Tensor) -> tuple[Tensor, Tensor]:
        """Latents ``[S, E, F]`` and actions ``[S, E, D]`` of nodes' candidates ``[S, E]``."""
        return _row(self.latent, node), _row(_row(self.action, node), candidate)

    def grow(self, leaf: Tensor, candidate: Tensor, node: Node, reward: Tensor) -> None:
        """Hang a node under a leaf's candidate, and carry its value up to the root."""
        new = self.size
        origin = leaf * self.candidates + candidate
        self.origin[:, :, new] = origin
        self.children.flatten(2).scatter_(-1, origin.unsqueeze(-1), new)
        self.depth[:, :, new] = 1 + self.depth.gather(-1, leaf.unsqueeze(-1)).squeeze(-1)
        self.reward[:, :, new] = reward
        self._append(node)
        self._carry_up(new)

    def found(self) -> Found:
        visits = self.visits[:, :, 0]
        # a share of a visit decides between equals only
        best = (visits + 0.5 * self.scaled_returns()[:, :, 0]).argmax(dim=-1)
        return Found(visits, self.values()[:, :, 0], best)

    def _append(self, node: Node) -> None:
        self.latent[:, :, self.size] = node.latent
        self.value[:, :, self.size] = node.value
        self.prior[:, :, self.size] = node.prior
        self.action[:, :, self.size] = node.action
        self.size += 1

    def _carry_up(self, new: int) -> None:
        node = torch.full_like(self.origin[:, :, :1], new)
        returns = self.value[:, :, new : new + 1]
        visits, total = self.visits.flatten(2), self.total.flatten(2)
        for _ in range(int(self.depth[:, :, new].max())):
            below = node > 0  # shallower trees have arrived
            returns = self.reward.gather(-1, node) + self.rule.discount * returns
            origin = self.origin.gather(-1, node)
            visits.scatter_add_(-1, origin, below.to(visits.dtype))
            total.scatter_add_(-1, origin, returns.masked_fill(~below, 0.0))
            node = origin.div(self.candidates, rounding_mode="floor")


def _row(leaf: Tensor, index: Tensor) -> Tensor:
    """Items ``[S, E, ...]`` of a leaf ``[S, E, N, ...]`` by index ``[S, E]``."""
    flat = leaf.flatten(3) if leaf.ndim > 3 else leaf.unsqueeze(-1)
    place = index[..., None, None].expand(-1, -1, 1, flat.shape[-1])
    return flat.gather(2, place).view(*index.shape, *leaf.shape[3:])


TRIES = 10
"""Attempts of a rejection sampler of which each fails with a probability below 0.05."""


def dirichlet(streams: Streams, role: str, lanes: int, size: int, alpha: float) -> Tensor:
    """Symmetric Dirichlet noise ``[S, E, size]``, by the same count of random numbers each time.

    Shares of gamma variables. These are drawn by the rejection of Marsaglia and Tsang (2000) for
    shape ``alpha + 1``, and brought down to ``alpha`` by a uniform number, all in logarithms: for a
    small ``alpha`` most are too small for the type.
    """
    normal = streams.normal(role, TRIES, lanes, size).double()
    uniform = streams.uniform(role, TRIES + 1, lanes, size).double().clamp(min=2.0**-25)
    shape = alpha + 1 - 1 / 3
    cube = (1 + normal / math.sqrt(9 * shape)) ** 3
    log_cube = cube.clamp(min=1e-300).log()
    accepted = (cube > 0) & (
        uniform[:, 1:].log() < 0.5 * normal.square() + shape * (1 - cube + log_cube)
    )
    first = accepted.to(torch.uint8).argmax(dim=1, keepdim=True)
    log_gamma = log_cube.gather(1, first).squeeze(1) + uniform[:, 0].log() / alpha
    return torch.softmax(log_gamma, dim=-1).to(torch.get_default_dtype())


class Choices:
    """Candidates of numbered actions: all of a Discrete space, samples of a MultiDiscrete one.

    An action is D choices ``[..., D]`` int64. Samples may repeat: what is likely is more often
    among them, which is why every sample has the same prior.

    Attributes:
        count: A, candidates of a node.
        outputs: what the policy needs of a network.
        inputs: numbers that tell a network of an action, one-hot.
    """

    def __init__(self, space: Discrete | MultiDiscrete, samples: int, device: torch.device) -> None:
        self.actions = Factored(space, bins=0, device=device)
        self.dims = self.actions.dims
        self.listed = isinstance(space, Discrete)
        self.count = self.actions.bins if self.listed else samples
        self.outputs = self.inputs = self.dims * self.actions.bins
        self.all = torch.arange(self.actions.bins, device=device).view(1, 1, -1, 1)

    def noise(self, streams: Streams, role: str, nodes: int, lanes: int) -> Tensor:
        """What the candidates of so many nodes need ``[S, nodes, ...]``; a list needs nothing."""
        if self.listed:
            return self.all.new_empty(1, nodes, 0)
        shape = (nodes, lanes, self.count, self.dims, self.actions.bins)
        return streams.gumbel(role, *shape)

    def propose(self, outputs: Tensor, noise: Tensor) -> tuple[Tensor, Tensor]:
        """Priors ``[S, N, A]`` and candidates ``[S, N, A, D]`` from outputs ``[S, N, outputs]``."""
        policy = self.policy(outputs)
        if self.listed:
            return policy.log_probs.exp().squeeze(2), self.all.expand(*outputs.shape[:2], -1, -1)
        action = (policy.logits.unsqueeze(2) + noise).argmax(dim=-1)
        return _equal(outputs, self.count), action

    def log_prob(self, outputs: Tensor, action: Tensor) -> Tensor:
        """``[S, N, A]`` of actions ``[S, N, A, D]``."""
        by_dimension = self.policy(outputs).log_probs.gather(-1, action.mT)
        return by_dimension.sum(dim=-2)

    def policy(self, outputs: Tensor) -> Categorical:
        logits = outputs.unflatten(-1, (self.dims, self.actions.bins))
        return Categorical(self.actions.masked(logits))

    def embed(self, action: Tensor) -> Tensor:
        """Actions ``[..., D]`` as numbers for a network, ``[..., inputs]``."""
        hot = F.one_hot(action, self.actions.bins).flatten(-2)
        return hot.to(torch.get_default_dtype())

    def to_environment(self, action: Tensor) -> Tensor:
        """Actions ``[S, E, D]`` in the environment's units."""
        return self.actions.to_environment(action)


LOG_STD_RANGE = (-3.0, 1.0)
"""A normal policy's log standard deviation is kept here by a tanh."""


class Vectors:
    """Candidates of a Box: samples of a normal policy with its mean in [-1, 1].

    An action is an unbounded vector ``[..., D]``; environment and model get it clipped. See
    :class:`Choices` for the rest.
    """

    listed = False

    def __init__(self, space: Box, samples: int, device: torch.device) -> None:
        self.actions = Continuous(space, device)
        self.count = samples
        self.dims = self.inputs = self.actions.dims
        self.outputs = 2 * self.dims

    def noise(self, streams: Streams, role: str, nodes: int, lanes: int) -> Tensor:
        return streams.normal(role, nodes, lanes, self.count, self.dims)

    def propose(self, outputs: Tensor, noise: Tensor) -> tuple[Tensor, Tensor]:
        policy = self._wide(outputs)
        return _equal(outputs, self.count), policy.sample(noise.to(outputs.dtype))

    def log_prob(self, outputs: Tensor, action: Tensor) -> Tensor:
        return self._wide(outputs).log_prob(action)

    def policy(self, outputs: Tensor) -> Normal:
        mean, raw = outputs.chunk(2, dim=-1)
        low, high = LOG_STD_RANGE
        return Normal(torch.tanh(mean), low + 0.5 * (high - low) * (torch.tanh(raw) + 1))

    def embed(self, action: Tensor) -> Tensor:
        return action.clamp(-1, 1)

    def to_environment(self, action: Tensor) -> Tensor:
        return self.actions.to_environment(action)

    def _wide(self, outputs: Tensor) -> Normal:
        """The policy for several actions per item, ``[S, N, 1, D]``."""
        policy = self.policy(outputs)
        return Normal(policy.mean.unsqueeze(2), policy.log_std.unsqueeze(2))


Candidates = Choices | Vectors


def make_candidates(
    space: Box | Discrete | MultiDiscrete, samples: int, device: torch.device
) -> Candidates:
    """The candidates of a space; ``samples`` matters where not all actions are listed."""
    if isinstance(space, Box):
        return Vectors(space, samples, device)
    return Choices(space, samples, device)


def _equal(outputs: Tensor, count: int) -> Tensor:
    """The prior of samples, ``[S, N, A]``."""
    return outputs.new_full((*outputs.shape[:2], count), 1 / count)
