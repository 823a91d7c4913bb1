"""Preparation of 400,000 pairs of sentences: seconds and memory, first and again.

The rows of SNLI's and MultiNLI's development files, repeated under ids of their own, stand in a
file named and laid out as MultiNLI's training set. A fresh process takes them through the door of a
run: reading, checking, the overlap cue and groups, the fingerprint, a tokenizer trained on them,
token ids on disk. A second one finds the token ids in the store and still reads the file, because
nothing but its content says that it is the same.
"""

from __future__ import annotations

import argparse
import json
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from common import Table, environment, interleave, parse, parser, report

from harness_plugin.config.merge import run_config
from harness_plugin.machine.progress import quiet_libraries
from harness_plugin.pipeline.prepare.open_task import load_tasks
from harness_plugin.pipeline.roles.split_stages import encoded_rows
from harness_plugin.pipeline.run_task import context_of
from harness_plugin.plugins.registry import load_plugins

FILES = (
    "snli/snli_1.0_dev.jsonl",
    "snli/snli_1.0_test.jsonl",
    "multinli_1.0/multinli_1.0_dev_matched.jsonl",
)
HANS = "hans/heuristics_evaluation_set.txt"
FIRST, AGAIN = "first", "again, token ids from the store"
MOST_SECONDS, MOST_GIB = 90, 3.0


def write_pairs(source: Path, folder: Path, rows: int) -> None:
    """`folder` as a copy of MultiNLI and HANS whose training file has `rows` pairs."""
    lines = [line for name in FILES for line in (source / name).read_text("utf-8").splitlines()]
    records = [json.loads(line) for line in lines]
    with (folder / "multinli_1.0_train.jsonl").open("w", encoding="utf-8") as out:
        for row in range(rows):
            record = {**records[row % len(records)], "pairID": f"p{row}"}
            out.write(json.dumps(record) + "\n")
    for name in (FILES[2], HANS):
        (folder / Path(name).name).symlink_to((source / name).resolve())


def prepared(folder: str, store: str, threads: int) -> dict[str, float]:
    """Seconds of each step and peak memory of this process, in GiB."""
    start = time.perf_counter()
    sets = ["references=false", "student.model=bert-tiny", "teacher.model=bert-tiny"]
    sets += ["student.init=scratch", "teacher.init=scratch", "student.max_length=128", "method=erm"]
    flags = {"tasks": ("hans",), "data": folder, "device": "cpu", "threads": threads}
    flags |= {"precision": "no", "attention": "sdpa"}
    config, plugins = run_config(None, flags, sets), load_plugins()
    (opened,) = load_tasks(config, plugins)
    read = time.perf_counter()
    ctx = context_of(opened, config, plugins, Path(store))
    encoded = encoded_rows(ctx, ctx.data.train, None, ctx.settings.student.max_length)
    done = time.perf_counter()
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    return {"read": read - start, "encode": done - read, "GiB": peak, "rows": len(encoded)}


def in_a_process(folder: Path, store: Path, args: argparse.Namespace) -> dict[str, float]:
    """Result of `prepared` in a fresh process, and the seconds from its start to its end."""
    words = [sys.executable, __file__, "--only", str(folder), str(store)]
    start = time.perf_counter()
    done = subprocess.run(
        [*words, "--threads", str(args.threads)], capture_output=True, text=True, check=True
    )
    seconds = time.perf_counter() - start
    result: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return result | {"all": seconds}


def main() -> None:
    """Print the table; `--only FOLDER STORE` prints what one process took."""
    options = parser(__doc__.splitlines()[0], rounds=3, device=False)
    options.add_argument("--threads", type=int, default=2)
    options.add_argument("--rows", type=int, help="training pairs (default 400000, quick 2000)")
    options.add_argument("--data", type=Path, default=Path("../shared/data"), metavar="DIR")
    options.add_argument("--only", nargs=2, metavar=("FOLDER", "STORE"), help=argparse.SUPPRESS)
    args = parse(options)
    quiet_libraries()
    if args.only:
        print(json.dumps(prepared(*args.only, args.threads)))
        return
    if missing := [name for name in (*FILES, HANS) if not (args.data / name).is_file()]:
        options.error(f"--data {args.data}: no {', '.join(missing)}")
    rows = args.rows or (2_000 if args.quick else 400_000)
    start = time.perf_counter()
    facts = environment()
    taken: dict[str, list[dict[str, float]]] = {FIRST: [], AGAIN: []}
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place, "data")
        folder.mkdir()
        write_pairs(args.data, folder, rows)
        stores: list[Path] = []

        def first() -> float:
            stores.append(Path(place, f"store{len(stores)}"))
            return again(FIRST)

        def again(name: str = AGAIN) -> float:
            result = in_a_process(folder, stores[-1], args)
            taken[name].append(result)
            return result["all"]

        seconds = interleave({FIRST: first, AGAIN: again}, args.rounds)
    notes = ["", f"{rows:,} pairs.", ""]
    for name, result in taken.items():
        counted = result[-args.rounds :]
        middle = {key: statistics.median(each[key] for each in counted) for key in result[0]}
        notes.append(
            f"- {name}: {middle['all']:.1f} s from start to end of the process, of which reading "
            f"and checking {middle['read']:.1f} s, tokenizer and token ids {middle['encode']:.1f} "
            f"s; peak {middle['GiB']:.2f} GiB"
        )
    if not args.quick:
        middle = {
            k: statistics.median(each[k] for each in taken[FIRST][-args.rounds :])
            for k in ("all", "GiB")
        }
        for result, most, unit in (
            (middle["all"], MOST_SECONDS, "s"),
            (middle["GiB"], MOST_GIB, "GiB"),
        ):
            word = "met" if result <= most else "MISSED"
            notes.append(f"- goal ≤ {most:g} {unit}: {result:.1f}, {word}")
    table = Table("Preparing pairs of sentences", "process", FIRST, seconds, notes=notes)
    report(args, facts, [table], time.perf_counter() - start)


if __name__ == "__main__":
    main()
