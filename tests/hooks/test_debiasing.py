"""On planted bias ERM shows the gap and a debiasing method narrows it, in every seed."""

from functools import cache

import numpy as np
import pytest
from stepwise import stepwise

from harness_plugin.config.merge import run_config, task_settings
from harness_plugin.pipeline.prepare.open_task import load_tasks
from harness_plugin.pipeline.run_task import context_of

pytestmark = pytest.mark.slow

SMALL = [
    *("celeba_bias.n_train=4000", "celeba_bias.n_validation=2400", "celeba_bias.n_test=2000"),
    *("student.epochs=2", "student.batch_size=32"),
    "method_options.vrex.anneal=83",  # a third of the updates, as in the recipe
]
"""250 updates on half of the faces: the gap is that of the recipe, at half of its cost."""
HELP = {
    "afr": 0.15,
    "bias_reweight": 0.2,
    "confidence_regularisation": 0.1,
    "cvar_dro": 0.08,
    "dfl": 0.04,
    "dfr": 0.08,
    "dfr_train": 0.16,
    "group_dro": 0.12,
    "learned_mixin": 0.15,
    "lff": 0.13,
    "lisa": 0.12,
    "poe": 0.19,
    "resample": 0.09,
    "resample_class": 0.1,
    "reweight": 0.18,
    "rubi": 0.06,
    "vrex": 0.06,
}
"""Methods that help here, and the mean gain in worst-group accuracy that a broken one would miss.

About half of the gain of the faultless method on `SMALL`. The methods that do not help on these
small models are in the table of docs/methods_measured.md, with the reasons.
"""


@pytest.fixture(scope="module")
def faces(tmp_path_factory, plugins):
    """Accuracy of every group of the balanced faces, by method and seed; ERM is trained once."""
    folder = tmp_path_factory.mktemp("store")
    flags = {"tasks": ("celeba_bias",), "device": "cpu", "threads": 1}
    flags |= {"precision": "no", "attention": "sdpa"}
    (opened,) = load_tasks(run_config(None, flags, SMALL), plugins)

    @cache
    def by_group(method, seed):
        config = run_config(None, flags, [*SMALL, f"method={method}", "references=false"])
        settings = task_settings(opened.task, "embedded", ["celeba_bias"], config.settings)
        task = opened._replace(settings=settings)
        ctx = stepwise(context_of(task, config, plugins, folder))
        split = ctx.data.splits["balanced"]
        p = ctx.predictions(ctx.trained("control", ctx.settings.student, method, seed), split)
        accuracies = [p.correct[p.group == g].mean() for g in range(len(p.groups))]
        return dict(zip(p.groups, accuracies, strict=True))

    return by_group


@pytest.mark.parametrize("seed", [0, pytest.param(1, marks=pytest.mark.exhaustive)])
def test_erm_fails_the_group_that_the_training_data_lack(faces, seed):
    erm = faces("erm", seed)
    assert min(erm, key=erm.get) == "blond_hair/Male"
    assert erm["blond_hair/Male"] < 0.55


@pytest.mark.parametrize("seeds", [(0,), pytest.param((0, 1), marks=pytest.mark.exhaustive)])
@pytest.mark.parametrize("method", HELP)
def test_the_method_lifts_the_worst_group_and_narrows_the_gap(faces, method, seeds):
    gains = []
    for seed in seeds:
        erm, debiased = (np.array(list(faces(name, seed).values())) for name in ("erm", method))
        gains.append(debiased.min() - erm.min())
        assert debiased.mean() - debiased.min() < erm.mean() - erm.min()
    assert min(gains) > 0
    assert np.mean(gains) > HELP[method]
