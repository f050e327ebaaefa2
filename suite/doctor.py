"""What is installed, what each family lacks, and the command that adds it."""

from __future__ import annotations

import platform
import sys
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

import torch

from suite.envs.rendering import LACK, find_driver
from suite.provenance import installed_version
from suite.registry import family_names, load_family
from suite.tasks import Family

LOCK = Path(__file__).parent.parent / "requirements.lock"
"""Lies beside the source; a copy installed from a wheel has none."""

PYTHONS = ((3, 11), (3, 12))

Version = Callable[[str], str | None]
"""Looks up the installed version of a distribution, None if it is not installed."""


@dataclass(frozen=True)
class Finding:
    """One line of the report."""

    topic: str
    """``python``, ``torch``, ``package``, ``family`` or ``rendering``."""
    name: str
    ok: bool
    detail: str
    remedy: str = ""
    """The command that mends it; empty if nothing is wrong."""


def doctor() -> list[Finding]:
    """Examine this installation.

    Returns:
        Findings in the order of the topics; the installation is complete if all are ``ok``.
    """
    families = [load_family(name) for name in family_names()]
    return [
        check_python(sys.version_info[:2]),
        *_torch(),
        *check_packages(LOCK.read_text().splitlines() if LOCK.exists() else [], installed_version),
        *(check_family(family, installed_version) for family in families),
        check_rendering(find_driver()),
    ]


def check_python(version: tuple[int, int]) -> Finding:
    """Tell whether a Python version, (major, minor), is one that the lock file was made for."""
    ok = version in PYTHONS
    remedy = "" if ok else "make setup PYTHON=/path/to/python3.11"
    return Finding("python", "python", ok, platform.python_version(), remedy)


def check_packages(lock: Iterable[str], version: Version) -> list[Finding]:
    """Compare what the lock file asks for with what is installed.

    Args:
        lock: lines ``name==version``; comments and empty lines are skipped.
        version: looks up an installed version.

    Returns:
        One finding per line of the lock.
    """
    pins = [line.strip().split("==") for line in lock if line.strip() and line[0] != "#"]
    return [_package(name, wanted, version(name)) for name, wanted in pins]


def check_family(family: Family, version: Version) -> Finding:
    """Tell which of a family's engines can run here, by its first task; one is enough."""
    missing, install = {}, family.install
    first = next(iter(family.tasks.values()))
    for engine in family.engines:
        missing[engine.name] = [name for name in engine.packages if version(name) is None]
        if not missing[engine.name] and (lack := engine.lacks(first)):
            missing[engine.name], install = [lack.what], lack.install
    usable = [name for name, lacking in missing.items() if not lacking]
    lacks = [f"{name} lacks {', '.join(lacking)}" for name, lacking in missing.items() if lacking]
    detail = "; ".join([*([f"runs on {', '.join(usable)}"] if usable else []), *lacks])
    return Finding("family", family.name, bool(usable), detail, "" if usable else install)


def check_rendering(driver: str | None) -> Finding:
    """Tell how images are rendered without a screen, which only ``-pixels`` tasks need."""
    if driver is not None:
        return Finding("rendering", "headless", True, driver)
    detail = "neither EGL nor OSMesa; -pixels tasks cannot run"
    return Finding("rendering", "headless", False, detail, LACK.install)


def _torch() -> list[Finding]:
    cuda = torch.cuda.is_available()
    device = f"cuda ({torch.cuda.get_device_name()})" if cuda else "cpu"
    return [
        Finding("torch", "build", True, str(torch.__version__)),
        Finding("torch", "device", True, f"{device}, {torch.get_num_threads()} threads"),
    ]


def _package(name: str, wanted: str, found: str | None) -> Finding:
    if found == wanted:
        return Finding("package", name, True, found)
    detail = "not installed" if found is None else f"{found} instead of {wanted}"
    return Finding("package", name, False, detail, f"pip install --no-deps {name}=={wanted}")
