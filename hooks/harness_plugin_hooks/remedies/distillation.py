"""Remedies that change the student's loss: the distillation term, its weights, its targets."""

from harness_plugin.plugins.remedies import Remedy
from harness_plugin_hooks.remedies.changes import pure_distillation, setting

PURE_KD = Remedy(
    "pure_kd", "learn from the teacher alone, not from labels", pure_distillation(), order=10
)
PURE_KD_T4 = Remedy(
    "pure_kd_t4", "the same at temperature 4", pure_distillation(temperature=4.0), order=20
)
PURE_KD_T1 = Remedy(
    "pure_kd_t1", "the same at temperature 1", pure_distillation(temperature=1.0), order=30
)
PURE_KD_T10 = Remedy(
    "pure_kd_t10", "the same at temperature 10", pure_distillation(temperature=10.0), order=40
)
WEIGHTED_KD = Remedy(
    "weighted_kd",
    "the teacher's method too: its weights on labels and teacher, its further rows",
    setting(method="same"),
    order=50,
)
GROUP_DRO_KD = Remedy(
    "group_dro_kd",
    "group DRO over divergences from the teacher",
    pure_distillation("group_dro_kd"),
    order=60,
)
LAST_LAYER = Remedy(
    "last_layer",
    "refit the last layer on balanced validation rows (DFR) after distillation",
    setting(method="dfr"),
    order=70,
    cost="logistic regressions on the validation rows",
)
SIMKD = Remedy(
    "simkd",
    "the teacher's last layer on projected features",
    pure_distillation("simkd"),
    order=80,
    cost="a projection and the teacher's last layer in the student",
)
EXTRAPOLATED = Remedy(
    "extrapolated",
    "learn from the teacher moved on, away from the ERM teacher, at temperature 10",
    pure_distillation(temperature=10.0, combine="extrapolate"),
    order=220,
    cost="the ERM teacher, where a run has none",
)
DISAGREE = Remedy(
    "disagree",
    "rows weighted by how far teacher and bias-only model disagree",
    pure_distillation("disagree"),
    order=230,
    cost="a bias-only model",
)
BIAS_AWARE_KD = Remedy(
    "bias_aware_kd",
    "teacher smoothed where a bias-only model is sure",
    setting(method="erm", distiller="bias_aware_kd", distiller_options={}),
    order=90,
    cost="a bias-only model",
)
