"""The parts of bench/gpu.py: every part gives its rows one by one, a failed one with its error."""

from __future__ import annotations

import gc
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from itertools import pairwise
from pathlib import Path
from statistics import median
from typing import Any

import distill
import evaluate as evaluation_bench
import numpy as np
import step
import torch
from cka import features
from cka import ours as streaming
from flops import TRAINING, forward, peak
from gpu_cases import Bench, Case, Row, fit, set_tf32
from gpu_profile import profile
from workload import LONG, Lengths, Size, text

from harness_plugin.analysis.loaded_models import LoadedModel
from harness_plugin.training.inputs.encode import Encoded, EncodedRows
from harness_plugin.training.loss import DistillationLoss
from harness_plugin_hooks.analyses.cka.compute import compare_models
from harness_plugin_hooks.analyses.cka.options import CKAOptions
from harness_plugin_hooks.methods.erm import ERM

ROOT = Path(__file__).resolve().parents[1]
FULL = Lengths(128, 128, 128.0, 0.0)
BERT_BASE, DISTILBERT = Size(12, 768, 30522), Size(6, 768, 30522)


def attempt(columns: Mapping[str, Any], measure: Callable[[], Mapping[str, Any]]) -> Row:
    """A row; where `measure` fails, with its error instead of numbers."""
    try:
        return {**columns, **measure()}
    except Exception as error:  # one measurement never stops the others
        return {**columns, "error": f"{type(error).__name__}: {' '.join(str(error).split())[:300]}"}
    finally:
        gc.collect()  # what is left would count in the next one's peak of memory
        if torch.cuda.is_available():
            torch.cuda.empty_cache()


def interleaved(variants: Mapping[str, Callable[[], float]], rounds: int) -> Iterator[Row]:
    """Medians of `rounds` interleaved rounds, after one that is not counted."""
    seconds: dict[str, list[float]] = {name: [] for name in variants}
    errors: dict[str, str] = {}
    for number in range(rounds + 1):
        for name, variant in variants.items():
            if name in errors:
                continue
            row = attempt({}, lambda variant=variant: {"seconds": variant()})
            if "error" in row:
                errors[name] = row["error"]
            elif number:
                seconds[name].append(row["seconds"])
    for name, times in seconds.items():
        if name in errors:
            yield {"variant": name, "error": errors[name]}
        else:
            yield {
                "variant": name,
                "ms": 1e3 * median(times),
                "range": f"{1e3 * min(times):.1f}-{1e3 * max(times):.1f}",
            }


def first_rows(rows: tuple[Encoded, torch.Tensor], count: int) -> tuple[Encoded, torch.Tensor]:
    """The first of them."""
    encoded, label = rows
    return EncodedRows(encoded, np.arange(count)), label[:count]


def rates(bench: Bench, case: Case, config: Any, batch: int, precision: str, seconds: float) -> Row:
    """Rates of an update that takes so many `seconds`."""
    flops = TRAINING * batch * forward(config, case.size)
    most = peak(bench.card, precision)
    out: Row = {"ms an update": 1e3 * seconds, "rows/s": batch / seconds}
    if case.preset.modality == "text":
        out["tokens/s"] = batch * case.size / seconds
    out["TFLOP/s"] = flops / seconds / 1e12
    out["% of peak (MFU)"] = None if most is None else 100 * flops / seconds / most
    if bench.device == "cuda":
        out["peak GiB"] = torch.cuda.max_memory_allocated() / 2**30
    return out


def measured(
    bench: Bench,
    case: Case,
    batch: int,
    precision: str,
    change: Callable[[Any], None] | None = None,
) -> Row:
    """Seconds of an update, after some that warm up."""
    warm, counted = (1, 2) if bench.tiny else (5, 10 if precision == "fp32" else 20)
    rows = case.rows(counted * batch)
    model = case.model(bench.device)
    if change is not None:
        change(model)
    fit(bench, model, first_rows(rows, warm * batch), batch, precision)
    if bench.device == "cuda":
        torch.cuda.reset_peak_memory_stats()
    record = fit(bench, model, rows, batch, precision)
    seconds = record["training_seconds"] / record["updates"]
    return rates(bench, case, model.config, batch, precision, seconds)


