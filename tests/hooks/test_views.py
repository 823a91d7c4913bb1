"""FairFlow's views: exactly what they change, and when."""

import math

import numpy as np
import pytest
import torch
from transformers import BertConfig, BertForSequenceClassification

from harness_plugin import HarnessError
from harness_plugin.models.network import Network, last_layer
from harness_plugin.training.batch import Batch, TrainingMetadata
from harness_plugin.training.contracts import ForwardContext
from harness_plugin_hooks.methods.views import (
    FairFlow,
    blanked,
    dropped,
    kl_from_uniform,
    second_text,
    shuffled,
    shuffled_tiles,
)

Z = torch.tensor([[2, 0, -1], [0.5, 1, 0], [-1, 0, 1], [1, 1, 0]], dtype=torch.float64)
Y = torch.tensor([0, 1, 2, 0])
FACTS = TrainingMetadata(label=Y, group=torch.zeros(4, dtype=torch.long), n_labels=3, groups=("a",))
ROWS = torch.arange(4)


def rngs(n, seed=0):
    return [np.random.default_rng([seed, i]) for i in range(n)]


def test_kl_from_uniform_is_that_of_the_table():
    assert kl_from_uniform(Z).tolist() == pytest.approx(
        [0.737900, 0.081657, 0.308994, 0.096716], abs=1e-6
    )
    assert kl_from_uniform(torch.zeros(2, 5)).tolist() == [0.0, 0.0]


def test_fairflow_is_cross_entropy_and_the_mean_over_views():
    method = FairFlow(FACTS, weight=2.0)
    outputs = {"drop": Z, "shuffle": torch.zeros_like(Z)}
    batch = Batch(ROWS, Y, ROWS, outputs=outputs)
    expected = 0.529929 + 2.0 * 0.306317 / 2
    assert float(method.loss(Z, batch)) == pytest.approx(expected, abs=1e-6)
    free = FairFlow(FACTS, weight=0.0)
    assert float(free.loss(Z, batch)) == pytest.approx(0.529929, abs=1e-6)


def test_an_unknown_view_is_refused():
    with pytest.raises(HarnessError, match="unknown view 'rotate'; known are drop, shuffle, zero"):
        FairFlow(FACTS, views="drop,rotate")


# [CLS] 7 8 [SEP] 9 [SEP] and a shorter row with padding
PAIR = {
    "input_ids": torch.tensor([[2, 7, 8, 3, 9, 3], [2, 7, 3, 9, 3, 0]]),
    "attention_mask": torch.tensor([[1, 1, 1, 1, 1, 1], [1, 1, 1, 1, 1, 0]]),
    "token_type_ids": torch.tensor([[0, 0, 0, 0, 1, 1], [0, 0, 0, 1, 1, 0]]),
}
CONFIG = BertConfig(sep_token_id=3)


def test_dropping_hides_the_first_text_and_keeps_what_the_classifier_reads():
    mask = dropped(PAIR, rngs(2), CONFIG)["attention_mask"]
    assert mask.tolist() == [[1, 0, 0, 0, 1, 1], [1, 0, 0, 1, 1, 0]]
    without_types = {k: v for k, v in PAIR.items() if k != "token_type_ids"}
    assert torch.equal(dropped(without_types, rngs(2), CONFIG)["attention_mask"], mask)
    assert second_text(without_types, CONFIG).long().tolist() == PAIR["token_type_ids"].tolist()


def test_a_separator_is_needed_where_there_are_no_token_types():
    config = BertConfig(sep_token_id=None, eos_token_id=None)
    without_types = {k: v for k, v in PAIR.items() if k != "token_type_ids"}
    with pytest.raises(HarnessError, match="cannot tell where the second text starts"):
        dropped(without_types, rngs(2), config)


