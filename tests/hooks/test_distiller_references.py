"""Every distiller's whole loss, at its default options, against its source written out in loops.

The references are float64 numpy over single rows, layers, heads and positions; the formulas and
default weights are those of the papers and of the authors' code named in the docstrings.
"""

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
import yaml

import harness_plugin_hooks
from harness_plugin.models.layers import Layers
from harness_plugin.models.network import ModelOutput
from harness_plugin.plugins.registry import load_plugins
from harness_plugin.training.batch import Batch, TrainingMetadata
from harness_plugin.training.contracts import Distiller
from harness_plugin.training.teacher_outputs import TeacherOutputs
from harness_plugin_hooks.distill.subspace import moments_of

DISTILLERS = load_plugins()["distiller"]
T = 2.0
ROWS, LABELS = 6, 3
RNG = np.random.default_rng(0)
STUDENT, TEACHER = RNG.normal(size=(2, ROWS, LABELS)) * 2
LABEL = np.array([0, 1, 2, 0, 1, 2])
GROUP = np.array([0, 0, 1, 1, 1, 0])
BIAS = RNG.dirichlet(np.ones(LABELS), size=ROWS)
FEATURES, THEIR_FEATURES = RNG.normal(size=(2, ROWS, 4))

FACTS = Path(harness_plugin_hooks.__file__).parent / "defaults.yaml"
DEFAULTS = {
    name: {option: fact.get("ours", fact["source"]) for option, fact in options.items()}
    for name, options in yaml.safe_load(FACTS.read_text())["distiller"].items()
}
"""Those of the data file, to which tests/hooks/test_defaults.py holds the code."""


# ---- references


def softmax(z):
    e = np.exp(z - np.max(z))
    return e / e.sum()


def kl(p, q):
    return float(sum(a * np.log(a / b) for a, b in zip(p, q, strict=True) if a > 0))


def unit(v):
    return v / np.sqrt((v**2).sum())


def correlation(a, b):
    return float(np.corrcoef(a, b)[0, 1])


def huber(x):
    return 0.5 * x * x if abs(x) < 1 else abs(x) - 0.5


def hinton(row):
    return kl(softmax(TEACHER[row] / T), softmax(STUDENT[row] / T))


def kd():
    return T**2 * np.mean([hinton(i) for i in range(ROWS)])


def dkd():
    total = 0.0
    for i, y in enumerate(LABEL):
        p, q = softmax(TEACHER[i] / T), softmax(STUDENT[i] / T)
        others = [c for c in range(LABELS) if c != y]
        target = kl((p[y], 1 - p[y]), (q[y], 1 - q[y]))
        rest = kl(p[others] / p[others].sum(), q[others] / q[others].sum())
        total += target + 8 * rest
    return T**2 * total / ROWS


def dist():
    p = np.array([softmax(z / T) for z in TEACHER])
    q = np.array([softmax(z / T) for z in STUDENT])
    inter = np.mean([1 - correlation(p[i], q[i]) for i in range(ROWS)])
    intra = np.mean([1 - correlation(p[:, c], q[:, c]) for c in range(LABELS)])
    return T**2 * (inter + intra)


def logit_standardisation():
    def scored(z):
        return (z - z.mean()) / z.std(ddof=1)

    return T**2 * np.mean(
        [kl(softmax(scored(TEACHER[i]) / T), softmax(scored(STUDENT[i]) / T)) for i in range(ROWS)]
    )


def bias_aware_kd():
    total = 0.0
    for i, y in enumerate(LABEL):
        target = softmax(TEACHER[i] / T) ** (1 - BIAS[i, y])
        total += kl(target / target.sum(), softmax(STUDENT[i] / T))
    return T**2 * total / ROWS


def disagree():
    apart = [kl(softmax(TEACHER[i] / 2), softmax(np.log(BIAS[i]) / 2)) for i in range(ROWS)]
    weights = [0.5 + 0.5 * d / np.mean(apart) for d in apart]
    assert max(weights) < 20
    return np.mean([T**2 * weights[i] * hinton(i) for i in range(ROWS)])


def group_dro_kd():
    means = [T**2 * np.mean([hinton(i) for i in np.flatnonzero(g == GROUP)]) for g in (0, 1)]
    q = np.exp(0.01 * np.array(means))
    return float((q / q.sum() * means).sum())


def hints():
    return kd() + 100 * np.mean((FEATURES - THEIR_FEATURES) ** 2)


def simkd():
    return np.mean((FEATURES - THEIR_FEATURES) ** 2)


