"""Reports: a pure function of the result files that hides nothing and trusts no name."""

from __future__ import annotations

import hashlib
import io
import re
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest
from factories import make_record, make_trial
from rich.console import Console

import suite.matrix
import suite.records
from suite.pages import common, index
from suite.pages.algorithm import algorithm_page
from suite.pages.common import Context, Files, Present
from suite.pages.protocol import protocol_page
from suite.pages.published import published_scores
from suite.pages.task import task_page
from suite.protocols import PROTOCOLS
from suite.record_format import render_csv, render_json
from suite.records import Record, record_paths, save
from suite.reports import (
    AlgorithmFacts,
    FamilyFacts,
    Matrix,
    ReportSummary,
    render_console,
    write_reports,
)

CARTPOLE, PENDULUM = "gymnasium/CartPole-v1", "gymnasium/Pendulum-v1"
CHEETAH, INVERTED = "mujoco/HalfCheetah-v5", "mujoco/InvertedPendulum-v5"
QUICK = (CARTPOLE, PENDULUM, CHEETAH, INVERTED)
SCORES = {CARTPOLE: 400.0, PENDULUM: -300.0, CHEETAH: 6000.0, INVERTED: 800.0}
OFFSETS = (-20.0, -10.0, 0.0, 10.0, 20.0)
ONE_DIVERGED = ["ok", "ok", "ok", "ok", "diverged"]

ALGORITHM = re.compile(r"\[(\w+)\]\([^)]*/\w+\.md\)")
HOSTILE = "evil</td>|[x](http://x)`<b>\n# top\n../../y"


@pytest.fixture(autouse=True)
def four_tasks(monkeypatch: pytest.MonkeyPatch) -> None:
    """The pages' rules are tested on four tasks, however many quick has."""
    quick = PROTOCOLS["quick"]
    budgets = tuple(row for row in quick.budgets if row.task in QUICK)
    protocols = {**PROTOCOLS, "quick": replace(quick, budgets=budgets)}
    for module in (common, index, suite.records):
        monkeypatch.setattr(module, "PROTOCOLS", protocols)
    monkeypatch.setattr(suite.matrix, "find_protocol", protocols.__getitem__)


def quick_record(algorithm: str, task: str, **changes: object) -> Record:
    scores = [SCORES[task] + offset for offset in OFFSETS]
    return make_record(algorithm, task, **{"scores": scores} | changes)


def quick_records(*algorithms: str) -> list[Record]:
    return [quick_record(name, task) for name in algorithms for task in QUICK]


def text_of(files: Files, path: str) -> str:
    return files[path].decode()


def quick_page(records: Sequence[Record], **context: object) -> str:
    return text_of(protocol_page(Context("quick", tuple(records), **context)), "quick.md")


def cells(text: str, section: str, table: int = 0) -> dict[str, dict[str, str]]:
    """A table of a page: by the name in its row (second column if the first is the rank).

    Of an algorithm's name its link is left out.
    """
    part = re.split(rf"^#+ {re.escape(section)}$", text, maxsplit=1, flags=re.MULTILINE)[1]
    part = re.split(r"^#", part, maxsplit=1, flags=re.MULTILINE)[0]
    tables = re.findall(r"(?:^\|.*\n)+", part, flags=re.MULTILINE)
    header, _, *rows = (
        [ALGORITHM.sub(r"\1", cell.strip()) for cell in re.split(r"(?<!\\)\|", line)[1:-1]]
        for line in tables[table].splitlines()
    )
    named = int(header[0] == "rank")
    return {row[named]: dict(zip(header, row, strict=True)) for row in rows}


def column(text: str, section: str, title: str, table: int = 0) -> dict[str, str]:
    """One column of a table, found by the start of its title, brackets of a link aside."""
    return {
        name: next(cell for head, cell in row.items() if head.lstrip("[").startswith(title))
        for name, row in cells(text, section, table).items()
    }


def snapshot(folder: Path) -> dict[str, bytes]:
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file()
    }


@pytest.fixture
def results(tmp_path: Path) -> Path:
    """Two algorithms on a task, and one of them on another."""
    folder = tmp_path / "results"
    for algorithm, task in (("ppo", CARTPOLE), ("sac", CARTPOLE), ("ppo", PENDULUM)):
        save(quick_record(algorithm, task), folder)
    return folder


@pytest.fixture
def out(tmp_path: Path) -> Path:
    return tmp_path / "reports"


