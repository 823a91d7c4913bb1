"""The examples work as their READMEs say: a plugin that is installed, a task that is not."""

import io
import json
import os
import subprocess
import sys
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from unittest import mock

import pytest

from harness_plugin.cli.main import main

ROOT = Path(__file__).resolve().parents[2]
PLUGIN = ROOT / "examples" / "third_party_plugin"
MY_TASK = ROOT / "examples" / "my_task"

TINY = (
    *("--seeds", "0", "--threads", "1", "--precision", "no", "--attention", "sdpa"),
    *("--resamples", "100", "--set", "teacher.epochs=1", "--set", "student.epochs=1"),
    *("--set", "references=false", "--limit", "60"),
)


@pytest.fixture(scope="module")
def installed(tmp_path_factory) -> Path:
    """A folder into which pip has installed the example plugin, from a copy of its sources."""
    target = tmp_path_factory.mktemp("installed")
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--target", str(target)]
    offline = ["--no-index", "--no-deps", "--no-build-isolation", "--disable-pip-version-check"]
    done = subprocess.run([*command, *offline, str(PLUGIN)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return target


@dataclass(frozen=True)
class Ended:
    """How a command ended."""

    returncode: int
    stdout: str
    stderr: str


def started(*arguments: str, path: Path | None = None, **environment: str) -> Ended:
    """The command line, with `path` first where Python looks for modules and plugins."""
    for name in [each for each in sys.modules if each.partition(".")[0] == "harness_reviews"]:
        del sys.modules[name]
    paths = [str(path), *sys.path] if path else sys.path
    out, err = io.StringIO(), io.StringIO()
    with (
        mock.patch.dict(os.environ, environment),
        mock.patch.object(sys, "path", paths),
        redirect_stdout(out),
        redirect_stderr(err),
    ):
        try:
            status = main([*arguments])
        except SystemExit as error:  # argparse
            status = int(error.code or 0)
    return Ended(status, out.getvalue(), err.getvalue())


def harness(*arguments: str, path: Path | None = None, **environment: str) -> str:
    """What the command line prints; it must succeed."""
    done = started(*arguments, path=path, **environment)
    assert done.returncode == 0, done.stderr
    return done.stdout


def listed(kind: str, **where) -> list[str]:
    """The names that `harness ls KIND` prints; descriptions may hold another offer's name."""
    return [line.split()[0] for line in harness("ls", kind, **where).splitlines() if line]


def test_an_installed_plugin_is_known_to_every_process_that_finds_it(installed):
    done = subprocess.run(
        [sys.executable, "-m", "harness_plugin", "ls", "plugins"],
        env={**os.environ, "PYTHONPATH": str(installed)},
        capture_output=True,
        text=True,
    )
    assert "reviews" in done.stdout, done.stderr
    assert "review tone trusted" in harness("ls", "tasks", path=installed)


@pytest.mark.parametrize(
    ("kind", "name"),
    [
        ("tasks", "reviews"),
        ("methods", "focal"),
        ("compressors", "half"),
        ("remedies", "fewer_labels"),
        ("metrics", "confident_errors"),
        ("analyses", "weights"),
        ("outputs", "accuracies"),
    ],
)
def test_each_thing_an_installed_plugin_offers_is_listed(installed, kind, name):
    assert name in listed(kind, path=installed)


def test_a_blocked_plugin_is_hidden_and_not_imported(installed):
    block = {"path": installed, "HARNESS_PLUGIN_BLOCK": "reviews"}
    assert "hans" in listed("tasks", **block)
    assert "reviews" not in listed("tasks", **block)
    assert "erm" in listed("methods", **block)
    assert "focal" not in listed("methods", **block)
    assert "reviews    blocked" in harness("ls", "plugins", **block)
    assert "harness_reviews" not in sys.modules


@pytest.fixture(scope="module")
def results(installed, tmp_path_factory) -> Path:
    """The files of a run of the plugin's task with its method, and `models.tsv` beside them."""
    folder = tmp_path_factory.mktemp("run")
    harness(
        *("--tasks", "reviews", "--method", "focal", "--set", "method_options.focal.gamma=1"),
        *("--output_path", str(folder / "results"), "--use_cache", str(folder / "store"), *TINY),
        path=installed,
        HARNESS_REVIEWS_LOG=str(folder / "models.tsv"),
    )
    return folder / "results"


def test_an_installed_plugin_brings_task_method_and_moment(results):
    rows = [line.split("\t") for line in (results.parent / "models.tsv").read_text().splitlines()]
    assert rows == [["reviews", role, "0", "focal"] for role in ("teacher", "student", "control")]
    assert list(results.glob("transfer_reviews_*.json"))


def test_an_installed_plugin_brings_a_metric_and_an_output(results):
    (file,) = results.glob("transfer_reviews_*.json")
    record = file.read_text()
    assert '"confident_errors"' in record
    head, *lines = (results / "accuracies.tsv").read_text().splitlines()
    assert head.split("\t") == ["task", "role", "seed", "set", "accuracy"]
    assert len(lines) == 3 * 2  # models x evaluation sets
    assert all(0 <= float(line.split("\t")[-1]) <= 1 for line in lines)


def test_the_options_of_an_installed_analysis_are_flags(installed, results, tmp_path):
    output = harness("analyze", "--help", path=installed)
    assert "options of weights" in output
    assert "matrices of each model that are shown (3)" in output
    words = ["analyze", str(results), "--weights", "--output_path", str(tmp_path)]
    output = harness(*words, "--weights_largest", "1", "--weights_size", "max", path=installed)
    (line,) = [line for line in output.splitlines() if line.startswith("weights of student 0")]
    assert line.count(",") == 0
    (file,) = tmp_path.glob("analysis_reviews_*.json")
    record = json.loads(file.read_text())
    assert record["options"]["weights"] == {"size": "max", "largest": 1}
    assert record["weights"]["size"] == "max"
    assert list(tmp_path.glob("analysis_reviews_*_weights.parquet"))


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--weights_largest", "0"], "--weights_largest 0: expected at least 1."),
        (["--weights_size", "min"], "invalid choice: 'min'"),
        (["--weights_larger", "1"], "--weights_largest"),
    ],
)
def test_a_wrong_option_of_an_installed_analysis_is_named(installed, results, words, message):
    done = started("analyze", str(results), *words, path=installed)
    assert done.returncode == 2
    assert message in done.stderr


