"""The NLI part of the release on disk: splits `train`, `validation`, `id` and each of REVISED."""

from __future__ import annotations

from harness_plugin_tasks._shared.text.cad import ORIGINAL, Release

LABELS = ("entailment", "neutral", "contradiction")
COMBINED = "revised_combined"
"""The rows of both other revisions (one of them with a blank more)."""

REVISED = {"revised_premise": 2, "revised_hypothesis": 2, COMBINED: 4}
"""Rows after each other that are revisions of one original pair."""

load = Release(
    task="cad_nli",
    folder="NLI",
    columns={"premise": "sentence1", "hypothesis": "sentence2", "label": "gold_label"},
    folders={version: version for version in (ORIGINAL, *REVISED)},
    rows={
        ORIGINAL: (1_666, 200, 400),
        "revised_premise": (3_332, 400, 800),
        "revised_hypothesis": (3_332, 400, 800),
        COMBINED: (6_664, 800, 1_600),
    },
    tests=REVISED,
    combined=COMBINED,
    labels=LABELS,
).load
