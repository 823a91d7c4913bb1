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
from harness_plugin.study.training_records import TrainingRecords

if TYPE_CHECKING:
    from harness_plugin.data.dataset import TaskData
    from harness_plugin.pipeline.roles import Workshop
    from harness_plugin.records import TrainedModel


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
        if found := ledger.record(job.name):  # whoever had it before us has finished it
            return found
        record = launched(job) if job.processes > 1 else trained(job)
        ledger.finished(job.name, record)
        return record
    finally:
        lease.release()


def trained(job: Job) -> dict[str, Any]:
    """Train and ask in this process."""
    from harness_plugin.cli.main import quiet_libraries
    from harness_plugin.pipeline.run import check_roles

    quiet_libraries()  # this may be a worker, whose bars would run through the study's lines
    shop = shop_of(job.run, job.root)
    started = time.perf_counter()  # imports and data are the process's cost, not this training's
    check_roles(shop, job.role)
    model = taught(shop, job.role, job.seed, {})
    for split in shop.data.evaluation:
        shop.logits(model, split)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return {
        "role": job.role,
        "seed": job.seed,
        "stage": model.settings.get("stage"),
        "seconds": time.perf_counter() - started,
        "training_seconds": model.seconds,
        "updates": model.updates,
        "reused": model.reused,
        "peak_memory": peak if sys.platform == "darwin" else peak * 1024,
        "processes": shop.accelerator.num_processes,
    }


def taught(shop: Workshop, name: str, seed: int, done: dict[str, TrainedModel]) -> TrainedModel:
    """A role's model, and before it those that it learns from, which the store has."""
    from harness_plugin.config.roles import plan_of_roles
    from harness_plugin.pipeline.run import model_of

    role = plan_of_roles(shop.settings)[name]
    for teacher in role.heard:
        if teacher not in done:
            done[teacher] = taught(shop, teacher, seed, done)
    return model_of(shop, role, seed, done)


_SHOPS: dict[str, Workshop] = {}
_DATA: dict[str, TaskData] = {}
KEPT = 8
"""Workshops, and sets of data, that a process keeps open."""


def shop_of(run: Mapping[str, Any], root: str) -> Workshop:
    """The workshop of a configuration, whatever its seeds.

    Data that another one has loaded are not loaded again. Precision and threads are the process's:
    a workshop that was opened before another one that chose differently gets its own back.
    """
    import torch

    from harness_plugin.config.settings import RunConfig, task_settings
    from harness_plugin.data.task import find_task
    from harness_plugin.pipeline.hardware import make_accelerator, processes_of
    from harness_plugin.pipeline.open_task import load_for
    from harness_plugin.pipeline.run import workshop_of
    from harness_plugin.plugins.registry import load_plugins
    from harness_plugin.store.stages import Store

    key = json.dumps([{**run, "seeds": ()}, root], sort_keys=True, default=str)
    if key not in _SHOPS:
        plugins = load_plugins()
        config = RunConfig.model_validate({**run, "use_cache": root})
        (name,) = config.tasks
        task = find_task(name, plugins["task"], config.include_path)
        settings = task_settings(task, config.source_of(task), [name, task.task], config.settings)
        which = [name, config.data, config.data_seed, config.limit, config.include_path]
        of_data = json.dumps([*which, settings.options, settings.validation_fraction], default=str)
        if of_data not in _DATA:
            keep_few(_DATA)
            _DATA[of_data] = load_for(task, settings, config)
        shop = workshop_of(task, settings, _DATA[of_data], config, plugins, Path(root))
        keep_few(_SHOPS)
    else:
        in_use = next(reversed(_SHOPS.values()))
        shop = _SHOPS.pop(key)
        if shop.choice != in_use.choice:
            torch.set_num_threads(shop.choice.threads)
            accelerator = make_accelerator(shop.config, shop.choice.precision)
            store = Store(Path(root), processes_of(accelerator))
            shop = replace(shop, accelerator=accelerator, store=store)
    _SHOPS[key] = shop  # the last one is the one in use
    return shop


def keep_few(kept: dict[str, Any]) -> None:
    """Forget the oldest."""
    while len(kept) >= KEPT:
        del kept[next(iter(kept))]


def launched(job: Job) -> dict[str, Any]:
    """Train in as many processes as the job wants, through Accelerate."""
    import torch

    from harness_plugin.cli.launch import command_of

    on_cpu = job.run.get("device") == "cpu" or not torch.cuda.is_available()
    with tempfile.TemporaryDirectory() as place:
        asked, told = Path(place, "job.json"), Path(place, "record.json")
        asked.write_text(json.dumps(vars(job), default=str), encoding="utf-8")
        program = ["-m", "harness_plugin.study.worker", str(asked), str(told)]
        command, environment = command_of(program, job.processes, on_cpu=on_cpu)
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
        if done.returncode or not told.is_file():
            said = (done.stderr or done.stdout).strip()[-4000:]
            raise RuntimeError(f"{job.processes} processes ended with {done.returncode}:\n{said}")
        record: dict[str, Any] = json.loads(told.read_text(encoding="utf-8"))
    if record["processes"] != job.processes:
        raise HarnessError(f"{job.processes} processes were asked for, {record['processes']} came.")
    return record


def main(asked: str, told: str) -> None:
    """One of several processes: the main one writes the record."""
    job = Job(**json.loads(Path(asked).read_text(encoding="utf-8")))
    record = trained(job)
    shop = shop_of(job.run, job.root)
    shop.accelerator.wait_for_everyone()
    if shop.accelerator.is_main_process:
        Path(told).write_text(json.dumps(record), encoding="utf-8")
    shop.accelerator.end_training()


if __name__ == "__main__":
    main(*sys.argv[1:])
