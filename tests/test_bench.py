"""A bench runs what is missing, and loses nothing on the way.

Most tests here script what becomes of a job instead of training; the command line's tests train.
"""

from __future__ import annotations

import errno
import hashlib
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import factories
import pytest
import torch

from suite import bench as benching
from suite import runner
from suite.bench import Bench, Ended, Remark, StorageError, Unwritable, Update, split, train
from suite.cells import Cell, Request, State, default_engine, examine, find_cells, parse_overrides
from suite.executors import Died, Event, Finished, Job
from suite.protocols import PROTOCOLS
from suite.records import Episode, Record, check, load, save
from suite.registry import find_task
from suite.runner import Outcome, Work
from suite.tasks import Task

TASK = Task("gymnasium/CartPole-v1", "discrete", 500, "test domain", "low", "Nobody 2000")


def make_cell(algorithm: str = "ppo", seeds: Sequence[int] = (0, 1, 2, 3, 4)) -> Cell:
    record = factories.make_record(algorithm, TASK.id)
    return Cell(
        algorithm=algorithm,
        task=TASK,
        engine="envpool",
        protocol=PROTOCOLS["quick"],
        steps=record.budget,
        seeds=tuple(seeds),
        config=record.config,
        device="cpu",
        threads=1,
        blank=replace(record, runs=(), episodes=record.episodes[:0]),
        missing_packages=(),
        install="",
    )


def outcome(cell: Cell, seeds: Sequence[int], crashed: Sequence[int] = ()) -> Outcome:
    """What the runner returns for some seeds; seed r scores 100 r."""
    record = factories.make_record(
        cell.algorithm,
        seeds=seeds,
        scores=[100.0 * seed for seed in seeds],
        statuses=["crashed" if seed in crashed else "ok" for seed in seeds],
    )
    episodes = [Episode(*row) for row in record.episodes.itertuples(index=False)]
    return Outcome(tuple(replace(run, attempts=1) for run in record.runs), tuple(episodes))


Answer = Callable[[Job], Event]


@dataclass
class Scripted:
    """An executor that answers the jobs one after the other, without running any."""

    answers: Iterator[Answer] | None = None
    """None: every seed is ok."""
    jobs: list[Job] = field(default_factory=list)
    closed: bool = False
    _waiting: deque[Job] = field(default_factory=deque)

    def submit(self, job: Job) -> None:
        self.jobs.append(job)
        self._waiting.append(job)

    def wait(self, seconds: float) -> list[Event]:
        if not self._waiting:
            return []
        return [(next(self.answers) if self.answers else succeed)(self._waiting.popleft())]

    def close(self) -> None:
        self.closed = True

    @property
    def seeds(self) -> list[tuple[int, ...]]:
        return [job.work.seeds for job in self.jobs]


class Impatient(Scripted):
    """Gives up as soon as it would have to wait."""

    def wait(self, seconds: float) -> list[Event]:
        raise KeyboardInterrupt


def succeed(job: Job) -> Event:
    return Finished(job, outcome(make_cell(job.work.algorithm), job.work.seeds))


def crash(*seeds: int) -> Answer:
    def answer(job: Job) -> Event:
        return Finished(job, outcome(make_cell(), job.work.seeds, crashed=seeds))

    return answer


def die(job: Job) -> Event:
    return Died(job, "the process was ended by SIGKILL")


def interrupt(job: Job) -> Event:
    raise KeyboardInterrupt


def fill_disk(job: Job) -> Event:
    return Finished(job, Unwritable("cannot write to runs: No space left on device"))


@dataclass
class Folders:
    results: Path
    live: Path
    told: list[Update] = field(default_factory=list)

    def run(
        self,
        *answers: Answer,
        cells: Sequence[Cell] | None = None,
        jobs: int = 1,
        stale: bool = False,
    ) -> Scripted:
        """Run a bench over cells, with answers for its jobs (none: all succeed)."""
        executor = Scripted(iter(answers) if answers else None)
        cells = [make_cell()] if cells is None else cells
        bench = Bench(cells, self.results, self.live, executor, jobs, stale, self.told.append)
        try:
            bench.run()
        finally:
            assert executor.closed
        return executor

    def record(self, algorithm: str = "ppo") -> Record:
        return load(self.results / "quick/gymnasium/CartPole-v1" / f"{algorithm}.json")

    def state(self) -> State:
        return examine(make_cell(), self.results)


