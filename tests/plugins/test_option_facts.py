"""What a plugin's file says of its options: every built-in's, ranges as refusals, bad files."""

import math
from pathlib import Path

import pytest

from harness_plugin.cli.main import main
from harness_plugin.errors import HarnessError
from harness_plugin.plugins.option_facts import OptionFacts, check_ranges, option_facts
from harness_plugin.plugins.registry import Offer, load_plugins

PLUGINS = load_plugins()
KINDS = ("method", "bias_model", "group_inference", "distiller", "augmentation", "compressor")
OFFERS = [offer for kind in KINDS for offer in PLUGINS[kind]]
NO_NUMBER = {"column", "model", "views", "file", "columns", "label", "attribute", "layer"}
NO_NUMBER |= {"cluster"}


@pytest.mark.parametrize("offer", OFFERS, ids=lambda offer: f"{offer.kind}-{offer.name}")
def test_every_built_in_option_has_a_meaning_and_a_range_that_holds_its_default(offer):
    cls, facts = offer.load(), option_facts(offer)
    assert set(facts) == set(cls.defaults)
    for name, fact in facts.items():
        assert fact.help
        assert fact.range or name in NO_NUMBER or isinstance(cls.defaults[name], bool | list), name
    for modality in ("text", "image"):
        check_ranges(offer, cls.resolved({}, modality))


@pytest.mark.parametrize(
    ("interval", "inside", "outside"),
    [
        ("(0, 1]", (1e-9, 0.5, 1), (0, -1, 1.0001, math.nan)),
        ("[0, 1)", (0, 0.999), (1, -1e-9)),
        ("[0, inf)", (0, 10**9), (-1e-9, math.inf)),
        (["skip", "last"], ("skip",), ("first", "", 1)),
        ("", (-5, "what you will"), ()),
        ("[1, inf)", (None, 1, 1.5), (0, True, "many")),
    ],
)
def test_a_range_holds_what_it_says(interval, inside, outside):
    fact = OptionFacts(range=interval)
    assert all(fact.allows(value) for value in inside)
    assert not any(fact.allows(value) for value in outside)


@pytest.mark.parametrize(
    ("interval", "words"),
    [
        ("(0, inf)", "above 0"),
        ("[2, inf)", "at least 2"),
        ("(0, 1]", "in (0, 1]"),
        (["a", "b"], "a or b"),
        ("", ""),
    ],
)
def test_a_range_in_words(interval, words):
    assert OptionFacts(range=interval).range_in_words() == words


@pytest.mark.parametrize(
    ("method", "option", "value", "range_in_words"),
    [
        ("cnc", "contrast", 1.5, "in [0, 1]"),
        ("afr", "gamma", "many", "at least 0"),
        ("afr", "penalty", True, "at least 0"),
        ("evals", "points", 2.5, "a whole number, at least 1"),
        ("evals", "penalty", -1.0, "at least 0"),
        ("self", "optimizer", "lion", "adamw or sgd"),
        ("self", "disagreement", "none", "early_stop or dropout"),
    ],
)
def test_an_option_out_of_its_range_is_one_line(method, option, value, range_in_words):
    with pytest.raises(HarnessError) as caught:
        check_ranges(PLUGINS["method"].offer(method), {option: value})
    assert str(caught.value) == (
        f"method {method}: option {option} must be {range_in_words}, found {value!r}."
    )


TOY = str(Path(__file__).parents[1] / "toy" / "toy.yaml")


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("method_options.group_dro.eta=-1", "method group_dro: option eta must be at least 0"),
        ("students.student.augmentations.upsample.shift=-1", "augmentation upsample: option shift"),
    ],
)
def test_a_run_refuses_it_before_any_training(tmp_path, capsys, setting, message):
    words = ["--tasks", TOY, "--set", setting, "--use_cache", str(tmp_path / "store")]
    assert main([*words, "--output_path", str(tmp_path / "out")]) == 2
    error = capsys.readouterr().err.strip().splitlines()[-1]
    assert error.startswith(f"harness: error: {message}")
    assert not list((tmp_path / "store").glob("model-*"))


def test_a_study_refuses_it_and_names_the_cell(tmp_path, capsys):
    plan = tmp_path / "plan.yaml"
    plan.write_text(
        f"study: ranges\ntasks: [{TOY}]\nseeds: [0]\nsettings: {{method: group_dro}}\n"
        "factors: {step: {large: {method_options: {group_dro: {eta: -1}}}}}\n"
    )
    assert main(["study", str(plan), "--use_cache", str(tmp_path / "store")]) == 2
    error = capsys.readouterr().err
    assert "step large: method group_dro: option eta must be at least 0, found -1." in error


def offer_of(tmp_path, monkeypatch, name, text):
    (tmp_path / name).mkdir()
    (tmp_path / name / "__init__.py").write_text("")
    if text is not None:
        (tmp_path / name / "defaults.yaml").write_text(text)
    monkeypatch.syspath_prepend(str(tmp_path))
    return Offer("method", "mine", f"{name}.losses:Mine", "", "theirs")


def test_a_plugin_of_another_distribution_says_it_in_the_same_way(tmp_path, monkeypatch):
    text = "method: {mine: {share: {help: of the batch, range: '(0, 1]'}}}"
    offer = offer_of(tmp_path, monkeypatch, "facts_of_theirs", text)
    assert option_facts(offer)["share"].help == "of the batch"
    with pytest.raises(HarnessError, match=r"method mine: option share must be in \(0, 1\]"):
        check_ranges(offer, {"share": 2})
    silent = offer_of(tmp_path, monkeypatch, "facts_of_nobody", None)
    assert option_facts(silent) == {}
    check_ranges(silent, {"share": 2})


def test_a_plugin_that_is_a_single_module_says_nothing(tmp_path, monkeypatch):
    (tmp_path / "facts_of_one_file.py").write_text("")
    monkeypatch.syspath_prepend(str(tmp_path))
    assert option_facts(Offer("method", "mine", "facts_of_one_file:Mine", "", "theirs")) == {}


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("facts_broken", "method: [", "facts_broken/defaults.yaml: while parsing"),
        ("facts_list", "- method", "facts_list/defaults.yaml: expected a mapping of kinds"),
        ("facts_key", "method: {mine: {share: {hlep: x}}}", "method.mine: 1 validation error"),
    ],
)
def test_a_file_that_cannot_be_read_is_one_line(tmp_path, monkeypatch, name, text, message):
    with pytest.raises(HarnessError, match=message) as caught:
        option_facts(offer_of(tmp_path, monkeypatch, name, text))
    assert "\n" not in str(caught.value)
