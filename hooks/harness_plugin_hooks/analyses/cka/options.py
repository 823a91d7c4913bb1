"""How CKA is measured."""

from __future__ import annotations

from pydantic import Field

from harness_plugin.analysis.contract import ResampledOptions, flag
from harness_plugin_hooks.analyses.layers import Pool


class CKAOptions(ResampledOptions):
    """Options of the analysis `cka`."""

    pool: Pool = Field(
        "mean",
        description="a row's vector: mean over real tokens, the first token; or every token",
        json_schema_extra=flag("pool"),
    )
    rbf: float | None = Field(
        None,
        gt=0,
        description="Gaussian kernel, so many times the median distance wide; else linear",
        json_schema_extra=flag("rbf"),
    )
    views: tuple[str, ...] = Field(
        ("plain", "standardised", "without_top"),
        description="features as they are, standardised, without their dominant direction",
        json_schema_extra=flag("views"),
    )
    permutations: int = Field(
        100, ge=0, description="of the null", json_schema_extra=flag("permutations")
    )
    float64: bool = Field(
        False,
        description="Gram matrices in double precision; sums always are",
        json_schema_extra=flag("float64"),
    )
