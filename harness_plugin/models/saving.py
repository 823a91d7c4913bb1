"""Whether a model can be saved, asked before it is trained."""

from __future__ import annotations

import tempfile
from typing import TYPE_CHECKING

from harness_plugin.errors import HarnessError

if TYPE_CHECKING:
    from transformers import PreTrainedModel


def check_can_be_saved(model: PreTrainedModel, name: str) -> None:
    """Refuse a configuration that transformers builds a model from and then does not save.

    Without it a training would be done to its end and lost. `name`: whose model it is.
    """
    with tempfile.TemporaryDirectory() as folder:
        try:
            model.config.save_pretrained(folder)
        except OSError:
            raise  # the disk's fault, not the configuration's
        except Exception as error:  # transformers' validators raise classes of their own
            message = " ".join(str(error).split())
            raise HarnessError(
                f"{name}: transformers cannot save a model with this configuration: {message}"
            ) from error
