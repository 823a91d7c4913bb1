"""A checkpoint is compared with itself and with the run before anything is computed."""

import json
import re
import shutil

import pytest
import torch
from tiny_checkpoints import LABELS, TEXTS, edit_json, edit_weights, families, tiny

from harness_plugin import HarnessError
from harness_plugin.models import classifiers, processors
from harness_plugin.models.checkpoints import Source, trained_labels
from harness_plugin.models.examination import Use, examine


@pytest.fixture(scope="session")
def originals(tmp_path_factory):
    """One trained classifier of a family, made once and copied."""
    made = {}

    def original(name, trained=True):
        if (name, trained) not in made:
            folder = tmp_path_factory.mktemp("tiny") / name
            made[name, trained] = tiny(name, folder, trained=trained)
        return made[name, trained]

    return original


@pytest.fixture
def checkpoint(originals, tmp_path):
    def copied(name="BERT", trained=True):
        return shutil.copytree(originals(name, trained), tmp_path / f"copy of {name}")

    return copied


def examined(folder, modality="text", trained=True, **use):
    use = {"max_length": 32, "texts": tuple(TEXTS), **use}
    return examine(
        Source("x", checkpoint=str(folder)), modality, Use(trained, **use), role="student"
    )


def refused(folder, *more, **use):
    with pytest.raises(HarnessError) as caught:
        examined(folder, *more, **use)
    for line in str(caught.value).splitlines():
        assert re.match(rf"(student: checkpoint|checkpoint|model) '?{folder}'?", line), line
    return str(caught.value)


@pytest.mark.parametrize("name", ["BERT", "RoBERTa", "T5", "BART", "Qwen2", "ViT", "ResNet"])
def test_a_sound_checkpoint_passes_trained_or_as_a_body(originals, name):
    modality = families().FAMILIES[name].modality
    assert examined(originals(name), modality).dtypes == ("float32",)
    examined(originals(name, trained=False), modality, trained=False)


# ---- files


FILES = {
    "adapter": (
        lambda f: (f / "adapter_config.json").write_text("{}"),
        r"is an adapter \(adapter_config.json\).*merge_and_unload",
    ),
    "no config": (lambda f: (f / "config.json").unlink(), "no config.json; save it with"),
    "pickle": (
        lambda f: (f / "model.safetensors").rename(f / "pytorch_model.bin"),
        "no weights .*Pickled weights.*convert",
    ),
}


@pytest.mark.parametrize("kind", FILES)
def test_a_folder_that_is_no_checkpoint_is_refused_at_its_name(checkpoint, kind):
    from harness_plugin.models.weight_files import check_folder

    damage, message = FILES[kind]
    folder = checkpoint()
    damage(folder)
    with pytest.raises(HarnessError, match=message) as caught:
        check_folder(folder)
    assert str(folder) in str(caught.value)


def halved(folder):
    file = folder / "model.safetensors"
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])


def sharded(folder):
    index = {"weight_map": {"a": "model-00001-of-00002.safetensors", "b": "other.safetensors"}}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))


def with_nan(weights):
    weights["bert.encoder.layer.1.output.dense.bias"][3] = torch.nan
    return weights


WEIGHTS = {
    "cut off": (halved, "model.safetensors is broken or cut off .*: copy or download it again"),
    "shards": (sharded, "names 2 files that are not there .*00001-of-00002.*: copy them too"),
    "pointer": (
        lambda f: (f / "model.safetensors").write_text("version https://git-lfs.github.com/spec"),
        "is a Git LFS pointer, not weights: run git lfs pull",
    ),
    "diverged": (lambda f: edit_weights(f, with_nan), "not finite .*training has diverged"),
    "compiled": (
        lambda f: edit_weights(f, lambda w: {f"_orig_mod.{k}": v for k, v in w.items()}),
        r"called _orig_mod\.…, as saved through torch.compile",
    ),
    "parallel": (
        lambda f: edit_weights(f, lambda w: {f"module.{k}": v for k, v in w.items()}),
        r"called module\.…, as saved through DistributedDataParallel",
    ),
    "packed": (
        lambda f: edit_weights(f, lambda w: {**w, "a.qweight": torch.ones(2, dtype=torch.int32)}),
        "its weights are quantised, .*dequantize",
    ),
    "quantised": (
        lambda f: edit_json(f / "config.json", quantization_config={"quant_method": "gptq"}),
        r"it is quantised \(quantization_config in config.json\)",
    ),
}


