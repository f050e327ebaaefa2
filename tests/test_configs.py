"""Where a config's numbers come from, and how text becomes a value."""

from __future__ import annotations

import json
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any, Literal

import pytest

from suite.configs import _check_bounds, config_from_plain, plain_config, resolve_config
from suite.registry import load_algorithm


@dataclass(frozen=True)
class Config:
    lanes: int = 4
    learning_rate: float = 1e-3
    learning_starts: int = 100
    shift: int = 0
    hidden: tuple[int, ...] = (64, 64)
    factor: float | None = None
    loss: Literal["huber", "squared"] = "huber"
    double: bool = False
    note: str = ""


def algorithm(**presets: dict[str, Any]) -> Any:
    return SimpleNamespace(config=Config, presets=presets)


def parse(field: str, text: str) -> Any:
    config = resolve_config(algorithm(), "mujoco/Ant-v5", "quick", overrides={field: text})
    return getattr(config, field)


class TestPrecedence:
    SOURCES: tuple[tuple[str, dict[str, Any]], ...] = (
        ("mujoco", {"lanes": 1}),
        ("mujoco/A*", {"lanes": 7}),
        ("smoke:mujoco/*", {"lanes": 8}),
        ("mujoco/Ant-v5", {"lanes": 2}),
        ("smoke", {"lanes": 3}),
    )

    @pytest.mark.parametrize(("sources", "lanes"), [(0, 4), (1, 1), (2, 7), (3, 8), (4, 2), (5, 3)])
    def test_later_sources_win(self, sources: int, lanes: int):
        presets = dict(self.SOURCES[:sources])
        config = resolve_config(algorithm(**presets), "mujoco/Ant-v5", "smoke")
        assert config.lanes == lanes

    def test_a_preset_that_is_asked_for_is_the_same_on_every_task(self):
        presets = dict(self.SOURCES) | {"guide": {"learning_rate": 1.0}}
        config = resolve_config(algorithm(**presets), "mujoco/Ant-v5", "quick", "guide")
        assert config == Config(learning_rate=1.0)
        config = resolve_config(algorithm(**presets), "mujoco/Ant-v5", "smoke", "guide")
        assert config == Config(learning_rate=1.0, lanes=3)

    def test_a_single_override_wins_over_every_preset(self):
        entry = algorithm(**dict(self.SOURCES), guide={"lanes": 5})
        config = resolve_config(entry, "mujoco/Ant-v5", "smoke", "guide", {"lanes": "9"})
        assert config.lanes == 9

    def test_sources_that_set_different_fields_add_up(self):
        entry = algorithm(mujoco={"lanes": 1}, smoke={"hidden": (16,)}, guide={"double": True})
        config = resolve_config(entry, "mujoco/Ant-v5", "smoke", "guide", {"loss": "squared"})
        assert config == Config(hidden=(16,), double=True, loss="squared")
        config = resolve_config(entry, "mujoco/Ant-v5", "smoke", None, {"loss": "squared"})
        assert config == Config(lanes=1, hidden=(16,), loss="squared")

    def test_presets_of_other_tasks_and_protocols_do_not_count(self):
        others = {
            "atari": {"lanes": 1},
            "*/Humanoid-*": {"lanes": 5},
            "standard:mujoco/*": {"lanes": 6},
            "quick:atari/*": {"lanes": 7},
        }
        entry = algorithm(**others, smoke={"lanes": 2}, guide={"lanes": 3})
        assert resolve_config(entry, "mujoco/Ant-v5", "quick") == Config()

    def test_the_presets_themselves_stay_as_they_are(self):
        entry = algorithm(mujoco={"lanes": 1})
        resolve_config(entry, "mujoco/Ant-v5", "quick", overrides={"lanes": "2"})
        assert entry.presets == {"mujoco": {"lanes": 1}}


