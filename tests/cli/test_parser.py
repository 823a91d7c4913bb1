"""The options of a run are the fields of its settings: names, types, choices, bounds, help."""

import argparse
import contextlib
import re
from typing import Literal, get_args, get_origin

import pytest

from harness_plugin import HarnessError
from harness_plugin.cli.main import main
from harness_plugin.cli.options import field_at, how_of, option_table
from harness_plugin.cli.parser import (
    SHORTCUTS,
    add_run_options,
    config_from_flags,
    run_parser,
    table,
)
from harness_plugin.cli.startup import COMMANDS
from harness_plugin.config.run_config import RunConfig
from harness_plugin.config.settings import RoleSettings, TaskSettings
from harness_plugin_hooks.console import COMMANDS as OFFERED

OURS = [name for folder, names in OFFERED.items() if folder != "harnesses" for name in names]
OPTIONS = {action.dest: action for action in run_parser()._actions}
FIELDS = {
    **{name: field for name, field in RunConfig.model_fields.items() if how_of(field)},
    **{name: field_at(TaskSettings, paths[0]) for name, paths in SHORTCUTS.items()},
}


def config(*words):
    return config_from_flags(vars(run_parser().parse_args(["--tasks", "toy", *words])))


def test_the_table_of_options_is_that_of_the_fields():
    assert table() == option_table(), "run: python -m harness_plugin.cli.options"


def test_every_option_is_a_field_and_every_field_but_two_an_option():
    assert set(OPTIONS) == {*FIELDS, "help", "config", "set"}
    assert set(RunConfig.model_fields) - set(FIELDS) == {"data_seed", "settings"}


@pytest.mark.parametrize("name", sorted(FIELDS))
def test_an_option_says_what_its_field_says(name):
    option, field = OPTIONS[name], FIELDS[name]
    assert option.default is None  # the file decides
    assert option.help.startswith(field.description.replace("%", "%%"))
    if get_origin(field.annotation) is Literal:
        assert tuple(option.choices) == get_args(field.annotation)
    for bound in field.metadata:
        if hasattr(bound, "ge"):
            assert f"at least {bound.ge}" in option.help
    if name in RunConfig.model_fields and isinstance(field.default, (int, str)):
        answers = field.default is False or f"default {field.default}" in option.help
        assert answers


def test_shortcuts_are_settings_that_assignments_win_over():
    words = ["--select", "average", "--init", "scratch", "--teacher", "bert-mini"]
    words += ["--method", "no", "--control", "1e3"]  # texts stay texts: nothing is read as YAML
    assert config(*words).settings == {
        "select": "average",
        "teacher": {"model": "bert-mini", "init": "scratch"},
        "student": {"init": "scratch"},
        "method": "no",
        "control": "1e3",
    }
    chosen = config(*words, "--set", "teacher.init=pretrained", "--set", "toy.select=none")
    assert chosen.settings["teacher"] == {"model": "bert-mini", "init": "pretrained"}
    assert chosen.settings["toy"] == {"select": "none"}


@pytest.mark.parametrize(
    ("words", "name", "value"),
    [
        (["--batch_size", "7"], "eval_batch_size", 7),
        (["--mixed_precision", "bf16"], "precision", "bf16"),
        (["--threads", "2"], "threads", 2),
        (["--threads", "auto"], "threads", "auto"),
        (["--include_path", "a,b", "--include_path", "c"], "include_path", ("a,b", "c")),
        (["--outputs", "a, b"], "outputs", ("a", "b")),
        (["--analyze"], "analyze", ("all",)),
        (["--analyze", "cka"], "analyze", ("cka",)),
        (["--compile"], "compile", True),
        ([], "compile", False),
        ([], "outputs", None),
    ],
)
def test_values_are_read_as_their_fields_type(words, name, value):
    assert getattr(config(*words), name) == value


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--limit", "x"], "argument --limit: invalid int value: 'x'"),
        (["--limit", "0"], "limit: Input should be greater than or equal to 1 (got 0)"),
        (["--seeds", "4294967296"], "seeds.0: Input should be less than 4294967296"),
        (["--seeds=-1"], "seeds.0: Input should be greater than or equal to 0"),
        (["--resamples", "99"], "resamples: Input should be greater than or equal to 100"),
        (["--checkpoint_steps=-1"], "checkpoint_steps: Input should be greater than or equal"),
        (["--batch_size", "0"], "eval_batch_size: Input should be greater than or equal to 1"),
        (["--select", "best"], "argument --select: invalid choice: 'best'"),
        (["--init", "none"], "argument --init: invalid choice: 'none'"),
    ],
)
def test_a_bad_value_is_named(words, message):
    with pytest.raises(HarnessError, match=re.escape(message)):
        config(*words)


def test_another_command_takes_options_of_a_run_with_a_help_of_its_own():
    parser = argparse.ArgumentParser()
    add_run_options(parser, "limit", "data", limit="100% of them")
    assert parser.parse_args(["--limit", "3"]) == argparse.Namespace(limit=3, data=None)
    shown = parser.format_help()
    assert "100% of them" in shown
    assert "embedded: generated" in shown


@pytest.mark.parametrize("command", ["", *COMMANDS, *OURS])
def test_help_fits_a_terminal(command, monkeypatch, capsys):
    """Prose is wrapped, no line of a usage or an example is longer than 80 columns."""
    monkeypatch.setenv("COLUMNS", "80")
    with contextlib.suppress(SystemExit):  # argparse ends where help is shown
        main([*command.split(), "--help"])
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) > 3
    assert [line for line in lines if len(line) > 80] == []


def test_both_roles_share_the_settings_of_a_model():
    assert field_at(TaskSettings, "student.model") is RoleSettings.model_fields["model"]
