"""A data set of the hub without a network: refused without a try, with what else there is."""

import socket

import pytest

from harness_plugin import HarnessError
from harness_plugin.data.dataset import load_data
from harness_plugin.data.task import find_task
from harness_plugin.plugins.registry import load_plugins

TASKS = load_plugins()["task"]


@pytest.fixture
def attempts(monkeypatch):
    """The addresses that somebody wanted to connect to."""
    connections = []

    def connect(self, address):
        connections.append(address)
        raise OSError("no network in this test")

    monkeypatch.setattr(socket.socket, "connect", connect)
    monkeypatch.setattr(socket, "getaddrinfo", lambda *address, **_: connect(None, address))
    return connections


@pytest.mark.parametrize(
    ("task", "repository"), [("celeba_bias", "flwrlabs/celeba"), ("hans", "nyu-mll/multi_nli")]
)
def test_offline_nothing_is_tried_and_the_alternatives_are_named(attempts, task, repository):
    with pytest.raises(HarnessError) as error:
        load_data(find_task(task, TASKS), "hub")
    for part in ("cannot be reached", repository, "--data PATH", "--data embedded"):
        assert part in str(error.value)
    assert not attempts
