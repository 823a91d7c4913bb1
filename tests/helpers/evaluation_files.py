"""A folder without its training files is enough to evaluate on, and gives the same rows."""

import shutil

import pytest

from harness_plugin.data.dataset import load_data
from harness_plugin.errors import HarnessError


def evaluates_without(task, path, patterns, **options):
    """The data of `path` once what matches `patterns` below it is gone, for evaluation alone.

    They cannot be trained on any more, and every evaluation set is what it was.
    """
    whole = load_data(task, "path", path=path, options=options)
    files = [file for pattern in patterns for file in path.glob(pattern)]
    assert files
    for file in files:
        shutil.rmtree(file) if file.is_dir() else file.unlink()
    with pytest.raises(HarnessError):
        load_data(task, "path", path=path, options=options)
    alone = load_data(task, "path", path=path, options=options, training=False)
    assert {split.purpose for split in alone.splits.values()} <= {"in_domain", "ood"}
    assert {s.name: s.fingerprint for s in alone.evaluation} == {
        s.name: s.fingerprint for s in whole.evaluation
    }
    return alone
