"""The run that `faults.py` disturbs, in forked processes, and how a disturbed one is judged."""

from __future__ import annotations

import gc
import hashlib
import importlib
import json
import os
import signal
import socket
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from campaign import Row

ROOT = Path(__file__).resolve().parents[1]
os.environ |= {"HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1", "TOKENIZERS_PARALLELISM": "false"}

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


LIBRARIES = (
    *("harness_plugin.cli.main", "harness_plugin.study.side_by_side", "harness_plugin.run_tasks"),
    *("scipy.stats", "torch._dynamo", "transformers.convert_slow_tokenizer"),
    *("transformers.models.auto.tokenization_auto", "transformers.models.bert.modeling_bert"),
)
"""What a run imports on its way, which is most of the time of such a small one."""


def load_libraries() -> None:
    """Import them, so that forks find them loaded."""
    for name in LIBRARIES:
        importlib.import_module(name)
    gc.collect()
    gc.freeze()  # a fork that walks through it would copy all of its memory


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


def start(argv: list[str], log: Path, environment: Mapping[str, str] | None = None) -> Child:
    """Run `harness` with these arguments in a fork of this process."""
    sys.stdout.flush()
    process = os.fork()
    if process:
        return Child(process, log)
    status = 70
    try:
        os.setsid()
        os.environ |= environment or {}
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
    result = {}
    for file in (place / "store").glob("*-*/**/*"):
        timed = file.name in ("stage.json", "README.md")
        apart = any(part.endswith((".partial", ".broken")) for part in file.parts)
        if file.is_file() and not timed and not apart:
            name = file.relative_to(place).as_posix()
            result[name] = hashlib.sha256(file.read_bytes()).digest()
    for file in (place / "out").glob("transfer_*.json"):
        record = json.loads(file.read_bytes())
        kept = [record[key] for key in ("scores", "transfer", "verdicts", "fingerprint")]
        result["numbers"] = json.dumps(kept).encode()
    for file in (place / "out").glob("predictions_*.csv"):
        result[file.name.rpartition("_")[0]] = file.read_bytes()
    return result


class Lab:
    """The undisturbed run, and how a disturbed one is judged."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.number = folder, 0
        self.good = self.place("good")
        started = time.monotonic()
        if start(arguments(self.good), folder / "good.log").wait() != 0:
            raise SystemExit((folder / "good.log").read_text())
        self.seconds = time.monotonic() - started
        self.expected = content(self.good)
        self.expected_of_two: dict[str, bytes] = {}

    def place(self, name: str = "") -> Path:
        """A new folder."""
        self.number += 1
        place = self.folder / (name or f"trial-{self.number}")
        place.mkdir()
        return place

    def again(self, row: Row, place: Path, expected: dict[str, bytes] | None = None) -> None:
        """Repeat the command undisturbed: it must succeed, with the bytes of the good run."""
        self.same(row, place, [start(arguments(place), place / "again.log")], expected)

    def again_in_two(self, row: Row, place: Path) -> None:
        """Repeat it in two processes, with the environment that torchrun gives to each."""
        self.same(row, place, two_ranks(place, "again"), self.expected_of_two)

    def same(
        self,
        row: Row,
        place: Path,
        children: list[Child],
        expected: dict[str, bytes] | None = None,
    ) -> None:
        """These end well, and what is there then is what is expected, with nothing beside it."""
        status = [self.judge(row, child) for child in children]
        result = content(place)
        target = expected or self.expected
        different = [name for name, value in target.items() if result.get(name) != value]
        if any(status) or different:
            row.other_bytes += 1
            print(f"{row.what}: {place.name}: status {status}, differ: {different[:3]}", flush=True)
        left = [*(place / "out").glob(".*"), *(place / "store").glob("*.partial")]
        if left:
            row.lost += 1
            print(f"{row.what}: {place.name}: left behind {left}", flush=True)

    def judge(self, row: Row, child: Child) -> int | None:
        """The exit status of a command; a hang and a traceback are counted."""
        status = child.wait()
        if status is None:
            child.kill()
            row.hangs += 1
        log = child.log.read_text(errors="replace")
        if "Traceback (most recent" in log:
            row.tracebacks += 1
            print(log[-1500:], flush=True)
        return status


def two_ranks(place: Path, name: str) -> list[Child]:
    """The run in two processes, forked: what torchrun starts, without its import of everything."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    shared = {"WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1"}
    shared |= {"MASTER_PORT": port, "ACCELERATE_USE_CPU": "true", "ACCELERATE_LOG_LEVEL": "ERROR"}
    return [
        start(
            arguments(place),
            place / f"{name}-{rank}.log",
            {**shared, "RANK": rank, "LOCAL_RANK": rank},
        )
        for rank in ("0", "1")
    ]
