"""Does distillation widen the gap, and does it depend on the student's size? docs/findings.md.

One debiased teacher of each embedded task, students of four sizes, five seeds: every size as pure
distillation, half distillation and half labels, without a teacher (the control), and as plain ERM.
Nothing is tuned here: the settings are the recipes', with learning rates between those of the
recipe's two sizes for the sizes between. Finished trainings are reused, so that an interrupted
ladder continues.
"""

from __future__ import annotations

import argparse
import math
from pathlib import Path

import yaml

from harness_plugin import models
from harness_plugin.cli import quiet_libraries
from harness_plugin.config import run_config
from harness_plugin.plugins import Plugins, load_plugins
from harness_plugin.records import Estimate, TaskScores
from harness_plugin.roles import Workshop
from harness_plugin.run import open_workshop, prepare, run_task
from harness_plugin.stages import default_root

PAGE = Path(__file__).resolve().parents[1] / "docs" / "findings.md"
START, END = "<!-- ladder: python bench/ladder.py --write -->", "<!-- end of ladder -->"


def bert(width: int, erm_rate: float, rate: float) -> dict[str, object]:
    """A two-layer student of a width."""
    config = {"hidden_size": width, "intermediate_size": 4 * width, "num_attention_heads": 4}
    return {"config": config, "erm_learning_rate": erm_rate, "learning_rate": rate}


def resnet(blocks: int, *widths: int) -> dict[str, object]:
    """A student of three stages."""
    sizes = {"depths": [blocks] * 3, "hidden_sizes": list(widths), "embedding_size": widths[0]}
    return {"config": sizes}


SIZES = {
    "hans": (
        bert(32, 2.5e-3, 2.5e-3),
        bert(64, 2.5e-3, 2.5e-3),
        bert(96, 1.3e-3, 1.1e-3),
        bert(128, 7e-4, 5e-4),
    ),
    "celeba_bias": (
        resnet(1, 4, 8, 16),
        resnet(1, 8, 16, 32),
        resnet(1, 16, 32, 64),
        resnet(2, 16, 32, 64),
    ),
}
"""The student's settings by task, smallest first; the last is the teacher's own size."""


def workshop(
    task: str, size: dict[str, object], args: argparse.Namespace, plugins: Plugins
) -> Workshop:
    """A run of one size."""
    flags = {"tasks": (task,), "seeds": tuple(args.seeds), "device": "cpu", "precision": "no"}
    flags |= {"attention": "sdpa", "threads": args.threads, "resamples": args.resamples}
    sets = [f"student={yaml.safe_dump(size, default_flow_style=True).strip()}", *args.set]
    config = run_config(None, flags, sets)
    (job,) = prepare(config, plugins)
    return open_workshop(*job, config, plugins, Path(args.use_cache))


def parameters(shop: Workshop, scores: TaskScores, role: str) -> int:
    """How many parameters a role's model has."""
    path = next(model.path for model in scores.models if model.role == role)
    model = models.load_trained(str(path), shop.task.modality, attention="eager")
    return sum(p.numel() for p in model.parameters())


def cell(estimate: Estimate) -> str:
    """A percentage."""
    return "n/a" if math.isnan(estimate.value) else f"{100 * estimate.value:.1f}"


def interval(estimate: Estimate) -> str:
    """A difference in points with its 95% interval."""
    if math.isnan(estimate.value):
        return "n/a"
    return f"{100 * estimate.value:+.1f} [{100 * estimate.low:+.1f}, {100 * estimate.high:+.1f}]"


def transfer(scores: TaskScores, student: str, split: str, metric: str, measure: str) -> Estimate:
    """One measure of one student."""
    wanted = (student, split, "", metric, measure)
    return next(
        t.estimate
        for t in scores.transfer
        if (t.student, t.split, t.subset, t.metric, t.measure) == wanted
    )


def table(task: str, args: argparse.Namespace, plugins: Plugins) -> list[str]:
    """The Markdown tables of one task."""
    lines: list[str] = []
    for size in SIZES[task]:
        shop = workshop(task, size, args, plugins)
        scores = run_task(shop)
        split = shop.data.evaluation[-1].name
        gap = scores.primary[split]
        if not lines:
            teacher, erm = (scores.of(role, split) for role in ("teacher", "erm_teacher"))
            lines = [
                f"### `{task}`, set `{split}`",
                "",
                f"Teacher {shop.settings.teacher.model} ({shop.settings.method}), "
                f"{parameters(shop, scores, 'teacher'):,} parameters: worst group "
                f"{cell(teacher.metrics['worst_group_acc'])}, {gap} {cell(teacher.metrics[gap])}. "
                f"The same model by ERM: {cell(erm.metrics['worst_group_acc'])}, "
                f"{cell(erm.metrics[gap])}. Seeds {', '.join(map(str, args.seeds))}; accuracies "
                f"and gaps in %, differences in points with 95% intervals.",
                "",
                "| student | parameters | of the teacher's | trained as | accuracy | worst group "
                f"| {gap} | gap widening | worst group against control |",
                "|---|--:|--:|---|--:|--:|--:|--:|--:|",
            ]
        count, whole = (parameters(shop, scores, role) for role in ("control", "teacher"))
        words = {
            "student": "pure KD",
            "student_ce": "half KD, half labels",
            "control": f"{shop.settings.method}, no teacher",
            "erm_student": "ERM, no teacher",
        }
        for role, name in words.items():
            found = scores.of(role, split).metrics
            widening = against = ""
            if role.startswith("student"):
                widening = interval(transfer(scores, role, split, gap, "gap_widening"))
                against = interval(transfer(scores, role, split, "worst_group_acc", "contribution"))
            lines.append(
                f"| {describe(size)} | {count:,} | {count / whole:.2f} | {name} "
                f"| {cell(found['acc'])} | {cell(found['worst_group_acc'])} | {cell(found[gap])} "
                f"| {widening} | {against} |"
            )
    return [*lines, ""]


def describe(size: dict[str, object]) -> str:
    """A size in a word."""
    config = size["config"]
    assert isinstance(config, dict)
    if "hidden_size" in config:
        return f"width {config['hidden_size']}"
    widths = config["hidden_sizes"]
    return f"{sum(config['depths'])} blocks, width {widths[0]}-{widths[-1]}"


def main() -> None:
    """Print the tables, or write them into docs/findings.md."""
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    options.add_argument("--tasks", nargs="+", default=list(SIZES), choices=list(SIZES))
    options.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2, 3, 4])
    options.add_argument("--threads", type=int, default=2)
    options.add_argument("--resamples", type=int, default=1000)
    options.add_argument("--set", action="append", default=[], metavar="KEY=VALUE")
    options.add_argument("--use_cache", default=str(default_root()), metavar="DIR")
    options.add_argument("--write", action="store_true", help=f"replace the table in {PAGE.name}")
    args = options.parse_args()
    quiet_libraries()
    plugins = load_plugins()
    lines = [line for task in args.tasks for line in table(task, args, plugins)]
    print("\n".join(lines))
    if args.write:
        before, _, rest = PAGE.read_text(encoding="utf-8").partition(START)
        _, _, after = rest.partition(END)
        PAGE.write_text("\n".join([before + START, "", *lines, END + after]), encoding="utf-8")


if __name__ == "__main__":
    main()
