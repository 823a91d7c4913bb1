"""Libraries that take long to import and that few commands use, imported at their first use.

They are imported from here where a name of theirs stands in code whose text is part of a stage's
key (`store.keys`): an import inside the function would be another text.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import datasets as datasets


class Library:
    """A module that is imported when an attribute of it is first asked for."""

    def __init__(self, name: str) -> None:
        self._name = name

    def __getattr__(self, attribute: str) -> Any:
        return getattr(importlib.import_module(self._name), attribute)


if not TYPE_CHECKING:
    datasets = Library("datasets")
