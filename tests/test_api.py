"""The Python API: the command line's numbers, and a process that is as it was before."""

import gc
import logging
import os
import random
import shutil
import subprocess
import sys
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch

import harness_plugin as hp
from harness_plugin.api.keywords import configured
from harness_plugin.machine import process_state
from harness_plugin.pipeline import run_task
from harness_plugin.scoring.files.transfer_record import read_record
from harness_plugin.store.files import timestamp

TOY = str(Path(__file__).parent / "toy" / "toy.yaml")
MACHINE = {
    "threads": 1,
    "precision": "no",
    "attention": "sdpa",
    "device": "cpu",
    "resamples": 100,
    "teacher": {"epochs": 2.2},
    "student": {"epochs": 2.1},
}


@pytest.fixture(scope="module")
def store(toy_run, tmp_path_factory):
    """A store that has the trainings of `toy_run`."""
    return shutil.copytree(toy_run.store, tmp_path_factory.mktemp("api") / "store")


@pytest.fixture(scope="module")
def result(store):
    """The run of `toy_run` again, from Python."""
    return hp.run(TOY, seeds=0, use_cache=store, **MACHINE)


def test_the_package_is_light_until_something_is_called():
    code = (
        "import sys, harness_plugin as hp\n"
        "hp.run, hp.score, hp.compare, hp.remedy, hp.load_task, hp.open_run, hp.RunResult\n"
        "heavy = {'torch', 'transformers', 'datasets', 'evaluate', 'accelerate', 'pandas', 'scipy'}"
        "\nprint(sorted(heavy & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


def test_every_name_of_the_package_is_there():
    assert {"run", "score", "compare", "remedy", "load_task", "open_run"} <= set(dir(hp))
    for name in hp.__all__:
        assert getattr(hp, name)
    with pytest.raises(AttributeError, match="no attribute 'rnu'"):
        hp.rnu  # noqa: B018


def test_a_run_gives_the_numbers_of_the_command_line(result, toy_run):
    (file,) = toy_run.output.glob("transfer_toy_*.json")
    written, scores = read_record(file), result["toy"]
    assert scores.fingerprint == written.fingerprint
    assert [m.seconds for m in scores.models] == [m.seconds for m in written.models]
    for known in written.scores:
        results = scores.of(known.role, known.split)
        assert list(results.metrics) == list(known.metrics)
        for name, number in known.metrics.items():
            value = results.metrics[name].value
            assert (None if np.isnan(value) else value) == number.value
    for t in written.transfer:
        estimate = scores.transfer_of(t.student, t.split, t.metric, t.measure, t.subset)
        assert estimate is not None
        assert [
            None if np.isnan(x) else x for x in (estimate.value, estimate.low, estimate.high)
        ] == [t.number.value, t.number.low, t.number.high]
    assert [(v.split, v.state, v.sentence) for v in result.verdicts] == [
        (v.split, v.state, v.sentence) for v in written.verdicts
    ]


def test_nothing_is_written_unless_a_folder_is_named(result):
    assert result.record.files == ()
    assert result.folder is None
    assert result.record.config["output_path"] == "results/{tasks}_{time}"
    assert result.record.config["outputs"] is None
    with pytest.raises(hp.HarnessError, match="has no files"):
        result.reopen()


def test_a_measure_that_was_not_taken_is_none(result):
    scores = result["toy"]
    split = next(iter(scores.primary))
    assert scores.transfer_of("teacher", split, "acc", "distillability") is None
    assert scores.transfer_of("student", split, "acc", "distillability") is not None
    with pytest.raises(hp.HarnessError, match="Did you mean toy"):
        result["toi"]


def test_rows_and_data_frames_hold_every_number(result):
    rows = list(result.rows())
    scores = result["toy"]
    numbers = sum(len(m) for s in scores.scores for m in s.by_subset().values())
    assert len(rows) == numbers + len(scores.transfer)
    assert all(bool(row["reason"]) == np.isnan(row["low"]) for row in rows)
    frame = result.to_pandas(by_seed=True)
    assert len(frame) > len(rows)
    assert set(frame["seed"].dropna()) == {0}
    (acc,) = frame.query(
        "role == 'teacher' and metric == 'acc' and subset == '' and purpose == 'in_domain' and "
        "seed.isna()"
    )["value"]
    (in_domain,) = [name for name, role in scores.purposes.items() if role == "in_domain"]
    assert acc == scores.of("teacher", in_domain).metrics["acc"].value
    assert scores.to_pandas().equals(result.to_pandas())


def test_a_notebook_shows_a_table_and_the_verdicts(result):
    html = result._repr_html_()
    for text in ("<table>", "teacher", "worst_group_acc", "UNDECIDED"):
        assert text in html
    assert repr(result).startswith("<RunResult of toy>\nUNDECIDED student on")


def state_of_the_process() -> dict:
    from accelerate.state import AcceleratorState, GradientState, PartialState
    from datasets.utils import are_progress_bars_disabled
    from transformers.utils.logging import is_progress_bar_enabled

    return {
        "threads": torch.get_num_threads(),
        "dtype": torch.get_default_dtype(),
        "torch": torch.get_rng_state().tolist(),
        "numpy": repr(np.random.get_state()),
        "python": random.getstate(),
        "filters": list(warnings.filters),
        "logging": {
            name: logging.getLogger(name).level for name in (None, "transformers", "datasets")
        },
        "disabled": logging.root.manager.disable,
        "environment": dict(os.environ),
        "frozen": gc.get_freeze_count(),
        "bars": (is_progress_bar_enabled(), are_progress_bars_disabled()),
        "accelerate": [
            dict(of._shared_state) for of in (AcceleratorState, GradientState, PartialState)
        ],
    }


@pytest.fixture
def nothing_frozen(monkeypatch):
    monkeypatch.setattr(process_state, "anything_frozen", lambda: gc.get_freeze_count() > 0)
    gc.unfreeze()
    yield
    gc.freeze()  # as tests/conftest.py has it


def test_no_garbage_is_looked_for_while_libraries_are_imported(nothing_frozen):
    with process_state.importing():
        assert not gc.isenabled()
    assert gc.isenabled()
    frozen = gc.get_freeze_count()
    assert frozen
    gc.disable()  # a caller who looks for none himself
    with process_state.importing():
        kept = [[] for _ in range(1000)]
    assert not gc.isenabled()
    gc.enable()
    assert gc.get_freeze_count() < frozen + len(kept)  # a second time nothing is


def test_the_process_is_as_it_was_after_two_runs(tmp_path, monkeypatch, capfd, nothing_frozen):
    monkeypatch.setenv("CALLER", "here")
    freezes = []
    monkeypatch.setattr(run_task, "freeze", lambda: freezes.append(process_state.freeze()))
    threads = torch.get_num_threads()
    torch.set_num_threads(2)
    before = state_of_the_process()
    store = tmp_path / "store"
    first = hp.run(TOY, seeds=[0], use_cache=store, **MACHINE)
    assert state_of_the_process() == before
    again = hp.run([TOY], seeds=(0,), use_cache=str(store), **MACHINE)
    assert state_of_the_process() == before
    assert len(freezes) == 1  # after the first training; the second run has none
    assert again.to_pandas().equals(first.to_pandas())
    with pytest.raises(hp.HarnessError):
        hp.run(TOY, method="absent", use_cache=store, **MACHINE)
    assert state_of_the_process() == before
    torch.set_num_threads(threads)
    assert capfd.readouterr().out == ""


def test_verbose_shows_what_the_command_line_shows(store, capsys):
    hp.run(TOY, seeds=0, use_cache=store, verbose=True, **MACHINE)
    shown = capsys.readouterr().out
    assert "mean ± sd of 1 seed; gap = " in shown
    assert "UNDECIDED" in shown


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"tasks": "hanns"}, "Did you mean hans"),
        ({"tasks": []}, "no task given"),
        ({"tasks": TOY, "metod": "poe"}, "unknown keyword 'metod'. Did you mean method"),
        ({"tasks": TOY, "method": "poee"}, "Did you mean poe"),
        ({"tasks": TOY, "settings": {"studnt": {}}}, "Did you mean student"),
        ({"tasks": TOY, "resamples": 1}, "keywords: resamples: "),
        ({"tasks": TOY, "analyze": "cka"}, "name an output_path"),
        ({"tasks": TOY, "output_path": "a.json"}, "expected a folder"),
    ],
)
def test_bad_input_is_refused(options, words):
    with pytest.raises(hp.HarnessError, match=words):
        hp.run(**{**MACHINE, **options})


