"""What the plugin offers. This module is imported by `harness ls` too, so it imports no torch."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from harness_plugin import hookimpl

if TYPE_CHECKING:
    from harness_plugin.plugins.hookspecs import Register
    from harness_plugin.records import TrainedModel

LOG = "HARNESS_REVIEWS_LOG"
"""Environment variable that names the file `model_trained` writes to."""


@hookimpl
def register_tasks(register: Register) -> None:
    """Offer the task."""
    register(
        "reviews",
        "harness_reviews:reviews.yaml",
        summary="review tone trusted through the kind of product",
    )


@hookimpl
def register_methods(register: Register) -> None:
    """Offer the method."""
    register(
        "focal",
        "harness_reviews.focal:Focal",
        summary="focal loss: rows the model is sure of count less (Lin et al. 2017)",
    )


@hookimpl
def register_compressors(register: Register) -> None:
    """Offer the compressor."""
    register("half", "harness_reviews.half:Half", summary="weights as float16 holds them")


@hookimpl
def register_remedies(register: Register) -> None:
    """Offer the remedy."""
    register(
        "fewer_labels",
        "harness_reviews.remedy:FEWER_LABELS",
        summary="a tenth of the weight of the labels",
    )


@hookimpl
def register_metrics(register: Register) -> None:
    """Offer the metric."""
    register(
        "confident_errors",
        "harness_reviews.metric:CONFIDENT_ERRORS",
        summary="share of rows, sure and wrong",
    )


@hookimpl
def register_analyses(register: Register) -> None:
    """Offer the analysis."""
    register("weights", "harness_reviews.analysis:WEIGHTS", summary="how large the weights are")


@hookimpl
def register_outputs(register: Register) -> None:
    """Offer the output."""
    register(
        "accuracies",
        "harness_reviews.output:write",
        summary="accuracies.tsv: one line a model and evaluation set",
    )


@hookimpl
def model_trained(model: TrainedModel) -> None:
    """Append one line a model, on the main process, where the user asked for it."""
    if (file := os.environ.get(LOG)) and os.environ.get("RANK", "0") == "0":
        with open(file, "a", encoding="utf-8") as stream:
            stream.write(f"{model.task}\t{model.role}\t{model.seed}\t{model.method}\n")
