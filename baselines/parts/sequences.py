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

    Episodes' ends must be stored as the item ``"ended"``.
    """

    def can_sample(self, length: int) -> bool:
        """Whether there is a sequence of that length."""
        return self.size >= length * max(1, self._lanes)

    def sample_across(
        self, batch_size: int, length: int
    ) -> tuple[Leaves, Observation, Observation]:
        """Items, observations and next observations ``[S, B, L, ...]``, drawn with replacement.

        A sequence may run across the end of an episode: what follows ``"ended"`` is the beginning
        of another one.
        """
        starts = self.size // self._lanes - length + 1  # of every lane
        number = self.streams.integers("replay", starts * self._lanes, batch_size)
        steps = torch.arange(length, device=number.device)
        slots = self._slots_after(number, steps.expand(*number.shape, length))
        items = self._items(slots)
        obs, following = self.observations(slots.flatten(1))
        shape = (batch_size, length)
        return (
            items,
            {name: leaf.unflatten(1, shape) for name, leaf in obs.items()},
            {name: leaf.unflatten(1, shape) for name, leaf in following.items()},
        )

    def sample_within(self, batch_size: int, length: int) -> Sequences:
        """Sequences of at most ``length`` steps that stop where an episode ends.

        Every transition held is as likely to be the first one, drawn with replacement; a sequence
        that would pass the newest transition stops there.
        """
        number = self.streams.integers("replay", self.size, batch_size)  # from the oldest on
        later = (self.size - 1 - number) // self._lanes  # steps of the same lane
        reach = torch.arange(length, device=number.device).minimum(later.unsqueeze(-1))
        slots = self._slots_after(number, reach)
        items = self._items(slots)
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

    def _slots_after(self, number: Tensor, steps: Tensor) -> Tensor:
        """Slots ``[S, B, L]`` so many steps after transitions ``[S, B]``, from the oldest on."""
        oldest = self.added - self.size
        return (oldest + number.unsqueeze(-1) + steps * self._lanes) % self._slots

    def _items(self, slots: Tensor) -> Leaves:
        items = self._whole.take(slots.flatten(1))["items"]
        return {name: leaf.unflatten(1, slots.shape[1:]) for name, leaf in items.items()}
