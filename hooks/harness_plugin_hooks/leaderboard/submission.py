"""A run's files → the parts of a bundle."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Any

from harness_plugin.errors import HarnessError
from harness_plugin.records.run_folder import run_folder, start_of
from harness_plugin.scoring.files.prediction_tables import file_name
from harness_plugin.scoring.files.transfer_record import TransferRecord, read_record


def parts_of(run: Path, started: str | None) -> dict[str, bytes]:
    """Every part of a bundle of the run that started at `started`; None where there is one only.

    Raises HarnessError for a folder without a run, with several, and for files that are gone.
    """
    parts: dict[str, bytes] = {}
    shared: dict[str, Any] = {}
    models: list[dict[str, Any]] = []
    run = run_folder(run)
    time = start_of(run, started)
    for file in sorted(run.glob(f"transfer_*_{time}.json")):
        record = read_record(file)
        content = without_folders(record)
        models += [
            {
                "task": record.task,
                "fingerprint": record.fingerprint,
                **dumped,
                "files": hashes_of(model.name, Path(model.path)),
            }
            for model, dumped in zip(record.models, content["models"], strict=True)
        ]
        folder = f"tasks/{record.task}"
        shared = {"config": content["config"], "environment": content["environment"]}
        parts[f"{folder}/results.json"] = as_json(content)
        for known in record.sets:
            answers = run / file_name(record.task, known.name, time)
            if not answers.is_file():
                raise HarnessError(
                    f"{run}: no {answers.name}, from which the numbers follow; run with "
                    f"--log_samples."
                )
            parts[f"{folder}/predictions_{known.name}.csv"] = answers.read_bytes()
    shared["models"] = models
    return parts | {f"{name}.json": as_json(value) for name, value in shared.items()}


def hashes_of(name: str, path: Path) -> dict[str, str]:
    """SHA-256 of what the model called `name` is made of, file by file."""
    return {file.name: hash_of(file) for file in files_of(name, path)}


def files_of(name: str, path: Path) -> list[Path]:
    """Weights, configuration and processor of a checkpoint; the file of predictions made elsewhere.

    Raises HarnessError where they are gone.
    """
    if path.is_file():
        return [path]
    folder = path if path.is_dir() else snapshot(path)
    files = [*folder.glob("*.safetensors"), *folder.glob("*.json")] if folder else []
    # stage.json says how long the training took, not what the model is
    if not any(file.suffix == ".safetensors" for file in files):
        raise HarnessError(f"the weights of {name} are gone from {path}: they cannot be hashed.")
    return sorted(file for file in files if file.name != "stage.json")


def snapshot(hub_id: Path) -> Path | None:
    """The folder in which a hub checkpoint was kept when it was loaded."""
    from huggingface_hub import try_to_load_from_cache
    from huggingface_hub.errors import HFValidationError

    try:
        path = try_to_load_from_cache(hub_id.as_posix(), "config.json")
    except HFValidationError:
        return None
    return Path(path).parent if isinstance(path, str) else None


def hash_of(file: Path) -> str:
    """SHA-256 of a file that may be larger than memory."""
    digest = hashlib.sha256()
    with file.open("rb") as stream:
        while block := stream.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def without_folders(record: TransferRecord) -> dict[str, Any]:
    """The record without folders of the machine: of an absolute path only the last part stays."""
    content: dict[str, Any] = record.model_dump(mode="json")
    content["config"] = names_only(content["config"])
    content["environment"] = names_only(content["environment"])
    content["models"] = names_only(content["models"])
    return content


def names_only(value: Any) -> Any:
    """A JSON value with every absolute path cut to its last part."""
    if isinstance(value, Mapping):
        return {key: names_only(item) for key, item in value.items()}
    if isinstance(value, list):
        return [names_only(item) for item in value]
    if isinstance(value, str):
        for path in (PurePosixPath(value), PureWindowsPath(value)):
            if path.is_absolute() or value.startswith("~"):
                return path.name
    return value


def as_json(value: Any) -> bytes:
    """The bytes of a JSON part."""
    return f"{json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False)}\n".encode()
