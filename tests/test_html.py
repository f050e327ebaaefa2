"""The HTML leaderboard: whole in itself, safe against names, sorted and filtered by its script."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from collections.abc import Sequence
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import pytest
from factories import make_record

from suite.pages.common import Context, Present
from suite.pages.html import html_page
from suite.records import Record

CARTPOLE, PENDULUM = "gymnasium/CartPole-v1", "gymnasium/Pendulum-v1"
HOSTILE = "</td></script><script>alert(1)</script><img src=x onerror=alert(1)>\"' <!--cells-->"
SCRIPT = Path(__file__).parent.parent / "suite/pages/leaderboard.js"


class Page(HTMLParser):
    """Every tag with its attributes, and the table rows as lists of texts."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.rows: list[list[str]] = []
        self.is_in_cell = False
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag == "tr":
            self.rows.append([])
        if tag in ("td", "th"):
            self.rows[-1].append("")
            self.is_in_cell = True

    def handle_endtag(self, tag: str) -> None:
        if tag in ("td", "th"):
            self.is_in_cell = False

    def handle_data(self, data: str) -> None:
        if self.is_in_cell:
            self.rows[-1][-1] += data

    def of(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.tags if name == tag]


def text_of(records: Sequence[Record], name: str = "quick") -> str:
    (text,) = html_page([Context(name, tuple(records))]).values()
    return text.decode()


@pytest.fixture(scope="module")
def records() -> list[Record]:
    statuses = ["ok", "ok", "ok", "ok", "diverged"]
    made = [make_record(name, task) for name in ("ppo", "sac") for task in (CARTPOLE, PENDULUM)]
    return [*made[:3], make_record("sac", PENDULUM, scores=[-300.0] * 5, statuses=statuses)]


def test_every_cell_has_a_row_with_its_record_and_command(records: list[Record]):
    page = Page(text_of(records))
    rows = {tuple(row[2:4]): row for row in page.rows if row[-2:-1] == ["record"]}
    assert set(rows) == {
        (task.split("/")[1], name) for task in (CARTPOLE, PENDULUM) for name in ("ppo", "sac")
    } | {("task", "algorithm")}
    path = "results/quick/gymnasium/Pendulum-v1/sac.json"
    assert rows["Pendulum-v1", "sac"][-1] == f"make reproduce RECORD={path}"
    assert rows["Pendulum-v1", "sac"][7] == "1"
    assert f"../{path}" in [link.get("href") for link in page.of("a")]


def test_boards_show_rank_estimates_and_failures(records: list[Record]):
    rows = [row for row in Page(text_of(records)).rows if row[:2] == ["quick", "gymnasium"]]
    (sac,) = [row for row in rows if len(row) == 12 and row[3] == "sac" and "x" in row[10]]
    assert sac[10] == "5 x 2, 1 diverged"
    assert re.fullmatch(r"-?\d\.\d\d \[-?\d\.\d\d, -?\d\.\d\d\]", sac[4])


def test_stale_records_are_marked_in_both_tables(records: list[Record]):
    present = {"ppo": records[0].source_hash, "sac": "0" * 64}
    (text,) = html_page([Context("quick", tuple(records), present=Present(present))]).values()
    for row in Page(text.decode()).rows:
        if len(row) == 12 and row[3] in present:
            told = [cell for cell in row if cell.endswith("stale")]
            assert len(told) == (row[3] == "sac")


def test_the_page_loads_nothing(records: list[Record]):
    text = text_of(records)
    page = Page(text)
    assert not [attributes for _, attributes in page.tags if "src" in attributes]
    assert page.of("link") == []
    targets = [link.get("href") or "" for link in page.of("a")]
    assert not [target for target in targets if ":" in target or target.startswith("//")]
    (policy,) = [meta["content"] for meta in page.of("meta") if "http-equiv" in meta]
    assert policy is not None
    assert policy.startswith("default-src 'none'")


def test_equal_records_give_equal_bytes(records: list[Record]):
    assert text_of(records) == text_of(records)


def test_curves_stand_in_the_rows_as_numbers_alone(records: list[Record]):
    rows = [row for row in Page(text_of(records)).of("tr") if "data-curves" in row]
    assert len(rows) == 4
    for row in rows:
        lines = (row["data-curves"] or "").split(";")
        assert len(lines) == 6
        assert all(re.fullmatch(r"(\d+,\d+ ?)+", line) for line in lines)


