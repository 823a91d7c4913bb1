"""Circuits: edge attribution and patching are exact where that can be known, and change nothing."""

import json
from collections import Counter
from types import SimpleNamespace

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from scipy import stats
from torch import nn
from transformers import AutoConfig, AutoModelForImageClassification
from transformers import AutoModelForSequenceClassification as Texts

from harness_plugin import HarnessError
from harness_plugin.analysis.inputs import AnalysisInput
from harness_plugin.cli.main import main
from harness_plugin.models.t5 import T5EncoderClassifierConfig
from harness_plugin.pipeline.split_stages import scratch_processor
from harness_plugin.training.encode import EncodedText
from harness_plugin_hooks.analyses.circuits import record as circuit_record
from harness_plugin_hooks.analyses.circuits.circuit import first_of, grown, sizes_of
from harness_plugin_hooks.analyses.circuits.comparison import compare, gini
from harness_plugin_hooks.analyses.circuits.compute import Asked, explore, margin
from harness_plugin_hooks.analyses.circuits.families import GRAPHS, graph_of
from harness_plugin_hooks.analyses.circuits.graphs import Graph, Node, Reader, Writer
from harness_plugin_hooks.analyses.circuits.options import CircuitOptions
from harness_plugin_hooks.analyses.circuits.pairs import (
    ALIKE,
    UNEQUAL,
    Pairs,
    exchanged,
    find_pairs,
    fitting,
    other_first,
)
from harness_plugin_hooks.analyses.circuits.patching import (
    attribute,
    check_parity,
    hooked,
    inexactness,
    patched,
    spoken,
)

SMALL = {
    "bert": {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2},
    "roberta": {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2},
    "distilbert": {"dim": 16, "n_layers": 2, "n_heads": 2, "hidden_dim": 32},
    "t5_encoder_classifier": {"d_model": 16, "num_layers": 2, "num_heads": 2, "d_kv": 8},
    "vit": {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2},
    "resnet": {"depths": [1, 2], "hidden_sizes": [8, 24], "embedding_size": 8},
}
IMAGES = ("vit", "resnet")


def model_of(kind, spread=0.1, seed=0):
    """A small model, in double precision, whose biases are not zero."""
    torch.manual_seed(seed)
    if kind in IMAGES:
        size = {"image_size": 32, "patch_size": 16} if kind == "vit" else {"layer_type": "basic"}
        config = AutoConfig.for_model(kind, **SMALL[kind], **size)
        model = AutoModelForImageClassification.from_config(config)
    elif kind.startswith("t5"):
        config = T5EncoderClassifierConfig(vocab_size=50, decoder_start_token_id=0, **SMALL[kind])
        model = Texts.from_config(config)
    else:
        model = Texts.from_config(AutoConfig.for_model(kind, vocab_size=50, **SMALL[kind]))
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(spread * torch.randn_like(parameter))
    return model.eval().double()


def inputs_of(kind, seed, padding=0):
    generator = torch.Generator().manual_seed(seed)
    if kind in IMAGES:
        return {"pixel_values": torch.randn(4, 3, 32, 32, generator=generator).double()}
    ids = torch.randint(5, 50, (4, 6), generator=generator)
    mask = torch.ones_like(ids)
    if padding:
        pad = torch.full((4, padding), 1 if kind == "roberta" else 0)
        ids, mask = torch.cat([ids, pad], 1), torch.cat([mask, 0 * pad], 1)
    return {"input_ids": ids, "attention_mask": mask}


def difference(logits):
    return logits[:, 0] - logits[:, 1]


def only(graph, *edges):
    """(E,) the mask of edges by number."""
    mask = torch.zeros(len(graph.edges), dtype=torch.bool)
    mask[list(edges)] = True
    return mask


# ---- a network whose answers are known


class Toy(nn.Module):
    """x = embed(v); a = first(x); b = second(x + a); logits = head(x + a + b)."""

    def __init__(self, act=None):
        super().__init__()
        torch.manual_seed(3)
        self.embed, self.first, self.second, self.head = (
            nn.Linear(a, b).double() for a, b in ((3, 5), (5, 5), (5, 5), (5, 2))
        )
        self.act = act or (lambda x: x)

    def forward(self, values):
        x = self.embed(values)
        a = self.act(self.first(x))
        b = self.act(self.second(x + a))
        return SimpleNamespace(logits=self.head(x + a + b))


