"""Fixtures that several test files of the hooks share."""

import pytest
from planted import EVEN, results

SAME = (EVEN, (91, 79, 80, 90), (90, 81, 79, 91))
WORSE = ((90, 50, 80, 90), (91, 49, 80, 90), (90, 51, 79, 91))
UNSURE = ((90, 70, 80, 90), (91, 79, 80, 90), (90, 84, 79, 91))


@pytest.fixture(scope="session")
def compared_runs(tmp_path_factory):
    """Results of a baseline and of candidates that pass, regress and are undecided."""
    root = tmp_path_factory.mktemp("results")
    for name, seeds in {"base": SAME, "same": SAME, "worse": WORSE, "unsure": UNSURE}.items():
        results(root / name, *seeds)
    return root
