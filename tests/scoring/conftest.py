"""Fixtures that several test files of the scores share."""

import pytest
from four_groups import all_roles, score

from harness_plugin.records import Predictions, TaskScores


@pytest.fixture
def predictions() -> list[Predictions]:
    """Five roles, three seeds, two sets of four groups."""
    return all_roles()


@pytest.fixture(scope="session")
def scores() -> TaskScores:
    """The scores of `predictions`; frozen records, which no test can change."""
    return score(all_roles())