def test_of_a_single_text_half_of_the_tokens_are_hidden():
    one = {"input_ids": torch.arange(9)[None], "attention_mask": torch.ones(1, 9, dtype=torch.long)}
    one["token_type_ids"] = torch.zeros(1, 9, dtype=torch.long)
    mask = dropped(one, rngs(1), CONFIG)["attention_mask"]
    assert int(mask.sum()) == 5
    assert int(mask[0, 0]) == 1


def test_shuffling_moves_inner_tokens_with_their_types_and_no_padding():
    ids = torch.arange(24).view(2, 12)
    types = (ids % 12 > 5).long()
    mask = torch.ones_like(ids)
    mask[1, 9:] = 0
    out = shuffled({"input_ids": ids, "token_type_ids": types, "attention_mask": mask}, rngs(2))
    assert torch.equal(out["attention_mask"], mask)
    for row, length in ((0, 12), (1, 9)):
        moved = out["input_ids"][row]
        assert moved[0] == ids[row, 0]
        assert moved[length - 1] == ids[row, length - 1]
        assert torch.equal(moved[length:], ids[row, length:])
        assert sorted(moved.tolist()) == ids[row].tolist()
        assert moved.tolist() != ids[row].tolist()
        assert torch.equal(out["token_type_ids"][row], (moved % 12 > 5).long())


def test_image_views_keep_a_quarter_or_all_pixels():
    pixels = torch.arange(3 * 64, dtype=torch.float32).view(3, 8, 8) + 1
    kept = blanked(pixels, np.random.default_rng(0))
    assert int((kept != 0).sum()) == 3 * 16
    assert torch.equal(kept[kept != 0], pixels[kept != 0])
    tiles = shuffled_tiles(pixels, np.random.default_rng(0))
    assert not torch.equal(tiles, pixels)
    assert torch.equal(tiles.flatten(1).sort().values, pixels.flatten(1))


def test_what_a_view_does_to_a_row_depends_on_update_and_row_alone():
    """As two processes need it: a row in another place of another batch looks the same."""
    torch.manual_seed(0)
    network = Network(tiny())
    network.eval()
    inputs = {k: v.repeat(2, 1) for k, v in PAIR.items()}
    method = FairFlow(FACTS, views="drop,shuffle,zero")
    batch = Batch(ROWS, Y, ROWS, seed=5)
    whole = forward(method, network, inputs, batch)
    half = {k: v[2:] for k, v in inputs.items()}
    part = forward(method, network, half, batch.part(2, 4))
    other = forward(method, network, inputs, Batch(ROWS, Y, ROWS, seed=6))
    assert set(whole) == {"logits", "drop", "shuffle", "zero"}
    for name, value in part.items():
        assert torch.allclose(value, whole[name][2:], atol=1e-6), name
    assert not torch.allclose(whole["zero"], other["zero"])


def forward(method, network, inputs, batch):
    output, extra = method(ForwardContext(network, inputs, batch))
    return {"logits": output.logits, **extra}


def tiny(layers=4):
    return BertForSequenceClassification(
        BertConfig(
            vocab_size=20,
            hidden_size=16,
            num_hidden_layers=layers,
            num_attention_heads=2,
            intermediate_size=32,
            num_labels=3,
            hidden_dropout_prob=0.0,
            attention_probs_dropout_prob=0.0,
        )
    )


def test_features_times_the_last_layer_are_the_logits():
    network = Network(tiny())
    network.eval()
    answer = network(PAIR)
    assert torch.allclose(network.head(answer.features), answer.logits, atol=1e-6)
    assert network.head is last_layer(network.model)
    assert {n for n, _ in network.named_parameters()} == {
        f"model.{n}" for n, _ in network.model.named_parameters()
    }


def test_uniform_is_the_minimum_of_the_undecided_term():
    z = torch.zeros(1, 4, requires_grad=True)
    kl_from_uniform(z).sum().backward()
    assert z.grad.abs().max() < 1e-7
    assert math.isclose(
        float(kl_from_uniform(torch.tensor([[50.0, 0, 0, 0]]))[0]), 36.11, rel_tol=0.01
    )
