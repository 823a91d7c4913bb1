"""How circuits are found."""

from __future__ import annotations

from typing import Literal, TypeAlias

from pydantic import Field

from harness_plugin.analysis.contract import ResampledOptions, flag

Corruption: TypeAlias = Literal["auto", "swap", "negation", "premise", "counterfactual", "mean"]


class CircuitOptions(ResampledOptions):
    """Options of the analysis `circuits`."""

    pairs: int = Field(
        128, ge=1, description="clean and corrupted, all groups", json_schema_extra=flag("pairs")
    )
    corruption: Corruption = Field(
        "auto",
        description="how a row's twin differs; mean: no twin, nodes say their means; auto: the "
        "first that the task has",
        json_schema_extra=flag("corruption"),
    )
    ig_steps: int = Field(
        10, ge=0, description="of EAP-IG; 0: plain EAP", json_schema_extra=flag("ig_steps")
    )
    random_circuits: int = Field(
        3, ge=0, description="of every size", json_schema_extra=flag("random_circuits")
    )
