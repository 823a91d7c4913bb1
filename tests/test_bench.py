"""Every benchmark runs in its quick mode and prints its tables; nothing here is timed."""

import contextlib
import importlib
import io
import json
import runpy
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest import mock

import pytest

from harness_plugin.machine import process_state

BENCH = Path(__file__).resolve().parents[1] / "bench"
ROWS = {
    "calibration": ["1 thread, no, eager", "1 thread, bf16, sdpa", "ResNet-pico | "],
    "commands": ["run, all from the store", "report", "verify", "score", "first line of a run"],
    "growth": ["teacher pass | rows", "CKA | layers", "circuits | pairs", "report | seeds"],
    "whole_job": ["harness-plugin", "harness-plugin, two seeds side by side", "Trainer"],
    "bootstrap": ["harness-plugin", "harness-plugin, row by row", "plain loop"],
    "cka": ["harness-plugin, float32", "harness-plugin, float64", "rows of about", "as they come"],
    "step": ["harness-plugin", "bare torch loop", "Trainer fp32", "Trainer bf16"],
    "startup": ["python -c pass", "harness --help", "harness ls tasks"],
    "distill": ["student, no teacher", "from the store", "in the loop", "the one pass"],
    "evaluate": ["harness-plugin, bf16", "harness-plugin, fp32", "plain loop, batches of 32"],
    "method_cost": ["erm", "jtt", "dfr_train"],
    "prepare": ["first", "again, token ids from the store"],
    "side_by_side": ["one after the other", "--workers auto"],
    "scoring": ["one file", "five files", "five files, --log_samples", "2,000 | probabilities"],
    "study": ["local, in process", "local, 2 workers", "25,000 cells"],
    "threads": ["our choice", "1 thread, as launched", "the choice made before"],
}

OWN_PROCESS = {"threads", "whole_job"}
"""They change what a process has once: the threads at the start, the cores that it may use."""
EXHAUSTIVE = {*OWN_PROCESS, "commands", "faults", "many_workers", "memory", "side_by_side"}
"""They start many processes or train six models twice. What `faults` does has tests of its own."""
HELPERS = {
    *("worlds", "theory", "rates"),
    *("batches", "campaign", "common", "disturbed", "families", "flops", "workload"),
    *("batch_norm", "certified_tasks", "deviations", "measured_page", "methods"),
    *("models_table", "mutant_areas", "mutants", "scale"),
}
"""What the scripts share, and those that time nothing; of a GPU's: test_bench_gpu.py."""
COUNTED = {
    "durability": ["first", "again, all from the store"],
    "many_workers": ["one study, 4 workers", "2 studies of 2 workers", "the same, 2 workers"],
    "memory": ["cka | 40-80", "probes | 40-80", "attention | 40-80", "circuits | 10-20 pairs"],
    "faults": ["kill -9 in anything", "damaged files in the store", "bad input: flags"],
}
"""Scripts that compare no variants: they print one table of their own."""


def run(*words: str) -> str:
    """What a benchmark prints, in a process of its own."""
    done = subprocess.run(
        [sys.executable, *words], capture_output=True, text=True, timeout=300, cwd=BENCH.parent
    )
    assert done.returncode == 0, done.stderr[-2000:]
    return done.stdout


@pytest.fixture
def script(monkeypatch):
    """Imports modules of bench/, which are forgotten after the test."""
    monkeypatch.setattr(sys, "path", [*sys.path, str(BENCH)])  # last: `evaluate` is a package too
    before = set(sys.modules)
    with process_state.restored():
        yield importlib.import_module
    for name, module in list(sys.modules.items()):
        if name not in before and str(getattr(module, "__file__", "")).startswith(str(BENCH)):
            del sys.modules[name]


