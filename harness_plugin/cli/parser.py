"""The options of `harness run`, made from the fields of the settings (`config`).

A field's type says how an option's text is read, its choices and bounds what the help shows, its
description the help. Values are checked where settings from files are: by the models.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from itertools import groupby
from pathlib import Path
from types import NoneType
from typing import TYPE_CHECKING, Annotated, Any, Literal, NoReturn, get_args, get_origin

from harness_plugin.errors import HarnessError, unknown

if TYPE_CHECKING:
    from pydantic import BaseModel
    from pydantic.fields import FieldInfo

    from harness_plugin.config.run_config import RunConfig

SHORTCUTS = {
    "teacher": ("teacher.model",),
    "student": ("student.model",),
    "control": ("control",),
    "init": ("teacher.init", "student.init"),
    "method": ("method",),
    "bias_model": ("bias_model",),
    "group_inference": ("group_inference",),
    "select": ("select",),
}
"""Options that stand for task settings."""
EXAMPLES = """\
examples:
  accelerate launch harness --tasks hans,celeba_bias
  harness --tasks hans --data ../data --config examples/real_nli.yaml
  harness --tasks hans --set method=poe --set student.epochs=6 --seeds 0,1,2,3,4
  harness --tasks hans --eval_only --teacher big/ --student small/
  harness launch --num_processes 2 --tasks celeba_bias
  harness ls methods
  harness show group_dro
  harness validate my_task.yaml --data ../data

`harness --tasks …` means `harness run --tasks …`, and `harness COMMAND --help` shows a command's
options. Exit status: 0 done, 1 failed, 2 bad input, 130 interrupted (the same command continues).
"""


class HelpFormatter(argparse.HelpFormatter):
    """argparse's, with examples: prose is wrapped to the terminal, indented lines are kept."""

    def _fill_text(self, text: str, width: int, indent: str) -> str:
        def is_prose(line: str) -> bool:
            return bool(line) and not line.startswith(" ")

        parts: list[str] = []
        for prose, lines in groupby(text.splitlines(), is_prose):
            if prose:
                parts.append(super()._fill_text(" ".join(lines), width, indent))
            else:
                parts += lines
        return "\n".join(parts)


class Parser(argparse.ArgumentParser):
    """argparse with our error sentence: near matches, exit status 2, no usage block.

    Options are never abbreviated; indented lines of `epilog`, its examples, stay as they are.
    """

    def __init__(self, prog: str, description: str = "", epilog: str = "") -> None:
        super().__init__(
            prog,
            description=description,
            epilog=epilog,
            allow_abbrev=False,
            formatter_class=HelpFormatter,
        )

    def error(self, message: str) -> NoReturn:
        """Raise instead of printing: `main` prints one line."""
        raise HarnessError(f"{message} (see `harness {self.command} --help`)")

    def parse_args(self, args: Any = None, namespace: Any = None) -> Any:
        """As argparse does, with near matches for an option that does not exist."""
        parsed, rest = self.parse_known_args(args, namespace)
        if rest and rest[0].startswith("--"):
            raise unknown("option", rest[0].partition("=")[0], self._option_string_actions)
        if rest:
            self.error(f"unexpected argument {rest[0]!r}")
        return parsed

    @property
    def command(self) -> str:
        """The sub-command this parser is for."""
        return self.prog.partition(" ")[2] or "run"


def comma_list(text: str) -> tuple[str, ...]:
    """`a,b` as ("a", "b")."""
    return tuple(part.strip() for part in text.split(",") if part.strip())


def seed_list(text: str) -> tuple[int, ...]:
    """`0,1,2` as (0, 1, 2)."""
    try:
        return tuple(int(part) for part in comma_list(text))
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r}: expected numbers, e.g. 0,1,2") from None


def int_or_auto(text: str) -> int | str:
    """A positive number, or "auto"."""
    if text == "auto":
        return text
    if not text.isdigit() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r}: expected a positive number or auto")
    return int(text)


def run_parser() -> Parser:
    """Every option of `harness run`. An option that is not given is None: the file decides."""
    from harness_plugin.config.fields import MODELS
    from harness_plugin.config.run_config import RunConfig
    from harness_plugin.config.settings import TaskSettings

    parser = Parser("harness run", epilog=EXAMPLES)
    flags = [name for name, field in RunConfig.model_fields.items() if how_of(field)]
    groups: dict[str, Any] = {}
    for name in flags:
        title = how_of(RunConfig.model_fields[name])["group"]
        if title not in groups:
            groups[title] = parser.add_argument_group(title)
            if title == MODELS:
                for shortcut, (path, *_) in SHORTCUTS.items():
                    field = field_at(TaskSettings, path)
                    add_option(groups[title], shortcut, field, [shortcut], default="")
                add_file_options(groups[title])
        add_run_options(groups[title], name)
    return parser