@pytest.fixture
def folders(tmp_path: Path) -> Folders:
    return Folders(tmp_path / "results", tmp_path / "runs")


def statuses(record: Record) -> dict[int, tuple[str, int]]:
    return {run.seed: (run.status, run.attempts) for run in record.runs}


def test_all_seeds_of_a_cell_train_together(folders: Folders):
    assert folders.run().seeds == [(0, 1, 2, 3, 4)]
    assert folders.record().seeds == (0, 1, 2, 3, 4)


@pytest.mark.parametrize(
    ("algorithm", "task", "evaluation"),
    [
        ("random", "gymnasium/CartPole-v1", "sampled"),
        ("dqn", "minigrid/MiniGrid-DoorKey-5x5-v0", "greedy"),
        ("ppo", "minigrid/MiniGrid-DoorKey-5x5-v0", "sampled"),
        ("ppo", "gymnasium/CartPole-v1", "greedy"),
    ],
)
def test_a_record_states_how_actions_were_chosen_in_evaluation(
    algorithm: str, task: str, evaluation: str
):
    (cell,) = find_cells(Request(algorithm, task, protocol="quick"))
    assert cell.record.evaluation == evaluation


def test_complete_cell_is_not_run_again(folders: Folders):
    folders.run()
    assert folders.run().seeds == []
    last = folders.told[-1]
    assert isinstance(last, Ended)
    assert not last.ran
    assert folders.state().word == "complete"


def test_more_seeds_extend_the_record_by_the_missing_ones(folders: Folders):
    folders.run(cells=[make_cell(seeds=(0, 1))])
    assert folders.run().seeds == [(2, 3, 4)]
    assert folders.record().seeds == (0, 1, 2, 3, 4)


def test_fewer_seeds_leave_a_partial_record_that_says_so(folders: Folders):
    folders.run(cells=[make_cell(seeds=(0, 1))])
    assert folders.state().word == "2 of 5 seeds"


def test_crashed_seed_is_run_again_alone_at_most_twice(folders: Folders):
    executor = folders.run(crash(3), crash(3), crash(3))
    assert executor.seeds == [(0, 1, 2, 3, 4), (3,), (3,)]
    assert statuses(folders.record())[3] == ("crashed", 3)
    assert statuses(folders.record())[4] == ("ok", 1)


def test_seed_that_crashed_once_counts_as_ok_and_tells_its_attempts(folders: Folders):
    folders.run(crash(3), succeed)
    assert statuses(folders.record())[3] == ("ok", 2)
    remark = next(update for update in folders.told if isinstance(update, Remark))
    assert remark.text == "seed 3 crashed (crashed at step 0: loss); running it again, 1 of 2"


def test_each_attempt_of_a_crashed_seed_starts_in_a_folder_of_its_own(folders: Folders):
    executor = folders.run(crash(0), crash(0), succeed, cells=[make_cell(seeds=(0,))])
    assert len({job.work.folder for job in executor.jobs}) == 3


def test_seed_that_crashed_for_good_is_left_until_asked_for(folders: Folders):
    folders.run(crash(3), crash(3), crash(3))
    assert folders.run().seeds == []
    assert folders.run(stale=True).seeds == [(3,)]
    assert statuses(folders.record())[3] == ("ok", 1)


def test_process_that_dies_goes_on_in_its_folder_and_at_last_seed_by_seed(folders: Folders):
    two = [make_cell(seeds=(0, 1))]
    executor = folders.run(die, die, succeed, die, cells=two)
    assert executor.seeds == [(0, 1), (0, 1), (0,), (1,)]
    assert executor.jobs[0].work.folder == executor.jobs[1].work.folder
    assert statuses(folders.record()) == {0: ("ok", 3), 1: ("crashed", 3)}
    assert folders.record().runs[1].reason == "the process was ended by SIGKILL"


def test_interrupted_bench_keeps_its_live_state_and_goes_on_in_it(folders: Folders):
    with pytest.raises(KeyboardInterrupt):
        folders.run(interrupt)
    first = list(folders.live.rglob("seeds.json"))
    executor = folders.run()
    assert [executor.jobs[0].work.folder] == [path.parent for path in first]
    assert list(folders.live.rglob("seeds.json")) == []


def test_half_a_manifest_is_as_good_as_none(folders: Folders):
    with pytest.raises(KeyboardInterrupt):
        folders.run(interrupt)
    (manifest,) = folders.live.rglob("seeds.json")
    manifest.write_text("[0, 1")
    assert folders.run().seeds == [(0, 1, 2, 3, 4)]
    assert folders.state().word == "complete"


