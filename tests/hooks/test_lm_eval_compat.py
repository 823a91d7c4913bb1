"""lm-evaluation-harness 0.4.13's own readers over our files; its numbers are those of a run."""

import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch

pytest.importorskip(
    "lm_eval", reason="lm_eval is not installed: pip install 'debias-transfer[lm-eval]'"
)

from lm_eval.loggers.wandb_logger import WandbLogger
from lm_eval.utils import (
    get_file_task_name,
    get_latest_filename,
    get_results_filenames,
    get_sample_results_filenames,
    hash_string,
    make_table,
)

from harness_plugin.cli.main import main
from harness_plugin.scoring.files.transfer_record import read_record
from harness_plugin_hooks.adapters.inspect_model import SequenceClassifier as InspectClassifier
from harness_plugin_hooks.adapters.lm_eval_model import SequenceClassifier
from harness_plugin_hooks.adapters.lm_eval_rows import Question

TOY = str(Path(__file__).resolve().parents[1] / "toy" / "toy.yaml")
TASK = """\
class: !function harness_plugin_hooks.adapters.lm_eval_task.TextTask
task: toy_swapped
dataset_kwargs: {{task: {toy}, set: swapped}}
"""


def read(file):
    return json.loads(Path(file).read_text("utf-8"))


def lines(file):
    return [json.loads(line) for line in Path(file).read_text("utf-8").splitlines()]


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """A run with bf16 autocast and eager attention, and what lm_eval makes of its student.

    Its own choice of batch size, length, precision and attention: nothing is said on the command
    line.
    """
    folder = tmp_path_factory.mktemp("compat")
    command = f"--tasks {TOY} --seeds 0 --threads 1 --precision bf16 --attention eager"
    command += f" --log_samples --device cpu --resamples 100 --output_path {folder}/run"
    command += f" --use_cache {folder}/store --set references=false"
    assert main([*command.split(), "--set", "student.epochs=6", "--set", "teacher.epochs=4"]) == 0
    (record,) = [read_record(file) for file in (folder / "run").rglob("transfer_toy_*.json")]
    (student,) = [model for model in record.models if model.role == "student"]
    (folder / "toy_swapped.yaml").write_text(TASK.format(toy=TOY))
    words = ["lm-eval", "run", "--model", "seqcls", "--device", "cpu", "--log_samples"]
    words += ["--model_args", f"pretrained={student.path}"]
    words += ["--tasks", str(folder / "toy_swapped.yaml"), "--output_path", str(folder / "theirs")]
    assert main([*words, "--metadata", "resamples=50"]) == 0
    return folder, record, student


@pytest.fixture(scope="module")
def ours(runs):
    """The files of our student, as lm_eval's own functions find them."""
    folder = runs[0]
    (model,) = {
        file.parent
        for file in (folder / "run").rglob("samples_toy_swapped_*.jsonl")
        if "student" in file.parent.name
    }
    files = [str(file) for file in model.iterdir()]
    samples = get_latest_filename(
        [
            f
            for f in get_sample_results_filenames(files)
            if get_file_task_name(Path(f).name) == "toy_swapped"
        ]
    )
    return read(get_latest_filename(get_results_filenames(files))), lines(samples)


@pytest.fixture(scope="module")
def theirs(runs):
    """What lm_eval's own tracker wrote of the same student and rows."""
    (results,) = (runs[0] / "theirs").glob("*/results_*.json")
    (samples,) = (runs[0] / "theirs").glob("*/samples_*.jsonl")
    return read(results), lines(samples)


def test_numbers_are_equal_to_the_digit_with_nothing_said(ours, theirs, runs):
    mine, other = (side[0]["results"]["toy_swapped"] for side in (ours, theirs))
    for name in ("acc", "f1", "acc_negative:rain", "acc_positive:rain"):
        assert mine[f"{name},none"] == other[f"{name},none"]
    by_id = {line["doc"]["id"]: line for line in theirs[1]}
    for line in ours[1]:
        other = by_id[line["doc"]["id"]]["filtered_resps"]
        assert [flag for _, flag in line["filtered_resps"]] == [flag for _, flag in other]
        for (answers, _), (again, _) in zip(line["filtered_resps"], other, strict=True):
            assert float(answers) == pytest.approx(float(again), abs=1e-6)


