"""Task files: every mistake is named with file, line and key; every task is found once."""

import sys
from pathlib import Path

import pytest

from harness_plugin import HarnessError
from harness_plugin.cli.list_names import row_of
from harness_plugin.data.task import find_task, read_task
from harness_plugin.data.task_files import resource_path, task_files
from harness_plugin.plugins.registry import KINDS, Offer, Registry

GOOD = """\
task: mine
summary: a task of my own
bias: none
modality: text
inputs: [text]
sources:
  embedded: loader:load
"""


@pytest.fixture
def written(tmp_path):
    def write(text=GOOD, name="mine.yaml"):
        (tmp_path / name).write_text(text)
        return tmp_path / name

    return write


def tasks(**targets):
    registry = Registry("task")
    for name, target in targets.items():
        registry.add(Offer("task", name, target, "", "somebody"))
    return registry


def test_a_good_task_is_read(written):
    task = read_task(written())
    assert (task.task, task.inputs, task.version) == ("mine", ("text",), 1)
    assert task.file.endswith("mine.yaml")


@pytest.mark.parametrize(
    ("old", "new", "line", "message"),
    [
        ("modality: text", "modality: sound", 4, "modality: Input should be 'text' or 'image'"),
        ("bias: none", "biass: none", 3, r"biass: Extra inputs .* Known keys: task, version"),
        ("task: mine", "task: Mine!", 1, "task: String should match pattern"),
        ("embedded: loader", "embeded: loader", 7, "sources.embeded: "),
        ("inputs: [text]", "inputs: []", 5, "inputs: .*at least 1 item"),
        ("inputs: [text]", "inputs: [text, [a]]", 5, "inputs.1: Input should be a valid string"),
        ("bias: none", "bias: [none", 4, "not valid YAML: "),
        (
            "summary: a task",
            "options: {x: {default: 1}}\nsummary: a",
            2,
            "options.x.help: Field re",
        ),
    ],
)
def test_a_mistake_names_file_line_and_key(written, old, new, line, message):
    path = written(GOOD.replace(old, new))
    with pytest.raises(HarnessError, match=rf"mine\.yaml:{line}: {message}"):
        read_task(path)


def test_a_missing_key_is_named(written):
    with pytest.raises(HarnessError, match=r"mine.yaml:1: modality: Field required"):
        read_task(written(GOOD.replace("modality: text\n", "")))


@pytest.mark.parametrize("text", ["", "- a\n- b\n", "just words\n"])
def test_a_file_that_is_no_mapping_is_named(written, text):
    with pytest.raises(HarnessError, match=r"mine.yaml:1: must be a YAML mapping, found "):
        read_task(written(text))


def test_a_file_that_cannot_be_read_is_named(tmp_path):
    with pytest.raises(HarnessError, match=r"absent.yaml: cannot be read"):
        find_task(str(tmp_path / "absent.yaml"), tasks())
    (tmp_path / "latin.yaml").write_bytes("summary: caf\u00e9".encode("latin-1"))
    with pytest.raises(HarnessError, match=r"latin.yaml: cannot be read: .*utf-8"):
        read_task(tmp_path / "latin.yaml")


def test_a_loader_beside_the_task_is_found_once(written, tmp_path):
    (tmp_path / "loader.py").write_text("def load(request):\n    return 'loaded'\n")
    task = read_task(written())
    load = task.load_attribute("loader:load")
    assert load(None) == "loaded"
    assert task.load_attribute("loader:load") is load
    assert "loader" not in sys.modules


def test_loaders_of_one_name_in_two_folders_are_two(tmp_path):
    loads = []
    for name in ("first", "second"):
        folder = tmp_path / name / "same"
        folder.mkdir(parents=True)
        (folder / "mine.yaml").write_text(GOOD)
        (folder / "loader.py").write_text(f"def load(request):\n    return {name!r}\n")
        loads.append(read_task(folder / "mine.yaml").load_attribute("loader:load"))
    assert [load(None) for load in loads] == ["first", "second"]


@pytest.mark.parametrize("target", ["loader:lod", "absent_module:load", "loader"])
def test_a_loader_that_does_not_exist_names_the_task_file(written, tmp_path, target):
    (tmp_path / "loader.py").write_text("def load(request): ...\n")
    with pytest.raises(HarnessError, match=rf"mine.yaml: cannot load '{target}'"):
        read_task(written()).load_attribute(target)


def test_a_loader_that_fails_to_import_fails_again(written, tmp_path):
    (tmp_path / "loader.py").write_text("import absent_module\n")
    task = read_task(written())
    for _ in range(2):
        with pytest.raises(HarnessError, match="No module named 'absent_module'"):
            task.load_attribute("loader:load")


def test_a_folder_of_tasks_is_searched(written, tmp_path):
    written()
    written(GOOD.replace("mine", "other"), "other.yml")
    assert find_task("other", tasks(), [str(tmp_path)]).task == "other"
    assert [path.name for path in task_files([str(tmp_path)])] == ["mine.yaml", "other.yml"]
    with pytest.raises(HarnessError, match=r"unknown task 'othr'. Did you mean other"):
        find_task("othr", tasks(), [str(tmp_path)])
    with pytest.raises(HarnessError, match=r"--include_path .*nowhere: no such folder"):
        find_task("other", tasks(), [str(tmp_path / "nowhere")])


def test_a_name_in_two_places_is_refused(written, tmp_path):
    path = written()
    with pytest.raises(HarnessError, match=r"mine.yaml and in plugin 'somebody'; rename one"):
        find_task("mine", tasks(mine=str(path)), [str(tmp_path)])
    written(name="again.yaml")
    with pytest.raises(HarnessError, match=r"again.yaml and in .*mine.yaml; rename one"):
        find_task("mine", tasks(), [str(tmp_path)])


def test_an_installed_task_is_found_by_name(plugins):
    assert "task" in KINDS
    for offer in plugins["task"]:
        task = find_task(offer.name, plugins["task"])
        assert task.task == offer.name
        assert Path(task.file) == resource_path(offer.target)


def test_a_task_is_listed_as_it_is_read(plugins, written):
    registry = plugins["task"]
    written("base: hans\ntask: mine\nsummary: mine\n", "mine.yaml")
    files = [
        *(resource_path(offer.target) for offer in registry),
        written("base: mine.yaml\ntask: over\n", "over.yaml"),
    ]
    for file in files:
        task, row = read_task(file, registry), row_of(file, registry)
        assert row[:2] == (task.task, task.modality)
        assert (row.sources, row.summary) == ((*task.sources,), task.summary)
        gaps = task.primary_gap if isinstance(task.primary_gap, dict) else {}
        assert row.sets == tuple(dict.fromkeys([*gaps, *task.hub_sets]))


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("task: mine", "task: [mine]"),
        ("sources:", "base: absent\nsources:"),
        ("modality: text", "modality:"),
    ],
)
def test_a_bad_file_is_listed_with_the_error_of_its_reader(written, plugins, old, new):
    path = written(GOOD.replace(old, new))
    with pytest.raises(HarnessError) as listing:
        row_of(path, plugins["task"])
    with pytest.raises(HarnessError) as reading:
        read_task(path, plugins["task"])
    assert str(listing.value) == str(reading.value)
