"""Running statistics against numpy on everything seen so far."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
from torch import Tensor

from baselines.parts.normalise import RewardScale, RunningMoments
from suite.streams import Streams

SEEDS = (3, 5)
CPU = torch.device("cpu")


def batches() -> list[Tensor]:
    """Batches of unequal size and spread, far from zero."""
    streams = Streams(SEEDS)
    return [
        1_000 + 3 * k + (k + 1) * streams.normal("batch", size, 2)
        for k, size in enumerate((1, 7, 2, 40))
    ]


class TestRunningMoments:
    def test_equal_numpy_on_all_batches_together(self):
        moments = RunningMoments(2, 2, CPU)
        for batch in batches():
            moments.update(batch)
        seen = np.concatenate(batches(), axis=1).astype(np.float64)
        assert moments.count.flatten().tolist() == [50, 50]
        np.testing.assert_allclose(moments.mean[:, 0], seen.mean(axis=1), rtol=1e-12)
        np.testing.assert_allclose(moments.variance[:, 0], seen.var(axis=1), rtol=1e-9)

    def test_standardise_by_what_was_seen(self):
        moments = RunningMoments(1, 1, CPU)
        moments.update(torch.tensor([[[1.0], [5.0]]]))
        moments.update(torch.tensor([[[3.0], [3.0]]]))
        # mean 3, variance (4 + 4 + 0 + 0) / 4 = 2
        result = moments(torch.tensor([[[3.0], [5.0]]]))
        assert result.flatten().tolist() == pytest.approx([0.0, 2**0.5])

    def test_change_nothing_before_the_first_batch(self):
        values = torch.tensor([[[0.5, -2.0]]])
        assert torch.allclose(RunningMoments(1, 2, CPU)(values), values)

    def test_clip_to_ten(self):
        moments = RunningMoments(1, 1, CPU)
        assert moments(torch.tensor([[[1e9], [-1e9]]])).flatten().tolist() == [10.0, -10.0]

    def test_a_feature_that_never_changes_becomes_zero(self):
        moments = RunningMoments(1, 1, CPU)
        moments.update(torch.full((1, 5, 1), 7.0))
        assert moments(torch.full((1, 2, 1), 7.0)).flatten().tolist() == [0.0, 0.0]

    @pytest.mark.parametrize("poison", [torch.nan, torch.inf])
    def test_a_diverged_seed_leaves_the_other_bitwise_unchanged(self, poison: float):
        clean, poisoned = RunningMoments(2, 2, CPU), RunningMoments(2, 2, CPU)
        for batch in batches():
            clean.update(batch)
            batch = batch.clone()
            batch[1, 0] = poison
            poisoned.update(batch)
        assert torch.equal(clean(batches()[0])[0], poisoned(batches()[0])[0])
        assert not poisoned(batches()[0])[1].isfinite().all()

    def test_restored_moments_standardise_and_go_on_identically(self):
        first, *rest = batches()
        moments, other = RunningMoments(2, 2, CPU), RunningMoments(2, 2, CPU)
        moments.update(first)
        moments.update(rest[0])
        other.load_state_dict(copy.deepcopy(moments.state_dict()))
        assert torch.equal(other(first), moments(first))
        for m in (moments, other):
            m.update(rest[1])
        assert torch.equal(other(first), moments(first))

    def test_copies_are_independent(self):
        moments = RunningMoments(2, 2, CPU)
        moments.update(batches()[1])
        other = copy.deepcopy(moments)
        before = other(batches()[0])
        moments.update(batches()[3])
        assert torch.equal(other(batches()[0]), before)
        other.load_state_dict(moments.state_dict())
        assert torch.equal(other(batches()[0]), moments(batches()[0]))


class TestRewardScale:
    def rollouts(self) -> list[tuple[Tensor, Tensor]]:
        """Two rollouts ``[S, T, E]``; episodes end inside and go on across the border."""
        streams = Streams(SEEDS)
        ended = torch.zeros(2, 6, 3, dtype=torch.bool)
        ended[0, 2, 1] = ended[1, 5, 0] = ended[1, 0, 2] = True
        return [(streams.normal("reward", 6, 3) + 1, ended) for _ in range(2)]

    def test_equals_a_plain_loop_over_lanes(self):
        scale = RewardScale(2, 3, 0.9, CPU)
        followed: list[list[float]] = [[], []]
        running = np.zeros((2, 3))
        for reward, ended in self.rollouts():
            scale.update(reward, ended)
            for t in range(6):
                for s in range(2):
                    for e in range(3):
                        running[s, e] = 0.9 * running[s, e] + reward[s, t, e].item()
                        followed[s].append(running[s, e])
                        running[s, e] *= not ended[s, t, e]
        reward = self.rollouts()[0][0]
        for s in range(2):
            expected = reward[s].numpy() / np.std(followed[s])
            np.testing.assert_allclose(scale(reward)[s], expected, rtol=1e-5)

    def test_divides_by_the_deviation_of_these_returns(self):
        scale = RewardScale(1, 1, 0.5, CPU)
        ended = torch.tensor([[[False], [True], [False]]])
        scale.update(torch.tensor([[[2.0], [3.0], [1.0]]]), ended)
        # returns 2, 0.5 * 2 + 3 = 4, then a new episode: 1; variance 14 / 9
        assert scale(torch.tensor([[[7.0]]])).item() == pytest.approx(7 / (14 / 9) ** 0.5)

    def test_clips_to_ten_and_keeps_the_sign(self):
        scale = RewardScale(1, 1, 0.5, CPU)
        assert scale(torch.tensor([[[50.0], [-50.0], [-1.0]]])).flatten().tolist() == pytest.approx(
            [10.0, -10.0, -1.0]
        )

    def test_restored_scale_goes_on_identically(self):
        first, second = self.rollouts()
        scale, other = RewardScale(2, 3, 0.9, CPU), RewardScale(2, 3, 0.9, CPU)
        scale.update(*first)
        other.load_state_dict(copy.deepcopy(scale.state_dict()))
        for each in (scale, other):
            each.update(*second)
        assert torch.equal(other(first[0]), scale(first[0]))
