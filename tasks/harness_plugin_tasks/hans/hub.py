"""MultiNLI and HANS from the hub, or from copies of hub repositories."""

from __future__ import annotations

from typing import NamedTuple

import datasets

from harness_plugin.data import DataRequest, TaskData
from harness_plugin.errors import HarnessError
from harness_plugin.hub import load_hub
from harness_plugin_tasks.hans import tables
from harness_plugin_tasks.hans.splits import task_data, variant
from harness_plugin_tasks.hans.tables import Table

NLI_REPOSITORY = "nyu-mll/multi_nli"
NLI_REVISION = "da70db2af9d09693783c3320c4249840212ee221"
HANS_REPOSITORY = "jhu-cogsci/hans"
HANS_REVISION = "refs/convert/parquet"
"""The repository itself is a script, which `datasets` no longer runs."""

HANS_SPLIT = "validation"
IN_DOMAIN = {"validation_matched": "id", "validation_mismatched": "id_mismatched"}
TABLES = {
    "train": "multinli_1.0_train",
    "validation_matched": "multinli_1.0_dev_matched",
    "validation_mismatched": "multinli_1.0_dev_mismatched",
}


class Training(NamedTuple):
    """What models are trained on, the in-domain sets by split name, and what to know of both."""

    train: list[Table]
    in_domain: dict[str, list[Table]]
    notes: list[str]


def load(request: DataRequest) -> TaskData:
    """MultiNLI (training, both validation sets) and the HANS evaluation set from the hub.

    Raises HarnessError when the hub cannot be reached, and for columns that are not as known.
    """
    multinli = load_hub(NLI_REPOSITORY, revision=NLI_REVISION)
    hans = load_hub(HANS_REPOSITORY, revision=HANS_REVISION)
    train, in_domain, notes = nli_training(multinli, NLI_REPOSITORY)
    return task_data(
        request.source,
        train=train,
        in_domain=in_domain,
        hans=hans_test(hans, HANS_REPOSITORY),
        collapse_rule=request.options["collapse"],
        notes=notes,
    )


def nli_training(loaded: datasets.DatasetDict, where: str) -> Training:
    """Training and in-domain rows of an NLI data set in the hub's layout.

    In-domain are `validation_matched` and `validation_mismatched` (MultiNLI), or `validation`.
    """
    names = {key: name for key, name in IN_DOMAIN.items() if key in loaded}
    if "id" not in names.values():
        names = {"validation": "id"}
    if missing := {"train", *names} - {*loaded}:
        raise HarnessError(
            f"{where}: no split {', '.join(sorted(missing))} (found {', '.join(loaded)})."
        )

    def table(split: str) -> Table:
        name = TABLES.get(split, split) if "validation_matched" in loaded else split
        return tables.nli_from_hub(loaded[split], name, f"{where}, split {split!r}")

    train = table("train")
    in_domain = {name: table(split) for split, name in names.items()}
    notes = [note for read in (train, *in_domain.values()) for note in variant(read)]
    return Training([train], {name: [read] for name, read in in_domain.items()}, notes)


def hans_test(loaded: datasets.DatasetDict, where: str) -> Table:
    """The evaluation set of HANS, which the hub calls `validation`."""
    if HANS_SPLIT not in loaded:
        raise HarnessError(f"{where}: no split {HANS_SPLIT} (found {', '.join(loaded)}).")
    return tables.hans_from_hub(loaded[HANS_SPLIT], f"{where}, split {HANS_SPLIT!r}")
