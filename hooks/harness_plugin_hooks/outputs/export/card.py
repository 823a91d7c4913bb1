"""The card of one exported model: what the hub asks for, its numbers, its settings."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

from huggingface_hub import EvalResult, ModelCard, ModelCardData

from harness_plugin._version import __version__
from harness_plugin.data.task import find_task
from harness_plugin.plugins.registry import Plugins
from harness_plugin.scoring.files.prediction_tables import EvaluationSet
from harness_plugin.scoring.files.transfer_record import Model, TransferRecord
from harness_plugin_hooks.leaderboard.submission import names_only
from harness_plugin_hooks.outputs.model_card import TYPES

GENERATED = (
    "**All numbers are of embedded data, which this software generates. They say nothing about the "
    "data set that the task is named for.**"
)


def card_of(
    record: TransferRecord, model: Model, modality: str, plugins: Plugins, licence: str | None
) -> ModelCard:
    """The whole card. `licence`: the user's word; else ours, for a model that is all ours."""
    ours = record.source == "embedded" and model.settings.get("init") == "scratch"
    data = ModelCardData(
        model_name=model.name,
        license=licence or ("apache-2.0" if ours else None),
        pipeline_tag=f"{modality}-classification",
        library_name="transformers",
        base_model=base_model(model, plugins),
        datasets=datasets(record, plugins),
        tags=["debiasing", "knowledge-distillation", "debias-transfer"],
        eval_results=list(results(record, model, f"{modality}-classification")) or None,
    )
    verdicts = [v.sentence for v in record.verdicts if v.student == model.role]
    lines = [
        "---",
        data.to_yaml(),
        "---",
        "",
        f"# {model.name}",
        "",
        f"The {model.role} of task {record.task} ({record.source} data), seed {model.seed}, method "
        f"{model.method}. Trained and scored by debias-transfer {__version__}, which measures how "
        f"much debiasing survives distillation.",
        "",
        *([GENERATED, ""] if record.source == "embedded" else []),
        *(f"> {sentence}\n" for sentence in verdicts),
    ]
    for known in record.sets:
        lines += [f"## {known.name}", "", *table(record, model, known), ""]
    facts = {
        "fingerprint": record.fingerprint,
        "updates": model.updates,
        **model.settings,
        "supervision": model.supervision and model.supervision.model_dump(),
        "selection": model.selection and model.selection.model_dump(),
    }
    text = json.dumps(names_only(facts), indent=2)
    lines += ["## Settings", "", "```json", text, "```", ""]
    return ModelCard("\n".join(lines))


def base_model(model: Model, plugins: Plugins) -> str | None:
    """The hub id whose weights a model started from; None for one trained from scratch."""
    if model.settings.get("init") == "scratch":
        return None
    if model.model in plugins["backbone"]:
        return getattr(plugins["backbone"].offer(model.model).load(), "checkpoint", None) or None
    return model.model if "/" in model.model and not Path(model.model).exists() else None


def datasets(record: TransferRecord, plugins: Plugins) -> list[str] | None:
    """The hub ids of the data; None for data from elsewhere, or a task that is not installed."""
    if record.source != "hub" or record.task not in plugins["task"]:
        return None
    task = find_task(record.task, plugins["task"])
    return sorted({hub_set.id for hub_set in task.hub_sets.values()}) or None


def numbers(record: TransferRecord, model: Model, name: str) -> Iterator[tuple[str, float]]:
    """(metric, value) of this seed on one set, groups as `acc_<group>`; defined ones only."""
    seed = record.seeds.index(model.seed)
    for scores in record.scores:
        if (scores.role, scores.split) == (model.role, name):
            groups = {f"acc_{group}": number for group, number in scores.groups.items()}
            for metric, number in {**scores.metrics, **groups}.items():
                if (value := number.seeds[seed]) is not None:
                    yield metric, value


def table(record: TransferRecord, model: Model, known: EvaluationSet) -> Iterator[str]:
    """The numbers of one set, in Markdown."""
    yield f"{known.rows:,} rows of {record.source} data, fractions."
    yield ""
    yield "| metric | value |"
    yield "|---|---|"
    for metric, value in numbers(record, model, known.name):
        yield f"| {metric.replace('|', chr(92) + '|')} | {value:.4f} |"


def results(record: TransferRecord, model: Model, task_type: str) -> Iterator[EvalResult]:
    """The model-index. Results of embedded data say so in their data set and in their metric."""
    label = "embedded data" if record.source == "embedded" else ""
    for known in record.sets:
        for metric, value in numbers(record, model, known.name):
            if not metric.startswith("acc_") or metric == "acc_train_weighted":
                yield EvalResult(
                    task_type=task_type,
                    dataset_type="-".join([record.task, *label.split()]),
                    dataset_name=f"{record.task}, set {known.name}, {label or record.source}",
                    dataset_split=known.name,
                    dataset_args={"fingerprint": record.fingerprint, "rows": known.rows},
                    metric_type=TYPES.get(metric, metric),
                    metric_value=value,
                    metric_name=f"{metric} ({label})" if label else metric,
                )
