"""SubDistill over layers: in each, the directions that the teacher's answers depend on.

The teacher runs along, as for the other distillers on layers. Before the first update it is asked
once for all training rows, forward and backward; sums over positions are all that is kept of it.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import torch
from accelerate import PartialState
from accelerate.utils import reduce
from torch import Tensor, nn
from torch.nn.utils.parametrizations import orthogonal

from harness_plugin.errors import HarnessError
from harness_plugin.models.layers import Layers, OnlineTeacher, Shape, hidden_states, teacher_layer
from harness_plugin.models.network import ModelOutput, Network
from harness_plugin_hooks.distill.intermediate import LOGITS, IntermediateDistiller
from harness_plugin_hooks.distill.subspace import MOMENTUM, Floats, Moments, Subspace

if TYPE_CHECKING:
    from harness_plugin.training.batch import Batch, Inputs, TrainingMetadata
    from harness_plugin.training.teacher_outputs import TeacherOutputs

ROWS = 32
"""Rows that the teacher is asked for at a time."""


class SubspaceLayers(IntermediateDistiller):
    """Hidden states in the directions that matter for the teacher's answer, up to a rotation.

    SubDistill (2601.05913) and the authors' code: the loss of `Subspace`, summed over layers and
    averaged over positions, with a subspace for each layer. Its moments are those of the teacher's
    hidden states a and contexts c = d(log-odds of the predicted label)/da over training rows and
    positions: tokens that are no padding, patches, or places of a feature map.

    `layers` are layers of the student, from 1; [] takes all of them. Layer l of L_s hears layer
    round(l L_t / L_s) of its teacher. `size` directions are kept of each (0: as many as the
    student's layer has features, or the teacher's, where it has fewer).

    Deviations: layers are paired by depth, where the paper names pairs; the moments are computed at
    the start of every training, at the price of a forward and a backward pass of the teacher.
    """

    teacher_outputs: ClassVar[frozenset[str]] = frozenset({"logits", "layers"})
    defaults: ClassVar[Mapping[str, Any]] = {
        **LOGITS,
        "weight": 100.0,
        "layers": [],
        "size": 0,
        "basis": "relevant",
    }

    batches: Tensor

    def __init__(
        self, temperature: float, metadata: TrainingMetadata | None = None, **options: Any
    ) -> None:
        super().__init__(temperature, metadata, **options)
        self.pairs: list[tuple[int, int]] = []
        """Layers of student and teacher that are compared, from 1."""
        self.rotations = nn.ModuleList()
        self.register_buffer("batches", torch.zeros((), dtype=torch.int64))

    @classmethod
    def refusal(cls, options: Mapping[str, Any], ce_weight: float, n_labels: int) -> str:
        """A basis that is unknown, a size below 0, layers that are no numbers from 1."""
        layers = options["layers"]
        if any(isinstance(each, bool) or not isinstance(each, int) or each < 1 for each in layers):
            return f"needs layers as whole numbers from 1, not {layers}"
        if len(set(layers)) < len(layers):
            return f"needs every layer once, not {layers}"
        return Subspace.refusal(options, ce_weight, n_labels)

    @classmethod
    def mismatch(cls, options: Mapping[str, Any], student: Shape, teacher: Shape) -> str:
        """Feature maps and tokens do not correspond; layers that the student does not have."""
        if (student.model_type == "resnet") != (teacher.model_type == "resnet"):
            return "a ResNet's feature maps and a transformer's tokens are not the same positions"
        if beyond := [layer for layer in options["layers"] if layer > student.layers]:
            return f"the student has {student.layers} layers and no layer {beyond[0]}"
        return ""

    def setup(self, network: Network, teacher: TeacherOutputs) -> None:
        """The teacher's directions and a rotation for every layer.

        HarnessError where positions do not correspond, or a layer has fewer directions than asked.
        """
        if teacher.live is None:
            raise HarnessError("a distiller on layers needs its teacher, and none was given.")
        teacher.live.to(teacher.logits.device)
        own, theirs = one_row(network, teacher.live)
        depth = len(own) - 1
        pairs = [
            (layer, teacher_layer(layer, depth, len(theirs) - 1))
            for layer in self.options["layers"] or range(1, depth + 1)
        ]
        sizes = [self.size_of(pair, own[pair[0]], theirs[pair[1]]) for pair in pairs]
        sums = sums_over_rows(teacher.live, [other for _, other in pairs])
        for pair, size, table in zip(pairs, sizes, sums, strict=True):
            moments = moments_of_sums(table)
            if not moments.contexts.any():
                raise HarnessError(
                    f"subspace_layers: the teacher's answers do not depend on its layer {pair[1]}: "
                    f"leave layer {pair[0]} out of distiller_options.layers."
                )
            directions = moments.directions(size, self.options["basis"])
            self.add_pair(pair, own[pair[0]].shape[2], *directions)

    def size_of(self, pair: tuple[int, int], own: Tensor, theirs: Tensor) -> int:
        """Directions that are kept of two layers (1, P, H_s) and (1, P, H_t)."""
        check_positions(pair, own, theirs)
        most = min(own.shape[2], theirs.shape[2])
        size = int(self.options["size"]) or most
        if size > most:
            raise HarnessError(
                f"subspace_layers: size {size} is more than the {most} features that layer "
                f"{pair[0]} and the teacher's layer {pair[1]} both have."
            )
        return size

    def add_pair(
        self, pair: tuple[int, int], width: int, mean: Floats, basis: Floats, scale: float
    ) -> None:
        """Compare two layers: mu (H_t,), U (H_t, k), sigma, and a rotation of `width` features."""
        number, size = len(self.pairs), basis.shape[1]
        self.pairs.append(pair)
        self.rotations.append(orthogonal(nn.Linear(width, size, bias=False)))
        for name, value in (("mean", mean), ("basis", basis), ("scale", np.array(scale))):
            fixed = torch.from_numpy(value).float()
            self.register_buffer(f"{name}_{number}", fixed, persistent=False)
        self.register_buffer(f"running_{number}", torch.zeros(size))

    def of_layer(self, name: str, number: int) -> Tensor:
        """A buffer of one pair of layers."""
        return self.get_buffer(f"{name}_{number}")

    def forward(self, student: ModelOutput, teacher_layers: Layers | None) -> dict[str, Tensor]:
        """Sums of the local rows from which the loss of the global batch follows.

        With e = R h_s - running mean - z_t at every position: `squares` (b, L) mean e^2,
        `apart_<pair>` and `turned_<pair>` (b, k) mean e and mean of R h_s - running mean, and the
        number of `positions` (b,). The running mean is that of the batches before.
        """
        if student.layers is None or teacher_layers is None:
            raise HarnessError(f"{type(self).__name__} needs the layers of student and teacher.")
        outputs, squares, real = {}, [], student.layers.real
        for number, (pair, rotation) in enumerate(zip(self.pairs, self.rotations, strict=True)):
            own = positions(student.layers.hidden[pair[0]])
            target = positions(teacher_layers.hidden[pair[1]])
            check_positions(pair, own, target)
            mean, basis = (self.of_layer(name, number) for name in ("mean", "basis"))
            turned = rotation(own) - self.of_layer("running", number)
            apart = turned - (target - mean.to(target.dtype)) @ basis.to(target.dtype)
            squares.append(over_positions(apart.square(), real).mean(dim=1))
            outputs[f"apart_{number}"] = over_positions(apart, real)
            outputs[f"turned_{number}"] = over_positions(turned.detach(), real)
            outputs["positions"] = counted(own, real)
        return {"squares": torch.stack(squares, dim=1), **outputs}

    def intermediate_loss(self, batch: Batch) -> Tensor:
        """(B,) sum over layers of the mean square in units of the kept directions."""
        outputs, each = batch.outputs, []
        weights = outputs["positions"] / outputs["positions"].sum()
        with torch.no_grad():
            self.batches += 1
        share = torch.clamp(1 / self.batches, min=MOMENTUM)
        for number in range(len(self.pairs)):
            # the running mean moves by `step`: mean (e - step)^2, without large means that cancel
            step = share * (weights @ outputs[f"turned_{number}"])
            self.of_layer("running", number).add_(step)
            apart, square = outputs[f"apart_{number}"], outputs["squares"][:, number]
            moved = square - 2 * (apart * step).mean(dim=1) + step.square().mean()
            each.append(moved / self.of_layer("scale", number))
        return torch.stack(each).sum(dim=0)


def positions(hidden: Tensor) -> Tensor:
    """(B, P, H) of (B, T, H), or of feature maps (B, H, h, w)."""
    return hidden.flatten(2).transpose(1, 2) if hidden.ndim == 4 else hidden


def counted(hidden: Tensor, real: Tensor | None) -> Tensor:
    """(B,) positions of every row that are no padding; hidden (B, P, H), real (B, P)."""
    every = hidden.new_full((len(hidden),), hidden.shape[1])
    return every if real is None else real.sum(dim=1).to(hidden.dtype)


def over_positions(values: Tensor, real: Tensor | None) -> Tensor:
    """(B, k) mean of (B, P, k) over positions that are no padding."""
    if real is None:
        return values.mean(dim=1)
    return (values * real[:, :, None]).sum(dim=1) / real.sum(dim=1, keepdim=True)


def check_positions(pair: tuple[int, int], own: Tensor, theirs: Tensor) -> None:
    """Refuse layers (B, P, ...) that do not have the same positions."""
    if own.shape[:2] != theirs.shape[:2]:
        raise HarnessError(
            f"subspace_layers: layer {pair[0]} has {own.shape[1]} positions, the teacher's layer "
            f"{pair[1]} has {theirs.shape[1]}: give both models inputs of one size and strides, or "
            "name layers that correspond in distiller_options.layers."
        )


@torch.no_grad()
def one_row(network: Network, teacher: OnlineTeacher) -> tuple[list[Tensor], list[Tensor]]:
    """The hidden states (1, P, H) of student and teacher for the first training row."""
    inputs = teacher.encoded.batch(np.array([0]))
    training = network.training
    network.eval()
    out = []
    for model in (network.model, teacher.model):
        here = {name: value.to(model.device) for name, value in inputs.items()}
        states = hidden_states(model(**here, output_hidden_states=True))
        out.append([positions(each) for each in states])
    network.train(training)
    return out[0], out[1]


def log_odds(logits: Tensor) -> Tensor:
    """(B,) of the label that is predicted: z_y - log sum_{j != y} exp z_j; logits (B, C)."""
    best = logits.argmax(dim=1, keepdim=True)
    others = logits.scatter(1, best, -math.inf)
    return logits.gather(1, best).squeeze(1) - others.logsumexp(dim=1)


def sums_over_rows(teacher: OnlineTeacher, layers: Sequence[int]) -> list[Tensor]:
    """For each layer the sum over rows and positions of x x^T, x = (a, c, 1): (2H + 1, 2H + 1).

    In float64. Processes share the rows, and all get the whole sum.
    """
    state, encoded, device = PartialState(), teacher.encoded, teacher.model.device
    rows = np.arange(len(encoded))
    if encoded.lengths is not None:
        rows = np.argsort(encoded.lengths, kind="stable")  # little padding
    own = rows[state.process_index :: state.num_processes]
    sums: list[Tensor] = []
    for begin in range(0, len(own), ROWS):
        inputs = encoded.batch(own[begin : begin + ROWS], device)
        tables = [x.T @ x for x in activations_and_contexts(teacher, inputs, layers)]
        sums = [a + b for a, b in zip(sums, tables, strict=True)] if sums else tables
    return [reduce(total, "sum") for total in sums]


def activations_and_contexts(
    teacher: OnlineTeacher, inputs: Inputs, layers: Sequence[int]
) -> Iterator[Tensor]:
    """(n, 2H + 1) float64 of each layer: hidden states, contexts and 1 at every real position."""
    model = teacher.model
    model.requires_grad_(True)  # hidden states have a gradient where something before them has
    try:
        with torch.enable_grad():
            out = model(**inputs, output_hidden_states=True)
            hidden = [hidden_states(out)[layer] for layer in layers]
            total = log_odds(out.logits.float()).sum()
            contexts = torch.autograd.grad(total, hidden, allow_unused=True)
    finally:
        model.requires_grad_(False)
    mask = inputs.get("attention_mask")
    for a, c in zip(hidden, contexts, strict=True):
        state = positions(a.detach())
        context = torch.zeros_like(state) if c is None else positions(c)
        both = torch.cat([state, context, torch.ones_like(state[:, :, :1])], dim=2)
        kept = both.flatten(0, 1) if mask is None else both[mask.bool()]
        yield (kept.cpu() if kept.device.type == "mps" else kept).double()


def moments_of_sums(table: Tensor) -> Moments:
    """Moments of states and contexts from their sum of x x^T (2H + 1, 2H + 1)."""
    sums = table.cpu().numpy()
    width = len(sums) // 2
    moments = Moments(width)
    moments.rows = round(float(sums[-1, -1]))
    moments.feature, moments.context = sums[:width, -1], sums[width:-1, -1]
    moments.features, moments.contexts = sums[:width, :width], sums[width:-1, width:-1]
    moments.both = sums[:width, width:-1]
    return moments
