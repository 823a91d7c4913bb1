"""Every place a plugin can join in, in the order a run reaches them: this file is the contract.

Offers come first: each hands you a `register` callable that takes a name, a "module:attribute"
string (imported only when the name is used) and one line of help. Moments follow: each is named
for what has just happened and hands you frozen records. docs/hooks.md has an example for each.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from pluggy import HookimplMarker, HookspecMarker

if TYPE_CHECKING:
    from collections.abc import Sequence

    from harness_plugin.config.run_config import RunConfig
    from harness_plugin.data.dataset import TaskData
    from harness_plugin.data.task import Task
    from harness_plugin.records import RunReport, SetPlan, TaskScores, TrainedModel

hookspec = HookspecMarker("harness_plugin")
hookimpl = HookimplMarker("harness_plugin")


class Register(Protocol):
    """The function that offering hooks receive."""

    def __call__(self, name: str, target: str, *, summary: str, by_name_only: bool = False) -> None:
        """Offer `target` ("module:attribute", or "package:file.yaml" for a task) as `name`.

        `by_name_only`: an output that a run writes only where `--outputs` names it.
        """


@hookspec
def register_tasks(register: Register) -> None:
    """Offer tasks: `target` is "package:file.yaml"."""


@hookspec
def register_backbones(register: Register) -> None:
    """Offer model presets: `target` is a `models.checkpoints.Backbone`."""


@hookspec
def register_methods(register: Register) -> None:
    """Offer debiasing methods: `target` is a `methods.Method` class."""


@hookspec
def register_bias_models(register: Register) -> None:
    """Offer models of the spurious cue alone: `target` is a `methods.BiasModel` class."""


@hookspec
def register_group_inferences(register: Register) -> None:
    """Offer ways to find groups without labels: `target` is a `methods.GroupInference` class."""


@hookspec
def register_distillers(register: Register) -> None:
    """Offer distillation losses: `target` is a `methods.Distiller` class."""


@hookspec
def register_augmentations(register: Register) -> None:
    """Offer further training rows for students: `target` is a `methods.Augmentation` class."""


@hookspec
def register_compressors(register: Register) -> None:
    """Offer ways to make a teacher smaller: `target` is a `training.compression.Compressor`."""


@hookspec
def register_remedies(register: Register) -> None:
    """Offer repairs of a student: `target` is a `plugins.remedies.Remedy` of the same name."""


@hookspec
def register_metrics(register: Register) -> None:
    """Offer metrics of one model on one evaluation set: `target` is a `metrics.Metric`."""


@hookspec
def register_analyses(register: Register) -> None:
    """Offer analyses of trained models: `target` is an `analysis.contract.Analysis`."""


@hookspec
def register_outputs(register: Register) -> None:
    """Offer result writers: `target` is a function `(report, folder) -> list of files`."""


@hookspec
def register_commands(register: Register) -> None:
    """Offer sub-commands of `harness`: `target` is a function `(words) -> exit status`."""


@hookspec
def run_started(config: RunConfig) -> None:
    """The configuration is resolved, data are loaded, all is checked; nothing is trained yet."""


@hookspec
def data_loaded(task: Task, data: TaskData, plans: Sequence[SetPlan]) -> None:
    """The splits of one task are loaded and checked.

    `plans`: what the seeds of this run can show on each evaluation set; empty where nothing is
    trained.
    """


@hookspec
def model_trained(model: TrainedModel) -> None:
    """One model of one seed is trained, or was found finished in the store."""


@hookspec
def scores_computed(scores: TaskScores) -> None:
    """One task is scored over all its seeds."""


@hookspec
def run_finished(report: RunReport) -> None:
    """Every task is scored and every output is written."""
