"""The sentiment part of the release on disk: splits `train`, `validation`, `id` and `revised`."""

from __future__ import annotations

from harness_plugin_tasks._shared.text.cad import ORIGINAL, Release

LABELS = ("Negative", "Positive")
ROWS = (1_707, 245, 488)
load = Release(
    task="cad_imdb",
    folder="sentiment",
    columns={"text": "Text", "label": "Sentiment"},
    folders={ORIGINAL: "orig", "revised": "new"},
    rows={ORIGINAL: ROWS, "revised": ROWS},
    tests={"revised": 0},
    combined="revised",
    labels=LABELS,
).load
