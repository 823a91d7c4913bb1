"""T5's encoder as a classifier: masked mean pooling and a linear head.

transformers' T5ForSequenceClassification is encoder-decoder and reads one position of the decoder;
distillation studies use the encoder alone. Importing this module registers the classes with the
Auto classes, so that checkpoints load like any other wherever it has been imported.
"""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn
from transformers import AutoConfig, AutoModelForSequenceClassification, T5Config, T5EncoderModel
from transformers.modeling_outputs import SequenceClassifierOutput
from transformers.models.t5.modeling_t5 import T5PreTrainedModel


class T5EncoderClassifierConfig(T5Config):  # type: ignore[misc]
    """T5's configuration under a model type of its own."""

    model_type = "t5_encoder_classifier"


class T5EncoderClassifier(T5PreTrainedModel):  # type: ignore[misc]
    """Encoder, mean of the hidden states of real tokens, dropout, linear layer."""

    config_class = T5EncoderClassifierConfig
    _tied_weights_keys = T5EncoderModel._tied_weights_keys

    def __init__(self, config: T5EncoderClassifierConfig) -> None:
        super().__init__(config)
        inner = T5EncoderModel(config)
        self.shared, self.encoder = inner.shared, inner.encoder
        self.dropout = nn.Dropout(config.classifier_dropout)
        self.classifier = nn.Linear(config.d_model, config.num_labels)
        self.post_init()

    def get_input_embeddings(self) -> nn.Module:
        """The token embeddings."""
        embeddings: nn.Module = self.shared
        return embeddings

    def set_input_embeddings(self, embeddings: nn.Module) -> None:
        """Replace the token embeddings."""
        self.shared = embeddings
        self.encoder.set_input_embeddings(embeddings)

    def forward(
        self, input_ids: Tensor, attention_mask: Tensor, **options: Any
    ) -> SequenceClassifierOutput:
        """`logits` (B, C); hidden states and attentions of the encoder on request."""
        options.pop("token_type_ids", None)  # T5 has no segments
        out = self.encoder(input_ids=input_ids, attention_mask=attention_mask, **options)
        mask = attention_mask.unsqueeze(-1).to(out.last_hidden_state.dtype)
        mean = (out.last_hidden_state * mask).sum(dim=1) / mask.sum(dim=1)
        return SequenceClassifierOutput(
            logits=self.classifier(self.dropout(mean)),
            hidden_states=out.hidden_states,
            attentions=out.attentions,
        )


AutoConfig.register(T5EncoderClassifierConfig.model_type, T5EncoderClassifierConfig)
AutoModelForSequenceClassification.register(T5EncoderClassifierConfig, T5EncoderClassifier)
