"""`harness scan`: which attributes of rows alone tell the label, or part a model's accuracy."""

from __future__ import annotations

import csv
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness_plugin.cli.parser import Parser, comma_list, config_from_flags, run_parser
from harness_plugin.errors import HarnessError
from harness_plugin.machine.process_state import importing

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from harness_plugin.config.run_config import RunConfig
    from harness_plugin.data.split import Split
    from harness_plugin.pipeline.prepare.open_task import OpenTask
    from harness_plugin_hooks.scan.association import Association
    from harness_plugin_hooks.scan.gaps import Gap

EXAMPLES = """\
examples:
  harness scan --tasks hans
  harness scan --table tickets.csv --label urgency --inputs text
  harness scan --tasks celeba_bias --checkpoint results/model --split balanced
  harness scan --tasks celeba_bias --write attribute.csv --attribute 1

A cue of the label may be the true signal: the list has candidates, people decide.
"""


def parser() -> Parser:
    """The options of `harness run`, and those of its own."""
    out = run_parser()
    out.prog, out.epilog = "harness scan", EXAMPLES
    out.description = (
        "Rank attributes by how well each alone tells the label: words, length, negation, overlap "
        "and clusters of texts; brightness, colour and size of images, of their corners and "
        "fields, and clusters. With a checkpoint, by how far its accuracy differs with each."
    )
    own = out.add_argument_group("scan")
    own.add_argument("--table", type=Path, metavar="FILE", help="a table instead of a task")
    own.add_argument("--label", metavar="COLUMN", help="of --table, default a guess")
    own.add_argument("--inputs", type=comma_list, metavar="COLUMNS", help="of --table, the same")
    own.add_argument("--split", metavar="SET", help="which rows, default those of training")
    own.add_argument(
        "--checkpoint", metavar="MODEL", help="rank by its accuracy, on --split (default the last)"
    )
    own.add_argument("--top", type=int, default=10, metavar="N", help="lines, default 10")
    own.add_argument("--write", type=Path, metavar="FILE", help="a CSV file: id, label, attribute")
    own.add_argument(
        "--attribute", type=int, default=1, metavar="N", help="which of the list, default 1"
    )
    return out


def main(words: list[str]) -> int:
    """Print the strongest attributes of every task; write one as a column."""
    args = vars(parser().parse_args(words))
    own = ("top", "write", "attribute", "table", "label", "inputs", "split", "checkpoint")
    chosen = {name: args.pop(name) for name in own}
    for name in ("top", "attribute"):
        if chosen[name] < 1:
            raise HarnessError(f"--{name} {chosen[name]}: expected at least 1.")
    if chosen["table"] is None and (chosen["label"] or chosen["inputs"]):
        raise HarnessError("--label and --inputs are columns of a --table: name one.")
    with tempfile.TemporaryDirectory() as folder:
        if chosen["table"] is not None:
            if args.get("tasks"):
                raise HarnessError("--table is scanned instead of a task: leave one out.")
            args["tasks"] = (task_of_table(Path(folder), **chosen),)
        if chosen["checkpoint"] is not None:
            models = ("teacher.model", "student.model")
            sets = [f"{name}={chosen['checkpoint']}" for name in models]
            args |= {"eval_only": True, "set": [*(args.get("set") or ()), *sets]}
            args["set"].append("control=false")
        config = config_from_flags(args)
        if chosen["write"] is not None and len(config.tasks) > 1:
            raise HarnessError("--write: one file holds the attribute of one task: name one.")
        scan(config, chosen)
    return 0


def task_of_table(folder: Path, table: Path, **chosen: Any) -> str:
    """The file of a task that reads `table`, by the guesses of `harness init` and what is named."""
    import yaml

    from harness_plugin_tasks._shared.own.propose import propose

    fields = yaml.safe_load(propose(table).text)
    fields["table"] = absolute(fields["table"], table)
    if chosen["label"]:
        fields["label"] = chosen["label"]
        if fields.get("attribute") == chosen["label"]:
            fields["attribute"] = None
    if chosen["inputs"]:
        names = list(chosen["inputs"])
        fields["inputs"] = names[0] if len(names) == 1 else names
    file = folder / f"{fields['task']}.yaml"
    file.write_text(yaml.safe_dump(fields), encoding="utf-8")
    return str(file)


def absolute(table: Any, place: Path) -> Any:
    """The table, or the table of each split, by its whole path."""
    root = place.resolve() if place.is_dir() else place.resolve().parent
    if isinstance(table, Mapping):
        return {name: str(root / file) for name, file in table.items()}
    return str(root / table)


