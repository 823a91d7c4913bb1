"""The examples work as their READMEs say: a plugin that is installed, a task that is not."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

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


def harness(*arguments: str, path: Path | None = None, **environment: str) -> str:
    """What the command line prints in a process of its own; it must succeed."""
    done = subprocess.run(
        [sys.executable, "-m", "harness_plugin", *arguments],
        env={**os.environ, "PYTHONPATH": str(path or ""), **environment},
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def listed(kind: str, **where) -> list[str]:
    """The names that `harness ls KIND` prints; descriptions may hold another offer's name."""
    return [line.split()[0] for line in harness("ls", kind, **where).splitlines() if line]


def test_an_installed_plugin_is_listed(installed):
    assert "review tone trusted" in harness("ls", "tasks", path=installed)
    assert "focal" in listed("methods", path=installed)
    assert "reviews" in harness("ls", "plugins", path=installed)


def test_a_blocked_plugin_is_hidden_and_not_imported(installed):
    block = {"path": installed, "HARNESS_PLUGIN_BLOCK": "reviews"}
    assert "hans" in listed("tasks", **block)
    assert "reviews" not in listed("tasks", **block)
    assert "erm" in listed("methods", **block)
    assert "focal" not in listed("methods", **block)
    assert "reviews    blocked" in harness("ls", "plugins", **block)


def test_an_installed_plugin_brings_task_method_and_moment(installed, tmp_path):
    log = tmp_path / "models.tsv"
    harness(
        *("--tasks", "reviews", "--method", "focal", "--set", "method_options.focal.gamma=1"),
        *("--output_path", str(tmp_path / "results"), *TINY),
        path=installed,
        HARNESS_REVIEWS_LOG=str(log),
    )
    rows = [line.split("\t") for line in log.read_text().splitlines()]
    assert rows == [["reviews", role, "0", "focal"] for role in ("teacher", "student", "control")]
    assert list((tmp_path / "results").glob("transfer_reviews_*.json"))


def test_focal_is_erm_at_gamma_zero_and_weighs_sure_rows_down(installed, monkeypatch):
    import torch

    from harness_plugin.training.contracts import Batch, TrainingMetadata

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
    said = harness("validate", task, "--data", str(tmp_path))
    assert "path data" in said
    dropped = next(line for line in said.splitlines() if "dropped" in line)
    assert [cell.strip() for cell in dropped.split("│")[2:4]] == ["1", "1"]
