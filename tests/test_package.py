"""What is installed: three packages, their task files, and no name that is not ours."""

import re
import subprocess
import sys
import tarfile
import tomllib
import zipfile
from contextlib import suppress
from importlib.metadata import distribution, entry_points
from pathlib import Path

import pytest

from harness_plugin._version import DISTRIBUTION, install_command

ROOT = Path(__file__).parents[1]
PACKAGES = {
    "harness_plugin": ROOT / "harness_plugin",
    "harness_plugin_tasks": ROOT / "tasks" / "harness_plugin_tasks",
    "harness_plugin_hooks": ROOT / "hooks" / "harness_plugin_hooks",
}


def sources():
    """The files that belong into a wheel, by their place in it."""
    for name, folder in PACKAGES.items():
        for path in folder.rglob("*"):
            suffixes = (".py", ".yaml", ".md", ".css", ".js")
            if path.suffix in suffixes or path.name in ("py.typed", "options.json", "needs.json"):
                yield f"{name}/{path.relative_to(folder).as_posix()}"


def test_every_package_is_typed_and_every_folder_a_package():
    for folder in PACKAGES.values():
        assert (folder / "py.typed").is_file()
        for path in folder.rglob("*.py"):
            assert (path.parent / "__init__.py").is_file()


def test_the_outer_folders_are_no_packages():
    for name in ("tasks", "hooks"):
        assert not (ROOT / name / "__init__.py").exists()


def test_one_command_and_our_own_entry_points():
    assert distribution(DISTRIBUTION).version == "0.1.0"
    (command,) = [e for e in entry_points(group="console_scripts") if e.name == "harness"]
    assert command.value == "harness_plugin.cli.main:main"
    for entry in entry_points(group="harness_plugin"):
        if entry.dist and entry.dist.name == DISTRIBUTION:
            assert entry.value.split(".")[0] in PACKAGES
            assert entry.load()


def test_the_wheel_holds_the_three_packages_and_nothing_else(tmp_path):
    command = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", tmp_path]
    subprocess.run([*map(str, command), str(ROOT)], check=True, capture_output=True, timeout=180)
    (wheel,) = tmp_path.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        names = {name for name in archive.namelist() if not name.endswith("/")}
    information = {name for name in names if ".dist-info/" in name}
    assert names - information == set(sources())
    assert any(name.endswith("licenses/LICENSE") for name in information)


def test_the_source_archive_holds_every_file_of_the_project(tmp_path):
    """So that its own `make test` passes: nothing that a test reads is left out."""
    listed = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True)
    if listed.returncode or not listed.stdout:
        pytest.skip("no git checkout: this is the unpacked archive")
    command = [sys.executable, "-m", "build", "--sdist", "--no-isolation", "--outdir", tmp_path]
    subprocess.run([*map(str, command), str(ROOT)], check=True, capture_output=True, timeout=180)
    (archive,) = tmp_path.glob("debias_transfer-*.tar.gz")
    with tarfile.open(archive) as tar:
        names = {name.partition("/")[2] for name in tar.getnames()}
    assert not set(listed.stdout.split("\n")[:-1]) - names


INSTALLS = re.compile(r"\b(?:pip3?|pipx|uvx?|poetry|conda)\b.*?\b(?:install|add|run)\b(.*)")
"""A line that tells somebody to install something, up to what it installs."""
A_STRANGERS = re.compile(r"(?<![/\w])harness[-_.]plugin(?!_\w)", re.IGNORECASE)
"""What the package index knows by the name of our import package is somebody else's."""
KINDS = {".py", ".md", ".toml", ".yml", ".yaml", ".txt", ".ipynb", ".sh", ""}


def texts():
    """Every text file of the project, by its place in it."""
    for path in sorted(ROOT.rglob("*")):
        place = path.relative_to(ROOT)
        hidden = any(part.startswith(".") for part in place.parts[:1]) and place.parts[0] not in (
            ".ci",
            ".github",
        )
        if path.suffix in KINDS and not hidden and path.is_file():
            with suppress(UnicodeDecodeError):
                yield place.as_posix(), path.read_text(encoding="utf-8")


def install_commands(text):
    """The lines that install a stranger's distribution in place of ours."""
    for line in text.splitlines():
        result = INSTALLS.search(line)
        if result and A_STRANGERS.search(result[1]):
            yield line.strip()


@pytest.mark.parametrize("line", ["pip install harness-plugin", "uv add 'harness_plugin[ray]'"])
def test_a_line_that_installs_a_stranger_is_noticed(line):
    assert list(install_commands(f"  run: python -m {line}\n")) == [f"run: python -m {line}"]


def test_nobody_is_told_to_install_another_distribution():
    wrong = []
    for name, text in texts():
        if name != "tests/test_package.py":
            wrong += [f"{name}: {line}" for line in install_commands(text)]
        if name.endswith("pyproject.toml"):
            project = tomllib.loads(text)["project"]
            wrong += [f"{name}: {d}" for d in project["dependencies"] if A_STRANGERS.match(d)]
    assert not wrong
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert project["name"] == DISTRIBUTION
    assert install_command("ray") == f"pip install '{DISTRIBUTION}[ray]'"
    assert "ray" in project["optional-dependencies"]


def test_links_of_the_readme_lead_somewhere_on_the_index(tmp_path):
    """The release makes them absolute; each is a file of this tree."""
    page = tmp_path / "README.md"
    before = (ROOT / "README.md").read_text(encoding="utf-8")
    page.write_text(before, encoding="utf-8")
    script, place = ROOT / "docs" / "absolute_links.py", "https://example.org/us/ours"
    subprocess.run([sys.executable, script, page, f"{place}/", "v1.2.3"], check=True)
    after = page.read_text(encoding="utf-8")
    links = re.findall(r"(!?)\[[^\]]*\]\(([^)\s]+)\)", after)
    assert len(links) == len(re.findall(r"\]\(", before))
    ours = [(mark, target) for mark, target in links if target.startswith(place)]
    assert len(ours) > 20
    for mark, target in ours:
        file = target.removeprefix(f"{place}/{'raw' if mark else 'blob'}/v1.2.3/").split("#")[0]
        assert (ROOT / file).exists(), target
    assert all(target.startswith(("https://", "#")) for _, target in links)
    # nothing else moves, and a second time nothing does
    assert re.sub(rf"{place}/(raw|blob)/v1\.2\.3/", "", after) == before
    subprocess.run([sys.executable, script, page, place, "v9"], check=True)
    assert page.read_text(encoding="utf-8") == after
