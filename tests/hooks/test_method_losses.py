"""The closed forms of every further method: the table of its paper, gradients, degenerate cases."""

import math
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from four_rows import RAW, ROWS, TEACHER, G, Y, Z, batch, close, facts
from torch.nn.functional import cross_entropy, log_softmax

from harness_plugin import HarnessError
from harness_plugin.plugins.registry import load_plugins
from harness_plugin.training.batch import Batch
from harness_plugin_hooks.methods.ensemble import (
    BiasReweight,
    ConfidenceRegularisation,
    DebiasedFocalLoss,
    LearnedMixin,
    ProductOfExperts,
    RUBi,
    masked,
)
from harness_plugin_hooks.methods.environments import CORAL, IRM, VREx
from harness_plugin_hooks.methods.failure import GCE, PGD, LfF, gradient_norms
from harness_plugin_hooks.methods.groups import ReSample, ReSampleClass, ReWeight
from harness_plugin_hooks.methods.robust import CVaRDRO

EACH = [0.169846, 0.680270, 0.407606, 0.861995]
ERM = 0.529929
METHODS = load_plugins()["method"]


def test_resampling_draws_groups_or_labels_equally_often():
    chance = ReSample(facts()).sampling_weights()
    assert [float(chance[g == G].sum()) for g in range(3)] == pytest.approx([1, 1, 1])
    chance = ReSampleClass(facts()).sampling_weights()
    assert [float(chance[y == Y].sum()) for y in range(3)] == pytest.approx([1, 1, 1])
    none = ReSample(facts(group=torch.tensor([0, -1, 0, 2]))).sampling_weights()
    assert float(none[1]) == 0.0
    close(ReSample(facts()).loss(Z, batch()), ERM)
    assert ReSampleClass.needs == frozenset()


def test_the_square_root_variant_of_reweighting():
    weights = ReWeight(facts(), power=0.5).group_weights
    root = np.array([2**-0.5, 1, 1])
    assert weights.tolist() == pytest.approx(3 * root / root.sum())
    assert ReWeight(facts(), power=0.0).group_weights.tolist() == pytest.approx([1, 1, 1])


@pytest.mark.parametrize(
    ("alpha", "expected"), [(0.25, 0.861995), (0.5, 0.771132), (0.6, 0.710545), (1.0, ERM)]
)
def test_cvar_is_the_mean_of_the_worst_share(alpha, expected):
    close(CVaRDRO(facts(), alpha=alpha).loss(Z, batch()), expected)


def test_cvar_of_less_than_a_row_is_the_largest_loss():
    close(CVaRDRO(facts(), alpha=0.1).loss(Z, batch()), max(EACH))
    with pytest.raises(HarnessError, match=r"alpha must be in \(0, 1\], found 0"):
        CVaRDRO(facts(), alpha=0.0)


def test_vrex_over_three_groups():
    close(VREx(facts(), anneal=0).loss(Z, batch()), 1.182516)
    close(VREx(facts(), anneal=0, weight=0.0).loss(Z, batch()), 0.610330)
    close(VREx(facts(), anneal=500).loss(Z, batch(update=499)), 0.610330 + 0.057219)
    close(VREx(facts(), anneal=500).loss(Z, batch(update=500)), 1.182516)


def test_vrex_of_equal_risks_has_no_penalty():
    same = Batch(ROWS, Y, G, torch.tensor([0, 1, 0, 1]))
    z = Z[[0, 0, 0, 0]]
    label = torch.zeros(4, dtype=torch.long)
    close(VREx(facts(), anneal=0).loss(z, Batch(ROWS, label, G, same.environment)), EACH[0])


def test_irm_penalty_is_the_product_of_both_halves():
    one = Batch(ROWS, Y, G, torch.zeros(4, dtype=torch.long))
    close(IRM(facts(), anneal=0, weight=1.0).loss(Z, one), ERM + 0.096483)
    close(IRM(facts(), anneal=0).loss(Z, one), ERM + 100 * 0.096483, 1e-4)


