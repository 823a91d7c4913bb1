"""Whole studies: each model trained once, resumed, reported."""

import json
import os
import shutil
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from small_study import HELPERS, PLAN, TOY, write

from harness_plugin import HarnessError
from harness_plugin.cli.main import main
from harness_plugin.scoring.statistics.intervals import Support, estimate
from harness_plugin.study.graph import graph_of
from harness_plugin.study.plan import Resources, read_study
from harness_plugin.study.results import numbers_of
from harness_plugin.study.scheduler import execute

# ---- whole studies


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A study that ran to its end in this process: (plan, store, results)."""
    folder = tmp_path_factory.mktemp("study")
    plan = write(folder, run=PLAN["run"] | {"resamples": 100})
    words = ["study", str(plan), "--use_cache", str(folder / "store")]
    assert main([*words, "--output_path", str(folder / "out")]) == 0
    return plan, folder / "store", folder / "out"


def test_numbers_carry_the_variance_that_rows_give_all_seeds():
    """Three seeds that move alike on resamples share all; without an interval it is unknown."""
    drawn = np.random.default_rng(0).normal(0, 0.05, 300)
    alike = np.hstack([[[0.7], [0.8], [0.75]], 0.75 + np.tile(drawn, (3, 1))])
    known = estimate(alike, Support(100, 100))
    made = SimpleNamespace(
        task="made",
        source="path",
        seeds=(0, 1, 2),
        purposes={"set": "ood"},
        primary={},
        higher_is_better={},
        transfer=(),
        models=[SimpleNamespace(role="student", start="even layers of teacher")],
        scores=[
            SimpleNamespace(role=role, split="set", by_subset=lambda e=e: {"": {"acc": e}})
            for role, e in (("student", known), ("teacher", estimate(alike[:2], Support(9, 9))))
        ],
    )
    rows = list(numbers_of(made))
    assert [row["rows_df"] for row in rows] == [99] * 3 + [None] * 2
    assert rows[0]["common"] == pytest.approx(drawn.var(ddof=1) * 100 / 99)
    assert rows[3]["common"] is None
    assert [row["start"] for row in rows] == ["even layers of teacher"] * 3 + [""] * 2


def numbers_in(folder):
    table = pd.read_parquet(folder / "numbers_small.parquet")
    keys = ["configuration", "seed", "split", "subset", "role", "metric", "measure"]
    return table.set_index(keys).sort_index()


@pytest.mark.slow
def test_numbers_are_those_of_a_run_of_the_same_settings(whole, tmp_path):
    _, store, out = whole
    words = ["--tasks", TOY, "--seeds", "0,1", "--threads", "1", "--precision", "no"]
    words += ["--attention", "sdpa", "--device", "cpu", "--resamples", "100"]
    for role, epochs in (("teacher", 2), ("student", 1)):
        words += ["--set", f"{role}={{epochs: {epochs}, learning_rate: 5.0e-3}}"]
    words += ["--set", "references=false"]
    words += ["--set", "students.student={ce_weight: 0.5, kd_weight: 0.5}"]
    assert main([*words, "--use_cache", str(store), "--output_path", str(tmp_path)]) == 0
    (file,) = tmp_path.glob("transfer_toy_*.json")
    record = json.loads(file.read_text())
    estimates = pd.read_parquet(out / "estimates_small.parquet")
    mine = estimates[(estimates.factor_distilled == "half") & (estimates.subset == "")]
    result = {(m["role"], m["split"]): m["metrics"] for m in record["scores"]}
    for row in mine[mine.measure == "score"].itertuples():
        other = result[row.role, row.split][row.metric]
        for name in ("value", "low", "high"):
            expected = np.nan if other[name] is None else other[name]
            assert getattr(row, name) == pytest.approx(expected, nan_ok=True, abs=1e-12)
    stages = {path.name for path in store.glob("model-*") if path.suffix != ".lock"}
    assert len(stages) == 8  # the run has found all its models


@pytest.mark.slow
def test_every_model_was_trained_once(whole):
    _, store, out = whole
    stages = [json.loads(f.read_text()) for f in store.glob("model-*/stage.json")]
    assert len(stages) == 8
    numbers = numbers_in(out).reset_index()
    assert set(numbers.factor_distilled) == {"pure", "half"}
    assert set(numbers.seed) == {0, 1}
    teacher = numbers[(numbers.role == "teacher") & (numbers.measure == "score")]
    both = teacher.pivot_table(
        index=["seed", "split", "subset", "metric"], columns="factor_distilled", values="value"
    )
    assert (both.pure == both.half).all()  # one teacher for both
    assert json.loads((out / "failures_small.json").read_text()) == []


@pytest.mark.slow
def test_status_report_and_resume_train_nothing(whole, tmp_path, capsys):
    plan, store, out = whole
    words = ["study", str(plan), "--use_cache", str(store), "--output_path", str(tmp_path / "r")]
    for flag in ("--status", "--dry_run", "--resume", "--report"):
        assert main([*words, flag]) == 0
        assert "8 done, 0 open" in capsys.readouterr().out
    assert numbers_in(tmp_path / "r").equals(numbers_in(out))
    assert main([*words, "--use_cache", str(tmp_path / "other"), "--resume"]) == 2
    assert "nothing of it is in" in capsys.readouterr().err
    assert main([*words, "--use_cache", "s3://bucket/store"]) == 2
    assert "Mount the bucket" in capsys.readouterr().err
    assert main([*words, "--report", "--use_cache", str(tmp_path / "other")]) == 2
    assert "no configuration is finished" in capsys.readouterr().err


@pytest.mark.slow
def test_trainings_that_cannot_work_are_reported_and_the_rest_is_scored(whole, tmp_path, capsys):
    _, store, _ = whole
    # the first cell's method lacks its groups; the references are those of the second as well
    settings = {"options": {"annotated": False}, "teacher": {"epochs": 1}, "student": {"epochs": 1}}
    factors = {"method": ["group_dro", "poe"]}
    plan = write(tmp_path, settings=settings, factors=factors, seeds=[0], retries=0)
    words = ["study", str(plan), "--use_cache", str(store), "--output_path", str(tmp_path / "r")]
    assert main(words) == 1
    assert "tries them again" in capsys.readouterr().err
    failures = json.loads((tmp_path / "r" / "failures_small.json").read_text())
    assert {f["role"] for f in failures} == {"teacher", "student", "control"}
    assert {c["method"] for f in failures for c in f["configurations"]} == {"group_dro"}
    assert "needs group labels" in json.dumps(failures)
    assert set(numbers_in(tmp_path / "r").reset_index().factor_method) == {"poe"}
    assert main([*words, "--report"]) == 1
    assert json.loads((tmp_path / "r" / "failures_small.json").read_text()) == failures


@pytest.mark.slow
def test_a_study_ends_with_a_report_of_its_tables(whole):
    _, _, out = whole
    page = (out / "study_small.html").read_text(encoding="utf-8")
    assert "does it run" in page
    assert "embedded (generated) data" in page
    assert (out / "study_small.md").is_file()
    numbers = numbers_in(out).reset_index()
    wider = numbers[
        (numbers.split == "swapped")
        & (numbers.subset == "")
        & (numbers.measure == "gap_widening")
        & (numbers.metric == numbers.primary_gap)
    ].pivot(index="seed", columns="factor_distilled", values="value")
    effects = pd.read_parquet(out / "effects_small.parquet")
    (effect,) = effects[
        (effects.kind == "effect")
        & (effects.response == "gap_widening")
        & (effects.split == "swapped")
        & (effects.level == "half")
    ].value
    assert effect == pytest.approx((wider.half - wider.pure).mean())


@pytest.mark.slow
def test_a_training_may_take_several_processes(tmp_path, capsys):
    plan = write(tmp_path, factors={}, seeds=[0], resources_of={"control": {"processes": 2}})
    plan.write_text(
        plan.read_text().replace("references: false", "references: false\n  students: {}")
    )
    words = ["study", str(plan), "--use_cache", str(tmp_path / "s"), "--output_path"]
    assert main([*words, str(tmp_path / "r")]) == 0
    stages = [json.loads(f.read_text()) for f in (tmp_path / "s").glob("model-*/stage.json")]
    assert sorted(stage["processes"] for stage in stages if "processes" in stage)[-1] == 2
    assert "no student, so that there is no report" in capsys.readouterr().out


@pytest.mark.slow
def test_ray_with_a_worker_killed_in_the_middle_gives_the_table_of_a_quiet_run(
    whole, tmp_path, plugins, monkeypatch
):
    ray = pytest.importorskip("ray", reason="Ray is an extra: pip install 'debias-transfer[ray]'")
    from harness_plugin.study import results
    from harness_plugin_hooks.study.ray_executor import RayExecutor

    plan, _, out = whole
    graph = graph_of(read_study(plan), plugins)
    paths = os.pathsep.join([HELPERS, str(Path(TOY).parent), os.environ.get("PYTHONPATH", "")])
    monkeypatch.setenv("PYTHONPATH", paths)
    ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False, logging_level="error")
    try:
        with pytest.raises(HarnessError, match="has room for one training"):
            RayExecutor.open(None, None, Resources(gpus=8))
        unlucky = RayExecutor.open(None, 1, Resources(), "study_work:always_fails")
        failed = execute(graph, unlucky, tmp_path).failed.values()
        (trace, *_) = [f.trace for f in failed if f.error == "RuntimeError: no luck at all"]
        executor = RayExecutor.open(None, None, Resources(), "study_work:killed_in_training")
        assert executor.slots == 2
        progress = execute(graph, executor, tmp_path / "store")
    finally:
        ray.shutdown()
    assert "always_fails" in trace
    assert (tmp_path / "store" / "killed").exists()
    assert len(progress.done) == 8
    assert not progress.failed
    rows = results.rows_of_study(graph, progress, tmp_path / "store")
    results.write(graph, progress, rows, tmp_path / "out")
    pd.testing.assert_frame_equal(numbers_in(tmp_path / "out"), numbers_in(out))
    shutil.rmtree(tmp_path / "store")
