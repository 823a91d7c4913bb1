"""How long `harness --help` and `harness ls tasks` take, next to lm-evaluation-harness.

Every command is a fresh process with its files, and its bytecode, in the page cache. lm_eval's list
of tasks takes many seconds, so the two lists are timed in fewer rounds. Without lm_eval its rows
are left out.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path

from common import Goal, Table, environment, interleave, parse, parser, report, timed

PYTHON = "python -c pass"
GOALS = {"--help": 0.2, "ls tasks": 0.01}


def main() -> None:
    options = parser(__doc__.splitlines()[0], rounds=15, device=False)
    options.add_argument(
        "--lm_eval", type=Path, metavar="PATH", help="its executable; default: PATH"
    )
    options.add_argument("--list-rounds", type=int, help="of `ls tasks` (default 3, quick 1)")
    args = parse(options)
    facts, tables = environment(), []
    other = args.lm_eval or shutil.which("lm_eval")
    if other and not Path(other).is_file():
        options.error(f"--lm_eval {other}: no such file.")
    ours = str(Path(sys.executable).with_name("harness"))
    if not Path(ours).is_file():
        options.error(f"{ours} does not exist: install this package into this Python.")
    few = args.list_rounds or (1 if args.quick else 3)

    def run() -> None:
        for words, rounds in (("--help", args.rounds), ("ls tasks", few)):
            variants = {PYTHON: command(sys.executable, "-c", "pass")}
            variants[f"harness {words}"] = command(ours, *words.split())
            base, goals = PYTHON, {}
            notes = ["No lm_eval here: its rows are left out (--lm_eval PATH)."]
            if other:
                base = f"lm_eval {words}"
                variants[base] = command(str(other), *words.split())
                goals = {f"harness {words}": [Goal(base, GOALS[words])]}
                notes = []
            seconds = interleave(variants, rounds)
            tables.append(Table(f"Start-up: {words}", "process", base, seconds, goals, notes))

    report(args, facts, tables, timed(run))


def command(*words: str) -> Callable[[], float]:
    """Run a command off the network and throw its output away."""
    quiet = partial(
        subprocess.run,
        words,
        check=True,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        env={**os.environ, "HF_HUB_OFFLINE": "1", "PYTHONDONTWRITEBYTECODE": ""},
    )
    return lambda: timed(quiet)


if __name__ == "__main__":
    main()
