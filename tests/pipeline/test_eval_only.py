"""Checkpoints that somebody brings: scored as they are, whatever their tokenizer or label order."""

import json
import shutil

import pytest
from safetensors.torch import load_file, save_file
from tiny_checkpoints import turn_classes
from transformers import AutoTokenizer, PreTrainedTokenizerFast

from harness_plugin.cli.main import main

HERE = "--device cpu --threads 1 --precision no --attention sdpa --resamples 100"


def evaluate(toy, folder, *arguments):
    command = [*HERE.split(), "--tasks", toy, "--eval_only", *map(str, arguments)]
    command += ["--output_path", str(folder), "--use_cache", str(folder / "store")]
    status = main(command)
    files = list(folder.glob("transfer_*.json"))
    return status, json.loads(files[0].read_text()) if files else None


def accuracies(record, roles):
    return {
        (s["role"], s["split"], name): number["value"]
        for s in record["scores"]
        if s["role"] in roles
        for name, number in {**s["metrics"], **s["groups"]}.items()
    }


def with_other_tokens(source, target):
    """The same model with its vocabulary in another order, and its classes in another order."""
    shutil.copytree(source, target)
    weights = load_file(target / "model.safetensors")
    state = json.loads((target / "tokenizer.json").read_text())
    vocabulary = state["model"]["vocab"]
    special = {token["content"] for token in state["added_tokens"]}
    plain = sorted(index for token, index in vocabulary.items() if token not in special)
    moved = dict(zip(plain, reversed(plain), strict=True))
    state["model"]["vocab"] = {t: moved.get(i, i) for t, i in vocabulary.items()}
    (target / "tokenizer.json").write_text(json.dumps(state))
    name = "bert.embeddings.word_embeddings.weight"
    order = [moved.get(i, i) for i in range(len(weights[name]))]  # the mapping is its own inverse
    weights[name] = weights[name][order].contiguous()
    save_file(weights, target / "model.safetensors", metadata={"format": "pt"})
    return turn_classes(target)


@pytest.fixture
def toy():
    from pathlib import Path

    return str(Path(__file__).parents[1] / "toy" / "toy.yaml")


def test_checkpoints_score_as_they_did_when_trained(toy_run, toy, tmp_path):
    teacher, control = toy_run.checkpoint("teacher"), toy_run.checkpoint("control")
    student = with_other_tokens(toy_run.checkpoint("student"), tmp_path / "student")
    first = AutoTokenizer.from_pretrained(teacher)
    other = AutoTokenizer.from_pretrained(student)
    assert isinstance(other, PreTrainedTokenizerFast)
    assert first("good")["input_ids"] != other("good")["input_ids"]
    models = ["--teacher", teacher, "--student", student, "--control", control]
    status, record = evaluate(toy, tmp_path / "out", *models)
    assert status == 0
    roles = ("teacher", "student", "control")
    expected = accuracies(toy_run.record(), roles)
    assert accuracies(record, roles) == pytest.approx(expected, abs=1e-6, nan_ok=True)
    assert {m["measure"] for m in record["transfer"]} >= {"contribution", "gap_widening"}
    assert record["seeds"] == [0]
    assert len(list((tmp_path / "out").glob("models/*/results_*.json"))) == 3
    assert {model["method"] for model in record["models"]} == {"as saved"}


def test_teacher_and_student_alone(toy_run, toy, tmp_path):
    teacher, student = toy_run.checkpoint("teacher"), toy_run.checkpoint("student")
    status, record = evaluate(toy, tmp_path, "--teacher", teacher, "--student", student)
    assert status == 0
    assert {model["role"] for model in record["models"]} == {"teacher", "student"}
    expected = accuracies(toy_run.record(), ("teacher", "student"))
    assert accuracies(record, ("teacher", "student")) == pytest.approx(expected, abs=1e-6)


def test_labels_can_be_told(toy_run, toy, tmp_path):
    teacher = toy_run.checkpoint("teacher")
    nameless = shutil.copytree(toy_run.checkpoint("student"), tmp_path / "nameless")
    config = json.loads((nameless / "config.json").read_text())
    config["id2label"] = {"0": "LABEL_0", "1": "LABEL_1"}
    (nameless / "config.json").write_text(json.dumps(config))
    models = ["--teacher", teacher, "--student", nameless]
    by_set = ["--set", "student.labels=[negative, positive]"]
    status, record = evaluate(toy, tmp_path / "out", *models, *by_set)
    assert status == 0
    expected = accuracies(toy_run.record(), ("student",))
    assert accuracies(record, ("student",)) == pytest.approx(expected, abs=1e-6)


def test_one_model_against_itself_keeps_everything(toy_run, toy, tmp_path):
    path = toy_run.checkpoint("teacher")
    status, record = evaluate(toy, tmp_path, "--teacher", path, "--student", path)
    assert status == 0
    numbers = [m["number"] for m in record["transfer"] if m["measure"] == "gap_widening"]
    assert numbers
    assert {n["value"] for n in numbers} <= {0.0, None}
    assert len(list(tmp_path.glob("models/*/results_*.json"))) == 2
