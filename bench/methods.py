"""What every debiasing method does on the embedded tasks: the table in docs/methods.md.

Trains the small model of a task (the `control` of a run: no teacher) with every method, bias model
and group inference, seeds 0 to 2, and compares its worst-group accuracy out of distribution with
ERM's, seed by seed. Nothing is chosen by what is seen here: the settings are the recipes' and the
methods' defaults. Finished trainings are reused, so that an interrupted table continues.
"""

from __future__ import annotations

import argparse
import statistics
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from harness_plugin.config.merge import run_config
from harness_plugin.errors import HarnessError
from harness_plugin.machine.progress import quiet_libraries
from harness_plugin.pipeline.context import RunContext
from harness_plugin.pipeline.open_task import load_tasks
from harness_plugin.pipeline.run_task import context_of
from harness_plugin.pipeline.split_stages import predict_split
from harness_plugin.pipeline.train_role import train_role
from harness_plugin.plugins.registry import Plugins, load_plugins
from harness_plugin.store.stages import default_root

PAGE = Path(__file__).resolve().parents[1] / "docs" / "methods.md"
START, END = "<!-- table: python bench/methods.py --write -->", "<!-- end of table -->"


@dataclass(frozen=True)
class Variant:
    """A method, and what stands in for group labels or bias features."""

    method: str
    bias_model: str = ""
    group_inference: str = ""

    def __str__(self) -> str:
        return " + ".join(
            f"`{n}`" for n in (self.method, self.bias_model, self.group_inference) if n
        )

    def settings(self) -> list[str]:
        """As `--set` assignments."""
        given = {"bias_model": self.bias_model, "group_inference": self.group_inference}
        return [f"method={self.method}", *(f"{k}={v}" for k, v in given.items() if v)]


def variants(plugins: Plugins) -> Iterator[Variant]:
    """ERM, every other method, then bias models and group inference with one method each."""
    yield Variant("erm")
    yield from (Variant(o.name) for o in plugins["method"] if o.name != "erm")
    for offer in plugins["bias_model"]:
        if offer.name != "features":
            yield Variant("poe", bias_model=offer.name)
    for offer in plugins["group_inference"]:
        yield Variant("group_dro", group_inference=offer.name)


def context(task: str, variant: Variant, args: argparse.Namespace, plugins: Plugins) -> RunContext:
    """Opened as a run of the control alone would be; HarnessError where the method does not fit."""
    flags = {"tasks": (task,), "device": "cpu", "precision": "no", "attention": "sdpa"}
    flags |= {"threads": args.threads}
    sets = ["references=false", *variant.settings(), *args.set]
    config = run_config(None, flags, sets)
    (opened,) = load_tasks(config, plugins)
    return context_of(opened, config, plugins, Path(args.use_cache))


def worst_groups(ctx: RunContext, seed: int) -> tuple[float, float]:
    """Accuracy and worst-group accuracy, in %, on the last evaluation set."""
    model = train_role(ctx, ctx.plan.roles["control"], seed, {})
    p = predict_split(ctx, model, ctx.data.evaluation[-1])
    worst = min(p.correct[p.group == g].mean() for g in np.unique(p.group[p.group >= 0]))
    return 100 * float(p.correct.mean()), 100 * float(worst)


def row(name: str, found: list[tuple[float, float]], erm: list[tuple[float, float]]) -> str:
    """One row of the table."""
    acc, worst = (statistics.mean(column) for column in zip(*found, strict=True))
    sd = statistics.stdev([w for _, w in found]) if len(found) > 1 else 0.0
    gains = [w - base for (_, w), (_, base) in zip(found, erm, strict=True)]
    better = f"{sum(g > 0 for g in gains)} of {len(gains)}" if found is not erm else ""
    gain = f"{statistics.mean(gains):+.1f}" if found is not erm else ""
    return f"| {name} | {acc:.1f} | {worst:.1f} ± {sd:.1f} | {gain} | {better} |"


def table(task: str, args: argparse.Namespace, plugins: Plugins) -> list[str]:
    """The Markdown table of one task."""
    erm: list[tuple[float, float]] = []
    lines: list[str] = []
    for variant in variants(plugins):
        if args.only and variant.method not in args.only and variant.method != "erm":
            continue
        try:
            ctx = context(task, variant, args, plugins)
            found = [worst_groups(ctx, seed) for seed in args.seeds]
        except HarnessError as error:
            lines.append(f"| {variant} | refused: {str(error).partition(': ')[2]} | | | |")
        else:
            erm = erm or found
            lines.append(row(str(variant), found, erm))
        print(lines[-1], flush=True)
    split = ctx.data.evaluation[-1].name
    head = [
        f"`{task}`, set `{split}`, {ctx.settings.student.model}, seeds "
        f"{', '.join(map(str, args.seeds))} (accuracies in %):",
        "",
        "| method | accuracy | worst group | against ERM | better than ERM |",
        "|---|--:|--:|--:|:-:|",
    ]
    return [*head, *lines, ""]


def main() -> None:
    """Print the tables, or write them into docs/methods.md."""
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    options.add_argument("--tasks", nargs="+", default=["hans", "celeba_bias"])
    options.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    options.add_argument("--only", nargs="+", default=[], metavar="METHOD")
    options.add_argument("--threads", type=int, default=2)
    options.add_argument("--set", action="append", default=[], metavar="KEY=VALUE")
    options.add_argument("--use_cache", default=str(default_root()), metavar="DIR")
    options.add_argument("--write", action="store_true", help=f"replace the table in {PAGE.name}")
    args = options.parse_args()
    quiet_libraries()
    plugins = load_plugins()
    lines = [line for task in args.tasks for line in table(task, args, plugins)]
    if args.write:
        before, _, rest = PAGE.read_text(encoding="utf-8").partition(START)
        _, _, after = rest.partition(END)
        text = "\n".join([before + START, "", *lines, END + after])
        PAGE.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
