"""Trainings as Ray tasks: on this machine, or on a cluster whose nodes see the same store.

Ray places each task by the CPUs, GPUs and memory that the plan asks for. Tasks share nothing but
the store: a worker that is killed or a node that is lost costs the trainings it was at, which come
back as errors and are tried again as the plan says.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from harness_plugin._version import install_command
from harness_plugin.errors import HarnessError
from harness_plugin.study.executors import WORK, Outcome, called, failed
from harness_plugin.study.plan import Resources
from harness_plugin.study.worker import Job


@dataclass
class RayExecutor:
    """As many tasks at a time as `slots`; Ray keeps those waiting that do not fit."""

    slots: int
    ours: bool
    """Whether this process started Ray, and ends it."""
    work: str = WORK
    _running: dict[Any, int] = field(default_factory=dict)

    @classmethod
    def open(
        cls, address: str | None, workers: int | None, resources: Resources, work: str = WORK
    ) -> RayExecutor:
        """Connect to the cluster at `address`, or start Ray on this machine.

        Without `workers`, as many tasks run at a time as the plan's `resources` fit into what
        the cluster has. Raises HarnessError where Ray is missing, or has no room for one task.
        """
        try:
            import ray
        except ImportError:
            command = install_command("ray")
            raise HarnessError(f"--executor ray needs Ray: {command}.") from None
        ours = not ray.is_initialized()
        if ours:
            try:
                here = {} if address else {"include_dashboard": False}
                ray.init(address=address, log_to_driver=False, logging_level="warning", **here)
            except (ConnectionError, ValueError) as error:
                raise HarnessError(f"--address {address}: no Ray there: {error}") from None
        room: Mapping[str, float] = ray.cluster_resources()
        fits = [room.get("CPU", 0) / resources.cpus]
        fits += [room.get("GPU", 0) / resources.gpus] if resources.gpus else []
        fits += [room.get("memory", 0) / (resources.memory_bytes or 1)] if resources.memory else []
        if min(fits) < 1:
            raise HarnessError(
                f"no node of this Ray has room for one training: it has {dict(room)}, a training "
                f"asks for {resources.model_dump(exclude_none=True)}."
            )
        return cls(workers or int(min(fits)), ours, work)

    def submit(self, ticket: int, job: Job, resources: Resources) -> None:
        """Begin a task. Ray itself does not try again: the study does, and counts."""
        import ray

        task = ray.remote(called).options(
            num_cpus=resources.cpus,
            num_gpus=resources.gpus,
            memory=resources.memory_bytes,
            max_retries=0,
            name=f"{job.role} seed {job.seed}",
        )
        self._running[task.remote(self.work, job)] = ticket

    def wait(self) -> list[Outcome]:
        """Those that are done, at least one."""
        import ray

        ready, _ = ray.wait(list(self._running), num_returns=1)
        return [self._outcome(self._running.pop(reference), reference) for reference in ready]

    def _outcome(self, ticket: int, reference: Any) -> Outcome:
        """The record of a task, or its error."""
        import ray

        try:
            return Outcome(ticket, ray.get(reference))
        except ray.exceptions.RayTaskError as error:
            # the cause comes without its traceback, which Ray keeps as (coloured) text
            cause = error.cause if isinstance(error.cause, Exception) else error
            return replace(failed(ticket, cause), trace=re.sub(r"\x1b\[\d*m", "", str(error)))
        except ray.exceptions.RayError as error:  # a worker, a node, its memory
            return failed(ticket, error)

    def close(self) -> None:
        """Cancel what runs; end Ray where it was started here."""
        import ray

        for reference in self._running:
            ray.cancel(reference, force=True)
        self._running.clear()
        if self.ours and sys.is_finalizing() is False:
            ray.shutdown()