def test_two_reports_have_the_same_bytes(results: Path, out: Path, tmp_path: Path):
    write_reports(results, out)
    write_reports(results, tmp_path / "again")
    first = snapshot(out)
    assert sorted(first) == [
        "README.md",
        "leaderboard.html",
        "quick.md",
        "quick/gymnasium.svg",
        "quick/gymnasium/CartPole-v1.md",
        "quick/gymnasium/CartPole-v1.svg",
        "quick/gymnasium/Pendulum-v1.md",
        "quick/gymnasium/Pendulum-v1.svg",
        "quick/ppo.md",
        "quick/ppo.tasks.svg",
        "quick/sac.md",
        "quick/sac.tasks.svg",
    ]
    assert snapshot(tmp_path / "again") == first
    write_reports(results, out)
    assert snapshot(out) == first


def test_the_summary_says_what_was_made(results: Path, out: Path):
    summary = write_reports(results, out)
    assert summary == ReportSummary(3, tuple(sorted(snapshot(out))), (), ())


def test_every_link_leads_to_a_page_or_figure(results: Path, out: Path):
    facts = AlgorithmFacts("PPO", "actor-critic", "clipping", "on", "Schulman 2017")
    write_reports(results, out, matrix=Matrix(("ppo",), ("gymnasium",), {}, {"ppo": facts}))
    pages = list(out.rglob("*.md"))
    links = [
        (page, link) for page in pages for link in re.findall(r"\]\((.*?)\)", page.read_text())
    ]
    assert len(links) > 20
    assert [
        link for page, link in links if not page.parent.joinpath(link.split("#")[0]).is_file()
    ] == []


def test_without_records_there_is_an_index_that_says_so(tmp_path: Path, out: Path):
    assert write_reports(tmp_path / "nothing", out).pages == ("README.md", "leaderboard.html")
    assert "There are no records yet." in out.joinpath("README.md").read_text()


def test_pages_of_records_that_are_gone_are_removed(results: Path, out: Path):
    write_reports(results, out)
    for path in results.joinpath("quick", PENDULUM).iterdir():
        path.unlink()
    summary = write_reports(results, out)
    gone = ("quick/gymnasium/Pendulum-v1.md", "quick/gymnasium/Pendulum-v1.svg")
    assert summary.removed == gone
    assert set(gone).isdisjoint(snapshot(out))


def test_empty_folders_go_with_their_pages(tmp_path: Path, out: Path, results: Path):
    write_reports(results, out)
    write_reports(tmp_path / "nothing", out)
    assert sorted(path.name for path in out.iterdir()) == ["README.md", "leaderboard.html"]


def test_files_of_others_are_left_alone(results: Path, out: Path):
    out.joinpath("quick").mkdir(parents=True)
    foreign = {"quick/notes.md": b"# Mine\n", "logo.svg": b"<svg></svg>", "quick/data.txt": b"1"}
    for path, content in foreign.items():
        out.joinpath(path).write_bytes(content)
    write_reports(results, out)
    assert foreign.items() <= snapshot(out).items()


def test_a_page_never_replaces_a_file_of_others(results: Path, out: Path):
    out.mkdir()
    out.joinpath("quick.md").write_text("my notes")
    with pytest.raises(FileExistsError, match=r"quick\.md was not made by a report"):
        write_reports(results, out)
    assert out.joinpath("quick.md").read_text() == "my notes"


def test_a_report_of_one_protocol_leaves_the_pages_of_others(results: Path, out: Path):
    save(make_record("ppo", CARTPOLE, "bank", scores=[400.0] * 30), results)
    write_reports(results, out)
    before = snapshot(out)
    summary = write_reports(results, out, "bank")
    assert summary.pages == (
        "README.md",
        "bank.md",
        "bank/gymnasium.svg",
        "bank/gymnasium/CartPole-v1.md",
        "bank/gymnasium/CartPole-v1.svg",
        "bank/ppo.md",
        "bank/ppo.tasks.svg",
        "leaderboard.html",
    )
    assert snapshot(out) == before


def test_trials_have_pages_only_when_asked_for(results: Path, out: Path):
    trial = make_trial(algorithm="ppo", scores=[100.0])
    save(trial, results)
    assert not any("trial" in page for page in write_reports(results, out).pages)
    pages = write_reports(results, out, "trial").pages
    assert f"{trial.folder}/gymnasium/CartPole-v1.md" in pages
    assert write_reports(results, out).removed == ()
    assert "raw: 100.0" in out.joinpath(f"{trial.folder}.md").read_text()


