"""How time grows with rows, layers, groups and seeds: exponents, and a plot of all curves.

Each curve doubles one size and keeps the others. Its exponent is the slope of a line through the
logarithms of times and sizes; the last doubling tells what larger sizes will cost, since fixed
costs make the start of a curve flatter. Along rows, pairs and seeds neither is to be above 1.1.
`--only PART` measures a portion; `--plot FILE.svg` draws what was measured.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import redirect_stdout
from dataclasses import dataclass
from functools import partial
from io import StringIO
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
from common import Table, environment, interleave, parse, parser, report, timed
from workload import LABELS, SHORT, Size, accelerator_on, attention_for, bert, fit, prepare_device
from workload import text as random_text

from harness_plugin.cli.main import main as harness
from harness_plugin.plugins.registry import load_plugins
from harness_plugin.records import Predictions, RunReport, TaskScores, TrainedModel
from harness_plugin.scoring.score import score_task
from harness_plugin.training.inputs.encode import EncodedText
from harness_plugin.training.predict import predict
from harness_plugin_hooks.analyses.circuits.compute import explore
from harness_plugin_hooks.analyses.circuits.options import CircuitOptions
from harness_plugin_hooks.analyses.circuits.pairs import Pairs
from harness_plugin_hooks.analyses.cka.streaming import StreamingCKA
from harness_plugin_hooks.outputs import transfer

LINEAR = 1.1
"""The largest exponent of what is called linear."""
CLASSES = ("a", "b")
ROLES = ("teacher", "student", "control")


COLUMNS = 3
"""Panels of the plot side by side."""


@dataclass(frozen=True)
class Curve:
    """Seconds of one part along one size."""

    part: str
    along: str
    sizes: Sequence[int]
    seconds: Callable[[int], float]

    @property
    def title(self) -> str:
        """`training, rows`."""
        return f"{self.part}, {self.along}"


def main() -> None:
    options = parser(__doc__.splitlines()[0], rounds=3)
    options.add_argument("--only", nargs="+", default=[], metavar="PART", help="of the parts")
    options.add_argument("--plot", type=Path, metavar="FILE.svg", help="draw the curves")
    args = parse(options)
    prepare_device(args)
    facts, tables = environment(args.device), []
    with tempfile.TemporaryDirectory() as place:
        curves = [
            curve
            for curve in curves_of(args, Path(place))
            if not args.only or any(word in curve.part for word in args.only)
        ]
        if not curves:
            options.error(f"--only {' '.join(args.only)}: no such part")

        def run() -> None:
            for curve in curves:
                sizes = curve.sizes[:2] if args.quick else curve.sizes
                variants = {f"{n:,} {curve.along}": partial(curve.seconds, n) for n in sizes}
                seconds = interleave(variants, args.rounds)
                tables.append(Table(curve.title, "time", next(iter(seconds)), seconds))

        report(args, facts, tables, timed(run))
    results = {table.title: least(table) for table in tables}
    print(summary(results))
    if args.plot:
        draw(results, args.plot)


def curves_of(args: Any, place: Path) -> Iterator[Curve]:
    """Every curve; nothing is computed yet."""
    rows = (256, 512, 1024, 2048, 4096)
    layers = (1, 2, 4, 8)
    if args.quick:
        rows, layers = (32, 64), (1, 2)
    wide = 64 if args.quick else 256
    passes = partial(one_pass, args)
    yield Curve("teacher pass", "rows", rows, lambda n: passes([Size(2, wide)], n))
    yield Curve("teacher pass", "layers", layers, lambda n: passes([Size(n, wide)], rows[0]))
    three = [Size(2, wide), Size(2, 64), Size(2, 64)]
    yield Curve("evaluation", "rows", rows, lambda n: passes(three, n))
    yield Curve("training", "rows", rows[:4], lambda n: training(args, Size(2, 64), n))
    yield Curve("training", "layers", layers, lambda n: training(args, Size(n, 64), rows[0]))
    many = rows if args.quick else (8_000, 16_000, 32_000, 64_000, 128_000)
    # rows that all models answer alike are drawn together, which makes fewer models cheaper still
    seeds = (1, 2) if args.quick else (4, 8, 16, 32)
    scores = partial(scoring, args, place)
    yield Curve("scoring", "rows", many, lambda n: scores(n, 4, 3))
    yield Curve("scoring", "groups", (2, 4, 8, 16), lambda n: scores(many[0], n, 3))
    yield Curve("scoring", "seeds", seeds, lambda n: scores(many[0], 4, n))
    yield Curve("CKA", "rows", rows, lambda n: cka(args, n, 6))
    yield Curve("CKA", "layers", (3, 6, 12, 24), lambda n: cka(args, rows[-1], n))
    pairs = (8, 16) if args.quick else (32, 64, 128, 256)
    yield Curve("circuits", "pairs", pairs, lambda n: circuits(args, 2, n))
    yield Curve("circuits", "layers", layers[:3], lambda n: circuits(args, n, pairs[0]))
    yield Curve("report", "seeds", (1, 2, 4, 8), lambda n: page(args, place, 4, n))
    yield Curve("report", "groups", (2, 4, 8, 16), lambda n: page(args, place, n, 3))


def one_pass(args: Any, sizes: Sequence[Size], rows: int) -> float:
    """Logits of some models on so many rows."""
    encoded, _ = random_text(rows, SHORT, args.seed)
    models = [bert(size, attention_for(args.device), args.seed) for size in sizes]
    accelerator = accelerator_on(args.device, "no")
    return timed(lambda: [predict(accelerator, each, encoded, batch_size=64) for each in models])


def training(args: Any, size: Size, rows: int) -> float:
    """An epoch of the product's loop."""
    encoded, label = random_text(rows, SHORT, args.seed)
    model = bert(size, attention_for(args.device), args.seed)
    accelerator = accelerator_on(args.device, "no")
    return fit(accelerator, model, encoded, label, 32, args.seed) * -(-rows // 32)


def answers(role: str, seed: int, rows: int, groups: int) -> Predictions:
    """A model that is right on 80% of its rows."""
    rng = np.random.default_rng([ROLES.index(role), seed])
    group = np.arange(rows) % groups
    label = group % 2
    right = rng.random(rows) < 0.8
    logits = 4 * np.eye(2)[np.where(right, label, 1 - label)] + rng.normal(size=(rows, 2))
    return Predictions(
        task="growth",
        split="test",
        role=role,
        model=role,
        seed=seed,
        ids=np.array([f"{row:07d}" for row in range(rows)]),
        logits=logits.astype(np.float32),
        model_labels=CLASSES,
        label=label,
        labels=CLASSES,
        group=group,
        groups=tuple(f"g{each}" for each in range(groups)),
        aligned=(group < groups // 2).astype(np.int64),
    )


def scored(args: Any, place: Path, rows: int, groups: int, seeds: int) -> tuple[TaskScores, float]:
    """The scores of three models a seed, and the seconds they took."""
    models = [(role, seed) for role in ROLES for seed in range(seeds)]
    predictions = [answers(*model, rows, groups) for model in models]
    trained = tuple(
        TrainedModel("growth", role, seed, role, place, "start", "erm", {"model": "bench"})
        for role, seed in models
    )
    metrics = {offer.name: offer.load() for offer in load_plugins()["metric"]}
    start = time.perf_counter()
    scores = score_task(
        predictions,
        task="growth",
        source="embedded",
        fingerprint="f" * 64,
        train_groups=predictions[0].groups,
        train_group_counts=[100] * groups,
        purposes={"test": "ood"},
        metrics=metrics,
        models=trained,
        resamples=100 if args.quick else 1000,
    )
    return scores, time.perf_counter() - start


def scoring(args: Any, place: Path, rows: int, groups: int, seeds: int) -> float:
    """Metrics, intervals and verdicts of three models."""
    return scored(args, place, rows, groups, seeds)[1]


def page(args: Any, place: Path, groups: int, seeds: int) -> float:
    """`harness report` of a run of three models a seed, without examples."""
    folder = place / f"run-{groups}-{seeds}"
    if not folder.is_dir():
        folder.mkdir()
        scores, _ = scored(args, place, 480, groups, seeds)
        config = {"resamples": 100, "data_seed": 0, "output_path": str(folder), "data": "embedded"}
        choices = {"text": {"device": "cpu"}}
        environment = {"choices": choices, "versions": {"transformers": "5"}}
        transfer.write(RunReport(config, environment, (scores,), 0.0, 1.0), folder)
    with redirect_stdout(StringIO()), tempfile.TemporaryDirectory() as out:
        words = ["report", str(folder), "--output_path", out, "--examples", "0"]
        return timed(lambda: succeed(harness(words)))


def succeed(status: int) -> None:
    """SystemExit unless a command ended well."""
    if status:
        raise SystemExit(f"harness report: exit status {status}")


def cka(args: Any, rows: int, layers: int) -> float:
    """Similarity of all layers of two models of so many layers."""
    width, batch = (16, 16) if args.quick else (256, 256)
    generator = torch.Generator().manual_seed(args.seed)
    features = [torch.randn(batch, width, generator=generator) for _ in range(2 * layers)]

    def run() -> None:
        stream = StreamingCKA(2 * layers, dtype=torch.float32)
        for _ in range(rows // batch):  # the same rows: what a batch holds changes no time
            stream.update(features)
        stream.between(slice(layers), slice(layers, None))

    return timed(run)


def circuits(args: Any, layers: int, count: int) -> float:
    """The circuit of a model on pairs of rows of 16 tokens."""
    tokens = 16
    rng = np.random.default_rng(args.seed)
    ids = rng.integers(5, 1000, (2 * count, tokens)).astype(np.int32)

    def encoded(some: np.ndarray) -> EncodedText:
        offsets = np.arange(len(some) + 1) * tokens
        return EncodedText(some.ravel(), offsets.astype(np.int64), None, 0)

    clean, twins = encoded(ids[:count]), encoded(ids[count:])
    every, group = np.arange(count), np.arange(count) % 4
    pairs = Pairs("swap", every, group, [clean], [twins], every, {})
    model = bert(Size(layers, 64, 1000), "eager", args.seed).eval()
    subject: Any = SimpleNamespace(model=model, role="student", seed=0)
    found = CircuitOptions(ig_steps=3, random_circuits=2, resamples=100)
    targets, gold = np.arange(LABELS), every % LABELS
    return timed(
        lambda: explore(
            subject,
            pairs,
            clean,
            twins,
            targets,
            gold,
            found,
            device=torch.device("cpu"),
            quiet=True,
        )
    )


def least(table: Table) -> dict[int, float]:
    """The least time of every size: what a neighbour takes is left out."""
    return {
        int(name.split()[0].replace(",", "")): min(times) for name, times in table.seconds.items()
    }


def exponent(times: Mapping[int, float]) -> float:
    """Slope of the line through the logarithms, by least squares."""
    slope, _ = np.polyfit(np.log(list(times)), np.log(list(times.values())), 1)
    return float(slope)


def summary(results: Mapping[str, Mapping[int, float]]) -> str:
    """A row a curve."""
    lines = [
        "| part | along | sizes | times | exponent | last doubling | goal |",
        "|---|---|---|---|--:|--:|---|",
    ]
    for title, times in results.items():
        part, along = title.split(", ")
        last = exponent(dict(list(times.items())[-2:]))
        goal = ""
        if along in ("rows", "seeds", "pairs"):
            goal = f"≤ {LINEAR}: {'met' if max(last, exponent(times)) <= LINEAR else 'MISSED'}"
        ends = [f"{size:,}" for size in (min(times), max(times))]
        spent = [f"{1e3 * times[size]:.0f}" for size in (min(times), max(times))]
        lines.append(
            f"| {part} | {along} | {'-'.join(ends)} | {'-'.join(spent)} ms "
            f"| {exponent(times):.2f} | {last:.2f} | {goal} |"
        )
    return "\n".join(lines)


def draw(results: Mapping[str, Mapping[int, float]], file: Path) -> None:
    """All curves, both axes logarithmic, a panel for each size."""
    import matplotlib as mpl
    from matplotlib.figure import Figure
    from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator

    sizes = list(dict.fromkeys(title.split(", ")[1] for title in results))
    with mpl.rc_context({"svg.fonttype": "none", "svg.hashsalt": "growth", "font.size": 8}):
        rows, columns = -(-len(sizes) // COLUMNS), min(len(sizes), COLUMNS)
        figure = Figure(figsize=(3 * columns, 3.4 * rows), layout="constrained")
        panels = figure.subplots(rows, columns, squeeze=False).flat
        for axes in list(panels)[len(sizes) :]:
            axes.remove()
        for axes, along in zip(figure.axes, sizes, strict=True):
            ticks = set[int]()
            for title, times in results.items():
                part, size = title.split(", ")
                if size == along:
                    label = f"{part} ({exponent(times):.2f})"
                    axes.loglog(list(times), list(times.values()), marker="o", ms=3, label=label)
                    ticks |= {*times}
            axes.set(xlabel=along, ylabel="seconds")
            axes.set_xticks(sorted(ticks)[:: 1 + len(ticks) // 7], minor=False)
            axes.xaxis.set_major_formatter(FuncFormatter(lambda size, _: f"{size:,.0f}"))
            axes.xaxis.set_minor_locator(NullLocator())
            axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
            axes.yaxis.set_major_formatter(FuncFormatter(lambda seconds, _: f"{seconds:g}"))
            axes.yaxis.set_minor_locator(NullLocator())
            axes.set_ylim(bottom=axes.get_ylim()[0] / (1 + len(axes.lines)))  # room for names
            axes.legend(frameon=False, loc="lower right")
        figure.savefig(file, metadata={"Date": None})


if __name__ == "__main__":
    main()
