"""A user's own table becomes a task: every format, every error, and a run without any Python."""

import json

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from harness_plugin.cli.main import main
from harness_plugin.config.run_config import RunConfig
from harness_plugin.data.dataset import load_data
from harness_plugin.data.task import Task, find_task
from harness_plugin.errors import HarnessError
from harness_plugin.pipeline.prepare.open_task import warnings

NAMES = ("text", "label", "attribute", "split")
ROWS = [
    (f"{wording} {n}", label, value, split)
    for split, copies in (("train", 4), ("test", 2))
    for n in range(copies)
    for wording, label, value in (
        ("None of it", "yes", "a"),
        ("NA, he said", "no", "b"),
        ('a "quoted" word', "yes", "a"),
        ("two\nlines", "no", "b"),
        ("rare", "yes", "b"),
        ("rare", "no", "a"),
    )
]


def as_csv(rows, names=NAMES, delimiter=","):
    def field(value):
        return '"' + value.replace('"', '""') + '"'

    lines = [delimiter.join(names), *(delimiter.join(map(field, row)) for row in rows)]
    return "\n".join(lines) + "\n"


def written(folder, rows=ROWS, names=NAMES, name="table.csv", text=None):
    """A table in `folder`, in the format that its name says."""
    file = folder / name
    records = [dict(zip(names, row, strict=True)) for row in rows]
    if name.endswith(".parquet"):
        pq.write_table(pa.Table.from_pylist(records), file)
    elif name.endswith(".jsonl"):
        file.write_text("".join(json.dumps(row) + "\n" for row in records), encoding="utf-8")
    else:
        delimiter = "\t" if name.endswith(".tsv") else ","
        file.write_text(text or as_csv(rows, names, delimiter), encoding="utf-8")
    return file


def task_of(plugins, folder, *lines, base="csv_groups", table="table.csv") -> Task:
    file = folder / "mine.yaml"
    file.write_text("\n".join(["task: mine", f"base: {base}", f"table: {table}", *lines]))
    return find_task(str(file), plugins["task"])


def load(plugins, folder, *lines, **kinds):
    task = task_of(plugins, folder, *lines, **kinds)
    return load_data(task, task.default_source)


def refused(plugins, folder, *lines, **kinds):
    with pytest.raises(HarnessError) as error:
        load(plugins, folder, *lines, **kinds)
    return str(error.value)


# ---- what is read


@pytest.mark.parametrize("name", ["table.csv", "table.tsv", "table.jsonl", "table.parquet"])
def test_every_format_gives_the_same_rows(plugins, tmp_path, name):
    written(tmp_path, name=name)
    data = load(plugins, tmp_path, table=name)
    train = data.train
    assert train.rows["text"][:4] == [
        "None of it 0",
        "NA, he said 0",
        'a "quoted" word 0',
        "two\nlines 0",
    ]
    assert train.labels == ("no", "yes")
    assert train.groups == ("no/a", "no/b", "yes/a", "yes/b")
    assert train.group_counts.tolist() == [4, 8, 8, 4]
    assert [s.name for s in data.evaluation] == ["test"]
    assert data.source == "own"
    # P(yes | a) = 8/12 > 1/2: the bias points from a to yes
    assert train.aligned[:6].tolist() == [1, 1, 1, 1, 0, 0]
    assert train.ids[:2].tolist() == ["train-1", "train-2"]


def test_a_byte_order_mark_and_other_delimiters_are_read(plugins, tmp_path):
    text = "\ufeff" + as_csv(ROWS, delimiter=";")
    written(tmp_path, text=text)
    assert len(load(plugins, tmp_path, "delimiter: ;").train) == 24


def test_a_quote_may_be_text(plugins, tmp_path):
    rows = [(t.replace("\n", " "), *rest) for t, *rest in ROWS]
    text = "\n".join("\t".join(row) for row in [NAMES, *rows]) + "\n"
    written(tmp_path, name="table.tsv", text=text.replace("NA,", '"NA,'))
    data = load(plugins, tmp_path, "quoted: false", table="table.tsv")
    assert data.train.rows["text"][1] == '"NA, he said 0'


