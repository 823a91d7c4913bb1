"""Batches arrive on the device without making the host wait, and bytes travel, not floats."""

import numpy as np
import pytest
import torch

from harness_plugin.training.inputs import encode
from harness_plugin.training.inputs.transfer import to_device

TEXT = encode.EncodedText(
    np.arange(5, 14, dtype=np.int32), np.array([0, 4, 9]), np.array([2, 2], np.int32), 0
)
IMAGES = encode.EncodedImages(
    np.arange(2 * 4 * 4 * 3, dtype=np.uint8).reshape(2, 4, 4, 3),
    1 / 255,
    (0.5, 0.4, 0.3),
    (0.2, 0.3, 0.4),
)


class InMemory:
    """A tensor in ordinary memory that tells how it is copied."""

    device = torch.device("cpu")

    def __init__(self, locked=False):
        self.locked = locked

    def pin_memory(self):
        return InMemory(locked=True)

    def to(self, device, non_blocking=False):
        return device.type, self.locked, non_blocking


def test_a_gpu_is_sent_page_locked_memory_and_not_waited_for():
    assert to_device(InMemory(), torch.device("cuda", 0)) == ("cuda", True, True)
    assert to_device(InMemory(), torch.device("mps")) == ("mps", False, False)


def test_on_the_cpu_nothing_is_copied():
    value = torch.ones(3)
    assert to_device(value, torch.device("cpu")) is value


@pytest.mark.parametrize("encoded", [TEXT, IMAGES, encode.EncodedRows(IMAGES, np.array([1, 0]))])
def test_a_batch_is_made_where_it_is_asked_for(encoded):
    rows = np.array([1, 0])
    here, there = encoded.batch(rows), encoded.batch(rows, torch.device("meta"))
    assert {name: value.shape for name, value in here.items()} == {
        name: value.shape for name, value in there.items()
    }
    assert all(value.device.type == "meta" for value in there.values())


def test_images_travel_as_bytes_and_are_normalised_in_float32(monkeypatch):
    sent = []

    def spy(value, device):
        sent.append(value)
        return to_device(value, device)

    monkeypatch.setattr(encode, "to_device", spy)
    batch = IMAGES.batch(np.array([1]))["pixel_values"]
    assert {value.dtype for value in sent if value.numel() > 3} == {torch.uint8}
    mean, std = (np.float32(each).reshape(3, 1, 1) for each in (IMAGES.mean, IMAGES.std))
    expected = (IMAGES.pixels[1].transpose(2, 0, 1) / np.float32(255) - mean) / std
    assert np.abs(batch[0].numpy() - expected).max() < 1e-5
    assert batch.dtype == torch.float32
    assert batch.is_contiguous(memory_format=torch.channels_last)
