"""`harness show`: everything that one registered thing says of itself."""

from __future__ import annotations

import dataclasses
import inspect
import shutil
import textwrap
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from harness_plugin.cli.parser import Parser
from harness_plugin.cli.startup import KINDS, installed_plugins
from harness_plugin.errors import HarnessError, unknown

if TYPE_CHECKING:
    from harness_plugin.data.task import Task
    from harness_plugin.plugins.option_facts import OptionFacts
    from harness_plugin.plugins.registry import Offer, Plugins

SETTING = {
    "method": "method_options.{}",
    "bias_model": "bias_model_options.{}",
    "group_inference": "group_inference_options.{}",
    "distiller": "students.student.distiller_options",
    "augmentation": "students.student.augmentations.{}",
    "compressor": "students.student.compress.{}",
}
"""Below which setting the options of a kind stand."""
INDENT, LEAST = 2, 40
"""Columns before a line, and below which the terminal's width is not believed."""


def show(argv: list[str]) -> int:
    """Print one thing by its name; its kind comes first where several have the name.

    Raises HarnessError for a name that does not exist, or that needs its kind.
    """
    parser = Parser(
        "harness show",
        description="Show a task, method, distiller or anything else that is registered: its "
        "options with defaults, what it needs, where it comes from.",
    )
    parser.add_argument("words", nargs="+", metavar="[KIND] NAME", help=", ".join(KINDS.values()))
    parser.add_argument("--include_path", action="append", default=[], metavar="DIR")
    args = parser.parse_args(argv)
    if len(args.words) > 2:
        parser.error(f"unexpected argument {args.words[2]!r}")
    *kinds, name = args.words
    plugins = installed_plugins()
    kind = kind_of(kinds[0] if kinds else None, name, plugins, args.include_path)
    if kind == "task":
        from harness_plugin.data.task import find_task

        lines = of_task(find_task(name, plugins["task"], args.include_path))
    else:
        lines = of_offer(plugins[kind].offer(name))
    print("\n".join(lines))
    return 0


def kind_of(kind: str | None, name: str, plugins: Plugins, include_path: list[str]) -> str:
    """The kind of the thing called `name`."""
    if kind is not None:
        if kind not in KINDS.values():
            raise unknown("kind of thing to show", kind, KINDS.values())
        return kind
    if name.endswith((".yaml", ".yml")):
        return "task"
    kinds = [each for each in KINDS.values() if name in plugins[each]]
    local: list[str] = []
    if include_path:
        from harness_plugin.data.task import read_task
        from harness_plugin.data.task_files import task_files

        local = [read_task(path, plugins["task"]).task for path in task_files(include_path)]
        if name in local and "task" not in kinds:
            kinds.append("task")
    if not kinds:
        every = {offer.name for each in KINDS.values() for offer in plugins[each]}
        raise unknown("name", name, every | set(local))
    if len(kinds) > 1:
        ways = " or ".join(f"`harness show {each} {name}`" for each in kinds)
        raise HarnessError(f"{name!r} is the name of several things: say {ways}.")
    return kinds[0]


def of_task(task: Task) -> Iterator[str]:
    """A task's file in words."""
    yield f"task {task.task}"
    yield from paragraph(task.summary)
    yield ""
    yield from rows(
        {
            "bias": task.bias,
            "inputs": f"{task.modality}: {', '.join(task.inputs)}",
            "data": ", ".join("DIR" if name == "path" else name for name in task.sources),
            "method": str(task.recipe.get("all", {}).get("method", "")),
            "sets": "; ".join(evaluation_sets(task)),
            "version": str(task.version),
            "base": task.base,
            "licence": task.licence,
            "citation": task.citation,
            "file": task.file,
        }
    )
    if task.options:
        yield ""
        yield f"options (--set {task.task}.NAME=VALUE)"
        for name, option in task.options.items():
            choices = f" of {', '.join(map(str, option.choices))}" if option.choices else ""
            yield from paragraph(f"{name} = {shown(option.default)}{choices}")
            yield from paragraph(option.help, INDENT * 3)


