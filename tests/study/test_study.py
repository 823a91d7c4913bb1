"""Studies are executed anywhere, and survive what happens to them."""

import json
import multiprocessing
import os
import signal
import subprocess
import sys
import time

import psutil
import pytest
from small_study import HELPERS, PLAN, TOY, write

from harness_plugin import HarnessError
from harness_plugin.cli.main import main
from harness_plugin.study.executors import InProcess, Workers
from harness_plugin.study.graph import graph_of
from harness_plugin.study.plan import read_study
from harness_plugin.study.scheduler import execute, failed_before, so_far
from harness_plugin.study.status import cost_of, summary
from harness_plugin.study.training_records import TrainingRecords
from harness_plugin.study.worker import shared_of

# ---- execution


@pytest.mark.parametrize("slots", [1, 2])
def test_what_fails_is_tried_again(expand, tmp_path, slots):
    graph = expand()
    executor = (
        Workers(2, "study_work:fails_once") if slots == 2 else InProcess("study_work:fails_once")
    )
    progress = execute(graph, executor, tmp_path)
    assert len(progress.done) == graph.trainings == 8
    assert not progress.failed


def test_what_fails_for_good_is_reported_and_the_rest_goes_on(expand, tmp_path):
    graph = expand(retries=2)
    progress = execute(graph, InProcess("study_work:always_fails"), tmp_path)
    roles = {graph.nodes[node].role for node, _ in progress.done}
    assert roles == {"control"}
    tries = {(graph.nodes[f.node].role, f.tries) for f in progress.failed.values()}
    assert tries == {("teacher", 3), ("student", 0)}
    assert len(progress.failed) == 6
    teacher = next(f for f in progress.failed.values() if f.tries)
    assert "RuntimeError: no luck at all" in teacher.error
    assert "always_fails" in teacher.trace
    student = next(f for f in progress.failed.values() if not f.tries)
    assert student.error == "teacher, which it learns from, failed"


def test_a_worker_that_is_killed_costs_its_training_alone(expand, tmp_path):
    graph = expand(retries=1)
    progress = execute(graph, Workers(2, "study_work:dies_once"), tmp_path)
    assert len(progress.done) == graph.trainings
    assert (tmp_path / "first").exists()


def test_a_worker_that_dies_takes_no_neighbour_with_it(expand, tmp_path):
    graph = expand(retries=0, seeds=[0])
    progress = execute(graph, Workers(2, "study_work:teacher_dies"), tmp_path)
    assert {graph.nodes[node].role for node, _ in progress.done} == {"control"}
    (error,) = {failure.error for failure in progress.failed.values() if failure.tries}
    assert error == "the worker process died"


def test_failures_are_known_until_they_are_repaired(expand, tmp_path, capsys):
    graph, ledger = expand(retries=0), TrainingRecords(tmp_path)
    execute(graph, InProcess("study_work:always_fails"), tmp_path)
    words = ["study", str(graph.study.file), "--use_cache", str(tmp_path), "--status"]

    def status():
        """Role -> done, running, failed, open."""
        assert main(words) == 0
        lines = [line.split("│")[1:-1] for line in capsys.readouterr().out.splitlines()]
        rows = [[cell.strip() for cell in line] for line in lines if line]
        return {row[1]: row[2:] for row in rows}

    assert status() == {
        "teacher": ["", "", "2", ""],
        "student": ["", "", "4", ""],
        "control": ["", "", "", "2"],  # this one's work keeps no records
    }
    progress = so_far(graph, ledger)
    failed_before(graph, ledger, progress)
    assert "always_fails" in next(f.trace for f in progress.failed.values() if f.tries)
    execute(graph, InProcess("study_work:counted"), tmp_path)
    assert status()["teacher"] == ["2", "", "", ""]
    assert not list((tmp_path / "studies").glob("*.failed"))


