"""Return values of the API's functions: numbers, verdicts, tables; a notebook shows them.

Light at import: pandas and everything that draws or writes is imported when it is asked for.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness_plugin.errors import HarnessError, unknown
from harness_plugin.records import Estimate, RunReport, TaskScores

if TYPE_CHECKING:
    import pandas as pd

    from harness_plugin.analysis.loaded_models import FinishedTask
    from harness_plugin.config.settings import TaskSettings
    from harness_plugin.data.dataset import Split, TaskData
    from harness_plugin.data.task import Task
    from harness_plugin.scoring.gate import Check, Comparison, State
    from harness_plugin.scoring.verdict import Verdict


@dataclass(frozen=True)
class RunResult:
    """The scores of a run: just made by `run` or `score`, or read back by `open_run`."""

    record: RunReport
    """Everything: configuration, machine, models, scores, predictions."""
    folder: Path | None = None
    """The folder of its files, if it has any."""

    @property
    def tasks(self) -> tuple[TaskScores, ...]:
        """The scores of every task."""
        return self.record.tasks

    def __getitem__(self, task: str) -> TaskScores:
        """The scores of one task; HarnessError with near matches for another name."""
        for scores in self.tasks:
            if scores.task == task:
                return scores
        raise unknown("task of this result", task, [scores.task for scores in self.tasks])

    @property
    def verdicts(self) -> tuple[Verdict, ...]:
        """Is the debiasing kept? One a task, student and evaluation set that has a gap.

        `state` is "kept", "lost" or "undecided"; `sentence` has the numbers. None without a
        teacher to compare with.
        """
        from harness_plugin.scoring.verdict import verdicts

        return tuple(
            verdict
            for scores in self.tasks
            if any(model.role == "teacher" for model in scores.models)
            for verdict in verdicts(scores)
        )

    def rows(self, *, by_seed: bool = False) -> Iterator[dict[str, Any]]:
        """Every number as a flat row; keys as in `TaskScores.rows`."""
        for scores in self.tasks:
            yield from scores.rows(by_seed=by_seed)

    def to_pandas(self, *, by_seed: bool = False) -> pd.DataFrame:
        """`rows` as a data frame.

        Values are fractions: scores in [0, 1], gaps and differences in [-1, 1], nan where
        undefined (`reason` says why). low and high bound the 95% interval.
        """
        import pandas as pd

        return pd.DataFrame(list(self.rows(by_seed=by_seed)))

    def save(self, folder: str | Path, outputs: Sequence[str] | None = None) -> tuple[Path, ...]:
        """Write the files that `harness run --output_path folder` writes, predictions included.

        `outputs`: which (harness ls outputs), all by default. Raises HarnessError for an unknown
        output or a folder that cannot be written.
        """
        from harness_plugin.config.run_config import RunConfig
        from harness_plugin.pipeline.outputs import check_writable, chosen_outputs, write_outputs
        from harness_plugin.plugins.registry import load_plugins

        plugins, folder = load_plugins(), Path(folder)
        config = RunConfig(
            tasks=tuple(scores.task for scores in self.tasks),
            output_path=str(folder),
            outputs=None if outputs is None else tuple(outputs),
        )
        chosen_outputs(config, plugins)
        check_writable(folder)
        written = {**self.record.config, "output_path": str(folder), "log_samples": True}
        report = RunReport(
            written,
            self.record.environment,
            self.record.tasks,
            self.record.started,
            self.record.seconds,
        )
        return write_outputs(report, config, plugins)

    def report(self, folder: str | Path, *, examples: int = 0) -> Path:
        """Write one HTML page with its figures, which works offline; the page's path.

        The result files that the page is made of are written in `folder` too, unless the run's
        own lie there already. `examples`: rows on which teacher and student disagree, of each
        student and set; these need the data. Raises HarnessError as `save` does.
        """
        import contextlib
        import io

        from harness_plugin.machine.process_state import restored
        from harness_plugin.plugins.registry import load_plugins
        from harness_plugin.store.files import timestamp

        folder, stamp = Path(folder), timestamp(self.record.started)
        with restored():
            if not any(folder.glob(f"transfer_*_{stamp}.json")):
                self.save(folder)
            words = [str(folder), "--started", stamp, "--examples", str(examples)]
            with contextlib.redirect_stdout(io.StringIO()):
                load_plugins()["command"].offer("report").function()(words)
        return folder / f"report_{stamp}.html"

    def reopen(self, **machine: Any) -> list[FinishedTask]:
        """The run's data and models, for analyses; one record a task.

        `machine`: device and threads to read them with. Raises HarnessError for a result without
        files, and for data that are no longer those of the run.
        """
        from harness_plugin.analysis.open_run import open_run
        from harness_plugin.plugins.registry import load_plugins
        from harness_plugin.store.files import timestamp

        if self.folder is None:
            raise HarnessError("this result has no files; run with output_path=FOLDER.")
        return open_run(
            self.folder,
            load_plugins(),
            started=timestamp(self.record.started),
            tasks=[scores.task for scores in self.tasks],
            machine=machine,
        )

    def __repr__(self) -> str:
        names = ", ".join(scores.task for scores in self.tasks)
        lines = [f"<RunResult of {names}>"]
        return "\n".join([*lines, *(f"{v.state.upper()} {v.sentence}" for v in self.verdicts)])

    def _repr_html_(self) -> str:
        parts = [
            f"<p><b>{v.state.upper()}</b> {escape(v.task)}: {escape(v.sentence)}</p>"
            for v in self.verdicts
        ]
        for scores in self.tasks:
            for split in scores.purposes:
                parts.append(score_table(scores, split))
        return "".join(parts)


def score_table(scores: TaskScores, split: str) -> str:
    """One row a role: accuracy, worst group, the primary gap, in percent with sd over seeds."""
    roles = list(dict.fromkeys(score.role for score in scores.scores if score.split == split))
    columns = [
        name
        for name in dict.fromkeys(("acc", "worst_group_acc", scores.primary.get(split, "")))
        if name in scores.of(roles[0], split).metrics
    ]
    title = f"{scores.task} ({scores.source}), {split}: %, mean ± sd of {len(scores.seeds)} seed(s)"
    rows = [
        [role, *(percent(scores.of(role, split).metrics[name]) for name in columns)]
        for role in roles
    ]
    return html_table(title, ["role", *columns], rows)


def html_table(title: str, columns: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A plain table, every text escaped."""
    head = "".join(f"<th>{escape(name)}</th>" for name in columns)
    body = "".join(
        f"<tr>{''.join(f'<td>{escape(cell)}</td>' for cell in row)}</tr>" for row in rows
    )
    caption = f"<caption>{escape(title)}</caption>"
    return f"<table>{caption}<thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"