def test_irm_gradient_is_that_of_a_scaled_logit():
    scale = torch.ones(4, dtype=torch.float64, requires_grad=True)
    each = cross_entropy(Z * scale[:, None], Y, reduction="sum")
    (gradient,) = torch.autograd.grad(each, scale)
    expected = [-0.354421, -0.339922, -0.424790, -0.155362]
    assert gradient.tolist() == pytest.approx(expected, abs=1e-6)
    assert torch.autograd.gradcheck(
        lambda z: IRM(facts(), anneal=0, weight=1.0).loss(
            z, Batch(ROWS, Y, G, torch.zeros(4, dtype=torch.long))
        ),
        Z.clone().requires_grad_(),
    )


def test_coral_compares_means_and_covariances():
    features = torch.tensor([[1, 0], [3, 2], [0, 0], [0, 4]], dtype=torch.float64)
    environment = torch.tensor([0, 0, 1, 1])
    one = Batch(ROWS, Y, G, environment, outputs={"features": features})
    # means (2,1), (0,2); covariances [[2,2],[2,2]], [[0,0],[0,8]]
    penalty = (4 + 1) / 2 + (4 + 4 + 4 + 36) / 4
    risk = (sum(EACH[:2]) / 2 + sum(EACH[2:]) / 2) / 2
    close(CORAL(facts()).loss(Z, one), risk + penalty)


@pytest.mark.parametrize("method", [VREx, IRM, CORAL])
def test_small_and_missing_environments_are_skipped(method):
    features = torch.randn(4, 3, dtype=torch.float64)
    for environment in ([0, 1, 2, 3], [-1, -1, -1, -1], [0, -1, -1, -1], [0, 0, 0, 1]):
        one = Batch(ROWS, Y, G, torch.tensor(environment), outputs={"features": features})
        z = Z.clone().requires_grad_()
        options = {} if method is CORAL else {"anneal": 0}
        loss = method(facts(), **options).loss(z, one)
        loss.backward()
        assert torch.isfinite(loss)
        assert torch.isfinite(z.grad).all()
    with pytest.raises(HarnessError, match="without environments"):
        method(facts()).loss(Z, Batch(ROWS, Y, G))


def test_poe_rows_and_gradient():
    method = ProductOfExperts(facts())
    rows = [float(method.loss(Z[[i]], batch(ROWS[[i]]))) for i in range(4)]
    assert rows == pytest.approx([0.065884, 0.680270, 0.065884, 2.239545], abs=1e-6)
    z = Z.clone().requires_grad_()
    method.loss(z, batch()).backward()
    onehot = torch.nn.functional.one_hot(Y, 3)
    assert torch.allclose(z.grad * 4, (Z + log_softmax(RAW, 1)).softmax(1) - onehot, atol=1e-12)


def test_theta_moves_by_equal_steps_from_1_to_its_end():
    """Update t of T has the exponent 1 - (1 - theta) t / T, p_B^exponent renormalised."""
    method = ProductOfExperts(facts(), theta=0.8)
    p = log_softmax(RAW, 1).exp()
    for t in range(4):
        powers = p ** (1 - 0.2 * t / 4)
        expected = (powers / powers.sum(1, keepdim=True)).log()
        assert torch.allclose(method.bias(batch(progress=t / 4)), expected)
    theirs = np.linspace(1, 0.8, 4 * 3 + 3)[: 4 * 3]  # 3 epochs of 4 updates
    ours = 1 - 0.2 * np.arange(12) / 12
    assert np.abs(theirs - ours).max() < 0.03  # the deviation that THETA names


def test_rubi_masks_by_centred_log_probabilities():
    """Bias (2/3, 1/6, 1/6) of three labels: logits ln 4 (2/3, -1/3, -1/3)."""
    p = torch.tensor([[2 / 3, 1 / 6, 1 / 6]] * 4, dtype=torch.float64)
    loss = RUBi(facts(bias_log_probs=p.log())).loss(Z, batch())
    mask = 1 / (1 + np.exp(-math.log(4) * np.array([2 / 3, -1 / 3, -1 / 3])))
    z = Z.numpy() * mask
    each = np.log(np.exp(z).sum(1)) - z[np.arange(4), Y.numpy()]
    close(loss, each.mean())
    uniform = torch.full((4, 3), -math.log(3), dtype=torch.float64)
    close(RUBi(facts(bias_log_probs=uniform)).loss(Z, batch()), float(cross_entropy(Z / 2, Y)))


