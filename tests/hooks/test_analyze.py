"""`harness analyze`: a finished run is opened again, its models read, what is found written."""

import json
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from strict_json import read
from transformers import AutoConfig, AutoModelForImageClassification
from transformers import AutoModelForSequenceClassification as Texts

from harness_plugin import HarnessError
from harness_plugin.analysis.loaded_models import rows_of_groups
from harness_plugin.analysis.run_data import data_of
from harness_plugin.cli.main import main
from harness_plugin.config.merge import run_config
from harness_plugin.models.t5 import T5EncoderClassifierConfig
from harness_plugin.store.files import read_json
from harness_plugin_hooks.analyses.cka.compute import same_depth
from harness_plugin_hooks.analyses.cka.streaming import StreamingCKA
from harness_plugin_hooks.analyses.reading import Reader, pooled

TOY = str(Path(__file__).parents[1] / "toy" / "toy.yaml")
QUICK = ["--permutations", "20", "--resamples", "100", "--examples", "64"]
QUICK += ["--pairs", "16", "--ig_steps", "1", "--random_circuits", "1"]


def test_a_finished_run_is_analysed(run_folder, capsys):
    assert main(["analyze", str(run_folder), *QUICK]) == 0
    output = capsys.readouterr().out
    assert "CKA of teacher and student" in output
    (file,) = run_folder.glob("analysis_toy_*.json")
    record = read(file)
    pairs = record["cka"]["pairs"]
    assert {p["group"] for p in pairs} == {"aligned", "conflicting"}
    assert {p["view"] for p in pairs} == {"plain", "standardised", "without_top"}
    for pair in pairs:
        values = np.array(pair["value"], float)
        assert values.shape == (len(pair["first_layers"]), len(pair["second_layers"]))
        assert (values[~np.isnan(values)] <= 1 + 1e-6).all()
    assert len(set(record["groups"].values())) == 1  # equally many rows of each group
    assert "no ceiling: it takes two seeds of one role" in record["cka"]["notes"]
    (table,) = run_folder.glob("analysis_toy_*_cka.parquet")
    rows = pq.read_table(table).to_pylist()
    assert len(rows) == sum(np.size(pair["value"]) for pair in pairs)


def test_a_run_analyses_its_own_models(toy_run, run_folder, tmp_path, capsys):
    """`--analyze` writes what `harness analyze` finds of the same run; eval_only as well."""
    models = [f"--{role}={toy_run.checkpoint(role)}" for role in ("teacher", "student", "control")]
    words = ["--tasks", TOY, "--eval_only", *models, "--threads", "1", "--precision", "no"]
    words += ["--attention", "sdpa", "--device", "cpu", "--resamples", "100"]
    words += ["--use_cache", str(tmp_path / "store"), "--output_path", str(tmp_path / "out")]
    assert main([*words, "--analyze", "cka"]) == 0
    output = capsys.readouterr().out
    assert "CKA of teacher and student" in output
    (file,) = (tmp_path / "out").glob("analysis_toy_*.json")
    assert str(file) in output
    result = read_json(file)  # its paths are relative to its folder
    (run,) = (tmp_path / "out").glob("transfer_toy_*.json")
    assert result["run"] in run.name
    assert main(["analyze", str(tmp_path / "out"), "--cka", "--output_path", str(tmp_path)]) == 0
    (file,) = tmp_path.glob("analysis_toy_*.json")
    again = read_json(file)
    assert again.pop("options")["cka"]["permutations"] == 100
    result.pop("options")
    assert result == again


def test_one_task_of_a_run_of_several_is_opened(toy_run, plugins):
    (file,) = toy_run.output.glob("config_*.yaml")
    config = run_config(file, {"tasks": (TOY, "hans")}, ["hans.teacher.epochs=1"])
    (data,) = data_of(config, plugins, {"toy": toy_run.record()}, ["toy"], "then")
    assert (data.opened.task.task, data.started) == ("toy", "then")
    assert data.opened.settings.teacher.epochs == 2.2


