"""The code in a stage's key.

A key must change when the code can give something else, and only then. `code_version` hashes the
syntax trees of the definitions that can be reached from an entry point: a function, the helpers it
calls, the classes these use, across modules. Comments, docstrings, annotations of functions and
the words of errors do not count; neither do definitions that nothing on the way names.
"""

from __future__ import annotations

import ast
import hashlib
import importlib.util
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from harness_plugin.errors import HarnessError

OURS = ("harness_plugin", "harness_plugin_hooks", "harness_plugin_tasks")
"""Packages that are followed, besides those of the entry points themselves."""

PLUMBING = (
    "harness_plugin.cli",
    "harness_plugin.errors",
    "harness_plugin.machine",
    "harness_plugin.plugins",
    "harness_plugin.store",
)
"""Modules that carry values and compute none: a change in them leaves every stage as it is."""


@dataclass(frozen=True)
class Module:
    """The top level of a module: definitions by name, imports by local name, other statements."""

    name: str
    definitions: dict[str, ast.stmt]
    imports: dict[str, tuple[str, str]]
    """Local name -> (module, attribute); attribute "" = the module itself."""
    stars: tuple[str, ...]
    statements: tuple[ast.stmt, ...]
    """Other statements that run on import: the registration of a class, say."""


def code_version(*targets: str) -> str:
    """Hash of what can be reached from "module:name" targets; nothing is imported.

    Raises HarnessError for a target whose source cannot be read.
    """
    return _code_version(tuple(sorted(set(targets))))


@cache
def _code_version(targets: tuple[str, ...]) -> str:
    digest = hashlib.sha256()
    for module, name in sorted(reachable(*targets)):
        for tree in trees(module, name):
            digest.update(f"{module}:{name}:{tree}\n".encode())
    return digest.hexdigest()[:20]


@cache
def trees(module: str, name: str) -> tuple[str, ...]:
    """The syntax tree of a definition as text; of "" those of a module's other statements."""
    return tuple(ast.dump(each) for each in statements_of(module, name))


def file_version(path: Path) -> str:
    """Hash of the code of a file that goes by no importable name, whole."""
    tree = clean(ast.parse(path.read_text(encoding="utf-8")))
    return hashlib.sha256(ast.dump(tree).encode()).hexdigest()[:20]


def target_of(cls: type) -> str:
    """The "module:name" of a class."""
    return f"{cls.__module__}:{cls.__qualname__.partition('.')[0]}"


def reachable(*targets: str) -> set[tuple[str, str]]:
    """(module, name) of every definition on the way; (module, "") are its other statements."""
    roots = {target.partition(".")[0].partition(":")[0] for target in targets} | set(OURS)
    seen: set[tuple[str, str]] = set()
    waiting: list[tuple[str, str]] = []
    for target in targets:
        place, _, name = target.partition(":")
        if name not in read_module(place).definitions:
            raise HarnessError(f"{target}: {place} defines no {name!r} at its top level.")
        waiting.append((place, name))
    while waiting:
        module_name, name = item = waiting.pop()
        if item in seen or not followed(module_name, roots):
            continue
        module = read_module(module_name)
        if name == "*":
            waiting += [(module_name, each) for each in (*module.definitions, "")]
            continue
        if name and name not in module.definitions:  # re-exported, or a submodule
            if name in module.imports:
                waiting.append(whole_or_part(*module.imports[name]))
            elif file_of(f"{module_name}.{name}") is not None:
                waiting.append((f"{module_name}.{name}", "*"))
            else:
                waiting += [(star, name) for star in module.stars]
            continue
        seen.add(item)
        if name:
            waiting.append((module_name, ""))
        waiting += references(module_name, name)
    return seen


def statements_of(module: str, name: str) -> tuple[ast.stmt, ...]:
    """The definition of a name; of "" the module's other statements."""
    top = read_module(module)
    return (top.definitions[name],) if name else top.statements


def whole_or_part(module: str, attribute: str) -> tuple[str, str]:
    """The module and attribute that an import stands for when it is used as a whole."""
    if not attribute:
        return module, "*"
    if file_of(f"{module}.{attribute}") is not None:
        return f"{module}.{attribute}", "*"
    return module, attribute


def followed(module: str, roots: set[str]) -> bool:
    """Whether a module's code can change what a stage gives, as far as we look."""
    if module.partition(".")[0] not in roots or file_of(module) is None:
        return False
    return not any(module == name or module.startswith(f"{name}.") for name in PLUMBING)


@cache
def references(module_name: str, name: str) -> tuple[tuple[str, str], ...]:
    """(module, name) of what a definition names; of "" what a module's other statements name."""
    module = read_module(module_name)
    return tuple(
        each for node in statements_of(module_name, name) for each in named_in(module, node)
    )


