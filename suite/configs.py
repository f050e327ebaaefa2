"""Configs: from an algorithm's defaults through presets to a user's overrides."""

from __future__ import annotations

import dataclasses
import json
import math
import types
import typing
from collections.abc import Mapping
from fnmatch import fnmatchcase
from types import MappingProxyType
from typing import Any

from suite.names import UnknownName, family_of

SHARE, AMOUNT = (0.0, 1.0), (0.0, math.inf)
BOUNDS: Mapping[str, tuple[float, float]] = MappingProxyType(
    {
        "discount": SHARE,
        "trace": SHARE,
        "epsilon_*": SHARE,
        "*_epsilon": SHARE,
        "target_rate": SHARE,
        "*_share": SHARE,
        "*_fraction": SHARE,
        "*learning_rate*": AMOUNT,
        "*_coefficient": AMOUNT,
        "*_noise": AMOUNT,
        "clip": AMOUNT,
        "damping": AMOUNT,
        "max_gradient_norm": AMOUNT,
        "target_kl": AMOUNT,
        "*temperature": (1e-6, math.inf),
        "bins": (2, math.inf),
        "minibatch_size": (2, math.inf),
    }
)
"""Lowest and highest value that a user may give fields of these names; what lies outside means
nothing, or the opposite. Standard terms, so that they hold for every algorithm that has them."""


def resolve_config(
    algorithm: Any,
    task: str,
    protocol: str,
    preset: str | None = None,
    overrides: Mapping[str, str] | None = None,
) -> Any:
    """Build the config of a run; later sources win.

    Order: the defaults, the preset of the task's family, those of patterns that the task matches
    (``dmcontrol/*-pixels``), by itself or after the protocol's name (``standard:procgen/*``), of
    the task, of the protocol, then single overrides. A preset that a user names takes the place of
    those of family, patterns and task: it is the same everywhere.

    Args:
        algorithm: the registry entry (its ``config`` and ``presets``).
        task: ``family/name``.
        protocol: e.g. ``smoke``, which makes networks tiny.
        preset: a name such as ``guide``.
        overrides: field name to value as text, as in ``--set learning_rate=1e-4``. Integers are
            counts, of at least 1 or of the field's default where that is smaller.

    Raises:
        ValueError: unknown preset or field (nearest names given), or a value of the wrong type or
            out of :data:`BOUNDS`.
    """
    presets = algorithm.presets
    if preset is not None and preset not in presets:
        raise UnknownName("preset", preset, presets)
    family = family_of(task)
    values: dict[str, Any] = {}
    names = (task, f"{protocol}:{task}")
    patterns = [key for key in presets if "*" in key and any(fnmatchcase(n, key) for n in names)]
    for name in (protocol, preset) if preset else (family, *patterns, task, protocol):
        values |= presets.get(name, {})
    types_by_field = typing.get_type_hints(algorithm.config)
    for name, text in (overrides or {}).items():
        if name not in types_by_field:
            raise UnknownName("config field", name, sorted(types_by_field))
        default = getattr(algorithm.config, name, None)
        least = min(1, default) if type(default) is int else 1
        values[name] = _parse(name, text, types_by_field[name], least)
        _check_bounds(name, values[name])
    return algorithm.config(**values)


def plain_config(config: Any) -> dict[str, object]:
    """A config's fields as JSON would hold them (tuples become lists)."""
    fields: dict[str, object] = json.loads(json.dumps(dataclasses.asdict(config)))
    return fields


def config_from_plain(algorithm: Any, fields: Mapping[str, object]) -> Any:
    """The inverse of :func:`plain_config`."""
    values = {name: tuple(v) if isinstance(v, list) else v for name, v in fields.items()}
    return algorithm.config(**values)


def _parse(name: str, text: str, kind: Any, least: int) -> Any:
    """Read a value of a field's type from text; integers are counts, of at least ``least``."""
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    wrong = ValueError(f"{name}={text!r}: expected {_describe(kind, least)}")
    if origin in (typing.Union, types.UnionType):
        if text.lower() == "none" and type(None) in arguments:
            return None
        return _parse(name, text, next(a for a in arguments if a is not type(None)), least)
    if origin is typing.Literal:
        if text not in arguments:
            raise wrong
        return text
    if origin is tuple:
        return tuple(_parse(name, part, arguments[0], least) for part in text.split(",") if part)
    if kind is bool:
        if text.lower() not in ("true", "false"):
            raise wrong
        return text.lower() == "true"
    if kind is str:
        return text
    try:
        value = kind(text)
    except ValueError:
        raise wrong from None
    if not math.isfinite(value) or (kind is int and value < least):
        raise wrong
    return value


def _check_bounds(name: str, value: Any) -> None:
    """Refuse a number outside the bounds of its field."""
    for pattern, (low, high) in BOUNDS.items():
        is_bounded = isinstance(value, int | float) and fnmatchcase(name, pattern)
        if is_bounded and not low <= value <= high:
            ends = f"at least {low:g}" if math.isinf(high) else f"in {low:g}..{high:g}"
            raise ValueError(f"{name}={value}: expected a number {ends}")


def _describe(kind: Any, least: int) -> str:
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if origin is typing.Literal:
        return "one of " + ", ".join(arguments)
    if origin is tuple:
        return f"{_describe(arguments[0], least)} values, comma-separated"
    if kind is bool:
        return "true or false"
    return {int: f"an integer of at least {least}", float: "a finite number"}.get(kind, str(kind))
