"""Built-in tasks register by lying in a folder, with the summary that stands in their YAML file."""

from pathlib import Path

import pytest

import harness_plugin_tasks
from harness_plugin.data.task import read_task
from harness_plugin.data.task_files import resource_path
from harness_plugin.plugins.registry import load_plugins
from harness_plugin_tasks import summary_of

FOLDER = Path(harness_plugin_tasks.__file__).parent


def test_every_task_file_is_offered_under_its_name_with_its_summary():
    registry = load_plugins()["task"]
    offers = [offer for offer in registry if offer.target.startswith("harness_plugin_tasks.")]
    for offer in offers:
        task = read_task(resource_path(offer.target), registry)
        assert (offer.name, offer.summary) == (task.task, task.summary)
    assert {resource_path(offer.target) for offer in offers} == {*FOLDER.rglob("*.yaml")}
    assert "hans" in registry


@pytest.mark.parametrize(
    ("text", "summary"),
    [
        ("task: mine\nsummary: plain words\nbias: none\n", "plain words"),
        ("summary: 'a: b'\n", "a: b"),
        ('summary: "a: b"\r\n', "a: b"),
    ],
)
def test_a_summary_is_read_off_its_line(tmp_path, text, summary):
    file = tmp_path / "mine.yaml"
    file.write_text(text, newline="")
    assert summary_of(file) == summary


@pytest.mark.parametrize(
    "text", ["task: mine\n", "summary:\n  plain words\n", "summary: >-\n  a\n"]
)
def test_a_summary_on_another_line_is_refused(tmp_path, text):
    file = tmp_path / "mine.yaml"
    file.write_text(text)
    with pytest.raises(ValueError, match=r"mine\.yaml: needs `summary: …` on one line"):
        summary_of(file)