def add_run_options(parser: Any, *names: str, **help_of: str) -> None:
    """Options of `harness run` for another command's parser (or a group of it), by field name.

    `help_of` replaces the help of some of them; unless given they are None.
    """
    from harness_plugin.config.run_config import RunConfig

    for name in names:
        field = RunConfig.model_fields[name]
        default = shown_default(field.get_default(call_default_factory=True))
        add_option(parser, name, field, how_of(field).get("names", [name]), default, help_of)


def add_file_options(parser: Any) -> None:
    """`--config` and `--set`, which name settings instead of being one."""
    parser.add_argument(
        "--config", type=Path, metavar="FILE", help="run file; a run writes its own beside results"
    )
    parser.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        help="any setting, for all tasks or one: teacher.epochs=3, hans.collapse=sum (repeatable)",
    )


def config_from_flags(args: Mapping[str, Any]) -> RunConfig:
    """The configuration that parsed options of `run_parser` describe; other keys are ignored."""
    from harness_plugin.config.merge import run_config
    from harness_plugin.config.run_config import RunConfig
    from harness_plugin.data.yaml_files import merge

    shortcuts: dict[str, Any] = {}
    for name, paths in SHORTCUTS.items():
        for path in paths if args[name] is not None else ():
            value = args[name]
            for part in reversed(path.split(".")):
                value = {part: value}
            shortcuts = merge(shortcuts, value)
    flags = {name: args[name] for name in RunConfig.model_fields if name in args}
    return run_config(args["config"], flags, args["set"], shortcuts)


def field_at(model: type[BaseModel], path: str) -> FieldInfo:
    """The field of a nested model: `teacher.model`."""
    *models, name = path.split(".")
    for part in models:
        model = model.model_fields[part].annotation  # type: ignore[assignment]
    return model.model_fields[name]


def how_of(field: FieldInfo) -> dict[str, Any]:
    """The `fields.flag` of a field; empty where the field has no option."""
    extra: Any = field.json_schema_extra or {}
    how: dict[str, Any] = extra.get("flag", {})
    return how


def add_option(
    parser: Any,
    name: str,
    field: FieldInfo,
    names: list[str],
    default: str,
    help_of: Mapping[str, str] | None = None,
) -> None:
    """One option, read as the field's type says."""
    how, kind = how_of(field), type_of(field.annotation)
    facts = [text for text in (f"default {default}" if default else "", bounds_of(field)) if text]
    text = (field.description or "") + (f" ({'; '.join(facts)})" if facts else "")
    options: dict[str, Any] = {"dest": name, "default": None}
    options["help"] = (help_of or {}).get(name, text).replace("%", "%%")
    if kind is bool:
        options["action"] = "store_true"
    elif get_origin(kind) is Literal:
        options["choices"] = get_args(kind)
    else:
        options["metavar"] = how["metavar"]
        options |= {"action": "append"} if how.get("repeat") else {"type": reader_of(kind)}
    if "bare" in how:
        options |= {"nargs": "?", "const": tuple(how["bare"])}
    parser.add_argument(*(f"--{each}" for each in names), **options)


def type_of(annotation: Any) -> Any:
    """A field's type without None, and without what stands beside text: `bool | str` is text."""
    if get_origin(annotation) is Annotated:
        return type_of(get_args(annotation)[0])
    if get_origin(annotation) in (None, tuple, Literal):
        return annotation
    parts = [type_of(part) for part in get_args(annotation) if part is not NoneType]
    if str in parts:
        return str
    return parts[0] if len(parts) == 1 else tuple(parts)


def reader_of(kind: Any) -> Any:
    """The function from an option's text to its value."""
    if get_origin(kind) is tuple:
        return seed_list if type_of(get_args(kind)[0]) is int else comma_list
    return int_or_auto if kind == (int, Literal["auto"]) else kind


def bounds_of(field: FieldInfo) -> str:
    """The bounds of a number in words; "" for those that the option's own reader checks.

    That no number is beyond `LARGEST` goes without saying.
    """
    from harness_plugin.config.fields import LARGEST

    bounds = {
        name: getattr(each, name)
        for each in field.metadata
        for name in ("ge", "gt", "le", "lt")
        if hasattr(each, name)
    }
    words = {"ge": "at least", "gt": "above", "le": "at most", "lt": "below"}
    return ", ".join(
        f"{words[name]} {value:,}" for name, value in bounds.items() if value != LARGEST
    )


def shown_default(value: Any) -> str:
    """A default as it would be written on the command line; "" for none."""
    if isinstance(value, tuple):
        return ",".join(map(str, value))
    plain = isinstance(value, (int, float, str)) and not isinstance(value, bool)
    return str(value) if plain else ""