def toy_graph(toy):
    nodes = (
        Node("input", "input", 0, None, 0.0),
        Node("a", "mlp", 1, None, 0.5),
        Node("b", "mlp", 2, None, 1.0),
        Node("output", "output", 2, None, 1.0),
    )
    writers = tuple(
        Writer(module, (i,)) for i, module in enumerate((toy.embed, toy.first, toy.second))
    )
    readers = (
        Reader(toy.first, ((1, ""),), (0,)),
        Reader(toy.second, ((2, ""),), (0, 1)),
        Reader(toy.head, ((3, ""),), (0, 1, 2)),
    )
    return Graph("toy", nodes, writers, readers)


@pytest.fixture
def toy():
    model = Toy().eval()
    return model, toy_graph(model), *({"values": torch.randn(4, 3).double()} for _ in range(2))


@pytest.mark.parametrize("steps", [0, 1, 3])
def test_on_a_linear_network_every_score_is_the_exact_effect(toy, steps):
    model, graph, clean, other = toy
    assert [f"{a}>{b}" for a, b in graph.names] == [
        "input>a",
        "input>b",
        "a>b",
        "input>output",
        "a>output",
        "b>output",
    ]
    logits, _ = spoken(model, graph, clean)
    corrupted_logits, corrupted = spoken(model, graph, other)
    scores, total = attribute(model, graph, clean, corrupted, difference, steps)
    effect = difference(corrupted_logits) - difference(logits)
    assert torch.allclose(total, effect)
    assert torch.allclose(scores[:, 3:].sum(dim=1), effect)  # all edges into the output
    for edge in range(len(graph.edges)):
        cut = patched(model, graph, clean, corrupted, ~only(graph, edge))
        # corrupted - clean; an edge's own share, as what its source says has not changed
        assert torch.allclose(scores[:, edge], difference(cut) - difference(logits))


def test_integrated_gradients_become_complete_faster_with_midpoints():
    model = Toy(torch.tanh).eval()
    graph = toy_graph(model)
    clean, other = ({"values": 2 * torch.randn(16, 3).double()} for _ in range(2))
    (logits, said), (corrupted_logits, corrupted) = (
        spoken(model, graph, inputs) for inputs in (clean, other)
    )
    effect = difference(corrupted_logits) - difference(logits)

    def gap(steps):
        _, total = attribute(model, graph, clean, corrupted, difference, steps)
        return float((total - effect).abs().max())

    assert gap(64) < 1e-3 * gap(0)
    left = torch.zeros_like(effect)  # Riemann sum from the corrupted end, as in EAP-IG's code
    for k in range(8):
        start = (corrupted[0] + k / 8 * (said[0] - corrupted[0])).requires_grad_()
        with hooked([model.embed.register_forward_hook(lambda _, __, ___, said=start: said)]):
            value = difference(model(**clean).logits).sum()
        (gradient,) = torch.autograd.grad(value, start)
        left += ((corrupted[0] - said[0]) * gradient).sum(dim=1) / 8
    assert gap(8) < float((left - effect).abs().max()) / 3


def kl(reference):
    """KL divergence from the clean run's answer: its gradient there is zero."""
    return lambda logits: (
        reference.softmax(1) * (reference.log_softmax(1) - logits.log_softmax(1))
    ).sum(dim=1)


def test_a_metric_flat_at_the_clean_run_needs_integrated_gradients(toy):
    model, graph, clean, other = toy
    logits, _ = spoken(model, graph, clean)
    _, corrupted = spoken(model, graph, other)
    flat, _ = attribute(model, graph, clean, corrupted, kl(logits), 0)
    assert flat.abs().max() < 1e-12
    found, _ = attribute(model, graph, clean, corrupted, kl(logits), 10)
    assert found.abs().max() > 1e-2


