"""Options of the embedded sources, checked."""

from __future__ import annotations

from harness_plugin.data import DataRequest
from harness_plugin.errors import HarnessError


def whole_number(request: DataRequest, name: str) -> int:
    """The option `name`, a positive whole number."""
    value = request.options[name]
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise HarnessError(
            f"{request.task.task}.{name} must be a positive whole number, found {value!r}."
        )
    return value


def share(request: DataRequest, name: str) -> float:
    """The option `name`, a number strictly between 0 and 1."""
    value = request.options[name]
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value < 1:
        raise HarnessError(f"{request.task.task}.{name} must be between 0 and 1, found {value!r}.")
    return float(value)