@pytest.mark.parametrize("kind", WEIGHTS)
def test_broken_weights_are_one_line(checkpoint, kind):
    damage, message = WEIGHTS[kind]
    folder = checkpoint()
    damage(folder)
    assert re.search(message, answers := refused(folder)), answers


def without(*names):
    return lambda weights: {k: v for k, v in weights.items() if k not in names}


def test_a_head_may_be_missing_for_training_alone_and_a_body_never(checkpoint):
    folder = checkpoint()
    edit_weights(folder, without("classifier.weight"))
    assert "missing, or of another shape than config.json says, for classifier.weight" in refused(
        folder
    )
    examined(folder, trained=False)
    edit_weights(folder, without("bert.pooler.dense.weight"))  # masked language models have none
    examined(folder, trained=False)
    edit_weights(folder, without("bert.encoder.layer.1.output.dense.weight"))
    message = refused(folder, trained=False)
    assert "1 weights of its body are missing or of another shape" in message
    role = classifiers.RoleSettings(model=str(folder))
    with pytest.raises(HarnessError, match="1 weights of its body are missing"):
        build(folder, role)


def build(folder, role=None, labels=LABELS, modality="text"):
    return classifiers.build_model(
        Source("x", checkpoint=str(folder)),
        role or classifiers.RoleSettings(model=str(folder)),
        modality=modality,
        labels=labels,
        processor=processors.load_processor(str(folder), modality),
        attention="eager",
        seed=0,
    )


def test_left_out_layers_are_noted_and_another_width_is_refused(checkpoint):
    folder = checkpoint()
    notes = examined(folder, trained=False, config='{"num_hidden_layers": 1}').notes
    assert notes == (
        "16 weights of stored layers are left out (bert.encoder.layer.1.attention.output.LayerNorm."
        "bias, bert.encoder.layer.1.attention.output.LayerNorm.weight, bert.encoder.layer.1."
        "attention.output.dense.bias …)",
    )
    message = refused(folder, trained=False, config='{"intermediate_size": 48}')
    assert "6 weights of its body are missing or of another shape" in message


@pytest.mark.parametrize("name", ["ModernBERT", "Qwen2"])
def test_fewer_layers_of_an_architecture_that_lists_them(checkpoint, name):
    folder = checkpoint(name, trained=False)
    role = classifiers.RoleSettings(model=str(folder), config={"num_hidden_layers": 1})
    model = build(folder, role)
    assert model.config.num_hidden_layers == len(model.config.layer_types) == 1


# ---- half precision


def test_half_precision_is_noted_and_held_in_float32(checkpoint, tmp_path):
    half = tiny("BERT", tmp_path / "half", trained=True, dtype=torch.bfloat16)
    about = examined(half)
    assert about.dtypes == ("bfloat16",)
    assert about.notes == ("stored as bfloat16, held in float32 here",)
    loaded = classifiers.load_trained(str(half), "text", attention="eager")
    for model in (loaded, build(half), build(half, labels=("a", "b", "c"))):
        assert {parameter.dtype for parameter in model.parameters()} == {torch.float32}
        assert model.config.dtype == torch.float32


