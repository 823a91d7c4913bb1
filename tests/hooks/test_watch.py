"""What `harness watch` shows of runs and studies, and the file that a run keeps for it."""

import json
import os
import socket
import subprocess
import sys

import pytest

from harness_plugin.cli.main import main
from harness_plugin.machine import progress
from harness_plugin.machine.progress import FILE, Work, live_run, model_done, place, seconds_left
from harness_plugin.store.seals import write_sealed
from harness_plugin_hooks.commands.train.watch import bar, sparks


def record(**changed):
    made = {
        "tasks": ["hans"],
        "state": "running",
        "host": socket.gethostname(),
        "process": os.getpid(),
        "started": 100.0,
        "updated": 160.0,
        "total": 5,
        "models": [
            {"name": "teacher on hans, seed 0", "seconds": 40.0, "reused": False},
            {"name": "erm_teacher on hans, seed 0", "seconds": 9.0, "reused": True},
        ],
        "now": {"name": "student on hans, seed 0 (erm)", "done": 30, "total": 60},
        "curve": [0.9, 0.5, 0.1],
    }
    return {**made, **changed}


def shown(capsys, *words):
    assert main(["watch", *map(str, words)]) == 0
    return capsys.readouterr().out


def test_models_done_time_left_and_curve_of_a_run_are_shown(tmp_path, capsys):
    (tmp_path / "faces").mkdir()
    (tmp_path / "faces" / FILE).write_text(json.dumps(record()))
    for folder in (tmp_path, tmp_path / "faces"):
        out = shown(capsys, folder, "--once")
        assert "model 2 of 5, 60 s, about 100 s left" not in out
        # two and a half models are left, one that was trained took 40 s
        assert "model 2 of 5, 60 s, about 2 min left" in out
        assert "[############------------] student on hans, seed 0 (erm)" in out
        assert "loss █▅▁ 0.100" in out
        assert "teacher on hans, seed 0: 40 s" in out
        assert "erm_teacher on hans, seed 0: from the store" in out


def test_time_left_counts_the_part_of_the_model_at_work():
    assert seconds_left(record()) == pytest.approx(40 * 2.5)
    assert seconds_left(record(models=[])) is None
    assert seconds_left(record(total=2)) == 0


def test_a_run_that_failed_or_was_killed_says_so(tmp_path, capsys):
    (tmp_path / FILE).write_text(json.dumps(record(state="failed: HarnessError: loss is nan")))
    assert "hans: failed: HarnessError: loss is nan" in shown(capsys, tmp_path)
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    (tmp_path / FILE).write_text(json.dumps(record(process=process.pid)))
    assert "ended without a word" in shown(capsys, tmp_path)
    (tmp_path / FILE).write_text(json.dumps(record(host="elsewhere")))
    assert "no sign of life for" in shown(capsys, tmp_path)


def test_a_finished_run_and_an_empty_folder_are_told_apart(toy_run, tmp_path, capsys):
    assert f"{toy_run.output}: finished, 1 task" in shown(capsys, toy_run.output)
    assert not (toy_run.output / FILE).exists()
    assert "nothing at work" in shown(capsys, tmp_path)
    (tmp_path / FILE).write_text('{"half')
    assert "nothing at work" in shown(capsys, tmp_path)


def test_trainings_of_studies_are_counted_from_the_store(tmp_path, capsys):
    (tmp_path / "studies").mkdir()
    write_sealed(tmp_path / "studies" / "a-0.json", {"stage": None, "seconds": 1.0})
    write_sealed(
        tmp_path / "studies" / "b-0.failed",
        {"tries": 1, "error": "HarnessError: the loss is nan", "trace": "", "finished": 0.0},
    )
    out = shown(capsys, tmp_path)
    assert "studies: 1 trainings done, 0 at work, 1 failed" in out
    assert "FAILED b-0: HarnessError: the loss is nan" in out


@pytest.mark.parametrize(
    ("words", "message"),
    [(["nowhere"], "expected a folder"), ([".", "--interval", "0"], "expected 0.1 to 3600")],
)
def test_bad_input_is_one_line(words, message, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert main(["watch", *words]) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1


def test_a_run_keeps_its_file_while_it_goes_on_and_where_it_fails(tmp_path):
    with live_run(tmp_path / "out", ["toy"], 2):
        work = Work("teacher on toy, seed 0 (erm)", 10, unit="update")
        work.update(4)
        work.loss(0.5)
        model_done("teacher on toy, seed 0", 8.0, False)
        kept = json.loads((tmp_path / "out" / FILE).read_text())
        assert (kept["state"], kept["total"], kept["process"]) == ("running", 2, os.getpid())
        assert kept["models"] == [
            {"name": "teacher on toy, seed 0", "seconds": 8.0, "reused": False}
        ]
        # what was written last, less than a moment before the second writing
        assert kept["now"]["name"] == work.name
        assert place().startswith("; model 1 of 2, ")
    assert list((tmp_path / "out").iterdir()) == []
    assert place() == ""
    with pytest.raises(ValueError, match="no data"), live_run(tmp_path / "out", ["toy"], 2):
        raise ValueError("no data")
    kept = json.loads((tmp_path / "out" / FILE).read_text())
    assert kept["state"] == "failed: ValueError: no data"


def test_a_log_gets_a_line_a_minute(monkeypatch, capsys):
    clock = [0.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: clock[0])

    def two_hundred_seconds():
        work = Work("teacher on hans, seed 0 (erm)", 400, unit="update")
        for _ in range(200):
            clock[0] += 1
            work.update()
        work.close()

    two_hundred_seconds()
    assert capsys.readouterr().out == ""  # a caller of the API asked for none
    with progress.lines_of_a_log():
        two_hundred_seconds()
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 3
    assert lines[0].endswith("teacher on hans, seed 0 (erm): 60 of 400 updates, 6 min left")
    Work("off", 4, quiet=True).update()
    assert capsys.readouterr().out == ""


def test_a_full_disk_ends_no_run_for_its_file(tmp_path):
    (tmp_path / "out").write_text("a file")
    with live_run(tmp_path / "out", ["toy"], 1):
        model_done("teacher on toy, seed 0", 1.0, False)


def test_leaving_it_says_nothing_of_an_interrupted_run(tmp_path, capsys, monkeypatch):
    def leave(seconds):
        raise KeyboardInterrupt

    monkeypatch.setattr("sys.stdout.isatty", lambda: True)
    monkeypatch.setattr("os.get_terminal_size", lambda *_: os.terminal_size((80, 24)))
    monkeypatch.setattr("harness_plugin_hooks.commands.train.watch.time.sleep", leave)
    assert main(["watch", str(tmp_path)]) == 0
    assert capsys.readouterr().err == ""


def test_bars_and_curves_are_drawn_to_scale():
    assert bar(1, 4, 8) == "[##------]"
    assert bar(9, 4, 4) == "[####]"
    assert sparks([1.0, 1.0]) == "▁▁"
    assert sparks([0.0, 7.0, 3.0]) == "▁█▄"
