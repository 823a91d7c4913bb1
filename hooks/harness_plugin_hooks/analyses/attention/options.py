"""How attention is compared."""

from pydantic import Field

from harness_plugin.analysis.contract import ResampledOptions, flag


class AttentionOptions(ResampledOptions):
    """Options of the analysis `attention`."""

    matched: int = Field(
        128,
        ge=1,
        description="rows of each group on which every head is compared with every head: all pairs "
        "of heads are many",
        json_schema_extra=flag("matched"),
    )
