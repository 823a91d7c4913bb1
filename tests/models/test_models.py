"""Names become the models they stand for; checkpoints load anywhere, or say why not."""

import json
import os
import subprocess
import sys

import pytest
import torch
from transformers import (
    AutoConfig,
    AutoModelForImageClassification,
    AutoModelForSequenceClassification,
    AutoTokenizer,
    T5Config,
    T5ForConditionalGeneration,
)

from harness_plugin import HarnessError
from harness_plugin.config.settings import RoleSettings
from harness_plugin.models import checkpoints, classifiers, processors
from harness_plugin_hooks.backbones import PRESETS

PARAMETERS = {name: p.parameters for name, p in PRESETS.items() if p.parameters is not None}
PUBLISHED = {  # distillation's table of sizes: three labels for text models
    "bert-tiny": 4_386_307,
    "bert-mini": 11_171_331,
    "bert-small": 28_765_187,
    "bert-medium": 41_374_723,
    "bert-base": 109_484_547,
    "bert-large": 335_144_963,
    "distilbert-base": 66_955_779,
    "t5-efficient-tiny-encdec": 15_637_251,
    "t5-efficient-mini-encdec": 31_369_475,
    "t5-small-encdec": 60_770_819,
    "t5-base-encdec": 223_496_451,
    "t5-large-encdec": 738_720_771,
    "t5-3b-encdec": 2_852_651_011,
    "resnet-18": 11_177_538,
    "resnet-34": 21_285_698,
    "resnet-50": 23_512_130,
    "resnet-101": 42_504_258,
    "resnet-152": 58_147_906,
    "vit-tiny": 5_524_802,
    "vit-small": 21_666_434,
    "vit-base": 85_800_194,
    "vit-large": 303_303_682,
}
ENCODERS = {  # without the linear head: d_model x 3 + 3
    "t5-efficient-tiny": 11_372_928,
    "t5-efficient-mini": 20_205_184,
    "t5-small": 35_330_816,
    "t5-base": 109_628_544,
    "t5-large": 334_939_648,
    "t5-3b": 1_240_909_824,
}
VOCABULARY = {"roberta": 50_265, "deberta-v2": 128_100}
"""Where the checkpoints' vocabulary is not the configuration's default."""


def settings(model="bert-pico", init="scratch", **changes):
    return RoleSettings(model=model, init=init, **changes)


def on_meta(backbone, labels):
    """The model of a preset, without memory."""
    by_set = dict(backbone.config)
    if backbone.model_type in VOCABULARY:
        by_set["vocab_size"] = VOCABULARY[backbone.model_type]
    config = AutoConfig.for_model(backbone.model_type, **by_set, num_labels=labels)
    with torch.device("meta"):
        return classifiers.AUTO[backbone.modality].from_config(config)


def size(model):
    return sum(parameter.numel() for parameter in model.parameters())


@pytest.mark.parametrize("name", PARAMETERS)
def test_a_preset_has_the_listed_and_the_published_number_of_parameters(plugins, name):
    backbone = plugins["backbone"].offer(name).load()
    model = on_meta(backbone, 2)
    assert size(model) == PARAMETERS[name]
    assert backbone.hub_id
    if name in PUBLISHED:
        assert size(on_meta(backbone, 3 if backbone.modality == "text" else 2)) == PUBLISHED[name]
    if name in ENCODERS:
        head = sum(parameter.numel() for parameter in model.classifier.parameters())
        assert size(model) - head == ENCODERS[name]


def test_every_preset_is_counted_or_made_for_small_data(plugins):
    offered = {offer.name: offer.summary for offer in plugins["backbone"]}
    small = {name for name in offered if name not in PARAMETERS}
    assert all("-pico" in name or "-nano" in name for name in small)
    assert offered["bert-base"] == (
        "12 layers, width 768: 109.5 M parameters, 418 MiB, training 1,671 MiB"
    )