def test_in_a_hand_made_network_the_one_head_that_matters_is_found():
    model = model_of("t5_encoder_classifier")
    first, second = (block.layer for block in model.encoder.block)
    with torch.no_grad():
        for layer in (first, second):
            layer[0].SelfAttention.o.weight.zero_()
            layer[1].DenseReluDense.wo.weight.zero_()
        model.shared.weight[:, 8:] = 0  # tokens speak in one half of the stream
        second[0].SelfAttention.o.weight[8:, 8:] = torch.randn(8, 8)  # head 1 in the other
        second[0].SelfAttention.v.weight.mul_(3)
        model.classifier.weight[:, :8] = 0  # which alone is read
        for norm in (second[0].layer_norm, model.encoder.final_layer_norm):
            norm.weight.fill_(1)
    graph = graph_of(model)
    clean, other = (inputs_of("t5", seed) for seed in (1, 2))
    logits, _ = spoken(model, graph, clean)
    _, corrupted = spoken(model, graph, other)
    scores, _ = attribute(model, graph, clean, corrupted, difference, 10)
    mean = scores.mean(dim=0).abs().numpy()
    named = [" > ".join(names) for names in graph.names]
    alive = {named[edge] for edge in np.flatnonzero(mean > 1e-12)}
    circuit = {"attn2.h1 > output", *(f"input > attn2.h1.{port}" for port in "qkv")}
    assert circuit <= alive <= circuit | {"input > output"}  # the final norm's scale
    order = grown(graph, mean)
    assert named[order[0]] == "attn2.h1 > output"
    assert {named[edge] for edge in order[:5]} <= alive | {"input > output"}
    kept = only(graph, *(named.index(edge) for edge in circuit))
    full, nothing = difference(logits), difference(spoken(model, graph, other)[0])
    left = difference(patched(model, graph, clean, corrupted, kept))
    assert float((left - full).abs().mean()) < 0.1 * float((nothing - full).abs().mean())
    without = difference(patched(model, graph, clean, corrupted, ~kept))
    assert float((without - nothing).abs().mean()) < 0.1 * float((nothing - full).abs().mean())


# ---- the architectures


@pytest.mark.parametrize("kind", sorted(SMALL))
def test_every_architecture(kind):
    model = model_of(kind)
    graph = graph_of(model)
    clean, other = (inputs_of(kind, seed, padding=2) for seed in (1, 2))
    before = model(**clean).logits
    assert max(inexactness(model, graph, clean, other)) < 1e-12  # inputs are sums
    logits, said = spoken(model, graph, clean)
    corrupted_logits, corrupted = spoken(model, graph, other)
    every = only(graph, *range(len(graph.edges)))
    assert torch.equal(patched(model, graph, clean, corrupted, every), logits)
    assert torch.allclose(patched(model, graph, clean, corrupted, ~every), corrupted_logits)
    # a small step: the score is the effect of cutting the edge (T5's norm is float32 inside)
    step, close, noise = (1e-4, 3e-2, 2e-6) if kind.startswith("t5") else (1e-6, 1e-3, 1e-12)
    near = [a + step * (b - a) for a, b in zip(said, corrupted, strict=True)]
    scores, _ = attribute(model, graph, clean, near, difference, 0)
    chosen = np.random.default_rng(0).choice(len(graph.edges), 12, replace=False)
    for edge in {*chosen.tolist(), 0, len(graph.edges) - 1}:
        cut = patched(model, graph, clean, near, ~only(graph, edge))
        effect = difference(cut) - difference(logits)
        assert torch.allclose(scores[:, edge], effect, rtol=close, atol=noise)
    assert torch.equal(model(**clean).logits, before)
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in model.modules())


def test_the_graph_of_bert_has_its_norms_for_nodes():
    model = model_of("bert")
    graph = graph_of(model)
    into = Counter(edge[1] for edge in graph.names)
    assert into["norm1a"] == 3  # the residual and two heads
    assert into["norm1b"] == 2
    assert into["mlp1"] == into["attn2.h1.v"] == into["output"] == 1
    assert ("norm1b", "attn2.h0.q") in graph.names
    inputs, seen = inputs_of("bert", 1), []
    layer = model.bert.encoder.layer[0].attention.output
    look = layer.LayerNorm.register_forward_pre_hook(lambda _, given: seen.append(given[0]))
    with hooked([look]):
        _, said = spoken(model, graph, inputs)
    heads = graph.writers[1].mixed(said[1], torch.ones(1, 2, dtype=torch.float64))[0]
    assert torch.allclose(said[0] + heads + layer.dense.bias, seen[0], atol=1e-6)


