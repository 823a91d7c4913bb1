"""What was logged: pytest's plugin for it is off, which looks at all loggers six times a test."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from unittest import mock


@contextmanager
def logged() -> Iterator[list[str]]:
    """The messages of every logger while it is open, whether it propagates or not."""
    messages: list[str] = []

    def handle(_: logging.Logger, record: logging.LogRecord) -> None:
        messages.append(record.getMessage())

    with mock.patch.object(logging.Logger, "handle", handle):
        yield messages
