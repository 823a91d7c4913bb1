"""One distillation epoch: teacher logits from the store, the teacher in the loop, torchdistill.

The base is the same student's epoch without a teacher. Teachers cost about 4 and about 31 times
the student's forward pass. Our runs go through this package's loop, in its precision, with the
same batches; the teacher in the loop is asked in inference mode for exactly the rows of a batch.
torchdistill's epoch is that of its text classification example, on the same rows and batch size. It
is left out without `--peers DIR`, a folder where `pip install --no-deps --target DIR torchdistill
torchvision` has put it: with torchvision beside it, transformers imports what a CPU build of torch
lacks. The last line is the size of a stored million examples and the time to open it.
"""

from __future__ import annotations

import importlib
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from accelerate import Accelerator
from common import Goal, Table, environment, interleave, parse, parser, report, timed
from torch.utils.data import RandomSampler
from workload import (
    LABELS,
    SHORT,
    Size,
    accelerator_on,
    attention_for,
    bert,
    fit,
    metadata_of,
    prepare_device,
    text,
)

from harness_plugin.training.batch import Batch
from harness_plugin.training.inputs.encode import EncodedText
from harness_plugin.training.loss import DistillationLoss
from harness_plugin.training.predict import predict
from harness_plugin.training.teacher_outputs import TeacherOutputs
from harness_plugin_hooks.distill.logits import KD
from harness_plugin_hooks.methods.erm import ERM

STUDENT, TEACHERS = Size(2, 128), (Size(2, 256), Size(4, 504))
TINY_STUDENT, TINY_TEACHERS = Size(1, 32), (Size(1, 64), Size(2, 64))
ALONE = "student, no teacher"


class OnlineTeacherLoss(DistillationLoss):
    """A loss that asks the teacher at every update."""

    def __init__(
        self, method: ERM, accelerator: Accelerator, teacher: Any, encoded: EncodedText
    ) -> None:
        super().__init__(method, KD(2.0), None, ce_weight=0.5, kd_weight=0.5)
        self.accelerator, self.encoded = accelerator, encoded
        self.live = [teacher.eval().to(accelerator.device)]  # in a list: no part of the student

    def forward(self, logits: torch.Tensor, batch: Batch) -> torch.Tensor:
        """() the same loss as from the store."""
        inputs = self.encoded.batch(batch.row.cpu().numpy(), logits.device)
        with torch.inference_mode(), self.accelerator.autocast():
            teacher = self.live[0](**inputs).logits.float()
        assert self.distiller is not None
        term = self.distiller.loss(logits, teacher.clone(), batch).mean()
        label_term = self.ce_weight * self.method.loss(logits, batch)
        return label_term + self.kd_weight * self.distiller.temperature_factor * term


