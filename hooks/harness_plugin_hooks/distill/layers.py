"""Distillers on the teacher's layers: the teacher runs along on the same rows.

Its positions must be the student's: one tokenizer (image processor) and one length. A student's
layer l of L_s is compared with the teacher's layer at the same relative depth, round(l L_t / L_s).
Within a layer a loss is a mean over what it compares of a row, so that rows of other lengths
count the same; layers are summed, where the source sums them.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.nn.functional import kl_div, log_softmax, normalize

from harness_plugin.errors import HarnessError
from harness_plugin.models.layers import Layers, Shape, teacher_layer
from harness_plugin.models.network import ModelOutput, Network
from harness_plugin.training.batch import Batch
from harness_plugin.training.teacher_outputs import TeacherOutputs
from harness_plugin_hooks.distill.intermediate import LOGITS, IntermediateDistiller

SCALED = ("bert", "roberta", "distilbert", "electra", "vit", "deit", "dinov2")
"""Model types whose attention is softmax(Q K^T / sqrt d), with the heads side by side."""
RELATED = (*SCALED, "t5_encoder_classifier", "t5", "deberta-v2")
"""Model types whose queries, keys and values can be compared."""
CLASSIFYING = (*SCALED, "deberta-v2")
"""Model types whose first token is read by the classifier."""


class LayerDistiller(IntermediateDistiller):
    """weight x a loss on layers + logits x T^2 KL."""

    teacher_outputs: ClassVar[frozenset[str]] = frozenset({"logits", "layers"})

    def forward(self, student: ModelOutput, teacher_layers: Layers | None) -> dict[str, Tensor]:
        """`layer_loss` (b,) of every local row."""
        if student.layers is None or teacher_layers is None:
            raise HarnessError(f"{type(self).__name__} needs the layers of student and teacher.")
        return {"layer_loss": self.compare(student.layers, teacher_layers)}

    def intermediate_loss(self, batch: Batch) -> Tensor:
        """(B,) the loss on layers of the global batch."""
        return batch.outputs["layer_loss"]

    def compare(self, student: Layers, teacher: Layers) -> Tensor:
        """(B,) the loss on layers."""
        raise NotImplementedError


def not_scaled(model_type: str) -> str:
    """Why attention cannot be made of a model's queries and keys; "" where it can."""
    if model_type in SCALED:
        return ""
    if model_type in RELATED:
        return f"the attention of a {model_type} is no softmax of Q K^T / sqrt d"
    return f"attention is compared of {', '.join(SCALED)}, and not of {model_type}"


def widths(network: Network, teacher: TeacherOutputs) -> tuple[int, int]:
    """The widths of student and teacher."""
    if teacher.live is None:
        raise HarnessError("a distiller on layers needs its teacher, and none was given.")
    return Shape.of(network.model.config).width, Shape.of(teacher.live.model.config).width


class AttentionTransfer(LayerDistiller):
    """Squared difference of spatial attention (Zagoruyko and Komodakis 2017, arXiv:1612.03928).

    A ResNet's map is the mean of squares over channels at each position, with unit norm (equation
    2, F_sum^2); its stages correspond one to one and must have the same size. A transformer's map
    is its attention, averaged over heads: layer normalisation gives every position the same
    activation, so that the paper's map says nothing there. Mean over positions, sum over layers,
    as in RepDistiller, whose weight is the default.
    """

    defaults: ClassVar[Mapping[str, Any]] = {**LOGITS, "weight": 1000.0}

    @classmethod
    def mismatch(cls, options: Mapping[str, Any], student: Shape, teacher: Shape) -> str:
        """Feature maps and tokens do not correspond; attention that is not scaled products."""
        if (student.model_type == "resnet") != (teacher.model_type == "resnet"):
            return "a ResNet's feature maps and a transformer's tokens are not the same positions"
        for shape in (student, teacher):
            if shape.model_type != "resnet" and (reason := not_scaled(shape.model_type)):
                return reason
        return ""

    def compare(self, student: Layers, teacher: Layers) -> Tensor:
        """(B,) sum over the student's layers."""
        own, theirs = attention_maps(student), attention_maps(teacher)
        pairs = None
        if student.real is not None:
            pairs = (student.real[:, :, None] & student.real[:, None, :]).flatten(1)
        each = []
        for layer, mine in enumerate(own, start=1):
            other = theirs[teacher_layer(layer, len(own), len(theirs)) - 1]
            if mine.shape != other.shape:
                raise HarnessError(
                    f"attention_transfer: layer {layer} has {mine.shape[1]} positions, its "
                    f"teacher's {other.shape[1]}: give both models inputs of one size and strides."
                )
            each.append(mean_over((mine - other).square(), pairs))
        return torch.stack(each).sum(dim=0)


