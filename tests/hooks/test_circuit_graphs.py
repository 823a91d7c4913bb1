"""Edge attribution and patching: exact where that can be known, for every architecture."""

from collections import Counter
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from small_models import SMALL, difference, inputs_of, model_of, only
from torch import nn

from harness_plugin import HarnessError
from harness_plugin_hooks.analyses.circuits.circuit import first_of, grown, sizes_of
from harness_plugin_hooks.analyses.circuits.families import graph_of
from harness_plugin_hooks.analyses.circuits.graphs import Graph, Node, Reader, Writer
from harness_plugin_hooks.analyses.circuits.patching import (
    attribute,
    check_parity,
    hooked,
    inexactness,
    patched,
    spoken,
)

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
    (logits, output), (corrupted_logits, corrupted) = (
        spoken(model, graph, inputs) for inputs in (clean, other)
    )
    effect = difference(corrupted_logits) - difference(logits)

    def gap(steps):
        _, total = attribute(model, graph, clean, corrupted, difference, steps)
        return float((total - effect).abs().max())

    assert gap(64) < 1e-3 * gap(0)
    left = torch.zeros_like(effect)  # Riemann sum from the corrupted end, as in EAP-IG's code
    for k in range(8):
        start = (corrupted[0] + k / 8 * (output[0] - corrupted[0])).requires_grad_()
        with hooked([model.embed.register_forward_hook(lambda _, __, ___, output=start: output)]):
            value = difference(model(**clean).logits).sum()
        (gradient,) = torch.autograd.grad(value, start)
        left += ((corrupted[0] - output[0]) * gradient).sum(dim=1) / 8
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
    result, _ = attribute(model, graph, clean, corrupted, kl(logits), 10)
    assert result.abs().max() > 1e-2


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
    logits, output = spoken(model, graph, clean)
    corrupted_logits, corrupted = spoken(model, graph, other)
    every = only(graph, *range(len(graph.edges)))
    assert torch.equal(patched(model, graph, clean, corrupted, every), logits)
    assert torch.allclose(patched(model, graph, clean, corrupted, ~every), corrupted_logits)
    # a small step: the score is the effect of cutting the edge (T5's norm is float32 inside)
    step, close, noise = (1e-4, 3e-2, 2e-6) if kind.startswith("t5") else (1e-6, 1e-3, 1e-12)
    near = [a + step * (b - a) for a, b in zip(output, corrupted, strict=True)]
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
    look = layer.LayerNorm.register_forward_pre_hook(lambda _, values: seen.append(values[0]))
    with hooked([look]):
        _, output = spoken(model, graph, inputs)
    heads = graph.writers[1].mixed(output[1], torch.ones(1, 2, dtype=torch.float64))[0]
    assert torch.allclose(output[0] + heads + layer.dense.bias, seen[0], atol=1e-6)


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

    def zero(_, arguments):
        values = arguments[0].clone()
        values[..., start:stop] = 0
        return (values,)

    return zero


@pytest.mark.parametrize("kind", ["bert", "vit", "t5_encoder_classifier"])
def test_ablating_heads_ablates_heads(kind):
    model = model_of(kind)
    graph, inputs = graph_of(model), inputs_of(kind, 1)
    _, output = spoken(model, graph, inputs)
    nothing = [*output]
    nothing[1] = torch.zeros_like(output[1])
    out = graph.writers[1].module
    for heads, (start, stop) in (((0,), (0, 8)), ((1,), (8, 16)), ((0, 1), (0, 16))):
        nodes = {graph.writers[1].nodes[head] for head in heads}
        cut = [number for number, edge in enumerate(graph.edges) if edge.source in nodes]
        with hooked([out.register_forward_pre_hook(zeroed(start, stop))]):
            expected = model(**inputs).logits
        result = patched(model, graph, inputs, nothing, ~only(graph, *cut))
        assert torch.allclose(result, expected, atol=1e-10)
        assert not torch.allclose(result, model(**inputs).logits, atol=1e-6)


@pytest.mark.parametrize("kind", ["distilbert", "vit"])
@pytest.mark.parametrize("port", ["q", "k", "v"])
def test_cutting_an_edge_into_one_head_leaves_the_others_bit_identical(kind, port):
    model = model_of(kind)
    graph, (clean, other) = graph_of(model), (inputs_of(kind, seed) for seed in (1, 2))
    _, output = spoken(model, graph, clean)
    _, corrupted = spoken(model, graph, other)
    edge = graph.names.index(("input", f"attn1.h1.{port}"))
    seen = []
    look = graph.writers[1].module.register_forward_pre_hook(
        lambda _, values: seen.append(values[0])
    )
    with hooked([look]):
        patched(model, graph, clean, corrupted, ~only(graph, edge))
    assert torch.equal(seen[0][..., :8], output[1][..., :8])
    assert not torch.allclose(seen[0][..., 8:], output[1][..., 8:], atol=1e-6)


@pytest.mark.parametrize("kind", ["bert", "roberta", "t5_encoder_classifier"])
def test_padding_changes_no_value(kind):
    model = model_of(kind)
    graph, result = graph_of(model), []
    some = only(graph, *range(0, len(graph.edges), 2))
    for padding in (0, 5):
        clean, other = (inputs_of(kind, seed, padding) for seed in (1, 2))
        _, corrupted = spoken(model, graph, other)
        scores, total = attribute(model, graph, clean, corrupted, difference, 3)
        result.append((scores, total, patched(model, graph, clean, corrupted, some)))
    for one, padded in zip(*result, strict=True):
        assert torch.allclose(one, padded, atol=1e-8)


def test_hooks_are_gone_after_an_error():
    model = model_of("bert")
    graph, inputs = graph_of(model), inputs_of("bert", 1)
    before = model(**inputs).logits
    _, output = spoken(model, graph, inputs)
    wrong = [part[:, :2] for part in output]
    with pytest.raises(RuntimeError):
        patched(model, graph, inputs, wrong, only(graph, 0))
    with pytest.raises(ZeroDivisionError):
        attribute(model, graph, inputs, output, lambda logits: 1 / 0, 2)
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
        lambda _, values: (values[0] ** 2,)
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
