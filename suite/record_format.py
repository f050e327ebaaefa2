"""What a record is: its dataclasses, and the two texts (CSV and JSON) that hold it.

The CSV has one row per evaluation episode, the JSON everything else; ``record_schema.json``
describes it. The JSON holds the SHA-256 of the CSV and a seal, the SHA-256 of itself, so that a
truncated or hand-edited text is noticed. The same results give the same bytes. Reading treats both
texts as untrusted data: nothing in them is executed, and every deviation is a ``ValueError``.
"""

from __future__ import annotations

import hashlib
import json
import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, fields
from functools import cache, cached_property
from operator import itemgetter
from pathlib import Path
from typing import Any, NamedTuple

import jsonschema
import numpy as np
import numpy.typing as npt
import pandas as pd

from suite.protocols import canonical_json, key_hash
from suite.quick_schema import Check, compile_schema

SCHEMA_VERSION = 1
COLUMNS = ["seed", "step", "split", "episode", "return", "length"]
SPLITS = ("eval", "test-levels", "train-levels")
STATUSES = ("ok", "diverged", "timeout", "crashed")
MAX_REASON = 4000
"""Characters; a longer reason is cut when it is written."""

_WHOLE = "(0|[1-9][0-9]{0,14})"
_DECIMAL = r"(?!-0\.0{6},)(?P<return>-?(?:0|[1-9][0-9]{0,99})\.[0-9]{6})"
_CSV_ROW = f"{_WHOLE},{_WHOLE},({'|'.join(SPLITS)}),{_WHOLE},{_DECIMAL},{_WHOLE}\n"
_CSV_LINE = re.compile(_CSV_ROW)
_CSV_ROWS = re.compile(f"(?>{_CSV_ROW.replace('(?P<return>', '(?:')})*+".replace("(0|", "(?:0|"))
# Their lengths tell the splits apart.
_SPLIT_OF_LENGTH = np.zeros(1 + max(map(len, SPLITS)), np.int64)
_SPLIT_OF_LENGTH[list(map(len, SPLITS))] = range(len(SPLITS))
_EXACT_DIGITS = 9
"""Before the point, such that millionths stay below 2**53."""


class LedgerRow(NamedTuple):
    """What a seed had cost when it was evaluated; all figures are cumulative."""

    step: int
    """Agent steps (decisions)."""
    frames: int
    """Simulator frames."""
    updates: int
    """Gradient updates."""
    wall_seconds: float
    """Of training alone, evaluation excluded; shared by the seeds that trained together."""
    cpu_seconds: float
    """Likewise; of all processes."""
    peak_memory_mb: float
    """Of all processes together, those of environments included."""


@dataclass(frozen=True)
class SeedRun:
    """One training run, whatever became of it."""

    seed: int
    status: str
    """``ok``, ``diverged``, ``timeout``, or ``crashed``: given up after two more attempts."""
    reason: str
    """Why the status is not ``ok``; empty if it is."""
    attempts: int
    trained_with: tuple[int, ...]
    """Seeds that shared the process, this one included, in order: they fix the last bits."""
    threads: int
    device: str
    ledger: tuple[LedgerRow, ...]
    digest: str
    """SHA-256 of the final parameters; empty if there are none."""
    started: str
    """UTC, ISO 8601."""
    finished: str
    commit: str
    """Git commit of the code; empty outside a checkout."""
    dirty: bool
    """Whether the checkout had uncommitted changes."""
    machine: Mapping[str, object]
    """CPU model, cores, memory, GPU."""


class Episode(NamedTuple):
    """One evaluation episode."""

    seed: int
    step: int
    """Agent steps after which the evaluation was due."""
    split: str
    """One of ``SPLITS``."""
    episode: int
    """Number within the evaluation of this seed and split, from 0."""
    return_: float
    """Sum of the task's own rewards; finite."""
    length: int
    """Agent steps."""


