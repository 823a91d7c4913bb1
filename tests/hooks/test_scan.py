"""`harness scan`: closed forms of its numbers, and attributes that were planted."""

import csv
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from scipy.stats import chi2_contingency

from harness_plugin.cli.main import main
from harness_plugin_hooks.scan.association import associations, chi_square, strength_of
from harness_plugin_hooks.scan.attributes import measures, of_images, of_texts

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
    found = associations(noise, label, 2, 0)
    assert sum(one.p < 0.05 for one in found) <= 1
    assert found[0].strength >= found[-1].strength


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
    found = lines(capsys, f"--tasks {task} --set data_seed={seed} --top 6 {sets}")
    first = [text for text in found if "“good" not in text and "“bad" not in text][:3]
    assert any(any(name in text for name in planted) for text in first), found


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
