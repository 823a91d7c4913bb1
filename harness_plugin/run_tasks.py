"""The whole flow: task → data → teacher → signals → students, control → predictions → scores."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path

from harness_plugin.analysis import run_analyses
from harness_plugin.analysis.loaded_models import just_finished
from harness_plugin.config.run_config import RunConfig
from harness_plugin.machine.environment import environment
from harness_plugin.machine.process_state import freeze, memory_kept
from harness_plugin.machine.progress import live_run
from harness_plugin.pipeline.outputs import (
    check_writable,
    chosen_outputs,
    in_own_folder,
    write_outputs,
)
from harness_plugin.pipeline.planning import plans_of
from harness_plugin.pipeline.prepare.hardware import gpu_name
from harness_plugin.pipeline.prepare.open_task import OpenTask, load_tasks
from harness_plugin.pipeline.roles.context import RunContext
from harness_plugin.pipeline.run_task import context_of, run_task, set_up_again
from harness_plugin.plugins.registry import Plugins
from harness_plugin.records import RunReport, TaskScores
from harness_plugin.store.files import timestamp


def run(
    config: RunConfig, plugins: Plugins, ahead: Callable[[], frozenset[str]] = frozenset
) -> RunReport:
    """Everything a run does. Raises HarnessError for bad input before anything is trained.

    `ahead` is called when all is checked; it may train models into the store and gives their keys.
    """
    started = time.time()
    config = in_own_folder(config, started)
    chosen_outputs(config, plugins)  # a name that does not exist is refused before any work
    analyses = run_analyses.chosen_analyses(config.analyze, plugins) if config.analyze else []
    tasks = load_tasks(config, plugins)
    check_writable(Path(config.output_path))
    # what cannot work in any task is refused before the first one is trained
    contexts = [context_of(opened, config, plugins) for opened in tasks]
    for opened in tasks if analyses else ():
        run_analyses.rows_of_request(opened.data, run_analyses.AnalysisRequest())
    plugins.hook.run_started(config=config)
    freeze()
    models = sum(len(ctx.plan.roles) * len(config.seeds) for ctx in contexts)
    main = contexts[0].accelerator.is_main_process
    live = live_run(Path(config.output_path), config.tasks, models) if main else nullcontext()
    with memory_kept(), live:
        scores = scores_of(contexts, config, plugins, ahead)
    report = RunReport(
        config=resolved_config(config, tasks),
        environment=environment({c.task.modality: c.hardware for c in contexts}, gpu_name()),
        tasks=tuple(scores),
        started=started,
        seconds=time.time() - started,
    )
    accelerator = contexts[-1].accelerator
    if accelerator.is_main_process:
        report = replace(report, files=write_outputs(report, config, plugins))
    if analyses:
        report = replace(report, files=(*report.files, *analysed(report, contexts, analyses)))
    accelerator.wait_for_everyone()
    accelerator.end_training()
    plugins.hook.run_finished(report=report)
    return report


def scores_of(
    contexts: list[RunContext],
    config: RunConfig,
    plugins: Plugins,
    ahead: Callable[[], frozenset[str]],
) -> list[TaskScores]:
    """Every task's scores; contexts are set up again where several share the process."""
    scores: list[TaskScores] = []
    trained = frozenset[str]()
    for number, ctx in enumerate(contexts):
        if len(contexts) > 1:  # precision and threads are the process's: the last opened task's
            contexts[number] = ctx = set_up_again(ctx)
        plans = () if config.eval_only else plans_of(ctx.task, ctx.data, config, plugins)
        plugins.hook.data_loaded(task=ctx.task, data=ctx.data, plans=plans)
        if not number:
            trained = ahead()
        ctx = replace(ctx, trained_ahead=trained)
        scores.append(run_task(ctx))
    return scores


def analysed(report: RunReport, contexts: list[RunContext], names: list[str]) -> list[Path]:
    """Look inside the models of every task; the main process shows and writes the results.

    Every process reads the models: what they share lies in stages, which all reach together.
    """
    files = []
    for ctx, scores in zip(contexts, report.tasks, strict=True):
        finished = just_finished(ctx, scores.models, timestamp(report.started))
        made = run_analyses.make(finished, names, run_analyses.AnalysisRequest())
        if ctx.accelerator.is_main_process:
            run_analyses.show(made.findings)
            files += run_analyses.write(made, Path(ctx.config.output_path))
    return files


def resolved_config(config: RunConfig, tasks: list[OpenTask]) -> dict[str, object]:
    """The configuration with every default filled in; give it back as `--config`.

    `data` stays open where each task took what it has of its own and these differ in kind.
    """
    settings = {opened.task.task: opened.settings.model_dump(mode="json") for opened in tasks}
    sources = {opened.data.source for opened in tasks}
    taken = config.data if config.data or len(sources) > 1 else sources.pop()
    return {**config.model_dump(mode="json"), "data": taken, "settings": settings}
