"""MultiNLI with the hard pairs of its development sets, from the hub or a folder."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from harness_plugin.data.dataset import DataRequest, TaskData
from harness_plugin.errors import HarnessError
from harness_plugin_tasks._shared.files import data_folder, require
from harness_plugin_tasks._shared.text.cues import NLI_LABELS
from harness_plugin_tasks._shared.text.hard import hard_data, hard_from_hub
from harness_plugin_tasks._shared.text.nli_hub import MULTINLI
from harness_plugin_tasks._shared.text.nli_released import FROM_MULTINLI, chosen_files, training
from harness_plugin_tasks._shared.text.tables import Table, checked, read_nli, text_lines

ALIGNED_FILES = ("s1.test", "s2.test", "labels.test")
HARD_FILES = {
    "id": ("dev_matched_hard.tsv", f"MNLIMatchedHardWithHardTest/{ALIGNED_FILES[0]}"),
    "id_mismatched": (
        "dev_mismatched_hard.tsv",
        f"MNLIMismatchedHardWithHardTest/{ALIGNED_FILES[0]}",
    ),
}


def from_hub(request: DataRequest) -> TaskData:
    """MultiNLI from the hub; raises HarnessError as `hard_from_hub`."""
    lacking = "no labelled hard subset of MultiNLI"
    otherwise = "set mnli_hard.hard=auto, or give --data PATH with the files"
    return hard_from_hub(request, MULTINLI, f"{lacking}; {otherwise}")


def from_path(request: DataRequest) -> TaskData:
    """MultiNLI and hard subsets from a folder.

    Raises HarnessError naming file and row for anything missing or malformed.
    """
    root = data_folder(request)
    chosen = chosen_files(request.task.task, request.options)
    rows = training(root, chosen, FROM_MULTINLI, request)
    if request.options["hard"] == "auto":
        return hard_data(request, rows, {})
    return hard_data(request, rows, dict(official(root, list(rows.in_domain))))


def official(root: Path, splits: list[str]) -> Iterator[tuple[str, Table]]:
    """The hard set of every in-domain split, in one of the two layouts it is passed on in."""
    for split in splits:
        otherwise = "mnli_hard.hard=auto finds hard pairs with a model of ours"
        file = require(root, HARD_FILES[split], f", the hard pairs of {split}; {otherwise}")
        yield split, read_nli(file) if file.suffix == ".tsv" else read_aligned(file.parent)


def read_aligned(folder: Path) -> Table:
    """Pairs from three files of the same number of lines (Karimi Mahabadi et al. 2020).

    Raises HarnessError naming file and line where one has a line that another has not.
    """
    for name in ALIGNED_FILES:
        if not (folder / name).is_file():
            raise HarnessError(f"{folder / name}: no such file.")
    lines = [dict(text_lines(folder / name)) for name in ALIGNED_FILES]
    numbers = set[int]().union(*lines)
    for name, part in zip(ALIGNED_FILES, lines, strict=True):
        if lacking := numbers - set(part):
            raise HarnessError(
                f"{folder / name}:{min(lacking)}: no text, although the other files have this "
                f"line; {', '.join(ALIGNED_FILES)} must be aligned."
            )
    premises, hypotheses, labels = (list(part.values()) for part in lines)
    ids = [f"{folder.name}:{number:06d}" for number in range(len(labels))]
    columns = {"premise": premises, "hypothesis": hypotheses, "label": labels, "id": ids}
    return checked(Table(folder.name, str(folder), columns), NLI_LABELS)
