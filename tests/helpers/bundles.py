"""Bundles of a leaderboard, their parts, and what is wrong with them."""

import json
import zipfile
from pathlib import Path

import pytest

from harness_plugin_hooks.leaderboard.bundle import Refused
from harness_plugin_hooks.leaderboard.verify import verify

RIGHT = {"teacher": 0.9, "student": 0.7, "control": 0.6, "erm_teacher": 0.5, "erm_student": 0.5}
RESULTS = "tasks/made/results.json"
ANSWERS = "tasks/made/predictions_id.csv"


def parts_of(bundle: Path) -> dict[str, bytes]:
    """The parts of a zip file by name."""
    with zipfile.ZipFile(bundle) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def edited(content: bytes, *path, value) -> bytes:
    """A JSON part with the value at `path` replaced; the last key may be new."""
    whole = json.loads(content)
    place = whole
    for key in path[:-1]:
        place = place[key]
    place[path[-1]] = value
    return json.dumps(whole).encode()


def refused(plugins, path, **more) -> list[str]:
    """What `verify` says of a bundle that does not hold."""
    with pytest.raises(Refused) as caught:
        verify(path, plugins, **more)
    return [str(problem) for problem in caught.value.problems]
