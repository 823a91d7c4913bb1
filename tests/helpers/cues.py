"""How far a cue alone tells the label."""

from collections import Counter, defaultdict

from harness_plugin_hooks.methods.bias.bias_models import floored, regression


def alone(features, split):
    """Cross-fitted accuracy of the cue alone."""
    log_probs = floored(
        regression(features(split), split.label, len(split.labels), seed=0, folds=5)
    )
    return (log_probs.argmax(axis=1) == split.label).mean()


def best_from_claims(split):
    """The accuracy of the best model that sees claims alone."""
    by_claim = defaultdict(Counter)
    for claim, label in zip(split.rows["hypothesis"], split.label.tolist(), strict=True):
        by_claim[claim][label] += 1
    return sum(max(labels.values()) for labels in by_claim.values()) / len(split)
