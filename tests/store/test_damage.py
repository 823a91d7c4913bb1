"""What was written is served, or nothing: changed bytes, power cuts, full and read-only disks."""

import errno
import json
import os
import shutil
import subprocess
import sys

import numpy as np
import pytest
from damage import DAMAGE

from harness_plugin.errors import DiskError, HarnessError
from harness_plugin.store import files, stages
from harness_plugin.store.seals import DamagedError, read_sealed, write_sealed
from harness_plugin.store.stages import Processes, Store


def build(folder):
    np.save(folder / "logits.npy", np.arange(1000, dtype=np.float32))
    (folder / "deep").mkdir()
    (folder / "deep" / "config.json").write_text('{"a": 1}')
    return {"rows": 1000}


@pytest.mark.parametrize("file", ["logits.npy", "deep/config.json", "stage.json"])
@pytest.mark.parametrize("damage", DAMAGE)
def test_a_damaged_stage_is_named_set_aside_and_built_again(tmp_path, capsys, damage, file):
    first = Store(tmp_path).run("logits", {"model": 1}, build)
    DAMAGE[damage](first.path / file)
    assert Store(tmp_path).find("logits", {"model": 1}) is None
    again = Store(tmp_path).run("logits", {"model": 1}, build)
    assert not again.reused
    assert np.array_equal(np.load(again.path / "logits.npy"), np.arange(1000))
    output = capsys.readouterr().out
    assert file.rpartition("/")[2] in output
    assert f"{first.path.name}.broken" in output
    assert first.path.with_suffix(".broken").is_dir()
    third = Store(tmp_path).run("logits", {"model": 1}, build)
    assert third.reused
    assert third.record["rows"] == 1000


def test_a_value_of_a_record_that_was_edited_is_damage(tmp_path):
    stage = Store(tmp_path).run("logits", {}, build)
    text = (stage.path / "stage.json").read_text()
    (stage.path / "stage.json").write_text(text.replace('"rows": 1000', '"rows": 1001'))
    assert Store(tmp_path).find("logits", {}) is None


def test_bytes_are_compared_once_a_store(tmp_path, monkeypatch):
    Store(tmp_path).run("logits", {}, build)
    store, calls = Store(tmp_path), []
    compare = stages.check_seal
    monkeypatch.setattr(stages, "check_seal", lambda *a: calls.append(a) or compare(*a))
    for _ in range(3):
        assert store.run("logits", {}, build).reused
    assert len(calls) == 1


def test_records_tell_what_was_written_from_what_was_not(tmp_path):
    write_sealed(tmp_path / "a.json", {"b": 0.1, "a": [1, None]})
    assert read_sealed(tmp_path / "a.json") == {"b": 0.1, "a": [1, None]}
    assert read_sealed(tmp_path / "absent.json") is None
    for text in ("", "{", "[1]", "{}", '{"digest": 3}', "\x00" * 50, "[" * 100_000):
        (tmp_path / "a.json").write_text(text)
        with pytest.raises(DamagedError, match=r"a\.json is not what was written"):
            read_sealed(tmp_path / "a.json")


def test_every_byte_and_name_is_on_the_disk_before_the_next_step(tmp_path, monkeypatch):
    """The order that ext4 and POSIX ask for: contents, folders, rename, the folder above."""
    steps = []
    fsync, replace = os.fsync, os.replace

    def synced(descriptor):
        steps.append(os.readlink(f"/proc/self/fd/{descriptor}"))
        fsync(descriptor)

    def renamed(old, new):
        steps.append((str(old), str(new)))
        replace(old, new)

    monkeypatch.setattr(os, "fsync", synced)
    monkeypatch.setattr(os, "replace", renamed)
    final = Store(tmp_path).run("logits", {}, build).path
    partial = final.with_suffix(".partial")
    moved = steps.index((str(partial), str(final)))
    for path in ("logits.npy", "deep/config.json", "deep", ""):
        assert str(partial / path).rstrip("/") in steps[:moved], path
    sealed = next(n for n, step in enumerate(steps) if step[1] == str(partial / "stage.json"))
    assert steps[:sealed].count(str(partial / "logits.npy")) == 1
    assert str(partial) in steps[sealed:moved]  # the seal's name
    assert steps[moved + 1] == str(tmp_path)  # the stage's name


def test_a_finished_store_that_cannot_be_written_is_read(tmp_path, monkeypatch):
    Store(tmp_path).run("logits", {}, build)

    def refuse(self, final):
        raise OSError(errno.EROFS, os.strerror(errno.EROFS), str(final))

    monkeypatch.setattr(Store, "_lock", refuse)
    assert Store(tmp_path).run("logits", {}, build).reused
    with pytest.raises(DiskError, match=r"other-.*: cannot be used: Read-only file system"):
        Store(tmp_path).run("other", {}, build)


WRITERS = {
    "python": lambda folder: (_ for _ in ()).throw(OSError(errno.ENOSPC, "No space")),
    "numpy": lambda folder: np.save(folder / "x.npy", np.zeros(10**6)),
    "safetensors": lambda folder: __import__("safetensors.numpy").numpy.save_file(
        {"a": np.zeros(10**6)}, folder / "x.safetensors"
    ),
    "arrow": lambda folder: files.write_table(
        folder / "x.parquet", [{"a": os.urandom(99).hex()} for _ in range(9999)]
    ),
}


@pytest.mark.parametrize("writer", WRITERS)
def test_a_full_disk_is_one_line_and_the_same_command_goes_on(tmp_path, writer):
    """A limit on the size of files stands for the end of the disk; the error comes from the C."""
    program = f"""
import resource, signal, sys
sys.path[:0] = {sys.path!r}
sys.path.insert(0, {os.path.dirname(__file__)!r})
import test_damage as here
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, -1))
try:
    here.Store(here.stages.Path({str(tmp_path)!r})).run("logits", {{}}, here.WRITERS[{writer!r}])
except here.DiskError as error:
    print(error)
"""
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=False, timeout=60
    )
    assert done.returncode == 0, done.stderr
    assert "MB are free on the disk at /" in done.stdout
    assert "cannot be written: " in done.stdout
    assert done.stdout.count("\n") == 1
    assert Store(tmp_path).run("logits", {}, build).reused is False


def test_torch_says_nothing_of_the_disk_which_is_asked_then(tmp_path, monkeypatch):
    usage = shutil.disk_usage(tmp_path)
    error = RuntimeError("[enforce fail at inline_container.cc:863] . file write failed")
    assert files.disk_error(tmp_path, error) is None
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage._replace(free=4096))
    assert "No space left on device; 0.0 MB are free" in str(files.disk_error(tmp_path, error))
    assert files.disk_error(tmp_path, KeyError("a")) is None


def test_processes_do_what_the_main_one_has_seen(tmp_path):
    """The others compare no bytes: what the main process sets aside they build with it."""
    answers = []
    main = Store(tmp_path, Processes(from_main=lambda text: answers.append(text) or text))
    stage = main.run("logits", {}, build)
    other = Store(tmp_path, Processes(is_main=False, from_main=lambda text: answers[-1]))
    assert main.run("logits", {}, build).path == other.run("logits", {}, build).path == stage.path
    with pytest.raises(HarnessError, match="the processes of this run disagree on stage logits"):
        other.run("logits", {"b": 1}, build)


def test_stages_of_the_machine_are_json(tmp_path):
    stage = Store(tmp_path).run("logits", {}, build)
    record = json.loads((stage.path / "stage.json").read_text())
    assert record["files"]["deep/config.json"][0] == 8
    assert sorted(record["files"]) == ["deep/config.json", "logits.npy"]
