"""AdamW as every training uses it, and weights that stay 0."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

if TYPE_CHECKING:
    from harness_plugin.training.loop import TrainingArgs


class AdamW(torch.optim.AdamW):
    """torch's AdamW, which reads the weights of convolutions in the order of memory.

    torch's fused update copies weights that lie channels last, with their gradient and both
    moments, into another order and back: twice the time of the update. Each is computed by itself,
    so the order changes no number. Where moments lie otherwise than their weights torch's update
    on a CPU is wrong without a word (torch 2.13), so those of a checkpoint are laid as these are.
    """

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Continue with the state of a checkpoint."""
        super().load_state_dict(state_dict)
        for weight, state in self.state.items():
            for name in ("exp_avg", "exp_avg_sq"):
                state[name] = torch.empty_like(weight).copy_(state[name])

    def _init_group(self, group: dict[str, Any], *lists: list[Tensor]) -> bool:
        has_complex = super()._init_group(group, *lists)  # type: ignore[no-untyped-call]
        of_weights = lists[:4]  # weights, gradients, first and second moments
        for place, tensors in enumerate(zip(*of_weights, strict=True)):
            if all(map(is_channels_last, tensors)):
                for each in of_weights:
                    each[place] = each[place].permute(0, 2, 3, 1)
        return bool(has_complex)


def is_channels_last(tensor: Tensor) -> bool:
    """Whether a tensor lies channels last and in no other order as well."""
    return (
        tensor.ndim == 4
        and tensor.is_contiguous(memory_format=torch.channels_last)
        and not tensor.is_contiguous()
    )


def adamw(model: torch.nn.Module, args: TrainingArgs) -> AdamW:
    """AdamW; biases and normalisation weights are not decayed."""
    trainable = [p for p in model.parameters() if p.requires_grad]
    groups = [
        {"params": [p for p in trainable if p.ndim > 1], "weight_decay": args.weight_decay},
        {"params": [p for p in trainable if p.ndim <= 1], "weight_decay": 0.0},
    ]
    return AdamW(groups, lr=args.learning_rate, betas=(0.9, args.adam_beta2), fused=True)


def masks_of(model: torch.nn.Module) -> list[tuple[torch.nn.Parameter, Tensor]]:
    """The weights of two and more dimensions that hold zeros, with what is not 0 in them."""
    return [
        (weight, weight.detach() != 0)
        for weight in model.parameters()
        if weight.ndim > 1 and bool((weight == 0).any())
    ]
