"""Every loss against closed forms: the tables of the method papers, worked out in float64."""

import math

import pytest
import torch
from four_rows import RAW, TEACHER, G, Y, Z, close, facts
from torch.nn.functional import cross_entropy, log_softmax

from harness_plugin import HarnessError
from harness_plugin.training.batch import Batch
from harness_plugin.training.contracts import missing_needs
from harness_plugin.training.loss import DistillationLoss
from harness_plugin.training.teacher_outputs import TeacherOutputs
from harness_plugin_hooks.distill.logits import KD
from harness_plugin_hooks.methods.ensemble import ProductOfExperts
from harness_plugin_hooks.methods.erm import ERM
from harness_plugin_hooks.methods.groups import GroupDRO, ReWeight, balanced_sampling

TAUGHT = TeacherOutputs(TEACHER)
ALL = Batch(torch.arange(4), Y, G)


def test_erm_is_mean_cross_entropy():
    close(ERM(facts()).loss(Z, ALL), 0.529929)


def test_reweight_weights_and_loss():
    method = ReWeight(facts())
    assert method.group_weights.tolist() == pytest.approx([0.6, 1.2, 1.2])
    close(method.loss(Z, ALL), 0.549297)


def test_reweight_with_equal_groups_is_erm():
    equal = facts(group=torch.tensor([0, 1, 2, 3]), groups=("a", "b", "c", "d"))
    close(ReWeight(equal).loss(Z, Batch(ALL.row, Y, equal.group)), 0.529929)


def test_reweight_gives_an_empty_group_no_weight():
    method = ReWeight(facts(groups=("a", "b", "c", "nobody")))
    assert method.group_weights.tolist() == pytest.approx([0.6, 1.2, 1.2, 0.0])


@pytest.mark.parametrize(
    ("eta", "q", "loss"),
    [
        (0.01, [0.332262, 0.333566, 0.334172], 0.610902),
        (1.0, [0.235111, 0.347790, 0.417099], 0.664011),
    ],
)
def test_group_dro_one_step(eta, q, loss):
    method = GroupDRO(facts(), eta=eta)
    close(method.loss(Z.clone().requires_grad_(), ALL).detach(), loss)
    assert method.group_weights.q.tolist() == pytest.approx(q, abs=1e-6)


def test_group_dro_size_adjustment():
    method = GroupDRO(facts(), eta=0.0, adjustment=1.0)
    losses = [0.995833, 1.680270, 1.861995]
    close(method.loss(Z, ALL), sum(losses) / 3)


def test_group_dro_with_one_group_is_erm():
    one = facts(group=torch.zeros(4, dtype=torch.int64), groups=("all",))
    close(GroupDRO(one, eta=0.5).loss(Z, Batch(ALL.row, Y, one.group)), 0.529929)


def by_the_authors(each, group, q, eta, adjustment):
    """loss.py of Sagawa et al. written out: an absent group has loss 0 plus its adjustment."""
    means = torch.zeros(len(q), dtype=torch.float64)
    for g in range(len(q)):
        if (group == g).any():
            means[g] = each[group == g].mean()
    means = means + adjustment
    q = q * torch.exp(eta * means)
    q = q / q.sum()
    return float(q @ means), q


def fifty_steps(absent, adjustment):
    """The largest differences of q and of the loss from the authors' code."""
    counts = torch.tensor([60, 30, 10])
    group = torch.repeat_interleave(torch.arange(3), counts)
    data = facts(
        label=torch.zeros(100, dtype=torch.long), group=group, bias_log_probs=None, n_labels=2
    )
    method = GroupDRO(data, eta=0.01, adjustment=adjustment).double()
    q = torch.full((3,), 1 / 3, dtype=torch.float64)
    rng, off_q, off_loss = torch.Generator().manual_seed(0), 0.0, 0.0
    for step in range(50):
        z = torch.randn(12, 2, generator=rng, dtype=torch.float64).requires_grad_()
        seen = torch.arange(12) % (2 if absent and step % 2 else 3)
        one = Batch(torch.arange(12), torch.zeros(12, dtype=torch.long), seen)
        loss = float(method.loss(z, one).detach())
        each = cross_entropy(z.detach(), one.label, reduction="none")
        theirs, q = by_the_authors(each, seen, q, 0.01, adjustment / counts.double().sqrt())
        off_q = max(off_q, float((method.group_weights.q - q).abs().max()))
        off_loss = max(off_loss, abs(loss - theirs))
    return off_q, off_loss


