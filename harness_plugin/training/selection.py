"""Model selection on the validation split: which epoch's weights a training ends with."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from accelerate import Accelerator
from accelerate.utils import broadcast
from numpy.typing import NDArray
from safetensors.torch import load_model, save_model

from harness_plugin.errors import HarnessError
from harness_plugin.store.files import whole
from harness_plugin.training.inputs.encode import Encoded
from harness_plugin.training.predict import predict

if TYPE_CHECKING:
    from transformers import PreTrainedModel

BEST = "selected.safetensors"


@dataclass(frozen=True)
class ModelSelection:
    """By what the weights are chosen: "average", "worst_group" or "worst_environment".

    `label` and `group` (N,) belong to the rows of `encoded`; "average" reads no groups, those of
    "worst_environment" are label x inferred environment (EVaLS, Ghaznavi et al. 2024). A row of
    group -1 counts in no group.
    """

    criterion: str
    split: str
    encoded: Encoded
    label: NDArray[np.int64]
    group: NDArray[np.int64]
    batch_size: int

    def score(self, logits: NDArray[np.float32]) -> float:
        """Accuracy of (N, C) logits, over all rows or in the worst group, in [0, 1]."""
        correct = logits.argmax(axis=1) == self.label
        if self.criterion == "average":
            return float(correct.mean())
        known = self.group >= 0
        counts = np.bincount(self.group[known])
        right = np.bincount(self.group[known], weights=correct[known])
        return float((right[counts > 0] / counts[counts > 0]).min())


class Selector:
    """Scores the model after every epoch and keeps the weights that scored best.

    Of equal scores the earlier epoch wins. `history` holds [update, score] pairs.
    """

    def __init__(
        self,
        accelerator: Accelerator,
        model: PreTrainedModel,
        selection: ModelSelection | None,
        folder: Path,
        history: list[list[float]],
    ) -> None:
        self.accelerator = accelerator
        self.model = model
        self.selection = selection
        self.file = folder / BEST
        self.history = list(history)

    def step(self, update: int) -> None:
        """Score the weights after `update` updates."""
        if self.selection is None:
            return
        if self.accelerator.num_processes > 1:
            for buffer in self.model.buffers():  # normalisation statistics differ by process
                buffer.data = broadcast(buffer.data)
        logits = predict(
            self.accelerator,
            self.model,
            self.selection.encoded,
            batch_size=self.selection.batch_size,
            name=f"selecting on {self.selection.split}",
        )
        score = self.selection.score(logits)
        if all(score > old for _, old in self.history) and self.accelerator.is_main_process:
            self.file.parent.mkdir(parents=True, exist_ok=True)
            with whole(self.file) as temporary:  # a checkpoint may name this epoch
                save_model(self.model, str(temporary))
        self.history.append([update, score])

    def restore(self) -> dict[str, Any] | None:
        """Load the best weights into the model; what was chosen, as a record."""
        if self.selection is None:
            return None
        self.accelerator.wait_for_everyone()
        if not self.file.is_file():
            raise HarnessError(f"{self.file}: the selected weights are missing.")
        load_model(self.model, str(self.file))
        self.accelerator.wait_for_everyone()
        if self.accelerator.is_main_process:
            self.file.unlink()
        update, score = max(self.history, key=lambda entry: (entry[1], -entry[0]))
        return {
            "criterion": self.selection.criterion,
            "split": self.selection.split,
            "update": update,
            "score": score,
            "history": self.history,
        }
