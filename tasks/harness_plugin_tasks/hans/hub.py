"""MultiNLI and HANS from the hub, or from copies of hub repositories."""

from __future__ import annotations

import datasets

from harness_plugin.data.dataset import DataRequest, TaskData
from harness_plugin.data.hub import load_hub
from harness_plugin.errors import HarnessError
from harness_plugin_tasks.hans.splits import task_data
from harness_plugin_tasks.hans.tables import hans_from_hub
from harness_plugin_tasks.nli.hub import MULTINLI, from_hub
from harness_plugin_tasks.nli.tables import Table

HANS_REPOSITORY = "jhu-cogsci/hans"
HANS_REVISION = "refs/convert/parquet"
"""The repository itself is a script, which `datasets` no longer runs."""

HANS_SPLIT = "validation"


def load(request: DataRequest) -> TaskData:
    """MultiNLI (training, both validation sets) and the HANS evaluation set from the hub.

    Raises HarnessError when the hub cannot be reached, and for columns that are not as known.
    """
    training = from_hub(MULTINLI)
    hans = load_hub(HANS_REPOSITORY, revision=HANS_REVISION)
    return task_data(
        request.source,
        training=training,
        hans=hans_test(hans, HANS_REPOSITORY),
        collapse_rule=request.options["collapse"],
    )


def hans_test(loaded: datasets.DatasetDict, where: str) -> Table:
    """The evaluation set of HANS, which the hub calls `validation`."""
    if HANS_SPLIT not in loaded:
        raise HarnessError(f"{where}: no split {HANS_SPLIT} (found {', '.join(loaded)}).")
    return hans_from_hub(loaded[HANS_SPLIT], f"{where}, split {HANS_SPLIT!r}")