def test_theta_anneals_the_bias():
    method = ProductOfExperts(facts(), theta=0.8)
    assert torch.equal(method.bias(batch()), log_softmax(RAW, 1))
    half = method.bias(batch(progress=0.5))
    assert torch.allclose(half, log_softmax(0.9 * RAW, 1))
    off = ProductOfExperts(facts(), theta=0.0)
    close(off.loss(Z, batch(progress=1.0)), ERM)  # a uniform bias is none


def test_dfl():
    close(DebiasedFocalLoss(facts()).loss(Z, batch()), 0.266281)
    close(DebiasedFocalLoss(facts(), gamma=0.0).loss(Z, batch()), ERM)
    close(DebiasedFocalLoss(facts()).loss_and_weights(Z, batch())[1].mean(), 1.0)


@pytest.mark.parametrize(("s", "total"), [(2.0, 1.212887), (1.0, 0.789685)])
def test_learned_mixin(s, total):
    scaled = batch(outputs={"scale": torch.full((4,), s, dtype=torch.float64)})
    close(LearnedMixin(facts()).loss(Z, scaled), total)
    poe = float(ProductOfExperts(facts()).loss(Z, batch()))
    if s == 1.0:
        close(LearnedMixin(facts(), penalty=0.0).loss(Z, scaled), poe)


def test_learned_mixin_without_scale_is_erm_and_fits_any_width():
    nothing = batch(outputs={"scale": torch.zeros(4, dtype=torch.float64)})
    close(LearnedMixin(facts(), penalty=0.0).loss(Z, nothing), ERM)
    for width in (128, 512):
        head = torch.nn.Linear(width, 3)
        network = type("Network", (), {"head": head})
        method = LearnedMixin(facts())
        method.setup(network)
        assert method.scale.in_features == width
        features = torch.randn(4, width)
        seen = SimpleNamespace(network=lambda _, h=features: SimpleNamespace(features=h), inputs={})
        scale = method.forward(seen)[1]["scale"]
        with torch.no_grad():
            by_hand = (features @ method.scale.weight[0] + method.scale.bias[0]).exp().log1p()
        assert torch.allclose(scale, by_hand)
        assert scale.shape == (4,)


def test_bias_reweight_and_rubi():
    close(BiasReweight(facts()).loss(Z, batch()), 0.630992)
    uniform = facts(bias_log_probs=log_softmax(torch.zeros(4, 3, dtype=torch.float64), 1))
    close(BiasReweight(uniform).loss(Z, batch()), ERM)
    close(cross_entropy(masked(Z, RAW), Y), 0.726399)


def test_confidence_regularisation():
    log_probs = log_softmax(TEACHER, 1)
    method = ConfidenceRegularisation(facts(prepared={"teacher_log_probs": log_probs}))
    close(method.loss(Z, batch()), 1.068415)
    p_y = method.gold(batch())
    target = ((1 - p_y)[:, None] * log_probs).softmax(1)
    assert target[0].tolist() == pytest.approx([0.640723, 0.179639, 0.179639], abs=1e-6)
    assert target[3].tolist() == pytest.approx([0.755246, 0.122377, 0.122377], abs=1e-6)


ALWAYS_RIGHT = torch.full((4, 3), -60.0, dtype=torch.float64).scatter(1, Y[:, None], 0.0)


@pytest.mark.parametrize(
    "method", [ProductOfExperts, DebiasedFocalLoss, BiasReweight, ConfidenceRegularisation]
)
def test_a_bias_model_that_is_always_right_gives_finite_numbers(method):
    sure = facts(
        bias_log_probs=ALWAYS_RIGHT, prepared={"teacher_log_probs": log_softmax(TEACHER, 1)}
    )
    z = Z.clone().requires_grad_()
    loss = method(sure).loss(z, batch())
    loss.backward()
    assert torch.isfinite(loss)
    assert torch.isfinite(z.grad).all()
    if method in (DebiasedFocalLoss, BiasReweight):
        close(loss, 0.0)
    _, weights = method(sure).loss_and_weights(Z, batch())
    assert weights is None or torch.isfinite(weights).all()