@pytest.fixture
def run_here(script, monkeypatch, capsys):
    """What a benchmark prints that runs in this process, where torch is imported already.

    So do scripts of bench/ that it starts: their output is all that it takes from them.
    """

    def execute(words: list[str]) -> None:
        with mock.patch.object(sys, "argv", words):
            runpy.run_path(str(BENCH.parent / words[0]), run_name="__main__")

    def start(words: list[str], **how: Any) -> subprocess.CompletedProcess[str]:
        if words[0] != sys.executable or not words[1].startswith(str(BENCH)):
            return in_a_process(words, **how)
        with contextlib.redirect_stdout(io.StringIO()) as out:
            execute(words[1:])
        return subprocess.CompletedProcess(words, 0, out.getvalue())

    def run(*words: str) -> str:
        status: str | int | None = 0
        try:
            execute([*words])
        except SystemExit as ended:
            status = ended.code
        printed = capsys.readouterr()
        assert not status, printed.err[-2000:]
        return printed.out

    in_a_process = subprocess.run
    monkeypatch.setattr(subprocess, "run", start)
    return run


@pytest.fixture
def lm_eval(tmp_path):
    """An executable that takes what lm_eval's command line takes, and does nothing."""
    program = tmp_path / "lm_eval"
    program.write_text(f"#!{sys.executable} -S\n")
    program.chmod(0o755)
    return program


def test_every_benchmark_is_listed_here_and_explained():
    scripts = {
        path.stem for path in BENCH.glob("*.py") if not path.stem.startswith("gpu")
    } - HELPERS
    assert scripts == {*ROWS, *COUNTED, "certify", "coverage"}  # these simulate, and time nothing
    readme = (BENCH / "README.md").read_text(encoding="utf-8")
    assert all(f"bench/{name}.py" in readme for name in scripts)


@pytest.mark.slow
@pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=[pytest.mark.exhaustive] * (name in EXHAUSTIVE))
        for name in sorted(ROWS)
    ],
)
@pytest.mark.filterwarnings("default")
def test_quick_mode_prints_the_tables_and_writes_every_time(name, tmp_path, request, run_here):
    file = tmp_path / "times.json"
    start = run if name in OWN_PROCESS else run_here
    more = {
        "prepare": ("--data", "real_data"),
        "scoring": ("--data", "real_data"),
        "startup": ("--lm_eval", "lm_eval"),
    }.get(name, ())
    words = [*more[:1], *(str(request.getfixturevalue(fixture)) for fixture in more[1:])]
    out = start(f"bench/{name}.py", "--quick", "--output", str(file), *words)
    assert "Quick mode" in out
    for row in ROWS[name]:
        assert f"\n| {row}" in out
    record = json.loads(file.read_text(encoding="utf-8"))
    assert record["environment"]["versions"]["torch"]
    for table in record["tables"]:
        assert table["base"] in table["seconds"]
        assert all(time > 0 for times in table["seconds"].values() for time in times)


@pytest.mark.slow
def test_coverage_is_the_same_for_any_number_of_workers(run_here):
    words = ["bench/coverage.py", "--part", "grid", "--only", "tied", "--worlds", "50"]
    words += ["--rows", "20", "30", "--seeds", "1", "3"]
    one, two = run_here(*words), run(*words, "--workers", "2")  # a process for each of the two
    assert one == two
    assert "| worst | 20 | no claim | no claim |" in one  # as a run has no interval there
    assert "| worst | 30 | ." in one
    summary = one[one.index("| coverage of all cells that claim |") :].splitlines()[2:]
    cells = [line.strip("| ").split(" | ") for line in summary if line.startswith("|")]
    assert len(cells) >= 9
    assert {row[3] for row in cells} == {"0"}  # no cell below .93 by more than chance


