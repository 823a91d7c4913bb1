"""`harness remedy`: which change of the student brings its teacher's debiasing back."""

from __future__ import annotations

import json
import math
import os
import time
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness_plugin.cli.parser import Parser, comma_list, config_from_flags, run_parser
from harness_plugin.cli.startup import installed_plugins
from harness_plugin.errors import HarnessError
from harness_plugin.machine.process_state import importing
from harness_plugin.machine.progress import quiet_libraries
from harness_plugin.machine.terminal import show_table
from harness_plugin_hooks.render.text import operations

if TYPE_CHECKING:
    from rich.table import Table

    from harness_plugin.config.run_config import RunConfig
    from harness_plugin.pipeline.remedy import RemedyReport, RemedyResult
    from harness_plugin.plugins.remedies import Remedy

EXAMPLES = """\
examples:
  harness remedy --tasks celeba_bias --set celeba_bias.n_validation=8000
  harness remedy --tasks hans --baseline student_ce --remedies pure_kd,upsample

Students are ranked on half of the validation rows; the other half is for methods that need such
rows. No test row is looked at: run the winner's settings with `harness run` for its numbers.
Finished trainings are kept: a larger budget goes on where a smaller one ended.
"""


OWN = ("budget", "baseline", "remedies", "rank_by", "certify", "delta", "list")
FEW = 30
"""Below this many rows the accuracy of a group is noise."""


def parser() -> Parser:
    """The options of `harness run` but --workers, and those of its own."""
    out = run_parser("workers")
    out.prog, out.epilog = "harness remedy", EXAMPLES
    out.description = (
        "Train a student as it is and with each of several remedies, and rank them on validation "
        "rows: what brings the debiasing back, and at what price."
    )
    own = out.add_argument_group("remedies")
    own.add_argument(
        "--budget", type=int, default=8, metavar="N", help="remedies to try, default 8"
    )
    own.add_argument(
        "--baseline", default="student", metavar="NAME", help="the task's student that needs help"
    )
    own.add_argument(
        "--remedies",
        type=comma_list,
        default=(),
        metavar="A,B,A+B",
        help="these instead of all in order of promise; + joins several (--list shows them)",
    )
    own.add_argument(
        "--rank_by", default="worst_group_acc", metavar="METRIC", help="default: worst_group_acc"
    )
    own.add_argument(
        "--certify",
        type=float,
        metavar="X",
        help="then certify the first, by value per cost, that retains X (0.95) of the teacher's "
        "gain, on rows that chose nothing (docs/remedies.md)",
    )
    own.add_argument(
        "--delta",
        type=float,
        default=0.05,
        metavar="D",
        help="chance that a certificate is false, default 0.05",
    )
    own.add_argument("--list", action="store_true", help="list the remedies and stop")
    return out


def main(words: list[str]) -> int:
    """Try remedies, print the ranked table, write it."""
    args = vars(parser().parse_args(words))
    own = {name: args.pop(name) for name in OWN}
    from harness_plugin.plugins.remedies import select_remedies

    plugins = installed_plugins()
    if own["list"]:
        print_list(select_remedies((), plugins["remedy"]))
        return 0
    if own["budget"] < 1:
        raise HarnessError(f"--budget {own['budget']}: expected at least 1 remedy.")
    for name in ("certify", "delta"):
        if own[name] is not None and not 0 < own[name] < 1:
            raise HarnessError(f"--{name} {own[name]:g}: expected a share between 0 and 1.")
    remedies = select_remedies(own["remedies"], plugins["remedy"])
    from harness_plugin.pipeline.outputs import in_own_folder

    config = in_own_folder(config_from_flags(args), time.time())
    if config.workers != 1:
        raise HarnessError(
            f"workers: {config.workers} in {args['config']}: remedies are trained one after the "
            "other. Leave it out; what `harness run --workers N` has trained is taken."
        )
    quiet_libraries()
    with importing():
        from harness_plugin.pipeline.outputs import check_writable
        from harness_plugin.pipeline.prepare.open_task import load_tasks
        from harness_plugin.pipeline.remedy import try_remedies
        from harness_plugin.pipeline.run_task import store_root

    check_writable(Path(config.output_path))
    jobs = load_tasks(config, plugins)
    root = store_root(config)
    plugins.hook.run_started(config=config)
    for job in jobs:
        report = try_remedies(
            config,
            plugins,
            job,
            root,
            remedies,
            budget=max(own["budget"], len(own["remedies"])),
            baseline=own["baseline"],
            metric=own["rank_by"],
            certify=own["certify"] is not None,
        )
        if os.environ.get("RANK", "0") == "0":
            show(report)
            print(f"  {write(report, Path(config.output_path))}")
            if own["certify"] is not None:
                certify(report, config, own["certify"], own["delta"])
    return 0


