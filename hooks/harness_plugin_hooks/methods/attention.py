"""READ: a shallow bias branch pulls part of the attention to itself while training."""

from __future__ import annotations

from collections.abc import Mapping
from copy import deepcopy
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, log_softmax
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.masking_utils import eager_mask

from harness_plugin.models.network import ModelOutput, Network
from harness_plugin.training.batch import Batch
from harness_plugin.training.contracts import ForwardContext, Method

NAME = "attention_product_of_experts"
BIASED = "biased_attention"
"""Of a layer of the main model: its `BiasedAttention`."""
KNOWN = frozenset({"bert", "distilbert", "roberta", "vit", "t5_encoder_classifier"})
"""Architectures whose self-attention goes through transformers' attention interface."""
QUERIES, KEYS = ("query", "q_lin", "q_proj", "q"), ("key", "k_lin", "k_proj", "k")
"""Model types whose projections are known by name."""


class READ(Method):
    """Attention product of experts with a bias branch; it exists while training only.

    Wang, Huang, Yan, Zhou, Chen 2023 (arXiv:2305.17627), and the authors' model_joint.py and
    model.py in the mode "add". The branch is the lowest `layers` layers of the main model with
    queries, keys and a classifier of its own; all else of them (embeddings, values, outputs,
    feed-forward) is shared. In these layers of the main model the attention is
    ratio * A_branch + (1 - ratio) * A_main, A_branch from the branch's queries and keys of the main
    model's own hidden states, without gradient. loss = CE(softmax(log p + log p_branch), y) +
    CE(p_branch, y), without gradient to p_branch in the first term. Deviation: the branch never
    has more than half of the model's layers, because it must be weak; the authors' model has 12.
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
        """Make the branch; from here on the main model's lower layers mix its attention in."""
        AttentionInterface.register(NAME, attention)
        AttentionMaskInterface.register(NAME, eager_mask)
        layers = layers_of(network.model)
        lower = list(layers)[: max(1, min(self.options["layers"], len(layers) // 2))]
        self.branch = deepcopy(network, {id(p): p for p in shared_parameters(network.model, lower)})
        own = layers_of(self.branch.model)
        del own[len(lower) :]
        network.model.set_attn_implementation(NAME)
        for main, branch in zip(lower, own, strict=True):
            BiasedAttention(attention_of(main), attention_of(branch), self.options["ratio"])

    def forward(self, context: ForwardContext) -> tuple[ModelOutput, dict[str, Tensor]]:
        """The main model's output, and `branch`, the logits of the bias branch (b, C)."""
        branch = self.branch(context.inputs).logits
        return context.network(context.inputs), {"branch": branch}

    def loss(self, logits: Tensor, batch: Batch) -> Tensor:
        """() both terms, means over the batch."""
        branch = batch.outputs["branch"]
        joint = log_softmax(logits, dim=1) + log_softmax(branch.detach(), dim=1)
        return cross_entropy(joint, batch.label) + cross_entropy(branch, batch.label)


class BiasedAttention:
    """The branch's addition to a layer's attention of the main model while training.

    The branch's queries and keys are those of the hidden states that the main model's query
    projection has just been given.
    """

    def __init__(self, main: nn.Module, branch: nn.Module, ratio: float) -> None:
        self.projections = [projection(branch, names) for names in (QUERIES, KEYS)]
        self.ratio = ratio
        self.hidden: list[Tensor] = []
        projection(main, QUERIES).register_forward_pre_hook(self._keep)
        setattr(main, BIASED, self)  # no nn.Module: the branch is no part of the main model

    def _keep(self, _: nn.Module, inputs: tuple[Any, ...]) -> None:
        self.hidden[:] = [inputs[0]]

    def queries_and_keys(self, query: Tensor, key: Tensor) -> list[Tensor]:
        """The branch's, in the shape of the main model's: (b, heads, L, head size) each."""
        (hidden,) = self.hidden
        self.hidden.clear()
        pairs = zip(self.projections, (query, key), strict=True)
        return [
            project(hidden).view(len(like), like.shape[2], -1, like.shape[3]).transpose(1, 2)
            for project, like in pairs
        ]


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
    """Plain attention; while training, with that of the branch mixed in."""
    scale = query.shape[-1] ** -0.5 if scaling is None else scaling

    def weights_of(query: Tensor, key: Tensor) -> Tensor:
        scores = query @ key.transpose(2, 3) * scale
        for added in (position_bias, attention_mask):
            scores = scores if added is None else scores + added
        return scores.softmax(dim=-1)

    weights = weights_of(query, key)
    biased: BiasedAttention | None = getattr(module, BIASED, None)
    if module.training and biased is not None:
        with torch.no_grad():
            other = weights_of(*biased.queries_and_keys(query, key))
        weights = biased.ratio * other + (1 - biased.ratio) * weights
    weights = nn.functional.dropout(weights, p=dropout, training=module.training)
    out = (weights @ value).transpose(1, 2).contiguous()
    return out, weights


def shared_parameters(model: nn.Module, lower: list[nn.Module]) -> list[nn.Parameter]:
    """Parameters of the main model in the branch: all below and in its layers but queries and keys.

    The modules after the layers (pooler, last normalisation, classifier) are the branch's own.
    """
    projections = [projection(attention_of(m), names) for m in lower for names in (QUERIES, KEYS)]
    own = {id(p) for module in projections for p in module.parameters()}
    last = list(layers_of(model).parameters())[-1]
    shared = []
    for parameter in model.parameters():
        if id(parameter) not in own:
            shared.append(parameter)
        if parameter is last:
            break
    return shared


def layers_of(model: nn.Module) -> nn.ModuleList:
    """The encoder's layers: the longest list of modules."""
    lists = [module for module in model.modules() if isinstance(module, nn.ModuleList)]
    return max(lists, key=len)


def projection(attention: nn.Module, names: tuple[str, ...]) -> nn.Module:
    """The projection of queries or keys, whatever the architecture calls it."""
    return next(m for name, m in attention.named_children() if name in names)


def attention_of(layer: nn.Module) -> nn.Module:
    """The self-attention of a layer: the module that owns the query projection."""
    return next(m for m in layer.modules() if any(name in m._modules for name in QUERIES))
