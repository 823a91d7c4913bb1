"""Every command line of the documentation parses, and names what exists."""

import importlib
import re
import shlex

import pytest
from doc_pages import PAGES, PLUGINS, ROOT, blocks

from harness_plugin.cli import main as cli
from harness_plugin.cli.launch import launch
from harness_plugin.cli.parser import run_parser
from harness_plugin.cli.startup import KINDS
from harness_plugin.config.merge import parse_assignments
from harness_plugin.config.run_config import RunConfig
from harness_plugin.config.settings import RoleSettings, TaskSettings
from harness_plugin.data.task import find_task, read_task
from harness_plugin.data.task_files import task_files

KIND_OF = {
    "method_options": "method",
    "bias_model_options": "bias_model",
    "group_inference_options": "group_inference",
}
EXAMPLE_NAMES = {"task": {"reviews"}, "method": {"focal"}, "output": {"accuracies"}}
"""Names of examples/third_party_plugin, which is not installed here."""


def commands() -> list[tuple[str, str]]:
    """Every harness command line in a bash block: (page, line without its comment)."""
    result = []
    for page in PAGES:
        for block in blocks(page, "bash"):
            for line in block.splitlines():
                if re.search(r"(^|\s)harness\s|harness_plugin\s", line.partition("#")[0]):
                    result.append((str(page.relative_to(ROOT)), line.strip()))
    return result


def known(kind: str, include_path=()) -> set[str]:
    files = task_files(include_path) if kind == "task" else ()
    local = {read_task(file, PLUGINS["task"]).task for file in files}
    return {offer.name for offer in PLUGINS[kind]} | EXAMPLE_NAMES.get(kind, set()) | local


@pytest.mark.parametrize(("page", "line"), commands())
def test_commands_parse_and_name_what_exists(page, line, monkeypatch):
    monkeypatch.chdir(ROOT)
    words = shlex.split(line, comments=True)
    words = words[words.index(next(w for w in words if w in ("harness", "harness_plugin"))) + 1 :]
    command, rest = ("run", words) if words[0].startswith("-") else (words[0], words[1:])
    if command == "ls":
        assert rest[0] in [*KINDS, "plugins"]
    elif command == "show":
        assert cli.main(words) == 0
    elif command == "validate":
        check_validate(rest, monkeypatch)
    elif command == "launch":
        check_launch(rest, monkeypatch)
    elif command in PLUGINS["command"]:
        module, _, _ = PLUGINS["command"].offer(command).target.partition(":")
        importlib.import_module(module).parser().parse_args(rest)
    elif command == "run" and rest not in (["--help"], ["--version"]):
        check_run(rest)
    else:
        assert rest in (["--help"], ["--version"]), line


def check_validate(words, monkeypatch):
    """The real command up to the point where it would load data."""
    seen = []
    monkeypatch.setattr(cli, "quiet_libraries", lambda: None)
    monkeypatch.setattr(
        "harness_plugin.cli.validate.validate_task", lambda *values: seen.append(values)
    )
    assert cli.main(["validate", *words]) == 0
    assert seen


def check_launch(words, monkeypatch):
    started = []

    def no_start(command, environment):
        started.append(command)
        return 0, ""

    monkeypatch.setattr("harness_plugin.cli.launch.launched", no_start)
    assert launch(words) == 0
    arguments = started[0][started[0].index("harness_plugin") + 1 :]
    check_run(arguments)


def check_run(words):
    values = run_parser().parse_args(words)
    tasks = {}
    for name in values.tasks or ():
        assert name.endswith(".yaml") or name in known("task", values.include_path or ()), name
        if name not in EXAMPLE_NAMES["task"]:
            task = find_task(name, PLUGINS["task"], values.include_path or ())
            tasks[task.task] = task
    for flag, kind in (
        ("method", "method"),
        ("bias_model", "bias_model"),
        ("group_inference", "group_inference"),
    ):
        assert getattr(values, flag) is None or getattr(values, flag) in known(kind)
    for model in (values.teacher, values.student):
        assert model is None or "/" in model or model in known("backbone")
    if values.config and str(values.config).startswith("examples"):
        assert values.config.is_file()
    check_settings(parse_assignments(values.set), tasks)


def check_settings(settings, tasks):
    """Every setting exists; method and option names too."""
    for key, value in settings.items():
        if key in tasks:
            own = {k: v for k, v in value.items() if k not in tasks[key].options}
            check_settings(own, {})
        elif key in ("teacher", "student"):
            assert set(value) <= set(RoleSettings.model_fields)
        elif key.endswith("_options"):
            assert set(value) <= known(KIND_OF[key])
        else:
            assert key in TaskSettings.model_fields or key in RunConfig.model_fields, key