def test_a_damaged_record_is_named_and_in_no_table(results: Path, out: Path):
    path = results.joinpath("quick", CARTPOLE, "sac.json")
    path.write_text(path.read_text()[:-20])
    summary = write_reports(results, out)
    assert summary.damaged[0].startswith("quick/gymnasium/CartPole-v1/sac.json: ")
    damaged = cells(out.joinpath("README.md").read_text(), "Damaged records")
    assert list(damaged) == ["quick/gymnasium/CartPole-v1/sac.json"]
    assert "sac" not in out.joinpath("quick.md").read_text()


def test_the_index_names_its_sources(results: Path, out: Path):
    write_reports(results, out)
    text = out.joinpath("README.md").read_text()
    assert re.search(
        r"From 3 records \(data `[0-9a-f]{64}`, newest run 2025-01-01T00:10:00Z, "
        r"code 0123456789\)\. `make report` writes this page anew\.",
        text,
    )


def test_uncommitted_changes_are_mentioned():
    record = quick_record("ppo", CARTPOLE)
    dirty = replace(record, runs=tuple(replace(run, dirty=True) for run in record.runs))
    assert "code 0123456789 with uncommitted changes)" in quick_page([dirty])


def test_the_index_shows_every_cell_of_the_matrix(results: Path, out: Path):
    matrix = Matrix(
        algorithms=("ppo", "sac", "dqn"),
        families=("gymnasium", "mujoco", "nethack"),
        fit={("dqn", "gymnasium"): "mixed", ("dqn", "mujoco"): "adapted"},
    )
    write_reports(results, out, matrix=matrix)
    table = cells(out.joinpath("README.md").read_text(), "Cells of quick")
    states = {name: list(row.values())[1:] for name, row in table.items()}
    assert states == {
        "ppo": ["complete", "not run", "—"],
        "sac": ["partial: 1 of 2 tasks", "not run", "—"],
        "dqn": ["not run ‡", "not run †", "—"],
    }


def test_algorithms_and_families_are_described(results: Path, out: Path):
    matrix = Matrix(
        algorithms=("ppo",),
        families=("gymnasium",),
        fit={},
        algorithm_facts={"ppo": AlgorithmFacts("PPO", "actor-critic", "a|b", "on", "Paper 2017")},
        family_facts={"gymnasium": FamilyFacts("Gymnasium", "control", "low", "Brockman 2016")},
    )
    write_reports(results, out, matrix=matrix)
    text = out.joinpath("algorithms.md").read_text()
    assert '<a id="ppo"></a>ppo | PPO | actor-critic | a\\|b | on | Paper 2017 |' in text
    assert "| gymnasium | Gymnasium | control | low | Brockman 2016 |" in text
    assert "[What it is](../algorithms.md#ppo)." in out.joinpath("quick/ppo.md").read_text()


def test_numbers_of_a_leaderboard_have_their_fixed_form():
    page = quick_page(quick_records("ppo"))
    scores = cells(page, "All families")["ppo"]
    assert list(scores.values()) == [
        "ppo",
        "400.0 [380.5, 419.5]",
        "-300.0 [-319.5, -280.5]",
        "6000 [5980, 6020]",
        "800.0 [780.5, 819.5]",
    ]
    row = cells(page, "All families", table=1)["ppo"]
    assert row == {
        "rank": "—",
        "algorithm": "ppo",
        "IQM": "0.79 [0.78, 0.81]",
        "optimality gap": "0.26 [0.25, 0.27]",
        "mean": "0.74",
        "median": "0.79",
        "P(better than ppo)": "—",
        "worst task": "0.51 (HalfCheetah-v5)",
        "runs x tasks": "5 x 4",
        "agent steps": "500k",
        "training time": "60.0 s (H1)",
        "method": "native",
        "status": "complete",
    }


def test_four_tasks_have_no_headline_and_say_so():
    page = quick_page(quick_records("ppo"))
    assert "**No headline: 4 tasks.**" in page
    assert page.index("| mean return |") < page.index("| rank |")


def standard_page(records: Sequence[Record]) -> tuple[str, Files]:
    files = protocol_page(Context("standard", tuple(records)))
    return text_of(files, "standard.md"), files


