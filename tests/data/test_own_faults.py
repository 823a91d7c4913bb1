"""What people's tables have that no example has: each class of fault is read, or named once."""

import json

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from harness_plugin.cli.main import main
from harness_plugin.data.dataset import load_data
from harness_plugin.data.task import find_task
from harness_plugin.errors import HarnessError

CELLS = [(y, a) for y in ("yes", "no") for a in ("f", "m")]
ROWS = [
    (f"{split} {n} {y} {a}", y, a, split)
    for split, copies in (("train", 3), ("test", 2))
    for n in range(copies)
    for y, a in CELLS
]
HEAD = "text,label,attribute,split"


def lines_of(rows=ROWS, delimiter=",", head=HEAD):
    return [head.replace(",", delimiter), *(delimiter.join(row) for row in rows)]


def put(folder, lines, name="table.csv", encoding="utf-8"):
    (folder / name).write_bytes("\n".join(lines).encode(encoding))


def load(plugins, folder, *more, table="table.csv", base="csv_groups", **options):
    file = folder / "mine.yaml"
    file.write_text("\n".join(["task: mine", f"base: {base}", f"table: {table}", *more]))
    return load_data(find_task(str(file), plugins["task"]), "own", **options)


def refused(plugins, folder, *more, **options):
    with pytest.raises(HarnessError) as error:
        load(plugins, folder, *more, **options)
    assert "\n" not in str(error.value)
    return str(error.value)


# ---- how a file is written


@pytest.mark.parametrize("delimiter", [";", "|", "\t"])
def test_another_delimiter_is_suggested_and_read(plugins, tmp_path, delimiter):
    put(tmp_path, lines_of(delimiter=delimiter))
    assert f"Did you mean `delimiter: {delimiter!r}`?" in refused(plugins, tmp_path)
    assert len(load(plugins, tmp_path, f"delimiter: {json.dumps(delimiter)}").train) == 12


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "utf-16-le", "cp1252", "latin-1"])
def test_an_encoding_is_read_as_marked_or_as_named(plugins, tmp_path, encoding):
    rows = [("café " + text, *rest) for text, *rest in ROWS]
    put(tmp_path, lines_of(rows), encoding=encoding)
    more = [] if encoding == "utf-8-sig" else [f"encoding: {encoding}"]
    assert load(plugins, tmp_path, *more).train.rows["text"][0].startswith("café train")


def test_bytes_of_another_encoding_are_named_with_their_line_and_what_to_do(plugins, tmp_path):
    rows = [*ROWS[:3], ("café", "yes", "f", "train"), *ROWS[3:]]
    put(tmp_path, lines_of(rows), encoding="latin-1")
    message = refused(plugins, tmp_path)
    assert "table.csv:5: byte 0xE9 is not UTF-8" in message
    assert "`encoding: cp1252`" in message
    assert "iconv -f cp1252 -t utf-8 table.csv" in message
    put(tmp_path, lines_of(), encoding="utf-16")
    assert "begins as UTF-16 does" in refused(plugins, tmp_path)
    assert "encoding must be one that Python knows" in refused(plugins, tmp_path, "encoding: utf9")
    (tmp_path / "table.jsonl").write_bytes('{"text": "café"}\n'.encode("latin-1"))
    assert "table.jsonl:1: byte 0xE9 is not UTF-8" in refused(
        plugins, tmp_path, table="table.jsonl"
    )


@pytest.mark.parametrize("blank", ["", "   ", ",,,"])
def test_blank_lines_are_no_rows_but_count_as_lines(plugins, tmp_path, blank):
    lines = lines_of()
    put(tmp_path, [*lines[:2], blank, *lines[2:], blank, blank])
    data = load(plugins, tmp_path)
    assert len(data.train) == 12
    assert data.train.ids[-1] == "train-12"
    put(tmp_path, [*lines[:2], blank, "x,maybe,f,test", *lines[2:]])
    assert "row 2 (line 4): label 'maybe'" in refused(plugins, tmp_path)


def test_blank_lines_of_json_and_absent_keys(plugins, tmp_path):
    records = [dict(zip(HEAD.split(","), row, strict=True)) for row in ROWS]
    lines = [json.dumps(record) for record in records]
    put(tmp_path, [*lines[:1], "", *lines[1:], ""], "table.jsonl")
    assert len(load(plugins, tmp_path, table="table.jsonl").train) == 12
    del records[4]["attribute"]
    records[5]["label"] = None
    put(tmp_path, ["", *map(json.dumps, records)], "table.jsonl")
    message = refused(plugins, tmp_path, table="table.jsonl")
    assert "2 of 20 rows lack a value: label is empty in row 6 (line 7); attribute" in message
    assert "attribute is empty in row 5 (line 6)" in message


def test_a_text_longer_than_the_csv_module_reads_by_default(plugins, tmp_path):
    put(tmp_path, lines_of([("w" * 140_000, *ROWS[0][1:]), *ROWS[1:]]))
    assert len(load(plugins, tmp_path).train.rows["text"][0]) == 140_000


