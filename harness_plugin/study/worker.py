"""One training of a study, wherever it is executed: a job goes in, a record comes out."""

from __future__ import annotations

import json
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness_plugin.errors import HarnessError
from harness_plugin.machine.launching import end_with_launcher
from harness_plugin.study.training_records import TrainingRecords

if TYPE_CHECKING:
    from accelerate import Accelerator

    from harness_plugin.config.run_config import RunConfig
    from harness_plugin.data.dataset import TaskData
    from harness_plugin.pipeline.prepare.hardware import HardwareSettings
    from harness_plugin.pipeline.prepare.open_task import OpenTask
    from harness_plugin.pipeline.roles.context import RunContext
    from harness_plugin.plugins.registry import Plugins
    from harness_plugin.records import TrainedModel
    from harness_plugin.store.stages import Store


@dataclass(frozen=True)
class Job:
    """A training as plain data, so that it can be sent anywhere: whose, of which seed, for what.

    `name` is the training's in the ledger, `run` the fields of a `RunConfig`, `root` the store.
    """

    name: str
    role: str
    seed: int
    run: Mapping[str, Any]
    root: str
    processes: int = 1


class BusyError(Exception):
    """Another process is at it; the message says which."""


def execute(job: Job) -> dict[str, Any]:
    """Train what the job says and ask it on every evaluation set; both are kept in the store.

    Returns the record that the ledger keeps. Raises BusyError when another process is at it.
    """
    ledger = TrainingRecords(Path(job.root))
    lease = ledger.lease(job.name)
    if lease is None:
        raise BusyError(ledger.owner(job.name) or "another process")
    try:
        if finished := ledger.record(job.name):  # whoever had it before us has finished it
            return finished
        record = launched(job) if job.processes > 1 else trained(job)
        ledger.finished(job.name, record)
        return record
    finally:
        lease.release()


def trained(job: Job) -> dict[str, Any]:
    """Train and predict in this process."""
    from harness_plugin.machine.process_state import freeze, importing, memory_kept
    from harness_plugin.machine.progress import quiet_libraries

    first = not _SHARED
    with importing():
        from harness_plugin.pipeline.roles.split_stages import logits_stage

        quiet_libraries()  # this may be a worker, whose bars would run through the study's lines
        shared = shared_of(job.run, job.root)
    started = time.perf_counter()  # imports and data are the process's cost, not this training's
    ctx = context_for(shared, job.role)
    with memory_kept():
        model = train_with_teachers(ctx, job.role, job.seed, {})
        if first:  # it has imported the library of its model, which the others need
            freeze()
        for split in ctx.data.evaluation:
            logits_stage(ctx, model, split)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return {
        "role": job.role,
        "seed": job.seed,
        "stage": model.key if model.method != "as saved" else None,
        "seconds": time.perf_counter() - started,
        "training_seconds": model.seconds,
        "updates": model.updates,
        "reused": model.reused,
        "peak_memory": peak if sys.platform == "darwin" else peak * 1024,
        "processes": ctx.accelerator.num_processes,
    }


def train_with_teachers(
    ctx: RunContext, name: str, seed: int, models: dict[str, TrainedModel]
) -> TrainedModel:
    """A role's model, and before it those that it learns from, which the store has."""
    from harness_plugin.pipeline.roles.train_role import train_role

    role = ctx.plan.roles[name]
    for teacher in role.learns_from:
        if teacher not in models:
            models[teacher] = train_with_teachers(ctx, teacher, seed, models)
    return train_role(ctx, role, seed, models)


@dataclass(frozen=True)
class SharedTask:
    """State that trainings of one configuration share in a process: data, settings, hardware."""

    opened: OpenTask
    config: RunConfig
    hardware: HardwareSettings
    accelerator: Accelerator
    store: Store
    plugins: Plugins


def context_for(shared: SharedTask, role: str | None = None) -> RunContext:
    """The context of a configuration, or of one role and those that it learns from; checked."""
    from harness_plugin.pipeline.roles.checks import check_plan
    from harness_plugin.pipeline.roles.context import RunContext
    from harness_plugin.pipeline.run_task import plan_of

    ctx = RunContext(
        shared.opened.task,
        shared.opened.settings,
        shared.opened.data,
        shared.config,
        plan_of(shared.opened, shared.config, shared.plugins, role),
        shared.hardware,
        shared.accelerator,
        shared.store,
        shared.plugins,
    )
    check_plan(ctx)
    return ctx


