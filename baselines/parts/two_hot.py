"""Numbers of unknown scale as distributions over buckets.

Hafner et al. 2023, https://arxiv.org/abs/2301.04104, section "robust predictions": a network that
predicts buckets learns at the same pace whatever the size of its targets.
"""

from __future__ import annotations

import torch
from torch import Tensor


def symexp(x: Tensor) -> Tensor:
    """``sign(x) (exp(|x|) - 1)``, the inverse of symlog: near x at 0, exponential far from it."""
    return x.sign() * x.abs().expm1()


class TwoHot:
    """Buckets that lie close together around 0; a number is shared by the two that enclose it.

    Args:
        buckets: how many, an odd number.
        reach: the outermost lie where symlog is ``-reach`` and ``reach``.

    Raises:
        ValueError: the number is even, or below three.
    """

    def __init__(self, buckets: int, reach: float, device: torch.device) -> None:
        if buckets < 3 or buckets % 2 == 0:
            raise ValueError(f"buckets={buckets}: expected an odd number of at least 3")
        half = symexp(torch.linspace(0, reach, buckets // 2 + 1, device=device))
        self.centres = torch.cat([-half.flip(0)[:-1], half])

    def mean(self, logits: Tensor) -> Tensor:
        """The number ``[...]`` that logits ``[..., buckets]`` stand for."""
        return (logits.softmax(dim=-1) * self.centres.to(logits.dtype)).sum(dim=-1)

    def cross_entropy(self, logits: Tensor, target: Tensor) -> Tensor:
        """Of numbers ``[...]`` under logits ``[..., buckets]``."""
        centres = self.centres.to(target.dtype)
        target = target.clamp(centres[0], centres[-1])
        above = torch.searchsorted(centres, target.contiguous()).clamp(
            1, len(centres) - 1
        )  # NaN is beyond them
        low, high = centres[above - 1], centres[above]
        share = (target - low) / (high - low)
        log_probs = logits.log_softmax(dim=-1)
        index = above.unsqueeze(-1)
        lower = log_probs.gather(-1, index - 1).squeeze(-1)
        upper = log_probs.gather(-1, index).squeeze(-1)
        return -(lower * (1 - share) + upper * share)
