"""The one training loop, for every role and method, on Accelerate."""

from __future__ import annotations

import math
import re
import time
from collections.abc import Iterator
from contextlib import nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from accelerate import Accelerator
from torch import Tensor
from transformers import get_linear_schedule_with_warmup

from harness_plugin.errors import HarnessError
from harness_plugin.models.network import Network
from harness_plugin.progress import Work
from harness_plugin.training import batching
from harness_plugin.training.batch import Batch, Inputs, TrainingMetadata
from harness_plugin.training.checkpoints import checkpoint, newest_checkpoint, resume
from harness_plugin.training.contracts import Method
from harness_plugin.training.encode import Encoded
from harness_plugin.training.loss import BatchPart, DistillationLoss, TrainableModel
from harness_plugin.training.selection import ModelSelection, Selector
from harness_plugin.training.transfer import to_device

if TYPE_CHECKING:
    from transformers import PreTrainedModel

CHECK_EVERY = 50
"""Updates between looks at the loss: each look waits for the device."""


@dataclass(frozen=True)
class TrainingArgs:
    """How long, how fast, in what portions, from which seed."""

    epochs: float
    batch_size: int
    learning_rate: float
    lr_warmup: float
    weight_decay: float
    adam_beta2: float
    max_grad_norm: float
    gradient_accumulation_steps: int
    seed: int
    schedule_epochs: float = 0.0
    """The learning rate's schedule is that of so many epochs, where the training is shorter."""

    def updates(self, rows: int) -> int:
        """Optimiser updates in the whole training."""
        return math.ceil(self.epochs * batching.updates_per_epoch(rows, self.batch_size))

    def schedule_updates(self, rows: int) -> int:
        """Optimiser updates after which the learning rate would be 0."""
        epochs = max(self.epochs, self.schedule_epochs)
        return math.ceil(epochs * batching.updates_per_epoch(rows, self.batch_size))


@dataclass(frozen=True)
class TrainingRows:
    """What is trained on: the model inputs of every row, and its labels and groups."""

    encoded: Encoded
    metadata: TrainingMetadata

    def __len__(self) -> int:
        return len(self.encoded)


@dataclass(frozen=True)
class LoopOptions:
    """What a training is called, where its checkpoints go, and which weights stay as they are."""

    name: str
    folder: Path
    checkpoint_steps: int = 0
    compile_model: bool = False
    quiet: bool = True
    keep_zeros: bool = False
    """Whether weights of two and more dimensions that are 0 at the start are so at the end."""


def fit(
    accelerator: Accelerator,
    model: PreTrainedModel,
    rows: TrainingRows,
    loss: DistillationLoss,
    args: TrainingArgs,
    options: LoopOptions,
    selection: ModelSelection | None = None,
) -> dict[str, Any]:
    """Train `model` in place; what it did is returned as a JSON-able record.

    Checkpoints go to the folder of `options`; the newest one found there is continued. Every random
    choice of update u is a function of (seed, u, rank), so that a continued training repeats the
    uninterrupted one bit for bit, and batches do not depend on the number of processes. With a
    `selection` the model ends with the weights of the epoch that scored best on it.

    Raises HarnessError naming the training and the update when the loss is not finite; the last
    checkpoint before it is kept.
    """
    check_batch_size(accelerator, len(rows), args, options.name)
    loop = TrainingLoop(accelerator, model, rows, loss, args, options, selection)
    loop.prepared.model.train()
    for update in loop.updates():
        mean_loss = one_update(loop.prepared, loop.step(update))
        accelerator.clip_grad_norm_(loop.prepared.model.parameters(), args.max_grad_norm)
        loop.optimizer.step()
        loop.mask()
        loop.schedule.step()
        loop.optimizer.zero_grad()
        loop.after_update(update, mean_loss)
    return loop.finish()


def check_batch_size(accelerator: Accelerator, rows: int, args: TrainingArgs, name: str) -> None:
    """Refuse a batch that is larger than the data, or too small for all processes."""
    pieces = args.gradient_accumulation_steps
    if args.batch_size < accelerator.num_processes * pieces or rows < args.batch_size:
        raise HarnessError(
            f"{name}: a batch of {args.batch_size} of {rows} rows cannot be cut into "
            f"{accelerator.num_processes} processes x {pieces} accumulation steps."
        )


