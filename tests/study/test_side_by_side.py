"""Trainings of a run side by side: the same numbers, the store's share, and what is said."""

from functools import partial
from pathlib import Path

import psutil
import pytest

from harness_plugin import HarnessError
from harness_plugin.config.run_config import RunConfig
from harness_plugin.pipeline.prepare import hardware
from harness_plugin.study import side_by_side
from harness_plugin.study.executors import Workers
from harness_plugin.study.scheduler import Progress

TOY = str(Path(__file__).parents[1] / "toy" / "toy.yaml")
SETTINGS = {
    "references": False,
    "teacher": {"epochs": 2, "learning_rate": 5e-3},
    "student": {"epochs": 1, "learning_rate": 5e-3},
}
GIB = 2**30


def config(folder, **changes):
    values = {
        "tasks": (TOY,),
        "seeds": (0, 1),
        "device": "cpu",
        "threads": 1,
        "precision": "no",
        "attention": "sdpa",
        "settings": SETTINGS,
        "use_cache": str(folder / "store"),
        "output_path": str(folder / "results"),
    }
    return RunConfig.model_validate(values | changes)


def answers(report):
    """Every prediction, as bytes."""
    (scores,) = report.tasks
    return {(p.split, p.role, p.seed): p.logits.tobytes() for p in scores.predictions}


@pytest.mark.slow
def test_two_workers_give_the_bytes_of_one_process(tmp_path, plugins, capfd):
    alone = side_by_side.run(config(tmp_path / "alone"), plugins)
    both = side_by_side.run(config(tmp_path / "both", workers=2), plugins)
    assert len(answers(alone)) > 6
    assert answers(both) == answers(alone)
    assert [model.reused for model in both.tasks[0].models] == [False] * len(both.tasks[0].models)
    assert all(model.seconds > 0 for model in both.tasks[0].models)
    capfd.readouterr()
    # what workers trained is the run's own: the next one takes it from the store, in one process
    again = side_by_side.run(config(tmp_path / "both", workers=2), plugins)
    assert answers(again) == answers(alone)
    assert all(model.reused for model in again.tasks[0].models)
    assert again.config["workers"] == 1
    assert capfd.readouterr().err == ""


def test_what_fails_in_a_worker_is_named_and_trained_by_the_run(
    tmp_path, plugins, monkeypatch, capfd
):
    failing = partial(Workers, work="study_work:always_fails")
    monkeypatch.setattr(side_by_side, "Workers", failing)
    report = side_by_side.run(config(tmp_path, workers=2), plugins)
    output = capfd.readouterr().err
    for seed in (0, 1):
        assert (
            f"toy teacher seed {seed} failed in a worker (RuntimeError: no luck at all); it is "
            "trained in this process."
        ) in output
    assert "student" not in output  # what learns from it was never begun
    assert len(report.tasks[0].models) == 6
    assert not any(model.reused for model in report.tasks[0].models)


def test_a_setting_that_does_not_fit_is_told_as_in_one_process(tmp_path, plugins):
    words = []
    for workers in (1, 2):
        wrong = {**SETTINGS, "teacher": {"epochs": -1}}
        with pytest.raises(HarnessError) as error:
            side_by_side.run(config(tmp_path, workers=workers, settings=wrong), plugins)
        words.append(str(error.value))
    assert words[0] == words[1]
    assert "teacher.epochs" in words[0]


@pytest.fixture
def counted(tmp_path, plugins, monkeypatch):
    """The workers and threads of a run on a machine of four idle cores."""
    monkeypatch.setattr(hardware, "available_cores", lambda: 4)

    def count(memory=64 * GIB, done=(), **changes):
        available = type("Memory", (), {"available": memory})
        monkeypatch.setattr(psutil, "virtual_memory", lambda: available)
        expected = config(tmp_path, **{"threads": "auto", **changes})
        graph = side_by_side.graph_of_run(expected, plugins)
        record = {"seconds": 1.0, "peak_memory": 3 * GIB}
        progress = Progress(done={which: record for which in [*graph.instances()][: len(done)]})
        made = side_by_side.with_workers(expected, graph, progress)
        return made.workers, made.threads

    return count


def test_workers_share_the_threads(counted):
    assert counted(workers="auto") == (4, 1)
    assert counted(workers=2) == (2, 2)
    assert counted(workers=3) == (3, 1)
    assert counted(workers=2, threads=3) == (2, 3)
    assert counted(workers=1) == (1, "auto")


def test_no_more_workers_than_open_trainings(counted):
    six = "abcdef"  # teacher, student and control of two seeds
    assert counted(workers=8, done=six[:3]) == (3, 1)
    assert counted(workers="auto", done=six[:5]) == (1, "auto")
    assert counted(workers="auto", done=six) == (1, "auto")


def test_auto_starts_what_the_memory_holds(counted):
    assert counted(workers="auto", memory=5 * GIB) == (3, 1)  # 1.5 GiB each: none was measured
    assert counted(workers="auto", memory=7 * GIB, done="a") == (2, 2)  # 3 GiB were measured
    assert counted(workers="auto", memory=GIB) == (1, "auto")
    assert counted(workers=4, memory=GIB) == (4, 1)  # asked for


def test_workers_and_a_launcher_exclude_each_other(counted, monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "2")
    assert counted(workers="auto") == (1, "auto")
    with pytest.raises(HarnessError, match="--workers 2 in a run of 2 processes"):
        counted(workers=2)
