"""`subspace_layers`: moments, directions, loss and refusals on tiny models of four families."""

import copy

import numpy as np
import pytest
import torch
from tiny_models import IMAGES, tiny_model

from harness_plugin import HarnessError
from harness_plugin.models.layers import OnlineTeacher, Shape, hidden_states
from harness_plugin.models.network import Network
from harness_plugin.training.batch import Batch
from harness_plugin.training.inputs.encode import EncodedImages, EncodedText
from harness_plugin.training.teacher_outputs import TeacherOutputs
from harness_plugin_hooks.distill import subspace_layers
from harness_plugin_hooks.distill.subspace_layers import SubspaceLayers

ROWS, LABELS = 10, 3
TEXT = {"hidden_size": 8, "num_hidden_layers": 2, "num_attention_heads": 2, "vocab_size": 30}
T5 = {"d_model": 8, "num_layers": 2, "num_heads": 2, "d_kv": 4, "d_ff": 16, "vocab_size": 30}
CONFIGS = {
    "bert": {**TEXT, "intermediate_size": 16},
    "t5_encoder_classifier": {**T5, "decoder_start_token_id": 0},
    "resnet": {"depths": [1, 1], "hidden_sizes": [6, 8], "embedding_size": 6},
    "vit": {**TEXT, "intermediate_size": 16, "image_size": 16, "patch_size": 8},
}


def model_of(kind, seed=0, **changes):
    torch.manual_seed(seed)
    model = tiny_model(kind, LABELS, **{**CONFIGS[kind], **changes})
    with torch.no_grad():  # answers that differ between rows
        for weight in model.parameters():
            weight.add_(torch.randn_like(weight) * 0.3)
    return model.eval()


def rows_of(kind):
    """Texts of 3 to 7 tokens, or images."""
    rng = np.random.default_rng(0)
    if kind in IMAGES:
        pixels = rng.integers(0, 256, size=(ROWS, 16, 16, 3)).astype(np.uint8)
        return EncodedImages(pixels, 1 / 255, (0.5,) * 3, (0.5,) * 3)
    lengths = 3 + np.arange(ROWS) % 5
    tokens = rng.integers(2, 30, size=lengths.sum()).astype(np.int32)
    return EncodedText(tokens, np.concatenate([[0], lengths.cumsum()]), None, 0)


def outputs_of(teacher, encoded):
    """Stored outputs of a teacher that runs along."""
    live = OnlineTeacher(copy.deepcopy(teacher), encoded)
    return TeacherOutputs(torch.zeros(len(encoded), LABELS), live=live)


def made(kind, student=None, **options):
    """The distiller after its setup, the student and the teacher's outputs."""
    network = Network(model_of(kind, 1) if student is None else student)
    outputs = outputs_of(model_of(kind), rows_of(kind))
    distiller = SubspaceLayers(2.0, **options)
    distiller.setup(network, outputs)
    network.record_layers()
    return distiller, network, outputs.live


def at_every_position(states):
    """(n, H) of one row's (1, T, H) or (1, H, h, w), position by position."""
    if states.ndim == 3:
        return [states[0, t] for t in range(states.shape[1])]
    _, _, height, width = states.shape
    return [states[0, :, y, x] for y in range(height) for x in range(width)]


def reference(kind, layer):
    """States, contexts (n, H) of a layer in float64: row by row, the odds from probabilities."""
    model, encoded = model_of(kind).double(), rows_of(kind)
    states, contexts = [], []
    for row in range(ROWS):
        inputs = encoded.batch(np.array([row]))
        inputs = {k: v.double() if v.is_floating_point() else v for k, v in inputs.items()}
        out = model(**inputs, output_hidden_states=True)
        state = hidden_states(out)[layer]
        chance = out.logits[0].softmax(dim=0).max()
        (slope,) = torch.autograd.grad((chance / (1 - chance)).log(), state)
        states += at_every_position(state.detach())
        contexts += at_every_position(slope)
    return torch.stack(states).numpy(), torch.stack(contexts).numpy()


