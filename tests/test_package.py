"""What is installed: three packages, their task files, and no name that is not ours."""

import subprocess
import sys
import zipfile
from importlib.metadata import distribution, entry_points
from pathlib import Path

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
            if path.suffix in (".py", ".yaml", ".md", ".css", ".js") or path.name == "py.typed":
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
    assert distribution("harness-plugin").version == "0.1.0"
    (command,) = [e for e in entry_points(group="console_scripts") if e.name == "harness"]
    assert command.value == "harness_plugin.cli.main:main"
    for entry in entry_points(group="harness_plugin"):
        if entry.dist and entry.dist.name == "harness-plugin":
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
