"""What a run does when it is killed, cut off, out of space, damaged or given nonsense.

    python bench/faults.py                    # all of it: about an hour on two cores
    python bench/faults.py --kills 10 --cuts 2 --damage 5 --full 3 --inputs 100
    python bench/faults.py --write            # and put the table into docs/reliability.md

Every trial breaks a run of the toy task at a random moment, repeats the same command, and compares
every array, every weight and every number with those of a run that nobody disturbed. Power cuts
and full disks need root: a file system of their own is mounted; without it they are not tried,
and the table says so.
"""

from __future__ import annotations

import argparse
import datetime
import json
import os
import platform
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "tests" / "helpers")]
os.environ |= {"HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1", "TOKENIZERS_PARALLELISM": "false"}

DOC = ROOT / "docs" / "reliability.md"
START, END = "<!-- printed by bench/faults.py -->", "<!-- end -->"
TOY = str(ROOT / "tests" / "toy" / "toy.yaml")
LIMIT = 300.0
"""Seconds after which a command counts as one that hangs."""
SETS = (
    "teacher.epochs=0.6",
    "student.epochs=0.6",
    "teacher.config={hidden_dropout_prob: 0}",
    "student.config={num_hidden_layers: 1, hidden_dropout_prob: 0}",
    "references=false",
)


@dataclass
class Result:
    """One row of the table."""

    what: str
    trials: int = 0
    other_bytes: int = 0
    lost: int = 0
    tracebacks: int = 0
    hangs: int = 0
    notes: list[str] = field(default_factory=list)

    @property
    def bad(self) -> int:
        """How many trials did not end as they should."""
        return self.other_bytes + self.lost + self.tracebacks + self.hangs

    def row(self) -> str:
        """The Markdown row."""
        cells = (self.trials, self.other_bytes, self.lost, self.tracebacks, self.hangs)
        return f"| {self.what} | {' | '.join(map(str, cells))} | {'; '.join(self.notes)} |"


HEAD = "| what | trials | other bytes or wrong answers | stages lost | tracebacks | hangs | |\n"
HEAD += "|---|--:|--:|--:|--:|--:|---|"


def arguments(place: Path) -> list[str]:
    """The run that is disturbed; store and results lie in `place`."""
    fixed = "--seeds 0 --threads 1 --precision no --attention sdpa --device cpu --log_samples"
    where = ["--output_path", f"{place}/out", "--use_cache", f"{place}/store"]
    sets = [word for each in SETS for word in ("--set", each)]
    fixed += " --resamples 100 --checkpoint_steps 2"
    return ["--tasks", TOY, *fixed.split(), *where, *sets]


@dataclass
class Child:
    """A command in a forked process: libraries are loaded already."""

    process: int
    log: Path

    def wait(self, seconds: float = LIMIT) -> int | None:
        """Its exit status (negative: the signal), None when it is still running after `seconds`."""
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            done, status = os.waitpid(self.process, os.WNOHANG)
            if done:
                return os.waitstatus_to_exitcode(status)
            time.sleep(0.005)
        return None

    def kill(self) -> None:
        """End it, and whatever it has started, at once."""
        os.killpg(self.process, signal.SIGKILL)
        os.waitpid(self.process, 0)


def start(argv: list[str], log: Path) -> Child:
    """Run `harness` with these arguments in a fork of this process."""
    sys.stdout.flush()
    process = os.fork()
    if process:
        return Child(process, log)
    status = 70
    try:
        os.setsid()
        stream = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        os.dup2(stream, 1), os.dup2(stream, 2)
        from harness_plugin.cli.main import main

        status = main(argv)
    except BaseException:
        import traceback

        traceback.print_exc()
    finally:
        sys.stdout.flush(), sys.stderr.flush()
        os._exit(status)


def content(place: Path) -> dict[str, bytes]:
    """All that a run computed: arrays, weights, tokenizers and numbers, by name.

    Left out is what says when and how long.
    """
    import hashlib

    found = {}
    for file in (place / "store").glob("*-*/**/*"):
        timed = file.name in ("stage.json", "README.md")
        apart = any(part.endswith((".partial", ".broken")) for part in file.parts)
        if file.is_file() and not timed and not apart:
            name = file.relative_to(place).as_posix()
            found[name] = hashlib.sha256(file.read_bytes()).digest()
    for file in (place / "out").glob("transfer_*.json"):
        record = json.loads(file.read_bytes())
        kept = [record[key] for key in ("scores", "transfer", "verdicts", "fingerprint")]
        found["numbers"] = json.dumps(kept).encode()
    for file in (place / "out").glob("predictions_*.csv"):
        found[file.name.rpartition("_")[0]] = file.read_bytes()
    return found


