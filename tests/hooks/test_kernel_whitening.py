"""Kernel whitening against closed forms and the authors' procedure written out in float64."""

import math

import pytest
import torch
from torch.nn.functional import cross_entropy, normalize

from harness_plugin.training.batch import Batch, TrainingMetadata
from harness_plugin_hooks.methods.contrast import (
    KernelWhitening,
    decorrelating,
    nystrom,
    off_diagonal,
)

N, H, C = 6, 4, 3
ROWS = torch.arange(N)
LABEL = torch.tensor([0, 1, 2, 0, 1, 2])
FACTS = TrainingMetadata(LABEL, LABEL, C, ("a", "b", "c"))


def random(*shape, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, dtype=torch.float64, generator=generator)


def batch(features):
    rows = ROWS[: len(features)]
    return Batch(rows, LABEL[rows], LABEL[rows], outputs={"features": features})


def even(n):
    return torch.full((n,), 1 / n, dtype=torch.float64)


def test_covariances_are_about_the_weighted_mean():
    """Rows (1, 2), (3, 6), (5, 2) of shares 1/2, 1/4, 1/4: mean (2.5, 3), covariance 0.5."""
    phi = torch.tensor([[1.0, 2.0], [3.0, 6.0], [5.0, 2.0]], dtype=torch.float64)
    share = torch.tensor([0.5, 0.25, 0.25], dtype=torch.float64)
    covariance = 0.5 * (-1.5 * -1) + 0.25 * (0.5 * 3) + 0.25 * (2.5 * -1)
    assert covariance == 0.5
    assert float(off_diagonal(phi, share)) == pytest.approx(2 * covariance**2, abs=1e-12)


@pytest.mark.parametrize("cosine", [0.0, 0.5, 0.9])
def test_the_objective_of_two_rows_is_known(cosine):
    """K = [[1, c], [c, 1]], root [[a, b], [b, a]]; (a - b)^4 / 8, and (a - b)^2 is nearly 1 - c.

    Without its last rotation Phi has no off-diagonal at all.
    """
    sine = math.sqrt(1 - cosine**2)
    x = torch.tensor([[1.0, 0.0], [cosine, sine]], dtype=torch.float64)
    result = float(off_diagonal(nystrom(x, x), even(2)))
    assert result == pytest.approx((1 - cosine) ** 4 / (1 - cosine + 1e-3) ** 2 / 8, rel=1e-6)
    assert result == pytest.approx((1 - cosine) ** 2 / 8, rel=0.03)


def test_the_features_are_the_symmetric_root_of_the_kernel():
    x = normalize(random(N, 2 * N), dim=1)
    phi = nystrom(x, x)
    assert torch.allclose(phi, phi.T, atol=1e-9)
    kernel = x @ x.T
    inside = torch.linalg.solve(kernel + 1e-3 * torch.eye(N, dtype=x.dtype), kernel @ kernel)
    assert torch.allclose(phi @ phi, inside, atol=1e-9)


def test_a_row_of_the_memory_that_is_empty_has_no_features():
    x = torch.cat([normalize(random(3, H), dim=1), torch.zeros(2, H, dtype=torch.float64)])
    phi = nystrom(x, x)
    assert torch.isfinite(phi).all()
    assert phi[3:].abs().max() < 1e-9


def test_landmarks_reproduce_the_kernel_that_they_span():
    x = normalize(random(12, H), dim=1)
    phi = nystrom(x, x[:6])
    assert phi.shape == (12, 6)
    assert torch.allclose(phi @ phi.T, x @ x.T, atol=0.01)


def test_the_covariance_is_the_authors():
    """theirs: E_w[x x'] - E_w[x] E_w[x]', weights that sum to 1, squared, without the diagonal."""
    x, share = random(N, 3), random(N, seed=1).softmax(0)
    mean = share @ x
    covariance = sum(s * torch.outer(row, row) for s, row in zip(share, x, strict=True))
    covariance = covariance - torch.outer(mean, mean)
    expected = sum(float(covariance[i, j]) ** 2 for i in range(3) for j in range(3) if i != j)
    assert float(off_diagonal(x, share)) == pytest.approx(expected)


