"""The sentiment part of the release on disk."""

from __future__ import annotations

from harness_plugin.data.dataset import DataRequest, TaskData
from harness_plugin_tasks._shared.text.cad import Layout, Part

LABELS = ("Negative", "Positive")
ROWS = {"train": 1_707, "dev": 245, "test": 488}
LAYOUT = Layout(
    folder="sentiment",
    columns={"text": "Text", "label": "Sentiment"},
    rows={"orig": ROWS, "new": ROWS},
    labels=LABELS,
)
FOLDERS = {"original": "orig", "revised": "new"}


def load(request: DataRequest) -> TaskData:
    """Splits `train`, `validation`, `id` (original reviews) and `revised` (the same, revised).

    Groups are label/version. With the option train=combined the revised training and development
    reviews join the original ones, which is the remedy of Kaushik et al. 2020.

    Raises HarnessError naming the file and line for anything missing or malformed.
    """
    root = LAYOUT.root(request)

    def part(version: str, file: str) -> Part:
        return LAYOUT.read(root, FOLDERS[version], file, version)

    versions = ("original", "revised") if request.options["train"] == "combined" else ("original",)
    parts = {
        "train": [part(version, "train") for version in versions],
        "validation": [part(version, "dev") for version in versions],
        "id": [part("original", "test")],
        "revised": [part("revised", "test")],
    }
    splits = [
        LAYOUT.split("train", "train", parts["train"]),
        LAYOUT.split("validation", "validation", parts["validation"]),
        LAYOUT.split("id", "in_domain", parts["id"]),
        LAYOUT.split("revised", "ood", parts["revised"]),
    ]
    notes = [note for read in parts.values() for each in read for note in LAYOUT.variant(each)]
    return TaskData("cad_imdb", request.source, {s.name: s for s in splits}, tuple(notes))
