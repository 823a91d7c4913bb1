"""`harness watch`: a live look at runs and studies, from their results folders and the store."""

from __future__ import annotations

import json
import os
import socket
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from harness_plugin.cli.parser import Parser
from harness_plugin.errors import HarnessError
from harness_plugin.machine.progress import FILE, duration, seconds_left

EXAMPLES = """\
examples:
  harness watch results                  every run below results
  harness watch results/faces --once     as it is now, for a pipe or a script
  harness watch ~/.cache/harness_plugin  a store: studies, of any machine
"""
SPARKS = "▁▂▃▄▅▆▇█"
SILENT = 600.0
"""Seconds without a sign of life after which a run on another machine is called silent."""


def parser() -> Parser:
    """Every option of `harness watch`."""
    out = Parser(
        "harness watch",
        description="Show how far runs and studies are: models done, what is at work with its "
        "losses, time left, failures. Refreshes itself until Ctrl-C.",
        epilog=EXAMPLES,
    )
    out.add_argument(
        "folder", type=Path, metavar="FOLDER", help="of a run, of several, or the stage store"
    )
    out.add_argument("--once", action="store_true", help="print once (always so in a pipe)")
    out.add_argument(
        "--interval", type=float, default=2.0, metavar="SECONDS", help="between two looks (2)"
    )
    return out


def main(words: list[str]) -> int:
    """Look, print, and look again."""
    args = parser().parse_args(words)
    if not 0.1 <= args.interval <= 3600:
        raise HarnessError(f"--interval {args.interval}: expected 0.1 to 3600 seconds.")
    if not args.folder.is_dir():
        raise HarnessError(f"{args.folder}: expected a folder of results or a store, none there.")
    once = args.once or not sys.stdout.isatty()
    while True:
        lines = look(args.folder)
        if once:
            print(*lines, sep="\n")
            return 0
        columns, rows = os.get_terminal_size()
        shown = [line[:columns] for line in lines[: rows - 1]]
        print("\x1b[H\x1b[J" + "\n".join(shown), flush=True)
        try:
            time.sleep(args.interval)
        except KeyboardInterrupt:  # how it is left: what it looked at goes on
            print()
            return 0


def look(folder: Path) -> list[str]:
    """Lines on the runs in `folder` now."""
    lines = [f"{folder}, {time.strftime('%H:%M:%S')}"]
    for each in [folder, *sorted(path for path in folder.iterdir() if path.is_dir())]:
        lines += run_lines(each)
    lines += study_lines(folder)
    if len(lines) == 1:
        lines.append("  nothing at work, nothing finished")
    return lines


def run_lines(folder: Path) -> Iterator[str]:
    """The run whose results `folder` holds or will hold."""
    finished = [path.name for path in folder.glob("transfer_*.json")]
    record = read(folder / FILE)
    if record is not None:
        yield from at_work(folder, record)
    elif finished:
        yield f"{folder}: finished, {len(finished)} task{'' if len(finished) == 1 else 's'}"


def at_work(folder: Path, record: dict[str, Any]) -> Iterator[str]:
    """A run that is going on, or ended before its end."""
    done, total, now = record["models"], record["total"], record["now"]
    state = state_of(record)
    left = seconds_left(record) if state == "running" else None
    about = "" if left is None else f", about {duration(left)} left"
    went = duration(record["updated"] - record["started"])
    yield f"{folder}: {', '.join(record['tasks'])}: {state}"
    yield f"  {bar(len(done), total)} model {len(done)} of {total}, {went}{about}"
    if now and state == "running" and len(done) < total:
        yield f"  {bar(now['done'], now['total'])} {now['name']}"
    if record["curve"]:
        yield f"  loss {sparks(record['curve'])} {record['curve'][-1]:.3f}"
    for model in done[-5:]:
        how = "from the store" if model["reused"] else duration(model["seconds"])
        yield f"    {model['name']}: {how}"


def state_of(record: dict[str, Any]) -> str:
    """`running`, what it ended with, or that its process is gone without a word."""
    state = str(record["state"])
    if state != "running":
        return state
    if record["host"] == socket.gethostname():
        try:
            os.kill(record["process"], 0)
        except ProcessLookupError:
            return "ended without a word (killed?); the same command continues"
        except PermissionError:
            pass
        return state
    silent = time.time() - record["updated"]
    return f"no sign of life for {duration(silent)}" if silent > SILENT else state


def study_lines(store: Path) -> Iterator[str]:
    """The trainings that studies have recorded in a store: done, at work, failed."""
    records = store / "studies"
    if not records.is_dir():
        return
    from harness_plugin.study.training_records import TrainingRecords

    ledger = TrainingRecords(store)
    names = {path.stem for path in records.iterdir() if path.suffix in (".json", ".failed")}
    done = {name for name in names if ledger.record(name) is not None}
    failed = {name: error for name in names - done if (error := ledger.failure(name)) is not None}
    working = {
        path.stem: owner for path in records.glob("*.lock") if (owner := ledger.owner(path.stem))
    }
    yield (
        f"studies: {len(done)} trainings done, {len(working)} at work, {len(failed)} failed; "
        f"what is left of a plan: harness study PLAN --status"
    )
    for name, owner in sorted(working.items())[:10]:
        yield f"  {name}: {owner}"
    for name, failure in sorted(failed.items())[:10]:
        yield f"  FAILED {name}: {str(failure['error']).splitlines()[0]}"


def read(path: Path) -> dict[str, Any] | None:
    """A file that a run keeps; None where there is none, or none that can be read."""
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
        return value if isinstance(value, dict) and {"models", "total", "now"} <= {*value} else None
    except (OSError, ValueError):
        return None


def bar(done: int, total: int, width: int = 24) -> str:
    """`[#####-----]`."""
    full = width * min(done, total) // total if total else width
    return f"[{'#' * full}{'-' * (width - full)}]"


def sparks(values: list[float]) -> str:
    """A curve in one line, its lowest value as the lowest block."""
    low, high = min(values), max(values)
    scale = (len(SPARKS) - 1) / (high - low) if high > low else 0.0
    return "".join(SPARKS[round((value - low) * scale)] for value in values)
