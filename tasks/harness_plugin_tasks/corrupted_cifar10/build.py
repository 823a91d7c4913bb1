"""Pictures of ten classes → corrupted pictures, nearly all of a class with its own corruption."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from harness_plugin.data.dataset import DataRequest, Purpose, TaskData
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

    `sizes` are rows of train, validation and test, None = all that are left. Validation is held
    out of the training pictures. The test pictures are corrupted twice: as the training pictures
    are (`id`), and with all corruptions equally frequent (`unbiased`). Nam et al. 2020 draw every
    row's corruption; here the share of conflicting rows is exact for every class.

    Raises HarnessError when there are fewer pictures than asked for.
    """
    task, conflict = request.task.task, share(request, "conflict")
    severity = severity_of(request)
    cells = Cells(labels, tuple(CORRUPTIONS), "corruption", by="alignment")
    n_validation = sizes["validation"] or 0
    trained = np.random.default_rng([request.seed, 100]).permutation(len(parts["train"].label))
    tested = np.random.default_rng([request.seed, 101]).permutation(len(parts["test"].label))
    n_train = len(trained) - n_validation if sizes["train"] is None else sizes["train"]
    n_test = len(tested) if sizes["test"] is None else sizes["test"]
    for kind, wanted, found in (
        ("training", max(n_train, FEWEST) + n_validation, len(trained)),
        ("test", n_test, len(tested)),
    ):
        if wanted > found:
            raise HarnessError(
                f"{task}: {wanted:,} {kind} pictures asked for (validation among them), "
                f"{found:,} are there."
            )
    test = parts["test"].select(np.sort(tested[:n_test]))
    validation = parts["train"].select(np.sort(trained[:n_validation]))
    train = parts["train"].select(np.sort(trained[n_validation:][:n_train]))
    uniform = 1 - 1 / len(CORRUPTIONS)
    plan: dict[str, tuple[Purpose, Objects, float]] = {
        "train": ("train", train, conflict),
        "validation": ("validation", validation, conflict),
        "id": ("in_domain", test, conflict),
        "unbiased": ("ood", test, uniform),
    }
    splits = {}
    for stream, (name, (purpose, objects, rate)) in enumerate(plan.items()):
        rng = np.random.default_rng([request.seed, stream])
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
