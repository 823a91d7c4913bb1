"""Pictures of ten classes → corrupted pictures, nearly all of a class with its own corruption."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from harness_plugin.data.dataset import DataRequest, Ints, Purpose, TaskData
from harness_plugin.errors import HarnessError
from harness_plugin_tasks._shared.images.cifar import Objects
from harness_plugin_tasks._shared.images.splits import Cells, cell_split
from harness_plugin_tasks._shared.options import share, whole_number
from harness_plugin_tasks._shared.planted import own_cues
from harness_plugin_tasks.corrupted_cifar10.corruptions import CORRUPTIONS, corrupted

FEWEST = 20
"""Two rows a class: one with its own corruption, one with another."""


def build(
    request: DataRequest,
    labels: tuple[str, ...],
    parts: dict[str, Objects],
    sizes: dict[str, int | None],
    notes: Sequence[str],
) -> TaskData:
    """Splits `train`, `validation`, `id` and `unbiased`, from pictures `train` and `test`.

    Without pictures `train` there are the test sets alone.
    `sizes` are rows of train, validation and test, None = all that are left. Validation is held
    out of the training pictures. The test pictures are corrupted twice: as the training pictures
    are (`id`), and with all corruptions equally frequent (`unbiased`). Nam et al. 2020 draw every
    row's corruption; here the share of conflicting rows is exact for every class.

    Raises HarnessError when there are fewer pictures than asked for.
    """
    task, conflict = request.task.task, share(request, "conflict")
    severity = severity_of(request)
    cells = Cells(labels, tuple(CORRUPTIONS), "corruption", by="alignment")
    n_validation, n_train, n_test = sizes["validation"] or 0, sizes["train"], sizes["test"]
    of: dict[str, Objects] = {}

    def shuffled(part: str, stream: int, least: int) -> Ints:
        there = np.random.default_rng([request.seed, stream]).permutation(len(parts[part].label))
        if least > len(there):
            raise HarnessError(
                f"{task}: {least:,} {part} pictures asked for (validation among them), "
                f"{len(there):,} are there."
            )
        return there

    if "train" in parts:
        order = shuffled("train", 100, n_validation + max(n_train or 0, FEWEST))
        of["validation"] = parts["train"].select(np.sort(order[:n_validation]))
        of["train"] = parts["train"].select(np.sort(order[n_validation:][:n_train]))
    of["test"] = parts["test"].select(np.sort(shuffled("test", 101, n_test or 0)[:n_test]))
    uniform = 1 - 1 / len(CORRUPTIONS)
    plan: dict[str, tuple[Purpose, str, float]] = {
        "train": ("train", "train", conflict),
        "validation": ("validation", "validation", conflict),
        "id": ("in_domain", "test", conflict),
        "unbiased": ("ood", "test", uniform),
    }
    splits = {}
    for stream, (name, (purpose, part, rate)) in enumerate(plan.items()):
        if part not in of:
            continue
        objects, rng = of[part], np.random.default_rng([request.seed, stream])
        value = own_cues(rng, objects.label, rate, len(CORRUPTIONS))
        pixels = corrupted(objects.pixels, value, severity, rng)
        splits[name] = cell_split(name, purpose, cells, pixels, label=objects.label, value=value)
    return TaskData(task, request.source, splits, tuple(notes))


def severity_of(request: DataRequest) -> int:
    """The option `severity`, 1 to 5. Raises HarnessError."""
    severity = whole_number(request, "severity")
    if severity > 5:
        raise HarnessError(f"{request.task.task}.severity must be 1 to 5, found {severity}.")
    return severity