def test_generalised_cross_entropy_and_its_gradient():
    close(GCE(facts()).loss(Z, batch()), 0.236469)
    z = Z.clone().requires_grad_()
    GCE(facts()).loss(z, batch()).backward()
    other = Z.clone().requires_grad_()
    p = other.softmax(1)[ROWS, Y]
    true = ((1 - p**0.7) / 0.7).mean()
    close(true, 0.425796)
    true.backward()
    assert torch.allclose(z.grad, 0.7 * other.grad, atol=1e-12)


def test_lff_weights_without_scaling_are_those_of_the_table():
    """Each row the only one of its label would scale to 1; the table has no scaling."""
    easy = -log_softmax(RAW, 1)[ROWS, Y]
    hard = torch.tensor(EACH, dtype=torch.float64)
    expected = [0.764525, 0.617586, 0.370153, 0.736361]
    assert (easy / (easy + hard)).tolist() == pytest.approx(expected, abs=1e-6)
    labels = torch.zeros(4, dtype=torch.long)  # one label: both are scaled by one number each
    method = LfF(facts(label=labels, n_labels=1))
    method.easy, method.hard = easy.clone(), hard.clone()
    one = Batch(ROWS, labels, G)
    assert torch.allclose(method.scaled(method.easy, one), easy / easy.max())


def test_lff_is_the_authors_procedure_in_loops():
    """train.py and util.py of LfF: EMA by row, divided by the largest of the row's label."""
    method, rng = LfF(facts(), ema=0.6), np.random.default_rng(0)
    average, seen = {"easy": [0.0] * 4, "hard": [0.0] * 4}, [0] * 4
    for rows in ([0, 1, 2], [3, 0, 1], [0, 3, 2]):
        z, biased = (torch.from_numpy(rng.normal(size=(3, 3))) for _ in range(2))
        chosen = torch.tensor(rows)
        _, weights = method.loss_and_weights(
            z.requires_grad_(), batch(chosen, outputs={"biased": biased})
        )
        for i, row in enumerate(rows):
            for name, table in (("easy", biased), ("hard", z.detach())):
                ce = float(-log_softmax(table[i], 0)[Y[row]])
                keep = 0.6 * seen[row]
                average[name][row] = keep * average[name][row] + (1 - keep) * ce
        for row in rows:
            seen[row] = 1
        expected = []
        for row in rows:
            scaled = []
            for name in ("easy", "hard"):
                largest = max(average[name][j] for j in range(4) if Y[j] == Y[row])
                scaled.append(average[name][row] / largest)
            expected.append(scaled[0] / (scaled[0] + scaled[1] + 1e-8))
        mean = sum(expected) / 3
        assert weights.tolist() == pytest.approx([w / mean for w in expected], rel=1e-5)


def test_lff_with_equal_losses_weighs_one_half():
    method = LfF(facts())
    z = Z.clone().requires_grad_()
    loss, weights = method.loss_and_weights(z, batch(outputs={"biased": Z}))
    close(loss, 0.5 * ERM + 0.236469, 1e-5)
    assert weights.tolist() == pytest.approx([1.0] * 4)


def test_lff_weights_do_not_depend_on_the_loss_of_another_batch():
    """Those of the last loss were once taken for any batch of the same size."""
    biased = log_softmax(RAW, 1)
    method, other = LfF(facts()), LfF(facts())
    method.loss(Z.clone(), batch(outputs={"biased": biased}))
    other.load_state_dict(method.state_dict())
    order = torch.tensor([2, 0, 3, 1])
    with torch.no_grad():  # nothing is remembered
        other.loss(Z[order], batch(order, outputs={"biased": biased[order]}))
        one = batch(outputs={"biased": biased})
        result = [m.loss_and_weights(Z, one)[1] for m in (method, other)]
    assert torch.equal(*result)
    assert result[0].unique().numel() > 1


