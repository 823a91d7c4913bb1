"""Requests to launchers (flags, configuration, environment): honoured, or refused by name."""

from __future__ import annotations

import os
from argparse import Namespace
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

from harness_plugin.errors import HarnessError
from harness_plugin.machine.launching import REQUESTED

SHARDED = {
    "ACCELERATE_USE_FSDP": "FSDP",
    "ACCELERATE_USE_DEEPSPEED": "DEEPSPEED",
    "ACCELERATE_USE_MEGATRON_LM": "MEGATRON_LM",
    "ACCELERATE_USE_PARALLELISM_CONFIG": "parallelism_config",
}
"""How `accelerate launch` tells a program that models are to be cut up -> what that is called."""


@dataclass(frozen=True)
class Request:
    """A request to a launcher, and its place; None = unknown."""

    processes: int | None = None
    strategy: str | None = None
    where: str = ""


def check_strategy() -> None:
    """Refuse models that are cut up over devices.

    Every model here is whole on each device: methods and distillers read its layers and weights. On
    a CPU (gloo) Accelerate itself leaves FSDP2 out without a word.
    """
    strategy = next((SHARDED[n] for n in SHARDED if is_true(os.environ.get(n))), None)
    requested = request_of_launcher()
    if strategy := strategy or requested.strategy:
        where = requested.where or "the launcher"
        raise HarnessError(
            f"{where} asks for {strategy}: models are not cut up here, each is whole on every "
            f"device. Use a configuration of `distributed_type: MULTI_GPU` (or `NO`), or `harness "
            f"launch --num_processes N …`."
        )


def check_processes(actual: int) -> None:
    """Refuse to run as fewer processes than were asked for.

    `accelerate launch --cpu --num_processes 2` starts one process (accelerate #2741), and so does
    a configuration file that says so; a torchrun whose processes do not see each other would do the
    whole job twice into the same files.
    """
    if (world := int(os.environ.get("WORLD_SIZE", "1"))) != actual:
        raise HarnessError(
            f"{world} processes were started but each sees {actual}: they would all do the whole "
            f"job. On a CPU start them with `harness launch --num_processes {world} …` or "
            f"ACCELERATE_USE_CPU=true torchrun --nproc_per_node {world} …"
        )
    requested = request_of_launcher()
    if requested.processes is not None and requested.processes > actual:
        count = requested.processes
        where = f" by {requested.where}" if requested.where else ""
        raise HarnessError(
            f"{count} processes were requested{where}, {actual} started. On a CPU `accelerate "
            f"launch` starts only one: use `harness launch --num_processes {count} …`, or "
            f"`accelerate launch --multi_gpu --num_processes {count} …` (also without a GPU)."
        )


def is_true(value: str | None) -> bool:
    """Whether an environment variable switches something on."""
    return (value or "").lower() in ("1", "true", "yes", "on")


def request_of_launcher() -> Request:
    """The request to `harness launch` or `accelerate launch`, as far as it can be known."""
    if value := os.environ.get(REQUESTED):
        return Request(int(value))
    try:
        words = psutil.Process().parent().cmdline()
    except (psutil.Error, AttributeError):
        return Request()
    if (options := accelerate_options(words)) is None:
        return Request()
    file, config = accelerate_config(options)
    from_file = options.num_processes is None and config is not None
    processes = config.num_processes if from_file else options.num_processes
    strategy = str(getattr(config, "distributed_type", "")).rpartition(".")[2]
    cut_up = strategy if strategy in SHARDED.values() else None
    named = f"the configuration file {file}" if from_file or cut_up else ""
    return Request(processes, cut_up, named)


def accelerate_options(words: list[str]) -> Namespace | None:
    """The options of an `accelerate launch` command line, None for any other program's."""
    for place, word in enumerate(words):
        name = Path(word).name
        if name == "accelerate" and words[place + 1 : place + 2] == ["launch"]:
            rest = words[place + 2 :]
        elif name == "accelerate-launch" or word == "accelerate.commands.launch":
            rest = words[place + 1 :]
        else:
            continue
        from accelerate.commands.launch import launch_command_parser

        options: Namespace = launch_command_parser().parse_known_args(rest)[0]
        return options
    return None


def accelerate_config(options: Namespace) -> tuple[str, Any]:
    """The file of `accelerate config` that a launch reads, and what it says; None without one."""
    from accelerate.commands.config import config_args

    file = options.config_file
    if file is None and (options.cpu or not os.path.isfile(config_args.default_config_file)):
        return "", None
    file = file or config_args.default_config_file
    return str(file), config_args.load_config_from_file(file)
