"""What trackers beside TensorBoard hold of a run; each is run where it is installed, offline."""

from pathlib import Path

import pytest

from harness_plugin.cli.main import main

TOY = Path(__file__).resolve().parents[1] / "toy" / "toy.yaml"
RUN = f"--tasks {TOY} --seeds 0 --resamples 100 --device cpu --threads 1 --precision no"
RUN += " --attention sdpa --set references=false --set teacher.epochs=1 --set student.epochs=1"


def test_wandb_offline_has_a_run_a_role_and_seed(tmp_path, monkeypatch):
    pytest.importorskip("wandb", reason="a tracker of the user's choice: make exhaustive")
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("WANDB_SILENT", "true")
    assert main([*RUN.split(), "--log_with", "wandb", "--output_path", str(tmp_path)]) == 0
    assert len(list(tmp_path.glob("wandb/offline-run-*"))) == 3


def test_mlflow_has_a_run_a_role_and_seed_with_its_numbers(tmp_path, monkeypatch):
    mlflow = pytest.importorskip("mlflow", reason="a tracker of the user's choice: make exhaustive")
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"file://{tmp_path}/mlruns")
    words = [*RUN.split(), "--log_with", "mlflow", "--output_path", str(tmp_path / "out")]
    assert main(words) == 0
    runs = mlflow.search_runs(search_all_experiments=True, output_format="list")
    named = {run.info.run_name.rpartition("/")[2]: run for run in runs if "/" in run.info.run_name}
    assert set(named) == {"teacher-seed0", "student-seed0", "control-seed0"}
    for run in named.values():
        assert 0 <= run.data.metrics["swapped/acc"] <= 1
        assert run.data.params["run/resamples"] == "100"
    assert "verdict/swapped" in named["student-seed0"].data.params