def test_a_configuration_that_cannot_be_scored_spares_the_others(expand, tmp_path, monkeypatch):
    from harness_plugin.study import results

    def scores_of(graph, configuration, *_):
        if graph.study.levels_of(configuration)["distilled"] == "pure":
            raise RuntimeError("no metric")
        return {"numbers": [{"value": 1.0}], "estimates": [{"value": 1.0}]}

    monkeypatch.setattr(results, "scores_of", scores_of)
    graph = expand()
    progress = execute(graph, InProcess("study_work:fails_once"), tmp_path)
    rows = results.rows_of_study(graph, progress, tmp_path)
    assert [row["factor_distilled"] for row in rows.numbers] == ["half"]
    results.write(graph, progress, rows, tmp_path / "out")
    (failure,) = json.loads((tmp_path / "out" / "failures_small.json").read_text())
    assert failure["configurations"][0]["distilled"] == "pure"
    assert failure["error"] == "RuntimeError: no metric"


@pytest.mark.parametrize(
    ("sets", "message"),
    [
        (["method=group_dro", "options.annotated=false"], "group_dro needs group labels"),
        (["method=group_dro", "group_inference=ssa"], "group_inference ssa needs"),
    ],
)
def test_what_cannot_work_spares_what_does_not_need_it(tmp_path, plugins, sets, message):
    from harness_plugin.config.merge import run_config
    from harness_plugin.pipeline.prepare.open_task import load_tasks
    from harness_plugin.pipeline.run_task import context_of

    flags = {"threads": 1, "precision": "no", "attention": "sdpa"}
    config = run_config(None, {"tasks": (TOY,), **flags}, sets)
    (task,) = load_tasks(config, plugins)
    for role in ("erm_teacher", "erm_student"):
        context_of(task, config, plugins, tmp_path, only=role)
    for role in ("teacher", "student", "control"):
        with pytest.raises(HarnessError, match=message):
            context_of(task, config, plugins, tmp_path, only=role)


def test_configurations_kept_open_do_not_mix_their_precision(tmp_path):
    def shared(precision):
        run = {**PLAN["run"], "precision": precision, "tasks": (TOY,)}
        return shared_of(run, str(tmp_path))

    assert shared("no").accelerator.mixed_precision == "no"
    assert shared("bf16").accelerator.mixed_precision == "bf16"
    assert shared("no").accelerator.mixed_precision == "no"
    assert shared("no") is shared("no")


def run_counted(file, root):
    from harness_plugin.plugins.registry import load_plugins

    graph = graph_of(read_study(file), load_plugins())
    execute(graph, InProcess("study_work:counted"), root)


def test_two_processes_on_one_store_train_nothing_twice(expand, tmp_path):
    graph = expand(seeds=[0, 1, 2])
    context = multiprocessing.get_context("spawn")
    both = [context.Process(target=run_counted, args=(graph.study.file, tmp_path)) for _ in "ab"]
    for process in both:
        process.start()
    for process in both:
        process.join(60)
        assert process.exitcode == 0
    calls = (tmp_path / "calls.txt").read_text().split()
    assert len(calls) == len(set(calls)) == graph.trainings == 12
    assert len(so_far(graph, TrainingRecords(tmp_path)).done) == 12


ORPHANS = """
import sys
from pathlib import Path
from types import SimpleNamespace
from harness_plugin.scoring.statistics.intervals import Support, estimate
from harness_plugin.study.executors import Workers
from harness_plugin.study.plan import Resources
from harness_plugin.study.worker import Job
if __name__ == "__main__":
    workers = Workers(1, "study_work:report_identity")
    workers.submit(1, Job("one", "teacher", 0, {}, sys.argv[1]), Resources())
    workers.wait()
"""


def test_workers_end_when_their_study_is_killed(tmp_path):
    (tmp_path / "study.py").write_text(ORPHANS)
    environment = {**os.environ, "PYTHONPATH": HELPERS}
    study = subprocess.Popen([sys.executable, tmp_path / "study.py", tmp_path], env=environment)
    expected = tmp_path / "worker"
    deadline = time.monotonic() + 60
    while not expected.is_file() or not expected.read_text():
        assert time.monotonic() < deadline
        time.sleep(0.02)
    worker = int(expected.read_text())
    study.kill()
    study.wait()
    while psutil.pid_exists(worker) and time.monotonic() < deadline:
        time.sleep(0.02)
    assert not psutil.pid_exists(worker)


HOLD = """
import sys, time
from pathlib import Path
from types import SimpleNamespace
from harness_plugin.study.training_records import TrainingRecords
lease = TrainingRecords(Path(sys.argv[1])).lease("one")
print("held", flush=True)
time.sleep(60)
"""


