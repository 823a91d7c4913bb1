"""Models x splits → logits, keyed by example id. The same pass fills the teacher-signal store."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch
from accelerate import Accelerator
from numpy.typing import NDArray

from harness_plugin.data.split import Split
from harness_plugin.errors import HarnessError
from harness_plugin.machine.progress import worked
from harness_plugin.models.network import Network
from harness_plugin.records import predictions_of
from harness_plugin.training.inputs.batching import evaluation_batches
from harness_plugin.training.inputs.encode import Encoded
from harness_plugin.training.inputs.transfer import to_device

if TYPE_CHECKING:
    from transformers import PreTrainedModel


def predict(
    accelerator: Accelerator,
    model: PreTrainedModel,
    encoded: Encoded,
    *,
    batch_size: int,
    name: str = "predicting",
    quiet: bool = True,
) -> NDArray[np.float32]:
    """(N, C) logits of every row, in row order, on every process.

    Whole batches go to one process each and do not depend on the number of processes, so that
    the same weights give the same numbers on one process and on many.
    """

    def logits(inputs: dict[str, torch.Tensor]) -> tuple[torch.Tensor, ...]:
        return (model(**inputs).logits,)

    return tables(accelerator, model, logits, encoded, batch_size, name, quiet)[0]


def predict_with_features(
    accelerator: Accelerator,
    model: PreTrainedModel,
    encoded: Encoded,
    *,
    batch_size: int,
    name: str = "predicting",
    quiet: bool = True,
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """(N, C) logits and (N, H) inputs of the last layer, as `predict` does."""
    network = Network(model)

    def outputs(inputs: dict[str, torch.Tensor]) -> Sequence[torch.Tensor]:
        output = network(inputs)
        return output.logits, output.features

    logits, features = tables(accelerator, model, outputs, encoded, batch_size, name, quiet)
    return logits, features


@torch.inference_mode()
def tables(
    accelerator: Accelerator,
    model: PreTrainedModel,
    outputs: Callable[[dict[str, torch.Tensor]], Sequence[torch.Tensor]],
    encoded: Encoded,
    batch_size: int,
    name: str,
    quiet: bool,
) -> tuple[NDArray[np.float32], ...]:
    """(N, ...) one table for each of the tensors that `outputs` gives for a batch."""
    module: torch.nn.Module = model
    module.eval().to(accelerator.device)
    if encoded.lengths is None:
        model.to(memory_format=torch.channels_last)
    plan = evaluation_batches(len(encoded), batch_size, encoded.lengths)
    # a process without a batch of its own still needs the shapes: it computes the first one too
    mine = plan[accelerator.process_index :: accelerator.num_processes]
    stored: list[torch.Tensor] = []
    seen = torch.zeros(len(encoded), device=accelerator.device)
    for rows in worked(mine or plan[:1], name, quiet=quiet):
        inputs = encoded.batch(rows, accelerator.device)
        with accelerator.autocast():
            out = outputs(inputs)
        stored = stored or [
            torch.zeros(len(encoded), *value.shape[1:], device=accelerator.device) for value in out
        ]
        index = to_device(torch.from_numpy(rows), accelerator.device)
        if mine:
            for table, value in zip(stored, out, strict=True):
                table[index] = value.float()
            seen[index] += 1
    # rows of other processes are zero here: the sum over processes puts the tables together
    stored, seen = [accelerator.reduce(table) for table in stored], accelerator.reduce(seen)
    if not bool((seen == 1).all()):
        raise HarnessError(
            f"{name}: {int((seen != 1).sum())} of {len(encoded)} rows were not predicted exactly "
            f"once over {accelerator.num_processes} processes."
        )
    if not all(bool(torch.isfinite(table).all()) for table in stored):
        raise HarnessError(f"{name}: the model gives logits that are not finite.")
    return tuple(table.cpu().numpy() for table in stored)


def check_labels(split: Split, task: str, role: str, labels: tuple[str, ...]) -> None:
    """Refuse a model whose labels are not those of `split`, before it is asked anything."""
    nothing = np.empty((0, len(labels)), np.float32)
    record = predictions_of(
        split, nothing, task=task, role=role, model=role, seed=0, model_labels=labels
    )
    record.targets  # noqa: B018
