"""Make the analyses of one task, show them, write them: after a run, or of a run opened again."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from pydantic import BaseModel

from harness_plugin._version import __version__
from harness_plugin.analysis import loaded_models
from harness_plugin.analysis.contract import Analysis
from harness_plugin.analysis.inputs import AnalysisInput, AnalysisResult
from harness_plugin.analysis.loaded_models import FinishedTask
from harness_plugin.data.dataset import Split, TaskData
from harness_plugin.errors import unknown
from harness_plugin.plugins.registry import Plugins
from harness_plugin.records import Ints
from harness_plugin.store.files import portable, strict, timestamp, write_record, write_table

ALL = "all"

FEWEST = 4
"""Rows of a group below which nothing is compared."""


@dataclass(frozen=True)
class AnalysisRequest:
    """Which models are read on which rows, and options by the name of an analysis.

    An analysis that `options` does not name has its defaults.
    """

    roles: tuple[str, ...] = ()
    seeds: tuple[int, ...] = ()
    split: str | None = None
    groups: tuple[str, ...] = ()
    examples: int = 2000
    seed: int = 0
    options: Mapping[str, BaseModel] = field(default_factory=dict)


@dataclass(frozen=True)
class Analysed:
    """Results of all analyses of one task, and the rows they used."""

    task: FinishedTask
    request: AnalysisRequest
    split: Split
    rows: Mapping[str, Ints]
    findings: Mapping[str, AnalysisResult]


def chosen_analyses(names: Sequence[str], plugins: Plugins) -> list[str]:
    """`names` in the order they are offered in, all where `ALL` is named or none is.

    Raises HarnessError with near matches for one that nobody offers.
    """
    offered = plugins["analysis"]
    for name in names:
        if name != ALL and name not in offered:
            raise unknown("analysis", name, [ALL, *offered.offers])
    everything = not names or ALL in names
    return [offer.name for offer in offered if everything or offer.name in names]


def rows_of_request(data: TaskData, request: AnalysisRequest) -> tuple[Split, dict[str, Ints]]:
    """The evaluation set and the rows of each group; HarnessError where there are too few."""
    split = loaded_models.chosen_split(data, request.split)
    rows = loaded_models.rows_of_groups(
        split, request.groups, request.examples, FEWEST, request.seed
    )
    return split, rows


def make(task: FinishedTask, names: Sequence[str], request: AnalysisRequest) -> Analysed:
    """Load the models once, make every analysis of `names`."""
    split, rows = rows_of_request(task.ctx.data, request)
    attention = task.ctx.hardware.attention
    models = [
        loaded_models.load(task, role, seed, attention)
        for seed in loaded_models.chosen_seeds(task, request.seeds)
        for role in loaded_models.chosen_roles(task, request.roles)
    ]
    sample = AnalysisInput(
        task=task,
        split=split,
        models=models,
        encoded=[loaded_models.encoded_for(task, model, split) for model in models],
        rows=rows,
    )
    analyses = {name: task.ctx.plugins["analysis"].offer(name).instance(Analysis) for name in names}
    options = {
        name: request.options.get(name) or analysis.options() for name, analysis in analyses.items()
    }
    findings = {
        name: analysis.function(sample, options[name]) for name, analysis in analyses.items()
    }
    return Analysed(task, replace(request, options=options), split, rows, findings)


def show(findings: Mapping[str, AnalysisResult]) -> None:
    """The tables of every analysis."""
    from rich.console import Console

    console = Console(width=None if os.isatty(1) else 140)
    for finding in findings.values():
        for part in finding.shown:
            console.print()
            console.print(part, highlight=False)


def write(made: Analysed, folder: Path) -> list[Path]:
    """analysis_<task>_<time>.json, and one Parquet table an analysis."""
    task, data, request = made.task, made.task.ctx.data, made.request
    stem = f"analysis_{data.task}_{timestamp(time.time())}"
    folder.mkdir(parents=True, exist_ok=True)
    files = []
    for name, finding in made.findings.items():
        files.append(folder / f"{stem}_{name}.parquet")
        write_table(files[-1], finding.rows)
    record = {
        "version": __version__,
        "task": data.task,
        "run": task.started,
        "source": data.source,
        "fingerprint": data.fingerprint,
        "split": made.split.name,
        "purpose": made.split.purpose,
        "groups": {group: len(chosen) for group, chosen in made.rows.items()},
        "models": [
            {key: model[key] for key in ("role", "seed", "name", "model", "method", "path")}
            for model in task.models
        ],
        "options": {
            "roles": request.roles,
            "seeds": request.seeds,
            "split": request.split,
            "groups": request.groups,
            "examples": request.examples,
            "seed": request.seed,
            **{name: options.model_dump() for name, options in request.options.items()},
        },
        **{name: finding.record for name, finding in made.findings.items()},
    }
    files.append(folder / f"{stem}.json")
    write_record(files[-1], portable(strict(record), folder))
    return files
