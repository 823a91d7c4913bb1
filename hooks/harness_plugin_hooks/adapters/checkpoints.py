"""A classifier for other harnesses: input columns, labels, how it was evaluated."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from transformers import AutoTokenizer, PreTrainedModel

from harness_plugin.config.settings import RoleSettings
from harness_plugin.errors import HarnessError
from harness_plugin.models import checkpoints, classifiers, processors
from harness_plugin.models.examination import Use, examine

TEXTS = "texts"
"""Key of a message's metadata: the input columns of the row as they are, for classifiers."""


ATTENTIONS = ("sdpa", "eager")
AUTOCAST = {"bf16": torch.bfloat16, "fp16": torch.float16}


@dataclass(frozen=True)
class EvaluatedWith:
    """Settings that a model's numbers depend on besides its weights and its texts.

    `precision` is that of autocast ("no", "bf16", "fp16"), under which weights stay float32: a
    model that is cast gives other numbers. The defaults are those of a run for a checkpoint that
    says nothing.
    """

    max_length: int = RoleSettings.model_fields["max_length"].default
    precision: str = "no"
    attention: str = "sdpa"

    def autocast(self, device: torch.device) -> AbstractContextManager[object]:
        """The autocast context of a forward pass."""
        if self.precision == "no":
            return nullcontext()
        return torch.autocast(device.type, AUTOCAST[self.precision])


def evaluated_with(checkpoint: str) -> EvaluatedWith:
    """How the run that trained a checkpoint evaluated it, by the record beside its weights."""
    record = Path(checkpoint) / "stage.json"
    if not record.is_file():
        return EvaluatedWith()
    spec = json.loads(record.read_text(encoding="utf-8")).get("spec", {})
    if "hardware" not in spec:
        return EvaluatedWith()
    _, precision, attention = spec["hardware"]
    length = AutoTokenizer.from_pretrained(checkpoint).model_max_length
    return EvaluatedWith(length, precision, attention)


def named_labels(
    checkpoint: str, declared: str | Sequence[str] | None, option: str, trust_remote_code: bool
) -> tuple[str, ...]:
    """The labels of a checkpoint in the order of its logits, from its configuration or as given.

    `declared`: "a/b/c" or "a,b,c" (lm_eval cuts its arguments at commas), or a list; `option` is
    what a user writes to give them. Raises HarnessError for names of another number, and for
    LABEL_0-style names, which say nothing about the order.
    """
    known = checkpoints.checkpoint_labels(checkpoint, trust_remote_code)
    if declared is None and any(name.upper().startswith("LABEL_") for name in known):
        raise HarnessError(
            f"model seqcls: checkpoint {checkpoint} calls its classes {', '.join(known)}. Say what "
            f"they are, in that order: {option}=entailment/neutral/contradiction"
        )
    names = re.split("[/,]", declared) if isinstance(declared, str) else declared
    named = None if names is None else tuple(str(name).strip() for name in names)
    return checkpoints.trained_labels(checkpoint, named, "model seqcls", trust_remote_code)


def instruction(columns: Sequence[str], texts: Sequence[str], labels: Sequence[str]) -> str:
    """The input columns of a row, named, and which labels there are to choose from."""
    shown = "\n".join(f"{name}: {text}" for name, text in zip(columns, texts, strict=True))
    choices = ", ".join(labels)
    return f"{shown}\n\nWhich label is right: {choices}? Answer with the label alone."


def load_classifier(
    checkpoint: str, how: EvaluatedWith, trust_remote_code: bool
) -> tuple[Any, PreTrainedModel]:
    """Tokenizer and weights in float32 of a text classifier that fits them.

    Raises HarnessError for what is no trained classifier, or not one of its tokenizer's texts.
    """
    examine(
        checkpoints.Source(checkpoint, checkpoint=checkpoint),
        "text",
        Use(trained_before=True, max_length=how.max_length),
        role="model seqcls",
        trust_remote_code=trust_remote_code,
    )
    tokenizer = processors.load_processor(checkpoint, "text", trust_remote_code)
    model = classifiers.load_trained(
        checkpoint, "text", attention=how.attention, trust_remote_code=trust_remote_code
    )
    return tokenizer, model
