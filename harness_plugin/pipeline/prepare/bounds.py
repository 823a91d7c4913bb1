"""Options of methods, distillers and the like that no number below their bounds is given for.

They are weights, counts, shares, rates and temperatures: none is negative, but for those whose
default is (an index that counts from the end). A class refuses what else it cannot work with.
Above, and for what is no number, the settings' own types refuse (`config.fields.finite`).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from harness_plugin.errors import HarnessError
from harness_plugin.training.contracts import Configured


def lowest(cls: type[Configured], option: str) -> float:
    """The least value of a numeric option: 0, or -inf where a default counts from the end."""
    defaults = [cls.defaults[option], *(values.get(option) for values in cls.family.values())]
    return float("-inf") if any(is_number(each) and each < 0 for each in defaults) else 0.0


def is_number(value: object) -> bool:
    """A number that is not a truth value."""
    return isinstance(value, int | float) and not isinstance(value, bool)


def check_bounds(what: str, cls: type[Configured], options: Mapping[str, Any]) -> None:
    """Refuse a number, alone or in a list, below what its option may be; `what` comes first."""
    for option, value in options.items():
        numbers = value if isinstance(value, list | tuple) else [value]
        low = lowest(cls, option)
        if any(is_number(each) and each < low for each in numbers):
            raise HarnessError(f"{what}: option {option} must not be negative, found {value!r}.")