def standard_record(algorithm: str, task: str, **changes: object) -> Record:
    bounds = {"floor": 0.0, "cap": 1.0, "floor_source": "zero", "cap_source": "one"}
    changes = {"scores": (0.5, 0.6, 0.7, 0.8, 0.9), "normalisation": bounds} | changes
    return make_record(algorithm, task, "standard", **changes)


STANDARD = [row.task for row in PROTOCOLS["standard"].budgets if row.task.startswith("gym")]


def test_many_tasks_have_their_leaderboard_first():
    assert len(STANDARD) == 8
    scores = {"ppo": (0.5, 0.6, 0.7), "sac": (0.3, 0.3, 0.3, 0.4, 0.2)}
    records = [
        standard_record(name, task, scores=own) for task in STANDARD for name, own in scores.items()
    ]
    page, _ = standard_page(records)
    assert "No headline" not in page
    assert page.index("| rank |") < page.index("Mean return per task:")
    rows = cells(page, "gymnasium")
    assert [rows[name]["status"] for name in ("ppo", "sac")] == ["low n", "complete"]
    assert rows["sac"]["runs x tasks"] == "5 x 8"
    scores = column(page, "gymnasium", "ppo", table=1)
    assert scores["[gymnasium/Acrobot-v1](standard/gymnasium/Acrobot-v1.md)"] == "0.600"


def test_a_headline_comes_with_profiles_efficiency_and_all_pairs():
    records = [standard_record(name, task) for task in STANDARD for name in ("ppo", "sac")]
    page, files = standard_page(records)
    for kind, title in (
        ("profiles", "Performance profiles"),
        ("efficiency", "Sample efficiency"),
        ("improvement", "Probability of improvement"),
    ):
        assert f"](standard/gymnasium.{kind}.svg)" in page
        assert f"*{title}: " in page
        assert files[f"standard/gymnasium.{kind}.svg"]
    again = protocol_page(Context("standard", tuple(records)))
    assert again == files


def test_a_star_marks_what_surely_differs_from_the_reference():
    levels = {"ppo": 0.5, "sac": 0.9, "td3": 0.5}
    records = [
        standard_record(name, task, scores=[level + 0.01 * seed for seed in range(5)])
        for task in STANDARD
        for name, level in levels.items()
    ]
    rows = cells(standard_page(records)[0], "gymnasium")
    texts = {name: row["P(better than ppo)"] for name, row in rows.items()}
    assert re.fullmatch(r"1\.00 \[0\.\d\d, 1\.00\] \*", texts["sac"])
    assert texts["td3"].startswith("0.50 [")
    assert not texts["td3"].endswith("*")


@pytest.mark.parametrize("seed", [0, 4])
def test_one_seed_flipped_to_diverged_changes_cell_row_rank_and_counts(seed: int):
    scores = {"ppo": (0.70, 0.72, 0.74, 0.76, 0.78), "sac": (0.71, 0.73, 0.75, 0.77, 0.79)}
    records = [
        standard_record(name, task, scores=own) for task in STANDARD for name, own in scores.items()
    ]
    before = standard_page(records)[0]
    place = records.index(next(one for one in records if one.algorithm == "sac"))
    record = records[place]
    runs = [
        replace(run, status="diverged", reason="loss at step 1") if run.seed == seed else run
        for run in record.runs
    ]
    records[place] = replace(record, runs=tuple(runs))
    after = standard_page(records)[0]
    rows = [cells(page, "gymnasium")["sac"] for page in (before, after)]
    values = [float(row["IQM"].split()[0]) for row in rows]
    assert values[1] <= values[0]
    assert rows[1]["runs x tasks"] == "5 x 8, 1 diverged"
    task = f"[{record.task}](standard/{record.task}.md)"
    assert column(after, "gymnasium", "sac", table=1)[task].endswith("(1 failed)")
    assert cells(after, "Failed runs")["sac"]["status"] == "diverged"
    boards = [
        {row.algorithm: row for row in Context("standard", tuple(own)).board(0, STANDARD).rows}
        for own in (records, [*records[:place], record, *records[place + 1 :]])
    ]
    if seed == 4:  # the lowest of all scores was cut off before
        assert boards[0]["sac"].iqm.value < boards[1]["sac"].iqm.value
    assert boards[0]["sac"].gap.value > boards[1]["sac"].gap.value
    assert boards[0]["sac"].mean < boards[1]["sac"].mean