def test_a_save_that_was_cut_off_is_finished_by_the_next_bench(folders: Folders):
    folders.run()
    path = folders.results / "quick/gymnasium/CartPole-v1/ppo.json"
    csv_hash = hashlib.sha256(path.with_suffix(".csv").read_bytes()).hexdigest()
    path.rename(path.with_name(f".ppo.{csv_hash[:16]}.json.tmp"))
    assert folders.run().seeds == []
    assert path.exists()
    assert check(folders.results) == []


def test_live_groups_are_taken_up_whatever_the_number_of_jobs(folders: Folders):
    with pytest.raises(KeyboardInterrupt):
        folders.run(interrupt)
    assert folders.run(jobs=3).seeds == [(0, 1, 2, 3, 4)]


def test_live_state_of_other_code_is_thrown_away(folders: Folders):
    with pytest.raises(KeyboardInterrupt):
        folders.run(interrupt)
    changed = replace(make_cell(), blank=replace(make_cell().record, source_hash="0" * 64))
    with pytest.raises(KeyboardInterrupt):
        folders.run(interrupt, cells=[changed])
    assert len(list(folders.live.rglob("seeds.json"))) == 1


def test_results_folders_do_not_share_live_state(folders: Folders):
    other = Folders(folders.results.with_name("other"), folders.live)
    for each in (folders, other):
        with pytest.raises(KeyboardInterrupt):
            each.run(interrupt)
    assert len(list(folders.live.rglob("seeds.json"))) == 2


def test_seeds_are_split_if_there_are_fewer_cells_than_jobs(folders: Folders):
    assert folders.run(jobs=2).seeds == [(0, 1), (2, 3, 4)]
    assert folders.record().seeds == (0, 1, 2, 3, 4)


def test_seeds_are_not_split_if_there_are_enough_cells(folders: Folders):
    cells = [make_cell("ppo"), make_cell("sac")]
    assert folders.run(cells=cells, jobs=2).seeds == [(0, 1, 2, 3, 4), (0, 1, 2, 3, 4)]


def test_split_does_not_depend_on_what_is_missing(folders: Folders):
    folders.run(cells=[make_cell(seeds=(0,))])
    assert folders.run(jobs=2).seeds == [(1,), (2, 3, 4)]


@pytest.mark.parametrize(
    ("number", "parts", "sizes"), [(5, 1, [5]), (5, 2, [2, 3]), (2, 3, [1, 1])]
)
def test_split_gives_parts_of_nearly_equal_size(number: int, parts: int, sizes: list[int]):
    found = split(range(number), parts)
    assert [len(part) for part in found] == sizes
    assert [seed for part in found for seed in part] == list(range(number))


def test_stale_record_is_left_unless_asked_for(folders: Folders):
    save(factories.make_record(source_hash="0" * 64, scores=[1.0] * 3), folders.results)
    assert folders.run().seeds == []
    assert folders.state().stale == ("source_hash",)
    assert folders.run(stale=True).seeds == [(0, 1, 2, 3, 4)]
    assert folders.state().word == "complete"


def test_stale_record_keeps_its_seeds_when_it_is_run_again(folders: Folders):
    save(factories.make_record(source_hash="0" * 64), folders.results)
    assert folders.run(cells=[make_cell(seeds=(0, 1))], stale=True).seeds == [(0, 1, 2, 3, 4)]


def test_another_torch_leaves_results_standing_but_adds_no_seeds(folders: Folders):
    versions = dict(make_cell().record.versions) | {"torch": "1.0"}
    save(factories.make_record(versions=versions), folders.results)
    assert folders.state().word == "complete"
    folders.results.joinpath("quick/gymnasium/CartPole-v1/ppo.json").unlink()
    folders.results.joinpath("quick/gymnasium/CartPole-v1/ppo.csv").unlink()
    save(factories.make_record(versions=versions, scores=[1.0] * 3), folders.results)
    assert folders.state().stale == ("versions.torch",)


def test_damaged_record_is_named_and_left_alone(folders: Folders):
    path = save(factories.make_record(), folders.results)
    text = path.read_text().replace('"ppo"', '"sac"')
    path.write_text(text)
    assert folders.run(stale=True).seeds == []
    assert folders.state().word == "damaged"
    assert path.read_text() == text


