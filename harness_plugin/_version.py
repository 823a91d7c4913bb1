"""The name and the version of the distribution."""

__version__ = "0.1.0"

DISTRIBUTION = "debias-transfer"
"""The name of the distribution. `harness-plugin`, the name of its import package, is somebody
else's on the package index: nothing may tell anybody to install that."""


TRAIN = "accelerate safetensors sentencepiece sklearn threadpoolctl tokenizers torch transformers"
EXTRA_OF = {**dict.fromkeys(TRAIN.split(), "train"), "evaluate": "evaluate"}
"""Modules that an installation without extras lacks -> the extra that brings them."""


def install_command(extra: str) -> str:
    """The command that adds an extra to an environment that has this distribution."""
    return f"pip install '{DISTRIBUTION}[{extra}]'"
