"""Learning targets from rewards and values."""

from __future__ import annotations

from torch import Tensor


def generalised_advantage(
    reward: Tensor,
    value: Tensor,
    next_value: Tensor,
    terminated: Tensor,
    truncated: Tensor,
    discount: float,
    trace: float,
) -> Tensor:
    """Generalised advantage estimates (Schulman et al. 2016, equation 16).

    Args:
        reward: ``[S, T, E]``.
        value: ``[S, T, E]`` values of the observations acted on.
        next_value: ``[S, T, E]`` values of the true next observations.
        terminated: ``[S, T, E]`` bool: the next value counts as 0.
        truncated: ``[S, T, E]`` bool: the next value counts, but the trace ends, because the step
            after it belongs to another episode.
        discount: gamma, in [0, 1].
        trace: lambda, in [0, 1]; 1 gives Monte Carlo returns minus values, 0 the TD error.

    Returns:
        Advantages ``[S, T, E]``; add ``value`` for returns.

    Raises:
        ValueError: if the shapes disagree.
    """
    shapes = {x.shape for x in (reward, value, next_value, terminated, truncated)}
    if len(shapes) != 1:
        raise ValueError(f"shapes differ: {sorted(map(tuple, shapes))}")
    advantages = reward + discount * next_value.masked_fill(terminated, 0.0) - value
    decay = discount * trace * (~(terminated | truncated)).to(advantages.dtype)
    # A_t = error_t + decay_t A_{t+1}, for all t at once: after the pass with a given reach, each
    # entry holds its own error and the decayed ones of that many following steps.
    reach = 1
    while reach < reward.shape[1]:
        advantages[:, :-reach] += decay[:, :-reach] * advantages[:, reach:]
        decay[:, :-reach] *= decay[:, reach:].clone()
        decay[:, -reach:] = 0
        reach *= 2
    return advantages
