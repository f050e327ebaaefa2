"""The command line: ``suite COMMAND ...``, the same as ``python -m suite COMMAND ...``.

Results go to standard output, progress and errors to standard error. Exit codes: 0 done, 1 not
done (the reason is named), 2 wrong arguments or a package is missing, 130 and 143 stopped by a
signal. ``regress`` has its own: 0 no worse, 1 regression, 2 inconclusive, 3 not to be judged.
"""

from __future__ import annotations

import json
import math
import shutil
import signal
import sys
from collections.abc import Sequence
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Annotated, Any, NoReturn

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

if TYPE_CHECKING:  # commands import what they need when they run: torch takes seconds
    from suite.cells import Cell
    from suite.reproduction import Comparison
    from suite.statistics import Interval, IntervalKind

PLAIN_WIDTH = 200
"""Columns of a table where there is no terminal to fit it to."""

SETUP_ERROR = 3
"""Exit code of ``regress`` for whatever keeps it from a verdict, wrong arguments among it."""

app = typer.Typer(
    add_completion=False,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)

Algorithms = Annotated[
    str, typer.Argument(metavar="ALGO", help="Algorithm, comma-separated list, or all.")
]
Tasks = Annotated[
    str,
    typer.Argument(metavar="ENV", help="Task, family, task set, comma-separated list, or all."),
]
ProtocolName = Annotated[
    str, typer.Option("--protocol", help="smoke, quick, standard, validation or bank.")
]
Seeds = Annotated[int | None, typer.Option(help="Number of seeds [default: the protocol's].")]
Steps = Annotated[int | None, typer.Option(help="Agent steps per seed [default: the protocol's].")]
Device = Annotated[str, typer.Option(help="auto, cpu, cuda or cuda:N.")]
EngineName = Annotated[
    str | None, typer.Option("--engine", help="What steps the tasks [default: the family's].")
]
Preset = Annotated[str | None, typer.Option(help="Named settings of the algorithm, e.g. guide.")]
Overrides = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="NAME=VALUE", help="Override a config field; repeatable."),
]
Jobs = Annotated[int, typer.Option(help="Processes side by side.")]
Threads = Annotated[int, typer.Option(help="Threads per process.")]
ExecutorName = Annotated[str, typer.Option("--executor", help="Where jobs run.")]
Results = Annotated[Path, typer.Option("--results", metavar="FOLDER", help="Folder of records.")]
Live = Annotated[Path, typer.Option("--runs", metavar="FOLDER", help="Folder of live state.")]
Stale = Annotated[bool, typer.Option("--stale", help="Run stale and crashed records again.")]
SeedRange = Annotated[str | None, typer.Option("--range", hidden=True)]
Json = Annotated[bool, typer.Option("--json", help="Machine-readable output.")]

RESULTS, LIVE, REPORTS = Path("results"), Path("runs"), Path("reports")


def _examples(*lines: str) -> str:
    """The end of a command's help; the backspace keeps the lines as they are."""
    return "\b\nExamples:\n" + "\n".join(f"  {line}" for line in lines)


class Mistake(typer.TyperException):
    """A wrong argument, or a package that is missing."""

    exit_code = 2


class Failure(typer.TyperException):
    """Something that could not be done."""

    exit_code = 1


@app.callback()
def _suite() -> None:
    """Reproducible reinforcement-learning benchmarks.

    A bench that was stopped goes on where it was cut when the same command is given again.
    """


