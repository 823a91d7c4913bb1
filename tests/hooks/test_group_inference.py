"""Groups without labels: EIIL's closed form, SSA's selection, error sets, what they feed."""

import numpy as np
import pytest
import torch

from harness_plugin import HarnessError
from harness_plugin.pipeline.roles.supervision import crossed, metadata_of
from harness_plugin.training.contracts import Prepared
from harness_plugin_hooks.methods.bias.inference import confident, opposed, scale_gradient
from harness_plugin_hooks.methods.groups import GroupDRO
from harness_plugin_hooks.methods.jtt import JTT

Z = np.array([[2, 0, -1], [0.5, 1, 0], [-1, 0, 1], [1, 1, 0]])
Y = np.array([0, 1, 2, 0])


def place(ctx, role="teacher"):
    return ctx.trainer(role, ctx.settings.teacher, 0)


def test_scale_gradient_is_that_of_the_scaled_cross_entropy():
    assert scale_gradient(Z, Y) == pytest.approx(
        [-0.354421, -0.339922, -0.424790, -0.155362], abs=1e-6
    )
    scale = torch.ones(4, dtype=torch.float64, requires_grad=True)
    logits = torch.from_numpy(Z) * scale[:, None]
    torch.nn.functional.cross_entropy(logits, torch.from_numpy(Y), reduction="sum").backward()
    assert scale_gradient(Z, Y) == pytest.approx(scale.grad.numpy())


def test_environments_part_rows_by_the_sign_of_their_gradient():
    gradient = np.array([-1.0] * 30 + [1.0] * 10)
    result = opposed(gradient, steps=3000, rate=0.05, seed=0)
    assert len(set(result[:30].tolist())) == 1
    assert set(result[30:].tolist()) == {1 - result[0]}


def test_confident_rows_are_equally_many_of_every_group():
    logits = np.array([[9, 0], [8, 0], [7, 0], [0, 9], [0, 8], [0, 0.1]], np.float32)
    label = np.array([0, 0, 0, 0, 0, 0])
    assert confident(logits, label, 0.95).tolist() == [0, 1, 3, 4]
    with pytest.raises(HarnessError, match=r"no attribute is predicted with a confidence of 0.95"):
        confident(np.zeros((4, 2), np.float32), np.zeros(4, int), 0.95)


def test_crossed_groups_are_label_times_environment(open_context):
    facts = metadata_of(open_context().data.train)
    assert facts.environments == ("rain", "sun")
    both = crossed(facts, ("negative", "positive"))
    assert both.groups == ("negative/rain", "negative/sun", "positive/rain", "positive/sun")
    assert torch.equal(both.group, facts.label * 2 + facts.environment)


def test_the_error_set_is_what_the_first_model_gets_wrong(open_context):
    ctx = open_context("group_inference=error_set")
    lab = place(ctx)
    stage = (
        ctx.plugins["group_inference"].offer("error_set").load().environments(lab, {"epochs": 1.0})
    )
    environment = np.load(stage.path / "environment.npy")
    first = lab.erm(epochs=1.0, snapshot=True)
    assert first.reused
    wrong = lab.predict(first).logits.argmax(1) != ctx.data.train.label
    assert np.array_equal(environment == 1, wrong)
    assert stage.record["names"] == ["right", "wrong"]
    assert stage.record["rows"] == {"right": int((~wrong).sum()), "wrong": int(wrong.sum())}


FAST = ("teacher.batch_size=8", "teacher.learning_rate=3e-3")
"""A T5 of two layers learns a word of the toy task by heart within seconds."""


def test_an_empty_error_set_is_an_error(open_context):
    """Anniesch/jtt issue 6: with ERM's own settings the first model makes no error."""
    ctx = open_context(
        "teacher.model=t5-pico", "method_options.jtt.epochs=12", "toy.rows=120", *FAST
    )
    with pytest.raises(HarnessError, match=r"gets 0 of 120 training rows wrong.*train it shorter"):
        ctx.trained("teacher", ctx.settings.teacher, "jtt", 0)


