"""Rows are bytes of columns: no Python object is kept for each of them."""

import tracemalloc

import numpy as np
import pytest

from harness_plugin.data.columns import coded, doubled, gathered, positions, text_column
from harness_plugin.data.dataset import load_data
from harness_plugin.data.task import find_task
from harness_plugin.errors import HarnessError
from harness_plugin.scoring.files.prediction_files import read_answers

N = 150_000


def test_a_table_and_its_predictions_keep_no_object_a_row(plugins, tmp_path):
    with (tmp_path / "t.csv").open("w") as table, (tmp_path / "p.csv").open("w") as answers:
        table.write("key,text,label,attribute,split,doc\n")
        answers.write("id,no,yes\n")
        for i in range(N):
            fields = f"the {i}th row,{('no', 'yes')[i % 2]},{'ab'[i // 2 % 2]},test,d{i // 9}"
            table.write(f"k{i},{fields}\n")
            answers.write(f"k{i},{(i % 7) / 7},{1 - (i % 7) / 7}\n")
    file = tmp_path / "mine.yaml"
    file.write_text("task: mine\nbase: csv_groups\ntable: t.csv\nid: key\ncluster: doc\n")
    task = find_task(str(file), plugins["task"])
    tracemalloc.start()
    data = load_data(task, "own", training=False)
    (split,) = data.evaluation
    whose = {"task": "mine", "role": "student", "model": "m", "seed": 0}
    p = read_answers(tmp_path / "p.csv", [split], kind="probabilities").joined(split, **whose)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert len(p) == N
    assert p.units.max() + 1 == -(-N // 9)
    # NumPy's arrays count, Arrow's do not; a row of Python texts and numbers is some 5 kB
    assert peak / N < 400


def test_columns_by_hand():
    column = text_column(["b", "a", "b", ""], "x", "here")
    codes, texts = coded(column)
    assert (codes.tolist(), texts) == ([0, 1, 0, 2], ["b", "a", ""])
    rows = np.arange(4)
    assert positions(column, ("a", "b"), "label", "f", rows, blank=True).tolist() == [1, 0, 1, -1]
    with pytest.raises(HarnessError, match="f: row 14: unknown label ''; expected one of a, b"):
        positions(column, ("a", "b"), "label", "f", rows + 10)
    assert doubled(column) == (2, 0, 1)
    assert doubled(text_column(["x", "y"], "x", "here")) is None
    assert [c.to_pylist() for c in gathered([["1", "2"], ["3", None]], 2)] == [
        ["1", "3"],
        ["2", None],
    ]
    assert text_column([1, None, True], "x", "here").to_pylist() == ["1", "None", "True"]
