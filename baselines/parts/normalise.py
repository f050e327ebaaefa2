"""Running statistics, one set per seed: standardised observations and scaled rewards."""

from __future__ import annotations

import torch
from torch import Tensor, nn

CLIP = 10.0
"""Standardised values and scaled rewards are clipped to +-10 (Andrychowicz et al. 2021)."""


class RunningMoments(nn.Module):
    """Mean and variance of everything seen, per seed and feature, merged batch by batch.

    Chan et al. 1979, pairwise update. Calling the module standardises ``[S, B, F]``.
    """

    mean: Tensor
    variance: Tensor
    count: Tensor

    def __init__(self, seeds: int, size: int, device: torch.device) -> None:
        super().__init__()
        zeros = torch.zeros(seeds, 1, size, device=device, dtype=torch.float64)
        self.register_buffer("mean", zeros)
        self.register_buffer("variance", torch.ones_like(zeros))
        self.register_buffer("count", zeros.new_zeros(seeds, 1, 1))
        self._cache()
        self.register_load_state_dict_post_hook(lambda module, _: module._cache())

    def update(self, values: Tensor) -> None:
        """Take in a batch ``[S, B, F]``."""
        values = values.to(torch.float64)
        size = values.shape[1]
        variance, mean = torch.var_mean(values, dim=1, correction=0, keepdim=True)
        total = self.count + size
        delta = mean - self.mean
        self.variance.copy_(
            (self.variance * self.count + variance * size) / total
            + delta**2 * self.count * size / total**2
        )
        self.mean.add_(delta * size / total)
        self.count.copy_(total)
        self._cache()

    def forward(self, values: Tensor) -> Tensor:
        return ((values - self._mean) * self._inverse).clamp(-CLIP, CLIP)

    def _cache(self) -> None:
        """Keep what ``forward`` needs in the networks' precision."""
        dtype = torch.get_default_dtype()
        self._mean = self.mean.to(dtype)
        self._inverse = (self.variance + 1e-8).rsqrt().to(dtype)


class RewardScale(nn.Module):
    """Divides rewards by the running standard deviation of the discounted return, per seed.

    Engstrom et al. 2020, section 3: the return of each lane is followed with the discount and
    starts anew at an episode's end; its mean is not subtracted.
    """

    returns: Tensor

    def __init__(self, seeds: int, lanes: int, discount: float, device: torch.device) -> None:
        super().__init__()
        self.discount = discount
        self.moments = RunningMoments(seeds, 1, device)
        zeros = torch.zeros(seeds, lanes, device=device, dtype=torch.float64)
        self.register_buffer("returns", zeros)

    def update(self, reward: Tensor, ended: Tensor) -> None:
        """Follow a rollout: ``reward [S, T, E]``, ``ended [S, T, E]`` bool."""
        followed = []
        for now, end in zip(reward.unbind(1), ended.unbind(1), strict=True):
            returns = self.returns * self.discount + now
            followed.append(returns)
            self.returns = torch.where(end, 0.0, returns)
        self.moments.update(torch.stack(followed, dim=1).flatten(1).unsqueeze(-1))

    def forward(self, reward: Tensor) -> Tensor:
        """Scale ``reward [S, T, E]``."""
        return (reward * self.moments._inverse).clamp(-CLIP, CLIP)
