"""lm-evaluation-harness 0.4.13 with our tasks and our model type, and without its silent failures.

Its command line is run as it is, in this process, with two of its classes replaced by these: the
one that writes results (it only logs that it could not, and writes NaN), and the one that finds
tasks (it reads 14,000 YAML files even where none of them was asked for).
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import lm_eval.loggers
import lm_eval.tasks
from lm_eval.loggers import EvaluationTracker
from lm_eval.tasks import TaskManager

from harness_plugin.errors import HarnessError, unknown
from harness_plugin.store.files import strict
from harness_plugin_hooks.adapters import lm_eval_task as lm_eval_task  # registers everything
from harness_plugin_hooks.adapters.lm_eval_tasks import folder

MISSING = "Tasks not found: "


class StrictTracker(EvaluationTracker):  # type: ignore[misc]
    """Writes strict JSON and reads it back: what was not written whole is an error.

    `written` are the files of all trackers of this process.
    """

    written: list[Path] = []  # noqa: RUF012

    def save_results_aggregated(
        self, results: Mapping[str, Any], samples: Mapping[str, Any] | None = None
    ) -> None:
        """`results_*.json`, with null for a number that is undefined.

        An error that is not computed stays "N/A": that harness' own table cannot print null there.
        """
        super().save_results_aggregated(results=strict(results), samples=samples)
        if self.output_path:
            self.check(f"{self.stem}_{getattr(self, 'date_id', '*')}.json")

    def save_results_samples(self, task_name: str, samples: Any) -> None:
        """`samples_*.jsonl` of one task."""
        super().save_results_samples(task_name=task_name, samples=strict(samples))
        if self.output_path:
            self.check(f"samples_{task_name}_{getattr(self, 'date_id', '*')}.jsonl", len(samples))

    @property
    def stem(self) -> str:
        """How the name of the results file begins."""
        path = Path(self.output_path)
        return path.stem if path.suffix == ".json" else "results"

    @property
    def target(self) -> Path:
        """The folder that files are written into."""
        path = Path(self.output_path)
        if path.suffix == ".json":
            return path.parent
        return path / str(self.general_config_tracker.model_name_sanitized)

    def check(self, name: str, lines: int | None = None) -> None:
        """Raise HarnessError unless the file is there, whole and strict."""
        file = self.target / name
        try:
            text = file.read_text(encoding="utf-8")
            records = [text] if lines is None else text.splitlines()
            for record in records:
                json.loads(record, parse_constant=refuse)
            if lines not in (None, len(records)):
                raise ValueError(f"{len(records)} lines, expected {lines}")
        except (OSError, ValueError) as error:
            raise HarnessError(f"results were not written: {file}: {error}") from error
        self.written.append(file)


def refuse(constant: str) -> None:
    """NaN and Infinity are no JSON."""
    raise ValueError(f"{constant} is not JSON")


def local_only(tasks: Sequence[str], include_path: list[str]) -> bool:
    """Whether every task that was asked for stands in the folders, or is a file."""
    names = [name for some in tasks for name in some.split(",") if name]
    known = TaskManager(include_path=include_path, include_defaults=False)
    return bool(names) and all(
        name.endswith(".yaml") or known.match_tasks([name]) for name in names
    )


@contextmanager
def replaced(owner: Any, name: str, value: Any) -> Iterator[None]:
    """`owner.name` is `value` inside."""
    before = getattr(owner, name)
    setattr(owner, name, value)
    try:
        yield
    finally:
        setattr(owner, name, before)


def execute(args: argparse.Namespace) -> None:
    """Run what lm_eval's own parser has read.

    Raises HarnessError when `--output_path` was given and nothing was written there.
    """
    from lm_eval.utils import setup_logging

    setup_logging()
    if not hasattr(args, "include_path"):  # `validate` of a later release, perhaps
        args.func(args)
        return
    args.include_path = [str(folder()), *([args.include_path] if args.include_path else [])]
    tasks = getattr(args, "tasks", None) or []  # none at all: in the file of --config
    local = local_only([tasks] if isinstance(tasks, str) else tasks, args.include_path)
    StrictTracker.written.clear()
    manager = partial(TaskManager, include_defaults=False) if local else TaskManager
    with (
        replaced(lm_eval.loggers, "EvaluationTracker", StrictTracker),
        replaced(lm_eval.tasks, "TaskManager", manager),
    ):
        try:
            args.func(args)
        except ValueError as error:
            if str(error).startswith(MISSING):
                missing = str(error).removeprefix(MISSING)
                ours = TaskManager(include_path=args.include_path, include_defaults=False)
                raise unknown("lm_eval task", missing, ours.all_tasks) from None
            raise


def leave_processes() -> None:
    """Say good-bye to the other processes of a launcher."""
    import torch.distributed

    if torch.distributed.is_initialized():
        torch.distributed.destroy_process_group()