def test_keywords_are_the_settings_of_the_command_line():
    from harness_plugin.config.merge import run_config

    flags = {"tasks": ("hans",), "seeds": (0, 1)}
    sets = ["method=poe", "student.epochs=6", "hans.collapse=sum", "teacher.model=bert-tiny"]
    values = {"method": "poe", "seeds": [0, 1], "teacher": "bert-tiny", "select": None}
    settings = {"student": {"epochs": 6}, "hans": {"collapse": "sum"}}
    assert configured("hans", values, settings, None, None) == run_config(None, flags, sets)


def test_a_finished_run_is_read_back(result, toy_run):
    results = hp.open_run(toy_run.output)
    assert results.folder == toy_run.output
    (file,) = toy_run.output.glob("transfer_toy_*.json")
    assert timestamp(results.record.started) in file.name
    assert file in results.record.files
    assert results.to_pandas().equals(result.to_pandas())
    assert results.verdicts == result.verdicts
    assert len(results["toy"].predictions) == len(result["toy"].predictions)
    assert len(results.to_pandas(by_seed=True)) == len(result.to_pandas(by_seed=True))
    assert hp.open_run(file, tasks="toy").to_pandas().equals(results.to_pandas())
    with pytest.raises(hp.HarnessError, match="Did you mean toy"):
        hp.open_run(file, tasks=["toi"])
    with pytest.raises(hp.HarnessError, match="no such folder"):
        hp.open_run(toy_run.output / "absent")


