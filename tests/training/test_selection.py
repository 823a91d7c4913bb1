"""Model selection: the right epoch, by the right number, kept through an interruption."""

import json

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from harness_plugin import HarnessError
from harness_plugin.data.dataset import held_out
from harness_plugin.training import loop
from harness_plugin.training.selection import BEST, ModelSelection

SPLIT = "validation_fraction=0.25"


def selection(criterion):
    label = np.array([0, 0, 0, 0, 1, 1])
    group = np.array([0, 0, 0, 1, 3, -1])
    return ModelSelection(criterion, "validation", [None] * 6, label, group, 4)


def test_scores_are_accuracy_and_the_worst_of_the_groups_that_occur():
    wrong_at_3 = np.eye(2, dtype=np.float32)[[0, 0, 1, 1, 1, 0]]
    assert selection("average").score(wrong_at_3) == pytest.approx(3 / 6)
    assert selection("worst_group").score(wrong_at_3) == 0.0  # group 1 has the one wrong row
    half = np.eye(2, dtype=np.float32)[[0, 0, 1, 0, 1, 0]]
    assert selection("worst_group").score(half) == pytest.approx(2 / 3)


def weights(path):
    return load_file(path / "model.safetensors")


def test_the_best_epoch_is_kept(open_context, monkeypatch):
    """With scores that we dictate, the weights are those of a training that ended there."""
    scores = iter([0.4, 0.9, 0.9, 0.2])
    monkeypatch.setattr(ModelSelection, "score", lambda self, logits: next(scores))
    ctx = open_context(SPLIT, "select=average", "teacher.epochs=4", "teacher.lr_warmup=0")
    model = ctx.trained("teacher", ctx.settings.teacher, "erm", 0)
    chosen = model.selection
    per_epoch = -(-len(ctx.data.train) // 16)
    assert chosen["update"] == 2 * per_epoch  # of equal scores the earlier
    assert chosen["score"] == 0.9
    assert [update for update, _ in chosen["history"]] == [per_epoch * e for e in (1, 2, 3, 4)]
    assert not (model.path / BEST).exists()
    last = open_context(SPLIT, "teacher.epochs=4", "teacher.lr_warmup=0")
    end = last.trained("teacher", last.settings.teacher, "erm", 0)
    assert end.selection is None
    assert end.path != model.path
    assert any(not torch.equal(a, weights(end.path)[n]) for n, a in weights(model.path).items())


def test_selecting_the_last_epoch_changes_nothing(open_context, monkeypatch):
    scores = iter([0.1, 0.2])
    monkeypatch.setattr(ModelSelection, "score", lambda self, logits: next(scores))
    ctx = open_context(SPLIT, "select=worst_group")
    model = ctx.trained("teacher", ctx.settings.teacher, "group_dro", 0)
    plain = open_context(SPLIT)
    same = plain.trained("teacher", plain.settings.teacher, "group_dro", 0)
    for name, value in weights(same.path).items():
        assert torch.equal(value, weights(model.path)[name]), name


def test_the_recorded_score_is_that_of_the_kept_weights(open_context):
    ctx = open_context(SPLIT, "select=worst_group", "teacher.epochs=3", "teacher.model=t5-pico")
    model = ctx.trained("teacher", ctx.settings.teacher, "erm", 0)
    split = ctx.data.validation
    logits = np.load(ctx.logits(model, split).path / "logits.npy")
    right = logits.argmax(1) == split.label
    worst = min(right[split.group == g].mean() for g in np.unique(split.group))
    assert model.selection["score"] == pytest.approx(worst)
    assert model.supervision["validation_groups"] is True


@pytest.mark.parametrize("inference", ["none", "error_set"])
def test_the_worst_environment_is_found_without_group_labels(open_context, inference):
    """Environments are those of the inference on the validation rows, crossed with the label."""
    ctx = open_context(
        SPLIT,
        "select=worst_environment",
        "method=erm",
        "options.annotated=false",
        f"group_inference={inference}",
        "teacher.epochs=3",
    )
    model = ctx.trained("teacher", ctx.settings.teacher, "erm", 0)
    split = ctx.data.validation
    assert set(split.group) == {-1}
    (result,) = ctx.store.root.glob("groups-*/environment.npy")
    environment = np.load(result)
    assert len(environment) == len(split)
    logits = np.load(ctx.logits(model, split).path / "logits.npy")
    right, cell = logits.argmax(1) == split.label, 2 * split.label + environment
    assert model.selection["criterion"] == "worst_environment"
    worst = min(right[cell == each].mean() for each in np.unique(cell))
    assert model.selection["score"] == pytest.approx(worst)
    assert model.supervision["validation_groups"] is False


def test_environments_that_need_groups_do_not_select(open_context):
    with pytest.raises(HarnessError, match="group_inference ssa needs theirs: name another"):
        open_context(SPLIT, "select=worst_environment", "group_inference=ssa")


def test_an_interrupted_selection_continues_to_the_same_choice(open_context, monkeypatch):
    sets = (SPLIT, "select=average", "teacher.epochs=4")
    whole = open_context(*sets, store="whole")
    expected = whole.trained("teacher", whole.settings.teacher, "erm", 0)
    ctx = open_context(*sets, store="cut", checkpoint_steps=5)
    original, count = loop.one_update, iter(range(10**6))

    def stopping(*args, **kwargs):
        if next(count) == 31:
            raise KeyboardInterrupt
        return original(*args, **kwargs)

    monkeypatch.setattr(loop, "one_update", stopping)
    with pytest.raises(KeyboardInterrupt):
        ctx.trained("teacher", ctx.settings.teacher, "erm", 0)
    monkeypatch.setattr(loop, "one_update", original)
    continued = ctx.trained("teacher", ctx.settings.teacher, "erm", 0)
    assert continued.selection == expected.selection
    for name, value in weights(expected.path).items():
        assert torch.equal(value, weights(continued.path)[name]), name


def test_selection_without_a_validation_split_is_refused(open_context):
    with pytest.raises(HarnessError, match="--select average needs a validation split"):
        open_context("select=average")
    with pytest.raises(HarnessError, match="--select worst_group needs group labels on a valid"):
        open_context("select=worst_group")
    with pytest.raises(HarnessError, match="--select worst_environment needs a validation split"):
        open_context("select=worst_environment")


def test_a_label_free_protocol_says_so(open_context):
    ctx = open_context(SPLIT, "select=average")
    assert ctx.supervision("jtt") == {
        "train_groups": False,
        "validation_groups": False,
        "group_inference": None,
        "bias_model": None,
        "select": "average",
    }
    assert ctx.supervision("group_dro")["train_groups"] is True
    assert ctx.supervision("dfr")["validation_groups"] is True


def test_rows_held_out_are_stratified_seeded_and_noted(open_context):
    data = open_context().data
    split = held_out(data, 0.25, 0)
    assert len(split.validation) == 60
    assert len(split.train) == 180
    assert not set(split.validation.ids) & set(split.train.ids)
    share = split.validation.group_counts / data.train.group_counts
    assert np.abs(share - 0.25).max() < 0.05
    assert split.notes[-1] == "60 of 240 training rows are the validation split"
    assert held_out(data, 0.25, 0).fingerprint == split.fingerprint
    assert held_out(data, 0.25, 1).fingerprint != split.fingerprint


def test_the_record_of_a_run_has_supervision_and_selection(tmp_path):
    from harness_plugin.cli.main import main

    toy = "tests/toy/toy.yaml"
    command = f"--tasks {toy} --seeds 0 --threads 1 --precision no --attention sdpa --device cpu"
    command += f" --resamples 100 --output_path {tmp_path}/out --use_cache {tmp_path}/store"
    command += " --select worst_group --set validation_fraction=0.25 --set teacher.epochs=1"
    command += " --set student.epochs=1 --set references=false --set control=false"
    assert main(command.split()) == 0
    (file,) = (tmp_path / "out").glob("transfer_*.json")
    teacher = json.loads(file.read_text())["models"][0]
    assert teacher["supervision"]["select"] == "worst_group"
    assert teacher["selection"]["split"] == "validation"
    assert len(teacher["selection"]["history"]) == 1
