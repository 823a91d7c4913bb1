"""Decoders as classifiers: padding, the two texts of a pair, and batches that change nothing."""

import json
import shutil

import numpy as np
import pytest
import torch
from tiny_checkpoints import LABELS, TEXTS, edit_json, families, tiny
from transformers import AutoModelForSequenceClassification, AutoTokenizer

from harness_plugin.models import classifiers, processors
from harness_plugin.models.checkpoints import Source
from harness_plugin.models.examination import Use, examine
from harness_plugin.training.inputs import encode

DECODERS = sorted(n for n, f in families().FAMILIES.items() if f.kind == "decoder")


def notes_of(folder):
    source = Source("x", checkpoint=str(folder))
    return "; ".join(examine(source, "text", Use(True, 32), role="teacher").notes)


def logits_of(open_context, folder, eval_batch_size):
    sets = [f"teacher.model={folder}", "teacher.config={}", "teacher.epochs=0"]
    ctx = open_context(*sets, eval_batch_size=eval_batch_size)
    model = ctx.trained("teacher", ctx.settings.teacher, "erm", 0)
    return ctx.predictions(model, ctx.data.evaluation[1]).logits


@pytest.mark.parametrize("stated", [None, -1, 7])
@pytest.mark.parametrize("name", ["Qwen2", "GPT-2"])
def test_labels_do_not_depend_on_the_batch_whatever_padding_is_stated(
    open_context, tmp_path, name, stated
):
    folder = tiny(name, tmp_path / name, trained=True, initializer_range=0.5)
    edit_json(folder / "config.json", pad_token_id=stated)
    alone = logits_of(open_context, folder, 1)
    together = logits_of(open_context, folder, 64)
    np.testing.assert_allclose(together, alone, atol=1e-4)
    assert len(set(alone.argmax(axis=1))) == 2
    tokenizer = processors.load_processor(str(folder), "text")
    assert f"pad_token_id {stated}, its tokenizer pads with 0, which is taken" in notes_of(folder)
    model = classifiers.load_trained(str(folder), "text", attention="eager")
    assert model.config.pad_token_id == tokenizer.pad_token_id == 0


@pytest.mark.parametrize("name", DECODERS)
def test_a_body_is_trained_and_saved_with_its_padding_and_its_pairs(name, tmp_path):
    folder = tiny(name, tmp_path / name)
    tokenizer = processors.load_processor(str(folder), "text")
    assert tokenizer.pad_token == tokenizer.eos_token
    model = classifiers.build_model(
        Source(name, checkpoint=str(folder)),
        classifiers.RoleSettings(model=str(folder)),
        modality="text",
        labels=LABELS,
        processor=tokenizer,
        attention="eager",
        seed=0,
    )
    model.save_pretrained(tmp_path / "saved")
    tokenizer.save_pretrained(tmp_path / "saved")
    plain = AutoTokenizer.from_pretrained(tmp_path / "saved")
    again = AutoModelForSequenceClassification.from_pretrained(tmp_path / "saved").eval()
    assert again.config.pad_token_id == tokenizer.pad_token_id
    first, second = TEXTS[0], "dogs"
    row = plain(first, second)["input_ids"]
    assert row == tokenizer(first, second)["input_ids"]
    begin = [plain.bos_token_id] if families().FAMILIES[name].style == "llama" else []
    words = [plain(each, add_special_tokens=False)["input_ids"] for each in (first, "\n", second)]
    assert row == begin + words[0] + words[1] + words[2]
    assert plain(first)["input_ids"] == begin + words[0]
    batch = plain([first, second], [second, second], padding=True, return_tensors="pt")
    with torch.no_grad():
        both = again(**batch).logits
        alone = again(**plain(second, second, return_tensors="pt")).logits
    torch.testing.assert_close(both[1:], alone, atol=1e-5, rtol=1e-4)
    assert "nothing between two texts; pairs stay so" not in notes_of(tmp_path / "saved")


def test_a_decoder_that_is_a_classifier_keeps_what_its_tokenizer_does_with_pairs(tmp_path):
    folder = tiny("Qwen2", tmp_path / "trained", trained=True)
    ours = processors.load_processor(str(folder), "text")
    theirs = AutoTokenizer.from_pretrained(folder)
    assert ours("a cat", "dogs")["input_ids"] == theirs("a cat", "dogs")["input_ids"]
    assert "pairs stay so, as it is a classifier" in notes_of(folder)