def test_inferred_groups_feed_any_group_method_and_are_said_in_the_record(open_context):
    ctx = open_context("group_inference=eiil", "group_inference_options.eiil.steps=200")
    facts, used = ctx.metadata(GroupDRO.needs, place(ctx), Prepared())
    assert facts.groups == (
        "negative/first",
        "negative/second",
        "positive/first",
        "positive/second",
    )
    assert len(used) == 1
    model = ctx.trained("teacher", ctx.settings.teacher, "group_dro", 0)
    assert model.supervision == {
        "train_groups": False,
        "validation_groups": False,
        "group_inference": "eiil",
        "bias_model": None,
        "select": "none",
    }
    plain = ctx.trained("teacher", ctx.settings.teacher, "erm", 0)
    assert plain.supervision["group_inference"] is None


def test_group_methods_work_without_group_labels_when_they_are_inferred(open_context, monkeypatch):
    ctx = open_context("group_inference=error_set", "method=group_dro")
    bare = ctx.data.train.rows.map(lambda row: {"group": -1, "attribute": ""})
    object.__setattr__(ctx.data.train, "rows", bare)
    ctx.data.train.__dict__.pop("group", None)
    assert "groups" in ctx.available()
    ctx.check_method("group_dro", ctx.settings.teacher)


def test_ssa_predicts_the_attribute_of_the_training_rows(open_context):
    sets = ("validation_fraction=0.3", "teacher.epochs=2", "group_inference=ssa")
    options = {"parts": 2, "threshold": 0.6, "epochs": 10.0}
    ctx = open_context(*sets, "teacher.model=t5-pico", *FAST)
    inference = ctx.plugins["group_inference"].offer("ssa").load()
    stage = inference.environments(place(ctx), options)
    environment = np.load(stage.path / "environment.npy")
    attribute = np.array(ctx.data.train.rows["attribute"])
    result = np.array(stage.record["names"])[environment]
    assert (result == attribute).mean() > 0.95


def test_ssa_needs_attributes_on_a_validation_split(open_context):
    with pytest.raises(HarnessError, match=r"group_inference ssa needs group labels on a valid"):
        open_context("group_inference=ssa", "method=group_dro")


def test_jtt_draws_errors_more_often_and_is_erm_with_weight_1(open_context):
    ctx = open_context("method_options.jtt.epochs=1")
    lab = place(ctx)
    prepared = JTT.prepare(lab, {"epochs": 1.0, "upweight": 20.0})
    facts, _ = ctx.metadata(JTT.needs, lab, prepared)
    wrong = facts.prepared["wrong"]
    weights = JTT(facts, upweight=7.0).sampling_weights()
    assert weights[wrong].unique().tolist() == [7.0]
    assert weights[~wrong].unique().tolist() == [1.0]
    assert JTT(facts, upweight=1.0).sampling_weights() is None
    jtt = open_context("method_options.jtt={epochs: 1, upweight: 1}")
    trained = jtt.trained("teacher", jtt.settings.teacher, "jtt", 0)
    plain = jtt.trained("teacher", jtt.settings.teacher, "erm", 0)
    split = jtt.data.evaluation[0]
    ours, theirs = (
        np.load(jtt.logits(model, split).path / "logits.npy") for model in (trained, plain)
    )
    assert np.array_equal(ours, theirs)


def test_options_have_defaults_by_modality():
    assert JTT.resolved({}, "text") == {"epochs": 2.0, "upweight": 4.0}
    assert JTT.resolved({"upweight": 6}, "image") == {"epochs": 1.0, "upweight": 6}
    with pytest.raises(HarnessError, match=r"JTT: option upweight must be a float, found 'many'"):
        JTT.resolved({"upweight": "many"})
    with pytest.raises(HarnessError, match=r"unknown option of JTT 'epoch'.*epochs"):
        JTT.resolved({"epoch": 1})
