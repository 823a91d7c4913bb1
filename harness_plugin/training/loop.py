"""The one training loop, for every role and method, on Accelerate."""

from __future__ import annotations

import math
import re
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from accelerate import Accelerator
from torch import Tensor
from transformers import get_linear_schedule_with_warmup

from harness_plugin.errors import HarnessError
from harness_plugin.machine.progress import Work
from harness_plugin.models.network import Network
from harness_plugin.training.checkpoints import checkpoint, newest_checkpoint, resume
from harness_plugin.training.contracts import Method
from harness_plugin.training.inputs import batching
from harness_plugin.training.loss import DistillationLoss, TrainableModel
from harness_plugin.training.selection import ModelSelection, Selector
from harness_plugin.training.update import (
    PreparedTraining,
    Step,
    TrainingRows,
    adamw,
    one_update,
    seed_of,
)

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
    freeze_encoder: bool = False
    """Whether the head alone learns; the encoder then computes as in evaluation."""

    def updates(self, rows: int) -> int:
        """Optimiser updates in the whole training."""
        return math.ceil(self.epochs * batching.updates_per_epoch(rows, self.batch_size))

    def schedule_updates(self, rows: int) -> int:
        """Optimiser updates after which the learning rate would be 0."""
        epochs = max(self.epochs, self.schedule_epochs)
        return math.ceil(epochs * batching.updates_per_epoch(rows, self.batch_size))


@dataclass(frozen=True)
class LoopOptions:
    """A training's name, the folder of its checkpoints, and the weights that stay frozen."""

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
    loop.train_mode()
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
        self.frozen = frozen_encoder(model) if args.freeze_encoder else None
        self.trainable = TrainableModel(Network(model), loss)
        if self.trainable.teacher is not None:
            self.trainable.teacher.to(accelerator.device)
        optimizer = adamw(self.trainable, args.learning_rate, args.weight_decay, args.adam_beta2)
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

    def train_mode(self) -> None:
        """Dropout and batch statistics, but not of an encoder that is frozen."""
        self.prepared.model.train()
        if self.frozen is not None:
            self.frozen.eval()

    def updates(self) -> Iterator[int]:
        """The updates that are left to do."""
        for update in range(self.first, self.total):
            yield update
            self.work.update()
        self.work.close()

    def step(self, update: int) -> Step:
        """The rows of an update; torch's random stream becomes that of this update and process."""
        seed = seed_of(self.args.seed, update, self.accelerator.process_index)
        if self.accelerator.device.type == "cpu":
            # torch.manual_seed also notes a stack for every kind of device there might be
            torch.default_generator.manual_seed(seed)
        else:
            torch.manual_seed(seed)
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
            self.train_mode()
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


def frozen_encoder(model: PreTrainedModel) -> torch.nn.Module:
    """The encoder of a classifier, whose weights take no gradients from now on.

    It is what transformers calls the base model, all but the classification head, or the module
    `encoder` of a model that has none. Raises HarnessError for a model with neither.
    """
    base = model.base_model
    encoder = getattr(model, "encoder", None) if base is model else base
    if encoder is None:
        raise HarnessError(
            f"freeze_encoder: {type(model).__name__} tells no encoder from the classification head."
        )
    encoder.requires_grad_(False)
    frozen: torch.nn.Module = encoder
    return frozen


def masks_of(model: torch.nn.Module) -> list[tuple[torch.nn.Parameter, Tensor]]:
    """The weights of two and more dimensions that hold zeros, with what is not 0 in them."""
    return [
        (weight, weight.detach() != 0)
        for weight in model.parameters()
        if weight.ndim > 1 and bool((weight == 0).any())
    ]


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
