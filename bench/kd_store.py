"""One distillation epoch: teacher logits from the store, or the teacher in the loop.

The base is the same student's epoch without a teacher. Teachers cost about 4 and about 31 times
the student's forward pass. All runs go through this package's loop, in its precision, with the
same batches; the teacher in the loop is asked in inference mode for exactly the rows of a batch.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from accelerate import Accelerator
from common import Goal, Table, environment, interleave, parse, parser, report, timed
from workload import (
    SHORT,
    Size,
    accelerator_on,
    attention_for,
    bert,
    facts_of,
    fit,
    prepare_device,
    text,
)

from harness_plugin.encode import EncodedText
from harness_plugin.methods import Batch
from harness_plugin.objective import Objective, Signals
from harness_plugin.predict import predict
from harness_plugin_hooks.debias.erm import ERM
from harness_plugin_hooks.distill.logits import KD

STUDENT, TEACHERS = Size(2, 128), (Size(2, 256), Size(4, 504))
TINY_STUDENT, TINY_TEACHERS = Size(1, 32), (Size(1, 64), Size(2, 64))
ALONE = "student, no teacher"


class LiveTeacher:
    """An objective that asks the teacher at every update."""

    def __init__(
        self, accelerator: Accelerator, teacher: Any, encoded: EncodedText, stored: Objective
    ) -> None:
        self.accelerator, self.encoded, self.stored = accelerator, encoded, stored
        self.live = teacher.eval().to(accelerator.device)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.stored, name)

    def __call__(self, logits: torch.Tensor, batch: Batch) -> torch.Tensor:
        """() the same loss as from the store."""
        rows = self.encoded.batch(batch.row.cpu().numpy())
        inputs = {name: value.to(logits.device) for name, value in rows.items()}
        with torch.inference_mode(), self.accelerator.autocast():
            teacher = self.live(**inputs).logits.float()
        distiller = self.stored.distiller
        term = distiller.loss(logits, teacher.clone(), batch).mean()
        label_term = self.stored.ce_weight * self.debiaser.loss(logits, batch)
        return label_term + self.stored.kd_weight * distiller.factor * term


def main() -> None:
    options = parser(__doc__.splitlines()[0], rounds=7)
    options.add_argument("--batch-size", type=int, default=32)
    options.add_argument("--rows", type=int, help="rows of the epoch (default 1024, quick 64)")
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
        seconds = interleave(variants(args, student, costs, encoded, label, updates), args.rounds)
        goals = {store_name(cost): [Goal(ALONE, 1.03)] for cost in costs.values()}
        title = (
            f"One epoch of a {student} student ({rows} rows, batches of {args.batch_size}, "
            f"{args.device}), teachers {' and '.join(map(str, costs))}"
        )
        tables.append(Table(title, "epoch", ALONE, seconds, goals))

    report(args, facts, tables, timed(run))


def store_name(cost: float) -> str:
    """The row of a student that learns from stored logits."""
    return f"from the store, teacher {cost:.0f}x"


def variants(
    args: Any,
    student: Size,
    costs: dict[Size, float],
    encoded: EncodedText,
    label: torch.Tensor,
    updates: int,
) -> dict[str, Callable[[], float]]:
    """What takes turns; each returns seconds an epoch (or a teacher's pass)."""

    def epoch(make: Callable[[Accelerator], Any] | None = None) -> Callable[[], float]:
        def run() -> float:
            accelerator = accelerator_on(args.device, "bf16")
            model = bert(student, attention_for(args.device), args.seed)
            objective = make(accelerator) if make else None
            each = fit(accelerator, model, encoded, label, args.batch_size, args.seed, objective)
            return each * updates

        return run

    def ask(teacher: Any) -> np.ndarray:
        accelerator = accelerator_on(args.device, "bf16")
        return predict(accelerator, teacher, encoded, batch_size=args.eval_batch_size)

    out = {ALONE: epoch()}
    for size, cost in costs.items():
        teacher = bert(size, attention_for(args.device), args.seed + 1)
        logits = torch.from_numpy(ask(teacher))

        def stored(accelerator: Accelerator, logits: torch.Tensor = logits) -> Objective:
            debiaser = ERM(facts_of(label, accelerator.device))
            signals = logits.to(accelerator.device)
            return Objective(debiaser, KD(2.0), Signals(signals), ce_weight=0.5, kd_weight=0.5)

        def live(accelerator: Accelerator, teacher: Any = teacher, stored: Any = stored) -> Any:
            return LiveTeacher(accelerator, teacher, encoded, stored(accelerator))

        def one_pass(teacher: Any = teacher) -> float:
            return timed(lambda: ask(teacher))

        out[store_name(cost)] = epoch(stored)
        out[f"in the loop, teacher {cost:.0f}x"] = epoch(live)
        out[f"the one pass that fills the store, teacher {cost:.0f}x"] = one_pass
    return out


if __name__ == "__main__":
    main()
