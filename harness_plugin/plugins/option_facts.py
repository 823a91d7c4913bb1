"""Documentation of options: meaning, range, and the value that the source publishes.

They stand in `defaults.yaml` beside the `__init__.py` of the plugin's top package, by kind, name
and option (docs/hooks.md). A package without the file says nothing, and its options have no range.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from functools import cache
from importlib.resources import files
from importlib.resources.abc import Traversable
from importlib.util import find_spec
from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationError

from harness_plugin.errors import HarnessError
from harness_plugin.plugins.registry import Offer

FILE = "defaults.yaml"


class OptionFacts(BaseModel):
    """One option. `source` is the value of the paper or the authors' code, `where` the place."""

    model_config = ConfigDict(extra="forbid")

    help: str = ""
    range: str | list[str] = ""
    """An interval, "(0, 1]" or "[0, inf)", or the values that there are; "" = none is stated."""
    whole: bool = False
    """Whether only integers lie in the interval, where the type of the default does not say so."""
    source: Any = None
    where: str = ""
    ours: Any = None
    """The default, where it is not the source's value, which `because` gives the reason of."""
    because: str = ""

    def allows(self, value: Any) -> bool:
        """Whether a value lies in the range; None ("choose it") lies in every interval."""
        if isinstance(self.range, list):
            return value in self.range
        if not self.range or value is None:
            return True
        if isinstance(value, bool) or not isinstance(value, int if self.whole else int | float):
            return False
        low, high = (float(end) for end in self.range[1:-1].split(","))
        above = value >= low if self.range[0] == "[" else value > low
        below = value <= high if self.range[-1] == "]" else value < high
        return above and below and not math.isnan(value)

    def range_in_words(self) -> str:
        """The range as people read it, "" where none is stated."""
        if isinstance(self.range, list):
            return " or ".join(self.range)
        low, _, high = self.range[1:-1].partition(", ")
        kind = "a whole number, " if self.whole else ""
        if high != "inf":
            return f"{kind}in {self.range}" if self.range else ""
        return f"{kind}at least {low}" if self.range[0] == "[" else f"{kind}above {low}"


def option_facts(offer: Offer) -> Mapping[str, OptionFacts]:
    """Facts that a package states of the options of a registered object; {} where it states none.

    Raises HarnessError for a file that cannot be read.
    """
    package = top_package(offer)
    facts = facts_of_package(package).get(offer.kind, {}).get(offer.name) or {}
    try:
        return {name: OptionFacts.model_validate(fact) for name, fact in facts.items()}
    except (ValidationError, AttributeError) as error:
        reason = " ".join(str(error).split())
        raise HarnessError(f"{package}/{FILE}: {offer.kind}.{offer.name}: {reason}") from None


def top_package(offer: Offer) -> str:
    """The first part of the module that a registered object lives in."""
    return offer.target.partition(":")[0].partition(".")[0]


def file_of_package(package: str, name: str) -> Traversable | None:
    """A file beside the `__init__.py` of a package, None where there is none."""
    spec = find_spec(package)
    if spec is None or spec.submodule_search_locations is None:  # a module has no files beside it
        return None
    place = files(package) / name
    return place if place.is_file() else None


@cache
def facts_of_package(package: str) -> Mapping[str, Any]:
    """The file of a package, {} where it has none."""
    import yaml

    from harness_plugin.data.yaml_files import load_yaml

    place = file_of_package(package, FILE)
    if place is None:
        return {}
    try:
        content, _ = load_yaml(place.read_text(encoding="utf-8"))
    except yaml.YAMLError as error:
        raise HarnessError(f"{package}/{FILE}: {' '.join(str(error).split())}") from None
    if not isinstance(content, Mapping):
        raise HarnessError(f"{package}/{FILE}: expected a mapping of kinds.")
    return content


def check_ranges(offer: Offer, options: Mapping[str, Any]) -> None:
    """Refuse an option out of its range: HarnessError naming it, the value and the range."""
    for name, fact in option_facts(offer).items():
        if name in options and not fact.allows(options[name]):
            raise HarnessError(
                f"{offer.kind} {offer.name}: option {name} must be {fact.range_in_words()}, "
                f"found {options[name]!r}."
            )