def test_the_record_decides_and_an_argument_overrules_it(runs):
    path = runs[2].path
    model = SequenceClassifier(path, device="cpu")
    assert (model.how.max_length, model.how.precision, model.how.attention) == (16, "bf16", "eager")
    assert model.model.dtype == torch.float32  # autocast is not a cast
    other = SequenceClassifier(path, device="cpu", dtype="float32", attention="sdpa", max_length=8)
    assert (other.how.max_length, other.how.precision, other.how.attention) == (8, "no", "sdpa")
    texts = [("some good", "sun a"), ("this bad", "rain a")] * 8
    question = Question(("negative", "positive"))
    predicted, again = (m.predictions(texts, question).logits for m in (model, other))
    assert np.abs(predicted - again).max() > 1e-5
    assert InspectClassifier(path, device="cpu").how == model.how


def shape(value):
    """The type of a value, as JSON has it."""
    return "number" if type(value) in (int, float) else type(value).__name__


NOT_OURS = {
    "configs": {"process_results", "fewshot_config"},  # functions of a task that is run there
    "config": {  # what only a model in memory knows
        "model_num_parameters",
        "model_revision",
        "model_labels",
        "model_collapse",
        "model_device",
        "model_attention",
        "model_precision",
        "model_max_length",
        "model_truncated",
    },
    "": {"tokenizer_pad_token", "tokenizer_eos_token", "tokenizer_bos_token", "eot_token_id"},
}


def test_every_key_that_lm_eval_writes_is_there_with_its_type(ours, theirs):
    (mine, samples), (other, their_samples) = ours, theirs
    assert set(other) - set(mine) == NOT_OURS[""]
    for key, value in other.items():
        if key in mine and key != "date" and None not in (value, mine[key]):
            assert shape(mine[key]) == shape(value), key
    for part in ("configs", "config"):
        a, b = (side[part].get("toy_swapped", side[part]) for side in (mine, other))
        assert set(b) - set(a) == NOT_OURS[part], part
        # choices are a column's name there; a batch size is text (a number where none was asked)
        for key in set(a) & set(b) - {"doc_to_choice", "batch_size"}:
            if None not in (a[key], b[key]):
                assert shape(a[key]) == shape(b[key]), (part, key)
    row, their_row = (side["results"]["toy_swapped"] for side in (mine, other))
    assert set(row) >= {name for name in their_row if "_low" not in name and "_high" not in name}
    sample, theirs_too = samples[0], their_samples[0]
    per_document = {"acc"}
    assert {*sample, *theirs_too["metrics"]} >= set(theirs_too)
    assert {m["metric"] for m in mine["configs"]["toy_swapped"]["metric_list"]} == per_document
    for key in set(sample) & set(theirs_too):
        assert shape(sample[key]) == shape(theirs_too[key]), key
    assert set(theirs_too["doc"]) - set(sample["doc"]) == {
        "groups",
        "aligned",
        "labels",
        "first_choice",
    }


@pytest.mark.parametrize("side", ["ours", "theirs"])
def test_hashes_follow_its_recipe(side, request):
    result, samples = request.getfixturevalue(side)
    for line in samples:
        dumped = json.dumps(line["doc"], indent=2, ensure_ascii=False)
        assert line["doc_hash"] == hash_string(dumped)
        assert line["prompt_hash"] == hash_string(line["arguments"]["gen_args_0"]["arg_0"])
        assert line["target_hash"] == hash_string(line["target"])
    hashes = [x["doc_hash"] + x["prompt_hash"] + x["target_hash"] for x in samples]
    assert result["task_hashes"]["toy_swapped"] == hash_string("".join(hashes))


def test_its_table_prints_every_file(runs):
    files = sorted(runs[0].rglob("results_*.json"))
    assert len(files) >= 4
    for file in files:
        table = make_table(read(file))
        assert "toy_swapped" in table
        assert "±" in table


