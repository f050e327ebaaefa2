"""Checkpoints are whole or absent, and data only."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import pytest
import torch

from suite.checkpoint import load_checkpoint, save_checkpoint

CPU = torch.device("cpu")


class Malice:
    """Would make a file when unpickled."""

    def __init__(self, target: Path) -> None:
        self.target = target

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.target,)


def test_tensors_and_plain_data_survive(tmp_path: Path):
    state = {
        "agent": {"rows": torch.arange(3.0), "flags": torch.tensor([True]), "empty": None},
        "streams": {"replay/integer": (3, 17, 65_536)},
        "seeds": [{"status": "ok", "score": 1.5, "episodes": [(1, 2, "eval", 0, 3.25, 4)]}],
    }
    save_checkpoint(tmp_path / "checkpoint.pt", state)
    loaded = load_checkpoint(tmp_path / "checkpoint.pt", CPU)
    assert torch.equal(loaded["agent"].pop("rows"), state["agent"].pop("rows"))
    assert torch.equal(loaded["agent"].pop("flags"), state["agent"].pop("flags"))
    assert loaded == state


def test_there_may_be_none(tmp_path: Path):
    assert load_checkpoint(tmp_path / "checkpoint.pt", CPU) is None


def test_folders_are_made(tmp_path: Path):
    save_checkpoint(tmp_path / "runs" / "ppo" / "checkpoint.pt", {"step": 1})
    assert load_checkpoint(tmp_path / "runs" / "ppo" / "checkpoint.pt", CPU) == {"step": 1}


def test_a_later_checkpoint_replaces_the_earlier_and_leaves_nothing_else(tmp_path: Path):
    for step in (1, 2):
        save_checkpoint(tmp_path / "checkpoint.pt", {"step": step})
    assert load_checkpoint(tmp_path / "checkpoint.pt", CPU) == {"step": 2}
    assert [path.name for path in tmp_path.iterdir()] == ["checkpoint.pt"]


def test_a_save_that_breaks_off_leaves_the_earlier_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    def break_off(state: Any, file: Any) -> None:
        file.write(b"half")
        raise OSError("No space left on device")

    path = tmp_path / "checkpoint.pt"
    save_checkpoint(path, {"step": 1})
    monkeypatch.setattr(torch, "save", break_off)
    with pytest.raises(OSError, match="No space left"):
        save_checkpoint(path, {"step": 2})
    assert load_checkpoint(path, CPU) == {"step": 1}


def test_what_a_broken_save_left_does_not_disturb_the_next(tmp_path: Path):
    path = tmp_path / "checkpoint.pt"
    path.with_suffix(".new").write_bytes(b"much more than a small checkpoint" * 1_000)
    save_checkpoint(path, {"step": 1})
    assert load_checkpoint(path, CPU) == {"step": 1}


def test_code_in_a_checkpoint_is_refused_and_not_run(tmp_path: Path):
    path, target = tmp_path / "checkpoint.pt", tmp_path / "owned"
    torch.save({"step": 1, "agent": Malice(target)}, path)
    with pytest.raises(pickle.UnpicklingError, match="weights_only"):
        load_checkpoint(path, CPU)
    assert not target.exists()


def test_a_bare_pickle_with_code_is_refused_and_not_run(tmp_path: Path):
    path, target = tmp_path / "checkpoint.pt", tmp_path / "owned"
    path.write_bytes(pickle.dumps(Malice(target), protocol=2))
    with pytest.raises(pickle.UnpicklingError):
        load_checkpoint(path, CPU)
    assert not target.exists()