class Lab:
    """The undisturbed run, and how a disturbed one is judged."""

    def __init__(self, folder: Path, seed: int) -> None:
        self.folder, self.rng, self.number = folder, random.Random(seed), 0
        self.good = self.place("good")
        started = time.monotonic()
        if start(arguments(self.good), folder / "good.log").wait() != 0:
            raise SystemExit((folder / "good.log").read_text())
        self.seconds = time.monotonic() - started
        self.expected = content(self.good)

    def place(self, name: str = "") -> Path:
        """A new folder."""
        self.number += 1
        place = self.folder / (name or f"trial-{self.number}")
        place.mkdir()
        return place

    def again(self, result: Result, place: Path, expected: dict[str, bytes] | None = None) -> None:
        """Repeat the command undisturbed: it must succeed, with the bytes of the good run."""
        log = self.folder / f"{place.name}-again.log"
        child = start(arguments(place), log)
        status = child.wait()
        self.judge(result, log, status, child)
        found = content(place)
        wanted = expected or self.expected
        if status != 0 or any(found.get(name) != value for name, value in wanted.items()):
            result.other_bytes += 1
            different = [name for name in wanted if found.get(name) != wanted[name]][:3]
            print(f"{result.what}: {place.name}: status {status}, differ: {different}", flush=True)
        hidden = [p.name for p in (place / "out").glob(".*")] + [
            p.name for p in (place / "store").glob("*.partial")
        ]
        if hidden:
            result.lost += 1
            print(f"{result.what}: {place.name}: left behind {hidden}", flush=True)

    def judge(self, result: Result, log: Path, status: int | None, child: Child) -> None:
        """Count a hang and a traceback."""
        if status is None:
            child.kill()
            result.hangs += 1
        if "Traceback (most recent" in log.read_text(errors="replace"):
            result.tracebacks += 1
            print(log.read_text(errors="replace")[-1500:], flush=True)


MOMENTS: dict[str, Callable[[Path], bool]] = {
    "anything": lambda place: True,
    "a training": lambda place: any((place / "store").glob("model-*.partial")),
    "a checkpoint": lambda place: any((place / "store").glob("*.partial/resume/unfinished")),
    "the outputs": lambda place: any((place / "out").glob(".wri*")),
}


def kills(lab: Lab, count: int) -> Iterator[Result]:
    """kill -9 in every phase of a run in one process."""
    for number, (name, reached) in enumerate(MOMENTS.items()):
        result = Result(f"kill -9 in {name}")
        for _ in range(count // len(MOMENTS) + (number < count % len(MOMENTS))):
            place = lab.place()
            child = start(arguments(place), lab.folder / f"{place.name}.log")
            ended = None
            while ended is None and not reached(place):
                ended = child.wait(0.001)
            most = lab.seconds if name == "anything" else 0.3 if name == "a training" else 0.02
            if ended is None and child.wait(lab.rng.random() * most) is None:
                child.kill()
            result.trials += 1
            lab.again(result, place)
            shutil.rmtree(place)
        yield result


def launched(lab: Lab, count: int) -> Iterator[Result]:
    """kill -9 of the launcher, of torchrun, and of one of two ranks; nothing outlives them."""
    import psutil

    result = Result("kill -9 of the launcher, or of one of two ranks")
    command = [sys.executable, "-m", "harness_plugin", "launch", "--num_processes", "2"]
    expected: dict[str, bytes] = {}
    for number in range(count + 1):
        place = lab.place()
        run = [*command, *arguments(place)]
        log = (lab.folder / f"{place.name}.log").open("w")
        process = subprocess.Popen(run, stdout=log, stderr=log, cwd=ROOT, start_new_session=True)
        family: list[psutil.Process] = []
        while number and process.poll() is None and not any(place.glob("store/model-*.partial")):
            time.sleep(0.05)
        if number:
            time.sleep(lab.rng.random())
            family = psutil.Process(process.pid).children(recursive=True)
            ranks = [p for p in family if "RANK" in p.environ()]
            victim = psutil.Process(process.pid) if number % 2 else lab.rng.choice(ranks)
            victim.kill()
            result.trials += 1
            process.wait(LIMIT)
            _, alive = psutil.wait_procs(family, timeout=45)
            if alive:
                result.hangs += 1
                result.notes.append(f"{len(alive)} workers outlived it")
            run_again = subprocess.run(run, cwd=ROOT, capture_output=True, text=True, timeout=LIMIT)
            same = content(place) == expected
            result.other_bytes += run_again.returncode != 0 or not same
        elif process.wait(LIMIT) == 0:
            expected = content(place)  # the first one nobody disturbs
        shutil.rmtree(place)
    yield result


@contextmanager
def mounted(folder: Path, *how: str) -> Iterator[Path]:
    """A file system at `folder`, for as long as it is used."""
    folder.mkdir(exist_ok=True)
    subprocess.run(["mount", *how, str(folder)], check=True)
    try:
        yield folder
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)


