"""The T5 encoder classifier: pooling over real tokens, a checkpoint that Auto classes load."""

import pytest
import torch
from transformers import AutoConfig, AutoModelForSequenceClassification

from harness_plugin.models.t5 import T5EncoderClassifier, T5EncoderClassifierConfig


@pytest.fixture
def model():
    torch.manual_seed(0)
    config = T5EncoderClassifierConfig(
        vocab_size=30, d_model=16, d_kv=4, d_ff=32, num_layers=2, num_heads=4, num_labels=3
    )
    return T5EncoderClassifier(config).eval()


def test_padding_never_changes_the_logits(model):
    ids = torch.tensor([[5, 6, 7, 1]])
    padded = torch.tensor([[5, 6, 7, 1, 0, 0, 0]])
    mask = torch.tensor([[1, 1, 1, 1, 0, 0, 0]])
    alone = model(input_ids=ids, attention_mask=torch.ones_like(ids)).logits
    assert torch.allclose(model(input_ids=padded, attention_mask=mask).logits, alone, atol=1e-6)


def test_the_head_sees_the_mean_of_the_last_hidden_states(model):
    ids = torch.tensor([[5, 6, 7, 1]])
    out = model(input_ids=ids, attention_mask=torch.ones_like(ids), output_hidden_states=True)
    assert torch.allclose(model.classifier(out.hidden_states[-1].mean(1)), out.logits, atol=1e-6)


def test_it_saves_and_loads_like_any_other(model, tmp_path):
    model.save_pretrained(tmp_path)
    loaded, info = AutoModelForSequenceClassification.from_pretrained(
        tmp_path, output_loading_info=True
    )
    assert type(loaded) is T5EncoderClassifier
    assert not info["missing_keys"]
    assert AutoConfig.from_pretrained(tmp_path).model_type == "t5_encoder_classifier"
    ids = torch.tensor([[5, 6, 7, 1]])
    mask = torch.ones_like(ids)
    with torch.no_grad():
        assert torch.equal(loaded.eval()(ids, mask).logits, model(ids, mask).logits)


def test_embeddings_are_shared_and_there_is_no_decoder(model):
    assert model.get_input_embeddings() is model.shared
    assert model.encoder.embed_tokens.weight is model.shared.weight
    assert not any("decoder" in name for name, _ in model.named_parameters())
