"""What a code version depends on: all that is reached, and nothing that cannot change a number."""

import sys

import pytest

from harness_plugin import HarnessError
from harness_plugin.plugins.registry import load_plugins
from harness_plugin.store import keys

LOSS = '''
"""A loss."""
from ours_{n}.helpers import scale as scaling
from ours_{n} import tables
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ours_{n}.helpers import unused

FACTOR = 2.0


class Loss:
    """Docs."""

    weight: float = 1.0

    def __call__(self, x: float) -> float:
        if x < 0:
            raise ValueError("negative")
        return FACTOR * scaling(x) + tables.LOOKUP["a"]


def elsewhere(x):
    return -x
'''
HELPERS = """
def scale(x):
    return inner(x)


def inner(x):
    return x + 1


def unused(x):
    return x
"""
TABLES = "LOOKUP = {'a': 1}\nOTHER = 3\n"


@pytest.fixture
def version(tmp_path, monkeypatch):
    """The code version of Loss in a package that is written anew with some text replaced."""
    monkeypatch.syspath_prepend(str(tmp_path))
    count = 0

    def of(*changes):
        nonlocal count
        count += 1
        name = f"ours_{tmp_path.name}_{count}"
        (tmp_path / name).mkdir()
        sources = {"loss": LOSS, "helpers": HELPERS, "tables": TABLES, "__init__": ""}
        for module, text in sources.items():
            for old, new in changes:
                text = text.replace(old, new)
            (tmp_path / name / f"{module}.py").write_text(text.replace("ours_{n}", name))
        # the package's name is part of every place: compare what is said of the places
        trees = []
        for module, entry in sorted(keys.reachable(f"{name}.loss:Loss")):
            read = keys.read_module(module)
            nodes = [read.definitions[entry]] if entry else read.statements
            trees.append((module.partition(".")[2], entry, [keys.ast.dump(n) for n in nodes]))
        return [(m, e, [t.replace(name, "ours") for t in ts]) for m, e, ts in trees]

    yield of
    for module in [m for m in sys.modules if m.startswith("ours_")]:
        del sys.modules[module]


@pytest.mark.parametrize(
    "change",
    [
        ("FACTOR = 2.0", "FACTOR = 3.0"),
        ("return x + 1", "return x + 2"),
        ("return inner(x)", "return inner(2 * x)"),
        ("'a': 1", "'a': 2"),
        ("weight: float = 1.0", "weight: float = 2.0"),
        ("weight: float = 1.0", "weight: int = 1.0"),
        ("if x < 0", "if x <= 0"),
    ],
)
def test_a_change_on_the_way_of_a_number_is_another_version(version, change):
    assert version(change) != version()


@pytest.mark.parametrize(
    "change",
    [
        ('"""A loss."""', '"""Another sentence."""'),
        ('"""Docs."""', '"""More docs."""'),
        ("return x + 1", "return x + 1  # a comment"),
        ("def inner(x)", "def inner(x: float) -> float"),
        ('"negative"', '"must not be negative"'),
        ("return -x", "return x"),
        ("def unused(x):\n    return x", "def unused(x):\n    return 2 * x"),
        ("OTHER = 3", "OTHER = 4"),
    ],
)
def test_what_cannot_change_a_number_changes_no_version(version, change):
    assert version(change) == version()


def test_a_target_that_is_not_there_is_an_error():
    with pytest.raises(HarnessError, match="defines no 'Absent'"):
        keys.code_version("harness_plugin.training.loss:Absent")
    with pytest.raises(HarnessError, match="its source cannot be read"):
        keys.code_version("nowhere_at_all:x")


PLUGINS = load_plugins()


@pytest.mark.parametrize("kind", ["method", "distiller", "bias_model", "group_inference"])
def test_the_code_of_every_objective_can_be_read(kind):
    for offer in PLUGINS[kind]:
        assert keys.reachable(offer.target), offer.name


@pytest.mark.parametrize(
    ("kind", "name", "helper"),
    [
        ("distiller", "group_dro_kd", "harness_plugin_hooks.methods.groups:GroupWeights"),
        ("distiller", "hints", "harness_plugin_hooks.distill.logits:divergence"),
        ("distiller", "rkd", "harness_plugin_hooks.distill.logits:divergence"),
        ("distiller", "minilm", "harness_plugin_hooks.distill.logits:divergence"),
        ("distiller", "crd", "harness_plugin_hooks.distill.logits:divergence"),
    ],
)
def test_helpers_in_other_modules_count(kind, name, helper):
    """These were in no key: mending them served the old models."""
    module, _, entry = helper.partition(":")
    assert (module, entry) in keys.reachable(PLUGINS[kind].offer(name).target)


def test_the_training_reaches_its_loop_its_models_and_how_pixels_are_read():
    from harness_plugin.pipeline.roles.trainer import TRAINING

    reached = {f"{module}:{name}" for module, name in keys.reachable(TRAINING)}
    for place in (
        "harness_plugin.training.loop:fit",
        "harness_plugin.training.inputs.batching:epoch",
        "harness_plugin.training.loss:DistillationLoss",
        "harness_plugin.models.classifiers:build_model",
        "harness_plugin.models.transplant:from_teacher",
    ):
        assert place in reached, place
    rows = {
        f"{m}:{n}" for m, n in keys.reachable("harness_plugin.training.inputs.encode:write_images")
    }
    assert "harness_plugin.training.inputs.pixels:to_pixels" in rows
    assert not [place for place in reached if place.startswith("harness_plugin.store")]


@pytest.fixture
def package(tmp_path, monkeypatch):
    """A package with relative imports, and a module that is a single file."""
    name = f"ours_{tmp_path.name}_relative"
    sources = {
        "__init__": "from .inner import base\n\n\ndef top(x):\n    return base(x)\n",
        "inner": "from . import side\n\n\ndef base(x):\n    return side.FACTOR * x\n",
        "side": "FACTOR = 2\n",
        "deep/__init__": "from ..inner import base as low\n\n\ndef over(x):\n    return low(x)\n",
        "deep/end": "from . import over\n\n\ndef end(x):\n    return over(x)\n",
    }
    for module, text in sources.items():
        file = tmp_path / name / f"{module}.py"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
    for file in (f"{name}.py", f"{name}_alone.py"):  # the first is hidden by the package
        (tmp_path / file).write_text("def alone(x):\n    return x\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    yield name
    for module in [m for m in sys.modules if m.startswith("ours_")]:
        del sys.modules[module]


def test_relative_imports_are_followed_from_modules_and_packages(package):
    inner = {(f"{package}.inner", "base"), (f"{package}.side", "FACTOR")}
    assert inner <= keys.reachable(f"{package}:top")
    assert inner <= keys.reachable(f"{package}.inner:base")
    reached = keys.reachable(f"{package}.deep.end:end")
    assert reached >= inner | {(f"{package}.deep", "over"), (f"{package}.deep.end", "end")}


def test_where_the_source_of_a_module_lies(package, tmp_path):
    folder = tmp_path / package
    assert keys.file_of(package) == folder / "__init__.py"
    assert keys.file_of(f"{package}.inner") == folder / "inner.py"
    assert keys.file_of(f"{package}.deep") == folder / "deep" / "__init__.py"
    assert keys.file_of(f"{package}_alone") == tmp_path / f"{package}_alone.py"
    assert keys.file_of(f"{package}_alone.inside") is None
    assert keys.file_of("sys") is None


def test_a_version_has_80_bits(package):
    assert len(keys.code_version(f"{package}:top")) == 20
