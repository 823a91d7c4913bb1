"""The graphs of the architectures: which modules speak, and which read what."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from harness_plugin.errors import HarnessError
from harness_plugin_hooks.analyses.circuits.graphs import (
    PORTS,
    Channels,
    Graph,
    HeadInputs,
    Heads,
    Kind,
    Node,
    Reader,
    Writer,
)

if TYPE_CHECKING:
    from transformers import PreTrainedModel

CHANNEL_GROUPS = 16
"""Most groups that the channels of a convolutional block are taken in."""


@dataclass(frozen=True)
class Layer:
    """The modules of one transformer layer.

    `norms`: in front of attention and feed-forward (pre-LN), or behind each sum (post-LN). `reads`
    is what is given the feed-forward's input, `mlp` what gives its output.
    """

    projections: tuple[nn.Linear, nn.Linear, nn.Linear]
    out: nn.Linear
    norms: tuple[nn.Module, nn.Module]
    reads: nn.Module
    mlp: nn.Module


@dataclass
class Draft:
    """A graph in the making."""

    layers: int
    nodes: list[Node] = field(default_factory=list)
    writers: list[Writer] = field(default_factory=list)
    readers: list[Reader] = field(default_factory=list)
    reads_for: dict[int, int] = field(default_factory=dict)

    def node(self, name: str, kind: Kind, layer: int, head: int | None = None) -> int:
        """A new node's number."""
        self.nodes.append(Node(name, kind, layer, head, layer / self.layers))
        return len(self.nodes) - 1

    def speaks(self, writer: Writer) -> int:
        """A new writer's number."""
        self.writers.append(writer)
        return len(self.writers) - 1

    def heads(
        self, layer: Layer, number: int, heads: int, sources: Sequence[int], pre: bool
    ) -> int:
        """The heads of a layer, reading `sources`."""
        nodes = tuple(self.node(f"attn{number}.h{h}", "head", number, h) for h in range(heads))
        self.readers.append(
            HeadInputs(
                layer.norms[0] if pre else layer.projections[0],
                tuple((node, port) for port in PORTS for node in nodes),
                tuple(sources),
                projections=layer.projections,
                norm=layer.norms[0] if pre else None,
                heads=heads,
            )
        )
        return self.speaks(Heads(layer.out, nodes))

    def channels(self, name: str, kind: Kind, layer: int, module: nn.Module, width: int) -> int:
        """Groups of the channels of a block's output, `width` in all, named `NAME.c0-3`."""
        groups = min(width, CHANNEL_GROUPS)
        owner = torch.arange(width) * groups // width
        starts = torch.searchsorted(owner, torch.arange(groups + 1)).tolist()
        spans = (
            f"{first}" if last == first + 1 else f"{first}-{last - 1}"
            for first, last in pairwise(starts)
        )
        nodes = tuple(self.node(f"{name}.c{span}", kind, layer) for span in spans)
        return self.speaks(Channels(module, nodes, owner))

    def reads(self, node: int, module: nn.Module, sources: Sequence[int]) -> None:
        """`node` reads `sources` where `module` is given them."""
        self.readers.append(Reader(module, ((node, ""),), tuple(sources)))

    def done(self, family: str) -> Graph:
        """The graph."""
        return Graph(
            family, tuple(self.nodes), tuple(self.writers), tuple(self.readers), self.reads_for
        )


def post_norm(family: str, embeddings: nn.Module, layers: Sequence[Layer], heads: int) -> Graph:
    """LayerNorm behind each sum (BERT): its outputs are nodes, or no input would be a sum.

    r -> {q, k, v of the heads, norm a}; heads -> norm a; norm a -> {mlp, norm b}; mlp -> norm b,
    which is the next layer's r. The last one is what the classifier reads.
    """
    draft = Draft(len(layers))
    stream = draft.speaks(Writer(embeddings, (draft.node("input", "input", 0),)))
    for number, layer in enumerate(layers, 1):
        spoken = draft.heads(layer, number, heads, [stream], pre=False)
        first = draft.node(f"norm{number}a", "norm", number)
        draft.reads(first, layer.norms[0], [stream, spoken])
        middle = draft.speaks(Writer(layer.norms[0], (first,)))
        mlp = draft.node(f"mlp{number}", "mlp", number)
        draft.reads(mlp, layer.reads, [middle])
        fed = draft.speaks(Writer(layer.mlp, (mlp,)))
        second = draft.node(f"norm{number}b", "norm", number)
        draft.reads(second, layer.norms[1], [middle, fed])
        stream = draft.speaks(Writer(layer.norms[1], (second,)))
    last = layers[-1].norms[1]
    output = draft.node("output", "output", len(layers))
    draft.readers.append(Reader(last, ((output, ""),), (stream,), after=True))
    return draft.done(family)


