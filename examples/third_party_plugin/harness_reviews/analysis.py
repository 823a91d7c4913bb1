"""The analysis: how large the weights of each model are."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from pydantic import Field

from harness_plugin.analysis.contract import Analysis, AnalysisOptions

if TYPE_CHECKING:
    from harness_plugin.analysis.inputs import AnalysisInput, AnalysisResult


class WeightOptions(AnalysisOptions):
    """`harness analyze --weights_size … --weights_largest …`."""

    size: Literal["rms", "max"] = Field("rms", description="root mean square, or largest absolute")
    largest: int = Field(3, ge=1, description="matrices of each model that are shown")


def analyse(inputs: AnalysisInput, options: WeightOptions) -> AnalysisResult:
    """One row a weight matrix of a model, the largest first."""
    from harness_plugin.analysis.inputs import AnalysisResult

    rows = []
    for loaded in inputs.models:
        for name, weight in loaded.model.named_parameters():
            if weight.dim() < 2:
                continue
            value = weight.square().mean().sqrt() if options.size == "rms" else weight.abs().max()
            rows.append(
                {"role": loaded.role, "seed": loaded.seed, "matrix": name, "size": value.item()}
            )
    rows.sort(key=lambda row: (row["role"], row["seed"], -row["size"]))
    first = {
        f"{loaded.role} {loaded.seed}": [
            f"{row['matrix']} {row['size']:.3f}"
            for row in rows
            if (row["role"], row["seed"]) == (loaded.role, loaded.seed)
        ][: options.largest]
        for loaded in inputs.models
    }
    shown = [f"weights of {model}: {', '.join(largest)}" for model, largest in first.items()]
    return AnalysisResult({"size": options.size, "largest": first}, rows, shown)


WEIGHTS = Analysis(analyse, WeightOptions)