def percent(estimate: Estimate) -> str:
    """`84.2 ± 1.3`, or n/a."""
    if math.isnan(estimate.value):
        return "n/a"
    spread = "" if math.isnan(estimate.sd) else f" ± {100 * estimate.sd:.1f}"
    return f"{100 * estimate.value:.1f}{spread}"


@dataclass(frozen=True)
class ComparisonResult:
    """Has a candidate become worse than a baseline? One comparison a task."""

    comparisons: tuple[Comparison, ...]

    @property
    def state(self) -> State:
        """ "regressed" if any check is, else "undecided" if any is, else "pass"."""
        from harness_plugin.scoring.gate import worst

        return worst(comparison.state for comparison in self.comparisons)

    @property
    def checks(self) -> tuple[Check, ...]:
        """Every gate on every evaluation set: its change, its state and a sentence."""
        return tuple(check for one in self.comparisons for check in one.checks)

    def rows(self) -> Iterator[dict[str, Any]]:
        """One flat row a check; `worse_by` above 0 is a change for the worse, a fraction."""
        for one in self.comparisons:
            for check in one.checks:
                change = check.change
                yield {
                    "task": one.task,
                    "split": check.split,
                    "subset": check.gate.subset,
                    "metric": check.metric.name,
                    "baseline": change.baseline.value,
                    "candidate": change.candidate.value,
                    "worse_by": change.value,
                    "low": change.low,
                    "high": change.high,
                    "limit": check.gate.limit,
                    "state": check.state,
                    "sentence": check.sentence,
                }

    def to_pandas(self) -> pd.DataFrame:
        """`rows` as a data frame."""
        import pandas as pd

        return pd.DataFrame(list(self.rows()))

    def __repr__(self) -> str:
        lines = [
            f"{one.task}: {check.name}: {check.state.upper()} {check.sentence}"
            for one in self.comparisons
            for check in one.checks
        ]
        return "\n".join([f"<ComparisonResult: {self.state}>", *lines])

    def _repr_html_(self) -> str:
        names = ("task", "split", "subset", "metric", "state", "sentence")
        rows = [[row[name] for name in names] for row in self.rows()]
        return f"<p><b>{self.state.upper()}</b></p>{html_table('', names, rows)}"


@dataclass(frozen=True)
class LoadedTask:
    """A task, its settings for one source, and its data, all checked."""

    task: Task
    settings: TaskSettings
    data: TaskData

    @property
    def splits(self) -> dict[str, Split]:
        """All splits by name."""
        return dict(self.data.splits)

    def rows(self) -> Iterator[dict[str, Any]]:
        """How many rows every group of every split has."""
        for split in self.data.splits.values():
            for group, count in zip(split.groups, split.group_counts, strict=True):
                yield {
                    "split": split.name,
                    "purpose": split.purpose,
                    "group": group,
                    "rows": int(count),
                }

    def to_pandas(self) -> pd.DataFrame:
        """`rows` as a data frame."""
        import pandas as pd

        return pd.DataFrame(list(self.rows()))

    def warnings(self) -> list[str]:
        """Weaknesses of this data that numbers do not show: small groups, shared rows."""
        from harness_plugin.pipeline.prepare.open_task import warnings

        return warnings(self.data, self.task.inputs)

    def __repr__(self) -> str:
        sizes = ", ".join(f"{name} {len(split):,}" for name, split in self.data.splits.items())
        return f"<LoadedTask {self.task.task}, {self.data.source} data: {sizes} rows>"

    def _repr_html_(self) -> str:
        rows = [[str(value) for value in row.values()] for row in self.rows()]
        title = f"{self.task.task}: {self.task.summary} ({self.data.source} data)"
        return html_table(title, ("split", "role", "group", "rows"), rows)
