"""Memory of algorithms that learn from sequences: steps that follow each other in one lane."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from baselines.parts.replay import Leaves, Replay
from suite.steps import Observation


class Sequences(NamedTuple):
    """B sequences of T steps per seed; what lies beyond ``last`` is of no meaning."""

    slots: Tensor
    """``[S, B, T]``, where the steps are kept."""
    items: Leaves
    """Leaves ``[S, B, T, ...]``."""
    last: Tensor
    """``[S, B]``, in [0, T): the number of the step that ends the episode, or else of the last step
    of the window, or of the newest in memory."""


class SequenceReplay(Replay):
    """A replay that also hands out the steps after a transition.

    Every transition held is as likely to be the start of a sequence; a sequence that would pass the
    newest transition stops there. Episodes' ends must be stored as the item ``"ended"``.
    """

    def sample_sequences(self, batch_size: int, length: int) -> Sequences:
        """Sequences of ``length`` steps, drawn with replacement."""
        number = self.streams.integers("replay", self.size, batch_size)  # from the oldest on
        later = (self.size - 1 - number) // self._lanes  # steps of the same lane
        reach = torch.arange(length, device=number.device).minimum(later.unsqueeze(-1))
        oldest = self.added - self.size
        slots = (oldest + number.unsqueeze(-1) + reach * self._lanes) % self._slots
        items = {
            name: leaf.unflatten(1, (batch_size, length))
            for name, leaf in self._whole.take(slots.flatten(1))["items"].items()
        }
        stops = items["ended"] | (reach == later.unsqueeze(-1))
        stops[..., -1] = True
        return Sequences(slots, items, stops.to(torch.uint8).argmax(dim=-1))

    def observations(self, slots: Tensor) -> tuple[Observation, Observation]:
        """Observations and true next observations ``[S, N, ...]`` of the steps in ``[S, N]``."""
        whole = self._whole.take(slots)
        obs, following = whole["obs"], whole["next_obs"]
        if self._frames:
            large, large_following = self._frames.take(slots)
            obs |= large
            following |= large_following
        return obs, following


def bootstrap_steps(last: Tensor, num_positions: int, steps: int) -> Tensor:
    """The last step whose reward a return of at most ``steps`` rewards takes in.

    Args:
        last: ``[S, B]``, see :class:`Sequences`.
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
        last: ``[S, B]``, see :class:`Sequences`.
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
