"""NLI and HANS from the hub, or on disk: the original releases, GLUE, or saved hub copies."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from harness_plugin.data.dataset import DataRequest, TaskData
from harness_plugin.data.hub import load_hub, load_local
from harness_plugin_tasks._shared.files import data_folder, find, hub_copy, missing, require_splits
from harness_plugin_tasks._shared.text.nli_hub import MULTINLI, Training
from harness_plugin_tasks._shared.text.nli_hub import from_hub as corpus_from_hub
from harness_plugin_tasks._shared.text.nli_released import (
    FROM_ANY,
    NLI_SCHEMA,
    chosen_files,
    training,
)
from harness_plugin_tasks._shared.text.tables import Table
from harness_plugin_tasks.hans.splits import task_data
from harness_plugin_tasks.hans.tables import hans_from_hub, read_hans

if TYPE_CHECKING:
    import datasets

HANS_FILES = ("heuristics_evaluation_set.txt", "heuristics_evaluation_set.jsonl")
HANS_REPOSITORY = "jhu-cogsci/hans"
HANS_REVISION = "refs/convert/parquet"
"""The repository itself is a script, which `datasets` no longer runs."""

HANS_SPLIT = "validation"


def from_hub(request: DataRequest) -> TaskData:
    """MultiNLI (training, both validation sets) and the HANS evaluation set from the hub.

    Raises HarnessError when the hub cannot be reached, and for columns that are not as known.
    """
    training = Training([], {}, [])
    if request.trains or request.asks_for("id", "id_mismatched"):
        training = corpus_from_hub(MULTINLI, request)
    hans = load_hub(HANS_REPOSITORY, revision=HANS_REVISION)
    return task_data(
        request.source,
        training=training,
        hans=hans_test(hans, HANS_REPOSITORY),
        options=request.options,
    )


def from_folder(request: DataRequest) -> TaskData:
    """Splits from the files in `request.path` or in its direct subfolders, found by name.

    Test: heuristics_evaluation_set. Training and in-domain: MultiNLI, else GLUE's MNLI, else SNLI
    as released, else a saved hub copy in a folder of its own. MultiNLI's mismatched set, where
    there is one, is a second in-domain split. The options train_files, in_domain_files, and
    holdout_file with holdout_fraction say otherwise.

    Raises HarnessError naming the file and row for anything missing or malformed.
    """
    root = data_folder(request)
    chosen = chosen_files("hans", request.options)
    hans = hans_in(root)
    return task_data(
        request.source,
        training=training(root, chosen, FROM_ANY, request),
        hans=hans,
        options=request.options,
    )


def hans_in(root: Path) -> Table:
    """The HANS evaluation set under `root`, as released or as a hub copy."""
    if file := find(root, HANS_FILES):
        return read_hans(file)
    if copy := hub_copy(root, {*NLI_SCHEMA, "heuristic"}.issubset):
        return hans_test(load_local(copy), str(copy))
    raise missing(
        root,
        HANS_FILES,
        ", nor a folder in it with a hub copy (columns premise, hypothesis, label, heuristic, "
        "subcase)",
    )


def hans_test(loaded: datasets.DatasetDict, where: str) -> Table:
    """The evaluation set of HANS, which the hub calls `validation`."""
    require_splits(loaded, [HANS_SPLIT], where)
    return hans_from_hub(loaded[HANS_SPLIT], f"{where}, split {HANS_SPLIT!r}")