def test_half_a_character_in_json_is_named(plugins, tmp_path):
    records = [dict(zip(HEAD.split(","), row, strict=True)) for row in ROWS]
    records[2]["text"] = "\ud83d"
    put(tmp_path, map(json.dumps, records), "table.jsonl")
    message = refused(plugins, tmp_path, table="table.jsonl")
    assert "table.jsonl:3: text holds half a character" in message


def test_a_column_that_stands_twice_is_refused_where_it_is_read_and_warned_of_elsewhere(
    plugins, tmp_path
):
    put(tmp_path, lines_of([(*row, "1", "2") for row in ROWS], head=f"{HEAD},age,age"))
    assert load(plugins, tmp_path).warnings == ("columns of one name: 'age'",)
    assert "column age stands 2 times" in refused(plugins, tmp_path, "breakdowns: [age]")


# ---- values that are not there


def test_missing_values_are_counted_once_with_first_rows_or_dropped(plugins, tmp_path):
    rows = [list(row) for row in ROWS]
    for place in (0, 1, 2, 3, 13):
        rows[place][0] = " " if place == 3 else ""
    rows[13][2] = ""
    put(tmp_path, lines_of(rows))
    message = refused(plugins, tmp_path)
    assert (
        "table.csv: 5 of 20 rows lack a value: text is empty in 5 rows, first row 1 (line 2), "
        in message
    )
    assert "row 3 (line 4); attribute is empty in row 14 (line 15)" in message
    assert "`drop_missing: true`" in message
    data = load(plugins, tmp_path, "drop_missing: true")
    assert (len(data.train), len(data.splits["test"])) == (8, 7)
    assert "table.csv: dropped 5 of 20 rows lack a value (text 5, attribute 1)" in data.notes
    assert data.train.ids[0] == "train-5"  # numbers are those of the file
    assert "drop_missing must be true or false" in refused(plugins, tmp_path, "drop_missing: 1")


def test_a_gap_in_parquet_is_a_missing_value(plugins, tmp_path):
    records = [dict(zip(HEAD.split(","), row, strict=True)) for row in ROWS]
    for i, record in enumerate(records):
        record["label"] = None if i == 1 else float(i % 2)
        record["attribute"] = float("nan") if i == 2 else i // 2 % 2
    pq.write_table(pa.Table.from_pylist(records), tmp_path / "table.parquet")
    message = refused(plugins, tmp_path, table="table.parquet")
    assert "label is empty in row 2; attribute is empty in row 3" in message
    data = load(plugins, tmp_path, "drop_missing: true", table="table.parquet")
    assert data.train.labels == ("0", "1")


# ---- labels that are no classes


@pytest.mark.parametrize("name", ["table.csv", "table.parquet"])
def test_a_quantity_is_called_regression(plugins, tmp_path, name):
    rows = [(text, 0.25 * (i % 7), a, s) for i, (text, _, a, s) in enumerate(ROWS)]
    if name == "table.csv":
        put(tmp_path, lines_of([(t, str(y), a, s) for t, y, a, s in rows]))
    else:
        records = [dict(zip(HEAD.split(","), row, strict=True)) for row in rows]
        pq.write_table(pa.Table.from_pylist(records), tmp_path / name)
    assert "regression" in refused(plugins, tmp_path, table=name)


def test_a_quantity_is_no_reason_to_speak_of_shares(plugins, tmp_path):
    """Drawn within each value, the shares would leave splits without a row."""
    rows = [(text, str(0.01 * i), a, s) for i, (text, _, a, s) in enumerate(ROWS)]
    put(tmp_path, lines_of(rows))
    shares = "split: {train: 0.7, validation: 0.1, test: 0.2}"
    assert "regression" in refused(plugins, tmp_path, shares)


def test_many_whole_numbers_are_warned_of(plugins, tmp_path):
    rows = [(f"{i}", str(i % 40), "f", s) for s in ("train", "test") for i in range(160)]
    put(tmp_path, lines_of(rows))
    (warning,) = load(plugins, tmp_path).warnings
    assert warning.startswith("label: 40 whole numbers are 40 classes; a quantity (regression)")


@pytest.mark.parametrize("several", ["yes|no", "yes;no", "['yes', 'no']"])
def test_several_labels_in_one_are_called_multi_label(plugins, tmp_path, several):
    rows = [(t, f'"{several}"' if i % 5 == 4 else y, a, s) for i, (t, y, a, s) in enumerate(ROWS)]
    put(tmp_path, lines_of(rows))
    assert "(multi-label) are not supported" in refused(plugins, tmp_path)
    if "[" not in several:  # or it is one class, and the user says so
        data = load(plugins, tmp_path, f"labels: ['yes', 'no', '{several}']")
        assert data.train.labels == ("yes", "no", several)


def test_a_list_of_labels_and_a_list_of_label_columns_are_called_multi_label(plugins, tmp_path):
    records = [dict(zip(HEAD.split(","), row, strict=True)) | {"label": ["yes"]} for row in ROWS]
    put(tmp_path, map(json.dumps, records), "table.jsonl")
    assert "multi-label" in refused(plugins, tmp_path, table="table.jsonl")
    put(tmp_path, lines_of())
    assert "multi-label" in refused(plugins, tmp_path, "label: [label, attribute]")


