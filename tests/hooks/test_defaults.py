"""Defaults are those that the sources publish, and the docs' tables say what the data files say."""

import ast
import runpy
import subprocess
import sys
from functools import cache
from pathlib import Path

import pytest
import yaml
from planted import answered, scored, write

from harness_plugin.config.merge import run_config, task_settings
from harness_plugin.data.task import find_task
from harness_plugin.plugins.registry import load_plugins

ROOT = Path(__file__).parents[2]
HOOKS = ROOT / "hooks" / "harness_plugin_hooks"
PLUGINS = load_plugins()
FACTS = yaml.safe_load((HOOKS / "defaults.yaml").read_text())
PUBLISHED = yaml.safe_load((HOOKS / "published.yaml").read_text())
CHECKED = yaml.safe_load((ROOT / "tests" / "hooks" / "checked_against.yaml").read_text())
COMPONENTS = [(kind, offer.name) for kind in FACTS for offer in PLUGINS[kind]]
MODALITIES = ("text", "image")


def of(value, modality):
    return value[modality] if isinstance(value, dict) and modality in value else value


def differing(kind, name):
    """Options whose default is not what the file says, with both values."""
    facts, wrong = FACTS[kind][name], {}
    for modality in MODALITIES:
        for option, default in PLUGINS[kind].offer(name).load().resolved({}, modality).items():
            answers = of(facts[option].get("ours", facts[option]["source"]), modality)
            if answers != default or type(answers) is not type(default):
                wrong[option] = (default, answers)
    return wrong


@pytest.mark.parametrize("kind", FACTS)
def test_the_file_has_every_component_and_option(kind):
    registered = {offer.name: set(offer.load().defaults) for offer in PLUGINS[kind]}
    assert {name: set(facts) for name, facts in FACTS[kind].items()} == registered


@pytest.mark.parametrize(("kind", "name"), COMPONENTS)
def test_a_default_is_the_sources_value_or_says_why_not(kind, name):
    assert not differing(kind, name)
    for option, fact in FACTS[kind][name].items():
        assert set(fact) <= {"help", "range", "whole", "source", "where", "ours", "because"}, option
        assert ("ours" in fact) == ("because" in fact), option
        assert fact.get("ours") != fact["source"], option
        assert (fact["source"] is None) == ("where" not in fact), option


@pytest.mark.parametrize(("option", "factor"), [("eta", 10), ("eta", 0.1)])
def test_a_default_that_is_changed_is_noticed(monkeypatch, option, factor):
    cls = PLUGINS["method"].offer("group_dro").load()
    monkeypatch.setattr(cls, "defaults", {**cls.defaults, option: factor * cls.defaults[option]})
    assert set(differing("method", "group_dro")) == {option}


@pytest.mark.parametrize(
    ("task", "method"),
    [(task, method) for task, methods in PUBLISHED.items() for method in methods],
)
def test_published_settings_are_a_run_of_pretrained_models(task, method):
    fact = PUBLISHED[task][method]
    assert fact["source"]
    sets = [f"method={method}", *(f"{key}={value}" for key, value in fact["set"].items())]
    config = run_config(None, {"tasks": (task,), "data": "hub"}, sets)
    result = find_task(task, PLUGINS["task"], ())
    settings = task_settings(result, "hub", [task], config.settings)
    assert settings.method == method
    assert settings.teacher.init == "pretrained"
    options = settings.method_options.get(method, {})
    PLUGINS["method"].offer(method).load().resolved(options, result.modality)


@cache
def functions_of(file):
    tree = ast.parse((ROOT / "tests" / file).read_text())
    return {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}


@pytest.mark.parametrize("kind", CHECKED)
def test_everything_says_what_it_is_checked_against(kind):
    assert set(CHECKED[kind]) == {offer.name for offer in PLUGINS[kind]}
    for name, fact in CHECKED[kind].items():
        assert fact["against"], name
        for file, names in fact["tests"].items():
            assert set(names) <= functions_of(file), f"{name}: {file}"


def test_what_the_demo_prints_is_filled_from_its_results(tmp_path):
    """The sets out of domain only, its verdicts as the run has them, lines of a page's width."""
    teacher = [(90, 88, 88, 90), (91, 88, 87, 91), (90, 87, 89, 90)]
    student = [(95, 40, 40, 95), (96, 41, 40, 94), (95, 39, 42, 95)]
    write(tmp_path, scored([*answered(*student), *answered(*teacher, role="teacher")]))
    lines = runpy.run_path(str(ROOT / "docs" / "fill_tables.py"))["demo"](tmp_path)
    text = "\n".join(lines)
    assert (lines[0], lines[-1]) == ("```text", "```")
    assert "LOST student on balanced: " in text
    assert "in_domain" not in text
    assert "student" in text
    assert max(map(len, lines)) <= 100


def test_the_tables_of_the_docs_are_current():
    command = [sys.executable, str(ROOT / "docs" / "fill_tables.py"), "--check"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_the_table_of_distillers_says_what_each_is_checked_against():
    page = (ROOT / "docs" / "distillation.md").read_text()
    _, _, rest = page.partition("| name | loss (times `kd_weight`) |")
    lines = rest.partition("\n\n")[0].splitlines()[2:]
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
    assert {row[0].split("`")[1] for row in cells} == {o.name for o in PLUGINS["distiller"]}
    assert all(len(row) == 5 and row[3] and row[4] for row in cells)
