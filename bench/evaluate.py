"""A prediction pass of three models (a teacher, two small ones) over one evaluation set.

Plain: fp32, rows in their order, each batch padded to its longest row. Ours: `predict.predict`,
the rows sorted by length, in bf16; also in fp32, to tell the two apart.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import torch
from common import Goal, Table, environment, interleave, parse, parser, report, timed
from workload import LONG, Size, accelerator_on, attention_for, bert, prepare_device, text

from harness_plugin.training.inputs.encode import EncodedText
from harness_plugin.training.predict import predict

SIZES = (Size(4, 256), Size(2, 128), Size(2, 128))
OURS, OURS_FP32 = "harness-plugin, bf16", "harness-plugin, fp32"


def main() -> None:
    options = parser(__doc__.splitlines()[0], rounds=5)
    options.add_argument("--rows", type=int, help="rows of the set (default 1024, quick 64)")
    options.add_argument("--batch-size", type=int, default=64, help="ours (default: as in a run)")
    options.add_argument("--plain-batch-size", type=int, default=32)
    args = parse(options)
    prepare_device(args)
    facts, tables = environment(args.device), []
    rows = args.rows or (64 if args.quick else 1024)
    sizes = (Size(1, 64),) * 3 if args.quick else SIZES
    base = f"plain loop, batches of {args.plain_batch_size}"

    def run() -> None:
        encoded, _ = text(rows, LONG, args.seed)
        eager = [bert(s, attention_for(args.device), args.seed) for s in sizes]
        sdpa = [bert(s, "sdpa", args.seed) for s in sizes]
        variants: dict[str, Callable[[], float]] = {
            OURS: partial(ours, args, "bf16", eager, encoded),
            OURS_FP32: partial(ours, args, "no", sdpa, encoded),
            base: partial(plain, args, args.plain_batch_size, sdpa, encoded),
        }
        if args.batch_size != args.plain_batch_size:
            name = f"plain loop, batches of {args.batch_size}"
            variants[name] = partial(plain, args, args.batch_size, sdpa, encoded)
        check_same(args, sdpa[0], encoded)
        title = (
            f"Logits of BERT {', '.join(map(str, sizes))} on {rows} rows, "
            f"lengths {LONG.least}-{LONG.most}, {args.device}"
        )
        seconds = interleave(variants, args.rounds)
        tables.append(Table(title, "pass", base, seconds, {OURS: [Goal(base, 0.35)]}))

    report(args, facts, tables, timed(run))


def ours(args: Any, precision: str, models: list[Any], encoded: EncodedText) -> float:
    """The product's pass."""
    accelerator = accelerator_on(args.device, precision)

    def run() -> None:
        for model in models:
            predict(accelerator, model, encoded, batch_size=args.batch_size)

    return timed(run)


def plain(args: Any, batch_size: int, models: list[Any], encoded: EncodedText) -> float:
    """The loop everybody writes first."""
    return timed(lambda: [plain_logits(args, batch_size, model, encoded) for model in models])


@torch.inference_mode()
def plain_logits(args: Any, batch_size: int, model: Any, encoded: EncodedText) -> np.ndarray:
    """(N, C) logits in row order."""
    model.eval().to(args.device)
    result = []
    for start in range(0, len(encoded), batch_size):
        rows = np.arange(start, min(start + batch_size, len(encoded)))
        inputs = {name: value.to(args.device) for name, value in encoded.batch(rows).items()}
        result.append(model(**inputs).logits.cpu().numpy())
    return np.concatenate(result)


def check_same(args: Any, model: Any, encoded: EncodedText) -> None:
    """Both loops must give the same answers before their times are compared."""
    accelerator = accelerator_on(args.device, "no")
    one = predict(accelerator, model, encoded, batch_size=args.batch_size)
    other = plain_logits(args, args.plain_batch_size, model, encoded)
    worst = float(np.abs(one - other).max())
    if worst > 1e-3:
        raise SystemExit(f"the two passes differ by {worst:g}: nothing to compare.")


if __name__ == "__main__":
    main()