def test_enough_diverged_seeds_take_the_rank():
    scores = {"ppo": (0.2, 0.21, 0.22, 0.23, 0.24), "sac": (0.8, 0.81, 0.82, 0.83, 0.84)}
    made = [
        standard_record(name, task, scores=own) for task in STANDARD for name, own in scores.items()
    ]
    failed = ["diverged"] * 4 + ["ok"]
    flipped = [
        standard_record("sac", one.task, scores=scores["sac"], statuses=failed)
        if one.algorithm == "sac"
        else one
        for one in made
    ]
    ranks = [
        cells(standard_page(records)[0], "gymnasium")["sac"]["rank"] for records in (made, flipped)
    ]
    assert ranks[0] == "1"
    assert ranks[1] != "1"


def test_the_page_of_an_algorithm_holds_its_tasks_settings_and_records():
    records = [*quick_records("ppo", "sac")]
    records[1] = quick_record("ppo", PENDULUM, config={"learning_rate": 1.0, "activation": "tanh"})
    records[2] = replace(records[2], fit="adapted", adapter="Somebody 2020")
    files = algorithm_page(Context("quick", tuple(records), frozenset(["ppo"])), "ppo")
    assert set(files) == {"quick/ppo.md", "quick/ppo.tasks.svg"}
    page = text_of(files, "quick/ppo.md")
    assert "[What it is](../algorithms.md#ppo)" in page
    tasks = cells(page, "Tasks")
    assert len(tasks) == 4
    row = tasks["[gymnasium/CartPole-v1](gymnasium/CartPole-v1.md)"]
    assert row["mean return"] == "400.0 [380.5, 419.5]"
    assert row["worst run"] == "380.0"
    assert [row["method"] for row in tasks.values()].count("adapted (Somebody 2020)") == 1
    settings = page.split("## Settings")[1]
    assert "| learning\\_rate | 1.0 | 1: Pendulum-v1 |" in settings or (
        "| learning_rate | 1.0 | 1: Pendulum-v1 |" in settings
    )
    assert '| activation | "tanh" | all |' in settings
    assert "make reproduce RECORD=results/quick/gymnasium/CartPole-v1/ppo.json |" in page


def test_published_scores_stand_on_the_task_page_without_a_rank():
    record = make_record("sac", CHEETAH, "validation")
    page = text_of(task_page(Context("validation", (record,)), CHEETAH), f"validation/{CHEETAH}.md")
    published = cells(page, "Published scores")
    assert set(published) == {"○ sac"}
    assert published["○ sac"]["source"]
    assert "rank" not in published["○ sac"]


def test_a_diverged_seed_shows_in_cell_row_and_counts_and_lowers_the_aggregate():
    records = quick_records("ppo", "sac")
    before = quick_page(records)
    records[0] = quick_record("ppo", CARTPOLE, statuses=ONE_DIVERGED)
    after = quick_page(records)

    score = column(after, "All families", "CartPole")["ppo"]
    assert score.startswith("320.5 [")  # (380 + 390 + 400 + 410 + floor 22.69) / 5
    assert score.endswith("], 1 of 5 diverged")
    rows = [cells(page, "All families", table=1)["ppo"] for page in (before, after)]
    assert [row["runs x tasks"] for row in rows] == ["5 x 4", "5 x 4, 1 diverged"]
    assert [row["mean"] for row in rows] == ["0.74", "0.70"]
    gaps = [float(row["optimality gap"].split()[0]) for row in rows]
    assert gaps[0] < gaps[1]
    failed = cells(after, "Failed runs")["ppo"]
    assert (failed["status"], failed["seed"]) == ("diverged", "4")
    assert failed["reason"] == "diverged at step 22500: loss"
    assert "None." in before.split("## Failed runs")[1]


def test_the_index_counts_failed_runs(results: Path, out: Path):
    save(quick_record("dqn", CARTPOLE, statuses=ONE_DIVERGED), results)
    write_reports(results, out)
    text = out.joinpath("README.md").read_text()
    row = cells(text, "Reports")["[quick](quick.md)"]
    assert (row["records"], row["runs"], row["failed runs"]) == ("4", "20", "1")
    assert cells(text, "Cells of quick")["dqn"]["gymnasium"] == "partial: 1 of 2 tasks, 1 diverged"


def test_a_partial_row_is_not_ranked_and_has_bounds():
    page = quick_page([*quick_records("ppo", "sac"), quick_record("td3", CARTPOLE)])
    assert "td3" not in cells(page, "All families", table=1)
    row = cells(page, "All families", table=2)["td3"]
    assert row["tasks"] == "partial: 1 of 4 tasks"
    assert row["lacks"] == "; ".join(f"{task} (not run)" for task in QUICK[1:])
    assert row["mean"] == "[0.20, 0.95]"
    assert column(page, "All families", "Pendulum")["td3"] == "—"