@pytest.mark.slow
@pytest.mark.parametrize(
    "families", ["BERT", pytest.param("Qwen2", marks=pytest.mark.exhaustive), "ResNet"]
)
def test_the_table_of_models_has_a_row_a_family_and_no_crash_in_a_run(families, run_here):
    out = run_here("bench/models_table.py", "--families", families)
    (row,) = [line for line in out.splitlines() if line.startswith(f"| {families} |")]
    cells = [cell.strip() for cell in row.strip("|").split("|")]
    assert cells[2:4] == ["yes", "yes"]
    assert cells[4] == ("" if families == "ResNet" else "yes")


def test_lm_eval_has_the_commands_that_are_timed(monkeypatch):
    from lm_eval._cli.harness import HarnessCLI

    monkeypatch.setattr(sys, "argv", ["lm_eval", "ls", "tasks"])
    assert HarnessCLI().parse_args().what == "tasks"


@pytest.mark.slow
@pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=[pytest.mark.exhaustive] * (name in EXHAUSTIVE))
        for name in sorted(COUNTED)
    ],
)
def test_what_is_counted_is_printed(name, run_here, tmp_path, monkeypatch):
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    out = (run_here if name == "durability" else run)(f"bench/{name}.py", "--quick")
    for row in COUNTED[name]:
        assert f"\n| {row}" in out


def test_help_says_what_a_benchmark_measures(run_here):
    out = run_here("bench/startup.py", "--help")
    assert "harness --help" in out
    assert "--output" in out


def test_batches_are_counted(run_here):
    out = run_here("bench/batches.py", "--quick")
    ours = next(line for line in out.splitlines() if line.startswith("| harness-plugin, drawn by"))
    assert ours.split("|")[2].strip() == "0.000"  # no batch lacks a group
    assert "| draws sorted by length |" in out


@pytest.fixture
def common(script):
    """The module the benchmarks share."""
    return script("common")


def test_ratios_are_taken_within_rounds_and_goals_compare_their_median(common):
    goals = {"a": [common.Goal("b", 0.5), common.Goal("b", 0.4)]}
    table = common.Table("T", "step", "b", {"a": [1.0, 4.0, 2.0], "b": [2.0, 10.0, 1.0]}, goals)
    assert table.ratios("a", "b") == [0.5, 0.4, 2.0]
    assert "| a | 2000.0 ms | 0.500 | 0.400-2.000 |" in table.markdown()
    assert "0.5 x b: 0.500, met" in table.markdown()
    assert "0.4 x b: 0.500, MISSED" in table.markdown()


def test_variants_take_turns_and_the_first_round_is_dropped(common):
    turns = []

    def variant(name, values):
        def run():
            turns.append(name)
            return next(values)

        return run

    variants = {"a": variant("a", iter([9.0, 1.0, 2.0])), "b": variant("b", iter([8.0, 3.0, 4.0]))}
    assert common.interleave(variants, 2) == {"a": [1.0, 2.0], "b": [3.0, 4.0]}
    assert turns == ["a", "b"] * 3


def test_a_single_round_is_counted(common):
    assert common.interleave({"a": lambda: 1.0}, 1) == {"a": [1.0]}
    assert "Interleaved rounds: 1.\n" in common.Table("T", "step", "a", {"a": [1.0]}).markdown()


def test_mutants_are_of_files_that_are_there_and_so_are_their_tests(script):
    mutants = script("mutants")
    root = BENCH.parent
    for area in mutants.AREAS.values():
        assert [each for each in (*area.files, *area.tests) if not (root / each).is_file()] == []
    drawn, few = mutants.chosen(1), mutants.chosen(1, 0.3)
    assert len(drawn) == 200
    assert 55 <= len(few) <= 65
    assert set(few) < set(drawn)
    assert {mutant.area for mutant in few} == set(mutants.AREAS)


