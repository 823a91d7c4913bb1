"""The last step of `make demo`, with its trainings one after the other and side by side.

Both embedded tasks from an empty store, but for what the machine's calibration has measured, with
the threads, precision and attention that each run chooses. `--seeds` of them: the demo has five.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from functools import partial
from pathlib import Path

from common import Goal, Table, environment, interleave, parse, parser, report, timed

ONE, SIDE = "one after the other", "--workers auto"
MOST = 0.65
ENVIRONMENT = {**os.environ, "HF_HUB_OFFLINE": "1", "PYTHONDONTWRITEBYTECODE": ""}
QUICK = "hans.n_train=200 hans.n_id=100 hans.n_hans=120 teacher.epochs=2.5 student.epochs=2.5"


def main() -> None:
    options = parser(__doc__.splitlines()[0], rounds=2, device=False)
    options.add_argument("--seeds", help="default 0,1; quick 0")
    args = parse(options)
    facts, tables = environment(), []
    words = ["--tasks", "hans" if args.quick else "hans,celeba_bias", "--device", "cpu"]
    words += ["--seeds", args.seeds or ("0" if args.quick else "0,1")]
    if args.quick:
        words += [word for each in QUICK.split() for word in ("--set", each)]

    def run() -> None:
        with tempfile.TemporaryDirectory() as folder:
            variants = {
                ONE: partial(job, Path(folder), [*words, "--workers", "1"]),
                SIDE: partial(job, Path(folder), [*words, "--workers", "auto"]),
            }
            seconds = interleave(variants, args.rounds)
        goals = {} if args.quick else {SIDE: [Goal(ONE, MOST)]}
        tables.append(Table("The demo's run", "run", ONE, seconds, goals))

    report(args, facts, tables, timed(run))


def job(place: Path, words: list[str]) -> float:
    """Seconds of a run whose store is empty but for the calibration's measurements."""
    store = place / "store"
    for known in store.glob("*"):
        if known.name != "machine":
            shutil.rmtree(known) if known.is_dir() else known.unlink()
    command = [sys.executable, "-m", "harness_plugin", *words, "--use_cache", str(store)]
    command += ["--output_path", str(place / "run")]
    quiet = partial(subprocess.run, command, check=True, capture_output=True, env=ENVIRONMENT)
    return timed(quiet)


if __name__ == "__main__":
    main()
