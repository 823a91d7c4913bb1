"""A trained model of a run → a folder that anybody's `from_pretrained` loads, with one card."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from harness_plugin.errors import HarnessError, unknown
from harness_plugin.plugins.registry import Plugins
from harness_plugin.scoring.files.finished_runs import records_in
from harness_plugin.scoring.files.transfer_record import Model, TransferRecord
from harness_plugin.store.files import write_json
from harness_plugin_hooks.outputs.export.card import card_of

LEFT_OUT = (".part", ".lock", ".tmp")
"""Endings of files that are no part of a model."""


@dataclass(frozen=True)
class Chosen:
    """One model of a finished run."""

    record: TransferRecord
    model: Model

    @property
    def modality(self) -> str:
        """The modality: a tokenizer lies beside the weights of a text model."""
        text = (Path(self.model.path) / "tokenizer_config.json").is_file()
        return "text" if text else "image"


def choose(run: Path, task: str | None, role: str, seed: int) -> Chosen:
    """The model of a role and seed. HarnessError where there is none, or none that was trained."""
    records = records_in(run)
    if task is None and len(records) > 1:
        raise HarnessError(f"{run}: has several tasks; name one with --tasks {'|'.join(records)}.")
    task = task or next(iter(records))
    if task not in records:
        raise unknown(f"task of the run in {run}", task, records)
    _, record = records[task]
    models = {(model.role, model.seed): model for model in record.models}
    if role not in {name for name, _ in models}:
        raise unknown("role of the run", role, sorted({name for name, _ in models}))
    if (role, seed) not in models:
        raise unknown(f"seed of {role}", str(seed), [str(s) for r, s in models if r == role])
    model = models[role, seed]
    if not (Path(model.path) / "config.json").is_file():
        raise HarnessError(
            f"the checkpoint of {role} seed {seed} is not there ({model.path}): export it from the "
            f"machine that trained it, or run the same command again."
        )
    return Chosen(record, model)


def write(chosen: Chosen, target: Path, plugins: Plugins, licence: str | None) -> list[Path]:
    """The weights, the tokenizer or image processor, the record of training, and the card.

    Raises HarnessError for a folder that already holds something.
    """
    if target.exists() and any(target.iterdir()):
        raise HarnessError(f"{target}: is not empty; name a new folder.")
    target.mkdir(parents=True, exist_ok=True)
    for file in sorted(Path(chosen.model.path).iterdir()):
        if file.is_file() and file.suffix not in LEFT_OUT and file.name != "README.md":
            # contents alone: files of the store may be readable by their owner only
            shutil.copyfile(file, target / file.name)
    set_max_length(target, chosen.model.settings)
    card = card_of(chosen.record, chosen.model, chosen.modality, plugins, licence)
    card.save(target / "README.md")
    return sorted(target.iterdir())


def set_max_length(target: Path, settings: Mapping[str, Any]) -> None:
    """Let a tokenizer truncate as in training, whoever loads it."""
    file = target / "tokenizer_config.json"
    if file.is_file():
        config = json.loads(file.read_text(encoding="utf-8"))
        write_json(file, config | {"model_max_length": settings["max_length"]})