def test_a_crashed_seed_makes_a_row_incomplete():
    crashed = ["ok", "ok", "crashed", "ok", "ok"]
    records = [*quick_records("ppo", "sac")[1:], quick_record("ppo", CARTPOLE, statuses=crashed)]
    page = quick_page(records)
    row = cells(page, "All families", table=2)["ppo"]
    assert row["lacks"] == "gymnasium/CartPole-v1 (1 of 5 crashed)"
    assert column(page, "All families", "CartPole")["ppo"].endswith(", 1 of 5 crashed")


def test_other_keys_are_never_ranked_together():
    records = [*quick_records("ppo", "sac", "td3")]
    for place in range(8, 12):
        key = dict(records[place].key) | {"engine": "other"}
        records[place] = replace(records[place], key=key)
    first, second = quick_page(records).split("## Other conditions: engine\n")
    assert set(cells(first, "All families", table=1)) == {"ppo", "sac"}
    assert set(cells(second, "All families", table=1)) == {"td3"}
    assert "4 records that may not stand beside those above, because of other engine" in second


def test_two_seeds_show_raw_scores_and_no_aggregate():
    records = [*quick_records("ppo")]
    records += [quick_record("sac", task, scores=[SCORES[task]] * 2) for task in QUICK]
    page = quick_page(records)
    assert column(page, "All families", "CartPole")["sac"] == "raw: 400.0, 400.0"
    row = cells(page, "All families", table=1)["sac"]
    assert (row["rank"], row["IQM"], row["mean"], row["status"]) == ("—", "—", "—", "raw only")


def test_adapted_methods_are_marked():
    records = quick_records("dqn")
    records[1] = replace(records[1], fit="adapted", adapter="Tavakoli 2018")
    page = quick_page(records)
    assert cells(page, "All families", table=1)["dqn"]["method"] == "adapted on 1 of 4"
    task = text_of(
        task_page(Context("quick", tuple(records)), PENDULUM), "quick/gymnasium/Pendulum-v1.md"
    )
    assert cells(task, "Pendulum-v1")["dqn"]["method"] == "adapted (Tavakoli 2018)"


def test_stale_records_are_marked():
    records = tuple(quick_records("ppo", "sac"))
    present = {"ppo": records[0].source_hash, "sac": "0" * 64}
    rows = cells(quick_page(records, present=Present(present)), "All families", table=1)
    assert {name: row["status"] for name, row in rows.items()} == {
        "ppo": "ranked",
        "sac": "ranked, stale",
    }


def test_records_of_another_version_of_an_environment_are_stale():
    records = tuple(quick_records("ppo"))
    for version, status in (("1.4.0", "complete"), ("0.0", "complete, stale")):
        page = quick_page(records, present=Present(versions={"gymnasium": version}))
        assert cells(page, "All families", table=1)["ppo"]["status"] == status


def test_records_of_another_config_are_stale():
    records = tuple(quick_records("ppo"))
    changed = {**records[0].config, "learning_rate": 0.1}
    for config, status in ((records[0].config, "complete"), (changed, "complete, stale")):
        page = quick_page(records, present=Present(config=lambda record, now=config: now))
        assert cells(page, "All families", table=1)["ppo"]["status"] == status


def test_the_index_counts_stale_records(results: Path, out: Path):
    matrix = Matrix(("ppo", "sac"), ("gymnasium",), {}, present=Present({"ppo": "0" * 64}))
    write_reports(results, out, matrix=matrix)
    table = cells(out.joinpath("README.md").read_text(), "Cells of quick")
    assert {name: row["gymnasium"] for name, row in table.items()} == {
        "ppo": "complete, 2 stale",
        "sac": "partial: 1 of 2 tasks",
    }


def test_protocols_that_are_not_ranked_have_no_ranks():
    records = [make_record(name, CARTPOLE, "bank", [400.0] * 30) for name in ("ppo", "sac")]
    page = text_of(protocol_page(Context("bank", tuple(records))), "bank.md")
    assert "Nothing is ranked here." in page
    assert "| rank |" not in page
    assert column(page, "gymnasium", "CartPole")["ppo"] == "400.0 [400.0, 400.0]"


