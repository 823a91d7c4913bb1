"""The embedded source of the tasks about hypotheses that give the label away."""

from __future__ import annotations

from harness_plugin.data.dataset import DataRequest, Purpose, Split, TaskData
from harness_plugin_tasks._shared.text.grammar import GIVEAWAYS, Rows
from harness_plugin_tasks._shared.text.hard import DIFFICULTY, OFFICIAL
from harness_plugin_tasks._shared.text.nli_embedded import planted_data
from harness_plugin_tasks._shared.text.splits import table_split


def load(request: DataRequest) -> TaskData:
    """The splits of `nli.embedded.planted_data`, groups label x easy or hard by construction."""
    return planted_data(request, GIVEAWAYS, giveaway_split)


def giveaway_split(name: str, purpose: Purpose, rows: Rows) -> Split:
    """A split in which a pair is easy when its hypothesis' opener is one of its label's."""
    easy, hard = OFFICIAL
    values = [easy if aligned else hard for aligned in rows.aligned]
    return table_split(
        name,
        purpose=purpose,
        table=rows.table,
        attributes=values,
        values=OFFICIAL,
        aligned=rows.aligned,
        breakdowns={DIFFICULTY: values},
    )
