"""Contents of batches, and their share of padding: rows drawn once, and drawn by weight.

Counts, not times: groups that a batch lacks, rows that are in it twice, and the share of tokens
that are padding, for independent draws, for these sorted by length, and for the product's.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import common
import numpy as np
from numpy.typing import NDArray

from harness_plugin.training.inputs import batching

Ints = NDArray[np.int64]
DATA = Path(__file__).resolve().parents[2] / "shared" / "data"


class Rows:
    """Training rows: their lengths in words, labels and groups (N,)."""

    def __init__(self, name: str, lengths: Any, label: Any, group: Any) -> None:
        self.name = name
        self.lengths, self.label, self.group = (np.asarray(x) for x in (lengths, label, group))
        self.weights = 1.0 / np.bincount(self.group)[self.group]


def embedded_hans(quick: bool) -> Rows:
    """The generated training pairs of task `hans`."""
    from harness_plugin.config.merge import run_config
    from harness_plugin.pipeline.prepare.open_task import load_tasks
    from harness_plugin.plugins.registry import load_plugins

    sets = ("hans.n_train=1200",) if quick else ()
    (task,) = load_tasks(run_config(None, {"tasks": ("hans",)}, sets), load_plugins())
    train = task.data.train
    words = [np.char.count(train.column(name), " ") + 1 for name in task.task.inputs]
    return Rows("embedded hans", sum(words) + 3, train.label, train.group)


def snli(folder: Path, attribute: str) -> Rows:
    """Development and test pairs of SNLI; groups are label x attribute."""
    pairs: list[dict[str, Any]] = []
    for name in ("dev", "test"):
        lines = (folder / "snli" / f"snli_1.0_{name}.jsonl").read_text(encoding="utf-8")
        pairs += [json.loads(line) for line in lines.splitlines()]
    pairs = [pair for pair in pairs if pair["gold_label"] != "-"]
    first, second = (
        [re.findall(r"\w+", pair[f"sentence{number}"].lower()) for pair in pairs]
        for number in (1, 2)
    )
    _, label = np.unique([pair["gold_label"] for pair in pairs], return_inverse=True)
    has: Callable[[Sequence[str], Sequence[str]], bool] = {
        "full overlap": lambda a, b: set(b) <= set(a),
        "negation": lambda a, b: bool({"no", "not", "never", "nobody", "nothing"} & set(b)),
    }[attribute]
    other = np.array([has(a, b) for a, b in zip(first, second, strict=True)], dtype=np.int64)
    lengths = [len(a) + len(b) + 3 for a, b in zip(first, second, strict=True)]
    return Rows(f"SNLI, label x {attribute}", lengths, label, 2 * label + other)


def independent(rows: Rows, size: int, seed: int) -> list[Ints]:
    """Draws with replacement, cut into batches: what the authors' samplers do."""
    share = rows.weights / rows.weights.sum()
    order = np.random.default_rng(seed).choice(len(share), size=len(share), p=share)
    return np.array_split(order, batching.updates_per_epoch(len(share), size))


def sorted_draws(rows: Rows, size: int, seed: int) -> list[Ints]:
    """The same draws, sorted by length in portions of 50 batches."""
    loose = independent(rows, size, seed)
    out: list[Ints] = []
    for start in range(0, len(loose), batching.MEGABATCH):
        part = loose[start : start + batching.MEGABATCH]
        order = np.concatenate(part)
        order = order[np.argsort(rows.lengths[order], kind="stable")]
        out += np.array_split(order, len(part))
    return out


def weighted(rows: Rows, size: int, seed: int) -> list[Ints]:
    """The product's batches of rows drawn by weight."""
    drawn = batching.WeightedRows.of(rows.weights, [rows.label, rows.group], size)
    return batching.epoch(
        len(rows.lengths), size, seed=seed, number=0, lengths=rows.lengths, weighted=drawn
    )


def once(rows: Rows, size: int, seed: int) -> list[Ints]:
    """The product's batches where every row comes once."""
    return batching.epoch(len(rows.lengths), size, seed=seed, number=0, lengths=rows.lengths)


PLANS: dict[str, Callable[[Rows, int, int], list[Ints]]] = {
    "independent draws": independent,
    "draws sorted by length": sorted_draws,
    "harness-plugin, drawn by weight": weighted,
    "harness-plugin, every row once": once,
}


def line(name: str, rows: Rows, plan: list[Ints]) -> str:
    """A row of the table."""
    groups = int(rows.group.max()) + 1
    counts = np.array([np.bincount(rows.group[batch], minlength=groups) for batch in plan])
    copies = sum(len(batch) - len(np.unique(batch)) for batch in plan) / sum(map(len, plan))
    real = sum(int(rows.lengths[batch].sum()) for batch in plan)
    whole = cut = parts = 0
    for batch in plan:
        lengths = np.sort(rows.lengths[batch])
        whole += len(batch) * int(lengths[-1])
        for part in batching.parts_by_length(lengths, 0, len(lengths)):
            cut += (part.stop - part.start) * int(lengths[part.stop - 1])
            parts += 1
    spread = " ".join(f"{x:.1f}" for x in counts.std(axis=0))
    return (
        f"| {name} | {(counts == 0).any(axis=1).mean():.3f} | {spread} | {copies:.3f} "
        f"| {1 - real / whole:.3f} | {1 - real / cut:.3f} | {parts / len(plan):.2f} |"
    )


def main() -> None:
    """Print a table for every set of rows and batch size."""
    parser = common.parser(__doc__.split("\n")[0], rounds=1, device=False)
    parser.add_argument("--data", type=Path, default=DATA, help="folder with snli/")
    args = common.parse(parser)
    if args.quick:
        print("Quick mode: small data.\n")
    sets = [embedded_hans(args.quick)]
    if not args.quick and (args.data / "snli").is_dir():
        sets += [snli(args.data, "full overlap"), snli(args.data, "negation")]
    result = []
    for rows in sets:
        sizes = ", ".join(map(str, np.bincount(rows.group)))
        print(f"#### {rows.name}, groups of {sizes} rows\n")
        for size in (32, 64):
            print(
                f"| batches of {size} | lack a group | sd of group counts | copies | padding "
                "| padding, cut into parts | parts |"
            )
            print("|---|--:|---|--:|--:|--:|--:|")
            for name, plan in PLANS.items():
                text = line(name, rows, plan(rows, size, args.seed))
                result.append({"rows": rows.name, "batch": size, "line": text})
                print(text)
            print()
    if args.output:
        args.output.write_text(json.dumps(result, indent=1), encoding="utf-8")


if __name__ == "__main__":
    main()
