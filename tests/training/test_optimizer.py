"""AdamW of trainings: torch's own numbers, without its copies of convolutions' weights."""

import pytest
import torch

from harness_plugin.training.update import AdamW, adamw

SETTINGS = (1e-3, 0.1, 0.99)
"""Learning rate, weight decay, second beta."""


def network(channels_last=True):
    """Convolutions of odd and even sizes, and what has other layouts."""
    torch.manual_seed(0)
    model = torch.nn.Sequential(
        torch.nn.Conv2d(3, 7, 3),
        torch.nn.Conv2d(7, 64, 3),
        torch.nn.Conv2d(64, 64, 3),
        torch.nn.Conv2d(64, 5, 1),
        torch.nn.Flatten(),
        torch.nn.Linear(20, 2),
    )
    return model.to(memory_format=torch.channels_last) if channels_last else model


def update(model, optimizer, number):
    torch.manual_seed(number)
    model(torch.randn(4, 3, 8, 8)).square().sum().backward()
    optimizer.step()
    optimizer.zero_grad()


def test_the_optimizer_holds_every_parameter_once():
    model = torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.LayerNorm(4))
    groups = adamw(model, *SETTINGS).param_groups
    held = [parameter for group in groups for parameter in group["params"]]
    assert {id(p) for p in held} == {id(p) for p in model.parameters()}
    assert len(held) == 4
    assert [group["weight_decay"] for group in groups] == [0.1, 0.0]


@pytest.mark.parametrize("channels_last", [True, False])
def test_it_computes_what_torch_computes(channels_last):
    ours, theirs = network(channels_last), network(channels_last)
    one, other = AdamW(ours.parameters(), fused=True), torch.optim.AdamW(theirs.parameters())
    for number in range(5):
        update(ours, one, number)
        update(theirs, other, number)
    for mine, its in zip(ours.parameters(), theirs.parameters(), strict=True):
        assert mine.stride() == its.stride()
        torch.testing.assert_close(mine, its, rtol=1e-6, atol=1e-8)


@pytest.mark.parametrize(("kind", "copies"), [(AdamW, False), (torch.optim.AdamW, True)])
def test_weights_that_lie_channels_last_are_not_copied(kind, copies):
    model = network()
    optimizer = kind(model.parameters(), fused=True)
    model(torch.randn(4, 3, 8, 8)).sum().backward()
    with torch.profiler.profile() as profile:
        optimizer.step()
    names = {event.key for event in profile.key_averages()}
    assert "aten::_fused_adamw_" in names
    assert ("aten::clone" in names) == copies  # where torch has learned it, ours can go


def test_moments_that_were_saved_in_another_order_are_continued():
    """What a checkpoint holds may lie otherwise than the weights it belongs to."""
    straight, resumed = network(), network()
    one, other = adamw(straight, *SETTINGS), adamw(resumed, *SETTINGS)
    for model, optimizer in ((straight, one), (resumed, other)):
        update(model, optimizer, 0)
    saved = other.state_dict()
    saved["state"] = {
        number: {name: value.contiguous() for name, value in state.items()}
        for number, state in saved["state"].items()
    }
    other.load_state_dict(saved)
    update(straight, one, 1)
    update(resumed, other, 1)
    for mine, its in zip(straight.parameters(), resumed.parameters(), strict=True):
        torch.testing.assert_close(mine, its, rtol=1e-6, atol=1e-8)