def rkd():
    def distances(h):
        pairs = [[np.sqrt(((a - b) ** 2).sum()) for b in h] for a in h]
        return np.array(pairs) * ROWS * (ROWS - 1) / np.sum(pairs)

    def angles(h):
        result = np.zeros((ROWS,) * 3)
        for i in range(ROWS):
            for j in range(ROWS):
                for k in range(ROWS):
                    if i not in (j, k):
                        result[i, j, k] = unit(h[j] - h[i]) @ unit(h[k] - h[i])
        return result

    terms = [
        np.mean([huber(x) for x in (of(FEATURES) - of(THEIR_FEATURES)).ravel()])
        for of in (distances, angles)
    ]
    return kd() + 25 * terms[0] + 50 * terms[1]


def similarity_preserving():
    def similar(h):
        return np.array([unit(np.array([a @ b for b in h])) for a in h])

    difference = similar(FEATURES) - similar(THEIR_FEATURES)
    return kd() + 3000 * (difference**2).sum() / ROWS**2


def crd():
    total = 0.0
    cosine = np.array([[unit(a) @ unit(b) for b in THEIR_FEATURES] for a in FEATURES]) / 0.07
    for i in range(ROWS):
        total -= np.log(softmax(cosine[i])[i]) + np.log(softmax(cosine[:, i])[i])
    return kd() + 0.8 * total / 2 / ROWS


# ---- inside: two layers of a student, four of its teacher; 5 positions, of which some are padding

LENGTHS = [5, 3, 4, 5, 2, 5]
HEADS, WIDTH = 2, 6


def made_layers(depth, seed):
    rng = np.random.default_rng(seed)
    hidden, queries, keys, values = (
        rng.normal(size=(number, ROWS, 5, WIDTH)) for number in (depth + 1, depth, depth, depth)
    )
    return {"hidden": hidden, "queries": queries, "keys": keys, "values": values}


OURS, THEIRS = made_layers(2, 1), made_layers(4, 2)


def as_layers(arrays):
    real = torch.arange(5) < torch.tensor(LENGTHS)[:, None]
    tensors = {name: tuple(torch.from_numpy(value)) for name, value in arrays.items()}
    return Layers(**tensors, heads=HEADS, real=real)


def relation(left, right, row, heads=HEADS):
    """(heads, n, n) scaled products of the real tokens of a row."""
    n, size = LENGTHS[row], WIDTH // heads
    result = np.zeros((heads, n, n))
    for head in range(heads):
        part = slice(head * size, (head + 1) * size)
        for a in range(n):
            for b in range(n):
                result[head, a, b] = left[row, a, part] @ right[row, b, part] / np.sqrt(size)
    return result


PAIRS = [(0, 1), (1, 3)]  # layers of two and of four at the same depth, counted from 0


def attention_transfer():
    total = 0.0
    for row in range(ROWS):
        for mine, other in PAIRS:
            maps = []
            for model, layer in ((OURS, mine), (THEIRS, other)):
                heads = relation(model["queries"][layer], model["keys"][layer], row)
                seen = np.mean([[softmax(z) for z in head] for head in heads], axis=0)
                maps.append(unit(seen.ravel()))
            total += np.mean((maps[0] - maps[1]) ** 2)
    return kd() + 1000 * total / ROWS


def pkd():
    total = 0.0
    for row in range(ROWS):  # the student's first of two layers, the teacher's second of four
        total += np.mean((unit(OURS["hidden"][1][row, 0]) - unit(THEIRS["hidden"][2][row, 0])) ** 2)
    return kd() + 100 * total / ROWS


def tinybert():
    total = 0.0
    for row in range(ROWS):
        for mine, other in PAIRS:
            a, b = (
                relation(model["queries"][layer], model["keys"][layer], row)
                for model, layer in ((OURS, mine), (THEIRS, other))
            )
            total += np.mean((a - b) ** 2)
        for mine, other in [(0, 0), (1, 2), (2, 4)]:  # 0 are the embeddings
            n = LENGTHS[row]
            difference = OURS["hidden"][mine][row, :n] - THEIRS["hidden"][other][row, :n]
            total += np.mean(difference**2)
    return kd() + total / ROWS


def minilm():
    total = 0.0
    for row in range(ROWS):
        for left, right in (("queries", "keys"), ("values", "values")):
            ours = relation(OURS[left][-1], OURS[right][-1], row)
            theirs = relation(THEIRS[left][-1], THEIRS[right][-1], row)
            each = [
                kl(softmax(theirs[head, a]), softmax(ours[head, a]))
                for head in range(HEADS)
                for a in range(LENGTHS[row])
            ]
            total += np.mean(each)
    return kd() + total / ROWS


HEAD, OFFSET = RNG.normal(size=(LABELS, 4)), RNG.normal(size=LABELS)
"""The teacher's last layer, on features that have no part in its logits above."""


