"""Fixtures every test may use: no stray plugins, no user cache, real data only where it exists."""

import os

os.environ["HF_HUB_OFFLINE"] = "1"  # before datasets is imported: it reads the variable once

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pluggy
import pytest

from harness_plugin.plugins import Plugins, load_plugins, make_manager

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture(autouse=True)
def _isolated(tmp_path, monkeypatch):
    """Stages of a test never land in, or come from, the user's cache; the hub is off."""
    monkeypatch.setenv("HARNESS_PLUGIN_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    for name in ("HARNESS_PLUGIN_BLOCK", "HARNESS_PLUGIN_STRICT"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def manager() -> pluggy.PluginManager:
    """Our hooks, no plugins."""
    return make_manager()


@pytest.fixture(scope="session")
def real_data() -> Path:
    """The folder with real data sets, or a skip that says where it was looked for."""
    folder = Path(os.environ.get("HARNESS_REAL_DATA", ROOT.parent / "shared" / "data"))
    if not folder.is_dir():
        pytest.skip(f"no real data: {folder} does not exist; set HARNESS_REAL_DATA")
    return folder


TOY = str(ROOT / "tests" / "toy" / "toy.yaml")


@pytest.fixture(scope="session")
def plugins() -> Plugins:
    """What is installed."""
    return load_plugins()


@pytest.fixture
def open_shop(tmp_path, plugins):
    """Open a workshop on the toy text task (or another) in a store of its own."""
    from harness_plugin.config import run_config
    from harness_plugin.run import open_workshop, prepare

    def opened(*sets: str, task: str = TOY, store: str = "store", **flags):
        flags = {"threads": 1, "precision": "no", "attention": "sdpa", **flags}
        config = run_config(None, {"tasks": (task,), **flags}, sets)
        (job,) = prepare(config, plugins)
        return open_workshop(*job, config, plugins, tmp_path / store)

    return opened


@dataclass(frozen=True)
class ToyRun:
    """One finished run of the toy task from the command line."""

    output: Path
    store: Path

    def record(self) -> dict[str, Any]:
        """Its transfer_*.json."""
        (file,) = self.output.glob("transfer_toy_*.json")
        record: dict[str, Any] = json.loads(file.read_text())
        return record

    def checkpoint(self, role: str) -> Path:
        """The folder of a trained model."""
        stage = next(m for m in self.record()["models"] if m["role"] == role)["settings"]["stage"]
        return self.store / f"model-{stage}"


@pytest.fixture(scope="session")
def toy_run(tmp_path_factory) -> ToyRun:
    """A tiny run: one seed, one epoch, every role, samples written."""
    from harness_plugin.cli import main

    folder = tmp_path_factory.mktemp("toy_run")
    command = f"--tasks {TOY} --seeds 0 --threads 1 --precision no --attention sdpa --log_samples"
    command += " --device cpu"
    command += f" --resamples 100 --output_path {folder}/out --use_cache {folder}/store"
    assert main([*command.split(), "--set", "teacher.epochs=1", "--set", "student.epochs=1"]) == 0
    return ToyRun(folder / "out", folder / "store")
