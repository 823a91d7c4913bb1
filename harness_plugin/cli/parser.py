"""The options of `harness run`: `options.json`, which `options.py` makes from the settings' fields.

Values are checked where settings from files are: by the models.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping
from functools import cache
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from harness_plugin.errors import HarnessError, unknown

if TYPE_CHECKING:
    from harness_plugin.config.run_config import RunConfig

TABLE = Path(__file__).with_name("options.json")

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


@cache
def table() -> dict[str, dict[str, dict[str, Any]]]:
    """What `options.py` wrote: `fields` of a run and `shortcuts` of a task, options by name."""
    content: dict[str, dict[str, dict[str, Any]]] = json.loads(TABLE.read_text(encoding="utf-8"))
    return content


def run_parser(*without: str) -> Parser:
    """Every option of `harness run`. An option that is not given is None: the file decides.

    `without`: fields that a command like it has no option for.
    """
    parser = Parser("harness run", epilog=EXAMPLES)
    groups: dict[str, Any] = {}
    shortcuts = table()["shortcuts"]
    for name, option in table()["fields"].items():
        title = option["group"]
        if title not in groups:
            groups[title] = parser.add_argument_group(title)
            mine = {name: each for name, each in shortcuts.items() if each["group"] == title}
            for shortcut, each in mine.items():
                add_option(groups[title], shortcut, each)
            if mine:
                add_file_options(groups[title])
        if name not in without:
            add_option(groups[title], name, option)
    return parser


def add_run_options(parser: Any, *names: str, **help_of: str) -> None:
    """Options of `harness run` for another command's parser (or a group of it), by field name.

    `help_of` replaces the help of some of them; unless given they are None.
    """
    for name in names:
        option = table()["fields"][name]
        add_option(parser, name, {**option, "help": help_of.get(name, option["help"])})


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
    from harness_plugin.data.yaml_files import merge

    shortcuts: dict[str, Any] = {}
    for name, paths in SHORTCUTS.items():
        for path in paths if args[name] is not None else ():
            value = args[name]
            for part in reversed(path.split(".")):
                value = {part: value}
            shortcuts = merge(shortcuts, value)
    flags = {name: args[name] for name in table()["fields"] if name in args}
    return run_config(args["config"], flags, args["set"], shortcuts)


READERS = {
    "text": str,
    "int": int,
    "float": float,
    "names": comma_list,
    "numbers": seed_list,
    "int or auto": int_or_auto,
}
"""How an option's text is read, by the word of the table."""


def add_option(parser: Any, name: str, option: Mapping[str, Any]) -> None:
    """One option of the table."""
    options: dict[str, Any] = {"dest": name, "default": None}
    options["help"] = option["help"].replace("%", "%%")
    if option["read"] == "switch":
        options["action"] = "store_true"
    elif option["read"] == "choice":
        options["choices"] = option["choices"]
    elif option["read"] == "each":
        options |= {"metavar": option["metavar"], "action": "append"}
    else:
        options |= {"metavar": option["metavar"], "type": READERS[option["read"]]}
    if "bare" in option:
        options |= {"nargs": "?", "const": tuple(option["bare"])}
    parser.add_argument(*(f"--{each}" for each in option["names"]), **options)
