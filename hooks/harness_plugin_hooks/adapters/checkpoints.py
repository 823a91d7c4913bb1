"""What other harnesses and the classifiers in them say to each other: input columns, labels."""

from __future__ import annotations

import re
from collections.abc import Sequence

from harness_plugin.errors import HarnessError
from harness_plugin.models import checkpoints

TEXTS = "texts"
"""Key of a message's metadata: the input columns of the row as they are, for classifiers."""


def named_labels(
    checkpoint: str, given: str | Sequence[str] | None, option: str, trust_remote_code: bool
) -> tuple[str, ...]:
    """The labels of a checkpoint in the order of its logits, from its configuration or as given.

    `given`: "a/b/c" or "a,b,c" (lm_eval cuts its arguments at commas), or a list; `option` is what
    a user writes to give them. Raises HarnessError for names of another number, and for
    LABEL_0-style names, which say nothing about the order.
    """
    known = checkpoints.checkpoint_labels(checkpoint, trust_remote_code)
    if given is None and any(name.upper().startswith("LABEL_") for name in known):
        raise HarnessError(
            f"model seqcls: checkpoint {checkpoint} calls its classes {', '.join(known)}. Say what "
            f"they are, in that order: {option}=entailment/neutral/contradiction"
        )
    names = re.split("[/,]", given) if isinstance(given, str) else given
    named = None if names is None else tuple(str(name).strip() for name in names)
    return checkpoints.trained_labels(checkpoint, named, "model seqcls", trust_remote_code)
