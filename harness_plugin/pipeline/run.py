"""The whole flow: task → data → teacher → signals → students, control → predictions → scores."""

from __future__ import annotations

import gc
import time
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import TypeAlias

from harness_plugin.analysis import run_analyses
from harness_plugin.analysis.loaded_models import just_finished
from harness_plugin.config.roles import Role, behind, narrowed, plan_of_roles
from harness_plugin.config.settings import RunConfig, TaskSettings, hub_sets_of, task_settings
from harness_plugin.data.dataset import TaskData, load_for
from harness_plugin.data.task import Task, find_task
from harness_plugin.errors import HarnessError
from harness_plugin.files import timestamp
from harness_plugin.models.checkpoints import check_settings
from harness_plugin.pipeline.distilling import Distillation, check_student
from harness_plugin.pipeline.hardware import choose, environment, make_accelerator, processes_of
from harness_plugin.pipeline.outputs import check_writable, chosen_outputs, write_outputs
from harness_plugin.pipeline.roles import Workshop, check_comparable
from harness_plugin.plugins.registry import Plugins
from harness_plugin.records import Predictions, RunReport, TaskScores, TrainedModel
from harness_plugin.scoring.score import score_task
from harness_plugin.store.stages import Store, default_root

Job: TypeAlias = tuple[Task, TaskSettings, TaskData]


def run(config: RunConfig, plugins: Plugins) -> RunReport:
    """Everything a run does. Raises HarnessError for bad input before anything is trained."""
    started = time.time()
    root = Path(config.use_cache) if config.use_cache else default_root()
    chosen_outputs(config, plugins)  # a name that does not exist is told before any work
    analyses = run_analyses.chosen_analyses(config.analyze, plugins) if config.analyze else []
    jobs = prepare(config, plugins)
    check_writable(Path(config.output_path))
    for job in jobs:  # what cannot work is refused before the first task is trained
        open_workshop(*job, config, plugins, root)
    for _, _, data in jobs if analyses else ():
        run_analyses.rows_asked(data, run_analyses.AnalysisRequest())
    plugins.hook.run_started(config=config)
    # every training ends with a garbage collection: it need not walk through all that was imported
    gc.collect()
    gc.freeze()
    scores: list[TaskScores] = []
    shops: list[Workshop] = []
    for task, settings, data in jobs:
        shop = open_workshop(task, settings, data, config, plugins, root)
        shops.append(shop)
        plugins.hook.data_loaded(task=task, data=data)
        scores.append(run_task(shop))
    report = RunReport(
        config=resolved(config, jobs),
        environment=environment({shop.task.modality: shop.choice for shop in shops}),
        tasks=tuple(scores),
        started=started,
        seconds=time.time() - started,
    )
    if shop.accelerator.is_main_process:
        report = replace(report, files=write_outputs(report, config, plugins))
    if analyses:
        report = replace(report, files=(*report.files, *analysed(report, shops, analyses)))
    shop.accelerator.wait_for_everyone()
    shop.accelerator.end_training()
    plugins.hook.run_finished(report=report)
    return report


def analysed(report: RunReport, shops: list[Workshop], names: list[str]) -> list[Path]:
    """Look inside the models of every task; the main process shows and writes what is found.

    Every process reads the models: what they share lies in stages, which all reach together.
    """
    files = []
    for shop, scores in zip(shops, report.tasks, strict=True):
        finished = just_finished(shop, scores.models, timestamp(report.started))
        made = run_analyses.make(finished, names, run_analyses.AnalysisRequest())
        if shop.accelerator.is_main_process:
            run_analyses.show(made.findings)
            files += run_analyses.write(made, Path(shop.config.output_path))
    return files


def prepare(config: RunConfig, plugins: Plugins) -> list[Job]:
    """Every task, its settings and its data, all checked."""
    tasks = [find_task(name, plugins["task"], config.include_path) for name in config.tasks]
    names = [task.task for task in tasks]
    if twice := {name for name in names if names.count(name) > 1}:
        raise HarnessError(f"--tasks names task {', '.join(sorted(twice))} twice.")
    jobs = []
    for task in tasks:
        settings = task_settings(task, config.source_of(task), names, config.settings)
        data = load_for(task, settings, config)
        jobs.append((task, settings, data))
    return jobs


def open_workshop(
    task: Task,
    settings: TaskSettings,
    data: TaskData,
    config: RunConfig,
    plugins: Plugins,
    root: Path,
) -> Workshop:
    """The task's Accelerator and store; refuses what cannot work before any training."""
    shop = workshop_of(task, settings, data, config, plugins, root)
    check_roles(shop)
    return shop


