"""models.json: facts of every model besides its numbers, and the hashes of its files.

No number follows from how long a model was trained, from what it started or which data it saw. So
a bundle says it twice, in the results and here beside the hashes, and both must agree.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from pydantic import Field, RootModel

from harness_plugin.scoring.files.transfer_record import Model, TransferRecord
from harness_plugin_hooks.leaderboard.bundle import Problem, Sha256, shown
from harness_plugin_hooks.leaderboard.differences import differences

PART = "models.json"


class ModelFiles(Model):
    """A model as the results have it, its data and the hashes of its files."""

    task: str
    fingerprint: str = Field(description="of the task's data")
    files: dict[str, Sha256] = Field(min_length=1, description="file -> SHA-256")


class ModelHashes(RootModel[list[ModelFiles]]):
    """models.json"""


def weights_of(task: str, hashes: ModelHashes) -> dict[tuple[str, int], frozenset[str]]:
    """SHA-256 of every model's weight files, or of its file of answers, by role and seed."""
    return {
        (model.role, model.seed): frozenset(
            digest for name, digest in model.files.items() if not name.endswith(".json")
        )
        for model in hashes.root
        if model.task == task
    }


def check_models(hashes: ModelHashes, records: Mapping[str, TransferRecord]) -> Iterator[Problem]:
    """Every model is here as in the results, with hashes of all that it is made of."""
    expected = {(task, m.role, m.seed): m for task, r in records.items() for m in r.models}
    hashed = {(m.task, m.role, m.seed): m for m in hashes.root}
    if expected.keys() != hashed.keys() or len(hashed) != len(hashes.root):
        names = (
            ", ".join("/".join(map(str, k)) for k in sorted(keys)) for keys in (expected, hashed)
        )
        yield Problem(PART, *(shown(name) for name in names))
        return
    for (task, *_), model in expected.items():
        entry = hashed[task, model.role, model.seed]
        recorded = {**model.model_dump(mode="json"), "fingerprint": records[task].fingerprint}
        theirs = entry.model_dump(mode="json", exclude={"task", "files"})
        yield from differences(recorded, theirs, f"{PART}, {shown(model.name)}")
        yield from missing_hashes(model, entry)


def missing_hashes(model: Model, entry: ModelFiles) -> Iterator[Problem]:
    """Weights and configuration of a trained model, and the file of answers made elsewhere."""
    name, scored = shown(model.name), model.settings.get("sha256")
    weights = [file for file in entry.files if not file.endswith(".json")]
    if model.updates and not weights:
        yield Problem(PART, f"a hash of {name}'s weights, which were trained", "none")
    if model.updates and "config.json" not in entry.files:
        yield Problem(PART, f"a hash of {name}'s config.json", "none")
    if scored is not None and scored not in entry.files.values():
        yield Problem(PART, f"{name}'s file {shown(str(scored))}", "another")
