"""Device, threads, precision and attention: chosen by measuring, said aloud, and recorded."""

from __future__ import annotations

import os
import re
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState
from accelerate.tracking import get_available_trackers
from accelerate.utils import LoggerType, broadcast_object_list

from harness_plugin.config.run_config import RunConfig
from harness_plugin.errors import HarnessError, unknown
from harness_plugin.machine.environment import cpu_name
from harness_plugin.machine.launcher import check_processes, check_strategy
from harness_plugin.store.files import disk_errors
from harness_plugin.store.seals import DamagedError, read_sealed, write_sealed
from harness_plugin.store.stages import Processes
from harness_plugin.training.inputs.pixels import available_cores as available_cores

AUTOMATIC = ("threads", "precision", "attention")


@dataclass(frozen=True)
class HardwareSettings:
    """Hardware settings of training and prediction for one modality."""

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


def choose(config: RunConfig, modality: str, root: Path, processes: int) -> HardwareSettings:
    """Hardware settings for `modality`; "auto" ones are measured once a machine and kept in `root`.

    A stored measurement makes a run repeatable: thread count and precision change the last bits
    of a result, so they must not depend on how busy the machine was this time.
    """
    if not use_cpu(config):
        bf16 = torch.cuda.is_available() and torch.cuda.is_bf16_supported()
        measured: dict[str, Any] = {"threads": torch.get_num_threads(), "attention": "sdpa"}
        measured["precision"] = "bf16" if bf16 else "no"
        why, device = "the default of an accelerator", accelerator_kind(config)
    elif "auto" in [getattr(config, name) for name in AUTOMATIC]:
        measured, why = cpu_profile(root, modality, max(1, available_cores() // processes))
        device = "cpu"
    else:
        measured, why, device = {}, "as asked for", "cpu"
    environment = os.environ.get("ACCELERATE_MIXED_PRECISION")
    threads = measured["threads"] if config.threads == "auto" else config.threads
    precision = measured["precision"] if config.precision == "auto" else config.precision
    if config.precision == "auto" and environment in ("bf16", "fp16"):
        precision, why = environment, "accelerate launch asked for it"
    attention = measured["attention"] if config.attention == "auto" else config.attention
    fixed = [name for name in AUTOMATIC if getattr(config, name) != "auto"]
    if fixed and measured:
        why = f"{', '.join(fixed)} as asked for; the rest {why}"
    torch.set_num_threads(threads)
    return HardwareSettings(device, processes, threads, precision, attention, why)


def accelerator_kind(config: RunConfig) -> str:
    """The kind of device that Accelerate picks when it is not kept on the CPU."""
    if config.device:
        return config.device
    return next(name for name, present in present_devices().items() if present)


def cpu_profile(root: Path, modality: str, cores: int) -> tuple[dict[str, Any], str]:
    """The quickest settings for this machine and modality, from a file in `root` or measured."""
    name = re.sub(r"\W+", "-", f"{cpu_name()}-{cores}-torch{torch.__version__}-{modality}")
    file = root / "machine" / f"{name}.json"
    try:
        profile = read_sealed(file)
    except DamagedError as error:
        print(f"{file}: {error}; measured again.", flush=True)
        profile = None
    if profile is None:
        busy = os.getloadavg()[0] > 0.5 * available_cores() if hasattr(os, "getloadavg") else False
        profile = {**measure_cpu(modality, cores), "busy": busy}
        with disk_errors(file):
            file.parent.mkdir(parents=True, exist_ok=True)
            write_sealed(file, profile)
    why = f"measured on this machine, kept in the store as machine/{file.name}"
    if profile["busy"]:
        why += "; it was busy, delete the file to measure again"
    return profile, why


def measure_cpu(modality: str, cores: int) -> dict[str, Any]:
    """Time one small training step under every candidate and take the quickest."""
    candidates = [("no", "sdpa"), ("bf16", "eager")] if modality == "text" else [("no", "sdpa")]
    if modality == "image":
        candidates.append(("bf16", "sdpa"))
    times = {}
    for threads in sorted({1, cores}):
        torch.set_num_threads(threads)
        for precision, attention in candidates:
            step = sample_step(modality, precision, attention)
            times[threads, precision, attention] = fastest(step)
    threads, precision, attention = min(times, key=lambda setting: times[setting])
    return {
        "threads": threads,
        "precision": precision,
        "attention": attention,
        "milliseconds": {" ".join(map(str, k)): round(1e3 * v, 3) for k, v in times.items()},
    }


def sample_step(modality: str, precision: str, attention: str) -> Callable[[], None]:
    """A training step of a small model of the kind the modality uses."""
    from transformers import (
        BertConfig,
        BertForSequenceClassification,
        ResNetConfig,
        ResNetForImageClassification,
    )

    torch.manual_seed(0)
    if modality == "text":
        config = BertConfig(
            vocab_size=200,
            hidden_size=128,
            num_hidden_layers=2,
            num_attention_heads=2,
            intermediate_size=512,
            attn_implementation=attention,
        )
        model: Any = BertForSequenceClassification(config)
        inputs = {"input_ids": torch.randint(0, 200, (64, 16))}
    else:
        widths = [16, 32, 64]
        net = ResNetConfig(
            embedding_size=16, hidden_sizes=widths, depths=[2, 2, 2], layer_type="basic"
        )
        model = ResNetForImageClassification(net)
        model.to(memory_format=torch.channels_last)
        inputs = {"pixel_values": torch.randn(64, 3, 32, 32).to(memory_format=torch.channels_last)}

    def step() -> None:
        with torch.autocast("cpu", torch.bfloat16, enabled=precision == "bf16"):
            logits = model(**inputs).logits
        logits.float().logsumexp(1).mean().backward()

    return step


def fastest(step: Callable[[], None], repeats: int = 7) -> float:
    """The best of some repetitions, in seconds, after a warm-up."""
    step()
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        step()
        times.append(time.perf_counter() - start)
    return min(times)


def gpu_name() -> str | None:
    """The name of the GPU, None without one."""
    return torch.cuda.get_device_name() if torch.cuda.is_available() else None


def machine_of(
    config: RunConfig, modality: str, root: Path
) -> tuple[HardwareSettings, Accelerator]:
    """The settings of the machine, measured or asked for, and an Accelerator that has them."""
    accelerator = make_accelerator(config, "no")
    with accelerator.main_process_first():  # one measures, the others read
        hardware = choose(config, modality, root, accelerator.num_processes)
    if hardware.precision != "no":
        accelerator = make_accelerator(config, hardware.precision)
    return hardware, accelerator


def accelerator_again(config: RunConfig, hardware: HardwareSettings) -> Accelerator:
    """An Accelerator with settings that were chosen before.

    Precision and threads are the process's: they are now those of what was set up last.
    """
    torch.set_num_threads(hardware.threads)
    return make_accelerator(config, hardware.precision)
