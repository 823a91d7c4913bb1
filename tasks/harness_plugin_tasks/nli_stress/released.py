"""MultiNLI and the stress tests from a folder."""

from __future__ import annotations

from harness_plugin.data.dataset import DataRequest, TaskData
from harness_plugin_tasks._shared.files import data_folder
from harness_plugin_tasks._shared.text.nli_released import FROM_MULTINLI, chosen_files, training
from harness_plugin_tasks._shared.text.splits import empty_cells, joined
from harness_plugin_tasks._shared.text.tables import row_variants
from harness_plugin_tasks.nli_stress.categories import (
    CUE,
    ROWS,
    chosen_categories,
    read_tests,
    stress_split,
)


def load(request: DataRequest) -> TaskData:
    """MultiNLI with groups label x negation, and `stress`, all chosen stress tests.

    Raises HarnessError naming file and row for anything missing or malformed.
    """
    root = data_folder(request)
    tests = read_tests(root, chosen_categories(request.options["categories"]))
    chosen = chosen_files(request.task.task, request.options)
    rows = training(root, chosen, FROM_MULTINLI, request)
    splits = [joined("train", "train", rows.train, CUE)] if rows.train else []
    splits += [joined(name, "in_domain", tables, CUE) for name, tables in rows.in_domain.items()]
    notes = [*rows.notes, *(note for split in splits for note in empty_cells(split, CUE.values))]
    splits.append(stress_split(tests))
    return TaskData(
        request.task.task,
        request.source,
        {split.name: split for split in splits},
        (*notes, *row_variants((test.table for test in tests), ROWS)),
    )
