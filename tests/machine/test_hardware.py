"""What a run runs on: counted, measured once, and said."""

import json

import psutil
import pytest
import torch

from harness_plugin import HarnessError
from harness_plugin.cli.launch import device_of
from harness_plugin.config.merge import run_config
from harness_plugin.machine import hardware
from harness_plugin_hooks import console


def config(**flags):
    return run_config(None, {"tasks": ("toy",), **flags}, [])


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
        ("/bin/bash -c harness --tasks x", None),
        ("python -m torch.distributed.run --nproc_per_node 2 -m harness_plugin", None),
    ],
)
def test_what_the_launcher_was_asked_for_is_known(monkeypatch, command, requested):
    monkeypatch.delenv(hardware.REQUESTED, raising=False)
    monkeypatch.setattr(psutil, "Process", lambda: Parent(command))
    assert hardware.requested_processes() == requested


def test_fewer_processes_than_asked_for_are_refused(monkeypatch):
    monkeypatch.setenv(hardware.REQUESTED, "2")
    monkeypatch.setenv("WORLD_SIZE", "2")
    hardware.check_processes(2)
    monkeypatch.delenv("WORLD_SIZE")
    with pytest.raises(HarnessError, match="2 processes were requested, 1 started"):
        hardware.check_processes(1)


def test_processes_that_do_not_see_each_other_are_refused(monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(HarnessError, match="2 processes were started but each sees 1"):
        hardware.check_processes(1)


def test_a_measurement_is_made_once_and_kept(tmp_path, monkeypatch):
    made = []

    def measure(modality, cores):
        made.append((modality, cores))
        return {"threads": 1, "precision": "no", "attention": "sdpa"}

    monkeypatch.setattr(hardware, "measure_cpu", measure)
    for _ in range(2):
        choice = hardware.choose(config(device="cpu"), "text", tmp_path, 1)
        assert (choice.threads, choice.precision, choice.device) == (1, "no", "cpu")
    hardware.choose(config(device="cpu"), "image", tmp_path, 1)
    assert [modality for modality, _ in made] == ["text", "image"]
    assert len(list((tmp_path / "machine").glob("*.json"))) == 2


def test_what_is_asked_for_wins_over_what_was_measured(tmp_path, monkeypatch):
    profile = {"threads": 1, "precision": "bf16", "attention": "eager"}
    monkeypatch.setattr(hardware, "measure_cpu", lambda modality, cores: profile)
    choice = hardware.choose(config(device="cpu", precision="no"), "text", tmp_path, 1)
    assert (choice.precision, choice.attention) == ("no", "eager")
    assert "precision no" in str(choice)


def test_a_measured_profile_is_one_of_the_candidates(monkeypatch):
    monkeypatch.setattr(hardware, "fastest", lambda step: 1.0 if step() is None else 2.0)
    before = torch.get_num_threads()
    profile = hardware.measure_cpu("image", 1)
    torch.set_num_threads(before)
    assert (profile["threads"], profile["precision"], profile["attention"]) == (1, "no", "sdpa")
    assert json.dumps(profile)


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ({"device": "cuda:0"}, "use cpu, cuda, mps or xpu"),
        ({"device": "mps"}, "'mps' was asked for and is not available"),
    ],
)
def test_a_device_that_is_not_there_is_refused(monkeypatch, flags, message):
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    with pytest.raises(HarnessError, match=message):
        hardware.use_cpu(config(**flags))


def test_half_precision_on_a_cpu_is_refused():
    with pytest.raises(HarnessError, match="fp16 is not computed on a CPU"):
        hardware.make_accelerator(config(device="cpu"), "fp16")


def test_the_device_is_found_among_the_arguments_of_a_launch():
    assert device_of(["--tasks", "x", "--device", "cpu"]) == "cpu"
    assert device_of(["--device=cuda"]) == "cuda"
    assert device_of(["--tasks", "x"]) == ""


def test_only_the_main_process_speaks(monkeypatch, capsys):
    console.say("once")
    monkeypatch.setenv("RANK", "1")
    console.say("twice")
    assert capsys.readouterr().out == "once\n"
