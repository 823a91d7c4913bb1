"""The gate where it is used: pytest, the GitHub action and the workflow."""

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from harness_plugin.cli import main as cli

pytest_plugins = ["pytester"]
ROOT = Path(__file__).parents[2]


def test_starting_pytest_imports_nothing_heavy():
    program = (
        "import sys, harness_plugin_hooks.regression.pytest_plugin\n"
        "print(sorted({'numpy', 'scipy', 'pydantic', 'rich', 'torch'} & set(sys.modules)))"
    )
    words = [sys.executable, "-c", program]
    out = subprocess.run(words, capture_output=True, text=True, timeout=60)
    assert out.stdout == "[]\n", out.stderr


@pytest.fixture
def run_tests(pytester, monkeypatch, compared_runs):
    """Run pytest, in which one test passes, with the plugin and its options."""
    monkeypatch.setenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD", "1")  # or it is there twice
    pytester.makepyfile("def test_of_the_user(): pass")
    plugin = "harness_plugin_hooks.regression.pytest_plugin"

    def run(*words):
        return pytester.runpytest("-p", plugin, *(word.format(compared_runs) for word in words))

    return run


BASE = "--harness-baseline={}/base"


def test_pytest_fails_when_the_candidate_regresses(run_tests):
    result = run_tests(BASE, "--harness-candidate={}/worse")
    result.assert_outcomes(passed=4, failed=3)
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    result.stdout.fnmatch_lines(
        ["_* faces/balanced/acc _*", "regressed: acc on balanced is worse by 7.5 points*"]
    )


def test_pytest_passes_when_it_does_not(run_tests):
    run_tests(BASE, "--harness-candidate={}/same").assert_outcomes(passed=7)
    result = run_tests(BASE, "--harness-candidate={}/worse", "-k", "in_domain")
    result.assert_outcomes(passed=3, deselected=4)
    run_tests().assert_outcomes(passed=1)


def test_pytest_says_what_is_undecided(run_tests):
    result = run_tests(BASE, "--harness-candidate={}/unsure", "-rs", "--harness-undecided=skip")
    assert result.ret == 0
    undecided = result.parseoutcomes()["skipped"]
    result.stdout.fnmatch_lines(["*undecided: *too few seeds*"])
    result = run_tests(BASE, "--harness-candidate={}/unsure")  # as the command: exit status 3
    result.assert_outcomes(passed=7 - undecided, failed=undecided)


def test_pytest_takes_thresholds_and_roles(run_tests, pytester):
    pytester.path.joinpath("gates.yaml").write_text("gates: [{metric: acc, max_drop: 0.5}]")
    more = ("--harness-candidate={}/worse", "--harness-thresholds=gates.yaml")
    run_tests(BASE, *more).assert_outcomes(passed=3)
    result = run_tests(BASE, *more, "--harness-baseline-role=teacher")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(["ERROR: harness: *has no role 'teacher'; it has student."])


def test_pytest_refuses_half_a_comparison(run_tests):
    result = run_tests(BASE)
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(["ERROR: --harness-candidate is missing*"])


def test_the_pytest_plugin_is_an_entry_point():
    project = (ROOT / "pyproject.toml").read_text("utf-8")
    part = project.partition("[project.entry-points.pytest11]\n")[2].partition("\n\n")[0]
    name, value = part.split(" = ")
    assert (name, json.loads(value)) == ("harness", "harness_plugin_hooks.regression.pytest_plugin")


WORKFLOW = ROOT / "examples" / "ci" / "debiasing-gate.yml"
ACTION = ROOT / "action.yml"


def steps():
    (job,) = yaml.safe_load(WORKFLOW.read_text("utf-8"))["jobs"].values()
    return {step.get("name"): step for step in job["steps"]}


def action_steps():
    return {s["name"]: s for s in yaml.safe_load(ACTION.read_text("utf-8"))["runs"]["steps"]}


