"""One results file an evaluated model, in the layout of lm-evaluation-harness 0.4.13.

The layout is that of its EvaluationTracker and result_schema: `<model>/results_<time>.json`, keys
"<metric>,<filter>", samples beside it, hashed by its recipe, so that its own printers and loggers
read these files. Differences are on purpose: an undefined number is null, not NaN (an undefined
error is "N/A", as there); samples are sorted by id, so that the hash does not depend on the number
of processes; `config` also holds model_name, which other readers look for.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Iterable, Iterator
from json.encoder import encode_basestring, encode_basestring_ascii
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from harness_plugin.records import Ints, Predictions, RunReport
from harness_plugin.records.run_folder import MODELS
from harness_plugin.store.files import strict, timestamp, write_json, write_parts
from harness_plugin_hooks.leaderboard.submission import names_only
from harness_plugin_hooks.outputs.each_model import Evaluated, each_model, set_name

if TYPE_CHECKING:
    from hashlib import _Hash as Digest

SCHEMA_VERSION = "0.4.13"
NOT_KNOWN = "N/A"
"""Standard error in their files, and in their table, of a metric that has none."""
CHUNK = 8192
"""Rows whose texts are in memory at a time."""
NOT_IN_PROMPT = ("id", "label", "group")
"""Fields of a document that are not in its prompt."""
ENCODED = json.JSONEncoder(ensure_ascii=False).encode
"""One for all rows: `json.dumps` makes an encoder each time."""


def write(report: RunReport, folder: Path) -> list[Path]:
    """results_*.json of every model of every task; samples_*.jsonl when the run asked for them."""
    return [
        file
        for evaluated in each_model(report)
        for file in write_model(report, evaluated, folder / MODELS / evaluated.folder)
    ]


def write_model(report: RunReport, evaluated: Evaluated, target: Path) -> list[Path]:
    """The files of one model, in the folder `target`."""
    target.mkdir(parents=True, exist_ok=True)
    stamp = timestamp(report.started)
    files, hashes = [], {}
    if report.config.get("log_samples"):
        for p in evaluated.predictions:
            digest = hashlib.sha256()
            file = target / f"samples_{set_name(p)}_{stamp}.jsonl"
            write_parts(file, sample_lines(p, digest))
            hashes[set_name(p)] = digest.hexdigest()
            files.append(file)
    result = results(report, evaluated, hashes)
    file = target / f"results_{stamp}.json"
    write_json(file, strict(result))
    return [file, *files]


def results(report: RunReport, evaluated: Evaluated, hashes: dict[str, str]) -> dict[str, Any]:
    """The whole results file."""
    scores, model = evaluated.scores, evaluated.model
    tables, better, sizes, configs = {}, {}, {}, {}
    for p in evaluated.predictions:
        name = set_name(p)
        row: dict[str, Any] = {"name": name, "alias": name, "sample_len": len(p)}
        numbers = list(evaluated.numbers(p.split))
        for number in numbers:
            row[f"{metric_key(number.name)},none"] = number.value
            known = not math.isnan(number.error)
            row[f"{metric_key(number.name)}_stderr,none"] = number.error if known else NOT_KNOWN
        tables[name] = row
        better[name] = {metric_key(n.name): n.metric.higher_is_better for n in numbers}
        sizes[name] = {"original": len(p), "effective": len(p)}
        configs[name] = configuration(name, p) | {
            "metadata": {
                "version": 1,
                "source": scores.source,
                "fingerprint": scores.fingerprint,
                "collapse_rule": p.collapse_rule if p.collapse else None,
            },
        }
    environment = report.environment
    return {
        "results": tables,
        "group_subtasks": {},
        "configs": configs,
        "versions": {name: 1 for name in tables},
        "n-shot": {name: 0 for name in tables},
        "higher_is_better": better,
        "n-samples": sizes,
        "config": names_only(strict(settings_of(report, evaluated))),
        "git_hash": None,
        "date": report.started,
        "pretty_env_info": json.dumps(names_only(strict(environment)), indent=1),
        "transformers_version": environment["versions"].get("transformers"),
        "lm_eval_version": SCHEMA_VERSION,
        "upper_git_hash": None,
        "task_hashes": hashes,
        "max_length": model.max_length or None,
        "model_source": "harness-plugin",
        "model_name": model.name,
        "model_name_sanitized": model.name.replace("/", "__"),
        "system_instruction": None,
        "system_instruction_sha": None,
        "fewshot_as_multiturn": None,
        "chat_template": None,
        "chat_template_sha": None,
        "total_evaluation_time_seconds": str(report.seconds),
    }


def metric_key(name: str) -> str:
    """A metric as a key of results: a slash, as groups have, is what its loggers cut keys at."""
    return name.replace("/", ":")


def configuration(name: str, p: Predictions) -> dict[str, Any]:
    """A task's configuration as that harness fills it for one that asks for one of the labels.

    `metric_list` names what every sample holds a value of: its loggers read each there.
    """
    return {
        "task": name,
        "dataset_kwargs": {"task": p.task, "set": p.split},
        "test_split": p.split,
        "doc_to_target": "label",
        "doc_to_choice": list(p.labels),
        "unsafe_code": False,
        "description": "",
        "target_delimiter": " ",
        "fewshot_delimiter": "\n\n",
        "num_fewshot": 0,
        "metric_list": [{"metric": "acc", "aggregation": "mean", "higher_is_better": True}],
        "output_type": "multiple_choice",
        "repeats": 1,
        "should_decontaminate": False,
    }


def settings_of(report: RunReport, evaluated: Evaluated) -> dict[str, Any]:
    """How the model was made and asked, under the names of lm-evaluation-harness."""
    model, environment = evaluated.model, report.environment
    return {
        "model": "harness-plugin",
        "model_name": model.name,
        "model_args": {
            "pretrained": model.path.name,
            "role": model.role,
            "method": model.method,
            **model.settings,
        },
        "model_dtype": "float32",
        "model_sha": model.settings.get("stage", ""),
        "batch_size": str(report.config.get("eval_batch_size")),
        "batch_sizes": [],
        "device": next((c["device"] for c in environment["choices"].values()), None),
        "use_cache": report.config.get("use_cache"),
        "limit": report.config.get("limit"),
        "bootstrap_iters": report.config.get("resamples"),
        "gen_kwargs": {},
        "random_seed": model.seed,
        "numpy_seed": model.seed,
        "torch_seed": model.seed,
        "fewshot_seed": model.seed,
    }


def sample_lines(p: Predictions, digest: Digest) -> Iterator[str]:
    """The lines of a samples file, sorted by id; `digest` gets the hashes of what was asked.

    One line an example, as for a multiple-choice task whose choices are the labels. Lines are put
    together from encoded texts: an encoder that walks through each sample takes three times as
    long.
    """
    log_probs = np.log(np.clip(p.probabilities, 1e-45, None))
    hashes = {label: sha(label) for label in p.labels}
    choices = [encoded(f" {label}") for label in p.labels]
    for i, doc in documents(p, np.argsort(p.ids, kind="stable")):
        target, predicted = p.labels[p.label[i]], int(p.predicted[i])
        fields = {name: f"{encoded(name)}: {encoded(value)}" for name, value in doc.items()}
        context = f"{{{', '.join(fields[name] for name in fields if name not in NOT_IN_PROMPT)}}}"
        doc_hash, prompt_hash = sha(indented(doc)), sha(context)
        digest.update(f"{doc_hash}{prompt_hash}{hashes[target]}".encode())
        prompt = encoded(context)
        arguments = ", ".join(
            f'"gen_args_{c}": {{"arg_0": {prompt}, "arg_1": {choice}}}'
            for c, choice in enumerate(choices)
        )
        values = enumerate(log_probs[i].tolist())
        answers = [f'["{value:.6f}", "{predicted == c}"]' for c, value in values]
        yield (
            f'{{"doc_id": {i}, "doc": {{{", ".join(fields.values())}}}, '
            f'"target": {encoded(target)}, "arguments": {{{arguments}}}, '
            f'"resps": [{", ".join(f"[{one}]" for one in answers)}], '
            f'"filtered_resps": [{", ".join(answers)}], "filter": "none", "metrics": ["acc"], '
            f'"doc_hash": "{doc_hash}", "prompt_hash": "{prompt_hash}", '
            f'"target_hash": "{hashes[target]}", "acc": {float(p.correct[i])}}}\n'
        )


def documents(p: Predictions, order: Ints) -> Iterator[tuple[int, dict[str, Any]]]:
    """The number and the document of each row, in `order`: id, label, group, bias types, texts.

    Few rows' texts are in memory at a time.
    """
    for start in range(0, len(order), CHUNK):
        rows = order[start : start + CHUNK]
        columns: dict[str, Iterable[Any]] = {"id": p.ids[rows].tolist()}
        columns["label"] = [p.labels[label] for label in p.label[rows].tolist()]
        if p.members is None:
            columns["group"] = [p.groups[g] if g >= 0 else None for g in p.group[rows].tolist()]
        else:
            columns["groups"] = [
                [p.groups[g] for g in member.nonzero()[0].tolist()] for member in p.members[rows]
            ]
        columns |= {name: map(str, values[rows].tolist()) for name, values in p.breakdowns.items()}
        columns |= {column: values.take(rows).to_pylist() for column, values in p.texts.items()}
        for i, *values in zip(rows.tolist(), *columns.values(), strict=True):
            yield i, dict(zip(columns, values, strict=True))


def indented(doc: dict[str, Any]) -> str:
    """`json.dumps(doc, indent=2, ensure_ascii=False)`, which that harness hashes, but quicker.

    Values are texts, None, or lists of texts.
    """
    parts = []
    for name, value in doc.items():
        text = encode_basestring(value) if isinstance(value, str) else ENCODED(value)
        if isinstance(value, list) and value:
            text = "[\n" + ",\n".join(f"    {encode_basestring(item)}" for item in value) + "\n  ]"
        parts.append(f"  {encode_basestring(name)}: {text}")
    return "{\n" + ",\n".join(parts) + "\n}"


def encoded(value: Any) -> str:
    """A text, None, or a list of texts as JSON in ASCII."""
    return encode_basestring_ascii(value) if isinstance(value, str) else json.dumps(value)


def sha(text: str) -> str:
    """SHA-256, in hexadecimal."""
    return hashlib.sha256(text.encode()).hexdigest()
