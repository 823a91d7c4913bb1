"""The NLI part of the release on disk."""

from __future__ import annotations

from harness_plugin.data.dataset import DataRequest, TaskData
from harness_plugin_tasks._shared.text.cad import Layout

LABELS = ("entailment", "neutral", "contradiction")
ORIGINAL, COMBINED = "original", "revised_combined"
REVISED = ("revised_premise", "revised_hypothesis", COMBINED)
"""The last one holds the rows of both others (one of them with a blank more)."""
REVISIONS = {"revised_premise": 2, "revised_hypothesis": 2, COMBINED: 4}
"""Rows after each other that are revisions of one original pair."""

LAYOUT = Layout(
    folder="NLI",
    columns={"premise": "sentence1", "hypothesis": "sentence2", "label": "gold_label"},
    rows={
        ORIGINAL: {"train": 1_666, "dev": 200, "test": 400},
        "revised_premise": {"train": 3_332, "dev": 400, "test": 800},
        "revised_hypothesis": {"train": 3_332, "dev": 400, "test": 800},
        COMBINED: {"train": 6_664, "dev": 800, "test": 1_600},
    },
    labels=LABELS,
)


def load(request: DataRequest) -> TaskData:
    """Splits `train`, `validation`, `id` (original pairs) and one for each of REVISED.

    Groups are label/version. With the option train=combined the revised training and development
    pairs join the original ones, which is the remedy of Kaushik et al. 2020.

    Raises HarnessError naming the file and line for anything missing or malformed.
    """
    root = LAYOUT.root(request)
    versions = (ORIGINAL, COMBINED) if request.options["train"] == "combined" else (ORIGINAL,)
    parts = {
        "train": [LAYOUT.read(root, version, "train", version) for version in versions],
        "validation": [LAYOUT.read(root, version, "dev", version) for version in versions],
        "id": [LAYOUT.read(root, ORIGINAL, "test", ORIGINAL)],
        **{name: [LAYOUT.read(root, name, "test", name)] for name in REVISED},
    }
    splits = [
        LAYOUT.split("train", "train", parts["train"]),
        LAYOUT.split("validation", "validation", parts["validation"]),
        LAYOUT.split("id", "in_domain", parts["id"]),
        *(LAYOUT.split(name, "ood", parts[name], REVISIONS[name]) for name in REVISED),
    ]
    notes = [note for read in parts.values() for part in read for note in LAYOUT.variant(part)]
    return TaskData("cad_nli", request.source, {s.name: s for s in splits}, tuple(notes))
