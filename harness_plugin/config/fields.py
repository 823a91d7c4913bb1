"""How settings are declared: types that several fields share, and what an option's field says."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, TypeAlias

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

WHAT, MODELS, MACHINE, RESULTS = "what to run", "models and methods", "machine", "results"
"""The groups of options in `harness --help`."""


LARGEST, MANY = 1e12, 2**20
"""No setting, and no number of examples at once, is larger: what is was mistyped."""


def finite(value: Any) -> Any:
    """`value`; ValueError where a number in it, however deep, is no number or beyond `LARGEST`."""
    if isinstance(value, (int, float)) and not abs(value) <= LARGEST:
        raise ValueError(f"Input should be a finite number of at most {LARGEST:.0e}, not {value}")
    if isinstance(value, Mapping):
        for each in value.values():
            finite(each)
    elif isinstance(value, (list, tuple)):
        for each in value:
            finite(each)
    return value


Seed: TypeAlias = Annotated[int, Field(ge=0, lt=2**32)]
"""A seed that NumPy, torch and Accelerate all take."""
Brightness: TypeAlias = Annotated[float, Field(ge=0, le=1)]
Spread: TypeAlias = Annotated[float, Field(gt=0)]
Options: TypeAlias = Annotated[dict[str, Any], AfterValidator(finite)]
"""Settings whose names another object knows: a method, a task, an architecture."""


def flag(group: str, metavar: str = "", **how: Any) -> dict[str, Any]:
    """Metadata of a field for its command line option, beside what its own type says.

    `names`: other names than the field's. `repeat`: once a value, instead of a comma list.
    `bare`: the value of an option that is given without one.
    """
    return {"flag": {"group": group, "metavar": metavar, **how}}


class Strict(BaseModel):
    """Frozen; an unknown key is an error, and so is a number that is not finite."""

    model_config = ConfigDict(
        extra="forbid", frozen=True, allow_inf_nan=False, defer_build=True
    )  # deferred: `harness --help` reads fields and checks nothing
