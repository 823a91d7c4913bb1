"""Results are there as a whole or not at all, and say nothing of the machine's folders."""

import errno
import getpass
import os
import shutil
import signal
from dataclasses import replace
from pathlib import Path

import pytest
import yaml

from harness_plugin.cli.main import main
from harness_plugin.config.merge import run_config
from harness_plugin.errors import DiskError, HarnessError
from harness_plugin.pipeline import outputs
from harness_plugin.scoring.files.transfer_record import read_record
from harness_plugin.store.files import RUN, located, portable

RIGHT = {"teacher": 0.9, "student": 0.7, "control": 0.6, "erm_teacher": 0.5, "erm_student": 0.5}


@pytest.fixture(scope="module")
def report(finished_report, tmp_path_factory):
    return finished_report(tmp_path_factory.mktemp("finished"), RIGHT, seeds=1)


@pytest.fixture
def write(report, tmp_path, plugins):
    """Write the results of a finished run into a folder; the files."""

    def written(folder=tmp_path / "out", names=("transfer", "predictions")):
        config = run_config(
            None, {"tasks": ("x",), "output_path": str(folder), "outputs": names}, []
        )
        own = {**report.config, "output_path": str(folder)}
        return outputs.write_outputs(replace(report, config=own), config, plugins)

    return written


def test_the_files_are_where_they_are_said_to_be(write, tmp_path):
    files = write()
    assert files
    assert all(file.is_file() for file in files)
    assert not [path for path in (tmp_path / "out").iterdir() if path.name.startswith(".")]


def test_a_kill_at_any_moment_leaves_no_half_set(write, tmp_path):
    """Killed at every rename in turn; then the next run cleans up what the killed one left."""
    out, replace_ = tmp_path / "out", os.replace
    complete = sorted(f.relative_to(tmp_path / "good") for f in write(tmp_path / "good"))
    stops = 0
    for moment in range(200):
        child = os.fork()
        if not child:
            count = iter(range(10**6))

            def stopping(old, new, count=count, moment=moment):
                if next(count) == moment:
                    os.kill(os.getpid(), signal.SIGKILL)
                replace_(old, new)

            os.replace = stopping
            write(out)
            os._exit(0)
        _, status = os.waitpid(child, 0)
        if status == 0:
            break
        stops += 1
        records = list(out.glob("transfer_*"))
        if records:  # what a reader takes for a run is one
            there = [p.relative_to(out) for p in out.rglob("*") if p.is_file()]
            assert set(complete) <= set(there)
        outputs.check_writable(out)
        left = sorted(p.relative_to(out) for p in out.rglob("*") if p.is_file())
        assert left in ([], complete), moment
        for path in out.rglob("*"):
            if path.is_file():
                path.unlink()
    assert stops > len(complete)


def test_a_full_disk_names_the_output_and_leaves_nothing(write, tmp_path, monkeypatch):
    def full(path, text):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))

    from harness_plugin_hooks.outputs import predictions

    monkeypatch.setattr(predictions, "write_parts", full)
    with pytest.raises(DiskError, match=r"output 'predictions' could not be written: .*No space"):
        write()
    assert list((tmp_path / "out").iterdir()) == []


def test_what_another_process_is_writing_is_left_alone(write, tmp_path):
    (tmp_path / "out").mkdir()
    for name in (
        f".writing-elsewhere@{2**22 + 1}@x",
        f".writing-{os.uname().nodename}@{os.getpid()}@x",
    ):
        (tmp_path / "out" / name).mkdir()
    write()
    assert len(list((tmp_path / "out").glob(".writing-*"))) == 2


@pytest.mark.parametrize(
    ("path", "written"),
    [
        ("/srv/store/model-a", f"{RUN}../store/model-a"),
        ("/srv/out/x", f"{RUN}x"),
        ("~/.cache/x", "~/.cache/x"),
        ("/home/nobody-else/x/bert", "bert"),
        ("/data/bert", f"{RUN}../../data/bert"),
        ("hub/id", "hub/id"),
        ("/", "/"),
    ],
)
def test_paths_say_nothing_of_the_machine_and_lead_back(monkeypatch, path, written):
    monkeypatch.setenv("HOME", "/home/me")
    given = {"a": [os.path.expanduser(path)]}
    assert portable(given, Path("/srv/out")) == {"a": [written]}
    if path != "/home/nobody-else/x/bert":
        assert located(portable(given, Path("/srv/out")), Path("/srv/out")) == given


def test_no_file_of_a_run_names_a_folder_of_the_machine(toy_run):
    secrets = [str(toy_run.output.parent), os.path.expanduser("~") + "/", f"/{getpass.getuser()}/"]
    files = [path for path in toy_run.output.rglob("*") if path.is_file()]
    assert len(files) > 20
    for file in files:
        for secret in secrets:
            assert secret.encode() not in file.read_bytes(), (file.name, secret)


def test_a_run_that_was_moved_together_with_its_store_can_be_read(toy_run, tmp_path):
    shutil.copytree(toy_run.output, tmp_path / "new" / "out")
    shutil.copytree(toy_run.store, tmp_path / "new" / "store")
    (file,) = (tmp_path / "new" / "out").glob("transfer_*.json")
    paths = {Path(model.path) for model in read_record(file).models}
    assert all(path.is_dir() and path.is_relative_to(tmp_path / "new") for path in paths)
    (config,) = (tmp_path / "new" / "out").glob("config_*.yaml")
    assert run_config(config, {}, []).use_cache == str(tmp_path / "new" / "store")
    assert RUN in config.read_text()
    assert yaml.safe_load(config.read_text())["output_path"] == f"{RUN}."


def test_a_result_with_nan_is_refused_in_one_line(toy_run, tmp_path, capsys):
    (file,) = toy_run.output.glob("transfer_*.json")
    bad = tmp_path / file.name
    bad.write_text(file.read_text().replace('"low": 0.', '"low": NaN, "x": 0.', 1))
    with pytest.raises(HarnessError, match="is no JSON file \\(NaN is not JSON\\)"):
        read_record(bad)
    assert main(["report", str(tmp_path)]) == 2
    assert capsys.readouterr().err.count("\n") == 1