def named_in(module: Module, node: ast.stmt) -> Iterator[tuple[str, str]]:
    """(module, name) of the definitions that a statement names."""
    # a module's attribute counts alone: `loop.fit` is not all of `loop`
    attributes = {
        id(each.value): each.attr for each in ast.walk(node) if isinstance(each, ast.Attribute)
    }
    for each in ast.walk(node):
        if not isinstance(each, ast.Name):
            continue
        if each.id in module.definitions:
            yield module.name, each.id
        elif each.id in module.imports:
            source, attribute = whole_or_part(*module.imports[each.id])
            if attribute == "*" and id(each) in attributes:
                attribute = attributes[id(each)]
            yield source, attribute
        else:
            yield from ((star, each.id) for star in module.stars)


def is_docstring(node: ast.stmt) -> bool:
    """A statement that is a mere string, below a definition or a field."""
    value = node.value if isinstance(node, ast.Expr) else None
    return isinstance(value, ast.Constant) and isinstance(value.value, str)


def clean(tree: ast.Module) -> ast.Module:
    """Drop, in place, what cannot change a number: docstrings, annotations, the words of errors."""
    for node in ast.walk(tree):
        if isinstance(node, ast.arg):
            node.annotation = None
        elif isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            node.returns = None
        elif isinstance(node, ast.AnnAssign):  # the type of a field counts, what it names does not
            node.annotation = ast.Constant(value=ast.dump(node.annotation))
        elif isinstance(node, ast.Raise):
            node.exc = node.cause = None
        body = getattr(node, "body", None)
        if isinstance(body, list):
            body[:] = [statement for statement in body if not is_docstring(statement)]
    return tree


@cache
def file_of(module: str) -> Path | None:
    """Where a module's source lies; None for what is no module or has no source.

    Only the root package is looked up by the import system: finding a module by it would import the
    packages that hold it.
    """
    root, _, rest = module.partition(".")
    try:
        spec = importlib.util.find_spec(root)
    except (ImportError, ValueError, AttributeError):
        return None
    if spec is None:
        return None
    inside = rest.split(".") if rest else []
    for folder in spec.submodule_search_locations or ():
        for file in (
            Path(folder, *inside, "__init__.py"),
            Path(folder, *inside).with_suffix(".py"),
        ):
            if file.is_file() and (inside or file.name == "__init__.py"):
                return file
    origin = Path(spec.origin or "")
    return origin if not inside and origin.suffix == ".py" and origin.is_file() else None


@cache
def read_module(name: str) -> Module:
    """The top level of a module. Raises HarnessError where there is no source."""
    file = file_of(name)
    if file is None:
        raise HarnessError(
            f"{name}: its source cannot be read, so that a change in it could not be told from the "
            "results it gave before. Put the code into a file that can be imported."
        )
    tree = clean(ast.parse(file.read_text(encoding="utf-8")))
    package = name if file.name == "__init__.py" else name.rpartition(".")[0]
    definitions: dict[str, ast.stmt] = {}
    statements: list[ast.stmt] = []
    imports: dict[str, tuple[str, str]] = {}
    stars: list[str] = []
    for node in top_level(tree.body):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            definitions[node.name] = node
        elif isinstance(node, ast.Assign | ast.AnnAssign) and all(
            isinstance(target, ast.Name) for target in targets_of(node)
        ):
            for target in targets_of(node):
                definitions[target.id] = node  # type: ignore[attr-defined]
        elif not isinstance(node, ast.Import | ast.ImportFrom):
            statements.append(node)
        for each in ast.walk(node):
            if isinstance(each, ast.Import):
                for alias in each.names:
                    local = alias.asname or alias.name.partition(".")[0]
                    imports[local] = (alias.name if alias.asname else local, "")
            elif isinstance(each, ast.ImportFrom):
                base = each.module or ""
                if each.level:
                    parts = package.split(".")
                    parts = parts[: len(parts) - each.level + 1]
                    base = ".".join([*parts, base] if base else parts)
                for alias in each.names:
                    if alias.name == "*":
                        stars.append(base)
                    else:
                        imports[alias.asname or alias.name] = (base, alias.name)
    return Module(name, definitions, imports, tuple(stars), tuple(statements))


def top_level(body: list[ast.stmt]) -> Iterator[ast.stmt]:
    """Statements of a module, those under conditions too, but for what type checkers alone see."""
    for node in body:
        if isinstance(node, ast.If):
            if "TYPE_CHECKING" not in ast.dump(node.test):
                yield from top_level(node.body)
            yield from top_level(node.orelse)
        elif isinstance(node, ast.Try):
            yield from top_level(node.body)
            for handler in node.handlers:
                yield from top_level(handler.body)
        else:
            yield node


def targets_of(node: ast.Assign | ast.AnnAssign) -> list[ast.expr]:
    """The targets of an assignment."""
    return node.targets if isinstance(node, ast.Assign) else [node.target]