_SHARED: dict[str, SharedTask] = {}
_DATA: dict[str, TaskData] = {}
KEPT = 8
"""Configurations, and sets of data, that a process keeps open."""


def shared_of(run: Mapping[str, Any], root: str) -> SharedTask:
    """The state that the trainings of a configuration share, whatever its seeds.

    Data that another one has loaded are not loaded again. Precision and threads are the process's:
    a configuration that was opened before another one that chose differently gets its own back.
    """
    from harness_plugin.config.merge import task_settings
    from harness_plugin.config.run_config import RunConfig
    from harness_plugin.data.task import find_task
    from harness_plugin.pipeline.prepare.hardware import accelerator_again, machine_of, processes_of
    from harness_plugin.pipeline.prepare.open_task import OpenTask, load_for
    from harness_plugin.plugins.registry import load_plugins
    from harness_plugin.store.stages import Store

    key = json.dumps([{**run, "seeds": ()}, root], sort_keys=True, default=str)
    if key not in _SHARED:
        plugins = load_plugins()
        config = RunConfig.model_validate({**run, "use_cache": root})
        (name,) = config.tasks
        task = find_task(name, plugins["task"], config.include_path)
        settings = task_settings(task, config.source_of(task), [name, task.task], config.settings)
        which: list[Any] = [name, config.data, config.data_seed, config.limit, config.include_path]
        of_settings = {"options", "validation_fraction", "validation_pool"}
        which.append(settings.model_dump(mode="json", include=of_settings))
        of_data = json.dumps(which, default=str)
        if of_data not in _DATA:
            keep_few(_DATA)
            _DATA[of_data] = load_for(task, settings, config)
        opened = OpenTask(task, settings, _DATA[of_data])
        hardware, accelerator = machine_of(config, opened, plugins, Path(root))
        shared = SharedTask(
            opened,
            config,
            hardware,
            accelerator,
            Store(Path(root), processes_of(accelerator)),
            plugins,
        )
        keep_few(_SHARED)
    else:
        in_use = next(reversed(_SHARED.values()))
        shared = _SHARED.pop(key)
        if shared.hardware != in_use.hardware:
            accelerator = accelerator_again(shared.config, shared.hardware)
            store = Store(Path(root), processes_of(accelerator))
            shared = replace(shared, accelerator=accelerator, store=store)
    _SHARED[key] = shared  # the last one is the one in use
    return shared


def keep_few(kept: dict[str, Any]) -> None:
    """Forget the oldest."""
    while len(kept) >= KEPT:
        del kept[next(iter(kept))]


def launched(job: Job) -> dict[str, Any]:
    """Train in as many processes as the job wants, through Accelerate."""
    import torch

    from harness_plugin.machine import launching

    on_cpu = job.run.get("device") == "cpu" or not torch.cuda.is_available()
    with tempfile.TemporaryDirectory() as place:
        job_file, record_file = Path(place, "job.json"), Path(place, "record.json")
        job_file.write_text(json.dumps(vars(job), default=str), encoding="utf-8")
        program = ["-m", "harness_plugin.study.worker", str(job_file), str(record_file)]
        command, environment = launching.command_of(program, job.processes, on_cpu=on_cpu)
        catch = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
        status, output = launching.launched(command, environment, **catch)
        if status or not record_file.is_file():
            tail = output.strip()[-4000:]
            raise RuntimeError(f"{job.processes} processes ended with {status}:\n{tail}")
        record: dict[str, Any] = json.loads(record_file.read_text(encoding="utf-8"))
    if record["processes"] != job.processes:
        raise HarnessError(f"{job.processes} processes were asked for, {record['processes']} came.")
    return record


def main(job_file: str, record_file: str) -> None:
    """One of several processes: the main one writes the record."""
    end_with_launcher()
    job = Job(**json.loads(Path(job_file).read_text(encoding="utf-8")))
    record = trained(job)
    accelerator = shared_of(job.run, job.root).accelerator
    accelerator.wait_for_everyone()
    if accelerator.is_main_process:
        Path(record_file).write_text(json.dumps(record), encoding="utf-8")
    accelerator.end_training()


if __name__ == "__main__":
    main(*sys.argv[1:])
