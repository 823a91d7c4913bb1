"""From a run to one model as a folder: what is in it, who can read it, where it can go."""

import json
import stat

import pytest
import torch
from huggingface_hub import HfApi, ModelCard
from transformers import AutoModelForSequenceClassification, AutoTokenizer, pipeline

from harness_plugin.cli.main import main
from harness_plugin_hooks.adapters.checkpoints import evaluated_with


@pytest.fixture(scope="module")
def exported(toy_run, tmp_path_factory):
    """The student of the toy run, exported."""
    folder = tmp_path_factory.mktemp("export") / "my-student"
    assert main(["export", str(toy_run.output), str(folder)]) == 0
    return folder


def test_the_folder_is_what_from_pretrained_takes(exported, toy_run):
    assert {file.name for file in exported.iterdir()} == {
        "README.md",
        "config.json",
        "model.safetensors",
        "stage.json",
        "tokenizer.json",
        "tokenizer_config.json",
    }
    modes = {file.name: stat.S_IMODE(file.stat().st_mode) for file in exported.iterdir()}
    (exported.parent / "neighbour").touch()
    usual = stat.S_IMODE((exported.parent / "neighbour").stat().st_mode)
    assert set(modes.values()) == {usual}  # the store's weights are their owner's only
    model = AutoModelForSequenceClassification.from_pretrained(exported)
    tokenizer = AutoTokenizer.from_pretrained(exported)
    assert tokenizer.model_max_length == 16
    assert model.config.id2label == {0: "negative", 1: "positive"}
    source = AutoModelForSequenceClassification.from_pretrained(toy_run.checkpoint("student"))
    assert all(
        torch.equal(a, b) for a, b in zip(model.parameters(), source.parameters(), strict=True)
    )
    classify = pipeline("text-classification", model=str(exported))
    answers = classify({"text": "good", "text_pair": "sun"})
    assert answers["label"] in ("negative", "positive")
    assert evaluated_with(str(exported)) == evaluated_with(str(toy_run.checkpoint("student")))


def test_one_card_with_what_the_hub_asks_for(exported, toy_run):
    card = ModelCard.load(exported / "README.md")
    assert card.data.license == "apache-2.0"  # from scratch, on data that this software generates
    assert card.data.pipeline_tag == "text-classification"
    assert card.data.library_name == "transformers"
    assert card.data.base_model is None
    numbers = {(r.dataset_split, r.metric_type): r.metric_value for r in card.data.eval_results}
    (scores,) = [
        s["metrics"]
        for s in toy_run.record()["scores"]
        if (s["role"], s["split"]) == ("student", "swapped")
    ]
    assert numbers["swapped", "accuracy"] == scores["acc"]["value"]
    assert "embedded data" in card.text
    assert "Trained by harness-plugin to measure" not in card.text  # that of the store stays there


def test_of_which_model_is_said_and_checked(toy_run, tmp_path, capsys):
    run = str(toy_run.output)
    assert main(["export", run, str(tmp_path / "t"), "--role", "teacher", "--license", "mit"]) == 0
    assert ModelCard.load(tmp_path / "t" / "README.md").data.license == "mit"
    config = json.loads((tmp_path / "t" / "config.json").read_text())
    assert config["num_hidden_layers"] == 2
    capsys.readouterr()
    for words, answers in {
        ("--role", "studnet"): "unknown role of the run 'studnet'. Did you mean student",
        ("--seed", "3"): "unknown seed of student '3'",
        ("--tasks", "hans"): "unknown task of the run in",
    }.items():
        assert main(["export", run, str(tmp_path / "x"), *words]) == 2
        assert answers in capsys.readouterr().err
    assert main(["export", run, str(tmp_path / "t")]) == 2
    assert "is not empty; name a new folder" in capsys.readouterr().err


def test_the_hub_that_cannot_be_reached_is_one_line(toy_run, tmp_path, capsys):
    """HF_HUB_OFFLINE is set in tests: the folder is there, the command says what to do."""
    words = ["export", str(toy_run.output), str(tmp_path / "m"), "--push_to_hub", "me/student"]
    assert main(words) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("harness: error: --push_to_hub me/student: ")
    assert "offline mode" in line
    assert line.endswith(f"then `hf upload me/student {tmp_path / 'm'}`.")
    assert (tmp_path / "m" / "model.safetensors").is_file()


def test_what_is_pushed_is_the_folder(toy_run, tmp_path, monkeypatch, capsys):
    calls = []
    monkeypatch.setattr(
        HfApi, "create_repo", lambda self, name, **more: calls.append((name, more)) or f"at/{name}"
    )
    monkeypatch.setattr(HfApi, "upload_folder", lambda self, **more: calls.append(more))
    words = ["export", str(toy_run.output), str(tmp_path / "m"), "--push_to_hub", "me/student"]
    assert main([*words, "--private"]) == 0
    assert calls[0] == ("me/student", {"private": True, "exist_ok": True})
    assert (calls[1]["repo_id"], calls[1]["folder_path"]) == ("me/student", tmp_path / "m")
    assert capsys.readouterr().out.endswith("at/me/student\n")


def test_a_model_without_a_licence_is_not_published(toy_run, tmp_path, capsys):
    from harness_plugin_hooks.outputs.export.publish import push_to_hub

    (tmp_path / "README.md").write_text("---\nlibrary_name: transformers\n---\n# m\n")
    with pytest.raises(Exception, match="names no licence"):
        push_to_hub(tmp_path, "me/student", private=False)


def test_onnx_gives_the_logits_of_the_model(toy_run, tmp_path):
    pytest.importorskip("onnxscript", reason="the extra: pip install 'debias-transfer[onnx]'")
    runtime = pytest.importorskip("onnxruntime", reason="onnxruntime is not installed")
    assert main(["export", str(toy_run.output), str(tmp_path / "m"), "--onnx"]) == 0
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "m")
    rows = tokenizer(["good", "bad a b"], ["sun", "rain"], padding=True, return_tensors="pt")
    model = AutoModelForSequenceClassification.from_pretrained(tmp_path / "m").eval()
    with torch.inference_mode():
        expected = model(**rows).logits.numpy()
    session = runtime.InferenceSession(str(tmp_path / "m" / "model.onnx"))
    (predicted,) = session.run(["logits"], {name: value.numpy() for name, value in rows.items()})
    assert abs(predicted - expected).max() < 1e-5


def test_onnx_without_its_extra_says_so(toy_run, tmp_path, monkeypatch, capsys):
    import importlib.util

    real = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name, *a: None if name == "onnx" else real(name, *a)
    )
    assert main(["export", str(toy_run.output), str(tmp_path / "m"), "--onnx"]) == 2
    assert "--onnx needs onnx: pip install 'debias-transfer[onnx]'." in capsys.readouterr().err
