"""The embedded splits that the NLI tasks share: drawn from the grammar, biased and balanced."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TypeAlias

import numpy as np

from harness_plugin.data.dataset import DataRequest, Purpose, Split, TaskData
from harness_plugin.errors import HarnessError
from harness_plugin_tasks._shared.options import share, whole_number
from harness_plugin_tasks._shared.text import grammar
from harness_plugin_tasks._shared.text.grammar import Planted, Rows

MakeSplit: TypeAlias = Callable[[str, Purpose, Rows], Split]

PURPOSES: Mapping[str, Purpose] = {
    "train": "train",
    "validation": "validation",
    "id": "in_domain",
    "balanced": "ood",
}
LEAST = 6
"""Rows of a split that has one pair in each group."""


def planted_data(
    request: DataRequest,
    planted: Planted,
    as_split: MakeSplit,
    more: Callable[[np.random.Generator], list[tuple[Rows, Split]]] | None = None,
) -> TaskData:
    """`train`, `validation` and `id`, drawn alike, and `balanced`, in which the cue says nothing.

    A function of the options and the seed. In the first three the cue agrees with the label in the
    share `bias_rate` of each label; in `balanced` in half of the rows, so that its six groups are
    equally large. `more` draws further test sets, and the pairs that each is made of. Training
    pairs that stand in another split are left out. Raises HarnessError for sizes that leave a
    group empty.
    """
    sizes = {name: whole_number(request, f"n_{name}") for name in PURPOSES}
    rate = share(request, "bias_rate")
    for name, size in sizes.items():
        rare = size // 6 if name == "balanced" else round(size // 3 * (1 - rate))
        if size < LEAST or rare < 1:
            raise HarnessError(
                f"{request.task.task}.n_{name}={size} leaves a group without a pair; ask for more "
                f"pairs{'' if name == 'balanced' else f', or a bias_rate below {rate}'}."
            )
    # a stream of its own for every split, so that the size of one leaves the others as they are
    *streams, last = np.random.default_rng(request.seed).spawn(len(PURPOSES) + 1)
    rows = {
        name: grammar.balanced(stream, name, sizes[name], planted)
        if name == "balanced"
        else grammar.biased(stream, name, sizes[name], rate, planted)
        for name, stream in zip(PURPOSES, streams, strict=True)
    }
    further = more(last) if more else []
    tests = [rows[name] for name in list(PURPOSES)[1:]] + [pairs for pairs, _ in further]
    rows["train"] = grammar.unseen(rows["train"], *tests)
    splits = [as_split(name, PURPOSES[name], part) for name, part in rows.items()]
    splits += [split for _, split in further]
    note = f"embedded: generated, not the real sets; the cue holds in {rate:.1%} of train"
    return TaskData(
        request.task.task, request.source, {split.name: split for split in splits}, (note,)
    )
