"""Fixtures every test may use: no stray plugins, no user cache, real data only where it exists."""

import os

os.environ["HF_HUB_OFFLINE"] = "1"  # before datasets is imported: it reads the variable once

from pathlib import Path

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
