"""Imports point one way: a package imports only what stands above it, and nothing goes in circles.

What type checkers alone see counts as well: who must know a name to be read depends on it. Files
and folders stay small.
"""

import ast
from functools import cache
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PACKAGES = {"harness_plugin": ".", "harness_plugin_hooks": "hooks", "harness_plugin_tasks": "tasks"}
ORDER = (
    "errors",
    "_version",
    "machine",
    "store",
    "data",
    "records",
    "config",
    "plugins",
    "models",
    "training",
    "scoring",
    "pipeline",
    "analysis",
    "run_tasks",
    "study",
    "api",
    "cli",
)
"""The host's modules and packages, top to bottom; docs/architecture.md says what each is for."""
MOST = 12
"""Modules that one folder may hold before nobody finds anything in it."""
LINES = {"harness_plugin": 400, "hooks": 400, "tasks": 400, "bench": 400, "docs": 400}
LINES |= {"studies": 400, "examples": 400, "tests": 500}
"""Folder -> lines that a Python file below it may have before it does more than one thing."""


@cache
def modules():
    """Dotted name -> file of every module of ours."""
    result = {}
    for package, folder in PACKAGES.items():
        for file in sorted((ROOT / folder / package).rglob("*.py")):
            parts = file.relative_to(ROOT / folder).with_suffix("").parts
            result[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = file
    return result


@cache
def imports():
    """Module -> the modules of ours that it imports, wherever in it."""
    known, result = modules(), {}
    for name, file in known.items():
        result[name] = set()
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                targets = [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom):
                assert node.level == 0, f"{name}: relative import"
                inside = [f"{node.module}.{alias.name}" for alias in node.names]
                targets = [each if each in known else str(node.module) for each in inside]
            else:
                continue
            result[name] |= {target for target in targets if target in known} - {name}
    return result


def layer(module):
    """Where a module of the host stands; None for other packages and the package itself."""
    parts = module.split(".")
    if parts[0] != "harness_plugin" or len(parts) == 1 or parts[1] == "__main__":
        return None
    return ORDER.index(parts[1])


def test_the_host_imports_downwards_only():
    upwards = [
        f"{module} imports {target}"
        for module, targets in imports().items()
        for target in targets
        if None not in (layer(module), layer(target)) and layer(target) > layer(module)
    ]
    assert upwards == []


def test_the_host_knows_neither_hooks_nor_tasks():
    for module, targets in imports().items():
        if module.startswith("harness_plugin."):
            assert not [t for t in targets if not f"{t}.".startswith("harness_plugin.")], module


def test_tasks_know_no_hooks():
    for module, targets in imports().items():
        if module.startswith("harness_plugin_tasks"):
            assert not [t for t in targets if t.startswith("harness_plugin_hooks")], module


def first_circle(graph):
    """Names of a circle in a graph of name -> names that it needs; None where there is none."""
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        return error.args[1]
    return None


def test_no_modules_import_each_other_in_a_circle():
    assert first_circle(imports()) is None


def packages():
    return sorted({name.rpartition(".")[0] for name in modules() if "." in name})


@pytest.mark.parametrize("package", packages())
def test_parts_of_a_package_import_each_other_one_way(package):
    """A part is a module or a package in it, with all that this holds."""

    def part(module):
        return module.removeprefix(f"{package}.").split(".")[0]

    graph = {}
    for module, targets in imports().items():
        if module.startswith(f"{package}."):
            inside = {part(each) for each in targets if each.startswith(f"{package}.")}
            graph.setdefault(part(module), set()).update(inside - {part(module)})
    assert first_circle(graph) is None


def parts_of(package):
    """Modules and packages right inside a package."""
    return {module.split(".")[1] for module in modules() if module.startswith(f"{package}.")}


def test_every_part_of_host_and_hooks_is_in_the_docs():
    assert parts_of("harness_plugin") - {"__main__"} == set(ORDER)
    page = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
    for part in (*ORDER, *parts_of("harness_plugin_hooks")):
        assert f"`{part}`" in page, f"docs/architecture.md does not say what {part} is"


@pytest.mark.parametrize("package", packages())
def test_no_folder_is_crowded(package):
    folder = ROOT / PACKAGES[package.partition(".")[0]] / package.replace(".", "/")
    assert len([each for each in folder.glob("*.py") if each.name != "__init__.py"]) <= MOST


@pytest.mark.parametrize(("folder", "most"), LINES.items())
def test_no_file_is_long(folder, most):
    files = {file: len(file.read_bytes().splitlines()) for file in (ROOT / folder).rglob("*.py")}
    long = {str(file.relative_to(ROOT)): n for file, n in files.items() if n > most}
    assert files
    assert long == {}