def attention_maps(layers: Layers) -> list[Tensor]:
    """(B, P) where a model looks, of unit norm, one for every layer; 0 at padding."""
    if not layers.queries:
        return [activation_map(hidden) for hidden in layers.hidden[1:]]
    maps = []
    for queries, keys in zip(layers.queries, layers.keys, strict=True):
        logits = scores(queries, keys, layers.heads)
        if layers.real is not None:
            logits = logits.masked_fill(
                ~layers.real[:, None, None, :], torch.finfo(logits.dtype).min
            )
        attention = logits.softmax(dim=3).mean(dim=1)
        if layers.real is not None:
            attention = attention * layers.real[:, :, None]
        maps.append(normalize(attention.flatten(1), dim=1))
    return maps


def activation_map(hidden: Tensor) -> Tensor:
    """(B, h w) mean of squares over channels, of unit norm; hidden (B, C, h, w)."""
    return normalize(hidden.square().mean(dim=1).flatten(1), dim=1)


def mean_over(values: Tensor, real: Tensor | None) -> Tensor:
    """(B,) mean of (B, P) over the positions that are real."""
    if real is None:
        return values.mean(dim=1)
    return (values * real).sum(dim=1) / real.sum(dim=1)


class PatientKD(LayerDistiller):
    """Squared difference of first tokens, normalised (Sun et al. 2019, arXiv:1908.09355).

    The student's layers below its last learn from, with `layers: skip`, the teacher's at the same
    relative depth, with `last` the teacher's last ones below its last; mean over layers and
    dimensions of (h_s/|h_s| - h_t/|h_t|)^2. Default weight: of the 10, 100, 500 and 1000 that the
    paper searched (section 4.2), the second.

    Deviations: equation 7 prints a sum over layers and dimensions, (L - 1) H times this; the
    weights that were searched are those of the mean in the authors' `patience_loss`. A trained
    linear layer maps a student of another width, where the paper has one width.
    """

    defaults: ClassVar[Mapping[str, Any]] = {**LOGITS, "weight": 100.0, "layers": "skip"}

    @classmethod
    def mismatch(cls, options: Mapping[str, Any], student: Shape, teacher: Shape) -> str:
        """A model without a first token to compare, or without layers below its last."""
        for shape in (student, teacher):
            if shape.model_type not in CLASSIFYING:
                return f"a {shape.model_type} has no token that stands for the whole input"
        if student.layers < 2:
            return "the student has no layer below its last"
        if student.layers > teacher.layers:
            return f"the student has {student.layers} layers, its teacher {teacher.layers}"
        return ""

    def setup(self, network: Network, teacher: TeacherOutputs) -> None:
        """The projector, where the widths differ."""
        own, theirs = widths(network, teacher)
        self.projector = None if own == theirs else nn.Linear(own, theirs)

    def compare(self, student: Layers, teacher: Layers) -> Tensor:
        """(B,) mean over the student's layers below its last, and dimensions."""
        depth, theirs = len(student.hidden) - 1, len(teacher.hidden) - 1
        if depth < 2:
            raise HarnessError(
                "distiller pkd compares layers below the student's last, and this student has one "
                "layer: give it two, or take another distiller."
            )
        each = []
        for layer in range(1, depth):
            last = self.options["layers"] == "last"
            other = theirs - depth + layer if last else teacher_layer(layer, depth, theirs)
            own = self.projected(student.hidden[layer][:, 0])
            target = normalize(teacher.hidden[other][:, 0], dim=1)
            each.append((normalize(own, dim=1) - target).square().mean(dim=1))
        return torch.stack(each).mean(dim=0)


class TinyBERT(LayerDistiller):
    """Attention scores and hidden states, layer by layer (Jiao et al. 2020, arXiv:1909.10351).

    attention x MSE of Q K^T / sqrt(d) (equation 7), of every head and pair of real tokens, + hidden
    x MSE of hidden states and embeddings through one trained linear layer (equations 8 and 9), each
    summed over layers (equation 11, lambda 1).

    Deviations: the mean counts real tokens only, where the authors' code counts padded pairs as
    zero; and the soft labels' term is T^2 KL, which in their code is divided by the number of
    classes.
    """

    defaults: ClassVar[Mapping[str, Any]] = {
        **LOGITS,
        "weight": 1.0,
        "attention": 1.0,
        "hidden": 1.0,
    }
    parts = ("attention", "hidden")

    @classmethod
    def mismatch(cls, options: Mapping[str, Any], student: Shape, teacher: Shape) -> str:
        """Another attention, or another number of heads, while scores are compared."""
        for shape in (student, teacher):
            if reason := not_scaled(shape.model_type):
                return reason
        if options["attention"] and student.heads != teacher.heads:
            return (
                f"the student has {student.heads} heads, its teacher {teacher.heads}: set "
                "distiller_options={attention: 0}, or take minilm, which does not compare heads"
            )
        return ""

    def setup(self, network: Network, teacher: TeacherOutputs) -> None:
        """The projector of all layers; trained also where the widths are the same, as theirs is."""
        self.projector = nn.Linear(*widths(network, teacher))

    def compare(self, student: Layers, teacher: Layers) -> Tensor:
        """(B,) weighted sum of both terms."""
        depth, theirs = len(student.hidden) - 1, len(teacher.hidden) - 1
        total = torch.zeros(len(student.hidden[0]), device=student.hidden[0].device)
        if self.options["attention"]:
            each = []
            for layer in range(1, depth + 1):
                other = teacher_layer(layer, depth, theirs)
                own = scores(student.queries[layer - 1], student.keys[layer - 1], student.heads)
                target = scores(teacher.queries[other - 1], teacher.keys[other - 1], teacher.heads)
                each.append(mean_over_pairs((own - target).square().mean(dim=1), student.real))
            total = total + self.options["attention"] * torch.stack(each).sum(dim=0)
        if self.options["hidden"]:
            each = []
            for layer in range(depth + 1):
                other = teacher_layer(layer, depth, theirs) if layer else 0
                own = self.projected(student.hidden[layer])
                difference = (own - teacher.hidden[other]).square().mean(dim=2)
                each.append(mean_over(difference, student.real))
            total = total + self.options["hidden"] * torch.stack(each).sum(dim=0)
        return total


