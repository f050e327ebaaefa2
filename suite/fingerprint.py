"""Fingerprints: a short run of an algorithm, step by step, as hashes.

Two revisions whose fingerprints are equal behave alike wherever the run came by, which takes
seconds to find out and no statistics. The run lives a whole life in :data:`STEPS` steps: schedules
reach their end, a small replay memory wraps, it is evaluated, and taken up again from a checkpoint.
The config of a full run, which that life has to shorten, is hashed beside it.
Which lines of code it passes is noted too, so that a changed line that never ran is not taken for a
harmless one.
"""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from types import FrameType, MappingProxyType, TracebackType
from typing import Any, Self

import torch
from torch import Tensor

from suite.cells import Cell, Request, find_cells
from suite.protocols import SEED_RANGES, canonical_json
from suite.provenance import ROOT
from suite.revisions import PACKAGES
from suite.runner import Outcome, Runner, Work
from suite.steps import Carry, Observation, Transition

STEPS = 2048
"""Budget of the run, or two rollouts where that is more."""

SMALL: Mapping[str, int] = MappingProxyType({"learning_starts": 512, "replay_capacity": 1024})
"""Config fields that are too large for so short a life."""

CONFIG = "config"
"""Stream of a full run's config."""

Streams = dict[str, list[str]]


@dataclass(frozen=True)
class Fingerprint:
    """What a short run did."""

    streams: Streams
    """Hashes by what was hashed, in the order in which one follows from another; of the first ones
    an entry per update."""
    lines: dict[str, list[int]]
    """Lines of functions that were run, by file; a file that was merely imported has none."""


def take_fingerprint(algorithm: str, task: str) -> Fingerprint:
    """Run an algorithm on a task of the bank, briefly, and note what it does.

    Raises:
        ValueError: the pair is unknown, or its config does not fit the short run.
        MissingPackage: its family needs a package.
    """
    torch.set_num_threads(1)
    (cell,) = find_cells(Request(algorithm, task, protocol="bank"))
    lines = _Lines()
    with TemporaryDirectory() as folder, lines:
        work = _work(cell, Path(folder))
        runner = Runner(work, lambda progress: None)
        recorder = _Recorder(runner.agent)
        runner.agent = recorder
        runner.train()
        streams = {CONFIG: [_hash(iter([canonical_json(cell.config)]))]}
        streams |= recorder.end() | _final_streams(runner.outcome(), recorder)
        again = Runner(work, lambda progress: None)
        again.resume()
        streams["resumed state"] = [_hash(_leaves(again.agent.state_dict()))]
    return Fingerprint(streams, lines.found())


def _work(cell: Cell, folder: Path) -> Work:
    config = {name: SMALL.get(name, value) for name, value in cell.config.items()}
    lanes, rollout = (int(str(config.get(name, 1))) for name in ("lanes", "rollout_steps"))
    short = replace(cell.protocol, segments=2, evaluations=2, episodes=1)
    cell = replace(cell, protocol=short, steps=max(STEPS, 2 * lanes * rollout), config=config)
    work = cell.work((SEED_RANGES["candidate"][-1],), folder)
    return replace(work, device="cpu", threads=1)


class _Recorder:
    """An agent that notes, from update to update, what it is given and what it does."""

    def __init__(self, agent: Any) -> None:
        self.agent = agent
        self.streams: Streams = {}
        self._hashes = {
            name: hashlib.blake2b(digest_size=4)
            for name in ("observations", "actions", "rewards and ends", "losses")
        }

    def __getattr__(self, name: str) -> Any:
        return getattr(self.agent, name)

    def act(
        self, carry: Carry, obs: Observation, first: Tensor, explore: bool
    ) -> tuple[Carry, Tensor, dict[str, Tensor]]:
        carry, action, extras = self.agent.act(carry, obs, first, explore)
        if explore:
            self._note("actions", [action])
        return carry, action, extras

    def observe(self, transition: Transition) -> dict[str, Tensor] | None:
        ends = [transition.reward, transition.terminated, transition.truncated]
        self._note("observations", transition.next_obs.values())
        self._note("rewards and ends", ends)
        metrics: dict[str, Tensor] | None = self.agent.observe(transition)
        if metrics is not None:
            self._note("losses", metrics.values())
            self.end()
        return metrics

    def end(self) -> Streams:
        """Close an entry of every stream."""
        for name, hashed in self._hashes.items():
            self.streams.setdefault(name, []).append(hashed.hexdigest())
        return self.streams

    def _note(self, name: str, values: Any) -> None:
        for value in values:
            self._hashes[name].update(_bytes(value))


def _final_streams(outcome: Outcome, agent: Any) -> Streams:
    episodes = [f"{row.step},{row.return_!r},{row.length}" for row in outcome.episodes]
    return {
        "evaluation": [hashlib.blake2b("\n".join(episodes).encode(), digest_size=4).hexdigest()],
        "parameters": [run.digest[:8] for run in outcome.runs],
        "state": [_hash(_leaves(agent.state_dict()))],
    }


def _hash(leaves: Iterator[Any]) -> str:
    hashed = hashlib.blake2b(digest_size=4)
    for leaf in leaves:
        hashed.update(_bytes(leaf))
    return hashed.hexdigest()


def _bytes(value: Any) -> bytes:
    if isinstance(value, Tensor):
        return value.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().tobytes()
    return repr(value).encode()


def _leaves(state: Any) -> Iterator[Any]:
    """Names and values of a nested state, in order."""
    if isinstance(state, Mapping):
        for name, value in state.items():
            yield name
            yield from _leaves(value)
    elif isinstance(state, list | tuple):
        for value in state:
            yield from _leaves(value)
    else:
        yield state


@dataclass
class _Lines:
    """Notes the lines that are run within it, of functions of our packages."""

    files: dict[str, set[int]] = field(default_factory=dict)

    def __enter__(self) -> Self:
        self._roots = tuple(str(ROOT / package) for package in PACKAGES)
        self._before = sys.gettrace()
        sys.settrace(self._enter)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        sys.settrace(self._before)

    def _enter(self, frame: FrameType, event: str, argument: object) -> Any:
        file = frame.f_code.co_filename
        if not file.startswith(self._roots):
            return None
        seen = self.files.setdefault(file, set())

        def note(frame: FrameType, event: str, argument: object) -> Any:
            seen.add(frame.f_lineno)
            return note

        return note

    def found(self) -> dict[str, list[int]]:
        """Lines by file, relative to the checkout, with every file of ours that is imported."""
        loaded = (getattr(module, "__file__", None) for module in list(sys.modules.values()))
        own = {file for file in loaded if file and file.startswith(self._roots)}
        return {
            Path(file).relative_to(ROOT).as_posix(): sorted(self.files.get(file, ()))
            for file in sorted(own | set(self.files))
        }
