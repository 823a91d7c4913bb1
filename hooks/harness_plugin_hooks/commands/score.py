"""`harness score`: predictions that were made elsewhere become the outputs of a run."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness_plugin.cli.parser import Parser, add_file_options, add_run_options, comma_list
from harness_plugin.cli.startup import installed_plugins, quiet_libraries
from harness_plugin.errors import HarnessError

if TYPE_CHECKING:
    from harness_plugin.data.dataset import Split, TaskData
    from harness_plugin.records import Predictions, TaskScores, TrainedModel
    from harness_plugin.scoring.prediction_files import PredictionFile

ROLES = ("student", "teacher", "control")
"""`--predictions` are the student's: the model that is asked about."""


def parser() -> Parser:
    """Every option of `harness score`."""
    out = Parser(
        prog="harness score",
        description="Score files of predictions, whatever made them; writes what a run writes.",
        allow_abbrev=False,
    )
    out.add_argument("--task", required=True, metavar="NAME|FILE.yaml")
    add_run_options(out, "data")
    out.add_argument(
        "--predictions",
        required=True,
        action="append",
        type=Path,
        metavar="FILE",
        help="csv, tsv, txt, jsonl or parquet with ids and labels, probabilities or logits "
        "(repeatable: one file a seed)",
    )
    for role in ROLES[1:]:
        out.add_argument(
            f"--{role}_predictions",
            action="append",
            type=Path,
            metavar="FILE",
            help=f"of the {role} it is compared with, one file a seed",
        )
    out.add_argument("--model_name", metavar="NAME", help="default: the file's name")
    out.add_argument("--split", metavar="SET", help="the evaluation set the files are about")
    out.add_argument(
        "--kind",
        choices=("label", "probabilities", "logits"),
        help="which columns count; needed where the file's column names do not say",
    )
    out.add_argument(
        "--labels", type=comma_list, metavar="A,B,C", help="names of a list column's entries"
    )
    add_file_options(out)
    add_run_options(
        out,
        "include_path",
        "limit",
        "output_path",
        "outputs",
        "resamples",
        limit="as of the run it is compared with",
    )
    return out


def main(words: list[str]) -> int:
    """Score the files that `words` name and write every registered output."""
    given = vars(parser().parse_args(words))
    import time
    from dataclasses import replace

    from harness_plugin.config.merge import run_config
    from harness_plugin.config.settings import hub_sets_of
    from harness_plugin.data.task import find_task
    from harness_plugin.pipeline.hardware import environment
    from harness_plugin.pipeline.open_task import open_task
    from harness_plugin.pipeline.outputs import check_writable, chosen_outputs, write_outputs
    from harness_plugin.records import RunReport

    started = time.time()
    plugins = installed_plugins()
    task = find_task(given["task"], plugins["task"], given["include_path"] or ())
    quiet_libraries()
    files = {role: given[option_of(role)] or [] for role in ROLES}
    flags: dict[str, Any] = {
        name: given[name] for name in ("data", "limit", "outputs", "resamples")
    }
    flags |= {
        "tasks": (task.task,),
        "output_path": given["output_path"],
        "seeds": tuple(range(len(files["student"]))),
        "log_samples": True,
    }
    config = run_config(given["config"], flags, given["set"])
    chosen_outputs(config, plugins)  # a name that does not exist is told before any work
    check_writable(Path(config.output_path))
    task, settings, data = open_task(task, config)
    plugins.hook.data_loaded(task=task, data=data)
    splits = chosen_splits(data, given["split"])
    answers = read_all(files, splits, given["kind"], given["labels"])
    names = {
        role: given["model_name"] if role == "student" and given["model_name"] else found[0].stem
        for role, found in files.items()
        if found
    }
    scores = replace(
        scored(task, data, splits, answers, names, config, plugins),
        hub_sets=hub_sets_of(task, settings.options, data.source, config),
    )
    plugins.hook.scores_computed(scores=scores)
    record = {
        **config.model_dump(mode="json"),
        "settings": {task.task: settings.model_dump(mode="json")},
        "predictions": {
            role: [{"file": answer.file.name, "sha256": answer.sha256} for answer in found]
            for role, found in answers.items()
        },
    }
    report = RunReport(record, environment({}), (scores,), started, time.time() - started)
    written = write_outputs(report, config, plugins)
    print(f"\n{len(written)} files in {config.output_path}:", *written, sep="\n  ")
    return 0


