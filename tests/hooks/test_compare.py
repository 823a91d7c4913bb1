"""`harness compare`, its files, the pytest plugin and the workflow, on results compared_runs."""

import csv
import io
import json
import re
import shlex
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from xml.etree import ElementTree

import pytest
from planted import EVEN, METRICS, answered, results, scored, write
from rich.console import Console

from harness_plugin import HarnessError
from harness_plugin.cli import main as cli
from harness_plugin.scoring.files.finished_runs import (
    Selected,
    compare_outputs,
    evaluated,
    records_in,
)
from harness_plugin.scoring.gate import default_thresholds, read_thresholds
from harness_plugin_hooks.regression import reports

ROOT = Path(__file__).parents[2]
TOY = str(ROOT / "tests" / "toy" / "toy.yaml")
ID_LABEL = {"id": "id", "label": "label"}
SAME = (EVEN, (91, 79, 80, 90), (90, 81, 79, 91))
WORSE = ((90, 50, 80, 90), (91, 49, 80, 90), (90, 51, 79, 91))
UNSURE = ((90, 70, 80, 90), (91, 79, 80, 90), (90, 84, 79, 91))


@pytest.fixture
def compare(compared_runs, monkeypatch, capsys):
    """Run the command in the folder of results: exit status, output, errors."""
    monkeypatch.chdir(compared_runs)

    def run(line):
        status = cli.main(["compare", *shlex.split(line)])
        shown = capsys.readouterr()
        return status, shown.out, shown.err

    return run


@pytest.mark.parametrize(
    ("candidate", "status", "verdict"),
    [("same", 0, "PASS"), ("worse", 1, "REGRESSED"), ("unsure", 3, "UNDECIDED")],
)
def test_the_exit_status_is_the_verdict(compare, candidate, status, verdict):
    result, out, err = compare(f"base {candidate} --resamples 300")
    assert (result, err) == (status, "")
    assert out.splitlines()[-1] == verdict
    assert "a-against" in out
    assert ("is worse by" in out) == (status != 0)
    assert "changed answers: candidate on balanced: " in out
    assert " between seeds); " in out


def test_limits_metrics_seeds_and_roles_are_options(compare):
    assert compare("base worse --max_drop 0.5 --max_gap_increase 0.5")[0] == 0
    assert compare("base worse --metric acc --max_drop 0.01 --max_gap_increase 0.5")[0] == 1
    assert compare("base worse --seeds 0,1")[0] == 3
    assert compare("base worse --seeds 0,1 --min_seeds 2")[0] == 3  # two seeds: no interval
    assert compare("base worse --seeds 0 --min_seeds 1")[0] == 1
    status, out, _ = compare("base same --metric gap_id_ood")
    assert status == 0
    assert "note: gap_id_ood is not checked on in_domain: it is not defined there" in out
    status, _, err = compare("base same --role teacher")
    assert status == 2
    assert "has no role 'teacher'; it has student" in err


def test_a_primary_gap_that_is_asked_for_is_checked_once(compare):
    gap = "gap_aligned_conflicting"
    status, out, _ = compare(f"base worse --resamples 300 --metric {gap}")
    assert status == 1
    assert out.count("balanced  │ gap_aligned_conflicting") == 1
    assert out.count("REGRESSED: gap_aligned_conflicting on balanced") == 1


def test_an_improvement_is_said_to_be_better(compare):
    """No sentence and no heading calls a change for the better a worsening by less than nothing."""
    status, out, _ = compare("worse base --resamples 300 --max_drop 0 --max_gap_increase 0")
    assert status == 0
    assert not re.search(r"worse by [^0-9]*-", out)
    assert "worse (+) or better (-)" in out


def test_a_student_is_compared_with_its_own_teacher(tmp_path, monkeypatch):
    predictions = [*answered(*WORSE), *answered(*SAME, role="teacher")]
    write(tmp_path, scored(predictions))
    assert cli.main(["compare", *[str(tmp_path)] * 2, "--baseline_role", "teacher"]) == 1


