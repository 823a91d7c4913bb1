"""The files of a checkpoint's weights, looked at before a model is made of them."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open

from harness_plugin.errors import HarnessError

WHOLE, INDEX = "model.safetensors", "model.safetensors.index.json"
ADAPTER = "adapter_config.json"
LFS = b"version https://git-lfs"
WRAPPERS = {
    "_orig_mod.": "torch.compile: save model._orig_mod.save_pretrained(folder)",
    "module.": "DistributedDataParallel: save model.module.save_pretrained(folder)",
}
"""How names of weights begin that were saved through a wrapper -> which one, and what to do."""
PACKED = (".qweight", ".qzeros", ".absmax", ".quant_map", ".SCB", ".weight_scale")
"""How names end that quantisers write beside or instead of a weight."""
DTYPES = {"F64": "float64", "F32": "float32", "F16": "float16", "BF16": "bfloat16"}


@dataclass(frozen=True)
class WeightFiles:
    """Weights in a folder: their floating types and the faults in them."""

    dtypes: tuple[str, ...]
    faults: tuple[str, ...]


def check_folder(folder: Path) -> None:
    """Refuse a folder that is no `save_pretrained` checkpoint with safetensors weights.

    Only names are looked at.
    """
    if (folder / ADAPTER).is_file():
        raise HarnessError(
            f"checkpoint {folder} is an adapter ({ADAPTER}), not a model. Merge it: "
            f"PeftModel.from_pretrained(base, folder).merge_and_unload().save_pretrained(other), "
            f"and save the tokenizer there too."
        )
    if not (folder / "config.json").is_file():
        raise HarnessError(f"checkpoint {folder}: no config.json; save it with save_pretrained.")
    if not any((folder / name).is_file() for name in (WHOLE, INDEX)):
        raise HarnessError(
            f"checkpoint {folder}: no weights ({WHOLE} or {INDEX}). Pickled weights (.bin) "
            f"are not loaded, because loading a pickle runs code: convert them to safetensors, "
            f"AutoModelForSequenceClassification.from_pretrained(folder).save_pretrained(other)."
        )


def weight_files(folder: Path) -> WeightFiles:
    """Read the types and faults of a folder's weights; every tensor is read once a process.

    A folder without weights of its own (the hub's cache of a converted model) gives nothing.
    """
    files, missing = listed(folder)
    if missing:
        names = ", ".join(missing[:3]) + (" …" if len(missing) > 3 else "")
        fault = f"{INDEX} names {len(missing)} files that are not there ({names}): copy them too"
        return WeightFiles((), (fault,))
    stamps = tuple((file, file.stat().st_size, file.stat().st_mtime_ns) for file in files)
    return read(stamps)


def listed(folder: Path) -> tuple[list[Path], list[str]]:
    """The weight files of a folder, and the names of those that its index misses."""
    if (folder / INDEX).is_file():
        try:
            names = sorted(set(json.loads((folder / INDEX).read_text())["weight_map"].values()))
        except (ValueError, KeyError, AttributeError, TypeError) as error:
            raise HarnessError(f"checkpoint {folder}: {INDEX} cannot be read: {error}.") from error
    else:
        names = [WHOLE] if (folder / WHOLE).is_file() else []
    return [folder / name for name in names], [n for n in names if not (folder / n).is_file()]


@cache
def read(files: tuple[tuple[Path, int, int], ...]) -> WeightFiles:
    """Types and faults of files; size and time tell a file that was replaced meanwhile."""
    dtypes: set[str] = set()
    faults: dict[str, None] = {}
    for file, _, _ in files:
        with file.open("rb") as stream:
            if stream.read(len(LFS)) == LFS:
                faults[f"{file.name} is a Git LFS pointer, not weights: run git lfs pull"] = None
                continue
        try:
            with safe_open(file, framework="pt") as opened:
                for name in opened.keys():  # noqa: SIM118 (it is no mapping)
                    faults.update(dict.fromkeys(faults_of_tensor(opened, name, dtypes)))
        except (SafetensorError, OSError) as error:
            reason = " ".join(str(error).split())
            faults[f"{file.name} is broken or cut off ({reason}): copy or download it again"] = None
    return WeightFiles(tuple(sorted(dtypes)), tuple(faults))


def faults_of_tensor(opened: Any, name: str, dtypes: set[str]) -> Iterator[str]:
    """The fault of one stored tensor; its floating type is added to `dtypes`."""
    kind = str(opened.get_slice(name).get_dtype())
    for prefix, wrapper in WRAPPERS.items():
        if name.startswith(prefix):
            yield f"its weights are called {prefix}…, as saved through {wrapper}"
    if kind.startswith("F8") or name.endswith(PACKED):
        yield (
            "its weights are quantised, and are neither trained nor analysed as they are: save "
            "model.dequantize(), or the model before quantisation"
        )
    elif kind in DTYPES:
        dtypes.add(DTYPES[kind])
        if not bool(torch.isfinite(opened.get_tensor(name)).all()):
            yield "some of its weights are not finite (nan or inf): its training has diverged"


BUFFERS = ("running_mean", "running_var", "num_batches_tracked")
"""Tensors of a checkpoint that are no parameters."""


def parameters(weights: Path) -> int:
    """How many parameters a file of weights has; only its header is read."""
    with safe_open(weights, framework="np") as checkpoint:
        return sum(
            math.prod(checkpoint.get_slice(name).get_shape())
            for name in checkpoint.keys()  # noqa: SIM118 (not a mapping)
            if not name.endswith(BUFFERS)
        )
