"""Training under OMP_NUM_THREADS=1, as `accelerate launch` sets it: 1 thread, or our choice.

The choice is what a run makes (`hardware.choose`): steps of the model's shape are timed at every
thread count and the quickest is kept. It is made once while the machine is as it is, and once
beside a process that keeps one core busy; there the earlier choice is timed too, because a run
keeps its choice.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from common import Goal, Table, environment, interleave, parse, parser, report, timed
from workload import LONG, Size, accelerator_on, bert, fit, text

from harness_plugin.config.run_config import RunConfig
from harness_plugin.pipeline.prepare.calibration import Shape
from harness_plugin.pipeline.prepare.hardware import HardwareSettings, choose

ONE, CHOSEN = "1 thread, as launched", "our choice"
TOKENS = 64
"""Tokens of a row, as a run counts them for pairs of `LONG` lengths: a power of two."""


def main() -> None:
    options = parser(__doc__.splitlines()[0], rounds=5, device=False)
    options.add_argument("--batch-size", type=int, default=32)
    options.add_argument("--rows", type=int, help="rows of the epoch (default 256, quick 64)")
    args = parse(options)
    if os.environ.get("OMP_NUM_THREADS") != "1":  # it is read when torch is loaded: start again
        variables = {**os.environ, "OMP_NUM_THREADS": "1"}
        os.execve(sys.executable, [sys.executable, *sys.argv], variables)
    if args.quick and hasattr(os, "sched_setaffinity"):  # one core: nothing is measured for long
        os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    facts, tables = environment(), []
    size = Size(1, 64) if args.quick else Size(4, 256)

    def run() -> None:
        encoded, label = text(args.rows or (64 if args.quick else 256), LONG, args.seed)

        def with_threads(count: int) -> Callable[[], float]:
            def one() -> float:
                torch.set_num_threads(count)
                model = bert(size, "eager", args.seed)
                accelerator = accelerator_on("cpu", "bf16")
                return fit(accelerator, model, encoded, label, args.batch_size, args.seed)

            return one

        def table(
            where: str, variants: dict[str, Any], goal: float, choice: HardwareSettings
        ) -> None:
            title = f"One update of BERT {size}, bf16, {where}"
            seconds = interleave(variants, args.rounds)
            goals = {CHOSEN: [Goal(ONE, goal)]}
            notes = [f"Chosen: {choice}."]
            tables.append(Table(title, "update", ONE, seconds, goals, notes))

        shape = Shape.of("text", bert(size, "eager", args.seed).config, args.batch_size, TOKENS)
        first = calibrated(shape)
        variants = {CHOSEN: with_threads(first.threads), ONE: with_threads(1)}
        table("the machine as it is", variants, 1 / 1.25, first)
        with neighbour():
            second = calibrated(shape)
            variants[CHOSEN] = with_threads(second.threads)
            variants[f"the choice made before ({first.threads})"] = with_threads(first.threads)
            table("beside a busy neighbour", variants, 1 / 0.9, second)

    report(args, facts, tables, timed(run))


def calibrated(shape: Shape) -> HardwareSettings:
    """The choice of a run that finds no earlier measurement."""
    with tempfile.TemporaryDirectory() as root:
        return choose(RunConfig(tasks=("bench",), device="cpu"), lambda: shape, Path(root), 1)


@contextmanager
def neighbour() -> Iterator[None]:
    """A process that keeps one core busy."""
    process = subprocess.Popen([sys.executable, "-c", "while True: pass"])
    try:
        yield
    finally:
        process.kill()
        process.wait()


if __name__ == "__main__":
    main()