def test_the_graph_of_a_pre_norm_model_is_its_residual_stream():
    for kind in ("vit", "t5_encoder_classifier"):
        graph = graph_of(model_of(kind))
        into = Counter(edge[1] for edge in graph.names)
        assert (into["attn1.h0.q"], into["mlp1"], into["attn2.h0.k"]) == (1, 3, 4)
        assert (into["mlp2"], into["output"]) == (6, 7)
        assert [node.depth for node in graph.nodes if node.kind == "mlp"] == [0.5, 1.0]


def test_a_resnet_is_taken_by_groups_of_channels():
    graph = graph_of(model_of("resnet"))
    ends = Counter(target for _, target in graph.names)
    assert ends == {"stage1.block1": 8, "stage2.block1": 8, "stage2.block2": 16, "output": 16}
    owner = graph.writers[2].owner
    assert len(owner) == 24
    assert set(owner.tolist()) == set(range(16))
    sources = [source for source, target in graph.names if target == "stage2.block2"]
    assert sources[:3] == ["stage2.block1.c0-1", "stage2.block1.c2", "stage2.block1.c3-4"]


def zeroed(start, stop):
    """A hook that zeroes a slice of the last axis of what a module is given."""

    def zero(_, given):
        values = given[0].clone()
        values[..., start:stop] = 0
        return (values,)

    return zero


@pytest.mark.parametrize("kind", ["bert", "vit", "t5_encoder_classifier"])
def test_ablating_heads_ablates_heads(kind):
    model = model_of(kind)
    graph, inputs = graph_of(model), inputs_of(kind, 1)
    _, said = spoken(model, graph, inputs)
    nothing = [*said]
    nothing[1] = torch.zeros_like(said[1])
    out = graph.writers[1].module
    for heads, (start, stop) in (((0,), (0, 8)), ((1,), (8, 16)), ((0, 1), (0, 16))):
        nodes = {graph.writers[1].nodes[head] for head in heads}
        cut = [number for number, edge in enumerate(graph.edges) if edge.source in nodes]
        with hooked([out.register_forward_pre_hook(zeroed(start, stop))]):
            expected = model(**inputs).logits
        found = patched(model, graph, inputs, nothing, ~only(graph, *cut))
        assert torch.allclose(found, expected, atol=1e-10)
        assert not torch.allclose(found, model(**inputs).logits, atol=1e-6)


@pytest.mark.parametrize("kind", ["distilbert", "vit"])
@pytest.mark.parametrize("port", ["q", "k", "v"])
def test_cutting_an_edge_into_one_head_leaves_the_others_bit_identical(kind, port):
    model = model_of(kind)
    graph, (clean, other) = graph_of(model), (inputs_of(kind, seed) for seed in (1, 2))
    _, said = spoken(model, graph, clean)
    _, corrupted = spoken(model, graph, other)
    edge = graph.names.index(("input", f"attn1.h1.{port}"))
    seen = []
    look = graph.writers[1].module.register_forward_pre_hook(lambda _, given: seen.append(given[0]))
    with hooked([look]):
        patched(model, graph, clean, corrupted, ~only(graph, edge))
    assert torch.equal(seen[0][..., :8], said[1][..., :8])
    assert not torch.allclose(seen[0][..., 8:], said[1][..., 8:], atol=1e-6)


@pytest.mark.parametrize("kind", ["bert", "roberta", "t5_encoder_classifier"])
def test_padding_changes_no_value(kind):
    model = model_of(kind)
    graph, found = graph_of(model), []
    some = only(graph, *range(0, len(graph.edges), 2))
    for padding in (0, 5):
        clean, other = (inputs_of(kind, seed, padding) for seed in (1, 2))
        _, corrupted = spoken(model, graph, other)
        scores, total = attribute(model, graph, clean, corrupted, difference, 3)
        found.append((scores, total, patched(model, graph, clean, corrupted, some)))
    for one, padded in zip(*found, strict=True):
        assert torch.allclose(one, padded, atol=1e-8)


def test_hooks_are_gone_after_an_error():
    model = model_of("bert")
    graph, inputs = graph_of(model), inputs_of("bert", 1)
    before = model(**inputs).logits
    _, said = spoken(model, graph, inputs)
    wrong = [part[:, :2] for part in said]
    with pytest.raises(RuntimeError):
        patched(model, graph, inputs, wrong, only(graph, 0))
    with pytest.raises(ZeroDivisionError):
        attribute(model, graph, inputs, said, lambda logits: 1 / 0, 2)
    assert torch.equal(model(**inputs).logits, before)
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in model.modules())


