"""Distillers: closed forms, identities, refusals, and trainings with every one of them."""

import math

import numpy as np
import pytest
import torch
from four_rows import TEACHER, Y, Z, close, facts
from torch import nn
from torch.nn.functional import cross_entropy
from transformers import BertConfig

from harness_plugin import HarnessError
from harness_plugin.config.roles import plan_of_roles
from harness_plugin.models.network import Network
from harness_plugin.plugins.registry import load_plugins
from harness_plugin.training.batch import Batch
from harness_plugin.training.contracts import Distiller
from harness_plugin.training.loss import DistillationLoss
from harness_plugin.training.teacher_outputs import TeacherOutputs
from harness_plugin_hooks.distill.features import (
    ContrastiveKD,
    Hints,
    RelationalKD,
    SimilarityPreserving,
    SimKD,
    cosines,
    distances,
    similarities,
)
from harness_plugin_hooks.distill.layers import PatientKD
from harness_plugin_hooks.distill.logits import (
    DIST,
    KD,
    BiasAwareKD,
    DecoupledKD,
    GroupDROKD,
    LogitStandardisation,
    decoupled,
    pearson,
    z_scores,
)
from harness_plugin_hooks.distill.subspace import Subspace
from harness_plugin_hooks.methods.erm import ERM

PLUGINS = load_plugins()
NAMES = [offer.name for offer in PLUGINS["distiller"]]
ON_FEATURES = [
    name for name in NAMES if "features" in PLUGINS["distiller"].offer(name).load().teacher_outputs
]
ALL = Batch(torch.arange(4), Y, torch.tensor([0, 1, 0, 2]))


def student_role(ctx, student):
    """The role of the toy task's student with other settings, and all roles."""
    settings = ctx.settings.model_copy(update={"students": {"student": student}})
    roles = plan_of_roles(settings)
    return roles["student"], roles


