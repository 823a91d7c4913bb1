"""What a run runs on: counted, measured once, and said."""

import json

import pytest
import torch

from harness_plugin import HarnessError
from harness_plugin.cli.launch import device_of
from harness_plugin.config.merge import run_config
from harness_plugin.pipeline.prepare import hardware
from harness_plugin_hooks import console

measure_cpu = hardware.measure_cpu  # tests replace it, see tests/conftest.py


def config(**flags):
    return run_config(None, {"tasks": ("toy",), **flags}, [])


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


@pytest.mark.parametrize(
    ("modality", "second"), [("text", ("bf16", "eager")), ("image", ("bf16", "sdpa"))]
)
def test_the_quickest_candidate_is_chosen_and_each_is_run(monkeypatch, modality, second):
    seconds = iter([2.0, 1.0])
    monkeypatch.setattr(hardware, "fastest", lambda step: (step(), next(seconds))[1])
    before = torch.get_num_threads()
    profile = measure_cpu(modality, 1)
    torch.set_num_threads(before)
    assert (profile["threads"], profile["precision"], profile["attention"]) == (1, *second)
    assert profile["milliseconds"] == {"1 no sdpa": 2000, f"1 {' '.join(second)}": 1000}
    assert json.dumps(profile)


def test_the_fastest_repetition_counts_after_a_warm_up(monkeypatch):
    clock = iter([0.0, 3.0, 10.0, 11.0, 20.0, 22.0])
    monkeypatch.setattr(hardware.time, "perf_counter", lambda: next(clock))
    steps = []
    assert hardware.fastest(lambda: steps.append("step"), repeats=3) == 1.0
    assert len(steps) == 4


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
