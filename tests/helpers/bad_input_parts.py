"""What every kind of bad input is made of: values, texts with a piece lost, inputs that hold."""

from __future__ import annotations

import contextlib
import io
import random
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

TOY = Path(__file__).resolve().parents[1] / "toy"

VALUES = [
    "", " ", "null", "true", "nan", ".nan", ".inf", "-.inf", "1e26", "-1e26", "1e400", "-1", "-0.5",
    "0", "99999999999999999999999", "0x10", "1_000", "0b2", "2020-13-45", "2020-01-01", "25:61:61",
    "!!int abc", "!!float x", "!!bool 3", "!!timestamp x", "!!binary '%'", "!!set {a}",
    "!!python/object/apply:os.system [id]", "!!python/name:os.system", "!mine x", "&a [*a]", "*a",
    "{a: 1, a: 2}", "{a:1}", "{{a: 1}: 2}", "{[1]: 2}", "? [1]", "[", "]", "{", "[1, 2", "'", '"',
    '"\\x00"', "\x07", "\x00", "\x1b[31m", "\u202e", "\ufeff", "\U0001f600", "[" * 400, "[" * 5000,
    "{a: " * 900, "- " * 3000, "a" * 6000, "- 1\n- 2", "%TAG", "---\n---\n", "<<: 3", "{<<: [1]}",
    "{<<: {a: 1}}", "/dev/zero", "/dev/null", "/dev/stdin", "/proc/self/mem", "..", "../x", "a/b",
    "/", ".", "os:system", "json:loads", "nowhere:x", ":", "a:", ":b", "\\", "${HOME}",
    "[null]", "[[]]", "[1, a, {}]", "{}", "[]", "{a: {b: {c: 1}}}", "{null: 1}", "{1: 2}", "=",
    "-", "--", "None", "self", "__class__", "1e-400", "0.1.2", "\u0661", "1,2", "0,0", "a" * 300,
]  # fmt: skip
"""Texts that are given as values of flags, settings, YAML keys and cells."""

OBJECTS: list[Any] = [
    None, True, False, 0, -1, 3, 10**30, 1e308, -0.5, "", "x", "a" * 5000, "\x00", "<script>", "..",
    "../../x", "/etc/passwd", "nan", [], [[]], {}, {"a": {}}, [None], ["x", "x"], [1, "a", {}],
    {"": ""}, "2020-01-01", "\ud800",
]  # fmt: skip
"""Values that stand in JSON in place of others."""


@dataclass(frozen=True)
class Case:
    """A command line; `wrong` says why it must not be accepted ("" = it may)."""

    kind: str
    argv: tuple[str, ...]
    wrong: str = ""


class Good:
    """Inputs that hold, made once in `folder`, for cases that change one thing of them.

    `run`: the results of a finished run on the toy task, which is made where none is at hand.
    """

    def __init__(self, folder: Path, run: Path | None = None) -> None:
        self.folder, self.run = folder, run

    def get(self, name: str, make: Callable[[Path], None]) -> Path:
        """The folder of a good input; processes that share it find what another has made."""
        place = self.folder / name
        if not place.exists():
            begun = self.folder / f"{name}-begun"
            shutil.rmtree(begun, ignore_errors=True)
            begun.mkdir(parents=True)
            make(begun)
            begun.rename(place)
        return place


def base_run(place: Path, task: str = "") -> list[str]:
    """Flags of a toy run that would be accepted."""
    fixed = ["--threads", "1", "--precision", "no", "--attention", "sdpa", "--device", "cpu"]
    out = ["--output_path", str(place / "out"), "--use_cache", str(place.parent / "store")]
    return ["--tasks", task or str(TOY / "toy.yaml"), *fixed, *out]


def quiet_main(argv: list[str]) -> None:
    """Run a command that must succeed; what it prints is not shown."""
    from harness_plugin.cli.main import main

    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        if main(argv) != 0:
            raise RuntimeError(f"a good input cannot be made: {argv}")


def write(path: Path, text: str | bytes) -> None:
    """Write a file; a text that UTF-8 has no bytes for as other bytes."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(text if isinstance(text, bytes) else text.encode("utf-8", "surrogatepass"))


def mangled(rng: random.Random, text: str) -> str:
    """A text with a piece lost, doubled, replaced or inserted."""
    lines = text.split("\n")
    spot, value = rng.randrange(len(lines)), rng.choice(VALUES)
    how = rng.randrange(6)
    if how == 0:
        del lines[spot]
    elif how == 1:
        lines.insert(spot, lines[spot])
    elif how == 2:
        key, colon, _ = lines[spot].partition(":")
        lines[spot] = f"{key}{colon or ':'} {value}"
    elif how == 3:
        lines.insert(spot, f"{' ' * rng.randrange(6)}{rng.choice(VALUES)}: {value}")
    elif how == 4:
        lines[spot] = value
    else:
        whole = "\n".join(lines)
        cut = rng.randrange(len(whole) + 1)
        return whole[:cut] + rng.choice(["", "\x00", "\t", value, "\ud800"[:0]]) + whole[cut + 3 :]
    return "\n".join(lines)


def places(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """The path of every value in JSON."""
    if path:
        yield path
    items = (
        value.items()
        if isinstance(value, dict)
        else enumerate(value)
        if isinstance(value, list)
        else ()
    )
    for key, each in items:
        yield from places(each, (*path, key))


def with_change(rng: random.Random, value: Any) -> Any:
    """JSON with one value lost, or another one in its place."""
    path = rng.choice(list(places(value)))
    holder = value
    for key in path[:-1]:
        holder = holder[key]
    if rng.random() < 0.3:
        del holder[path[-1]]
    else:
        holder[path[-1]] = rng.choice(OBJECTS)
    return value
