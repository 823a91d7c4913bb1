"""Result files: strict JSON, the keys other readers expect, and a schema that is published."""

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import get_args

import jsonschema
import numpy as np
import pytest
import yaml
from strict_json import lines, read

from harness_plugin import HarnessError
from harness_plugin.pipeline.outputs import check_writable
from harness_plugin.records import Estimate
from harness_plugin.scoring.files import transfer_record
from harness_plugin.store.files import strict, timestamp
from harness_plugin_hooks.outputs import lm_eval

SCHEMA = Path(__file__).parents[2] / "docs" / "transfer.schema.json"
ROLES = {"teacher", "erm_teacher", "student", "control", "erm_student"}
RESULT_KEYS = [
    "results",
    "group_subtasks",
    "configs",
    "versions",
    "n-shot",
    "higher_is_better",
    "n-samples",
    "config",
    "git_hash",
    "date",
    "pretty_env_info",
    "transformers_version",
    "lm_eval_version",
    "upper_git_hash",
    "task_hashes",
    "max_length",
    "model_source",
    "model_name",
    "model_name_sanitized",
    "system_instruction",
    "system_instruction_sha",
    "fewshot_as_multiturn",
    "chat_template",
    "chat_template_sha",
    "total_evaluation_time_seconds",
]
CONFIG_KEYS = [
    "model",
    "model_args",
    "batch_size",
    "batch_sizes",
    "device",
    "use_cache",
    "limit",
    "bootstrap_iters",
    "gen_kwargs",
    "random_seed",
    "numpy_seed",
    "torch_seed",
    "fewshot_seed",
]
SAMPLE_KEYS = [
    "doc_id",
    "doc",
    "target",
    "arguments",
    "resps",
    "filtered_resps",
    "filter",
    "metrics",
    "doc_hash",
    "prompt_hash",
    "target_hash",
    "acc",
]


@pytest.fixture
def results(toy_run):
    files = sorted(toy_run.output.glob("models/*/results_*.json"))
    return {file.parent.name.split("-")[1]: read(file) for file in files}


def test_every_model_has_a_results_file(results):
    assert set(results) == ROLES


def test_results_have_the_keys_of_the_harness_they_imitate(results):
    for result in results.values():
        assert list(result) == RESULT_KEYS
        assert set(CONFIG_KEYS) <= set(result["config"])
        assert isinstance(result["total_evaluation_time_seconds"], str)
        assert isinstance(result["date"], float)
        assert result["lm_eval_version"] == "0.4.13"
        assert result["config"]["device"] == "cpu"


def test_every_number_has_an_error_and_a_direction(results):
    for result in results.values():
        assert set(result["results"]) == {"toy_id", "toy_swapped"}
        for name, row in result["results"].items():
            numbers = [k for k in row if k.endswith(",none") and "_stderr" not in k]
            assert {f"{m}_stderr,none" for m in (k[:-5] for k in numbers)} <= set(row)
            assert {k[:-5] for k in numbers} == set(result["higher_is_better"][name])
            assert 0 <= row["acc,none"] <= 1
            assert all(name.endswith("_stderr,none") for name in row if row[name] == "N/A")
            assert row["sample_len"] == result["n-samples"][name]["effective"]
            assert "acc_positive:sun,none" in row


def test_embedded_data_are_called_so_everywhere(results, toy_run):
    for result in results.values():
        assert {c["metadata"]["source"] for c in result["configs"].values()} == {"embedded"}
    assert toy_run.record()["source"] == "embedded"
    (config,) = toy_run.output.glob("config_*.yaml")
    assert yaml.safe_load(config.read_text())["data"] == "embedded"


@pytest.fixture
def samples(toy_run):
    (file,) = toy_run.output.glob("models/toy-student-*/samples_toy_id_*.jsonl")
    return lines(file)


def test_samples_have_the_keys_of_the_harness_and_are_sorted(samples):
    assert len(samples) == 120
    ids = [sample["doc"]["id"] for sample in samples]
    assert ids == sorted(set(ids))
    assert sorted(sample["doc_id"] for sample in samples) == list(range(120))
    for sample in samples:
        assert list(sample) == SAMPLE_KEYS
        assert sample["target"] in ("negative", "positive")
        assert set(sample["doc"]) == {"id", "label", "group", "cue", "premise", "hypothesis"}


