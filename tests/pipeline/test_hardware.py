"""What a run runs on: counted, measured once, and said."""

import json
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from transformers import AutoConfig, BertConfig, ResNetConfig, ViTConfig

from harness_plugin import HarnessError
from harness_plugin.cli.launch import device_of
from harness_plugin.config.merge import run_config
from harness_plugin.machine import load
from harness_plugin.models.checkpoints import Backbone
from harness_plugin.pipeline.prepare import calibration, hardware
from harness_plugin.pipeline.prepare.calibration import (
    Shape,
    measure_cpu,
    quickest,
    shape_of,
    step_of,
    typical_tokens,
)
from harness_plugin.pipeline.prepare.open_task import load_tasks
from harness_plugin_hooks import console

TOY = str(Path(__file__).parents[1] / "toy" / "toy.yaml")


def config(**flags):
    return run_config(None, {"tasks": ("toy",), **flags}, [])


def shape(**changes):
    sizes = {"num_hidden_layers": 2, "hidden_size": 32, "num_attention_heads": 2, **changes}
    return Shape.of("text", BertConfig(intermediate_size=64, **sizes), rows=4, length=8)


def chosen(root, model=None, **flags):
    threads = torch.get_num_threads()
    choice = hardware.choose(config(device="cpu", **flags), lambda: model or shape(), root, 1)
    torch.set_num_threads(threads)
    return choice


QUICK = {"1 no sdpa": 3.0, "1 no eager": 2.0, "2 bf16 eager": 1.0}


@pytest.fixture
def machine(monkeypatch):
    """A machine of two cores: what is measured there, how often, and the cores others leave."""
    state = SimpleNamespace(milliseconds=QUICK, left=2.0, measured=[])

    def measure(model, cores):
        state.measured.append(model.name)
        return {"milliseconds": state.milliseconds, "measured_rows": 4}

    monkeypatch.setattr(hardware, "available_cores", lambda: 2)
    monkeypatch.setattr(calibration, "measure_cpu", measure)
    monkeypatch.setattr(calibration.Neighbours, "left", lambda self: state.left)
    return state


def test_a_measurement_is_made_once_a_shape_and_kept(tmp_path, machine):
    for _ in range(2):
        choice = chosen(tmp_path)
        assert (choice.threads, choice.precision, choice.attention) == (2, "bf16", "eager")
    chosen(tmp_path, shape(hidden_size=64))
    assert machine.measured == [shape().name, shape(hidden_size=64).name]
    assert len(list((tmp_path / "machine").glob("*.json"))) == 2


def test_a_busy_machine_is_measured_again_when_it_is_quiet(tmp_path, machine, monkeypatch):
    monkeypatch.setattr(calibration.time, "sleep", lambda seconds: None)
    machine.left, machine.milliseconds = 1.0, {"1 no sdpa": 1.0, "2 bf16 eager": 9.0}
    first = chosen(tmp_path)
    assert (first.threads, first.precision) == (1, "no")
    assert "it was busy, and is measured again by a run that finds it quiet" in first.why
    machine.milliseconds = QUICK
    assert chosen(tmp_path) == first  # still busy: what was trained is found again
    assert len(machine.measured) == 1
    machine.left = 2.0
    assert chosen(tmp_path).precision == "bf16"
    machine.left = 1.0
    assert chosen(tmp_path).precision == "bf16"
    assert len(machine.measured) == 2


def test_a_worker_keeps_the_choice_of_its_run(tmp_path, machine, monkeypatch):
    monkeypatch.setattr(calibration.time, "sleep", lambda seconds: None)
    machine.left = 1.0
    chosen(tmp_path)
    machine.left = 2.0
    monkeypatch.setattr(calibration.multiprocessing, "parent_process", lambda: "the run")
    chosen(tmp_path)
    assert len(machine.measured) == 1


def test_a_model_that_cannot_be_measured_stops_no_run(tmp_path, machine, monkeypatch):
    def measure(model, cores):
        raise KeyError("token_type_ids")

    monkeypatch.setattr(calibration, "measure_cpu", measure)
    choice = chosen(tmp_path)
    assert (choice.threads, choice.precision, choice.attention) == (2, "no", "sdpa")
    assert choice.why == "not measured: KeyError: 'token_type_ids'"
    assert not (tmp_path / "machine").exists()


