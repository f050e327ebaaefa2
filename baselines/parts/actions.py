"""Views of an action space: the same algorithm acts in any of them.

*Factored*: D dimensions with K bins each, for value-based algorithms. *Continuous*: a vector in
``[-1, 1]^D``. The third view, a distribution, is in :mod:`baselines.parts.heads`.
"""

from __future__ import annotations

import torch
from torch import Tensor

from suite.spaces import ActionSpace, Box, Discrete, MultiDiscrete


class Factored:
    """An action as D independent choices among K bins.

    ``Discrete(n)`` is one dimension with n bins and ``MultiDiscrete`` is itself. A Box is cut into
    ``bins`` equally spaced values per dimension, both ends included (Seyde et al. 2022). The value
    of a joint action is the mean over dimensions of the chosen bins' values, so that one
    dimension gives the plain algorithm.

    Args:
        space: the environment's action space.
        bins: K for a Box; unused otherwise.
        device: where choices live.

    Attributes:
        dims: D.
        bins: K, the largest number of bins of any dimension.
    """

    def __init__(self, space: ActionSpace, bins: int, device: torch.device) -> None:
        self.space = space
        self.mask: Tensor | None = None
        """``[D, K]`` True where a bin exists; None if all do."""
        if isinstance(space, Box):
            scale = Continuous(space, device)
            self.dims, self.bins = scale.dims, bins
            grid = torch.linspace(-1, 1, bins, device=device).expand(self.dims, bins)
            self._values = scale.to_environment(grid.T).view(bins, self.dims).T  # [D, K]
            return
        sizes = torch.tensor([space.n] if isinstance(space, Discrete) else space.sizes)
        self.dims, self.bins = len(sizes), int(sizes.max())
        if int(sizes.min()) < self.bins:
            self.mask = (torch.arange(self.bins) < sizes.unsqueeze(1)).to(device)

    def masked(self, values: Tensor, fill: float = -torch.inf) -> Tensor:
        """Put ``fill`` where a bin does not exist; values are ``[S, B, D, K]``."""
        return values if self.mask is None else values.masked_fill(~self.mask, fill)

    def pick(self, values: Tensor, choice: Tensor) -> Tensor:
        """Value of joint actions ``[S, B]`` from values ``[S, B, D, K]``, choice ``[S, B, D]``."""
        return values.gather(-1, choice.unsqueeze(-1)).squeeze(-1).mean(dim=-1)

    def best(self, values: Tensor) -> Tensor:
        """The greedy choice ``[S, B, D]``."""
        return self.masked(values).argmax(dim=-1)

    def random(self, uniform: Tensor) -> Tensor:
        """Uniform choices ``[S, B, D]`` from uniform numbers in [0, 1) of that shape."""
        sizes = self.bins if self.mask is None else self.mask.sum(dim=-1)
        return (uniform * sizes).long()

    def to_environment(self, choice: Tensor) -> Tensor:
        """Choices ``[S, E, D]`` as the environment's actions."""
        if isinstance(self.space, Discrete):
            return choice[..., 0]
        if isinstance(self.space, MultiDiscrete):
            return choice
        dimension = torch.arange(self.dims, device=choice.device)
        return self._values[dimension, choice].view(*choice.shape[:-1], *self.space.shape)


class Continuous:
    """An action as a vector in ``[-1, 1]^D``, stretched to the Box's bounds.

    A dimension without finite bounds is not stretched; one with a single bound is two wide.
    """

    def __init__(self, space: Box, device: torch.device) -> None:
        self.shape = space.shape
        self.dims = space.low.size
        low = torch.as_tensor(space.low, device=device, dtype=torch.float32).flatten()
        high = torch.as_tensor(space.high, device=device, dtype=torch.float32).flatten()
        self.low = low.where(low.isfinite(), torch.where(high.isfinite(), high - 2, -1.0))
        self.high = high.where(high.isfinite(), self.low + 2)
        self.centre = (self.low + self.high) / 2
        self.scale = (self.high - self.low) / 2

    def to_environment(self, vector: Tensor) -> Tensor:
        """Vectors ``[S, E, D]``, clipped to [-1, 1], as actions ``[S, E, *shape]`` float32."""
        # clipped last, because centre + scale may round to a number above the bound
        action = (self.centre + self.scale * vector).clamp(self.low, self.high)
        return action.float().view(*vector.shape[:-1], *self.shape)
