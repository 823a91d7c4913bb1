"""MNIST from the hub or a folder, coloured; or coloured MNIST as Lee et al. 2021 released it."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from harness_plugin.data.dataset import DataRequest, Purpose, Split, TaskData
from harness_plugin.errors import HarnessError
from harness_plugin_tasks._shared.images.mnist import DIGITS, read_mnist
from harness_plugin_tasks._shared.images.splits import Cells, cell_split
from harness_plugin_tasks._shared.options import optional_rows, share
from harness_plugin_tasks.cmnist.colours import coloured, parted

VALIDATION = 5_000
"""Training digits held out for validation, unless the options say otherwise."""
PERCENT = {0.005: "0.5pct", 0.01: "1pct", 0.02: "2pct", 0.05: "5pct"}
"""The folders of the release of Lee et al., by their share of conflicting images."""
LEE_CELLS = Cells(DIGITS, tuple(f"colour{i}" for i in range(10)), "colour", by="alignment")
SUFFIXES = (".png", ".jpg")
SIZES = ("n_train", "n_validation", "n_test")


def load(request: DataRequest) -> TaskData:
    """Splits `train`, `validation`, `id` and `unbiased` (irm: `reversed`).

    A folder that holds the release of Lee et al. (cmnist/<1pct>/align/…) is read as it is: it has
    no in-domain test set. Otherwise MNIST is read and coloured.

    Raises HarnessError naming the file for anything missing or malformed.
    """
    if request.path is not None:
        needed = PERCENT.values() if request.trains else ("test",)
        for folder in (request.path, request.path / "cmnist"):
            if any((folder / name).is_dir() for name in needed):
                return lee(request, folder)
    splits, notes = read_mnist(request)
    n_train, n_validation, n_test = (optional_rows(request, name) for name in SIZES)
    sizes = (n_train, n_validation or VALIDATION, n_test)
    return coloured(request, parted(splits, sizes, request.seed), notes)


def lee(request: DataRequest, folder: Path) -> TaskData:
    """The layout of Lee et al. 2021: <percent>/{align,conflict}/<y>/*_<y>_<a>.png, <percent>/valid,
    and test/ in the folder or beside it. The option `conflict` chooses the percent folder."""
    conflict = share(request, "conflict")
    chosen = folder / PERCENT.get(conflict, "?")
    if request.trains and not chosen.is_dir():
        folders = [name for name in PERCENT.values() if (folder / name).is_dir()]
        raise HarnessError(
            f"{folder}: no folder for cmnist.conflict={conflict} (found {', '.join(folders)})."
        )
    fixed = [name for name in SIZES if request.options[name] is not None]
    if request.options["design"] != "tenclass" or fixed:
        raise HarnessError(
            f"{folder}: this release is of design tenclass and has fixed sets; leave "
            f"{', '.join(f'cmnist.{name}' for name in fixed) or 'cmnist.design'} at the default."
        )
    test = next((p for p in (folder / "test", folder.parent / "test") if p.is_dir()), None)
    if test is None:
        raise HarnessError(f"{folder}: the directory test/ is missing.")
    splits = []
    if request.trains:
        splits.append(lee_split("train", "train", [chosen / "align", chosen / "conflict"]))
        splits.append(lee_split("validation", "validation", [chosen / "valid"]))
    splits.append(lee_split("unbiased", "ood", [test]))
    return TaskData("cmnist", request.source, {s.name: s for s in splits})


def lee_split(name: str, purpose: Purpose, folders: list[Path]) -> Split:
    """The images below `folders`; label and colour are the last two fields of a file's name."""
    files: list[Path] = []
    cells: list[tuple[int, int]] = []
    for folder in folders:
        if not folder.is_dir():
            raise HarnessError(f"{folder}: no such directory.")
        for file in sorted(p for p in folder.rglob("*") if p.suffix in SUFFIXES):
            files.append(file)
            cells.append(named_cell(file, folder.name))
    if not files:
        raise HarnessError(f"{folders[0]}: no image ({', '.join(SUFFIXES)}).")
    label, colour = np.array(cells, dtype=np.int64).T
    return cell_split(
        name,
        purpose,
        LEE_CELLS,
        [str(file) for file in files],
        label=label,
        value=colour,
        ids=[file.relative_to(folders[0].parent).as_posix() for file in files],
    )


def named_cell(file: Path, part: str) -> tuple[int, int]:
    """Label and colour of a file called *_<label>_<colour>.png, which lies below folder `part`.

    Raises HarnessError where the name or a folder says something else.
    """
    fields = file.stem.split("_")[-2:]
    if len(fields) != 2 or not all(field in DIGITS for field in fields):
        raise HarnessError(f"{file}: expected a name that ends in _<digit>_<colour>.")
    label, colour = map(int, fields)
    if file.parent.name in DIGITS and file.parent.name != fields[0]:
        raise HarnessError(
            f"{file}: the name says label {label}, expected {file.parent.name} as its folder does."
        )
    if part in ("align", "conflict") and (part == "align") != (label == colour):
        raise HarnessError(f"{file}: label {label} and colour {colour} in the folder {part}/.")
    return label, colour
