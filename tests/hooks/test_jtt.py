"""Just Train Twice: its first model is a snapshot, and how often its errors are drawn."""

import numpy as np
import pytest
import torch

from harness_plugin.models.classifiers import load_trained
from harness_plugin.training.batch import TrainingMetadata
from harness_plugin_hooks.methods.erm import ERM
from harness_plugin_hooks.methods.jtt import JTT, errors_of


def test_the_first_model_is_the_whole_training_as_it_stands_then(open_context, monkeypatch):
    """After 1 of 2 epochs, 15 of 30 updates, with the learning rate of the whole schedule."""
    ctx = open_context()
    trainer = ctx.trainer("teacher", ctx.settings.teacher)
    kept = {}

    def forward(self, context, plain=ERM.forward):
        if context.batch.update == 15:
            kept.update(
                {n: p.detach().clone() for n, p in context.network.model.named_parameters()}
            )
        return plain(self, context)

    with monkeypatch.context() as patch:
        patch.setattr(ERM, "forward", forward)
        whole = trainer.erm()
    first, wrong = errors_of(trainer, 1.0)
    weights = dict(load_trained(str(first.path), "text", attention="eager").named_parameters())
    assert whole.record["updates"] == 2 * first.record["updates"] == 30
    assert all(torch.equal(weights[name], value) for name, value in kept.items())
    alone = load_trained(str(trainer.erm(epochs=1.0).path), "text", attention="eager")
    assert not torch.equal(
        dict(alone.named_parameters())["classifier.weight"], kept["classifier.weight"]
    )
    assert trainer.erm(epochs=2.0, snapshot=True).key == whole.key
    predicted = trainer.predict(first).logits.argmax(1)
    assert np.array_equal(wrong, predicted != ctx.data.train.label)


def test_an_error_is_drawn_upweight_times_as_often():
    wrong = torch.tensor([True, False, False])
    label = torch.zeros(3, dtype=torch.long)
    data = TrainingMetadata(label, label, 2, ("a",), prepared={"wrong": wrong})
    assert JTT(data, upweight=4.0).sampling_weights().tolist() == pytest.approx([4, 1, 1])
    assert JTT(data, upweight=1.0).sampling_weights() is None
