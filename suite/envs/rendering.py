"""Rendering without a screen: which OpenGL driver there is, and a camera that draws with it."""

from __future__ import annotations

import importlib
import os
import subprocess
import sys
from functools import cache
from typing import TYPE_CHECKING, Any

import numpy as np

from suite.tasks import Lack

if TYPE_CHECKING:
    import mujoco

SHADOW_TEXELS = 8
"""Width of the map of shadows, per pixel of the image's width."""

DRIVERS = ("egl", "osmesa")
"""In this order; MUJOCO_GL names the one to take instead."""

LACK = Lack(
    "an OpenGL driver that draws without a screen (EGL or OSMesa)",
    "apt-get install libegl1 libopengl0 libgl1-mesa-dri",
)

_PROBE = """
import importlib, sys
context = importlib.import_module("mujoco." + sys.argv[1]).GLContext(64, 64)
context.make_current()
context.free()
"""


@cache
def find_driver() -> str | None:
    """Find a driver that works: MUJOCO_GL's if it is set, else EGL, else OSMesa.

    A process can load one driver only, and a driver that fails stays loaded; so each is tried in a
    process of its own.

    Returns:
        ``"egl"``, ``"osmesa"`` or ``"glfw"``; None if none works.
    """
    wanted = os.environ.get("MUJOCO_GL", "").lower()
    for driver in (wanted,) if wanted else DRIVERS:
        command = [sys.executable, "-c", _PROBE, driver]
        if subprocess.run(command, capture_output=True, check=False).returncode == 0:
            return driver
    return None


def require_driver() -> str:
    """Find a driver that works.

    Raises:
        ModuleNotFoundError: there is none; the message holds the command that installs one.
    """
    driver = find_driver()
    if driver is None:
        chosen = os.environ.get("MUJOCO_GL")
        hint = f"; MUJOCO_GL={chosen} rules out any other" if chosen else ""
        raise ModuleNotFoundError(f"pixels need {LACK.what}: {LACK.install}{hint}")
    return driver


class Camera:
    """Draws images of worlds that were made from the same model file, one after the other.

    One graphics context serves them all: it holds textures and meshes, while positions, sizes and
    colours are read from each world. It belongs to the thread that draws the first image.

    Args:
        driver: as :func:`find_driver` names it.
        size: height and width of the images in pixels.
        index: which of the model's own cameras.
    """

    def __init__(self, driver: str, size: int, index: int = 0) -> None:
        import mujoco

        self._driver = driver
        self._size = size
        self._view = mujoco.MjvCamera()
        self._view.type = mujoco.mjtCamera.mjCAMERA_FIXED
        self._view.fixedcamid = index
        self._option = mujoco.MjvOption()
        self._rectangle = mujoco.MjrRect(0, 0, size, size)
        self._gl: Any = None
        self._scene: Any = None
        self._context: Any = None

    def draw(self, model: mujoco.MjModel, data: mujoco.MjData) -> np.ndarray:
        """Draw a world as it stands, ``[size, size, 3]`` uint8; always a new array."""
        import mujoco

        if self._gl is None:
            self._open(model)
        self._gl.make_current()
        mujoco.mjv_updateScene(
            model,
            data,
            self._option,
            None,
            self._view,
            mujoco.mjtCatBit.mjCAT_ALL,
            self._scene,
        )
        mujoco.mjr_render(self._rectangle, self._scene, self._context)
        image = np.empty((self._size, self._size, 3), np.uint8)
        mujoco.mjr_readPixels(image, None, self._rectangle, self._context)
        return image[::-1]  # OpenGL's first row is the lowest

    def close(self) -> None:
        """Free the graphics context; may be called twice."""
        if self._gl is not None:
            self._gl.make_current()
            self._context.free()
            self._gl.free()
        self._gl = self._context = self._scene = None

    def _open(self, model: mujoco.MjModel) -> None:
        import mujoco

        # Fine enough for images this small. Without a graphics card the usual map of 2048 takes
        # most of the time.
        quality = model.vis.quality
        quality.shadowsize = min(quality.shadowsize, SHADOW_TEXELS * self._size)
        screen = model.vis.global_
        screen.offwidth = screen.offheight = self._size  # by default 640 x 480, cleared every time
        self._gl = importlib.import_module(f"mujoco.{self._driver}").GLContext(
            self._size, self._size
        )
        self._gl.make_current()
        self._scene = mujoco.MjvScene(model, maxgeom=10 * model.ngeom + 100)
        self._context = mujoco.MjrContext(model, mujoco.mjtFontScale.mjFONTSCALE_150)
        mujoco.mjr_setBuffer(mujoco.mjtFramebuffer.mjFB_OFFSCREEN, self._context)
