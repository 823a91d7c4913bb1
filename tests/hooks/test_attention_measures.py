"""Measures of attention by hand, where they are read from, and the regions of images."""

import math

import numpy as np
import pytest
import torch
from scipy import stats
from scipy.spatial.distance import jensenshannon
from transformers import AutoConfig, AutoModelForImageClassification
from transformers import AutoModelForSequenceClassification as Texts

from harness_plugin.data.dataset import DataRequest, load_data, resolve_options
from harness_plugin.data.task import read_task
from harness_plugin.data.task_files import resource_path
from harness_plugin_hooks.analyses.attention import measures
from harness_plugin_hooks.analyses.attention.compute import resampled, row_counts, shares
from harness_plugin_hooks.analyses.attention.heads import (
    readout_of,
    readout_queries,
)
from harness_plugin_hooks.analyses.attention.places import (
    grid_of,
)

P, Q = torch.tensor([0.5, 0.5, 0.0]), torch.tensor([0.25, 0.25, 0.5])


def test_divergence_by_hand_and_against_scipy():
    assert float(measures.divergence(P, Q)) == pytest.approx(0.215762, abs=1e-6)
    assert float(measures.divergence(P, P)) == 0
    apart = measures.divergence(torch.tensor([1.0, 0.0]), torch.tensor([0.0, 1.0]))
    assert float(apart) == pytest.approx(math.log(2))
    rng = np.random.default_rng(0)
    p, q = rng.dirichlet(np.ones(7), (2, 20))
    ours = measures.divergence(torch.from_numpy(p), torch.from_numpy(q)).numpy()
    assert np.allclose(ours, jensenshannon(p, q, axis=1) ** 2, atol=1e-12)


def test_entropy_by_hand():
    three, two = torch.ones(3, dtype=torch.bool), torch.tensor([True, True, False])
    entropy = measures.normalised_entropy
    assert float(entropy(P, three)) == pytest.approx(0.630930, abs=1e-6)
    assert float(entropy(P, two)) == pytest.approx(1)  # uniform over what may be attended to
    assert float(entropy(torch.eye(3)[0], three)) == 0
    assert math.isnan(float(entropy(torch.eye(3)[0], three & torch.eye(3)[0].bool())))


def test_rollout_by_hand():
    first = torch.tensor([[0.5, 0.5], [0.2, 0.8]])
    second = torch.tensor([[0.9, 0.1], [0.4, 0.6]])
    result = measures.rollout([first, second])
    assert torch.allclose(result, torch.tensor([[0.7175, 0.2825], [0.23, 0.77]]).double())


def test_restriction_renormalises_and_tells_rows_without_mass():
    keys = torch.tensor([True, True, False])
    maps, there = measures.restricted(torch.stack([Q, torch.eye(3)[2]]), keys)
    assert maps.tolist() == [[0.5, 0.5, 0.0], [0.0, 0.0, 0.0]]
    assert there.tolist() == [True, False]


def test_heads_are_matched_as_a_permutation():
    order = [2, 0, 3, 1]
    distances = np.ones((4, 4))
    distances[order, range(4)] = 0
    assert measures.matched_heads(distances) == [(a, b) for b, a in enumerate(order)]
    assert measures.matched_heads(distances[:, :2]) == [(2, 0), (0, 1)]


def test_resamples_leave_rows_without_a_value_out():
    values = np.array([[1.0, np.nan], [3.0, np.nan], [np.nan, np.nan]])
    result = resampled(values, np.array([[1, 1, 1], [2, 0, 1], [0, 0, 3]]))
    assert np.array_equal(result[:, 0], [2, 1, np.nan], equal_nan=True)
    assert np.isnan(result[:, 1]).all()


def test_a_share_counts_seeds_by_students_t_and_only_rows_that_show_it():
    """Seeds .3, .5, .4, .8 on every row: mean -+ t s / sqrt(4). One seed: of its rows alone."""
    counts = row_counts(60, 500, np.random.default_rng(0))
    means = np.array([0.3, 0.5, 0.4, 0.8])
    rows = np.random.default_rng(1).normal(0, 0.02, 60)
    rows -= rows.mean()
    (result,) = shares([mean + rows[:, None] for mean in means], counts)
    squares = (stats.t.ppf(0.975, 3) * means.std(ddof=1) / 2) ** 2
    squares += (stats.t.ppf(0.975, 59) * rows.std(ddof=1)) ** 2 / 60
    assert result.interval_of == "seeds and rows"
    assert result.high == pytest.approx(0.5 + np.sqrt(squares), abs=2e-4)
    rows[:20] = np.nan
    (result,) = shares([0.5 + rows[:, None]], counts)
    half = stats.t.ppf(0.975, 39) * np.nanstd(rows, ddof=1) / np.sqrt(40)
    assert result.interval_of == "rows"
    assert result.high - result.value == pytest.approx(half, rel=0.1)
    rows[:31] = np.nan
    (result,) = shares([0.5 + rows[:, None]], counts)
    assert result.reason == "no interval: 29 rows in its smallest cell, an interval needs 30"