def reference(phi, stored, steps, rate, lambdap):
    """training/reweighting.py written out: SGD with momentum, the rate a tenth after half."""
    weight = torch.ones(len(phi) - len(stored), dtype=phi.dtype, requires_grad=True)
    optimizer = torch.optim.SGD([weight], lr=rate, momentum=0.9)
    for step in range(steps):
        for group in optimizer.param_groups:
            group["lr"] = rate * 0.1 ** (step // (steps * 0.5))
        share = torch.cat([weight, stored]).softmax(0)
        loss = off_diagonal(phi, share) / lambdap + weight.softmax(0).pow(2).sum()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return weight.detach()


def test_the_weights_are_those_of_the_authors_procedure():
    x = normalize(random(2 * N, 2 * N), dim=1)
    phi, stored = nystrom(x, x), 1 + 0.1 * random(N, seed=3)
    result = decorrelating(phi, stored, steps=20, rate=600.0, lambdap=0.1)
    assert torch.allclose(result, reference(phi, stored, 20, 600.0, 0.1), atol=1e-9)
    assert float(result.std()) > 0.1
    assert torch.equal(decorrelating(phi, stored, steps=0, rate=6.0, lambdap=70.0), even(N) * N)


def test_weights_reduce_the_correlation_they_minimise():
    x = normalize(random(2 * N, 2 * N), dim=1)
    phi, none = nystrom(x, x), torch.ones(0, dtype=torch.float64)
    weight = decorrelating(phi, none, steps=200, rate=10.0, lambdap=1e-2)
    after, before = (float(off_diagonal(phi, w.softmax(0))) for w in (weight, 0 * weight))
    assert after < 0.9 * before


def test_without_steps_it_is_erm():
    z, features = random(N, C), random(N, H, seed=1)
    loss = KernelWhitening(FACTS, steps=0).loss(z, batch(features))
    assert float(loss) == pytest.approx(float(cross_entropy(z, LABEL)))


def test_the_weights_of_a_batch_weigh_its_losses():
    z, features = random(N, C), random(N, H, seed=1)
    loss, weights = KernelWhitening(FACTS, lambdap=0.01).loss_and_weights(z, batch(features))
    each = cross_entropy(z, LABEL, reduction="none")
    assert float(loss) == pytest.approx(float((weights * each).mean()))
    x = normalize(torch.cat([features, torch.zeros_like(features)]), dim=1)
    expected = reference(nystrom(x, x), torch.ones(N, dtype=x.dtype), 20, 6.0, 0.01)
    assert torch.allclose(weights, expected, atol=1e-9)


def test_the_memory_is_an_average_of_ten_updates_and_then_moves():
    method = KernelWhitening(FACTS, memory=0.75)
    every = [random(N, H, seed=seed) for seed in range(12)]
    z = random(N, C).requires_grad_()
    for features in every[:10]:
        method.loss(z, batch(features))
    assert torch.allclose(method.stored, torch.stack(every[:10]).mean(0))
    expected = method.stored
    for features in every[10:]:
        method.loss(z, batch(features))
        expected = 0.75 * expected + 0.25 * features
    assert torch.allclose(method.stored, expected)
    before = method.stored.clone()
    method.loss(z[:2], batch(every[0][:2]))  # a smaller batch moves its first rows
    assert torch.equal(method.stored[2:], before[2:])
    assert torch.allclose(method.stored[:2], 0.75 * before[:2] + 0.25 * every[0][:2])
    with torch.no_grad():
        method.loss(z, batch(every[1]))
    assert torch.allclose(method.stored[2:], before[2:])  # nothing is remembered
    other = KernelWhitening(FACTS)
    other.load_state_dict(method.state_dict())
    assert all(torch.equal(v, other.state_dict()[n]) for n, v in method.state_dict().items())


def test_a_batch_is_weighed_by_itself():
    z, features = random(N, C), random(N, H)
    method = KernelWhitening(FACTS)
    with torch.no_grad():  # nothing is remembered
        first = method.loss_and_weights(z, batch(features))[1]
        method.loss(z, batch(features.flip(0)))
        assert torch.equal(method.loss_and_weights(z, batch(features))[1], first)
