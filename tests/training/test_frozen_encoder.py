"""`freeze_encoder`: the head alone learns, from what the encoder computes in evaluation."""

import pytest
import torch
from safetensors.torch import load_file
from small_study import TOY
from transformers import BertConfig, BertForSequenceClassification, PreTrainedModel

from harness_plugin.errors import HarnessError
from harness_plugin.models.network import Network
from harness_plugin.pipeline.operations import operations_of
from harness_plugin.training.loop import frozen_encoder

FACES = ["celeba_bias.n_train=200", "celeba_bias.n_test=40", "celeba_bias.n_validation=40"]
TASKS = {"bert-pico": TOY, "t5-pico": TOY, "resnet-pico": "celeba_bias"}


class Whole(PreTrainedModel):
    """A classifier of somebody's own, in one piece."""

    config_class = BertConfig


def weights(model):
    return load_file(model.path / "model.safetensors")


def changed(before, after):
    return {name for name in before if not torch.equal(before[name], after[name])}


@pytest.mark.parametrize("model", TASKS)
def test_the_head_alone_learns(model, open_context, monkeypatch):
    task = TASKS[model]
    sets = ["teacher.batch_size=16", "teacher.erm_epochs=0", "select=average"]
    sets += FACES if task == "celeba_bias" else ["validation_fraction=0.2"]
    first = open_context(*sets, f"teacher.model={model}", "teacher.epochs=0.2", task=task)
    start = first.trained("teacher", first.settings.teacher, "erm", 0)
    sets += [f"teacher.model={start.path}", "teacher.init=pretrained", "teacher.config={}"]
    sets += ["teacher.epochs=2", "teacher.learning_rate=0.01"]
    modes, forward, operations = [], Network.forward, {}

    def seen(self, inputs):
        base = getattr(self.model, "encoder", self.model.base_model)
        modes.append((self.training, base.training))
        return forward(self, inputs)

    monkeypatch.setattr(Network, "forward", seen)
    made = {}
    for frozen in ("true", "false"):
        ctx = open_context(*sets, f"teacher.freeze_encoder={frozen}", task=task)
        made[frozen] = ctx.trained("teacher", ctx.settings.teacher, "erm", 0)
        assert {base for training, base in modes if training} == {frozen == "false"}
        modes.clear()
        operations[frozen] = operations_of(ctx, [made[frozen]])["teacher"]
    before = weights(start)
    of_head = {name for name in before if name.startswith("classifier.")}
    assert of_head
    assert changed(before, weights(made["true"])) == of_head
    assert changed(before, weights(made["false"])) > of_head
    assert made["true"].key != made["false"].key
    assert 3 * operations["true"] == operations["false"] > 0


def test_what_cannot_be_frozen_is_refused(open_context):
    with pytest.raises(HarnessError, match="freeze_encoder: the encoder of init=scratch has rando"):
        open_context("teacher.init=scratch", "teacher.freeze_encoder=true")
    config = BertConfig(
        hidden_size=8, num_hidden_layers=1, num_attention_heads=1, intermediate_size=8
    )
    with pytest.raises(HarnessError, match="Whole tells no encoder from the classification head"):
        frozen_encoder(Whole(config))
    model = BertForSequenceClassification(config)
    assert frozen_encoder(model) is model.bert
    learn = {name for name, weight in model.named_parameters() if weight.requires_grad}
    assert learn == {"classifier.weight", "classifier.bias"}
