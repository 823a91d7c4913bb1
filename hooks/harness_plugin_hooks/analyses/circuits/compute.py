"""Find the circuit of a model: all pairs are run, edges scored, circuits evaluated."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from harness_plugin.analysis.loaded_models import LoadedModel, inputs_of
from harness_plugin.errors import HarnessError
from harness_plugin.machine.progress import worked
from harness_plugin.records import Floats, Ints
from harness_plugin.scoring.statistics import resampling
from harness_plugin.training.inputs.encode import Encoded
from harness_plugin_hooks.analyses.circuits import patching
from harness_plugin_hooks.analyses.circuits.circuit import (
    Circuit,
    first_of,
    grown,
    sizes_of,
)
from harness_plugin_hooks.analyses.circuits.families import graph_of
from harness_plugin_hooks.analyses.circuits.graphs import Graph
from harness_plugin_hooks.analyses.circuits.options import CircuitOptions
from harness_plugin_hooks.analyses.circuits.pairs import Pairs

BATCH, MEMORY = 64, 2**28
"""Most pairs of a batch, and most bytes of what the components of a batch say."""

INEXACT = 1e-3
"""A model's sums may be that far off, as a share of their size: single precision is not."""


def explore(
    subject: LoadedModel,
    pairs: Pairs,
    clean: Encoded,
    twins: Encoded | None,
    targets: Ints,
    gold: Ints,
    options: CircuitOptions,
    *,
    device: torch.device,
    quiet: bool,
) -> Circuit:
    """Find and test the circuit of one model.

    `targets` (C,) say which label of the set each of the model's classes is; `gold` (N,) are the
    pairs' labels. Raises HarnessError where the architecture has no graph, or its sums do not add
    up in this model.
    """
    model = subject.model
    graph = graph_of(model)
    runner = BatchedPairs(
        model, graph, pairs, clean, twins, torch.from_numpy(targets), gold, device
    )
    runner.check_sums(f"{subject.role} seed {subject.seed}")
    parts: list[tuple[Tensor, ...]] = []
    for batch in runner.batches(f"{subject.role}: edges", quiet):
        scored, total = patching.attribute(
            model, graph, batch.inputs, batch.corrupted, batch.metric, options.ig_steps
        )
        parts.append((scored, total, batch.full, runner.at_input(batch) - batch.full))
    scores, attributed, full, actual = (
        np.asarray(torch.cat(part).double().cpu()) for part in zip(*parts, strict=True)
    )
    edges, rng = len(graph.edges), np.random.default_rng(options.seed)
    sizes = sizes_of(edges)
    strength = np.abs(scores.mean(axis=0))
    size = first_of(grown(graph, strength), sizes)
    draws = range(options.random_circuits)
    masks = [
        size,
        ~size,
        *(first_of(grown(graph, rng.random(edges)), sizes) for _ in draws),
        *(~first_of(rng.permutation(edges), sizes) for _ in draws),
    ]
    values = runner.values(np.concatenate(masks), f"{subject.role}: circuits", quiet)
    values = values.reshape(-1, len(sizes), len(pairs))
    kept, removed = values[:2]
    random_kept, random_removed = np.split(values[2:], 2)
    drawn = resampling.group_stratified_counts(pairs.group, options.resamples, rng)
    return Circuit(
        role=subject.role,
        seed=subject.seed,
        graph=graph,
        group=pairs.group,
        scores=scores,
        sizes=sizes,
        full=full,
        empty=kept[0],
        kept=kept,
        removed=removed,
        random_kept=random_kept,
        random_removed=random_removed,
        attributed=attributed,
        actual=actual,
        counts=np.concatenate([np.ones((1, len(pairs))), *drawn]),
    )


@dataclass(frozen=True)
class Batch:
    """Some pairs: the clean inputs, what all writers say in the corrupted run, and the metric."""

    inputs: dict[str, Tensor]
    corrupted: list[Tensor]
    metric: Callable[[Tensor], Tensor]
    full: Tensor


