"""Every benchmark runs in its quick mode and prints its tables; nothing here is timed."""

import importlib
import json
import subprocess
import sys
from pathlib import Path

import pytest

BENCH = Path(__file__).resolve().parents[1] / "bench"
ROWS = {
    "bootstrap": ["harness-plugin", "harness-plugin, row by row", "plain loop"],
    "cka": ["harness-plugin, float32 Grams", "harness-plugin, float64 Grams"],
    "step": ["harness-plugin", "bare torch loop", "Trainer fp32", "Trainer bf16"],
    "startup": ["python -c pass", "harness --help", "harness ls tasks"],
    "distill": ["student, no teacher", "from the store", "in the loop", "the one pass"],
    "evaluate": ["harness-plugin, bf16", "harness-plugin, fp32", "plain loop, batches of 32"],
    "method_cost": ["erm", "jtt", "dfr_train"],
    "prepare": ["first", "again, token ids from the store"],
    "study": ["local, in process", "local, 2 workers", "25,000 cells"],
    "threads": ["our choice", "1 thread, as launched", "the choice made before"],
}


HELPERS = {"batches", "mutants", "common", "workload", "methods", "flops"}
"""What the scripts share. Those of a GPU have their own tests (test_bench_gpu.py)."""


def run(*words: str) -> str:
    """What a benchmark prints."""
    done = subprocess.run(
        [sys.executable, *words], capture_output=True, text=True, timeout=300, cwd=BENCH.parent
    )
    assert done.returncode == 0, done.stderr[-2000:]
    return done.stdout


def test_every_benchmark_is_listed_here_and_explained():
    scripts = {
        path.stem for path in BENCH.glob("*.py") if not path.stem.startswith("gpu")
    } - HELPERS
    scripts -= {"batches", "mutants"}  # they time nothing
    assert scripts == set(ROWS) | {"coverage"}  # which simulates, and measures no time
    readme = (BENCH / "README.md").read_text(encoding="utf-8")
    assert all(f"bench/{name}.py" in readme for name in scripts)


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(ROWS))
def test_quick_mode_prints_the_tables_and_writes_every_time(name, tmp_path, request):
    file = tmp_path / "times.json"
    more = ["--data", str(request.getfixturevalue("real_data"))] if name == "prepare" else []
    out = run(f"bench/{name}.py", "--quick", "--output", str(file), *more)
    assert "Quick mode" in out
    for row in ROWS[name]:
        assert f"\n| {row}" in out
    record = json.loads(file.read_text(encoding="utf-8"))
    assert record["environment"]["versions"]["torch"]
    for table in record["tables"]:
        assert table["base"] in table["seconds"]
        assert all(time > 0 for times in table["seconds"].values() for time in times)


def test_help_says_what_a_benchmark_measures():
    out = run("bench/startup.py", "--help")
    assert "harness --help" in out
    assert "--output" in out


def test_batches_are_counted():
    out = run("bench/batches.py", "--quick")
    ours = next(line for line in out.splitlines() if line.startswith("| harness-plugin, drawn by"))
    assert ours.split("|")[2].strip() == "0.000"  # no batch lacks a group
    assert "| draws sorted by length |" in out


@pytest.fixture
def common(monkeypatch):
    """The module the benchmarks share."""
    monkeypatch.syspath_prepend(str(BENCH))
    module = importlib.import_module("common")
    yield module
    sys.modules.pop("common")


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
