"""The embedded source: generated pairs, and rounds in which the give-away points the wrong way."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from harness_plugin.data.dataset import DataRequest, Purpose, Split, TaskData
from harness_plugin.errors import HarnessError
from harness_plugin_tasks._shared.options import whole_number
from harness_plugin_tasks._shared.text import grammar
from harness_plugin_tasks._shared.text.giveaways import giveaway_split
from harness_plugin_tasks._shared.text.nli_embedded import planted_data

RATES = {"r1": 0.5, "r2": 0.25, "r3": 0.1}
"""Share of each round's pairs whose opener points to the label: rounds look for what fails."""

LEAST = 30
"""Pairs of a round that leave none of its six groups empty."""


def load(request: DataRequest) -> TaskData:
    """The splits of `nli.embedded.planted_data` and `test_r1` to `test_r3`.

    Groups are label x easy or hard, by construction; `round` is a breakdown. Raises HarnessError
    for sizes that leave a group empty.
    """
    size = whole_number(request, "n_round")
    if size < LEAST:
        raise HarnessError(f"anli.n_round must be at least {LEAST}, so that no group is empty.")

    def rounds(rng: np.random.Generator) -> list[tuple[grammar.Rows, Split]]:
        parts = []
        for (name, rate), stream in zip(RATES.items(), rng.spawn(len(RATES)), strict=True):
            rows = grammar.biased(stream, f"test_{name}", size, rate, grammar.GIVEAWAYS)
            parts.append((rows, in_round(f"test_{name}", "ood", rows)))
        return parts

    return planted_data(request, grammar.GIVEAWAYS, in_round, rounds)


def in_round(name: str, purpose: Purpose, rows: grammar.Rows) -> Split:
    """A split by give-away with the breakdown `round`, "" outside the rounds."""
    split = giveaway_split(name, purpose, rows)
    number = name.removeprefix("test_") if name.startswith("test_") else ""
    return replace(
        split,
        content=split.rows.add_column("round", [number] * len(split)),
        breakdowns=(*split.breakdowns, "round"),
    )
