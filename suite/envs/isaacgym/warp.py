"""MuJoCo Warp: the same models in single precision on a GPU, for thousands of worlds.

One step from the same state agrees with MuJoCo in C up to rounding; then contacts amplify it, and
only distributions can agree. The same holds for the same seed twice: sums of contact forces are
taken in no fixed order. MuJoCo Warp can fix it (``opt.deterministic``), but with 4,096 ants on an
H200 that took 65 times as long, and still two runs parted. So a run on this engine can be repeated
in distribution, not bit by bit.
"""

from __future__ import annotations

import mujoco
import torch
import warp
from torch import Tensor

from suite.envs.isaacgym.physics import Physics

warp.config.log_level = warp.LOG_WARNING  # before the next import, which loads kernels

import mujoco_warp  # noqa: E402

_CONSTRAINTS = 128
"""Room for each world's constraint rows: three per contact, one per joint at its limit."""


class Warp(Physics):
    """Worlds on one device. PyTorch sees Warp's own arrays, and nothing is copied.

    Args:
        model: compiled by MuJoCo in C.
        worlds: N.
        device: where the worlds live; the CPU works too, slowly, and is meant for tests.
    """

    def __init__(self, model: mujoco.MjModel, worlds: int, device: str = "cuda") -> None:
        self.model = model
        self._device = warp.get_device(device)
        limits = mujoco_warp.OverflowType
        with warp.ScopedDevice(self._device):
            self._model = mujoco_warp.put_model(model)
            # a solver at its limit of iterations stops, as it does in C, where nothing is printed
            self._model.opt.warn_overflow &= ~(limits.ITERATIONS | limits.LS_ITERATIONS)
            self._data = mujoco_warp.make_data(model, nworld=worlds, njmax=_CONSTRAINTS)
        self.qpos = warp.to_torch(self._data.qpos)
        self.qvel = warp.to_torch(self._data.qvel)
        self.sensors = warp.to_torch(self._data.sensordata)
        self._control = warp.to_torch(self._data.ctrl)
        self._warmstart = warp.to_torch(self._data.qacc_warmstart)
        self._graphs: dict[int, warp.Graph] = {}

    def step(self, control: Tensor, substeps: int) -> None:
        self._control.copy_(control)
        self._warmstart.zero_()
        if not self._device.is_cuda:
            self._simulate(substeps)
            return
        if substeps not in self._graphs:
            self._graphs[substeps] = self._record(substeps)
        stream = warp.stream_from_torch(torch.cuda.current_stream())
        warp.capture_launch(self._graphs[substeps], stream=stream)

    def close(self) -> None:
        self._graphs.clear()

    def _simulate(self, substeps: int) -> None:
        with warp.ScopedDevice(self._device):
            for _ in range(substeps):
                mujoco_warp.step(self._model, self._data)

    def _record(self, substeps: int) -> warp.Graph:
        """The kernels of a step as one CUDA graph; leaves the worlds as they are."""
        state = (self.qpos, self.qvel, self.sensors, self._warmstart)
        before = [values.clone() for values in state]
        torch.cuda.synchronize()  # Warp runs on a stream of its own
        self._simulate(1)  # compiles and loads the kernels, which recording cannot
        warp.synchronize_device(self._device)
        for values, then in zip(state, before, strict=True):
            values.copy_(then)
        with warp.ScopedCapture(device=self._device) as capture:
            self._simulate(substeps)
        return capture.graph
