"""Hidden states as one vector a row: read by length, given in the order that was asked for."""

import numpy as np
import pytest
import torch
from tiny_models import tiny_model

from harness_plugin.training.inputs.encode import EncodedText
from harness_plugin_hooks.analyses.cka.compute import Reading
from harness_plugin_hooks.analyses.cka.options import CKAOptions
from harness_plugin_hooks.analyses.reading import BATCH, Reader

CPU = torch.device("cpu")
SIZES = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2}


@pytest.fixture(scope="module")
def model():
    torch.manual_seed(0)
    return tiny_model("bert", 2, vocab_size=50, intermediate_size=32, **SIZES).eval()


@pytest.fixture(scope="module")
def encoded():
    """300 texts of 2 to 40 tokens."""
    rng = np.random.default_rng(0)
    lengths = rng.integers(2, 41, size=300)
    tokens = rng.integers(1, 50, size=lengths.sum()).astype(np.int32)
    return EncodedText(tokens, np.concatenate([[0], lengths.cumsum()]), None, 0)


@pytest.fixture
def widths(model):
    """(rows, positions) of every forward pass."""
    seen = []
    handle = model.register_forward_pre_hook(
        lambda _, __, inputs: seen.append(tuple(inputs["input_ids"].shape)), with_kwargs=True
    )
    yield seen
    handle.remove()


def alone(model, encoded, row):
    """The layers of one row, which is not padded."""
    return Reader(model)(encoded.batch(np.array([row])))


def test_rows_are_read_by_length_and_given_as_they_were_asked_for(model, encoded, widths):
    rows = np.random.default_rng(1).permutation(300)[:200]
    layers = Reader(model).of_rows(encoded, rows, CPU)
    lengths = np.sort(encoded.lengths[rows])
    parts = [lengths[start : start + BATCH] for start in range(0, 200, BATCH)]
    assert widths == [(len(part), part.max()) for part in parts]
    assert len(layers) == 4  # embeddings, two layers, the last layer's input
    for place in (0, 17, 199):
        for layer, expected in zip(layers, alone(model, encoded, rows[place]), strict=True):
            assert torch.allclose(layer[place], expected[0], atol=1e-5)


def test_batches_of_cka_are_the_rows_they_were_whoever_is_read_together(model, encoded, widths):
    readers = [Reader(model)]
    batches = np.random.default_rng(2).permutation(300)[:288].reshape(18, 16)
    reads = Reading([], [encoded], readers, CKAOptions(), CPU)
    given = list(reads.batches(batches, "CKA", quiet=True))
    assert [[len(layer) for layer in layers] for layers in given] == [[16] * 4] * 18
    read = sum(rows * width for rows, width in widths)
    as_they_come = 16 * encoded.lengths[batches].max(axis=1).sum()
    assert read < 0.75 * as_they_come
    for number in (0, 15, 16, 17):  # the last two are of a second window
        for place in (0, 9):
            expected = alone(model, encoded, batches[number, place])
            for layer, one in zip(given[number], expected, strict=True):
                assert torch.allclose(layer[place], one[0], atol=1e-5)
