"""Memory of off-policy algorithms: the last transitions of every seed, sampled uniformly.

Large observations are kept once, frame by frame. What follows an observation stands one time row
later in the ring, and the older frames of a stack stand in the rows before. Both fail only where an
episode ended or began; what is missing there is kept aside, in two small stores.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

from baselines.parts.rollout import take
from suite.spaces import Space
from suite.steps import Observation, Transition
from suite.streams import Streams

Leaves = dict[str, Tensor]
Groups = dict[str, Leaves]

WHOLE_BYTES = 1024
"""An observation leaf up to this size is kept twice, with the transition and as its successor:
looking for what lies elsewhere would cost more time than a second copy."""


class Replay:
    """A ring of the last ``capacity`` transitions per seed.

    A slot of the ring is a time row and a lane, ``row * E + lane``; leaves are ``[S, slots, ...]``.

    Args:
        capacity: transitions kept per seed; rounded up to whole steps of all lanes.
        spaces: the observation's leaves; their size tells how they are kept.
        streams: each seed samples by its own numbers, from the ``"replay"`` role.

    Attributes:
        added: transitions ever stored, per seed.
    """

    def __init__(self, capacity: int, spaces: Mapping[str, Space], streams: Streams) -> None:
        self.capacity = capacity
        self.streams = streams
        self.added = 0
        self._stacks = {
            name: getattr(space, "stack", 1)
            for name, space in spaces.items()
            if _nbytes(space) > WHOLE_BYTES
        }
        self._lanes = self._slots = 0
        self._whole = _Table({}, 0)
        self._frames: _Frames | None = None

    @property
    def size(self) -> int:
        """Transitions held per seed."""
        return min(self.added, self._slots - max(self._stacks.values(), default=0) * self._lanes)

    @property
    def nbytes(self) -> int:
        """Bytes held by tensors, for all seeds."""
        frames = self._frames.nbytes if self._frames else 0
        return frames + self._whole.nbytes

    def add(self, items: Leaves, obs: Observation, next_obs: Observation, ended: Tensor) -> None:
        """Store one step of all lanes, E transitions per seed, over the oldest.

        Args:
            items: whatever else belongs to the transitions, leaves ``[S, E, ...]``.
            obs: leaves ``[S, E, ...]``; where the lane's latest transition did not end an episode,
                they must be the next observation of that one.
            next_obs: leaves ``[S, E, ...]``, true outcomes.
            ended: ``[S, E]`` bool, terminated or truncated.

        Raises:
            ValueError: E is not what it was before.
        """
        lanes = ended.shape[1]
        whole = {"items": items, "obs": obs, "next_obs": next_obs}
        if self._stacks:
            whole["obs"], whole["next_obs"] = self._small(obs), self._small(next_obs)
        if not self._lanes:
            frames = {name: _newest(obs[name], stack) for name, stack in self._stacks.items()}
            self._make_room(lanes, whole, frames)
        if lanes != self._lanes:
            raise ValueError(f"got {lanes} lanes; this replay is of {self._lanes}")
        start = self.added % self._slots
        self._whole.write(start, whole)
        if self._frames:
            self._frames.add(start, obs, next_obs, ended)
        self.added += lanes

    def observe(self, transition: Transition, **items: Tensor) -> None:
        """Store a step with its reward, with ``terminated``, and with what else is named.

        Args:
            transition: leaves ``[S, E, ...]``.
            items: leaves ``[S, E, ...]``, usually the action as the algorithm sees it.
        """
        items |= {"reward": transition.reward, "terminated": transition.terminated}
        self.add(items, transition.obs, transition.next_obs, transition.ended)

    def updates_due(self, learning_starts: int, update_period: int) -> int:
        """Updates that the latest step calls for, whatever the number of lanes.

        Args:
            learning_starts: transitions per seed before the first update.
            update_period: transitions per update.
        """
        if self.added < learning_starts:
            return 0
        before = self.added - self._lanes
        return self.added // update_period - before // update_period

    def sample(self, batch_size: int) -> tuple[Leaves, Observation, Observation]:
        """Items, observations and next observations ``[S, B, ...]``, drawn with replacement.

        Treat them as read-only: they are views that may share memory.
        """
        index = self.streams.integers("replay", self.size, batch_size)
        if self._frames and self.added > self.size:
            # rows that hold no transition follow the latest; the oldest transition follows them
            index = (index + (self.added - self.size)) % self._slots
        batch = self._whole.take(index)
        obs, following = batch["obs"], batch["next_obs"]
        if self._frames:
            large, large_following = self._frames.take(index)
            obs |= large
            following |= large_following
        return batch["items"], obs, following

    def state_dict(self) -> dict[str, Any]:
        if not self._lanes:
            return {"added": 0}
        used = min(self.added, self._slots)
        state: dict[str, Any] = {"added": self.added, "lanes": self._lanes}
        state["whole"] = self._whole.first(used)
        state["frames"] = self._frames.state_dict(self.added) if self._frames else None
        return state

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.added = state["added"]
        self._lanes = self._slots = 0
        if self.added:
            frames = state["frames"]
            self._make_room(state["lanes"], state["whole"], frames["rings"] if frames else {})
            self._whole.write(0, state["whole"])
            if self._frames:
                self._frames.load_state_dict(frames)

    def _make_room(self, lanes: int, whole: Groups, frames: Leaves) -> None:
        """Allocate for leaves ``[S, any, ...]``; uninitialised, as nothing unwritten is used."""
        self._lanes = lanes
        rows = math.ceil(self.capacity / lanes) + max(self._stacks.values(), default=0)
        self._slots = rows * lanes
        self._whole = _Table(whole, self._slots)
        if self._stacks:
            self._frames = _Frames(frames, self._slots, self._stacks, lanes)

    def _small(self, leaves: Leaves) -> Leaves:
        return {name: leaf for name, leaf in leaves.items() if name not in self._stacks}


class _Table:
    """Leaves ``[S, slots, ...]`` in groups; all of a type lie side by side, to be fetched as one.

    Args:
        like: leaves ``[S, any, ...]`` of the shapes and types to make room for.
        slots: uninitialised at first.
    """

    def __init__(self, like: Groups, slots: int) -> None:
        self.groups = tuple(like)
        self.layout: dict[torch.dtype, list[tuple[str, str, torch.Size]]] = {}
        self.widths: dict[torch.dtype, list[int]] = {}
        self.records: dict[torch.dtype, Tensor] = {}  # [S, slots, numbers of all leaves]
        for group, leaves in like.items():
            for name, leaf in leaves.items():
                shape = leaf.shape[2:]
                self.layout.setdefault(leaf.dtype, []).append((group, name, shape))
                self.widths.setdefault(leaf.dtype, []).append(shape.numel())
                self.records[leaf.dtype] = leaf.new_empty(leaf.shape[0], slots, 0)
        for dtype, widths in self.widths.items():
            record = self.records[dtype]
            self.records[dtype] = record.new_empty(*record.shape[:2], sum(widths))
        self.leaves = self._split(self.records)

    @property
    def nbytes(self) -> int:
        return sum(record.nbytes for record in self.records.values())

    def write(self, start: int, groups: Groups) -> None:
        for group, leaves in groups.items():
            for name, leaf in leaves.items():
                self.leaves[group][name][:, start : start + leaf.shape[1]] = leaf

    def take(self, index: Tensor) -> Groups:
        """Leaves ``[S, B, ...]`` of slots ``index [S, B]``."""
        return self._split(take(self.records, index))

    def first(self, used: int) -> Groups:
        """A copy of the first slots."""
        return {
            group: {name: leaf[:, :used].clone() for name, leaf in leaves.items()}
            for group, leaves in self.leaves.items()
        }

    def _split(self, records: dict[torch.dtype, Tensor]) -> Groups:
        groups: Groups = {group: {} for group in self.groups}
        for dtype, record in records.items():
            widths, batch = self.widths[dtype], record.shape[:2]
            parts = record.split(widths, dim=-1) if len(widths) > 1 else (record,)
            for (group, name, shape), part in zip(self.layout[dtype], parts, strict=True):
                groups[group][name] = part.view(batch + shape)
        return groups


class _Frames:
    """Observations of which each frame is kept once.

    One row ahead of the transitions' rows holds the latest next observation; as many as the longest
    stack has older frames lie behind them. A leaf that is no stack is a stack of one.

    Args:
        like: leaves ``[S, any, ...]`` of one frame each.
        slots: uninitialised at first.
        stacks: frames per leaf.
        lanes: E.
    """

    def __init__(self, like: Leaves, slots: int, stacks: dict[str, int], lanes: int) -> None:
        self.slots, self.stacks, self.lanes = slots, stacks, lanes
        self.rings = {n: x.new_empty(x.shape[0], slots, *x.shape[2:]) for n, x in like.items()}
        first = next(iter(like.values()))
        seeds, device = first.shape[0], first.device
        self.longest = max(stacks.values())
        self.empty = True
        self.offsets = torch.arange(1 - self.longest, 2, device=device).view(-1, 1, 1) * lanes
        self.base = torch.arange(seeds, device=device).unsqueeze(1) * self.slots
        self.finals = _SideStore(seeds, self.slots, lanes, device)
        self.begins = _SideStore(seeds, self.slots if self.longest > 1 else 0, lanes, device)

    @property
    def nbytes(self) -> int:
        leaves = (self.rings, self.finals.leaves, self.begins.leaves)
        entries = self.finals.entries.nbytes + self.begins.entries.nbytes
        return entries + sum(leaf.nbytes for part in leaves for leaf in part.values())

    def add(self, start: int, obs: Observation, next_obs: Observation, ended: Tensor) -> None:
        ahead = (start + self.lanes) % self.slots
        finals = {name: _newest(next_obs[name], stack) for name, stack in self.stacks.items()}
        for name, stack in self.stacks.items():
            ring = self.rings[name]
            ring[:, start : start + self.lanes] = _newest(obs[name], stack)
            ring[:, ahead : ahead + self.lanes] = finals[name]
        if self.longest > 1:
            before = (start - self.lanes) % self.slots
            begun = self.finals.entries[:, before : before + self.lanes] >= 0
            older = {n: _older(obs[n], stack) for n, stack in self.stacks.items() if stack > 1}
            self.begins.put(start, begun | self.empty, older)
        self.finals.put(start, ended, finals)
        self.empty = False

    def take(self, index: Tensor) -> tuple[Observation, Observation]:
        """Observations ``[S, B, ...]`` of slots ``index [S, B]``, and the next ones."""
        window = (index + self.offsets) % self.slots  # [K + 1, S, B], K the longest stack
        places = (window + self.base).flatten(1)  # rows of [S * slots, ...]
        final = self.finals.find(places[-2])
        begins = [self.begins.find(places[-2 - age]) for age in range(self.longest - 1)]
        obs, next_obs = {}, {}
        for name, stack in self.stacks.items():
            ring, where = self.rings[name], places[-1 - stack :]
            frames = ring.flatten(0, 1).index_select(0, where.flatten())
            frames = frames.view(*where.shape, *ring.shape[2:])  # [stack + 1, S * B, ...]
            if final is not None:
                hit, entry = final
                frames[-1].index_copy_(0, hit, self.finals.leaves[name].index_select(0, entry))
            # from the oldest beginning to the latest, which has the last word
            for age in reversed(range(stack - 1)):
                if (begin := begins[age]) is not None:
                    hit, entry = begin
                    older = self.begins.leaves[name].index_select(0, entry)[:, age:]
                    frames[: stack - 1 - age].index_copy_(1, hit, older.transpose(0, 1))
            frames = frames.unflatten(1, index.shape)
            obs[name], next_obs[name] = _joined(frames[:-1]), _joined(frames[1:])
        return obs, next_obs

    def state_dict(self, added: int) -> dict[str, Any]:
        used = min(added + self.lanes, self.slots)
        return {
            "rings": {name: ring[:, :used].clone() for name, ring in self.rings.items()},
            "finals": self.finals.state_dict(used),
            "begins": self.begins.state_dict(used),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        for name, ring in state["rings"].items():
            self.rings[name][:, : ring.shape[1]] = ring
        self.finals.load_state_dict(state["finals"])
        self.begins.load_state_dict(state["begins"])
        self.empty = False


class _SideStore:
    """What few slots have beside the ring: a queue of entries that grows when it is full.

    Rows of slots are filled and overwritten in the same order, so that the entries of a row that is
    overwritten are always the oldest. Entries are numbered for good; entry ``n`` of a queue with
    room for ``m`` is kept at ``n % m``.

    Attributes:
        entries: ``[S, slots]`` int64, the number of a slot's entry; -1 if it has none.
        leaves: ``[m, ...]``.
    """

    def __init__(self, seeds: int, slots: int, lanes: int, device: torch.device) -> None:
        self.entries = torch.full((seeds, slots), -1, device=device)
        self.leaves: Leaves = {}
        self._lanes = lanes
        self._counts = [0] * (slots // lanes)  # entries of each row
        self._first = self._end = 0
        self._room = 0

    def put(self, start: int, chosen: Tensor, leaves: Leaves) -> None:
        """Let the row at ``start`` have entries where ``chosen [S, E]``; forget those it had."""
        row = self.entries[:, start : start + self._lanes]
        if old := self._counts[start // self._lanes]:
            row.fill_(-1)
            self._first += old
        hit = chosen.flatten().nonzero().squeeze(1)
        self._counts[start // self._lanes] = len(hit)
        if len(hit):
            row[chosen] = torch.arange(self._end, self._end + len(hit), device=hit.device)
            picked = {name: leaf.flatten(0, 1)[hit] for name, leaf in leaves.items()}
            self._append(picked, len(hit))

    def find(self, places: Tensor) -> tuple[Tensor, Tensor] | None:
        """Which of some slots, as ``seed * slots + slot``, have entries, and where these are."""
        numbers = self.entries.flatten().index_select(0, places)
        hit = (numbers >= 0).nonzero().squeeze(1)
        return (hit, numbers.index_select(0, hit) % self._room) if len(hit) else None

    def state_dict(self, used: int) -> dict[str, Any]:
        """The entries in use, and the first ``used`` slots."""
        numbers = torch.arange(self._first, self._end, device=self.entries.device)
        return {
            "entries": self.entries[:, :used].clone(),
            "first": self._first,
            "leaves": {n: leaf[numbers % self._room] for n, leaf in self.leaves.items()},
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        entries = state["entries"]
        self.entries[:, : entries.shape[1]] = entries
        rows = (self.entries >= 0).view(len(entries), len(self._counts), self._lanes)
        self._counts = rows.sum(dim=(0, 2)).tolist()
        self._first = self._end = state["first"]
        if any(self._counts):
            self._append(state["leaves"], sum(self._counts))

    def _append(self, leaves: Leaves, count: int) -> None:
        """Write the next entries, leaves ``[count, ...]``."""
        kept = torch.arange(self._first, self._end, device=self.entries.device)
        self._end += count
        room = max(self._room, 1)
        while room < self._end - self._first:
            room *= 2
        if room > self._room:
            for name, leaf in leaves.items():
                new = leaf.new_empty(room, *leaf.shape[1:])
                if len(kept):
                    new.index_copy_(0, kept % room, self.leaves[name][kept % self._room])
                self.leaves[name] = new
            self._room = room
        numbers = torch.arange(self._end - count, self._end, device=self.entries.device)
        for name, leaf in leaves.items():
            self.leaves[name].index_copy_(0, numbers % room, leaf)


def _nbytes(space: Space) -> int:
    dtype = getattr(space, "dtype", np.dtype(np.int64))
    return math.prod(space.shape) * dtype.itemsize


def _newest(leaf: Tensor, stack: int) -> Tensor:
    """The last frame of stacks ``[S, E, ..., stack * channels]``."""
    return leaf if stack == 1 else leaf[..., -(leaf.shape[-1] // stack) :]


def _older(leaf: Tensor, stack: int) -> Tensor:
    """All frames but the last, ``[S, E, stack - 1, ..., channels]``."""
    return leaf.unflatten(-1, (stack, -1)).movedim(-2, 2)[:, :, :-1]


def _joined(frames: Tensor) -> Tensor:
    """Frames ``[stack, S, B, ..., channels]`` as one leaf; a view if there is one channel."""
    return frames[0] if len(frames) == 1 else frames.movedim(0, -2).flatten(-2)
