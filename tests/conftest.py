"""Fixtures every test may use: no stray plugins, no user cache, real data only where it exists."""

import os

os.environ["HF_HUB_OFFLINE"] = "1"  # before datasets is imported: it reads the variable once
# before torch is: workers share the cores, and two threads on a tiny model wait for each other
os.environ.setdefault("OMP_NUM_THREADS", "1")

import gc
import importlib
import itertools
import json
import shutil
import sys
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest import mock

import pluggy
import pytest
from filelock import FileLock

from harness_plugin.plugins.registry import Plugins, load_plugins, make_manager

ROOT = Path(__file__).resolve().parents[1]
numbers = itertools.count()


def pytest_configure():
    """Files are not forced to the disk, which takes 3 ms each: no test pulls the plug.

    That they would be, and in which order, is asked by a test that looks at the calls.
    """
    os.fsync = lambda descriptor: None


@pytest.hookimpl(wrapper=True)
def pytest_collection():
    """No garbage is looked for while a million objects are imported, all of which stay."""
    gc.disable()
    try:
        return (yield)
    finally:
        gc.enable()


def pytest_collection_finish():
    """What is imported stays: every training collects garbage, and need not look through it."""
    gc.collect()
    gc.freeze()


def typical_cpu(shape: Any, cores: int) -> dict[str, Any]:
    """What a measurement of the machine gives, without one."""
    return {"milliseconds": {"1 no sdpa": 1.0}}


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup():
    """Leave out what every training would repeat, before the first fixture.

    The machine is not measured for every new store, which beside a busy neighbour takes 10 CPU
    seconds; Accelerate collects young garbage instead of walking through all that there is, twice
    a training; that objects are frozen is known without counting them, three times a run. None
    imports anything: a test that imports these modules itself has them as they are.
    """
    if calibration := sys.modules.get("harness_plugin.pipeline.prepare.calibration"):
        calibration.measure_cpu = typical_cpu
    if memory := sys.modules.get("accelerate.utils.memory"):
        memory.gc = SimpleNamespace(collect=partial(gc.collect, 1))
    if state := sys.modules.get("harness_plugin.machine.process_state"):
        state.anything_frozen = lambda: True


def pytest_collection_modifyitems(items):
    """The slow tests come first: a worker that began one last would be waited for.

    Tests that need a GPU are skipped where there is none.
    """
    items.sort(key=lambda item: item.get_closest_marker("slow") is None)
    marked = [item for item in items if item.get_closest_marker("gpu")]
    if marked and not importlib.import_module("torch").cuda.is_available():
        for item in marked:
            item.add_marker(pytest.mark.skip(reason="needs an NVIDIA GPU: torch sees none"))


@pytest.fixture(autouse=True)
def _isolated(tmp_path_factory, monkeypatch):
    """Stages of a test never land in, or come from, the user's cache; the hub is off.

    The cache of a test has a name and no folder until it is used: `tmp_path` would make one for
    each test, which takes longer the more there are.
    """
    cache = tmp_path_factory.getbasetemp() / "caches" / str(next(numbers))
    monkeypatch.setenv("HARNESS_PLUGIN_CACHE", str(cache))
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


@pytest.fixture(scope="session")
def shared_store(tmp_path_factory):
    """A store for tests that ask what a training gives, not whether there is one.

    What it is made of is in a stage's key, so that one test's teacher may be another's.
    """
    return tmp_path_factory.mktemp("shared_store")


@pytest.fixture(scope="session")
def context_in(plugins):
    """The context of a run, by task, store, settings and flags: frozen, and opened once for all."""
    from stepwise import stepwise

    from harness_plugin.config.merge import run_config
    from harness_plugin.pipeline.prepare.open_task import load_tasks
    from harness_plugin.pipeline.run_task import context_of

    @cache
    def context(task: str, store: Path, sets: tuple[str, ...], **flags):
        config = run_config(None, {"tasks": (task,), **flags}, sets)
        (opened,) = load_tasks(config, plugins)
        return stepwise(context_of(opened, config, plugins, store))

    return context


