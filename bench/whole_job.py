"""The whole job beside what a user would write: teacher, control, distilled student, evaluation.

A user takes transformers' Trainer with its defaults for the teacher and the control, a Trainer
whose loss asks the teacher for the student, and `predict` for the answers of all three. Ours are
the loop, the stored teacher and the prediction pass of a run, with the threads, precision and
attention that it would choose; freed memory is kept and what was imported is frozen, as a run does.
Same models, first weights, rows, batch size, epochs, learning rate. Making token ids, pixels and
models is left out for both. Three jobs: BERT from random weights; a pretrained encoder whose first
half is the student (`--pretrained DIR`, a checkpoint of transformers, on SNLI of `--data`); a
ResNet-18 on images of 64 pixels.

Ours once more as a run with several seeds does it: two seeds side by side, each in a process that
has half of the cores and has imported its packages, as a run's workers have from their second
training on. Half of these seconds is the time of a job; making the models is counted here.
"""

from __future__ import annotations

import copy
import json
import tempfile
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import torch
from common import Goal, Table, environment, interleave, parse, parser, report, timed
from step import forget_accelerator, padding_tokenizer
from torch.nn.functional import cross_entropy, kl_div
from transformers import (
    AutoModelForSequenceClassification,
    AutoTokenizer,
    DataCollatorWithPadding,
    PrinterCallback,
    Trainer,
    TrainingArguments,
    default_data_collator,
)
from transformers.utils.logging import set_verbosity_error
from workload import (
    FIRST_WORD,
    LABELS,
    LONG,
    Size,
    accelerator_on,
    bert,
    metadata_of,
    resnet,
    text,
    training_args,
)

from harness_plugin.machine.process_state import freeze, frozen, memory_kept
from harness_plugin.pipeline.prepare.calibration import Setting, Shape, measure_cpu, quickest
from harness_plugin.pipeline.prepare.hardware import available_cores
from harness_plugin.training import loop
from harness_plugin.training.inputs.encode import Encoded, EncodedImages, EncodedText
from harness_plugin.training.loss import DistillationLoss
from harness_plugin.training.predict import predict
from harness_plugin.training.teacher_outputs import TeacherOutputs
from harness_plugin.training.update import TrainingRows
from harness_plugin_hooks.distill.logits import KD
from harness_plugin_hooks.methods.erm import ERM

OURS, TRAINER = "harness-plugin", "Trainer"
SIDE_BY_SIDE = "harness-plugin, two seeds side by side"
SNLI = ("entailment", "neutral", "contradiction")
BATCH, TEMPERATURE, SHARE, SEEDS = 32, 2.0, 0.5, 2
"""Rows of an update; the student's loss is half labels, half distillation; seeds side by side."""
TOKENS = 64
"""Tokens of a row, as a run counts them for pairs of `LONG` lengths: a power of two."""


@dataclass(frozen=True)
class Rows:
    """Rows of a model and their labels (N,)."""

    encoded: Encoded
    label: torch.Tensor


@dataclass
class Job:
    """One job, which a process can be given; models are made for an implementation of attention."""

    name: str
    train: Rows
    test: Rows
    teacher: Callable[[str], Any]
    student: Callable[[str], Any]
    epochs: int
    learning_rate: float
    most: float
    """Goal: at most this share of Trainer's time."""

    @property
    def modality(self) -> str:
        """The modality: "text" or "image"."""
        return "text" if self.train.encoded.lengths is not None else "image"

    def measured(self, cores: int) -> dict[str, float]:
        """Milliseconds by threads, precision and attention, as a run of this teacher measures."""
        rows = self.train.encoded
        length = rows.pixels.shape[1] if isinstance(rows, EncodedImages) else TOKENS
        shape = Shape.of(self.modality, self.teacher("eager").config, BATCH, length)
        return dict(measure_cpu(shape, cores)["milliseconds"])