def option_of(role: str) -> str:
    """The option that names a role's files."""
    return "predictions" if role == "student" else f"{role}_predictions"


def chosen_splits(data: TaskData, name: str | None) -> tuple[Split, ...]:
    """The evaluation sets a file may be about."""
    from harness_plugin.errors import unknown

    if name is None:
        return data.evaluation
    found = tuple(split for split in data.evaluation if split.name == name)
    if not found:
        raise unknown("evaluation set", name, [split.name for split in data.evaluation])
    return found


def read_all(
    files: dict[str, list[Path]],
    splits: tuple[Split, ...],
    kind: Any,
    labels: tuple[str, ...] | None,
) -> dict[str, list[PredictionFile]]:
    """The answers of every role, one file a seed; HarnessError for unequal numbers of files."""
    from harness_plugin.scoring.prediction_files import read_answers

    seeds = len(files["student"])
    for role, named in files.items():
        if named and len(named) != seeds:
            raise HarnessError(
                f"--{option_of(role)} names {len(named)} files, --predictions {seeds}: models are "
                f"compared seed by seed, one file each."
            )
    return {
        role: [read_answers(file, splits, kind=kind, labels=labels) for file in named]
        for role, named in files.items()
        if named
    }


def scored(
    task: Any,
    data: TaskData,
    splits: tuple[Split, ...],
    answers: dict[str, list[PredictionFile]],
    names: dict[str, str],
    config: Any,
    plugins: Any,
) -> TaskScores:
    """The scores of the sets that the files cover; every file must cover the same ones whole."""
    from dataclasses import replace

    from harness_plugin.scoring.prediction_files import covered
    from harness_plugin.scoring.score import score_task

    used = covered(answers["student"][0], splits)
    predictions: list[Predictions] = []
    models: list[TrainedModel] = []
    for role, found in answers.items():
        for seed, answer in enumerate(found):
            name = names[role] if len(found) == 1 else f"{names[role]}-seed{seed}"
            models.append(as_model(task.task, role, seed, name, answer))
            if extra := [s.name for s in covered(answer, splits) if s not in used]:
                first = answers["student"][0].file
                raise HarnessError(f"{answer.file}: rows of set {extra[0]!r}, {first} has none.")
            predictions += [
                answer.joined(
                    split,
                    task=task.task,
                    role=role,
                    model=name,
                    seed=seed,
                    texts=task.inputs if task.modality == "text" else (),
                )
                for split in used
            ]
    if any(p.labels_only for p in predictions):  # confidences are compared with confidences
        predictions = [replace(p, labels_only=True) for p in predictions]
    notes = [f"set {s.name} is not scored: no file has rows of it" for s in splits if s not in used]
    return score_task(
        predictions,
        task=task.task,
        source=data.source,
        fingerprint=data.fingerprint,
        train_groups=data.train.groups,
        train_group_counts=data.train.group_counts,
        purposes={split.name: split.purpose for split in used},
        metrics={offer.name: offer.load() for offer in plugins["metric"]},
        models=tuple(models),
        notes=(*data.notes, *notes),
        collapse_rule=data.evaluation[-1].collapse_rule,
        resamples=config.resamples,
        seed=config.data_seed,
        wanted_gap=task.primary_gap,
    )


def as_model(task: str, role: str, seed: int, name: str, answer: PredictionFile) -> TrainedModel:
    """The record of a model of which only the answers are known."""
    from harness_plugin.records import TrainedModel

    settings = {
        "model": name,
        "method": "predictions",
        "labels": answer.labels,
        "kind": answer.kind,
        "sha256": answer.sha256,
    }
    return TrainedModel(task, role, seed, name, answer.file, settings, reused=True)