def log_odds(features):
    """Of the predicted label, whose gradient by the features is the context."""
    z = torch.from_numpy(HEAD) @ features + torch.from_numpy(OFFSET)
    best = int(z.argmax())
    return z[best] - torch.logsumexp(torch.cat([z[:best], z[best + 1 :]]), 0)


def kept_directions(size, basis="relevant"):
    """Mean, first eigenvectors and the mean variance in them, moments row by row."""
    rows = [torch.from_numpy(row).requires_grad_() for row in THEIR_FEATURES]
    contexts = [torch.autograd.grad(log_odds(row), row)[0].numpy() for row in rows]
    mean = sum(THEIR_FEATURES) / ROWS
    spread = sum(np.outer(a - mean, a - mean) for a in THEIR_FEATURES) / ROWS
    square = sum(np.outer(c, c) for c in contexts) / ROWS
    cross = sum(np.outer(a, c) for a, c in zip(THEIR_FEATURES, contexts, strict=True)) / ROWS
    cross -= np.outer(mean, sum(contexts) / ROWS)
    by = np.sqrt(np.trace(square) / np.trace(spread))
    m = cross + cross.T + 2 * by * spread + 2 / by * square if basis == "relevant" else spread
    values, vectors = np.linalg.eigh(m)
    kept = vectors[:, np.argsort(-values)[:size]]
    return mean, kept, np.mean([k @ spread @ k for k in kept.T])


def subspace():
    """Of features that are rotated already, as `forward` hands them over."""
    mean, kept, scale = kept_directions(4)
    turned = FEATURES
    centre, total = turned.mean(axis=0), 0.0  # the first batch is its own running mean
    signs = np.sign((kept * distiller_of("subspace").basis.numpy()).sum(axis=0))
    for row in range(ROWS):
        target = [
            s * (k @ (THEIR_FEATURES[row] - mean)) for s, k in zip(signs, kept.T, strict=True)
        ]
        total += np.mean([(a - b) ** 2 for a, b in zip(turned[row] - centre, target, strict=True)])
    return kd() + 100 * total / ROWS / scale


DIRECTIONS = {
    pair: (rng.normal(size=WIDTH), np.linalg.qr(rng.normal(size=(WIDTH, WIDTH)))[0], rng.uniform())
    for pair, rng in (((1, 2), np.random.default_rng(5)), ((2, 4), np.random.default_rng(6)))
}
"""Mean, directions and scale by layers of student and teacher."""


def subspace_layers():
    """Of hidden states that need no turning."""
    total = 0.0
    for (mine, other), (mean, basis, scale) in DIRECTIONS.items():
        tokens = [(row, place) for row in range(ROWS) for place in range(LENGTHS[row])]
        centre = np.mean([OURS["hidden"][mine][at] for at in tokens], axis=0)
        for row in range(ROWS):
            each = []
            for place in range(LENGTHS[row]):
                target = [k @ (THEIRS["hidden"][other][row, place] - mean) for k in basis.T]
                each.append(np.mean((OURS["hidden"][mine][row, place] - centre - target) ** 2))
            total += np.mean(each) / scale
    return kd() + 100 * total / ROWS


REFERENCES = {
    reference.__name__: reference
    for reference in (
        kd,
        dkd,
        dist,
        logit_standardisation,
        bias_aware_kd,
        disagree,
        group_dro_kd,
        hints,
        rkd,
        similarity_preserving,
        crd,
        simkd,
        subspace,
        subspace_layers,
        attention_transfer,
        pkd,
        tinybert,
        minilm,
    )
}


def distiller_of(name, **options):
    metadata = TrainingMetadata(
        torch.from_numpy(LABEL),
        torch.from_numpy(GROUP),
        LABELS,
        ("a", "b"),
        bias_log_probs=torch.from_numpy(np.log(BIAS)),
    )
    made = DISTILLERS.offer(name).subclass(Distiller)(T, metadata, **options)
    if name == "subspace":  # its directions are those of the teacher it is shown
        own = torch.from_numpy(THEIR_FEATURES).float().numpy()
        head, offset = (torch.from_numpy(x) for x in (HEAD, OFFSET))
        network = SimpleNamespace(head=torch.nn.Linear(4, LABELS))
        made.setup(network, TeacherOutputs(torch.from_numpy(TEACHER), own, head, offset))
    if name == "subspace_layers":
        for pair, directions in DIRECTIONS.items():
            made.add_pair(pair, WIDTH, *directions)
        made.rotations = torch.nn.ModuleList(torch.nn.Identity() for _ in DIRECTIONS)
        made.double()
    return made


