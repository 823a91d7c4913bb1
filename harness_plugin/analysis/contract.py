"""The contract of an analysis: a function of a run's models, and a model of its options."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel, ConfigDict, Field

if TYPE_CHECKING:  # the flags of `harness analyze` are made without torch
    from harness_plugin.analysis.inputs import AnalysisInput, AnalysisResult


class AnalysisOptions(BaseModel):
    """The base of the options of an analysis: every field has a type, a default, a description.

    `harness analyze` makes a flag `--<analysis>_<field>` of each; types are bool, int, float, str,
    Literal, tuples of str or int, and these or None. Three names are shared by all analyses: a
    field `resamples`, `seed` or `split` takes its value from `--resamples`,
    `--data_seed` or `--split`. Numbers are finite; give each its bounds.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class ResampledOptions(AnalysisOptions):
    """Of an analysis that draws rows and gives intervals."""

    resamples: int = Field(1000, ge=100, description="bootstrap resamples of intervals")
    seed: int = Field(0, ge=0, lt=2**32, description="of rows and resamples")


def flag(name: str) -> dict[str, Any]:
    """For `json_schema_extra` of a field: `--name` is its flag too, where no other has it."""
    return {"flag": name}


@dataclass(frozen=True)
class Analysis:
    """One analysis: `function(inputs, options)`, `options` an instance of its options' class."""

    function: Callable[[AnalysisInput, Any], AnalysisResult]
    options: type[BaseModel] = AnalysisOptions
