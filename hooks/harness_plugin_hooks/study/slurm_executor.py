"""Trainings as jobs of Slurm, through submitit: a job a training, on nodes that see the store.

Jobs share nothing but the store: one that is killed, or a node that is lost, costs the training it
was at, which comes back as an error and is tried again as the plan says.
"""

from __future__ import annotations

import math
import time
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from harness_plugin._version import install_command
from harness_plugin.errors import HarnessError
from harness_plugin.study.executors import WORK, Outcome, called, failed
from harness_plugin.study.plan import Resources
from harness_plugin.study.worker import Job

POLL = 2.0
"""Seconds between two looks at the jobs that run."""
TOGETHER = 100
"""Jobs that are handed in at a time, where nobody says how many; Slurm keeps those that wait."""


def outcome_of(ticket: int, work: str, job: Job) -> Outcome:
    """Call `work` on a node; what it raises comes back as it is, not as submitit's own error."""
    try:
        return Outcome(ticket, called(work, job))
    except Exception as error:  # whatever a training raises: the rest of the study goes on
        return failed(ticket, error)


@dataclass
class SlurmExecutor:
    """As many jobs at a time as `slots`. `executor` is submitit's."""

    executor: Any
    slots: int
    work: str = WORK
    _running: dict[int, Any] = field(default_factory=dict)

    @classmethod
    def open(
        cls,
        folder: Path,
        workers: int | None,
        options: dict[str, Any],
        *,
        cluster: str = "slurm",
        work: str = WORK,
    ) -> SlurmExecutor:
        """`options` are submitit's (timeout_min, slurm_partition, …); its logs go to `folder`.

        `cluster`: "slurm", or "local" for processes of this machine in the same way. Raises
        HarnessError where submitit or Slurm is missing, and for an option that it does not know.
        """
        try:
            import submitit
        except ImportError:
            command = install_command("slurm")
            raise HarnessError(f"--executor slurm needs submitit: {command}.") from None
        try:
            executor = submitit.AutoExecutor(folder=folder, cluster=cluster)
            executor.update_parameters(**options)
        except (RuntimeError, NameError, ValueError, TypeError) as error:
            reason = " ".join(str(error).split())
            raise HarnessError(f"--executor slurm: {reason[:300]}") from None
        return cls(executor, workers or TOGETHER, work)

    def submit(self, ticket: int, job: Job, resources: Resources) -> None:
        """Hand in a job that asks for what the plan says."""
        asked: dict[str, Any] = {"name": f"{job.role}-seed{job.seed}"}
        # Slurm counts whole ones: a share of a GPU is a GPU
        asked |= {
            "cpus_per_task": math.ceil(resources.cpus),
            "gpus_per_node": math.ceil(resources.gpus),
        }
        if resources.memory_bytes:
            asked["mem_gb"] = resources.memory_bytes / 2**30
        self.executor.update_parameters(**asked)
        self._running[ticket] = self.executor.submit(outcome_of, ticket, self.work, job)

    def wait(self) -> list[Outcome]:
        """Those that are done, at least one."""
        while not (done := [ticket for ticket, job in self._running.items() if job.done()]):
            time.sleep(POLL)
        return [self._outcome(ticket, self._running.pop(ticket)) for ticket in done]

    def _outcome(self, ticket: int, job: Any) -> Outcome:
        """What a job gave; of one that died (killed, out of memory or time), where its log is."""
        try:
            outcome: Outcome = job.result()
        except Exception as error:  # submitit has several for it
            outcome = failed(ticket, error)
            return replace(outcome, trace=f"{outcome.trace}\nlog: {job.paths.stderr}")
        return outcome

    def close(self) -> None:
        """Cancel what runs or waits; what it was at continues from its last checkpoint."""
        for job in self._running.values():
            job.cancel(check=False)
        self._running.clear()