def test_numbers_in_parquet_and_json_are_labels_in_their_order(plugins, tmp_path):
    rows = [(t, {"yes": 10, "no": 9}[y], a == "a", s) for t, y, a, s in ROWS]
    for name in ("table.parquet", "table.jsonl"):
        written(tmp_path, rows, name=name)
        train = load(plugins, tmp_path, table=name).train
        assert train.labels == ("9", "10")
        assert train.groups == ("9/false", "9/true", "10/false", "10/true")


def test_minus_one_is_a_label_like_any_other(plugins, tmp_path):
    written(tmp_path, [(t, {"yes": "1", "no": "-1"}[y], a, s) for t, y, a, s in ROWS])
    train = load(plugins, tmp_path).train
    assert (train.labels, len(train), train.dropped) == (("-1", "1"), 24, 0)


def test_pairs_ids_breakdowns_label_order_and_pointers(plugins, tmp_path):
    names = ("key", "premise", "hypothesis", "gold", "cue", "part", "source")
    rows = [
        (f"k{i}", t, "so", y, a, {"train": "2019", "test": "2020"}[s], "web")
        for i, (t, y, a, s) in enumerate(ROWS)
    ]
    written(tmp_path, rows, names)
    data = load(
        plugins,
        tmp_path,
        "inputs: [premise, hypothesis]",
        "label: gold",
        "attribute: cue",
        "split: part",
        "purposes: {2019: train, 2020: ood}",
        "id: key",
        "labels: ['yes', 'no']",
        "aligned: {a: no}",
        "breakdowns: [source]",
    )
    train = data.train
    assert train.labels == ("yes", "no")
    assert train.ids[0] == "k0"
    assert train.rows["hypothesis"][0] == "so"
    assert train.aligned[:6].tolist() == [0, -1, 0, -1, -1, 1]
    assert data.splits["2020"].purpose == "ood"
    assert data.splits["2020"].column("source").tolist() == ["web"] * 12


def test_a_file_a_split(plugins, tmp_path):
    for split in ("train", "test"):
        rows = [row[:3] for row in ROWS if row[3] == split]
        written(tmp_path, rows, NAMES[:3], name=f"{split}.csv")
    data = load(plugins, tmp_path, table="{train: train.csv, test: test.csv}")
    assert {name: len(split) for name, split in data.splits.items()} == {"train": 24, "test": 12}


def test_shares_cut_every_cell_in_proportion_and_the_same_way_every_time(plugins, tmp_path):
    written(tmp_path, [row[:3] for row in ROWS * 5], NAMES[:3])
    lines = ("split: {train: 0.6, dev: 0.2, test: 0.2}",)
    data, again = load(plugins, tmp_path, *lines), load(plugins, tmp_path, *lines)
    assert data.fingerprint == again.fingerprint
    assert data.splits["test"].group_counts.tolist() == [6, 12, 12, 6]
    assert data.validation.group_counts.tolist() == [6, 12, 12, 6]
    ids = [set(split.rows["text"]) for split in data.splits.values()]
    assert sum(map(len, data.splits.values())) == 180
    assert ids[0]
    numbers = [int(i.split("-")[1]) for s in data.splits.values() for i in s.ids]
    assert sorted(numbers) == list(range(1, 181))
    assert any("drawn by data_seed" in note for note in data.notes)


def test_a_table_without_attribute_has_no_groups(plugins, tmp_path):
    written(tmp_path, [(t, y, s) for t, y, _, s in ROWS], ("text", "label", "split"))
    data = load(plugins, tmp_path, "attribute: null")
    assert data.train.groups == ()
    assert data.train.aligned.tolist() == [-1] * 24


