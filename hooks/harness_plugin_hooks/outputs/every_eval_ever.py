"""every_eval_ever_<time>/data/…: records for the Every Eval Ever datastore, schema 0.3.0.

One a model, `data/<collection>/<developer>/<model>/<uuid>.json`; with --log_samples one line a row
beside it, in `<uuid>_samples.jsonl`. The uuid has the shape of a version 4 but is drawn from the
record's content: the same run gives the same file. Written here, not by that project's converter
of lm-evaluation-harness results, which knows neither bounds nor intervals of grouped metrics.
"""

from __future__ import annotations

import hashlib
import json
import math
import uuid
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from harness_plugin import __version__
from harness_plugin.records import Predictions, RunReport
from harness_plugin.scoring.statistics.intervals import LEVEL
from harness_plugin.store.files import json_line, strict, timestamp, write_json, write_parts
from harness_plugin_hooks.leaderboard.submission import names_only
from harness_plugin_hooks.outputs.each_model import Evaluated, Number, each_model, set_name
from harness_plugin_hooks.outputs.lm_eval import documents, sha

if TYPE_CHECKING:
    from hashlib import _Hash as Digest

SCHEMA_VERSION = "0.3.0"
COLLECTION = "harness_plugin"
LOCAL = "local"
"""The developer of a model that has no owner on the hub."""


def write(report: RunReport, folder: Path) -> list[Path]:
    """One record a model; its samples when the run asked for them."""
    root = folder / f"every_eval_ever_{timestamp(report.started)}"
    files = []
    for evaluated in each_model(report):
        record = aggregate(report, evaluated)
        name = file_id(record)
        place = Path("data") / COLLECTION / record["model_info"]["id"]
        (root / place).mkdir(parents=True, exist_ok=True)
        if report.config.get("log_samples"):
            samples = place / f"{name}_samples.jsonl"
            digest = hashlib.sha256()
            write_parts(
                root / samples, hashed(map(json_line, instances(record, evaluated)), digest)
            )
            record["detailed_evaluation_results"] = {
                "format": "jsonl",
                "file_path": samples.as_posix(),
                "hash_algorithm": "sha256",
                "checksum": digest.hexdigest(),
                "total_rows": sum(map(len, evaluated.predictions)),
            }
            files.append(root / samples)
        file = root / place / f"{name}.json"
        write_json(file, strict(record))
        files.append(file)
    return files


def file_id(record: Mapping[str, Any]) -> uuid.UUID:
    """A name of the shape that the datastore asks for, always the same for the same record."""
    digest = hashlib.sha256(json.dumps(strict(record), sort_keys=True).encode()).digest()
    return uuid.UUID(bytes=digest[:16], version=4)


def model_id(evaluated: Evaluated) -> str:
    """`developer/model`, two parts of a path."""
    owner, slash, name = evaluated.model.name.partition("/")
    return f"{owner}/{name.replace('/', '__')}" if slash else f"{LOCAL}/{evaluated.folder}"


def aggregate(report: RunReport, evaluated: Evaluated) -> dict[str, Any]:
    """The record of one model; undefined numbers have no place in it and are left out."""
    model, scores, known = evaluated.model, evaluated.scores, model_id(evaluated)
    moment = str(int(report.started))
    return {
        "schema_version": SCHEMA_VERSION,
        "evaluation_id": f"{COLLECTION}_{scores.task}/{known}/{moment}",
        "retrieved_timestamp": moment,
        "evaluation_timestamp": moment,
        "source_metadata": {
            "source_name": "harness-plugin",
            "source_type": "evaluation_run",
            "source_organization_name": "unknown",
            # a model that the run has trained is the evaluator's own
            "evaluator_relationship": "first_party" if "stage" in model.settings else "other",
            "additional_details": strings({"notes": "; ".join(scores.notes)}),
        },
        "eval_library": {"name": "harness-plugin", "version": __version__},
        "model_info": {
            "name": model.name,
            "id": known,
            "inference_platform": "local",
            "inference_engine": {
                "name": "transformers",
                "version": str(report.environment["versions"].get("transformers")),
            },
            "additional_details": {
                "deployment_type": "self_deployed",
                "model_availability": "unknown",
                **strings(
                    {
                        "role": model.role,
                        "seed": model.seed,
                        "method": model.method,
                        "architecture": names_only(model.model),
                    }
                ),
            },
        },
        "evaluation_results": [
            result(report, evaluated, p, number)
            for p in evaluated.predictions
            for number in evaluated.numbers(p.split)
            if not math.isnan(number.value)
        ],
    }


