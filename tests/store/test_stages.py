"""Stages are whole or absent, found again, and never served to another key."""

import json
import multiprocessing

import pytest

from harness_plugin.store.files import write_json, write_text
from harness_plugin.store.stages import Store, key_of


def build(text):
    def write(folder):
        (folder / "out.txt").write_text(text)
        return {"length": len(text)}

    return write


def test_a_stage_is_built_once_and_found_again(tmp_path):
    store = Store(tmp_path)
    first = store.run("thing", {"a": 1}, build("one"))
    second = store.run("thing", {"a": 1}, build("two"))
    assert (first.reused, second.reused) == (False, True)
    assert (second.path / "out.txt").read_text() == "one"
    assert second.record["length"] == 3
    assert json.loads((second.path / "stage.json").read_text())["spec"] == {"a": 1}


def test_another_key_is_another_stage(tmp_path):
    store = Store(tmp_path)
    paths = {store.run(kind, {"a": a}, build("x")).path for kind in ("p", "q") for a in (1, 2)}
    assert len(paths) == 4


def test_key_does_not_depend_on_the_order_of_keys():
    assert key_of({"a": 1, "b": [1, 2]}) == key_of({"b": [1, 2], "a": 1})
    assert key_of({"a": 1}) != key_of({"a": 1.5})


def test_a_failed_build_leaves_nothing_whole_and_the_next_one_continues(tmp_path):
    store = Store(tmp_path)

    def fails(folder):
        (folder / "half").write_text("half a file")
        (folder / "resume").mkdir()
        (folder / "resume" / "so far").write_text("kept")
        raise RuntimeError("killed")

    with pytest.raises(RuntimeError, match="killed"):
        store.run("thing", {}, fails)
    assert store.find("thing", {}) is None

    def continues(folder):
        assert not (folder / "half").exists()
        assert (folder / "resume" / "so far").read_text() == "kept"
        (folder / "out.txt").write_text("whole")

    stage = store.run("thing", {}, continues)
    assert stage.reused is False
    assert sorted(path.name for path in stage.path.iterdir()) == ["out.txt", "stage.json"]
    assert not list(tmp_path.glob("*.partial"))


def test_a_folder_without_its_record_is_rebuilt(tmp_path):
    store = Store(tmp_path)
    stage = store.run("thing", {}, build("good"))
    (stage.path / "stage.json").unlink()
    again = store.run("thing", {}, build("rebuilt"))
    assert (again.path / "out.txt").read_text() == "rebuilt"


def test_json_is_strict(tmp_path):
    with pytest.raises(ValueError, match="Out of range float"):
        write_json(tmp_path / "x.json", {"a": float("nan")})
    assert list(tmp_path.iterdir()) == []


def count_up(root):
    def slow(folder):
        with (folder / "built.txt").open("a") as stream:
            stream.write("x")

    return Store(root).run("shared", {}, slow).reused


def test_a_file_that_cannot_be_written_whole_is_not_there_at_all(tmp_path):
    (tmp_path / "folder").mkdir()
    with pytest.raises(IsADirectoryError):
        write_text(tmp_path / "folder", "text")
    with pytest.raises(UnicodeEncodeError):
        write_text(tmp_path / "x", "half\ud800")
    assert [path.name for path in tmp_path.iterdir()] == ["folder"]


def test_two_runs_that_want_one_stage_build_it_once(tmp_path):
    context = multiprocessing.get_context("fork")
    with context.Pool(4) as pool:
        reused = pool.map(count_up, [tmp_path] * 4)
    assert sorted(reused) == [False, True, True, True]
    (stage,) = [path for path in tmp_path.glob("shared-*") if path.is_dir()]
    assert (stage / "built.txt").read_text() == "x"
