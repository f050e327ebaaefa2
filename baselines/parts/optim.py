"""Optimising S seeds at once: the parameters of seed s are row s of one matrix.

Adam is elementwise, so that one Adam on the matrix is S separate ones. Whatever couples
parameters of a network, the gradient's norm above all, is taken per row: a global norm would let
one diverged seed stop all others.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn


class ParameterMatrix:
    """All parameters of some modules as views of one matrix ``[S, P]``.

    The modules go on as before: their parameters keep names and shapes. Copies, norms, digests
    and averages of everything a seed has learned become single operations.

    Raises:
        ValueError: a parameter belongs to two of the modules; its gradient would count twice.
    """

    def __init__(self, *modules: nn.Module) -> None:
        self.names, self.views = [], []
        for index, module in enumerate(modules):
            for name, parameter in module.named_parameters():
                self.names.append(f"{index}.{name}")
                self.views.append(parameter)
        if len(set(map(id, self.views))) < len(self.views):
            raise ValueError("two modules share a parameter; hand in the shared part by itself")
        rows = torch.cat([view.detach().flatten(1) for view in self.views], dim=1)
        self.matrix = nn.Parameter(rows)
        start = 0
        for view in self.views:
            size = math.prod(view.shape[1:])
            view.data = rows[:, start : start + size].view(view.shape)
            start += size

    @contextmanager
    def frozen(self) -> Iterator[None]:
        """Gradients of a loss formed inside pass through these parameters, but not to them."""
        for view in self.views:
            view.requires_grad_(False)
        try:
            yield
        finally:
            for view in self.views:
                view.requires_grad_(True)

    def gradient(self, loss: Tensor) -> Tensor:
        """Gradient ``[S, P]`` of every seed's own loss ``[S]``."""
        parts = torch.autograd.grad(loss.sum(), self.views)
        return parts[0] if len(parts) == 1 else torch.cat([p.flatten(1) for p in parts], dim=1)

    @torch.no_grad()
    def copy_from(self, other: ParameterMatrix, rate: float = 1.0) -> None:
        """Move towards the other's values: ``self += rate * (other - self)`` (Polyak)."""
        if rate == 1.0:
            self.matrix.copy_(other.matrix)
        else:
            self.matrix.lerp_(other.matrix, rate)

    def rows(self) -> Tensor:
        """Everything each seed has learned, ``[S, P]``."""
        return self.matrix.detach()

    def state_dict(self) -> dict[str, Tensor]:
        return {"matrix": self.rows()}

    @torch.no_grad()
    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        self.matrix.copy_(state["matrix"])


MEAN_DECAY = 0.9
SQUARE_DECAY = 0.999
"""Adam's beta_1 and beta_2, the defaults of its paper."""


class Adam:
    """Adam (Kingma and Ba 2015) on a parameter matrix, clipping each seed's gradient norm.

    Calls the kernel of ``torch.optim.Adam(fused=True)`` itself: that class would add a tenth of a
    millisecond to every step, and a second to the start of every process.

    Args:
        max_norm: largest gradient norm of a seed; None leaves gradients as they are.

    Attributes:
        learning_rate: step size; may be set at any time.
        updates: steps taken so far.
    """

    def __init__(
        self,
        parameters: ParameterMatrix,
        learning_rate: float,
        max_norm: float | None = None,
        epsilon: float = 1e-8,
    ) -> None:
        self.parameters = parameters
        self.learning_rate = learning_rate
        self.max_norm = max_norm
        self.epsilon = epsilon
        self.mean = torch.zeros_like(parameters.rows())
        self.square = torch.zeros_like(self.mean)
        self._count = torch.zeros((), dtype=torch.float32, device=self.mean.device)
        self.updates = 0

    def step(self, loss: Tensor) -> None:
        """Descend one step on every seed's loss ``[S]``."""
        self.apply(self.parameters.gradient(loss))

    def apply(self, gradient: Tensor) -> None:
        """Descend one step along every seed's gradient ``[S, P]``, clipped first."""
        if self.max_norm is not None:
            norm = torch.linalg.vector_norm(gradient, dim=1, keepdim=True)
            gradient = gradient * (self.max_norm / (norm + 1e-6)).clamp_(max=1.0)
        self.updates += 1
        self._count.fill_(self.updates)
        torch._fused_adam_(
            [self.parameters.rows()],
            [gradient],
            [self.mean],
            [self.square],
            [],
            [self._count],
            lr=self.learning_rate,
            beta1=MEAN_DECAY,
            beta2=SQUARE_DECAY,
            weight_decay=0.0,
            eps=self.epsilon,
            amsgrad=False,
            maximize=False,
        )

    def state_dict(self) -> dict[str, Any]:
        return {
            "mean": self.mean,
            "square": self.square,
            "updates": self.updates,
            "learning_rate": self.learning_rate,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.mean.copy_(state["mean"])
        self.square.copy_(state["square"])
        self.updates = state["updates"]
        self.learning_rate = state["learning_rate"]


def per_seed_mean(values: Tensor) -> Tensor:
    """Mean over everything but the seed: ``[S, ...] -> [S]``."""
    return values.flatten(1).mean(dim=1)


def linear_decay(start: float, end: float, progress: float) -> float:
    """Value of a linear schedule; ``progress`` in [0, 1] is clipped."""
    return start + (end - start) * min(max(progress, 0.0), 1.0)