def test_a_cell_without_a_test_row_is_named_and_not_scored(plugins, tmp_path):
    written(tmp_path, [row for row in ROWS if row[1:] != ("yes", "b", "test")])
    data = load(plugins, tmp_path)
    assert data.splits["test"].groups == ("no/a", "no/b", "yes/a")
    assert "test has no row of yes/b: not scored there" in data.notes


def test_validate_warns_of_leaks_thin_and_absent_cells(plugins, tmp_path):
    leak = ("rare 0", "yes", "b", "test")
    written(tmp_path, [row for row in ROWS if row[1:] != ("yes", "b", "train")] + [leak])
    data = load(plugins, tmp_path)
    result = warnings(data, ("text",))
    assert "test groups without a training row: test yes/b" in result
    few = "test: 4 of 4 groups have under 30 rows, smallest no/a (2)"
    assert few in result
    # of "rare 0" and "rare 1" with either label one copy each stands in train
    assert any(w.startswith("rows that also stand in train: test ") for w in result)


# ---- what is refused


@pytest.mark.parametrize(
    ("row", "message"),
    [
        (
            ("", "yes", "a", "train"),
            "table.csv: 1 of 37 rows lack a value: text is empty in row 37 (line",
        ),
        (
            ("x", " ", "a", "train"),
            "label is empty in row 37 (line 44). Fill them in or remove",
        ),
        (("x", "yes", "", "train"), "attribute is empty in row 37 (line 44)"),
        (("x", "yes", "a", ""), "split is empty in row 37 (line 44)"),
        (("x", "yes", "a", "later"), "nothing says what split 'later' is for"),
        (
            ("x", "maybe", "a", "test"),
            "row 37 (line 44): label 'maybe' stands in no row",
        ),
    ],
)
def test_a_bad_row_is_named(plugins, tmp_path, row, message):
    written(tmp_path, [*ROWS, row])
    assert message in refused(plugins, tmp_path)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("label: gold", "no column gold (found text, label, attribute, split)"),
        ("label: 3", "label must be a name, found 3"),
        ("split: {train: 0.5, test: 0.4}", "shares of sum 1"),
        ("split: {train: 1.5, test: -0.5}", "shares of sum 1"),
        ("purposes: {train: training}", "split: purpose"),
        ("labels: [a, a]", "a list of distinct names"),
        ("labels: [no, perhaps]", "unknown label 'yes'; expected one of no, perhaps"),
        ("aligned: {c: yes}", "names no value of attribute (a, b)"),
        ("aligned: [yes]", "attribute value: label"),
        ("inputs: [text, label]", "label is what a model is to find out"),
        ("inputs: [text, split, more]", "at most 2 column(s)"),
        ("breakdowns: [text]", "other columns than inputs"),
        ("quoted: 1", "quoted must be true or false"),
        ("attribute: text", "stands in"),
        ("id: label", "id 'yes' was already used in row 1"),
        ("colour: red", "mine.yaml:4: colour"),
        ("primary_gap: [a]", "mine.yaml:4: primary_gap"),
    ],
)
def test_a_bad_option_is_named(plugins, tmp_path, line, message):
    written(tmp_path)
    if message == "stands in":
        written(tmp_path, [(f"{t} {i}", y, a, s) for i, (t, y, a, s) in enumerate(ROWS * 3)])
        message = "attribute text has 108 values"
    assert message in refused(plugins, tmp_path, line)


