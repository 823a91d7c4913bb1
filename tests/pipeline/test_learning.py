"""What would learn nothing is refused before anything is trained."""

import math

import pytest

from harness_plugin import HarnessError
from harness_plugin.config.merge import run_config, task_settings
from harness_plugin.data.task import find_task
from harness_plugin.pipeline.roles.checks import updates_of_method
from harness_plugin.plugins.registry import load_plugins

PLUGINS = load_plugins()

NOTHING = [
    (
        "students.student={ce_weight: 0, kd_weight: 0}",
        r"ce_weight and kd_weight are both 0: the student would learn nothing",
    ),
    (
        "students.student={distiller: hints, distiller_options: {weight: 0, logits: 0}}",
        r"student: distiller hints learns nothing, or the opposite: its terms weigh 0, 0",
    ),
    ("method=vrex", r"method vrex gives its penalty the weight 10 after 500 .* it trains 24: set"),
    ("method=irm", r"teacher: method irm gives its penalty the weight 100 after 500 updates"),
    ("method=gce method_options.gce.q=0.0", r"method gce has a loss of 0 where q is 0: set q"),
    ("method=lff method_options.lff.q=0.0", r"method lff has a loss of 0"),
    ("method=pgd method_options.pgd.q=0.0", r"method pgd has a loss of 0"),
    ("method=cnc method_options.cnc.contrast=1.0", r"method cnc has no cross-entropy"),
    ("method=afr method_options.afr.steps=1", r"method afr leaves the last layer as it is"),
    ("method=self method_options.self.learning_rate=0.0", r"method self leaves the last layer"),
    ("method=dfr method_options.dfr.subsamples=0", r"method dfr fits nothing: set subsamples"),
]


@pytest.mark.parametrize(("sets", "message"), NOTHING)
def test_what_cannot_learn_is_refused_before_training(open_context, sets, message):
    values = [sets] if "{" in sets else sets.split()
    with pytest.raises(HarnessError, match=message):
        open_context("validation_fraction=0.25", *values)


@pytest.mark.parametrize(
    ("sets", "last"),
    [((), 29), (("teacher.erm_epochs=1", "student.erm_epochs=1"), 14)],
)
def test_annealing_may_last_until_the_last_update_of_the_method(open_context, sets, last):
    """240 rows in batches of 16 for two epochs, of which ERM epochs are not the method's."""
    anneal = "method_options.vrex.anneal="
    open_context("method=vrex", *sets, f"{anneal}{last}")
    with pytest.raises(HarnessError, match=rf"after {last + 1} updates .* it trains {last + 1}:"):
        open_context("method=vrex", *sets, f"{anneal}{last + 1}")


def test_rounds_share_the_updates(open_context):
    student = "students.student={method: vrex, rounds: 2}"
    with pytest.raises(HarnessError, match=r"student: method vrex .* after 15 .* it trains 15:"):
        open_context(student, "method_options.vrex.anneal=15")
    open_context(student, "method_options.vrex.anneal=14")


def test_a_label_term_without_a_weight_is_not_asked(open_context):
    """The student hears its teacher alone; the method's annealing is nothing to it."""
    values = "method=erm", "students.student={method: vrex, ce_weight: 0, kd_weight: 1}"
    open_context(*values, "control=false")


@pytest.mark.parametrize("erm_epochs", [0, 1])
def test_the_updates_counted_are_those_of_the_training(open_context, monkeypatch, erm_epochs):
    from harness_plugin_hooks.methods.environments import VREx

    ctx = open_context(
        "method=vrex", f"teacher.erm_epochs={erm_epochs}", "method_options.vrex.anneal=0"
    )
    seen = []

    def loss(self, logits, batch, plain=VREx.loss):
        seen.append(batch.update)
        return plain(self, logits, batch)

    monkeypatch.setattr(VREx, "loss", loss)
    role = ctx.plan.roles["teacher"]
    ctx.trained("teacher", ctx.settings.teacher, "vrex", 0)
    assert max(seen) + 1 == updates_of_method(ctx, role)


@pytest.mark.parametrize("name", [offer.name for offer in PLUGINS["task"]])
def test_recipes_of_generated_data_leave_annealing_an_end(name):
    """Of those that say how many rows they train on, and need the default of 500 changed."""
    task = find_task(name, PLUGINS["task"])
    rows = task.options["n_train"].default if "n_train" in task.options else None
    if "embedded" not in task.sources or not isinstance(rows, int):
        pytest.skip("no generated training rows of a known number")
    settings = task_settings(
        task, "embedded", [name], run_config(None, {"tasks": (name,)}, []).settings
    )
    role = settings.teacher
    updates = (role.epochs - role.erm_epochs) * math.ceil(rows / role.batch_size)
    for method in ("vrex", "irm"):
        options = settings.method_options.get(method, {})
        cls = PLUGINS["method"].offer(method).load()
        assert not cls.cannot_learn(cls.resolved(options, task.modality), int(updates))