def loss_of(distiller, network, live, rows=None):
    """(B,) the distiller's own term for some rows, without the logits'."""
    chosen = torch.arange(ROWS) if rows is None else rows
    output = network.eval()(live.encoded.batch(chosen.numpy()))
    batch = Batch(chosen, chosen, chosen, outputs=distiller(output, live.layers(chosen)))
    return distiller.intermediate_loss(batch)


@pytest.mark.parametrize("basis", ["relevant", "pca"])
@pytest.mark.parametrize("kind", sorted(CONFIGS))
def test_directions_are_those_of_moments_row_by_row(kind, basis):
    distiller, _, _ = made(kind, basis=basis, size=3)
    assert distiller.pairs == [(1, 1), (2, 2)]
    for number, (_, layer) in enumerate(distiller.pairs):
        states, contexts = reference(kind, layer)
        spread = np.cov(states.T, bias=True)
        square = contexts.T @ contexts / len(contexts)
        width = len(spread)
        cross = np.cov(states.T, contexts.T, bias=True)[:width, width:]
        ratio = np.sqrt(np.trace(square) / np.trace(spread))
        matrix = cross + cross.T + 2 * ratio * spread + 2 / ratio * square
        matrix = matrix if basis == "relevant" else spread
        kept = distiller.of_layer("basis", number).double().numpy()
        assert kept.T @ kept == pytest.approx(np.eye(3), abs=1e-5)
        # no three orthonormal directions hold more of the matrix than its first eigenvectors
        most = np.linalg.eigvalsh(matrix)[-3:].sum()
        assert np.trace(kept.T @ matrix @ kept) == pytest.approx(most, rel=1e-4)
        assert distiller.of_layer("mean", number).numpy() == pytest.approx(
            states.mean(axis=0), rel=1e-4, abs=1e-5
        )
        scale = np.trace(kept.T @ spread @ kept) / 3
        assert distiller.of_layer("scale", number).item() == pytest.approx(scale, rel=1e-4)
        turned = distiller.rotations[number].weight.detach().numpy()
        assert turned @ turned.T == pytest.approx(np.eye(3), abs=1e-5)


@pytest.mark.parametrize("kind", sorted(CONFIGS))
def test_the_teacher_itself_has_nothing_to_learn_once_it_is_turned(kind):
    """R = U^T: the running mean of the first batch, all rows, is that of the teacher."""
    distiller, network, live = made(kind, student=model_of(kind))
    assert bool((loss_of(distiller, network, live) > 0.05).all())  # R is any rotation
    distiller, network, live = made(kind, student=model_of(kind))
    for number in range(len(distiller.pairs)):
        turned = torch.nn.Linear(1, 1, bias=False)
        turned.weight = torch.nn.Parameter(distiller.of_layer("basis", number).T.clone())
        distiller.rotations[number] = turned
    loss = loss_of(distiller, network, live)
    assert loss.shape == (ROWS,)
    assert loss.tolist() == pytest.approx([0] * ROWS, abs=1e-4)


def test_parts_of_a_batch_and_padding_change_nothing():
    """Rows of other lengths are padded apart: what the loss reads is the same, row by row."""
    distiller, network, live = made("bert")
    network.eval()

    def read(rows):
        output = network(live.encoded.batch(rows.numpy()))
        return distiller(output, live.layers(rows))

    whole = read(torch.arange(ROWS))
    parts = [read(torch.tensor([row])) for row in range(ROWS)]
    for name, value in whole.items():
        joined = torch.cat([part[name] for part in parts])
        assert torch.allclose(joined, value, rtol=1e-4, atol=1e-5), name


