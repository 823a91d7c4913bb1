"""No method, distiller, augmentation, compressor, bias model or group inference takes nonsense."""

from pathlib import Path

import pytest

from harness_plugin.config.merge import task_settings
from harness_plugin.data.task import read_task
from harness_plugin.errors import HarnessError
from harness_plugin.pipeline.prepare.bounds import is_number
from harness_plugin.pipeline.prepare.plan import resolve
from harness_plugin.plugins.registry import load_plugins

PLUGINS = load_plugins()
TOY = read_task(Path(__file__).parents[1] / "toy" / "toy.yaml")
SETTINGS = {
    "method": lambda name, given: {"method": name, "method_options": {name: given}},
    "bias_model": lambda name, given: {"bias_model": name, "bias_model_options": {name: given}},
    "group_inference": lambda name, given: {
        "group_inference": name,
        "group_inference_options": {name: given},
    },
    "distiller": lambda name, given: of_student(distiller=name, distiller_options=given),
    "augmentation": lambda name, given: of_student(augmentations={name: given}),
    "compressor": lambda name, given: of_student(compress={name: given}),
}
"""The settings that choose something and hand it options."""
INDEXES = {("distiller", "minilm", "layer")}
"""Options that count from the end when they are negative."""


def of_student(**chosen):
    return {"students": {"student": chosen}}


def numeric():
    """(kind, name, option) of everything that is offered and takes a number."""
    for kind in SETTINGS:
        for offer in PLUGINS[kind]:
            cls = offer.load()
            for option, default in cls.defaults.items():
                values = [default, *(family.get(option) for family in cls.family.values())]
                if any(map(is_number, values)):
                    yield kind, offer.name, option


NUMERIC = list(numeric())


def plan(kind, name, options):
    chosen = SETTINGS[kind](name, options)
    return resolve(TOY, task_settings(TOY, "embedded", ["toy"], chosen), PLUGINS)


def test_there_are_options_of_every_kind():
    assert {kind for kind, _, _ in NUMERIC} == set(SETTINGS)
    assert len(NUMERIC) > 100


@pytest.mark.parametrize(("kind", "name", "option"), NUMERIC, ids=str)
def test_a_negative_number_is_refused_in_one_line_that_names_the_option(kind, name, option):
    if (kind, name, option) in INDEXES:
        plan(kind, name, {option: -2})
        return
    with pytest.raises(HarnessError) as refused:
        plan(kind, name, {option: -1})
    said = str(refused.value)
    assert option in said
    assert "\n" not in said


@pytest.mark.parametrize(("kind", "name", "option"), NUMERIC, ids=str)
def test_a_number_that_is_none_or_absurd_is_refused(kind, name, option):
    for value in (float("nan"), float("inf"), 1e300):
        with pytest.raises(HarnessError, match="finite number of at most"):
            plan(kind, name, {option: value})


@pytest.mark.parametrize("kind", SETTINGS)
def test_the_defaults_are_within_the_bounds(kind):
    for offer in PLUGINS[kind]:
        plan(kind, offer.name, {})
