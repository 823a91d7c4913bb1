"""PACS from the hub, from a copy with the hub's columns, or from the tree of the release."""

from __future__ import annotations

from pathlib import Path

import datasets
import numpy as np

from harness_plugin.data.dataset import DataRequest, TaskData
from harness_plugin.data.hub import load_hub
from harness_plugin.errors import HarnessError
from harness_plugin_tasks._shared.files import count_variants, data_folder, read_layout
from harness_plugin_tasks._shared.images.splits import FEWEST, class_indices, stored_images
from harness_plugin_tasks._shared.options import optional_rows
from harness_plugin_tasks.pacs_bias.design import (
    CLASSES,
    DOMAINS,
    Pool,
    design_of,
    designed,
)

REPOSITORY, REVISION = "flwrlabs/pacs", "main"
SUFFIXES = (".jpeg", ".jpg", ".png")
RELEASED = {
    "art_painting": (379, 255, 285, 184, 201, 295, 449),
    "cartoon": (389, 457, 346, 135, 324, 288, 405),
    "photo": (189, 202, 182, 186, 199, 280, 432),
    "sketch": (772, 740, 753, 608, 816, 80, 160),
}
"""Released pictures by domain, in the order of CLASSES."""


def load(request: DataRequest) -> TaskData:
    """Splits `train`, `validation`, `id` and `balanced` of the design that the options ask for.

    Raises HarnessError naming the file, column or row of anything missing or malformed.
    """
    design = design_of(request)
    pool = read_pool(request)
    notes: list[str] = []
    for number, (domain, released) in enumerate(RELEASED.items()):
        counts = np.bincount(pool.kind[pool.domain == number], minlength=len(CLASSES))
        notes += count_variants(domain, counts, released, CLASSES)
    n_train = optional_rows(request, "n_train", FEWEST)
    return designed(request, pool, design, n_train, notes)


def read_pool(request: DataRequest) -> Pool:
    """All pictures of the source."""
    if request.source == "hub":
        return from_hub(load_hub(REPOSITORY, revision=REVISION), REPOSITORY)
    root = data_folder(request)
    folders = (root, root / "PACS", root / "pacs")
    domains = ", ".join(DOMAINS)
    return read_layout(
        folders,
        lambda folder: any((folder / domain).is_dir() for domain in DOMAINS),
        from_tree,
        from_hub,
        f"<domain>/<class>/ with the domains {domains} (also looked in PACS/ and pacs/)",
    )


def from_tree(folder: Path) -> Pool:
    """<domain>/<class>/*.jpg or .png; nothing is opened.

    Raises HarnessError naming a domain or class directory that is missing or unknown.
    """
    files: list[Path] = []
    cells: list[tuple[int, int]] = []
    for domain in DOMAINS:
        if not (folder / domain).is_dir():
            raise HarnessError(f"{folder}: the directory {domain}/ is missing.")
        present = {place.name for place in (folder / domain).iterdir() if place.is_dir()}
        if present != set(CLASSES):
            raise HarnessError(
                f"{folder / domain}: found the directories {', '.join(sorted(present)) or 'none'}; "
                f"expected {', '.join(CLASSES)}."
            )
        for kind, name in enumerate(CLASSES):
            pictures = sorted((folder / domain / name).iterdir())
            chosen = [file for file in pictures if file.suffix.lower() in SUFFIXES]
            files += chosen
            cells += [(kind, DOMAINS.index(domain))] * len(chosen)
    if not files:
        raise HarnessError(f"{folder}: no picture ({', '.join(SUFFIXES)}).")
    kind_of, domain_of = np.array(cells, dtype=np.int64).T
    images = datasets.Dataset.from_dict(
        {"image": [str(file) for file in files]},
        features=datasets.Features({"image": datasets.Image()}),
    )
    ids = [file.relative_to(folder).as_posix() for file in files]
    return Pool(images, ids, kind_of, domain_of)


def from_hub(loaded: datasets.DatasetDict, where: str) -> Pool:
    """Columns `image`, `label` and `domain` of all splits, one after the other."""
    images, ids, kinds, domains = [], [], [], []
    for name, rows in loaded.items():
        here = f"{where}, split {name!r}"
        kinds.append(class_indices(rows, CLASSES, here))
        domains.append(class_indices(rows, DOMAINS, here, "domain"))
        images.append(stored_images(rows, "image", here))
        ids += [f"{name}-{row:06d}" for row in range(len(rows))]
    return Pool(
        datasets.concatenate_datasets(images), ids, np.concatenate(kinds), np.concatenate(domains)
    )