def test_what_has_no_circuit_here_is_named():
    model = SimpleNamespace(config=SimpleNamespace(model_type="deberta-v2"))
    with pytest.raises(HarnessError, match=r"'deberta-v2'.*bert, distilbert, resnet"):
        graph_of(model)
    model = model_of("bert")
    graph, inputs = graph_of(model), inputs_of("bert", 1)
    with pytest.raises(HarnessError, match="eval mode"):
        spoken(model.train(), graph, inputs)
    # a model that computes something else than its graph says is found out
    model.eval().bert.encoder.layer[0].output.LayerNorm.register_forward_pre_hook(
        lambda _, given: (given[0] ** 2,)
    )
    assert max(inexactness(model, graph, inputs, inputs_of("bert", 2))) > 0.1


def test_pairs_of_unequal_length_are_refused():
    clean = inputs_of("bert", 1)
    longer = inputs_of("bert", 2, padding=1)
    with pytest.raises(HarnessError, match="unequal length"):
        check_parity(clean, longer)
    padded = inputs_of("bert", 1, padding=1)
    longer["attention_mask"][2, -1] = 1
    with pytest.raises(HarnessError, match=r"pair 2 of the batch.*unequal token length"):
        check_parity(padded, longer)
    check_parity(padded, inputs_of("bert", 2, padding=1))


# ---- pairs


def test_words_are_exchanged():
    assert exchanged("She is not here.") == "She is also here."
    assert exchanged("Nobody saw all of it") == "Everybody saw all of it"
    assert exchanged("They always saw it") == "They never saw it"
    assert exchanged("They saw it") is None
    first = ["a b", "c d", "e", "f g h", "i j k"]
    pairs = other_first(first, list("vwxyz"), np.random.default_rng(0))
    assert pairs == [("c d", "v"), ("a b", "w"), None, ("i j k", "y"), ("f g h", "z")]


def texts(*rows):
    offsets = np.cumsum([0, *map(len, rows)])
    return EncodedText(np.concatenate(rows).astype(np.int32), offsets, None, 0)


def test_only_pairs_that_all_models_read_as_different_and_equally_long_count():
    clean = [texts([5, 6], [7, 8, 9], [5, 6], [5, 7]), texts([5, 6], [7, 8], [5, 6], [5, 7])]
    twins = [texts([6, 5], [9, 8], [5, 6], [7, 5]), texts([6, 5], [8, 7], [6, 5], [7, 5, 5])]
    left, sample = Counter(), SimpleNamespace(encoded=clean)
    kept = fitting(sample, np.arange(4), twins, left)
    assert kept.tolist() == [0]
    assert left == {UNEQUAL: 2, ALIKE: 1}


def test_images_have_twins_of_another_colour(open_context):
    ctx = open_context("cmnist.n_train=40", "cmnist.n_test=400", task="cmnist")
    split = ctx.data.evaluation[0]
    task = SimpleNamespace(ctx=ctx)
    subject = SimpleNamespace(path=scratch_processor(ctx).path, max_length=0)
    clean = ctx.encoded(split, ctx.settings.student)
    rows = {"all": np.arange(len(split))}
    sample = AnalysisInput(task, split, [subject], [clean], rows)
    pairs = find_pairs(sample, "auto", 10, 0)
    assert (pairs.kind, len(pairs), pairs.notes) == ("counterfactual", 10, ())
    first = clean.batch(pairs.rows)["pixel_values"]
    twins = pairs.twins[0].batch(pairs.twin)["pixel_values"]
    assert (first != twins).flatten(1).any(dim=1).all()
    means = find_pairs(sample, "mean", 6, 0)
    assert (len(means), means.twins) == (6, None)
    with pytest.raises(HarnessError, match="swap"):
        find_pairs(sample, "swop", 6, 0)
    with pytest.raises(HarnessError, match="it has counterfactual, mean"):
        find_pairs(sample, "swap", 6, 0)


# ---- circuits


