"""`harness scan`: closed forms of its numbers, and attributes that were planted."""

import csv
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from scipy.stats import chi2_contingency
from statsmodels.stats.contingency_tables import StratifiedTable

from harness_plugin import HarnessError
from harness_plugin.cli.main import main
from harness_plugin_hooks.scan import clusters
from harness_plugin_hooks.scan.association import (
    associations,
    chi_square,
    distinct,
    strength_of,
)
from harness_plugin_hooks.scan.attributes import measures, of_images, of_texts
from harness_plugin_hooks.scan.gaps import gaps, tables_of

TOY = str(Path(__file__).parents[1] / "toy" / "toy.yaml")


def test_the_statistic_is_pearsons():
    table = np.array([[12.0, 30, 8], [25, 9, 16]])
    expected = chi2_contingency(table, correction=False).statistic
    assert chi_square(table[None])[0] == pytest.approx(expected)


def test_strength_is_one_for_the_label_itself_and_none_for_chance():
    same = np.array([[500.0, 0], [0, 500]])
    assert strength_of(same[None])[0] == pytest.approx(1.0, abs=1e-9)
    apart = np.array([[250.0, 250], [250, 250]])
    assert strength_of(apart[None])[0] == 0
    # chi2 / n = 0.36; minus 1/999; over 1 - 1/999
    some = np.array([[400.0, 100], [100, 400]])
    assert strength_of(some[None])[0] == pytest.approx(np.sqrt((0.36 - 1 / 999) / (1 - 1 / 999)))


@pytest.mark.parametrize("seed", range(5))
def test_of_many_attributes_by_chance_few_are_sure(seed):
    rng = np.random.default_rng(seed)
    label = rng.integers(0, 2, 500)
    noise = ((str(i), rng.random(500) < 0.4) for i in range(100))
    result = associations(noise, label, 2, 0)
    assert sum(one.p < 0.05 for one in result) <= 1
    assert result[0].strength >= result[-1].strength


def test_texts_by_hand():
    columns = {"a": ["the cat sat", "a dog"], "b": ["the cat", "no dog isn't it"]}
    has = {name: values.tolist() for name, values in of_texts(columns)}
    assert has["a: more words than the median"] == [True, False]
    assert has["b: a negation"] == [False, True]
    assert has["overlap: every word is shared"] == [True, False]
    assert has["a: “the cat”"] == [True, False]


def test_a_bright_corner_is_seen():
    dark = np.zeros((8, 8, 3), np.uint8)
    bright = dark.copy()
    bright[:2, -2:, 0] = 255
    rows = np.array([measures(Image.fromarray(image)) for image in (dark, bright)])
    has = {name: values.tolist() for name, values in of_images(rows)}
    assert has["top right: more red than the median"] == [False, True]
    assert has["top left: brighter than the median"] == [False, False]


def test_a_field_is_seen_where_corners_and_the_whole_see_nothing():
    """A red mouth: one field of 64, the rest of the picture is noise."""
    rng = np.random.default_rng(0)
    mouth = rng.random(200) < 0.5
    images = rng.integers(0, 255, (200, 32, 32, 3)).astype(np.uint8)
    images[mouth, 20:24, 12:16] = (200, 20, 20)
    rows = np.array([measures(Image.fromarray(image)) for image in images])
    result = associations(of_images(rows), mouth.astype(np.int64), 2, 0)
    assert result[0].name.startswith("field 6 down, 4 across: ")
    assert result[0].strength > 0.8
    with pytest.raises(HarnessError, match="an image of 7 pixels a side is too small to scan"):
        measures(Image.new("RGB", (7, 20)))


def test_clusters_are_what_looks_alike():
    """Three kinds of pictures, and two kinds of texts that share no word, are told apart."""
    rng = np.random.default_rng(0)
    kind = rng.integers(0, 3, 120)
    colours = np.array([[250, 0, 0], [0, 250, 0], [0, 0, 250]])[kind]
    noise = rng.integers(-5, 5, (120, 16, 16, 3))
    images = (colours[:, None, None] + noise).clip(0, 255).astype(np.uint8)
    small = np.array([clusters.thumbnail(Image.fromarray(image)) for image in images])
    for _, inside in clusters.of_images(small, 0):
        assert len(set(kind[inside])) == 1
    texts = [["red wine glass", "blue sea boat"][k % 2] + f" {'abcde'[k % 5]}" for k in range(60)]
    result = dict(clusters.of_texts({"t": texts}, 0))
    second = np.arange(60) % 2 == 1
    for name, inside in result.items():
        assert len(set(second[inside])) == 1
        words = {"blue", "sea", "boat"} if second[inside][0] else {"red", "wine", "glass"}
        assert words & set(name.partition("(")[2].strip(")").split(", ")), name
    assert list(clusters.of_texts({"t": ["", "", ""]}, 0)) == []


@pytest.mark.parametrize("seed", range(3))
def test_the_gap_is_mantel_and_haenszels(seed):
    """The test is statsmodels', the difference by hand; a label without the attribute is out."""
    rng = np.random.default_rng(seed)
    label, has = rng.integers(0, 3, 300), rng.random(300) < 0.3
    correct = rng.random(300) < 0.6 + 0.2 * has
    (one,) = gaps([("a", has)], label, correct)
    tables = [
        np.array(
            [
                [np.sum(correct & rows), np.sum(~correct & rows)]
                for rows in (has & (label == y), ~has & (label == y))
            ]
        )
        for y in range(3)
    ]
    assert one.p == pytest.approx(StratifiedTable(tables).test_null_odds(correction=False).pvalue)
    weight = [t[0].sum() * t[1].sum() / t.sum() for t in tables]
    each = [t[0, 0] / t[0].sum() - t[1, 0] / t[1].sum() for t in tables]
    assert one.value == pytest.approx(np.average(each, weights=weight))
    assert one.low < one.value < one.high
    label[has] = np.where(label[has] == 2, 0, label[has])
    assert len(tables_of(has, label, correct)) == 2