def test_the_encoder_of_a_whole_t5_becomes_a_classifier(plugins, tmp_path):
    torch.manual_seed(0)
    expected = {"num_layers": 2, "d_model": 16, "d_kv": 4, "d_ff": 32, "num_heads": 4}
    whole = T5ForConditionalGeneration(T5Config(vocab_size=40, **expected))
    whole.save_pretrained(tmp_path / "t5")
    kind = plugins["backbone"].offer("t5-small").load().model_type
    source = checkpoints.Source("t5-x", checkpoint=str(tmp_path / "t5"), model_type=kind)
    labels = ("a", "b", "c")
    expected = {"modality": "text", "labels": labels, "processor": None, "attention": "eager"}
    model = classifiers.build_model(source, settings(), seed=0, **expected)
    assert type(model).__name__ == "T5EncoderClassifier"
    assert model.config.id2label == dict(enumerate(labels))
    assert torch.equal(model.shared.weight, whole.shared.weight)
    theirs, mine = whole.encoder.state_dict(), model.encoder.state_dict()
    assert all(torch.equal(value, theirs[name]) for name, value in mine.items())


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"model": "bert-tny"}, r"unknown backbone 'bert-tny'. Did you mean bert-tiny"),
        ({"model": "resnet-18"}, r"'resnet-18' reads image, the task is text. Use one of bert-"),
        ({"init": "pretrained"}, r"'bert-pico' has no pretrained checkpoint; use init=scratch"),
        ({"model": "./nowhere"}, r"model './nowhere': no such folder"),
        ({"model": "/no/where"}, r"model '/no/where': no such folder"),
        (
            {"config": {"hidden_sice": 8}},
            r"key of bert-pico 'hidden_sice'. Did you mean hidden_size",
        ),
    ],
)
def test_a_model_that_cannot_be_is_refused_before_anything_is_trained(plugins, changes, message):
    with pytest.raises(HarnessError, match=message):
        checkpoints.check_settings(settings(**changes), "text", plugins, False)


def test_a_hub_model_offline_says_what_to_do(plugins):
    with pytest.raises(HarnessError, match=r"'org/absent': HF_HUB_OFFLINE is set, .* name a local"):
        checkpoints.check_settings(settings("org/absent", "pretrained"), "text", plugins, False)


def test_a_folder_without_checkpoint_or_weights_is_refused(tmp_path, plugins):
    def located():
        return checkpoints.locate(settings(str(tmp_path)), "text", plugins)

    with pytest.raises(HarnessError, match=r"no config.json; save it with save_pretrained"):
        located()
    (tmp_path / "config.json").write_text("{}")
    (tmp_path / "pytorch_model.bin").write_bytes(b"a pickle")
    with pytest.raises(HarnessError, match=r"no weights .*Pickled weights .* convert them"):
        located()
    (tmp_path / "model.safetensors").write_bytes(b"")
    assert located().checkpoint == str(tmp_path)


@pytest.fixture
def trained(open_context):
    ctx = open_context("teacher.epochs=0.1")
    return ctx, ctx.trained("teacher", ctx.settings.teacher, "erm", 0)


def test_a_trained_model_loads_without_us(trained):
    _, model = trained
    loaded = AutoModelForSequenceClassification.from_pretrained(model.path)
    assert loaded.config.id2label == {0: "negative", 1: "positive"}
    assert loaded.config.label2id == {"negative": 0, "positive": 1}
    tokenizer = AutoTokenizer.from_pretrained(model.path)
    inputs = tokenizer("the good", "sun", return_tensors="pt")
    assert loaded(**inputs).logits.shape == (1, 2)
    assert tokenizer.model_max_length == 16  # whoever loads it truncates as in training
    card = (model.path / "README.md").read_text()
    assert card.startswith("---\nlibrary_name: transformers")
    assert '"role": "teacher"' in card
    assert not list(model.path.glob("*.bin"))


def test_a_trained_image_model_loads_without_us(open_context):
    sets = ["teacher.epochs=1", "celeba_bias.n_train=96", "celeba_bias.n_test=800"]
    ctx = open_context(*sets, task="celeba_bias", limit=96)
    model = ctx.trained("teacher", ctx.settings.teacher, "erm", 0)
    loaded = AutoModelForImageClassification.from_pretrained(model.path)
    processor = processors.load_processor(str(model.path), "image")
    assert list(processor.image_mean) == list(ctx.settings.image.mean)
    assert tuple(loaded.config.id2label.values()) == ctx.labels


def edit_config(folder, **changes):
    config = json.loads((folder / "config.json").read_text())
    config.update(changes)
    (folder / "config.json").write_text(json.dumps(config))


def test_nameless_classes_are_refused_with_the_remedy(trained):
    _, model = trained
    edit_config(model.path, id2label={"0": "LABEL_0", "1": "LABEL_1"})
    with pytest.raises(
        HarnessError, match=r"calls its classes LABEL_0, LABEL_1.*--set student.lab"
    ):
        checkpoints.trained_labels(str(model.path), None, "student")
    assert checkpoints.trained_labels(str(model.path), ("b", "a"), "student") == ("b", "a")
    with pytest.raises(HarnessError, match=r"student: 3 labels were given, .* has 2 classes"):
        checkpoints.trained_labels(str(model.path), ("a", "b", "c"), "student")


