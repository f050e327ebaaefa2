"""The quick check of a schema says what the validator of jsonschema says."""

from __future__ import annotations

import copy
import json
from collections.abc import Iterator
from typing import Any

import pytest
from factories import make_record

from suite.quick_schema import compile_schema
from suite.record_format import _quick_check, _validator, render_json

VALUES: list[Any] = [None, True, -1, 0, 1.5, 1e300, "", "x\n", "x" * 5000, [], [{}], [[[]]], {}]
VALUES += [{"": 1}, {"x" * 201: 1}, {"x": {"y": {"z": {}}}}]


def record_json() -> dict[str, Any]:
    record = make_record(protocol="smoke", scores=[100.0, 200.0], statuses=["ok", "diverged"])
    content: dict[str, Any] = json.loads(render_json(record, "0" * 64))
    content["runs"][0]["ledger"] = content["runs"][0]["ledger"][:1]
    del content["runs"][1]["ledger"]
    return content


def places(value: Any) -> Iterator[tuple[Any, Any]]:
    """Every container in a value with every key or index of it."""
    for key in value if isinstance(value, dict) else range(len(value)):
        yield value, key
        if isinstance(value[key], dict | list):
            yield from places(value[key])


def says_the_same(content: Any) -> bool:
    return _quick_check()(content) == _validator().is_valid(content)


def test_a_record_fits():
    content = record_json()
    content["runs"].pop()
    assert _quick_check()(content)


@pytest.mark.parametrize("value", VALUES, ids=range(len(VALUES)))
def test_any_other_value_in_any_place_is_judged_alike(value: Any):
    content = record_json()
    content["runs"].pop()
    for container, key in list(places(content)):
        before = container[key]
        container[key] = value
        assert says_the_same(content), (key, value)
        container[key] = before


def test_what_is_missing_or_too_much_is_judged_alike():
    content = record_json()
    assert says_the_same(content)
    content["runs"].pop()
    for container, key in list(places(content)):
        if isinstance(container, dict):
            before = copy.deepcopy(container)
            del container[key]
            assert says_the_same(content), key
            container.clear()
            container.update(before, unknown=1)
            assert says_the_same(content), key
            del container["unknown"]
    assert _quick_check()(content)


def test_an_unknown_keyword_is_refused():
    with pytest.raises(ValueError, match="unknown keyword 'minProperties'"):
        compile_schema({"minProperties": 1})
