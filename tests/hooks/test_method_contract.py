"""What every method declares of itself, and what the loop does with its group weights."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch

from harness_plugin import HarnessError
from harness_plugin.plugins.registry import load_plugins
from harness_plugin_hooks.methods.contrast import CnC
from harness_plugin_hooks.methods.groups import GroupWeights

METHODS = load_plugins()["method"]
FLAGS = ("warm", "uses_features", "has_trainable_modules", "weighs_examples")
DECLARED = {
    "cnc": {"warm", "uses_features"},
    "coral": {"warm", "uses_features"},
    "kernel_whitening": {"warm", "uses_features", "weighs_examples"},
    "bias_reweight": {"warm", "weighs_examples"},
    "dfl": {"warm", "weighs_examples"},
    "group_dro": {"warm", "weighs_examples"},
    "reweight": {"warm", "weighs_examples"},
    "learned_mixin": {"warm", "has_trainable_modules"},
    "read": {"warm", "has_trainable_modules"},
    # their own start: no epochs of ERM come before
    "lff": {"has_trainable_modules", "weighs_examples"},
    "jtt": set(),
    "pgd": set(),
}


@pytest.mark.parametrize("name", sorted(METHODS.offers))
def test_what_a_method_declares(name):
    method = METHODS.offer(name).load()
    assert {flag for flag in FLAGS if getattr(method, flag)} == DECLARED.get(name, {"warm"})


def test_only_last_layer_methods_have_a_base():
    with_base = {offer.name for offer in METHODS if offer.load().base}
    assert with_base == {"afr", "dfr", "dfr_train", "evals", "self"}


def test_group_weights_of_rows_make_the_mean_of_a_batch_what_q_says():
    """mean_i w_i l_i = sum_g q_g mean_g l: w = q_g / (share of g in the batch)."""
    weights = GroupWeights(torch.tensor([5.0, 5.0]), eta=0.1)
    weights.q = torch.tensor([0.25, 0.75])
    group, losses = torch.tensor([0, 0, 0, 1]), torch.tensor([1.0, 2.0, 3.0, 8.0])
    of_rows = weights.of_rows(group)
    assert of_rows.tolist() == pytest.approx([1 / 3, 1 / 3, 1 / 3, 3.0])
    assert (of_rows * losses).mean().item() == pytest.approx(0.25 * 2 + 0.75 * 8)
    assert weights.of_rows(torch.tensor([-1, 1])).tolist() == pytest.approx([1.0, 1.5])


def trainer_predicting(predicted):
    """A first stage whose predicted labels are these; the gold ones are 0, 1, 1."""
    logits = np.eye(2, dtype=np.float32)[list(predicted)]
    return SimpleNamespace(
        task=SimpleNamespace(task="made"),
        train=SimpleNamespace(label=np.array([0, 1, 1])),
        epochs=3.0,
        erm=lambda **_: "stage",
        predict=lambda _: SimpleNamespace(logits=logits),
    )


def test_cnc_has_nothing_to_contrast_where_its_first_model_is_always_right():
    options = CnC.resolved({})
    with pytest.raises(HarnessError, match="makes no error on 3 training rows"):
        CnC.prepare(trainer_predicting((0, 1, 1)), options)
    for wrong in ((1, 1, 1), (1, 0, 0)):
        prepared = CnC.prepare(trainer_predicting(wrong), options)
        assert prepared.tensors["predicted"].tolist() == list(wrong)


def test_groups_without_rows_have_no_weight_from_the_start_on():
    weights = GroupWeights(torch.tensor([1.0, 0.0, 5.0]), eta=0.1)
    assert weights.q.tolist() == [0.5, 0.0, 0.5]
    weights.update(torch.tensor([3.0, 1.0]), torch.tensor([0, 2]))
    assert weights.q[1] == 0
    expected = torch.tensor([3.0, 1.0]).mul(0.1).exp()
    assert weights.q[[0, 2]].tolist() == pytest.approx((expected / expected.sum()).tolist())
