"""Drawn animals and things, filled and shaded as photos or outlined as sketches."""

from __future__ import annotations

import numpy as np

from harness_plugin.data.dataset import DataRequest, TaskData
from harness_plugin.errors import HarnessError
from harness_plugin_tasks._shared.images.drawings import (
    Jitter,
    Part,
    box,
    drawn,
    ellipse,
    noisy,
    stroke,
)
from harness_plugin_tasks._shared.images.splits import BIASED_SPLITS, FEWEST, Pixels, image_column
from harness_plugin_tasks._shared.options import optional_rows, share, whole_number
from harness_plugin_tasks.pacs_bias.design import (
    CLASSES,
    DOMAINS,
    Pool,
    biased_counts,
    design_of,
    designed,
    set_counts,
)

SHAPES: dict[str, tuple[Part, ...]] = {
    "horse": (
        ellipse(0.47, 0.48, 0.22, 0.12),
        Part([(0.60, 0.48), (0.72, 0.20), (0.82, 0.24), (0.70, 0.54)]),
        ellipse(0.80, 0.25, 0.10, 0.06),
        box(0.30, 0.55, 0.36, 0.84),
        box(0.58, 0.55, 0.64, 0.84),
        stroke((0.26, 0.46), (0.16, 0.66)),
    ),
    "giraffe": (
        ellipse(0.42, 0.56, 0.18, 0.10),
        Part([(0.50, 0.54), (0.68, 0.12), (0.75, 0.15), (0.60, 0.60)]),
        ellipse(0.76, 0.14, 0.09, 0.05),
        box(0.28, 0.60, 0.33, 0.90),
        box(0.51, 0.60, 0.56, 0.90),
    ),
    "house": (
        box(0.24, 0.46, 0.76, 0.84),
        Part([(0.16, 0.48), (0.50, 0.18), (0.84, 0.48)]),
        box(0.44, 0.62, 0.56, 0.84, dark=True),
    ),
    "guitar": (
        ellipse(0.50, 0.70, 0.20, 0.17),
        ellipse(0.50, 0.48, 0.14, 0.12),
        box(0.47, 0.12, 0.53, 0.44),
        ellipse(0.50, 0.64, 0.06, 0.06, dark=True),
    ),
}
N_TRAIN = 4000
"""Training drawings where the option is left at null."""
STYLES = ("photo", "sketch")
JITTER = Jitter(scale=0.3, turn=0.5, shift=0.12, shear=0.25, flip=True)
GRAIN = 0.08
"""Standard deviation of the noise on every pixel of a photo, of full scale."""


def load(request: DataRequest) -> TaskData:
    """The sets of the released pictures' design, from as many drawings as they need.

    Raises HarnessError for classes or domains that are not drawn.
    """
    design = design_of(request)
    names = design.classes[0] + design.classes[1]
    kinds = [tuple(name for name in group if name in SHAPES) for group in design.classes]
    if set(design.cells.values) != set(STYLES) or not all(kinds):
        raise HarnessError(
            f"{request.task.task}: embedded drawings are {', '.join(SHAPES)} in the domains "
            f"{' and '.join(STYLES)}; {', '.join(names)} in {' and '.join(design.cells.values)} "
            "needs the real pictures: use --data hub or --data PATH."
        )
    n_train = optional_rows(request, "n_train", FEWEST) or N_TRAIN
    counts = biased_counts(n_train // 2, share(request, "bias_rate"))
    for name in BIASED_SPLITS.keys() - {"train"}:
        counts = counts + set_counts(request, name)
    rng = np.random.default_rng([request.seed, 1])
    size = whole_number(request, "image_size", 16)
    pixels, kind, domain = [], [], []
    for label, drawable in enumerate(kinds):
        for value, style in enumerate(design.cells.values):
            for row in range(counts[label, value]):
                name = drawable[row % len(drawable)]
                pixels.append(picture(SHAPES[name], style, rng, size))
                kind.append(CLASSES.index(name))
                domain.append(DOMAINS.index(style))
    ids = [f"drawing-{row:06d}" for row in range(len(pixels))]
    pool = Pool(image_column(np.stack(pixels)), ids, np.array(kind), np.array(domain))
    notes = ["embedded: pictures drawn by this package, not PACS"]
    return designed(request, pool, design, n_train, notes)


def picture(shape: tuple[Part, ...], style: str, rng: np.random.Generator, size: int) -> Pixels:
    """(size, size, 3): a coloured shape over a shaded ground, or dark lines on white paper."""
    if style == "sketch":
        paper = np.full((size, size, 3), rng.integers(235, 256), np.uint8)
        ink = int(rng.integers(0, 70))
        line = float(rng.uniform(0.03, 0.06))
        return drawn(
            shape, paper, rng, colour=(ink, ink, ink), jitter=JITTER, line=line, outlined=True
        )
    above, below = rng.integers(40, 220, (2, 3))
    height = np.linspace(0, 1, size)[:, None, None]
    ground = np.broadcast_to(above + height * (below - above), (size, size, 3)).astype(np.uint8)
    red, green, blue = rng.integers(20, 240, 3).tolist()
    return noisy(drawn(shape, ground, rng, colour=(red, green, blue), jitter=JITTER), rng, GRAIN)