class TestParsing:
    @pytest.mark.parametrize(
        ("field", "text", "value"),
        [
            ("lanes", "8", 8),
            ("shift", "0", 0),
            ("learning_rate", "3e-4", 3e-4),
            ("learning_rate", "1", 1.0),
            ("hidden", "32", (32,)),
            ("hidden", "256,128", (256, 128)),
            ("hidden", "", ()),
            ("factor", "0.5", 0.5),
            ("factor", "none", None),
            ("factor", "None", None),
            ("loss", "squared", "squared"),
            ("double", "true", True),
            ("double", "False", False),
            ("note", "1e-4", "1e-4"),
        ],
    )
    def test_text_becomes_a_value_of_the_fields_type(self, field: str, text: str, value: object):
        parsed = parse(field, text)
        assert parsed == value
        assert type(parsed) is type(value)

    @pytest.mark.parametrize(
        ("field", "text", "expected"),
        [
            ("lanes", "2.5", "an integer of at least 1"),
            ("lanes", "many", "an integer of at least 1"),
            ("lanes", "none", "an integer of at least 1"),
            ("lanes", "0", "an integer of at least 1"),
            ("shift", "-1", "an integer of at least 0"),
            ("learning_rate", "fast", "a finite number"),
            ("learning_rate", "nan", "a finite number"),
            ("learning_rate", "-inf", "a finite number"),
            ("learning_rate", "1e999", "a finite number"),
            ("hidden", "64,wide", "an integer of at least 1"),
            ("factor", "half", "a finite number"),
            ("loss", "Huber", "one of huber, squared"),
            ("double", "1", "true or false"),
        ],
    )
    def test_wrong_values_are_refused_with_what_was_expected(
        self, field: str, text: str, expected: str
    ):
        with pytest.raises(ValueError, match=f"^{field}=.*: expected {expected}$") as error:
            parse(field, text)
        assert error.value.__suppress_context__ or error.value.__context__ is None

    @pytest.mark.parametrize("name", ["ppo", "dqn", "sac", "td3", "q_learning"])
    def test_every_preset_lies_within_the_bounds(self, name: str):
        entry = load_algorithm(name)
        for preset in entry.presets:
            for field, value in vars(resolve_config(entry, preset, preset)).items():
                _check_bounds(field, value)

    @pytest.mark.parametrize(
        ("name", "text", "expected"),
        [
            ("ppo", "learning_rate=-1e-3", "at least 0"),
            ("ppo", "discount=1.5", "in 0..1"),
            ("ppo", "clip=-1", "at least 0"),
            ("ppo", "minibatch_size=1", "at least 2"),
            ("dqn", "epsilon_final=3", "in 0..1"),
            ("dqn", "bins=1", "at least 2"),
            ("sac", "initial_temperature=0", "at least 1e-06"),
            ("trpo", "target_kl=-1", "at least 0"),
        ],
    )
    def test_numbers_that_mean_nothing_are_refused(self, name: str, text: str, expected: str):
        field, value = text.split("=")
        with pytest.raises(ValueError, match=f"^{field}=.*: expected a number {expected}$"):
            resolve_config(load_algorithm(name), "test/World", "test", None, {field: value})


class TestUnknownNames:
    def test_an_unknown_field_is_answered_with_the_nearest(self):
        with pytest.raises(ValueError, match="unknown config field 'learning-rat'") as error:
            parse("learning-rat", "1")
        assert str(error.value).endswith("nearest: learning_rate, learning_starts")

    def test_a_field_unlike_all_others_is_answered_with_all(self):
        with pytest.raises(ValueError, match="valid: double, factor, hidden, lanes"):
            parse("zzz", "1")

    def test_an_unknown_preset_is_answered_with_the_nearest(self):
        entry = algorithm(guide={}, smoke={})
        with pytest.raises(ValueError, match=r"^unknown preset 'gide'; nearest: guide$"):
            resolve_config(entry, "mujoco/Ant-v5", "quick", "gide")

    def test_an_algorithm_without_presets_says_so(self):
        with pytest.raises(ValueError, match=r"^unknown preset 'guide'; there are none$"):
            resolve_config(algorithm(), "mujoco/Ant-v5", "quick", "guide")


class TestPlain:
    CONFIG = Config(hidden=(16, 8), factor=None, double=True, learning_rate=0.1)

    def test_fields_are_as_json_holds_them(self):
        assert plain_config(self.CONFIG) == {
            "lanes": 4,
            "learning_rate": 0.1,
            "learning_starts": 100,
            "shift": 0,
            "hidden": [16, 8],
            "factor": None,
            "loss": "huber",
            "double": True,
            "note": "",
        }

    def test_a_config_survives_a_record(self):
        text = json.dumps(plain_config(self.CONFIG))
        assert config_from_plain(algorithm(), json.loads(text)) == self.CONFIG