def test_an_unknown_analysis_is_refused_before_any_training(tmp_path, capsys):
    words = ["--tasks", TOY, "--output_path", str(tmp_path / "out"), "--analyze", "cka,probe"]
    assert main(words) == 2
    assert "unknown analysis 'probe'" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_the_same_rows_and_seed_give_the_same_numbers(run_folder):
    result = []
    for name in ("a", "b"):
        words = ["analyze", str(run_folder), "--cka", *QUICK, "--output_path"]
        assert main([*words, str(run_folder / name)]) == 0
        (file,) = (run_folder / name).glob("analysis_*.json")
        result.append(json.loads(file.read_text())["cka"])
    assert result[0] == result[1]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--groups", "aligned,minority"], "group of set"),
        (["--split", "hans"], "evaluation set"),
        (["--roles", "teacher,studnt"], "studnt"),
        (["--roles", "teacher"], "at least two roles"),
        (["--tasks", "hans"], "task of the run"),
        (["--started", "yesterday"], "run in"),
        (["--examples", "3"], "--examples 3: expected at least 4"),
        (["--rbf", "0"], "--rbf 0: expected greater than 0"),
        (["--rbf", "inf"], "--rbf inf: expected a finite number"),
        (["--probes_strength", "nan"], "--probes_strength nan: expected a finite number"),
        (["--data_seed", "-1"], "--data_seed -1: expected at least 0"),
        (["--matched", "0"], "--matched 0: expected at least 1"),
        (["--views", "plain,sharp"], "view"),
    ],
)
def test_wrong_words_are_named(run_folder, capsys, words, message):
    assert main(["analyze", str(run_folder), *QUICK, *words]) == 2
    assert message in capsys.readouterr().err
    assert not list(run_folder.glob("analysis_*"))


def test_what_is_no_run_or_has_lost_its_models_is_named(run_folder, tmp_path, capsys):
    (tmp_path / "empty").mkdir()
    assert main(["analyze", str(tmp_path / "empty")]) == 2
    assert "no transfer_*.json; expected the results folder of a run" in capsys.readouterr().err
    assert main(["analyze", str(tmp_path / "nothing")]) == 2
    assert "no such folder" in capsys.readouterr().err
    (file,) = run_folder.glob("transfer_toy_*.json")
    record = json.loads(file.read_text())
    for model in record["models"]:
        model["path"] += "-moved"
    file.write_text(json.dumps(record))
    assert main(["analyze", str(run_folder), *QUICK]) == 2
    assert "is gone. Run the same command again" in capsys.readouterr().err


def test_data_that_have_changed_since_the_run_are_refused(run_folder, capsys):
    (file,) = run_folder.glob("transfer_toy_*.json")
    record = json.loads(file.read_text())
    file.write_text(json.dumps({**record, "fingerprint": "0" * 64}))
    assert main(["analyze", str(run_folder), *QUICK]) == 2
    assert "the data have changed since the run" in capsys.readouterr().err


# ---- reading models

SMALL = {
    "bert": {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2},
    "distilbert": {"dim": 16, "n_layers": 2, "n_heads": 2, "hidden_dim": 32},
    "t5_encoder_classifier": {"d_model": 16, "num_layers": 2, "num_heads": 2, "d_kv": 8},
    "vit": {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2},
    "resnet": {"depths": [1, 1, 1, 1], "hidden_sizes": [8, 8, 16, 16], "embedding_size": 8},
}


def model_of(kind):
    torch.manual_seed(0)
    if kind in ("vit", "resnet"):
        size = {"image_size": 32, "patch_size": 16} if kind == "vit" else {}
        config = AutoConfig.for_model(kind, **SMALL[kind], **size)
        return AutoModelForImageClassification.from_config(config).eval()
    if kind.startswith("t5"):
        config = T5EncoderClassifierConfig(vocab_size=50, decoder_start_token_id=0, **SMALL[kind])
    else:
        config = AutoConfig.for_model(kind, vocab_size=50, **SMALL[kind])
    return Texts.from_config(config).eval()


