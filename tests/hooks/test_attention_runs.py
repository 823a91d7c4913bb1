"""The attention analysis of models that compare, of others, and of a finished run."""

import math
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from small_models import vit
from strict_json import read
from transformers import AutoConfig, AutoModelForImageClassification

from harness_plugin import HarnessError
from harness_plugin.analysis.inputs import AnalysisInput
from harness_plugin.analysis.loaded_models import FinishedTask, LoadedModel
from harness_plugin.cli.main import main
from harness_plugin.config.settings import ImageSettings
from harness_plugin.store.files import write_table
from harness_plugin.training.inputs.encode import EncodedImages
from harness_plugin_hooks.analyses.attention.options import AttentionOptions
from harness_plugin_hooks.analyses.attention.places import (
    regions,
)
from harness_plugin_hooks.analyses.attention.record import analyse


def scene_of(models, modality="image"):
    """A sample of models that are not of a run: teacher, student, …"""
    roles = ("teacher", "student", "control")
    models = [
        LoadedModel(role, 0, Path("made"), model)
        for role, model in zip(roles, models, strict=False)
    ]
    pixels = np.random.default_rng(0).integers(0, 256, (5, 16, 16, 3), np.uint8)
    images = EncodedImages(pixels, 1 / 255, (0.5,) * 3, (0.5,) * 3)
    task = SimpleNamespace(modality=modality, attribute_region={})
    ctx = SimpleNamespace(
        task=task,
        config=SimpleNamespace(source_of=lambda task: "embedded"),
        processors={"made": (None, Path("made"))},
        plan=SimpleNamespace(image=ImageSettings()),
        settings=SimpleNamespace(),
        accelerator=SimpleNamespace(device=torch.device("cpu"), is_main_process=False),
    )
    rows = {"all": np.arange(5)}
    return AnalysisInput(FinishedTask(ctx, ()), None, models, [images] * len(models), rows)


def resnet():
    config = AutoConfig.for_model(
        "resnet", depths=[1, 1], hidden_sizes=[8, 16], embedding_size=8, num_labels=2
    )
    return AutoModelForImageClassification.from_config(config).eval()


def test_layers_that_differ_in_heads_are_not_read_and_say_so():
    config = AutoConfig.for_model(
        "swin", image_size=8, patch_size=2, embed_dim=8, depths=[1, 1], num_heads=[2, 4]
    )
    model = AutoModelForImageClassification.from_config(config).eval()
    assert analyse(scene_of([model]), AttentionOptions()).record["notes"] == [
        "teacher: the layers of a swin differ in heads and windows: its attention is not read"
    ]


def test_a_resnet_has_no_attention_and_says_so(tmp_path):
    result = analyse(scene_of([resnet(), resnet()]), AttentionOptions())
    assert result.record["models"] == result.record["pairs"] == []
    assert result.record["notes"] == [
        "teacher: a resnet has no attention",
        "student: a resnet has no attention",
    ]
    assert result.shown == [
        "attention: teacher: a resnet has no attention; student: a resnet has no attention"
    ]
    write_table(tmp_path / "empty.parquet", result.rows)
    assert pq.read_table(tmp_path / "empty.parquet").num_rows == 0


def test_what_can_be_compared_is_and_the_rest_is_noted():
    result = analyse(scene_of([vit(), resnet(), vit(layers=4, heads=4)]), AttentionOptions())
    assert [m["role"] for m in result.record["models"]] == ["teacher"] * 2 + ["control"] * 2
    assert [(p["first"], p["second"]) for p in result.record["pairs"]] == [
        ("teacher", "control")
    ] * 2
    assert len(result.record["pairs"][0]["matched"]) == 4
    assert any("does not say where its attribute is" in note for note in result.record["notes"])
    result = analyse(scene_of([vit(), vit(patch=4)]), AttentionOptions())
    assert len(result.record["models"]) == 4
    assert result.record["pairs"] == []
    assert any("their patches differ" in note for note in result.record["notes"])


def test_a_region_that_is_no_mask_of_the_rows_is_refused():
    sample = scene_of([vit()])
    values = sample.task.ctx.task
    values.attribute_region, values.file = {"embedded": "mine:region"}, "mine.yaml"
    split = SimpleNamespace(select=lambda rows: rows)
    made = {}
    values.load_attribute = lambda target: lambda request, split: made["mask"]
    values.options = {}
    ctx = sample.task.ctx
    ctx.settings.options = {}
    ctx.config.data_path, ctx.config.data_seed = None, 0
    for wrong in (np.zeros((4, 16, 16), bool), np.zeros((16, 16)), np.zeros(16, bool)):
        made["mask"] = wrong
        with pytest.raises(HarnessError, match="attribute_region mine:region: expected"):
            regions(sample.task, split, np.arange(5))
    made["mask"] = np.ones((16, 16), bool)
    assert regions(sample.task, split, np.arange(5)) is made["mask"]


@pytest.fixture(scope="module")
def analysed(toy_run, tmp_path_factory):
    """The record and the table of a run's attention."""
    folder = tmp_path_factory.mktemp("analysed") / "run"
    toy_run.copied(folder)
    words = ["analyze", str(folder), "--attention", "--resamples", "100", "--examples", "40"]
    assert main([*words, "--matched", "8"]) == 0
    (file,) = folder.glob("analysis_toy_*.json")
    record = read(file)
    (table,) = folder.glob("analysis_toy_*_attention.parquet")
    return record["attention"], pq.read_table(table).to_pylist()


def test_a_finished_run_is_analysed(analysed):
    record, rows = analysed
    groups = ("aligned", "conflicting")
    assert {(m["role"], m["group"], m["specials"]) for m in record["models"]} == {
        (role, group, specials)
        for role in ("teacher", "student", "control")
        for group in groups
        for specials in (True, False)
    }
    for one in record["models"]:
        values = np.array(one["entropy"], float)
        assert values.shape == (len(one["layers"]), 2)
        assert ((values >= 0) & (values <= 1)).all()
        assert set(one["mass"]) >= {"cross", "overlap", "negation"}
        assert one["by_layer"]["entropy"][0]["low"] <= one["by_layer"]["entropy"][0]["value"]
        assert one["by_layer"]["negation"][0]["value"] is None  # no such word in the toy task
        assert one["by_layer"]["negation"][0]["reason"] == "no row of the group shows it"
        assert one["rollout"]["from"] == "first token"
    for pair in record["pairs"]:
        assert pair["level"] == "token"
        for layer in pair["by_layer"]:
            assert 0 <= layer["low"] <= layer["js"] <= layer["high"] <= math.log(2)
        assert len(pair["matched"]) == min(
            2 * len(pair["first_layers"]), 2 * len(pair["second_layers"])
        )
    assert {d["what"].partition(":")[0] for d in record["differences"]} >= {"teacher ~ student"}
    assert record["notes"] == ["no ceiling: it takes two seeds of one role"]
    assert {row["kind"] for row in rows} == {"head", "pair"}