@pytest.fixture(scope="module")
def found():
    """Circuits of two BERTs and of a deeper one, in single precision, from 12 pairs."""
    rng = np.random.default_rng(0)
    rows = [rng.integers(5, 50, length) for length in (4, 5, 5, 6, 6, 6, 6, 7, 7, 8, 8, 9)]
    clean, twins = texts(*rows), texts(*(row[::-1] for row in rows))
    group = np.array(["aligned", "conflicting"] * 6)
    every = np.arange(12)
    pairs = Pairs("swap", every, group, [clean], [twins], every, {})
    options = CircuitOptions(ig_steps=2, random_circuits=2, resamples=100)

    def circuit(model, role, twins=twins):
        subject = SimpleNamespace(model=model.float(), role=role, seed=0)
        with torch.no_grad():  # the class that the twin speaks against: every effect has one sign
            said = model(**clean.batch(every)).logits
            said = said if twins is None else said - model(**twins.batch(every)).logits
        gold = said.argmax(dim=1).numpy()
        asked = (subject, pairs, clean, twins, np.array([0, 1]), gold, options)
        return explore(*asked, device=torch.device("cpu"), quiet=True)

    size = {**SMALL["bert"], "num_hidden_layers": 3}
    deeper = AutoConfig.for_model("bert", vocab_size=50, **size)
    torch.manual_seed(0)
    return {
        "student": circuit(model_of("bert", 0.3), "student"),
        "control": circuit(model_of("bert", 0.3, seed=1), "control"),
        "teacher": circuit(Texts.from_config(deeper).eval(), "teacher"),
        "mean": circuit(model_of("bert", 0.3), "student", None),
    }


@pytest.mark.parametrize("name", ["student", "teacher", "mean"])
def test_the_curve_begins_at_0_and_ends_at_1(found, name):
    circuit = found[name]
    assert not circuit.reason
    for kept in (circuit.kept, *circuit.random_kept):
        faithful = circuit.faithfulness(kept)
        assert faithful[0, 0] == 0
        assert faithful[0, -1] == pytest.approx(1, abs=1e-12)
    for removed in (circuit.removed, *circuit.random_removed):
        assert circuit.faithfulness(removed)[0, 0] == pytest.approx(1, abs=1e-12)
        assert circuit.faithfulness(removed)[0, -1] == 0
    shares = circuit.sizes / circuit.sizes[-1]
    values = circuit.faithfulness(circuit.kept)[0]
    by_hand = sum(
        (b - a) * (u + v) / 2
        for a, b, u, v in zip(shares, shares[1:], values, values[1:], strict=False)
    )
    assert circuit.area(circuit.kept) == pytest.approx(by_hand)
    size = circuit.size_90
    assert values[list(circuit.sizes).index(size)] >= 0.9
    assert (values[: list(circuit.sizes).index(size)] < 0.9).all()


def test_faithfulness_is_undefined_where_the_corruption_changes_nothing(found):
    circuit = found["student"]
    same = type(circuit)(**{**vars_of(circuit), "empty": circuit.full})
    assert "over 12 pairs the corruption changes the metric by 0 only" in same.reason
    # a mean of .05 with deviations of .2 over 12 pairs: 2.201 * .2 * sqrt(12 / 11) / sqrt(12)
    noise = np.resize([0.25, -0.15], 12)
    noisy = type(circuit)(**{**vars_of(circuit), "empty": circuit.full - noise})
    assert "the corruption changes the metric by 0.05 ± 0.13" in noisy.reason
    assert np.isnan(noisy.area(noisy.kept))
    assert np.isnan(same.faithfulness(same.kept)).all()
    assert same.size_90 is None
    record = circuit_record.model_record(same)
    assert record["faithfulness"]["reason"] == same.reason