def test_a_run_of_the_host_is_compared(toy_run, capsys):
    words = ["compare", *[str(toy_run.output)] * 2, "--min_seeds", "1"]
    assert cli.main(words) == 0
    assert "+0.0 [+0.0, +0.0]" in capsys.readouterr().out
    assert cli.main([*words, "--baseline_role", "erm_teacher", "--role", "teacher"]) in (0, 1, 3)


def test_predictions_made_elsewhere_are_compared_with_a_run(toy_run, tmp_path, capsys):
    """A file with the gold labels is better than the run's student, in every group."""
    answers = tmp_path / "perfect.csv"
    rows = [
        row
        for file in sorted(toy_run.output.glob("predictions_toy_*.csv"))
        for row in csv.DictReader(file.read_text("utf-8").splitlines())
    ]
    answers.write_text("".join(f"{row['id']},{row['label']}\n" for row in [ID_LABEL, *rows]))
    words = ["score", "--tasks", TOY, "--predictions", str(answers), "--resamples", "100"]
    words += ["--log_samples", "--output_path", str(tmp_path / "scored")]
    assert cli.main(words) == 0
    sides = [str(toy_run.output), str(tmp_path / "scored")]
    words = ["compare", *sides, "--min_seeds", "1", "--metric", "acc"]
    assert cli.main(words) == 3  # 100 rows do not tell the sign of the run's gap
    assert cli.main([*words, "--max_gap_increase", "0.2"]) == 0
    capsys.readouterr()
    assert cli.main(["compare", *reversed(sides), "--min_seeds", "1", "--metric", "acc"]) == 1
    assert "100.0" in capsys.readouterr().out


def test_the_numbers_are_those_of_the_run(compared_runs):
    (file, record) = records_in(compared_runs / "worse")["faces"]
    side = evaluated(file, record, role="student")
    by_split = {}
    for p in side.predictions:
        by_split.setdefault(p.split, []).append(p.correct.mean())
    for known in record.scores:
        assert by_split[known.split] == pytest.approx(known.metrics["acc"].seeds)


def reports_of(compare, compared_runs, candidate):
    out = compared_runs / f"out-{candidate}"
    compare(f"base {candidate} --output_path {out}")
    assert sorted(file.name for file in out.iterdir()) == sorted(reports.FILES)
    return {file.name: file.read_text("utf-8") for file in out.iterdir()}


def test_the_gate_is_one_document_as_text_and_as_a_page(compare, compared_runs):
    result = reports_of(compare, compared_runs, "worse")
    page, text = result["comparison.html"], result["comparison.md"]
    assert "<h1>Debiasing gate: regressed</h1>" in page
    assert "default-src 'none'" in page
    for answers in ("baseline", "candidate", "worst_group_acc", "regressed", "changed answers"):
        assert answers in page, answers
        assert answers in text, answers


def test_junit_has_a_case_for_every_check(compare, compared_runs):
    result = reports_of(compare, compared_runs, "worse")["comparison.junit.xml"]
    (suite,) = ElementTree.fromstring(result)
    assert {k: suite.get(k) for k in ("tests", "failures", "errors", "skipped")} == {
        "tests": "6",
        "failures": "3",
        "errors": "0",
        "skipped": "0",
    }
    properties = {each.get("name"): each.get("value") for each in suite.find("properties")}
    assert (properties["min_seeds"], properties["margin balanced/worst_group_acc"]) == ("3", "0.02")
    assert "of answers differ" in properties["flips balanced"]
    cases = {case.get("name"): case for case in suite}
    assert cases["balanced/worst_group_acc"].find("failure").get("type") == "regressed"
    assert "worse by 33.6" in cases["balanced/worst_group_acc"].find("failure").get("message")
    assert cases["in_domain/acc"].find("failure") is None
    result = reports_of(compare, compared_runs, "unsure")["comparison.junit.xml"]
    (suite,) = ElementTree.fromstring(result)
    assert int(suite.get("skipped")) == len(suite.findall("testcase/skipped")) > 0


