"""Seconds of one training update: this package, transformers' Trainer, and a bare torch loop.

All see the same rows, the same number of examples an update, the same optimiser, clipping,
schedule and dropout. The bare loop uses this package's batches, precision and attention and has
nothing else (no method, no checks, no records, no Accelerate): it is the floor.
"""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from accelerate.state import AcceleratorState, GradientState, PartialState
from common import Goal, Table, environment, interleave, parse, parser, report, timed
from tokenizers import Tokenizer, models
from torch.nn.functional import cross_entropy
from torch.nn.utils import clip_grad_norm_
from transformers import (
    DataCollatorWithPadding,
    PreTrainedTokenizerFast,
    PrinterCallback,
    Trainer,
    TrainerCallback,
    TrainingArguments,
    get_linear_schedule_with_warmup,
)
from transformers.utils import logging
from workload import (
    LONG,
    SHORT,
    Lengths,
    Size,
    accelerator_on,
    attention_for,
    bert,
    fit,
    prepare_device,
    text,
    training_args,
)

from harness_plugin.training.inputs import batching
from harness_plugin.training.inputs.encode import EncodedText
from harness_plugin.training.inputs.transfer import to_device
from harness_plugin.training.update import adamw

OURS, FLOOR = "harness-plugin", "bare torch loop, same tricks"
TRAINER, TRAINER_BF16 = "Trainer fp32", "Trainer bf16"
GROUPED = "Trainer bf16, grouped by length"
GOALS = {OURS: [Goal(TRAINER, 0.25), Goal(TRAINER_BF16, 0.5), Goal(FLOOR, 1.05)]}


def main() -> None:
    options = parser(__doc__.splitlines()[0], rounds=5)
    options.add_argument("--batch-size", type=int, default=32)
    options.add_argument("--rows", type=int, help="of the larger model's epoch; 4 x for the other")
    args = parse(options)
    logging.set_verbosity_error()
    prepare_device(args)
    facts, tables = environment(args.device), []
    rows = args.rows or (64 if args.quick else 512)
    large, small = (Size(1, 64), Size(1, 64)) if args.quick else (Size(4, 256), Size(2, 128))

    def run() -> None:
        for size, lengths, many in ((large, LONG, rows), (small, SHORT, 4 * rows)):
            seconds = interleave(variants(args, size, lengths, many), args.rounds)
            title = (
                f"One update of {args.batch_size} examples, BERT {size}, "
                f"lengths {lengths.least}-{lengths.most}, {many} rows, {args.device}"
            )
            goals = GOALS if lengths is LONG else {}
            tables.append(Table(title, "update", TRAINER, seconds, goals))

    report(args, facts, tables, timed(run))


def variants(args: Any, size: Size, lengths: Lengths, rows: int) -> dict[str, Callable[[], float]]:
    """Timed variants; each returns seconds an update."""
    encoded, label = text(rows, lengths, args.seed)
    common = (args, size, encoded, label)
    return {
        OURS: partial(ours, *common),
        FLOOR: partial(bare, *common),
        TRAINER: partial(trainer, *common),
        TRAINER_BF16: partial(trainer, *common, bf16=True),
        GROUPED: partial(trainer, *common, bf16=True, train_sampling_strategy="group_by_length"),
    }


def ours(args: Any, size: Size, encoded: EncodedText, label: torch.Tensor) -> float:
    """The product's loop with its precision and attention."""
    accelerator = accelerator_on(args.device, "bf16")
    model = bert(size, attention_for(args.device), args.seed)
    return fit(accelerator, model, encoded, label, args.batch_size, args.seed)


def bare(args: Any, size: Size, encoded: EncodedText, label: torch.Tensor) -> float:
    """Forward, backward, clip, step: nothing can be left out."""
    model = bert(size, attention_for(args.device), args.seed).to(args.device).train()
    settings = training_args(args.batch_size, args.seed)
    optimizer = adamw(model, settings.learning_rate, settings.weight_decay, settings.adam_beta2)
    order = batching.epoch(
        len(encoded), args.batch_size, seed=args.seed, number=0, lengths=encoded.lengths
    )
    schedule = get_linear_schedule_with_warmup(optimizer, 0, len(order))
    device = torch.device(args.device)
    label = label.to(device)
    start = time.perf_counter()
    for rows in order:
        inputs = encoded.batch(rows, device)
        with torch.autocast(args.device, torch.bfloat16):
            logits = model(**inputs).logits
        index = to_device(torch.from_numpy(rows), device)
        cross_entropy(logits.float(), label[index]).backward()
        clip_grad_norm_(model.parameters(), settings.max_grad_norm)
        optimizer.step()
        schedule.step()
        optimizer.zero_grad()
    if args.device == "cuda":
        torch.cuda.synchronize()
    return (time.perf_counter() - start) / len(order)


class Stopwatch(TrainerCallback):
    """Times the loop alone: model and optimiser set-up are left out, as for the others."""

    def __init__(self) -> None:
        self.start = self.seconds = 0.0

    def on_train_begin(self, *args: Any, **kwargs: Any) -> None:
        self.start = time.perf_counter()

    def on_train_end(self, *args: Any, **kwargs: Any) -> None:
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        self.seconds = time.perf_counter() - self.start


def trainer(
    args: Any, size: Size, encoded: EncodedText, label: torch.Tensor, **settings: Any
) -> float:
    """transformers' Trainer with its defaults; tokenised rows in memory, padded by its collator.

    Rows are a plain list: a `datasets.Dataset`, the usual choice, would cost it more.
    """
    forget_accelerator()
    rows = [
        {"input_ids": encoded.tokens[start:stop].tolist(), "label": int(y)}
        for start, stop, y in zip(encoded.offsets[:-1], encoded.offsets[1:], label, strict=True)
    ]
    model = bert(size, "sdpa", args.seed)
    watch = Stopwatch()
    with tempfile.TemporaryDirectory() as folder:
        arguments = TrainingArguments(
            folder,
            num_train_epochs=1,
            per_device_train_batch_size=args.batch_size,
            report_to="none",
            save_strategy="no",
            disable_tqdm=True,
            logging_strategy="no",
            use_cpu=args.device == "cpu",
            seed=args.seed,
            **settings,
        )
        worker = Trainer(
            model,
            arguments,
            data_collator=DataCollatorWithPadding(padding_tokenizer()),
            train_dataset=rows,
            callbacks=[watch],
        )
        worker.remove_callback(PrinterCallback)
        updates = worker.train().global_step
    forget_accelerator()
    return watch.seconds / updates


def padding_tokenizer() -> PreTrainedTokenizerFast:
    """The least tokenizer Trainer's collator accepts."""
    return PreTrainedTokenizerFast(
        tokenizer_object=Tokenizer(models.WordLevel({"[PAD]": 0}, unk_token="[PAD]")),
        pad_token="[PAD]",
    )


def forget_accelerator() -> None:
    """Trainer(bf16=True) leaves its precision in process-wide state; the next must not inherit."""
    AcceleratorState._reset_state(reset_partial_state=True)
    PartialState._reset_state()
    GradientState._reset_state()
    os.environ.pop("ACCELERATE_MIXED_PRECISION", None)


if __name__ == "__main__":
    main()