def test_the_running_mean_counts_positions_and_forgets():
    distiller, network, live = made("bert", layers=[2])
    half = torch.arange(ROWS // 2), torch.arange(ROWS // 2, ROWS)
    means = []
    for rows in half:
        loss_of(distiller, network, live, rows)
        hidden = network(live.encoded.batch(rows.numpy())).layers
        real = hidden.hidden[2][hidden.real]  # (n, H): every token counts once
        means.append(distiller.rotations[0](real).mean(dim=0))
        if len(means) == 1:
            first = distiller.of_layer("running", 0).tolist()
            assert first == pytest.approx(means[0].tolist(), abs=1e-5)
    both = (0.5 * means[0] + 0.5 * means[1]).tolist()  # the second of two batches counts a half
    assert distiller.of_layer("running", 0).tolist() == pytest.approx(both, abs=1e-5)


def test_the_teacher_is_asked_for_a_few_rows_at_a_time_and_stays_frozen(monkeypatch):
    monkeypatch.setattr(subspace_layers, "ROWS", 4)
    encoded, asked = rows_of("bert"), []

    class Watched(EncodedText):
        def batch(self, rows, *more):
            asked.append(sorted(rows.tolist()))
            return super().batch(rows, *more)

    watched = Watched(encoded.tokens, encoded.offsets, None, 0)
    outputs = outputs_of(model_of("bert"), watched)
    few = SubspaceLayers(2.0, size=3)
    few.setup(Network(model_of("bert", 1)), outputs)
    asked = asked[1:]  # the first looks at widths
    assert sorted(row for rows in asked for row in rows) == list(range(ROWS))
    assert max(map(len, asked)) == 4
    at_once, _, _ = made("bert", size=3)
    assert few.scale_0.item() == pytest.approx(at_once.scale_0.item(), rel=1e-5)
    model = outputs.live.model
    assert all(p.grad is None and not p.requires_grad for p in model.parameters())


def test_a_narrow_shallow_student_hears_layers_at_its_depth():
    student = model_of("bert", 1, hidden_size=4, num_hidden_layers=1)
    distiller, network, live = made("bert", student=student)
    assert distiller.pairs == [(1, 2)]
    assert distiller.of_layer("basis", 0).shape == (8, 4)
    loss = loss_of(distiller, network, live)
    loss.sum().backward()
    assert distiller.rotations[0].parametrizations.weight.original.grad.abs().sum() > 0


def test_every_layer_adds_its_own_part():
    whole, network, live = made("vit")
    parts = []
    for layer in (1, 2):
        one, _, _ = made("vit", layers=[layer])
        one.rotations[0] = whole.rotations[layer - 1]
        parts.append(loss_of(one, network, live))
    together = loss_of(whole, network, live).tolist()
    assert together == pytest.approx((parts[0] + parts[1]).tolist(), rel=1e-4)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"layers": [0]}, "needs layers as whole numbers from 1, not [0]"),
        ({"layers": ["last"]}, "needs layers as whole numbers from 1"),
        ({"layers": [1, 1]}, "needs every layer once"),
        ({"basis": "best"}, "knows basis relevant and pca"),
        ({"size": -1}, "needs a size of at least 0"),
        ({"layers": [2, 1]}, ""),
    ],
)
def test_options_that_mean_nothing_are_refused(options, message):
    problem = SubspaceLayers.refusal(SubspaceLayers.resolved(options), 0.5, 2)
    assert message in problem
    assert bool(problem) == bool(message)


def test_models_that_cannot_be_compared_are_refused():
    bert, resnet = Shape("bert", 2, 8, 2), Shape("resnet", 2, 8, 0)
    asked = SubspaceLayers.resolved({"layers": [1, 3]})
    assert "the student has 2 layers and no layer 3" in SubspaceLayers.mismatch(asked, bert, bert)
    assert "are not the same positions" in SubspaceLayers.mismatch(asked, bert, resnet)
    coarse = model_of("resnet", 1, downsample_in_first_stage=True)
    with pytest.raises(HarnessError, match="layer 1 has 4 positions, the teacher's layer 1 has 16"):
        made("resnet", student=coarse)
    with pytest.raises(HarnessError, match="size 9 is more than the 8 features that layer 1"):
        made("bert", size=9)
    with pytest.raises(HarnessError, match="needs its teacher, and none was given"):
        SubspaceLayers(2.0).setup(Network(model_of("bert")), TeacherOutputs(torch.zeros(1, LABELS)))


def test_a_layer_that_no_answer_depends_on_is_named():
    teacher = model_of("bert")
    with torch.no_grad():
        teacher.classifier.weight.zero_()
    with pytest.raises(HarnessError, match="answers do not depend on its layer 1: leave layer 1"):
        SubspaceLayers(2.0).setup(
            Network(model_of("bert", 1)), outputs_of(teacher, rows_of("bert"))
        )
