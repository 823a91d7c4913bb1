"""Several processes, every launcher, and a run that is killed: the numbers stay the same."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from harness_plugin.cli import main as cli
from harness_plugin.plugins.registry import load_plugins

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]
TOY = str(ROOT / "tests" / "toy" / "toy.yaml")
BIN = Path(sys.executable).parent
METHODS = sorted(load_plugins()["method"].offers)
SAME = ["--data", "embedded", "--threads", "1", "--precision", "no", "--attention", "sdpa"]
SAME += ["--resamples", "100", "--device", "cpu"]
ROLES = ("teacher", "student", "control")
LIMIT = 180.0


def start(command, cwd=ROOT, **environment):
    """A command with our executables on the path, in a process group of its own."""
    launchers = ("ACCELERATE_", "RANK", "WORLD_SIZE", "LOCAL_RANK", "MASTER_")
    inherited = {k: v for k, v in os.environ.items() if not k.startswith(launchers)}
    environment = {
        **inherited,
        "PATH": f"{BIN}{os.pathsep}{os.environ['PATH']}",
        "OMP_NUM_THREADS": "1",
        **environment,
    }
    return subprocess.Popen(
        [str(part) for part in command],
        cwd=cwd,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )


def finish(process):
    """Status and output; nothing outlives the time limit."""
    try:
        output, _ = process.communicate(timeout=LIMIT)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        output, _ = process.communicate()
        pytest.fail(f"no end after {LIMIT} s:\n{output}")
    return process.returncode, output


@pytest.fixture(scope="module")
def evaluation(toy_run, tmp_path_factory):
    """Arguments that score the toy run's checkpoints on an odd number of rows."""
    folder = tmp_path_factory.mktemp("evaluation")

    def arguments(name):
        out = folder / name
        models = [f"--{role}={toy_run.checkpoint(role)}" for role in ROLES]
        where = ["--output_path", out, "--use_cache", folder / f"{name}-store"]
        asked = ["--tasks", TOY, "--eval_only", "--limit", "37", "--batch_size", "5"]
        return [*asked, "--log_samples", *SAME, *models, *where], out

    return arguments


def transfer(folder):
    (file,) = folder.glob("transfer_*.json")
    return json.loads(file.read_text())


def numbers(folder):
    return {
        (s["role"], s["split"], name): number["value"]
        for s in transfer(folder)["scores"]
        for name, number in {**s["metrics"], **s["groups"]}.items()
    }


def samples(folder):
    return {
        (file.parent.name, file.name.split("_2")[0]): [
            json.loads(line)["doc"]["id"] for line in file.read_text().splitlines()
        ]
        for file in folder.glob("models/*/samples_*.jsonl")
    }


def task_hashes(folder):
    return {
        file.parent.name: json.loads(file.read_text())["task_hashes"]
        for file in folder.glob("models/*/results_*.json")
    }


LAUNCHERS = {
    "torchrun": ["torchrun", "--standalone", "--nproc_per_node", "2"],
    "launch": ["harness", "launch", "--num_processes", "2"],
    "accelerate": ["accelerate", "launch", "--multi_gpu", "--num_processes", "2"],
}
MODULE = ["-m", "harness_plugin"]


@pytest.fixture(scope="module")
def one(evaluation):
    """The folder of what one process writes."""
    arguments, folder = evaluation("one")
    assert cli.main([str(part) for part in arguments]) == 0
    return folder


@pytest.mark.parametrize(
    "launcher",
    # what accelerate starts two processes with is torchrun; on its own it trains them below
    [pytest.param("torchrun", marks=pytest.mark.exhaustive), "launch", "accelerate"],
)
def test_two_processes_give_the_numbers_of_one(evaluation, one, launcher):
    if launcher != "launch" and torch.cuda.is_available():
        pytest.skip("needs a GPU for each process where there are GPUs")
    arguments, two = evaluation(launcher)
    program = [] if launcher == "launch" else MODULE
    status, output = finish(start([*LAUNCHERS[launcher], *program, *arguments]))
    assert status == 0, output
    assert numbers(two) == pytest.approx(numbers(one), abs=1e-6)
    assert samples(two) == samples(one)
    assert task_hashes(two) == task_hashes(one)
    assert {len(ids) for ids in samples(two).values()} == {37}
    assert len(samples(two)) == 6
    choices = transfer(two)["environment"]["choices"]["text"]
    assert choices["processes"] == 2
    assert output.count("2 process(es) on cpu") == 1  # said once, by the main process


def test_fewer_processes_than_asked_for_are_refused(evaluation):
    arguments, out = evaluation("fewer")
    launcher = ["accelerate", "launch", "--cpu", "--num_processes", "2", *MODULE]
    status, output = finish(start([*launcher, *arguments]))
    assert status != 0
    assert "2 processes were requested, 1 started" in output
    assert "harness launch --num_processes 2" in output
    assert not out.exists()


def test_accelerate_launch_runs_the_main_command(tmp_path):
    sets = ["teacher.epochs=0.1", "student.epochs=0.1", "references=false"]
    command = ["accelerate", "launch", "harness", "--tasks", TOY, "--seeds", "0", "--limit", "40"]
    command += [*SAME, *(part for assignment in sets for part in ("--set", assignment))]
    command += ["--output_path", tmp_path / "out", "--use_cache", tmp_path / "store"]
    status, output = finish(start(command))
    assert status == 0, output
    assert {m["role"] for m in transfer(tmp_path / "out")["models"]} == set(ROLES)