def cuts(lab: Lab, count: int) -> Iterator[Result]:
    """Power cuts: what is on the disk of a mounted ext4 at a moment, mounted again as it is."""
    from harness_plugin.store.seals import DamagedError, check_seal
    from harness_plugin.store.stages import RECORD

    result = Result("power cuts (ext4 on a loop device, journal replayed)")
    for _ in range(count):
        disk, copy = lab.folder / "disk.img", lab.folder / "copy.img"
        with disk.open("wb") as stream:
            stream.truncate(256 << 20)
        subprocess.run(["mkfs.ext4", "-q", "-F", str(disk)], check=True)
        with mounted(lab.folder / "disk", "-o", "loop", str(disk)) as place:
            child = start(arguments(place), lab.folder / f"cut-{lab.number}.log")
            lab.number += 1
            ended = child.wait(lab.rng.random() * 1.5 * lab.seconds)
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
            result.trials += 1
            there = {p.name for p in (place / "store").glob("*-*") if not p.suffix}
            for name in there | finished:
                try:
                    lost = check_seal(place / "store" / name, RECORD) is None
                except DamagedError:
                    lost = True
                result.lost += lost
            lab.again(result, place)
        disk.unlink(), copy.unlink()
    yield result


def damage(lab: Lab, count: int) -> Iterator[Result]:
    """Files of finished stages that are changed, cut, emptied, removed or replaced."""
    from damage import DAMAGE

    result, rebuilt = Result("damaged files in the store"), 0
    for number in range(count):
        place = lab.place()
        shutil.copytree(lab.good / "store", place / "store")
        file = lab.rng.choice([p for p in place.glob("store/*-*/**/*") if p.is_file()])
        stage = file.relative_to(place).parts[1]
        list(DAMAGE.values())[number % len(DAMAGE)](file)
        result.trials += 1
        # a stage that nobody needed is not read; one that was is set aside and built again
        wanted = {n: v for n, v in lab.expected.items() if not n.startswith(f"store/{stage}/")}
        lab.again(result, place, wanted)
        aside = (place / "store" / f"{stage}.broken").exists()
        rebuilt += aside
        whole = content(place)
        if aside and any(whole.get(name) != value for name, value in lab.expected.items()):
            result.other_bytes += 1
        shutil.rmtree(place)
    result.notes.append(f"{rebuilt} were read, named and built again; the others nobody needed")
    yield result


def full(lab: Lab, count: int) -> Iterator[Result]:
    """Disks of many sizes that run full; then there is space, and the same command goes on."""
    result = Result("full disks")
    needed = sum(p.stat().st_blocks * 512 for p in lab.good.rglob("*") if p.is_file())
    said = 0
    for number in range(count):
        size = int(needed * (number + 0.5) / count)
        with mounted(lab.folder / "small", "-t", "tmpfs", "-o", f"size={size}", "tmpfs") as place:
            log = lab.folder / f"full-{number}.log"
            child = start(arguments(place), log)
            status = child.wait()
            result.trials += 1
            lab.judge(result, log, status, child)
            lines = [line for line in log.read_text().splitlines() if "harness: error" in line]
            named = len(lines) == 1 and "MB are free on the disk at" in lines[0]
            said += named
            result.other_bytes += status != 0 and not named
            remount = f"remount,size={4 * needed}"
            subprocess.run(["mount", "-o", remount, str(place)], check=True)
            lab.again(result, place)
    result.notes.append(f"{said} named the disk in one line, {count - said} had space enough")
    yield result