@pytest.fixture
def shell_of_the_action(tmp_path, compared_runs):
    """Runs the action's comparison with the inputs of the workflow, as GitHub would."""
    values = steps()["Gate"]["with"]
    (tmp_path / "bin").mkdir()
    command = tmp_path / "bin" / "harness"
    command.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m harness_plugin "$@"\n')
    command.chmod(0o755)
    shutil.copytree(WORKFLOW.parent, tmp_path / "ci")
    shutil.copytree(compared_runs / "base", tmp_path / "baseline")
    paths = [str(ROOT / folder) for folder in ("", "tasks", "hooks")]

    def compare(candidate, **inputs):
        shutil.copytree(
            compared_runs / candidate, tmp_path / values["candidate"], dirs_exist_ok=True
        )
        step = action_steps()["Compare"]
        environment = {
            **os.environ,
            "PATH": f"{command.parent}{os.pathsep}{os.environ['PATH']}",
            "PYTHONPATH": os.pathsep.join(paths),
            "GITHUB_STEP_SUMMARY": str(tmp_path / "summary.md"),
            **{
                name: ({**values, "baseline": "baseline"} | inputs)[name.lower()]
                for name in step["env"]
            },
        }
        return subprocess.run(
            ["bash", "--noprofile", "--norc", "-eo", "pipefail", "-c", step["run"]],
            cwd=tmp_path,
            env=environment,
            capture_output=True,
            text=True,
            timeout=60,
        )

    return compare


def test_the_commands_of_the_workflow_work(shell_of_the_action, tmp_path):
    """Its evaluation is parsed and its comparison run by a shell, on results like its own."""
    values = steps()["Gate"]["with"]
    evaluate = cli.run_parser().parse_args(shlex.split(values["evaluate"])[1:])
    assert evaluate.log_samples
    assert (
        evaluate.output_path == values["candidate"] == steps()["Keep the results"]["with"]["path"]
    )
    assert values["output_path"] == steps()["Keep the comparison"]["with"]["path"]
    assert "--dir baseline" in steps()["Fetch the results of main"]["run"]
    assert set(values) <= set(yaml.safe_load(ACTION.read_text("utf-8"))["inputs"])

    done = shell_of_the_action("worse")
    assert done.returncode == 1, done.stderr
    assert "Debiasing gate: regressed" in (tmp_path / "summary.md").read_text()
    assert (tmp_path / "comparison" / "comparison.junit.xml").is_file()


def test_the_action_may_let_through_what_is_undecided(shell_of_the_action):
    assert shell_of_the_action("unsure", thresholds="").returncode == 3
    assert shell_of_the_action("unsure", thresholds="", undecided="pass").returncode == 0


def test_the_shell_of_the_workflow_parses():
    for step in filter(lambda step: "run" in step, [*steps().values(), *action_steps().values()]):
        subprocess.run(["bash", "-n", "-c", step["run"]], check=True, timeout=20)


WORKFLOWS = [WORKFLOW, *sorted((ROOT / ".github" / "workflows").glob("*.yml"))]


@pytest.mark.parametrize("file", WORKFLOWS, ids=lambda file: file.stem)
def test_workflows_are_pinned_and_keep_no_credentials(file):
    """As GitHub's guide to hardening asks: commits, not tags; no token stays in the checkout."""
    workflow = yaml.safe_load(file.read_text("utf-8"))
    assert workflow["concurrency"]["group"]
    assert set(workflow["permissions"].values()) <= {"read"}
    for job in workflow["jobs"].values():
        for step in job["steps"]:
            # an expression inside a script is code that a branch's name can write
            assert "${{" not in step.get("run", "")
            if "uses" in step:
                # ours is wherever its reader's copy of this repository is
                assert re.fullmatch(r"([\w.-]+/[\w./-]+|REPOSITORY)@[0-9a-f]{40}", step["uses"])
            if step.get("uses", "").startswith("actions/checkout@"):
                assert step["with"]["persist-credentials"] is False


def test_the_action_installs_the_checkout_it_is_in():
    line = action_steps()["Install"]["run"]
    assert line.endswith('"$GITHUB_ACTION_PATH${EXTRAS:+[$EXTRAS]}"')
    assert '--constraint "$GITHUB_ACTION_PATH/constraints.txt"' in line
    assert "${{" not in "".join(step["run"] for step in action_steps().values())
