"""Physics: many worlds of one MuJoCo model, stepped together.

A world's future follows from its positions, velocities and controls alone: solvers start afresh at
every step of the task, so that no number depends on what ran before or beside it (on a GPU, none
but the rounding of sums). Both engines read the same model (MJCF, in ``models/``).
"""

from __future__ import annotations

import copy
from abc import ABC, abstractmethod
from pathlib import Path

import mujoco
import numpy as np
import torch
from mujoco import rollout
from torch import Tensor

MODELS = Path(__file__).parent / "models"


def load_model(name: str) -> mujoco.MjModel:
    """Compile one of the models in ``models/``."""
    return mujoco.MjModel.from_xml_path(str(MODELS / name))


class Physics(ABC):
    """N worlds. All tensors lie on ``device``, in the engine's own precision.

    Attributes:
        model: what is simulated, once for all worlds.
        qpos: ``[N, nq]`` generalised positions, in MuJoCo's order; quaternions are w, x, y, z.
        qvel: ``[N, nv]`` velocities; of a free body, linear ones in the world's frame and angular
            ones in its own.
        sensors: ``[N, nsensordata]``, of the moment before the last integration; 0 in a world that
            has been placed and not yet stepped.
    """

    model: mujoco.MjModel
    qpos: Tensor
    qvel: Tensor
    sensors: Tensor

    @property
    def worlds(self) -> int:
        """N."""
        return self.qpos.shape[0]

    def place(self, which: Tensor, qpos: Tensor, qvel: Tensor) -> None:
        """Set the state of some worlds.

        Args:
            which: ``[n]`` their indices.
            qpos: ``[n, nq]``.
            qvel: ``[n, nv]``.
        """
        self.qpos[which] = qpos
        self.qvel[which] = qvel
        self.sensors[which] = 0

    @abstractmethod
    def step(self, control: Tensor, substeps: int) -> None:
        """Apply controls ``[N, nu]`` for a number of time steps of the model."""

    @abstractmethod
    def close(self) -> None:
        """Free threads or graphics memory; may be called twice."""


class Mujoco(Physics):
    """MuJoCo in C, in double precision on the CPU; bits do not depend on ``threads`` or N."""

    def __init__(self, model: mujoco.MjModel, worlds: int, threads: int = 1) -> None:
        self.model = copy.copy(model)
        # an exploded world is the task's to begin anew, with the task's own start
        self.model.opt.disableflags |= mujoco.mjtDisableBit.mjDSBL_AUTORESET
        whole = mujoco.mj_stateSize(model, mujoco.mjtState.mjSTATE_FULLPHYSICS)
        assert whole == 1 + model.nq + model.nv, "state beside time, positions and velocities"
        self._state = np.zeros((worlds, whole))
        self._state[:, 1 : 1 + model.nq] = model.qpos0
        state = torch.from_numpy(self._state)
        self.qpos, self.qvel = state[:, 1 : 1 + model.nq], state[:, 1 + model.nq :]
        self._sensors = np.zeros((worlds, model.nsensordata))
        self.sensors = torch.from_numpy(self._sensors)
        self._data = [mujoco.MjData(model) for _ in range(threads)]
        self._rollout = rollout.Rollout(nthread=threads if threads > 1 else 0)

    def step(self, control: Tensor, substeps: int) -> None:
        states, sensors = self._rollout.rollout(
            self.model,
            self._data if len(self._data) > 1 else self._data[0],
            self._state,
            np.ascontiguousarray(control.numpy())[:, None],
            nstep=substeps,
        )
        self._state[:] = states[:, -1]
        self._sensors[:] = sensors[:, -1]

    def close(self) -> None:
        self._rollout.close()