def evaluation_sets(task: Task) -> Iterator[str]:
    """The evaluation sets in a task's file, and where those are seen that its data alone name."""
    from harness_plugin.data.task_files import named_sets

    gaps = task.primary_gap if isinstance(task.primary_gap, dict) else {}
    if isinstance(task.primary_gap, str):
        yield f"primary gap {task.primary_gap}"
    for name in named_sets({"primary_gap": gaps, "hub_sets": task.hub_sets}):
        facts = [f"primary gap {gaps[name]}"] if name in gaps else []
        if hub := task.hub_sets.get(name):
            config = f", {hub.config}" if hub.config else ""
            facts.append(f"hub {hub.id}{config}, split {hub.split}")
        yield f"{name} ({'; '.join(facts)})"
    unnamed = [name for name in task.sources if name != "hub" or not task.hub_sets]
    if unnamed and not gaps:
        others = ["DIR" if name == "path" else name for name in unnamed]
        yield f"those of {', '.join(others)} data, which harness validate {task.task} lists"


def of_offer(offer: Offer) -> Iterator[str]:
    """Anything but a task: its class, function or record."""
    thing = offer.load()
    yield f"{offer.kind} {offer.name}"
    yield from paragraph(offer.summary)
    yield ""
    yield from rows({"plugin": offer.plugin, "object": offer.target, **fields_of(thing)})
    needs = sorted(getattr(thing, "needs", ()))
    if needs:
        from harness_plugin.training.contracts import NEEDS

        yield ""
        yield "needs"
        for need in needs:
            yield from paragraph(NEEDS.get(need, need))
    defaults = getattr(thing, "defaults", {})
    if defaults and offer.kind in SETTING:
        from harness_plugin.plugins.option_facts import OptionFacts, option_facts

        yield ""
        yield f"options (--set {SETTING[offer.kind].format(offer.name)}.NAME=VALUE)"
        facts = option_facts(offer)
        for name in defaults:
            yield from option(name, default_of(thing, name), facts.get(name, OptionFacts()))
    documented = inspect.isclass(thing) or inspect.isroutine(thing)
    if documented and (text := inspect.getdoc(thing)):
        yield ""
        for number, part in enumerate(text.split("\n\n")):
            if number:
                yield ""
            yield from paragraph(part)


def default_of(thing: Any, name: str) -> str:
    """An option's default, and after it that of each modality where it is another."""
    family = getattr(thing, "family", {})
    other = [f"{kind}: {shown(own[name])}" for kind, own in family.items() if name in own]
    return ", ".join([shown(thing.defaults[name]), *other])


def option(name: str, default: str, fact: OptionFacts) -> Iterator[str]:
    """One option: its default and range, what it is, and where the default comes from."""
    words = fact.range_in_words()
    yield from paragraph(f"{name} = {default}" + (f" ({words})" if words else ""))
    if fact.help:
        yield from paragraph(fact.help, INDENT * 3)
    if fact.where:
        theirs = f"source: {shown(fact.source)}, " if fact.because else "source: "
        yield from paragraph(f"{theirs}{fact.where}", INDENT * 3)
    if fact.because:
        yield from paragraph(f"ours: {fact.because}", INDENT * 3)


def fields_of(thing: Any) -> dict[str, str]:
    """The plain values of a record: a metric's kind and bounds, a preset's architecture."""
    if not dataclasses.is_dataclass(thing) or isinstance(thing, type):
        return {}
    values = {each.name: getattr(thing, each.name) for each in dataclasses.fields(thing)}
    plain = (str, int, float, tuple, Mapping)
    return {
        name: shown(value)
        for name, value in values.items()
        if isinstance(value, plain) and name not in ("name", "summary")
    }


def shown(value: Any) -> str:
    """A value as YAML writes it, on one line."""
    import yaml

    if isinstance(value, (list, tuple)):
        return f"[{', '.join(map(shown, value))}]"
    if isinstance(value, Mapping):
        return f"{{{', '.join(f'{key}: {shown(each)}' for key, each in value.items())}}}"
    text = str(yaml.safe_dump(value, width=10_000, allow_unicode=True))
    return text.removesuffix("\n").removesuffix("\n...")


def rows(values: Mapping[str, str]) -> Iterator[str]:
    """Names and values in two columns; what is empty is left out."""
    known = {name: value for name, value in values.items() if value}
    width = max(map(len, known)) + INDENT
    for name, value in known.items():
        first, *rest = list(paragraph(value, INDENT + width))
        yield f"{' ' * INDENT}{name:{width}}{first.lstrip()}"
        yield from rest


def paragraph(text: str, indent: int = INDENT) -> Iterator[str]:
    """A text in lines as wide as the terminal; a word that is wider stays whole."""
    width = max(shutil.get_terminal_size().columns, LEAST)
    space = " " * indent
    yield from textwrap.wrap(
        " ".join(text.split()),
        width,
        initial_indent=space,
        subsequent_indent=space,
        break_long_words=False,
        break_on_hyphens=False,
    )
