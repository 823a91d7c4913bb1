"""A distiller on the directions of the teacher's features that its answers depend on."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn.utils.parametrizations import orthogonal

from harness_plugin.errors import HarnessError
from harness_plugin.models.network import Network
from harness_plugin_hooks.distill.features import FeatureDistiller
from harness_plugin_hooks.distill.intermediate import LOGITS

if TYPE_CHECKING:
    from harness_plugin.training.teacher_outputs import TeacherOutputs

Floats = NDArray[np.float64]
BASES = ("relevant", "pca")
MOMENTUM = 0.1
"""Of the running mean of the student's rotated features, as batch normalisation has it."""


class Subspace(FeatureDistiller):
    """The teacher's features in the directions that matter for its answer, up to a rotation.

    SubDistill (2601.05913) and the authors' code. With features a of the training rows and contexts
    c = d(log-odds of the predicted label)/da: mu = E[a], C_a = Cov(a), C_c = E[c c^T],
    C_ac = E[a c^T] - mu E[c]^T,

        M = C_ac + C_ac^T + 2 sqrt(tr C_c / tr C_a) C_a + 2 sqrt(tr C_a / tr C_c) C_c.

    U are the first `size` eigenvectors of M (0: as many as the student has features, or the
    teacher, where it has fewer), z_t = U^T (a - mu), z_s = R h_s - its running mean, R a trained
    matrix with orthonormal rows; the loss is mean (z_s - z_t)^2 / sigma, sigma the mean variance of
    z_t. `basis: pca` takes the eigenvectors of C_a instead: what relevance adds is the difference.

    Deviations: the last layer's inputs alone, where the paper sums over layers, as
    `subspace_layers` does: here the context has a closed form, the teacher's stored features are
    all that is read, and teacher and student may be of any architecture; the running mean is that
    of the rotated features.
    """

    defaults: ClassVar[Mapping[str, Any]] = {
        **LOGITS,
        "weight": 100.0,
        "size": 0,
        "basis": "relevant",
    }

    mean: Tensor
    basis: Tensor
    scale: Tensor
    running: Tensor
    batches: Tensor

    @classmethod
    def refusal(cls, options: Mapping[str, Any], ce_weight: float, n_labels: int) -> str:
        """A basis that is unknown, a size below 0."""
        if options["basis"] not in BASES:
            return f"knows basis {' and '.join(BASES)}, not {options['basis']!r}"
        return "" if options["size"] >= 0 else f"needs a size of at least 0, not {options['size']}"

    def setup(self, network: Network, teacher: TeacherOutputs) -> None:
        """The teacher's directions and the rotation; HarnessError for more than there are."""
        if teacher.weight is None or teacher.bias is None:
            raise HarnessError("subspace needs the teacher's last layer.")
        most = min(network.head.in_features, teacher.width)
        size = self.options["size"] or most
        if size > most:
            raise HarnessError(
                f"subspace: size {size} is more than the {most} features that student and teacher "
                "both have."
            )
        weight, bias = (x.double().cpu().numpy() for x in (teacher.weight, teacher.bias))
        moments = moments_of(teacher.known_features, weight, bias)
        mean, directions, scale = moments.directions(size, self.options["basis"])
        for name, value in (("mean", mean), ("basis", directions), ("scale", np.array(scale))):
            self.register_buffer(name, torch.from_numpy(value).float(), persistent=False)
        self.register_buffer("running", torch.zeros(size))
        self.register_buffer("batches", torch.zeros((), dtype=torch.int64))
        self.projector = orthogonal(nn.Linear(network.head.in_features, size, bias=False))

    def compare(self, student: Tensor, teacher: Tensor) -> Tensor:
        """(B,) mean square in units of the kept directions; student (B, k) is rotated already."""
        with torch.no_grad():
            self.batches += 1
            share = torch.clamp(1 / self.batches, min=MOMENTUM)
            self.running += share * (student.mean(dim=0) - self.running)
        mean, basis = self.mean.to(teacher.dtype), self.basis.to(teacher.dtype)
        target = (teacher - mean) @ basis
        difference: Tensor = (student - self.running - target).square().mean(dim=1) / self.scale
        return difference


class Moments:
    """First and second moments of features (N, H) and of their contexts."""

    def __init__(self, width: int) -> None:
        self.rows = 0
        self.feature, self.context = np.zeros(width), np.zeros(width)
        self.features, self.contexts, self.both = (np.zeros((width, width)) for _ in range(3))

    def add(self, features: Floats, contexts: Floats) -> None:
        """Rows (n, H) of both."""
        self.rows += len(features)
        self.feature += features.sum(axis=0)
        self.context += contexts.sum(axis=0)
        self.features += features.T @ features
        self.contexts += contexts.T @ contexts
        self.both += features.T @ contexts

    def directions(self, size: int, basis: str) -> tuple[Floats, Floats, float]:
        """mu (H,), U (H, size) and sigma; HarnessError where features or contexts are all alike."""
        mean = self.feature / self.rows
        spread = self.features / self.rows - np.outer(mean, mean)
        square = self.contexts / self.rows
        features, contexts = float(np.trace(spread)), float(np.trace(square))
        if features <= 0 or contexts <= 0:
            raise HarnessError(
                "subspace: the teacher's features are the same on every row, or its last layer "
                "does not read them."
            )
        matrix = spread
        if basis == "relevant":
            cross = self.both / self.rows - np.outer(mean, self.context / self.rows)
            ratio = np.sqrt(contexts / features)
            matrix = cross + cross.T + 2 * ratio * spread + 2 / ratio * square
        kept = np.linalg.eigh(matrix).eigenvectors[:, ::-1][:, :size]
        scale = float(np.trace(kept.T @ spread @ kept)) / size
        if scale <= 0:
            raise HarnessError("subspace: the teacher's features do not vary in what is kept.")
        return mean, np.ascontiguousarray(kept), scale


def moments_of(
    features: NDArray[np.float32], weight: Floats, bias: Floats, chunk: int = 4096
) -> Moments:
    """Of all rows (N, H), `chunk` at a time, as they may be memory-mapped."""
    moments = Moments(features.shape[1])
    for begin in range(0, len(features), chunk):
        rows = np.asarray(features[begin : begin + chunk], np.float64)
        moments.add(rows, contexts_of(rows @ weight.T + bias, weight))
    return moments


def contexts_of(logits: Floats, weight: Floats) -> Floats:
    """(n, H) gradient by the features of z_y - log sum_{j != y} exp z_j, y the largest logit.

    W_y - sum_{j != y} softmax_{j != y}(z)_j W_j.
    """
    best = logits.argmax(axis=1)
    others = logits.copy()
    others[np.arange(len(logits)), best] = -np.inf
    chance = np.exp(others - others.max(axis=1, keepdims=True))
    out: Floats = weight[best] - chance / chance.sum(axis=1, keepdims=True) @ weight
    return out
