"""One update: the loss of a batch that all processes share, its gradient, and AdamW."""

from __future__ import annotations

from contextlib import nullcontext
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from accelerate import Accelerator
from torch import Tensor

from harness_plugin.training.batch import Batch, Inputs, TrainingMetadata
from harness_plugin.training.inputs import batching
from harness_plugin.training.inputs.encode import Encoded
from harness_plugin.training.inputs.transfer import to_device
from harness_plugin.training.loss import BatchPart, DistillationLoss


@dataclass(frozen=True)
class TrainingRows:
    """Training rows: the model inputs of every row, and its labels and groups."""

    encoded: Encoded
    metadata: TrainingMetadata

    def __len__(self) -> int:
        return len(self.encoded)


@dataclass(frozen=True)
class PreparedTraining:
    """The objects that an update computes with. `forward` is `model`, compiled or not."""

    accelerator: Accelerator
    model: torch.nn.Module
    forward: Any
    loss: DistillationLoss
    rows: TrainingRows


@dataclass(frozen=True)
class Step:
    """One update: its rows (B,), where it stands in the training, into how many pieces it is cut.

    `update` counts from 0, `progress` is the share of the training that is done, in [0, 1).
    """

    rows: batching.Ints
    update: int
    progress: float
    seed: int
    pieces: int


def seed_of(*numbers: int) -> int:
    """A 63-bit seed for a tuple of numbers, the same on every machine and Python."""
    return int(np.random.SeedSequence(numbers).generate_state(1, np.uint64)[0] >> 1)


def one_update(prepared: PreparedTraining, step: Step) -> Tensor:
    """Forward and backward of one update's rows; () the detached loss of the whole update."""
    total = torch.zeros((), device=prepared.accelerator.device)
    for number, piece in enumerate(np.array_split(step.rows, step.pieces)):
        last = number == step.pieces - 1
        with nullcontext() if last else prepared.accelerator.no_sync(prepared.model):
            part = piece_loss(prepared, step, number, piece) * (len(piece) / len(step.rows))
            # every process holds the loss of the whole batch but only its own rows' gradient;
            # data parallelism averages gradients, so the factor turns the mean into the sum
            prepared.accelerator.backward(part * prepared.accelerator.num_processes)
        total += part.detach()
    return total


def piece_loss(prepared: PreparedTraining, step: Step, number: int, piece: batching.Ints) -> Tensor:
    """() the loss of one micro-batch of all processes, from the forward of the local rows."""
    accelerator, metadata = prepared.accelerator, prepared.rows.metadata

    def inputs_of(rows: batching.Ints) -> Inputs:
        return prepared.rows.encoded.batch(rows, accelerator.device)

    lengths = prepared.rows.encoded.lengths
    piece = batching.shares_by_length(piece, lengths, accelerator.num_processes)
    row = to_device(torch.from_numpy(piece), accelerator.device)
    batch = Batch(
        row,
        metadata.label[row],
        metadata.group[row],
        None if metadata.environment is None else metadata.environment[row],
        update=step.update,
        progress=step.progress,
        seed=seed_of(step.seed, step.update, number, 1),  # dropout's seeds are triples
    )
    partner_rows = None
    if (partner := prepared.loss.method.partners(batch)) is not None:
        partner_rows = partner.cpu().numpy()
        batch = replace(batch, partner=to_device(partner, accelerator.device))
    start, stop = batching.bounds(len(piece), accelerator.process_index, accelerator.num_processes)
    parts = []
    for part in batching.parts_by_length(None if lengths is None else lengths[piece], start, stop):
        partner_inputs = None if partner_rows is None else inputs_of(partner_rows[part])
        parts.append(
            BatchPart(batch.part(part.start, part.stop), inputs_of(piece[part]), partner_inputs)
        )
    local = prepared.forward(parts)
    outputs = {
        name: global_rows(accelerator, value.float(), len(piece)) for name, value in local.items()
    }
    logits: Tensor = outputs.pop("logits")
    loss: Tensor = prepared.loss(logits, replace(batch, outputs=outputs))
    return loss


def global_rows(accelerator: Accelerator, local: Tensor, rows: int) -> Tensor:
    """(rows, C) the logits of all processes in batch order; the gradient reaches the local ones."""
    if accelerator.num_processes == 1:
        return local
    sizes = [len(part) for part in np.array_split(np.arange(rows), accelerator.num_processes)]
    padded = local.detach().new_zeros((max(sizes), *local.shape[1:]))
    padded[: len(local)] = local.detach()
    gathered = accelerator.gather(padded).split(max(sizes))
    parts = [part[:size] for part, size in zip(gathered, sizes, strict=True)]
    parts[accelerator.process_index] = local
    return torch.cat(parts)


class AdamW(torch.optim.AdamW):
    """torch's AdamW, which reads the weights of convolutions in the order of memory.

    torch's fused update copies weights that lie channels last, with their gradient and both
    moments, into another order and back. Each is computed by itself, so the order changes no
    number. Where moments lie otherwise than their weights torch's update
    on a CPU is wrong without a word (torch 2.13), so those of a checkpoint are laid as these are.
    """

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Continue with the state of a checkpoint."""
        super().load_state_dict(state_dict)
        for weight, state in self.state.items():
            for name in ("exp_avg", "exp_avg_sq"):
                state[name] = torch.empty_like(weight).copy_(state[name])

    def _init_group(self, group: dict[str, Any], *lists: list[Tensor]) -> bool:
        has_complex = super()._init_group(group, *lists)  # type: ignore[no-untyped-call]
        of_weights = lists[:4]  # weights, gradients, first and second moments
        for place, tensors in enumerate(zip(*of_weights, strict=True)):
            if all(map(is_channels_last, tensors)):
                for each in of_weights:
                    each[place] = each[place].permute(0, 2, 3, 1)
        return bool(has_complex)


def is_channels_last(tensor: Tensor) -> bool:
    """Whether a tensor lies channels last and in no other order as well."""
    return (
        tensor.ndim == 4
        and tensor.is_contiguous(memory_format=torch.channels_last)
        and not tensor.is_contiguous()
    )


def adamw(model: torch.nn.Module, learning_rate: float, weight_decay: float, beta2: float) -> AdamW:
    """AdamW; biases and normalisation weights are not decayed."""
    trainable = [p for p in model.parameters() if p.requires_grad]
    groups = [
        {"params": [p for p in trainable if p.ndim > 1], "weight_decay": weight_decay},
        {"params": [p for p in trainable if p.ndim <= 1], "weight_decay": 0.0},
    ]
    return AdamW(groups, lr=learning_rate, betas=(0.9, beta2), fused=True)