def result(
    report: RunReport, evaluated: Evaluated, p: Predictions, number: Number
) -> dict[str, Any]:
    """One number: what it is, between which bounds it lies, how sure it is."""
    low, high = number.metric.bounds
    resamples = int(report.config["resamples"])
    uncertainty: dict[str, Any] = {"num_samples": number.n}
    if not math.isnan(number.low):
        uncertainty |= {
            "standard_error": {"value": number.error, "method": "bootstrap"},
            "confidence_interval": {
                "lower": number.low,
                "upper": number.high,
                "confidence_level": LEVEL,
                "method": "bootstrap variance over rows within group and label, Student's t",
            },
            "num_bootstrap_samples": resamples,
        }
    return {
        "evaluation_result_id": result_id(p, number.name),
        "evaluation_name": set_name(p),
        "source_data": source_data(evaluated, p),
        "metric_config": {
            "evaluation_description": f"{number.metric.summary}"
            + (f", rows of group {number.group}" if number.group else ""),
            "metric_id": f"{COLLECTION}.{number.metric.name}",
            "metric_name": number.name,
            "metric_kind": number.metric.kind,
            "metric_unit": "proportion",
            "metric_parameters": {"group": number.group or None, "collapse_rule": p.collapse_rule},
            "lower_is_better": not number.metric.higher_is_better,
            "score_type": "continuous",
            "min_score": low,
            "max_score": high,
        },
        "score_details": {"score": number.value, "uncertainty": uncertainty},
    }


def result_id(p: Predictions, metric: str) -> str:
    """The key by which samples and numbers are joined."""
    return f"{set_name(p)}/{metric}"


def source_data(evaluated: Evaluated, p: Predictions) -> dict[str, Any]:
    """Where the rows come from; embedded data say so in their name."""
    scores = evaluated.scores
    label = f" ({evaluated.embedded})" if evaluated.embedded else ""
    details = {"source": scores.source, "fingerprint": scores.fingerprint, "set": p.split}
    record = {"dataset_name": f"{set_name(p)}{label}", "additional_details": strings(details)}
    if hub := scores.hub_sets.get(p.split):
        return {
            **record,
            "source_type": "hf_dataset",
            "hf_repo": hub.id,
            "hf_split": hub.split,
            "samples_number": len(p),
        }
    return {**record, "source_type": "other"}


def instances(record: Mapping[str, Any], evaluated: Evaluated) -> Iterator[dict[str, Any]]:
    """One line a row and set, joined to the set's accuracy."""
    for p in evaluated.predictions:
        known = {
            "schema_version": SCHEMA_VERSION,
            "evaluation_id": record["evaluation_id"],
            "model_id": record["model_info"]["id"],
            "evaluation_name": set_name(p),
            "evaluation_result_id": result_id(p, "acc"),
        }
        for i, doc in documents(p, np.arange(len(p))):
            yield known | instance(p, i, doc)


def hashed(lines: Iterable[str], digest: Digest) -> Iterator[str]:
    """The lines as they come; `digest` gets their bytes."""
    for line in lines:
        digest.update(line.encode())
        yield line


def instance(p: Predictions, i: int, doc: dict[str, Any]) -> dict[str, Any]:
    """One row: the question, the gold label, the model's answer."""
    texts = {column: doc.pop(column) for column in p.texts}
    sample = doc.pop("id")
    # an image is named, not shown
    raw = "\n".join(f"{column}: {text}" for column, text in texts.items()) or f"image {sample}"
    gold, predicted = p.labels[p.label[i]], p.labels[p.predicted[i]]
    correct = bool(p.correct[i])
    return {
        "sample_id": sample,
        "sample_hash": sha(raw + json.dumps([gold])),
        "interaction_type": "single_turn",
        "input": {"raw": raw, "reference": [gold], "choices": list(p.labels)},
        "output": {"raw": [predicted]},
        "messages": None,
        "answer_attribution": [
            {
                "turn_idx": 0,
                "source": "output.raw",
                "extracted_value": predicted,
                "extraction_method": f"most probable label, collapse rule {p.collapse_rule}",
                "is_terminal": True,
            }
        ],
        "evaluation": {"score": float(correct), "is_correct": correct},
        "metadata": strings(doc),
    }


def strings(values: Mapping[str, Any]) -> dict[str, str]:
    """Details as the schema has them: text only."""
    return {
        str(name): value if isinstance(value, str) else json.dumps(strict(value))
        for name, value in values.items()
    }
