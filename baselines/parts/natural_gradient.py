"""Natural gradients of S policies at once: Fisher-vector products and conjugate gradients."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from baselines.parts.heads import Categorical, Distribution
from baselines.parts.optim import ParameterMatrix, per_seed_mean


def detached(policy: Distribution) -> Distribution:
    """The same distribution, whatever becomes of the parameters that it came from."""
    if isinstance(policy, Categorical):
        return Categorical(policy.logits.detach())
    # a spread that is a parameter is changed in place by the next step
    return type(policy)(policy.mean.detach(), policy.log_std.detach().clone())


def kl_divergence(one: Distribution, other: Distribution) -> Tensor:
    """KL(one || other) ``[S, B]`` of two policies of the same head."""
    return one.kl(other)  # type: ignore[arg-type]


class Fisher:
    """The damped Fisher matrix of every seed's policy as a function: ``v [S, P] -> [S, P]``.

    At equal policies the Hessian of the mean KL divergence is the Fisher matrix, so that its
    product with a vector is the gradient of the gradient's product with it (Schulman et al. 2015,
    appendix C). The gradient's graph is built once.

    Args:
        parameters: of the policy alone, built with ``twice_differentiable=True``.
        policy: at the batch ``[S, B]`` over which the divergence is averaged, with its graph.
        damping: added to the diagonal.
    """

    def __init__(self, parameters: ParameterMatrix, policy: Distribution, damping: float) -> None:
        self.views = parameters.views
        self.damping = damping
        divergence = per_seed_mean(kl_divergence(detached(policy), policy))
        self.gradient = self._rows(
            torch.autograd.grad(divergence.sum(), self.views, create_graph=True)
        )

    def __call__(self, vector: Tensor) -> Tensor:
        parts = torch.autograd.grad(
            self.gradient, self.views, vector, retain_graph=True, materialize_grads=True
        )
        return self._rows(parts) + self.damping * vector

    @staticmethod
    def _rows(parts: tuple[Tensor, ...]) -> Tensor:
        return torch.cat([part.flatten(1) for part in parts], dim=1)


@torch.no_grad()
def conjugate_gradient(
    product: Callable[[Tensor], Tensor], target: Tensor, iterations: int, tolerance: float
) -> Tensor:
    """Solve ``product(x) = target`` for every seed at once (Hestenes and Stiefel 1952).

    Args:
        product: multiplies ``[S, P]`` by each seed's symmetric positive definite matrix.
        target: ``[S, P]``.
        iterations: at most; a seed rests once it has converged.
        tolerance: squared norm of the residual, relative to the target's, at which it has.

    Returns:
        x ``[S, P]``; 0 for a target of 0.
    """
    x = torch.zeros_like(target)
    residual = target.clone()
    direction = target.clone()
    square = _dot(residual, residual)
    enough = tolerance * square
    for _ in range(iterations):
        working = square > enough
        image = product(direction)
        step = torch.where(working, square / _dot(direction, image), 0.0)
        x += step * direction
        residual -= step * image
        following = _dot(residual, residual)
        turn = torch.where(working, following / square, 0.0)
        direction = torch.where(working, residual + turn * direction, direction)
        square = torch.where(working, following, square)
    return x


def _dot(one: Tensor, other: Tensor) -> Tensor:
    """Inner products ``[S, 1]`` of rows ``[S, P]``."""
    return (one * other).sum(dim=1, keepdim=True)
