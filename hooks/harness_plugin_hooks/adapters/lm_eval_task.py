"""An evaluation set of ours as a task of lm-evaluation-harness."""

from __future__ import annotations

import json
import logging
import math
from collections.abc import Mapping, Sequence
from functools import cache, lru_cache, partial
from typing import Any

import datasets
import numpy as np
from lm_eval.api.task import ConfigurableTask

from harness_plugin.config.run_config import RunConfig
from harness_plugin.data.dataset import TaskData, load_data
from harness_plugin.data.task import Task, find_task
from harness_plugin.errors import HarnessError, unknown
from harness_plugin.plugins.registry import load_plugins
from harness_plugin.store.stages import key_of

# importing these registers what they define: a task that is given as a file is read, and with it
# this module, before the model type is looked up
from harness_plugin_hooks.adapters import lm_eval_filter as lm_eval_filter
from harness_plugin_hooks.adapters import lm_eval_model as lm_eval_model
from harness_plugin_hooks.adapters.checkpoints import instruction
from harness_plugin_hooks.adapters.lm_eval_metrics import (
    RESAMPLES,
    Facts,
    Item,
    as_predictions,
    estimate,
    group_acc,
    metrics_of_answers,
)
from harness_plugin_hooks.adapters.lm_eval_rows import (
    LabelLogProbability,
    Prompt,
    Question,
    documents,
)
from harness_plugin_hooks.outputs.lm_eval import metric_key

LOG = logging.getLogger(__name__)
DEFAULTS = {
    "output_type": "multiple_choice",
    "test_split": "test",
    "num_fewshot": 0,
    "doc_to_choice": "labels",
    "doc_to_target": "label",
}
"""Settings that all text tasks share."""
ACCURACY = {"metric": "acc", "aggregation": "mean", "higher_is_better": True}
"""That harness' own mean, with its error; readers take the first metric for "is correct"."""


def answer(doc: Mapping[str, Any], results: Sequence[tuple[float, bool]]) -> int:
    """The label (an index) that log-probabilities and flags of all labels amount to.

    Of a classifier it is the likeliest one; where its labels are collapsed by "argmax" (McCoy et
    al. 2019) what its first choice becomes, and the flag says so. Of a model that writes it is the
    one likeliest per character, as in that harness' acc_norm: a longer label is less likely.
    """
    scores = [score for score, _ in results]
    if not isinstance(scores[0], LabelLogProbability):
        lengths = [len(label) for label in doc["labels"]]
        return int(np.argmax([score / n for score, n in zip(scores, lengths, strict=True)]))
    flagged = [i for i, (_, first) in enumerate(results) if first]
    if doc["first_choice"] and len(flagged) == 1:
        return flagged[0]
    return int(np.argmax(scores))


@cache
def task_named(name: str) -> Task:
    """The text task of that name, or in that YAML file; HarnessError for any other."""
    task = find_task(name, load_plugins()["task"])
    if task.modality != "text":
        raise HarnessError(f"task {task.task} is about images; lm_eval hands over text only.")
    return task


@lru_cache(maxsize=1)
def load(name: str, data: str | None, options: str, seed: int) -> TaskData:
    """All sets of a task, kept for the next set of the same task; `options` are JSON."""
    task, config = task_named(name), RunConfig(tasks=(name,), data=data)
    source, values = config.source_of(task), json.loads(options)
    return load_data(task, source, path=config.data_path, options=values, seed=seed)


