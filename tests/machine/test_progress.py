"""Bars of a terminal: the time left stands in them however narrow it is."""

import io
import re
from pathlib import Path

import pytest
import tqdm.std

from harness_plugin.machine.progress import bar_of

NAMES = [
    "teacher on hans, seed 0 (jtt)",
    "student_teachers_agre on celeba_bias, seed 0 (group_dro)",
]


@pytest.mark.parametrize("name", NAMES)
def test_a_terminal_that_shrinks_keeps_the_time_left(name, monkeypatch):
    """tqdm cuts a bar at the terminal's width, which is asked for again at every drawing."""
    columns = [120]
    monkeypatch.setattr(tqdm.std, "_screen_shape_wrapper", lambda: lambda _: (columns[0], 24))
    screen = io.StringIO()
    monkeypatch.setattr("sys.stderr", screen)
    bar = bar_of(name, 4000, shown=True)
    bar.set_postfix_str("loss 0.693", refresh=False)
    bar.start_t -= 10
    drawn = []
    for width in (120, 80, 60):
        columns[0] = width
        bar.n += 1000
        bar.refresh()
        drawn.append(str(screen.getvalue().split("\r")[-1]))
    bar.close()
    assert all(len(line.strip()) <= width for line, width in zip(drawn, (120, 80, 60), strict=True))
    assert all(re.search(r": 00:\d\d left \|", line) for line in drawn), drawn
    assert "3000/4000" in drawn[-1] or len(name) > 40


def test_bars_are_drawn_in_one_place():
    """A bar of tqdm's own writes carriage returns into a log, where a line a minute belongs."""
    root = Path(__file__).resolve().parents[2]
    files = [*root.glob("harness_plugin/**/*.py"), *root.glob("hooks/**/*.py")]
    drawing = [f for f in files if re.search(r"^ *(from|import) tqdm", f.read_text(), re.M)]
    assert sorted(file.relative_to(root).as_posix() for file in drawing) == [
        "harness_plugin/machine/progress.py",
        "harness_plugin/study/executors.py",
    ]
