"""Ways to combine several teachers: formulas by hand, and gradients."""

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch.nn.functional import cross_entropy, kl_div, log_softmax

from harness_plugin.training.batch import Batch
from harness_plugin.training.ensemble import Ensemble, agreement, confidence
from harness_plugin.training.teacher_outputs import TeacherOutputs


def combine(how, teachers, student=None, label=None, temperature=1.0, biased=None):
    teachers = torch.tensor(teachers, dtype=torch.float64)
    student = torch.zeros_like(teachers[:, 0]) if student is None else student
    label = torch.zeros(len(teachers), dtype=torch.int64) if label is None else label
    rows = torch.arange(len(teachers))
    return Ensemble(how, temperature, biased)(teachers, student, label, rows)


def test_mean_probability_is_not_mean_logit():
    two = [[[4.0, 0, 0], [0, 1, 0]]]
    assert combine("mean_prob", two).softmax(1)[0].tolist() == pytest.approx(
        [0.588, 0.297, 0.115], abs=1e-3
    )
    assert combine("mean_logit", two).softmax(1)[0].tolist() == pytest.approx(
        [0.736, 0.164, 0.100], abs=1e-3
    )


@pytest.mark.parametrize("how", ["mean_prob", "mean_logit", "confidence", "agre"])
@pytest.mark.parametrize("temperature", [1.0, 4.0])
def test_teachers_that_agree_are_one_teacher(how, temperature):
    generator = torch.Generator().manual_seed(0)
    z, student, biased = torch.randn(3, 6, 4, dtype=torch.float64, generator=generator)
    label = torch.arange(6) % 4
    result = Ensemble(how, temperature, biased)(
        torch.stack([z, z, z], 1), student, label, torch.arange(6)
    )
    assert torch.allclose((result / temperature).softmax(1), (z / temperature).softmax(1))


def test_weighing_losses_and_weighing_probabilities_have_one_gradient():
    generator = torch.Generator().manual_seed(0)
    teachers = torch.randn(5, 3, 4, dtype=torch.float64, generator=generator)
    student = torch.randn(5, 4, dtype=torch.float64, generator=generator).requires_grad_()
    label, t = torch.arange(5) % 4, 2.0
    weights = confidence(teachers, label)
    each = [
        kl_div(
            log_softmax(student / t, 1),
            log_softmax(teachers[:, m] / t, 1),
            log_target=True,
            reduction="none",
        ).sum(1)
        for m in range(3)
    ]
    (expected,) = torch.autograd.grad((weights * torch.stack(each, 1)).sum(), student)
    target = Ensemble("confidence", t)(teachers, student.detach(), label, torch.arange(5))
    one = kl_div(
        log_softmax(student / t, 1), log_softmax(target / t, 1), log_target=True, reduction="sum"
    )
    (result,) = torch.autograd.grad(one, student)
    assert torch.allclose(result, expected, atol=1e-12)


def test_a_teacher_that_is_wrong_says_less():
    teachers = torch.tensor([[[5.0, 0, 0], [0, 5, 0], [5.0, 0, 0]]], dtype=torch.float64)
    weights = confidence(teachers, torch.tensor([0]))[0]
    losses = np.array([float(cross_entropy(z[None], torch.tensor([0]))) for z in teachers[0]])
    expected = (1 - np.exp(losses) / np.exp(losses).sum()) / 2
    assert weights.tolist() == pytest.approx(expected.tolist())
    assert float(weights.sum()) == pytest.approx(1)
    assert weights[1] < weights[0]


def test_a_teacher_that_pulls_like_the_biased_model_says_less():
    student, biased = torch.zeros(1, 3), torch.tensor([[4.0, 0, 0]])
    teachers = torch.tensor([[[4.0, 0, 0], [0, 4, 0]]])
    p, uniform = biased[0].softmax(0).numpy(), np.full(3, 1 / 3)
    own = uniform - np.roll(p, 1)
    other = uniform - p
    cosine = own @ other / np.linalg.norm(own) / np.linalg.norm(other)
    weights = agreement(teachers, student, biased)[0]
    assert weights.tolist() == pytest.approx([0, 1], abs=1e-5)
    assert cosine < 0  # of the second teacher: the weights are 0 and 1 - cosine, over their sum
    third = torch.cat([teachers, torch.tensor([[[0.0, 2, 2]]])], 1)
    each = 1 - np.array([1, cosine, float(similarity([0, 2, 2], uniform, other))])
    assert agreement(third, student, biased)[0].tolist() == pytest.approx(
        (each / each.sum()).tolist(), abs=1e-5
    )
    same = agreement(biased[:, None].expand(1, 2, 3), student, biased)[0]
    assert same.tolist() == pytest.approx([0.5, 0.5])


def test_an_extrapolated_teacher_goes_on_from_the_biased_one():
    """alpha 0 is the teacher, alpha -1 would be the biased model; several teachers are averaged."""
    generator = torch.Generator().manual_seed(0)
    first, second, biased = torch.randn(3, 5, 4, dtype=torch.float64, generator=generator)
    row = torch.tensor([4, 0, 2])

    def target(teachers, alpha):
        made = Ensemble("extrapolate", 10.0, biased, alpha)
        return made(torch.stack(teachers, 1)[row], torch.zeros(3, 4), row % 4, row)

    assert torch.allclose(target([first], 0.0), first[row])
    assert torch.allclose(target([first], 0.5), (1.5 * first - 0.5 * biased)[row])
    both = (first + second) / 2
    assert torch.allclose(target([first, second], 1.0), (2 * both - biased)[row])
    z_t, z_b = torch.tensor([[0.0, 1.0]]), torch.tensor([[2.0, 0.0]])
    made = Ensemble("extrapolate", 1.0, z_b, 0.5)(z_t[:, None], z_t, row[1:2], row[1:2])
    assert made.tolist() == [[-1.0, 1.5]]  # by hand


def similarity(logits, student, avoided):
    own = student - torch.tensor(logits, dtype=torch.float64).softmax(0).numpy()
    return own @ avoided / np.linalg.norm(own) / np.linalg.norm(avoided)


def test_signals_of_some_rows_are_those_rows():
    logits = torch.arange(24.0).view(6, 2, 2)
    whole = TeacherOutputs(
        logits, np.arange(12.0).reshape(6, 2), ensemble=Ensemble("agre", 1.0, logits[:, 0])
    )
    part = whole.select(torch.tensor([4, 1]))
    assert torch.equal(part.logits, logits[[4, 1]])
    assert part.features.tolist() == [[8, 9], [2, 3]]
    assert torch.equal(part.ensemble.biased, logits[[4, 1], 0])
    batch = Batch(torch.tensor([1]), torch.tensor([0]), torch.tensor([0]))
    plain = TeacherOutputs(logits[:, 0]).select(torch.tensor([4, 1]))
    assert torch.equal(plain.targets(torch.zeros(1, 2), batch), logits[[1], 0])


# ---- trainings


def weights(model):
    return load_file(model.path / "model.safetensors")


def same(a, b, tolerance=0.0):
    return all(torch.allclose(a[key], b[key], atol=tolerance, rtol=0) for key in a)
