"""The metrics this distribution offers: those of harness_plugin.scoring.metrics, and fairness."""

from harness_plugin import hookimpl
from harness_plugin.plugins.hookspecs import Register

SUMMARIES = {
    "acc": "share of correct rows",
    "f1": "F1 of the positive label (two labels) or macro F1 (more)",
    "worst_group_acc": "lowest accuracy of any group",
    "acc_train_weighted": "group accuracies weighted by the training set's group shares",
    "gap_id_ood": "accuracy in domain minus accuracy on this out-of-distribution set",
    "gap_aligned_conflicting": "accuracy on bias-aligned minus bias-conflicting rows",
    "gap_avg_worst": "accuracy minus worst-group accuracy",
    "gap_entailment": "accuracy on entailment minus non-entailment rows",
    "ece": "expected calibration error, 15 equal-width bins",
}


FAIRNESS = {
    "demographic_parity_difference": "highest minus lowest share called positive, over attributes",
    "demographic_parity_ratio": "lowest over highest share called positive, over attributes",
    "tpr_gap": "highest minus lowest true positive rate, over attributes",
    "fpr_gap": "highest minus lowest false positive rate, over attributes",
    "equalized_odds_difference": "the larger of tpr_gap and fpr_gap",
    "subgroup_auc": "lowest AUC within an attribute",
    "bpsn_auc": "lowest AUC of positive rows without an attribute and negative rows with it",
    "bnsp_auc": "lowest AUC of negative rows without an attribute and positive rows with it",
}


@hookimpl
def register_metrics(register: Register) -> None:
    """Offer the built-in metrics."""
    for name, summary in SUMMARIES.items():
        register(name, f"harness_plugin.scoring.metrics:{name.upper()}", summary=summary)
    for name, summary in FAIRNESS.items():
        register(name, f"{__name__}.fairness:{name.upper()}", summary=summary)