@app.command(
    epilog=_examples(
        "suite bench ppo gymnasium/CartPole-v1",
        "suite bench sac,td3 mujoco --jobs 4",
        "suite bench all all --protocol smoke",
        "suite bench dqn gymnasium/Acrobot-v1 --set learning_rate=1e-4 --steps 20000",
    )
)
def bench(
    algorithms: Algorithms,
    tasks: Tasks,
    protocol: ProtocolName = "quick",
    seeds: Seeds = None,
    steps: Steps = None,
    device: Device = "auto",
    engine: EngineName = None,
    preset: Preset = None,
    overrides: Overrides = None,
    jobs: Jobs = 1,
    threads: Threads = 1,
    executor: ExecutorName = "local",
    results: Results = RESULTS,
    live: Live = LIVE,
    stale: Stale = False,
    seed_range: SeedRange = None,
    as_json: Json = False,
) -> int:
    """Run what is missing, then print the table.

    With --steps, --set, --preset or another engine than the default one it is a trial: its records
    go to results/trial/ and never into a leaderboard.
    """
    from suite.bench import PRELOAD, Bench, StorageError
    from suite.console import make_display
    from suite.executors import make_executor
    from suite.reports import render_console
    from suite.summary import summarise

    try:
        workers = make_executor(executor, jobs, PRELOAD)
    except ValueError as error:
        raise Mistake(str(error)) from error
    cells, lacking = _cells(
        overrides,
        algorithms=algorithms,
        tasks=tasks,
        protocol=protocol,
        seeds=seeds,
        steps=steps,
        device=device,
        engine=engine,
        preset=preset,
        threads=threads,
        seed_range=seed_range,
    )
    for cell in cells:
        start = cell.config.get("learning_starts")
        if isinstance(start, int) and start >= cell.steps:
            _stderr().print(f"{cell.name} learns after {start} steps only: this run ends before")
    display = make_display(_stderr(), len(cells))
    run = Bench(cells, results, live, workers, jobs=jobs, stale=stale, tell=display.tell)
    try:
        with display:
            states = run.run()
    except StorageError as error:
        raise Failure(str(error)) from error
    except (KeyboardInterrupt, _Terminated):
        _stderr().print("stopped; the same command goes on from the last finished segment")
        raise

    rows = [summarise(cell, states[cell.name], results) for cell in cells]
    if as_json:
        _print_json([row.plain() for row in rows])
    else:
        records = [state.record for state in states.values() if state.record]
        _stdout().print(render_console(records))
    if lacking:
        raise Mistake(_what_lacks(lacking))
    return 0 if all(row.is_sound or row.state.startswith("stale") for row in rows) else 1


@app.command(
    epilog=_examples(
        "suite plan all all",
        "suite plan ppo mujoco --protocol standard --jobs 4 --json",
    )
)
def plan(
    algorithms: Algorithms,
    tasks: Tasks,
    protocol: ProtocolName = "quick",
    seeds: Seeds = None,
    steps: Steps = None,
    device: Device = "auto",
    engine: EngineName = None,
    preset: Preset = None,
    overrides: Overrides = None,
    jobs: Jobs = 1,
    threads: Threads = 1,
    executor: ExecutorName = "local",
    results: Results = RESULTS,
    stale: Stale = False,
    as_json: Json = False,
) -> int:
    """Show what a bench would run, with hours and memory.

    The prediction follows from the throughput in records; where there are none it says so.
    """
    from suite.cells import examine, seeds_to_run
    from suite.executors import make_executor
    from suite.planning import predict
    from suite.records import load_all

    try:
        make_executor(executor, jobs)
    except ValueError as error:
        raise Mistake(str(error)) from error
    cells, lacking = _cells(
        overrides,
        algorithms=algorithms,
        tasks=tasks,
        protocol=protocol,
        seeds=seeds,
        steps=steps,
        device=device,
        engine=engine,
        preset=preset,
        threads=threads,
    )
    records, _ = load_all(results)
    rows = []
    for cell in cells:
        state = examine(cell, results)
        wanted = seeds_to_run(cell, state, stale)
        prediction = predict(cell, len(wanted), records) if wanted else None
        rows.append(
            {
                "algorithm": cell.algorithm,
                "task": cell.task.id,
                "state": state.word,
                "seeds": len(wanted),
                "steps": cell.steps,
                "hours": prediction.hours if prediction else None,
                "memory_mb": prediction.memory_mb if prediction else None,
                "basis": prediction.basis if prediction else "",
            }
        )
    hours = sum(float(str(row["hours"])) for row in rows if row["hours"] is not None)
    jobs = max(1, min(jobs, sum(int(str(row["seeds"])) for row in rows)))
    unknown = sum(row["seeds"] != 0 and row["hours"] is None for row in rows)
    if as_json:
        _print_json(
            {"cells": rows, "hours": hours, "hours_with_jobs": hours / jobs, "unknown": unknown}
        )
    else:
        _print_table(list(rows[0]), [[_cell_text(value) for value in row.values()] for row in rows])
        rest = f", and {unknown} cells without any record to predict from" if unknown else ""
        _stdout().print(f"{hours / jobs:.2f} hours of training with {jobs} at a time{rest}")
    if lacking:
        raise Mistake(_what_lacks(lacking))
    return 0


