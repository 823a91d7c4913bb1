"""SNLI with the hard pairs of its test set, from the hub or a folder."""

from __future__ import annotations

import hashlib

from harness_plugin.data.dataset import DataRequest, TaskData
from harness_plugin_tasks._shared.files import data_folder, require
from harness_plugin_tasks._shared.text.hard import hard_data, hard_from_hub
from harness_plugin_tasks._shared.text.nli_hub import SNLI
from harness_plugin_tasks._shared.text.nli_released import FROM_SNLI, chosen_files, either, training
from harness_plugin_tasks._shared.text.splits import RELEASED_ROWS
from harness_plugin_tasks._shared.text.tables import read_nli, row_variants

HARD_FILES = either("snli_1.0_test_hard")
HARD_MD5 = "75430b13d2a95c752935cb993d00d7fb"


def from_hub(request: DataRequest) -> TaskData:
    """SNLI from the hub; raises HarnessError as `hard_from_hub`."""
    lacking = "no hard subset of SNLI"
    otherwise = f"set snli_hard.hard=auto, or give --data PATH with {HARD_FILES[0]}"
    return hard_from_hub(request, SNLI, f"{lacking}; {otherwise}")


def from_path(request: DataRequest) -> TaskData:
    """SNLI and its released hard test pairs from a folder.

    Raises HarnessError naming file and row for anything missing or malformed.
    """
    root = data_folder(request)
    chosen = chosen_files(request.task.task, request.options)
    rows = training(root, chosen, FROM_SNLI, request)
    if request.options["hard"] == "auto":
        return hard_data(request, rows, {})
    otherwise = "; snli_hard.hard=auto finds hard pairs with a model of ours"
    file = require(root, HARD_FILES, otherwise)
    hard = read_nli(file)
    notes = [*rows.notes, *row_variants([hard], RELEASED_ROWS)]
    md5 = hashlib.md5(file.read_bytes(), usedforsecurity=False).hexdigest()
    if file.suffix == ".jsonl" and md5 != HARD_MD5:
        notes.append(f"variant: {file} has MD5 {md5}, expected {HARD_MD5}")
    return hard_data(request, rows._replace(notes=notes), {"id": hard})