def test_half_precision_checkpoints_train_as_their_values_in_float32(open_context, tmp_path):
    from safetensors.torch import load_file

    half = tiny("BERT", tmp_path / "half", dtype=torch.bfloat16)
    whole = shutil.copytree(half, tmp_path / "whole")
    edit_weights(whole, lambda weights: {k: v.float() for k, v in weights.items()})
    edit_json(whole / "config.json", dtype="float32")
    trained = []
    for folder in (half, whole):
        sets = [f"teacher.model={folder}", "teacher.init=pretrained", "teacher.epochs=0.5"]
        ctx = open_context(*sets, "teacher.config={}", "teacher.learning_rate=2e-5")
        model = ctx.trained("teacher", ctx.settings.teacher, "erm", 0)
        assert model.settings["checkpoint"]["dtypes"] == (
            ("bfloat16",) if folder == half else ("float32",)
        )
        trained.append(load_file(model.path / "model.safetensors"))
    before = load_file(whole / "model.safetensors")
    same = changed = 0
    for name, value in trained[0].items():
        assert value.dtype == torch.float32
        assert torch.equal(value, trained[1][name])
        if (start := before.get(name.removeprefix("bert."))) is not None:
            changed += int((value != start).sum())
            same += int((value == start).sum())
    assert changed > 9 * same


# ---- labels


LABEL_FAULTS = {
    "contradiction": (
        {"id2label": {"0": "a", "1": "b"}, "label2id": {"a": 1, "b": 0}},
        "id2label .* and label2id .* contradict each other.*--set student.labels=",
    ),
    "gap": ({"id2label": {"0": "a", "2": "b"}, "label2id": None}, "does not name each logit"),
    "twice": ({"id2label": {"0": "a", "1": "a"}, "label2id": None}, "does not name each logit"),
    "several": (
        {"problem_type": "multi_label_classification"},
        "multi-label classifier .problem_type in config.json.: any number",
    ),
    "regression": ({"id2label": {"0": "score"}, "label2id": None}, "one output: a regression"),
    "words": ({"id2label": {"a": "x", "b": "y"}}, r"cannot be loaded: invalid literal"),
    "list": ({"id2label": ["a", "b"]}, "cannot be loaded: 'list' object"),
}


@pytest.mark.parametrize("kind", LABEL_FAULTS)
def test_labels_that_do_not_say_what_a_logit_means_are_refused(checkpoint, kind):
    changes, message = LABEL_FAULTS[kind]
    folder = checkpoint()
    edit_json(folder / "config.json", **changes)
    with pytest.raises(HarnessError, match=message):
        trained_labels(str(folder), None, "student")


def test_label_names_may_be_numbers(checkpoint):
    folder = checkpoint()
    edit_json(folder / "config.json", id2label={"0": 0, "1": 1}, label2id={"0": 0, "1": 1})
    assert trained_labels(str(folder), None, "student") == ("0", "1")
    model = build(folder, labels=("0", "1"))
    kept = classifiers.load_trained(str(folder), "text", attention="eager").classifier.weight
    assert torch.equal(model.classifier.weight, kept)


# ---- tokenizers


def test_a_checkpoint_without_tokenizer_files_is_refused(checkpoint):
    folder = checkpoint()
    for name in ("tokenizer.json", "tokenizer_config.json"):
        (folder / name).unlink()
    message = refused(folder)
    assert "no tokenizer files (tokenizer.json, vocab.txt, vocab.json …)" in message
    assert "tokenizer.save_pretrained(folder)" in message


def test_a_made_up_tokenizer_is_refused(checkpoint):
    from transformers import BertTokenizer

    folder = checkpoint()
    BertTokenizer().save_pretrained(folder)
    assert "knows 5 tokens, the model has 3" in refused(folder)


def test_tokens_without_embeddings_are_refused(checkpoint):
    folder = checkpoint()
    tokenizer = processors.load_processor(str(folder), "text")
    tokenizer.add_tokens(["<new>", "<newer>"])
    tokenizer.save_pretrained(folder)
    message = refused(folder)
    assert "its tokenizer has 2 tokens beyond the model's" in message
    assert "resize_token_embeddings" in message


def test_texts_that_a_vocabulary_does_not_know(tmp_path):
    from transformers import BertTokenizer

    folder = tiny("BERT", tmp_path / "words", trained=True, vocab_size=8)
    for file in folder.glob("tokenizer*"):
        file.unlink()
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "the", "cat", "sat"]
    (folder / "vocab.txt").write_text("\n".join(words))
    BertTokenizer(vocab=str(folder / "vocab.txt")).save_pretrained(folder)
    assert not examined(folder, texts=("the cat sat",)).notes
    notes = examined(folder, texts=("the cat sat, the cat sat",)).notes
    assert notes == ("its tokenizer does not know 14% of the tokens of these texts",)
    assert "does not know 75% of the tokens of these texts" in refused(
        folder, texts=("eine katze the saß",)
    )