@pytest.mark.parametrize("side", ["left", "right"])
def test_the_side_that_a_tokenizer_pads_changes_no_logits(open_context, tmp_path, side):
    folder = tiny("Llama", tmp_path / side, trained=True, initializer_range=0.5)
    edit_json(folder / "tokenizer_config.json", padding_side=side)
    alone = logits_of(open_context, folder, 1)
    np.testing.assert_allclose(logits_of(open_context, folder, 64), alone, atol=1e-4)


# ---- what is stored under which key


def edited(change):
    """A change of a folder's tokenizer, by its own methods."""

    def edit(folder):
        tokenizer = processors.load_processor(str(folder), "text")
        change(tokenizer)
        tokenizer.save_pretrained(folder)

    return edit


def configured(**changes):
    return lambda folder: edit_json(folder / "tokenizer_config.json", **changes)


CHANGES = {
    "padding": configured(pad_token="[MASK]"),
    "padding side": configured(padding_side="left"),
    "truncation side": configured(truncation_side="left"),
    "special tokens in texts": configured(split_special_tokens=True),
    "inputs": configured(model_input_names=["input_ids", "attention_mask"]),
    "template": edited(lambda tokenizer: processors.join_pairs(tokenizer, " the ")),
    "added token": edited(lambda tokenizer: tokenizer.add_tokens(["<new>"])),
}


@pytest.mark.parametrize("change", CHANGES)
def test_whatever_shapes_ids_makes_another_key_and_survives_saving(tmp_path, change):
    folder = tiny("BERT", tmp_path / "plain")
    before = encode.processor_key(processors.load_processor(str(folder), "text"))
    CHANGES[change](folder)
    changed = processors.load_processor(str(folder), "text")
    assert encode.processor_key(changed) != before
    changed.save_pretrained(tmp_path / "saved")
    saved = processors.load_processor(str(tmp_path / "saved"), "text")
    assert encode.processor_key(saved) == encode.processor_key(changed)


def test_what_a_call_leaves_behind_makes_no_other_key(tmp_path):
    folder = tiny("BERT", tmp_path / "plain")
    used, fresh = (processors.load_processor(str(folder), "text") for _ in range(2))
    used("a cat", "a dog", truncation=True, max_length=4, padding=True)
    assert encode.processor_key(used) == encode.processor_key(fresh)


def test_a_student_never_gets_rows_that_its_teacher_truncates_otherwise(open_context, tmp_path):
    teacher = tiny("Qwen2", tmp_path / "teacher")
    student = shutil.copytree(teacher, tmp_path / "student")
    edit_json(teacher / "tokenizer_config.json", truncation_side="left")
    sets = [f"teacher.model={teacher}", f"student.model={student}"]
    for role in ("teacher", "student"):
        sets += [f"{role}.config={{}}", f"{role}.max_length=4", f"{role}.init=pretrained"]
    ctx = open_context(*sets)
    split = ctx.data.evaluation[0]
    rows = [ctx.encoded(split, getattr(ctx.settings, role)) for role in ("teacher", "student")]
    expected = []
    for folder in (teacher, student):
        tokenizer = processors.load_processor(str(folder), "text")
        texts = [list(split.rows[column]) for column in ctx.task.inputs]
        expected.append(tokenizer(*texts, truncation=True, max_length=4)["input_ids"])
    assert expected[0] != expected[1]
    for row, ids in zip(rows, expected, strict=True):
        assert row.tokens.tolist() == [token for each in ids for token in each]


def test_the_notes_stand_in_the_record_of_a_run(open_context, tmp_path):
    folder = tiny("GPT-2", tmp_path / "gpt2")
    sets = [f"teacher.model={folder}", "teacher.init=pretrained", "teacher.config={}"]
    ctx = open_context(*sets, "teacher.epochs=0.1")
    model = ctx.trained("teacher", ctx.settings.teacher, "erm", 0)
    record = json.loads(json.dumps(model.settings["checkpoint"]))
    assert [note.split(";")[0] for note in record["notes"]] == [
        "its tokenizer has no padding token",
        "its tokenizer puts nothing between two texts",
        "config.json has pad_token_id None, its tokenizer pads with 0, which is taken: labels do "
        "not depend on the batch",
    ]
