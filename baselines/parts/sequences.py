"""Memory of algorithms that learn from stretches of experience: a replay sampled in sequences."""

from __future__ import annotations

from baselines.parts.replay import Leaves, Replay
from suite.steps import Observation


class SequenceReplay(Replay):
    """A replay whose samples are consecutive transitions of one lane.

    A sequence may run across the end of an episode: items must tell (``ended``), and what follows
    is the beginning of another one.
    """

    def can_sample(self, length: int) -> bool:
        """Whether there is a sequence of that length."""
        return self.size >= length * max(1, self._lanes)

    def sample_sequences(
        self, batch_size: int, length: int
    ) -> tuple[Leaves, Observation, Observation]:
        """Items, observations and next observations ``[S, B, L, ...]``, drawn with replacement.

        Treat them as read-only: they are views that may share memory.
        """
        steps = self.size // self._lanes
        starts = steps - length + 1  # of every lane
        drawn = self.streams.integers("replay", starts * self._lanes, batch_size)
        first = drawn + (self.added - self.size)  # counted from the first transition of all
        offsets = self._lanes * drawn.new_tensor(range(length))
        index = (first.unsqueeze(-1) + offsets) % self._slots  # [S, B, L]
        batch = self._whole.take(index.flatten(1))
        obs, following = batch["obs"], batch["next_obs"]
        if self._frames:
            large, large_following = self._frames.take(index.flatten(1))
            obs |= large
            following |= large_following
        leaves = batch["items"], obs, following
        return tuple(
            {name: leaf.unflatten(1, (batch_size, length)) for name, leaf in group.items()}
            for group in leaves
        )  # type: ignore[return-value]
