"""Archives of strangers: hostile members, sizes, links, what is no bundle at all."""

import stat
import zipfile

import pytest
from bundles import refused

from harness_plugin.cli.main import main
from harness_plugin.errors import HarnessError
from harness_plugin_hooks.leaderboard import bundle as b
from harness_plugin_hooks.leaderboard.bundle import Refused
from harness_plugin_hooks.leaderboard.submission import names_only
from harness_plugin_hooks.leaderboard.verify import verify


@pytest.fixture(scope="module")
def whole(tmp_path_factory, finished_run):
    """A bundle that holds."""
    run = finished_run(tmp_path_factory.mktemp("run"), {"teacher": 0.9, "student": 0.7})
    bundle = run.parent / f"{run.name}.zip"
    assert main(["submit", str(run), "--output_path", str(bundle), "--name", "Ours"]) == 0
    return bundle


def zipped(path, *members):
    """A zip file of (name or ZipInfo, content)."""
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in members:
            archive.writestr(name, content)
    return path


def special(name: str, mode: int) -> zipfile.ZipInfo:
    info = zipfile.ZipInfo(name)
    info.external_attr = mode << 16
    return info


@pytest.mark.parametrize(
    ("member", "message"),
    [
        (("../../etc/passwd", b""), "../../etc/passwd: expected a part of the layout"),
        (("/etc/passwd", b""), "/etc/passwd: expected a part of the layout"),
        (("..\\windows", b""), "expected a part of the layout"),
        (("tasks/../config.json", b""), "expected a part of the layout"),
        (("tasks/toy/predictions_.._x.csv", b""), "expected a part of the layout"),
        (("evil/", b""), "evil/: expected a part of the layout"),
        (("config.json\n", b""), "'config.json\\n': expected a part of the layout"),
        ((special("config.json", stat.S_IFLNK | 0o777), b"/etc/passwd"), "a link or a device"),
        ((special("config.json", stat.S_IFIFO), b""), "a link or a device"),
    ],
    ids=lambda v: repr(v)[:30],
)
def test_hostile_members_are_refused(tmp_path, plugins, member, message):
    assert message in refused(plugins, zipped(tmp_path / "b.zip", member))[0]


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_doubled_members_are_refused(tmp_path, plugins):
    file = zipped(tmp_path / "b.zip", ("config.json", b"{}"), ("config.json", b"[]"))
    assert refused(plugins, file) == ["config.json: expected one part, found two of this name"]


def test_huge_members_are_refused_before_they_are_unpacked(tmp_path, plugins, monkeypatch):
    file = tmp_path / "b.zip"
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("config.json", bytes(1 << 20))
    monkeypatch.setattr(b, "MAX_PART", 1 << 19)
    (problem,) = refused(plugins, file)
    assert problem == "config.json: expected at most 524,288 bytes, found 1,048,576"
    content = bytearray(file.read_bytes())
    size = (1 << 20).to_bytes(4, "little")
    while (place := content.find(size)) >= 0:  # the headers now say 16 bytes
        content[place : place + 4] = (16).to_bytes(4, "little")
    file.write_bytes(content)
    assert "b.zip: expected a zip file that can be read" in refused(plugins, file)[0]


def test_bundles_have_limits(tmp_path, plugins, monkeypatch, whole):
    for name, value, message in (
        ("MAX_PARTS", 3, "expected at most 3 parts, found more"),
        ("MAX_BUNDLE", 5000, "expected at most 5,000 bytes, found "),
        ("MAX_ZIP", 100, "expected at most 100 bytes, found "),
    ):
        with monkeypatch.context() as patch:
            patch.setattr(b, name, value)
            assert message in refused(plugins, whole)[0]


def test_what_is_no_zip_file_is_refused(tmp_path, plugins, whole):
    file = tmp_path / "b.zip"
    file.write_bytes(whole.read_bytes()[:-100])
    assert "b.zip: expected a zip file that can be read" in refused(plugins, file)[0]
    content = bytearray(whole.read_bytes())
    content[2000] ^= 255
    file.write_bytes(content)
    assert refused(plugins, file)
    packed = zipfile.ZipInfo("config.json")
    packed.compress_type = zipfile.ZIP_BZIP2
    file = zipped(tmp_path / "c.zip", (packed, b"{}"))
    assert refused(plugins, file) == [
        "config.json: expected a member stored or deflated, found another way"
    ]


def test_links_in_a_folder_are_refused(whole, plugins, tmp_path):
    folder = tmp_path / "bundle"
    with zipfile.ZipFile(whole) as archive:
        archive.extractall(folder)
    (folder / "config.json").unlink()
    (folder / "config.json").symlink_to("/etc/passwd")
    assert refused(plugins, folder) == [
        "config.json: expected a regular file, found a link or a device"
    ]
    link = tmp_path / "link"
    link.symlink_to(folder)
    assert refused(plugins, link) == [
        "link: expected a folder or a zip file, found a symbolic link"
    ]
    (folder / "config.json").unlink()
    (folder / "tasks" / "other").symlink_to("/etc")
    assert "tasks/other: expected a regular file" in refused(plugins, folder)[0]


def test_too_many_cells_or_values_are_refused(plugins, whole, monkeypatch):
    from harness_plugin_hooks.leaderboard import verify as v

    with monkeypatch.context() as patch:
        patch.setattr(v, "MAX_CELLS", 100)
        assert "sets: expected at most 100 cells, found " in refused(plugins, whole)[0]
    monkeypatch.setattr(v, "MAX_VALUES", 1)
    assert "bias type 'cue' has 2 values" in refused(plugins, whole)[0]


def test_a_bundle_that_is_not_there_is_bad_input(tmp_path, plugins):
    with pytest.raises(HarnessError, match="there is no bundle") as caught:
        verify(tmp_path / "none.zip", plugins)
    assert not isinstance(caught.value, Refused)
    assert main(["verify", str(tmp_path / "none.zip")]) == 2


def test_paths_are_cut_and_names_stay():
    value = {"a": ["/home/me/x", "C:\\Users\\me\\y", "~/z", "org/model", 3, None], "b": "./here"}
    assert names_only(value) == {"a": ["x", "y", "z", "org/model", 3, None], "b": "./here"}