def test_faithfulness_and_masses_have_intervals_over_pairs(found):
    """By Fieller from the pairs' own variances; 12 pairs are too few for any."""
    few = found["student"]
    low, high = few.faithfulness_bounds(few.kept)
    assert np.isnan([*low, *high, *few.mass_bounds[0]]).all()
    assert few.no_interval == "no interval: 12 pairs, it takes 30"
    rng = np.random.default_rng(0)
    n, edges = 80, len(few.score)
    change = rng.normal(3, 1, n)
    kept = np.stack([0 * change, 0.6 * change + rng.normal(0, 1, n), change])
    scores = rng.normal(0.5, 1, (n, edges))
    counts = np.vstack([np.ones(n), rng.multinomial(n, np.full(n, 1 / n), size=2000)])
    made = {"full": change, "empty": 0 * change, "kept": kept, "scores": scores, "counts": counts}
    for sign in (1, -1):  # a corruption may raise the metric
        flipped = {**made, "full": sign * change, "kept": sign * kept}
        many = type(few)(**{**vars_of(few), **flipped})
        low, high = many.faithfulness_bounds(many.kept)
        assert (low[0], high[0]) == (0, 0)
        assert (low[2], high[2]) == pytest.approx((1, 1))
        z2 = stats.t.ppf(0.975, n - 1) ** 2 / n
        (nn, nd), (_, dd) = np.cov(kept[1], change) * z2
        a, b = change.mean() ** 2 - dd, kept[1].mean() * change.mean() - nd
        root = np.sqrt(b**2 - a * (kept[1].mean() ** 2 - nn))
        assert (low[1], high[1]) == pytest.approx(((b - root) / a, (b + root) / a), rel=0.02)
    by_pair = np.abs(scores.mean(axis=0)) @ many.owner[:, 0]
    signs = np.sign(scores.mean(axis=0)) * many.owner[:, 0]
    half = np.sqrt(z2) * (scores @ signs).std(ddof=1)
    low, high = many.mass_bounds
    assert (low[0], high[0]) == pytest.approx((by_pair - half, by_pair + half), rel=0.05)


def vars_of(circuit):
    return {name: getattr(circuit, name) for name in circuit.__dataclass_fields__}


def test_masses_and_profiles(found):
    circuit = found["student"]
    scores = dict(zip(circuit.graph.names, circuit.score, strict=True))
    nodes = {circuit.graph.nodes[node].id: at for at, node in enumerate(circuit.speaking)}
    by_hand = sum(abs(score) for (source, _), score in scores.items() if source == "input")
    assert circuit.mass[0, nodes["input"]] == pytest.approx(by_hand)
    depths, shares = circuit.profile
    assert shares.sum() == pytest.approx(1)
    assert set(depths) == {0.5, 1.0}
    assert "output" not in nodes
    assert circuit.mass.shape == (101, len(circuit.speaking))


def test_circuits_are_compared(found):
    same = compare(found["student"], found["student"])
    assert (same.jaccard, same.profile_distance) == (1, 0)
    assert same.spearman == pytest.approx(1)
    assert all(match.first == match.second for match in same.matched)
    assert len(same.matched) == 4
    twins = compare(found["student"], found["control"])
    assert 0 <= twins.jaccard <= 1
    assert twins.jaccard_chance == pytest.approx((4 / 25) / (4 - 4 / 25))  # 2 of 25 edges
    other = compare(found["teacher"], found["student"])
    assert np.isnan(other.jaccard)
    assert "the graphs differ: post-LN, 37 edges, and post-LN, 25 edges" in other.reasons["jaccard"]
    assert other.profile_distance > 0
    # the student's layer 1 of 2 goes with the teacher's layer 1 or 2 of 3, layer 2 with layer 3
    assert {match.first[:5] for match in other.matched if match.second.startswith("attn2")} == {
        "attn3"
    }


def test_gini_by_hand():
    assert gini(np.array([1.0, 1.0, 1.0])) == pytest.approx(0)
    assert gini(np.array([0.0, 0.0, 0.0, 1.0])) == pytest.approx(0.75)
    assert gini(np.array([1.0, 3.0])) == pytest.approx(0.25)
    assert np.isnan(gini(np.zeros(3)))


def test_a_circuit_grows_from_the_output():
    graph = toy_graph(Toy())
    strength = np.array([9.0, 8.0, 7.0, 1.0, 3.0, 2.0])
    named = [">".join(graph.names[edge]) for edge in grown(graph, strength)]
    assert named == ["a>output", "input>a", "b>output", "input>b", "a>b", "input>output"]
    masks = first_of(grown(graph, strength), np.array([0, 2, 6]))
    assert masks.sum(axis=1).tolist() == [0, 2, 6]
    assert masks[1].tolist() == [True, False, False, False, True, False]
    resnet = graph_of(model_of("resnet"))
    assert sorted(grown(resnet, np.ones(48))) == list(range(48))
    assert sizes_of(25).tolist() == [0, 1, 2, 3, 5, 8, 10, 13, 15, 20, 25]
    assert sizes_of(1000)[:4].tolist() == [0, 5, 10, 20]


