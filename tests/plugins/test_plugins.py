"""Plugins are found, blocked, named when broken, and called at the moments that are promised."""

import os.path
import zipfile
from dataclasses import replace
from importlib import metadata
from pathlib import Path

import pluggy
import pytest

from harness_plugin import HarnessError, hookimpl
from harness_plugin._version import DISTRIBUTION, __version__
from harness_plugin.config.merge import run_config
from harness_plugin.plugins import hookspecs, registry
from harness_plugin.plugins.installed import Entry as Installed
from harness_plugin.plugins.installed import entry_points
from harness_plugin.plugins.registry import BrokenPlugin, collect, load_installed, load_plugins
from harness_plugin.run_tasks import run
from harness_plugin.scoring.metrics import Metric

TOY = str(Path(__file__).parents[1] / "toy" / "toy.yaml")
HOOKS = [name for name, value in vars(hookspecs).items() if hasattr(value, "harness_plugin_spec")]
OFFERS = [name for name in HOOKS if name.startswith("register_")]
MOMENTS = [name for name in HOOKS if not name.startswith("register_")]


class Entry:
    """An entry point of a distribution that is not installed."""

    value, origin = "strange.module", "strange-dist 1.2"

    def __init__(self, name, load):
        self.name, self.load = name, load


def install(monkeypatch, *entries):
    monkeypatch.setattr(registry, "entry_points", lambda group: list(entries))


class Offering:
    """A plugin that offers one task."""

    @hookimpl
    def register_tasks(self, register):
        register("mine", "package:mine.yaml", summary="a task")


class Other(Offering):
    pass


class Silent:
    """A plugin that offers nothing."""


class Misspelt:
    @hookimpl
    def register_taks(self, register): ...


class WrongArgument:
    @hookimpl
    def run_started(self, configuration): ...


class Raising(Offering):
    @hookimpl
    def register_backbones(self, register):
        raise KeyError("no size")


def absent():
    raise ModuleNotFoundError("No module named 'absent'")


@pytest.mark.parametrize(
    ("load", "reason"),
    [
        (absent, "ModuleNotFoundError: No module named 'absent'"),
        (Misspelt, "register_taks"),
        (WrongArgument, "configuration"),
    ],
)
def test_a_broken_plugin_is_named_and_the_rest_load(manager, monkeypatch, load, reason):
    install(monkeypatch, Entry("bad", load), Entry("good", Offering))
    (broken,) = load_installed(manager)
    assert (broken.name, broken.distribution) == ("bad", "strange-dist 1.2")
    assert reason in broken.reason
    assert str(broken).startswith("skipped plugin bad (strange.module) from strange-dist 1.2: ")
    assert str(broken).endswith("silence it with HARNESS_PLUGIN_BLOCK=bad")
    assert [offer.name for offer in collect(manager)["task"]] == ["mine"]


@pytest.mark.parametrize("load", [absent, Misspelt, WrongArgument])
def test_strict_raises(manager, monkeypatch, load):
    monkeypatch.setenv("HARNESS_PLUGIN_STRICT", "1")
    install(monkeypatch, Entry("bad", load))
    with pytest.raises((ModuleNotFoundError, pluggy.PluginValidationError)):
        load_installed(manager)


def test_a_plugin_that_raises_while_offering_is_named_and_its_offers_are_gone(manager, monkeypatch):
    install(monkeypatch, Entry("bad", Raising), Entry("silent", lambda: Silent))
    broken = load_installed(manager)
    result = collect(manager, broken)
    assert str(result.broken[0]).startswith("skipped plugin bad (strange.module) from strange-dist")
    assert "KeyError: 'no size'" in result.broken[0].reason
    assert list(result["task"]) == []
    assert manager.get_plugin("bad") is None


def test_strict_raises_while_offering(manager, monkeypatch):
    monkeypatch.setenv("HARNESS_PLUGIN_STRICT", "1")
    manager.register(Raising(), "bad")
    with pytest.raises(KeyError, match="no size"):
        collect(manager)


def test_a_blocked_plugin_is_not_even_imported(manager, monkeypatch):
    monkeypatch.setenv("HARNESS_PLUGIN_BLOCK", "other, bad")
    install(monkeypatch, Entry("bad", lambda: 1 / 0))
    assert load_installed(manager) == []
    assert manager.is_blocked("bad")


def test_one_name_offered_twice_shows_both(manager):
    manager.register(Offering(), "first")
    manager.register(Other(), "second")
    with pytest.raises(HarnessError, match=r"task 'mine' is registered twice: .*'first'.*'second'"):
        collect(manager)


def test_an_offer_knows_its_plugin(manager):
    manager.register(Offering(), "first")
    offer = collect(manager)["task"].offer("mine")
    assert (offer.plugin, offer.target, offer.summary) == ("first", "package:mine.yaml", "a task")


def test_an_unknown_name_shows_near_ones_then_all(manager):
    manager.register(Offering(), "first")
    registry = collect(manager)["task"]
    with pytest.raises(HarnessError, match=r"unknown task 'mien'. Did you mean mine\? Known: mine"):
        registry.offer("mien")


@pytest.mark.parametrize("target", ["absent_module:x", "harness_plugin.errors:Absent"])
def test_an_offer_that_cannot_be_loaded_names_its_plugin(target):
    offer = registry.Offer("method", "mine", target, "", "theirs")
    with pytest.raises(
        HarnessError, match=r"'mine' of plugin 'theirs' cannot be loaded.*BLOCK=thei"
    ):
        offer.load()


def test_everything_installed_loads(monkeypatch):
    monkeypatch.setenv("HARNESS_PLUGIN_STRICT", "1")
    result = load_plugins()
    assert result.broken == []
    for kind in ("backbone", "method", "distiller", "metric", "output"):
        assert list(result[kind])
        for offer in result[kind]:
            assert offer.load() is not None
            assert offer.summary


