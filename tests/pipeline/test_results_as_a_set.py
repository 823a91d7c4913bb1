"""Results are there as a whole or not at all, and say nothing of the machine's folders."""

import errno
import getpass
import os
import shutil
import signal
from dataclasses import replace
from pathlib import Path
from unittest import mock

import pytest
import yaml

from harness_plugin.cli.main import main
from harness_plugin.config.merge import run_config
from harness_plugin.errors import DiskError, HarnessError
from harness_plugin.pipeline import outputs
from harness_plugin.scoring.files.transfer_record import read_record
from harness_plugin.store.files import RUN, located, portable

ROOT = Path(__file__).resolve().parents[2]
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
        ("/scratch/me/store", f"{RUN}../../scratch/{{user}}/store"),
        ("../me/store", "../{user}/store"),
        ("me/bert", "me/bert"),
        ("hub/id", "hub/id"),
        ("/", "/"),
    ],
)
def test_paths_say_nothing_of_the_machine_and_lead_back(monkeypatch, path, written):
    monkeypatch.setenv("HOME", "/home/me")
    values = {"a": [os.path.expanduser(path)]}
    assert portable(values, Path("/srv/out")) == {"a": [written]}
    if path != "/home/nobody-else/x/bert":
        assert located(portable(values, Path("/srv/out")), Path("/srv/out")) == values


def test_another_users_name_is_left_out_of_a_path_between_two_homes(monkeypatch):
    monkeypatch.setenv("HOME", "/home/me")
    run = Path("/home/me/runs/a")
    assert portable("/home/you/store", run) == "store"
    assert portable("/home/me/store", run) == f"{RUN}../../store"
    assert portable("/home/you/store", Path("/home/you/runs/a")) == f"{RUN}../../store"
    assert located(f"{RUN}../{{user}}/x", run) == "/home/me/runs/me/x"


@pytest.fixture(scope="module")
def published(toy_run, tmp_path_factory):
    """All that is handed on: a run with every output, its pages, a bundle and a leaderboard."""
    folder = tmp_path_factory.mktemp("published")
    run, shared = str(toy_run.output), str(folder / "bundles" / "ours")
    with mock.patch.dict(os.environ, {"HF_TOKEN": toy_run.secrets[0]}):
        assert main(["report", run, "--output_path", str(folder / "page")]) == 0
        assert main(["compare", run, run, "--output_path", str(folder / "compared")]) != 2
        assert main(["submit", run, "--output_path", shared, "--allow_embedded"]) == 0
        words = ["--output_path", str(folder / "site"), "--allow_embedded"]
        assert main(["leaderboard", str(folder / "bundles"), *words]) == 0
    shutil.copytree(toy_run.output, folder / "run")
    return folder


def test_nothing_published_names_a_folder_a_user_or_a_secret(toy_run, published):
    home, user = os.path.expanduser("~"), getpass.getuser()
    private = [str(toy_run.output.parent), str(published), f"{home}/", f"/{user}/"]
    private += toy_run.secrets
    files = [path for path in published.rglob("*") if path.is_file()]
    assert len({path.relative_to(published).parts[0] for path in files}) == 5
    assert len(files) > 40
    for file in files:
        content = file.read_bytes()
        read_again = file.name.startswith(("config_", "transfer_"))  # from there, to what it names
        for text in private if read_again else [*private, str(ROOT)]:
            assert text.encode() not in content, (file.relative_to(published), text)


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


def test_half_a_character_in_a_result_is_refused_where_it_is_read(toy_run, tmp_path):
    (file,) = toy_run.output.glob("transfer_*.json")
    bad = tmp_path / file.name
    bad.write_text(file.read_text().replace('"task": "', '"task": "\\ud800', 1))
    with pytest.raises(HarnessError, match=r"is no JSON file .*surrogates not allowed"):
        read_record(bad)


def test_a_result_with_nan_is_refused_in_one_line(toy_run, tmp_path, capsys):
    (file,) = toy_run.output.glob("transfer_*.json")
    bad = tmp_path / file.name
    bad.write_text(file.read_text().replace('"low": 0.', '"low": NaN, "x": 0.', 1))
    with pytest.raises(HarnessError, match="is no JSON file \\(NaN is not JSON\\)"):
        read_record(bad)
    assert main(["report", str(tmp_path)]) == 2
    assert capsys.readouterr().err.count("\n") == 1
