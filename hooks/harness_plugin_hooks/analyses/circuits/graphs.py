"""A classifier as components whose outputs add up, exactly, to what later components are given.

A thin layer of hooks over the modules of transformers: no model is rewritten. A `Writer` is a
module that one or more components speak through, a `Reader` a module whose input is a sum of
earlier outputs. Constants (biases of projections) belong to no component; they are the same in
every run, so that differences of runs add up without them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Literal, TypeAlias

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

Kind: TypeAlias = Literal["input", "head", "mlp", "norm", "block", "output"]
Change: TypeAlias = Callable[[], Tensor]
PORTS = ("q", "k", "v")


@dataclass(frozen=True)
class Node:
    """A component. `layer` counts from 1, 0 is the embeddings; `depth` is layer / layers."""

    id: str
    kind: Kind
    layer: int
    head: int | None
    depth: float


@dataclass(frozen=True)
class Edge:
    """The output of `source` is part of the input of `target`; a head reads through q, k and v."""

    source: int
    target: int
    port: str


def by_head(flat: Tensor, heads: int) -> Tensor:
    """(…, H, dh) of (…, H * dh)."""
    return flat.reshape(*flat.shape[:-1], heads, -1)


def rows_by_head(weight: Tensor, heads: int) -> Tensor:
    """(H, dh, …) of a projection's weight or bias (H * dh, …)."""
    return weight.reshape(heads, -1, *weight.shape[1:])


@dataclass(frozen=True, eq=False)
class Writer:
    """One node whose output is that of `module`: (B, …), the last axis its width.

    The raw tensor of a run is compact; all methods are linear in it, so that a difference of two
    runs is as good as a run.
    """

    module: nn.Module
    nodes: tuple[int, ...]

    width_axis = -1

    def raw(self, arguments: tuple[Any, ...], out: Any) -> Tensor:
        """The tensor to record of a call of the module."""
        kept: Tensor = out
        return kept

    def mixed(self, raw: Tensor, weights: Tensor) -> Tensor:
        """(P, B, …) sums of the nodes' outputs under `weights` (P, n)."""
        return weights[:, 0].reshape(-1, *[1] * raw.dim()) * raw

    def dots(self, raw: Tensor, gradients: Tensor) -> Tensor:
        """(B, P, n) inner products of the nodes' outputs with gradients (P, B, …)."""
        return torch.einsum("pbk,bk->bp", gradients.flatten(2), raw.flatten(1))[..., None]


@dataclass(frozen=True, eq=False)
class Heads(Writer):
    """The heads of one attention: `module` is the output projection, its input the heads' values.

    Head h says W_o[:, h] z_h, for its slice of the flat (B, T, H * dh) input: axis 1 is tokens. The
    projection's bias is nobody's.
    """

    module: nn.Linear

    def raw(self, arguments: tuple[Any, ...], out: Any) -> Tensor:
        """(B, T, H * dh) what the heads gather."""
        kept: Tensor = arguments[0]
        return kept

    def mixed(self, raw: Tensor, weights: Tensor) -> Tensor:
        """(P, B, T, d)."""
        chosen = weights[:, None, None, :, None] * by_head(raw, len(self.nodes))
        out: Tensor = chosen.flatten(3) @ self.module.weight.T
        return out

    def dots(self, raw: Tensor, gradients: Tensor) -> Tensor:
        """(B, P, H)."""
        products = (gradients @ self.module.weight) * raw
        return by_head(products, len(self.nodes)).sum(dim=(2, 4)).transpose(0, 1)


@dataclass(frozen=True, eq=False)
class Channels(Writer):
    """Groups of neighbouring channels of a convolutional block's output (B, C, h, w)."""

    owner: Tensor
    """(C,) which group a channel is in."""

    width_axis = -3

    def mixed(self, raw: Tensor, weights: Tensor) -> Tensor:
        """(P, B, C, h, w)."""
        return weights[:, self.owner.to(weights.device)][:, None, :, None, None] * raw

    def dots(self, raw: Tensor, gradients: Tensor) -> Tensor:
        """(B, P, n)."""
        products = (gradients * raw).sum(dim=(3, 4)).transpose(0, 1)
        groups = nn.functional.one_hot(self.owner, len(self.nodes)).to(products)
        return products @ groups


@dataclass
class Seen:
    """Inputs of a reader in one forward, and the tensors whose gradients score its edges."""

    total: Tensor | None = None
    reads: list[Tensor] = field(default_factory=list)


@dataclass(frozen=True, eq=False)
class Reader:
    """One node whose input is what the writers at `sources` say, added up.

    `after`: the sum is the output of `module` (the last LayerNorm, which only the classifier
    reads), not its input.
    """

    module: nn.Module
    targets: tuple[tuple[int, str], ...]
    sources: tuple[int, ...]
    after: bool = False

    def _on(self, change: Callable[[Tensor], Tensor]) -> RemovableHandle:
        """Pass what is read through `change`."""
        if self.after:
            return self.module.register_forward_hook(lambda _, __, out: change(out))
        return self.module.register_forward_pre_hook(
            lambda _, arguments: (change(arguments[0]), *arguments[1:])
        )

    def patch(self, change: Change) -> list[RemovableHandle]:
        """Add `change()` (1, B, …) to what is read, in every forward until the hooks go."""
        return [self._on(lambda total: total + change()[0])]

    def watch(self, seen: Seen) -> list[RemovableHandle]:
        """Fill `seen` in the next forward."""

        def look(total: Tensor) -> Tensor:
            seen.total = total.detach()
            alias = total.view_as(total)  # its gradient is that of this reader alone
            seen.reads[:] = [alias]
            return alias

        return [self._on(look)]

    def gradients(self, seen: Seen, grads: Sequence[Tensor]) -> Tensor:
        """(P, B, …) gradients at the sum, one a target, from those of `seen.reads`."""
        return grads[0][None]