@pytest.mark.parametrize(
    ("name", "places"), [("BERT", 512), ("RoBERTa", 512), ("GPT-2", 1024), ("BART", 1024)]
)
def test_texts_longer_than_a_table_of_positions_are_refused(originals, name, places):
    examined(originals(name), max_length=places)
    message = refused(originals(name), max_length=places + 1)
    assert f"reads at most {places} tokens, and texts are cut to {places + 1}" in message
    assert f"set max_length={places} or less" in message


@pytest.mark.parametrize("name", ["T5", "Qwen2", "ModernBERT", "DeBERTa-v2"])
def test_relative_positions_have_no_end(tmp_path, name):
    changes = {"position_biased_input": False} if name == "DeBERTa-v2" else {}
    examined(tiny(name, tmp_path / name, trained=True, **changes), max_length=5000)


def test_segments_that_a_model_does_not_know_are_refused(tmp_path):
    folder = tiny("BERT", tmp_path / "one", trained=True, type_vocab_size=1)
    assert "apart by token types, of which the model knows 1" in refused(folder)


@pytest.mark.parametrize("name", ["XLNet", "Funnel"])
def test_special_tokens_with_a_type_of_their_own_are_refused(tmp_path, name):
    message = refused(tiny(name, tmp_path / name), trained=False)
    types = {"XLNet": "0 0 1 1 2", "Funnel": "2 0 0 1 1"}[name]
    assert f"its tokenizer marks a pair by the token types {types}: rows are stored as" in message
    assert "Name another model" in message


def test_an_encoder_decoder_whose_end_is_never_written_is_refused(checkpoint):
    folder = checkpoint("BART")
    edit_json(folder / "config.json", eos_token_id=9)
    assert "reads the place of eos_token_id 9, which its tokenizer does not write" in refused(
        folder
    )
    folder = checkpoint("T5")
    edit_json(folder / "config.json", decoder_start_token_id=None)
    assert "has no decoder_start_token_id" in refused(folder)


# ---- images


def test_a_processor_of_another_size_is_refused_where_the_model_cannot_resize(checkpoint):
    for name, fits in (("ViT", False), ("ResNet", True), ("DINOv2", True)):
        folder = checkpoint(name)
        edit_json(folder / "preprocessor_config.json", size={"height": 48, "width": 48})
        if fits:
            examined(folder, "image")
        else:
            message = refused(folder, "image")
            assert "cannot read the pictures that its image processor makes, 3 x 48 x 48" in message


def test_a_model_of_grey_pictures_is_refused(tmp_path):
    folder = tiny("ViT", tmp_path / "grey", trained=True, num_channels=1)
    assert "3 x 32 x 32" in refused(folder, "image")


# ---- the run


def test_faults_stop_a_run_before_anything_is_computed(checkpoint, open_context, tmp_path):
    folder = checkpoint()
    edit_weights(folder, with_nan)
    sets = [f"student.model={folder}", "student.init=pretrained", "student.config={}"]
    with pytest.raises(HarnessError, match=r"^student: checkpoint .* not finite"):
        open_context(*sets)
    assert not list((tmp_path / "store").glob("model-*"))


def test_foreign_architectures_and_code_are_one_line(checkpoint):
    folder = checkpoint()
    edit_json(folder / "config.json", model_type="unheard_of")
    assert "does not know its model type; update transformers" in refused(folder)
    edit_json(
        folder / "config.json", auto_map={"AutoConfig": "mine.Config", "AutoModel": "mine.Model"}
    )
    (folder / "mine.py").write_text("raise SystemExit('code of the checkpoint was run')")
    assert "Python code of its own, which is not run unless you say so" in refused(folder)
