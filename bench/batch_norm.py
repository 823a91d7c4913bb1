"""What `recalibrate_batch_norm` does to a pruned ResNet: the embedded faces, before any training.

    python docs/fill_tables.py batch_norm    # runs this, fills the table in docs/compression.md

The task's own teacher (group DRO, a ResNet of three epochs) is pruned by magnitude, and its batch
normalisation left as it was, or estimated again on random or on group-balanced training rows.
"""

from __future__ import annotations

import argparse
import shlex
import sys
from collections.abc import Sequence
from typing import Any

import harness_plugin as hp

TASK = "celeba_bias"
KINDS: dict[str, dict[str, Any]] = {
    "as it is": {},
    "recalibrated": {"recalibrate_batch_norm": {}},
    "on balanced rows": {"recalibrate_batch_norm": {"calibration": "balanced"}},
}
"""What follows the pruning."""
METRICS = {"acc": "accuracy", "worst_group_acc": "worst group"}


def role_of(sparsity: float, kind: str) -> str:
    """The name of a student."""
    return f"student_{round(100 * sparsity)}_{list(KINDS).index(kind)}"


def students(sparsities: Sequence[float]) -> dict[str, Any]:
    """The teacher pruned, once for every sparsity and kind; without the task's own students."""
    made: dict[str, Any] = {"student": None, "student_ce": None}
    for sparsity in sparsities:
        for kind, after in KINDS.items():
            compress = {"magnitude": {"sparsity": sparsity}, **after}
            made[role_of(sparsity, kind)] = {"compress": compress}
    return made


def shown(estimate: Any) -> str:
    """The mean over seeds in percent, and the seeds' range."""
    seeds = [100 * value for value in estimate.seeds]
    return f"{100 * estimate.value:.1f} ({min(seeds):.1f} to {max(seeds):.1f})"


def table(result: Any, sparsities: Sequence[float]) -> list[str]:
    """A line a sparsity and metric; the first line of each metric is the whole teacher's."""
    scores = result[TASK]
    (split,) = (name for name, purpose in scores.purposes.items() if purpose == "ood")
    columns = "".join(f" {kind} |" for kind in KINDS)
    lines = [f"| {split} set | weights set to 0 |{columns}", f"|---|--:|{'--:|' * len(KINDS)}"]
    for metric, title in METRICS.items():
        whole = shown(scores.of("teacher", split).metrics[metric])
        lines.append(f"| {title} | none | {whole} |{' |' * (len(KINDS) - 1)}")
        for sparsity in sparsities:
            cells = (
                shown(scores.of(role_of(sparsity, kind), split).metrics[metric]) for kind in KINDS
            )
            lines.append(f"| {title} | {sparsity:.0%} | {' | '.join(cells)} |")
    return lines


def main() -> int:
    """Train the teachers, make them smaller, print the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--sparsities", type=float, nargs="+", default=[0.5, 0.7, 0.8])
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--rows", type=int, help="training rows (default: all that the task has)")
    parser.add_argument("--use_cache", metavar="DIR", help="the store (default: that of runs)")
    args = parser.parse_args()
    settings: dict[str, Any] = {"students": students(args.sparsities), "control": False}
    if args.rows:
        settings["options"] = {"n_train": args.rows}
    more = {"use_cache": args.use_cache} if args.use_cache else {}
    result = hp.run(
        TASK,
        data="embedded",
        seeds=args.seeds,
        references=False,
        resamples=100,
        device="cpu",
        precision="no",
        attention="sdpa",
        threads=1,
        settings=settings,
        **more,
    )
    words = shlex.join(["python", "bench/batch_norm.py", *sys.argv[1:]])
    print(f"`{words}`; in brackets the lowest and the highest seed\n")
    print("\n".join(table(result, args.sparsities)))
    return 0


if __name__ == "__main__":
    sys.exit(main())