def test_a_target_of_another_kind_is_named_with_its_plugin():
    offer = registry.Offer("metric", "mine", "harness_plugin.errors:HarnessError", "s", "theirs")
    for loaded, expected in (
        (lambda: offer.instance(Metric), "expected a harness_plugin.scoring.metrics.Metric"),
        (lambda: offer.subclass(Metric), "a subclass of harness_plugin.scoring.metrics.Metric"),
        (replace(offer, target="harness_plugin.plugins.registry:KINDS").function, "a function"),
    ):
        with pytest.raises(HarnessError, match=f"metric 'mine' of plugin 'theirs': .*{expected}"):
            loaded()
    assert offer.subclass(ValueError) is offer.load() is HarnessError


def test_the_kinds_are_the_offers():
    assert [registry.hook_of(kind) for kind in registry.KINDS] == OFFERS


class Recorder:
    """Writes down every moment as it comes."""

    def __init__(self):
        self.log = []

    @hookimpl
    def run_started(self, config):
        self.log.append(("run_started", config.seeds))

    @hookimpl
    def data_loaded(self, task, data):
        self.log.append(("data_loaded", task.task, len(data.train)))

    @hookimpl
    def model_trained(self, model):
        self.log.append(("model_trained", model.role, model.seed))

    @hookimpl
    def scores_computed(self, scores):
        self.log.append(("scores_computed", scores.task))

    @hookimpl
    def run_finished(self, report):
        self.log.append(("run_finished", all(file.is_file() for file in report.files)))


@pytest.fixture
def tiny(tmp_path):
    sets = ["teacher.epochs=0.1", "student.epochs=0.1", f"output_path={tmp_path / 'out'}"]
    flags = {"tasks": (TOY,), "seeds": (0,), "threads": 1, "precision": "no", "resamples": 100}
    return run_config(None, {**flags, "attention": "sdpa"}, sets)


def test_every_moment_of_a_run_comes_in_order(tiny):
    result = load_plugins()
    recorder = Recorder()
    result.manager.register(recorder)
    run(tiny, result)
    expected = [("run_started", (0,)), ("data_loaded", "toy", 240)]
    for role in ("teacher", "erm_teacher", "student", "control", "erm_student"):
        expected.append(("model_trained", role, 0))
    expected += [("scores_computed", "toy"), ("run_finished", True)]
    assert recorder.log == expected
    assert list(dict.fromkeys(name for name, *_ in recorder.log)) == MOMENTS


class Failing:
    @hookimpl
    def model_trained(self, model):
        raise RuntimeError("the plugin's own mistake")


def test_a_plugin_that_raises_during_a_run_stops_it(tiny):
    result = load_plugins()
    result.manager.register(Failing())
    with pytest.raises(RuntimeError, match="own mistake"):
        run(tiny, result)
    # nothing but how far it came (harness watch)
    assert [file.name for file in Path(tiny.output_path).glob("*")] == ["progress.json"]


def test_hook_arguments_have_no_defaults(manager):
    for name in HOOKS:
        spec = getattr(manager.hook, name).spec
        assert not spec.kwargnames
        assert spec.function.__doc__


def test_the_entry_points_are_those_of_this_distribution():
    entry = registry.entry_of("tasks", None)
    assert entry.origin == f"{DISTRIBUTION} {__version__}"
    assert registry.describe(registry.entry_of("unheard", None), KeyError("x")) == BrokenPlugin(
        "unheard", "unheard", "an unknown distribution", "KeyError: 'x'"
    )


@pytest.fixture
def twice_installed(tmp_path, monkeypatch):
    """A distribution in two folders of `sys.path`, the first of which counts."""
    for folder, module in (("second", "late"), ("first", "early")):
        info = tmp_path / folder / "Some_Dist.x-1.0.dist-info"
        info.mkdir(parents=True)
        (info / "METADATA").write_text("Metadata-Version: 2.1\nName: Some-Dist.x\nVersion: 1.0\n")
        lines = ["# a = b", "[other]", "not = ours", "[mine]", f"it = {module}:a.b [extra]", ""]
        (info / "entry_points.txt").write_text("\n".join(lines))
        monkeypatch.syspath_prepend(str(tmp_path / folder))
    return tmp_path


@pytest.mark.parametrize("group", ["mine", "harness_plugin", "console_scripts", "absent"])
@pytest.mark.parametrize("archive", [False, True])
def test_entry_points_are_those_of_importlib(twice_installed, monkeypatch, group, archive):
    if archive:  # not looked into: importlib.metadata is asked
        with zipfile.ZipFile(twice_installed / "some.zip", "w") as file:
            file.writestr("zipped-1.0.dist-info/entry_points.txt", "[mine]\nin_zip = zipped\n")
            file.writestr("zipped-1.0.dist-info/METADATA", "Name: zipped\nVersion: 1.0\n")
        monkeypatch.syspath_prepend(str(twice_installed / "some.zip"))
    ours = [(entry.name, entry.value) for entry in entry_points(group)]
    theirs = [(entry.name, entry.value) for entry in metadata.entry_points(group=group)]
    assert sorted(ours) == sorted(theirs)
    assert (("it", "early:a.b [extra]") in ours) == (group == "mine")
    assert (("in_zip", "zipped") in ours) == (archive and group == "mine")


def test_an_entry_point_loads_its_attribute_and_names_its_distribution(twice_installed):
    (twice_installed / "first" / "early.py").write_text("class a:\n    b = 3\n")
    (entry,) = entry_points("mine")
    assert (entry.load(), entry.origin) == (3, "Some-Dist.x 1.0")
    assert Installed("alone", "os.path").load() is os.path