def test_two_benches_share_the_work(folders: Folders):
    """The second bench comes while the first trains, and finds nothing to do."""
    second: list[Scripted] = []

    def let_another_bench_in(job: Job) -> Event:
        cells = [make_cell("sac")]
        second.append(folders.run(cells=cells))
        impatient = Impatient()
        bench = Bench([make_cell()], folders.results, folders.live, impatient)
        with pytest.raises(KeyboardInterrupt):
            bench.run()
        assert impatient.jobs == [], "it waits for the first bench"
        return succeed(job)

    first = folders.run(let_another_bench_in, cells=[make_cell("ppo"), make_cell("sac")])
    assert first.seeds == [(0, 1, 2, 3, 4)], "sac was done by the other bench meanwhile"
    assert second[0].seeds == [(0, 1, 2, 3, 4)]
    assert folders.record("sac").seeds == folders.record("ppo").seeds


def test_full_disk_stops_the_bench_and_is_no_crash_of_a_seed(folders: Folders):
    with pytest.raises(StorageError, match="No space left"):
        folders.run(fill_disk)
    assert len(list(folders.live.rglob("seeds.json"))) == 1
    assert folders.state().word == "not run"


@pytest.mark.parametrize("writer", [torch.save, lambda state, file: file.write(bytes(10**6))])
def test_disk_that_fills_while_a_checkpoint_is_written_is_told_apart_from_a_crash(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, writer: Callable[[object, object], object]
):
    def run(work: Work, report: object) -> None:
        with Path("/dev/full").open("wb", buffering=0) as file:
            writer({"weights": torch.zeros(10**6)}, file)

    monkeypatch.setattr(runner, "run", run)
    answer = train(make_cell().work((0,), tmp_path), lambda progress: None)
    assert answer == Unwritable(f"cannot write to {tmp_path}: No space left on device")


def test_other_errors_of_a_job_are_not_taken_for_a_full_disk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    def run(work: Work, report: object) -> None:
        raise RuntimeError("shapes disagree")

    monkeypatch.setattr(runner, "run", run)
    with pytest.raises(RuntimeError, match="shapes disagree"):
        train(make_cell().work((0,), tmp_path), lambda progress: None)


def test_disk_that_fills_while_a_record_is_saved_loses_nothing(
    folders: Folders, monkeypatch: pytest.MonkeyPatch
):
    def fail(record: Record, results: Path) -> Path:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(benching, "save", fail)
    with pytest.raises(StorageError, match="No space left"):
        folders.run()
    monkeypatch.undo()
    assert folders.run().seeds == [(0, 1, 2, 3, 4)]


def test_unwritable_results_are_noticed_before_training(folders: Folders):
    folders.results.write_text("a file in its place")
    executor = Scripted()
    with pytest.raises(StorageError, match=r"cannot write to .*results: File exists"):
        Bench([make_cell()], folders.results, folders.live, executor).run()
    assert executor.jobs == []


def test_nearly_full_disk_is_noticed_before_training(
    folders: Folders, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(benching, "LEAST_FREE_BYTES", 2**70)
    with pytest.raises(StorageError, match="MiB are free"):
        Bench([make_cell()], folders.results, folders.live, Scripted()).run()


def test_overrides_are_read_from_one_text_or_several():
    assert parse_overrides(["a=1 b=2", "c=x=y"]) == {"a": "1", "b": "2", "c": "x=y"}
    with pytest.raises(ValueError, match="expected name=value"):
        parse_overrides(["learning_rate"])


@pytest.mark.parametrize(
    ("device", "name", "is_installed", "expected"),
    [
        ("cpu", "Ant", True, "mujoco"),
        ("cuda", "Ant", True, "mujoco-warp"),
        ("cuda:1", "Ant", True, "mujoco-warp"),
        ("cuda", "Ant", False, "mujoco"),
        ("cuda", "AnymalTerrain", True, "mujoco"),
    ],
)
def test_on_a_gpu_an_engine_that_computes_there_is_the_default(
    monkeypatch: pytest.MonkeyPatch, device: str, name: str, is_installed: bool, expected: str
) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    monkeypatch.setattr(
        "suite.cells.installed_version", lambda package: "1" if is_installed else None
    )
    assert default_engine(find_task(f"isaacgym/{name}"), device).name == expected
    assert default_engine(find_task("mujoco/Ant-v5"), device).name == "envpool"
