"""Absolute numbers of one GPU: step times, share of peak, peers, profile, tests, a whole run.

Every part runs in a process of its own with a time limit: one that fails or hangs loses its own
rows and nothing else. After every part FOLDER/gpu.json and FOLDER/gpu.md are written, so that what
has been measured is there whatever ends the script. The models have random weights, the data are
random or generated: nothing is fetched.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import signal
import subprocess
import sys
import time
import traceback
from contextlib import suppress
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

os.environ.setdefault("PYTORCH_NVML_BASED_CUDA_CHECK", "1")  # parts are forked: no CUDA before
os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

import torch
from common import environment
from gpu_cases import Bench, Row
from gpu_parts import PARTS
from transformers.utils import logging
from workload import available_cores

from harness_plugin.machine.process_state import freeze

LEAST = 10.0
"""Seconds that must be left for a part to be started."""


def main() -> None:
    """Measure, part by part."""
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    options.add_argument("--output", type=Path, required=True, metavar="FOLDER")
    options.add_argument("--only", nargs="+", choices=list(PARTS), default=list(PARTS))
    options.add_argument(
        "--budget", type=float, default=420, metavar="SECONDS", help="of all parts"
    )
    options.add_argument("--tiny", action="store_true", help="tiny sizes on the CPU: does it run?")
    args = options.parse_args()
    args.output.mkdir(parents=True, exist_ok=True)
    bench = Bench("cpu" if args.tiny else "cuda", args.tiny, args.output)
    logging.set_verbosity_error()
    started = time.perf_counter()
    facts, context = facts_of(bench)
    parts: dict[str, dict[str, Any]] = {}
    for name in args.only:
        title, _, most = PARTS[name]
        left = args.budget - (time.perf_counter() - started)
        say(f"== {title} (at {time.perf_counter() - started:.0f} s)")
        part = {"title": title, "rows": [], "seconds": 0.0, "error": None}
        if left < LEAST:
            part["error"] = f"left out: {args.budget:g} seconds are over"
        else:
            part |= run_part(context, bench, name, min(most, left))
        parts[name] = part
        say(f"   {part['seconds']:.0f} s {part['error'] or ''}")
        write(args.output, facts, parts)
    print((args.output / "gpu.md").read_text(encoding="utf-8"))
    say(f"{time.perf_counter() - started:.0f} s in all")


def say(line: str) -> None:
    """Print at once."""
    print(line, flush=True)


def run_part(context: Any, bench: Bench, name: str, most: float) -> dict[str, Any]:
    """The rows of a part, what it took, and what ended it if that was not its end."""
    receiver, sender = context.Pipe(duplex=False)
    process = context.Process(target=work, args=(sender, bench, name), daemon=False)
    started = time.perf_counter()
    process.start()
    sender.close()
    rows: list[Row] = []
    error: str | None = "interrupted"
    try:
        while True:
            if not receiver.poll(max(0.0, started + most - time.perf_counter())):
                error = f"stopped after {most:.0f} seconds"
                break
            word, value = receiver.recv()
            if word == "end":
                error = None
                break
            if word == "error":
                error = value
                say(value)
                break
            rows.append(value)
            say("   " + ", ".join(f"{k} {number(v)}" for k, v in value.items()))
    except EOFError:
        error = "the process died"
    finally:
        if error is not None:
            stop(process)
    process.join(20)
    if process.is_alive():
        stop(process)
        process.join()
    return {"rows": rows, "seconds": time.perf_counter() - started, "error": error}


def stop(process: Any) -> None:
    """End a part and what it has started."""
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.kill()


def work(sender: Connection, bench: Bench, name: str) -> None:
    """Send every row of a part; runs in its own process."""
    os.setpgrp()
    freeze()  # as a run does after its imports: every training looks for garbage twice
    torch.set_num_threads(1 if bench.tiny else available_cores())
    try:
        rows = [measured_facts(bench)] if name == "facts" else PARTS[name][1](bench)
        for row in rows:
            sender.send(("row", row))
        sender.send(("end", None))
    except BaseException:
        sender.send(("error", traceback.format_exc(limit=-4)))


def measured_facts(bench: Bench) -> Row:
    """The machine, as seen from a process that may start the GPU."""
    facts = environment(bench.device)
    facts["commit"] = os.environ.get("BENCH_COMMIT") or output_of("git", "rev-parse", "HEAD")
    facts["driver"] = output_of(
        "nvidia-smi", "--query-gpu=driver_version,memory.total", "--format=csv,noheader"
    )
    facts["cuda"] = torch.version.cuda
    facts["cudnn"] = torch.backends.cudnn.version()
    if bench.device == "cuda":
        torch.ones(8, device="cuda").sum().item()  # fails here, not in every part
    return facts


def output_of(*command: str) -> str | None:
    """Standard output of a program, or None where it is not installed."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=20, cwd=sys.path[0])
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() or None


def facts_of(bench: Bench) -> tuple[Row, Any]:
    """The machine, and how parts are started: forked, or afresh where a fork has no GPU."""
    for method in ("fork", "spawn"):
        context = multiprocessing.get_context(method)
        part = run_part(context, bench, "facts", 120)
        if part["rows"]:
            return {**part["rows"][0], "tiny": bench.tiny}, context
    raise SystemExit("the GPU cannot be used: see above")


def number(value: Any) -> str:
    """A value of a table: numbers with four digits."""
    if value is None:
        return "-"
    if isinstance(value, float):
        return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.4g}"
    return str(value)


def markdown(facts: Row, parts: dict[str, dict[str, Any]]) -> str:
    """Everything as tables."""
    versions = ", ".join(f"{name} {version}" for name, version in facts["versions"].items())
    lines = [
        f"# {facts['gpu'] or 'No GPU'}",
        "",
        f"Driver {facts['driver']}, CUDA {facts['cuda']}, cuDNN {facts['cudnn']}; {versions}; "
        f"Python {facts['python']}; {facts['cpu']}, {facts['cores']} cores; "
        f"commit {facts['commit']}.",
        "",
    ]
    if facts["tiny"]:
        lines += ["Tiny sizes on the CPU: the times mean nothing.", ""]
    for part in parts.values():
        lines += [f"## {part['title']}", ""]
        columns = list(dict.fromkeys(key for row in part["rows"] for key in row))
        if columns:
            lines.append(f"| {' | '.join(columns)} |")
            lines.append("|" + "---|" * len(columns))
        for row in part["rows"]:
            cells = [number(row[key]) if key in row else "" for key in columns]
            lines.append(f"| {' | '.join(cell.replace('|', '/') for cell in cells)} |")
        if part["error"]:
            lines += ["", f"Ended early: {part['error'].strip().splitlines()[-1]}"]
        lines += ["", f"{part['seconds']:.0f} s.", ""]
    return "\n".join(lines)


def write(folder: Path, facts: Row, parts: dict[str, dict[str, Any]]) -> None:
    """gpu.json and gpu.md."""
    record = json.dumps({"environment": facts, "parts": parts}, indent=1, default=str)
    (folder / "gpu.json").write_text(record + "\n", encoding="utf-8")
    (folder / "gpu.md").write_text(markdown(facts, parts), encoding="utf-8")


if __name__ == "__main__":
    main()