@pytest.mark.parametrize("absent", [False, True])
@pytest.mark.parametrize("adjustment", [0.0, 2.0])
def test_group_dro_is_the_authors(absent, adjustment):
    """With every group in every batch, and with the smallest missing from every second one."""
    assert fifty_steps(absent, adjustment) == pytest.approx((0, 0), abs=1e-6)


def test_an_absent_group_still_has_its_adjustment():
    """q of groups of 1, 1 and 4 rows, the second absent, eta 1, C 2: exp(L + 2 / sqrt(n))."""
    sizes = facts(group=torch.tensor([0, 1, 2, 2]), label=torch.tensor([0, 0, 0, 0]))
    method = GroupDRO(sizes, eta=1.0, adjustment=2.0)
    seen = torch.tensor([0, 2])
    z = torch.zeros(2, 3, dtype=torch.float64, requires_grad=True)
    loss = method.loss(z, Batch(seen, torch.tensor([0, 0]), torch.tensor([0, 2])))
    mean = math.log(3)
    values = [mean + 2, 2, mean + math.sqrt(2)]
    grown = [math.exp(value) for value in values]
    q = [value / sum(grown) for value in grown]
    assert method.group_weights.q.tolist() == pytest.approx(q, abs=1e-6)
    close(loss.detach(), sum(a * b for a, b in zip(q, values, strict=True)))


def test_group_dro_keeps_the_weight_of_an_absent_group():
    method = GroupDRO(facts(), eta=1.0)
    seen = torch.tensor([0, 2])
    method.loss(Z[seen].clone().requires_grad_(), Batch(seen, Y[seen], G[seen]))
    grown = math.exp(float(cross_entropy(Z[seen], Y[seen])))
    assert method.group_weights.q.tolist() == pytest.approx(
        [grown / (grown + 2), 1 / (grown + 2), 1 / (grown + 2)], abs=1e-6
    )


def test_group_dro_does_not_learn_weights_without_gradients():
    method = GroupDRO(facts(), eta=1.0)
    with torch.no_grad():
        method.loss(Z, ALL)
    assert method.group_weights.q.tolist() == pytest.approx([1 / 3] * 3)


def test_group_dro_state_survives_a_checkpoint():
    first = GroupDRO(facts(), eta=1.0)
    first.loss(Z.clone().requires_grad_(), ALL)
    second = GroupDRO(facts(), eta=1.0)
    second.load_state_dict(first.state_dict())
    assert torch.equal(first.group_weights.q, second.group_weights.q)


def test_group_dro_weights_turn_the_mean_into_its_objective():
    method = GroupDRO(facts(), eta=0.3)
    objective, weights = method.loss_and_weights(Z.clone().requires_grad_(), ALL)
    each = cross_entropy(Z, Y, reduction="none")
    close((weights * each).mean(), float(objective.detach()))


def test_balanced_sampling_draws_groups_equally():
    weights = balanced_sampling(torch.tensor([0, 0, 0, 1]), 2)
    assert weights.tolist() == pytest.approx([1 / 3, 1 / 3, 1 / 3, 1.0])


def test_product_of_experts():
    method = ProductOfExperts(facts())
    close(method.loss(Z, ALL), 0.762896)


def test_product_of_experts_with_a_uniform_bias_is_erm():
    uniform = facts(bias_log_probs=torch.full((4, 3), -math.log(3), dtype=torch.float64))
    close(ProductOfExperts(uniform).loss(Z, ALL), 0.529929)


def test_product_of_experts_gradient():
    z = Z.clone().requires_grad_()
    ProductOfExperts(facts()).loss(z, ALL).backward()
    expected = torch.softmax(Z + log_softmax(RAW, 1), 1)
    expected[torch.arange(4), Y] -= 1
    assert torch.allclose(z.grad, expected / 4)


