"""Are a bundle's ids, gold labels and groups those of the data? A bundle one trusts knows."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from harness_plugin.errors import HarnessError
from harness_plugin.plugins.registry import Plugins
from harness_plugin.scoring.files.transfer_record import TransferRecord
from harness_plugin_hooks.leaderboard.bundle import Problem, Refused, shown
from harness_plugin_hooks.leaderboard.differences import differences
from harness_plugin_hooks.leaderboard.verify import Verified, verify


def references(
    paths: Sequence[Path], plugins: Plugins, *, allow_embedded: bool = False
) -> dict[str, TransferRecord]:
    """The records of bundles made on data of one's own, by task.

    Raises HarnessError for two of one task, Refused for one that does not hold.
    """
    records_of: dict[str, TransferRecord] = {}
    for path in paths:
        records = verify(path, plugins, allow_embedded=allow_embedded).records
        if twice := records_of.keys() & records.keys():
            raise HarnessError(f"--reference {path}: another one is about {min(twice)} already.")
        records_of |= records
    return records_of


def verify_against(
    path: Path,
    plugins: Plugins,
    reference: Mapping[str, TransferRecord],
    *,
    allow_embedded: bool = False,
) -> Verified:
    """The bundle at `path`, checked, on the data of `reference` where that is not empty.

    Raises Refused with every problem found, HarnessError where there is no bundle.
    """
    verified = verify(path, plugins, allow_embedded=allow_embedded)
    if reference:
        problems = [
            p for record in verified.records.values() for p in other_data(record, reference)
        ]
        if problems:
            raise Refused(*problems)
    return verified


def other_data(
    record: TransferRecord, reference: Mapping[str, TransferRecord]
) -> Iterator[Problem]:
    """Where the data of a record differ from those of the reference."""
    part = f"tasks/{record.task}/results.json"
    if record.task not in reference:
        yield Problem(part, f"a task of the reference ({', '.join(reference)})", record.task)
        return
    trusted = reference[record.task]
    expected, actual = data_of(trusted), data_of(record)
    if strangers := sorted(actual["sets"].keys() - expected["sets"].keys()):
        known = ", ".join(expected["sets"])
        yield Problem(f"{part}, sets", f"sets of the reference ({known})", shown(strangers[0]))
    # a submission may be about some of the sets only
    for name in ("sets", "gaps"):
        shared = expected[name].keys() & actual[name].keys()
        for side in (expected, actual):
            side[name] = {key: value for key, value in side[name].items() if key in shared}
    yield from differences(expected, actual, part)


def data_of(record: TransferRecord) -> dict[str, Any]:
    """The data of a record, without anything that depends on a model."""
    return {
        "source": record.source,
        "fingerprint": record.fingerprint,
        "collapse_rule": record.collapse_rule,
        "gaps": record.primary,
        "sets": {known.name: known.model_dump(exclude={"answers"}) for known in record.sets},
    }
