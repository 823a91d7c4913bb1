"""Every Eval Ever: our records are what its schemas ask for."""

import hashlib
import importlib.util
import json
import re
from pathlib import Path

import jsonschema
import pytest
from finished_reports import STAMP
from strict_json import lines, read

from harness_plugin_hooks.metrics import FAIRNESS
from harness_plugin_hooks.outputs import (
    every_eval_ever,
)

NUMBER, TEXT = {"type": "number"}, {"type": "string"}
TEXTS = {"type": "object", "additionalProperties": TEXT}


def thing(required, optional=(), **more):
    """An object with these keys and no others."""
    properties = {**{key: {} for key in (*required.split(), *optional)}, **more}
    return {
        "type": "object",
        "required": required.split(),
        "properties": properties,
        "additionalProperties": False,
    }


RESULT = thing(
    "evaluation_result_id evaluation_name source_data metric_config score_details",
    source_data={
        "type": "object",
        "required": ["dataset_name", "source_type"],
        "properties": {"source_type": {"enum": ["hf_dataset", "other"]}, "details": TEXTS},
    },
    metric_config={
        "type": "object",
        "required": ["lower_is_better", "score_type", "min_score", "max_score", "metric_id"],
        "properties": {
            "lower_is_better": {"type": "boolean"},
            "score_type": {"const": "continuous"},
            "min_score": NUMBER,
            "max_score": NUMBER,
        },
    },
    score_details=thing(
        "score uncertainty",
        score=NUMBER,
        uncertainty=thing(
            "num_samples",
            ("standard_error", "confidence_interval", "num_bootstrap_samples"),
            confidence_interval=thing(
                "lower upper confidence_level method", lower=NUMBER, upper=NUMBER
            ),
        ),
    ),
)
AGGREGATE = thing(
    "schema_version evaluation_id retrieved_timestamp source_metadata eval_library model_info "
    "evaluation_results",
    ("evaluation_timestamp", "detailed_evaluation_results"),
    schema_version={"const": "0.3.0"},
    retrieved_timestamp=TEXT,
    source_metadata={
        "type": "object",
        "required": ["source_type", "source_organization_name", "evaluator_relationship"],
        "properties": {
            "source_type": {"const": "evaluation_run"},
            "evaluator_relationship": {"enum": ["first_party", "other"]},
            "additional_details": TEXTS,
        },
    },
    model_info={
        "type": "object",
        "required": ["name", "id", "additional_details"],
        "properties": {
            "additional_details": {
                **TEXTS,
                "required": ["deployment_type", "model_availability"],
            }
        },
    },
    evaluation_results={"type": "array", "minItems": 1, "items": RESULT},
)
INSTANCE = thing(
    "schema_version evaluation_id model_id evaluation_name sample_id interaction_type input output "
    "answer_attribution evaluation",
    ("evaluation_result_id", "sample_hash"),
    sample_id=TEXT,
    interaction_type={"const": "single_turn"},
    input=thing("raw reference choices", raw=TEXT, reference={"type": "array", "items": TEXT}),
    output=thing("raw", raw={"type": "array", "items": TEXT}),
    messages={"type": "null"},
    answer_attribution={
        "type": "array",
        "items": thing("turn_idx source extracted_value extraction_method is_terminal"),
    },
    evaluation=thing("score is_correct", score=NUMBER, is_correct={"type": "boolean"}),
    metadata=TEXTS,
)
UUID4 = r"[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}"


def schemas():
    """What the datastore asks for: its own package's where that is installed, else our reading."""
    if result := importlib.util.find_spec("every_eval_ever"):
        (place,) = result.submodule_search_locations
        names = ("eval", "instance_level_eval")
        return [read(Path(place) / "schemas" / f"{name}.schema.json") for name in names]
    return AGGREGATE, INSTANCE


def test_every_eval_ever_records_are_valid_and_complete(embedded_report, written_files):
    (scores,) = embedded_report.tasks
    aggregate, instance = map(jsonschema.Draft7Validator, schemas())
    root = written_files / f"every_eval_ever_{STAMP}"
    files = sorted(root.glob("data/harness_plugin/local/*/*.json"))
    assert len(files) == 15
    for file in files:
        assert re.fullmatch(UUID4, file.stem)
        record = read(file)
        aggregate.validate(record)
        assert record["model_info"]["id"] == "/".join(file.parts[-3:-1])
        results = {r["evaluation_result_id"]: r for r in record["evaluation_results"]}
        assert len(results) == len(record["evaluation_results"])
        for r in results.values():
            low, high = (r["metric_config"][key] for key in ("min_score", "max_score"))
            score, uncertainty = r["score_details"]["score"], r["score_details"]["uncertainty"]
            name = r["evaluation_result_id"].rpartition("/")[2]
            assert ("confidence_interval" in uncertainty) == (name not in FAIRNESS)
            interval = uncertainty.get("confidence_interval", {"lower": score, "upper": score})
            assert low <= interval["lower"] <= interval["upper"] <= high
            assert low <= score <= high
            assert "(embedded data)" in r["source_data"]["dataset_name"]
        role, seed = record["model_info"]["name"].split("-")[1:]
        gap = scores.of(role, "swapped").metrics["gap_avg_worst"]
        result = results["made_swapped/gap_avg_worst"]
        assert result["score_details"]["score"] == gap.seeds[int(seed[-1])]
        assert result["metric_config"]["lower_is_better"] is True
        assert result["metric_config"]["min_score"] == -1
        details = record["detailed_evaluation_results"]
        samples = root / details["file_path"]
        assert samples == file.with_name(f"{file.stem}_samples.jsonl")
        assert details["checksum"] == hashlib.sha256(samples.read_bytes()).hexdigest()
        rows = lines(samples)
        assert details["total_rows"] == len(rows) == 320
        for row in rows[::16]:
            instance.validate(row)
        assert {row["evaluation_id"] for row in rows} == {record["evaluation_id"]}
        assert {row["model_id"] for row in rows} == {record["model_info"]["id"]}
        for name in ("made_id", "made_swapped"):
            right = [row["evaluation"]["score"] for row in rows if row["evaluation_name"] == name]
            score = results[f"{name}/acc"]["score_details"]["score"]
            assert sum(right) / len(right) == pytest.approx(score)
        assert {row["metadata"]["group"] for row in rows} == {"a/x", "a/y", "b/x", "b/y"}


def test_every_eval_ever_names_are_those_of_the_content(hub_report, embedded_report, tmp_path):
    first, again = (every_eval_ever.write(hub_report, tmp_path / name) for name in "ab")
    assert [file.name for file in first] == [file.name for file in again]
    assert len({file.name for file in first}) == len(first)
    other = every_eval_ever.write(embedded_report, tmp_path / "c")
    assert not {file.name for file in first} & {file.name for file in other}
    record = read(next(file for file in first if file.suffix == ".json"))
    (source,) = {json.dumps(r["source_data"]) for r in record["evaluation_results"][:1]}
    assert json.loads(source)["hf_repo"] == "org/pairs"