def main() -> None:
    options = parser(__doc__.splitlines()[0], rounds=7)
    options.add_argument("--batch-size", type=int, default=32)
    options.add_argument("--rows", type=int, help="rows of the epoch (default 1024, quick 64)")
    options.add_argument("--peers", type=Path, metavar="DIR", help="folder with torchdistill")
    options.add_argument(
        "--only", nargs="+", default=[], metavar="WORD", help="variants whose name holds one"
    )
    options.add_argument("--eval-batch-size", type=int, default=64, help="of the teacher's pass")
    args = parse(options)
    prepare_device(args)
    facts, tables = environment(args.device), []
    rows = args.rows or (64 if args.quick else 1024)
    student = TINY_STUDENT if args.quick else STUDENT

    def run() -> None:
        encoded, label = text(rows, SHORT, args.seed)
        tokens = float(np.mean(encoded.lengths))
        costs = {
            teacher: teacher.flops(tokens) / student.flops(tokens)
            for teacher in (TINY_TEACHERS if args.quick else TEACHERS)
        }
        updates = -(-rows // args.batch_size)
        every = variants(args, student, costs, encoded, label, updates)
        chosen = {n: v for n, v in every.items() if n == ALONE or selected(n, args.only)}
        seconds = interleave(chosen, args.rounds)
        names = [store_name(cost) for cost in costs.values()]
        goals = {name: [Goal(ALONE, 1.03)] for name in names if name in seconds}
        for cost in costs.values():
            if {peer_name(cost), store_name(cost)} <= seconds.keys():
                goals[store_name(cost)].append(Goal(peer_name(cost), 0.5))
        title = (
            f"One epoch of a {student} student ({rows} rows, batches of {args.batch_size}, "
            f"{args.device}), teachers {' and '.join(map(str, costs))}"
        )
        tables.append(Table(title, "epoch", ALONE, seconds, goals))

    taken = timed(run)
    report(args, facts, tables, taken)
    if not args.peers:
        print("torchdistill is left out: no --peers.")
    print(stored_million(1000 if args.quick else 1_000_000))


def selected(name: str, words: list[str]) -> bool:
    """Whether a variant is asked for."""
    return not words or any(word in name for word in words)


def stored_million(rows: int) -> str:
    """The size of stored logits of `rows` examples with three labels, and the time to open them."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "logits.npy"
        np.save(file, np.zeros((rows, LABELS), np.float32))
        opened = [timed(lambda: np.load(file, mmap_mode="r")[rows // 2]) for _ in range(5)]
        size = file.stat().st_size
    return (
        f"Stored logits of {rows:,} examples: {size / 1e6:.1f} MB, "
        f"opened in {1e3 * min(opened):.2f} ms."
    )


def store_name(cost: float) -> str:
    """The row of a student that learns from stored logits."""
    return f"from the store, teacher {cost:.0f}x"


def peer_name(cost: float) -> str:
    """The row of torchdistill."""
    return f"torchdistill, teacher {cost:.0f}x"


def torchdistill(folder: Path) -> Any:
    """Its distillation module, from a folder of packages.

    torchvision's wheels are built for CUDA, and beside a CPU build of torch its operators are
    missing; importing it declares shapes for them, so that their names are made known here. None of
    them is used.
    """
    if "torchdistill" in sys.modules:
        return sys.modules["torchdistill.core.distillation"]
    sys.path.append(str(folder))
    operators = "roi_align roi_pool ps_roi_align ps_roi_pool nms qnms qroi_align deform_conv2d"
    backward = "_roi_align_backward _roi_pool_backward _ps_roi_align_backward"
    library = torch.library.Library("torchvision", "FRAGMENT")
    for name in f"{operators} {backward} _ps_roi_pool_backward _deform_conv2d_backward".split():
        library.define(f"{name}(Tensor x) -> Tensor")
    KEPT.append(library)
    return importlib.import_module("torchdistill.core.distillation")


KEPT: list[Any] = []
"""Operators are forgotten with the library that declared them."""


class Rows(torch.utils.data.Dataset[dict[str, Any]]):
    """The rows as torchdistill's example reads them: lists that its collator pads."""

    def __init__(self, encoded: EncodedText, label: torch.Tensor) -> None:
        self.encoded, self.label = encoded, label

    def __len__(self) -> int:
        return len(self.encoded)

    def __getitem__(self, row: int) -> dict[str, Any]:
        made = self.encoded.batch(np.array([row]))
        return {name: value[0] for name, value in made.items()} | {"labels": self.label[row]}


def padded(rows: list[dict[str, Any]]) -> dict[str, torch.Tensor]:
    """A batch padded to its longest row, as transformers' DataCollatorWithPadding makes it."""
    longest = max(len(row["input_ids"]) for row in rows)
    out = {"labels": torch.stack([row["labels"] for row in rows])}
    for name in rows[0].keys() - {"labels"}:
        pads = [torch.nn.functional.pad(r[name], (0, longest - len(r[name]))) for r in rows]
        out[name] = torch.stack(pads)
    return out


def peer_epoch(
    student: Any, teacher: Any, encoded: EncodedText, label: torch.Tensor, args: Any
) -> float:
    """Seconds of an epoch of torchdistill's KD, as its example for text classification runs it."""
    torchdistill(args.peers)
    registry = importlib.import_module("torchdistill.datasets.registry")
    registry.register_collate_func(padded)
    updates = -(-len(encoded) // args.batch_size)
    model = {"forward_proc": "forward_batch_only_as_kwargs", "sequential": [], "frozen_modules": []}
    kd = {
        "key": "KDLoss",
        "kwargs": {
            "student_module_path": "classifier",
            "student_module_io": "output",
            "teacher_module_path": "classifier",
            "teacher_module_io": "output",
            "temperature": 2.0,
            "alpha": 0.5,
            "reduction": "batchmean",
        },
    }
    hooks = {"forward_hook": {"input": [], "output": ["classifier"]}}
    config = {
        "num_epochs": 1,
        "train_data_loader": {
            "dataset_id": "train",
            "sampler": {"class_or_func": RandomSampler},
            "collate_fn": "padded",
            "requires_supp": False,
            "kwargs": {"batch_size": args.batch_size, "num_workers": 0, "drop_last": False},
        },
        "teacher": {**model, **hooks, "requires_grad": False},
        "student": {**model, **hooks, "requires_grad": True},
        "optimizer": {
            "key": "AdamW",
            "kwargs": {"lr": 5e-5, "weight_decay": 0.0},
            "filters_params": True,
            "max_grad_norm": 1.0,
        },
        "scheduler": {
            "key": "LinearLR",
            "kwargs": {"start_factor": 1.0, "end_factor": 0.01, "total_iters": updates},
            "scheduling_step": 1,
        },
        "criterion": {
            "key": "WeightedSumLoss",
            "kwargs": {"sub_terms": {"kd": {"criterion": kd, "weight": 1.0}}},
        },
    }
    device = torch.device(args.device)
    data = {"train": Rows(encoded, label)}
    box = torchdistill(args.peers).get_distillation_box(
        teacher.to(device), student.to(device), data, config, device, None, False, 1
    )

    def epoch() -> None:
        box.pre_epoch_process(epoch=0)
        for batch in box.train_data_loader:
            batch = {name: value.to(device) for name, value in batch.items()}
            loss = box.forward_process(batch, targets=batch["labels"], supp_dict=None)
            box.post_forward_process(loss=loss)

    return timed(epoch)


def variants(
    args: Any,
    student: Size,
    costs: dict[Size, float],
    encoded: EncodedText,
    label: torch.Tensor,
    updates: int,
) -> dict[str, Callable[[], float]]:
    """Timed variants; each returns seconds an epoch (or a teacher's pass)."""

    def epoch(
        make: Callable[[Accelerator], Any] | None = None, precision: str = "bf16"
    ) -> Callable[[], float]:
        def run() -> float:
            accelerator = accelerator_on(args.device, precision)
            attention = attention_for(args.device) if precision == "bf16" else "sdpa"
            model = bert(student, attention, args.seed)
            loss = make(accelerator) if make else None
            each = fit(accelerator, model, encoded, label, args.batch_size, args.seed, loss)
            return each * updates

        return run

    def ask(teacher: Any) -> np.ndarray:
        accelerator = accelerator_on(args.device, "bf16")
        return predict(accelerator, teacher, encoded, batch_size=args.eval_batch_size)

    out = {ALONE: epoch()}
    for size, cost in costs.items():
        teacher = bert(size, attention_for(args.device), args.seed + 1)
        logits = torch.from_numpy(ask(teacher))

        def stored(accelerator: Accelerator, logits: torch.Tensor = logits) -> DistillationLoss:
            method = ERM(metadata_of(label, accelerator.device))
            teacher = TeacherOutputs(logits.to(accelerator.device))
            return DistillationLoss(method, KD(2.0), teacher, ce_weight=0.5, kd_weight=0.5)

        def live(accelerator: Accelerator, teacher: Any = teacher) -> DistillationLoss:
            method = ERM(metadata_of(label, accelerator.device))
            return OnlineTeacherLoss(method, accelerator, teacher, encoded)

        def one_pass(teacher: Any = teacher) -> float:
            return timed(lambda: ask(teacher))

        out[store_name(cost)] = epoch(stored)
        out[f"in the loop, teacher {cost:.0f}x"] = epoch(live)
        out[f"the one pass that fills the store, teacher {cost:.0f}x"] = one_pass

        def peer(size: Size = size) -> float:
            model, teacher = (bert(s, "sdpa", args.seed) for s in (student, size))
            return peer_epoch(model, teacher, encoded, label, args)

        if args.peers:
            out[f"from the store in fp32, teacher {cost:.0f}x"] = epoch(stored, "no")
            out[peer_name(cost)] = peer
    return out


if __name__ == "__main__":
    main()
