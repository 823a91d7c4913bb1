"""On planted bias ERM shows the gap and every method narrows it, in every seed."""

from functools import cache

import numpy as np
import pytest

from harness_plugin.config import run_config
from harness_plugin.plugins import load_plugins
from harness_plugin.roles import Distillation
from harness_plugin.run import open_workshop, prepare

pytestmark = pytest.mark.slow

SEEDS = (0, 1, 2)


@pytest.fixture(scope="module")
def shops(tmp_path_factory):
    """Workshops on the embedded tasks with their own recipes; ERM is trained once a seed."""
    folder = tmp_path_factory.mktemp("store")

    @cache
    def opened(task):
        config = run_config(None, {"tasks": (task,), "precision": "no", "threads": 2}, [])
        plugins = load_plugins()
        (job,) = prepare(config, plugins)
        return open_workshop(*job, config, plugins, folder)

    return opened


def by_group(shop, role, method, seed, split):
    """Accuracy of every group of `split`."""
    settings = shop.settings.teacher if role == "teacher" else shop.settings.student
    p = shop.predictions(shop.trained(role, settings, method, seed), shop.data.splits[split])
    return np.array([p.correct[p.group == g].mean() for g in range(len(p.groups))])


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("method", ["reweight", "group_dro", "poe"])
def test_faces_every_method_lifts_the_worst_group(shops, method, seed):
    shop = shops("celeba_bias")
    erm = by_group(shop, "control", "erm", seed, "balanced")
    debiased = by_group(shop, "control", method, seed, "balanced")
    assert erm.min() < 0.55
    assert erm.argmin() == shop.data.splits["balanced"].groups.index("blond_hair/Male")
    assert debiased.min() > erm.min() + 0.10
    assert debiased.mean() - debiased.min() < erm.mean() - erm.min()


@pytest.mark.parametrize("seed", SEEDS)
def test_faces_plain_labels_undo_what_pure_distillation_keeps(shops, seed):
    shop = shops("celeba_bias")
    teacher = shop.trained("teacher", shop.settings.teacher, shop.settings.method, seed)
    worst = {}
    for role, settings in shop.settings.students.items():
        learned = shop.trained(
            role, shop.settings.student, settings.method, seed, Distillation(teacher, settings)
        )
        p = shop.predictions(learned, shop.data.splits["balanced"])
        worst[role] = min(p.correct[p.group == g].mean() for g in range(4))
    assert worst["student"] > worst["student_ce"] + 0.03


@pytest.mark.parametrize("seed", SEEDS)
def test_nli_trusts_overlap_until_it_is_debiased(shops, seed):
    shop = shops("hans")
    gaps = {}
    for role, method in (("erm_teacher", "erm"), ("teacher", shop.settings.method)):
        model = shop.trained(role, shop.settings.teacher, method, seed)
        p = shop.predictions(model, shop.data.splits["hans"])
        gaps[method] = p.correct[p.label == 0].mean() - p.correct[p.label == 1].mean()
    assert gaps["erm"] > 0.12
    assert abs(gaps["group_dro"]) < 0.6 * gaps["erm"]