def test_a_living_owner_is_named_and_a_dead_one_is_followed(tmp_path):
    ledger = TrainingRecords(tmp_path)
    holder = subprocess.Popen([sys.executable, "-c", HOLD, tmp_path], stdout=subprocess.PIPE)
    with holder:
        assert holder.stdout.readline() == b"held\n"
        assert ledger.owner("one").endswith(f"process {holder.pid}")
        assert ledger.lease("one") is None
        holder.send_signal(signal.SIGKILL)
    assert ledger.owner("one") == ""
    started = time.monotonic()
    while (lease := ledger.lease("one")) is None:
        time.sleep(0.05)
    assert time.monotonic() - started < 20  # not the whole lease: its owner was of this machine
    assert ledger.owner("one").endswith(f"process {os.getpid()}")
    lease.release()
    assert ledger.owner("one") == ""


def test_a_lock_whose_maker_died_before_signing_it_is_taken(tmp_path):
    ledger = TrainingRecords(tmp_path)
    lock = tmp_path / "studies" / "one.lock"
    lock.parent.mkdir()
    lock.touch()
    assert ledger.lease("one") is None  # it may be about to sign
    os.utime(lock, (time.time() - 60, time.time() - 60))
    lease = ledger.lease("one")
    assert ledger.owner("one").endswith(f"process {os.getpid()}")
    lease.release()
    assert list(lock.parent.iterdir()) == []


def test_costs_are_those_of_trainings_alike_or_unknown(expand, tmp_path):
    graph = expand()
    ledger = TrainingRecords(tmp_path)
    assert cost_of(graph, so_far(graph, ledger)).unknown == 8
    for node, seconds in enumerate((10.0, 2.0, 4.0, 3.0)):
        record = {"stage": None, "seconds": seconds, "reused": False, "peak_memory": 2**30}
        ledger.finished(graph.name_of(node, 0), record)
    cost = cost_of(graph, so_far(graph, ledger))
    assert (cost.seconds, cost.measured, cost.unknown) == (19.0, 4, 0)
    output = "\n".join(summary(graph, so_far(graph, ledger), 2, 0))
    assert "4 done, 4 open" in output
    assert "about 19 s, 10 s in 2 at a time" in output
    assert "1.0 GiB" in output
    assert "the store holds" not in output


def test_a_plan_says_what_else_the_store_holds(tmp_path, capsys):
    """Models of runs may be open trainings of the plan; which ones is not known without data."""
    words = ["study", str(write(tmp_path)), "--dry_run", "--use_cache", str(tmp_path)]
    for name in ("model-a", "model-b", "model-c.broken", "model-d.partial", "logits-a"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "stage.json").write_text("{}")
    records = TrainingRecords(tmp_path)
    assert main(words) == 0
    output = capsys.readouterr().out
    assert "0 done, 8 open\n  the store holds 2 more model(s)" in output
    assert max(map(len, output.splitlines())) <= 80
    assert records.models_besides([{"stage": "a"}]) == 1


def test_a_record_without_its_model_counts_for_nothing(tmp_path):
    ledger = TrainingRecords(tmp_path)
    ledger.finished("one", {"stage": "abc"})
    assert ledger.record("one") is None
    (tmp_path / "model-abc").mkdir()
    (tmp_path / "model-abc" / "stage.json").write_text("{}")
    assert ledger.record("one")["stage"] == "abc"


class Remembering(InProcess):
    """Two slots; a job is done when it is waited for. Notes which seeds were at work together."""

    def __init__(self):
        super().__init__("study_work:counted", slots=2)
        self.open, self.together = [], []

    def submit(self, ticket, job, resources):
        self.open.append((ticket, job, resources))
        self.together.append(sorted(job.seed for _, job, _ in self.open))

    def wait(self):
        super().submit(*self.open.pop(0))
        return super().wait()


def test_trainings_at_work_together_are_of_different_seeds(expand, tmp_path):
    """They share no stage then, for which one would wait."""
    executor = Remembering()
    graph = expand()
    progress = execute(graph, executor, tmp_path)
    assert len(progress.done) == graph.trainings == 8
    pairs = [seeds for seeds in executor.together if len(seeds) == 2]
    assert pairs[:-1] == [[0, 1]] * (len(pairs) - 1)  # the last may have no other seed left
    assert len(pairs) >= 6
