"""A stranger's strings, in every place of a bundle: a leaderboard shows them and runs none."""

import csv
import io
import json
import re
import zipfile

import bad_input_parts
import bad_input_results
import pytest

from harness_plugin.cli.main import main
from harness_plugin_hooks.leaderboard.bundle import Refused
from harness_plugin_hooks.leaderboard.verify import verify

RESULTS = "tasks/made/results.json"
HOSTILE = (
    "</style></title></script><script>document.title='broken'</script>"
    "<img src=https://example.org/x onerror=\"document.title='broken'\">'\" "
    "<a href=\"javascript:document.title='broken'\" onfocus=\"document.title='broken'\" autofocus>"
)
LABEL = "<img src=x onerror=\"document.title='broken'\">'\" "
"""Of a label or group: a slash would part it."""
RIGHT = {"teacher": 0.9, "student": 0.7, "control": 0.6}
FREE = (("config", "x"), ("environment", "x"), ("harness_plugin_version",))
"""Where a bundle may hold any string and hold: what its author says of the machine and version."""


@pytest.fixture(scope="module")
def parts(tmp_path_factory, finished_run):
    folder = tmp_path_factory.mktemp("hostile")
    run = finished_run(folder / "run", RIGHT, name=HOSTILE)
    words = ["submit", str(run), "--output_path", str(folder / "b.zip"), "--name", HOSTILE[:100]]
    assert main(words) == 0
    with zipfile.ZipFile(folder / "b.zip") as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def named(text):
    """A text with hostile names for the labels a and b, alone, in groups, and in columns."""
    return re.sub(r"^([ab])$|\b([ab])(?=/[xy]\b)|(?<=/)([ab])$", lambda m: LABEL + m[0], text)


def renamed(value):
    """JSON with hostile labels and groups."""
    if isinstance(value, dict):
        return {named(key): renamed(each) for key, each in value.items()}
    if isinstance(value, list):
        return [renamed(each) for each in value]
    return named(value) if isinstance(value, str) else value


def packed(file, parts, change=None):
    """A bundle whose results `change` has changed; its other parts follow."""
    record = json.loads(parts[RESULTS])
    if change is not None:
        change(record)
    own = {RESULTS: json.dumps(record).encode()}
    own |= {f"{name}.json": json.dumps(record[name]).encode() for name in ("config", "environment")}
    whole = {**parts, **own}
    whole["manifest.json"] = bad_input_results.manifest_for(whole)
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in whole.items():
            archive.writestr(name, content)
    return file


def with_hostile_labels(parts):
    """All parts, with hostile names of labels and groups."""
    whole = {**parts, RESULTS: json.dumps(renamed(json.loads(parts[RESULTS]))).encode()}
    for name in [name for name in parts if name.endswith(".csv")]:
        text = io.StringIO()
        rows = csv.reader(io.StringIO(parts[name].decode()))
        csv.writer(text, lineterminator="\n").writerows(
            [named(cell) for cell in row] for row in rows
        )
        whole[name] = text.getvalue().encode()
    return whole


def with_hashes(parts, file, plugins):
    """The parts with hashes that fit their rows, as the refusal of others names them."""
    with pytest.raises(Refused) as refused:
        verify(packed(file, parts), plugins)
    results = parts[RESULTS].decode()
    for problem in refused.value.problems:
        assert problem.part.endswith("rows_sha256")
        results = results.replace(problem.actual, problem.expected)
    return {**parts, RESULTS: results.encode()}


def set_at(record, path, value):
    for key in path[:-1]:
        record = record[key]
    record[path[-1]] = value


@pytest.fixture(scope="module")
def site(parts, tmp_path_factory, plugins, scored_once):
    """A page of bundles that hold, and of some that are refused at every kind of place."""
    folder = tmp_path_factory.mktemp("bundles")
    for number, path in enumerate(FREE):
        file = packed(folder / f"free-{number}.zip", parts, lambda r, p=path: set_at(r, p, HOSTILE))
        verify(file, plugins)
    file = folder / "labels.zip"
    verify(packed(file, with_hashes(with_hostile_labels(parts), file, plugins)), plugins)
    seen = set()
    for path in bad_input_parts.places(json.loads(parts[RESULTS])):
        pattern = tuple("*" if isinstance(key, int) else key for key in path)
        if pattern not in seen and len(path) < 4:
            seen.add(pattern)
            name = f"refused-{len(seen)}.zip"
            packed(folder / name, parts, lambda r, p=path: set_at(r, p, HOSTILE))
    out = folder.parent / f"{folder.name}-site"
    words = ["leaderboard", str(folder), "--output_path", str(out), "--skip_refused"]
    assert main([*words, "--title", HOSTILE]) == 0
    return out


def test_hostile_strings_everywhere_are_shown_and_nothing_runs(browser, site):
    browser.open(site / "index.html")
    assert browser.driver.title.startswith("</style></title></script>")  # a text, as it was given
    assert browser.errors() == []
    assert browser.requests() == [(site / "index.html").as_uri()]
    assert "document.title='broken'" in browser.driver.find_element("css selector", "body").text
    assert browser.driver.find_elements("css selector", "img, a[href^=javascript], [onfocus]") == []
