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
HOSTILE = (
    "<script>document.title = 'broken'</script><img src=https://example.org/x onerror=alert(1)>"
)
FORMULA = "=1+1"
REFERENCES = {"control": 0.5, "erm_teacher": 0.4, "erm_student": 0.4}
SUBMISSIONS = {
    "good.zip": ("Good", {"teacher": 0.95, "student": 0.95, **REFERENCES}, 3),
    "close.zip": ("Close", {"teacher": 0.95, "student": 0.9}, 3),
    "bad.zip": (HOSTILE, {"student": 0.3}, 3),
    "single.zip": (FORMULA, {"teacher": 0.95, "student": 0.9}, 1),
    "two": ("Two", {"teacher": 0.9, "student": 0.6, "student_b": 0.1}, 4),
}
"""File -> name, share of right rows by role, seeds."""


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
