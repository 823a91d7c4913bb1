"""Edge attribution (EAP, EAP-IG) and patching of edges, by hooks in the model itself.

Sign: corrupted - clean. A score approximates by how much the metric changes when the edge alone
carries what its source says in the corrupted run (Syed et al. 2023, arXiv:2310.10348).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any, TypeAlias

import torch
from torch import Tensor, nn

from harness_plugin.errors import HarnessError
from harness_plugin_hooks.analyses.circuits.graphs import Graph, Seen

Metric: TypeAlias = Callable[[Tensor], Tensor]
"""Logits (B, C) -> (B,)."""

Inputs: TypeAlias = Mapping[str, Tensor]


def check_parity(clean: Inputs, corrupted: Inputs) -> None:
    """Refuse pairs whose positions do not correspond: unequal token lengths shift them."""
    for name in clean.keys() | corrupted.keys():
        if name not in clean or name not in corrupted:
            raise HarnessError(f"clean and corrupted inputs differ: one has no {name!r}.")
        if clean[name].shape != corrupted[name].shape:
            raise HarnessError(
                f"clean and corrupted rows are of unequal length ({name!r}: "
                f"{tuple(clean[name].shape)} and {tuple(corrupted[name].shape)})."
            )
    if "attention_mask" in clean:
        unequal = (clean["attention_mask"] != corrupted["attention_mask"]).any(dim=1).nonzero()
        if len(unequal):
            raise HarnessError(
                f"pair {int(unequal[0])} of the batch: clean and corrupted text are of unequal "
                f"token length."
            )


@contextmanager
def hooked(handles: Sequence[Any]) -> Iterator[None]:
    """Remove the hooks at the end, whatever happens."""
    with ExitStack() as stack:
        for handle in handles:
            stack.callback(handle.remove)
        yield


def keepers(graph: Graph, raws: list[Tensor]) -> list[Any]:
    """Hooks that put what every writer says into `raws`, in order."""

    def save_output(index: int) -> Callable[..., None]:
        def keep(_: nn.Module, arguments: tuple[Any, ...], out: Any) -> None:
            raws[index] = graph.writers[index].raw(arguments, out).detach()

        return keep

    raws[:] = [torch.empty(0)] * len(graph.writers)
    return [
        writer.module.register_forward_hook(save_output(index))
        for index, writer in enumerate(graph.writers)
    ]


@torch.no_grad()
def spoken(model: nn.Module, graph: Graph, inputs: Inputs) -> tuple[Tensor, list[Tensor]]:
    """Logits (B, C) of a run, and what every writer said in it (raw)."""
    check_eval(model)
    raws: list[Tensor] = []
    with hooked(keepers(graph, raws)):
        logits: Tensor = model(**inputs).logits
    return logits, raws


def check_eval(model: nn.Module) -> None:
    """Refuse a model in training mode."""
    if model.training:
        raise HarnessError("a model is read in eval mode: dropout would be in every number.")


@torch.no_grad()
def inexactness(model: nn.Module, graph: Graph, clean: Inputs, corrupted: Inputs) -> list[float]:
    """By how much each reader's input is not the sum of its sources, as a share of its size.

    Taken from the difference of two runs, in which constants that belong to no node cancel.
    """
    check_eval(model)
    seen: list[list[Seen]] = []
    raws: list[list[Tensor]] = []
    for inputs in (clean, corrupted):
        seen.append([Seen() for _ in graph.readers])
        raws.append([])
        watches = [reader.watch(one) for reader, one in zip(graph.readers, seen[-1], strict=True)]
        handles = [*keepers(graph, raws[-1]), *(handle for watch in watches for handle in watch)]
        with hooked(handles):
            model(**inputs)
    change = [b - a for a, b in zip(*raws, strict=True)]
    out = []
    for reader, one, other in zip(graph.readers, *seen, strict=True):
        if one.total is None or other.total is None:
            raise HarnessError(f"{type(reader.module).__name__} was not called in a forward.")
        sources = sum(len(graph.writers[writer].nodes) for writer in reader.sources)
        ones = torch.ones(1, sources, device=one.total.device)
        away = (other.total - one.total - graph.mixed(reader, change, ones)[0]).abs().max()
        out.append(float(away / one.total.abs().max().clamp(min=1e-12)))
    return out


@torch.no_grad()
def attribute(
    model: nn.Module,
    graph: Graph,
    inputs: Inputs,
    corrupted: Sequence[Tensor],
    metric: Metric,
    steps: int,
) -> tuple[Tensor, Tensor]:
    """(B, E) scores of all edges, and (B,) their total at the input node, for a batch of pairs.

    `corrupted` is what every writer says in the corrupted run (raw). Score of u -> v:
    (z'_u - z_u) . g_v. `steps` 0: EAP, g_v the metric's gradient at v's input in the clean run.
    `steps` m: EAP-IG (Hanna et al. 2024, arXiv:2403.17806), g_v the mean over the runs whose input
    node says x' + (k - 1/2)/m (x - x'), k = 1 … m: midpoints, where the authors' code takes left
    ends.

    The total is (x' - x) . mean gradient at the input node, by all paths; as m grows it becomes
    m(x') - m(x) (completeness).
    """
    _, clean = spoken(model, graph, inputs)
    change = [b - a for a, b in zip(clean, corrupted, strict=True)]
    if "attention_mask" in inputs:
        real = inputs["attention_mask"][..., None].to(change[0].dtype)
        change = [part * real for part in change]
    rows = len(clean[0])
    scores, total = clean[0].new_zeros(rows, len(graph.edges)), clean[0].new_zeros(rows)
    at = [(k + 0.5) / steps for k in range(steps)] or [1.0]
    for share in at:
        start = (clean[0] + (1 - share) * (corrupted[0] - clean[0])).requires_grad_()
        seen, gradient = gradients(model, graph, inputs, start, metric)
        total += (change[0] * gradient).flatten(1).sum(dim=1) / len(at)
        for reader, span, (one, grads) in zip(graph.readers, graph.spans, seen, strict=True):
            received = reader.gradients(one, grads)
            parts = [graph.writers[w].dots(change[w], received) for w in reader.sources]
            scores[:, span] += torch.cat(parts, dim=2).flatten(1) / len(at)
    return scores, total


def gradients(
    model: nn.Module, graph: Graph, inputs: Inputs, start: Tensor, metric: Metric
) -> tuple[list[tuple[Seen, list[Tensor]]], Tensor]:
    """Inputs of every reader and their gradients, with `start` for the input node's output.

    And the gradient at `start`.
    """
    seen = [Seen() for _ in graph.readers]
    first = graph.writers[0].module.register_forward_hook(lambda _, __, ___: start)
    watches = [reader.watch(one) for reader, one in zip(graph.readers, seen, strict=True)]
    with hooked([first, *(handle for watch in watches for handle in watch)]), torch.enable_grad():
        value = metric(model(**inputs).logits).sum()
        tensors = [tensor for one in seen for tensor in one.reads]
        values = torch.autograd.grad(
            value, [*tensors, start], allow_unused=True, materialize_grads=True
        )
    out, position = [], 0
    for one in seen:
        out.append((one, list(values[position : position + len(one.reads)])))
        position += len(one.reads)
    return out, values[-1]


@torch.no_grad()
def patched(
    model: nn.Module, graph: Graph, inputs: Inputs, corrupted: Sequence[Tensor], kept: Tensor
) -> Tensor:
    """Logits (B, C) where only the edges `kept` (E,) carry what their source says in this run.

    All others carry what it says in the corrupted run: a reader is given its sum plus
    z'_u - z_u of every source u whose edge is cut, z_u being what u says in the patched run.
    """
    check_eval(model)
    current: list[Tensor] = []
    handles = keepers(graph, current)
    for reader, span in zip(graph.readers, graph.spans, strict=True):
        cut = ~kept[span].reshape(len(reader.targets), -1)
        if not cut.any():
            continue

        def change(reader: Any = reader, cut: Tensor = cut) -> Tensor:
            moves = {w: corrupted[w] - current[w] for w in reader.sources}
            return graph.mixed(reader, moves, cut.to(current[0].dtype))

        handles += reader.patch(change)
    with hooked(handles):
        logits: Tensor = model(**inputs).logits
    return logits