def certify(report: RemedyReport, config: RunConfig, level: float, delta: float) -> None:
    """Write the certificate and say what it certifies, or what would be certified."""
    import time

    from harness_plugin.store.files import timestamp
    from harness_plugin_hooks.remedies.certify import words
    from harness_plugin_hooks.remedies.certify.certificate import certificate_of, write

    made, answers = certificate_of(
        report, level=level, delta=delta, resamples=config.resamples, data_seed=config.data_seed
    )
    folder = Path(config.output_path) / f"certificate_{report.task}_{timestamp(time.time())}"
    file = write(made, answers, folder)
    print(f"  {words.sentence(made)}")
    for remedy, reason in words.reasons(made):
        print(f"    {remedy}: {reason}")
    print(f"  {file}")


def print_list(remedies: Sequence[Remedy]) -> None:
    """One line a remedy, in the order in which they are trained."""
    width = max(len(remedy.name) for remedy in remedies)
    for remedy in remedies:
        cost = "" if remedy.cost == "none" else f" (cost: {remedy.cost})"
        print(f"{remedy.name:{width}}  {remedy.summary}{cost}")


def show(report: RemedyReport) -> None:
    """The table, what was skipped, and the answer in a sentence."""
    print("", title_of(report), sep="\n", flush=True)
    show_table(table_of(report))
    print(*legend(report), sep="\n")
    for name, reason in report.skipped:
        print(f"  skipped {name}: {reason}")
    if report.beyond_budget:
        print(
            f"  beyond the budget of {len(report.results) - 1}: {', '.join(report.beyond_budget)}"
        )
    group, rows = report.smallest
    if rows < FEW:
        print(
            f"  NOTE {rows} rows of group {group} rank these students: its accuracy is noise below "
            f"{FEW}. Take more validation rows."
        )
    print(f"  {sentence(report)}")


def title_of(report: RemedyReport) -> str:
    """Caption of the table."""
    seeds = len(report.scores.seeds)
    return (
        f"{report.task}, {report.baseline} with remedies on {part_of(report)} of the validation "
        f"rows: %, {seeds} seed{'' if seeds == 1 else 's'} [95%]"
    )


def part_of(report: RemedyReport) -> str:
    """Which part of the validation rows ranks: half, or half of that where the rest certifies."""
    from harness_plugin.plugins.remedies import CERTIFYING

    return "a quarter" if CERTIFYING in report.scores.purposes else "half"


def table_of(report: RemedyReport) -> Table:
    """One row a student, the best first; no wider than a terminal."""
    from rich.box import SIMPLE_HEAD
    from rich.table import Table

    table = Table(box=SIMPLE_HEAD, show_edge=False, pad_edge=False, collapse_padding=True)
    metric = {"worst_group_acc": "worst group"}.get(report.metric, report.metric)
    for column in ("remedy", metric, "gained", "back", "gap", "acc", "time", "FLOP"):
        table.add_column(column, justify="left" if column == "remedy" else "right")
    plain = report.plain
    for one in report.results:
        table.add_row(
            one.remedy,
            number(one.score.value),
            "" if one.remedy == "none" else between(one),
            "" if one.remedy == "none" or math.isnan(one.kept) else f"{100 * one.kept:.0f}",
            "n/a" if one.gap is None else number(one.gap.value),
            number(one.accuracy.value),
            against(one.seconds, plain.seconds),
            against(one.operations, plain.operations),
        )
    return table


