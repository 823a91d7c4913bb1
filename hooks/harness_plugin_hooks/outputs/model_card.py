"""hub_<time>/<model>/README.md: a model card with its numbers as a `model-index`.

The stages of the store are shared and named by what they hold, so that a card in them is never
changed: this one lies with the results, in a folder that holds what goes into the model's
repository on the hub. Every result of embedded data says so in its data set and in its metric.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from harness_plugin import __version__
from harness_plugin.records import Predictions, RunReport
from harness_plugin.store.files import strict, timestamp, write_text
from harness_plugin_hooks.leaderboard.submission import names_only
from harness_plugin_hooks.outputs.each_model import Evaluated, Number, each_model
from harness_plugin_hooks.render.document import (
    Code,
    Column,
    Document,
    Paragraph,
    Section,
    Table,
    Text,
)
from harness_plugin_hooks.render.markdown import markdown

if TYPE_CHECKING:
    from huggingface_hub import EvalResult

TYPES = {"acc": "accuracy", "f1": "f1"}
"""Our names -> the hub's, where it has one."""


def write(report: RunReport, folder: Path) -> list[Path]:
    """One card a model."""
    files = []
    for evaluated in each_model(report):
        file = upload_folder(report, folder, evaluated) / "README.md"
        file.parent.mkdir(parents=True, exist_ok=True)
        write_text(file, card(evaluated))
        files.append(file)
    return files


def upload_folder(report: RunReport, folder: Path, evaluated: Evaluated) -> Path:
    """Where everything lies that belongs into the repository of one model."""
    return folder / f"hub_{timestamp(report.started)}" / evaluated.folder


def card(evaluated: Evaluated) -> str:
    """The whole card: front matter, what the model is, its numbers, its settings."""
    from huggingface_hub import ModelCardData

    model, scores = evaluated.model, evaluated.scores
    results = [r for p in evaluated.predictions for r in eval_results(evaluated, p)]
    data = ModelCardData(
        model_name=model.name,
        eval_results=results or None,
        datasets=sorted({hub_set.id for hub_set in scores.hub_sets.values()}) or None,
        license="apache-2.0" if from_scratch_on_generated(evaluated) else None,
        pipeline_tag=task_type(evaluated),
        library_name="transformers",
        tags=["harness-plugin", "debiasing", "knowledge-distillation"],
    )
    facts = {
        "task": scores.task,
        "source": scores.source,
        "fingerprint": scores.fingerprint,
        "role": model.role,
        "seed": model.seed,
        "updates": model.updates,
        "method": model.method,
        **model.settings,
        "supervision": model.supervision,
        "selection": model.selection,
    }
    about = (
        f"The {model.role} of task {scores.task}, seed {model.seed}, method {model.method}. "
        f"Scored by harness-plugin {__version__}, which measures how much debiasing survives "
        "distillation."
    )
    introduction = [Paragraph(about)]
    if evaluated.embedded:
        introduction.append(Paragraph(Text(GENERATED, "strong")))
    settings = Code(json.dumps(names_only(strict(facts)), indent=2), "json")
    sections = [
        *(Section(p.split, p.split, [numbers(evaluated, p)]) for p in evaluated.predictions),
        Section("Settings", "settings", [settings]),
    ]
    document = Document(model.name, introduction, sections, "")
    return f"---\n{data.to_yaml()}\n---\n\n{markdown(document)}"


GENERATED = (
    "All numbers are of embedded data, which this software generates. They say nothing about the "
    "data set that the task is named for."
)


def numbers(evaluated: Evaluated, p: Predictions) -> Table:
    """All numbers of one set as fractions."""
    rows = [
        (x.name, f"undefined: {x.reason}", "", x.n)
        if math.isnan(x.value)
        else (
            x.name,
            f"{x.value:.4f}",
            "" if math.isnan(x.low) else f"{x.low:.4f} to {x.high:.4f}",
            x.n,
        )
        for x in evaluated.numbers(p.split)
    ]
    note = f"{len(p):,} rows of {evaluated.scores.source} data. Fractions, 95% intervals over rows."
    columns = tuple(map(Column, ("metric", "value", "95% interval", "rows")))
    return Table(f"Numbers on {p.split}", columns, rows, note, titled=False)


def task_type(evaluated: Evaluated) -> str:
    """The hub's name of the kind of task."""
    texts = any(p.texts for p in evaluated.predictions)
    return "text-classification" if texts else "image-classification"


def from_scratch_on_generated(evaluated: Evaluated) -> bool:
    """Whether nobody else's weights or data went into a model, so that ours is its licence."""
    return bool(evaluated.embedded) and evaluated.model.settings.get("init") == "scratch"


def eval_results(evaluated: Evaluated, p: Predictions) -> Iterator[EvalResult]:
    """The defined metrics of one set; the format has no place for an undefined one."""
    for number in evaluated.numbers(p.split):
        if not number.group and not math.isnan(number.value):
            yield eval_result(evaluated, p, number)


def eval_result(evaluated: Evaluated, p: Predictions, number: Number) -> EvalResult:
    """One metric as the model-index has it."""
    from huggingface_hub import EvalResult

    scores, label = evaluated.scores, evaluated.embedded
    hub = scores.hub_sets.get(p.split)
    return EvalResult(
        task_type=task_type(evaluated),
        dataset_type=hub.id if hub else "-".join([scores.task, *label.split()]),
        dataset_name=f"{scores.task}, set {p.split}, {label or f'{scores.source} data'}",
        dataset_config=hub.config if hub else None,
        dataset_split=hub.split if hub else p.split,
        dataset_args={
            "source": scores.source,
            "fingerprint": scores.fingerprint,
            "rows": len(p),
        },
        metric_type=TYPES.get(number.name, number.name),
        metric_value=number.value,
        metric_name=f"{number.name} ({label})" if label else number.name,
    )
