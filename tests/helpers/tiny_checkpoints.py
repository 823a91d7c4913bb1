"""Tiny random checkpoints of every family, as the table of docs/models.md is made of."""

from __future__ import annotations

import importlib
import json
import sys
from pathlib import Path
from typing import Any

BENCH = Path(__file__).resolve().parents[2] / "bench"
TEXTS = ["the cat sat on a mat", "some good sun", "one bad rain", "this dog barks at the cat"] * 5
LABELS = ("negative", "positive")
NAMES = {"id2label": dict(enumerate(LABELS)), "label2id": {n: i for i, n in enumerate(LABELS)}}


def families() -> Any:
    """The module that makes them."""
    if str(BENCH) not in sys.path:
        sys.path.insert(0, str(BENCH))
    return importlib.import_module("families")


def tiny(name: str, folder: Path, *, trained: bool = False, **how: Any) -> Path:
    """A body of a family; a classifier of the toy task's two labels, if `trained`."""
    import transformers

    module = families()
    family = module.FAMILIES[name]
    if trained:
        how["auto"] = {
            "text": transformers.AutoModelForSequenceClassification,
            "image": transformers.AutoModelForImageClassification,
        }[family.modality]
        how = {**NAMES, **how}
    return module.save(family, folder, TEXTS, **how)


def edit_json(file: Path, **changes: Any) -> None:
    """Change some entries of a JSON file; None removes one."""
    content = {**json.loads(file.read_text()), **changes}
    file.write_text(json.dumps({k: v for k, v in content.items() if v is not None}))


def edit_weights(folder: Path, edit: Any) -> None:
    """Write what `edit` makes of the stored weights (a dictionary)."""
    from safetensors.torch import load_file, save_file

    file = folder / "model.safetensors"
    save_file(edit(load_file(file)), file, metadata={"format": "pt"})


def turn_classes(folder: Path) -> Path:
    """The toy task's labels of a classifier in the other order: it answers as before."""
    heads = ("classifier.weight", "classifier.bias")
    edit_weights(
        folder, lambda w: {k: v.flip(0).contiguous() if k in heads else v for k, v in w.items()}
    )
    names = {"id2label": {"0": "positive", "1": "negative"}}
    edit_json(folder / "config.json", **names, label2id={"positive": 0, "negative": 1})
    return folder
