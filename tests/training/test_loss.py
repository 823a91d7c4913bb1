"""The loss of a training: how the label term and the distillation term are put together."""

import pytest
import torch
from torch.nn.functional import cross_entropy, kl_div

from harness_plugin import HarnessError
from harness_plugin.models.network import ModelOutput
from harness_plugin.training.batch import Batch, TrainingMetadata
from harness_plugin.training.contracts import Distiller
from harness_plugin.training.loss import BatchPart, DistillationLoss, TrainableModel
from harness_plugin.training.teacher_outputs import TeacherOutputs
from harness_plugin_hooks.distill.features import Hints
from harness_plugin_hooks.distill.logits import KD
from harness_plugin_hooks.methods.erm import ERM
from harness_plugin_hooks.methods.groups import ReWeight

LABEL, GROUP = torch.tensor([0, 1, 1, 0]), torch.tensor([0, 1, 1, 1])
KNOWN = TrainingMetadata(LABEL, GROUP, 2, ("a", "b"))
Z = torch.tensor([[2.0, 0.0], [0.5, 1.0], [-1.0, 0.0], [1.0, 1.0]])
TEACHER = torch.tensor([[3.0, 0.0], [0.0, 2.0], [0.0, 3.0], [2.0, 0.0]])
ALL = Batch(torch.arange(4), LABEL, GROUP)
T = 3.0
EACH_CE = cross_entropy(Z, LABEL, reduction="none")
EACH_KL = kl_div(
    (Z / T).log_softmax(1), (TEACHER / T).log_softmax(1), log_target=True, reduction="none"
).sum(1)
OF_GROUP = torch.tensor([1.5, 0.5, 0.5, 0.5])
"""2 (1/n_g) / (1/1 + 1/3), the weights of ReWeight."""


def loss(method=None, distiller=None, batch=ALL, **weights):
    method = ERM(KNOWN) if method is None else method
    outputs = TeacherOutputs(TEACHER)
    return DistillationLoss(method, distiller, outputs, **weights)(Z[batch.row], batch).item()


def test_without_a_distiller_it_is_the_method_alone():
    assert loss() == pytest.approx(EACH_CE.mean().item())
    assert loss(ce_weight=0.25) == pytest.approx(0.25 * EACH_CE.mean().item())


def test_both_terms_have_their_weights_and_the_soft_one_the_square_of_the_temperature():
    expected = 0.3 * EACH_CE.mean() + 0.7 * 9 * EACH_KL.mean()
    assert loss(None, KD(T), ce_weight=0.3, kd_weight=0.7) == pytest.approx(expected.item())
    alone = loss(None, KD(T), ce_weight=0.0, kd_weight=0.7)
    assert alone == pytest.approx(0.7 * 9 * EACH_KL.mean().item())


def test_the_weights_of_a_method_are_those_of_the_soft_term_too():
    expected = 0.3 * (OF_GROUP * EACH_CE).mean() + 0.7 * 9 * (OF_GROUP * EACH_KL).mean()
    result = loss(ReWeight(KNOWN), KD(T), ce_weight=0.3, kd_weight=0.7)
    assert result == pytest.approx(expected.item())
    without_labels = loss(ReWeight(KNOWN), KD(T), ce_weight=0.0, kd_weight=0.7)
    assert without_labels == pytest.approx(0.7 * 9 * (OF_GROUP * EACH_KL).mean().item())


def test_a_distiller_of_weight_0_is_left_out():
    objective = DistillationLoss(ERM(KNOWN), KD(T), TeacherOutputs(TEACHER))
    assert objective.distiller is None
    assert objective(Z, ALL).item() == pytest.approx(EACH_CE.mean().item())
    assert DistillationLoss(ERM(KNOWN), KD(T), None, 1.0, 0.1).distiller is not None


def test_a_loss_that_is_not_on_softened_probabilities_has_no_factor():
    class Far(Distiller):
        softened_only = False

        def loss(self, student, teacher, batch):
            return (student - teacher).square().sum(dim=1)

    expected = 0.5 * (Z - TEACHER).square().sum(dim=1).mean().item()
    assert loss(None, Far(T), ce_weight=0.0, kd_weight=0.5) == pytest.approx(expected)


def test_rows_of_a_batch_are_rows_of_the_training_set():
    rows = torch.tensor([3, 1])
    batch = Batch(rows, LABEL[rows], GROUP[rows])
    result = loss(None, KD(T), batch, ce_weight=1.0, kd_weight=1.0)
    expected = EACH_CE[rows].mean() + 9 * EACH_KL[rows].mean()
    assert result == pytest.approx(expected.item())


def test_every_parameter_has_a_gradient_even_of_a_loss_without_terms():
    logits = Z.clone().requires_grad_()
    DistillationLoss(ERM(KNOWN), ce_weight=0.0)(logits, ALL).backward()
    assert torch.equal(logits.grad, torch.zeros_like(Z))
    assert DistillationLoss(ERM(KNOWN), ce_weight=0.0)(torch.zeros_like(Z), ALL).item() == 0


def test_a_distiller_is_set_up_and_folds_where_there_is_one():
    folded, made = [], []

    class Folding(KD):
        def setup(self, network, teacher):
            made.append(network)

        def fold(self, network):
            folded.append(network)

    network = torch.nn.Linear(2, 2)
    TrainableModel(network, DistillationLoss(ERM(KNOWN))).fold()
    assert folded == []
    objective = DistillationLoss(ERM(KNOWN), Folding(T), TeacherOutputs(TEACHER), kd_weight=1.0)
    TrainableModel(network, objective).fold()
    assert folded == made == [network]


class Linear(torch.nn.Linear):
    """A network whose features are its inputs."""

    def forward(self, inputs):
        return ModelOutput(super().forward(inputs["x"]), inputs["x"])


def test_what_a_distiller_gives_stands_beside_the_logits_of_all_parts():
    class Doubling(KD):
        def forward(self, student, teacher_layers):
            return {"twice": 2 * student.logits}

    network, x = Linear(2, 2), torch.arange(8.0).reshape(4, 2)
    rows = [torch.tensor([2, 0]), torch.tensor([3])]
    parts = [BatchPart(Batch(row, LABEL[row], GROUP[row]), {"x": x[row]}) for row in rows]
    logits = network({"x": x[torch.cat(rows)]}).logits
    plain = TrainableModel(network, DistillationLoss(ERM(KNOWN)))(parts)
    assert list(plain) == ["logits"]
    assert torch.allclose(plain["logits"], logits)
    objective = DistillationLoss(ERM(KNOWN), Doubling(T), TeacherOutputs(TEACHER), kd_weight=1.0)
    both = TrainableModel(network, objective)(parts)
    assert torch.allclose(both["logits"], logits)
    assert torch.allclose(both["twice"], 2 * logits)


def test_a_teacher_that_is_missing_is_an_error():
    objective = DistillationLoss(ERM(KNOWN), KD(T), None, kd_weight=1.0)
    with pytest.raises(HarnessError, match="needs teacher logits"):
        objective(Z, ALL)
    objective = DistillationLoss(ERM(KNOWN), Hints(T), TeacherOutputs(TEACHER), kd_weight=1.0)
    with pytest.raises(HarnessError, match="needs the teacher's features"):
        objective(Z, ALL)
