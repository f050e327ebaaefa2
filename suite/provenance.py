"""Where numbers come from: the code's revision, the machine, the versions that matter."""

from __future__ import annotations

import os
import platform
import subprocess
from collections.abc import Iterable
from functools import cache
from importlib import metadata
from pathlib import Path

import torch

ROOT = Path(__file__).resolve().parent.parent


@cache
def code_state() -> tuple[str, bool]:
    """Git commit of the code and whether tracked files differ from it; ``("", False)`` outside git.

    Read once per process: what ran is the code as it was when the process started. Results and
    reports do not count as code.
    """
    commit = _git("rev-parse", "HEAD")
    if not commit:
        return "", False
    changes = _git("status", "--porcelain", "--untracked-files=no", "--", "suite", "baselines")
    return commit, bool(changes)


def _git(*arguments: str) -> str:
    command = ["git", "-C", str(ROOT), *arguments]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=10)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout.strip() if done.returncode == 0 else ""


def machine(device: str) -> dict[str, object]:
    """CPU model, cores, memory in GB, and the GPU if the run used one."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    gpu = torch.cuda.get_device_name(device) if device.startswith("cuda") else ""
    return {
        "cpu": _cpu_model(),
        "cores": os.cpu_count() or 1,
        "memory_gb": round(memory, 1),
        "gpu": gpu,
    }


@cache
def _cpu_model() -> str:
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()


@cache  # reading a distribution's metadata takes milliseconds, and benches have many cells
def installed_version(distribution: str) -> str | None:
    """Look up a distribution's version, None if it is not installed."""
    try:
        return metadata.version(distribution)
    except metadata.PackageNotFoundError:
        return None


def versions(packages: Iterable[str]) -> dict[str, str]:
    """Versions of Python, torch, numpy and the given distributions.

    Raises:
        LookupError: one is not installed.
    """
    found = {name: installed_version(name) for name in sorted({"torch", "numpy", *packages})}
    if lacking := [name for name, version in found.items() if version is None]:
        raise LookupError(f"not installed: {', '.join(lacking)}")
    return {"python": platform.python_version()} | {name: str(v) for name, v in found.items()}
