"""Methods that pair rows: mixing within a label or attribute, contrast of right and wrong."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from four_rows import Y, Z, batch, close, facts
from torch.nn.functional import cross_entropy

from harness_plugin.training.batch import Batch, TrainingMetadata
from harness_plugin.training.contracts import ForwardContext
from harness_plugin_hooks.methods.contrast import CnC, contrastive
from harness_plugin_hooks.methods.mixing import LISA, Mixup

ERM = 0.529929


def test_mixup_loss_is_the_mixture_of_both_labels():
    outputs = {
        "mixed": Z,
        "kept": torch.tensor([1.0, 0.5, 0.25, 0.0], dtype=torch.float64),
    }
    partner = torch.tensor([2, 1, 3, 1])
    other = cross_entropy(Z, Y[partner], reduction="none")
    own = cross_entropy(Z, Y, reduction="none")
    kept = outputs["kept"]
    expected = float((kept * own + (1 - kept) * other).mean())
    close(Mixup(facts()).loss(Z, batch(outputs=outputs, partner=partner)), expected)


def many(n=200):
    rng = np.random.default_rng(0)
    label = torch.from_numpy(rng.integers(2, size=n))
    attribute = torch.from_numpy(rng.integers(3, size=n))
    group = label * 3 + attribute
    names = tuple("abcdef")
    return TrainingMetadata(
        label, group, 2, names, environment=attribute, environments=("x", "y", "z")
    )


@pytest.mark.parametrize(("share", "same"), [(1.0, "label"), (0.0, "attribute")])
def test_lisa_partners_share_the_label_or_the_attribute(share, same):
    data = many()
    rows = torch.arange(200)
    one = Batch(rows, data.label, data.group, data.environment, seed=7)
    partner = LISA(data, same_label=share).partners(one)
    equal_label = data.label[partner] == data.label
    equal_attribute = data.environment[partner] == data.environment
    assert (equal_label if same == "label" else equal_attribute).all()
    assert not (equal_attribute if same == "label" else equal_label).any()


def test_partners_depend_on_update_and_row_alone():
    data = many()
    rows = torch.arange(200)
    method = LISA(data)
    one = Batch(rows, data.label, data.group, data.environment, seed=7)
    whole = method.partners(one)
    assert torch.equal(method.partners(one.part(50, 120)), whole[50:120])
    again = Batch(rows, data.label, data.group, data.environment, seed=8)
    assert not torch.equal(method.partners(again), whole)


def test_a_row_without_a_partner_is_its_own():
    alone = facts(environment=torch.zeros(4, dtype=torch.long), environments=("x",))
    one = batch(seed=1)
    assert LISA(alone, same_label=1.0).partners(one).tolist() == [0, 1, 2, 3]
    unknown = facts(environment=torch.tensor([0, 1, 1, -1]), environments=("x", "y"))
    assert int(LISA(unknown, same_label=1.0).partners(one)[3]) == 3
    assert int(LISA(unknown, same_label=0.0).partners(one)[3]) == 3


class Doubling:
    """A network whose features are twice its input and whose logits are three times those."""

    def __call__(self, inputs):
        from harness_plugin.models.network import ModelOutput

        x = inputs.get("pixel_values", inputs.get("input_ids")).flatten(1)
        return ModelOutput(6 * x, 2 * x)

    def head(self, features):
        return 3 * features


@pytest.mark.parametrize("key", ["pixel_values", "input_ids"])
def test_what_is_mixed_are_pixels_or_features_and_plain_logits_stay_for_distillation(key):
    data = many()
    method = Mixup(data, alpha=1.0)
    rows = torch.tensor([3, 50])
    one = Batch(rows, data.label[rows], data.group[rows], partner=torch.tensor([9, 8]), seed=3)
    shape = (2, 1, 1, 2) if key == "pixel_values" else (2, 2)
    own, other = torch.ones(shape), torch.full(shape, 5.0)
    context = ForwardContext(Doubling(), {key: own}, one, {key: other})
    output, extra = method(context)
    kept = extra["kept"][:, None]
    assert torch.allclose(extra["mixed"], 6 * (kept * 1 + (1 - kept) * 5).expand(2, 2))
    assert output.logits is extra["mixed"]
    assert torch.equal(output.features, output.logits / 3)
    plain, again = method(replace(context, distilled=True))
    assert torch.equal(plain.logits, torch.full((2, 2), 6.0))
    assert torch.equal(plain.features, torch.full((2, 2), 2.0))
    assert torch.equal(again["mixed"], extra["mixed"])


def test_the_mixing_share_is_drawn_from_its_beta():
    method = Mixup(many(), alpha=2.0)
    one = Batch(torch.arange(1), torch.zeros(1), torch.zeros(1))
    draws = [
        float(method.stream(Batch(one.row, one.label, one.group, seed=i), 0, 1).beta(2.0, 2.0))
        for i in range(2000)
    ]
    assert np.mean(draws) == pytest.approx(0.5, abs=0.02)
    assert np.var(draws) == pytest.approx(1 / 20, abs=0.005)


def test_contrastive_loss_of_a_worked_example():
    """Anchor 0: positive 1, negative 2; cosines 0 and 1. The others lack one of the two."""
    features = torch.tensor([[1.0, 0], [0, 2], [3, 0]], dtype=torch.float64)
    label, guess = torch.tensor([0, 0, 1]), torch.tensor([0, 1, 0])
    t = 0.5
    expected = -math.log(math.exp(0) / (math.exp(0) + math.exp(1 / t)))
    close(contrastive(features, label, guess, t), expected)


def test_contrast_without_anchors_is_zero_and_keeps_the_gradient_finite():
    features = torch.randn(4, 3, dtype=torch.float64, requires_grad=True)
    nothing = contrastive(features, Y, Y, 0.1)
    nothing.backward()
    close(nothing, 0.0)
    assert torch.equal(features.grad, torch.zeros(4, 3, dtype=torch.float64))
    method = CnC(facts(prepared={"predicted": Y}))
    close(method.loss(Z, batch(outputs={"features": features.detach()})), 0.25 * ERM)


def test_cnc_draws_right_and_wrong_rows_of_a_label_equally_often():
    label = torch.tensor([0] * 10 + [1] * 6)
    predicted = label.clone()
    predicted[:2] = 1
    data = facts(label=label, prepared={"predicted": predicted})
    chance = CnC(data).sampling_weights()
    assert float(chance[:2].sum()) == pytest.approx(float(chance[2:10].sum()))
    assert float(chance[10:].sum()) == pytest.approx(1.0)


def test_contrastive_gradient():
    features = torch.randn(5, 3, dtype=torch.float64, requires_grad=True)
    label, guess = torch.tensor([0, 0, 1, 1, 0]), torch.tensor([0, 1, 0, 1, 0])
    assert torch.autograd.gradcheck(lambda f: contrastive(f, label, guess, 0.3), features)
