"""What a launcher was asked for is done or refused, however it was asked."""

import os
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from harness_plugin import HarnessError
from harness_plugin.machine import launcher

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(autouse=True)
def no_configuration_of_this_machine(monkeypatch, tmp_path):
    """`accelerate config` may have been run here."""
    from accelerate.commands.config import config_args

    monkeypatch.setattr(config_args, "default_config_file", str(tmp_path / "default_config.yaml"))
    monkeypatch.delenv(launcher.REQUESTED, raising=False)


class Parent:
    def __init__(self, command):
        self.command = command

    def parent(self):
        return self

    def cmdline(self):
        return self.command.split()


@pytest.mark.parametrize(
    ("command", "requested"),
    [
        ("python /bin/accelerate launch --cpu --num_processes 2 -m harness_plugin --tasks x", 2),
        ("python /bin/accelerate launch --num-processes=3 harness --tasks x", 3),
        ("python /bin/accelerate launch harness --tasks x --set a.num_processes=4", None),
        ("python -m accelerate.commands.launch --num_processes 2 harness --tasks x", 2),
        ("/bin/accelerate-launch --num_processes 2 harness --tasks x", 2),
        ("/bin/bash -c harness --tasks x", None),
        ("python -m torch.distributed.run --nproc_per_node 2 -m harness_plugin", None),
    ],
)
def test_what_the_launcher_was_asked_for_is_known(monkeypatch, command, requested):
    monkeypatch.setattr(psutil, "Process", lambda: Parent(command))
    assert launcher.request_of_launcher().processes == requested


def test_fewer_processes_than_asked_for_are_refused(monkeypatch):
    monkeypatch.setenv(launcher.REQUESTED, "2")
    monkeypatch.setenv("WORLD_SIZE", "2")
    launcher.check_processes(2)
    monkeypatch.delenv("WORLD_SIZE")
    with pytest.raises(HarnessError, match="2 processes were requested, 1 started"):
        launcher.check_processes(1)


def test_processes_that_do_not_see_each_other_are_refused(monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(HarnessError, match="2 processes were started but each sees 1"):
        launcher.check_processes(1)


CONFIG = """\
compute_environment: LOCAL_MACHINE
debug: false
distributed_type: {kind}
machine_rank: 0
mixed_precision: 'no'
num_machines: 1
num_processes: {processes}
rdzv_backend: static
same_network: true
use_cpu: {cpu}
{more}
"""


def config_file(folder, kind="NO", processes=2, cpu="true", more=""):
    file = folder / "two.yaml"
    file.write_text(CONFIG.format(kind=kind, processes=processes, cpu=cpu, more=more))
    return file


@pytest.mark.parametrize("default", [False, True])
def test_a_configuration_file_is_read_as_the_command_line(monkeypatch, tmp_path, default):
    from accelerate.commands.config import config_args

    file = config_file(tmp_path)
    if default:
        monkeypatch.setattr(config_args, "default_config_file", str(file))
    option = "" if default else f"--config_file {file} "
    command = f"python /bin/accelerate launch {option}harness --tasks x"
    monkeypatch.setattr(psutil, "Process", lambda: Parent(command))
    with pytest.raises(HarnessError, match=f"2 processes .* by the configuration file {file}, 1 s"):
        launcher.check_processes(1)
    command = command.replace("harness", "--num_processes 1 harness")
    monkeypatch.setattr(psutil, "Process", lambda: Parent(command))
    launcher.check_processes(1)  # the command line overrules the file


@pytest.mark.parametrize("kind", ["FSDP", "DEEPSPEED", "MEGATRON_LM"])
def test_a_model_that_is_to_be_cut_up_is_refused_by_name(monkeypatch, tmp_path, kind):
    file = config_file(tmp_path, kind)
    command = f"accelerate launch --config_file {file} harness --tasks x"
    monkeypatch.setattr(psutil, "Process", lambda: Parent(command))
    with pytest.raises(HarnessError, match=f"{file} asks for {kind}: models are not cut up here"):
        launcher.check_strategy()


@pytest.mark.parametrize("name", launcher.SHARDED)
def test_an_environment_that_asks_for_it_is_refused(monkeypatch, name):
    monkeypatch.setattr(psutil, "Process", lambda: Parent("bash"))
    launcher.check_strategy()
    monkeypatch.setenv(name, "true")
    with pytest.raises(HarnessError, match=f"the launcher asks for {launcher.SHARDED[name]}: "):
        launcher.check_strategy()
    monkeypatch.setenv(name, "false")
    launcher.check_strategy()


FSDP = "fsdp_config:\n  fsdp_version: 2\n  fsdp_state_dict_type: FULL_STATE_DICT"


@pytest.mark.exhaustive  # refusals are asked above, and of a real launcher by test_processes.py
@pytest.mark.parametrize(
    ("kind", "more", "message"),
    [
        ("NO", "", "2 processes were requested by the configuration file"),
        ("FSDP", FSDP, "asks for FSDP: models are not cut up here"),
    ],
)
def test_accelerate_launch_with_a_file(tmp_path, kind, more, message):
    """Its own command line: silently it starts one process of two, and leaves FSDP out."""
    file = config_file(tmp_path, kind, more=more)
    inherited = {k: v for k, v in os.environ.items() if not k.startswith(("ACCELERATE_", "RANK"))}
    launch = [sys.executable, "-m", "accelerate.commands.launch", "--config_file", str(file)]
    toy = ["--tasks", str(ROOT / "tests" / "toy" / "toy.yaml"), "--seeds", "0"]
    done = subprocess.run(
        [*launch, "-m", "harness_plugin", *toy, "--output_path", str(tmp_path / "out")],
        cwd=tmp_path,
        env={**inherited, "ACCELERATE_LOG_LEVEL": "ERROR"},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode != 0
    assert message in done.stderr, done.stderr
    assert not list(tmp_path.glob("out/transfer*"))