@app.command(
    "list",
    epilog=_examples(
        "suite list",
        "suite list --protocol standard --json",
    ),
)
def list_matrix(
    protocol: ProtocolName = "quick", results: Results = RESULTS, as_json: Json = False
) -> int:
    """Show the matrix: algorithms x families, how far each cell is."""
    from dataclasses import asdict

    from suite.matrix import cell_lines, registry_matrix

    try:
        matrix = registry_matrix()
        cells = cell_lines(matrix, protocol, results)
    except ValueError as error:
        raise Mistake(str(error)) from error
    if as_json:
        content = {
            "protocol": protocol,
            "algorithms": {name: asdict(row) for name, row in matrix.algorithm_facts.items()},
            "families": {name: asdict(row) for name, row in matrix.family_facts.items()},
            "cells": [asdict(cell) for cell in cells],
        }
        _print_json(content)
        return 0
    _print_table(
        ["algorithm", "kind", "policy", "key idea"],
        [
            [name, row.category, row.policy, row.key_idea]
            for name, row in matrix.algorithm_facts.items()
        ],
    )
    _print_table(
        ["family", "domain", "complexity", "paper"],
        [
            [name, row.domain, row.complexity, row.paper]
            for name, row in matrix.family_facts.items()
        ],
    )
    marks = {"native": "", "adapted": " *", "mixed": " (*)"}
    by_algorithm = {
        name: [cell.state + marks[cell.fit] for cell in cells if cell.algorithm == name]
        for name in matrix.algorithms
    }
    _print_table(
        [protocol, *matrix.families],
        [[name, *states] for name, states in by_algorithm.items()],
        note="* adapted by a method from the literature; (*) adapted on some of the tasks",
    )
    return 0


@app.command(
    epilog=_examples(
        "suite report",
        "suite report --protocol quick --from /tmp/results",
        "suite report --scores mine.csv --scores theirs.csv --json",
        "suite report --scores mine.csv --normalise references.csv --ci rliable --out summary",
    )
)
def report(
    protocol: Annotated[
        str | None, typer.Option("--protocol", help="Only this one [default: all].")
    ] = None,
    results: Annotated[
        Path, typer.Option("--from", "--results", metavar="FOLDER", help="Folder of records.")
    ] = RESULTS,
    out: Annotated[
        Path | None,
        typer.Option(
            "--out", "--to", metavar="FOLDER", help=f"Folder of reports [default: {REPORTS}]."
        ),
    ] = None,
    scores: Annotated[
        list[Path] | None,
        typer.Option("--scores", metavar="FILE.csv", help="Sum up these scores instead."),
    ] = None,
    normalise: Annotated[
        Path | None,
        typer.Option(
            "--normalise",
            metavar="REFS.csv",
            help="Normalise the scores by these: task,floor,cap [default: they are normalised].",
        ),
    ] = None,
    ci: Annotated[
        str, typer.Option("--ci", help="Intervals of scores: default or rliable.")
    ] = "default",
    reps: Annotated[int, typer.Option("--reps", help="Bootstrap replicates for scores.")] = 10_000,
    as_json: Json = False,
) -> int:
    """Regenerate the reports from the records.

    The same records give the same bytes. Only files that an earlier report made are replaced. With
    --scores it prints the statistics of anyone's scores instead: CSV files with the columns
    algorithm,task,seed,score. It writes a page about them only if --out names a folder.
    """
    if scores:
        return _report_scores(scores, normalise, ci, reps, out, as_json)
    from dataclasses import asdict

    from suite.matrix import registry_matrix
    from suite.protocols import find_protocol
    from suite.reports import write_reports

    if normalise:
        raise Mistake("--normalise goes with --scores")
    out = out or REPORTS
    if not results.is_dir():
        raise Mistake(f"there is no folder {str(results)!r} to report from")
    recorded = {"trial", *(path.name for path in results.iterdir())}
    if protocol is not None and protocol.split("/")[0] not in recorded:
        try:
            find_protocol(protocol)
        except ValueError as error:
            raise Mistake(str(error)) from error
    try:
        summary = write_reports(results, out, protocol, registry_matrix())
    except OSError as error:
        raise Failure(str(error)) from error
    if as_json:
        _print_json(asdict(summary))
    else:
        for line in summary.damaged:
            _stderr().print(f"damaged: {line}", markup=False, highlight=False, soft_wrap=True)
        _stdout().print(
            f"{len(summary.pages)} files in {out} from {summary.records} records,"
            f" {len(summary.removed)} removed, {len(summary.damaged)} records damaged",
            highlight=False,
        )
    return int(bool(summary.damaged))