class MiniLM(LayerDistiller):
    """Relations among tokens in the last layer (Wang et al. 2020 and 2021).

    MiniLM (arXiv:2002.10957, equations 4 and 5): KL of the teacher's attention and of softmax(V V^T
    / sqrt d) from the student's, `attention` and `values`. MiniLMv2 (arXiv:2012.15828) compares
    `queries`, `keys` and `values` with themselves, and cuts all heads anew into `relation_heads`,
    so that the numbers of heads need not agree; 0 takes the student's. Mean over relation heads
    and real tokens; `layer` counts the teacher's layers, -1 is its last.
    """

    defaults: ClassVar[Mapping[str, Any]] = {
        **LOGITS,
        "weight": 1.0,
        "attention": 1.0,
        "queries": 0.0,
        "keys": 0.0,
        "values": 1.0,
        "relation_heads": 0,
        "layer": -1,
    }
    parts = ("attention", "queries", "keys", "values")

    @classmethod
    def mismatch(cls, options: Mapping[str, Any], student: Shape, teacher: Shape) -> str:
        """Models without attention, widths that the heads do not divide, layers there are not."""
        for shape in (student, teacher):
            if shape.model_type not in RELATED:
                return f"relations are compared of {', '.join(RELATED)}, not of {shape.model_type}"
            if options["attention"] and (reason := not_scaled(shape.model_type)):
                return f"{reason}: set distiller_options={{attention: 0, queries: 1, keys: 1}}"
            heads = options["relation_heads"] or student.heads
            if shape.width % heads:
                return f"{heads} relation heads do not divide a width of {shape.width}"
        if not -teacher.layers <= options["layer"] < teacher.layers:
            return f"the teacher has {teacher.layers} layers and no layer {options['layer']}"
        return ""

    def compare(self, student: Layers, teacher: Layers) -> Tensor:
        """(B,) weighted sum of the relations' divergences."""
        heads, layer = self.options["relation_heads"] or student.heads, self.options["layer"]
        pairs = {
            "attention": ("queries", "keys"),
            "queries": ("queries", "queries"),
            "keys": ("keys", "keys"),
            "values": ("values", "values"),
        }
        total = torch.zeros(len(student.hidden[0]), device=student.hidden[0].device)
        for name, (left, right) in pairs.items():
            if self.options[name]:
                own = scores(getattr(student, left)[-1], getattr(student, right)[-1], heads)
                target = scores(
                    getattr(teacher, left)[layer], getattr(teacher, right)[layer], heads
                )
                total = total + self.options[name] * relation_divergence(own, target, student.real)
        return total


def scores(left: Tensor, right: Tensor, heads: int) -> Tensor:
    """(B, A, T, T) left right^T / sqrt(d) of every head; inputs (B, T, A d)."""
    rows, tokens, width = left.shape
    size = width // heads
    left, right = (x.view(rows, tokens, heads, size).transpose(1, 2) for x in (left, right))
    products: Tensor = left @ right.transpose(2, 3) / math.sqrt(size)
    return products


def mean_over_pairs(values: Tensor, real: Tensor | None) -> Tensor:
    """(B,) mean of (B, T, T) over pairs of real tokens."""
    if real is None:
        return values.mean(dim=(1, 2))
    pairs = real[:, :, None] & real[:, None, :]
    return (values * pairs).sum(dim=(1, 2)) / pairs.sum(dim=(1, 2))


def relation_divergence(student: Tensor, teacher: Tensor, real: Tensor | None) -> Tensor:
    """(B,) KL(teacher || student) of softmax over the last dimension of (B, A, T, T) scores.

    Mean over heads and real tokens; padding is attended by none.
    """
    if real is not None:
        hidden = ~real[:, None, None, :]
        lowest = torch.finfo(student.dtype).min
        student, teacher = (x.masked_fill(hidden, lowest) for x in (student, teacher))
    log_s, log_t = log_softmax(student, dim=3), log_softmax(teacher, dim=3)
    each = kl_div(log_s, log_t, log_target=True, reduction="none").sum(dim=3).mean(dim=1)
    return mean_over(each, real)
