"""The embedded source: generated pairs in which negation words go with contradiction."""

from __future__ import annotations

from harness_plugin.data.dataset import DataRequest, Purpose, Split, TaskData
from harness_plugin_tasks._shared.text.cues import NEGATION_CUE
from harness_plugin_tasks._shared.text.grammar import NEGATION_OPENERS, Rows
from harness_plugin_tasks._shared.text.nli_embedded import planted_data
from harness_plugin_tasks._shared.text.splits import cue_split


def load(request: DataRequest) -> TaskData:
    """The splits of `nli.embedded.planted_data`, groups label x negation."""
    return planted_data(request, NEGATION_OPENERS, negation_split)


def negation_split(name: str, purpose: Purpose, rows: Rows) -> Split:
    """A split whose groups are read off its sentences, as those of the real data are."""
    return cue_split(name, purpose=purpose, table=rows.table, cue=NEGATION_CUE)
