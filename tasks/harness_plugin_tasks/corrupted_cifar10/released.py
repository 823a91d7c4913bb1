"""CIFAR-10, corrupted here; or Corrupted CIFAR-10 as the arrays that Nam et al. 2020 release."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from harness_plugin.data.dataset import DataRequest, Ints, Purpose, Split, TaskData
from harness_plugin.errors import HarnessError
from harness_plugin_tasks._shared.images.cifar import CLASSES, SIDE, read_cifar
from harness_plugin_tasks._shared.images.splits import Cells, Pixels, cell_split
from harness_plugin_tasks._shared.options import optional_rows, share
from harness_plugin_tasks.corrupted_cifar10.build import FEWEST, build, severity_of

VALIDATION = 1_000
"""Training pictures held out for validation, unless the options say otherwise."""
SIZES = ("n_train", "n_validation", "n_test")
# fmt: off
TYPES = {
    "type0": (
        "snow", "frost", "fog", "brightness", "contrast", "spatter", "elastic", "jpeg", "pixelate",
        "saturate",
    ),
    "type1": (
        "gaussian_noise", "shot_noise", "impulse_noise", "speckle_noise", "gaussian_blur",
        "defocus_blur", "glass_blur", "motion_blur", "zoom_blur", "original",
    ),
}
# fmt: on
"""Corruption c of the released arrays."""
FOLDERS: dict[str, tuple[str, Purpose]] = {
    "train": ("train", "train"),
    "unbiased": ("valid", "ood"),
}


def load(request: DataRequest) -> TaskData:
    """Splits `train`, `validation`, `id`, `unbiased`; of released arrays, `train` and `unbiased`.

    Raises HarnessError naming the file for anything missing or malformed.
    """
    if request.options["type"] != "numpy":
        return from_arrays(request)
    parts, notes = read_cifar(request)
    n_train, n_validation, n_test = (optional_rows(request, name, FEWEST) for name in SIZES)
    sizes = {"train": n_train, "validation": n_validation or VALIDATION, "test": n_test}
    return build(request, CLASSES, parts, sizes, notes)


def from_arrays(request: DataRequest) -> TaskData:
    """CorruptedCIFAR10-<type>-Skewed<conflict>-Severity<k>/{train,valid}/{images,attrs}.npy."""
    kind, root = str(request.options["type"]), request.path
    if root is None or not root.is_dir():
        raise HarnessError(
            f"{request.task.task}: type={kind} is read from released arrays; give --data PATH."
        )
    fixed = [name for name in SIZES if request.options[name] is not None]
    if fixed:
        raise HarnessError(
            f"{request.task.task}: the released arrays are fixed sets; leave {', '.join(fixed)} at "
            "null and use --limit."
        )
    skew, severity = share(request, "conflict"), severity_of(request)
    name = f"CorruptedCIFAR10-{kind.capitalize()}-Skewed{skew:g}-Severity{severity}"
    folder = root if root.name == name else root / name
    if not folder.is_dir():
        copies = sorted(place.name for place in root.glob("CorruptedCIFAR10-*"))
        raise HarnessError(f"{root}: no directory {name}/ (found {', '.join(copies) or 'none'}).")
    cells = Cells(CLASSES, TYPES[kind], "corruption", by="alignment")
    splits = {}
    for split in request.parts(FOLDERS):
        place, purpose = FOLDERS[split]
        splits[split] = array_split(split, purpose, cells, folder / place)
    return TaskData(request.task.task, request.source, splits)


def array_split(name: str, purpose: Purpose, cells: Cells, folder: Path) -> Split:
    """One split of images.npy (N, 32, 32, 3) bytes and attrs.npy (N, 2): class and corruption."""
    images, attributes = array(folder / "images.npy"), array(folder / "attrs.npy")
    if images.shape[1:] != (SIDE, SIDE, 3) or images.dtype != np.uint8:
        raise HarnessError(
            f"{folder / 'images.npy'}: {images.dtype} of shape {images.shape}, expected uint8 of "
            f"(rows, {SIDE}, {SIDE}, 3)."
        )
    if attributes.shape != (len(images), 2):
        raise HarnessError(
            f"{folder / 'attrs.npy'}: shape {attributes.shape}, expected ({len(images)}, 2): class "
            "and corruption of every image."
        )
    if len(odd := np.flatnonzero(((attributes < 0) | (attributes > 9)).any(axis=1))):
        raise HarnessError(
            f"{folder / 'attrs.npy'}: row {odd[0] + 1}: {attributes[odd[0]].tolist()}, expected "
            "two numbers from 0 to 9."
        )
    label, value = attributes.astype(np.int64).T
    return cell_split(name, purpose, cells, np.asarray(images), label=label, value=value)


def array(file: Path) -> Pixels | Ints:
    """A .npy file, mapped into memory; one that holds Python objects is refused."""
    if not file.is_file():
        raise HarnessError(f"{file}: no such file.")
    try:
        loaded: Pixels | Ints = np.load(file, mmap_mode="r", allow_pickle=False)
    except (ValueError, EOFError, OSError) as error:
        raise HarnessError(f"{file}: not an array that can be read: {error}") from None
    return loaded
