"""The metadata that a method, distiller or the like needs, known without its class.

A class states it (`needs`), but to import one is to import torch, which takes seconds and may not
be installed. A package may therefore keep `needs.json` beside the `__init__.py` of its top package,
"module:Class" -> needs, written from its classes; without the file the class is imported.

    python -m harness_plugin.plugins.needs harness_plugin_hooks    # after a change of a class
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Mapping
from functools import cache
from pathlib import Path

from pydantic import TypeAdapter, ValidationError

from harness_plugin.errors import HarnessError
from harness_plugin.plugins.option_facts import file_of_package, top_package
from harness_plugin.plugins.registry import Offer, Plugins, load_plugins

FILE = "needs.json"
KINDS = ("method", "bias_model", "group_inference", "distiller", "augmentation")
"""Kinds whose classes have `needs`: keys of `training.contracts.NEEDS`."""


def needs_of(offer: Offer) -> frozenset[str]:
    """The `needs` of a registered class, from the file of its package or the class itself.

    Raises HarnessError for a file that cannot be read, and as `Offer.load` for the class.
    """
    stated = stated_needs(top_package(offer)).get(offer.target)
    return needs_of_class(offer) if stated is None else stated


def needs_of_class(offer: Offer) -> frozenset[str]:
    """The `needs` of a registered class, which is imported; HarnessError if it has none."""
    thing = offer.load()
    needs = getattr(thing, "needs", None)
    if not isinstance(needs, frozenset):
        raise offer.refusal(thing, "a class with `needs`")
    return needs


@cache
def stated_needs(package: str) -> Mapping[str, frozenset[str]]:
    """The file of a package, {} where it has none."""
    place = file_of_package(package, FILE)
    if place is None:
        return {}
    try:
        return TypeAdapter(dict[str, frozenset[str]]).validate_json(place.read_bytes())
    except ValidationError as error:
        reason = " ".join(str(error).split())
        raise HarnessError(
            f"{package}/{FILE}: {reason}. Write it again: "
            f"python -m harness_plugin.plugins.needs {package}"
        ) from None


def needs_in(package: str, plugins: Plugins) -> dict[str, list[str]]:
    """Target -> needs of every class that a package offers; all are imported."""
    offers = [offer for kind in KINDS for offer in plugins[kind] if top_package(offer) == package]
    return {each.target: sorted(needs_of_class(each)) for each in offers}


def main() -> None:
    """Write the file of a package, a class a line."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("package", help="the top package of a plugin, such as harness_plugin_hooks")
    package = parser.parse_args().package
    needs = needs_in(package, load_plugins())
    if not needs:
        parser.error(f"no plugin that is installed offers a class of a package {package!r}")
    lines = [f" {json.dumps(target)}: {json.dumps(each)}" for target, each in sorted(needs.items())]
    folder = Path(str(sys.modules[package].__file__)).parent  # it has been imported by its plugins
    (folder / FILE).write_text("{\n" + ",\n".join(lines) + "\n}\n", encoding="utf-8")


if __name__ == "__main__":
    main()
