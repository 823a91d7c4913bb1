"""bench/gpu.sh runs in tiny sizes; its FLOPs are those that torch counts; a failure stays alone."""

import importlib
import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

BENCH = Path(__file__).resolve().parents[1] / "bench"
MODULES = (
    "flops",
    "gpu_cases",
    "gpu_profile",
    "gpu_parts",
    "gpu",
    "step",
    "distill",
    "evaluate",
    "cka",
    "workload",
    "common",
)


@pytest.fixture
def bench(monkeypatch):
    """The modules of bench/ by name; those of the same name elsewhere are not disturbed."""
    monkeypatch.syspath_prepend(str(BENCH))
    before = {name: sys.modules.pop(name) for name in MODULES if name in sys.modules}
    yield importlib.import_module
    for name in MODULES:
        sys.modules.pop(name, None)
    sys.modules.update(before)


def test_forward_flops_are_those_that_torch_counts(bench):
    from torch.utils.flop_counter import FlopCounterMode

    cases, flops = bench("gpu_cases"), bench("flops")
    small = cases.resnet.resnet("bottleneck", [2, 3, 1], [32, 64, 128], 16, None)
    basic = cases.resnet.resnet("basic", [2, 3, 1], [8, 16, 32], 8, None)
    more = (cases.Case("ResNet", preset, 33, (2,)) for preset in (small, basic))
    for case in (*cases.TINY_CASES, *more):
        model = case.model("cpu").eval()
        model.set_attn_implementation("eager")
        encoded, _ = case.rows(3)
        inputs = encoded.batch(torch.arange(3).numpy())
        with FlopCounterMode(display=False) as counter, torch.no_grad():
            model(**inputs)
        expected = counter.get_total_flops()
        assert flops.forward(model.config, case.size) * 3 == expected, case.name


def test_published_sizes(bench):
    """He et al. 2016, table 1: 3.8e9 multiply-adds, 4.1e9 with the stride in the 3 x 3 layer."""
    cases, flops = bench("gpu_cases"), bench("flops")
    by_name = {case.name.split(",")[0]: case for case in cases.CASES}

    def giga(name):
        case = by_name[name]
        with torch.device("meta"):
            config = case.model("meta").config
        return flops.forward(config, case.size) / 2e9

    assert giga("ResNet-50") == pytest.approx(4.09, abs=0.01)
    assert giga("ViT-base") == pytest.approx(17.5, abs=0.1)  # Touvron et al. 2021, table 5: 17.6
    assert giga("BERT-base") == pytest.approx(11.2, abs=0.1)


def test_the_peak_is_that_of_the_card_and_precision(bench):
    flops = bench("flops")
    assert flops.peak("NVIDIA H100 80GB HBM3", "bf16") == pytest.approx(989.4e12)
    assert flops.peak("NVIDIA H100 80GB HBM3", "fp16") == pytest.approx(989.4e12)
    assert flops.peak("NVIDIA H100 PCIe", "tf32") == pytest.approx(378e12)
    assert flops.peak("NVIDIA A100-SXM4-40GB", "fp32") == pytest.approx(19.5e12)
    assert flops.peak("cpu", "bf16") is None


def test_a_variant_that_fails_leaves_the_others_their_turns(bench):
    parts = bench("gpu_parts")
    times = iter([9.0, 1.0, 3.0])
    rows = list(parts.interleaved({"broken": lambda: 1 / 0, "good": lambda: next(times)}, 2))
    assert rows[0] == {"variant": "broken", "error": "ZeroDivisionError: division by zero"}
    assert rows[1] == {"variant": "good", "ms": 2000.0, "range": "1000.0-3000.0"}


def test_a_part_that_fails_or_hangs_keeps_its_rows_and_ends(bench, tmp_path, monkeypatch):
    import multiprocessing

    gpu, parts, cases = bench("gpu"), bench("gpu_parts"), bench("gpu_cases")

    def failing(_):
        yield {"n": 1}
        raise RuntimeError("the card is on fire")

    def hanging(_):
        yield {"n": 2}
        time.sleep(60)

    def dying(_):
        yield {"n": 3}
        os._exit(3)

    for part in (failing, hanging, dying):
        monkeypatch.setitem(parts.PARTS, part.__name__, (part.__name__, part, 1.0))
    machine = cases.Bench("cpu", True, tmp_path)
    context = multiprocessing.get_context("fork")
    ended = {
        name: gpu.run_part(context, machine, name, 2.0) for name in ("failing", "hanging", "dying")
    }
    assert [part["rows"] for part in ended.values()] == [[{"n": 1}], [{"n": 2}], [{"n": 3}]]
    assert "the card is on fire" in ended["failing"]["error"]
    assert ended["hanging"]["error"] == "stopped after 2 seconds"
    assert ended["hanging"]["seconds"] < 20
    assert ended["dying"]["error"] == "the process died"


@pytest.mark.slow
def test_tiny_sizes_run_and_both_files_are_written(tmp_path):
    only = ["training", "evaluation", "similarity"]
    command = ["sh", "bench/gpu.sh", str(tmp_path), "--tiny", "--only", *only]
    environment = {**os.environ, "PYTHON": sys.executable}
    done = subprocess.run(
        command, capture_output=True, text=True, timeout=300, cwd=BENCH.parent, env=environment
    )
    assert done.returncode == 0, done.stderr[-2000:]
    record = json.loads((tmp_path / "gpu.json").read_text())
    assert record["environment"]["tiny"]
    assert list(record["parts"]) == only
    for part in record["parts"].values():
        assert part["error"] is None
        assert part["rows"]
        assert not [row for row in part["rows"] if "error" in row]
    training = record["parts"]["training"]["rows"]
    assert {row["model"] for row in training} == {
        "BERT-pico",
        "T5-pico encoder",
        "ViT-pico",
        "ResNet of two blocks",
    }
    assert all(row["rows/s"] > 0 and row["TFLOP/s"] > 0 for row in training)
    table = (tmp_path / "gpu.md").read_text()
    assert "| BERT-pico | 4 | bf16 |" in table
    assert "the times mean nothing" in table
