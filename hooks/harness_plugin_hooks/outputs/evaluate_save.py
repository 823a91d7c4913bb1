"""evaluate_<time>/<model>/result-*.json: what `evaluate.save` would have written.

The format of evaluate 0.4.6, without importing it: that takes seconds. Undefined numbers are null.
"""

from __future__ import annotations

import subprocess
import sys
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

from harness_plugin.records import RunReport
from harness_plugin.store.files import strict, timestamp, write_json
from harness_plugin_hooks.outputs.each_model import Evaluated, each_model, set_name


def write(report: RunReport, folder: Path) -> list[Path]:
    """One file a model."""
    moment = datetime.fromtimestamp(report.started, tz=UTC)
    system = {
        "_timestamp": moment.isoformat(),
        "_git_commit_hash": git_commit(),
        "_evaluate_version": version("evaluate"),
        "_python_version": sys.version,
        "_interpreter_path": Path(sys.executable).name,  # where it lies is nobody's business
    }
    files = []
    for evaluated in each_model(report):
        target = folder / f"evaluate_{timestamp(report.started)}" / evaluated.folder
        target.mkdir(parents=True, exist_ok=True)
        file = target / moment.strftime("result-%Y_%m_%d-%H_%M_%S.json")
        write_json(file, strict({**record(evaluated), **system}))
        files.append(file)
    return files


def record(evaluated: Evaluated) -> dict[str, Any]:
    """Keywords of `evaluate.save`: flat, one a number."""
    model, scores = evaluated.model, evaluated.scores
    return {
        "model": model.name,
        "task": scores.task,
        "source": scores.source,
        "fingerprint": scores.fingerprint,
        "role": model.role,
        "method": model.method,
        "seed": model.seed,
        **{
            f"{set_name(p)}_{number.name}": number.value
            for p in evaluated.predictions
            for number in evaluated.numbers(p.split)
        },
    }


def git_commit() -> str | None:
    """The commit of the repository around the working directory, None without one."""
    try:
        process = subprocess.run(
            ["git", "rev-parse", "HEAD"], capture_output=True, text=True, check=False
        )
    except OSError:  # no git on this machine
        return None
    return process.stdout.strip() if process.returncode == 0 else None
