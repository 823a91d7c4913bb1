"""Fixtures that several test files of the scores share."""

import pytest
from four_groups import all_roles

from harness_plugin.records import Predictions


@pytest.fixture
def predictions() -> list[Predictions]:
    """Five roles, three seeds, two sets of four groups."""
    return all_roles()
