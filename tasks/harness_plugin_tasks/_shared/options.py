"""Options of a task that hold numbers: the value, or an error that names the option."""

from __future__ import annotations

from harness_plugin.data.dataset import DataRequest
from harness_plugin.errors import HarnessError


def whole_number(request: DataRequest, name: str, at_least: int = 1) -> int:
    """The option `name`, a whole number. Raises HarnessError naming the option."""
    value = request.options[name]
    if isinstance(value, bool) or not isinstance(value, int) or value < at_least:
        raise HarnessError(
            f"{request.task.task}.{name} must be a whole number of at least {at_least}, found "
            f"{value!r}."
        )
    return value


def fraction(request: DataRequest, name: str) -> float:
    """The option `name`, in [0, 1). Raises HarnessError naming the option."""
    value = request.options[name]
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < 1:
        raise HarnessError(f"{request.task.task}.{name} must be in [0, 1), found {value!r}.")
    return float(value)


def share(request: DataRequest, name: str) -> float:
    """The option `name`, strictly between 0 and 1. Raises HarnessError naming the option."""
    value = request.options[name]
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value < 1:
        raise HarnessError(f"{request.task.task}.{name} must be between 0 and 1, found {value!r}.")
    return float(value)


def optional_rows(request: DataRequest, name: str, at_least: int = 1) -> int | None:
    """The option `name`, a number of rows, or None where it is left at null."""
    if request.options[name] is None:
        return None
    return whole_number(request, name, at_least)