@pytest.mark.parametrize("side", ["ours", "theirs"])
def test_its_wandb_logger_reads_results_and_samples(side, request):
    """Everything of WandbLogger that needs no W&B: sanitized numbers, the table of samples."""
    result, samples = request.getfixturevalue(side)
    logger = WandbLogger.__new__(WandbLogger)  # its __init__ starts a run
    logger.post_init(result)
    assert set(logger._get_config()) == {"task_configs", "cli_configs"}
    texts, numbers = logger._sanitize_results_dict()
    assert numbers["toy_swapped/acc"] == result["results"]["toy_swapped"]["acc,none"]
    assert texts["toy_swapped/alias"] == "toy_swapped"
    for name, value in result["results"]["toy_swapped"].items():
        if "_stderr" in name and value != "N/A":
            assert "%.4f" % value  # noqa: UP031 (as it formats them)
    # in memory it has arguments as pairs and log-probabilities as numbers
    in_memory = [
        {
            **line,
            "arguments": [tuple(a.values()) for a in line["arguments"].values()],
            "filtered_resps": [[float(r[0]), r[1]] for r in line["filtered_resps"]],
            "resps": [[[float(r[0][0]), r[0][1]]] for r in line["resps"]],
        }
        for line in samples
    ]
    config = logger.task_configs["toy_swapped"]
    config = {**config, "metric_list": [m for m in config["metric_list"] if m["metric"] == "acc"]}
    table = logger._generate_dataset(in_memory, config)
    assert len(table) == 100
    assert table.acc.mean() == pytest.approx(result["results"]["toy_swapped"]["acc,none"])
    gold = [["negative", "positive"].index(label) for label in table.labels]
    assert list((table.filtered_predictions == gold).astype(float)) == list(table.acc)


def test_what_its_zeno_script_reads_is_there(runs, ours):
    """scripts/zeno_visualize.py (no part of the wheel): keys it reads of results and samples."""
    result, samples = ours
    config = result["configs"]["toy_swapped"]
    means = [m["metric"] for m in config["metric_list"] if m.get("aggregation") == "mean"]
    assert means == ["acc"]
    assert config["output_type"] == "multiple_choice"
    assert isinstance(result["config"]["model_args"], (str, dict))
    for line in samples:
        assert isinstance(line["arguments"]["gen_args_0"]["arg_0"], str)
        assert len([f"- {choice[1]}" for choice in line["arguments"]]) == 2
        assert ", ".join(str(answer[0]) for answer in line["filtered_resps"])
        assert {"doc_id", "target", *means} <= set(line)
    assert not math.isnan(sum(line["acc"] for line in samples))


@pytest.fixture(scope="module")
def writer(tmp_path_factory):
    """A GPT-2 of two layers with random weights, and a tokenizer of bytes."""
    from tokenizers import ByteLevelBPETokenizer
    from transformers import GPT2Config, GPT2LMHeadModel, PreTrainedTokenizerFast

    folder = tmp_path_factory.mktemp("writer")
    trained = ByteLevelBPETokenizer()
    trained.train_from_iterator(["sun rain good bad positive negative"], vocab_size=300)
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=trained._tokenizer, eos_token="!")
    torch.manual_seed(0)
    config = GPT2Config(vocab_size=len(tokenizer), n_positions=256, n_embd=16, n_layer=2, n_head=2)
    config.bos_token_id = config.eos_token_id = tokenizer.eos_token_id
    GPT2LMHeadModel(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def test_a_model_that_writes_gets_an_instruction_and_our_numbers(runs, writer, tmp_path):
    """--model hf: the prompt is the instruction, the answer that of acc_norm, groups are scored."""
    words = ["lm-eval", "run", "--model", "hf", "--device", "cpu", "--log_samples"]
    words += ["--model_args", f"pretrained={writer},dtype=float32", "--batch_size", "20"]
    words += ["--tasks", str(runs[0] / "toy_swapped.yaml"), "--output_path", str(tmp_path)]
    assert main([*words, "--metadata", "resamples=50"]) == 0
    (file,) = tmp_path.glob("*/samples_*.jsonl")
    (results,) = tmp_path.glob("*/results_*.json")
    row = read(results)["results"]["toy_swapped"]
    right = []
    for line in lines(file):
        doc = line["doc"]
        assert line["arguments"]["gen_args_0"]["arg_0"] == (
            f"premise: {doc['premise']}\nhypothesis: {doc['hypothesis']}\n\n"
            "Which label is right: negative, positive? Answer with the label alone."
        )
        assert [a["arg_1"] for a in line["arguments"].values()] == [" negative", " positive"]
        scores = [float(score) for score, _ in line["filtered_resps"]]
        by_length = np.argmax([s / len(x) for s, x in zip(scores, doc["labels"], strict=True)])
        right.append(doc["labels"][by_length] == doc["label"])
        assert line["acc"] == right[-1]
    assert row["acc,none"] == pytest.approx(np.mean(right))
    assert {"worst_group_acc,none", "gap_avg_worst,none", "acc_positive:sun,none"} <= set(row)