@app.command(
    epilog=_examples(
        "suite check",
        "suite check --results /tmp/results --json",
    )
)
def check(results: Results = RESULTS, as_json: Json = False) -> int:
    """Validate every file of the results folder."""
    from suite import records

    if not results.is_dir():
        raise Mistake(f"there is no folder {str(results)!r} to check")
    damaged = records.check(results)
    if as_json:
        _print_json([{"path": str(one.path), "reason": one.reason} for one in damaged])
    else:
        for one in damaged:
            _stdout().print(str(one), markup=False, highlight=False, soft_wrap=True)
        sound = sum(len(records.load_all(results, which)[0]) for which in (None, "trial"))
        _stdout().print(f"{sound} sound records, {len(damaged)} problems")
    return int(bool(damaged))


@app.command(
    epilog=_examples(
        "suite doctor",
        "suite doctor --json",
    )
)
def doctor(as_json: Json = False) -> int:
    """Show what is installed and what each family lacks."""
    from dataclasses import asdict

    from suite.doctor import doctor as examine_installation

    findings = examine_installation()
    if as_json:
        _print_json([asdict(finding) for finding in findings])
    else:
        shown = [each for each in findings if each.topic != "package" or not each.ok]
        exact = sum(each.topic == "package" and each.ok for each in findings)
        _print_table(
            ["", "topic", "name", "found", "remedy"],
            [
                ["ok" if each.ok else "!", each.topic, each.name, each.detail, each.remedy]
                for each in shown
            ],
            note=f"and {exact} packages at the versions of requirements.lock",
        )
    return int(not all(finding.ok for finding in findings))