def test_samples_agree_with_the_results(samples, results):
    accuracy = results["student"]["results"]["toy_id"]["acc,none"]
    assert np.mean([sample["acc"] for sample in samples]) == pytest.approx(accuracy)
    for sample in samples[:20]:
        flags = [flag for ((_, flag),) in sample["resps"]]
        assert flags.count("True") == 1
        chosen = ("negative", "positive")[flags.index("True")]
        assert sample["acc"] == float(chosen == sample["target"])
        logs = [float(value) for ((value, _),) in sample["resps"]]
        assert sum(np.exp(logs)) == pytest.approx(1, abs=1e-4)


def test_task_hashes_are_the_same_for_every_model(results):
    hashes = {json.dumps(result["task_hashes"]) for result in results.values()}
    assert len(hashes) == 1


def test_the_transfer_record_is_valid(toy_run):
    schema = read(SCHEMA)
    jsonschema.Draft202012Validator.check_schema(schema)
    (file,) = toy_run.output.glob("transfer_toy_*.json")
    record = read(file)
    jsonschema.validate(record, schema)
    assert {model["role"] for model in record["models"]} == ROLES
    assert {v["state"] for v in record["verdicts"]} == {"undecided"}  # one seed
    measures = {m["measure"] for m in record["transfer"]}
    assert measures == set(get_args(transfer_record.Measure.model_fields["measure"].annotation))
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate({**record, "sauce": "embedded"}, schema)


def test_an_undefined_number_says_why(toy_run):
    record = toy_run.record()
    numbers = [n for s in record["scores"] for n in s["metrics"].values()]
    numbers += [measure["number"] for measure in record["transfer"]]
    assert all(bool(n["reason"]) == (n["low"] is None) for n in numbers)
    with pytest.raises(ValueError, match="an undefined number has no reason"):
        transfer_record.number(Estimate(float("nan")))


def test_the_published_schema_is_the_codes():
    out = subprocess.run(
        [sys.executable, "-m", "harness_plugin.scoring.files.transfer_record"],
        capture_output=True,
        text=True,
        check=True,
        timeout=100,
    )
    assert out.stdout == SCHEMA.read_text()


def test_strict_values():
    value = {"a": np.float32(0.5), 1: (np.int64(2), float("inf")), "p": Path("x"), "t": True}
    assert strict(value) == {"a": 0.5, "1": [2, None], "p": "x", "t": True}
    assert timestamp(0.0) == "1970-01-01T00-00-00.000000"


def test_a_folder_that_cannot_be_written_is_refused_and_nothing_is_made(tmp_path):
    file = tmp_path / "file"
    file.touch()
    for path in (tmp_path / "out.json", file, file / "below", Path("/proc/nowhere")):
        with pytest.raises(HarnessError, match=f"--output_path {path}: "):
            check_writable(path)
    check_writable(tmp_path / "new" / "deep")
    assert list(tmp_path.iterdir()) == [file]


def test_models_of_one_name_do_not_overwrite_one_another(toy_run, tmp_path, plugins):
    from harness_plugin.records import RunReport, TaskScores, TrainedModel

    models = tuple(
        TrainedModel("toy", role, 0, "final", tmp_path, "final", "as saved", {})
        for role in ("teacher", "student")
    )
    scores = TaskScores("toy", "embedded", "f", "argmax", (), (0,), models, (), ())
    environment = {"choices": {"text": {"device": "cpu"}}, "versions": {"transformers": "5"}}
    report = RunReport({}, environment, (scores,), 0.0, 1.0)
    files = lm_eval.write(report, tmp_path)
    assert len(set(files)) == len([file for file in files if file.is_file()]) == 2
    one = replace(scores, models=models[:1])
    (alone,) = lm_eval.write(replace(report, tasks=(one,)), tmp_path)
    assert alone.parent.name == "final"
