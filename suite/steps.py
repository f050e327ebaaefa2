"""What passes between environments, the runner and algorithms at every step.

Letters for dimensions, used in every docstring and shape comment of this project::

    S  seeds (always first)      T  time steps of a rollout     K  bins or classes
    E  lanes (environments)      B  minibatch                   N  members of an ensemble
       per seed                  D  action dimensions           F  features
    C H W  channels, height, width of an image

Order: ``[S, E, ...]`` lanes, ``[S, T, E, ...]`` rollouts, ``[S, B, ...]`` batches,
``[S, in, out]`` parameters. One seed is S = 1; there is no other code path.

Termination and truncation are kept apart from the environment to the learning target: a
*terminated* episode reached a state with no future (its value is 0), a *truncated* one was cut
(its value goes on). ``next_obs`` is always the true next observation, never the one after a reset.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias

if TYPE_CHECKING:  # what only reads names, such as `suite list`, goes without them
    import numpy as np
    from torch import Tensor

Observation: TypeAlias = "dict[str, Tensor]"
Carry = Any
"""What an agent must remember between two calls of ``act``; None for most."""


class LaneStep(NamedTuple):
    """What the lanes return for one action per lane (numpy, on the CPU)."""

    obs: dict[str, np.ndarray]
    """``[S, E, ...]`` what to act on next; where an episode ended, the first one of a new one."""
    next_obs: dict[str, np.ndarray]
    """``[S, E, ...]`` the true outcome of the action; the same object as ``obs`` if none ended."""
    reward: np.ndarray
    """``[S, E]`` float32."""
    terminated: np.ndarray
    """``[S, E]`` bool: the task's own end."""
    truncated: np.ndarray
    """``[S, E]`` bool: cut by a time limit; never true together with ``terminated``."""


class Transition(NamedTuple):
    """One step of all lanes of all seeds, as an agent sees it (tensors on the agent's device)."""

    obs: Observation
    """``[S, E, ...]``"""
    action: Tensor
    """``[S, E, ...]`` in the environment's own units, as ``act`` returned it."""
    reward: Tensor
    """``[S, E]`` float32."""
    next_obs: Observation
    """``[S, E, ...]`` the true next observation, also where the episode ended."""
    terminated: Tensor
    """``[S, E]`` bool."""
    truncated: Tensor
    """``[S, E]`` bool; never true together with ``terminated``."""
    extras: dict[str, Tensor]
    """``[S, E, ...]`` what ``act`` returned beside the action."""

    @property
    def ended(self) -> Tensor:
        """``[S, E]`` bool: what follows belongs to another episode."""
        return self.terminated | self.truncated
