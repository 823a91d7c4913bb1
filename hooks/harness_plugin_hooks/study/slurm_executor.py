"""Trainings as jobs of Slurm, through submitit: a job a training, on nodes that see the store.

Jobs share nothing but the store: one that is killed, or a node that is lost, costs the training it
was at, which comes back as an error and is tried again as the plan says.
"""

from __future__ import annotations

import logging
import math
import subprocess
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
VISIBLE = 30.0
"""Seconds after a job left the queue in which its result may still appear in this node's store."""
TOGETHER = 100
"""Jobs that are handed in at a time, where nobody says how many; Slurm keeps those that wait."""


def outcome_of(ticket: int, work: str, job: Job) -> Outcome:
    """Call `work` on a node; what it raises comes back as it is, not as submitit's own error."""
    try:
        return Outcome(ticket, called(work, job))
    except Exception as error:  # whatever a training raises: the rest of the study goes on
        return failed(ticket, error)


def queued(job: str) -> bool:
    """Whether Slurm's queue has a job, or does not answer."""
    words = ["squeue", "--noheader", "--jobs", job]
    answer = subprocess.run(words, capture_output=True, text=True, check=False)
    if answer.returncode:
        return "Invalid job id" not in answer.stderr
    return bool(answer.stdout.strip())


@dataclass
class SlurmExecutor:
    """As many jobs at a time as `slots`. `executor` is submitit's."""

    executor: Any
    slots: int
    work: str = WORK
    _running: dict[int, Any] = field(default_factory=dict)
    _missed: dict[int, float] = field(default_factory=dict)
    """When a job was first neither in the queue nor done, by ticket."""

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
        # on a cluster without accounting submitit warns of it at every look
        logging.getLogger("submitit").setLevel(logging.ERROR)
        try:
            executor = submitit.AutoExecutor(folder=folder, cluster=cluster)
            executor.update_parameters(**options)
        except (RuntimeError, NameError, ValueError, TypeError) as error:
            reason = " ".join(str(error).split())
            raise HarnessError(f"--executor slurm: {reason[:300]}") from None
        return cls(executor, workers or TOGETHER, work)

    def submit(self, ticket: int, job: Job, resources: Resources) -> None:
        """Hand in a job that asks for what the plan says; HarnessError where Slurm refuses it."""
        parameters: dict[str, Any] = {"name": f"{job.role}-seed{job.seed}"}
        # Slurm counts whole ones: a share of a GPU is a GPU
        parameters |= {
            "cpus_per_task": math.ceil(resources.cpus),
            "gpus_per_node": math.ceil(resources.gpus),
        }
        if resources.memory_bytes:
            parameters["mem_gb"] = resources.memory_bytes / 2**30
        self.executor.update_parameters(**parameters)
        try:
            self._running[ticket] = self.executor.submit(outcome_of, ticket, self.work, job)
        except Exception as error:  # submitit's FailedJobError has what sbatch said
            reason = " ".join(str(error).split())
            raise HarnessError(f"--executor slurm: {reason[:300]}") from None

    def wait(self) -> list[Outcome]:
        """Those that are done, at least one."""
        while not (
            done := [ticket for ticket, job in self._running.items() if self._ended(ticket, job)]
        ):
            time.sleep(POLL)
        return [self._outcome(ticket, self._running.pop(ticket)) for ticket in done]

    def _ended(self, ticket: int, job: Any) -> bool:
        """Whether a job has a result, or can no longer get one.

        Without Slurm's accounting submitit does not learn that a job was killed: it waits for ever.
        """
        if job.done():
            return True
        if job.state != "UNKNOWN" or queued(job.job_id):
            self._missed.pop(ticket, None)
            return False
        return time.monotonic() - self._missed.setdefault(ticket, time.monotonic()) > VISIBLE

    def _outcome(self, ticket: int, job: Any) -> Outcome:
        """The record of a job, or its error; with the log of one that died (memory, time)."""
        try:
            if self._missed.pop(ticket, None) and not job.done():
                raise RuntimeError(f"job {job.job_id} left Slurm's queue without a result")
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