@dataclass(frozen=True)
class PreparedTraining:
    """What an update computes with. `forward` is `model`, compiled or not."""

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


class BatchOrder:
    """Which rows make up each update, as a method draws them.

    Batches of a method that needs no groups do not depend on them.
    """

    def __init__(self, rows: TrainingRows, args: TrainingArgs, method: Method) -> None:
        self.rows, self.args = rows, args
        self.weighted = None
        if (weights := method.sampling_weights()) is not None:
            known = [rows.metadata.label]
            if method.needs & {"groups", "environments"}:
                known.append(rows.metadata.group)
            self.weighted = batching.WeightedRows.of(
                weights.double().cpu().numpy(),
                [value.cpu().numpy() for value in known],
                args.batch_size,
            )
        self.per_epoch = batching.updates_per_epoch(len(rows), args.batch_size)
        self._epoch = -1
        self._batches: list[batching.Ints] = []

    def batch(self, update: int) -> batching.Ints:
        """(B,) row numbers of an update."""
        epoch, position = divmod(update, self.per_epoch)
        if epoch != self._epoch:
            self._epoch = epoch
            self._batches = batching.epoch(
                len(self.rows),
                self.args.batch_size,
                seed=self.args.seed,
                number=epoch,
                lengths=self.rows.encoded.lengths,
                weighted=self.weighted,
            )
        return self._batches[position]


class TrainingLoop:
    """One training: everything that `fit` sets up, and what it does between the updates."""

    def __init__(
        self,
        accelerator: Accelerator,
        model: PreTrainedModel,
        rows: TrainingRows,
        loss: DistillationLoss,
        args: TrainingArgs,
        options: LoopOptions,
        selection: ModelSelection | None,
    ) -> None:
        self.accelerator, self.args, self.options = accelerator, args, options
        self.total = args.updates(len(rows))
        if rows.encoded.lengths is None:
            model.to(memory_format=torch.channels_last)
        self.trainable = TrainableModel(Network(model), loss)
        if self.trainable.teacher is not None:
            self.trainable.teacher.to(accelerator.device)
        optimizer = adamw(self.trainable, args)
        accelerator.free_memory()  # what a training that was interrupted left behind
        wrapped, self.optimizer = accelerator.prepare(self.trainable, optimizer)
        self.masks = masks_of(model) if options.keep_zeros else []
        decayed = args.schedule_updates(len(rows))
        self.schedule = get_linear_schedule_with_warmup(
            self.optimizer, round(args.lr_warmup * decayed), decayed
        )
        forward = torch.compile(wrapped, dynamic=True) if options.compile_model else wrapped
        on_device = replace(rows, metadata=rows.metadata.to(accelerator.device))
        self.prepared = PreparedTraining(accelerator, wrapped, forward, loss, on_device)
        self.order = BatchOrder(rows, args, loss.method)
        progress = resume(accelerator, options.folder, self.schedule)
        self.first, self.curve = int(progress["update"]), list(progress["curve"])
        self.seconds_before, self.started = float(progress["seconds"]), time.perf_counter()
        self.watch = LossWatch(accelerator.device)
        self.selector = Selector(
            accelerator, model, selection, options.folder, progress["selection"]
        )
        self.work = Work(
            options.name, self.total, unit="update", done=self.first, quiet=options.quiet
        )

    def updates(self) -> Iterator[int]:
        """The updates that are left to do."""
        for update in range(self.first, self.total):
            yield update
            self.work.update()
        self.work.close()

    def step(self, update: int) -> Step:
        """The rows of an update; torch's random stream becomes that of this update and process."""
        torch.manual_seed(seed_of(self.args.seed, update, self.accelerator.process_index))
        return Step(
            self.order.batch(update),
            update,
            update / self.total,
            self.args.seed,
            self.args.gradient_accumulation_steps,
        )

    @torch.no_grad()
    def mask(self) -> None:
        """Set to 0 what is to stay 0."""
        for weight, kept in self.masks:
            weight.mul_(kept)

    def after_update(self, update: int, loss: Tensor) -> None:
        """Log the loss, score the epoch and save a checkpoint, where it is time."""
        self.watch.add(loss, update)
        done, every = update + 1, self.options.checkpoint_steps
        saves = bool(every) and done % every == 0 and done < self.total
        if done % CHECK_EVERY == 0 or done == self.total or saves:
            self.log(done)
        if done % self.order.per_epoch == 0 or done == self.total:
            self.trainable.fold()
            self.selector.step(done)
            self.prepared.model.train()
        if saves:
            progress = {"update": done, "curve": self.curve, "seconds": self.seconds()}
            progress["selection"] = self.selector.history
            checkpoint(self.accelerator, self.options.folder, progress)

    def log(self, done: int) -> None:
        """Note the mean loss since the last time; HarnessError when it was not finite."""
        name = self.options.name
        mean = self.watch.check(name, self.options.folder)
        self.curve.append([done, mean])
        self.work.loss(mean)
        rate = self.schedule.get_last_lr()[0]
        key = re.sub(r"[^\w\-. :/]", "", name)  # what MLflow takes in the name of a metric
        self.accelerator.log({f"{key}/loss": mean, f"{key}/lr": rate}, done)

    def seconds(self) -> float:
        """Seconds of training, those before an interruption included."""
        return self.seconds_before + time.perf_counter() - self.started

    def finish(self) -> dict[str, Any]:
        """Take the selected weights; the record of the training."""
        selected = self.selector.restore()
        seconds = self.seconds()
        self.accelerator.free_memory()
        return {
            "updates": self.total,
            "examples": self.total * self.args.batch_size,
            "training_seconds": seconds,
            "loss": self.curve,
            "processes": self.accelerator.num_processes,
            "threads": torch.get_num_threads(),
            "precision": str(self.accelerator.mixed_precision),
            "selection": selected,
        }