@dataclass(frozen=True, eq=False)
class HeadInputs(Reader):
    """The heads of one attention, each reading the sum through q, k and v of its own.

    `module` is what is given the sum: the LayerNorm before the attention, which then is `norm`, or
    the query projection. A head's share of a projection is recomputed for another sum; the other
    heads' shares stay as they are, to the bit.
    """

    projections: tuple[nn.Linear, nn.Linear, nn.Linear] = field(kw_only=True)
    norm: nn.Module | None = field(kw_only=True)
    heads: int = field(kw_only=True)

    def normed(self, total: Tensor) -> Tensor:
        """The projections' input for a sum; `forward`, so that no hook sees it."""
        if self.norm is None:
            return total
        out: Tensor = self.norm.forward(total)
        return out

    def patch(self, change: Change) -> list[RemovableHandle]:
        """Add `change()` (3 H, B, T, d) to what every head reads by each of q, k and v."""
        seen: list[Tensor] = []

        def look(total: Tensor) -> Tensor:
            seen[:] = [total, change()]
            return total

        def again(port: int) -> Callable[..., Tensor | None]:
            def recompute(linear: nn.Linear, _: Any, out: Tensor) -> Tensor | None:
                total, changes = seen
                mine = changes[port * self.heads : (port + 1) * self.heads]
                chosen = mine.flatten(1).any(dim=1).nonzero()[:, 0]
                if not len(chosen):
                    return None
                weight = rows_by_head(linear.weight, self.heads)[chosen]
                made = torch.einsum("hbtd,hed->bthe", self.normed(total + mine[chosen]), weight)
                if linear.bias is not None:
                    made = made + rows_by_head(linear.bias, self.heads)[chosen]
                parts = by_head(out, self.heads).clone()
                parts[:, :, chosen] = made
                return parts.flatten(2)

            return recompute

        hooks = [
            linear.register_forward_hook(again(i)) for i, linear in enumerate(self.projections)
        ]
        return [self._on(look), *hooks]

    def watch(self, seen: Seen) -> list[RemovableHandle]:
        """Fill `seen`: the sum, and the three projections."""

        def look(total: Tensor) -> Tensor:
            seen.total = total.detach()
            seen.reads.clear()
            return total

        def keep(_: nn.Module, __: Any, out: Tensor) -> None:
            seen.reads.append(out)

        return [
            self._on(look),
            *(linear.register_forward_hook(keep) for linear in self.projections),
        ]

    def gradients(self, seen: Seen, grads: Sequence[Tensor]) -> Tensor:
        """(3 H, B, T, d): back through each head's share of the projections, then the norm."""
        back = torch.cat(
            [
                torch.einsum(
                    "bthe,hed->hbtd",
                    by_head(gradient, self.heads),
                    rows_by_head(linear.weight, self.heads),
                )
                for gradient, linear in zip(grads, self.projections, strict=True)
            ]
        )
        if self.norm is None or seen.total is None:
            return back
        total = seen.total.expand(back.shape).clone().requires_grad_()
        with torch.enable_grad():
            (out,) = torch.autograd.grad(self.normed(total), total, back)
        return out


@dataclass(frozen=True, eq=False)
class Graph:
    """Components and who reads whom. Writer 0 is the input; later writers depend on earlier ones.

    Edges are in the order of readers, within a reader target by target, source by source.
    """

    family: str
    nodes: tuple[Node, ...]
    writers: tuple[Writer, ...]
    readers: tuple[Reader, ...]
    reads_for: Mapping[int, int] = field(default_factory=dict)
    """Node → the node that reads for it, where that is another: a block for its channels."""

    @cached_property
    def edges(self) -> tuple[Edge, ...]:
        """(E,) all of them."""
        return tuple(
            Edge(source, target, port)
            for reader in self.readers
            for target, port in reader.targets
            for writer in reader.sources
            for source in self.writers[writer].nodes
        )

    @cached_property
    def spans(self) -> tuple[slice, ...]:
        """Where each reader's edges are."""
        spans, start = [], 0
        for reader in self.readers:
            sources = sum(len(self.writers[writer].nodes) for writer in reader.sources)
            spans.append(slice(start, start + len(reader.targets) * sources))
            start = spans[-1].stop
        return tuple(spans)

    @cached_property
    def names(self) -> tuple[tuple[str, str], ...]:
        """(E,) source and target by name; a head's inputs are `attn1.h0.q` and so on."""
        return tuple(
            (
                self.nodes[edge.source].id,
                ".".join(filter(None, (self.nodes[edge.target].id, edge.port))),
            )
            for edge in self.edges
        )

    def same_as(self, other: Graph) -> bool:
        """Whether the graphs are isomorphic, node by node: the same family and size."""
        return (self.family, self.nodes, self.edges) == (other.family, other.nodes, other.edges)

    def mixed(
        self, reader: Reader, raws: Mapping[int, Tensor] | Sequence[Tensor], weights: Tensor
    ) -> Tensor:
        """(P, B, …) weighted sums of what a reader's sources say; `weights` are (P, sources)."""
        sizes = [len(self.writers[writer].nodes) for writer in reader.sources]
        parts = [
            self.writers[writer].mixed(raws[writer], part)
            for writer, part in zip(reader.sources, torch.split(weights, sizes, dim=1), strict=True)
            if part.any()
        ]
        return torch.stack(parts).sum(dim=0) if len(parts) > 1 else parts[0]