def test_the_row_of_a_task_names_its_certified_student_or_what_is_missing(script):
    row_of = script("certified_tasks").row_of
    step = {"remedy": "none", "kept_low": -0.1, "gain_low": 0.2, "reason": "it keeps too little"}
    better = {**step, "remedy": "int8", "kept_low": 0.01, "reason": ""}
    record = {
        "certified": None,
        "groups": {"a": 40, "b": 7},
        "order": [{"remedy": "none", "cost": 1.0}, {"remedy": "int8", "cost": 0.0}],
        "steps": [step],
    }
    line = row_of("toy", record)
    assert line == "| `toy` | 7 | +20.0 | none | plain distillation: it keeps too little |"
    line = row_of("toy", {**record, "steps": [{**step, "gain_low": -0.01}]})
    assert line == "| `toy` | 7 | -1.0 | none | plain distillation: it keeps too little |"
    certified = {**record, "certified": "int8", "steps": [step, better]}
    assert row_of("toy", certified) == "| `toy` | 7 | +20.0 | `int8` at 0.00 |  |"
    dear = {**record, "certified": "none", "order": [{"remedy": "none", "cost": 1.3}]}
    assert "plain distillation at 1.30 | dearer than 1.25 times" in row_of("toy", dear)


def test_the_table_of_batch_normalisation_has_every_sparsity_and_kind(script):
    bench = script("batch_norm")
    assert list(bench.students([0.5])) == [
        *("student", "student_ce"),
        *("student_50_0", "student_50_1", "student_50_2"),
    ]
    values = {"teacher": 0.9, "student_50_0": 0.5, "student_50_1": 0.75, "student_50_2": 0.8}

    def of(role, split):
        assert split == "balanced"
        value = values[role]
        estimate = SimpleNamespace(value=value, seeds=(value - 0.1, value + 0.1))
        return SimpleNamespace(metrics={"acc": estimate, "worst_group_acc": estimate})

    scores = SimpleNamespace(purposes={"test": "in_domain", "balanced": "ood"}, of=of)
    lines = bench.table({"celeba_bias": scores}, [0.5])
    assert lines[2] == "| accuracy | none | 90.0 (80.0 to 100.0) | | |"
    assert lines[5] == (
        "| worst group | 50% | 50.0 (40.0 to 60.0) | 75.0 (65.0 to 85.0) | 80.0 (70.0 to 90.0) |"
    )


@pytest.fixture
def methods(script):
    """The module behind the tables of methods."""
    return script("methods")


def test_the_table_of_methods_is_filled_from_numbers_measured_elsewhere(
    methods, run_here, tmp_path
):
    row = {"acc": [80.04, 78.0, 82.0], "worst": [41.26, 30.0, 52.4], "seeds": 5}
    gain = {"difference": [-3.14, -10.0, 4.0], "better": 2}
    no_claim = {"difference": [0.0, None, None], "better": 0}
    rows = [
        {"name": "`erm`", **row},
        {"name": "`a`", **row, **gain},
        {"name": "`b`", **row, **no_claim},
        {"name": "`c`", "failure": "refused: no labels."},
    ]
    table = {"task": "hans", "set": "hans", "model": "bert-pico", "rows": rows}
    measured = {"command": "python bench/methods.py", "commit": "abc1234", "seeds": [0, 1]}
    file, page = tmp_path / "numbers.json", tmp_path / "page.md"
    file.write_text(json.dumps({**measured, "against": "ERM", "tables": [table]}))
    page.write_text(f"before\n{methods.START}\nold\n<!-- end of table -->\nafter\n")
    run_here("bench/methods.py", "--read", str(file), "--write", str(page))
    text = page.read_text()
    assert text.startswith("before\n<!--")
    assert text.endswith("-->\nafter\n")
    assert "old" not in text
    assert "`python bench/methods.py`, commit abc1234, fp32, one thread, seeds 0, 1." in text
    assert "| `erm` | 80.0 [78.0, 82.0] | 41.3 [30.0, 52.4] |  |  |" in text
    assert "| `a` | 80.0 [78.0, 82.0] | 41.3 [30.0, 52.4] | -3.1 [-10.0, +4.0] | 2 of 5 |" in text
    assert "| `b` | 80.0 [78.0, 82.0] | 41.3 [30.0, 52.4] | +0.0 | 0 of 5 |" in text
    assert "| `c` | refused: no labels. | | | |" in text