def test_an_installed_remedy_is_listed_in_its_place_and_tried(installed, tmp_path):
    names = [line.split()[0] for line in harness("remedy", "--list", path=installed).splitlines()]
    assert names[3:6] == ["pure_kd_t10", "fewer_labels", "weighted_kd"]
    words = ["remedy", "--tasks", "reviews", *TINY[:-2], "--set", "validation_fraction=0.5"]
    words += ["--remedies", "fewer_labels,pure_kd+fewer_labels", "--output_path", str(tmp_path)]
    output = harness(*words, "--use_cache", str(tmp_path / "store"), path=installed)
    assert "skipped pure_kd+fewer_labels: the student has no label term" in output
    (file,) = tmp_path.glob("remedies_reviews_*.json")
    remedies = {one["remedy"]: one for one in json.loads(file.read_text())["remedies"]}
    assert set(remedies) == {"none", "fewer_labels"}
    assert remedies["fewer_labels"]["settings"]["ce_weight"] == 0.05


def test_focal_is_erm_at_gamma_zero_and_weighs_sure_rows_down(installed, monkeypatch):
    import torch

    from harness_plugin.training.batch import Batch, TrainingMetadata

    monkeypatch.syspath_prepend(str(installed))
    from harness_reviews.focal import Focal

    label = torch.tensor([0, 1])
    facts = TrainingMetadata(label=label, group=label, n_labels=2, groups=("a", "b"))
    batch = Batch(torch.arange(2), label, label)
    logits = torch.log(torch.tensor([[0.9, 0.1], [0.5, 0.5]]))
    each = torch.tensor([0.10536052, 0.69314718])  # -ln .9, -ln .5
    assert Focal(facts, gamma=0.0).loss(logits, batch).item() == pytest.approx(each.mean().item())
    expected = (0.1**2 * 0.10536052 + 0.5**2 * 0.69314718) / 2
    assert Focal(facts).loss(logits, batch).item() == pytest.approx(expected, rel=1e-5)


def test_a_task_outside_any_package_runs(tmp_path):
    where = ("--include_path", str(MY_TASK))
    assert "tickets" in harness("ls", "tasks", *where)
    assert "tickets: valid" in harness("validate", "tickets", *where)
    harness("--tasks", "tickets", *where, "--output_path", str(tmp_path / "results"), *TINY)
    assert list((tmp_path / "results").glob("transfer_tickets_*.json"))


def test_a_task_outside_any_package_reads_a_users_folder(tmp_path):
    rows = [
        f"{i},text {i},{urgency},{plan}"
        for i, (urgency, plan) in enumerate(
            [(u, p) for u in ("urgent", "routine") for p in ("free", "enterprise")]
        )
    ]
    for name in ("train", "test"):
        text = "\n".join(["id,text,urgency,plan", *rows, "9,unlabelled,,free"])
        (tmp_path / f"{name}.csv").write_text(text, encoding="utf-8")
    task = str(MY_TASK / "tickets.yaml")
    output = harness("validate", task, "--data", str(tmp_path))
    assert "path data" in output
    dropped = next(line for line in output.splitlines() if "dropped" in line)
    assert [cell.strip() for cell in dropped.split("│")[2:4]] == ["1", "1"]