def workshop_of(
    task: Task,
    settings: TaskSettings,
    data: TaskData,
    config: RunConfig,
    plugins: Plugins,
    root: Path,
) -> Workshop:
    """The task's Accelerator and store; nothing is checked."""
    accelerator = make_accelerator(config, "no")
    with accelerator.main_process_first():  # one measures, the others read
        choice = choose(config, task.modality, root, accelerator.num_processes)
    if choice.precision != "no":
        accelerator = make_accelerator(config, choice.precision)
    store = Store(root, processes_of(accelerator))
    return Workshop(task, settings, data, config, choice, accelerator, store, plugins)


def check_roles(shop: Workshop, only: str | None = None) -> None:
    """Refuse what cannot work: in any role, or in `only` one and those that it learns from."""
    if shop.config.eval_only:
        return check_comparable(shop)
    if isinstance(shop.settings.control, str):
        raise HarnessError("--control names a checkpoint, which needs --eval_only.")
    roles = plan_of_roles(shop.settings)
    if only is not None:
        roles = behind(roles, only)
        shop = replace(shop, settings=narrowed(shop.settings, only))
    for role in roles.values():
        check_settings(
            role.settings, shop.task.modality, shop.plugins, shop.config.trust_remote_code
        )
    shop.check_settings()
    for role in roles.values():
        shop.check_method(role.method, role.settings)
        check_student(shop, role, roles)


def run_task(shop: Workshop) -> TaskScores:
    """Train (or take) every role of every seed, ask it once, score the answers."""
    trained, predictions = answers_of(shop)
    scores = scored(shop, trained, predictions)
    shop.plugins.hook.scores_computed(scores=scores)
    return scores


def answers_of(shop: Workshop) -> tuple[list[TrainedModel], list[Predictions]]:
    """Every role's model of every seed, and what it answers on every evaluation set."""
    hook, config = shop.plugins.hook, shop.config
    if config.log_with:
        shop.accelerator.init_trackers(f"harness_plugin_{shop.task.task}")
    trained: list[TrainedModel] = []
    predictions: list[Predictions] = []
    for seed in config.seeds:
        for model in models_of(shop, seed):
            trained.append(model)
            hook.model_trained(model=model)
            for split in shop.data.evaluation:
                predictions.append(shop.predictions(model, split))
                hook.predictions_made(predictions=predictions[-1])
    return trained, predictions


def scored(
    shop: Workshop, trained: list[TrainedModel], predictions: list[Predictions]
) -> TaskScores:
    """Every metric of every role, and what is kept of the teacher's debiasing."""
    config, train = shop.config, shop.data.train
    return score_task(
        predictions,
        task=shop.task.task,
        source=shop.data.source,
        fingerprint=shop.data.fingerprint,
        train_groups=train.groups,
        train_group_counts=train.group_counts,
        split_roles={split.name: split.role for split in shop.data.evaluation},
        metrics={offer.name: offer.load() for offer in shop.plugins["metric"]},
        models=tuple(trained),
        notes=shop.data.notes,
        collapse_rule=shop.data.evaluation[-1].collapse_rule,
        resamples=config.resamples,
        seed=config.data_seed,
        wanted_gap=shop.task.primary_gap,
        hub_sets=hub_sets_of(shop.task, shop.settings.options, shop.data.source, config),
    )


def models_of(shop: Workshop, seed: int) -> Iterator[TrainedModel]:
    """Every role of one seed, teacher first."""
    settings = shop.settings
    if shop.config.eval_only:
        yield shop.as_it_is("teacher", settings.teacher, seed)
        yield shop.as_it_is("student", settings.student, seed)
        if isinstance(settings.control, str):
            checkpoint = settings.student.model_copy(update={"model": settings.control})
            yield shop.as_it_is("control", checkpoint, seed)
        return
    done: dict[str, TrainedModel] = {}
    for name, role in plan_of_roles(settings).items():
        done[name] = model_of(shop, role, seed, done)
        yield done[name]


def model_of(
    shop: Workshop, role: Role, seed: int, done: Mapping[str, TrainedModel]
) -> TrainedModel:
    """One role's model of one seed; `done` holds those that it learns from."""
    distillation = None
    if role.distillation is not None:
        teachers = tuple(done[teacher] for teacher in role.distillation.teachers)
        biased = done[role.heard[-1]] if role.distillation.combine == "agre" else None
        distillation = Distillation(teachers, role.distillation, biased)
    return shop.trained(role.name, role.settings, role.method, seed, distillation)


def resolved(config: RunConfig, jobs: list[Job]) -> dict[str, object]:
    """The configuration with every default filled in; give it back as `--config`.

    `data` stays open where each task took what it has of its own and these differ in kind.
    """
    settings = {task.task: chosen.model_dump(mode="json") for task, chosen, _ in jobs}
    sources = {data.source for _, _, data in jobs}
    taken = config.data if config.data or len(sources) > 1 else sources.pop()
    return {**config.model_dump(mode="json"), "data": taken, "settings": settings}
