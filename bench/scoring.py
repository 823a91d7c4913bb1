"""CPU seconds of `harness score` for one and for five files of 30,000 predicted labels of HANS.

Each variant is a process of its own, from start to end. Five models that answer by chance are the
dearest case: their rows have as many kinds as there can be. With `--log_samples` every answer is
written again, in two formats.
"""

from __future__ import annotations

import csv
import resource
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


def cpu_seconds(words: list[str]) -> float:
    """CPU seconds of the command in a process of its own, which must not import torch."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run(
        [sys.executable, "-c", HARNESS + NO_TORCH, *words], check=True, stdout=subprocess.DEVNULL
    )
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


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


if __name__ == "__main__":
    main()
