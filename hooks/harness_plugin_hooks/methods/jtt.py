"""Just Train Twice: the errors of a first model stand in for the minority groups."""

from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from harness_plugin.data.split import Split
from harness_plugin.errors import HarnessError
from harness_plugin.store.stages import Stage
from harness_plugin.training.batch import Batch, TrainingMetadata
from harness_plugin.training.contracts import Method, Prepared
from harness_plugin.training.trainer import Trainer


def errors_of(
    trainer: Trainer, epochs: float, split: Split | None = None
) -> tuple[Stage, np.ndarray]:
    """(N,) bool: the rows that an ERM model gets wrong after `epochs` epochs; its stage.

    They are the training rows, or those of `split`. The model is a training of the role's whole
    length as it stands then, not one that ends there. Raises HarnessError for an empty or a full
    set: it says nothing about the groups.
    """
    first = trainer.erm(epochs=epochs, snapshot=True)
    rows = split or trainer.train
    wrong = trainer.predict(first, rows).logits.argmax(axis=1) != rows.label
    if wrong.all() or not wrong.any():
        raise HarnessError(
            f"task {trainer.task.task}: the first model, {epochs:g} epoch(s) of ERM, gets "
            f"{int(wrong.sum())} of {len(wrong)} {rows_of(split)} rows wrong. An error set needs "
            f"some and not all: train it {'longer' if wrong.all() else 'shorter'} (option epochs)."
        )
    return first, wrong


def rows_of(split: Split | None) -> str:
    """Name of rows in a message: those of `split`, or the training rows."""
    return "training" if split is None else split.name


class JTT(Method):
    """Cross-entropy; rows that a first ERM model gets wrong are drawn `upweight` times as often.

    Liu et al. 2021 (arXiv:2107.09044), algorithm 1. The first model is the snapshot after `epochs`
    epochs of a training with the recipe's schedule, as the authors' (`--final_epoch`); the second
    starts from scratch. Defaults are the authors': MultiNLI 2 epochs and 4, CelebA 1 epoch and 50.
    Deviations: the rows are drawn with replacement instead of being copied, so that an epoch has
    as many updates as every other method's; `upweight` is the paper's lambda, of which the authors'
    run_expt.py makes lambda + 1 by adding the copies to the row itself; the second stage has the
    recipe's optimiser. With `upweight` 1 it is ERM. The paper chooses both numbers by worst-group
    accuracy on validation (`--select worst_group`).
    """

    warm = False
    defaults: ClassVar[Mapping[str, Any]] = {"epochs": 1.0, "upweight": 20.0}
    family: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        "text": {"epochs": 2.0, "upweight": 4.0},
        "image": {"epochs": 1.0, "upweight": 50.0},
    }

    @classmethod
    def prepare(cls, trainer: Trainer, options: Mapping[str, Any]) -> Prepared:
        """The error set (N,) of the first model."""
        first, wrong = errors_of(trainer, options["epochs"])
        return Prepared({"wrong": torch.from_numpy(wrong)}, stages=(first,))

    wrong: Tensor

    def __init__(self, metadata: TrainingMetadata, **options: Any) -> None:
        super().__init__(metadata, **options)
        if "wrong" not in metadata.prepared:
            raise HarnessError("JTT needs the error set of its first stage.")

    def sampling_weights(self) -> Tensor | None:
        """(N,) `upweight` for the error set, 1 for the rest."""
        if self.options["upweight"] == 1:
            return None
        return torch.where(self.wrong, float(self.options["upweight"]), 1.0)

    def loss(self, logits: Tensor, batch: Batch) -> Tensor:
        """() mean over the batch."""
        return cross_entropy(logits, batch.label)
