"""Pictures of known class and domain → two labels that nearly always come in a domain each."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import datasets
import numpy as np

from harness_plugin.data.dataset import DataRequest, Ints, TaskData
from harness_plugin.errors import HarnessError, unknown
from harness_plugin_tasks._shared.images.splits import BIASED_SPLITS, FEWEST, Cells, cell_split
from harness_plugin_tasks._shared.options import share, whole_number

CLASSES = ("dog", "elephant", "giraffe", "guitar", "horse", "house", "person")
DOMAINS = ("art_painting", "cartoon", "photo", "sketch")


@dataclass(frozen=True)
class Pool:
    """All pictures: the column `image`, ids (N,), places in CLASSES (N,) and in DOMAINS (N,)."""

    images: datasets.Dataset
    ids: Sequence[str]
    kind: Ints
    domain: Ints


@dataclass(frozen=True)
class Design:
    """Two groups of classes, and the domain in which each of them mostly comes."""

    cells: Cells
    classes: tuple[tuple[str, ...], tuple[str, ...]]

    def members(self, pool: Pool, label: int, domain: int) -> Ints:
        """Rows of `pool` in one cell."""
        kinds = [CLASSES.index(name) for name in self.classes[label]]
        inside = pool.domain == DOMAINS.index(self.cells.values[domain])
        return np.flatnonzero(np.isin(pool.kind, kinds) & inside)


def design_of(request: DataRequest) -> Design:
    """The design that the options `classes`, `labels` and `domains` choose.

    Raises HarnessError for an unknown class or domain, and for one that is named twice.
    """
    labels, domains = pair(request, "labels"), pair(request, "domains")
    groups = pair(request, "classes")
    classes = tuple(tuple(g) if isinstance(g, list | tuple) else (str(g),) for g in groups)
    for names, known in ((sum(classes, ()), CLASSES), (domains, DOMAINS)):
        for name in names:
            if name not in known:
                raise unknown("class or domain of PACS", str(name), known)
        if not names or len(set(names)) != len(names):
            raise HarnessError(
                f"{request.task.task}: {', '.join(names) or 'no class'}: every class and domain "
                "may stand once."
            )
    return Design(Cells(labels, domains, "domain"), (classes[0], classes[1]))


def pair(request: DataRequest, name: str) -> tuple[Any, Any]:
    """The option `name`, a list of two different things. Raises HarnessError naming it."""
    value = request.options[name]
    if not isinstance(value, list | tuple) or len(value) != 2 or value[0] == value[1]:
        raise HarnessError(
            f"{request.task.task}.{name} must be a list of two different entries, found {value!r}."
        )
    return value[0], value[1]


def biased_counts(half: int, rate: float) -> Ints:
    """(2, 2) rows by label and domain: `half` a label, the share `rate` in its own domain.

    Every label has a row at least in the other domain.
    """
    other = max(round(half * (1 - rate)), 1)
    return np.array([[half - other, other], [other, half - other]])


def set_counts(request: DataRequest, name: str) -> Ints:
    """(2, 2) rows by cell of the set `name`, from the option n_<name>."""
    n = whole_number(request, f"n_{name}", FEWEST)
    if name == "balanced":
        return np.full((2, 2), n // 4)
    return biased_counts(n // 2, share(request, "bias_rate"))


def most(left: Ints, rate: float) -> int:
    """The most rows a label that `biased_counts` can spread over `left` (2, 2) rows by cell."""
    half = int(np.diag(left).min() + np.diag(left[:, ::-1]).min())
    while half > 1 and (biased_counts(half, rate) > left).any():
        half -= 1
    return half


def designed(
    request: DataRequest, pool: Pool, design: Design, n_train: int | None, notes: list[str]
) -> TaskData:
    """Disjoint sets: `balanced` has equal cells, the others the share `bias_rate` in one domain.

    The test sets and validation are filled first; n_train None is what the rarest cell leaves.

    Raises HarnessError naming the cell that has too few pictures.
    """
    rng = np.random.default_rng(request.seed)
    members = [[rng.permutation(design.members(pool, y, d)) for d in (0, 1)] for y in (0, 1)]
    counts = {name: set_counts(request, name) for name in BIASED_SPLITS if name != "train"}
    left: Ints = np.array([[len(rows) for rows in row] for row in members])
    left = left - np.sum(list(counts.values()), axis=0)
    rate = share(request, "bias_rate")
    half = most(left, rate) if n_train is None else n_train // 2
    counts["train"] = biased_counts(half, rate)
    if (short := counts["train"] - left).max() > 0 or counts["train"].min() < 1:
        y, d = np.unravel_index(int(short.argmax()), short.shape)
        raise HarnessError(
            f"{request.task.task}: {len(members[y][d]):,} pictures of "
            f"{design.cells.labels[y]}/{design.cells.values[d]}, the options ask for "
            f"{sum(int(c[y, d]) for c in counts.values()):,}; ask for fewer rows, or for more "
            "classes."
        )
    taken = np.zeros((2, 2), np.int64)
    splits = {}
    for name, purpose in BIASED_SPLITS.items():
        cell = [(y, d) for y in (0, 1) for d in (0, 1)]
        rows = [members[y][d][taken[y, d] :][: counts[name][y, d]] for y, d in cell]
        taken = taken + counts[name]
        label = np.repeat([y for y, _ in cell], [len(part) for part in rows])
        value = np.repeat([d for _, d in cell], [len(part) for part in rows])
        order = rng.permutation(len(label))
        chosen = np.concatenate(rows)[order]
        splits[name] = cell_split(
            name,
            purpose,
            design.cells,
            pool.images.select(chosen),
            label=label[order],
            value=value[order],
            ids=[pool.ids[row] for row in chosen],
            breakdowns={"class": [CLASSES[kind] for kind in pool.kind[chosen]]},
        )
    return TaskData(request.task.task, request.source, splits, tuple(notes))