def test_rows_that_are_measured_again_stand_among_those_of_the_page(script):
    page = script("measured_page")
    erm = {"name": "`erm`", "acc": [80.0, None, None], "worst": [40.0, None, None], "seeds": 2}
    a, b, c = (
        {**erm, "name": f"`{name}`", "difference": [gain, None, None]}
        for name, gain in (("a", 1.0), ("b", 2.0), ("c", 3.0))
    )
    table = {"task": "hans", "set": "hans", "model": "bert-pico"}
    measured = {"command": "python bench/methods.py", "commit": "old", "seeds": [0, 1]}
    measured |= {"against": "ERM", "tables": [{**table, "rows": [erm, a, b]}]}
    old = page.page_lines(measured)[:-1]
    again = {**measured, "commit": "new", "tables": [{**table, "rows": [erm, {**b, "better": 2}]}]}
    names = {"hans": ["`erm`", "`b`"]}
    lines = page.merged(old, again, names)
    assert lines[:3] == [old[0], "", "Measured again at commit new: `b`."]
    assert lines[3:9] == old[1:7]
    assert lines[9:] == [old[8].replace("0 of 2", "2 of 2"), ""]  # `a` is no row any more
    again["tables"] = [{**table, "rows": [erm, c]}]
    more = page.merged(lines[:-1], again, {"hans": ["`erm`", "`b`", "`c`"]})
    assert [line.split(" | ")[0] for line in more[10:-1]] == ["| `erm`", "| `b`", "| `c`"]
    moved = {**again, "tables": [{**table, "rows": [{**erm, "acc": [81.0, None, None]}, c]}]}
    with pytest.raises(SystemExit, match=r"hans: the reference is another now: \| `erm` \| 81.0"):
        page.merged(old, moved, names)
    with pytest.raises(SystemExit, match="other seeds or settings"):
        page.merged(old, {**again, "seeds": [0, 1, 2]}, names)


@pytest.mark.slow
def test_methods_are_compared_alike_by_any_number_of_workers(methods, tmp_path, monkeypatch):
    sizes = [f"hans.{name}" for name in ("n_train=300", "n_hans=400", "n_id=50")]
    short = ["student.epochs=1", "student.erm_epochs=0", *sizes]
    sets = [word for each in short for word in ("--set", each)]
    made = []
    for workers in ("1", "2"):
        file = tmp_path / f"{workers}.json"
        words = ["--tasks", "hans", "--only", "resample", "--seeds", "0", "1", *sets]
        words += ["--use_cache", str(tmp_path / workers), "--workers", workers]
        monkeypatch.setattr(sys, "argv", ["methods.py", *words, "--output", str(file)])
        assert methods.main() == 0
        made.append(json.loads(file.read_text()))
    assert made[0]["tables"] == made[1]["tables"]
    erm, row = made[0]["tables"][0]["rows"]
    assert not erm["difference"]
    assert (row["seeds"], row["failure"]) == (2, "")
    assert row["difference"][0] == pytest.approx(row["worst"][0] - erm["worst"][0], abs=2)


@pytest.mark.slow
def test_deviations_are_measured_beside_what_they_differ_from(run_here, tmp_path):
    words = ["--tasks", "hans", "--only", "poe_authors_line", "--seeds", "0"]
    words += ["--set", "student.epochs=1"]
    for more in ("student.erm_epochs=0", "hans.n_train=300", "hans.n_hans=200", "hans.n_id=50"):
        words += ["--set", more]
    out = run_here("bench/deviations.py", *words, "--use_cache", str(tmp_path))
    assert out.count(" of 1 |") == 1
    assert "| method | accuracy | worst group | against the method as it is here | better |" in out
