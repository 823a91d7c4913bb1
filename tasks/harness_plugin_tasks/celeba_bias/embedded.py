"""Drawn faces in CelebA's proportions: small, offline, the same for the same seed."""

from __future__ import annotations

import numpy as np

from harness_plugin.data.dataset import DataRequest, Ints, Purpose, Split, TaskData
from harness_plugin.errors import HarnessError
from harness_plugin_tasks._shared.planted import proportional
from harness_plugin_tasks.celeba_bias.cells import TRAIN_CELLS, Faces, Pair, face_split
from harness_plugin_tasks.celeba_bias.faces import GENDERED, Bools, Pixels, draw, paint, shapes

PAIR = Pair("Blond_Hair", "Male")
FEW = 30
"""Below this many rows the accuracy of a group is noise."""

STREAMS = {"train": 0, "id": 1, "balanced": 2, "validation": 3}
"""The random stream of each split: the size of one leaves the faces of the others as they are."""


def load(request: DataRequest) -> TaskData:
    """Splits `train`, `validation`, `id` (CelebA's proportions) and `balanced` (equal cells).

    Options: `n_train`, `n_validation` and `n_test` rows of train, validation and id (balanced has
    half of n_test), and `image_size`. The 4,000 rows of `id` hold 34 blond men, the fewest that
    give a worst group there any meaning; `balanced` measures it well.

    Raises HarnessError for another attribute pair than Blond_Hair and Male.
    """
    options = request.options
    if Pair(options["label"], options["attribute"]) != PAIR:
        raise HarnessError(
            f"embedded faces are drawn for label={PAIR.label}, attribute={PAIR.attribute}; "
            f"label={options['label']}, attribute={options['attribute']} needs the real faces: "
            "use --data hub or --data PATH."
        )
    size = positive(request, "image_size")
    counts = planned(request)
    natural = counts["train"][1]
    splits = {
        name: faces_split(name, purpose, count, natural, [request.seed, STREAMS[name]], size)
        for name, (purpose, count) in counts.items()
    }
    notes = [
        f"{name}: {count.min()} rows of group {PAIR.groups[int(count.argmin())]}; an accuracy over "
        f"fewer than {FEW} is noise (raise celeba_bias.n_test)"
        for name, (purpose, count) in counts.items()
        if purpose in ("in_domain", "ood") and count.min() < FEW
    ]
    return TaskData("celeba_bias", "embedded", splits, tuple(notes))


def planned(request: DataRequest) -> dict[str, tuple[Purpose, Ints]]:
    """The purpose of every split, and how many of its faces (4,) fall in each cell."""
    n_train, n_validation, n_test = (
        positive(request, key) for key in ("n_train", "n_validation", "n_test")
    )
    return {
        "train": ("train", natural_counts(n_train)),
        "validation": ("validation", natural_counts(n_validation)),
        "id": ("in_domain", natural_counts(n_test)),
        "balanced": ("ood", np.full(4, max(n_test // 8, 1))),
    }


def positive(request: DataRequest, key: str) -> int:
    """An option that must be a whole number of at least 4 (a row a cell, a pixel a feature)."""
    value = request.options[key]
    if not isinstance(value, int) or value < 4:
        raise HarnessError(
            f"celeba_bias.{key} must be a whole number of at least 4, not {value!r}."
        )
    return value


def natural_counts(n: int) -> Ints:
    """(4,) how many of `n` faces fall in every cell at CelebA's proportions, at least one each."""
    return proportional(n, TRAIN_CELLS)


def faces_split(
    name: str, purpose: Purpose, counts: Ints, train_counts: Ints, seed: list[int], size: int
) -> Split:
    """One split with `counts` (4,) faces by cell, in random order."""
    rng = np.random.default_rng(seed)
    cell = shuffled(counts, rng)
    images = draw(cell // 2 == 1, cell % 2 == 1, rng, size)
    ids = [f"{name}-{row:06d}" for row in range(len(cell))]
    return face_split(name, purpose, PAIR, Faces(encoded(images), ids, cell), train_counts)


def shuffled(counts: Ints, rng: np.random.Generator) -> Ints:
    """(N,) the cell of every face."""
    return rng.permutation(np.repeat(np.arange(4), counts))


def gender_region(request: DataRequest, split: Split) -> Bools:
    """(N, H, W) the face and neck of every row, without hair, which carries the label.

    Shapes are the first that a split's random stream draws, so that they can be drawn again.
    """
    size = positive(request, "image_size")
    number = np.array([int(name.rpartition("-")[2]) for name in split.ids])
    drawn_as = str(split.ids[0]).rpartition("-")[0]  # rows may have been held out under a new name
    rng = np.random.default_rng([request.seed, STREAMS[drawn_as]])
    male = shuffled(planned(request)[drawn_as][1], rng) % 2 == 1
    measures = {name: value[number] for name, value in shapes(male, rng).items()}
    return np.isin(paint(measures, size), GENDERED)


def encoded(images: Pixels) -> list[bytes]:
    """Every image (N, H, W, 3) as a PPM file: lossless, and raw pixels behind a short header.

    Written by hand because it costs nothing, where PNG takes a second for 8,000 faces.
    """
    header = f"P6 {images.shape[2]} {images.shape[1]} 255\n".encode()
    return [header + image.tobytes() for image in images]