@app.command(
    epilog=_examples(
        "suite perf",
        "suite perf --rounds 5 --json",
    )
)
def perf(
    rounds: Annotated[int, typer.Option(help="Turns of each side.", min=1, max=100)] = 3,
    as_json: Json = False,
) -> int:
    """Compare training speed with a peer, and stepping speed with the packages alone.

    `make perf` installs the peer first, into an environment of its own.
    """
    from dataclasses import asdict

    from suite.perf import run_perf
    from suite.stepping import family_ratios, run_stepping

    def tell(line: str) -> None:
        _stderr().print(line, highlight=False)

    try:
        rows = run_perf(rounds=rounds, tell=tell)
    except FileNotFoundError as error:
        raise Mistake(str(error)) from error
    except RuntimeError as error:
        raise Failure(str(error)) from error
    stepping = run_stepping(rounds=5 * rounds, tell=tell)
    if as_json:
        _print_json({"training": list(map(asdict, rows)), "stepping": list(map(asdict, stepping))})
        return 0
    _print_table(
        ["workload", "counted per second", "ours, all seeds", "peer, one seed", "ratio", "peer"],
        [
            [
                row.title,
                row.unit,
                f"{row.ours:,.0f} ({row.seeds} seeds)",
                f"{row.peer:,.0f}",
                f"{row.ratio:.1f}",
                row.peer_name,
            ]
            for row in rows
        ],
        note="ratio: how many times as fast several seeds are done, one process and one thread",
    )
    _print_table(
        ["task", "ours, steps per second", "the package alone", "ratio", "package"],
        [
            [row.task, f"{row.ours:,.0f}", f"{row.alone:,.0f}", f"{row.ratio:.2f}", row.package]
            for row in stepping
        ],
        note="16 lanes; ours with 2 threads. Geometric means: "
        + ", ".join(f"{name} {ratio:.2f}" for name, ratio in family_ratios(stepping).items()),
    )
    return 0


@app.command(
    epilog=_examples(
        "suite regress ppo",
        "suite regress ppo --base v1.0 --profile standard --jobs 4",
        "suite regress dqn --env gymnasium/CartPole-v1 --json",
    )
)
def regress(
    algorithm: Annotated[str, typer.Argument(metavar="ALGO", help="The algorithm to judge.")],
    tasks: Annotated[
        str, typer.Option("--env", metavar="ENV", help="Tasks of the bank, or all.")
    ] = "all",
    base: Annotated[str, typer.Option(help="Revision to compare with.")] = "main",
    profile: Annotated[str, typer.Option(help="quick, standard or thorough.")] = "quick",
    device: Device = "cpu",
    jobs: Jobs = 1,
    threads: Threads = 1,
    results: Results = RESULTS,
    live: Live = LIVE,
    as_json: Json = False,
) -> int:
    """Tell whether the code here has made an algorithm worse than it is at another revision.

    Exit codes: 0 no worse than the profile's margin, 1 regression, 2 inconclusive, 3 the check
    could not be made.
    """
    from suite.pages.regression import render_check
    from suite.protocols import find_protocol
    from suite.provenance import ROOT
    from suite.registry import MissingPackage, resolve_algorithms, resolve_tasks
    from suite.regress import Settings, TaskRow, check
    from suite.regression import find_profile
    from suite.revisions import SetupError

    def tell(line: str) -> None:
        _stderr().print(line, markup=False, highlight=False, soft_wrap=True)

    try:
        (name,) = resolve_algorithms(algorithm)
    except ValueError as error:
        one = "one algorithm is judged at a time"
        raise Mistake(one if "unpack" in str(error) else str(error)) from error
    try:
        ids = [task.id for task in resolve_tasks(tasks, find_protocol("bank"))]
        settings = Settings(find_profile(profile), results, live, ROOT, base, device, jobs, threads)
        found = check(name, ids, settings, tell)
    except (ValueError, MissingPackage, SetupError) as error:
        raise Mistake(str(error)) from error
    page = live / "regress" / f"{name}.md"
    page.write_text(render_check(found), encoding="utf-8")
    if as_json:
        _print_json(found.plain())
    else:
        if found.rows:
            _print_table(list(TaskRow.HEADER), [row.cells for row in found.rows])
        _stdout().print(found.text, markup=False, highlight=False, soft_wrap=True)
        tell(f"the whole check: {page}")
    return {"no worse": 0, "regression": 1, "inconclusive": 2}[found.word]


@app.command(hidden=True)
def fingerprint(
    algorithm: Annotated[str, typer.Argument(metavar="ALGO")],
    tasks: Annotated[list[str], typer.Argument(metavar="TASK...")],
) -> int:
    """Take fingerprints for a regression check, as JSON."""
    from suite.fingerprint import take_fingerprint
    from suite.registry import MissingPackage

    try:
        found = {task: take_fingerprint(algorithm, task) for task in tasks}
    except (ValueError, MissingPackage) as error:
        raise Mistake(str(error)) from error
    _print_json(
        {
            "streams": {task: each.streams for task, each in found.items()},
            "lines": {task: each.lines for task, each in found.items()},
        }
    )
    return 0