LAYER = {"num_hidden_layers": 1, "hidden_size": 8, "num_attention_heads": 2, "intermediate_size": 8}
SMALLEST = {
    "bert": LAYER,
    "qwen2": {**LAYER, "num_key_value_heads": 2},
    "gpt2": {"n_layer": 1, "n_embd": 8, "n_head": 2},
    "t5": {"num_layers": 1, "d_model": 8, "num_heads": 2, "d_kv": 4, "d_ff": 8},
    "siglip": {
        "text_config": {**LAYER, "vocab_size": 40},
        "vision_config": {**LAYER, "image_size": 16, "patch_size": 4},
    },
}


def test_where_labels_are_read_from():
    real = torch.tensor([[1, 1, 1, 0], [1, 1, 0, 0]], dtype=torch.bool)
    assert readout_queries("first token", real).int().tolist() == [[1, 0, 0, 0], [1, 0, 0, 0]]
    assert readout_queries("last token", real).int().tolist() == [[0, 0, 1, 0], [0, 1, 0, 0]]
    assert torch.equal(readout_queries("mean over tokens", real), real)


@pytest.mark.parametrize(
    ("kind", "modality", "readout"),
    [
        ("bert", "text", "first token"),
        ("qwen2", "text", "last token"),
        ("gpt2", "text", "last token"),
        ("t5", "text", "mean over tokens"),
        ("siglip", "image", "mean over tokens"),
    ],
)
def test_every_classifier_has_its_readout(kind, modality, readout):
    config = AutoConfig.for_model(kind, **SMALLEST[kind])
    with torch.device("meta"):
        model = (Texts if modality == "text" else AutoModelForImageClassification).from_config(
            config
        )
    assert readout_of(model) == readout
    if modality == "image":
        assert grid_of(config) == (4, 4)  # of its vision_config


def region_of(name, split, options):
    task = read_task(resource_path(f"harness_plugin_tasks.{name}:{name}.yaml"))
    options = resolve_options(task, options)
    data = load_data(task, "embedded", options=options, seed=3)
    chosen = data.splits[split].select([5, 2, 9])
    request = DataRequest(task, "embedded", None, options, 3)
    mask = task.load_attribute(task.attribute_region["embedded"])(request, chosen)
    return mask, np.stack([np.asarray(image) for image in chosen.rows["image"]]).astype(int), chosen


def test_regions_are_where_the_attribute_was_drawn():
    small = {"n_train": 60, "n_validation": 20, "n_id": 20, "n_balanced": 40}
    mask, images, chosen = region_of("waterbirds", "balanced", small)
    assert mask.shape == images.shape[:3]
    assert 0.4 < mask.mean() < 0.95
    for place, background, image in zip(chosen.column("attribute"), mask, images, strict=True):
        red, _, blue = image[background].T  # green and brown, or blues; birds have any colour
        assert (blue > red).mean() > 0.95 if place == "water" else (blue < red).mean() > 0.8
    sizes = {"n_train": 80, "n_validation": 40, "n_test": 200}
    mask, images, _ = region_of("celeba_bias", "balanced", sizes)
    assert 0.15 < mask.mean() < 0.6
    for face, image in zip(mask, images, strict=True):
        down = image[:-1] - image[1:]
        edge = face[:-1] != face[1:]
        assert np.abs(down[edge]).mean() > 1.5 * np.abs(down[~edge]).mean()
    few = {"n_train": 40, "n_validation": 20, "n_test": 200}
    mask, images, _ = region_of("cmnist", "id", few)
    assert images[mask].max(axis=1).min() > images[~mask].max(axis=1).max()
    mask, images, _ = region_of("dominoes", "id", few)
    assert mask.shape == images.shape[1:3]
    assert mask[:32].all()
    assert not mask[32:].any()
