"""Gates and reports run where nothing that trains is installed: without torch and its like."""

import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pandas as pd
import pytest

ROOT = Path(__file__).parents[1]
TOY = ROOT / "tests" / "toy" / "toy.yaml"
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
TRAIN = [re.match(r"[\w-]+", line)[0] for line in PROJECT["optional-dependencies"]["train"]]
IMPORTED = {"scikit-learn": "sklearn", "protobuf": "google.protobuf"}

WITHOUT = """
import sys
sys.modules.update(dict.fromkeys({names!r}))  # as if not installed: importing them fails
from harness_plugin.cli.main import main
for words in {commands!r}:
    print(words)
    if status := main(words):
        sys.exit(status)
"""


def harness(*commands):
    """`harness …` until one fails, in an interpreter that cannot import anything of `train`."""
    names = {IMPORTED.get(name, name).replace("-", "_") for name in TRAIN}
    words = [[str(word) for word in command] for command in commands]
    return subprocess.run(
        [sys.executable, "-c", WITHOUT.format(names=names, commands=words)],
        capture_output=True,
        text=True,
        timeout=120,
        env={**os.environ, "HF_HUB_OFFLINE": "1"},
    )


@pytest.fixture(scope="module")
def scored(toy_run, tmp_path_factory):
    """The toy run, its answers scored again, and its bundle."""
    folder = tmp_path_factory.mktemp("core")
    answers = folder / "answers.csv"
    (file,) = toy_run.output.glob("predictions_toy_swapped*.csv")
    words = {f"logit: student/0/{name}": f"{name}" for name in ("negative", "positive")}
    pd.read_csv(file)[["id", *words]].rename(columns=words).to_csv(answers, index=False)
    return folder, toy_run.output, answers


def test_what_needs_no_model_needs_no_torch(scored):
    folder, run, answers = scored
    small = ("--resamples", 100)
    answered = ("--predictions", answers, "--kind", "logits", "--sets", "swapped")
    done = harness(
        ("ls", "methods"),
        ("show", "hans"),
        ("score", "--tasks", TOY, *answered, *small, "--output_path", folder / "scores"),
        ("compare", run, run, "--min_seeds", 1, *small),
        ("report", run, "--output_path", folder / "page"),
        ("submit", run, "--output_path", folder / "bundles" / "toy.zip", "--allow_embedded"),
        ("verify", folder / "bundles" / "toy.zip", "--allow_embedded"),
        ("leaderboard", folder / "bundles", "--output_path", folder / "board", "--allow_embedded"),
    )
    assert done.returncode == 0, (done.stdout, done.stderr)
    (page,) = (folder / "page").glob("report_*.html")
    assert "its teacher disagree on" in page.read_text("utf-8")


@pytest.mark.parametrize(
    ("words", "missing"), [(("--tasks", TOY), "transformers"), (("show", "group_dro"), "torch")]
)
def test_what_needs_torch_names_the_extra(words, missing):
    done = harness(words)
    assert done.returncode == 2
    (line,) = done.stderr.splitlines()
    assert line == (
        f"harness: error: {missing} is not installed: this command needs the extra "
        "`train`: pip install 'debias-transfer[train]'"
    )


def test_a_run_whose_stages_are_stored_imports_no_model_and_no_data_set():
    """Half of such a run's time would be the base class of all models, and `datasets`."""
    code = (
        "import sys, harness_plugin.run_tasks\n"
        "print({'transformers.modeling_utils', 'datasets', 'pandas'} & set(sys.modules) or None)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "None\n"
