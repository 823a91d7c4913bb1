"""`harness show`: what a registered thing says of itself, at any width, by an unambiguous name."""

from pathlib import Path

import pytest

from harness_plugin import hookimpl
from harness_plugin.cli.main import main
from harness_plugin.cli.startup import KINDS
from harness_plugin.data.task import find_task
from harness_plugin.plugins.registry import collect, load_plugins
from harness_plugin.training.contracts import NEEDS

TOY = Path(__file__).parents[1] / "toy"
PLUGINS = load_plugins()
OFFERS = [(kind, offer.name) for kind in KINDS.values() for offer in PLUGINS[kind]]


@pytest.fixture
def shown(capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")

    def show(*words):
        status = main(["show", *words])
        out = capsys.readouterr()
        return status, out.out if status == 0 else out.err

    return show


def joined(text):
    return " ".join(text.split())


@pytest.mark.parametrize(("kind", "name"), OFFERS)
def test_everything_registered_is_shown_in_80_columns(shown, kind, name):
    status, text = shown(kind, name)
    assert status == 0
    assert text.startswith(f"{kind} {name}\n")
    wide = [line for line in text.splitlines() if len(line) > 80 and len(line.split()) > 2]
    assert not wide, wide
    thing = None if kind == "task" else PLUGINS[kind].offer(name).load()
    for option in getattr(thing, "defaults", {}):
        assert f"\n  {option} = " in text
    for need in getattr(thing, "needs", ()):
        assert joined(NEEDS[need]) in joined(text)


@pytest.mark.parametrize("name", [offer.name for offer in PLUGINS["task"]])
def test_a_task_says_all_that_its_file_says(shown, name):
    task, text = find_task(name, PLUGINS["task"]), joined(shown("task", name)[1])
    for answers in (task.summary, task.bias, task.citation, task.licence):
        assert joined(answers) in text
    for key, option in task.options.items():
        assert f" {key} = " in text
        assert joined(option.help) in text
    for hub in task.hub_sets.values():
        assert hub.id in text
    assert "hub" not in task.sources or "hub" in text


def test_sets_that_the_data_alone_name_are_pointed_at(shown):
    faces, hans, tables = (
        joined(shown("task", n)[1]) for n in ("celeba_bias", "hans", "csv_groups")
    )
    assert "those of embedded, DIR data, which harness validate celeba_bias lists" in faces
    assert "test (hub flwrlabs/celeba" in faces
    assert "those of own, DIR data, which harness validate csv_groups lists" in tables
    assert "those of" not in hans.partition(" sets ")[2].partition(" version ")[0]


class Namesake:
    """A plugin whose output has the name of a method."""

    @hookimpl
    def register_outputs(self, register):
        register("jtt", "builtins:print", summary="other things")


def test_a_name_of_several_kinds_asks_for_its_kind(shown, monkeypatch):
    PLUGINS.manager.register(Namesake(), name="namesake")
    both = collect(PLUGINS.manager)
    PLUGINS.manager.unregister(name="namesake")
    monkeypatch.setattr("harness_plugin.plugins.registry.load_plugins", lambda: both)
    status, text = shown("jtt")
    assert status == 2
    assert "say `harness show method jtt` or `harness show output jtt`" in text
    assert shown("output", "jtt")[1].startswith("output jtt\n  other things\n")
    assert shown("method", "jtt")[1].startswith("method jtt\n")


def test_a_name_of_one_kind_needs_no_kind(shown):
    assert shown("group_dro") == shown("method", "group_dro")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["grup_dro"], "unknown name 'grup_dro'. Did you mean group_dro"),
        (["method", "grup_dro"], "unknown method 'grup_dro'. Did you mean group_dro"),
        (["task", "hanz"], "unknown task 'hanz'. Did you mean hans"),
        (["methd", "erm"], "unknown kind of thing to show 'methd'. Did you mean method"),
        (["method", "erm", "more"], "unexpected argument 'more'"),
        (["none.yaml"], "none.yaml: cannot be read"),
        ([], "the following arguments are required"),
        (["erm", "--include_path", "nowhere"], "nowhere: no such folder"),
    ],
)
def test_what_cannot_be_shown_is_one_line(shown, words, message):
    status, text = shown(*words)
    assert status == 2
    assert message in text
    assert len(text.splitlines()) == 1


def test_a_task_outside_any_package_is_shown(shown):
    status, text = shown(str(TOY / "toy.yaml"))
    assert status == 0
    assert "rows = 240\n      training rows" in text
    assert shown("toy", "--include_path", str(TOY)) == (status, text)
