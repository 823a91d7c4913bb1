"""Trainings of a study as jobs of Slurm, by submitit's executor of this machine."""

import os
from pathlib import Path
from types import SimpleNamespace

import pytest
from small_study import HELPERS, TOY, write

from harness_plugin.cli.main import main
from harness_plugin.study.graph import graph_of
from harness_plugin.study.plan import read_study
from harness_plugin.study.scheduler import execute


@pytest.fixture
def submitit(monkeypatch):
    """submitit, whose jobs find the helpers and the toy task."""
    module = pytest.importorskip("submitit", reason="pip install 'debias-transfer[slurm]'")
    paths = os.pathsep.join([HELPERS, str(Path(TOY).parent), os.environ.get("PYTHONPATH", "")])
    monkeypatch.setenv("PYTHONPATH", paths)
    monkeypatch.setattr("harness_plugin_hooks.study.slurm_executor.POLL", 0.1)
    return module


@pytest.mark.exhaustive
def test_slurm_jobs_by_submitits_local_executor(tmp_path, submitit, plugins, capsys):
    """The command line of a study; submitit really pickles, starts and collects its jobs."""
    plan = write(tmp_path, factors={}, seeds=[0])
    words = ["study", str(plan), "--use_cache", str(tmp_path / "s"), "--executor", "slurm"]
    words += ["--slurm", "cluster=local", "--slurm", "timeout_min=9", "--workers", "2"]
    assert main([*words, "--output_path", str(tmp_path / "r")]) == 0
    assert len(list((tmp_path / "s" / "slurm").glob("*_submitted.pkl"))) >= 3
    assert (tmp_path / "r" / "numbers_small.parquet").is_file()


def test_a_slurm_job_that_fails_or_dies_says_why(tmp_path, submitit, plugins):
    from harness_plugin_hooks.study.slurm_executor import SlurmExecutor

    graph = graph_of(read_study(write(tmp_path, factors={}, seeds=[0], retries=0)), plugins)
    unlucky = SlurmExecutor.open(
        tmp_path / "logs", 1, {}, cluster="local", work="study_work:always_fails"
    )
    failed = execute(graph, unlucky, tmp_path / "s").failed.values()
    (trace, *_) = [f.trace for f in failed if f.error == "RuntimeError: no luck at all"]
    assert "always_fails" in trace


class KilledJob:
    """A job as submitit sees it on a cluster without accounting: never done, of no known state."""

    job_id, state, paths = "18", "UNKNOWN", SimpleNamespace(stderr="18_0_log.err")

    def done(self):
        return False


@pytest.mark.parametrize("answer", ["exit 0", "echo 'Invalid job id specified' >&2; exit 1"])
def test_a_job_that_left_the_queue_without_a_result_has_failed(tmp_path, monkeypatch, answer):
    """slurm-wlm 22.05 without slurmdbd: sacct knows nothing of a job, squeue forgets it."""
    from harness_plugin_hooks.study import slurm_executor

    squeue = tmp_path / "squeue"
    squeue.write_text(f"#!/bin/sh\n{answer}\n")
    squeue.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    monkeypatch.setattr(slurm_executor, "VISIBLE", 0.05)
    monkeypatch.setattr(slurm_executor, "POLL", 0.02)
    executor = slurm_executor.SlurmExecutor(None, 1, _running={7: KilledJob()})
    (outcome,) = executor.wait()
    assert (outcome.ticket, outcome.record) == (7, None)
    assert outcome.error == "RuntimeError: job 18 left Slurm's queue without a result"
    assert outcome.trace.endswith("log: 18_0_log.err")


@pytest.mark.parametrize(
    "answer", ["echo 18 all", "echo 'Unable to contact controller' >&2; exit 1"]
)
def test_a_job_in_the_queue_or_of_a_silent_controller_is_waited_for(tmp_path, monkeypatch, answer):
    from harness_plugin_hooks.study import slurm_executor

    squeue = tmp_path / "squeue"
    squeue.write_text(f"#!/bin/sh\n{answer}\n")
    squeue.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    assert slurm_executor.queued("18")


def test_a_job_that_slurm_refuses_is_one_line(tmp_path, submitit, monkeypatch, capsys):
    answers = "sbatch: error: invalid partition specified: gpu"
    for name in ("srun", "sbatch"):
        program = tmp_path / name
        program.write_text(f"#!/bin/sh\necho '{answers}' >&2\nexit 1\n")
        program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    plan = write(tmp_path, factors={}, seeds=[0])
    words = ["study", str(plan), "--use_cache", str(tmp_path / "s"), "--executor", "slurm"]
    assert main([*words, "--output_path", str(tmp_path / "r")]) == 2
    assert f"harness: error: --executor slurm: {answers}" in capsys.readouterr().err


def test_slurm_that_is_not_there_is_one_line(tmp_path, submitit, monkeypatch, capsys):
    monkeypatch.setenv("PATH", str(tmp_path))
    plan = write(tmp_path, factors={}, seeds=[0])
    words = ["study", str(plan), "--use_cache", str(tmp_path / "s"), "--executor", "slurm"]
    for more, answers in {
        (): '--executor slurm: Could not detect "srun"',
        ("--slurm", "timeout_min"): "--slurm timeout_min: expected KEY=VALUE",
        ("--slurm", "cluster=local", "--slurm", "minutes=3"): "--executor slurm: ",
    }.items():
        assert main([*words, *more, "--output_path", str(tmp_path / "r")]) == 2
        assert answers in capsys.readouterr().err
    assert main([*words[:-2], "--slurm", "a=b"]) == 2
    assert "--slurm is for --executor slurm" in capsys.readouterr().err