@dataclass(frozen=True, eq=False)
class Record:
    """Everything known about one algorithm on one task under one protocol."""

    algorithm: str
    task: str
    protocol: str
    """A protocol's name, or ``trial``: then the key names the protocol it departs from."""
    protocol_version: int
    budget: int
    """Agent steps per seed."""
    key: Mapping[str, object]
    """Comparability key, see :func:`suite.protocols.comparability_key`."""
    config: Mapping[str, object]
    """The algorithm's resolved config."""
    fit: str
    """``native``, or ``adapted``: then ``adapter`` names the paper."""
    adapter: str
    evaluation: str
    """``greedy`` or ``sampled``."""
    engine: str
    versions: Mapping[str, str]
    """Of Python, torch, numpy and the environment packages."""
    source_hash: str
    """Of the algorithm's source, hexadecimal."""
    normalisation: Mapping[str, object] | None
    """``floor``, ``cap``, ``floor_source``, ``cap_source``; None if the task has no bounds."""
    task_info: Mapping[str, object]
    """Facts for tables: domain, complexity, paper, actions, horizon."""
    runs: tuple[SeedRun, ...]
    """Sorted by seed."""
    episodes: pd.DataFrame
    """``COLUMNS``, sorted; see :func:`episode_table`."""

    @cached_property
    def digest(self) -> str:
        """SHA-256 over everything in it: the seal of its JSON, which holds the CSV's hash."""
        csv_hash = hashlib.sha256(render_csv(self.episodes)).hexdigest()
        return str(_content(self, csv_hash)["seal"])

    @cached_property
    def columns(self) -> Mapping[str, npt.NDArray[Any]]:
        """The columns of the episodes, ``[rows]`` each, faster to come by than from the table."""
        return {name: self.episodes[name].to_numpy() for name in COLUMNS}

    @property
    def seeds(self) -> tuple[int, ...]:
        """Run seeds, sorted."""
        return tuple(run.seed for run in self.runs)

    @property
    def folder(self) -> str:
        """Where it belongs below the results: the protocol's name, or ``trial/<short hash>``."""
        return trial_folder(self.key, self.config) if self.protocol == "trial" else self.protocol


_COMMON = [field.name for field in fields(Record) if field.name not in ("runs", "episodes")]
"""Fields that look the same in a record and in its JSON."""


def trial_folder(key: Mapping[str, object], config: Mapping[str, object]) -> str:
    """``trial/<short hash>``: one folder per comparability key and resolved config."""
    return f"trial/{key_hash({'key': key, 'config': config})}"


def episode_table(episodes: Iterable[Episode]) -> pd.DataFrame:
    """Sort episodes into a table with the columns ``COLUMNS``."""
    return _table(sorted(episodes))


def _table(rows: list[Any]) -> pd.DataFrame:
    types = dict.fromkeys(COLUMNS, "int64") | {"split": "object", "return": "float64"}
    return pd.DataFrame(rows, columns=pd.Index(COLUMNS)).astype(types)


def render_csv(episodes: pd.DataFrame) -> bytes:
    """Text of the episodes: ASCII, line feeds, returns with six decimals and no minus zero."""
    lines = [",".join(COLUMNS)]
    for seed, step, split, episode, returned, length in episodes[COLUMNS].itertuples(index=False):
        number = f"{returned:.6f}"
        number = "0.000000" if number == "-0.000000" else number
        lines.append(f"{seed},{step},{split},{episode},{number},{length}")
    return ("\n".join(lines) + "\n").encode()


def render_json(record: Record, csv_hash: str) -> bytes:
    """Text of everything but the episodes: ASCII, sorted names, two spaces of indentation."""
    content = _content(record, csv_hash)
    return (json.dumps(content, sort_keys=True, indent=2, allow_nan=False) + "\n").encode()


def _content(record: Record, csv_hash: str) -> dict[str, Any]:
    content: dict[str, Any] = {name: getattr(record, name) for name in _COMMON}
    content["schema"] = SCHEMA_VERSION
    content["key_hash"] = key_hash(record.key)
    content["runs"] = [_plain_run(run) for run in record.runs]
    content["csv_sha256"] = csv_hash
    content["seal"] = _seal(content)
    return content


def _plain_run(run: SeedRun) -> dict[str, Any]:
    content = asdict(run)
    content["reason"] = run.reason[:MAX_REASON]
    content["ledger"] = [row._asdict() for row in run.ledger]
    for row in content["ledger"]:
        for name, decimals in (("wall_seconds", 3), ("cpu_seconds", 3), ("peak_memory_mb", 1)):
            row[name] = round(float(row[name]), decimals)
    return content


def _seal(content: Mapping[str, Any]) -> str:
    sealed = {name: value for name, value in content.items() if name != "seal"}
    return hashlib.sha256(canonical_json(sealed).encode()).hexdigest()


def parse_json(text: bytes) -> dict[str, Any]:
    """Read the outer form of a JSON text, without looking at what it says.

    Raises:
        ValueError: malformed, too deep, a name twice, a number that is not finite, or written
            under another schema version.
    """
    try:
        content = json.loads(
            text.decode("ascii"),
            parse_constant=_finite_float,
            parse_float=_finite_float,
            object_pairs_hook=_unique_names,
        )
    except RecursionError as error:
        raise ValueError("the JSON is nested too deeply") from error
    except json.JSONDecodeError as error:
        raise ValueError(f"the JSON is malformed or truncated: {error}") from error
    if not isinstance(content, dict) or content.get("schema") != SCHEMA_VERSION:
        version = content.get("schema") if isinstance(content, dict) else None
        raise ValueError(f"its schema version is {version!r}; this suite reads {SCHEMA_VERSION}")
    return content