def loss_of(distiller):
    """The distillation term, as the loop forms it."""
    outputs = {}
    if "layers" in distiller.teacher_outputs:
        student = ModelOutput(torch.from_numpy(STUDENT), torch.empty(0), as_layers(OURS))
        outputs |= distiller(student, as_layers(THEIRS))
    if "features" in distiller.teacher_outputs:
        outputs["features"] = torch.from_numpy(FEATURES)
        outputs["teacher_features"] = torch.from_numpy(THEIR_FEATURES)
    row = torch.arange(ROWS)
    batch = Batch(row, torch.from_numpy(LABEL), torch.from_numpy(GROUP), outputs=outputs)
    factor = T**2 if distiller.softened_only else 1.0
    each = distiller.loss(torch.from_numpy(STUDENT), torch.from_numpy(TEACHER), batch)
    return factor * each.mean().item()


@pytest.mark.parametrize("name", sorted(DISTILLERS.offers))
def test_the_loss_at_its_defaults_is_that_of_the_source(name):
    expected = REFERENCES[name]()
    assert abs(expected) > 0.05
    assert loss_of(distiller_of(name)) == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize("name", sorted(name for name in DEFAULTS if "logits" in DEFAULTS[name]))
def test_what_is_inside_alone_is_far_from_half_of_it(name):
    """The KL of the logits hides nothing: without it the reference holds as tightly."""
    without = REFERENCES[name]() - DEFAULTS[name]["logits"] * kd()
    assert loss_of(distiller_of(name, logits=0.0)) == pytest.approx(without, rel=1e-6)
    # minilm compares relations of random vectors: its term is the smallest
    assert without > 0.01


@pytest.mark.parametrize("basis", ["relevant", "pca"])
@pytest.mark.parametrize("size", [1, 2])
def test_the_kept_directions_are_the_first_eigenvectors(basis, size):
    mean, kept, scale = kept_directions(size, basis)
    made = distiller_of("subspace", basis=basis, size=size)
    assert made.mean.numpy() == pytest.approx(mean, abs=1e-6)
    assert made.scale.item() == pytest.approx(scale, rel=1e-5)
    assert np.abs(kept.T @ made.basis.numpy()) == pytest.approx(np.eye(size), abs=1e-5)
    turned = made.projector.weight
    assert (turned @ turned.T).detach().numpy() == pytest.approx(np.eye(size), abs=1e-5)


def test_what_the_answer_depends_on_is_kept_where_pca_keeps_what_varies():
    """One direction decides and hardly varies; another varies three times as much, unread."""
    rng = np.random.default_rng(0)
    features = (rng.normal(size=(500, 2)) * [1.0, 3.0]).astype(np.float32)
    head = np.array([[-9.0, 0.0], [9.0, 0.0]])
    for basis, kept in (("relevant", 0), ("pca", 1)):
        _, directions, _ = moments_of(features, head, np.zeros(2)).directions(1, basis)
        assert np.abs(directions[kept, 0]) > 0.9, basis


def test_disagreement_of_share_0_is_kd():
    assert loss_of(distiller_of("disagree", share=0.0)) == pytest.approx(kd(), rel=1e-6)


def test_feature_maps_of_a_resnet_are_summed_over_stages():
    """RepDistiller: mean over positions and rows, sum over stages; the stem is left out."""
    rng = np.random.default_rng(3)
    shapes = [(ROWS, 3, 8, 8), (ROWS, 4, 4, 4), (ROWS, 6, 2, 2)]
    ours, theirs = ([rng.normal(size=shape) for shape in shapes] for _ in range(2))

    def maps(stage, row):
        return unit(np.mean(stage[row] ** 2, axis=0).ravel())

    expected = sum(
        np.mean([(maps(a, row) - maps(b, row)) ** 2 for row in range(ROWS)])
        for a, b in zip(ours[1:], theirs[1:], strict=True)
    )
    result = distiller_of("attention_transfer").compare(
        *(Layers(tuple(map(torch.from_numpy, stages))) for stages in (ours, theirs))
    )
    assert result.mean().item() == pytest.approx(expected, rel=1e-6)


def test_patience_is_the_authors_mean_not_equation_7s_sum():
    """(L - 1) H = 3 x 8 times less than the sum, for which a weight of 100 would be 24 too many."""
    ours, theirs = (np.random.default_rng(s).normal(size=(5, ROWS, 1, 8)) for s in (4, 5))
    mean = distiller_of("pkd").compare(
        *(Layers(tuple(torch.from_numpy(x))) for x in (ours, theirs))
    )
    summed = sum(
        ((unit(ours[layer][0, 0]) - unit(theirs[layer][0, 0])) ** 2).sum() for layer in (1, 2, 3)
    )
    assert mean[0].item() == pytest.approx(summed / 24, rel=1e-6)
