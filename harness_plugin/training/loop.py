"""The one training loop, for every role and method, on Accelerate."""

from __future__ import annotations

import json
import math
import os
import shutil
import time
from collections.abc import Mapping
from contextlib import nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from accelerate import Accelerator
from safetensors.torch import load_file, save_file
from torch import Tensor
from tqdm.auto import tqdm
from transformers import PreTrainedModel, get_linear_schedule_with_warmup

from harness_plugin.errors import HarnessError
from harness_plugin.models.network import Network
from harness_plugin.training import batching
from harness_plugin.training.contracts import Batch, TrainingMetadata
from harness_plugin.training.encode import Encoded
from harness_plugin.training.loss import DistillationLoss, TrainableModel
from harness_plugin.training.selection import Selection, Selector

CHECK_EVERY = 50
"""Updates between looks at the loss: each look waits for the device."""


@dataclass(frozen=True)
class Plan:
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

    def updates(self, rows: int) -> int:
        """Optimiser updates in the whole training."""
        return math.ceil(self.epochs * batching.updates_per_epoch(rows, self.batch_size))


def fit(
    accelerator: Accelerator,
    model: PreTrainedModel,
    encoded: Encoded,
    facts: TrainingMetadata,
    objective: DistillationLoss,
    plan: Plan,
    *,
    name: str,
    folder: Path,
    selection: Selection | None = None,
    checkpoint_steps: int = 0,
    compile_model: bool = False,
    quiet: bool = True,
) -> dict[str, Any]:
    """Train `model` in place; what it did is returned as a JSON-able record.

    Checkpoints go to `folder`; the newest one found there is continued. Every random choice of
    update u is a function of (seed, u, rank), so that a continued training repeats the
    uninterrupted one bit for bit, and batches do not depend on the number of processes. With a
    `selection` the model ends with the weights of the epoch that scored best on it.

    Raises HarnessError naming `name` and the update when the loss is not finite; the last
    checkpoint before it is kept.
    """
    rows, total = len(encoded), plan.updates(len(encoded))
    pieces = plan.gradient_accumulation_steps
    if plan.batch_size < accelerator.num_processes * pieces or rows < plan.batch_size:
        raise HarnessError(
            f"{name}: a batch of {plan.batch_size} of {rows} rows cannot be cut into "
            f"{accelerator.num_processes} processes x {pieces} accumulation steps."
        )
    if encoded.lengths is None:
        model.to(memory_format=torch.channels_last)
    facts = facts.to(accelerator.device)
    objective.to(accelerator.device)
    trainee = TrainableModel(Network(model), objective)
    optimizer = adamw(trainee, plan)
    accelerator.free_memory()  # what a training that was interrupted left behind
    prepared, optimizer = accelerator.prepare(trainee, optimizer)
    schedule = get_linear_schedule_with_warmup(optimizer, round(plan.lr_warmup * total), total)
    forward = torch.compile(prepared, dynamic=True) if compile_model else prepared
    weights = objective.method.sampling_weights()
    probabilities = None if weights is None else weights.double().cpu().numpy()
    state = resume(accelerator, folder, schedule, objective)
    first, curve = int(state["update"]), list(state["curve"])
    started, used = time.perf_counter(), float(state["seconds"])
    watch = LossWatch(accelerator.device)
    selector = Selector(accelerator, model, selection, folder, state["selection"])
    prepared.train()
    bar = tqdm(total=total, initial=first, desc=name, disable=quiet, leave=False, unit="update")
    plan_of_epoch: list[batching.Ints] = []
    per_epoch = batching.updates_per_epoch(rows, plan.batch_size)
    for update in range(first, total):
        if not plan_of_epoch or update % per_epoch == 0:
            plan_of_epoch = batching.epoch(
                rows,
                plan.batch_size,
                seed=plan.seed,
                number=update // per_epoch,
                lengths=encoded.lengths,
                weights=probabilities,
            )
        chosen = plan_of_epoch[update % per_epoch]
        torch.manual_seed(seed_of(plan.seed, update, accelerator.process_index))
        step = Step(update, update / total, plan.seed, pieces)
        loss = one_update(accelerator, forward, prepared, encoded, facts, objective, chosen, step)
        accelerator.clip_grad_norm_(prepared.parameters(), plan.max_grad_norm)
        optimizer.step()
        schedule.step()
        optimizer.zero_grad()
        watch.add(loss, update)
        done = update + 1
        save = checkpoint_steps and done % checkpoint_steps == 0 and done < total
        if done % CHECK_EVERY == 0 or done == total or save:
            mean = watch.check(name, folder)
            curve.append([done, mean])
            bar.set_postfix(loss=f"{mean:.3f}")
            accelerator.log({f"{name}/loss": mean, f"{name}/lr": schedule.get_last_lr()[0]}, done)
        if done % per_epoch == 0 or done == total:
            trainee.fold()
            selector.look(done)
            prepared.train()
        if save:
            seconds = used + time.perf_counter() - started
            progress = {"update": done, "curve": curve, "seconds": seconds}
            progress["selection"] = selector.history
            checkpoint(accelerator, folder, objective, progress)
        bar.update()
    bar.close()
    chosen_weights = selector.restore()
    seconds = used + time.perf_counter() - started
    accelerator.free_memory()
    return {
        "updates": total,
        "examples": total * plan.batch_size,
        "training_seconds": seconds,
        "loss": curve,
        "processes": accelerator.num_processes,
        "threads": torch.get_num_threads(),
        "precision": str(accelerator.mixed_precision),
        "selection": chosen_weights,
    }


