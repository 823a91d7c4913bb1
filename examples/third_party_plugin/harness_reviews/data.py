"""The task's data: sentences filled in from two short lists."""

from __future__ import annotations

import numpy as np

from harness_plugin.data.dataset import (
    ALIGNED,
    CONFLICTING,
    DataRequest,
    Purpose,
    Split,
    TaskData,
    make_split,
)
from harness_plugin.errors import HarnessError

LABELS = ("bad", "good")
PRODUCTS = ("film", "book")
GROUPS = tuple(f"{label}/{product}" for label in LABELS for product in PRODUCTS)
WORDS = {"good": ("moving", "clever", "warm"), "bad": ("dull", "clumsy", "flat")}
VAGUE = ("long", "loud")
"""What one review in five says, good or bad: there the product is the only cue."""


def load(request: DataRequest) -> TaskData:
    """Splits `train` and `id` (nine in ten agree with the bias), `balanced` (half of them do)."""
    n = request.options["n_train"]
    if not isinstance(n, int) or n < 40:
        raise HarnessError(f"reviews.n_train must be a whole number of at least 40, not {n!r}.")
    sizes: dict[str, tuple[Purpose, int, float]] = {
        "train": ("train", n, 0.9),
        "id": ("in_domain", 120, 0.9),
        "balanced": ("ood", 120, 0.5),
    }
    splits = {
        name: reviews(name, purpose, rows, agree, [request.seed, stream])
        for stream, (name, (purpose, rows, agree)) in enumerate(sizes.items())
    }
    return TaskData("reviews", request.source, splits)


def reviews(name: str, purpose: Purpose, n: int, agree: float, seed: list[int]) -> Split:
    """`n` reviews, half of them good; in a share `agree` the product goes with the tone."""
    rng = np.random.default_rng(seed)
    tone = np.arange(n) % 2
    agrees = np.arange(n) // 2 < round(agree * n / 2)  # an exact share of either tone
    product = np.where(agrees, tone, 1 - tone)
    vague = rng.random(n) < 0.2
    labels = [LABELS[i] for i in tone]
    words = [VAGUE if vague[i] else WORDS[labels[i]] for i in range(n)]
    products = [PRODUCTS[i] for i in product]
    return make_split(
        name,
        purpose=purpose,
        inputs={
            "text": [
                f"review {rng.integers(10**6)} : the {kind} felt {rng.choice(some)}"
                for some, kind in zip(words, products, strict=True)
            ]
        },
        ids=[f"{name}-{i}" for i in range(n)],
        label_texts=labels,
        labels=LABELS,
        attributes=products,
        group_texts=[f"{label}/{kind}" for label, kind in zip(labels, products, strict=True)],
        groups=GROUPS,
        aligned=[ALIGNED if yes else CONFLICTING for yes in agrees],
        breakdowns={"product": products},
    )
