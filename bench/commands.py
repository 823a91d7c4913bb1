"""CPU seconds of commands that compute little: what they cost is mostly their start.

A small run of the embedded task `hans` with three seeds is trained once. Then the same run finds
all its stages in the store, and `report`, `compare`, `submit`, `verify`, `leaderboard` and `score`
read what it wrote, each in a process of its own that may write bytecode. The last row is the time
until a run says its first line on a terminal.
"""

from __future__ import annotations

import csv
import os
import pty
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

from common import Table, environment, interleave, parse, parser, report, timed

MOST = {
    "run, all from the store": 4.0,
    "report": 5.0,
    **dict.fromkeys(("compare", "verify", "leaderboard", "score"), 2.0),
}
"""Goals in CPU seconds."""
LIGHT = ("compare", "leaderboard", "report", "score", "submit", "verify")
"""Commands that must not import torch."""
ENDED = (0, 3)
"""Exit statuses of a command that did its work; 3: `compare` leaves it undecided."""
FIRST = "first line of a run"
HARNESS = "import sys; from harness_plugin.cli.main import main; code = main(sys.argv[1:]); "
ENVIRONMENT = {**os.environ, "HF_HUB_OFFLINE": "1", "PYTHONDONTWRITEBYTECODE": ""}


def main() -> None:
    options = parser(__doc__.splitlines()[0], rounds=3, device=False)
    args = parse(options)
    facts, tables = environment(), []

    def run() -> None:
        with tempfile.TemporaryDirectory() as folder:
            place = Path(folder)
            words = run_words(place, args.quick)
            cpu_seconds([*words, "--output_path", str(place / "run")])
            commands = {
                "run, all from the store": [*words, "--output_path", str(place / "again")],
                "report": ["report", str(place / "run"), "--output_path", str(place / "page")],
                "compare": ["compare", str(place / "run"), str(place / "run")],
                "submit": submission(place, place / "unused"),
                "verify": ["verify", "--allow_embedded", str(place / "bundles" / "one")],
                "leaderboard": leaderboard(place),
                "score": score_words(place),
            }
            cpu_seconds(submission(place, place / "bundles" / "one"))
            variants: dict[str, Callable[[], float]] = {
                name: partial(measured, name, each, place) for name, each in commands.items()
            }
            variants[FIRST] = partial(first_line, [*words, "--output_path", str(place / "tty")])
            seconds = interleave(variants, args.rounds)
        tables.append(
            Table(
                "Commands", "CPU time", "verify", seconds, notes=["", *notes(seconds, args.quick)]
            )
        )

    report(args, facts, tables, timed(run))


def run_words(place: Path, quick: bool) -> list[str]:
    """A run of `hans` that trains for seconds."""
    sets = ["hans.n_train=600", "hans.n_id=200", "hans.n_hans=300"]
    sets += ["teacher.epochs=2.5", "student.epochs=2.5", "references=false"]
    words = ["--tasks", "hans", "--seeds", "0" if quick else "0,1,2", "--device", "cpu"]
    words += ["--threads", "1", "--precision", "no", "--attention", "sdpa", "--log_samples"]
    words += [word for each in sets for word in ("--set", each)]
    return [*words, "--use_cache", str(place / "store")]


def submission(place: Path, bundle: Path) -> list[str]:
    """A bundle of the run."""
    words = ["submit", str(place / "run"), "--allow_embedded", "--name", "one"]
    return [*words, "--output_path", str(bundle)]


def leaderboard(place: Path) -> list[str]:
    """The page of one bundle."""
    words = ["leaderboard", str(place / "bundles"), "--allow_embedded"]
    return [*words, "--output_path", str(place / "site")]


def score_words(place: Path) -> list[str]:
    """Labels of a table of one's own, with the column of a cue, and answers to it."""
    table, answers = place / "table.csv", place / "answers.csv"
    with table.open("w", newline="") as one, answers.open("w", newline="") as other:
        rows, given = csv.writer(one), csv.writer(other)
        rows.writerow(["id", "text", "label", "attribute", "split"])
        given.writerow(["id", "prediction"])
        for row in range(400):
            label, cue = "ab"[row % 2], "xy"[row // 4 % 2]
            rows.writerow([row, f"row {row}", label, cue, ("train", "test")[row % 4 == row % 2]])
            if row % 4 == row % 2:
                given.writerow([row, "ab"[(row % 2 + (row % 5 == 0)) % 2]])
    task = place / "mine.yaml"
    task.write_text("task: mine\nbase: csv_groups\ntable: table.csv\nid: id\n")
    words = ["score", "--tasks", str(task), "--predictions", str(answers)]
    return [*words, "--output_path", str(place / "scores")]


def cpu_seconds(words: list[str], light: bool = False) -> float:
    """CPU seconds of a command in a process of its own; a light one must not import torch."""
    end = "assert 'torch' not in sys.modules; " if light else ""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    done = subprocess.run(
        [sys.executable, "-c", f"{HARNESS}{end}sys.exit(code)", *words],
        capture_output=True,
        text=True,
        env=ENVIRONMENT,
    )
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    if done.returncode not in ENDED:
        raise SystemExit(f"harness {' '.join(words)}: {done.stdout[-500:]}{done.stderr[-1500:]}")
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def measured(name: str, words: list[str], place: Path) -> float:
    """`cpu_seconds` of a row; what a command does not write over has another name each time."""
    if name == "submit":
        words = [*words[:-1], str(place / f"bundle-{time.monotonic_ns()}")]
    return cpu_seconds(words, name in LIGHT)


def first_line(words: list[str]) -> float:
    """Seconds until a run has said something on a terminal; it is ended then."""
    ours, its = pty.openpty()
    start = time.perf_counter()
    process = subprocess.Popen(
        [sys.executable, "-m", "harness_plugin", *words],
        stdout=its,
        stderr=its,
        env=ENVIRONMENT,
        start_new_session=True,
    )
    os.read(ours, 1)
    seconds = time.perf_counter() - start
    process.kill()
    process.wait()
    os.close(ours), os.close(its)
    return seconds


def notes(seconds: dict[str, list[float]], quick: bool) -> list[str]:
    """The goals that are seconds, and whether they are met."""
    lines = []
    for name, most in {**MOST, FIRST: 1.0}.items():
        middle = statistics.median(seconds[name])
        unit = "s" if name == FIRST else "CPU s"
        word = "met" if middle <= most else "MISSED"
        lines.append(f"- {name}: {middle:.1f} {unit}, goal ≤ {most:g}: {word}")
    return [] if quick else lines


if __name__ == "__main__":
    main()
