"""`harness launch`: N processes on any hardware, without knowing which launcher fits it."""

from __future__ import annotations

import argparse

from harness_plugin.cli.parser import run_parser
from harness_plugin.errors import HarnessError
from harness_plugin.machine.launching import command_of, launched


def launch(argv: list[str]) -> int:
    """Start the run that the other arguments describe; the launcher's exit status."""
    parser = argparse.ArgumentParser(
        prog="harness launch",
        description="Start a run in several processes. On GPUs through `accelerate launch`, "
        "on a CPU through torchrun (Accelerate's own CPU launcher starts one process only).",
        epilog="All other arguments are those of `harness run`.",
        allow_abbrev=False,
    )
    parser.add_argument(
        "--num_processes", type=int, default=None, metavar="N", help="default: one a GPU"
    )
    args, rest = parser.parse_known_args(argv)
    rest = rest[1:] if rest[:1] == ["--"] else rest
    if args.num_processes is not None and args.num_processes < 1:
        raise HarnessError(f"--num_processes {args.num_processes}: expected 1 or more.")
    run_parser().parse_args(rest)  # a wrong option is one line here, a traceback in N processes
    import torch

    gpus = torch.cuda.device_count()
    processes = args.num_processes or max(gpus, 1)
    on_cpu = gpus == 0 or "cpu" in device_of(rest)
    if not on_cpu and processes > gpus:
        raise HarnessError(
            f"--num_processes {processes}: this machine has {gpus} GPU(s). Add --device cpu to "
            f"run on the CPU."
        )
    command, environment = command_of(["-m", "harness_plugin", *rest], processes, on_cpu=on_cpu)
    status, _ = launched(command, environment)
    return status if status >= 0 else 128 - status  # as shells say it of a signal


def device_of(arguments: list[str]) -> str:
    """The value of --device among the run's arguments, "" without one."""
    for number, argument in enumerate(arguments):
        if argument == "--device" and number + 1 < len(arguments):
            return arguments[number + 1]
        if argument.startswith("--device="):
            return argument.partition("=")[2]
    return ""