def test_benchmark_files_hold_the_candidate_in_percent(compare, compared_runs):
    result = reports_of(compare, compared_runs, "worse")
    bigger, smaller = (
        {row["name"]: row for row in json.loads(result[f"benchmark_{name}_is_better.json"])}
        for name in ("bigger", "smaller")
    )
    assert bigger["faces/balanced/worst_group_acc"]["value"] == 50.0
    assert bigger["faces/balanced/worst_group_acc"]["range"] == "± 1.00"
    assert smaller["faces/balanced/gap_aligned_conflicting"]["value"] == 25.5
    assert len(bigger) + len(smaller) == 6
    for row in [*bigger.values(), *smaller.values()]:
        assert row.keys() == {"name", "unit", "value", "range", "extra"}


def test_the_size_of_a_gap_is_reported(tmp_path, plugins, compared_runs):
    results(tmp_path, (50, 95, 95, 50), (49, 95, 95, 51), (51, 96, 94, 49))
    selected = Selected(compared_runs / "base", tmp_path)
    thresholds = read_thresholds(ROOT / "examples" / "ci" / "gates.yaml")
    result = compare_outputs(selected, thresholds, plugins)
    rows = {row["name"]: row for row in json.loads(reports.benchmark(result, False))}
    assert rows["faces/balanced/gap_aligned_conflicting"]["value"] == 45.0
    (turned,) = [c for c in result[0].checks if c.name == "balanced/gap_aligned_conflicting"]
    assert turned.state == "regressed"
    assert "turned over from +10.5 to -45.0" in turned.sentence


def test_the_step_summary_is_appended(compare, tmp_path, monkeypatch):
    summary = tmp_path / "summary.md"
    summary.write_text("before\n")
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(summary))
    assert compare("base worse --step_summary")[0] == 1
    text = summary.read_text()
    assert text.startswith("before\n## Debiasing gate: regressed\n")
    assert r"| balanced | worst_group_acc | " in text
    assert r"| +33.6 \[" in text
    assert r"- **regressed**: worst_group_acc on balanced is worse by" in text
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(tmp_path))
    status, _, err = compare("base same --step_summary")
    assert (status, err) == (2, f"harness: error: --step_summary: {tmp_path}: Is a directory.\n")
    monkeypatch.delenv("GITHUB_STEP_SUMMARY")
    status, out, err = compare("base worse --step_summary")
    assert (status, out) == (2, "")
    assert "$GITHUB_STEP_SUMMARY is not set" in err


def test_names_from_data_cannot_break_a_report(compared_runs, plugins):
    odd = "<script>|`x` [red]b[/] \x00\ud800\n| d *e*"
    selected = Selected(compared_runs / "base", compared_runs / "worse")
    (result,) = compare_outputs(selected, default_thresholds(known=METRICS), plugins)
    result = replace(
        result,
        candidate=replace(result.candidate, where=odd),
        flips=tuple(
            replace(flips, sentence=odd, groups=tuple(replace(g, group=odd) for g in flips.groups))
            for flips in result.flips
        ),
        notes=(odd,),
    )
    text = reports.markdown([result])
    assert "<script>" not in text
    rows = [line for line in text.splitlines() if line.startswith("|")]
    assert {len(re.findall(r"(?<!\\)\|", row)) for row in rows} == {8, 11}
    (suite,) = ElementTree.fromstring(reports.junit([result]))
    assert "<script>|`x` [red]b[/]" in suite.get("name")
    console = Console(file=io.StringIO(), width=200)
    for part in reports.on_terminal(result):
        console.print(part)
    assert "note: <script>|`x` [red]b[/]" in console.file.getvalue()


def test_reports_that_cannot_be_written_are_an_error(compared_runs, plugins, tmp_path, monkeypatch):
    def full(path, text):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(reports, "write_text", full)
    with pytest.raises(HarnessError, match=r"cannot be written: No space left"):
        reports.write_reports([], tmp_path)


@pytest.fixture
def copy(compared_runs, tmp_path):
    """Results to be spoilt."""
    return Path(shutil.copytree(compared_runs / "same", tmp_path / "copy"))


def edit(folder, pattern, old, new):
    (file,) = folder.glob(pattern)
    text = file.read_text()
    assert old in text
    file.write_text(text.replace(old, new, 1))


def without_predictions(folder):
    next(folder.glob("predictions_faces_balanced_*.csv")).unlink()