def test_bad_files_are_named(plugins, tmp_path):
    assert "table.csv: no such file" in refused(plugins, tmp_path)
    written(tmp_path, text="text,label,attribute,split\n")
    assert "holds no row" in refused(plugins, tmp_path)
    written(tmp_path, text="text,label,attribute,split\nx,yes,a\n")
    assert "table.csv:2: 3 fields, expected 4" in refused(plugins, tmp_path)
    written(tmp_path, text='text,label,attribute,split\n"x,yes,a,train\n')
    assert "not a quoted table" in refused(plugins, tmp_path)
    (tmp_path / "table.csv").write_bytes(
        "text,label,attribute,split\ncafé,y,a,train\n".encode("latin-1")
    )
    assert "not UTF-8" in refused(plugins, tmp_path)
    (tmp_path / "table.jsonl").write_text('{"text": "x"}\n')
    assert "table.jsonl:1: no column label" in refused(plugins, tmp_path, table="table.jsonl")
    (tmp_path / "table.jsonl").write_text("[1]\n")
    assert "a list, expected a JSON object" in refused(plugins, tmp_path, table="table.jsonl")
    (tmp_path / "table.jsonl").write_text("{'text'}\n")
    assert "table.jsonl:1: not a JSON object" in refused(plugins, tmp_path, table="table.jsonl")
    (tmp_path / "table.parquet").write_text("text")
    assert "not a Parquet file" in refused(plugins, tmp_path, table="table.parquet")
    written(tmp_path, [("x", None, "a", "train"), ("x", "y", "a", "train")], name="table.parquet")
    assert "label is empty in row 1. Fill" in refused(plugins, tmp_path, table="table.parquet")
    (tmp_path / "table.xlsx").write_text("")
    assert "expected .csv, .tsv, .jsonl, .parquet" in refused(plugins, tmp_path, table="table.xlsx")


def test_one_label_and_no_training_rows_are_refused(plugins, tmp_path):
    written(tmp_path, [row for row in ROWS if row[1] == "yes"])
    assert "has one value, 'yes'" in refused(plugins, tmp_path)
    written(tmp_path, [row for row in ROWS if row[3] == "test"])
    assert "no training rows; found split test" in refused(plugins, tmp_path)


def test_the_template_itself_says_what_to_write(plugins):
    task = find_task("csv_groups", plugins["task"])
    with pytest.raises(HarnessError, match="write a YAML file with `base: csv_groups`"):
        load_data(task, "own")


# ---- bases


def test_any_task_may_be_a_base(plugins, tmp_path):
    file = tmp_path / "young.yaml"
    file.write_text(
        "task: young\nbase: celeba_bias\nn_train: 40\nrecipe: {embedded: {method: erm}}\n"
    )
    task = find_task("young", plugins["task"], [str(tmp_path)])
    whole = find_task("celeba_bias", plugins["task"])
    assert task.options["n_train"].default == 40
    assert task.options["n_test"] == whole.options["n_test"]
    assert task.recipe["embedded"] == whole.recipe["embedded"] | {"method": "erm"}
    assert (task.default_source, task.version, task.base) == ("embedded", 1, "celeba_bias")


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        ("base: hanz", "mine.yaml:2: base: unknown task 'hanz'. Did you mean hans"),
        ("base: 3", "must be the name of a task or a YAML file, found 3"),
        ("base: mine.yaml", "mine.yaml would build on itself"),
        ("base: ../other.yaml", "must lie beside mine.yaml"),
        ("base: hans\ncollapse: mean", "mine.yaml:3: collapse: must be one of"),
    ],
)
def test_a_bad_base_is_named_with_its_line(plugins, tmp_path, lines, message):
    file = tmp_path / "mine.yaml"
    file.write_text(f"task: mine\n{lines}\n")
    with pytest.raises(HarnessError) as error:
        find_task(str(file), plugins["task"])
    assert message in str(error.value)


def test_the_source_is_what_the_task_has_of_its_own(plugins, tmp_path):
    hans = find_task("hans", plugins["task"])
    mine = task_of(plugins, tmp_path)
    assert RunConfig(tasks=("x",)).source_of(hans) == "embedded"
    assert RunConfig(tasks=("x",)).source_of(mine) == "own"
    assert RunConfig(tasks=("x",), data="hub").source_of(mine) == "hub"
    assert RunConfig(tasks=("x",), data=str(tmp_path)).source_of(mine) == "path"
    far = mine.model_copy(update={"sources": {"hub": "a:b", "path": "a:b"}})
    with pytest.raises(HarnessError, match="give --data hub or --data DIR"):
        RunConfig(tasks=("x",)).source_of(far)


