"""Tensors on the device that computes, without making the host wait for the device."""

from __future__ import annotations

import torch
from torch import Tensor

CPU = torch.device("cpu")


def to_device(value: Tensor, device: torch.device) -> Tensor:
    """`value` on `device`.

    A copy from ordinary memory to a CUDA device begins when the device has done all earlier work,
    and the host waits for it. From page-locked memory it queues up like any other work.
    """
    if device.type != "cuda" or value.device.type != "cpu":
        return value.to(device)
    return value.pin_memory().to(device, non_blocking=True)
