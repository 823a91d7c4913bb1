"""Train the toy task's teacher with every method, in as many processes as there are.

`python every_method.py TOY STORE METHODS [RUN OPTIONS]`: the run follows in the same processes.
"""

import gc
import json
import sys
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from unittest import mock

from accelerate.utils import memory
from stepwise import Distillation, stepwise

from harness_plugin.cli.main import main
from harness_plugin.config.merge import run_config
from harness_plugin.config.settings import StudentSettings
from harness_plugin.pipeline.prepare.open_task import load_tasks
from harness_plugin.pipeline.run_task import context_of
from harness_plugin.plugins.registry import load_plugins
from harness_plugin_hooks.methods.bias.inference import EIIL

DISTILLERS = ("subspace_layers", "kd", "group_dro_kd", "hints", "crd", "simkd")


def train(toy, store, methods):
    """The models, as `models.json` in the store: name -> folder and number of updates."""
    flags = {"tasks": (toy,), "threads": 1, "precision": "no", "attention": "sdpa"}
    sets = ["teacher.epochs=0.35", "teacher.batch_size=15", "teacher.learning_rate=1e-4"]
    sets += ["validation_fraction=0.2", "teacher.erm_learning_rate=1e-4"]
    sets += [f"method_options.{name}.epochs=0.2" for name in ("jtt", "cnc", "pgd")]
    sets += ["method_options.evals.epochs=2"]
    sets += ["teacher.config={hidden_dropout_prob: 0, attention_probs_dropout_prob: 0}"]
    config, plugins = run_config(None, {**flags, "device": "cpu"}, sets), load_plugins()
    (task,) = load_tasks(config, plugins)
    ctx = stepwise(context_of(task, config, plugins, Path(store)))
    teacher = ctx.trained("teacher", ctx.settings.teacher, "erm", 0)
    # of EVaLS, on a few rows: ten thousand steps take as long as all other methods together
    with mock.patch.object(EIIL, "defaults", {"steps": 100, "learning_rate": 0.01}):
        models = {m: ctx.trained("teacher", ctx.settings.teacher, m, 0) for m in methods}
    for name in DISTILLERS:
        heard = StudentSettings(method="erm", distiller=name, ce_weight=0, kd_weight=0.5)
        models[name] = ctx.trained(
            "student", ctx.settings.teacher, "erm", 0, Distillation((teacher,), heard)
        )
    if ctx.accelerator.is_main_process:
        paths = {name: [str(m.path), m.updates] for name, m in models.items()}
        (Path(store) / "models.json").write_text(json.dumps(paths))


if __name__ == "__main__":
    # as in tests/conftest.py: no training looks through all objects for garbage, twice
    memory.gc = SimpleNamespace(collect=partial(gc.collect, 1))
    train(sys.argv[1], sys.argv[2], sys.argv[3].split(","))
    sys.exit(main(sys.argv[4:]))