def test_the_metric_by_hand():
    # entailment, neutral, contradiction: the last two are one label of the set
    targets, gold = torch.tensor([0, 1, 1]), torch.tensor([0, 1])
    logits = torch.tensor([[2.0, 0.0, 1.0], [2.0, 0.0, 1.0]])
    metric = margin(logits, targets, gold)
    assert metric(logits).tolist() == [1.0, -1.0]
    # classes stay those of the clean run
    assert metric(torch.tensor([[0.0, 9.0, 1.0], [0.0, 9.0, 1.0]])).tolist() == [-1.0, 1.0]
    left_out = margin(logits, torch.tensor([0, 1, -1]), torch.tensor([0, 1]))
    assert left_out(logits).tolist() == [2.0, -2.0]


def test_means_are_over_real_positions():
    model = model_of("bert").float()
    graph = graph_of(model)
    clean = texts([5, 6, 7], [8, 9], [10])
    every = np.arange(3)
    pairs = Pairs("mean", every, np.array(["all"] * 3), [clean], None, every, {})
    asked = Asked(model, graph, pairs, clean, None, torch.arange(2), every % 2, torch.device("cpu"))
    alone = [spoken(model, graph, clean.batch(every[i : i + 1]))[1][0][0] for i in range(3)]
    assert torch.allclose(asked.means[0], torch.cat(alone).mean(dim=0), atol=1e-6)


# ---- the command

QUICK = ["--circuits", "--pairs", "24", "--ig_steps", "2", "--resamples", "100"]


@pytest.fixture
def run_folder(toy_run, tmp_path):
    """The run's files in a folder of this test's own."""
    toy_run.copied(tmp_path / "run")
    return tmp_path / "run"


def test_a_finished_run_has_circuits(run_folder, capsys):
    assert main(["analyze", str(run_folder), *QUICK]) == 0
    said = capsys.readouterr().out
    assert "circuits, 24 pairs of kind premise" in said
    assert "corruption 'swap' was not used: 0 pairs" in said
    (file,) = run_folder.glob("analysis_toy_*.json")
    record = json.loads(file.read_text(), parse_constant=lambda text: pytest.fail(text))["circuits"]
    assert [model["role"] for model in record["models"]] == ["teacher", "student", "control"]
    for model in record["models"]:
        curve = model["faithfulness"]
        size = len(curve["sizes"])
        assert [len(curve[name]) for name in ("values", "low", "random", "removed")] == [size] * 4
        assert curve["sizes"][-1] == model["n_edges"]
        assert model["metric_full"] != model["metric_empty"]
        assert sum(part["mass"] for part in model["profile"]) == pytest.approx(1)
        assert {group["pairs"] for group in model["by_group"].values()} == {12}
        strengths = [abs(edge["score"]) for edge in model["edges"]]
        assert strengths == sorted(strengths, reverse=True)
        names = {node["id"] for node in model["nodes"]}
        assert {edge["from"] for edge in model["edges"]} <= names
    pairs = {(one["first"], one["second"]): one for one in record["comparisons"]}
    assert pairs["teacher", "student"]["jaccard"] is None
    assert "the graphs differ" in pairs["teacher", "student"]["reason"]
    assert pairs["student", "control"]["jaccard"] is not None
    (table,) = run_folder.glob("analysis_toy_*_circuits.parquet")
    rows = pq.read_table(table).to_pylist()
    assert len(rows) == sum(model["n_edges"] for model in record["models"])


def test_wrong_words_and_models_without_a_graph(run_folder, capsys, monkeypatch):
    for words, said in (
        (["--corruption", "negation"], "pairs of kind 'negation' in group"),
        (["--corruption", "counterfactual"], "it has swap, negation, premise, mean"),
        (["--ig_steps", "-1"], "--ig_steps -1: expected at least 0"),
    ):
        assert main(["analyze", str(run_folder), *QUICK, *words]) == 2
        assert said in capsys.readouterr().err
    monkeypatch.delitem(GRAPHS, "bert")
    assert main(["analyze", str(run_folder), *QUICK]) == 0
    assert "teacher seed 0 is left out: no circuits of Bert" in capsys.readouterr().out