def test_an_attribute_that_is_the_label_has_no_gap_and_a_cue_has_its_own():
    label = np.repeat([0, 1], 200)
    cue = np.tile([True, False], 200)
    half = np.arange(400) // 2 % 2 == 0
    correct = np.where(cue == (label == 1), True, half)  # right where the cue agrees
    result = gaps(
        [("label", label == 1), ("cue", cue), ("other", cue ^ (label == 1))], label, correct
    )
    assert [one.name for one in result] == ["other", "cue"]
    assert result[0].value == pytest.approx(-0.5)
    assert result[1].value == pytest.approx(0.0)
    assert result[1].p == 1


def test_gaps_by_chance_are_not_sure():
    rng = np.random.default_rng(0)
    label, correct = rng.integers(0, 2, 400), rng.random(400) < 0.7
    result = gaps(((str(i), rng.random(400) < 0.4) for i in range(60)), label, correct)
    assert not [one for one in result if one.p < 0.05]


def test_attributes_that_are_alike_are_one_candidate():
    rng = np.random.default_rng(0)
    first, other = rng.random(500) < 0.5, rng.random(500) < 0.5
    nearly = first ^ (rng.random(500) < 0.05)
    has = {"first": first, "nearly": nearly, "not first": ~first, "other": other}
    assert distinct(list(has), has, 0) == [(0, 2), (3, 0)]
    assert distinct([], {}, 0) == []


def lines(capsys, words):
    assert main(["scan", *words.split()]) == 0
    return [text for text in capsys.readouterr().out.splitlines() if text[4:5] == "."]


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize(
    ("task", "sets", "planted"),
    [
        (TOY, "", ("“sun", "“rain")),
        ("hans", "--set hans.n_train=1500", ("overlap",)),
        ("cmnist", "--set cmnist.n_train=1500", ("more red", "more green", "more blue")),
    ],
)
def test_what_is_planted_is_among_the_first_three(capsys, task, sets, planted, seed):
    """The cue agrees with the label in most rows; in the toy task the true word agrees in all."""
    output = lines(capsys, f"--tasks {task} --set data_seed={seed} --top 6 {sets}")
    first = [text for text in output if "“good" not in text and "“bad" not in text][:3]
    assert any(any(name in text for name in planted) for text in first), output


def tickets(folder, rows=300):
    """A table without a task: the word "asap" agrees with the label in nine of ten rows."""
    rng = np.random.default_rng(0)
    file = folder / "tickets.csv"
    with file.open("w", encoding="utf-8") as stream:
        stream.write("message,urgency,team\n")
        for _ in range(rows):
            urgent, agrees = rng.random() < 0.5, rng.random() < 0.9
            cue = "asap" if urgent == agrees else "whenever"
            thing, team = rng.choice(["door", "lamp", "lift"]), rng.choice(["north", "south"])
            stream.write(f"please mend the {thing} {cue},{'high' if urgent else 'low'},{team}\n")
    return file


def test_a_table_needs_no_task(capsys, tmp_path):
    file = tickets(tmp_path)
    (first, *_) = lines(capsys, f"--table {file} --label urgency --inputs message --top 3")
    assert "asap" in first or "whenever" in first
    assert sorted(tmp_path.iterdir()) == [file]  # nothing is left beside it


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("--tasks {toy} --label urgency", "--label and --inputs are columns of a --table"),
        ("--tasks {toy} --table {table}", "--table is scanned instead of a task"),
        ("--tasks {toy} --split nowhere", "--split nowhere: toy has train,"),
        ("--table {table} --label nothing", "nothing"),
        ("--table missing.csv", "missing.csv: no such file or folder"),
    ],
)
def test_what_cannot_be_scanned_is_said_in_a_line(capsys, tmp_path, words, message):
    words = words.format(toy=TOY, table=tickets(tmp_path))
    assert main(["scan", *words.split()]) == 2
    assert message in capsys.readouterr().err


def test_a_checkpoint_is_parted_by_the_cue_that_it_trusts(capsys, open_context):
    """The toy's ERM model is right where the cue agrees: a word of the cue is among the first."""
    ctx = open_context("method=erm", "teacher.epochs=4")
    model = ctx.trained("teacher", ctx.settings.teacher, "erm", 0)
    where = f"--tasks {TOY} --checkpoint {model.path} --use_cache {ctx.store.root}"
    output = lines(capsys, f"{where} --device cpu --threads 1 --precision no --top 3")
    assert len(output) == 3
    assert all(" points [" in text for text in output)


def test_an_attribute_is_written_as_a_column(capsys, tmp_path):
    file = tmp_path / "out" / "attribute.csv"
    lines(capsys, f"--tasks {TOY} --write {file} --attribute 2")
    rows = list(csv.DictReader(file.read_text(encoding="utf-8").splitlines()))
    assert len(rows) == 240
    assert len({row["attribute"] for row in rows}) == 2
    assert {row["label"] for row in rows} == {"negative", "positive"}


def test_what_is_not_in_the_list_cannot_be_written(capsys, tmp_path):
    words = f"scan --tasks {TOY} --write {tmp_path}/x.csv --attribute 5000"
    assert main(words.split()) == 2
    assert "--attribute 5000: there are" in capsys.readouterr().err
