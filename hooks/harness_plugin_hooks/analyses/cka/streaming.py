"""Unbiased minibatch CKA between all layers of several models, in one pass.

HSIC_1 of Song et al. 2012 (eq. 5); minibatches of Nguyen et al. 2021 (arXiv:2010.15327, eq. 3-4):
sums over batches are formed before the ratio. A Gram matrix that is U-centred (Szekely and Rizzo
2014) turns HSIC_1 into an inner product, so that all pairs of layers are one matrix product.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from harness_plugin.errors import HarnessError
from harness_plugin.records import Floats

FEWEST = 4
"""Rows of a batch below which HSIC_1 does not exist."""

STRIPS, SMALLEST_STRIP = 4, 32
"""Of a Gram matrix; shorter ones than so many rows cost more than they save."""

BLOCKS = 64
"""Sums are kept for so many blocks of batches: what an interval is drawn from."""


@dataclass(frozen=True)
class Kernel:
    """Linear, or Gaussian with `width` x the median distance between rows of the first batch."""

    width: float | None = None

    def __str__(self) -> str:
        return "linear" if self.width is None else f"rbf {self.width:g}"


def gram(features: Sequence[Tensor], dtype: torch.dtype) -> Tensor:
    """(L, n, n) inner products of centred rows; `features` are L matrices (n, d_l).

    A layer that is the same for all rows, but for rounding, gives zeros.
    """
    n = len(features[0])
    rows = [layer.reshape(n, -1) for layer in features]
    out = torch.empty(len(rows), n, n, dtype=dtype, device=rows[0].device)
    for width in {layer.shape[1] for layer in rows}:  # layers of one width are one product
        these = [index for index, layer in enumerate(rows) if layer.shape[1] == width]
        stack = torch.stack([rows[index] for index in these]).to(dtype)
        size = torch.linalg.vector_norm(stack, dim=(1, 2))
        stack -= stack.mean(dim=1, keepdim=True)
        spread = torch.linalg.vector_norm(stack, dim=(1, 2))
        constant = spread <= 16 * torch.finfo(dtype).eps * size
        if bool(constant.any()):
            stack[constant] = 0
        if len(these) == len(rows):
            inner_products(stack, out)
        else:
            out[these] = inner_products(stack, torch.empty_like(out[: len(these)]))
    return out


def inner_products(stack: Tensor, out: Tensor) -> Tensor:
    """`out` (L, n, n), filled with X X' of every X of `stack` (L, n, d).

    In strips of rows, each up to its diagonal and mirrored: 10/16 of a whole product's work.
    """
    n = stack.shape[1]
    strip = max(SMALLEST_STRIP, -(-n // STRIPS))
    for start in range(0, n, strip):
        end = min(start + strip, n)
        part = torch.bmm(stack[:, start:end], stack[:, :end].transpose(1, 2))
        out[:, start:end, :end] = part
        out[:, :start, start:end] = part[:, :, :start].transpose(1, 2)
    return out


def gaussian(grams: Tensor, squared_widths: Tensor) -> Tensor:
    """(L, n, n) exp(-||x - y||^2 / (2 s^2)) from inner products; `squared_widths` s^2 are (L,)."""
    return torch.exp(-squared_distances(grams) / (2 * squared_widths[:, None, None]))


def squared_distances(grams: Tensor) -> Tensor:
    """(L, n, n) squared Euclidean distances between rows."""
    own = grams.diagonal(dim1=1, dim2=2)
    return (own[:, :, None] + own[:, None, :] - 2 * grams).clamp(min=0)


def u_centred(grams: Tensor) -> Tensor:
    """`grams` (L, n, n) U-centred in place: zero diagonal, and rows that add up to 0.

    <U(K), U(L)> / (n (n - 3)) is HSIC_1(K, L).
    """
    n = grams.shape[1]
    grams.diagonal(dim1=1, dim2=2).zero_()
    rows = grams.sum(dim=2)
    total = rows.sum(dim=1)
    grams -= (rows / (n - 2))[:, :, None]
    grams -= (rows / (n - 2))[:, None, :]
    grams += (total / ((n - 1) * (n - 2)))[:, None, None]
    grams.diagonal(dim1=1, dim2=2).zero_()
    return grams


class StreamingCKA:
    """Adds up HSIC_1 of all pairs of L layers, batch by batch; memory is O(L n^2 + L^2).

    `dtype` is that of the Gram matrices; sums are float64. `permutations` of the rows of one side
    make the null distribution: what the same layers give when rows do not belong together.
    """

    def __init__(
        self,
        layers: int,
        *,
        kernel: Kernel | None = None,
        dtype: torch.dtype = torch.float32,
        permutations: int = 0,
        blocks: int = BLOCKS,
        seed: int = 0,
    ) -> None:
        self.kernel = kernel or Kernel()
        self.dtype = dtype
        self.sums = torch.zeros(blocks, layers, layers, dtype=torch.float64)
        self.null = torch.zeros(permutations, layers, layers, dtype=torch.float64)
        self.batches = 0
        self.rows = 0
        self._rng = np.random.default_rng(seed)
        self._squared_widths: Tensor | None = None

    def update(self, features: Sequence[Tensor]) -> None:
        """Take one batch: the features (n, d_l) of every layer, rows in the same order.

        Raises HarnessError for fewer than four rows, rows that do not agree, and values that are
        not finite.
        """
        n = len(features[0])
        if n < FEWEST:
            raise HarnessError(f"CKA needs batches of at least {FEWEST} rows, this one has {n}.")
        if len(features) != self.sums.shape[1] or any(len(layer) != n for layer in features):
            raise HarnessError(
                f"CKA: expected {self.sums.shape[1]} layers of {n} rows, found rows "
                f"{[len(layer) for layer in features]}."
            )
        grams = gram(features, self.dtype)
        constant = ~grams.amax(dim=(1, 2)).bool()  # no diagonal entry above 0
        if self.kernel.width is not None:
            grams = gaussian(grams, self._widths(grams))
        flat = u_centred(grams).flatten(1)
        if bool(constant.any()):
            flat[constant] = 0  # a kernel of ones leaves its rounding behind
        products = (flat @ flat.T).double().cpu()
        if not bool(torch.isfinite(products).all()):
            raise HarnessError("CKA: a layer has features that are not finite.")
        scale = 1 / (n * (n - 3))
        self.sums[self.batches % len(self.sums)] += products * scale
        for null in self.null:
            order = torch.from_numpy(self._rng.permutation(n)).to(flat.device)
            moved = flat[:, (order[:, None] * n + order).flatten()]
            null += (moved @ flat.T).double().cpu() * scale
        self.batches += 1
        self.rows += n

    def _widths(self, grams: Tensor) -> Tensor:
        """(L,) s^2, from the first batch; the same for all batches, or they would not add up."""
        if self._squared_widths is None:
            away = squared_distances(grams)
            upper = torch.triu_indices(len(away[0]), len(away[0]), 1, device=away.device)
            median = away[:, upper[0], upper[1]].median(dim=1).values
            # a layer without any distances is constant: any width will do
            width = float(self.kernel.width or 1)
            self._squared_widths = torch.where(median > 0, median, 1.0) * width**2
        return self._squared_widths

    def between(self, first: slice, second: slice) -> Similarity:
        """CKA of the layers of one model with those of another, or of its own."""
        if not self.batches:
            raise HarnessError("CKA: no batch has been seen.")
        sums = self.sums[: min(self.batches, len(self.sums))].numpy()
        own = np.diagonal(sums, axis1=1, axis2=2)
        return Similarity(
            sums[:, first, second],
            own[:, first],
            own[:, second],
            self.null[:, first, second].numpy(),
        )


@dataclass(frozen=True)
class Similarity:
    """Sums of HSIC_1 over batches: `cross` (K, A, B), `first` (K, A), `second` (K, B) of K blocks.

    `null` (P, A, B) are `cross` of permuted rows, over all blocks.
    """

    cross: Floats
    first: Floats
    second: Floats
    null: Floats

    @property
    def value(self) -> Floats:
        """(A, B) unbiased CKA, at most 1 and perhaps below 0; nan where a layer is constant."""
        whole = np.ones((1, len(self.cross)))
        values: Floats = self.weighted(whole)[0]
        return values

    def weighted(self, counts: NDArray[np.floating]) -> Floats:
        """(R, A, B) values when block k counts `counts[r, k]` times."""
        return ratio(
            np.tensordot(counts, self.cross, axes=1), counts @ self.first, counts @ self.second
        )

    @property
    def permuted(self) -> Floats:
        """(P, A, B) values of permuted rows."""
        first, second = self.first.sum(axis=0), self.second.sum(axis=0)
        return ratio(self.null, first[None], second[None])


def ratio(cross: Floats, first: Floats, second: Floats) -> Floats:
    """(R, A, B) cross / sqrt(first x second); nan where one of them is 0."""
    below = np.sqrt(first)[:, :, None] * np.sqrt(second)[:, None, :]
    out: Floats = np.divide(cross, below, out=np.full(cross.shape, np.nan), where=below > 0)
    return out


def resampled_blocks(blocks: int, resamples: int, rng: np.random.Generator) -> Floats:
    """(1 + R, K) how often each block counts: once, then drawn with replacement.

    Blocks are drawn, not rows: a row drawn twice would be its own perfect neighbour.
    """
    drawn = rng.multinomial(blocks, np.full(blocks, 1 / blocks), size=resamples)
    return np.vstack([np.ones((1, blocks)), drawn])
