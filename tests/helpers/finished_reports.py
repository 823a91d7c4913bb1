"""Reports of a made-up run, and how they are written."""

from harness_plugin.config.run_config import RunConfig
from harness_plugin.data.task import HubSet

RIGHT = {"teacher": 0.95, "student": 0.8, "control": 0.75, "erm_teacher": 0.7, "erm_student": 0.6}
STAMP = "1970-01-01T00-00-00.000000"
HUB = {
    "id": HubSet(id="org/pairs", split="validation_matched"),
    "swapped": HubSet(id="org/pairs", config="other", split="test"),
}


def config(folder, **more) -> RunConfig:
    """The configuration of a run that writes to a folder."""
    return RunConfig(tasks=("made",), output_path=str(folder), **more)