@dataclass
class BatchedPairs:
    """One model and the pairs it is asked, batch by batch."""

    model: Any
    graph: Graph
    pairs: Pairs
    clean: Encoded
    twins: Encoded | None
    targets: Tensor
    gold: Ints
    device: torch.device

    def __post_init__(self) -> None:
        longest = np.array([len(self.pairs) - 1])
        _, raws = patching.spoken(self.model, self.graph, self.inputs(longest))
        heads = max(len(writer.nodes) for writer in self.graph.writers)
        row = 4 * (3 * sum(raw.numel() for raw in raws) + 6 * heads * max(r.numel() for r in raws))
        self.batch = min(BATCH, max(1, MEMORY // row))
        self.means = None if self.twins is not None else self._means()

    def inputs(self, some: Ints) -> dict[str, Tensor]:
        """The clean inputs of some pairs."""
        return inputs_of(self.clean, self.pairs.rows[some], self.device)

    def other_inputs(self, some: Ints) -> dict[str, Tensor]:
        """The twins' inputs of some pairs, which correspond position by position."""
        if self.twins is None:
            raise HarnessError("these pairs have no twins.")
        out = inputs_of(self.twins, self.pairs.twin[some], self.device)
        patching.check_parity(self.inputs(some), out)
        return out

    def some(self) -> list[Ints]:
        """The pairs' numbers, batch by batch."""
        whole = np.arange(len(self.pairs))
        return [whole[start : start + self.batch] for start in range(0, len(whole), self.batch)]

    def check_sums(self, name: str) -> None:
        """Refuse a model whose inputs are not the sums that its graph says."""
        some = np.arange(min(4, len(self.pairs)))
        other = self.inputs(some[::-1].copy()) if self.twins is None else self.other_inputs(some)
        away = max(patching.inexactness(self.model, self.graph, self.inputs(some), other))
        if not away < INEXACT:
            raise HarnessError(
                f"{name}: the inputs of its modules differ by {away:.1%} from the sums of its "
                f"{self.graph.family} graph; {type(self.model).__name__} computes something else."
            )

    def batches(self, what: str, quiet: bool) -> Iterator[Batch]:
        """All pairs."""
        for some in worked(self.some(), what, quiet=quiet):
            inputs = self.inputs(some)
            logits, raws = patching.spoken(self.model, self.graph, inputs)
            if self.means is None:
                _, corrupted = patching.spoken(self.model, self.graph, self.other_inputs(some))
            else:
                corrupted = [
                    mean.expand(raw.shape) for mean, raw in zip(self.means, raws, strict=True)
                ]
            metric = margin(logits, self.targets, torch.from_numpy(self.gold[some]))
            yield Batch(inputs, corrupted, metric, metric(logits))

    def _means(self) -> list[Tensor]:
        """Mean output of every writer over rows and real positions, broadcastable."""
        sums = [torch.zeros(())] * len(self.graph.writers)
        counts = [0] * len(sums)
        for some in self.some():
            inputs = self.inputs(some)
            _, raws = patching.spoken(self.model, self.graph, inputs)
            for index, (writer, raw) in enumerate(zip(self.graph.writers, raws, strict=True)):
                output = raw.movedim(writer.width_axis, -1)
                if "attention_mask" in inputs:
                    output = output[inputs["attention_mask"].bool()]
                output = output.flatten(0, -2).double()
                sums[index] = sums[index].to(output) + output.sum(dim=0)
                counts[index] += len(output)
        return [
            (total / count).float().reshape(-1, *[1] * (-writer.width_axis - 1))
            for writer, total, count in zip(self.graph.writers, sums, counts, strict=True)
        ]

    @torch.no_grad()
    def at_input(self, batch: Batch) -> Tensor:
        """(B,) the metric where the input node alone says what it says in the corrupted run."""
        output = batch.corrupted[0]
        first = self.graph.writers[0].module.register_forward_hook(lambda _, __, ___: output)
        with patching.hooked([first]):
            return batch.metric(self.model(**batch.inputs).logits)

    def values(self, masks: NDArray[np.bool_], what: str, quiet: bool) -> Floats:
        """(K, N) the metric with only the edges of each mask (K, E)."""
        different, back = np.unique(masks, axis=0, return_inverse=True)
        parts = []
        for batch in self.batches(what, quiet):
            runs = (
                patching.patched(
                    self.model,
                    self.graph,
                    batch.inputs,
                    batch.corrupted,
                    torch.from_numpy(kept).to(self.device),
                )
                for kept in different
            )
            parts.append(torch.stack([batch.metric(logits) for logits in runs]))
        out: Floats = torch.cat(parts, dim=1).double().cpu().numpy()[back.reshape(-1)]
        return out


def margin(logits: Tensor, targets: Tensor, gold: Tensor) -> Callable[[Tensor], Tensor]:
    """The metric of a batch: the gold class's logit minus that of the strongest wrong one.

    Which classes these are is read once, from the clean run's `logits` (B, C), so that the metric
    is linear in logits. Where several classes are one label of the set (neutral and contradiction
    are non-entailment), the strongest of them stands for it. `targets` (C,), -1 = no label.
    """
    targets, gold = targets.to(logits.device), gold.to(logits.device)
    right = targets == gold[:, None]
    wrong = ~right & (targets >= 0)
    chosen = logits.masked_fill(~right, -math.inf).argmax(dim=1, keepdim=True)
    other = logits.masked_fill(~wrong, -math.inf).argmax(dim=1, keepdim=True)
    return lambda out: (out.gather(1, chosen) - out.gather(1, other))[:, 0].float()
