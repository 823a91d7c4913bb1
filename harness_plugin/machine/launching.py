"""Start of a Python program in several processes, and their end with the parent's."""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import subprocess

REQUESTED = "HARNESS_NUM_PROCESSES"
BY_TORCHRUN = "TORCHELASTIC_RUN_ID"
PR_SET_PDEATHSIG = 1
"""prctl(2): the signal that the kernel sends to a process whose parent has died."""
PATIENCE = 10.0
"""Seconds that a launcher has to end its workers before it is killed."""
QUIET = "ACCELERATE_LOG_LEVEL"
"""Accelerate's launcher warns of every option that it was not given, all of which are right."""


def command_of(
    program: list[str], processes: int, *, on_cpu: bool
) -> tuple[list[str], dict[str, str]]:
    """Command and environment that start a Python program in N processes."""
    environment = {QUIET: "ERROR", **os.environ, REQUESTED: str(processes)}
    if processes == 1:
        return [sys.executable, *program], environment
    with_us = [sys.executable, "-m", __name__]
    if on_cpu:
        environment["ACCELERATE_USE_CPU"] = "true"
        torchrun = ["torch.distributed.run", "--standalone", "--nproc_per_node"]
        return [*with_us, *torchrun, str(processes), *program], environment
    accelerate = ["accelerate.commands.launch", "--multi_gpu", "--num_processes"]
    return [*with_us, *accelerate, str(processes), *program], environment


def end_with_parent(number: int) -> None:
    """Have this process sent a signal when its parent dies, however that dies (SIGKILL too)."""
    parent = os.getppid()
    if sys.platform == "linux":
        import ctypes

        ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, number)
    else:

        def watch() -> None:
            while os.getppid() == parent:
                time.sleep(1)
            os.kill(os.getpid(), number)

        threading.Thread(target=watch, daemon=True).start()
    if os.getppid() != parent:  # it died in between
        os.kill(os.getpid(), number)


def end_with_launcher() -> None:
    """A process that a launcher has started, ours or torchrun, does not outlive it."""
    if REQUESTED in os.environ or BY_TORCHRUN in os.environ:
        end_with_parent(signal.SIGKILL)


def launched(command: list[str], environment: dict[str, str], **how: Any) -> tuple[int, str]:
    """Run a command of `command_of` to its end: its exit status and output, if that is caught.

    Whatever ends this process ends it as well: an exception, Ctrl-C, SIGTERM; SIGKILL through
    `end_with_parent`. `how`: further arguments of `subprocess.Popen`.
    """
    import subprocess

    with (
        terminated_is_interrupted(),
        subprocess.Popen(command, env=environment, start_new_session=True, **how) as process,
    ):
        try:
            output, _ = process.communicate()
        except BaseException:
            end(process)
            raise
    return process.returncode, output or ""


@contextmanager
def terminated_is_interrupted() -> Iterator[None]:
    """Inside, SIGTERM and SIGHUP raise KeyboardInterrupt, so that child processes are ended."""

    def stop(number: int, frame: object) -> None:
        raise KeyboardInterrupt

    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.signal(number, stop) for number in (signal.SIGTERM, signal.SIGHUP)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def end(process: subprocess.Popen[Any]) -> None:
    """End a launcher and its workers: asked first, so that it can, then with its whole group."""
    from subprocess import TimeoutExpired

    process.terminate()
    try:
        process.wait(PATIENCE)
    except TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def main() -> None:
    """Be `python -m MODULE …` of a launcher that ends, and its workers with it, with its parent."""
    import runpy

    end_with_parent(signal.SIGTERM)
    module, *sys.argv[1:] = sys.argv[1:]
    runpy.run_module(module, run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    main()