def masks_of(model: torch.nn.Module) -> list[tuple[torch.nn.Parameter, Tensor]]:
    """The weights of two and more dimensions that hold zeros, with what is not 0 in them."""
    return [
        (weight, weight.detach() != 0)
        for weight in model.parameters()
        if weight.ndim > 1 and bool((weight == 0).any())
    ]


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


def adamw(model: torch.nn.Module, args: TrainingArgs) -> torch.optim.Optimizer:
    """AdamW; biases and normalisation weights are not decayed."""
    trainable = [p for p in model.parameters() if p.requires_grad]
    groups = [
        {"params": [p for p in trainable if p.ndim > 1], "weight_decay": args.weight_decay},
        {"params": [p for p in trainable if p.ndim <= 1], "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(
        groups, lr=args.learning_rate, betas=(0.9, args.adam_beta2), fused=True
    )


class LossWatch:
    """Sums the loss on the device and remembers the first update at which it was not finite."""

    def __init__(self, device: torch.device) -> None:
        self.sum = torch.zeros((), device=device)
        self.bad = torch.full((), -1, dtype=torch.int64, device=device)
        self.count = 0

    def add(self, loss: Tensor, update: int) -> None:
        """Note the loss of `update` without waiting for the device."""
        broken = ~torch.isfinite(loss) & (self.bad < 0)
        self.bad = torch.where(broken, update, self.bad)
        self.sum += loss
        self.count += 1

    def check(self, name: str, folder: Path) -> float:
        """The mean loss since the last check; HarnessError when one was not finite."""
        if (update := int(self.bad)) >= 0:
            kept = newest_checkpoint(folder)
            raise HarnessError(
                f"{name}: the loss is not finite at update {update + 1}. "
                + (f"The last good checkpoint is kept in {kept}. " if kept else "")
                + "Lower the learning rate, or use --precision no."
            )
        mean = float(self.sum) / max(1, self.count)
        self.sum, self.count = torch.zeros_like(self.sum), 0
        return mean
