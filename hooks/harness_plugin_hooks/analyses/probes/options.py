"""How probes are fitted, and on how many rows."""

from __future__ import annotations

from pydantic import Field

from harness_plugin.analysis.contract import ResampledOptions, flag


class ProbeOptions(ResampledOptions):
    """Options of the analysis `probes`."""

    split: str | None = Field(
        None,
        description="evaluation set; by default the one with most rows of the rarest combination",
    )
    rows: int = Field(2000, ge=20, description="in all", json_schema_extra=flag("probe_rows"))
    folds: int = Field(
        5, ge=2, description="of the cross-fitting", json_schema_extra=flag("probe_folds")
    )
    strength: float = Field(
        0.1, gt=0, description="C of the L2 penalty, on features of unit variance"
    )
    permutations: int = Field(
        1,
        ge=0,
        description="trainings on shuffled targets, each layer of each model: what a probe finds "
        "in nothing",
        json_schema_extra=flag("probe_permutations"),
    )
