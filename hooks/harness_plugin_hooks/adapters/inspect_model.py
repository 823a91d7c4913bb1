"""`seqcls/<checkpoint>`: any sequence classifier as a model of inspect_ai, one forward a sample."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch
from inspect_ai.model import (
    ChatCompletionChoice,
    ChatMessage,
    ChatMessageAssistant,
    GenerateConfig,
    ModelAPI,
    ModelOutput,
    ModelUsage,
)
from inspect_ai.tool import ToolChoice, ToolInfo

from harness_plugin.errors import HarnessError
from harness_plugin.machine.progress import quiet_libraries
from harness_plugin_hooks.adapters.checkpoints import (
    TEXTS,
    evaluated_with,
    load_classifier,
    named_labels,
)
from harness_plugin_hooks.adapters.inspect_scoring import LOGITS


class SequenceClassifier(ModelAPI):  # type: ignore[misc]
    """A checkpoint that AutoModelForSequenceClassification loads.

    It reads the columns that a message of our tasks carries in its metadata, or the last message as
    one text, and answers with the name of its most probable label. The logits of all labels go
    along, so that a scorer can collapse them.
    """

    def __init__(
        self,
        model_name: str,
        base_url: str | None = None,
        api_key: str | None = None,
        config: GenerateConfig = GenerateConfig(),  # noqa: B008
        labels: str | list[str] | None = None,
        max_length: int | None = None,
        device: str | None = None,
        attention: str | None = None,
        trust_remote_code: bool = False,
        **unknown: Any,
    ) -> None:
        """Load the checkpoint. `labels`: names in logit order, for one that calls them LABEL_0, ….

        `max_length`: longer texts are truncated to it. A model that a run trained is evaluated as
        the run did (length, attention, autocast), unless `max_length` or `attention` say otherwise.

        Raises HarnessError for what is no trained classifier, and for labels without names.
        """
        super().__init__(model_name, base_url, api_key, [], config)
        if unknown:
            raise HarnessError(
                f"seqcls: unknown argument {', '.join(unknown)}; known: labels, max_length, "
                f"device, attention, trust_remote_code."
            )
        quiet_libraries()
        self.labels = named_labels(model_name, labels, "-M labels", trust_remote_code)
        known = evaluated_with(model_name)
        self.how = replace(
            known,
            max_length=max_length or known.max_length,
            attention=attention or known.attention,
        )
        self.tokenizer, self.network = load_classifier(model_name, self.how, trust_remote_code)
        self.device = device or ("cuda" if torch.cuda.is_available() else "cpu")
        self.network.eval().to(self.device)

    async def generate(
        self,
        input: list[ChatMessage],
        tools: list[ToolInfo],
        tool_choice: ToolChoice,
        config: GenerateConfig,
    ) -> ModelOutput:
        """The answer to the last message."""
        texts = (input[-1].metadata or {}).get(TEXTS) or [input[-1].text]
        encoded = self.tokenizer(
            *texts, truncation=True, max_length=self.how.max_length, return_tensors="pt"
        ).to(self.device)
        with torch.inference_mode(), self.how.autocast(torch.device(self.device)):
            logits = self.network(**encoded).logits[0].float().tolist()
        best = self.labels[max(range(len(logits)), key=logits.__getitem__)]
        read = int(encoded["input_ids"].numel())
        return ModelOutput(
            model=self.model_name,
            choices=[
                ChatCompletionChoice(
                    message=ChatMessageAssistant(content=best, model=self.model_name),
                    stop_reason="stop",
                )
            ],
            usage=ModelUsage(input_tokens=read, output_tokens=1, total_tokens=read + 1),
            metadata={LOGITS: dict(zip(self.labels, logits, strict=True))},
        )

    async def count_text_tokens(self, text: str) -> int:
        """With its own tokenizer: the default one would be downloaded."""
        return len(self.tokenizer(text)["input_ids"])

    def max_connections(self) -> int:
        """One: forwards share the machine."""
        return 1