def test_a_column_of_texts_is_no_label(plugins, tmp_path):
    rows = [(y, f"{t} {i}", a, s) for i, (t, y, a, s) in enumerate(ROWS * 2)]
    put(tmp_path, lines_of(rows))
    assert "label has 40 different values in 40 rows" in refused(plugins, tmp_path)


# ---- spelling


def test_spellings_that_may_be_one_are_warned_of_with_counts(plugins, tmp_path):
    rows = [list(row) for row in ROWS]
    rows[0][2], rows[1][1], rows[2][2] = "F", "yes ", "nan"
    rows[13][1], rows[12][2], rows[14][2] = "yes ", "F", "nan"
    put(tmp_path, lines_of(rows))
    result = load(plugins, tmp_path, "labels: ['yes', 'no', 'yes ']").warnings
    apart = "differ in blanks or case alone, and count apart"
    assert result == (
        f"label: {apart}: 'yes' (8 rows) and 'yes ' (2 rows)",
        f"attribute: {apart}: 'F' (2 rows) and 'f' (6 rows)",
        "attribute: 'nan' (2 rows) counts as a value like any other",
    )


def test_splits_that_may_be_one_are_warned_of(plugins, tmp_path):
    rows = [list(row) for row in ROWS]
    for row in rows[-2:]:
        row[3] = "Test"
    put(tmp_path, lines_of(rows))
    data = load(plugins, tmp_path)
    count = len(data.splits["test"])
    assert data.warnings[-1] == (
        "splits: differ in blanks or case alone, and count apart: "
        f"'test' ({count} rows) and 'Test' (2 rows)"
    )


@pytest.mark.parametrize("names", [("Train", "TEST"), ("TRAINING", " Test"), ("train", "Id")])
def test_names_of_splits_are_known_in_any_case(plugins, tmp_path, names):
    rows = [(*row[:3], names[row[3] == "test"]) for row in ROWS]
    put(tmp_path, lines_of(rows))
    data = load(plugins, tmp_path)
    assert [s.purpose for s in data.splits.values()] == ["train", "in_domain"]


def test_two_spellings_of_the_training_split_are_named(plugins, tmp_path):
    put(tmp_path, lines_of([*ROWS, ("x", "yes", "f", "Train")]))
    message = refused(plugins, tmp_path)
    assert "splits 'train' and 'Train' are both to train on" in message


def test_doubled_ids_are_counted(plugins, tmp_path):
    rows = [(*row, f"k{i // 2}") for i, row in enumerate(ROWS)]
    put(tmp_path, lines_of(rows, head=f"{HEAD},key"))
    message = refused(plugins, tmp_path, "id: key")
    assert "row 2: id 'k0' was already used in row 1 (6 ids are doubled)" in message


# ---- images


def pictures(folder, root="pics"):
    (folder / root).mkdir(exist_ok=True)
    rows = []
    for i, (_, label, value, split) in enumerate(ROWS):
        file = folder / root / f"{i}.png"
        Image.fromarray(np.full((8, 8, 3), i, dtype=np.uint8)).save(file)
        rows.append((file.name, label, value, split))
    return rows


def test_absolute_names_inside_the_folder_are_read(plugins, tmp_path):
    rows = [(str(tmp_path / "pics" / name), *rest) for name, *rest in pictures(tmp_path)]
    put(tmp_path, lines_of(rows, head=HEAD.replace("text", "file")))
    assert len(load(plugins, tmp_path, "images: pics", base="imagefolder_groups").train) == 12


def test_validate_opens_every_image(plugins, tmp_path, capsys):
    rows = pictures(tmp_path)
    put(tmp_path, lines_of(rows, head=HEAD.replace("text", "file")))
    file = tmp_path / "mine.yaml"
    file.write_text("task: mine\nbase: imagefolder_groups\ntable: table.csv\nimages: pics\n")
    assert main(["validate", str(file)]) == 0
    for name in ("3.png", "15.png"):
        (tmp_path / "pics" / name).write_bytes(b"\x89PNG\r\n\x1a\nno picture")
    capsys.readouterr()
    assert main(["validate", str(file)]) == 2
    output = capsys.readouterr().err
    assert "2 of 20 images cannot be read: " in output
    assert "3.png (train, id train-4): " in output
    assert "15.png (test, id test-16): " in output


def test_validate_prints_one_table_and_each_weakness_once(plugins, tmp_path, capsys):
    put(tmp_path, lines_of([row for row in ROWS if row[1:] != ("yes", "m", "train")]))
    file = tmp_path / "mine.yaml"
    file.write_text("task: mine\nbase: csv_groups\ntable: table.csv\n")
    assert main(["validate", str(file)]) == 0
    out = " ".join(capsys.readouterr().out.split())
    assert out.count("rows by group") == 1
    assert out.count("warning: ") == 2
    assert "groups have under 30 rows, smallest no/f (2)" in out
    assert "test groups without a training row: test yes/m" in out
    assert "mine: valid, own data, 2 warnings" in out
