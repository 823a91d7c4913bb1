"""What a model that writes is asked: the same in every harness."""

from __future__ import annotations

from collections.abc import Sequence


def instruction(columns: Sequence[str], texts: Sequence[str], labels: Sequence[str]) -> str:
    """The input columns of a row, named, and which labels there are to choose from."""
    shown = "\n".join(f"{name}: {text}" for name, text in zip(columns, texts, strict=True))
    choices = ", ".join(labels)
    return f"{shown}\n\nWhich label is right: {choices}? Answer with the label alone."