def test_product_of_experts_looks_bias_up_by_row():
    method = ProductOfExperts(facts())
    order = torch.tensor([2, 0, 3, 1])
    close(method.loss(Z[order], Batch(order, Y[order], G[order])), 0.762896)


@pytest.mark.parametrize(("temperature", "loss"), [(1.0, 0.161760), (4.0, 0.256979)])
def test_kd_is_batchmean_times_temperature_squared(temperature, loss):
    objective = DistillationLoss(
        ERM(facts()), KD(temperature), TAUGHT, ce_weight=0.0, kd_weight=1.0
    )
    close(objective(Z, ALL), loss)


def test_objective_mixes_with_named_weights():
    objective = DistillationLoss(ERM(facts()), KD(4.0), TAUGHT, ce_weight=0.1, kd_weight=0.9)
    close(objective(Z, ALL), 0.284274)


@pytest.mark.parametrize(
    ("temperature", "loss"), [(1, 0.811154), (2, 0.915282), (4, 0.881179), (10, 0.826325)]
)
def test_kd_sums_over_classes(temperature, loss):
    # divided by the number of classes ("mean") the first would be .270385
    student, teacher = torch.tensor([[1.0, 0, -1]]).double(), torch.tensor([[0.0, 2, -1]]).double()
    each = KD(temperature).loss(student, teacher, ALL)
    close(temperature**2 * each[0], loss)


def test_kd_gradient_at_temperature_four():
    student = torch.tensor([[1.0, 0, -1]]).double().requires_grad_()
    teacher = torch.tensor([[0.0, 2, -1]]).double()
    (16 * KD(4.0).loss(student, teacher, ALL).sum()).backward()
    assert student.grad[0].tolist() == pytest.approx([0.509892, -0.618114, 0.108222], abs=1e-6)


def test_kd_of_equal_logits_is_zero_with_zero_gradient():
    z = Z.clone().requires_grad_()
    loss = KD(3.0).loss(z, Z, ALL).sum()
    loss.backward()
    close(loss.detach(), 0.0)
    assert float(z.grad.abs().max()) < 1e-12


def test_kd_at_infinite_temperature_is_centred_logit_matching():
    centred = (Z - Z.mean(1, keepdim=True)) - (TEACHER - TEACHER.mean(1, keepdim=True))
    limit = centred.pow(2).sum(1) / (2 * 3)
    t = 3e3
    assert torch.allclose(t**2 * KD(t).loss(Z, TEACHER, ALL), limit, rtol=1e-2)


def test_weights_of_the_method_reach_the_distillation_term():
    objective = DistillationLoss(ReWeight(facts()), KD(2.0), TAUGHT, ce_weight=0.0, kd_weight=1.0)
    each = KD(2.0).loss(Z, TEACHER, ALL)
    weights = torch.tensor([0.6, 1.2, 0.6, 1.2])
    close(objective(Z, ALL), float(4 * (weights * each).mean()))


def test_kd_weight_zero_is_the_label_term():
    objective = DistillationLoss(ERM(facts()), KD(2.0), TAUGHT, ce_weight=1.0, kd_weight=0.0)
    close(objective(Z, ALL), 0.529929)


def test_needs_are_named():
    assert missing_needs(GroupDRO, set()) == [
        "group labels on the training rows (or `group_inference`)"
    ]
    assert "bias_features" in missing_needs(ProductOfExperts, {"groups"})[0]
    assert missing_needs(GroupDRO, {"groups", "validation"}) == []
    assert missing_needs(ERM, set()) == []


def test_an_option_of_another_type_or_name_is_refused():
    with pytest.raises(HarnessError, match=r"unknown option of GroupDRO .ets..*eta"):
        GroupDRO(facts(), ets=0.1)
    with pytest.raises(HarnessError, match=r"GroupDRO: option balanced must be a bool, found 1"):
        GroupDRO(facts(), balanced=1)
    with pytest.raises(HarnessError, match=r"GroupDRO: option eta must be a float, found 'x'"):
        GroupDRO(facts(), eta="x")