def scan(config: RunConfig, chosen: Mapping[str, Any]) -> None:
    """Print the list of every task, and write what is asked for."""
    from harness_plugin.cli.startup import installed_plugins

    with importing():
        from harness_plugin.pipeline.prepare.open_task import load_tasks
        from harness_plugin_hooks.scan.association import associations, distinct
        from harness_plugin_hooks.scan.attributes import candidates
        from harness_plugin_hooks.scan.gaps import gaps

    plugins = installed_plugins()
    for opened in load_tasks(config, plugins):
        task, split = opened.task, split_of(opened, chosen)
        correct = None
        if chosen["checkpoint"] is not None:
            split, correct = answered(opened, config, plugins, split)
        has = dict(candidates(split, task.inputs, task.modality, config.data_seed))
        results: list[Association] | list[Gap]
        if correct is None:
            results = associations(has.items(), split.label, len(split.labels), config.data_seed)
        else:
            results = gaps(has.items(), split.label, correct)
        listed = distinct([one.name for one in results], has, config.data_seed)
        print(
            f"{task.task}: {len(results)} attributes of {len(split):,} rows of {split.name}, "
            f"{len(listed)} of them unlike"
        )
        for number, (position, like) in enumerate(listed[: chosen["top"]], start=1):
            print(f"  {number:2}. {line(results[position], split.labels)}{others(like)}")
        if chosen["write"] is not None:
            if chosen["attribute"] > len(listed):
                raise HarnessError(f"--attribute {chosen['attribute']}: there are {len(listed)}.")
            name = results[listed[chosen["attribute"] - 1][0]].name
            values = [name if yes else f"not {name}" for yes in has[name].tolist()]
            write(chosen["write"], split, values)
            print(f"  {chosen['write']}")


def split_of(opened: OpenTask, chosen: Mapping[str, Any]) -> Split:
    """The rows that are asked for: of training, or the last evaluation set for a checkpoint."""
    data, name = opened.data, chosen["split"]
    if name is None:
        return data.train if chosen["checkpoint"] is None else data.evaluation[-1]
    if name not in data.splits:
        raise HarnessError(f"--split {name}: {opened.task.task} has {', '.join(data.splits)}.")
    return data.splits[name]


def answered(
    opened: OpenTask, config: RunConfig, plugins: Any, split: Split
) -> tuple[Split, NDArray[np.bool_]]:
    """The rows that the checkpoint is asked, and (N,) whether it is right."""
    from harness_plugin.pipeline.roles.split_stages import predict_split
    from harness_plugin.pipeline.roles.train_role import train_role
    from harness_plugin.pipeline.run_task import context_of

    ctx = context_of(opened, config, plugins)
    kept = ctx.data.splits[split.name]
    model = train_role(ctx, ctx.plan.roles["student"], config.seeds[0], {})
    return kept, predict_split(ctx, model, kept).correct


def others(like: int) -> str:
    """How many more are like a candidate."""
    return f"; {like} more are like it" if like else ""


def line(one: Association | Gap, labels: tuple[str, ...]) -> str:
    """One attribute: how strong, what it says, and whether chance would say it."""
    from harness_plugin_hooks.scan.gaps import Gap

    sure = f"p {one.p:.1e}" if one.p < 0.05 else "may be chance"
    about = f"{one.name} ({100 * one.share:.0f}% of rows)"
    if isinstance(one, Gap):
        value, low, high = (100 * number for number in (one.value, one.low, one.high))
        return f"{value:+.1f} points [{low:+.1f}, {high:+.1f}] {about} ({sure})"
    with_it, without = (100 * rate for rate in one.rates)
    return (
        f"{one.strength:.2f} [{one.low:.2f}, {one.high:.2f}] {about}: {labels[one.label]} "
        f"{with_it:.0f}% with it, {without:.0f}% without ({sure})"
    )


def write(file: Path, split: Split, values: list[str]) -> None:
    """The attribute of every row, to be joined by id."""
    file.parent.mkdir(parents=True, exist_ok=True)
    with file.open("w", encoding="utf-8", newline="") as stream:
        out = csv.writer(stream)
        out.writerow(["id", "label", "attribute"])
        names: Iterator[str] = (split.labels[label] for label in split.label.tolist())
        out.writerows(zip(split.ids.tolist(), names, values, strict=True))
