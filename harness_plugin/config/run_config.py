"""The settings of a run: the one place for each of them.

The command line, its help and the checks are made from the fields (`cli.parser`).
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import Field, field_validator, model_validator

from harness_plugin.config.fields import (
    LARGEST,
    MACHINE,
    MANY,
    MODELS,
    RESULTS,
    WHAT,
    Seed,
    Strict,
    flag,
)
from harness_plugin.data.task import HubSet, Source, Task

if TYPE_CHECKING:
    from harness_plugin.records import VerdictRule

NAMED: tuple[Source, ...] = ("embedded", "hub", "own")
"""Sources that `data` names; anything else is a folder."""


class RunConfig(Strict):
    """One run: which tasks, on which data, how often, on what, and where the results go."""

    tasks: tuple[str, ...] = Field(
        min_length=1,
        description="tasks to run (harness ls tasks)",
        json_schema_extra=flag(WHAT, "NAME[,NAME]"),
    )
    data: str | None = Field(
        None,
        description="embedded: generated (default where there is one); hub: the real sets; "
        "DIR: your copy",
        json_schema_extra=flag(WHAT, "embedded|hub|DIR"),
    )
    seeds: tuple[Seed, ...] = Field(
        (0, 1, 2),
        min_length=1,
        description="every role is trained once a seed",
        json_schema_extra=flag(WHAT, "N[,N]"),
    )
    data_seed: Seed = Field(0, description="which rows are generated, drawn and resampled")
    limit: int | None = Field(
        None,
        ge=1,
        le=LARGEST,
        description="rows a split, stratified by group",
        json_schema_extra=flag(WHAT, "N"),
    )
    sets: tuple[str, ...] = Field(
        (),
        description="evaluation sets to evaluate on; without it all that the task has",
        json_schema_extra=flag(WHAT, "NAME[,NAME]"),
    )
    eval_only: bool = Field(
        False,
        description="score checkpoints, train nothing",
        json_schema_extra=flag(MODELS),
    )
    eval_batch_size: int = Field(
        64,
        ge=1,
        le=MANY,
        description="examples in a prediction batch: larger is slower on a CPU "
        "(bench/evaluate.py), not on a GPU; training: --set teacher.batch_size=N",
        json_schema_extra=flag(MACHINE, "N", names=["batch_size"]),
    )
    device: str | None = Field(
        None,
        description="cpu, cuda, mps, xpu; without it the best there is",
        json_schema_extra=flag(MACHINE, "NAME"),
    )
    threads: Annotated[int, Field(ge=1, le=4096)] | Literal["auto"] = Field(
        "auto",
        description="CPU threads; auto: the quickest, measured",
        json_schema_extra=flag(MACHINE, "N|auto"),
    )
    workers: Annotated[int, Field(ge=1)] | Literal["auto"] = Field(
        1,
        description="trainings at a time, each in a process of its own with its share of the "
        "threads; auto: one a core, as far as the memory holds them",
        json_schema_extra=flag(MACHINE, "N|auto"),
    )
    precision: Literal["auto", "no", "bf16", "fp16"] = Field(
        "auto",
        description="of matrix products; no: float32",
        json_schema_extra=flag(MACHINE, names=["precision", "mixed_precision"]),
    )
    attention: Literal["auto", "eager", "sdpa"] = Field(
        "auto", description="implementation of attention", json_schema_extra=flag(MACHINE)
    )
    compile: bool = Field(False, description="use torch.compile", json_schema_extra=flag(MACHINE))
    checkpoint_steps: int = Field(
        500,
        ge=0,
        le=LARGEST,
        description="updates between checkpoints; 0: none inside a training",
        json_schema_extra=flag(MACHINE, "N"),
    )
    output_path: str = Field(
        "results/{tasks}_{time}",
        description="folder of this run's results",
        json_schema_extra=flag(RESULTS, "DIR"),
    )
    log_samples: bool = Field(
        False, description="write every prediction as well", json_schema_extra=flag(RESULTS)
    )
    outputs: tuple[str, ...] | None = Field(
        None,
        description="which result files to write (harness ls outputs), or all of them; without it "
        "those of every run",
        json_schema_extra=flag(RESULTS, "NAME[,NAME]"),
    )
    use_cache: str | None = Field(
        None,
        description="stage store; without it $HARNESS_PLUGIN_CACHE or ~/.cache/harness_plugin",
        json_schema_extra=flag(RESULTS, "DIR"),
    )
    include_path: tuple[str, ...] = Field(
        (),
        description="folder with more task YAML files (repeatable)",
        json_schema_extra=flag(WHAT, "DIR", repeat=True),
    )
    log_with: str | None = Field(
        None,
        description="wandb, tensorboard, … (Accelerate)",
        json_schema_extra=flag(RESULTS, "TRACKER"),
    )
    trust_remote_code: bool = Field(
        False,
        description="run Python code that a hub checkpoint brings (off)",
        json_schema_extra=flag(MODELS),
    )
    resamples: int = Field(
        1000,
        ge=100,
        le=10**6,
        description="bootstrap resamples",
        json_schema_extra=flag(RESULTS, "N"),
    )
    margin: float = Field(
        0.02,
        ge=0,
        lt=1,
        description="how much wider a gap, or lower a worst group, is not called lost; a fraction",
        json_schema_extra=flag(RESULTS, "X"),
    )
    min_seeds: int = Field(
        3, ge=2, description="seeds that a verdict needs", json_schema_extra=flag(RESULTS, "N")
    )
    min_group: int = Field(
        30,
        ge=1,
        description="rows that a group needs to steer a worst group, and a number to have an "
        "interval",
        json_schema_extra=flag(RESULTS, "N"),
    )
    analyze: tuple[str, ...] = Field(
        (),
        description="then look inside the models (harness ls analyses); without a name: all "
        "analyses",
        json_schema_extra=flag(RESULTS, "NAME[,NAME]", bare=["all"]),
    )
    settings: dict[str, Any] = Field(
        default_factory=dict, description="task settings for all tasks, or under a task's name"
    )

    @field_validator("seeds")
    @classmethod
    def _distinct(cls, seeds: tuple[int, ...]) -> tuple[int, ...]:
        if len(set(seeds)) != len(seeds):
            raise ValueError("a seed is given twice")
        return seeds

    @model_validator(mode="after")
    def _one_seed_a_checkpoint(self) -> RunConfig:
        if self.eval_only and len(self.seeds) > 1:
            raise ValueError("eval_only scores one checkpoint a role: give one seed")
        return self

    @property
    def rule(self) -> VerdictRule:
        """The margin, seeds and group size of verdicts."""
        from harness_plugin.records import VerdictRule  # NumPy: `harness --help` needs none

        return VerdictRule(self.margin, self.min_seeds, self.min_group)

    def source_of(self, task: Task) -> Source:
        """The kind of data source that `data` names, or the one that the task has of its own."""
        if self.data is None:
            return task.default_source
        return next((name for name in NAMED if name == self.data), "path")

    @property
    def data_path(self) -> Path | None:
        """The folder of the source `path`."""
        if self.data is None or self.data in NAMED:
            return None
        return Path(self.data)


def hub_sets_of(
    task: Task, options: Mapping[str, Any], source: str, config: RunConfig
) -> dict[str, HubSet]:
    """The evaluation sets that are a hub split row for row: not under a limit or other options."""
    changed = [name for name, value in options.items() if task.options[name].default != value]
    if source != "hub" or config.limit is not None or changed:
        return {}
    return dict(task.hub_sets)