def test_the_task_page_holds_every_run():
    records = (
        quick_record("ppo", CARTPOLE, statuses=ONE_DIVERGED),
        quick_record("sac", CARTPOLE),
    )
    page = text_of(task_page(Context("quick", records), CARTPOLE), "quick/gymnasium/CartPole-v1.md")
    runs = [
        ALGORITHM.sub(r"\1", line).split(" | ")
        for line in page.split("## Every run")[1].splitlines()
        if "0123456789" in line
    ]
    assert [(run[0], run[1], run[2], run[3]) for run in runs[:5]] == [
        ("| ppo", "ok", "0", "380.0"),
        ("| ppo", "ok", "1", "390.0"),
        ("| ppo", "ok", "2", "400.0"),
        ("| ppo", "ok", "3", "410.0"),
        ("| ppo", "diverged", "4", "22.7"),
    ]
    assert runs[0][4:] == [
        "0.75",
        "50,000",
        "50,000",
        "5,000",
        "60.0 s",
        "60.0 s",
        "300 MB",
        "H1",
        "0123456789 |",
    ]
    assert runs[4][5] == "22,500"
    assert len(runs) == 10
    assert "Floor 22.69 (random policy, 200 episodes), cap 500.0 (step limit)." in page
    assert "gymnasium 1.4.0, numpy 2.4.0, python 3.11.9, torch 2.13.0" in page
    assert "- H1: test processor, 2 cores, 1 thread, 5 seeds together" in page


def test_unseen_levels_are_the_score_and_training_levels_a_column():
    record = make_record("ppo", "procgen/coinrun", splits=("test-levels", "train-levels"))
    page = text_of(task_page(Context("quick", (record,)), record.task), "quick/procgen/coinrun.md")
    row = cells(page, "coinrun")["ppo"]
    assert row["mean return"].startswith("300.0 [")
    assert row["mean return"].endswith("], gap to training levels 1.0")
    assert row["on training levels"] == "301.0"
    assert row["normalised"] == "—"
    assert "No floor and cap are known" in page


def test_tasks_outside_the_protocol_have_a_page_and_no_rank():
    record = make_record("ppo", "gymnasium/Taxi-v3")
    page = quick_page([*quick_records("ppo"), record])
    assert "In no table above: [gymnasium/Taxi-v3](quick/gymnasium/Taxi-v3.md)." in page


def test_the_validation_page_shows_ours_beside_the_published_range():
    records = (
        make_record("sac", CHEETAH, "validation", (5000.0, 5100.0, 5200.0, 5300.0, 5400.0)),
        make_record("ppo", CHEETAH, "validation", (100.0, 110.0, 120.0, 130.0, 140.0)),
        make_record("random", CARTPOLE, "validation", (20.0, 21.0, 22.0, 23.0, 24.0)),
    )
    page = text_of(protocol_page(Context("validation", records)), "validation.md")
    ours = cells(page, "[mujoco/HalfCheetah-v5](validation/mujoco/HalfCheetah-v5.md)")
    assert ours["sac"]["against the published"] == "inside"
    assert ours["sac"]["published range"] == "3864 to 6515 (3 scores)"
    assert ours["sac"]["every seed"] == "5000, 5100, 5200, 5300, 5400"
    assert ours["ppo"]["against the published"] == "below"
    assert ours["ppo"]["agent steps"] == "300k"
    published = ALGORITHM.sub(r"\1", page).split("| published | source |")[1]
    assert published.count("| ○ sac |") == 3
    assert "| ○ sac | DAVIAN-Robotics/SimbaV2 results/baseline/sac.csv |" in published
    random = cells(page, "[gymnasium/CartPole-v1](validation/gymnasium/CartPole-v1.md)")["random"]
    assert (random["against the published"], random["published range"]) == ("—", "—")
    assert "| rank |" not in page


def test_published_scores_are_means_over_seeds_with_their_source():
    scores = published_scores()
    assert len(scores) > 100
    assert min(one.seeds for one in scores) >= 3
    assert all(one.source and one.metric for one in scores)
    assert not any("max" in one.metric for one in scores)
    known = {row.task for name in ("quick", "validation") for row in PROTOCOLS[name].budgets}
    assert {one.task for one in scores} <= known


