"""Trackers (`--log_with`) of a finished run: one run a role and seed, in a group.

Each holds the resolved configuration, the curve of its training, its final metrics on every set
and, of a student, the verdicts. All of it comes from the results, so that a run whose models were
in the store leaves as much as one that trained them. The curve while it is trained is Accelerate's
own run (`harness_plugin_TASK`).
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from harness_plugin.records import RunReport, TrainedModel
from harness_plugin.scoring.files.transfer_record import verdicts_of
from harness_plugin.store.files import strict, timestamp
from harness_plugin_hooks.outputs.each_model import Evaluated, each_model

LONGEST = 500
"""Characters of a configuration's text: MLflow's limit, beyond which it is left out."""


def write(report: RunReport, folder: Path) -> list[Path]:
    """Hand every model to the run's tracker; files are the tracker's own, so that none is named."""
    name = report.config.get("log_with")
    if not name:
        return []
    group = timestamp(report.started)
    for evaluated in each_model(report):
        model = evaluated.model
        project = f"harness_plugin_{evaluated.scores.task}"
        tracker = tracker_of(str(name), project, group, f"{model.role}-seed{model.seed}", folder)
        tracker.start()
        tracker.store_init_configuration(configuration(report, evaluated))
        step = 0
        for step, loss in curve(model):
            tracker.log({"loss": loss}, step=step)
        tracker.log(final(evaluated), step=step + 1)
        tracker.finish()
    return []


def tracker_of(name: str, project: str, group: str, run: str, folder: Path) -> Any:
    """Accelerate's tracker of one run; how runs are grouped is each tracker's own matter."""
    from accelerate.state import PartialState
    from accelerate.tracking import LOGGER_TYPE_TO_CLASS

    PartialState()  # its trackers log on the main process alone, which this state knows
    cls = LOGGER_TYPE_TO_CLASS[name]
    if name == "wandb":
        return cls(project, group=group, name=run, dir=str(folder), reinit="finish_previous")
    if name == "mlflow":
        return cls(project, run_name=f"{group}/{run}", tags={"group": group, "model": run})
    where = f"{project}/{group}/{run}"
    return cls(where, str(folder)) if cls.requires_logging_directory else cls(where)


def configuration(report: RunReport, evaluated: Evaluated) -> dict[str, Any]:
    """The resolved settings, one level deep; a student's verdicts as sentences."""
    model, scores = evaluated.model, evaluated.scores
    about: dict[str, Any] = {
        "task": scores.task,
        "source": scores.source,
        "fingerprint": scores.fingerprint,
    }
    about |= {"role": model.role, "seed": model.seed, "method": model.method}
    nested = {**about, "model": model.settings, "run": report.config}
    out = dict(flat(strict(nested)))
    for verdict in verdicts_of(scores):
        if verdict["student"] == model.role:
            out[f"verdict/{verdict['split']}"] = verdict["sentence"][:LONGEST]
    return out


def flat(nested: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Keys joined by slashes; values that no tracker knows as JSON."""
    for name, value in nested.items():
        if isinstance(value, Mapping):
            yield from flat(value, f"{prefix}{name}/")
        elif value is None or isinstance(value, (bool, int, float, str)):
            yield f"{prefix}{name}", value if value is not None else "none"
        else:
            yield f"{prefix}{name}", json.dumps(value)[:LONGEST]


def curve(model: TrainedModel) -> Iterator[tuple[int, float]]:
    """(update, mean loss since the last one) as the record of training has it."""
    record = model.path / "stage.json"
    if record.is_file():
        for update, loss in json.loads(record.read_text(encoding="utf-8")).get("loss", ()):
            yield int(update), float(loss)


def final(evaluated: Evaluated) -> dict[str, float]:
    """Every defined metric on every set, as `<set>/<metric>`."""
    return {
        f"{p.split}/{number.name}": number.value
        for p in evaluated.predictions
        for number in evaluated.numbers(p.split)
        if not math.isnan(number.value)
    }