def _finite_float(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        raise ValueError(f"the JSON holds a number that is not finite: {text[:40]}")
    return number


def _unique_names(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    content = dict(pairs)
    if len(content) < len(pairs):
        raise ValueError("the JSON holds a name twice in one object")
    return content


def parse(json_text: bytes, csv: bytes) -> Record:
    """Read a record from its two texts, see :func:`read_record`."""
    return read_record(parse_json(json_text), csv)


def read_record(content: Mapping[str, Any], csv: bytes) -> Record:
    """Read a record and check everything that can be checked without a path.

    Args:
        content: of its JSON, by :func:`parse_json`.
        csv: text of its episodes.

    Raises:
        ValueError: says what is wrong, in one line; it may quote the texts.
    """
    if not _quick_check()(content):
        fault = next(_validator().iter_errors(content), None)
        if fault is not None:
            raise ValueError(f"{fault.json_path}: {fault.message}")
    if content["csv_sha256"] != hashlib.sha256(csv).hexdigest():
        raise ValueError("the CSV is not the one whose SHA-256 the JSON holds")
    if content["key_hash"] != key_hash(content["key"]):
        raise ValueError("key_hash is not the hash of the key")
    if content["seal"] != _seal(content):
        raise ValueError("the JSON was changed after it was written: its seal does not fit")
    values = {name: content[name] for name in _COMMON}
    values["runs"] = tuple(_parse_run(run) for run in content["runs"])
    columns = _parse_csv(csv)
    record = Record(**values, episodes=pd.DataFrame(columns, copy=False))
    # As the properties would find them, at some cost.
    record.__dict__.update(columns=columns, digest=content["seal"])
    _check_fields(record)
    for run in record.runs:
        _check_run(run)
    _check_episodes(record)
    return record


@cache
def _schema() -> dict[str, Any]:
    schema: dict[str, Any] = json.loads(
        Path(__file__).with_name("record_schema.json").read_text("ascii")
    )
    return schema


@cache
def _quick_check() -> Check:
    return compile_schema(_schema())


@cache
def _validator() -> jsonschema.protocols.Validator:
    standard = jsonschema.Draft202012Validator
    # By the standard 1.0 is an integer too, but Python would hand on a float.
    types = standard.TYPE_CHECKER.redefine("integer", lambda _, value: type(value) is int)
    extend: Any = jsonschema.validators.extend  # has no types
    validator: jsonschema.protocols.Validator = extend(standard, type_checker=types)(_schema())
    return validator


_ledger_values = itemgetter(*LedgerRow._fields)


def _parse_run(content: Mapping[str, Any]) -> SeedRun:
    ledger = tuple(map(LedgerRow._make, map(_ledger_values, content["ledger"])))
    return SeedRun(**{**content, "ledger": ledger, "trained_with": tuple(content["trained_with"])})


def _parse_csv(text: bytes) -> dict[str, npt.NDArray[Any]]:
    header, _, body = text.decode("ascii").partition("\n")
    if header != ",".join(COLUMNS):
        raise ValueError(f"the CSV's columns are {header[:100]!r}, not {','.join(COLUMNS)!r}")
    if not text.endswith(b"\n"):
        raise ValueError("the CSV does not end with a line feed: it is truncated")
    if _CSV_ROWS.fullmatch(body) is None:
        _raise_format(body)
    seeds, steps, splits, episodes, returns, lengths = _read_cells(body)
    if not np.isfinite(returns).all():
        _raise_format(body)
    grows = np.zeros(max(0, seeds.size - 1), np.bool_)
    for column in (episodes, splits, steps, seeds):  # the last one decides first
        step = np.diff(column)
        grows = (step > 0) | ((step == 0) & grows)
    if not grows.all():
        line = int(np.argmin(grows)) + 3
        raise ValueError(f"CSV line {line} is out of order or repeats an episode")
    names = np.array(SPLITS, object)[splits]
    columns = (seeds, steps, names, episodes, returns, lengths)
    return dict(zip(COLUMNS, columns, strict=True))


def _read_cells(body: str) -> tuple[npt.NDArray[Any], ...]:
    """The six columns of rows in the fixed format, splits as places in ``SPLITS``.

    Whole columns are read digit by digit, in half the time of ``int`` and ``float``. A return is a
    whole number of millionths, and that number by a million is what ``float`` makes of the text,
    as long as the number is exact.
    """
    text = np.frombuffer(body.encode("ascii"), np.uint8)
    ends = np.flatnonzero((text == ord(",")) | (text == ord("\n"))).reshape(-1, len(COLUMNS)).T
    begins = np.append(-1, ends.T.ravel())[:-1].reshape(-1, len(COLUMNS)).T + 1
    seeds, steps, episodes, lengths = _whole_numbers(text, begins[[0, 1, 3, 5]], ends[[0, 1, 3, 5]])
    splits = _SPLIT_OF_LENGTH[ends[2] - begins[2]]
    is_negative = text[begins[4]] == ord("-")
    first, point = begins[4] + is_negative, ends[4] - 7
    if (point - first).max(initial=0) > _EXACT_DIGITS:
        returns = np.array(list(map(float, body.replace("\n", ",").split(",")[4::6])))
    else:
        parts = np.stack([first, point + 1]), np.stack([point, ends[4]])
        whole, millionths = _whole_numbers(text, *parts)
        size = (10**6 * whole + millionths) / 10**6
        returns = np.where(is_negative, -size, size)
    return seeds, steps, splits, episodes, returns, lengths


def _whole_numbers(
    text: npt.NDArray[np.uint8], begins: npt.NDArray[np.int64], ends: npt.NDArray[np.int64]
) -> npt.NDArray[np.int64]:
    """The numbers, of at most 18 digits, that stand between places of a text; of any shape."""
    width = ends - begins
    numbers = np.zeros(width.shape, np.int64)
    for place in range(width.max(initial=0)):
        digit = text[np.minimum(begins + place, text.size - 1)] - np.int64(ord("0"))
        numbers = np.where(place < width, 10 * numbers + digit, numbers)
    return numbers


def _raise_format(body: str) -> None:
    """Name the first line that is not in the fixed format."""
    for number, line in enumerate(body.split("\n"), start=2):
        match = _CSV_LINE.fullmatch(f"{line}\n")
        if match is None or not math.isfinite(float(match["return"])):
            raise ValueError(f"CSV line {number} is not in the fixed format: {line[:100]!r}")


def _check_fields(record: Record) -> None:
    own = {
        "task": record.task,
        "budget": record.budget,
        "protocol_version": record.protocol_version,
    }
    if record.protocol != "trial":
        own["protocol"] = record.protocol
    for name, value in own.items():
        if record.key[name] != value:
            raise ValueError(f"key.{name} is {record.key[name]!r}, but the record's is {value!r}")
    if list(record.seeds) != sorted(set(record.seeds)):
        raise ValueError(f"the runs' seeds are not sorted, or repeated: {list(record.seeds)}")
    bounds = record.normalisation
    if bounds is not None and not float(str(bounds["cap"])) > float(str(bounds["floor"])):
        raise ValueError(f"the cap {bounds['cap']!r} is not above the floor {bounds['floor']!r}")


def _check_run(run: SeedRun) -> None:
    if run.seed not in run.trained_with:
        raise ValueError(f"seed {run.seed} is not among the seeds it was trained with")
    if (run.status == "ok") != (run.reason == ""):
        raise ValueError(f"seed {run.seed} has status {run.status} and reason {run.reason!r}")
    figures = np.array(run.ledger, np.float64).reshape(-1, 6)
    grows = np.diff(figures, axis=0)
    if (wrong := (grows < 0).any(axis=1) | (grows[:, 0] == 0)).any():
        step = run.ledger[int(np.argmax(wrong)) + 1].step
        raise ValueError(f"seed {run.seed}: the ledger does not grow at step {step}")


def _check_episodes(record: Record) -> None:
    """Every episode has its run; a seed that is ok was evaluated to its end, in full."""
    seeds, steps, splits, numbers = (record.columns[name] for name in COLUMNS[:4])
    strangers = sorted(set(seeds.tolist()) - set(record.seeds))
    if strangers:
        raise ValueError(f"the CSV holds seeds without a run: {strangers[:10]}")
    if (steps > record.budget).any():
        raise ValueError(f"the CSV holds a step above the budget of {record.budget}")
    # The rows are sorted and none comes twice, so an evaluation of so many that ends with the last
    # number has every number.
    expected = int(str(record.key["episodes"]))
    is_first = np.ones(seeds.size, np.bool_)
    is_first[1:] = (np.diff(seeds) != 0) | (np.diff(steps) != 0) | (splits[1:] != splits[:-1])
    begins = np.flatnonzero(is_first)
    ends = np.append(begins, seeds.size)[1:]
    is_whole = (ends - begins == expected) & (numbers[ends - 1] == expected - 1)
    partial = set(seeds[begins[~is_whole]].tolist())
    finished = set(seeds[steps == record.budget].tolist())
    for run in record.runs:
        if run.status != "ok":
            continue
        if run.seed not in finished:
            raise ValueError(f"seed {run.seed} is ok, but was not evaluated at {record.budget}")
        if run.seed in partial:
            raise ValueError(f"seed {run.seed} is ok, but some evaluation is not complete")
