"""The stress tests as they are released: which files there are, and one split of all of them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from harness_plugin.data.dataset import UNDEFINED, Split
from harness_plugin.errors import HarnessError
from harness_plugin_tasks._shared.files import find
from harness_plugin_tasks._shared.text.cues import (
    NEGATION,
    NEGATION_WORDS,
    NO_NEGATION,
    Cue,
    tokens,
)
from harness_plugin_tasks._shared.text.nli_released import either
from harness_plugin_tasks._shared.text.splits import concatenated, table_split
from harness_plugin_tasks._shared.text.tables import Table, read_nli

SECTIONS = ("matched", "mismatched")
SPELLING = "Spelling_Error/multinli_0.9_dev_gram_"
FILES = {
    "antonym": "Antonym/multinli_0.9_antonym_{}",
    "length_mismatch": "Length_Mismatch/multinli_0.9_length_mismatch_{}",
    "negation": "Negation/multinli_0.9_negation_{}",
    "numerical_reasoning": "Numerical_Reasoning/multinli_0.9_quant_hard",
    "spelling_contentword_swap": SPELLING + "contentword_swap_perturbed_{}",
    "spelling_functionword_swap": SPELLING + "functionword_swap_perturbed_{}",
    "spelling_keyboard": SPELLING + "keyboard_{}",
    "spelling_swap": SPELLING + "swap_{}",
    "word_overlap": "Word_Overlap/multinli_0.9_taut2_{}",
}
"""The file of each category, for each section where it has two."""

ROWS = {"negation/matched": 9_815, "negation/mismatched": 9_832}
"""Rows by the name of the table, `<category>/<section>`, where they are known."""


def stressed(premise: str, hypothesis: str) -> str:
    """NEGATION when the hypothesis has one of NEGATION_WORDS or "not", which a stress test adds."""
    return NO_NEGATION if (NEGATION_WORDS | {"not"}).isdisjoint(tokens(hypothesis)) else NEGATION


CUE = Cue((NEGATION, NO_NEGATION), stressed, "contradiction")


class Test(NamedTuple):
    """The pairs of one file: its category, its section ("" where it has none), its rows."""

    category: str
    section: str
    table: Table


def chosen_categories(value: object) -> list[str]:
    """The categories of the option, in the order of FILES; HarnessError for an unknown one."""
    names = [value] if isinstance(value, str) else value
    if names == ["all"]:
        return list(FILES)
    if not isinstance(names, list | tuple) or not names or set(map(str, names)) - {*FILES}:
        raise HarnessError(
            f"nli_stress.categories must be all, or list some of {', '.join(FILES)}; "
            f"found {value!r}."
        )
    return [name for name in FILES if name in names]


def read_tests(root: Path, categories: Sequence[str]) -> list[Test]:
    """Every file of `categories` in StressTests/ under `root`, or in `root` itself.

    Raises HarnessError naming every file that is missing, and file and row of a malformed one.
    """
    present, absent = [], []
    for category in categories:
        for section in SECTIONS if "{}" in FILES[category] else ("",):
            stem = FILES[category].format(section)
            if file := find(root, either(stem)):
                present.append((category, section, file))
            else:
                absent.append(f"{stem}.jsonl (or .txt)")
    if absent:
        raise HarnessError(
            f"{root}: found none of {', '.join(absent)} (looked in it and in its direct "
            "subfolders, StressTests/ among them); nli_stress.categories chooses others."
        )
    return [
        Test(category, section, read_nli(file, f"{category}/{section}" if section else category))
        for category, section, file in present
    ]


def stress_split(tests: Sequence[Test]) -> Split:
    """All tests in one set, with groups label x category and breakdowns `stress` and `section`.

    Only the category `negation` has a cue that points to a label, contradiction.
    """
    table = concatenated([test.table for test in tests])
    stress = [test.category for test in tests for _ in range(len(test.table))]
    return table_split(
        "stress",
        purpose="ood",
        table=table,
        attributes=stress,
        values=list(dict.fromkeys(test.category for test in tests)),
        aligned=[
            CUE.points_to(NEGATION, label) if category == "negation" else UNDEFINED
            for category, label in zip(stress, table.columns["label"], strict=True)
        ],
        breakdowns={
            "stress": stress,
            "section": [test.section for test in tests for _ in range(len(test.table))],
        },
    )
