"""MultiNLI in groups label x negation, from the hub or a folder, in either of its two splits."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from harness_plugin.data.dataset import DataRequest, Purpose, Split, TaskData
from harness_plugin.errors import HarnessError
from harness_plugin_tasks._shared.files import count_variants, data_folder, require
from harness_plugin_tasks._shared.text.cues import NEGATION_CUE
from harness_plugin_tasks._shared.text.nli_hub import MULTINLI, Training
from harness_plugin_tasks._shared.text.nli_hub import from_hub as corpus_from_hub
from harness_plugin_tasks._shared.text.nli_released import FROM_MULTINLI, chosen_files, training
from harness_plugin_tasks._shared.text.splits import empty_cells, joined
from harness_plugin_tasks._shared.text.tables import Table
from harness_plugin_tasks.mnli_negation.random_split import FOLDERS, draw

DEV_MATCHED_GROUPS = {
    "entailment/negation": 91,
    "entailment/no_negation": 3_388,
    "neutral/negation": 87,
    "neutral/no_negation": 3_036,
    "contradiction/negation": 504,
    "contradiction/no_negation": 2_709,
}
DEV_MATCHED_ROWS = sum(DEV_MATCHED_GROUPS.values())


def from_hub(request: DataRequest) -> TaskData:
    """MultiNLI from the hub. Raises HarnessError as `nli_hub.from_hub` and `random_split.draw`."""
    file = Path(request.options["split_file"])
    if request.options["split"] == "random" and not file.is_file():
        raise HarnessError(
            f"{file}: no such file; the hub has no random split. mnli_negation.split_file names "
            "the file metadata_random.csv of the group_DRO code."
        )
    of = whole(request) if request.options["split"] == "random" else request
    return task_data(request, corpus_from_hub(MULTINLI, of), file)


def from_path(request: DataRequest) -> TaskData:
    """MultiNLI from a folder: as released, GLUE, a saved hub copy, or the files of the options.

    Raises HarnessError naming file and row for anything missing or malformed.
    """
    root = data_folder(request)
    chosen = chosen_files(request.task.task, request.options)
    if request.options["split"] == "official":
        return task_data(request, training(root, chosen, FROM_MULTINLI, request), root)
    if chosen.train or chosen.in_domain or chosen.holdout:
        raise HarnessError(
            "mnli_negation.split=random draws from all of MultiNLI; drop train_files, "
            "in_domain_files and holdout_file."
        )
    names = [folder + request.options["split_file"] for folder in FOLDERS]
    file = require(root, names, "; mnli_negation.split_file names another")
    return task_data(request, training(root, chosen, FROM_MULTINLI, whole(request)), file)


def whole(request: DataRequest) -> DataRequest:
    """The request with the training rows: the random split draws its test from them."""
    return replace(request, sets=None)


def task_data(request: DataRequest, corpus: Training, split_file: Path) -> TaskData:
    """The splits of the option `split`, and notes on what is not as known."""
    parts: dict[str, tuple[Purpose, list[Table]]]
    if request.options["split"] == "random":
        train, validation, test = draw(corpus, split_file)
        parts = {
            "train": ("train", [train]),
            "validation": ("validation", [validation]),
            "id": ("in_domain", [test]),
        }
    else:
        parts = {"train": ("train", corpus.train)} if corpus.train else {}
        parts |= {name: ("in_domain", tables) for name, tables in corpus.in_domain.items()}
    splits = {
        name: joined(name, purpose, tables, NEGATION_CUE)
        for name, (purpose, tables) in parts.items()
    }
    notes = [*corpus.notes]
    for split in splits.values():
        notes += empty_cells(split, NEGATION_CUE.values)
    matched = [table.name.endswith("dev_matched") for table in corpus.in_domain.get("id", ())]
    if request.options["split"] == "official" and matched == [True]:
        notes += group_variants(splits["id"])
    return TaskData(request.task.task, request.source, splits, tuple(notes))


def group_variants(split: Split) -> list[str]:
    """Notes on groups of the matched set that are not as large as known, if the whole is."""
    if len(split) != DEV_MATCHED_ROWS:
        return []
    rows = dict(zip(split.groups, split.group_counts.tolist(), strict=True))
    counts = [rows.get(group, 0) for group in DEV_MATCHED_GROUPS]
    expected = [*DEV_MATCHED_GROUPS.values()]
    return list(count_variants(split.name, counts, expected, [*DEV_MATCHED_GROUPS]))
