"""Effect of every debiasing method on the embedded tasks: the table in docs/methods_measured.md.

Trains the small model of a task (the `control` of a run: no teacher) with every method, bias model
and group inference, and as a student of a group-DRO teacher in a few ways, and compares its
worst-group accuracy out of distribution with ERM's, paired by seed. Nothing is chosen by what is
seen here: the settings are the recipes' and the methods' defaults. Every training has one thread,
so that the table is the same for any number of workers; finished trainings are reused, so that an
interrupted table continues.
"""

from __future__ import annotations

import os

# before torch is imported, here or in a worker
os.environ["OMP_NUM_THREADS"] = "1"
os.environ["MKL_NUM_THREADS"] = "1"

import argparse
import json
import shlex
import subprocess
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from functools import cache
from multiprocessing import get_context
from pathlib import Path
from typing import Any

from measured_page import Row, between, merged, page_lines, write

ROOT = Path(__file__).resolve().parents[1]
START = "<!-- table: python bench/methods.py -->"
ONLY = "rows of these methods, and the reference's; --write keeps a page's other rows"
METRICS = ("acc", "worst_group_acc")
PRECISION = {"precision": "no", "attention": "sdpa", "device": "cpu", "threads": 1}


@dataclass(frozen=True)
class Variant:
    """A method, what stands in for group labels or bias features, and further settings."""

    method: str
    bias_model: str = ""
    group_inference: str = ""
    sets: tuple[str, ...] = ()
    student: str = ""
    """How it learns from a teacher that the method trains: a name of STUDENTS; "" without one."""

    def __str__(self) -> str:
        names = (self.method, self.student, self.bias_model, self.group_inference, *self.sets)
        return " + ".join(f"`{name}`" for name in names if name)

    def settings(self) -> list[str]:
        """As `--set` assignments."""
        names = {"bias_model": self.bias_model, "group_inference": self.group_inference}
        named = [f"{key}={name}" for key, name in names.items() if name]
        if self.student:
            named += [f"students.student={STUDENTS[self.student]}", "references=true"]
        return [f"method={self.method}", *named, *self.sets]


PURE = "method: erm, ce_weight: 0, kd_weight: 1"
STUDENTS = {
    "pure_kd": f"{{{PURE}}}",
    "disagree": f"{{{PURE}, distiller: disagree}}",
    "subspace": f"{{{PURE}, distiller: subspace}}",
    "subspace_layers": f"{{{PURE}, distiller: subspace_layers}}",
    "subspace_layers_pca": (
        f"{{{PURE}, distiller: subspace_layers, distiller_options: {{basis: pca}}}}"
    ),
    "extrapolated": f"{{{PURE}, combine: extrapolate, temperature: 10}}",
}
SELECTED = ("select=worst_environment",)
ERM = Variant("erm")


@dataclass(frozen=True)
class Comparison:
    """A row of a table: a variant beside its reference on one task."""

    task: str
    variant: Variant
    reference: Variant = ERM


@dataclass(frozen=True)
class Setup:
    """Settings of all trainings; sent to every worker. `offers` adds methods: (name, target)."""

    seeds: tuple[int, ...]
    sets: tuple[str, ...]
    store: str
    offers: tuple[tuple[str, str], ...] = ()


def variants() -> Iterator[Variant]:
    """ERM, every other method, then bias models and group inference with one method each."""
    from harness_plugin.plugins.registry import load_plugins

    plugins = load_plugins()
    yield ERM
    yield from (Variant(o.name) for o in plugins["method"] if o.name != "erm")
    for offer in plugins["bias_model"]:
        if offer.name != "features":
            yield Variant("poe", bias_model=offer.name)
    for offer in plugins["group_inference"]:
        yield Variant("group_dro", group_inference=offer.name)
    yield from (Variant(method, sets=SELECTED) for method in ("erm", "jtt"))
    yield from (Variant("group_dro", student=name) for name in STUDENTS)