@pytest.mark.parametrize(
    ("asked", "setting"),
    [
        ({}, (2, "bf16", "eager")),
        ({"threads": 1}, (1, "no", "eager")),
        ({"precision": "no"}, (1, "no", "eager")),
        ({"attention": "sdpa"}, (1, "no", "sdpa")),
        ({"threads": 7, "precision": "no", "attention": "sdpa"}, (1, "no", "sdpa")),
    ],
)
def test_the_quickest_with_what_is_asked_for_is_chosen(asked, setting):
    assert quickest(QUICK, asked) == setting


def test_what_is_asked_for_wins_over_what_was_measured(tmp_path, machine):
    choice = chosen(tmp_path, precision="no", threads=7)
    assert (choice.threads, choice.precision, choice.attention) == (7, "no", "eager")
    assert "threads, precision as asked for; the rest measured" in str(choice)


def test_every_setting_is_run_and_the_slow_ones_leave(monkeypatch):
    turns = []

    def fastest(step):
        step()
        turns.append(torch.get_num_threads())
        return 1.0 if len(turns) % 2 else 2.0

    monkeypatch.setattr(calibration, "fastest", fastest)
    threads = torch.get_num_threads()
    resnet = ResNetConfig(
        embedding_size=4, hidden_sizes=[4, 8], depths=[2, 2], layer_type="basic", num_labels=2
    )
    measured = measure_cpu(Shape.of("image", resnet, rows=2, length=8), 1)
    torch.set_num_threads(threads)
    # the first turn finds the rows of a step; two settings then have two turns, one has the rest
    assert measured["milliseconds"] == {"1 no sdpa": 2000, "1 bf16 sdpa": 1000}
    assert measured["measured_rows"] == 2
    assert len(turns) == 1 + 2 + 2 + calibration.ROUNDS - 1
    assert json.dumps(measured)


@pytest.mark.parametrize("preset", ["bert-pico", "t5-pico-encdec", "vit-pico", "resnet-pico"])
def test_every_kind_of_model_can_be_measured(plugins, preset):
    backbone = plugins["backbone"].offer(preset).instance(Backbone)
    model = AutoConfig.for_model(backbone.model_type, **backbone.config)
    for attention in ("eager", "sdpa"):
        step_of(Shape.of(backbone.modality, model, 2, 16), 2, "bf16", attention)()


def test_a_shape_is_the_models_with_two_layers():
    small, large = shape(num_hidden_layers=6), shape(num_hidden_layers=12)
    assert small.name == large.name != shape(num_attention_heads=4).name
    assert (small.config.num_hidden_layers, small.config.hidden_size) == (2, 32)
    image = Shape.of("image", ViTConfig(image_size=384, patch_size=8), rows=4, length=32)
    assert (image.config.num_hidden_layers, image.config.image_size) == (2, 32)
    assert image.config.patch_size == 8


def test_the_shape_of_a_run_is_its_teachers(plugins):
    flags = {"teacher.config.num_attention_heads": 4, "teacher.batch_size": 5}
    run = run_config(None, {"tasks": (TOY,)}, [f"{key}={value}" for key, value in flags.items()])
    (opened,) = load_tasks(run, plugins)
    of_run = shape_of(opened, plugins)
    assert (of_run.rows, of_run.config.num_attention_heads) == (5, 4)
    rows = opened.data.evaluation[0].stored(opened.task.inputs, 0, 64).to_pylist()
    words = [sum(len(text.split()) for text in row.values()) for row in rows]
    mean = 1.3 * sum(words) / len(words) + 1 + len(opened.task.inputs)
    assert of_run.length / 2 < mean <= of_run.length
    assert typical_tokens(opened, 4) == 4


def test_neighbours_leave_what_was_idle_or_ours(monkeypatch):
    values = iter([(100.0, 50.0, 7.0), (110.0, 55.0, 17.0)])
    monkeypatch.setattr(load, "readings", lambda: next(values))
    assert load.Neighbours().left() == pytest.approx(1.5)


def test_readings_grow_with_what_is_computed():
    before = load.readings()
    sum(range(300_000))
    after = load.readings()
    assert after[1] >= before[1]
    assert (after[0] > before[0], after[2] > before[2]) == (True, True)


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
