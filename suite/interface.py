"""Between engines (numpy, on the CPU) and agents (tensors, on a device)."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from suite.spaces import Box, Space


def to_tensors(leaves: dict[str, np.ndarray], device: torch.device) -> dict[str, Tensor]:
    """Observation leaves as tensors; on the CPU they share memory."""
    return {name: torch.from_numpy(leaf).to(device) for name, leaf in leaves.items()}


def to_numpy(action: Tensor, space: Space) -> np.ndarray:
    """Actions ``[S, E, ...]`` for the lanes; what a diverged seed emits becomes harmless.

    A non-finite action could bring a physics engine down, and with it the lanes of other seeds.
    """
    values = action.cpu().numpy()
    if isinstance(space, Box) and not np.isfinite(values).all():
        rest = np.clip(np.zeros_like(values), space.low, space.high)
        return np.where(np.isfinite(values), values, rest)
    return values
