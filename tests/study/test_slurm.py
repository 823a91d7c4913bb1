"""Trainings of a study as jobs of Slurm, by submitit's executor of this machine."""

import os
from pathlib import Path

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


def test_slurm_that_is_not_there_is_one_line(tmp_path, submitit, capsys):
    plan = write(tmp_path, factors={}, seeds=[0])
    words = ["study", str(plan), "--use_cache", str(tmp_path / "s"), "--executor", "slurm"]
    for more, said in {
        (): '--executor slurm: Could not detect "srun"',
        ("--slurm", "timeout_min"): "--slurm timeout_min: expected KEY=VALUE",
        ("--slurm", "cluster=local", "--slurm", "minutes=3"): "--executor slurm: ",
    }.items():
        assert main([*words, *more, "--output_path", str(tmp_path / "r")]) == 2
        assert said in capsys.readouterr().err
    assert main([*words[:-2], "--slurm", "a=b"]) == 2
    assert "--slurm is for --executor slurm" in capsys.readouterr().err
