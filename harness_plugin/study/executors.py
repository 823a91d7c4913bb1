"""Where trainings are executed: in this process, or in several on this machine.

An executor takes jobs and gives back outcomes, one for each, in any order. It knows nothing of
studies: `work` ("module:attribute") is called with each job. hooks/…/study/ray_executor.py is
another one.
"""

from __future__ import annotations

import importlib
import multiprocessing
import os
import signal
import threading
import traceback
from collections.abc import Mapping
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from multiprocessing.connection import wait as wait_for_any
from typing import Any, Protocol

from tqdm import tqdm

from harness_plugin.study.plan import Resources
from harness_plugin.study.worker import BusyError, Job

WORK = "harness_plugin.study.worker:execute"


@dataclass(frozen=True)
class Outcome:
    """The end of a job: a record, an error with its traceback, or another worker is at it."""

    ticket: int
    record: Mapping[str, Any] | None = None
    error: str = ""
    trace: str = ""
    busy: str = ""


class Executor(Protocol):
    """The place where a study's trainings run."""

    @property
    def slots(self) -> int:
        """How many jobs it takes at once."""

    def submit(self, ticket: int, job: Job, resources: Resources) -> None:
        """Begin a job."""

    def wait(self) -> list[Outcome]:
        """Outcomes of at least one job that was submitted."""

    def close(self) -> None:
        """Give everything back."""


def called(work: str, job: Job) -> Mapping[str, Any]:
    """Call `work`, in whatever process this is."""
    module, _, attribute = work.partition(":")
    result: Mapping[str, Any] = getattr(importlib.import_module(module), attribute)(job)
    return result


def failed(ticket: int, error: BaseException) -> Outcome:
    """The outcome of an exception."""
    if isinstance(error, BusyError):
        return Outcome(ticket, busy=str(error))
    trace = "".join(traceback.format_exception(error))
    return Outcome(ticket, error=f"{type(error).__name__}: {error}", trace=trace)


@dataclass
class InProcess:
    """One job at a time, here."""

    work: str = WORK
    slots: int = 1
    _done: list[Outcome] = field(default_factory=list)

    def submit(self, ticket: int, job: Job, resources: Resources) -> None:
        """Do it now. A Ctrl-C goes through."""
        try:
            self._done.append(Outcome(ticket, called(self.work, job)))
        except Exception as error:  # whatever a training raises: the rest of the study goes on
            self._done.append(failed(ticket, error))

    def wait(self) -> list[Outcome]:
        """Outcomes since the last call."""
        done, self._done = self._done, []
        return done

    def close(self) -> None:
        """Nothing is held."""


def leave_with_the_study(stop: Connection) -> None:
    """A worker ends with the study, without a word, however that ends: Ctrl-C, a signal, a crash.

    It ends as well when the other end of `stop` is closed.

    Its training continues from the last checkpoint. Its bars are silent: without a lock of their
    own between processes a worker that is ended leaves no semaphore behind.
    """
    tqdm.set_lock(threading.RLock())
    signal.signal(signal.SIGINT, lambda *_: os._exit(130))
    study = multiprocessing.parent_process()

    def watch() -> None:
        wait_for_any([stop] if study is None else [stop, study.sentinel])
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


class Worker:
    """A pool of one process."""

    def __init__(self) -> None:
        # spawned, not forked: torch's threads do not survive a fork
        context = multiprocessing.get_context("spawn")
        theirs, self._ours = context.Pipe(duplex=False)
        self.pool = ProcessPoolExecutor(
            1, mp_context=context, initializer=leave_with_the_study, initargs=(theirs,)
        )

    def end(self) -> None:
        """End the process, whatever it is at."""
        self._ours.close()
        self.pool.shutdown(wait=True, cancel_futures=True)


@dataclass
class Workers:
    """Several processes on this machine; one that dies costs its own job and is replaced.

    Each is a pool of its own, because a pool that loses a process gives up all its jobs.
    """

    slots: int
    work: str = WORK
    _idle: list[Worker] = field(default_factory=list)
    _running: dict[Future[Mapping[str, Any]], tuple[int, Worker]] = field(default_factory=dict)

    def submit(self, ticket: int, job: Job, resources: Resources) -> None:
        """Hand it to a free process, or a new one."""
        while True:
            worker = self._idle.pop() if self._idle else Worker()
            try:
                self._running[worker.pool.submit(called, self.work, job)] = ticket, worker
            except BrokenProcessPool:  # it died while it had nothing to do
                worker.end()
            else:
                return

    def wait(self) -> list[Outcome]:
        """Those that are done."""
        ready, _ = wait(self._running, return_when=FIRST_COMPLETED)
        out = []
        for future in ready:
            (ticket, worker), error = self._running.pop(future), future.exception()
            if isinstance(error, BrokenProcessPool):
                worker.end()
                out.append(Outcome(ticket, error="the worker process died"))
                continue
            self._idle.append(worker)
            out.append(failed(ticket, error) if error else Outcome(ticket, future.result()))
        return out

    def close(self) -> None:
        """End the processes; what they were at continues from its last checkpoint."""
        for worker in [*self._idle, *(worker for _, worker in self._running.values())]:
            worker.end()
        self._idle.clear()
        self._running.clear()
