"""YAML as this package reads it: strict, bounded, with lines for errors; and mappings merged."""

from __future__ import annotations

import copy
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from harness_plugin.errors import HarnessError
from harness_plugin.store.files import read_text

TWICE = "key given twice: "
MAX_DEPTH, MAX_VALUES = 50, 1_000_000
"""How deep YAML may be nested, and how many values it may stand for, aliases written out."""
TOO_MUCH = "it is nested too deep, or its aliases stand for too much"


if TYPE_CHECKING or not yaml.__with_libyaml__:
    from yaml import SafeLoader
else:  # libyaml reads ten times as fast
    from yaml import CSafeLoader as SafeLoader


class Loader(SafeLoader):
    """YAML 1.2: 1e-3 is no text; the label (or precision) `no` is, and so are dates."""

    def construct_object(self, node: yaml.Node, deep: bool = False) -> Any:
        """The value of a node; one that its tag cannot make is an error of the file."""
        try:
            return super().construct_object(node, deep)
        except (ValueError, TypeError, KeyError, AttributeError, OverflowError) as error:
            raise yaml.constructor.ConstructorError(
                None, None, f"no value can be made of this: {error}", node.start_mark
            ) from None


Loader.yaml_implicit_resolvers = {
    letter: [each for each in resolvers if not each[0].endswith((":bool", ":timestamp"))]
    for letter, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}
Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float",
    re.compile(r"[-+]?(\d+\.?\d*|\.\d+)[eE][-+]?\d+$"),
    list("-+.0123456789"),
)
Loader.add_implicit_resolver(
    "tag:yaml.org,2002:bool", re.compile(r"(true|True|TRUE|false|False|FALSE)$"), list("tTfF")
)


def load_yaml(text: str) -> tuple[Any, yaml.Node | None]:
    """The value in a YAML text and its node tree (for line numbers).

    Raises yaml.YAMLError for whatever is wrong: a key that stands twice in a mapping, where PyYAML
    takes the last, and values that hold themselves or too much included.
    """
    refuse_depth(text)
    loader = Loader(text)
    try:
        node = loader.get_single_node()
        refuse_twice(node)
        value = None if node is None else loader.construct_document(node)
    except RecursionError:  # aliases make deep values of a text that is not
        raise yaml.YAMLError(TOO_MUCH) from None
    finally:
        loader.dispose()
    level, count = [value], 0
    for _ in range(MAX_DEPTH):
        below = [each for each in level if isinstance(each, (dict, list, set))]
        count += len(level)
        if not below:
            return value, node
        if count + sum(map(len, below)) > MAX_VALUES:
            break
        level = [x for each in below for x in (each.values() if isinstance(each, dict) else each)]
    raise yaml.YAMLError(TOO_MUCH)


def refuse_depth(text: str) -> None:
    """YAMLError for what is nested deeper than libyaml's stack may grow: it would end Python."""
    depth = 0
    for event in yaml.parse(text, Loader=Loader):
        depth += isinstance(event, yaml.CollectionStartEvent)
        depth -= isinstance(event, yaml.CollectionEndEvent)
        if depth > MAX_DEPTH:
            raise yaml.YAMLError(TOO_MUCH)


def refuse_twice(node: yaml.Node | None) -> None:
    """YAMLError for a key that stands twice in one of the mappings as they are written."""
    for mapping in mappings_of(node):
        seen: set[tuple[str, str]] = set()
        for key, _ in mapping.value:
            if isinstance(key, yaml.ScalarNode):
                if (key.tag, key.value) in seen:
                    raise yaml.composer.ComposerError(
                        "in a mapping", mapping.start_mark, f"{TWICE}{key.value}", key.start_mark
                    )
                seen.add((key.tag, key.value))


def mappings_of(root: yaml.Node | None) -> Iterator[yaml.MappingNode]:
    """Every mapping below a node, once each, in the order of the text."""
    left, seen = [root], set()
    while left:
        node = left.pop()
        if id(node) in seen:
            continue
        seen.add(id(node))
        if isinstance(node, yaml.MappingNode):
            yield node
            left += [part for pair in reversed(node.value) for part in reversed(pair)]
        elif isinstance(node, yaml.SequenceNode):
            left += reversed(node.value)


def yaml_problem(error: yaml.YAMLError) -> tuple[int, str]:
    """The line (from 1) and the words of an error of `load_yaml`, on one line."""
    if not isinstance(error, yaml.MarkedYAMLError):
        problem = getattr(error, "reason", None) or error  # of a character that YAML does not allow
        return 1, " ".join(str(problem).split())
    mark = error.problem_mark or error.context_mark
    return (mark.line + 1 if mark else 1), " ".join(str(error.problem or error.context).split())


def read_yaml(path: Path) -> tuple[dict[str, Any], yaml.Node]:
    """The mapping in a YAML file and its node tree (for line numbers)."""
    text = read_text(path)
    try:
        value, node = load_yaml(text)
    except yaml.YAMLError as error:
        line, problem = yaml_problem(error)
        raise HarnessError(f"{path}:{line}: not valid YAML: {problem}") from None
    if not isinstance(value, dict) or node is None:
        raise HarnessError(f"{path}:1: must be a YAML mapping, found {type(value).__name__}.")
    for key in value:
        if not isinstance(key, str):
            raise HarnessError(f"{path}:1: key {key!r}: expected a name.")
    return value, node


def line_of(node: yaml.Node, where: list[int | str]) -> int:
    """The 1-based line of the deepest key of `where` that exists under `node`."""
    line = node.start_mark.line + 1
    for part in where:
        if isinstance(node, yaml.MappingNode):
            for key, value in node.value:
                if key.value == str(part):
                    node, line = value, key.start_mark.line + 1
                    break
            else:
                break
        elif isinstance(node, yaml.SequenceNode) and isinstance(part, int):
            if part >= len(node.value):
                break
            node = node.value[part]
            line = node.start_mark.line + 1
        else:
            break
    return line


def merge(base: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    """`over` on top of `base`, mapping by mapping; neither is changed."""
    out = copy.deepcopy(dict(base))
    for key, value in over.items():
        if isinstance(value, Mapping) and isinstance(out.get(key), dict):
            out[key] = merge(out[key], value)
        else:
            out[key] = copy.deepcopy(value)
    return out