class TextTask(ConfigurableTask):  # type: ignore[misc]
    """One evaluation set of a text task.

    `dataset_kwargs` in the YAML file: `task` (a name, or a YAML file of one's own) and `set`; also,
    or in `--metadata`: `data` (embedded, hub or a folder), `data_seed`, `resamples`, and options
    of the task as `<task>.<option>`. A `metric_list` chooses among the metrics; without one there
    are all that are registered and defined on the set.

    Documents come in an order of which every beginning holds every group. Beside the metrics there
    are `<metric>_low` and `<metric>_high`, a 95% interval, and `acc_<group>`. The configuration
    that is written with the results says where the data come from, and why a number is undefined.
    """

    def __init__(self, config: Mapping[str, Any]) -> None:
        settings = {name: value for name, value in config.items() if name != "class"}
        self.chosen = [metric["metric"] for metric in settings.get("metric_list") or ()]
        # without a name in process_results, metrics are looked for on the hub
        ours = {"metric_list": [dict(ACCURACY)], "process_results": "process_results"}
        super().__init__(config={**DEFAULTS, **settings, **ours})

    def download(self, dataset_kwargs: Mapping[str, Any] | None = None, **_: Any) -> None:
        """Load the set as a run does, and learn what is to be computed on it."""
        values = {**(dataset_kwargs or {}), **(self.config.metadata or {})}
        name, set_name, seed = (
            str(values["task"]),
            str(values["set"]),
            int(values.get("data_seed", 0)),
        )
        task = task_named(name)
        own = f"{task.task}."
        options = {k.removeprefix(own): v for k, v in values.items() if k.startswith(own)}
        data = load(name, values.get("data"), json.dumps(options, sort_keys=True), seed)
        if set_name not in {split.name for split in data.evaluation}:
            kind = f"evaluation set in the {data.source} data of task {task.task}"
            raise unknown(kind, set_name, [split.name for split in data.evaluation])
        self.split, self.inputs = data.splits[set_name], task.inputs
        self.question = Question.of(self.split)
        self.facts = Facts(
            labels=self.split.labels,
            groups=self.split.groups,
            task=task.task,
            split=self.split.name,
            resamples=int(values.get("resamples", RESAMPLES)),
            seed=seed,
        )
        docs = documents(self.split, self.inputs, seed)
        self.dataset = datasets.DatasetDict({self.config.test_split: docs})
        self.config.metadata = {
            **(self.config.metadata or {}),
            "source": data.source,
            "fingerprint": self.split.fingerprint,
            "collapse_rule": self.split.collapse_rule if self.split.collapse else None,
            "groups": dict(zip(self.split.groups, self.split.group_counts.tolist(), strict=True)),
            "notes": list(data.notes),
            "undefined": {},
        }
        self.bind_metrics()
        LOG.info("%s: %d rows of %s data", self.config.task, len(self.split), data.source)

    def bind_metrics(self) -> None:
        """Measure what was chosen, or all that is defined on the whole set, and every group."""
        known = metrics_of_answers()
        for name in self.chosen:
            if name not in known:
                raise unknown(f"metric of a text task ({self.config.task})", name, known)
        rows = zip(self.split.label, self.split.membership, self.split.aligned, strict=True)
        right = as_predictions(
            [(y, y, np.flatnonzero(groups).tolist(), a) for y, groups, a in rows], self.facts
        )
        defined = [name for name, metric in known.items() if not metric.applies(right)]
        for name in dict.fromkeys(["acc", *(self.chosen or defined)]):
            higher = known[name].higher_is_better
            if name != "acc":
                self._metric_fn_list[name], self._metric_fn_kwargs[name] = None, {}
                self._aggregation_list[name] = partial(self.measured, name, "value")
                listed = {"metric": name, "aggregation": name, "higher_is_better": higher}
                self.config.metric_list.append(listed)
            for end in ("low", "high"):
                self._aggregation_list[f"{name}_{end}"] = partial(self.measured, name, end)
            self._higher_is_better |= dict.fromkeys((name, f"{name}_low", f"{name}_high"), higher)
        for group in self.split.groups:
            self._aggregation_list[metric_key(f"acc_{group}")] = group_acc
            self._higher_is_better[metric_key(f"acc_{group}")] = True

    def measured(self, name: str, part: str, items: Sequence[Item]) -> float | None:
        """The value of a metric, or an end of its interval; None and a note where undefined."""
        result = estimate(metrics_of_answers()[name], items, self.facts)
        value = float(getattr(result, part))
        if not math.isnan(value):
            return value
        if name not in self.config.metadata["undefined"]:
            LOG.warning("%s: %s is not defined: %s", self.config.task, name, result.reason)
        self.config.metadata["undefined"][name] = result.reason
        return None

    def doc_to_text(self, doc: Mapping[str, Any], doc_to_text: Any = None) -> Any:
        """The instruction, unless the YAML file has a `doc_to_text` of its own."""
        if self.config.doc_to_text is not None or doc_to_text is not None:
            return super().doc_to_text(doc, doc_to_text)
        text = instruction(self.inputs, [doc[name] for name in self.inputs], self.question.labels)
        if self.question.collapse and self.question.rule != "argmax":
            # its caches go by the text alone, and must not take one rule's answers for another's
            text += f" Labels are collapsed by {self.question.rule}."
        return text

    def construct_requests(self, doc: Mapping[str, Any], ctx: str, **rest: Any) -> Any:
        """As ever; each request also carries the texts and the question, for classifiers."""
        prompt = Prompt.of(ctx, [doc[name] for name in self.inputs], self.question)
        return super().construct_requests(doc, prompt, **rest)

    def fewshot_docs(self) -> Any:
        """None unless examples are to stand in the prompt: reading all documents takes time."""
        return super().fewshot_docs() if self.config.num_fewshot else None

    def process_results(
        self, doc: Mapping[str, Any], results: Sequence[tuple[float, bool]]
    ) -> dict[str, Any]:
        """The value that every metric keeps of a document."""
        labels, groups = self.facts.labels, self.facts.groups
        predicted, gold = answer(doc, results), labels.index(doc["label"])
        members = [groups.index(name) for name in doc["groups"]]
        item = (predicted, gold, members, doc["aligned"], doc.get("cluster"))
        right = float(predicted == gold)
        single = {
            metric_key(f"acc_{name}"): right if name in doc["groups"] else None for name in groups
        }
        single["acc"] = right
        return {name: single.get(name, item) for name in self._aggregation_list}

    def build_all_requests(
        self,
        *,
        rank: int = 0,
        world_size: int = 1,
        limit: int | None = None,
        samples: list[int] | None = None,
        tokenizer_name: str = "",
        **rest: Any,
    ) -> None:
        """As ever, but cached requests belong to these data, and a rank may have no document.

        Such a rank asks what the first document asks, because all ranks ask together; nothing
        scores its answer.
        """
        config = {k: v for k, v in self.dump_config().items() if k != "metadata"}
        key = key_of({"data": self.split.fingerprint, "seed": self.facts.seed, "config": config})
        share: dict[str, Any] = {"rank": rank, "world_size": world_size, "limit": limit}
        if next(iter(self.doc_iterator(**share, samples=samples)), None) is None:
            share, samples, rest = {"limit": 1}, None, {**rest, "cache_requests": False}
        super().build_all_requests(
            **share, samples=samples, tokenizer_name=f"{tokenizer_name}-{key}", **rest
        )

    def apply_filters(self) -> Any:
        """Drop the answers to requests that were repeated so that all ranks have as many."""
        for instance in self._instances:
            del instance.resps[instance.repeats :]
        return super().apply_filters()
