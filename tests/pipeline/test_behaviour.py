"""On planted bias distillation from plain labels loses what the teacher had, in every seed."""

from functools import cache

import pytest
from opened import OpenedTask, Taught

from harness_plugin.config.merge import run_config
from harness_plugin.pipeline.open_task import load_tasks
from harness_plugin.pipeline.run_task import context_of
from harness_plugin.plugins.registry import load_plugins

pytestmark = pytest.mark.slow

SEEDS = (0, 1, 2)


@pytest.fixture(scope="module")
def shops(tmp_path_factory):
    """Workshops on the embedded tasks with their own recipes; ERM is trained once a seed."""
    folder = tmp_path_factory.mktemp("store")

    @cache
    def opened(task):
        config = run_config(None, {"tasks": (task,), "precision": "no", "threads": 1}, [])
        plugins = load_plugins()
        (task,) = load_tasks(config, plugins)
        return OpenedTask(context_of(task, config, plugins, folder))

    return opened


@pytest.mark.parametrize("seed", SEEDS)
def test_faces_plain_labels_undo_what_pure_distillation_keeps(shops, seed):
    shop = shops("celeba_bias")
    teacher = shop.trained("teacher", shop.settings.teacher, shop.settings.method, seed)
    worst = {}
    for role, settings in shop.settings.students.items():
        learned = shop.trained(
            role, shop.settings.student, settings.method, seed, Taught((teacher,), settings)
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
