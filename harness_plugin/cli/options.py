"""The table of a run's options, made from the fields of its settings (`config`).

    python -m harness_plugin.cli.options    # after a change of a field: writes options.json

A field's type says how an option's text is read, its choices and bounds what the help shows, its
description the help. The table is kept, because to import the settings takes five times as long
as `harness --help` does with it; a test compares both.
"""

from __future__ import annotations

import json
from types import NoneType
from typing import Annotated, Any, Literal, get_args, get_origin

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from harness_plugin.cli.parser import SHORTCUTS, TABLE
from harness_plugin.config.fields import LARGEST, MODELS
from harness_plugin.config.run_config import RunConfig
from harness_plugin.config.settings import TaskSettings


def main() -> None:
    """Write the table beside this module, an option a line."""
    parts = []
    for name, options in option_table().items():
        lines = [f"  {json.dumps(each)}: {json.dumps(option)}" for each, option in options.items()]
        parts.append(f' "{name}": {{\n' + ",\n".join(lines) + "\n }")
    TABLE.write_text("{\n" + ",\n".join(parts) + "\n}\n", encoding="utf-8")


def option_table() -> dict[str, dict[str, dict[str, Any]]]:
    """Every option by name: those of `RunConfig`, and the shortcuts to settings of a task."""
    fields = {
        name: option_of(name, field, shown_default(field.get_default(call_default_factory=True)))
        for name, field in RunConfig.model_fields.items()
        if how_of(field)
    }
    shortcuts = {
        name: {**option_of(name, field_at(TaskSettings, path)), "group": MODELS}
        for name, (path, *_) in SHORTCUTS.items()
    }
    return {"fields": fields, "shortcuts": shortcuts}


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


def option_of(name: str, field: FieldInfo, default: str = "") -> dict[str, Any]:
    """One option of the table; `default` as the help shows it."""
    how, kind = how_of(field), type_of(field.annotation)
    facts = [text for text in (f"default {default}" if default else "", bounds_of(field)) if text]
    option: dict[str, Any] = {
        "group": how.get("group"),
        "names": how.get("names", [name]),
        "help": (field.description or "") + (f" ({'; '.join(facts)})" if facts else ""),
        "read": "each" if how.get("repeat") else reader_of(kind),
    }
    if option["read"] == "choice":
        option["choices"] = list(get_args(kind))
    elif option["read"] != "switch":
        option["metavar"] = how["metavar"]
    return option | ({"bare": how["bare"]} if "bare" in how else {})


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


def reader_of(kind: Any) -> str:
    """How an option's text becomes its value, a key of `parser.READERS`, a switch or a choice."""
    if get_origin(kind) is Literal:
        return "choice"
    if get_origin(kind) is tuple:
        return "numbers" if type_of(get_args(kind)[0]) is int else "names"
    if kind == (int, Literal["auto"]):
        return "int or auto"
    return {bool: "switch", str: "text", int: "int", float: "float"}[kind]


def bounds_of(field: FieldInfo) -> str:
    """The bounds of a number in words; "" for those that the option's own reader checks.

    That no number is beyond `LARGEST` goes without saying.
    """
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


if __name__ == "__main__":
    main()