def random_logits(classes, rows=16, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return [
        torch.randn(rows, classes, dtype=torch.float64, generator=generator) * 3 for _ in range(2)
    ]


def test_three_labels_by_hand():
    close(KD(1.0).loss(Z, TEACHER, ALL).mean(), 0.161760)
    t2 = KD(4.0).temperature_factor
    assert t2 == 16
    close(t2 * KD(4.0).loss(Z, TEACHER, ALL).mean(), 0.256979)
    tckd, nckd = decoupled(Z / 4, TEACHER / 4, Y)
    close(t2 * tckd.mean(), 0.169013)
    close(t2 * nckd.mean(), 0.163410)
    close(t2 * DecoupledKD(4.0).loss(Z, TEACHER, ALL).mean(), 1.476293)
    p_s, p_t = Z.softmax(1), TEACHER.softmax(1)
    close((1 - pearson(p_s, p_t)).mean(), 0.184792)
    close((1 - pearson(p_s.T, p_t.T)).mean(), 0.130870)
    close(DIST(1.0).loss(Z, TEACHER, ALL).mean(), 0.184792 + 0.130870, 2e-6)
    assert z_scores(Z)[0].tolist() == pytest.approx([1.091089, -0.218218, -0.872872], abs=1e-6)


@pytest.mark.parametrize(
    ("temperature", "loss"), [(1, 0.811154), (2, 0.915282), (4, 0.881179), (10, 0.826325)]
)
def test_kd_of_one_row_by_temperature(temperature, loss):
    student = torch.tensor([[1.0, 0.0, -1.0]], dtype=torch.float64, requires_grad=True)
    teacher = torch.tensor([[0.0, 2.0, -1.0]], dtype=torch.float64)
    result = temperature**2 * KD(float(temperature)).loss(student, teacher, ALL.part(0, 1)).mean()
    close(result, loss)
    if temperature == 4:
        result.backward()
        assert student.grad[0].tolist() == pytest.approx([0.509892, -0.618114, 0.108222], abs=1e-6)


@pytest.mark.parametrize("classes", [2, 3, 5])
def test_kd_is_the_sum_of_its_decoupled_parts(classes):
    student, teacher = random_logits(classes)
    label = torch.arange(16) % classes
    tckd, nckd = decoupled(student, teacher, label)
    p_gold = teacher.softmax(1).gather(1, label[:, None]).squeeze(1)
    batch = Batch(torch.arange(16), label, label)
    kd = KD(1.0).loss(student, teacher, batch)
    assert torch.allclose(tckd + (1 - p_gold) * nckd, kd, atol=1e-12)
    if classes == 2:
        assert torch.allclose(nckd, torch.zeros(16, dtype=torch.float64), atol=1e-12)


def test_the_gradient_of_kd_is_t_times_the_difference_of_probabilities():
    student, teacher = random_logits(4)
    student.requires_grad_()
    t = 3.0
    (t**2 * KD(t).loss(student, teacher, ALL).sum()).backward()
    expected = t * ((student / t).softmax(1) - (teacher / t).softmax(1))
    assert torch.allclose(student.grad, expected.detach(), atol=1e-12)


def test_a_hot_kd_compares_centred_logits():
    student, teacher = random_logits(3)
    t = 1e4
    result = t**2 * KD(t).loss(student, teacher, ALL)
    difference = (student - student.mean(1, keepdim=True)) - (
        teacher - teacher.mean(1, keepdim=True)
    )
    assert torch.allclose(result, difference.pow(2).sum(1) / 6, rtol=1e-3)


@pytest.mark.parametrize("kind", [KD, DecoupledKD, DIST, LogitStandardisation])
def test_a_student_that_says_what_its_teacher_says_has_nothing_to_learn(kind):
    student, _ = random_logits(3)
    twin = student.clone().requires_grad_()
    batch = Batch(torch.arange(16), torch.arange(16) % 3, torch.zeros(16, dtype=torch.int64))
    loss = kind(2.0).loss(twin, student, batch)
    assert torch.allclose(loss, torch.zeros_like(loss), atol=1e-6)
    loss.sum().backward()
    assert float(twin.grad.abs().max()) < 1e-6


def test_standardised_logits_forget_their_scale_and_shift():
    student, teacher = random_logits(3)
    kind = LogitStandardisation(2.0)
    first = kind.loss(student, teacher, ALL)
    assert torch.allclose(first, kind.loss(5 * student + 7, teacher / 3, ALL), atol=1e-9)


def test_two_labels_leave_nothing_of_some():
    student, teacher = random_logits(2)
    student.requires_grad_()
    DIST(1.0, inter=1.0, intra=0.0).loss(student, teacher, ALL).sum().backward()
    assert float(student.grad.abs().max()) < 1e-6
    assert torch.allclose(z_scores(student).abs(), torch.full((16, 2), 0.5**0.5).double())


def test_a_sure_bias_model_makes_the_target_uniform_and_an_unsure_one_leaves_it():
    right = torch.full((4, 3), -1e9, dtype=torch.float64).scatter(1, Y[:, None], 0.0)
    smoothed = BiasAwareKD(2.0, facts(bias_log_probs=right)).loss(Z, TEACHER, ALL)
    uniform = KD(2.0).loss(Z, torch.zeros_like(Z), ALL)
    assert torch.allclose(smoothed, uniform, atol=1e-9)
    wrong = torch.full((4, 3), 0.0, dtype=torch.float64).scatter(1, Y[:, None], -1e9)
    kept = BiasAwareKD(2.0, facts(bias_log_probs=wrong)).loss(Z, TEACHER, ALL)
    assert torch.allclose(kept, KD(2.0).loss(Z, TEACHER, ALL), atol=1e-9)
    half = torch.full((4, 3), math.log(0.5), dtype=torch.float64)
    result = BiasAwareKD(1.0, facts(bias_log_probs=half)).loss(Z, TEACHER, ALL)
    target = TEACHER.softmax(1).sqrt()
    target = target / target.sum(1, keepdim=True)
    expected = (target * (target.log() - Z.log_softmax(1))).sum(1)
    assert torch.allclose(result, expected, atol=1e-9)


def test_group_dro_kd_by_hand():
    kind = GroupDROKD(1.0, facts(), eta=1.0)
    student = Z.clone().requires_grad_()
    result = kind.loss(student, TEACHER, ALL).mean()
    each = KD(1.0).loss(Z, TEACHER, ALL)
    means = torch.stack([(each[0] + each[2]) / 2, each[1], each[3]])
    q = (means.exp() / 3) / (means.exp() / 3).sum()
    close(result, float((q * means).sum()), 1e-6)
    assert torch.allclose(kind.group_weights.q.double(), q, atol=1e-6)
    again = GroupDROKD(1.0, facts(), eta=1.0)
    again.load_state_dict(kind.state_dict())
    assert torch.equal(again.group_weights.q, kind.group_weights.q)


def test_relations_among_examples_by_hand():
    square = torch.tensor([[0.0, 0], [1, 0], [1, 1], [0, 1]])
    mean = (8 * 1 + 4 * 2**0.5) / 12
    assert distances(square)[0].tolist() == pytest.approx([0, 1 / mean, 2**0.5 / mean, 1 / mean])
    # at corner 0: corner 1 and corner 3 are at a right angle, corner 2 halves it
    assert cosines(square)[0, 1].tolist() == pytest.approx([0, 1, 0.5**0.5, 0], abs=1e-6)
    assert similarities(torch.eye(2) * 3).tolist() == [[1, 0], [0, 1]]


@pytest.mark.parametrize("kind", [RelationalKD, SimilarityPreserving, ContrastiveKD])
def test_relations_are_blind_to_rotation_and_scale_of_one_side(kind):
    generator = torch.Generator().manual_seed(0)
    features = torch.randn(12, 6, generator=generator)
    turn = torch.linalg.qr(torch.randn(6, 6, generator=generator)).Q
    distiller = kind(1.0)
    if kind is ContrastiveKD:
        own = distiller.compare(features, features).mean()
        assert own < distiller.compare(features, features.roll(1, 0)).mean()
        assert torch.allclose(distiller.compare(7 * features, features).mean(), own, atol=1e-5)
        return
    close(distiller.compare(features, 7 * features @ turn), 0.0, 1e-5)
    other = torch.randn(12, 4, generator=generator)
    assert float(distiller.compare(features, other)) > 1e-3
    scaled = distiller.compare(3 * features, other)
    close(distiller.compare(features, other), float(scaled), 1e-4)


def test_contrast_by_hand():
    student, teacher = torch.eye(2), torch.tensor([[1.0, 0], [0.6, 0.8]])
    scores = torch.tensor([[1, 0.6], [0, 0.8]]) / 0.07
    own = torch.arange(2)
    expected = (cross_entropy(scores, own) + cross_entropy(scores.T, own)) / 2
    close(ContrastiveKD(1.0).compare(student, teacher).mean(), float(expected), 1e-5)


def test_hints_and_simkd_are_mean_squares():
    student, teacher = torch.zeros(3, 4), torch.full((3, 4), 2.0)
    assert Hints(1.0).compare(student, teacher).tolist() == [4, 4, 4]
    assert SimKD(1.0).compare(teacher, teacher).tolist() == [0, 0, 0]


class Tiny(nn.Module):
    """A linear classifier with the interface of a transformers model."""

    def __init__(self, width, labels):
        super().__init__()
        self.config = type("Config", (), {"num_labels": labels})
        self.classifier = nn.Linear(width, labels)

    def forward(self, x):
        return type("Output", (), {"logits": self.classifier(x)})


def test_a_folded_simkd_answers_as_the_teachers_head_on_projected_features():
    generator = torch.Generator().manual_seed(0)
    network = Network(Tiny(5, 3))
    weight, bias = (torch.randn(3, 7, generator=generator), torch.randn(3, generator=generator))
    signals = TeacherOutputs(torch.zeros(4, 3), np.zeros((4, 7), np.float32), weight, bias)
    distiller = SimKD(1.0)
    distiller.setup(network, signals)
    distiller.fold(network)
    x = torch.randn(6, 5, generator=generator)
    expected = distiller.projector(x) @ weight.T + bias
    assert torch.allclose(network({"x": x}).logits, expected, atol=1e-6)


def test_features_reach_the_loss_by_training_row():
    features = np.arange(8, dtype=np.float32).reshape(4, 2)
    objective = DistillationLoss(
        ERM(facts()),
        Hints(1.0, logits=0.0, weight=1.0),
        TeacherOutputs(TEACHER, features),
        0.0,
        1.0,
    )
    row = torch.tensor([2, 0])
    batch = Batch(row, Y[row], Y[row], outputs={"features": torch.zeros(2, 2)})
    close(objective(Z[row].float(), batch), ((16 + 25) / 2 + (0 + 1) / 2) / 2, 1e-5)


class OfWidth:
    """As much of a network and of a live teacher as `setup` asks for."""

    def __init__(self, width):
        config = BertConfig(hidden_size=width, num_attention_heads=2)
        self.model = type("Model", (), {"config": config})
        self.head = nn.Linear(width, 3)


@pytest.mark.parametrize(("theirs", "projects"), [(8, False), (12, True)])
def test_patience_projects_a_student_of_another_width_only(theirs, projects):
    distiller = PatientKD(1.0)
    distiller.setup(OfWidth(8), TeacherOutputs(TEACHER, live=OfWidth(theirs)))
    assert (distiller.projector is not None) == projects
    if projects:
        assert distiller.projector(torch.zeros(2, 8)).shape == (2, 12)


def test_what_a_distiller_declares():
    weighing = {"disagree", "group_dro_kd"}
    logits = {"kd", "dkd", "dist", "logit_standardisation", "bias_aware_kd", *weighing}
    layers = {"attention_transfer", "pkd", "tinybert", "minilm", "subspace_layers"}
    for name in NAMES:
        cls = PLUGINS["distiller"].offer(name).subclass(Distiller)
        assert cls.softened_only == (name in logits), name
        assert cls.weighs_examples == (name in weighing), name
        inside = set() if name in logits else {"layers" if name in layers else "features"}
        assert cls.teacher_outputs == {"logits"} | inside, name


def test_what_is_data_is_in_no_checkpoint():
    """A continued training makes it anew; only projectors and group weights change."""
    features = np.zeros((4, 7), np.float32)
    weight, bias = torch.ones(3, 7), torch.ones(3)
    simkd = SimKD(1.0)
    simkd.setup(OfWidth(8), TeacherOutputs(TEACHER, features, weight, bias))
    assert sorted(simkd.state_dict()) == ["projector.bias", "projector.weight"]
    log_probs = torch.zeros(4, 3)
    assert not BiasAwareKD(1.0, facts(bias_log_probs=log_probs)).state_dict()
    assert sorted(GroupDROKD(1.0, facts()).state_dict()) == ["group_weights.q"]


def test_simkd_folds_into_a_layer_without_a_bias_where_the_teacher_has_none():
    network = Network(Tiny(5, 3))
    network.head.bias = None
    features, weight = np.zeros((4, 7), np.float32), torch.randn(3, 7)
    distiller = SimKD(1.0)
    distiller.setup(network, TeacherOutputs(TEACHER, features, weight, torch.zeros(3)))
    distiller.fold(network)
    x = torch.randn(6, 5)
    assert torch.allclose(network({"x": x}).logits, distiller.projector(x) @ weight.T, atol=1e-6)
    with pytest.raises(HarnessError, match="has no bias to take over"):
        SimKD(1.0).setup(network, TeacherOutputs(TEACHER, features, weight, torch.ones(3)))


@pytest.mark.parametrize(("weight", "bias"), [(None, None), (torch.ones(3, 7), None)])
def test_subspace_needs_the_whole_last_layer(weight, bias):
    outputs = TeacherOutputs(TEACHER, np.zeros((4, 7), np.float32), weight, bias)
    with pytest.raises(HarnessError, match="needs the teacher's last layer"):
        Subspace(1.0, facts()).setup(Network(Tiny(5, 3)), outputs)


def test_the_inter_term_of_dist_wants_more_than_two_labels():
    whole, intra = DIST.resolved({}), DIST.resolved({"inter": 0})
    assert "without gradient with two labels" in DIST.refusal(whole, 0.5, n_labels=2)
    assert not DIST.refusal(whole, 0.5, n_labels=3)
    assert not DIST.refusal(intra, 0.5, n_labels=2)
