"""CPU seconds of `harness score`: 30,000 predicted labels of HANS, and tables of 2,000,000 rows.

Each variant is a process of its own, from start to end. Five models that answer by chance are the
dearest case: their rows have as many kinds as there can be. With `--log_samples` every answer is
written again, in two formats. A table of one's own is scored by one model's labels, and by its
probabilities, of which the calibration error asks row by row.
"""

from __future__ import annotations

import csv
import os
import statistics
import subprocess
import sys
import tempfile
import time
from functools import partial
from pathlib import Path

import numpy as np
from common import Table, environment, interleave, parse, parser, report

SEEDS = 5
ONE, FIVE, ANSWERS = "one file", "five files", "five files, --log_samples"
VARIANTS = {ONE: (1, [], 3.0), FIVE: (SEEDS, [], 5.0), ANSWERS: (SEEDS, ["--log_samples"], None)}
"""Files, options, and the most CPU seconds; answers written again have no goal."""
OWN = (200_000, 2_000_000)
"""Rows of tables of one's own, and the most that the largest may take."""
OWN_SECONDS, OWN_GB = 60, 2
HARNESS = "import sys; from harness_plugin.cli.main import main; code = main(sys.argv[1:]); "
NO_TORCH = "assert 'torch' not in sys.modules; sys.exit(code)"


def answer(folder: Path, ids: list[str], seed: int) -> list[str]:
    """A file of one model's labels, as options of the command."""
    rng = np.random.default_rng(seed)
    labels = np.array(["entailment", "non-entailment"])[rng.integers(2, size=len(ids))]
    file = folder / f"seed{seed}.csv"
    lines = [f"{name},{label}\n" for name, label in zip(ids, labels, strict=True)]
    file.write_text("".join(["pairID,gold_label\n", *lines]), encoding="utf-8")
    return ["--predictions", str(file)]


def used(words: list[str]) -> tuple[float, float]:
    """CPU seconds and peak GB of the command in a process of its own, without torch."""
    command = [sys.executable, "-c", HARNESS + NO_TORCH, *words]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL) as process:
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise subprocess.CalledProcessError(process.returncode, command)
    return usage.ru_utime + usage.ru_stime, usage.ru_maxrss * 1024 / 1e9


def cpu_seconds(words: list[str]) -> float:
    """The first of them."""
    return used(words)[0]


def own_table(folder: Path, rows: int, seed: int) -> dict[str, list[str]]:
    """A task of so many rows: the words that score labels, and probabilities."""
    rng = np.random.default_rng(seed)
    label, attribute = rng.integers(2, size=(2, rows))
    chance = rng.random(rows)
    with (folder / "t.csv").open("w") as table, (folder / "p.csv").open("w") as sure:
        table.write("key,text,label,attribute,split\n")
        sure.write("id,no,yes\n")
        for i, (gold, side, p) in enumerate(zip(label, attribute, chance, strict=True)):
            table.write(f"k{i},the {i}th row,{('no', 'yes')[gold]},{'ab'[side]},test\n")
            sure.write(f"k{i},{1 - p:.4f},{p:.4f}\n")
    with (folder / "l.csv").open("w") as labels:
        labels.write("id,prediction\n")
        labels.writelines(f"k{i},{('no', 'yes')[int(p > 0.5)]}\n" for i, p in enumerate(chance))
    task = folder / "mine.yaml"
    task.write_text("task: mine\nbase: csv_groups\ntable: t.csv\nid: key\n")
    words = ["score", "--tasks", str(task), "--output_path", str(folder / "out"), "--predictions"]
    return {
        "labels": [*words, str(folder / "l.csv")],
        "probabilities": [*words, str(folder / "p.csv"), "--kind", "probabilities"],
    }


def own_tables(sizes: tuple[int, ...], seed: int) -> str:
    """What each takes; the largest has a goal."""
    lines = [
        "| rows of one's own | answers | CPU s | peak GB | goal |",
        "|--:|---|--:|--:|---|",
    ]
    for rows in sizes:
        with tempfile.TemporaryDirectory() as place:
            for kind, words in own_table(Path(place), rows, seed).items():
                seconds, peak = used(words)
                met = "met" if seconds <= OWN_SECONDS and peak <= OWN_GB else "MISSED"
                goal = f"≤ {OWN_SECONDS} CPU s, ≤ {OWN_GB} GB: {met}" if rows == OWN[-1] else ""
                lines.append(f"| {rows:,} | {kind} | {seconds:.1f} | {peak:.2f} | {goal} |")
    return "\n".join(lines)


def main() -> None:
    """Print the table."""
    options = parser(__doc__.splitlines()[0], rounds=3, device=False)
    options.add_argument("--data", type=Path, default=Path("../shared/data"), metavar="DIR")
    args = parse(options)
    source = args.data / "hans"
    table = source / "heuristics_evaluation_set.txt"
    if not table.is_file():
        options.error(f"--data {args.data}: no hans/{table.name}")
    start = time.perf_counter()
    facts = environment()
    with table.open(encoding="utf-8") as stream:
        ids = [row["pairID"] for row in csv.DictReader(stream, delimiter="\t")]
    with tempfile.TemporaryDirectory() as place:
        files = [answer(Path(place), ids, args.seed + s) for s in range(SEEDS)]
        words = ["score", "--tasks", "hans", "--data", str(source)]
        words += ["--output_path", str(Path(place, "out"))]
        words += ["--resamples", "100"] if args.quick else []
        runs = {}
        for name, (count, more, _) in VARIANTS.items():
            own = [word for file in files[:count] for word in file]
            runs[name] = partial(cpu_seconds, [*words, *own, *more])
        seconds = interleave(runs, args.rounds)
    notes = []
    for name, result in seconds.items():
        if (most := VARIANTS[name][2]) is None:
            continue
        middle = statistics.median(result)
        word = "met" if middle <= most else "MISSED"
        notes.append(f"- {name}: {middle:.1f} CPU s, goal ≤ {most:g}: {word}")
    title = f"Files of {len(ids):,} labels, CPU time"
    made = Table(title, "process", FIVE, seconds, notes=["", *([] if args.quick else notes)])
    report(args, facts, [made], time.perf_counter() - start)
    print(own_tables((2_000,) if args.quick else OWN, args.seed))


if __name__ == "__main__":
    main()