def test_a_hostile_name_stays_text():
    record = replace(
        quick_record("ppo", CARTPOLE),
        algorithm=HOSTILE,
        task=f"gymnasium/{HOSTILE}",
        engine=HOSTILE,
        evaluation=HOSTILE,
        fit="adapted",
        adapter=HOSTILE,
        task_info={HOSTILE: HOSTILE},
        versions={HOSTILE: HOSTILE},
    )
    runs = [replace(run, status="diverged", reason=HOSTILE, device=HOSTILE) for run in record.runs]
    runs = [replace(run, machine={"cpu": HOSTILE, "gpu": HOSTILE}, commit=HOSTILE) for run in runs]
    record = replace(record, runs=tuple(runs))
    context = Context("quick", (record,), frozenset([HOSTILE]))
    files = protocol_page(context) | task_page(context, record.task)
    files |= algorithm_page(context, HOSTILE)
    assert all(re.fullmatch(r"[A-Za-z0-9_.-]+(/[A-Za-z0-9_.-]+)*", path) for path in files)
    assert not any(part in ("..", ".") for path in files for part in path.split("/"))
    for path in [path for path in files if path.endswith(".md")]:
        text = text_of(files, path)
        body = text.split("\n", 1)[1]
        assert "<b>" not in body
        assert "</td>" not in body
        assert "\n# top" not in body
        assert not re.search(r"(?<!\\)\]\(http", body)
        assert "http://" not in body
        rows = [line for line in body.splitlines() if line.startswith("|")]
        tables = re.findall(r"(?:^\|.*\n)+", body, flags=re.MULTILINE)
        assert rows
        for lines in map(str.splitlines, tables):
            assert len({len(re.findall(r"(?<!\\)\|", line)) for line in lines}) == 1


def test_the_console_table_sums_up_a_bench():
    records = [
        quick_record("ppo", CARTPOLE),
        quick_record("dqn", CARTPOLE, statuses=ONE_DIVERGED),
        quick_record("ppo", PENDULUM, scores=[-300.0, -310.0]),
    ]
    console = Console(width=200, file=io.StringIO())
    console.print(render_console(records))
    lines = [re.split(r"\s{2,}", line.strip()) for line in console.file.getvalue().splitlines()]
    assert lines[0] == [
        "task",
        "algorithm",
        "score [95 %]",
        "normalised",
        "seeds",
        "steps",
        "minutes",
    ]
    assert [line[:2] + line[4:] for line in lines[2:5]] == [
        [CARTPOLE, "dqn", "5 of 5, 1 diverged", "50k", "1.0"],
        [CARTPOLE, "ppo", "5 of 5", "50k", "1.0"],
        [PENDULUM, "ppo", "2 of 5", "20k", "1.0"],
    ]
    assert lines[3][2:4] == ["400.0 [380.5, 419.5]", "0.79 [0.75, 0.83]"]
    assert lines[4][2:4] == ["-305.0", "0.86"]


def test_the_console_table_takes_names_as_text():
    record = replace(quick_record("ppo", CARTPOLE), algorithm="[red]x[/red]\x1b[31m")
    console = Console(width=200, file=io.StringIO())
    console.print(render_console([record]))
    assert "[red]x[/red]?[31m" in console.file.getvalue()


def test_a_record_from_another_machine_gives_the_same_page(
    tmp_path: Path, results: Path, out: Path
):
    moved = tmp_path / "somewhere else" / "copy"
    moved.parent.mkdir()
    write_reports(results, out)
    results.rename(moved)
    write_reports(moved, tmp_path / "other")
    assert snapshot(tmp_path / "other") == snapshot(out)


@pytest.mark.slow
def test_records_are_loaded_and_reported_at_ten_thousand_a_minute(tmp_path: Path, out: Path):
    number, record = 500, make_record()
    csv = render_csv(record.episodes)
    for place in range(number):
        task = f"gymnasium/Task{place // 20}-v0"
        made = replace(
            record, algorithm=f"new{place % 20}", task=task, key={**record.key, "task": task}
        )
        paths = record_paths(tmp_path, "quick", task, made.algorithm)
        paths[0].parent.mkdir(parents=True, exist_ok=True)
        paths[0].write_bytes(csv)
        paths[1].write_bytes(render_json(made, hashlib.sha256(csv).hexdigest()))
    write_reports(tmp_path / "nothing", out)  # imports what is imported on first use
    start = time.process_time()
    summary = write_reports(tmp_path, out)
    assert (summary.records, summary.damaged) == (number, ())
    # Half as much again, for a core whose other half is busy with other tests.
    assert time.process_time() - start < 1.5 * 60 / 10_000 * number
