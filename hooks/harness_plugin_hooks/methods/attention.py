"""READ: a shallow bias branch pulls part of the attention to itself while training."""

from __future__ import annotations

from collections.abc import Mapping
from copy import deepcopy
from typing import Any, ClassVar

from torch import Tensor, nn
from torch.nn.functional import cross_entropy, log_softmax
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.masking_utils import eager_mask

from harness_plugin.models.network import ModelOutput, Network
from harness_plugin.training.batch import Batch
from harness_plugin.training.contracts import ForwardContext, Method

NAME = "attention_product_of_experts"
KNOWN = frozenset({"bert", "distilbert", "roberta", "vit", "t5_encoder_classifier"})
"""Architectures whose self-attention goes through transformers' attention interface."""


class READ(Method):
    """Attention product of experts with a bias branch; it exists while training only.

    Wang, Huang, Yan, Zhou, Chen 2023 (arXiv:2305.17627), and the authors' model_joint.py in the
    mode "add". The branch is a copy of the lowest `layers` layers with a classifier of its own. In
    these layers of the main model the attention is ratio * A_branch + (1 - ratio) * A_main, without
    gradient to A_branch and with the main model's values. loss = CE(softmax(log p + log p_branch),
    y) + CE(p_branch, y), without gradient to p_branch in the first term. The branch never has more
    than half of the model's layers, because it must be weak.
    """

    defaults: ClassVar[Mapping[str, Any]] = {"ratio": 0.1, "layers": 3}
    has_trainable_modules = True

    @classmethod
    def refusal(cls, modality: str, model_type: str) -> str:
        """Only for encoders whose attention can be reached."""
        if model_type in KNOWN:
            return ""
        return f"{model_type} is not one of {', '.join(sorted(KNOWN))}, whose attention it changes"

    def setup(self, network: Network) -> None:
        """Make the branch; from here on the main model's lower layers listen to it."""
        AttentionInterface.register(NAME, attention)
        AttentionMaskInterface.register(NAME, eager_mask)
        branch = deepcopy(network)
        layers = layers_of(branch.model)
        del layers[max(1, min(self.options["layers"], len(layers) // 2)) :]
        for model in (network.model, branch.model):
            model.set_attn_implementation(NAME)
        pairs = zip(attentions_of(layers), attentions_of(layers_of(network.model)), strict=False)
        for theirs, ours in pairs:
            theirs.__dict__["attention_seen"] = []
            # past nn.Module: the branch must not become a part of the main model
            ours.__dict__["attention_mix"] = (theirs, self.options["ratio"])
        self.branch = branch

    def forward(self, context: ForwardContext) -> tuple[ModelOutput, dict[str, Tensor]]:
        """The main model's output, and `branch`, the logits of the bias branch (b, C)."""
        branch = self.branch(context.inputs).logits  # first: the main model reads its attention
        return context.network(context.inputs), {"branch": branch}

    def loss(self, logits: Tensor, batch: Batch) -> Tensor:
        """() both terms, means over the batch."""
        branch = batch.outputs["branch"]
        joint = log_softmax(logits, dim=1) + log_softmax(branch.detach(), dim=1)
        return cross_entropy(joint, batch.label) + cross_entropy(branch, batch.label)


def attention(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    scaling: float | None = None,
    dropout: float = 0.0,
    position_bias: Tensor | None = None,
    **_: Any,
) -> tuple[Tensor, Tensor]:
    """Plain attention that shows its weights, or mixes those of its branch in while training."""
    scale = query.shape[-1] ** -0.5 if scaling is None else scaling
    scores = query @ key.transpose(2, 3) * scale
    if position_bias is not None:
        scores = scores + position_bias
    if attention_mask is not None:
        scores = scores + attention_mask
    weights = scores.softmax(dim=-1)
    seen = getattr(module, "attention_seen", None)
    if seen is not None:
        seen[:] = [weights.detach()]
    if module.training and (mix := getattr(module, "attention_mix", None)) is not None:
        branch, ratio = mix
        weights = ratio * branch.attention_seen[0] + (1 - ratio) * weights
    weights = nn.functional.dropout(weights, p=dropout, training=module.training)
    out = (weights @ value).transpose(1, 2).contiguous()
    return out, weights


def layers_of(model: nn.Module) -> nn.ModuleList:
    """The encoder's layers: the longest list of modules."""
    lists = [module for module in model.modules() if isinstance(module, nn.ModuleList)]
    return max(lists, key=len)


def attentions_of(layers: nn.ModuleList) -> list[nn.Module]:
    """The self-attention of each layer: the module that owns the query projection."""
    names = ("query", "q_lin", "q_proj", "q")
    return [
        next(m for m in layer.modules() if any(name in m._modules for name in names))
        for layer in layers
    ]
