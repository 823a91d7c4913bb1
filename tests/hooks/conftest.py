"""Fixtures that several test files of the hooks share."""

import pytest
from bundles import RIGHT, parts_of
from planted import EVEN, results

from harness_plugin.cli.main import main

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


@pytest.fixture(scope="session")
def answered_run(tmp_path_factory, finished_run):
    """A finished run of the roles and accuracies of `bundles.RIGHT`."""
    return finished_run(tmp_path_factory.mktemp("run"), RIGHT)


@pytest.fixture(scope="session")
def bundle(answered_run):
    """A bundle that holds."""
    file = answered_run.parent / "whole.zip"
    assert main(["submit", str(answered_run), "--output_path", str(file), "--name", "Ours"]) == 0
    return file


@pytest.fixture(scope="session")
def bundle_parts(bundle) -> dict[str, bytes]:
    """Its parts by name."""
    return parts_of(bundle)
