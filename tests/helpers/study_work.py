"""Trainings of studies that are none, or that are killed: what executors are tested with."""

import os
import signal
import threading
import time
from pathlib import Path
from unittest.mock import patch

from harness_plugin.study import worker


def counted(job):
    """Write down that it was done, through the door of the real worker."""
    with patch.object(worker, "trained", _counted):
        return worker.execute(job)


def _counted(job):
    time.sleep(0.05)
    with open(Path(job.root, "calls.txt"), "a", encoding="utf-8") as stream:
        stream.write(job.name + "\n")
    return {"stage": None, "seconds": 0.05, "reused": False, "role": job.role, "seed": job.seed}


def fails_once(job):
    """Students fail the first time."""
    if job.role.startswith("student") and first(job):
        raise RuntimeError("no luck")
    return _counted(job)


def always_fails(job):
    """The teacher cannot be trained."""
    if job.role == "teacher":
        raise RuntimeError("no luck at all")
    return _counted(job)


def dies_once(job):
    """The process of the first student is killed."""
    if job.role.startswith("student") and first(job):
        os.kill(os.getpid(), signal.SIGKILL)
    return _counted(job)


def teacher_dies(job):
    """The teacher's process is always killed, while the control's is at worker."""
    if job.role == "teacher":
        os.kill(os.getpid(), signal.SIGKILL)
    time.sleep(1 if job.role == "control" else 0)
    return _counted(job)


def killed_in_training(job):
    """A real training; the first student's process is killed while it is at it."""
    if job.role.startswith("student") and first(job):
        before = set(Path(job.root).glob("model-*.partial"))

        def kill():
            while not set(Path(job.root).glob("model-*.partial")) - before:
                time.sleep(0.002)
            Path(job.root, "killed").touch()
            os.kill(os.getpid(), signal.SIGKILL)

        threading.Thread(target=kill, daemon=True).start()
    return worker.execute(job)


def first(job):
    """Whether this is asked for the first time in a store."""
    try:
        Path(job.root, "first").touch(exist_ok=False)
    except FileExistsError:
        return False
    return True


def report_identity(job):
    """Writes its process down and then stays."""
    Path(job.root, "worker").write_text(str(os.getpid()), encoding="utf-8")
    time.sleep(60)