def read_only(lab: Lab, count: int) -> Iterator[Result]:
    """A finished store that cannot be written."""
    result = Result("read-only finished stores")
    for _ in range(count):
        place = lab.place()
        store = str(lab.good / "store")
        with mounted(place / "store", "--bind", "-o", "ro", store):
            subprocess.run(["mount", "-o", "remount,ro,bind", str(place / "store")], check=True)
            result.trials += 1
            lab.again(result, place)
    yield result


def inputs(lab: Lab, count: int) -> Iterator[Result]:
    """Generated bad input, in processes of 100 cases each."""
    import bad_inputs

    counts: dict[str, Result] = {}
    for part in range(0, count, 100):
        folder = lab.place()
        report = folder / "report.jsonl"
        if not (process := os.fork()):
            with report.open("w") as stream:
                size = min(100, count - part)
                for case in bad_inputs.cases(folder, size, part, run=lab.good / "out"):
                    found = bad_inputs.outcome(case)
                    record = [case.kind, found.fault, [word[:200] for word in case.argv]]
                    stream.write(f"{json.dumps(record)}\n")
                    stream.flush()
            os._exit(0)
        child = Child(process, report)
        if child.wait(20 * LIMIT) is None:
            os.kill(process, signal.SIGKILL)
        for line in report.read_text().splitlines():
            kind, fault, argv = json.loads(line)
            result = counts.setdefault(kind, Result(f"bad input: {kind}"))
            result.trials += 1
            if fault:
                print(f"bad input: {argv}\n{fault[-1500:]}", flush=True)
            result.hangs += "TimeoutError: hangs" in fault
            result.other_bytes += fault.startswith("accepted")
            result.tracebacks += bool(fault) and not fault.startswith("accepted")
        shutil.rmtree(folder)
    yield from counts.values()


def main() -> None:
    """Try everything, print the table; exit status 1 when a trial did not end as it should."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    trials = {"kills": 84, "launched": 16, "cuts": 20, "damage": 50, "full": 20, "read_only": 1}
    for name, count in {**trials, "inputs": 1000}.items():
        parser.add_argument(f"--{name}", type=int, default=count, metavar="N")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--quick", action="store_true", help="a trial or two of each")
    parser.add_argument("--write", action="store_true", help=f"into {DOC.relative_to(ROOT)}")
    args = parser.parse_args()
    makers = {"kills": kills, "launched": launched, "cuts": cuts, "damage": damage, "full": full,
        "read_only": read_only, "inputs": inputs}  # fmt: skip
    import harness_plugin.run_tasks  # noqa: F401  forks find the libraries loaded

    results: list[Result] = []
    started = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="faults-") as folder:
        lab = Lab(Path(folder), args.seed)
        for name, make in makers.items():
            count = getattr(args, name)
            if args.quick:
                count = {"kills": 2, "launched": 0, "inputs": 7}.get(name, 1)
            if not count:
                continue
            if name in ("cuts", "full", "read_only") and os.geteuid() != 0:
                results.append(Result(f"{name}: not tried", notes=["needs root"]))
                continue
            for result in make(lab, count):
                results.append(result)
                print(result.row(), flush=True)
    table = "\n".join([HEAD, *(result.row() for result in results)])
    moment = datetime.datetime.now(datetime.UTC).date()
    facts = f"{moment}, Python {platform.python_version()}, Linux {platform.release()}, "
    facts += f"{os.cpu_count()} cores, {(time.monotonic() - started) / 60:.0f} minutes."
    print(f"\n{table}\n\n{facts}")
    if args.write:
        before, _, rest = DOC.read_text(encoding="utf-8").partition(START)
        after = rest.partition(END)[2]
        DOC.write_text(f"{before}{START}\n{table}\n\n{facts}\n{END}{after}", encoding="utf-8")
    raise SystemExit(any(result.bad for result in results))


if __name__ == "__main__":
    main()