def pre_norm(
    family: str, embeddings: nn.Module, layers: Sequence[Layer], final: nn.Module, heads: int
) -> Graph:
    """LayerNorm before each component (ViT, T5): all read the sum of all before them."""
    draft = Draft(len(layers))
    before = [draft.speaks(Writer(embeddings, (draft.node("input", "input", 0),)))]
    for number, layer in enumerate(layers, 1):
        before.append(draft.heads(layer, number, heads, before, pre=True))
        mlp = draft.node(f"mlp{number}", "mlp", number)
        draft.reads(mlp, layer.reads, before)
        before.append(draft.speaks(Writer(layer.mlp, (mlp,))))
    draft.reads(draft.node("output", "output", len(layers)), final, before)
    return draft.done(family)


def bert(model: Any) -> Graph:
    """BERT and RoBERTa."""
    base = model.base_model
    layers = [
        Layer(
            (
                layer.attention.self.query,
                layer.attention.self.key,
                layer.attention.self.value,
            ),
            layer.attention.output.dense,
            (layer.attention.output.LayerNorm, layer.output.LayerNorm),
            layer.intermediate,
            layer.output.dense,
        )
        for layer in base.encoder.layer
    ]
    return post_norm("post-LN", base.embeddings, layers, model.config.num_attention_heads)


def distilbert(model: Any) -> Graph:
    """DistilBERT: BERT's graph."""
    base = model.base_model
    layers = [
        Layer(
            (layer.attention.q_lin, layer.attention.k_lin, layer.attention.v_lin),
            layer.attention.out_lin,
            (layer.sa_layer_norm, layer.output_layer_norm),
            layer.ffn,
            layer.ffn,
        )
        for layer in base.transformer.layer
    ]
    return post_norm("post-LN", base.embeddings, layers, model.config.n_heads)


def vit(model: Any) -> Graph:
    """ViT: the classifier reads the final LayerNorm."""
    base = model.base_model
    layers = [
        Layer(
            (layer.attention.q_proj, layer.attention.k_proj, layer.attention.v_proj),
            layer.attention.o_proj,
            (layer.layernorm_before, layer.layernorm_after),
            layer.layernorm_after,
            layer.mlp,
        )
        for layer in base.layers
    ]
    heads = model.config.num_attention_heads
    return pre_norm("pre-LN", base.embeddings, layers, base.layernorm, heads)


def t5(model: Any) -> Graph:
    """T5's encoder. The relative position bias is a constant of the scores, and no node."""
    encoder = model.encoder
    layers = [
        Layer(
            (
                block.layer[0].SelfAttention.q,
                block.layer[0].SelfAttention.k,
                block.layer[0].SelfAttention.v,
            ),
            block.layer[0].SelfAttention.o,
            (block.layer[0].layer_norm, block.layer[1].layer_norm),
            block.layer[1].layer_norm,
            block.layer[1].DenseReluDense,
        )
        for block in encoder.block
    ]
    final, heads = encoder.final_layer_norm, model.config.num_heads
    return pre_norm("pre-LN", encoder.embed_tokens, layers, final, heads)


def resnet(model: Any) -> Graph:
    """ResNet, by nodes: groups of channels of every block's output, read by the next block whole.

    Every group has one reader, so that an edge is a node: to cut it is to corrupt the group.
    """
    base = model.base_model
    stages = zip(base.encoder.stages, model.config.hidden_sizes, strict=True)
    blocks = [
        (f"stage{number}.block{place}", block, width)
        for number, (stage, width) in enumerate(stages, 1)
        for place, block in enumerate(stage.layers, 1)
    ]
    draft = Draft(len(blocks))
    stream = draft.channels("stem", "input", 0, base.embedder, model.config.embedding_size)
    for number, (name, block, width) in enumerate(blocks, 1):
        whole = draft.node(name, "block", number)
        draft.reads(whole, block, [stream])
        stream = draft.channels(name, "block", number, block, width)
        draft.reads_for |= dict.fromkeys(draft.writers[stream].nodes, whole)
    draft.reads(draft.node("output", "output", len(blocks)), base.pooler, [stream])
    return draft.done("convolutional")


GRAPHS: dict[str, Callable[[Any], Graph]] = {
    "bert": bert,
    "roberta": bert,
    "distilbert": distilbert,
    "vit": vit,
    "t5_encoder_classifier": t5,
    "resnet": resnet,
}
"""By model type."""


def graph_of(model: PreTrainedModel) -> Graph:
    """The graph of a classifier; HarnessError for an architecture that has none here."""
    kind = str(model.config.model_type)
    if kind not in GRAPHS:
        raise HarnessError(
            f"no circuits of {type(model).__name__} (model type {kind!r}); circuits are found in "
            f"{', '.join(sorted(GRAPHS))}."
        )
    return GRAPHS[kind](model)
