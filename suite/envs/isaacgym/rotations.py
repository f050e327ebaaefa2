"""Quaternions in MuJoCo's order (w, x, y, z): a body's own frame against the world's."""

from __future__ import annotations

import torch
from torch import Tensor


def rotate(quaternion: Tensor, vector: Tensor) -> Tensor:
    """Turn a vector of the body's frame into the world's. ``[..., 4]``, ``[..., 3]``."""
    w, axis = quaternion[..., :1], quaternion[..., 1:]
    twist = 2 * torch.cross(axis, vector, dim=-1)
    return vector + w * twist + torch.cross(axis, twist, dim=-1)


def rotate_back(quaternion: Tensor, vector: Tensor) -> Tensor:
    """Turn a vector of the world's frame into the body's. ``[..., 4]``, ``[..., 3]``."""
    return rotate(conjugate(quaternion), vector)


def conjugate(quaternion: Tensor) -> Tensor:
    """The inverse of a unit quaternion."""
    return torch.cat([quaternion[..., :1], -quaternion[..., 1:]], dim=-1)


def roll_and_yaw(quaternion: Tensor) -> tuple[Tensor, Tensor]:
    """Angles about the x and the z axis (rotations about x, then y, then z), in (-pi, pi]."""
    w, x, y, z = quaternion.unbind(-1)
    roll = torch.atan2(2 * (w * x + y * z), w * w - x * x - y * y + z * z)
    yaw = torch.atan2(2 * (w * z + x * y), w * w + x * x - y * y - z * z)
    return roll, yaw
