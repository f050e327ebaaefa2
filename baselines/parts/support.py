"""Scalars as categorical distributions over a squashed scale.

A network that predicts returns of unknown size learns better by classifying than by regression. The
scale is ``h(x) = sign(x) (sqrt(|x| + 1) - 1) + 0.001 x`` (Pohlen et al. 2018,
https://arxiv.org/abs/1805.11593); a scalar lies between two whole numbers of that scale and is
encoded as the shares of these two (Schrittwieser et al. 2020, appendix F).
"""

from __future__ import annotations

import torch
from torch import Tensor

SLOPE = 0.001
"""Keeps ``h`` invertible in numbers as well as in theory."""


def squash(x: Tensor) -> Tensor:
    """``h(x)``, elementwise."""
    return x.sign() * ((x.abs() + 1).sqrt() - 1) + SLOPE * x


def unsquash(y: Tensor) -> Tensor:
    """The inverse of ``squash``, in a form that loses no digits near 0."""
    shifted = y.abs() + 1 + SLOPE
    root = 2 * shifted / ((1 + 4 * SLOPE * shifted).sqrt() + 1)  # sqrt(|x| + 1)
    return y.sign() * (root.square() - 1)


class Support:
    """Whole numbers from ``-limit`` to ``limit`` on the squashed scale, ``2 limit + 1`` bins.

    Args:
        limit: values beyond ``unsquash(limit)`` are clipped; 50 holds up to about 2,400.
        device: where the bins live.
    """

    def __init__(self, limit: int, device: torch.device) -> None:
        self.limit = limit
        self.bins = 2 * limit + 1
        self.atoms = torch.arange(-limit, limit + 1, device=device)

    def decode(self, logits: Tensor) -> Tensor:
        """Scalars ``[...]`` from logits ``[..., bins]``: the inverse of the mean bin."""
        mean = (torch.softmax(logits, dim=-1) * self.atoms).sum(dim=-1)
        return unsquash(mean)

    def cross_entropy(self, logits: Tensor, scalar: Tensor) -> Tensor:
        """Of scalars ``[...]`` as two neighbouring bins under logits ``[..., bins]``."""
        place = (squash(scalar) + self.limit).clamp(0, 2 * self.limit)
        lower = place.floor().clamp(max=2 * self.limit - 1)
        share = place - lower
        # a scalar that is not a number must not become an index
        index = lower.nan_to_num().long().unsqueeze(-1)
        log_probs = torch.log_softmax(logits, dim=-1)
        below, above = log_probs.gather(-1, index), log_probs.gather(-1, index + 1)
        return -((1 - share) * below.squeeze(-1) + share * above.squeeze(-1))