def ceilings(bench: Bench) -> Iterator[Row]:
    """Peaks of the card on large matrix products and copies, beside its data sheet's."""
    n, repeats = (256, 2) if bench.tiny else (8192, 10)

    def products(precision: str) -> Row:
        set_tf32(precision == "tf32")
        kinds = {"bf16": torch.bfloat16, "fp16": torch.float16}
        dtype = kinds.get(precision, torch.float32)
        a, b = (torch.randn(n, n, device=bench.device, dtype=dtype) for _ in range(2))
        rate = 2 * n**3 / 1e12 / seconds_of(bench, lambda: a @ b, repeats)
        return {"TFLOP/s": rate}

    for precision in ("bf16", "fp16", "tf32", "fp32"):
        columns = {"what": f"product of {n} x {n}, {precision}"}
        yield attempt(columns, lambda precision=precision: products(precision))
    if bench.device != "cuda":
        return
    big = torch.empty(2**31, dtype=torch.uint8, device="cuda")
    gigabytes = 2 * big.numel() / 1e9
    seconds = seconds_of(bench, lambda: big[: 2**30].copy_(big[2**30 :]), repeats) * 2
    yield {"what": "copy on the device, read + written", "GB/s": gigabytes / seconds}
    for name, host in {
        "ordinary": torch.ones(2**25, dtype=torch.uint8),
        "page-locked": torch.ones(2**25, dtype=torch.uint8).pin_memory(),
    }.items():
        seconds = seconds_of(bench, lambda host=host: host.to("cuda", non_blocking=True), repeats)
        yield {"what": f"32 MiB from {name} memory", "GB/s": host.numel() / 1e9 / seconds}


def seconds_of(bench: Bench, work: Callable[[], object], repeats: int) -> float:
    """Seconds of one call, among several, after two that warm up."""
    for _ in range(2):
        work()
    bench.wait()
    start = time.perf_counter()
    for _ in range(repeats):
        work()
    bench.wait()
    return (time.perf_counter() - start) / repeats


def training(bench: Bench) -> Iterator[Row]:
    """Step times of the models."""
    for case in bench.cases:
        for batch, precision in case.settings():
            yield attempt(
                {"model": case.name, "batch": batch, "precision": precision},
                lambda case=case, batch=batch, precision=precision: measured(
                    bench, case, batch, precision
                ),
            )


def memory(bench: Bench) -> Iterator[Row]:
    """Gradient checkpointing: what it saves and costs."""
    case = bench.cases[0]
    for batch in case.batches[-2:]:
        for word in ("kept", "computed again"):
            change = None if word == "kept" else enable_checkpointing
            yield attempt(
                {"model": case.name, "batch": batch, "activations": word},
                lambda batch=batch, change=change: measured(bench, case, batch, "bf16", change),
            )


def enable_checkpointing(model: Any) -> None:
    """Compute activations again in the backward pass."""
    enable = getattr(model, "activation_checkpointing_enable", None)  # its name from v6 on
    (enable or model.gradient_checkpointing_enable)()


class Stamped(ERM):
    """ERM that notes when the device reaches each loss."""

    def __init__(self, metadata: Any, stamps: list[Any]) -> None:
        super().__init__(metadata)
        self.stamps = stamps

    def loss(self, logits: torch.Tensor, batch: Any) -> torch.Tensor:
        """() ERM's loss."""
        if logits.is_cuda:
            event = torch.cuda.Event(enable_timing=True)
            event.record()
            self.stamps.append(event)
        else:
            self.stamps.append(time.perf_counter())
        return super().loss(logits, batch)