def test_a_finished_run_is_opened_again(toy_run):
    (finished,) = hp.open_run(toy_run.output).reopen(threads=1)
    assert finished.ctx.task.task == "toy"


def test_results_are_saved_and_shown_on_a_page(result, tmp_path):
    page = result.report(tmp_path / "page")
    assert "Debiasing transfer: toy" in page.read_text("utf-8")
    again = hp.open_run(tmp_path / "page")
    assert again.to_pandas().equals(result.to_pandas())
    assert len(again["toy"].predictions) == len(result["toy"].predictions)
    files = result.save(tmp_path / "some", outputs=["transfer"])
    assert sorted(file.name.partition("_")[0] for file in files) == ["config", "transfer"]
    with pytest.raises(hp.HarnessError, match="Did you mean transfer"):
        result.save(tmp_path / "none", outputs=["transfr"])
    assert not (tmp_path / "none").exists()


def test_results_and_folders_are_compared(result, toy_run):
    options = {"resamples": 100, "min_seeds": 1, "baseline_role": "control"}
    results = hp.compare(result, toy_run.output, **options)
    from_files = hp.compare(toy_run.output, toy_run.output, **options)
    assert results.state == from_files.state
    assert results.to_pandas().equals(from_files.to_pandas())
    assert len(results.to_pandas()) == len(results.checks) > 0
    assert results.state.upper() in results._repr_html_()
    assert results.state in repr(results)
    assert hp.compare(result, result, resamples=100, min_seeds=1).state == "pass"
    for bad, words in (
        ({"role": "studnt"}, "has no role 'studnt'"),
        ({"seeds": 7}, "has no seed 7"),
        ({"tasks": "hans"}, "has no results of task 'hans'"),
        ({"metric": "accc"}, "Did you mean acc"),
    ):
        with pytest.raises(hp.HarnessError, match=words):
            hp.compare(result, result, **bad)


def test_a_task_is_loaded():
    task = hp.load_task(TOY, settings={"toy": {"rows": 120}})
    assert len(task.data.train) == 120
    assert task.data.train.name in task.splits
    frame = task.to_pandas()
    assert frame.query(f"split == {task.data.train.name!r}")["rows"].sum() == 120
    assert "<table>" in task._repr_html_()
    assert "120" in repr(task)
    assert isinstance(task.warnings(), list)
    with pytest.raises(hp.HarnessError, match="Did you mean rows"):
        hp.load_task(TOY, settings={"toy": {"rowws": 120}})


def test_predictions_of_a_file_are_scored(tmp_path, capfd):
    from harness_plugin.cli.main import main

    task = hp.load_task(TOY)
    files = {}
    for name, wrong in (("mine", 7), ("theirs", 3)):
        files[name] = tmp_path / f"{name}.csv"
        lines = ["id,label"]
        for split in task.data.evaluation:
            for row, (known, label) in enumerate(zip(split.ids, split.label, strict=True)):
                answers = split.labels[label if row % wrong else (label + 1) % len(split.labels)]
                lines.append(f"{known},{answers}")
        files[name].write_text("\n".join(lines) + "\n")
    options = {"teacher_predictions": [files["theirs"]], "resamples": 100}
    results = hp.score(TOY, files["mine"], **options)
    assert capfd.readouterr().out == ""
    words = f"score --tasks {TOY} --predictions {files['mine']} --resamples 100"
    words += f" --teacher_predictions {files['theirs']} --output_path {tmp_path}/out"
    assert main(words.split()) == 0
    assert hp.open_run(tmp_path / "out").to_pandas().equals(results.to_pandas())
    written = hp.score(TOY, files["mine"], output_path=tmp_path / "api", **options)
    files_of_command = [path for path in (tmp_path / "out").rglob("*") if path.is_file()]
    assert len(written.record.files) == len(files_of_command)
    with pytest.raises(hp.HarnessError, match="at least one file"):
        hp.score(TOY, [])


def test_remedies_are_tried(tmp_path):
    options = {**MACHINE, "validation_fraction": 0.5, "use_cache": tmp_path / "store"}
    (results,) = hp.remedy(TOY, seeds=0, remedies="pure_kd", **options)
    assert results.task == "toy"
    assert results.plain.remedy == "none"
    assert len(results.results) == 2
    with pytest.raises(hp.HarnessError, match="at least 1 remedy"):
        hp.remedy(TOY, budget=0)