@pytest.mark.parametrize("program", ["-m harness_plugin", "--no_python harness"])
def test_accelerate_launch_finds_the_command_from_any_folder(tmp_path, program):
    """That a run works under it is asked above; here, that it starts: nothing is trained."""
    command = ["accelerate", "launch", *program.split(), "validate", TOY]
    status, output = finish(start(command, cwd=tmp_path))
    assert status == 0, output
    assert "toy: valid" in output


HELPERS = str(ROOT / "tests" / "helpers")
TRAIN = (
    f"import sys; sys.path.insert(0, {HELPERS!r})"
    + """
import gc
import json
from pathlib import Path
from harness_plugin.config.merge import run_config
from harness_plugin.config.settings import StudentSettings
from stepwise import stepwise, Distillation
from harness_plugin.plugins.registry import load_plugins
from harness_plugin.pipeline.run_task import context_of
from harness_plugin.pipeline.prepare.open_task import load_tasks

gc.freeze()  # every training collects garbage, and need not look through what is imported
DISTILLERS = ("minilm", "kd", "group_dro_kd", "hints", "crd", "simkd")

def train(toy, store, methods):
    flags = {"tasks": (toy,), "threads": 1, "precision": "no", "attention": "sdpa"}
    sets = ["teacher.epochs=0.35", "teacher.batch_size=15", "teacher.learning_rate=1e-4"]
    sets += ["validation_fraction=0.2", "teacher.erm_learning_rate=1e-4"]
    sets += [f"method_options.{name}.epochs=0.2" for name in ("jtt", "cnc", "pgd")]
    sets += ["teacher.config={hidden_dropout_prob: 0, attention_probs_dropout_prob: 0}"]
    config, plugins = run_config(None, flags, sets), load_plugins()
    (task,) = load_tasks(config, plugins)
    ctx = stepwise(context_of(task, config, plugins, Path(store)))
    models = {m: ctx.trained("teacher", ctx.settings.teacher, m, 0) for m in methods}
    teacher = models["erm"]
    for name in DISTILLERS:
        heard = StudentSettings(method="erm", distiller=name, ce_weight=0, kd_weight=0.5)
        models[name] = ctx.trained(
            "student", ctx.settings.teacher, "erm", 0, Distillation((teacher,), heard)
        )
    if ctx.accelerator.is_main_process:
        paths = {name: [str(m.path), m.updates] for name, m in models.items()}
        (Path(store) / "models.json").write_text(json.dumps(paths))
    ctx.accelerator.end_training()

if __name__ == "__main__":
    train(sys.argv[1], sys.argv[2], sys.argv[3].split(","))
"""
)


def test_two_processes_train_the_weights_of_one_for_every_method(tmp_path):
    program = tmp_path / "train.py"
    program.write_text(TRAIN)
    arguments = [program, TOY]
    result = {}
    for name, launcher in (("one", [sys.executable]), ("two", LAUNCHERS["torchrun"])):
        command = [*launcher, *arguments, tmp_path / name, ",".join(METHODS)]
        status, output = finish(start(command, ACCELERATE_USE_CPU="true"))
        assert status == 0, output
        result[name] = json.loads((tmp_path / name / "models.json").read_text())
    assert result["one"].keys() > {*METHODS, "kd", "hints", "simkd"}
    for method in result["one"]:
        (one, updates), (two, same) = result["one"][method], result["two"][method]
        assert updates == same >= 4
        first, second = (load_file(Path(path) / "model.safetensors") for path in (one, two))
        # what a solver of the last layer makes of features that differ by rounding
        solved = method.startswith("dfr")
        for name, value in first.items():
            if "key.bias" in name:  # its gradient is zero but for rounding, which Adam scales up
                continue
            largest = float(value.abs().max()) if solved else 0.0
            tolerance = max(1e-5, 1e-2 * largest)
            assert float((value - second[name]).abs().max()) < tolerance, (method, name)
    stages = [
        json.loads(file.read_text()) for file in (tmp_path / "two").glob("model-*/stage.json")
    ]
    assert {stage["processes"] for stage in stages if "processes" in stage} == {2}


def kill_in_the_middle(command, store):
    """Start a run and kill it with its first checkpoint on disk."""
    process = start(command)
    deadline = time.monotonic() + LIMIT
    while process.poll() is None and time.monotonic() < deadline:
        if list(store.glob("model-*.partial/resume/checkpoint-*")):
            break
        time.sleep(0.005)
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate()
    return process.returncode


def test_a_killed_run_continues_to_the_same_bytes(tmp_path):
    def command(name):
        sets = ["teacher.epochs=6", "student.epochs=6", "references=false", "control=false"]
        out = ["--output_path", tmp_path / f"{name}-out", "--use_cache", tmp_path / name]
        run = ["--tasks", TOY, "--seeds", "0", "--checkpoint_steps", "4", *SAME, *out]
        return [str(p) for p in [*run, *(p for a in sets for p in ("--set", a))]]

    run = [sys.executable, *MODULE, *command("killed")]
    assert kill_in_the_middle(run, tmp_path / "killed") == -signal.SIGKILL
    assert list((tmp_path / "killed").glob("model-*.partial/resume/checkpoint-*"))
    assert [path.name for path in (tmp_path / "killed-out").iterdir()] == ["progress.json"]
    for name in ("killed", "whole"):
        assert cli.main(command(name)) == 0
    tables = {
        name: {p.parent.name: np.load(p).tobytes() for p in (tmp_path / name).glob("*/logits.npy")}
        for name in ("killed", "whole")
    }
    assert len(tables["whole"]) == 5  # teacher and student on two sets, teacher signals
    assert tables["killed"] == tables["whole"]
    assert not list((tmp_path / "killed").glob("*.partial"))