@app.command(
    epilog=_examples(
        "suite reproduce results/quick/gymnasium/CartPole-v1/ppo.json",
        "suite reproduce results/validation/mujoco/HalfCheetah-v5/sac.json --device cpu --json",
    )
)
def reproduce(
    path: Annotated[Path, typer.Argument(metavar="RECORD", help="The JSON of a record.")],
    device: Annotated[
        str | None,
        typer.Option("--device", help="auto, cpu, cuda or cuda:N [default: as recorded]."),
    ] = None,
    live: Live = LIVE,
    as_json: Json = False,
) -> int:
    """Run a record again as it was run, and compare: identical, consistent or different.

    Identical: the same bytes. Consistent: other numbers, whose mean score does not differ by
    Welch's test at 5 %, which one in twenty faithful repetitions fails. Exit code 1: different.
    """
    from suite.bench import PRELOAD, Bench, StorageError
    from suite.console import make_display
    from suite.executors import make_executor
    from suite.records import DamagedRecord, load
    from suite.registry import MissingPackage
    from suite.reproduction import compare, groups, repetition, workplace

    try:
        record = load(path.with_suffix(".json"))
        cell = repetition(record, device)
    except DamagedRecord as damage:
        raise Mistake(str(damage)) from damage
    except (ValueError, MissingPackage) as error:
        raise Mistake(f"{path} cannot be run here: {error}") from error
    if cell.missing_packages:
        raise Mistake(_what_lacks([cell]))
    results = workplace(record, live)
    shutil.rmtree(results / record.folder, ignore_errors=True)  # of an earlier repetition
    display = make_display(_stderr(), 1)
    executor = make_executor("local", 1, PRELOAD)
    run = Bench([cell], results, live, executor, tell=display.tell, groups=groups(record))
    try:
        with display:
            state = run.run()[cell.name]
    except StorageError as error:
        raise Failure(str(error)) from error
    except (KeyboardInterrupt, _Terminated):
        _stderr().print("stopped; the same command goes on from the last finished segment")
        raise
    assert state.record is not None
    try:
        found = compare(record, state.record)
    except ValueError as error:
        raise Failure(f"{path} could not be repeated: {error}") from error
    if as_json:
        _print_json(found.plain())
        return int(found.verdict == "different")
    _print_table(
        ["seed", "recorded", "repeated", "first difference"],
        [
            [
                str(pair.seed),
                *(
                    f"{score:.2f}" + ("" if status == "ok" else f" ({status})")
                    for score, status in zip(
                        (pair.recorded, pair.repeated), pair.statuses, strict=True
                    )
                ),
                "-" if pair.differs_at is None else f"at step {pair.differs_at}",
            ]
            for pair in found.pairs
        ],
    )
    _stdout().print(_verdict(found), soft_wrap=True)
    return int(found.verdict == "different")


def _verdict(found: Comparison) -> str:
    """The verdict in words, and what was not as it was recorded."""
    if found.verdict == "identical":
        text = "identical: every evaluation episode came out again, to the last digit"
    else:
        text = f"{found.verdict}: mean score repeated less recorded {_interval(found.difference)}"
    changed = ", ".join(found.departures)
    return f"{text}; not as recorded: {changed}" if changed else text


def _cells(overrides: list[str] | None, **request: Any) -> tuple[list[Cell], list[Cell]]:
    """The cells that can run here, and those that lack packages; the first is never empty.

    Args:
        overrides: ``name=value`` texts.
        request: the other fields of a :class:`suite.cells.Request`.
    """
    from suite.cells import Request, find_cells, parse_overrides
    from suite.registry import MissingPackage

    try:
        cells = find_cells(Request(overrides=parse_overrides(overrides or []), **request))
    except (ValueError, MissingPackage) as error:
        raise Mistake(str(error)) from error
    lacking = [cell for cell in cells if cell.missing_packages]
    if len(lacking) == len(cells):
        raise Mistake(_what_lacks(lacking))
    return [cell for cell in cells if not cell.missing_packages], lacking