def test_lff_remembers_rows_with_a_moving_average():
    method = LfF(facts())
    row = torch.tensor([2])
    method.remember(row, torch.tensor([1.0]), torch.tensor([3.0]))
    assert (float(method.easy[2]), float(method.hard[2])) == (
        1.0,
        3.0,
    )  # a first visit counts whole
    method.remember(row, torch.tensor([2.0]), torch.tensor([3.0]))
    assert float(method.easy[2]) == pytest.approx(0.7 * 1.0 + 0.3 * 2.0)
    other = LfF(facts())
    other.load_state_dict(method.state_dict())
    assert all(torch.equal(a, other.state_dict()[n]) for n, a in method.state_dict().items())


def test_pgd_norms_are_those_of_the_last_layers_gradient():
    features = np.array([[1, 0], [0, 1], [1, 1], [2, 0]], np.float32)
    plain = gradient_norms(Z.numpy(), features, Y.numpy(), bias_term=False)
    assert plain == pytest.approx([0.198004, 0.610449, 0.600102, 1.464522], abs=1e-6)
    shares = [0.068917, 0.212472, 0.208871, 0.509740]
    assert plain / plain.sum() == pytest.approx(shares, abs=1e-6)
    biased = gradient_norms(Z.numpy(), features, Y.numpy(), bias_term=True)
    assert biased == pytest.approx([0.280020, 0.863305, 0.734972, 1.637385], abs=1e-6)
    weight = torch.zeros(3, 2, dtype=torch.float64, requires_grad=True)
    for i in range(4):  # autograd's own gradient at the same logits
        h = torch.from_numpy(features[i]).double()
        logits = Z[i] + (weight - weight.detach()) @ h
        (g,) = torch.autograd.grad(cross_entropy(logits[None], Y[[i]]), weight)
        assert plain[i] == pytest.approx(float(g.norm()))
    method = PGD(facts(prepared={"norm": torch.from_numpy(biased)}))
    assert method.sampling_weights().tolist() == biased.tolist()


PREPARED = {
    "wrong": torch.tensor([True, False, False, True]),
    "teacher_log_probs": log_softmax(TEACHER, 1),
    "norm": torch.ones(4, dtype=torch.float64),
    "predicted": torch.tensor([0, 2, 2, 1]),
}
LOSSES = [offer.name for offer in METHODS if not offer.load().base]


@pytest.mark.parametrize("name", LOSSES)
@pytest.mark.parametrize("rows", [[0, 3], [1], [0, 1, 2, 3]])
def test_every_loss_with_a_single_label_a_single_row_and_rows_of_no_group(name, rows):
    method = METHODS.offer(name).load()
    nobody = torch.full((4,), -1)
    for group in (G, nobody):
        known = facts(group=group, environment=group, prepared=PREPARED)
        z = Z.clone().requires_grad_()
        chosen = torch.tensor(rows)
        outputs = {
            "features": torch.randn(len(rows), 3, dtype=torch.float64),
            "scale": torch.ones(len(rows), dtype=torch.float64),
            "biased": Z[chosen],
            "branch": Z[chosen],
            "mixed": z[chosen],
            "kept": torch.full((len(rows),), 0.5, dtype=torch.float64),
            "drop": Z[chosen],
            "shuffle": Z[chosen],
        }
        one = Batch(chosen, Y[chosen], group[chosen], group[chosen], update=9, outputs=outputs)
        one = replace(one, partner=chosen.flip(0))
        made = method(known)
        loss = made.loss(z[chosen], one)
        assert loss.ndim == 0
        assert torch.isfinite(loss)
        if loss.requires_grad:
            loss.backward()
            assert torch.isfinite(z.grad).all()
        _, weights = method(known).loss_and_weights(z[chosen], one)
        assert (weights is not None) == method.weighs_examples
        assert weights is None or torch.isfinite(weights).all()


@pytest.mark.parametrize("method", [DebiasedFocalLoss, BiasReweight])
@pytest.mark.parametrize("theta", [1.0, 0.2])
def test_distillation_weights_keep_the_mean_1_while_the_bias_is_annealed(method, theta):
    made = method(facts(), theta=theta)
    for progress in (0.0, 0.5, 0.99):
        _, weights = made.loss_and_weights(Z, batch(progress=progress))
        close(weights.mean(), 1.0)
