"""The flags of `harness analyze` for the options of every registered analysis, and back."""

from __future__ import annotations

import argparse
from collections import Counter
from collections.abc import Iterator, Mapping
from types import NoneType, UnionType
from typing import Any, Literal, TypeAlias, Union, get_args, get_origin

from pydantic import BaseModel, ValidationError
from pydantic.fields import FieldInfo

from harness_plugin.analysis.contract import Analysis
from harness_plugin.cli.parser import comma_list, seed_list
from harness_plugin.errors import HarnessError
from harness_plugin.plugins.registry import Registry

SHARED = {"resamples": "resamples", "seed": "data_seed", "split": "split"}
"""Fields that take their value from the one flag that all analyses share, and that flag."""

OptionClasses: TypeAlias = Mapping[str, type[BaseModel]]


def option_classes(registry: Registry) -> dict[str, type[BaseModel]]:
    """The class of options of every registered analysis, by its name."""
    return {name: analysis.options for name, analysis in registry.instances(Analysis).items()}


def own_fields(options: type[BaseModel]) -> Iterator[tuple[str, FieldInfo]]:
    """The fields that have a flag of their own."""
    return ((name, f) for name, f in options.model_fields.items() if name not in SHARED)


def short_flag(field: FieldInfo) -> str | None:
    """The further flag that a field asks for, without its dashes."""
    extra = field.json_schema_extra
    return str(extra["flag"]) if isinstance(extra, Mapping) and "flag" in extra else None


def add_flags(parser: argparse.ArgumentParser, classes: OptionClasses) -> None:
    """A group of flags for every analysis that has options.

    `--<analysis>_<field>` always; the short one that a field asks for only where no other analysis
    asks for it and `parser` does not have it, so that no flag changes its meaning with the plugins
    that are installed.
    """
    counts = Counter(short_flag(f) for options in classes.values() for _, f in own_fields(options))
    for analysis, options in classes.items():
        group = parser.add_argument_group(f"options of {analysis}")
        for name, field in own_fields(options):
            short = short_flag(field)
            flags = [f"--{analysis}_{name}"]
            if short and counts[short] == 1 and not has_flag(parser, f"--{short}"):
                flags.insert(0, f"--{short}")
            try:
                group.add_argument(
                    *flags,
                    dest=f"{analysis}.{name}",
                    default=argparse.SUPPRESS,
                    help=help_of(field),
                    **parsing_of(f"{analysis}.{name}", field),
                )
            except argparse.ArgumentError as error:
                raise HarnessError(f"option {name} of analysis {analysis}: {error}") from None


def has_flag(parser: argparse.ArgumentParser, flag: str) -> bool:
    """Whether `parser` knows `flag` already."""
    return flag in parser._option_string_actions


def help_of(field: FieldInfo) -> str:
    """The description with its choices, and the default where there is something to see of it."""
    text, default = (field.description or "").replace("%", "%%"), field.default
    if get_origin(field.annotation) is Literal:
        text += f": {', '.join(map(str, get_args(field.annotation)))}"
    if default is None or isinstance(default, bool):
        return text
    shown = ",".join(map(str, default)) if isinstance(default, tuple) else str(default)
    return f"{text} ({shown})".strip()


def parsing_of(name: str, field: FieldInfo) -> dict[str, Any]:
    """How argparse reads a field of its type."""
    kind = field.annotation
    if get_origin(kind) in (Union, UnionType):
        kinds = [part for part in get_args(kind) if part is not NoneType]
        kind = kinds[0] if len(kinds) == 1 else None
    if kind is bool:
        return {"action": argparse.BooleanOptionalAction if field.default else "store_true"}
    for number_or_text, metavar in ((int, "N"), (float, "X"), (str, "NAME")):
        if kind is number_or_text:
            return {"type": number_or_text, "metavar": metavar}
    if get_origin(kind) is Literal:
        return {"choices": get_args(kind), "metavar": "NAME"}
    if get_origin(kind) is tuple and get_args(kind) in ((str, ...), (int, ...)):
        return {"type": comma_list if get_args(kind)[0] is str else seed_list, "metavar": "A,B"}
    raise HarnessError(
        f"option {name}: a flag is made of bool, int, float, str, Literal, tuple[str, ...] and "
        f"tuple[int, ...], not of {field.annotation}."
    )


def options_of(
    parser: argparse.ArgumentParser, classes: OptionClasses, args: Mapping[str, Any]
) -> dict[str, BaseModel]:
    """The options of every analysis, by its name, from the parsed flags.

    Raises HarnessError naming the flag whose value is out of its bounds.
    """
    out = {}
    for analysis, options in classes.items():
        values = {
            name: args[f"{analysis}.{name}"]
            for name, _ in own_fields(options)
            if f"{analysis}.{name}" in args
        }
        values |= {
            name: args[flag] for name, flag in SHARED.items() if name in options.model_fields
        }
        try:
            out[analysis] = options(**values)
        except ValidationError as error:
            raise HarnessError(refusal(parser, analysis, error)) from None
    return out


def refusal(parser: argparse.ArgumentParser, analysis: str, error: ValidationError) -> str:
    """The first thing that is wrong, in a sentence that begins with the flag."""
    first = error.errors()[0]
    name = str(first["loc"][0]) if first["loc"] else ""
    dest = SHARED.get(name, f"{analysis}.{name}")
    flag = next((a.option_strings[0] for a in parser._actions if a.dest == dest), analysis)
    bound = first.get("ctx", {})
    if first["type"] == "greater_than_equal":
        expected = f"expected at least {bound['ge']}."
    elif first["type"] == "value_error":
        expected = str(bound["error"])
    else:
        expected = f"{first['msg'].replace('Input should be', 'expected')}."
    return f"{flag} {shown_value(first['input'])}: {expected}"


def shown_value(value: Any) -> str:
    """A value as a user would type it."""
    return f"{value:g}" if isinstance(value, float) else str(value)
