"""Numbers as distributions over buckets."""

from __future__ import annotations

import pytest
import torch

from baselines.parts.two_hot import TwoHot, symexp

CPU = torch.device("cpu")


def test_symexp_by_hand():
    x = torch.tensor([-2.0, -0.01, 0.0, 0.01, 2.0])
    expected = torch.tensor([-6.389056, -0.01005017, 0.0, 0.01005017, 6.389056])
    torch.testing.assert_close(symexp(x), expected)


def test_a_number_is_shared_by_the_buckets_that_enclose_it():
    two_hot = TwoHot(5, 2.0, CPU)
    outer, inner = 2.0**0 * (torch.e**2 - 1), torch.e - 1
    expected = torch.tensor([-outer, -inner, 0.0, inner, outer])
    torch.testing.assert_close(two_hot.centres, expected)
    logits = torch.log(torch.tensor([0.1, 0.2, 0.3, 0.15, 0.25]))
    share = 0.5 / inner
    loss = two_hot.cross_entropy(logits.view(1, 5), torch.tensor([0.5]))
    by_hand = -((1 - share) * logits[2] + share * logits[3])
    assert loss.item() == pytest.approx(by_hand.item())
    assert two_hot.mean(logits).item() == pytest.approx(0.15 * outer - 0.05 * inner, rel=1e-5)


@pytest.mark.parametrize("number", [-300.0, -1.3, 0.0, 0.25, 7.0])
def test_the_best_logits_stand_for_the_number(number: float):
    two_hot = TwoHot(21, 6.0, CPU)
    logits = torch.zeros(1, 21, requires_grad=True)
    optimiser = torch.optim.LBFGS([logits], lr=1.0, max_iter=200, line_search_fn="strong_wolfe")

    def loss() -> torch.Tensor:
        optimiser.zero_grad()
        total = two_hot.cross_entropy(logits, torch.tensor([number])).sum()
        total.backward()
        return total

    optimiser.step(loss)
    assert two_hot.mean(logits).item() == pytest.approx(number, abs=0.02 * abs(number) + 0.01)


def test_equal_logits_stand_for_zero_and_far_numbers_for_the_outermost_bucket():
    two_hot = TwoHot(63, 10.0, CPU)
    assert two_hot.mean(torch.zeros(3, 63)).abs().max() < 0.01
    far = two_hot.cross_entropy(torch.zeros(1, 63), torch.tensor([1e9]))
    assert far.item() == pytest.approx(torch.tensor(63.0).log().item(), rel=1e-5)
    assert two_hot.cross_entropy(torch.zeros(1, 63), torch.tensor([torch.nan])).isnan().all()


@pytest.mark.parametrize("buckets", [1, 4])
def test_a_middle_bucket_is_needed(buckets: int):
    with pytest.raises(ValueError, match=f"buckets={buckets}: expected an odd number"):
        TwoHot(buckets, 2.0, CPU)
