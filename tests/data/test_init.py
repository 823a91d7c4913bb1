"""`harness init`: a table becomes a task that `harness validate` takes, with guesses to check."""

import json

import numpy as np
import pytest
from PIL import Image

from harness_plugin.cli.main import main
from harness_plugin.data.dataset import load_data
from harness_plugin.data.task import find_task

GROUPS = [(y, a) for y in ("late", "early") for a in ("north", "south")]


def rows_of(split, copies=8):
    return [(f"{split} message {n} of some length", y, a) for n in range(copies) for y, a in GROUPS]


def put(folder, name, head, rows, delimiter=",", encoding="utf-8"):
    lines = [delimiter.join(head), *(delimiter.join(row) for row in rows)]
    (folder / name).write_bytes("\n".join(lines).encode(encoding))
    return folder / name


def task_after(plugins, path, file):
    assert main(["init", str(path)]) == 0
    task = find_task(str(file), plugins["task"])
    return task, load_data(task, "own"), file.read_text()


def test_five_lines_and_a_word_on_each_guess(plugins, tmp_path, capsys):
    rows = [(t, y, a, s) for s in ("train", "test") for t, y, a in rows_of(s)]
    table = put(tmp_path, "Post 2024.csv", ("message", "arrival", "region", "split"), rows)
    task, data, text = task_after(plugins, table, tmp_path / "Post 2024.yaml")
    assert task.task == "post_2024"
    assert [line.partition("  #")[0] for line in text.splitlines() if line[0] != "#"] == [
        "task: post_2024",
        "base: csv_groups",
        "table: Post 2024.csv",
        "inputs: message",
        "label: arrival",
        "attribute: region",
    ]
    assert "# what it predicts: 'early', 'late'" in text
    assert {name: len(split) for name, split in data.splits.items()} == {"train": 32, "test": 32}
    assert "harness validate" in capsys.readouterr().out


def test_a_table_without_names_is_asked_about(plugins, tmp_path):
    rows = rows_of("x")
    table = put(tmp_path, "bare.csv", ("first of all", *rows[0][1:]), rows)
    assert main(["init", str(table)]) == 0
    text = (tmp_path / "bare.yaml").read_text()
    assert "# no names in the first line? 'late', 'north' also stand below it" in text.splitlines()


def test_names_decide_where_values_do_not(plugins, tmp_path):
    head = ("gender", "user", "uid", "sentence2", "sentence1", "gold_label")
    rows = [
        (a, f"u{i // 2}", f"k{i}", f"so it is {i}", t, y)
        for i, (t, y, a) in enumerate(rows_of("x", 10))
    ]
    table = put(tmp_path, "pairs.tsv", head, rows, "\t")
    task, data, text = task_after(plugins, table, tmp_path / "pairs.yaml")
    assert task.inputs == ("sentence1", "sentence2")
    options = {name: task.options[name].default for name in ("label", "attribute", "id", "cluster")}
    assert options == {"label": "gold_label", "attribute": "gender", "id": "uid", "cluster": "user"}
    assert "no column names splits: drawn at random" in text
    assert set(data.splits) == {"train", "validation", "test"}


def test_delimiter_encoding_and_gaps_are_seen(plugins, tmp_path):
    rows = [(f"café {t}", y, a, s) for s in ("Train", "Test") for t, y, a in rows_of(s)]
    rows[3] = ("", *rows[3][1:])
    head = ("satz", "klasse", "gruppe", "teil")
    table = put(tmp_path, "daten.csv", head, rows, ";", "cp1252")
    task, data, text = task_after(plugins, table, tmp_path / "daten.yaml")
    options = {
        n: task.options[n].default for n in ("delimiter", "encoding", "split", "drop_missing")
    }
    assert options == {
        "delimiter": ";",
        "encoding": "cp1252",
        "split": "teil",
        "drop_missing": True,
    }
    assert len(data.train) == 31
    assert "1 values are empty" in text


def test_json_lines_and_a_table_without_attribute(plugins, tmp_path):
    rows = [{"text": t, "label": y} for t, y, _ in rows_of("x", 12)]
    (tmp_path / "t.jsonl").write_text("\n".join(map(json.dumps, rows)))
    task, data, text = task_after(plugins, tmp_path / "t.jsonl", tmp_path / "t.yaml")
    assert task.options["attribute"].default is None
    assert data.train.groups == ()
    assert task.recipe["all"]["method"] == "erm"
    assert "no column looks like one" in text


def test_a_folder_with_a_table_a_split(plugins, tmp_path):
    folder = tmp_path / "My data"
    folder.mkdir()
    for split in ("train", "test"):
        put(folder, f"{split}.csv", ("text", "label", "attribute"), rows_of(split))
    _, data, _ = task_after(plugins, folder, folder / "my_data.yaml")
    assert {name: len(split) for name, split in data.splits.items()} == {"train": 32, "test": 32}


def test_a_folder_with_images_and_their_table(plugins, tmp_path):
    rows = []
    for i, (_, y, a) in enumerate(rows_of("x", 5) * 2):
        Image.fromarray(np.full((8, 8, 3), i, dtype=np.uint8)).save(tmp_path / f"{i}.png")
        rows.append((f"{i}.png", y, a, "train" if i < 20 else "test"))
    put(tmp_path, "list.csv", ("picture", "label", "background", "split"), rows)
    file = tmp_path / f"{tmp_path.name}.yaml"
    task, data, _ = task_after(plugins, tmp_path, file)
    assert (task.modality, task.inputs, task.base) == (
        "image",
        ("picture",),
        "imagefolder_groups",
    )
    assert len(data.train) == 20


def test_nothing_is_overwritten_without_force(plugins, tmp_path, capsys):
    rows = [(t, y, a, s) for s in ("train", "test") for t, y, a in rows_of(s)]
    table = put(tmp_path, "t.csv", ("text", "label", "attribute", "split"), rows)
    (tmp_path / "t.yaml").write_text("mine")
    assert main(["init", str(table)]) == 2
    assert "t.yaml exists already; --force overwrites it" in capsys.readouterr().err
    assert (tmp_path / "t.yaml").read_text() == "mine"
    assert main(["init", str(table), "--force"]) == 0
    assert (tmp_path / "t.yaml").read_text().startswith("# guessed from t.csv")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "no such file or folder"),
        ("text\nx\n", "expected at least a text and a label"),
        ("text,key\nx,1\ny,2\nz,3\n", "no column has 2 to 20 values that could be labels"),
    ],
)
def test_what_is_no_table_of_a_task_is_said(tmp_path, capsys, content, message):
    file = tmp_path / "t.csv"
    if content is not None:
        file.write_text(content)
    assert main(["init", str(file)]) == 2
    assert message in capsys.readouterr().err
    assert not (tmp_path / "t.yaml").exists()


def test_a_folder_without_a_table_and_with_too_many(tmp_path, capsys):
    assert main(["init", str(tmp_path)]) == 2
    assert "holds no table" in capsys.readouterr().err
    for name in ("a.csv", "b.csv"):
        (tmp_path / name).write_text("text,label\nx,y\n")
    assert main(["init", str(tmp_path)]) == 2
    assert "holds 2 tables ('a.csv', 'b.csv'); name one" in capsys.readouterr().err