class Worker:
    """Trains and compares in one process; a task's data are opened once for each variant."""

    def __init__(self, setup: Setup) -> None:
        from harness_plugin.machine.progress import quiet_libraries
        from harness_plugin.plugins.registry import Offer, load_plugins

        quiet_libraries()
        self.setup, self.plugins = setup, load_plugins()
        for name, target in setup.offers:
            self.plugins["method"].add(Offer("method", name, target, name, "bench"))

    def context(self, task: str, variant: Variant) -> Any:
        """Opened as a run of the control alone would be; HarnessError where it does not fit."""
        from harness_plugin.config.merge import run_config
        from harness_plugin.pipeline.prepare.open_task import load_tasks
        from harness_plugin.pipeline.run_task import context_of

        sets = ["references=false", *variant.settings(), *self.setup.sets]
        config = run_config(None, {"tasks": (task,), **PRECISION}, sets)
        (opened,) = load_tasks(config, self.plugins)
        only = "student" if variant.student else None
        return context_of(opened, config, self.plugins, Path(self.setup.store), only=only)

    def train(self, task: str, variant: Variant, seed: int) -> str:
        """One training and its answers, as stages of the store; why there are none."""
        return self.attempt(lambda: self.predictions(task, variant, (seed,)))[1]

    def predictions(self, task: str, variant: Variant, seeds: Sequence[int]) -> list[Any]:
        """Predictions of the trained models on the last evaluation set, a record a seed.

        A student's teachers are trained before it.
        """
        from harness_plugin.pipeline.roles.split_stages import predict_split
        from harness_plugin.pipeline.roles.train_role import train_role

        ctx = self.context(task, variant)
        names = list(ctx.plan.roles) if variant.student else ["control"]
        made = []
        for seed in seeds:
            models: dict[str, Any] = {}
            for name in names:
                models[name] = train_role(ctx, ctx.plan.roles[name], seed, models)
            made.append(predict_split(ctx, models[names[-1]], ctx.data.evaluation[-1]))
        return made

    def row(self, comparison: Comparison) -> Row:
        """One line of a table."""
        made, failure, crashed = self.attempt(lambda: self.compare(comparison))
        return made or Row(str(comparison.variant), failure=failure, crashed=crashed)

    def compare(self, comparison: Comparison) -> Row:
        """Both variants of every seed by the product's intervals (docs/verdicts.md)."""
        from harness_plugin.scoring.bootstrap import Bootstrap
        from harness_plugin.scoring.measure import measure
        from harness_plugin.scoring.metrics import Metric
        from harness_plugin.scoring.statistics.intervals import estimate

        task, seeds = comparison.task, self.setup.seeds
        pair = {"variant": tuple(self.predictions(task, comparison.variant, seeds))}
        if comparison.variant != comparison.reference:
            pair["reference"] = tuple(self.predictions(task, comparison.reference, seeds))
        metrics = {name: self.plugins["metric"].offer(name).instance(Metric) for name in METRICS}
        quantities = measure(pair, metrics, Bootstrap(task, 1000))[""]
        row = Row(str(comparison.variant), seeds=len(seeds))
        row.acc, row.worst = (
            percent(estimate(q.values["variant"], q.support, q.metric.bounds))
            for q in (quantities[name] for name in METRICS)
        )
        if "reference" in pair:
            worst = quantities["worst_group_acc"]
            difference = worst.values["variant"] - worst.values["reference"]
            row.difference = percent(estimate(difference, worst.support, difference=True))
            row.better = int((difference[:, 0] > 0).sum())
        return row

    def attempt(self, work: Callable[[], Any]) -> tuple[Any, str, bool]:
        """The result of `work`, its error in words, and whether that is a fault of ours."""
        from harness_plugin.errors import HarnessError

        try:
            return work(), "", False
        except HarnessError as error:
            return None, f"refused: {str(error).partition(': ')[2]}", False
        except Exception as error:  # the other rows go on; the command fails in the end
            return None, f"FAILED: {type(error).__name__}: {' '.join(str(error).split())}", True


def percent(estimate: Any) -> list[float | None]:
    """[value, low, high] of an estimate, in %."""
    numbers = (estimate.value, estimate.low, estimate.high)
    return [None if x != x else round(100 * x, 3) for x in numbers]


@cache
def worker(setup: Setup) -> Worker:
    """The one of this process."""
    return Worker(setup)


def train(job: tuple[Setup, str, Variant, int]) -> str:
    """In a worker: one training."""
    setup, *what = job
    return worker(setup).train(*what)


def compare(job: tuple[Setup, Comparison]) -> Row:
    """In a worker: one row."""
    return worker(job[0]).row(job[1])


@contextmanager
def mapped(workers: int) -> Iterator[Callable[..., Iterable[Any]]]:
    """`map` over so many processes; a single one is this one, which has imported everything."""
    if workers == 1:
        yield map
        return
    with ProcessPoolExecutor(workers, mp_context=get_context("spawn")) as pool:
        yield pool.map


def measure_all(setup: Setup, rows: Sequence[Comparison], workers: int) -> list[Row]:
    """Train what the rows need, then compare; the order of trainings changes no number.

    References come first, because others continue from their stages.
    """
    needed = [(row.task, row.reference) for row in rows] + [(row.task, row.variant) for row in rows]
    jobs = [
        (setup, task, variant, seed)
        for task, variant in dict.fromkeys(needed)
        for seed in setup.seeds
    ]
    with mapped(workers) as apply:
        for (_, task, variant, seed), failure in zip(jobs, apply(train, jobs), strict=True):
            print(f"{task} {variant} seed {seed} {failure}", file=sys.stderr, flush=True)
        return list(apply(compare, [(setup, row) for row in rows]))


