"""A run's trainings in several processes of this machine, before the run reads them from the store.

A run is a study of one configuration a task. Its trainings go through the scheduler and the workers
of studies; the run itself then finds every model and every prediction in the store. Each number is
that of one process with the same threads: what is trained, with which seed, does not change.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import psutil

from harness_plugin.config.merge import task_settings
from harness_plugin.data.task import find_task
from harness_plugin.errors import HarnessError
from harness_plugin.machine.progress import Work
from harness_plugin.study.executors import Workers
from harness_plugin.study.graph import Graph, graph_of
from harness_plugin.study.plan import OWN, Configuration, Study, StudyFile
from harness_plugin.study.scheduler import Progress, execute, so_far
from harness_plugin.study.status import cost_of
from harness_plugin.study.training_records import TrainingRecords

if TYPE_CHECKING:
    from harness_plugin.config.run_config import RunConfig
    from harness_plugin.plugins.registry import Plugins
    from harness_plugin.records import RunReport

WORKER_MEMORY = 3 * 2**29
"""Bytes that a worker is taken to need where none was measured: imports alone are .5 GiB."""


def run(config: RunConfig, plugins: Plugins) -> RunReport:
    """A run whose trainings are made by `config.workers` processes. Raises as `run_tasks.run`."""
    from harness_plugin.pipeline.run_task import store_root
    from harness_plugin.run_tasks import run as run_tasks

    if config.workers == 1 or config.eval_only:
        return run_tasks(config, plugins)
    root = store_root(config).absolute()
    graph = graph_of_run(config, plugins)
    progress = so_far(graph, TrainingRecords(root))
    config = with_workers(config, graph, progress)
    if config.workers == 1:
        return run_tasks(config, plugins)
    graph = graph_of_run(config, plugins)  # its threads are set now
    return run_tasks(config, plugins, ahead=lambda: train(graph, root, int(config.workers)))


def train(graph: Graph, root: Path, workers: int) -> frozenset[str]:
    """Train what is open, `workers` at a time; the keys of the models that were trained now.

    A training that fails in a worker is named and left to the run, which fails in the same way,
    or succeeds where the worker died of something else.
    """
    before = so_far(graph, TrainingRecords(root)).done
    work = Work("trainings", graph.trainings, unit="model", done=len(before))

    def show(progress: Progress) -> None:
        running = (f"{graph.nodes[node].role} seed {seed}" for node, seed in progress.running)
        work.update(len(progress.done) - work.done, ", ".join(running))

    progress = execute(graph, Workers(workers), root, show)
    work.close()
    for failure in progress.failed.values():
        if failure.tries:
            node = graph.nodes[failure.node]
            print(
                f"harness: {node.task} {node.role} seed {failure.seed} failed in a worker "
                f"({failure.error}); it is trained in this process.",
                file=sys.stderr,
                flush=True,
            )
    now = (record for which, record in progress.done.items() if which not in before)
    return frozenset(record["stage"] for record in now if not record["reused"])


def with_workers(config: RunConfig, graph: Graph, progress: Progress) -> RunConfig:
    """The run with its workers counted, and their threads.

    `auto` is one worker a core of a CPU, never more than there are trainings left or than the
    memory holds. On another device, and in one of several processes of a launcher, it is one.
    Raises HarnessError for a number of workers in one of several processes.
    """
    from harness_plugin.pipeline.prepare.hardware import available_cores, use_cpu

    launched = int(os.environ.get("WORLD_SIZE", "1"))
    if config.workers != "auto" and launched > 1:
        raise HarnessError(
            f"--workers {config.workers} in a run of {launched} processes: a worker trains a model "
            "in one process. Leave out --workers, or the launcher."
        )
    cores, left = available_cores(), graph.trainings - len(progress.done)
    if config.workers != "auto":
        workers = min(config.workers, left)
    elif launched > 1 or not use_cpu(config):
        workers = 1
    else:
        memory = cost_of(graph, progress).memory or WORKER_MEMORY
        workers = min(cores, left, psutil.virtual_memory().available // memory)
    if workers <= 1:
        return config.model_copy(update={"workers": 1})
    threads = max(1, cores // workers) if config.threads == "auto" else config.threads
    return config.model_copy(update={"workers": workers, "threads": threads})


def graph_of_run(config: RunConfig, plugins: Plugins) -> Graph:
    """The trainings of a run as the graph of a study without factors.

    Raises HarnessError for settings that do not fit, in the words of a run.
    """
    for name in config.tasks:
        task = find_task(name, plugins["task"], config.include_path)
        task_settings(task, config.source_of(task), [name, task.task], config.settings)
    run = {name: value for name, value in config.model_dump().items() if name not in OWN}
    plan = StudyFile(
        study="run",
        tasks=config.tasks,
        seeds=config.seeds,
        run=run,
        settings=config.settings,
        retries=0,
    )
    each = tuple(Configuration((index,), config.seeds) for index in range(len(config.tasks)))
    return graph_of(Study(Path("run"), plan, (), each), plugins)
