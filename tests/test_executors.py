"""Jobs run in processes of their own; none can harm another."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from suite.executors import Died, Event, Executor, Finished, Job, Local, Progress, Report


def double(work: int, report: Report) -> int:
    report(f"at {work}")
    return 2 * work


def fail(work: str, report: Report) -> None:
    raise ValueError(work)


def be_killed(work: None, report: Report) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def tell_process(work: None, report: Report) -> int:
    return os.getpid()


def never_end(work: None, report: Report) -> None:
    report(os.getpid())
    time.sleep(600)


@pytest.fixture
def executor() -> Iterator[Executor]:
    local = Local(2)
    yield local
    local.close()


def submit(executor: Executor, folder: Path, *calls: tuple[object, object]) -> list[Event]:
    """Run jobs named by their number to their ends."""
    for number, (run, work) in enumerate(calls):
        executor.submit(Job(str(number), run, work, folder / f"{number}.log"))
    events: list[Event] = []
    while sum(not isinstance(event, Progress) for event in events) < len(calls):
        news = executor.wait(60)
        assert news, "nothing happens"
        events += news
    return events


def alive(process: int) -> bool:
    """Whether a process runs; one that ended and waits for its parent does not."""
    status = Path(f"/proc/{process}/stat")
    return status.exists() and status.read_text().rsplit(")", 1)[1].split()[0] != "Z"


def gone_within(seconds: float, process: int) -> bool:
    end = time.monotonic() + seconds
    while alive(process) and time.monotonic() < end:
        time.sleep(0.05)
    return not alive(process)


def test_news_come_before_the_result(executor: Executor, tmp_path: Path):
    first, second = submit(executor, tmp_path, (double, 21))
    assert isinstance(first, Progress)
    assert isinstance(second, Finished)
    assert (first.news, second.result) == ("at 21", 42)


def test_every_job_has_a_process_of_its_own(executor: Executor, tmp_path: Path):
    events = submit(executor, tmp_path, *[(tell_process, None)] * 3)
    processes = {event.result for event in events}
    assert len(processes) == 3
    assert os.getpid() not in processes


def test_job_that_dies_leaves_the_others_alone(executor: Executor, tmp_path: Path):
    events = submit(executor, tmp_path, (fail, "of no use"), (be_killed, None), (double, 1))
    ends = {event.job.name: event for event in events if not isinstance(event, Progress)}
    assert isinstance(ends["0"], Died)
    assert ends["0"].reason == "the process ended with exit code 1: ValueError: of no use"
    assert isinstance(ends["1"], Died)
    assert ends["1"].reason == "the process was ended by SIGKILL"
    assert isinstance(ends["2"], Finished)


def test_what_a_job_writes_goes_to_its_log(executor: Executor, tmp_path: Path):
    submit(executor, tmp_path, (fail, "of no use"))
    assert (tmp_path / "0.log").read_text().endswith("ValueError: of no use\n")


def test_never_more_jobs_side_by_side_than_the_limit(tmp_path: Path):
    executor = Local(1)
    events = submit(executor, tmp_path, (double, 1), (double, 2))
    assert [event.job.name for event in events] == ["0", "0", "1", "1"]


def test_waiting_ends_after_some_seconds_if_nothing_happens(executor: Executor):
    assert executor.wait(0.01) == []


def test_closing_ends_what_still_runs(executor: Executor, tmp_path: Path):
    executor.submit(Job("endless", never_end, None, tmp_path / "log"))
    (event,) = executor.wait(60)
    assert isinstance(event, Progress)
    executor.close()
    assert gone_within(0, event.news)


def test_jobs_end_when_the_bench_is_killed(tmp_path: Path):
    code = (
        "import sys; from pathlib import Path\n"
        "from suite.executors import Job, Local; from test_executors import never_end\n"
        "executor = Local(1)\n"
        "executor.submit(Job('endless', never_end, None, Path('log')))\n"
        "while True:\n"
        "    for event in executor.wait(60):\n"
        "        print(event.news, flush=True)"
    )
    path = os.pathsep.join([str(Path(__file__).parent), str(Path(__file__).parent.parent)])
    bench = subprocess.Popen(
        [sys.executable, "-c", code],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": path},
        stdout=subprocess.PIPE,
        text=True,
    )
    with bench:
        assert bench.stdout is not None
        process = int(bench.stdout.readline())
        assert alive(process)
        bench.kill()
    assert gone_within(10, process)
