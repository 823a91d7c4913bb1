"""Classifiers that were never trained, and the real evaluator of lm-evaluation-harness on them."""

from pathlib import Path

from lm_eval.evaluator import simple_evaluate
from lm_eval.tasks import TaskManager

from harness_plugin.config.settings import RoleSettings
from harness_plugin.data.dataset import TaskData, load_data
from harness_plugin.data.task import find_task
from harness_plugin.models import classifiers, processors
from harness_plugin.models.checkpoints import Source
from harness_plugin.plugins.registry import load_plugins
from harness_plugin_hooks.adapters.lm_eval_tasks import folder

TASKS = load_plugins()["task"]
TWO, THREE = ("entailment", "non-entailment"), ("entailment", "neutral", "contradiction")
SMALL = {"hans.n_train": 60, "hans.n_validation": 60, "hans.n_id": 200, "hans.n_hans": 600}


def build(target, labels, seed, texts, **config):
    """A classifier that was never trained, but says several things, saved as a checkpoint."""
    target.mkdir()
    processors.train_tokenizer(texts, 200, target)
    tokenizer = processors.load_processor(str(target), "text")
    source = Source("bert-pico", backbone=load_plugins()["backbone"].offer("bert-pico").load())
    settings = RoleSettings(model="bert-pico", config={"initializer_range": 0.5, **config})
    model = classifiers.build_model(
        source,
        settings,
        modality="text",
        labels=labels,
        processor=tokenizer,
        attention="sdpa",
        seed=seed,
    )
    model.save_pretrained(target)
    return target


def few_rows() -> TaskData:
    """HANS-like rows, as a run loads them."""
    options = {name.removeprefix("hans."): value for name, value in SMALL.items()}
    return load_data(find_task("hans", TASKS), "embedded", options=options)


def built(root, hans) -> dict[str, Path]:
    """Checkpoints by name: two of two labels, one of three."""
    texts = list(processors.texts_of(hans.splits["hans"], ("premise", "hypothesis")))
    return {
        "teacher": build(root / "teacher", TWO, 1, texts),
        "student": build(root / "student", TWO, 2, texts),
        "three": build(root / "three", THREE, 3, texts),
    }


def evaluate(checkpoint, tasks=("hans",), metadata=SMALL, include=(), lm=None, **more):
    """The real evaluator of that harness, on our folder."""
    manager = TaskManager(
        include_path=[str(folder()), *map(str, include)],
        include_defaults=False,
        metadata=dict(metadata),
    )
    values = {"pretrained": str(checkpoint)} if lm is None else None
    return simple_evaluate(
        model=lm or "seqcls",
        model_args=values,
        tasks=list(tasks),
        task_manager=manager,
        batch_size=more.pop("batch_size", 32),
        device="cpu",
        bootstrap_iters=more.pop("bootstrap_iters", 100),
        **more,
    )