def compiled(bench: Bench) -> Iterator[Row]:
    """torch.compile: the first update, and an update once compiled, by the device's own clock."""
    case = bench.cases[0]
    batch = case.batches[-2:][0]
    for word in ("eager", "compiled"):

        def run(word: str = word) -> Row:
            stamps: list[Any] = []
            rows = case.rows(batch * (4 if bench.tiny else 30))
            model = case.model(bench.device)
            start = time.perf_counter()
            fit(
                bench,
                model,
                rows,
                batch,
                "bf16",
                lambda metadata: DistillationLoss(Stamped(metadata, stamps)),
                compiled=word == "compiled" and not bench.tiny,
            )
            whole = time.perf_counter() - start
            gaps = [
                1e-3 * a.elapsed_time(b) if bench.device == "cuda" else b - a
                for a, b in pairwise(stamps)
            ]
            seconds = median(gaps[len(gaps) // 2 :])
            start_up = whole - seconds * len(stamps)
            return {
                **rates(bench, case, model.config, batch, "bf16", seconds),
                "seconds before that": start_up,
            }

        yield attempt({"model": case.name, "batch": batch, "form": word}, run)


def trainer(bench: Bench) -> Iterator[Row]:
    """transformers' Trainer beside ours: same model, rows, examples an update."""
    (size,) = bench.sizes(BERT_BASE)
    settings = ((LONG, 32, 40), (FULL, 128, 20))
    for lengths, batch, updates in settings:
        batch, updates = (4, 2) if bench.tiny else (batch, updates)
        kinds = step.variants(bench.args(batch), size, lengths, batch * updates)
        chosen = {name: kinds[name] for name in (step.OURS, step.FLOOR, step.TRAINER_BF16)}
        if lengths is LONG:
            chosen[step.GROUPED] = kinds[step.GROUPED]
        for row in interleaved(chosen, 1 if bench.tiny else 2):
            span = f"{lengths.least}-{lengths.most} tokens"
            yield {"model": f"BERT {size}", "lengths": span, "batch": batch, **row}


def distillation(bench: Bench) -> Iterator[Row]:
    """A student's epoch alone, from stored logits, with its teacher in the loop."""
    student, teacher = bench.sizes(DISTILBERT, BERT_BASE)
    batch, updates = (4, 2) if bench.tiny else (64, 30)
    encoded, label = text(batch * updates, LONG, 0)
    args = bench.args(batch)
    costs = {teacher: teacher.flops(36) / student.flops(36)}
    kinds = distill.variants(args, student, costs, encoded, label, updates)
    for row in interleaved(kinds, 1 if bench.tiny else 2):
        yield {"student": str(student), "teacher": str(teacher), "rows": batch * updates, **row}


def evaluation(bench: Bench) -> Iterator[Row]:
    """A prediction pass."""
    (size,) = bench.sizes(BERT_BASE)
    count = 16 if bench.tiny else 8192
    encoded, _ = text(count, LONG, 0)
    models = [evaluation_bench.bert(size, "sdpa", 0)]
    args = bench.args(256)
    kinds = {
        evaluation_bench.OURS: lambda: evaluation_bench.ours(args, "bf16", models, encoded),
        evaluation_bench.OURS_FP32: lambda: evaluation_bench.ours(args, "no", models, encoded),
        "plain loop, fp32, batches of 256": lambda: evaluation_bench.plain(
            args, 256, models, encoded
        ),
    }
    for row in interleaved(kinds, 1 if bench.tiny else 2):
        rate = {"rows/s": 1e3 * count / row["ms"]} if "ms" in row else {}
        yield {"model": f"BERT {size}", "rows": count, **row, **rate}


def similarity(bench: Bench) -> Iterator[Row]:
    """CKA of all layers of two models on the device and on the CPU's cores."""
    (size,) = bench.sizes(BERT_BASE)
    count = 64 if bench.tiny else 512
    encoded, _ = text(count, LONG, 0)
    values: dict[str, np.ndarray] = {}

    def pair(device: str, tf32: bool) -> Row:
        set_tf32(tf32)
        models = [evaluation_bench.bert(size, "sdpa", seed).eval().to(device) for seed in (0, 1)]
        subjects = [
            LoadedModel(role, 0, Path(), model)
            for role, model in zip(("teacher", "student"), models, strict=True)
        ]
        rows = {"all": np.random.default_rng(0).permutation(count)}
        options = CKAOptions(views=("plain",), permutations=20, resamples=100)
        seconds = []
        for _ in range(2 if device == "cuda" else 1):
            start = time.perf_counter()
            comparison = compare_models(
                subjects, [encoded] * 2, rows, options, device=torch.device(device)
            )
            seconds.append(time.perf_counter() - start)
        name = "tf32" if tf32 else device
        values[name] = comparison.pairs[0].value
        error = np.abs(values[name] - values["cpu"]).max()
        return {"seconds": seconds[-1], "largest difference from the CPU": f"{error:.1e}"}

    runs = [("cpu", False)] + ([("cuda", False), ("cuda", True)] if bench.device == "cuda" else [])
    for device, tf32 in runs:
        columns = {"what": f"two BERT {size}, {count} rows, forward passes included"}
        on = f"{device}, tf32" if tf32 else device
        yield attempt({**columns, "on": on}, lambda d=device, t=tf32: pair(d, t))
    set_tf32(False)
    a, b, rows, width, batch = (4, 2, 128, 16, 64) if bench.tiny else (24, 12, 2000, 768, 250)
    expected = None
    for device in ("cpu", bench.device):
        for dtype in (torch.float64, torch.float32):
            sides = [[x.to(device) for x in features(n, rows, width, n)] for n in (a, b)]

            def layers(dtype: torch.dtype = dtype, sides: Any = sides) -> Row:
                nonlocal expected
                streaming(*sides, batch, dtype)
                start = time.perf_counter()
                similarity = streaming(*sides, batch, dtype)
                taken = time.perf_counter() - start
                expected = similarity if expected is None else expected
                error = np.abs(similarity - expected).max()
                return {"seconds": taken, "largest difference from the CPU": f"{error:.1e}"}

            title = f"{a} x {b} stored layers of width {width}, {rows} rows"
            yield attempt({"what": title, "on": f"{device}, {dtype}".replace("torch.", "")}, layers)


def run_harness(bench: Bench) -> Iterator[Row]:
    """`harness --tasks hans`, embedded data, one seed, all roles: on the device, on the cores."""
    for device in dict.fromkeys((bench.device, "cpu")):

        def run(device: str = device) -> Row:
            with tempfile.TemporaryDirectory() as folder:
                command = [sys.executable, "-m", "harness_plugin", "--tasks", "hans"]
                command += ["--seeds", "0", "--device", device, "--output_path", f"{folder}/out"]
                command += ["--use_cache", f"{folder}/store", "--resamples", "200"]
                if bench.tiny:
                    command += ["--limit", "200", "--threads", "1"]
                start = time.perf_counter()
                done = subprocess.run(command, capture_output=True, text=True, timeout=110)
                taken = time.perf_counter() - start
                if done.returncode:
                    raise RuntimeError(done.stderr[-300:])
                (file,) = Path(folder, "out").rglob("transfer_hans_*.json")
                record = json.loads(file.read_text(encoding="utf-8"))
            trained = record["models"]
            choice = record["environment"]["choices"]["text"]
            return {
                "seconds": taken,
                "of which training": sum(model["seconds"] for model in trained),
                "updates": sum(model["updates"] for model in trained),
                "precision": choice["precision"],
                "threads": choice["threads"],
            }

        yield attempt({"what": "hans, embedded, one seed", "on": device}, run)


def gpu_tests(bench: Bench) -> Iterator[Row]:
    """The tests marked `gpu`."""
    log = bench.output / "gpu_tests.log"
    command = [sys.executable, "-m", "pytest", "-m", "gpu", "-q", "-p", "no:cacheprovider"]
    command += ["--durations=15", "-W", "default", "tests/training/test_gpu.py"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=170)
    log.write_text(done.stdout + done.stderr, encoding="utf-8")
    lines = [line for line in done.stdout.splitlines() if line.strip()]
    for line in lines:
        if line.startswith(("FAILED", "ERROR", "SKIPPED")):
            yield {"result": line[:300]}
    yield {"result": lines[-1] if lines else done.stderr[-300:], "exit status": done.returncode}


PARTS: dict[str, tuple[str, Callable[[Bench], Iterator[Row]], float]] = {
    "ceilings": ("What the card reaches", ceilings, 30),
    "training": ("Training updates through the product's loop", training, 150),
    "tests": ("The tests marked gpu", gpu_tests, 180),
    "profile": ("Profile of an update", profile, 60),
    "trainer": ("transformers' Trainer beside ours", trainer, 120),
    "distillation": ("Distillation: stored logits or the teacher in the loop", distillation, 70),
    "similarity": ("CKA", similarity, 90),
    "evaluation": ("A prediction pass", evaluation, 45),
    "memory": ("Gradient checkpointing", memory, 45),
    "harness": ("harness --tasks hans", run_harness, 230),
    "compiled": ("torch.compile", compiled, 110),
}
"""Name -> title, what gives the rows, most seconds; in the order of their worth."""
