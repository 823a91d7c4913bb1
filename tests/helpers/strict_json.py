"""JSON as its standard has it: NaN and Infinity are refused."""

import json
from pathlib import Path
from typing import Any


def loads(text: str) -> Any:
    """What a text holds."""

    def refuse(constant: str) -> None:
        raise AssertionError(f"{constant} is not JSON")

    return json.loads(text, parse_constant=refuse)


def read(file: Path) -> Any:
    """What a file holds."""
    return loads(file.read_text())


def lines(file: Path) -> list[Any]:
    """What each line of a file holds."""
    return [loads(line) for line in file.read_text().splitlines()]
