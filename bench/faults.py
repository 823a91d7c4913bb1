"""Fault campaigns: a run is killed, cut off, out of space, damaged or given nonsense.

    python bench/faults.py                          # all of it: half an hour of computing
    python bench/faults.py --only kills --write     # one portion, its rows into docs/reliability.md
    python bench/faults.py --quick                  # a trial of each

Every trial breaks a run of the toy task at a random moment, repeats the same command, and compares
every array, every weight and every number with those of a run that nobody disturbed. Each is
recorded when it is over (`--record`): what was interrupted goes on with the next one, and rows of
other code are begun again. Power cuts and full disks need root, because a file system of their own
is mounted; without it they are not tried.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "tests" / "helpers")]

from campaign import Part, Record, Row, carry_out, commit_of, put_rows  # noqa: E402
from disturbed import (  # noqa: E402
    LIMIT,
    Child,
    Lab,
    arguments,
    content,
    load_libraries,
    start,
    two_ranks,
)

DOC = ROOT / "docs" / "reliability.md"
MARKS = ("<!-- printed by bench/faults.py -->", "<!-- end -->")
MEASURED = (
    "harness_plugin",
    "hooks",
    "tasks",
    "bench/faults.py",
    "bench/disturbed.py",
    "tests/helpers",
    "tests/toy",
)
"""Code under test: where none of it has changed, a recorded row goes on."""
MOMENTS: dict[str, Callable[[Path], bool]] = {
    "anything": lambda place: True,
    "a training": lambda place: any((place / "store").glob("model-*.partial")),
    "a checkpoint": lambda place: any((place / "store").glob("*.partial/resume/unfinished")),
    "the outputs": lambda place: any((place / "out").glob(".wri*")),
}


def kill(lab: Lab, moment: str, row: Row, rng: random.Random) -> None:
    """kill -9 in a phase of a run in one process; a run that ended before it is no trial."""
    most = {"anything": lab.seconds, "a training": 0.3}.get(moment, 0.02)
    killed = False
    while not killed:
        place = lab.place()
        if moment == "the outputs":  # they come last: all before them is in the store already
            shutil.copytree(lab.good / "store", place / "store")
        child = start(arguments(place), place / "killed.log")
        ended = None
        while ended is None and not MOMENTS[moment](place):
            ended = child.wait(0.001)
        if ended is None and child.wait(rng.random() * most) is None:
            child.kill()
            killed = True
            row.trials += 1
            lab.again(row, place)
        shutil.rmtree(place)


def kill_launched(lab: Lab, whom: str, row: Row, rng: random.Random) -> None:
    """kill -9 of the launcher, or of one rank of two: nothing outlives it."""
    import psutil

    if not lab.expected_of_two:
        place = lab.place("two")
        if any(child.wait() for child in two_ranks(place, "good")):
            raise SystemExit((place / "good-0.log").read_text())
        lab.expected_of_two = content(place)
    place = lab.place()
    command = [sys.executable, "-m", "harness_plugin", "launch", "--num_processes", "2"]
    with (place / "killed.log").open("w") as log:
        process = subprocess.Popen(
            [*command, *arguments(place)], stdout=log, stderr=log, cwd=ROOT, start_new_session=True
        )
    deadline = time.monotonic() + LIMIT
    while not any(place.glob("store/model-*.partial")):
        time.sleep(0.05)
        if process.poll() is not None or time.monotonic() > deadline:
            raise SystemExit((place / "killed.log").read_text())
    time.sleep(rng.random() * 0.3)
    family = psutil.Process(process.pid).children(recursive=True)
    ranks = [member for member in family if "RANK" in member.environ()]
    (psutil.Process(process.pid) if whom == "the launcher" else rng.choice(ranks)).kill()
    row.trials += 1
    process.wait(LIMIT)
    _, alive = psutil.wait_procs(family, timeout=45)
    if alive:
        row.hangs += 1
        row.saw("workers outlived it", len(alive))
        for member in alive:
            member.kill()
    lab.again_in_two(row, place)
    shutil.rmtree(place)


@contextmanager
def mounted(folder: Path, *how: str) -> Iterator[Path]:
    """A file system at `folder`, for as long as it is used."""
    folder.mkdir(exist_ok=True)
    subprocess.run(["mount", *how, str(folder)], check=True)
    try:
        yield folder
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)


def cut(lab: Lab, row: Row, rng: random.Random) -> None:
    """A power cut: what is on the disk of a mounted ext4 at a moment, mounted again as it is."""
    from harness_plugin.store.seals import DamagedError, check_seal
    from harness_plugin.store.stages import RECORD

    disk, copy = lab.folder / "disk.img", lab.folder / "copy.img"
    with disk.open("wb") as stream:
        stream.truncate(256 << 20)
    subprocess.run(["mkfs.ext4", "-q", "-F", str(disk)], check=True)
    with mounted(lab.folder / "disk", "-o", "loop", str(disk)) as place:
        child = start(arguments(place), lab.folder / "cut.log")
        ended = child.wait(rng.random() * 1.2 * lab.seconds)
        if ended is None:
            os.killpg(child.process, signal.SIGSTOP)
        finished = {
            path.name
            for path in (place / "store").glob("*-*")
            if not path.suffix and not path.with_suffix(".lock").exists()
        }
        subprocess.run(["cp", "--sparse=always", str(disk), str(copy)], check=True)
        if ended is None:
            child.kill()
    with mounted(lab.folder / "copy", "-o", "loop", str(copy)) as place:
        row.trials += 1
        there = {path.name for path in (place / "store").glob("*-*") if not path.suffix}
        for name in there | finished:
            try:
                row.lost += check_seal(place / "store" / name, RECORD) is None
            except DamagedError:
                row.lost += 1
        row.saw("came when the run was over", ended is not None)
        row.saw("finished stages were on the disk", len(there & finished))
        lab.again(row, place)
    disk.unlink(), copy.unlink()


def damage(lab: Lab, row: Row, rng: random.Random) -> None:
    """A file of a finished stage is changed, cut, emptied, removed or replaced."""
    from damage import DAMAGE

    place = lab.place()
    shutil.copytree(lab.good / "store", place / "store")
    file = rng.choice(sorted(path for path in place.glob("store/*-*/**/*") if path.is_file()))
    stage = file.relative_to(place).parts[1]
    list(DAMAGE.values())[row.trials % len(DAMAGE)](file)
    row.trials += 1
    # a stage that nobody needed is not read; one that was is set aside and built again
    expected = {n: v for n, v in lab.expected.items() if not n.startswith(f"store/{stage}/")}
    aside = place / "store" / f"{stage}.broken"
    lab.again(row, place, expected)
    row.saw("were read, named and built again", aside.exists())
    row.saw("lie in stages that nobody needed", not aside.exists())
    whole = content(place)
    if aside.exists() and any(whole.get(name) != value for name, value in lab.expected.items()):
        row.other_bytes += 1
    shutil.rmtree(place)


SIZES = 20


def full(lab: Lab, row: Row, rng: random.Random) -> None:
    """A disk that runs full, of many sizes; then there is space, and the same command goes on."""
    needed = sum(p.stat().st_blocks * 512 for p in lab.good.rglob("*") if p.is_file())
    size = int(needed * (row.trials % SIZES + 0.5) / SIZES)
    with mounted(lab.folder / "small", "-t", "tmpfs", "-o", f"size={size}", "tmpfs") as place:
        child = start(arguments(place), lab.folder / f"full-{row.trials}.log")
        row.trials += 1
        status = lab.judge(row, child)
        lines = [line for line in child.log.read_text().splitlines() if "harness: error" in line]
        named = len(lines) == 1 and "MB are free on the disk at" in lines[0]
        row.saw("named the disk in one line", named)
        row.saw("had space enough", status == 0)
        row.other_bytes += status != 0 and not named
        remount = f"remount,size={4 * needed}"
        subprocess.run(["mount", "-o", remount, str(place)], check=True)
        lab.again(row, place)


def read_only(lab: Lab, row: Row, rng: random.Random) -> None:
    """A finished store that cannot be written."""
    place = lab.place()
    with mounted(place / "store", "--bind", "-o", "ro", str(lab.good / "store")):
        subprocess.run(["mount", "-o", "remount,ro,bind", str(place / "store")], check=True)
        row.trials += 1
        lab.again(row, place)


BATCH, FEW = 20, 2
"""Bad inputs that a process tries, as long as none of them hangs; and in quick mode."""


def inputs(lab: Lab, kind: str, batch: int, row: Row, rng: random.Random) -> None:
    """The next generated bad inputs of a kind, in a process; what ends it counts."""
    import bad_inputs

    folder, first = lab.place(), row.trials
    report = folder / "report.jsonl"
    report.touch()
    if not (process := os.fork()):
        os.chdir(folder)
        good = bad_inputs.Good(lab.folder / "inputs", lab.good / "out")
        with report.open("w") as stream:
            for case in bad_inputs.cases(folder, batch, rng.randrange(2**32), [kind], good):
                outcome = bad_inputs.outcome(case)
                words = [word[:200] for word in case.argv]
                record = [outcome.fault, outcome.hangs, outcome.megabytes, outcome.status, words]
                stream.write(f"{json.dumps(record)}\n")
                stream.flush()
                if outcome.hangs:
                    break  # it was stopped anywhere: this process is good for nothing more
        os._exit(0)
    status = Child(process, report).wait(10 * LIMIT)
    if status is None:
        os.kill(process, signal.SIGKILL)
        os.waitpid(process, 0)
    for line in report.read_text().splitlines():
        fault, hangs, megabytes, ended, words = json.loads(line)
        row.trials += 1
        row.peak = max(row.peak, round(megabytes))
        row.saw("were refused", ended in (1, 2))
        row.hangs += hangs
        row.other_bytes += fault.startswith("accepted")
        row.tracebacks += bool(fault) and not hangs and not fault.startswith("accepted")
        if fault:
            print(f"{row.what}: {words}\n{fault[-1500:]}", flush=True)
    if status != 0:
        row.trials += 1
        row.hangs += status is None
        row.tracebacks += status is not None
        print(f"{row.what}: the process ended with {status} in a case after {first}", flush=True)
    shutil.rmtree(folder)


PORTIONS = ("kills", "launched", "cuts", "damage", "full", "read_only", "inputs")


def parts_of(lab: Lab, quick: bool) -> Iterator[Part]:
    """Every row of the table, with what its trials do."""
    import bad_inputs

    kinds = list(bad_inputs.MAKERS)
    for moment in MOMENTS:
        trial = partial(kill, lab, moment)
        yield Part("kills", f"kill -9 in {moment}", 1 if quick else 21, trial)
    for whom in ("the launcher", "one rank of two"):
        trial = partial(kill_launched, lab, whom)
        yield Part("launched", f"kill -9 of {whom}", 0 if quick else 8, trial)
    for name, what, planned, trial in (
        ("cuts", "power cuts (ext4 on a loop device, journal replayed)", 20, partial(cut, lab)),
        ("damage", "damaged files in the store", 50, partial(damage, lab)),
        ("full", "full disks", SIZES, partial(full, lab)),
        ("read_only", "read-only finished stores", 1, partial(read_only, lab)),
    ):
        yield Part(name, what, 1 if quick else planned, trial)
    for kind in kinds:
        planned = 1 if quick else -(-1000 // len(kinds))
        trial = partial(inputs, lab, kind, FEW if quick else BATCH)
        yield Part("inputs", f"bad input: {kind}", planned, trial)


def main() -> None:
    """Try what is asked for and print its rows; status 1 when one did not end as it should."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--only", nargs="+", choices=PORTIONS, default=PORTIONS, metavar="PORTION",
        help=f"of {', '.join(PORTIONS)}")  # fmt: skip
    parser.add_argument("--record", type=Path, default=ROOT / "results" / "faults.json",
        metavar="FILE", help="where what was tried is recorded, and goes on")  # fmt: skip
    parser.add_argument("--fresh", action="store_true", help="begin recorded rows again")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--quick", action="store_true", help="a trial of each, not recorded")
    parser.add_argument("--write", action="store_true", help=f"into {DOC.relative_to(ROOT)}")
    args = parser.parse_args()
    load_libraries()
    record = Record(None if args.quick else args.record, commit_of(ROOT, MEASURED))
    with tempfile.TemporaryDirectory(prefix="faults-") as folder:
        lab = Lab(Path(folder))
        known = list(parts_of(lab, args.quick))
        parts = [part for part in known if part.portion in args.only]
        if os.geteuid() != 0:
            rooted = {"cuts", "full", "read_only"} & {part.portion for part in parts}
            print(f"not tried without root: {', '.join(sorted(rooted)) or 'nothing'}")
            parts = [part for part in parts if part.portion not in rooted]
        if args.fresh:
            for part in parts:
                record.rows.pop(part.what, None)
        rows = carry_out(parts, record, args.seed)
    if args.write:
        put_rows(DOC, MARKS, [part.what for part in known], rows)
    raise SystemExit(any(row.bad for row in rows))


if __name__ == "__main__":
    main()
