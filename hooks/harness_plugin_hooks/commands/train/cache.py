"""`harness cache`: what lies in the store, how large and how old it is, and what may go."""

from __future__ import annotations

import argparse
import re
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

from harness_plugin.cli.parser import Parser, add_run_options

if TYPE_CHECKING:
    from harness_plugin.store.upkeep import Entry

UNITS = {"m": 60.0, "h": 3600.0, "d": 86400.0, "w": 7 * 86400.0}


def age(text: str) -> float:
    """`30d` in seconds."""
    match = re.fullmatch(r"(\d{1,6})([mhdw])", text)
    if match is None:
        raise argparse.ArgumentTypeError(f"{text!r}: expected a number and m, h, d or w, e.g. 30d")
    return int(match[1]) * UNITS[match[2]]


def parser() -> Parser:
    """Every option of `harness cache`."""
    out = Parser(
        "harness cache",
        description="The store of stages. ls: every stage; du: size by kind; verify: compare all "
        "bytes with what was written (exit status 1 for damage; a run sets it aside and builds it "
        "again); prune: remove what no run has used for a while.",
    )
    out.add_argument("action", choices=("ls", "du", "verify", "prune"))
    out.add_argument(
        "--older",
        type=age,
        metavar="AGE",
        help="prune: what was not used for so long (30d); needed, since models are among it",
    )
    out.add_argument(
        "--unfinished",
        action="store_true",
        help="prune: only what killed runs left and what is broken",
    )
    out.add_argument("--dry_run", action="store_true", help="prune: say what would go")
    add_run_options(out, "use_cache")
    return out


def main(words: list[str]) -> int:
    """Look after the store."""
    options = parser()
    args = options.parse_args(words)
    from harness_plugin.store import upkeep
    from harness_plugin.store.stages import default_root

    root = Path(args.use_cache) if args.use_cache else default_root()
    if args.action == "prune":
        if args.older is None:
            options.error("prune needs --older AGE, e.g. --older 30d")
        chosen = [
            entry
            for entry in upkeep.prunable(root, args.older)
            if entry.state != "finished" or not args.unfinished
        ]
        for entry in chosen:
            if not args.dry_run:
                upkeep.prune(entry)
            print(line(entry))
        done = "would be freed" if args.dry_run else "freed"
        print(f"{size(sum(entry.bytes for entry in chosen))} {done} in {root}")
        return 0
    entries = list(upkeep.entries(root))
    if args.action == "verify":
        damaged = 0
        for entry in entries:
            if entry.state == "finished" and (why := upkeep.damage_of(entry)):
                damaged += 1
                print(f"{entry.path}: {why}", file=sys.stderr)
        whole = sum(entry.state == "finished" for entry in entries) - damaged
        print(f"{whole} stages are whole, {damaged} damaged, in {root}")
        return int(damaged > 0)
    if args.action == "ls":
        for entry in entries:
            print(line(entry))
    for kind in sorted({entry.kind for entry in entries}) if args.action == "du" else ():
        sizes = [entry.bytes for entry in entries if entry.kind == kind]
        print(f"{size(sum(sizes)):>10}  {len(sizes):>6}  {kind}")
    print(f"{size(sum(entry.bytes for entry in entries))} in {len(entries)} stages in {root}")
    return 0


def line(entry: Entry) -> str:
    """One entry: size, days since it was used, state, name, and who is at it."""
    days = (time.time() - entry.used) / UNITS["d"]
    who = f"  ({entry.owner})" if entry.owner else ""
    return f"{size(entry.bytes):>10}  {days:>6.1f} d  {entry.state:<10}  {entry.path.name}{who}"


def size(count: float) -> str:
    """Bytes as people read them."""
    units = ["B", "kB", "MB", "GB", "TB"]
    while count >= 1000 and len(units) > 1:
        count /= 1000
        del units[0]
    return f"{count:.{0 if units[0] == 'B' else 1}f} {units[0]}"
