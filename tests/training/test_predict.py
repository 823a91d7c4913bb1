"""Predictions do not depend on batches, padding, label order or another model's answers."""

import shutil
from dataclasses import replace

import numpy as np
import pytest
import torch
from stepwise import Distillation
from tiny_checkpoints import edit_weights, turn_classes

from harness_plugin import HarnessError
from harness_plugin.models import classifiers
from harness_plugin.pipeline.roles import split_stages
from harness_plugin.pipeline.roles.split_stages import label_order
from harness_plugin.training import predict
from harness_plugin.training.inputs.batching import evaluation_batches


@pytest.fixture
def trained(open_context):
    """A context, a hardly trained model of it, and its rows."""
    ctx = open_context("teacher.epochs=0.3")
    model = ctx.trained("teacher", ctx.settings.teacher, "erm", 0)
    loaded = classifiers.load_trained(str(model.path), "text", attention="sdpa")
    split = ctx.data.splits["id"]
    return ctx, model, loaded, split, ctx.encoded(split, ctx.settings.teacher)


def test_batch_size_and_padding_change_nothing(trained):
    ctx, _, loaded, _, encoded = trained
    tables = [predict.predict(ctx.accelerator, loaded, encoded, batch_size=n) for n in (1, 7, 256)]
    assert tables[0].shape == (120, 2)
    for table in tables[1:]:
        assert np.abs(table - tables[0]).max() < 1e-5
    wide = encoded.batch(np.arange(120))["input_ids"].shape[1]
    assert encoded.lengths.min() < wide  # some rows were padded with 256 and none with 1


def test_every_row_is_asked_once(trained, monkeypatch):
    ctx, _, loaded, _, encoded = trained

    def twice(*args):
        plan = evaluation_batches(*args)
        return [*plan, plan[0]]

    monkeypatch.setattr(predict, "evaluation_batches", twice)
    with pytest.raises(HarnessError, match="15 of 120 rows were not predicted exactly once"):
        predict.predict(ctx.accelerator, loaded, encoded, batch_size=16)


def test_two_passes_give_the_same_bytes_even_from_training_mode(trained):
    ctx, _, loaded, _, encoded = trained
    loaded.train()
    first = predict.predict(ctx.accelerator, loaded, encoded, batch_size=32)
    second = predict.predict(ctx.accelerator, loaded.train(), encoded, batch_size=32)
    assert np.array_equal(first, second)


def test_logits_that_are_not_finite_are_refused(trained):
    ctx, _, loaded, _, encoded = trained
    with torch.no_grad():
        loaded.classifier.bias[0] = float("nan")
    with pytest.raises(HarnessError, match="logits that are not finite"):
        predict.predict(ctx.accelerator, loaded, encoded, batch_size=32)


def test_another_order_of_labels_gives_the_same_answers(trained, tmp_path):
    ctx, model, _, split, _ = trained
    turned = turn_classes(shutil.copytree(model.path, tmp_path / "turned"))
    settings = ctx.settings.teacher.model_copy(update={"model": str(turned)})
    other = ctx.untrained("student", settings, 0)
    first, second = ctx.predictions(model, split), ctx.predictions(other, split)
    assert second.model_labels == ("positive", "negative")
    assert np.allclose(first.logits, second.logits[:, ::-1])
    assert np.allclose(first.probabilities, second.probabilities)
    assert np.array_equal(first.predicted, second.predicted)
    assert label_order(other, ctx.labels) == [1, 0]
    assert label_order(model, ctx.labels) == [0, 1]


def test_a_student_hears_its_teacher_by_the_names_of_labels(trained, tmp_path):
    ctx, model, *_ = trained
    turned = turn_classes(shutil.copytree(model.path, tmp_path / "turned"))
    settings = ctx.settings.teacher.model_copy(update={"model": str(turned)})
    seen_ids = []
    for teacher in (model, ctx.untrained("teacher", settings, 0)):
        distillation = Distillation((teacher,), ctx.settings.students["student"])
        seen_ids.append(ctx.teacher_outputs(distillation).logits)
    assert torch.allclose(seen_ids[0], seen_ids[1])


def test_a_teacher_of_other_labels_is_refused(trained):
    _, model, *_ = trained
    other = replace(model, labels=("cat", "dog"))
    with pytest.raises(
        HarnessError, match=r"predicts cat, dog, its student negative, positive: dis"
    ):
        label_order(other, ("negative", "positive"))


def test_two_models_in_one_store_never_share_answers(trained):
    ctx, model, _, split, _ = trained
    student = ctx.trained("student", ctx.settings.student, "erm", 0)
    another = ctx.trained("teacher", ctx.settings.teacher, "erm", 1)
    stages = {ctx.logits(m, split).path for m in (model, student, another)}
    assert len(stages) == 3
    assert ctx.logits(model, split).reused
    tables = [ctx.predictions(m, split).logits for m in (model, student, another)]
    assert not np.array_equal(tables[0], tables[1])
    assert not np.array_equal(tables[0], tables[2])


def test_answers_are_keyed_by_the_rows(trained):
    ctx, model, _, split, _ = trained
    order = np.random.default_rng(0).permutation(len(split))
    shuffled = split.select(order)
    first, second = ctx.predictions(model, split), ctx.predictions(model, shuffled)
    assert second.ids.tolist() == first.ids[order].tolist()
    assert np.allclose(second.logits, first.logits[order], atol=1e-5)


def test_a_model_of_other_labels_is_refused_before_it_is_asked(trained):
    *_, split, _ = trained
    with pytest.raises(HarnessError, match="student predicts label cat, dog, but set 'id'"):
        predict.check_labels(split, "toy", "student", ("cat", "dog"))
    predict.check_labels(split, "toy", "student", ("Positive", "negative"))


def test_weights_that_are_replaced_are_other_weights(trained, tmp_path):
    _, model, *_ = trained
    copy = shutil.copytree(model.path, tmp_path / "copy")
    first = split_stages.weights_key(str(copy))
    assert first == split_stages.weights_key(str(model.path))
    edit_weights(copy, lambda w: {**w, "classifier.bias": w["classifier.bias"] + 1})
    assert split_stages.weights_key(str(copy)) != first


def test_a_hub_checkpoint_is_keyed_by_its_commit(monkeypatch):
    result = {"commit": "abc"}
    monkeypatch.setattr(
        split_stages, "cached_file", lambda name, file: f"/hub/snapshots/{result['commit']}/{file}"
    )
    first = split_stages.weights_key("org/model")
    assert first == "org/model@abc"
    result["commit"] = "def"
    assert split_stages.weights_key("org/model") != first
