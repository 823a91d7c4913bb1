"""Several processes, every launcher, and a run that is killed: the numbers stay the same."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import every_method
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
        flags = ["--tasks", TOY, "--eval_only", "--limit", "37", "--batch_size", "5"]
        return [*flags, "--log_samples", *SAME, *models, *where], out

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
    # what accelerate starts two processes with is torchrun
    [pytest.param("torchrun", marks=pytest.mark.exhaustive), "launch"],
)
def test_two_processes_give_the_numbers_of_one(evaluation, one, launcher):
    if launcher != "launch" and torch.cuda.is_available():
        pytest.skip("needs a GPU for each process where there are GPUs")
    arguments, two = evaluation(launcher)
    program = [] if launcher == "launch" else MODULE
    status, output = finish(start([*LAUNCHERS[launcher], *program, *arguments]))
    assert status == 0, output
    check_results(two, one, output)


def check_results(two, one, output):
    """What two processes have written is what one has."""
    assert numbers(two) == pytest.approx(numbers(one), abs=1e-6)
    assert samples(two) == samples(one)
    assert task_hashes(two) == task_hashes(one)
    assert {len(ids) for ids in samples(two).values()} == {37}
    assert len(samples(two)) == 6
    choices = transfer(two)["environment"]["choices"]["text"]
    assert choices["processes"] == 2
    assert output.count("2 process(es) on cpu") == 1  # said once, by the main process


def test_fewer_processes_than_asked_for_are_refused_from_any_folder(evaluation, tmp_path):
    arguments, out = evaluation("fewer")
    launcher = ["accelerate", "launch", "--cpu", "--num_processes", "2", *MODULE]
    status, output = finish(start([*launcher, *arguments], cwd=tmp_path))
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


def test_accelerate_launch_finds_the_executable_from_any_folder(tmp_path):
    """That a run works under it is asked above; here, that it starts: nothing is trained."""
    command = ["accelerate", "launch", "--no_python", "harness", "validate", TOY]
    status, output = finish(start(command, cwd=tmp_path))
    assert status == 0, output
    assert "toy: valid" in output


@pytest.fixture(scope="module")
def trained_by_two(evaluation, tmp_path_factory):
    """The store of two processes that train with every method, then score; the results; output."""
    store = tmp_path_factory.mktemp("two")
    arguments, results = evaluation("accelerate")
    program = [ROOT / "tests" / "helpers" / "every_method.py", TOY, store, ",".join(METHODS)]
    status, output = finish(start([*LAUNCHERS["accelerate"], *program, *arguments]))
    assert status == 0, output
    return store, results, output


@pytest.mark.skipif(torch.cuda.is_available(), reason="needs a GPU for each process")
def test_two_processes_of_accelerate_give_the_numbers_of_one(trained_by_two, one):
    _, results, output = trained_by_two
    check_results(results, one, output)


@pytest.mark.skipif(torch.cuda.is_available(), reason="needs a GPU for each process")
def test_two_processes_train_the_weights_of_one_for_every_method(trained_by_two, tmp_path):
    store, _, _ = trained_by_two
    every_method.train(TOY, tmp_path, METHODS)
    trained = {
        name: json.loads((folder / "models.json").read_text())
        for name, folder in (("one", tmp_path), ("two", store))
    }
    assert trained["one"].keys() > {*METHODS, "kd", "hints", "simkd"}
    for method in trained["one"]:
        (one, updates), (two, same) = trained["one"][method], trained["two"][method]
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
    stages = [json.loads(file.read_text()) for file in store.glob("model-*/stage.json")]
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
