"""Versions and machine, for the record of a run. Imports nothing heavy."""

from __future__ import annotations

import importlib.metadata
import platform
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any

from harness_plugin._version import DISTRIBUTION


def environment(choices: Mapping[str, Any], gpu: str | None = None) -> dict[str, Any]:
    """Versions, machine, and the `HardwareSettings` of each modality; {} where no model was run."""
    return {
        "versions": versions("torch", "transformers", "accelerate", "datasets", "numpy"),
        "python": platform.python_version(),
        "platform": platform.platform(),
        "cpu": cpu_name(),
        "gpu": gpu,
        "choices": {modality: asdict(choice) for modality, choice in choices.items()},
    }


def versions(*names: str) -> dict[str, str]:
    """The versions of those that are installed, and ours; scoring needs no torch."""
    installed = {}
    for name in (*names, DISTRIBUTION):
        with suppress(importlib.metadata.PackageNotFoundError):
            installed[name] = importlib.metadata.version(name)
    return installed


def cpu_name() -> str:
    """The processor's model name."""
    try:
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()