def _report_scores(
    paths: list[Path], references: Path | None, ci: str, reps: int, out: Path | None, as_json: bool
) -> int:
    from suite import outside
    from suite.reports import write_scores

    if ci not in ("default", "rliable"):
        raise Mistake(f"--ci {ci!a}: valid are default and rliable")
    if not 1 <= reps <= outside.MAX_REPS:
        raise Mistake(f"--reps must be in 1..{outside.MAX_REPS}, not {reps}")
    try:
        table: outside.Table = outside.read_scores(paths)
        if references:
            table = outside.normalise_table(table, outside.read_bounds(references))
    except ValueError as error:
        raise Mistake(str(error)) from error
    kind: IntervalKind = "rliable" if ci == "rliable" else "default"
    summary = outside.summarise(table, kind, reps)
    if out is not None:
        try:
            write_scores(table, summary, out, kind, reps)
        except OSError as error:
            raise Failure(str(error)) from error
    if as_json:
        _print_json(summary.plain())
        return 0
    _print_table(
        ["algorithm", "runs", "tasks", "IQM [95 %]", "mean", "median", "optimality gap", "rank"],
        [
            [
                row.algorithm,
                _range(row.runs),
                str(row.tasks) + (f", lacks {len(row.missing)}" if row.missing else ""),
                *map(_interval, row.aggregates.values()),
                _range(row.rank) if row.rank else "-",
            ]
            for row in summary.rows
        ],
    )
    for warning in summary.warnings:
        _stderr().print(f"warning: {warning}", markup=False, highlight=False, soft_wrap=True)
    return 0


def _range(ends: tuple[int, int]) -> str:
    low, high = ends
    return str(low) if low == high else f"{low}-{high}"


def _what_lacks(cells: list[Cell]) -> str:
    families = {cell.task.family: cell for cell in cells}
    return "; ".join(
        f"{family} needs {', '.join(cell.missing_packages)}: {cell.install}"
        for family, cell in families.items()
    )


def _stdout() -> Console:
    console = Console()
    return console if console.is_terminal else Console(width=PLAIN_WIDTH)


def _stderr() -> Console:
    return Console(stderr=True)


def _print_json(content: object) -> None:
    sys.stdout.write(json.dumps(content, indent=2, allow_nan=False) + "\n")


def _print_table(columns: list[str], rows: list[list[str]], note: str = "") -> None:
    table = Table(*columns)
    for row in rows:
        table.add_row(*map(escape, row))
    _stdout().print(table)
    if note:
        _stdout().print(note)


def _cell_text(value: object) -> str:
    if value is None:
        return "?"
    return f"{value:,.2f}" if isinstance(value, float) else str(value)


def _interval(interval: Interval) -> str:
    value, low, high = ("-" if math.isnan(number) else f"{number:.3f}" for number in interval)
    return value if low == "-" else f"{value} [{low}, {high}]"


def main(arguments: Sequence[str] | None = None) -> NoReturn:
    """Run a command and exit; errors are one line on standard error."""
    signal.signal(signal.SIGTERM, _terminate)
    try:
        code = app(args=arguments, prog_name="suite", standalone_mode=False)
    except typer.TyperException as error:
        line = " ".join(error.format_message().split())
        sys.stderr.write(f"suite: {line}\n")
        words = sys.argv[1:] if arguments is None else arguments
        code = SETUP_ERROR if [*words[:1]] == ["regress"] else error.exit_code
    sys.exit(code)


class _Terminated(SystemExit):
    """SIGTERM: like Ctrl-C, but with an exit code of its own."""


def _terminate(number: int, frame: FrameType | None) -> None:
    raise _Terminated(128 + number)