def seed_of(*numbers: int) -> int:
    """A 63-bit seed for a tuple of numbers, the same on every machine and Python."""
    return int(np.random.SeedSequence(numbers).generate_state(1, np.uint64)[0] >> 1)


@dataclass(frozen=True)
class Step:
    """Where an update stands in its training, and into how many micro-batches it is cut."""

    update: int
    progress: float
    seed: int
    pieces: int


def one_update(
    accelerator: Accelerator,
    forward: Any,
    model: torch.nn.Module,
    encoded: Encoded,
    facts: TrainingMetadata,
    objective: DistillationLoss,
    chosen: batching.Ints,
    step: Step,
) -> Tensor:
    """Forward and backward of one update's rows; () the detached loss of the whole update."""
    total = torch.zeros((), device=accelerator.device)

    def inputs_of(rows: batching.Ints) -> dict[str, Tensor]:
        made = encoded.batch(rows)
        return {key: value.to(accelerator.device, non_blocking=True) for key, value in made.items()}

    for number, piece in enumerate(np.array_split(chosen, step.pieces)):
        row = torch.from_numpy(piece).to(accelerator.device)
        batch = Batch(
            row,
            facts.label[row],
            facts.group[row],
            None if facts.environment is None else facts.environment[row],
            update=step.update,
            progress=step.progress,
            seed=seed_of(step.seed, step.update, number, 1),  # dropout's seeds are triples
        )
        start, stop = batching.bounds(
            len(piece), accelerator.process_index, accelerator.num_processes
        )
        others = None
        if (partner := objective.method.partners(batch)) is not None:
            others = inputs_of(partner[start:stop].cpu().numpy())
            batch = replace(batch, partner=partner.to(accelerator.device))
        last = number == step.pieces - 1
        with nullcontext() if last else accelerator.no_sync(model):
            local = forward(inputs_of(piece[start:stop]), batch.part(start, stop), others)
            outputs = {
                name: global_rows(accelerator, value.float(), len(piece))
                for name, value in local.items()
            }
            logits = outputs.pop("logits")
            loss = objective(logits, replace(batch, outputs=outputs))
            part = loss * (len(piece) / len(chosen))
            # every process holds the loss of the whole batch but only its own rows' gradient;
            # data parallelism averages gradients, so the factor turns the mean into the sum
            accelerator.backward(part * accelerator.num_processes)
        total += part.detach()
    return total


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


def adamw(model: torch.nn.Module, plan: Plan) -> torch.optim.Optimizer:
    """AdamW; biases and normalisation weights are not decayed."""
    trainable = [p for p in model.parameters() if p.requires_grad]
    groups = [
        {"params": [p for p in trainable if p.ndim > 1], "weight_decay": plan.weight_decay},
        {"params": [p for p in trainable if p.ndim <= 1], "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(
        groups, lr=plan.learning_rate, betas=(0.9, plan.adam_beta2), fused=True
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


def newest_checkpoint(folder: Path) -> Path | None:
    """The complete checkpoint with the most updates."""
    found = [path for path in folder.glob("checkpoint-*") if path.name[11:].isdigit()]
    return max(found, key=lambda path: int(path.name[11:]), default=None)


def checkpoint(
    accelerator: Accelerator, folder: Path, objective: DistillationLoss, progress: Mapping[str, Any]
) -> None:
    """Save model, optimiser and method; the folder gets its name when it is complete."""
    temporary = folder / "checkpoint.tmp"
    accelerator.wait_for_everyone()
    accelerator.save_state(str(temporary))
    accelerator.wait_for_everyone()
    if accelerator.is_main_process:
        if state := objective.state_dict():
            save_file(
                {k: v.contiguous() for k, v in state.items()}, temporary / "method.safetensors"
            )
        (temporary / "progress.json").write_text(json.dumps(progress), encoding="utf-8")
        old = list(folder.glob("checkpoint-*"))
        os.replace(temporary, folder / f"checkpoint-{progress['update']}")
        for path in old:
            shutil.rmtree(path)
    accelerator.wait_for_everyone()


def resume(
    accelerator: Accelerator, folder: Path, schedule: Any, objective: DistillationLoss
) -> dict[str, Any]:
    """Continue the newest checkpoint in `folder`; its progress, or that of a fresh start."""
    if accelerator.is_main_process and (folder / "checkpoint.tmp").exists():
        shutil.rmtree(folder / "checkpoint.tmp")
    accelerator.wait_for_everyone()
    path = newest_checkpoint(folder)
    if path is None:
        return {"update": 0, "curve": [], "seconds": 0.0, "selection": []}
    progress: dict[str, Any] = json.loads((path / "progress.json").read_text(encoding="utf-8"))
    schedule.load_state_dict(
        schedule.state_dict()
        | {"last_epoch": progress["update"], "_step_count": progress["update"] + 1}
    )
    accelerator.load_state(str(path))
    if (path / "method.safetensors").exists():
        objective.load_state_dict(load_file(path / "method.safetensors"))
    return progress


def drop_checkpoints(folder: Path) -> None:
    """Remove every checkpoint: the training is complete."""
    for path in [*folder.glob("checkpoint-*"), folder / "checkpoint.tmp"]:
        shutil.rmtree(path, ignore_errors=True)
