"""`harness plan`: what seeds and rows a verdict needs, before anything is trained."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

from harness_plugin.cli.parser import Parser, config_from_flags, run_parser
from harness_plugin.cli.startup import installed_plugins
from harness_plugin.errors import HarnessError

EXAMPLES = """\
examples:
  harness plan --tasks hans --effect 5
  harness plan --tasks hans --seeds 0,1 --run results --power .9
  harness plan --tasks celeba_bias --data hub --margin .05

Without --run, cells are taken to be 80% right, models to agree on rows with correlation .5, seeds
to differ as --seed_sd says, and the worst group to be known beforehand (docs/verdicts.md). A run of
two or three seeds is a better guess: --run reads how much rows and seeds differed in it, and how
long a seed took.
"""


def parser() -> Parser:
    """The options of `harness run`, and those of its own."""
    out = run_parser()
    out.prog, out.epilog = "harness plan", EXAMPLES
    out.description = "Say what seeds and rows a verdict needs, and the smallest effect to be seen."
    own = out.add_argument_group("plan")
    own.add_argument("--effect", type=float, default=5.0, metavar="POINTS", help="default: 5")
    own.add_argument("--power", type=float, default=0.8, metavar="X", help="default: .8")
    own.add_argument(
        "--seed_sd",
        type=float,
        default=4.0,
        metavar="POINTS",
        help="how much the change of a gap differs from seed to seed, default 4",
    )
    own.add_argument("--run", metavar="DIR", help="results of an earlier run to plan from")
    own.add_argument("--role", default="student", metavar="NAME", help="student of --run")
    return out


def main(words: list[str]) -> int:
    """Open the data, print a line an evaluation set."""
    args = vars(parser().parse_args(words))
    own = {name: args.pop(name) for name in ("effect", "power", "seed_sd", "run", "role")}
    for name, low, high in (("effect", 0, 100), ("power", 0, 1), ("seed_sd", 0, 100)):
        if not (math.isfinite(own[name]) and low < own[name] < high):
            raise HarnessError(f"--{name} {own[name]:g}: expected more than {low}, under {high}.")
    config = config_from_flags(args)
    from harness_plugin.pipeline.planning import plans_of
    from harness_plugin.pipeline.prepare.open_task import load_tasks
    from harness_plugin.scoring.planning import lines

    plugins = installed_plugins()
    for opened in load_tasks(config, plugins):
        earlier = evidence_of(Path(own["run"]), opened.task.task, own) if own["run"] else None
        plans = plans_of(
            opened.task,
            opened.data,
            config,
            plugins,
            effect=own["effect"] / 100,
            power=own["power"],
            seed_sd=own["seed_sd"] / 100,
            earlier=None if earlier is None else earlier["evidence"],
        )
        print(f"{opened.task.task} ({opened.data.source} data), power {own['power']:g}:")
        for line in lines(plans, own["effect"] / 100):
            print(f"  {line}")
        if earlier is not None:
            print(f"  a seed took {earlier['seconds']:.0f} s of training in {own['run']}")
    return 0


def evidence_of(run: Path, task: str, own: dict[str, Any]) -> dict[str, Any]:
    """Set -> the evidence of an earlier run on one student, and seconds of training a seed."""
    from harness_plugin.scoring.files.finished_runs import evidence_from, records_in

    records = records_in(run)
    if task not in records:
        raise HarnessError(f"--run {run}: has no results of task {task!r}.")
    _, record = records[task]
    verdicts = [v for v in record.verdicts if v.student == own["role"]]
    if not verdicts:
        students = sorted({v.student for v in record.verdicts})
        raise HarnessError(
            f"--run {run}: has no verdict on student {own['student']!r}; it has "
            f"{', '.join(students) or 'none'}."
        )
    if len(record.seeds) < 2:
        raise HarnessError(f"--run {run}: one seed does not show how seeds differ.")
    return {
        "evidence": {v.split: evidence_from(v) for v in verdicts},
        "seconds": sum(model.seconds for model in record.models) / len(record.seeds),
    }
