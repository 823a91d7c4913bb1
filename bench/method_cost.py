"""Cost of every debiasing method beside ERM: seconds of an update, of all stages, and memory.

The product trains the small model of an embedded task with every method in turn, through the door
that a run takes; each round has a store of its own, so that nothing is reused. Memory is the growth
of a fresh process while it trains with batches of 256, sampled every two milliseconds.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import psutil
from common import Table, environment, interleave, parse, parser, report

from harness_plugin.config.merge import run_config
from harness_plugin.errors import HarnessError
from harness_plugin.machine.progress import quiet_libraries
from harness_plugin.pipeline.prepare.open_task import load_tasks
from harness_plugin.pipeline.roles.context import RunContext
from harness_plugin.pipeline.roles.split_stages import encoded_rows
from harness_plugin.pipeline.roles.train_role import train_role
from harness_plugin.pipeline.run_task import context_of
from harness_plugin.plugins.registry import load_plugins

TASKS = {"text": "hans", "image": "celeba_bias"}
ROWS = {"hans": ["n_train=2000", "n_id=200", "n_hans=300"], "celeba_bias": ["n_train=2000"]}
QUICK = {
    "hans": ["n_train=300", "n_validation=100", "n_id=60", "n_hans=60"],
    "celeba_bias": ["n_train=400", "n_validation=100"],
}


def opened(task: str, method: str, store: Path, args: argparse.Namespace) -> RunContext:
    """A context for the control of `task`; HarnessError where the method does not fit."""
    rows = (QUICK if args.quick else ROWS)[task]
    sets = [f"{task}.{row}" for row in rows]
    sets += [f"{task}.n_test=800"] if task == "celeba_bias" else []
    sets += [f"method={method}", "references=false", "student.erm_epochs=0", "student.epochs=1"]
    sets += ["validation_fraction=0.2", "method_options.jtt.epochs=0.2"]
    sets += ["student.batch_size=256"] if args.only and not args.quick else []
    flags = {"tasks": (task,), "device": "cpu", "threads": args.threads or 1}
    flags |= {"precision": "no", "attention": "sdpa"}
    config, plugins = run_config(None, flags, sets), load_plugins()
    (opened,) = load_tasks(config, plugins)
    return context_of(opened, config, plugins, store)


class Peak:
    """Bytes by which the process has grown at most since the block was entered."""

    grown = 0

    def __enter__(self) -> Peak:
        self.process, self.done = psutil.Process(), threading.Event()
        self.before = self.process.memory_info().rss
        self.thread = threading.Thread(target=self.watch)
        self.thread.start()
        return self

    def watch(self) -> None:
        """Look until the block is left."""
        while not self.done.wait(0.002):
            self.grown = max(self.grown, self.process.memory_info().rss - self.before)

    def __exit__(self, *_: object) -> None:
        self.done.set()
        self.thread.join()


def trained(task: str, method: str, args: argparse.Namespace) -> tuple[float, float, float]:
    """Seconds of an update of the method's loop, seconds of all stages, memory grown in MiB."""
    with tempfile.TemporaryDirectory() as folder:
        ctx = opened(task, method, Path(folder), args)
        encoded_rows(ctx, ctx.data.train, None, ctx.settings.student.max_length)
        start = time.perf_counter()
        with Peak() as peak:
            train_role(ctx, ctx.plan.roles["control"], 0, {})
        whole = time.perf_counter() - start
        records = [
            json.loads((path / "stage.json").read_text(encoding="utf-8"))
            for path in Path(folder).glob("model-*")
            if path.is_dir()
        ]
    loops = [record for record in records if record.get("updates")]
    last = max(loops, key=lambda record: record["started"])
    return last["training_seconds"] / last["updates"], whole, peak.grown / 2**20


def memory_of(task: str, method: str, args: argparse.Namespace) -> float:
    """MiB grown by a training, in a process of its own."""
    words = [sys.executable, __file__, "--only", task, method, "--rounds", "1"]
    words += ["--quick"] if args.quick else []
    done = subprocess.run(words, capture_output=True, text=True, check=True)
    return float(done.stdout.splitlines()[-1])


def fitting(task: str, args: argparse.Namespace) -> list[str]:
    """ERM, then every other method asked for that the task and its small model can have."""
    others = args.methods or [offer.name for offer in load_plugins()["method"]]
    names = ["erm", *(name for name in others if name != "erm")]
    result = []
    for name in names:
        with tempfile.TemporaryDirectory() as folder:
            try:
                opened(task, name, Path(folder), args)
            except HarnessError:
                continue
        result.append(name)
    return result


def tables_of(modality: str, args: argparse.Namespace) -> list[Table]:
    """Seconds of an update and of all stages, with a note on memory."""
    task = TASKS[modality]
    if args.quick and not args.methods:
        args.methods = ["jtt", "dfr_train"]
    names = fitting(task, args)
    steps: dict[str, list[float]] = {name: [] for name in names}

    def run(name: str) -> float:
        step, whole, _ = trained(task, name, args)
        steps[name].append(step)
        return whole

    wholes = interleave({name: lambda name=name: run(name) for name in names}, args.rounds)
    measured = names  # each takes a process
    if args.quick:
        measured = names[:1] if modality == "text" else []
    memory = {name: memory_of(task, name, args) for name in measured}
    notes = ["", "| method | peak memory above the loaded data | ratio to erm |", "|---|--:|--:|"]
    notes += [f"| {n} | {m:.0f} MiB | {m / memory['erm']:.2f} |" for n, m in memory.items()]
    counted = {name: times[-args.rounds :] for name, times in steps.items()}
    return [
        Table(f"{task}, one update", "update", "erm", counted),
        Table(f"{task}, all stages of a training", "training", "erm", wholes, notes=notes),
    ]


def main() -> None:
    """Print the tables of both modalities; `--only TASK METHOD` prints one process's memory."""
    options = parser(__doc__.splitlines()[0], rounds=3, device=False)
    options.add_argument("--threads", type=int, default=1)
    options.add_argument(
        "--cpu-seconds", action="store_true", help="count CPU seconds, not the clock's"
    )
    options.set_defaults(device="cpu")
    options.add_argument("--methods", nargs="+", default=[], metavar="METHOD", help="beside erm")
    options.add_argument("--only", nargs=2, metavar=("TASK", "METHOD"), help=argparse.SUPPRESS)
    args = parse(options)
    quiet_libraries()
    if args.only:
        print(trained(*args.only, args)[2])
        return
    start = time.perf_counter()
    facts = environment()
    tables = [table for modality in TASKS for table in tables_of(modality, args)]
    report(args, facts, tables, time.perf_counter() - start)


if __name__ == "__main__":
    main()
