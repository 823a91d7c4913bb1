"""Device, threads, precision and attention: chosen by measuring, said aloud, and recorded."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState
from accelerate.tracking import get_available_trackers
from accelerate.utils import LoggerType, broadcast_object_list

from harness_plugin.config.run_config import RunConfig
from harness_plugin.errors import HarnessError, unknown
from harness_plugin.machine.launcher import check_processes, check_strategy
from harness_plugin.pipeline.prepare.calibration import Shape, cpu_profile, quickest, shape_of
from harness_plugin.pipeline.prepare.open_task import OpenTask
from harness_plugin.plugins.registry import Plugins
from harness_plugin.store.stages import Processes
from harness_plugin.training.inputs.pixels import available_cores as available_cores

AUTOMATIC = ("threads", "precision", "attention")


@dataclass(frozen=True)
class HardwareSettings:
    """Hardware settings of training and prediction of one task."""

    device: str
    processes: int
    threads: int
    precision: str
    attention: str
    why: str

    def __str__(self) -> str:
        return (
            f"{self.processes} process{'es' if self.processes > 1 else ''} on {self.device}, "
            f"{self.threads} thread{'s' if self.threads > 1 else ''} each, "
            f"precision {self.precision}, {self.attention} attention ({self.why})"
        )


def use_cpu(config: RunConfig) -> bool:
    """Whether to stay on the CPU: asked for, or nothing else is there."""
    if config.device not in (None, "cpu", "cuda", "mps", "xpu"):
        raise HarnessError(f"device {config.device!r}: use cpu, cuda, mps or xpu.")
    present = present_devices()
    if config.device in present and not present[config.device]:
        raise HarnessError(f"device {config.device!r} was asked for and is not available here.")
    return config.device == "cpu" or not any(present.values())


def present_devices() -> dict[str, bool]:
    """Which accelerators this machine has."""
    return {
        "cuda": torch.cuda.is_available(),
        "mps": torch.backends.mps.is_available(),
        "xpu": hasattr(torch, "xpu") and torch.xpu.is_available(),
    }


def make_accelerator(config: RunConfig, precision: str) -> Accelerator:
    """The Accelerator of one task.

    Precision lives in a process-wide state that the first Accelerator fixes; tasks of another
    modality may want another one, so the state is made anew (the process group stays).
    """
    cpu = use_cpu(config)
    check_strategy()
    check_tracker(config.log_with)
    if precision == "fp16" and cpu:
        raise HarnessError("precision fp16 is not computed on a CPU; use bf16 or no.")
    AcceleratorState._reset_state(reset_partial_state=False)
    accelerator = Accelerator(
        cpu=cpu,
        mixed_precision=precision,
        log_with=config.log_with,
        project_dir=config.output_path if config.log_with else None,
    )
    check_processes(accelerator.num_processes)
    return accelerator


def start_tracker(accelerator: Accelerator, project: str) -> None:
    """Begin what shows the curve of a training, with the first one: no run is left empty."""
    if not accelerator.trackers:
        accelerator.init_trackers(project)


def finish_trackers(accelerator: Accelerator) -> None:
    """End the runs of trackers; the next task, and the results, have runs of their own."""
    for tracker in accelerator.trackers:
        tracker.finish()
    accelerator.trackers = []


def check_tracker(name: str | None) -> None:
    """Refuse a tracker that Accelerate does not know, or would leave out because it is missing."""
    if name is None:
        return
    known = [str(tracker) for tracker in LoggerType.list() if str(tracker) != "all"]
    if name not in known:
        raise unknown("tracker", name, known)
    if name not in [str(tracker) for tracker in get_available_trackers()]:
        raise HarnessError(f"tracker {name!r} is not installed: pip install {name}.")


def processes_of(accelerator: Accelerator) -> Processes:
    """The store's view of an Accelerator."""

    def from_main(text: str) -> str:
        return str(broadcast_object_list([text])[0])

    return Processes(accelerator.is_main_process, accelerator.wait_for_everyone, from_main)


def choose(
    config: RunConfig, shape: Callable[[], Shape], root: Path, processes: int
) -> HardwareSettings:
    """Hardware settings of a run; "auto" ones are measured on a model of its `shape`.

    A measurement is kept in `root` and makes a run repeatable: thread count and precision change
    the last bits of a result, so they must not depend on how busy the machine was this time.
    """
    asked = {name: getattr(config, name) for name in AUTOMATIC if getattr(config, name) != "auto"}
    why = f"{', '.join(asked)} as asked for; the rest " if asked else ""
    environment = os.environ.get("ACCELERATE_MIXED_PRECISION")
    if "precision" not in asked and environment in ("bf16", "fp16"):
        asked["precision"] = environment
        why += "precision as accelerate launch asked for; the rest "
    if not use_cpu(config):
        bf16 = torch.cuda.is_available() and torch.cuda.is_bf16_supported()
        settings: dict[str, Any] = {"threads": torch.get_num_threads(), "attention": "sdpa"}
        settings |= {"precision": "bf16" if bf16 else "no", **asked}
        why, device = f"{why}the default of an accelerator", accelerator_kind(config)
    elif len(asked) == len(AUTOMATIC):
        settings, why, device = asked, "as asked for", "cpu"
    else:
        cores = max(1, available_cores() // processes)
        milliseconds, measured = cpu_profile(root, shape(), cores)
        chosen = dict(zip(AUTOMATIC, quickest(milliseconds, asked), strict=True))
        settings, why, device = {**chosen, **asked}, why + measured, "cpu"
    torch.set_num_threads(settings["threads"])
    return HardwareSettings(device, processes, why=why, **settings)


def accelerator_kind(config: RunConfig) -> str:
    """The kind of device that Accelerate picks when it is not kept on the CPU."""
    if config.device:
        return config.device
    return next(name for name, present in present_devices().items() if present)


def gpu_name() -> str | None:
    """The name of the GPU, None without one."""
    return torch.cuda.get_device_name() if torch.cuda.is_available() else None


def machine_of(
    config: RunConfig, opened: OpenTask, plugins: Plugins, root: Path
) -> tuple[HardwareSettings, Accelerator]:
    """The settings of the machine, measured or asked for, and an Accelerator that has them."""
    accelerator = make_accelerator(config, "no")
    with accelerator.main_process_first():  # one measures, the others read
        shape = partial(shape_of, opened, plugins, config.trust_remote_code)
        hardware = choose(config, shape, root, accelerator.num_processes)
    if hardware.precision != "no":
        accelerator = make_accelerator(config, hardware.precision)
    return hardware, accelerator


def accelerator_again(config: RunConfig, hardware: HardwareSettings) -> Accelerator:
    """An Accelerator with settings that were chosen before.

    Precision and threads are the process's: they are now those of what was set up last.
    """
    torch.set_num_threads(hardware.threads)
    return make_accelerator(config, hardware.precision)
