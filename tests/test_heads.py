"""Policies against torch.distributions, and S > 1 against a loop."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor
from torch import distributions as reference

from baselines.parts.heads import (
    Categorical,
    CategoricalHead,
    Normal,
    NormalHead,
    SquashedNormal,
    make_head,
)
from suite.spaces import Discrete, MultiDiscrete, Space, box
from suite.streams import Streams

SEEDS = (3, 5, 8)
CPU = torch.device("cpu")
SIZES = (2, 4, 3)
"""A MultiDiscrete of unequal sizes: five of twelve bins hold nothing."""


def noise(role: str, *shape: int) -> Tensor:
    return Streams(SEEDS).normal(role, *shape).double().clone()


def outputs(role: str, size: int, batch: int = 6) -> Tensor:
    return noise(role, batch, size).requires_grad_()


def masked_head() -> CategoricalHead:
    return CategoricalHead(MultiDiscrete(SIZES), CPU)


def references(raw: Tensor) -> list[reference.Categorical]:
    """One distribution per dimension, over the bins that exist."""
    logits = raw.unflatten(-1, (len(SIZES), max(SIZES)))
    return [reference.Categorical(logits=logits[:, :, d, :n]) for d, n in enumerate(SIZES)]


class TestCategorical:
    def test_two_equal_choices_have_these_figures(self):
        fair = Categorical(torch.zeros(1, 1, 1, 2))
        biased = Categorical(torch.tensor([[[[math.log(3.0), 0.0]]]]))
        assert fair.entropy().item() == pytest.approx(math.log(2))
        assert biased.log_prob(torch.tensor([[[0]]])).item() == pytest.approx(math.log(0.75))
        expected = 0.5 * math.log(0.5 / 0.75) + 0.5 * math.log(0.5 / 0.25)
        assert fair.kl(biased).item() == pytest.approx(expected)

    def test_log_prob_is_the_sum_over_dimensions(self):
        raw = outputs("raw", 12)
        choice = torch.stack([d.sample() for d in references(raw)], dim=-1)
        expected = sum(d.log_prob(choice[..., i]) for i, d in enumerate(references(raw)))
        assert torch.allclose(masked_head().distribution(raw).log_prob(choice), expected)

    def test_entropy_is_the_sum_over_dimensions(self):
        raw = outputs("raw", 12)
        expected = sum(d.entropy() for d in references(raw))
        assert torch.allclose(masked_head().distribution(raw).entropy(), expected)

    def test_divergence_is_the_sum_over_dimensions(self):
        old, new = outputs("old", 12), outputs("new", 12)
        pairs = zip(references(old), references(new), strict=True)
        expected = sum(reference.kl_divergence(p, q) for p, q in pairs)
        head = masked_head()
        assert torch.allclose(head.distribution(old).kl(head.distribution(new)), expected)

    def test_divergence_from_itself_is_zero(self):
        policy = masked_head().distribution(outputs("raw", 12))
        assert torch.equal(policy.kl(policy), torch.zeros(3, 6).double())

    @pytest.mark.parametrize("quantity", ["log_prob", "entropy", "kl"])
    def test_gradients_with_missing_bins_equal_those_of_the_reference(self, quantity: str):
        ours, theirs, other = outputs("raw", 12), outputs("raw", 12), outputs("other", 12)
        choice = torch.zeros(3, 6, 3, dtype=torch.long)
        head, pairs = masked_head(), list(zip(references(theirs), references(other), strict=True))
        value, expected = {
            "log_prob": lambda: (
                head.distribution(ours).log_prob(choice),
                sum(p.log_prob(choice[..., 0]) for p, _ in pairs),
            ),
            "entropy": lambda: (
                head.distribution(ours).entropy(),
                sum(p.entropy() for p, _ in pairs),
            ),
            "kl": lambda: (
                head.distribution(ours).kl(head.distribution(other)),
                sum(reference.kl_divergence(p, q) for p, q in pairs),
            ),
        }[quantity]()
        value.sum().backward()
        expected.sum().backward()
        assert torch.allclose(ours.grad, theirs.grad, atol=1e-12)

    def test_second_derivative_of_the_divergence_with_missing_bins_is_right(self):
        old = masked_head().distribution(outputs("old", 12, batch=1).detach())

        def divergence(raw: Tensor) -> Tensor:
            return old.kl(masked_head().distribution(raw))

        assert torch.autograd.gradgradcheck(divergence, (outputs("new", 12, batch=1),))

    @pytest.mark.parametrize("size", [1e-3, 1e4])
    def test_extreme_logits_keep_values_and_gradients_finite(self, size: float):
        raw, other = outputs("raw", 12), outputs("other", 12)
        head = masked_head()
        p = head.distribution((raw * size).float())
        q = head.distribution((other * size).float())
        total = p.entropy() + p.kl(q) + q.kl(p)
        total.sum().backward()
        assert total.isfinite().all()
        assert raw.grad.isfinite().all()
        assert other.grad.isfinite().all()

    def test_samples_have_the_frequencies_of_the_probabilities(self):
        logits = torch.log(torch.tensor([0.1, 0.2, 0.7])).expand(3, 5_000, 1, 3)
        head = CategoricalHead(Discrete(3), CPU)
        choice = Categorical(logits).sample(head.noise(Streams(SEEDS), "sample", 5_000))
        frequencies = torch.stack([(choice == k).float().mean(dim=(1, 2)) for k in range(3)], dim=1)
        assert (frequencies - torch.tensor([0.1, 0.2, 0.7])).abs().max() < 0.03

    def test_missing_bins_are_never_sampled_nor_the_mode(self):
        head = masked_head()
        policy = head.distribution(torch.zeros(3, 2_000, 12))
        sample = policy.sample(head.noise(Streams(SEEDS), "sample", 2_000))
        assert sample.amax(dim=(0, 1)).tolist() == [1, 3, 2]
        assert (policy.mode() < torch.tensor(SIZES)).all()

    def test_a_diverged_policy_still_makes_possible_choices(self):
        head = masked_head()
        policy = head.distribution(torch.full((3, 5, 12), torch.nan))
        sample = policy.sample(head.noise(Streams(SEEDS), "sample", 5))
        assert (sample < torch.tensor(SIZES)).all()
        assert (policy.mode() < torch.tensor(SIZES)).all()

    def test_mode_is_the_most_probable_choice(self):
        policy = Categorical(torch.tensor([[[[0.0, 2.0, 1.0], [3.0, 2.0, 1.0]]]]))
        assert policy.mode().tolist() == [[[1, 0]]]


class TestNormal:
    def pair(self) -> tuple[Normal, reference.Normal]:
        mean, log_std = outputs("mean", 2), outputs("log_std", 2, batch=1)
        return Normal(mean, log_std), reference.Normal(mean, log_std.exp())

    def test_standard_normal_has_these_figures(self):
        policy = Normal(torch.zeros(1, 1, 1), torch.zeros(1, 1, 1))
        assert policy.log_prob(torch.ones(1, 1, 1)).item() == pytest.approx(-1.4189385)
        assert policy.entropy().item() == pytest.approx(1.4189385)

    def test_log_prob_is_the_sum_over_dimensions(self):
        ours, theirs = self.pair()
        value = noise("value", 6, 2)
        assert torch.allclose(ours.log_prob(value), theirs.log_prob(value).sum(-1))

    def test_entropy_has_one_value_per_item_though_the_spread_is_shared(self):
        ours, theirs = self.pair()
        assert ours.entropy().shape == (3, 6)
        assert torch.allclose(ours.entropy(), theirs.entropy().sum(-1))

    def test_divergence_is_the_sum_over_dimensions(self):
        ours, theirs = self.pair()
        mean, log_std = noise("other", 6, 2), noise("spread", 6, 2)
        expected = reference.kl_divergence(theirs, reference.Normal(mean, log_std.exp())).sum(-1)
        assert torch.allclose(ours.kl(Normal(mean, log_std)), expected)

    def test_divergence_is_not_symmetric(self):
        narrow = Normal(torch.zeros(1, 1, 1), torch.full((1, 1, 1), math.log(0.5)))
        wide = Normal(torch.ones(1, 1, 1), torch.zeros(1, 1, 1))
        assert narrow.kl(wide).item() == pytest.approx(math.log(2) + (0.25 + 1) / 2 - 0.5)
        assert wide.kl(narrow).item() == pytest.approx(-math.log(2) + (1 + 1) / (2 * 0.25) - 0.5)

    def test_sample_moves_with_mean_and_spread(self):
        policy = Normal(torch.tensor([[[1.0]]]), torch.tensor([[[math.log(2.0)]]]))
        assert policy.sample(torch.tensor([[[-0.5]]])).item() == pytest.approx(0.0)
        assert policy.mode().item() == 1.0


class TestSquashedNormal:
    @pytest.mark.parametrize(("mean", "std"), [(0.0, 1.0), (1.5, 0.3), (-0.7, 2.0)])
    def test_density_integrates_to_one(self, mean: float, std: float):
        z = torch.linspace(-9, 9, 20_001).double().view(1, -1, 1)
        policy = SquashedNormal(torch.full_like(z, mean), torch.full((1, 1, 1), math.log(std)))
        sample, log_prob = policy.sample_with_log_prob(z)
        assert torch.trapezoid(log_prob.exp(), sample.squeeze(-1)).item() == pytest.approx(
            1, abs=1e-4
        )

    def test_log_prob_equals_the_reference_summed_over_dimensions(self):
        mean, log_std, z = outputs("mean", 2), outputs("log_std", 2), noise("z", 6, 2)
        base = reference.Normal(mean, log_std.exp())
        theirs = reference.TransformedDistribution(base, reference.TanhTransform())
        sample, log_prob = SquashedNormal(mean, log_std).sample_with_log_prob(z)
        assert torch.allclose(log_prob, theirs.log_prob(sample).sum(-1), rtol=1e-6)

    @pytest.mark.parametrize("size", [20.0, 1e3, 1e6])
    def test_large_means_keep_value_and_gradient_finite(self, size: float):
        mean = torch.tensor([[[size], [-size]]], requires_grad=True)
        sample, log_prob = SquashedNormal(mean, torch.zeros(1, 1, 1)).sample_with_log_prob(
            torch.ones(1, 2, 1)
        )
        (log_prob + sample.squeeze(-1)).sum().backward()
        assert log_prob.isfinite().all()
        assert mean.grad.isfinite().all()

    def test_mode_lies_in_the_unit_interval(self):
        policy = SquashedNormal(torch.tensor([[[0.5, 1e6]]]), torch.zeros(1, 1, 2))
        assert policy.mode().flatten().tolist() == pytest.approx([math.tanh(0.5), 1.0])

    def test_gradient_reaches_mean_and_spread_through_the_sample(self):
        mean, log_std = torch.zeros(1, 1, 1).requires_grad_(), torch.zeros(1, 1, 1).requires_grad_()
        sample, _ = SquashedNormal(mean, log_std).sample_with_log_prob(torch.full((1, 1, 1), 0.5))
        sample.sum().backward()
        slope = 1 - math.tanh(0.5) ** 2
        assert mean.grad.item() == pytest.approx(slope)
        assert log_std.grad.item() == pytest.approx(0.5 * slope)


SPACES = {
    "discrete": Discrete(4),
    "multidiscrete": MultiDiscrete(SIZES),
    "box": box(-2, 2, (2,)),
}


@pytest.mark.usefixtures("float64")
class TestHeads:
    @pytest.mark.parametrize("space", SPACES.values(), ids=SPACES)
    def test_seeds_together_equal_a_loop_over_seeds(self, space: Space):
        together = make_head(space, 3, -0.5, CPU)
        raw, other = (noise(role, 6, together.outputs) for role in ("raw", "other"))
        if isinstance(together, NormalHead):
            together.log_std.data.add_(torch.tensor([0.0, 0.3, 1.0]).view(3, 1, 1))
        policy = together.distribution(raw)
        sample = policy.sample(together.noise(Streams(SEEDS), "sample", 6))
        divergence = policy.kl(together.distribution(other))
        actions = together.to_environment(sample)
        for s, seed in enumerate(SEEDS):
            alone = make_head(space, 1, -0.5, CPU)
            if isinstance(alone, NormalHead):
                alone.log_std.data.copy_(together.log_std.data[s : s + 1])
            single = alone.distribution(raw[s : s + 1])
            drawn = single.sample(alone.noise(Streams((seed,)), "sample", 6))
            assert torch.equal(drawn[0], sample[s])
            assert torch.equal(single.mode()[0], policy.mode()[s])
            assert torch.allclose(single.log_prob(drawn)[0], policy.log_prob(sample)[s])
            assert torch.allclose(single.entropy()[0], policy.entropy()[s])
            assert torch.allclose(single.kl(alone.distribution(other[s : s + 1]))[0], divergence[s])
            assert torch.equal(alone.to_environment(drawn)[0], actions[s])

    @pytest.mark.parametrize("space", SPACES.values(), ids=SPACES)
    def test_seeds_draw_different_samples(self, space: Space):
        head = make_head(space, 3, 0.0, CPU)
        policy = head.distribution(torch.zeros(3, 50, head.outputs))
        first, second, _ = policy.sample(head.noise(Streams(SEEDS), "sample", 50))
        assert not torch.equal(first, second)

    def test_spread_starts_as_asked_in_every_seed(self):
        head = NormalHead(box(-1, 1, (2,)), 3, -0.5, CPU)
        assert head.log_std.tolist() == [[[-0.5, -0.5]]] * 3


@pytest.mark.parametrize(
    ("name", "sample", "action"),
    [
        ("discrete", [[[3]]], [[3]]),
        ("multidiscrete", [[[1, 3, 0]]], [[[1, 3, 0]]]),
        ("box", [[[0.5, -7.0]]], [[[1.0, -2.0]]]),
    ],
)
def test_samples_become_actions_of_the_environment(name: str, sample: list, action: list):
    head = make_head(SPACES[name], 1, 0.0, CPU)
    assert head.to_environment(torch.tensor(sample)).tolist() == action