def test_a_hostile_name_stays_text(records: list[Record]):
    hostile = replace(
        records[0],
        algorithm=HOSTILE,
        task=f"gymnasium/{HOSTILE}",
        adapter=HOSTILE,
        fit="adapted",
    )
    clean, text = Page(text_of(records[1:])), text_of([*records[1:], hostile])
    page = Page(text)
    assert {name for name, _ in page.tags} == {name for name, _ in clean.tags}
    assert len(page.of("script")) == 1
    assert not [key for _, attributes in page.tags for key in attributes if key.startswith("on")]
    assert HOSTILE in [row[3] for row in page.rows if len(row) > 3]
    assert text.count("<table") == 2


def test_without_records_the_page_is_empty_but_sound():
    assert Page(html_page([])["leaderboard.html"].decode()).of("table")


STUB = """
const cell = (value) => ({ dataset: { value } });
const row = (protocol, ...values) => ({
  hidden: false, dataset: { protocol, family: "" }, children: values.map(cell),
  textContent: values.join(" "),
});
const rows = [row("quick", "ppo", "10"), row("quick", "sac", "9"), row("bank", "dqn", "")];
const title = () => ({
  attributes: {}, getAttribute(key) { return this.attributes[key]; },
  removeAttribute(key) { delete this.attributes[key]; },
  setAttribute(key, value) { this.attributes[key] = value; },
  querySelector: () => ({ addEventListener: () => {} }),
});
const titles = [title(), title()];
let order = rows;
const body = { querySelectorAll: () => rows, append: (...sorted) => { order = sorted; } };
const table = {
  querySelectorAll: () => titles, querySelector: () => body, addEventListener: () => {},
};
const controls = {};
for (const name of ["protocol", "family", "search", "count", "curves"])
  controls[name] = { value: "", addEventListener: () => {} };
globalThis.document = {
  querySelectorAll: (query) => (query === "table" ? [table] : rows),
  getElementById: (name) => controls[name],
};
"""
USE = """
const names = () => order.map((one) => one.children[0].dataset.value);
const found = {};
sort(table, 1); found.up = names();
sort(table, 1); found.down = names();
sort(table, 0); found.text = names();
search.value = "PP"; filter(); found.search = rows.map((one) => one.hidden);
search.value = ""; protocol.value = "bank"; filter();
found.protocol = rows.map((one) => one.hidden);
found.count = controls.count.textContent;
console.log(JSON.stringify(found));
"""


@pytest.mark.skipif(shutil.which("node") is None, reason="there is no node to run the script with")
def test_the_script_sorts_numbers_and_texts_and_filters():
    code = STUB + SCRIPT.read_text().replace('"use strict";', "") + USE
    done = subprocess.run(["node", "-e", code], capture_output=True, text=True, check=True)
    assert json.loads(done.stdout) == {
        "up": ["sac", "ppo", "dqn"],
        "down": ["ppo", "sac", "dqn"],
        "text": ["dqn", "ppo", "sac"],
        "search": [False, True, True],
        "protocol": [True, True, False],
        "count": "1 rows",
    }


BROWSER = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "chrome"))), None)
VISIT = """<script>
const found = {};
const names = () => [...tables[0].querySelectorAll("tbody tr")]
  .filter((row) => !row.hidden).map((row) => row.children[3].textContent);
const press = (column) => tables[0].querySelectorAll("th button")[column].click();
press(3); found.up = names();
press(3); found.down = names();
search.value = "sac"; search.dispatchEvent(new Event("input")); found.search = names();
const row = document.querySelector("tr[data-curves]:not([hidden])");
row.dispatchEvent(new MouseEvent("mouseover", { bubbles: true }));
found.curves = curves.hidden ? 0 : curves.querySelectorAll("polyline").length;
row.closest("table").dispatchEvent(new MouseEvent("mouseleave"));
found.gone = curves.hidden;
document.body.dataset.found = JSON.stringify(found);
</script>"""


@pytest.mark.skipif(BROWSER is None, reason="there is no browser to open the page with")
def test_a_browser_sorts_filters_and_shows_curves(records: list[Record], tmp_path: Path):
    text = re.sub(r"<meta http-equiv[^>]*>", "", text_of(records))  # it forbids foreign scripts
    page = tmp_path / "leaderboard.html"
    page.write_text(text + VISIT)
    options = ("--headless", "--no-sandbox", "--disable-gpu", f"--user-data-dir={tmp_path}")
    done = subprocess.run(
        [str(BROWSER), *options, "--disable-background-networking", "--dump-dom", page.as_uri()],
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    (body,) = Page(done.stdout).of("body")
    found = json.loads(body["data-found"] or "")
    assert found["up"] == sorted(found["up"])
    assert found["down"] == found["up"][::-1]
    assert set(found["up"]) == {"ppo", "sac"}
    assert set(found["search"]) == {"sac"}
    assert found["curves"] == 6
    assert found["gone"]
