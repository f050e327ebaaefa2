"""A stand-in for the utilities of isaacgymenvs."""

import torch


def set_seed(seed):
    torch.manual_seed(seed)