def legend(report: RemedyReport) -> tuple[str, ...]:
    """Meaning of the columns."""
    plain, teacher = report.plain, number(report.teacher.value)
    return (
        f"  back: share of what the student lost against its teacher ({teacher})",
        f"  gap: {report.gap or 'not defined on these rows'}",
        f"  time, FLOP: of the training, further teachers included; none: {plain.seconds:.1f} s "
        f"here, {operations(plain.operations)}",
    )


def against(value: float, plain: float) -> str:
    """`1.02x`, or n/a where the student as it is was not trained."""
    return f"{value / plain:.2f}x" if plain else "n/a"


def number(value: float) -> str:
    """`84.2`, or n/a."""
    return "n/a" if math.isnan(value) else f"{100 * value:.1f}"


def between(one: RemedyResult) -> str:
    """`+3.1 [1.0, 5.2]`."""
    e = one.gained
    if math.isnan(e.value):
        return "n/a"
    if math.isnan(e.low):
        return f"{100 * e.value:+.1f}"
    return f"{100 * e.value:+.1f} [{100 * e.low:.1f}, {100 * e.high:.1f}]"


def sentence(report: RemedyReport) -> str:
    """A sentence on the best remedy of the table."""
    best = report.results[0]
    if best.remedy == "none":
        return f"No remedy is better than {report.baseline} as it is."
    what = f"{best.remedy} ({best.summary}) changes {report.metric} by {between(best)} points"
    seeds, needed = len(report.scores.seeds), report.scores.rule.min_seeds
    if seeds < needed:
        return f"UNDECIDED: {what}; {seeds} seed(s), it takes {needed} to tell a best remedy."
    count = len(report.results) - 1
    if best.remedy not in report.shown:
        also = f" Shown to help: {', '.join(report.shown)}." if report.shown else ""
        return (
            f"UNDECIDED: {what}; as the best of {count} it is not shown to help (joint error 5%, "
            f"Holm). More seeds or rows are needed.{also}"
        )
    near = [
        one.remedy
        for one in report.results[1:]
        if one.remedy in report.shown and overlaps(one, best)
    ]
    tie = f" Not told apart from it: {', '.join(near)}." if near else ""
    return f"BEST: {what}; shown as the best of {count} (joint error 5%, Holm).{tie}"


def overlaps(one: RemedyResult, best: RemedyResult) -> bool:
    """Whether two gains have intervals in common."""
    return one.gained.high >= best.gained.low and best.gained.high >= one.gained.low


def write(report: RemedyReport, folder: Path) -> Path:
    """remedies_<task>_<time>.json: the table, every setting, what was skipped."""
    import time

    from harness_plugin.store.files import strict, timestamp, write_text

    def estimate(e: Any) -> dict[str, Any] | None:
        return None if e is None else {"value": e.value, "low": e.low, "high": e.high, "n": e.n}

    record = {
        "task": report.task,
        "source": report.scores.source,
        "fingerprint": report.fingerprint,
        "seeds": report.scores.seeds,
        "ranked_by": report.metric,
        "rows": f"{part_of(report)} of the validation split, stratified by group",
        "baseline": report.baseline,
        "answer": sentence(report),
        "gap": report.gap,
        "rule": asdict(report.scores.rule),
        "shown_to_help": report.shown,
        "teacher": estimate(report.teacher),
        "remedies": [
            {
                "remedy": one.remedy,
                "words": one.summary,
                "score": estimate(one.score),
                "gained": estimate(one.gained),
                "brought_back": one.kept,
                "gap": estimate(one.gap),
                "accuracy": estimate(one.accuracy),
                "training_seconds": one.seconds,
                "training_operations": one.operations,
                "updates": one.updates,
                "settings": one.settings.model_dump(mode="json"),
            }
            for one in report.results
        ],
        "skipped": [{"remedy": name, "reason": reason} for name, reason in report.skipped],
        "beyond_the_budget": report.beyond_budget,
        "smallest_group": {"group": report.smallest[0], "rows": report.smallest[1]},
    }
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"remedies_{report.task}_{timestamp(time.time())}.json"
    write_text(path, json.dumps(strict(record), indent=2, allow_nan=False) + "\n")
    return path