def described(setup: Setup, task: str) -> dict[str, str]:
    """The evaluation set and the model of a task."""
    ctx = worker(setup).context(task, ERM)
    return {"set": ctx.data.evaluation[-1].name, "model": ctx.settings.student.model}


def commit() -> str:
    """Of the measured code, "dirty" where files differ; BENCH_COMMIT without a repository."""
    if stated := os.environ.get("BENCH_COMMIT"):
        return stated
    words = ["git", "-C", str(ROOT), "describe", "--always", "--dirty", "--exclude=*"]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    return done.stdout.strip() or "unknown"


def parser(description: str) -> argparse.ArgumentParser:
    """The options of the tables of methods."""
    out = argparse.ArgumentParser(description=description)
    out.add_argument("--tasks", nargs="+", default=["hans", "celeba_bias"])
    out.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2, 3, 4])
    out.add_argument("--only", nargs="+", default=[], metavar="METHOD", help=ONLY)
    out.add_argument("--set", action="append", default=[], metavar="KEY=VALUE")
    out.add_argument("--workers", type=int, default=1, metavar="N", help="processes (default 1)")
    out.add_argument("--use_cache", metavar="DIR", help="the store (default: that of runs)")
    out.add_argument("--output", type=Path, metavar="FILE.json", help="also write the numbers")
    out.add_argument("--write", type=Path, metavar="PAGE", help="replace the table of a page")
    out.add_argument(
        "--read", type=Path, metavar="FILE.json", help="measure nothing: numbers of --output"
    )
    return out


def tables_of(
    args: argparse.Namespace,
    rows_of: Callable[[str], list[Comparison]],
    offers: tuple[tuple[str, str], ...],
) -> list[dict[str, Any]]:
    """A table a task, measured now."""
    from harness_plugin.store.stages import default_root

    store = str(Path(args.use_cache or default_root()).absolute())
    setup = Setup(tuple(args.seeds), tuple(args.set), store, offers)
    comparisons = {task: chosen(rows_of(task), args.only) for task in args.tasks}
    tables = [{"task": task, **described(setup, task)} for task in comparisons]
    every = [row for rows in comparisons.values() for row in rows]
    measured = iter(measure_all(setup, every, args.workers))
    for made, rows in zip(tables, comparisons.values(), strict=True):
        made["rows"] = [asdict(next(measured)) for _ in rows]
    return tables


def chosen(rows: Sequence[Comparison], only: Sequence[str]) -> list[Comparison]:
    """The rows of some methods or ways to learn, and the reference's own row; all without names."""

    def named(row: Comparison) -> bool:
        variant = row.variant
        return variant == row.reference or bool({variant.method, variant.student} & set(only))

    return [row for row in rows if not only or named(row)]


def finish(
    args: argparse.Namespace,
    start: str,
    rows_of: Callable[[str], list[Comparison]],
    against: str,
    offers: tuple[tuple[str, str], ...] = (),
) -> int:
    """Measure or read, print, write; status 1 where something crashed."""
    if args.read:
        measured = json.loads(args.read.read_text(encoding="utf-8"))
    else:
        left_out = {"--workers", "--write", "--output", "--use_cache"}
        measured = {
            "command": shlex.join(["python", f"bench/{Path(sys.argv[0]).name}", *kept(left_out)]),
            "commit": commit(),
            "seeds": args.seeds,
            "against": against,
            "tables": tables_of(args, rows_of, offers),
        }
    lines = page_lines(measured)
    print("\n".join(lines))
    if args.write and args.only:
        names = {task: [str(row.variant) for row in rows_of(task)] for task in args.tasks}
        lines = merged(between(args.write, start), measured, names)
    if args.output:
        args.output.write_text(json.dumps(measured, indent=1) + "\n", encoding="utf-8")
    if args.write:
        write(args.write, start, lines)
    return int(any(Row(**row).crashed for each in measured["tables"] for row in each["rows"]))


def kept(left_out: set[str]) -> list[str]:
    """The words of the command line that change a number."""
    words, out = iter(sys.argv[1:]), []
    for word in words:
        if word.partition("=")[0] in left_out:
            if "=" not in word:
                next(words, None)
        else:
            out.append(word)
    return out


def main() -> int:
    """Print the tables; write them where that is asked."""
    args = parser(__doc__.splitlines()[0]).parse_args()

    def rows_of(task: str) -> list[Comparison]:
        return [Comparison(task, variant) for variant in variants()]

    return finish(args, START, rows_of, "ERM")


if __name__ == "__main__":
    sys.exit(main())
