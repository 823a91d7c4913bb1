"""The flags of `harness analyze` come from the options of every registered analysis."""

import subprocess
import sys
from typing import Literal

import pytest
from pydantic import Field

from harness_plugin import HarnessError
from harness_plugin.analysis.contract import (
    Analysis,
    AnalysisOptions,
    ResampledOptions,
    flag,
)
from harness_plugin.cli.parser import Parser
from harness_plugin.plugins.registry import Offer, Registry
from harness_plugin_hooks.commands.examine.analysis_flags import add_flags, options_of


class Norms(ResampledOptions):
    order: int = Field(2, ge=1, le=9, description="100% of it", json_schema_extra=flag("order"))
    scale: float | None = Field(None, gt=0, description="of all")
    kind: Literal["rows", "columns"] = Field("rows", description="of what")
    layers: tuple[int, ...] = Field((), description="only these")
    names: tuple[str, ...] = Field(("a", "b"), description="of roles")
    centred: bool = Field(False, description="before")
    squared: bool = Field(True, description="after")


class Other(AnalysisOptions):
    order: int = Field(1, description="of its own", json_schema_extra=flag("order"))
    seeds: int = Field(1, description="of its own", json_schema_extra=flag("seeds"))


def parsed(classes, *words):
    parser = Parser("harness analyze")
    parser.add_argument("--resamples", type=int, default=1000)
    parser.add_argument("--data_seed", type=int, default=0)
    parser.add_argument("--seeds")
    add_flags(parser, classes)
    return options_of(parser, classes, vars(parser.parse_args(list(words))))


def test_every_type_of_option_has_a_flag():
    words = ["--order", "3", "--norms_scale", "0.5", "--norms_kind", "columns"]
    words += ["--norms_layers", "1,2", "--norms_names", "x,y", "--norms_centred"]
    made = parsed({"norms": Norms}, *words, "--no-norms_squared", "--resamples", "200")
    assert made["norms"] == Norms(
        order=3,
        scale=0.5,
        kind="columns",
        layers=(1, 2),
        names=("x", "y"),
        centred=True,
        squared=False,
        resamples=200,
    )


def test_without_flags_there_are_the_defaults():
    assert parsed({"norms": Norms, "other": Other}) == {"norms": Norms(), "other": Other()}


def test_a_short_flag_that_two_ask_for_or_that_is_taken_belongs_to_none():
    both = {"norms": Norms, "other": Other}
    with pytest.raises(HarnessError, match="unknown option '--order'"):
        parsed(both, "--order", "3")
    made = parsed(both, "--norms_order", "3", "--other_order", "4", "--seeds", "5")
    assert (made["norms"].order, made["other"].order, made["other"].seeds) == (3, 4, 1)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--order", "0"], r"^--order 0: expected at least 1\.$"),
        (["--order", "10"], r"^--order 10: expected less than or equal to 9\.$"),
        (["--norms_scale", "0"], r"^--norms_scale 0: expected greater than 0\.$"),
        (["--order", "two"], "invalid int value: 'two'"),
        (["--norms_kind", "cells"], "invalid choice: 'cells'"),
    ],
)
def test_a_value_out_of_bounds_is_named_with_its_flag(words, message):
    with pytest.raises(HarnessError, match=message):
        parsed({"norms": Norms}, *words)


def test_an_option_that_no_flag_can_be_made_of_is_refused():
    class Wrong(AnalysisOptions):
        weights: dict[str, float] = Field({}, description="")

    with pytest.raises(HarnessError, match=r"option wrong\.weights: a flag is made of bool, int"):
        parsed({"wrong": Wrong})


def test_two_options_of_one_flag_are_named():
    class Prefix(AnalysisOptions):
        b_c: int = Field(0, description="")

    class Whole(AnalysisOptions):
        c: int = Field(0, description="")

    with pytest.raises(HarnessError, match=r"option c of analysis a_b: .*--a_b_c"):
        parsed({"a": Prefix, "a_b": Whole})


def test_the_built_in_options_have_their_short_flags_and_cost_no_torch():
    code = """
import sys
from harness_plugin_hooks.commands.examine.analyze import parser
words = "RUN --pool cls --rbf .5 --views plain --permutations 9 --float64 --matched 8 --pairs 7"
words += " --corruption swap --ig_steps 6 --random_circuits 5 --probe_rows 40 --probe_folds 3"
given = vars(parser().parse_args((words + " --probe_permutations 2").split()))
print(sorted(name for name in given if "." in name), "torch" in sys.modules)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    names = {
        "attention": ["matched"],
        "circuits": ["corruption", "ig_steps", "pairs", "random_circuits"],
        "cka": ["float64", "permutations", "pool", "rbf", "views"],
        "probes": ["folds", "permutations", "rows"],
    }
    values = [f"{analysis}.{name}" for analysis, options in names.items() for name in options]
    assert done.stdout == f"{values} False\n"


def test_what_is_registered_as_an_analysis_and_is_none_is_named(monkeypatch):
    registry = Registry("analysis")
    registry.add(Offer("analysis", "mine", "my_analyses:mine", "", "my_plugin"))
    monkeypatch.setattr(Offer, "load", lambda self: print)
    with pytest.raises(HarnessError, match="analysis 'mine' of plugin 'my_plugin': my_analyses"):
        registry.offer("mine").instance(Analysis)
    analysis = Analysis(print)
    monkeypatch.setattr(Offer, "load", lambda self: analysis)
    assert registry.offer("mine").instance(Analysis) is analysis
