"""Workers end with who launched them, however that ends."""

import os
import signal
import subprocess
import sys
import time

import psutil
import pytest

from harness_plugin.machine import launching

# what torchrun does, without torch: two workers in sessions of their own, ended on SIGTERM
LAUNCHER = """
import signal, subprocess, sys
workers = [subprocess.Popen([sys.executable, "worker.py"], start_new_session=True) for _ in "12"]
def stop(*_):
    [worker.kill() for worker in workers]
    sys.exit(1)
signal.signal(signal.SIGTERM, stop)
sys.exit(max(worker.wait() for worker in workers))
"""
WORKER = """
import os, time
from pathlib import Path
from harness_plugin.machine.launching import end_with_launcher
end_with_launcher()
Path(f"{os.getpid()}.pid").touch()
for _ in range(600):
    if Path("done").exists():
        raise SystemExit(7)
    time.sleep(0.1)
"""
OURS = """
import os, signal, sys
from harness_plugin.machine import launching
signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background jobs ignore it
program = [sys.executable, "-m", launching.__name__, "launcher"]
try:
    status, _ = launching.launched(program, {**os.environ, launching.REQUESTED: "2"})
except KeyboardInterrupt:
    status = 130
sys.exit(status)
"""


@pytest.fixture
def running(tmp_path):
    """A launcher with two workers; its process, and the others that must not outlive it."""
    (tmp_path / "launcher.py").write_text(LAUNCHER)
    (tmp_path / "worker.py").write_text(WORKER)
    path = os.pathsep.join([str(tmp_path), *filter(None, sys.path)])
    process = subprocess.Popen(
        [sys.executable, "-c", OURS], cwd=tmp_path, env={**os.environ, "PYTHONPATH": path}
    )
    deadline = time.monotonic() + 60
    while len(list(tmp_path.glob("*.pid"))) < 2:
        assert time.monotonic() < deadline
        assert process.poll() is None
        time.sleep(0.02)
    family = psutil.Process(process.pid).children(recursive=True)
    assert len(family) == 3
    yield process, family
    for each in family:
        if each.is_running():
            each.kill()
    process.kill()
    process.wait()


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_the_death_of_the_launcher_ends_its_workers(running, number):
    process, family = running
    process.send_signal(number)
    assert process.wait(20) == (-number if number == signal.SIGKILL else 130)
    _, alive = psutil.wait_procs(family, timeout=20)
    assert not [each for each in alive if each.status() != psutil.STATUS_ZOMBIE]


def test_the_death_of_torchrun_alone_ends_its_workers(running):
    process, family = running
    family[0].kill()
    assert process.wait(20) != 0
    _, alive = psutil.wait_procs(family, timeout=20)
    assert not [each for each in alive if each.status() != psutil.STATUS_ZOMBIE]


def test_the_status_of_the_workers_is_the_launchers(running, tmp_path):
    process, _ = running
    (tmp_path / "done").touch()
    assert process.wait(20) == 7


def test_a_process_that_no_launcher_started_is_left_alone(monkeypatch):
    monkeypatch.delenv(launching.REQUESTED, raising=False)
    monkeypatch.delenv(launching.BY_TORCHRUN, raising=False)
    monkeypatch.setattr(launching, "end_with_parent", lambda number: pytest.fail("asked for"))
    launching.end_with_launcher()
