"""The toy task's loader: `good`/`bad` in the premise is the label, `sun`/`rain` the cue."""

import numpy as np

from harness_plugin.data.dataset import make_split

LABELS = ("negative", "positive")
GROUPS = tuple(f"{label}/{cue}" for label in LABELS for cue in ("rain", "sun"))


def split(name, purpose, n, agree, seed, annotated=True, skip=None):
    rng = np.random.default_rng(seed)
    label = rng.integers(0, 2, n)
    cue = np.where(rng.random(n) < agree, label, 1 - label)
    fillers = np.array(["a", "the", "one", "some", "this"])
    texts = [f"{LABELS[y]}/{('rain', 'sun')[c]}" for y, c in zip(label, cue, strict=True)]
    keep = [i for i in range(n) if texts[i] != skip]
    word = ("bad", "good")
    return make_split(
        name,
        purpose=purpose,
        inputs={
            "premise": [
                " ".join([*rng.choice(fillers, rng.integers(1, 6)), word[label[i]]]) for i in keep
            ],
            "hypothesis": [f"{('rain', 'sun')[cue[i]]} {rng.choice(fillers)}" for i in keep],
        },
        ids=[f"{name}{i}" for i in keep],
        label_texts=[LABELS[label[i]] for i in keep],
        labels=LABELS,
        attributes=[("rain", "sun")[cue[i]] for i in keep],
        group_texts=[texts[i] for i in keep] if annotated else None,
        groups=GROUPS if annotated else (),
        aligned=[int(label[i] == cue[i]) for i in keep],
        breakdowns={"cue": [("rain", "sun")[cue[i]] for i in keep]},
    )


def load(request):
    from harness_plugin.data.dataset import TaskData

    options = request.options
    skip = GROUPS[1] if options["empty_group"] else None
    splits = [
        split("train", "train", options["rows"], 0.9, request.seed, options["annotated"]),
        split("id", "in_domain", 120, 0.7, request.seed + 1),
        split("swapped", "ood", 100, 0.5, request.seed + 2, skip=skip),
    ]
    return TaskData("toy", request.source, {s.name: s for s in splits})


def cue_feature(rows):
    return np.array([[text.startswith("sun")] for text in rows.rows["hypothesis"]], float)
