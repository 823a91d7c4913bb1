"""NLI and HANS on disk: the original releases, GLUE, or saved copies of hub repositories."""

from __future__ import annotations

from pathlib import Path

from harness_plugin.data.dataset import DataRequest, TaskData
from harness_plugin.data.hub import load_local
from harness_plugin.errors import HarnessError
from harness_plugin_tasks.hans.hub import hans_test
from harness_plugin_tasks.hans.splits import task_data
from harness_plugin_tasks.hans.tables import read_hans
from harness_plugin_tasks.nli.release import (
    FROM_ANY,
    NLI_SCHEMA,
    chosen_files,
    data_folder,
    find,
    hub_copies,
    missing,
    the_one,
    training,
)
from harness_plugin_tasks.nli.tables import Table

HANS_FILES = ("heuristics_evaluation_set.txt", "heuristics_evaluation_set.jsonl")


def load(request: DataRequest) -> TaskData:
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
        training=training(root, chosen, FROM_ANY, request.seed),
        hans=hans,
        collapse_rule=request.options["collapse"],
    )


def hans_in(root: Path) -> Table:
    """The HANS evaluation set under `root`, as released or as a hub copy."""
    if file := find(root, HANS_FILES):
        return read_hans(file)
    copies = hub_copies(root, lambda names: names >= NLI_SCHEMA and "heuristic" in names)
    if copy := the_one(root, copies):
        return hans_test(load_local(copy), str(copy))
    raise HarnessError(
        f"{missing(root, HANS_FILES)}, nor a folder in it with a hub copy (columns premise, "
        "hypothesis, label, heuristic, subcase)."
    )
