"""Returns of n steps along sequences of a replay."""

from __future__ import annotations

import torch
from torch import Tensor


def bootstrap_steps(last: Tensor, num_positions: int, steps: int) -> Tensor:
    """The last step whose reward a return of at most ``steps`` rewards takes in.

    Args:
        last: ``[S, B]``, see :class:`baselines.parts.sequences.Sequences`.
        num_positions: P, returns begin at the first P steps of a sequence.
        steps: n, at least 1.

    Returns:
        ``[S, B, P]``; the value of the true observation after that step is what follows.
    """
    position = torch.arange(num_positions, device=last.device)
    return (position + steps - 1).minimum(last.unsqueeze(-1))


def n_step_targets(
    reward: Tensor,
    terminated: Tensor,
    last: Tensor,
    value: Tensor,
    steps: int,
    discount: float,
) -> Tensor:
    """Returns of n steps, of fewer where the sequence stops before.

    Args:
        reward: ``[S, B, P + n - 1]`` at least.
        terminated: bool, same shape: nothing follows. A step that was merely truncated is followed
            by ``value``.
        last: ``[S, B]``, see :class:`baselines.parts.sequences.Sequences`.
        value: ``[S, B, P]`` of the true observations after :func:`bootstrap_steps`.
        steps: n.
        discount: gamma.

    Returns:
        ``[S, B, P]``; at positions beyond ``last`` 0 if the last step terminated, and without a
        meaning otherwise.
    """
    num_positions = value.shape[-1]
    position = torch.arange(num_positions, device=reward.device)
    ahead = torch.arange(steps, device=reward.device)
    windows = reward.unfold(-1, steps, 1)[..., :num_positions, :]  # [S, B, P, n]
    counts = (position.unsqueeze(-1) + ahead) <= last.unsqueeze(-1).unsqueeze(-1)
    weights = discount ** ahead.to(value.dtype)
    returns = (windows * weights).masked_fill(~counts, 0.0).sum(dim=-1)
    final = bootstrap_steps(last, num_positions, steps)
    taken = (final - position + 1).clamp(min=0)
    following = (discount ** taken.to(value.dtype) * value).masked_fill(
        terminated.gather(-1, final), 0.0
    )
    return returns + following