@pytest.fixture
def open_context(tmp_path, context_in):
    """The context of a run of the toy text task (or another), in a store of its own or `store`.

    Contexts in a shared store, whose path is absolute, are shared as well.
    """

    def context(*sets: str, task: str = TOY, store: str | Path = "store", **flags):
        flags = {"threads": 1, "precision": "no", "attention": "sdpa", **flags}
        make = context_in if Path(store).is_absolute() else context_in.__wrapped__
        return make(task, tmp_path / store, sets, **flags)

    return context


@dataclass(frozen=True)
class ToyRun:
    """One finished run of the toy task from the command line, with secrets in its environment."""

    output: Path
    store: Path
    secrets: tuple[str, ...]

    def record(self) -> dict[str, Any]:
        """Its transfer_*.json."""
        (file,) = self.output.glob("transfer_toy_*.json")
        record: dict[str, Any] = json.loads(file.read_text())
        return record

    def checkpoint(self, role: str) -> Path:
        """The folder of a trained model."""
        stage = next(m for m in self.record()["models"] if m["role"] == role)["settings"]["stage"]
        return self.store / f"model-{stage}"

    def copied(self, folder: Path) -> Path:
        """Its files in a folder of a test's own; the store is where they look for it."""
        shutil.copytree(self.output, folder)
        (folder.parent / "store").symlink_to(self.store)
        return folder


@pytest.fixture(scope="session")
def toy_run(tmp_path_factory) -> ToyRun:
    """A tiny run: one seed, few epochs, every role, samples written. Tests change none of it.

    Where there are several workers, the first that needs it makes it for all; as deep as folders
    of a test, since paths in it go from file to file.
    """
    base = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        base = base.with_name("every_worker")
    folder = base / "toy_run"
    folder.parent.mkdir(exist_ok=True)
    secrets = {name: f"{name.lower()}-not-for-others" for name in ("HF_TOKEN", "WANDB_API_KEY")}
    with FileLock(f"{folder}.lock"):
        if not (folder / "done").exists():
            make_toy_run(folder, secrets)
            (folder / "done").touch()
    return ToyRun(folder / "out", folder / "store", tuple(secrets.values()))


def make_toy_run(folder: Path, secrets: dict[str, str]) -> None:
    """Run the toy task from the command line."""
    from harness_plugin.cli.main import main

    command = f"--tasks {TOY} --seeds 0 --threads 1 --precision no --attention sdpa --log_samples"
    command += " --outputs all"
    command += " --device cpu"
    command += f" --resamples 100 --output_path {folder}/out"
    command += f" --use_cache {folder}/store"
    with mock.patch.dict(os.environ, secrets):
        words = ["--set", "teacher.epochs=2.2", "--set", "student.epochs=2.1"]
        assert main([*command.split(), *words]) == 0


