"""A filter of lm-evaluation-harness for models that write their answer: many labels to fewer."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

# that harness registers its own when it finds none: ours must not be the first
import lm_eval.filters  # noqa: F401
from lm_eval.api.filter import Filter
from lm_eval.api.registry import register_filter

from harness_plugin.errors import HarnessError


@register_filter("debias_collapse_labels")
class CollapseLabels(Filter):  # type: ignore[misc]
    """Turns a written answer into a label of the set: "Neutral." is non-entailment on HANS.

    `collapse` maps every label that a model may write to one of the set. The answer is the label
    with which the text begins, whatever its case, the longest where several fit; a text that begins
    with none stays as it is, and is wrong. In a YAML file with `output_type: generate_until`:

        filter_list:
          - name: two_way
            filter:
              - function: debias_collapse_labels
                collapse: {entailment: entailment, neutral: non-entailment, …}
              - function: take_first
    """

    def __init__(self, collapse: Mapping[str, str] | None = None, **unknown: Any) -> None:
        super().__init__()
        if unknown or not collapse:
            raise HarnessError("debias_collapse_labels needs `collapse: {written label: label}`.")
        self.collapse = {name.lower(): label for name, label in collapse.items()}

    def apply(self, resps: Iterable[Any], docs: Any) -> list[list[str]]:
        """The answers of every document, one list each."""
        return [[self.label(text) for text in answers] for answers in resps]

    def label(self, text: str) -> str:
        """The label that `text` stands for."""
        start = text.strip().strip("\"'`*").lower()
        fitting = [name for name in self.collapse if start.startswith(name)]
        return self.collapse[max(fitting, key=len)] if fitting else text
