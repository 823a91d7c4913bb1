"""The functions of `import harness_plugin as hp`: what the commands do, from Python.

They print nothing, write nothing unless a folder is named, and leave the process as it was
(`machine.process_state`). Whatever is heavy is imported inside them. Bad input raises
HarnessError, whose message says what is wrong and what there is instead.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import UTC
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from harness_plugin.api.keywords import (
    Files,
    PathLike,
    configured,
    folder_for,
    leaves_no_trace,
    paths,
    plugins_for,
    result_of,
    silent,
    texts,
    whole_numbers,
)
from harness_plugin.api.results import ComparisonResult, LoadedTask, RunResult
from harness_plugin.errors import HarnessError, unknown
from harness_plugin.records import RunReport

if TYPE_CHECKING:
    from harness_plugin.pipeline.remedy import RemedyReport


@leaves_no_trace
def run(
    tasks: str | Iterable[str] = (),
    *,
    method: str | None = None,
    seeds: int | Iterable[int] | None = None,
    data: PathLike | None = None,
    limit: int | None = None,
    settings: Mapping[str, Any] | None = None,
    config: PathLike | None = None,
    output_path: PathLike | None = None,
    verbose: bool = False,
    **options: Any,
) -> RunResult:
    """Train a debiased teacher, distil it, train the student's twin, and score all of them.

    The same as `harness run`, number for number: trainings that are finished are taken from the
    store (`use_cache`) by both.

    Args:
        tasks: names or YAML files of tasks (harness ls tasks); may stand in `config` instead.
        method: the debiasing method (harness ls methods); the task's own by default.
        seeds: of the trainings, (0, 1, 2) by default.
        data: "embedded", "hub", or a folder; what the task has of its own by default.
        limit: rows a split, stratified by group.
        settings: settings for all tasks, or under a task's name:
            `{"student": {"epochs": 6}, "hans": {"collapse": "sum"}}`.
        config: a run file, as `harness --config` takes it; every argument wins over it.
        output_path: the folder of the result files; None writes none.
        verbose: show what the command line shows.
        **options: any other field of `RunConfig` (device, threads, precision, resamples,
            use_cache, eval_only, log_samples, ...) or of `TaskSettings` (student, teacher,
            students, select, method_options, ...). A `teacher` or `student` that is a text names
            its model.

    Returns:
        The scores: `.verdicts`, `.to_pandas()`, `.report(folder)`. All values are fractions,
        with 95% intervals over rows and seeds (docs/verdicts.md).

    Raises:
        HarnessError: for bad input, before anything is trained; with near matches for a name.
    """
    keywords = {"method": method, "seeds": seeds, "data": data, "limit": limit, **options}
    configuration = configured(tasks, keywords, settings, config, output_path)
    if configuration.analyze and output_path is None:
        raise HarnessError("analyze: what is found is written to files; name an output_path.")
    plugins = plugins_for(verbose)
    from harness_plugin.study.side_by_side import run as run_tasks

    with (
        folder_for(configuration, output_path) as prepared,
        silent(bool(configuration.analyze) and not verbose),
    ):
        report = run_tasks(prepared, plugins)
    return result_of(report, output_path)


@leaves_no_trace
def score(
    task: str,
    predictions: Files,
    *,
    teacher_predictions: Files = (),
    control_predictions: Files = (),
    sets: str | Iterable[str] = (),
    kind: Literal["label", "probabilities", "logits"] | None = None,
    labels: Sequence[str] | None = None,
    model_name: str | None = None,
    data: PathLike | None = None,
    limit: int | None = None,
    settings: Mapping[str, Any] | None = None,
    config: PathLike | None = None,
    output_path: PathLike | None = None,
    verbose: bool = False,
    **options: Any,
) -> RunResult:
    """Score predictions that were made elsewhere, as `harness score` does; nothing is trained.

    Args:
        task: its name or YAML file.
        predictions: of the model in question: csv, tsv, txt, jsonl or parquet with ids and labels,
            probabilities or logits; a sequence has one file a seed.
        teacher_predictions: of the teacher it is compared with, one file a seed.
        control_predictions: of its twin without a teacher, one file a seed.
        sets: the evaluation sets the files are about; no other data are needed.
        kind: which columns count, where their names do not say.
        labels: names of a list column's entries.
        model_name: what the model is called; the file's name by default.
        data: "embedded", "hub", or a folder.
        limit: rows a split, stratified by group.
        settings: settings for all tasks, or under a task's name, as of `run`.
        config: a run file; every argument wins over it.
        output_path: the folder of the result files; None writes none.
        verbose: show what the command line shows.
        **options: any other field of `RunConfig` or `TaskSettings`, as of `run`.

    Raises:
        HarnessError: for files that cannot be read or do not fit the task's rows.
    """
    from harness_plugin.data.task import find_task

    files = {
        "student": paths(predictions),
        "teacher": paths(teacher_predictions),
        "control": paths(control_predictions),
    }
    if not files["student"]:
        raise HarnessError("predictions: expected at least one file.")
    plugins = plugins_for(verbose)
    spec = find_task(task, plugins["task"], tuple(options.get("include_path", ())))
    keywords = {**options, "data": data, "limit": limit, "sets": texts(sets)}
    keywords["seeds"] = range(len(files["student"]))
    configuration = configured((spec.task,), keywords, settings, config, output_path)
    from harness_plugin.pipeline.outputs import check_writable, chosen_outputs, write_outputs
    from harness_plugin.pipeline.score_predictions import score_predictions

    if output_path is not None:
        chosen_outputs(configuration, plugins)
        check_writable(Path(output_path))
    report = score_predictions(
        configuration,
        plugins,
        spec,
        files,
        kind=kind,
        labels=None if labels is None else tuple(labels),
        model_name=model_name,
    )
    if output_path is not None:
        report = replace(report, files=write_outputs(report, configuration, plugins))
    return result_of(report, output_path)


@leaves_no_trace
def compare(
    baseline: PathLike | RunResult,
    candidate: PathLike | RunResult,
    *,
    role: str = "student",
    baseline_role: str | None = None,
    tasks: str | Iterable[str] = (),
    seeds: int | Iterable[int] = (),
    metric: str | Iterable[str] = (),
    max_drop: float | None = None,
    max_gap_increase: float | None = None,
    thresholds: PathLike | None = None,
    margin: float | None = None,
    min_seeds: int | None = None,
    min_group: int | None = None,
    resamples: int | None = None,
) -> ComparisonResult:
    """Has a candidate become worse than a baseline? As `harness compare`, example by example.

    Args:
        baseline: a result, the folder of a run with log_samples, or a transfer_*.json in it.
        candidate: likewise.
        role: whose models are compared.
        baseline_role: the baseline's, if another one.
        tasks: of several; all by default.
        seeds: of several; all by default. Models are paired by seed.
        metric: with a limit, besides the primary gaps (acc and worst_group_acc).
        max_drop: that is allowed of a performance, a fraction (0.02).
        max_gap_increase: that is allowed of a gap or an error, a fraction (0.02).
        thresholds: a YAML file of gates, instead of the three before.
        margin: both at once, as of a run's verdict (0.02).
        min_seeds: of a verdict (3).
        min_group: rows of a group that may be the worst (30).
        resamples: of the bootstrap (2000).

    Raises:
        HarnessError: for results that cannot be read, or were not asked the same questions.
    """
    from harness_plugin.scoring.files.finished_runs import Selected, compare_outputs
    from harness_plugin.scoring.gate import thresholds_from
    from harness_plugin.scoring.metrics import Metric

    plugins = plugins_for(False)
    limits = thresholds_from(
        None if thresholds is None else Path(thresholds),
        {
            "metric": list(texts(metric)) or None,
            "max_drop": max_drop,
            "max_gap_increase": max_gap_increase,
            "margin": margin,
        },
        {"min_seeds": min_seeds, "min_group": min_group, "resamples": resamples},
        plugins["metric"].instances(Metric),
    )
    first, second = (
        side.tasks if isinstance(side, RunResult) else Path(side) for side in (baseline, candidate)
    )
    selected = Selected(first, second, role, baseline_role, texts(tasks), whole_numbers(seeds))
    return ComparisonResult(compare_outputs(selected, limits, plugins))


@leaves_no_trace
def remedy(
    tasks: str | Iterable[str] = (),
    *,
    budget: int = 8,
    baseline: str = "student",
    remedies: str | Iterable[str] = (),
    rank_by: str = "worst_group_acc",
    method: str | None = None,
    seeds: int | Iterable[int] | None = None,
    data: PathLike | None = None,
    limit: int | None = None,
    settings: Mapping[str, Any] | None = None,
    config: PathLike | None = None,
    verbose: bool = False,
    **options: Any,
) -> list[RemedyReport]:
    """Which change of a student brings its teacher's debiasing back? As `harness remedy`.

    Students are ranked on half of the validation rows; no test row is looked at.

    Args:
        tasks: names or YAML files.
        budget: remedies to try.
        baseline: the task's student that needs help.
        remedies: these instead of all in order of promise (harness remedy --list); `a+b` joins two.
        rank_by: the metric that ranks.
        method: the debiasing method.
        seeds: of the trainings.
        data: "embedded", "hub", or a folder.
        limit: rows a split, stratified by group.
        settings: settings for all tasks, or under a task's name, as of `run`.
        config: a run file; every argument wins over it.
        verbose: show what the command line shows.
        **options: any other field of `RunConfig` or `TaskSettings`, as of `run`.

    Returns:
        One record a task, its remedies best first.

    Raises:
        HarnessError: for bad input, and for data without validation rows that have groups.
    """
    if budget < 1:
        raise HarnessError(f"budget {budget}: expected at least 1 remedy.")
    keywords = {"method": method, "seeds": seeds, "data": data, "limit": limit, **options}
    configuration = configured(tasks, keywords, settings, config, None)
    plugins = plugins_for(verbose)
    from harness_plugin.pipeline.prepare.open_task import load_tasks
    from harness_plugin.pipeline.remedy import try_remedies
    from harness_plugin.pipeline.run_task import store_root
    from harness_plugin.plugins.remedies import select_remedies

    named = texts(remedies)
    selected = select_remedies(named, plugins["remedy"])
    root = store_root(configuration)
    opened = load_tasks(configuration, plugins)
    plugins.hook.run_started(config=configuration)
    return [
        try_remedies(
            configuration,
            plugins,
            task,
            root,
            selected,
            budget=max(budget, len(named)),
            baseline=baseline,
            metric=rank_by,
        )
        for task in opened
    ]


@leaves_no_trace
def load_task(
    task: str,
    *,
    data: PathLike | None = None,
    limit: int | None = None,
    settings: Mapping[str, Any] | None = None,
    config: PathLike | None = None,
    **options: Any,
) -> LoadedTask:
    """Read a task, load its data and check both, as `harness validate` does.

    Args:
        task: its name or YAML file.
        data: "embedded", "hub", or a folder.
        limit: rows a split, stratified by group.
        settings: settings for all tasks, or under a task's name, as of `run`.
        config: a run file; every argument wins over it.
        **options: any other field of `RunConfig` or `TaskSettings`, as of `run`.

    Returns:
        `.data.train`, `.data.evaluation` and the other splits; `.to_pandas()` counts rows by
        group; `.warnings()` says what makes numbers of this data weak.

    Raises:
        HarnessError: for a task or data that are not what they should be.
    """
    from harness_plugin.config.merge import task_settings
    from harness_plugin.data.task import find_task
    from harness_plugin.pipeline.prepare.open_task import load_for

    plugins = plugins_for(False)
    spec = find_task(task, plugins["task"], tuple(options.get("include_path", ())))
    keywords = {**options, "data": data, "limit": limit}
    configuration = configured((spec.task,), keywords, settings, config, None)
    source = configuration.source_of(spec)
    chosen = task_settings(spec, source, configuration.tasks, configuration.settings)
    return LoadedTask(spec, chosen, load_for(spec, chosen, configuration))


@leaves_no_trace
def open_run(
    path: PathLike, *, started: str | None = None, tasks: str | Iterable[str] = ()
) -> RunResult:
    """Read the results of a finished run back; nothing is computed.

    Args:
        path: its output folder, or one transfer_*.json in it.
        started: which run, where the folder holds several (the time in its file names).
        tasks: of several; all by default.

    Returns:
        What `run` gave back. Predictions are there where the run kept them (log_samples);
        intervals of single seeds are not in the files. `.reopen()` opens data and models.

    Raises:
        HarnessError: for a folder without a run, or files that are damaged.
    """
    from datetime import datetime

    from harness_plugin.records.run_folder import RECORD, run_folder, start_of
    from harness_plugin.scoring.files.finished_runs import scores_from
    from harness_plugin.scoring.files.transfer_record import read_record
    from harness_plugin.scoring.metrics import Metric

    path = Path(path)
    if path.suffix == ".json":
        files, stamp = [path], path.stem.rpartition("_")[2]
        if RECORD.fullmatch(path.name) is None:
            raise HarnessError(f"{path}: expected a file called transfer_TASK_TIME.json.")
    else:
        path = run_folder(path)
        stamp = start_of(path, started)
        files = sorted(path.glob(f"transfer_*_{stamp}.json"))
    records = {record.task: (file, record) for file in files for record in [read_record(file)]}
    for name in (named := texts(tasks)):
        if name not in records:
            raise unknown(f"task of the run in {path}", name, records)
    metrics = {n: m.info for n, m in plugins_for(False)["metric"].instances(Metric).items()}
    chosen = [one for name, one in records.items() if not named or name in named]
    first = chosen[0][1]
    moment = datetime.strptime(stamp, "%Y-%m-%dT%H-%M-%S.%f").replace(tzinfo=UTC)
    report = RunReport(
        config=first.config,
        environment=first.environment,
        tasks=tuple(scores_from(file, record, metrics) for file, record in chosen),
        started=moment.timestamp(),
        seconds=float("nan"),
        files=tuple(sorted(files[0].parent.glob(f"*_{stamp}.*"))),
    )
    return RunResult(report, files[0].parent)