@pytest.fixture(scope="session")
def finished_report(plugins):
    """The report of a run whose answers are made up: nothing is trained.

    `finished_report(folder, {role: share})`: that share of the 40 rows of each of four groups is
    right; seed k loses k rows of the last group. Two sets, `id` (in domain) and `swapped`. The
    gold labels of the first `turned` rows of each group are other ones.
    """
    import numpy as np

    from harness_plugin.records import Predictions, RunReport, TrainedModel
    from harness_plugin.scoring.score import score_task

    groups = ("a/x", "a/y", "b/x", "b/y")
    group = np.arange(160) % 4
    label, rank = group // 2, np.arange(160) // 4

    def answers(
        role: str, seed: int, split: str, share: float, name: str, turned: int
    ) -> Predictions:
        cut = 40 * share - seed * (group == 3) - 4 * (split == "swapped") * (group % 2 != label)
        predicted = np.where(rank < cut, label, 1 - label)
        noise = np.random.default_rng([seed, rank.size]).normal(size=(160, 2))
        return Predictions(
            task="made",
            split=split,
            role=role,
            model=f"{name}-{role}-seed{seed}",
            seed=seed,
            ids=np.array([f"{split}{i}" for i in range(160)]),
            logits=(9 * np.eye(2)[predicted] + noise).astype(np.float32),
            model_labels=("a", "b"),
            label=np.where(rank < turned, 1 - label, label),
            labels=("a", "b"),
            group=group,
            groups=groups,
            aligned=np.equal(label, group % 2).astype(np.int64),
            breakdowns={"cue": np.array(["x", "y"])[group % 2]},
        )

    def make(
        folder: Path,
        right: dict[str, float],
        *,
        name: str = "made",
        source: str = "path",
        fingerprint: str = "f" * 64,
        seeds: int = 3,
        started: float = 0.0,
        turned: int = 0,
    ) -> RunReport:
        def checkpoint(role: str, seed: int) -> Path:
            weights = folder / f"checkpoint-{role}-{seed}"
            weights.mkdir(parents=True, exist_ok=True)
            (weights / "model.safetensors").write_bytes(f"{name} {role} {seed}".encode())
            (weights / "config.json").write_text("{}")
            (weights / "stage.json").write_text("{}")
            return weights

        settings = {"model": name, "stage": "s"}
        models = [(role, seed) for role in right for seed in range(seeds)]
        scores = score_task(
            [
                answers(role, seed, split, right[role], name, turned)
                for role, seed in models
                for split in ("id", "swapped")
            ],
            task="made",
            source=source,
            fingerprint=fingerprint,
            train_groups=groups,
            train_group_counts=(90, 10, 10, 90),
            purposes={"id": "in_domain", "swapped": "ood"},
            metrics={offer.name: offer.load() for offer in plugins["metric"]},
            models=tuple(
                TrainedModel(
                    "made",
                    role,
                    seed,
                    f"{name}-{role}-seed{seed}",
                    checkpoint(role, seed),
                    name,
                    "group_dro",
                    settings,
                )
                for role, seed in models
            ),
            notes=("made up",),
            resamples=100,
            declared_gap="gap_avg_worst",
        )
        choices = {"text": {"device": "cpu"}}
        environment = {"choices": choices, "versions": {"transformers": "5"}}
        config = {"log_samples": True, "resamples": 100, "data_seed": 0}
        config |= {"output_path": str(folder), "data": source}
        return RunReport(config, environment, (scores,), started, 1.0)

    return make


@pytest.fixture(scope="session")
def finished_run(finished_report):
    """Write the files of `finished_report` that others read: the same arguments; the folder."""
    from harness_plugin_hooks.outputs import lm_eval, predictions, transfer

    def write(folder: Path, right: dict[str, float], **more: Any) -> Path:
        report = finished_report(folder, right, **more)
        for output in (lm_eval, predictions, transfer):
            output.write(report, folder)
        return folder

    return write


class Browser:
    """A headless Chromium without network, and what it did since the last `open`."""

    def __init__(self, driver: Any) -> None:
        self.driver = driver

    def open(self, page: Path) -> None:
        """Load a file; what was logged before is forgotten."""
        self.driver.get("about:blank")
        self.errors(), self.requests()
        self.driver.get(page.resolve().as_uri())

    def errors(self) -> list[str]:
        """What the console holds, warnings included."""
        return [entry["message"] for entry in self.driver.get_log("browser")]

    def requests(self) -> list[str]:
        """Every address that was asked for, whether it was allowed or not."""
        messages = (
            json.loads(entry["message"])["message"] for entry in self.driver.get_log("performance")
        )
        sent = (m for m in messages if m["method"] == "Network.requestWillBeSent")
        return [message["params"]["request"]["url"] for message in sent]

    def texts(self, selector: str) -> list[str]:
        """What is read where a CSS selector matches."""
        return [element.text for element in self.driver.find_elements("css selector", selector)]


@pytest.fixture(scope="session")
def browser():
    """A `Browser`, or a skip that says what is missing."""
    import shutil

    programs = {name: shutil.which(name) for name in ("chromium", "chromedriver")}
    if missing := [name for name, path in programs.items() if path is None]:
        pytest.skip(
            f"no {' and no '.join(missing)} on this machine; on Debian: apt-get install chromium "
            f"chromium-driver"
        )
    webdriver = pytest.importorskip("selenium.webdriver", reason="selenium is not installed")
    options = webdriver.ChromeOptions()
    options.binary_location = programs["chromium"]
    # as root, and in containers with little shared memory
    for flag in ("headless", "no-sandbox", "disable-dev-shm-usage", "disable-gpu"):
        options.add_argument(f"--{flag}")
    options.add_argument("--window-size=1400,1000")
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    service = webdriver.ChromeService(executable_path=programs["chromedriver"])
    driver = webdriver.Chrome(options=options, service=service)
    yield Browser(driver)
    driver.quit()