def main() -> None:
    options = parser(__doc__.splitlines()[0], rounds=2, device=False)
    options.add_argument("--pretrained", type=Path, metavar="DIR", help="a text encoder")
    options.add_argument("--data", type=Path, default=Path("../shared/data"), metavar="DIR")
    options.add_argument("--only", nargs="+", default=[], metavar="WORD", help="of a job's name")
    options.add_argument("--rows", type=int, help="of a training set (default 512, quick 32)")
    args = parse(options)
    set_verbosity_error()
    facts, tables, lines = environment(), [], []
    cores = 1 if args.quick else available_cores()

    def run() -> None:
        for job in jobs(args):
            measured, threads = job.measured(cores), max(1, cores // SEEDS)
            choice, shared = quickest(measured, {}), quickest(measured, {"threads": threads})
            right: dict[str, list[list[float]]] = {OURS: [], TRAINER: []}
            with ProcessPoolExecutor(SEEDS, get_context("spawn"), set_verbosity_error) as workers:
                list(workers.map(abs, range(SEEDS)))  # each has imported its packages now
                variants = {
                    OURS: partial(ours, job, choice, args.seed, right[OURS]),
                    SIDE_BY_SIDE: partial(side_by_side, job, shared, args.seed, workers),
                    TRAINER: partial(theirs, job, cores, args.seed, right[TRAINER]),
                }
                seconds = interleave(variants, args.rounds)
            goals = {name: [Goal(TRAINER, job.most)] for name in (OURS, SIDE_BY_SIDE)}
            tables.append(Table(job.name, "job", TRAINER, seconds, goals))
            lines.append(accuracies(job.name, right))

    report(args, facts, tables, timed(run))
    print("\n".join(lines))
    if not args.pretrained:
        print("The pretrained encoder is left out: no --pretrained.")


def jobs(args: Any) -> list[Job]:
    """The jobs that are asked for."""
    rows = args.rows or (32 if args.quick else 512)
    every = {"from scratch": from_scratch, "ResNet-18": images}
    if args.pretrained:
        every["pretrained"] = pretrained
    return [
        make(args, rows)
        for name, make in every.items()
        if not args.only or any(word in name for word in args.only)
    ]


def from_scratch(args: Any, rows: int) -> Job:
    """Random tokens; three words of a row say its label."""
    large, small = (Size(1, 64), Size(1, 32)) if args.quick else (Size(4, 256), Size(2, 128))
    encoded, label = text(2 * rows, LONG, args.seed)
    tokens, rng = encoded.tokens, np.random.default_rng(args.seed)
    for row, (start, stop) in enumerate(zip(encoded.offsets, encoded.offsets[1:], strict=False)):
        tokens[rng.integers(start, stop, 3)] = FIRST_WORD + int(label[row])
    return Job(
        f"BERT {large} from scratch, student {small}",
        *halves(encoded, label, rows),
        partial(bert, large, seed=args.seed),
        partial(bert, small, seed=args.seed + 1),
        epochs=2,
        learning_rate=5e-4,
        most=0.4,
    )


def halves(encoded: EncodedText, label: torch.Tensor, rows: int) -> tuple[Rows, Rows]:
    """The first `rows` to train on, the rest to be tested on."""
    cut = int(encoded.offsets[rows])
    second = encoded.second
    first, last = (None, None) if second is None else (second[:rows], second[rows:])
    train = EncodedText(encoded.tokens[:cut], encoded.offsets[: rows + 1], first, encoded.pad)
    rest = encoded.offsets[rows:] - cut
    test = EncodedText(encoded.tokens[cut:], rest, last, encoded.pad)
    return Rows(train, label[:rows]), Rows(test, label[rows:])


def pretrained(args: Any, rows: int) -> Job:
    """SNLI's development pairs; the student is the first half of the encoder."""
    tokenizer = AutoTokenizer.from_pretrained(args.pretrained)
    pairs = []
    with (args.data / "snli" / "snli_1.0_dev.jsonl").open(encoding="utf-8") as lines:
        for record in map(json.loads, lines):
            if record["gold_label"] in SNLI and len(pairs) < 2 * rows:
                pairs.append((record["sentence1"], record["sentence2"], record["gold_label"]))
    one, other, gold = zip(*pairs, strict=True)
    made = tokenizer(list(one), list(other), truncation=True, max_length=128)
    lengths = [len(ids) for ids in made["input_ids"]]
    second = [types.index(1) for types in made["token_type_ids"]]
    encoded = EncodedText(
        np.concatenate(made["input_ids"]).astype(np.int32),
        np.cumsum([0, *lengths]).astype(np.int64),
        np.array(second, np.int32),
        tokenizer.pad_token_id,
    )
    label = torch.tensor([SNLI.index(each) for each in gold])

    model = partial(encoder, folder=args.pretrained, seed=args.seed)
    layers = model("sdpa").config.num_hidden_layers
    return Job(
        f"pretrained encoder of {layers} layers, student of {layers // 2}",
        *halves(encoded, label, rows),
        model,
        partial(model, layers=layers // 2),
        epochs=4,
        learning_rate=4e-4,
        most=0.5,
    )


def encoder(attention: str, folder: Path, seed: int, layers: int | None = None) -> Any:
    """The pretrained encoder, or its first `layers`, with a new classification head."""
    torch.manual_seed(seed)
    more = {"num_hidden_layers": layers} if layers else {}
    return AutoModelForSequenceClassification.from_pretrained(
        folder, num_labels=len(SNLI), attn_implementation=attention, **more
    )


def images(args: Any, rows: int) -> Job:
    """Noise that is brighter in the colour of its label; the student is half as wide."""
    rng = np.random.default_rng(args.seed)
    label = rng.integers(0, LABELS, 2 * rows)
    side, width = (32, 8) if args.quick else (64, 64)
    pixels = rng.integers(0, 200, (2 * rows, side, side, 3), dtype=np.uint8)
    pixels[np.arange(2 * rows), :, :, label] += 40
    parts = [
        Rows(EncodedImages(part, 1 / 255, (0.5,) * 3, (0.5,) * 3), torch.from_numpy(gold))
        for part, gold in zip(np.split(pixels, 2), np.split(label, 2), strict=True)
    ]

    return Job(
        f"ResNet-18, {side} px, student half as wide",
        *parts,
        partial(resnet, width=width, seed=args.seed),
        partial(resnet, width=width // 2, seed=args.seed),
        epochs=3,
        learning_rate=1e-3,
        most=0.6,
    )


def ours(job: Job, choice: Setting, seed: int, right: list[list[float]]) -> float:
    """Seconds of the product; the accuracies are added to `right`."""
    threads, precision, attention = choice
    torch.set_num_threads(threads)
    accelerator = accelerator_on("cpu", precision)
    teacher, student, control = models_of(job, attention)

    def trained(model: Any, logits: np.ndarray | None = None) -> Any:
        metadata = metadata_of(job.train.label, accelerator.device)
        loss = DistillationLoss(ERM(metadata))
        if logits is not None:
            stored = TeacherOutputs(torch.from_numpy(logits))
            loss = DistillationLoss(
                ERM(metadata), KD(TEMPERATURE), stored, ce_weight=1 - SHARE, kd_weight=SHARE
            )
        settings = replace(
            training_args(BATCH, seed), epochs=job.epochs, learning_rate=job.learning_rate
        )
        with tempfile.TemporaryDirectory() as folder:
            place = loop.LoopOptions("bench", Path(folder))
            rows = TrainingRows(job.train.encoded, metadata)
            loop.fit(accelerator, model, rows, loss, settings, place)
        return model

    def run() -> None:
        trained(teacher)
        trained(control)
        trained(student, predict(accelerator, teacher, job.train.encoded, batch_size=64))
        every = (teacher, student, control)
        logits = [predict(accelerator, each, job.test.encoded, batch_size=64) for each in every]
        right.append([accuracy(each, job) for each in logits])

    with memory_kept(), frozen():
        freeze()
        return timed(run)


def side_by_side(job: Job, choice: Setting, seed: int, workers: ProcessPoolExecutor) -> float:
    """Seconds of the product for one of `SEEDS` jobs that are done at the same time."""

    def run() -> None:
        started = [workers.submit(ours, job, choice, seed + more, []) for more in range(SEEDS)]
        for each in started:
            each.result()

    return timed(run) / SEEDS


def models_of(job: Job, attention: str) -> tuple[Any, Any, Any]:
    """Teacher, student, and the student's twin."""
    student = job.student(attention)
    return job.teacher(attention), student, copy.deepcopy(student)


class Distilling(Trainer):
    """A Trainer whose loss asks a teacher, as tutorials write it."""

    teacher: Any

    def compute_loss(
        self, model: Any, inputs: Any, return_outputs: bool = False, **more: Any
    ) -> Any:
        """Half cross-entropy, half distillation."""
        label = inputs["labels"]
        output = model(**inputs)
        with torch.no_grad():
            target = self.teacher(**inputs).logits
        one, other = (each / TEMPERATURE for each in (output.logits, target))
        distance = kl_div(one.log_softmax(1), other.softmax(1), reduction="batchmean")
        loss = (1 - SHARE) * cross_entropy(output.logits, label)
        loss = loss + SHARE * TEMPERATURE**2 * distance
        return (loss, output) if return_outputs else loss


def theirs(job: Job, threads: int, seed: int, right: list[list[float]]) -> float:
    """Seconds of Trainer; the accuracies are added to `right`."""
    torch.set_num_threads(threads)
    forget_accelerator()
    teacher, student, control = models_of(job, "sdpa")
    train, test = items(job.train), items(job.test)
    is_text = job.modality == "text"
    collate = DataCollatorWithPadding(padding_tokenizer()) if is_text else default_data_collator

    with tempfile.TemporaryDirectory() as folder:
        arguments = TrainingArguments(
            folder,
            num_train_epochs=job.epochs,
            learning_rate=job.learning_rate,
            per_device_train_batch_size=BATCH,
            per_device_eval_batch_size=64,
            report_to="none",
            save_strategy="no",
            disable_tqdm=True,
            logging_strategy="no",
            use_cpu=True,
            seed=seed,
        )

        def worker(kind: type[Trainer], model: Any) -> Any:
            made = kind(model, arguments, data_collator=collate, train_dataset=train)
            made.remove_callback(PrinterCallback)
            return made

        def run() -> None:
            plain = [worker(Trainer, model) for model in (teacher, control)]
            for each in plain:
                each.train()
            distilling = worker(Distilling, student)
            distilling.teacher = teacher.eval()
            distilling.train()
            every = (plain[0], distilling, plain[1])
            right.append([accuracy(each.predict(test).predictions, job) for each in every])

        seconds = timed(run)
    forget_accelerator()
    return seconds


def items(rows: Rows) -> list[dict[str, Any]]:
    """The rows as a list in memory; a `datasets.Dataset` would cost Trainer more."""
    out = []
    for row, gold in enumerate(rows.label.tolist()):
        made = rows.encoded.batch(np.array([row]))
        values = {name: value[0] for name, value in made.items()}
        if "input_ids" in values:
            values = {name: value.tolist() for name, value in values.items()}
        out.append({**values, "label": gold})
    return out


def accuracy(logits: np.ndarray, job: Job) -> float:
    """Share of the test rows that are right."""
    return float((logits.argmax(1) == job.test.label.numpy()).mean())


def accuracies(name: str, right: dict[str, list[list[float]]]) -> str:
    """Accuracies of the last round, in words."""
    parts = []
    for variant, rounds in right.items():
        teacher, student, control = (f"{100 * value:.1f}" for value in rounds[-1])
        parts.append(f"{variant} {teacher}, {student}, {control}")
    return f"- {name}: accuracy of teacher, student, control: {'; '.join(parts)}"


if __name__ == "__main__":
    main()
