"""Advantages by literal numbers, and the two ends of lambda."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from baselines.parts.returns import generalised_advantage
from suite.streams import Streams


def lane(*values: float) -> Tensor:
    """``[1, T, 1]``"""
    return torch.tensor(values).view(1, -1, 1)


def advantages(
    terminated: tuple[bool, ...] = (False, False, False),
    truncated: tuple[bool, ...] = (False, False, False),
) -> list[float]:
    """Rewards 1, 2, 3; every value is 1 and every next value 2; discount and lambda are a half."""
    estimate = generalised_advantage(
        lane(1.0, 2.0, 3.0),
        lane(1.0, 1.0, 1.0),
        lane(2.0, 2.0, 2.0),
        lane(*terminated),
        lane(*truncated),
        discount=0.5,
        trace=0.5,
    )
    return estimate.flatten().tolist()


def test_errors_are_summed_backwards_with_the_decay():
    # errors r + 0.5 * 2 - 1 = 1, 2, 3; decay 0.25: 3, 2 + 0.75, 1 + 0.6875
    assert advantages() == [1.6875, 2.75, 3.0]


def test_terminated_steps_have_no_bootstrap_and_end_the_trace():
    # the second error is 2 + 0 - 1 = 1, and nothing of the third step reaches it
    assert advantages(terminated=(False, True, False)) == [1.25, 1.0, 3.0]


def test_truncated_steps_keep_the_bootstrap_and_end_the_trace():
    assert advantages(truncated=(False, True, False)) == [1.5, 2.0, 3.0]


def test_last_step_of_a_rollout_bootstraps_unless_terminated():
    assert advantages(truncated=(False, False, True))[2] == 3.0
    assert advantages(terminated=(False, False, True))[2] == 2.0


def test_value_after_termination_is_ignored_even_if_not_finite():
    terminated, running = lane(True), lane(False)
    estimate = generalised_advantage(
        lane(1.0), lane(0.0), lane(torch.nan), terminated, running, discount=0.9, trace=0.9
    )
    assert estimate.item() == 1.0


def random_rollout() -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """Two seeds, nine steps, three lanes, with ends of both kinds in the middle."""
    streams = Streams((0, 1))
    reward, value, next_value = streams.normal("numbers", 3, 9, 3).double().unbind(1)
    terminated = torch.zeros(2, 9, 3, dtype=torch.bool)
    truncated = torch.zeros(2, 9, 3, dtype=torch.bool)
    terminated[0, 4, 1] = terminated[1, 8, 2] = truncated[1, 3, 0] = truncated[0, 4, 2] = True
    return reward, value, next_value, terminated, truncated


def test_lambda_zero_gives_the_temporal_difference_error():
    reward, value, next_value, terminated, truncated = random_rollout()
    estimate = generalised_advantage(
        reward, value, next_value, terminated, truncated, discount=0.9, trace=0.0
    )
    expected = reward + 0.9 * torch.where(terminated, 0.0, next_value) - value
    assert torch.allclose(estimate, expected, rtol=1e-12)


def test_lambda_one_gives_monte_carlo_returns_minus_values():
    reward, value, _, terminated, truncated = random_rollout()
    next_value = torch.cat([value[:, 1:], torch.ones(2, 1, 3)], dim=1)  # as on one long path
    estimate = generalised_advantage(
        reward, value, next_value, terminated, truncated, discount=0.9, trace=1.0
    )
    for s, e in ((s, e) for s in range(2) for e in range(3)):
        following = 1.0
        for t in reversed(range(9)):
            if terminated[s, t, e]:
                following = 0.0
            elif truncated[s, t, e]:
                following = float(next_value[s, t, e])
            following = float(reward[s, t, e]) + 0.9 * following
            assert estimate[s, t, e].item() == pytest.approx(following - float(value[s, t, e]))


def test_lanes_and_seeds_do_not_mix():
    arguments = random_rollout()
    together = generalised_advantage(*arguments, discount=0.9, trace=0.8)
    for s, e in ((0, 1), (1, 2)):
        alone = generalised_advantage(
            *(x[s : s + 1, :, e : e + 1] for x in arguments), discount=0.9, trace=0.8
        )
        assert torch.equal(together[s, :, e], alone[0, :, 0])


@pytest.mark.parametrize("place", range(5))
def test_shapes_that_would_broadcast_are_refused(place: int):
    arguments = list(random_rollout())
    arguments[place] = arguments[place][:, :, :1]
    with pytest.raises(ValueError, match=r"shapes differ: \[\(2, 9, 1\), \(2, 9, 3\)\]"):
        generalised_advantage(*arguments, discount=0.9, trace=0.8)