def inputs_of(kind, padding=0):
    generator = torch.Generator().manual_seed(1)
    if kind in ("vit", "resnet"):
        return {"pixel_values": torch.randn(12, 3, 32, 32, generator=generator)}
    ids = torch.randint(5, 50, (12, 6), generator=generator)
    mask = torch.ones_like(ids)
    if padding:
        pad = torch.zeros(12, padding, dtype=torch.int64)
        ids, mask = torch.cat([ids, pad], 1), torch.cat([mask, pad], 1)
    return {"input_ids": ids, "attention_mask": mask}


@pytest.mark.parametrize("kind", sorted(SMALL))
def test_every_architecture_is_read_and_is_like_itself(kind):
    reader = Reader(model_of(kind))
    layers = reader(inputs_of(kind))
    assert len(layers) == len(reader.names) == len(reader.depths)
    assert reader.names[-1] == "head"
    assert all(layer.shape[0] == 12 and layer.dim() == 2 for layer in layers)
    stream = StreamingCKA(2 * len(layers), dtype=torch.float64)
    stream.update([*layers, *layers])
    result = stream.between(slice(len(layers)), slice(len(layers), None)).value
    own = np.diagonal(result)
    assert np.allclose(own[~np.isnan(own)], 1, atol=1e-9)


@pytest.mark.parametrize("kind", ["bert", "distilbert", "t5_encoder_classifier"])
def test_padding_changes_no_layer(kind):
    reader = Reader(model_of(kind))
    plain, padded = reader(inputs_of(kind)), reader(inputs_of(kind, padding=4))
    for one, other in zip(plain, padded, strict=True):
        assert torch.allclose(one, other, atol=1e-5)


def test_pooling_by_hand():
    hidden = torch.tensor([[[1.0, 2.0], [3.0, 4.0], [torch.inf, torch.nan]]])
    mask = torch.tensor([[1, 1, 0]])
    assert pooled(hidden, mask, "mean").tolist() == [[2.0, 3.0]]
    assert pooled(hidden, mask, "cls").tolist() == [[1.0, 2.0]]
    assert pooled(hidden, mask, "tokens").tolist() == [[1.0, 2.0], [3.0, 4.0]]
    maps = torch.tensor([[[[1.0, 3.0]], [[5.0, 7.0]]]])
    assert pooled(maps, None, "mean").tolist() == [[2.0, 6.0]]


def test_what_cannot_be_pooled_is_refused():
    with pytest.raises(HarnessError, match="a ResNet has no tokens"):
        Reader(model_of("resnet"), "cls")
    with pytest.raises(HarnessError, match="T5 has no token that stands for a text"):
        Reader(model_of("t5_encoder_classifier"), "cls")
    model = model_of("bert").train()
    with pytest.raises(HarnessError, match="dropout would be in every number"):
        Reader(model)(inputs_of("bert"))


def test_layers_are_matched_by_relative_depth_and_heads_with_heads():
    first = (0.0, 0.25, 0.5, 0.75, 1.0, 1.0)
    names = ("embeddings", "layer 1", "layer 2", "layer 3", "layer 4", "head")
    assert same_depth(first, (0.0, 0.5, 1.0, 1.0), names).tolist() == [0, 2, 4, 5]


def test_groups_have_equally_many_rows(open_context):
    split = open_context().data.evaluation[-1]
    rows = rows_of_groups(split, ("aligned", "conflicting", split.groups[0]), 1000, 4, seed=0)
    assert len({len(chosen) for chosen in rows.values()}) == 1
    assert (split.aligned[rows["aligned"]] == 1).all()
    assert (split.group[rows[split.groups[0]]] == 0).all()
    with pytest.raises(HarnessError, match="this analysis needs 100000"):
        rows_of_groups(split, ("all",), 1000, 100000, seed=0)