def test_a_checkpoint_that_lacks_weights_is_no_trained_classifier(trained, tmp_path):
    from safetensors.torch import load_file, save_file

    _, model = trained
    file = model.path / "model.safetensors"
    weights = load_file(file)
    del weights["classifier.weight"]
    save_file(weights, file, metadata={"format": "pt"})
    with pytest.raises(
        HarnessError, match=r"weights are missing for classifier.weight; it is not a"
    ):
        classifiers.load_trained(str(model.path), "text", attention="sdpa")


def test_a_broken_weights_file_is_one_line(trained):
    _, model = trained
    (model.path / "model.safetensors").write_bytes(b"broken")
    with pytest.raises(HarnessError, match=r"^model .* cannot be loaded: "):
        classifiers.load_trained(str(model.path), "text", attention="sdpa")


def build(ctx, model, labels):
    role = settings(str(model.path))
    return classifiers.build_model(
        checkpoints.locate(role, "text", ctx.plugins),
        role,
        modality="text",
        labels=labels,
        processor=ctx.processor(role)[0],
        attention="sdpa",
        seed=3,
    )


def test_other_labels_get_a_new_head_on_the_same_body(trained):
    ctx, model = trained
    same = build(ctx, model, ("negative", "positive"))
    turned = build(ctx, model, ("positive", "negative"))
    three = build(ctx, model, ("a", "b", "c"))
    body = "bert.embeddings.word_embeddings.weight"
    saved = classifiers.load_trained(str(model.path), "text", attention="sdpa").state_dict()
    for other in (same, turned, three):
        assert torch.equal(other.state_dict()[body], saved[body])
    assert torch.equal(same.classifier.weight, saved["classifier.weight"])
    assert not torch.equal(turned.classifier.weight, saved["classifier.weight"])
    assert turned.config.id2label == {0: "positive", 1: "negative"}
    assert three.classifier.weight.shape == (3, 64)
    again = build(ctx, model, ("positive", "negative"))
    assert torch.equal(again.classifier.weight, turned.classifier.weight)


def test_given_labels_describe_the_checkpoint_and_not_what_is_trained_from_it(
    trained, open_context
):
    _, first = trained
    edit_config(first.path, id2label={"0": "LABEL_0", "1": "LABEL_1"})
    sets = [f"teacher.model={first.path}", "teacher.init=pretrained"]
    ctx = open_context(*sets, "teacher.labels=[positive, negative]", "teacher.epochs=0.1")
    model = ctx.trained("teacher", ctx.settings.teacher, "erm", 0)
    assert model.settings["labels"] == ("negative", "positive")


def test_checkpoints_of_other_labels_than_the_data_are_refused(trained, open_context):
    _, model = trained
    edit_config(model.path, id2label={"0": "cat", "1": "dog"})
    with pytest.raises(HarnessError, match="teacher predicts label cat, dog, but set 'id' of task"):
        open_context(f"teacher.model={model.path}", f"student.model={model.path}", eval_only=True)


TRAIN = """
import sys
from pathlib import Path
from harness_plugin.models.processors import train_tokenizer
words = [f"w{i % 97}x{i % 31} {'good' if i % 3 else 'Bad'} \\u00e9t\\u00e9" for i in range(3000)]
train_tokenizer(words, 400, Path(sys.argv[-1]))
"""


def test_a_tokenizer_is_the_same_file_in_every_process(tmp_path, monkeypatch):
    subprocess.run(
        [sys.executable, "-c", TRAIN, str(tmp_path / "1")],
        env={**os.environ, "PYTHONHASHSEED": "1", "RAYON_NUM_THREADS": "1"},
        check=True,
        timeout=100,
    )
    monkeypatch.setattr(sys, "argv", [str(tmp_path / "2")])
    exec(TRAIN, {})
    files = [(tmp_path / number / "tokenizer.json").read_bytes() for number in ("1", "2")]
    assert files[0] == files[1]
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "1")
    pair = tokenizer("GOOD", "bad")
    assert tokenizer.decode(pair["input_ids"]).startswith("[CLS]")
    assert pair["token_type_ids"] == sorted(pair["token_type_ids"])
    assert tokenizer("good")["input_ids"] == tokenizer("GOOD")["input_ids"]
