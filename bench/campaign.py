"""Trials that are counted: done by portions, recorded after each, written into a page row by row.

Nothing here is specific to one campaign; `faults.py` holds what is tried. A row that was recorded
on other code than that of now is begun again; what stands in the page of rows that were not
run stays.
"""

from __future__ import annotations

import datetime
import json
import random
import resource
import subprocess
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

HEAD = (
    "| what | trials | other bytes or wrong answers | stages lost | tracebacks | hangs | besides "
    "| CPU s a trial | day, commit |\n|---|--:|--:|--:|--:|--:|---|--:|---|"
)


@dataclass
class Row:
    """One row of the table: what came out of its trials so far."""

    what: str
    code: str
    """The commit whose code was tried; "+" where the tree had changes."""
    trials: int = 0
    other_bytes: int = 0
    lost: int = 0
    tracebacks: int = 0
    hangs: int = 0
    besides: dict[str, int] = field(default_factory=dict)
    """Other observations, with their number of times."""
    peak: int = 0
    """The most MB above those of the idle process that a trial took; 0: not measured."""
    cpu_seconds: float = 0.0
    day: str = ""

    @property
    def bad(self) -> int:
        """How many things did not end as they should."""
        return self.other_bytes + self.lost + self.tracebacks + self.hangs

    def saw(self, text: str, count: int = 1) -> None:
        """Count something that is no fault."""
        self.besides[text] = self.besides.get(text, 0) + count

    def line(self) -> str:
        """The Markdown row."""
        cells = [self.what, self.trials, self.other_bytes, self.lost, self.tracebacks, self.hangs]
        besides = [f"{count} {text}" for text, count in self.besides.items() if count]
        besides += [f"at most {self.peak} MB above idle"] * bool(self.peak)
        each = f"{self.cpu_seconds / max(self.trials, 1):.1f}"
        cells += ["; ".join(besides), each, f"{self.day}, {self.code}" if self.trials else ""]
        return f"| {' | '.join(map(str, cells))} |"


@dataclass(frozen=True)
class Part:
    """The trials of one row: `trial(row, rng)` does the next of `planned` trials and counts it."""

    portion: str
    what: str
    planned: int
    trial: Callable[[Row, random.Random], None]


def commit_of(root: Path, paths: Sequence[str]) -> str:
    """The last commit that touched these paths; "+" when they have changes since."""

    def git(*words: str) -> str:
        done = subprocess.run(["git", *words, "--", *paths], cwd=root, capture_output=True)
        return done.stdout.decode().strip() if done.returncode == 0 else ""

    return git("log", "-1", "--format=%h") + "+" * bool(git("status", "--porcelain"))


def spent() -> float:
    """CPU seconds of this process and of its children that have ended."""
    both = (resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return sum(usage.ru_utime + usage.ru_stime for usage in both)


class Record:
    """The rows so far, in a file that is whole after every trial."""

    def __init__(self, file: Path | None, code: str) -> None:
        self.file, self.code = file, code
        self.rows: dict[str, Row] = {}
        if file is not None and file.exists():
            for values in json.loads(file.read_text(encoding="utf-8")):
                row = Row(**values)
                if row.code == code:
                    self.rows[row.what] = row

    def row(self, what: str) -> Row:
        """The row of that name, begun where there is none."""
        return self.rows.setdefault(what, Row(what, self.code))

    def save(self) -> None:
        """Write the file, whole or not at all."""
        if self.file is None:
            return
        self.file.parent.mkdir(parents=True, exist_ok=True)
        rows: list[dict[str, Any]] = [asdict(row) for row in self.rows.values()]
        beside = self.file.with_name(f".{self.file.name}")
        beside.write_text(json.dumps(rows, indent=1) + "\n", encoding="utf-8")
        beside.replace(self.file)


def carry_out(parts: Iterable[Part], record: Record, seed: int) -> list[Row]:
    """Do what is missing of every part; a trial draws from (seed, row, number) alone."""
    rows = []
    print(HEAD)
    for part in parts:
        row = record.row(part.what)
        while row.trials < part.planned:
            before, number = spent(), row.trials
            part.trial(row, random.Random(f"{seed}-{part.what}-{number}"))
            row.cpu_seconds += spent() - before
            row.day = str(datetime.datetime.now(datetime.UTC).date())
            record.save()
        rows.append(row)
        print(row.line(), flush=True)
    return rows


def put_rows(page: Path, marks: tuple[str, str], order: Sequence[str], rows: Sequence[Row]) -> None:
    """Put these rows into a page's table; rows of other names in `order` stay as they are."""
    before, start, rest = page.read_text(encoding="utf-8").partition(marks[0])
    table, end, after = rest.partition(marks[1])
    if not start or not end:
        raise SystemExit(f"{page}: the marks {marks} of the table are missing")
    lines = {line.split(" | ")[0].removeprefix("| "): line for line in table.splitlines()}
    lines |= {row.what: row.line() for row in rows}
    kept = "\n".join([HEAD, *(lines[what] for what in order if what in lines)])
    page.write_text(f"{before}{start}\n{kept}\n{end}{after}", encoding="utf-8")