SPOILT = {
    "no folder": (shutil.rmtree, "copy: cannot be read: No such file or directory"),
    "empty": (lambda f: [p.unlink() for p in f.iterdir()], "no transfer_*.json"),
    "no answers": (without_predictions, "run with --log_samples"),
    "no JSON": (
        lambda f: edit(f, "transfer_*", "{", ""),
        "is no JSON file",
    ),
    "other keys": (
        lambda f: edit(f, "transfer_*", '"task"', '"tusk"'),
        "task: field required; was it",
    ),
    "other rows": (
        lambda f: edit(f, "predictions_faces_balanced*", "0000,a,a-fits", "0000,a,b-fits"),
        "its rows are not those",
    ),
    "fewer rows": (
        lambda f: edit(f, "predictions_faces_balanced*", "balanced0000", "balanced0001"),
        "1 ids are doubled",
    ),
    "two runs": (lambda f: results(f, EVEN), "has several results of task 'faces'"),
    "other task": (
        lambda f: write(f, scored(answered(*SAME), task="birds")),
        "has results of task 'birds', the other side has none",
    ),
    "real data": (
        lambda f: edit(f, "transfer_*", '"source": "embedded"', '"source": "path"'),
        "has embedded data, .*path data",
    ),
}


@pytest.mark.parametrize("how", SPOILT)
def test_results_that_cannot_be_compared_are_named(compare, copy, how):
    spoil, message = SPOILT[how]
    spoil(copy)
    status, out, err = compare(f"base {copy}" if how != "other task" else f"{copy} base")
    assert (status, out) == (2, "")
    assert re.search(message.replace("*.", r"\*."), err), err
    assert err.startswith("harness: error: ")
    assert err.count("\n") == 1


def test_one_of_several_runs_is_named_by_its_file(compare, copy):
    before = set(copy.glob("transfer_*"))
    results(copy, *WORSE)
    (second,) = set(copy.glob("transfer_*")) - before
    assert compare(f"base {second}")[0] == 1
    assert compare(f"base {before.pop()}")[0] == 0


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("base same --tasks birds", "has no results of task 'birds'; it has faces"),
        ("base same --seeds 7", "has no seed 7; it has 0, 1, 2"),
        ("base same --metric wga", "unknown metric 'wga'"),
        ("base same --max_drop 3", "max_drop: Input should be less than 1"),
        ("base same --thresholds no.yaml", "no.yaml: cannot be read: No such file"),
        ("base same --thresholds no.yaml --metric acc", "--metric: the limits are in no.yaml"),
        ("base same --resamples 1", "resamples: Input should be greater"),
        ("base same --output_path x.json", "expected a folder"),
        ("base", "the following arguments are required: CANDIDATE"),
    ],
)
def test_bad_options_are_one_sentence(compare, words, message):
    status, out, err = compare(words)
    assert (status, out) == (2, "")
    assert message in err


def test_a_gate_on_a_task_that_nobody_compares_is_an_error(compare, tmp_path):
    file = tmp_path / "gates.yaml"
    file.write_text("gates: [{metric: acc, max_drop: 0, task: birds}]")
    assert "unknown task of a gate 'birds'" in compare(f"base same --thresholds {file}")[2]


def test_comparing_imports_nothing_heavy(compared_runs):
    base, same = (str(compared_runs / name) for name in ("base", "same"))
    program = (
        "import sys; from harness_plugin.cli.main import main\n"
        f"status = main(['compare', {base!r}, {same!r}])\n"
        "heavy = {'torch', 'transformers', 'datasets', 'evaluate', 'accelerate', 'sklearn'}\n"
        "print(status, sorted(heavy & set(sys.modules)))"
    )
    out = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=60
    )
    assert out.stdout.splitlines()[-1] == "0 []", out.stderr


def test_the_thresholds_of_the_documentation_are_read(tmp_path):
    page = (ROOT / "docs" / "regression.md").read_text("utf-8")
    block = re.search(r"^```yaml\n(min_seeds.*?)^```", page, re.S | re.M)[1]
    (tmp_path / "gates.yaml").write_text(block)
    assert len(read_thresholds(tmp_path / "gates.yaml").gates) == 4