def test_data_may_lie_in_another_folder_than_the_task(plugins, tmp_path):
    (tmp_path / "rows").mkdir()
    written(tmp_path / "rows")
    task = task_of(plugins, tmp_path)
    data = load_data(task, "path", path=tmp_path / "rows")
    assert (data.source, len(data.train)) == ("path", 24)


# ---- images


def pictures(folder, rows=ROWS):
    """One small picture a row, and the table that names them."""
    named = []
    (folder / "pics").mkdir(exist_ok=True)
    for number, (_, label, value, split) in enumerate(rows):
        shade = 60 * (label == "yes") + 120 * (value == "a") + number % 8
        Image.fromarray(np.full((8, 8, 3), shade, np.uint8)).save(folder / "pics" / f"{number}.png")
        named.append((f"{number}.png", label, value, split))
    return named


def test_images_are_named_by_the_table(plugins, tmp_path):
    written(tmp_path, pictures(tmp_path), ("file", *NAMES[1:]))
    data = load(plugins, tmp_path, "images: pics", base="imagefolder_groups")
    assert data.train.rows[0]["file"].size == (8, 8)
    assert data.train.group_counts.tolist() == [4, 8, 8, 4]


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("../table.csv", "row 1 (line 2): image '../table.csv' lies outside"),
        ("/etc/hostname", "row 1 (line 2): image '/etc/hostname' lies outside"),
        ("away.png", "row 1 (line 2): image 'away.png' lies outside"),
        ("nine.png", "row 1 (line 2): image 'nine.png' is not in"),
    ],
)
def test_images_outside_or_missing_are_named(plugins, tmp_path, name, message):
    rows = pictures(tmp_path)
    (tmp_path / "pics" / "away.png").symlink_to(tmp_path / "table.csv")
    written(tmp_path, [(name, *rows[0][1:]), *rows[1:]], ("file", *NAMES[1:]))
    assert message in refused(plugins, tmp_path, "images: pics", base="imagefolder_groups")


# ---- a run


def test_from_a_table_to_a_transfer_record_without_python(tmp_path, capsys):
    written(tmp_path)
    file = tmp_path / "mine.yaml"
    file.write_text(
        "task: mine\nbase: csv_groups\ntable: table.csv\n"
        "recipe: {all: {vocab_size: 300, teacher: &m {model: bert-pico, init: scratch, epochs: 1,"
        " max_length: 16, batch_size: 12}, student: *m}}\n"
    )
    assert main(["validate", str(file)]) == 0
    assert "yes/b" in capsys.readouterr().out
    flags = ["--threads", "1", "--precision", "no", "--attention", "sdpa", "--seeds", "0"]
    words = ["--tasks", str(file), "--output_path", str(tmp_path / "out"), *flags]
    assert main([*words, "--resamples", "100"]) == 0
    (record,) = (tmp_path / "out").glob("transfer_mine_*.json")
    result = json.loads(record.read_text())
    assert (result["task"], result["source"]) == ("mine", "own")


def test_images_of_a_table_are_trained_on(tmp_path):
    written(tmp_path, pictures(tmp_path), ("file", *NAMES[1:]))
    file = tmp_path / "mine.yaml"
    file.write_text(
        "task: mine\nbase: imagefolder_groups\ntable: table.csv\nimages: pics\n"
        "recipe: {all: {image: {size: 8}, references: false, teacher: &m {model: resnet-pico,"
        " init: scratch, epochs: 1, batch_size: 12}, student: *m}}\n"
    )
    flags = ["--threads", "1", "--precision", "no", "--attention", "sdpa", "--seeds", "0"]
    flags += ["--resamples", "100"]
    assert main(["--tasks", str(file), "--output_path", str(tmp_path / "out"), *flags]) == 0
    (record,) = (tmp_path / "out").glob("transfer_mine_*.json")
    groups = {n["subset"] for n in json.loads(record.read_text())["transfer"] if "subset" in n}
    assert groups
