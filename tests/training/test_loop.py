"""The one loop: resumes bit for bit, counts its updates, names what goes wrong."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from stepwise import Distillation

from harness_plugin import HarnessError
from harness_plugin.cli.main import main
from harness_plugin.config.settings import StudentSettings
from harness_plugin.pipeline.roles.supervision import metadata_of
from harness_plugin.pipeline.roles.trainer import TRAINING
from harness_plugin.plugins.registry import load_plugins
from harness_plugin.store.keys import code_version, target_of
from harness_plugin.training import loop
from harness_plugin.training.batch import Batch
from harness_plugin.training.contracts import Method
from harness_plugin.training.loss import DistillationLoss, TrainableModel
from harness_plugin.training.teacher_outputs import TeacherOutputs
from harness_plugin_hooks.distill.logits import KD
from harness_plugin_hooks.methods.bias.inference import EIIL
from harness_plugin_hooks.methods.erm import ERM
from harness_plugin_hooks.methods.failure import LfF
from harness_plugin_hooks.methods.groups import GroupDRO

TOY = str(Path(__file__).parents[1] / "toy" / "toy.yaml")
FACES = [f"celeba_bias.{rows}" for rows in ("n_train=96", "n_validation=200", "n_test=80")]


def weights(model):
    return load_file(model.path / "model.safetensors")


def same(first, second):
    return all(torch.equal(first[name], second[name]) for name in first)


def test_the_number_of_updates_and_examples_is_recorded(open_context):
    ctx = open_context()
    model = ctx.trained("teacher", ctx.settings.teacher, "erm", 0)
    assert model.updates == 2 * 240 // 16
    record = json.loads((model.path / "stage.json").read_text())
    assert record["examples"] == 480
    assert record["loss"][-1][1] < record["loss"][0][1] or len(record["loss"]) == 1


def test_fractions_of_an_epoch_are_rounded_up(open_context):
    ctx = open_context("teacher.epochs=0.5")
    assert ctx.trained("teacher", ctx.settings.teacher, "erm", 0).updates == 8


def test_the_same_seed_gives_the_same_bytes_and_another_seed_others(open_context):
    models = []
    for store, seed in (("a", 0), ("b", 0), ("c", 1)):
        ctx = open_context(store=store)
        models.append(weights(ctx.trained("teacher", ctx.settings.teacher, "erm", seed)))
    assert same(models[0], models[1])
    assert not same(models[0], models[2])


def interrupt_at(monkeypatch, update):
    """Raise Ctrl-C inside the loop after `update` updates."""
    original = loop.one_update
    count = iter(range(10**6))

    def stopping(*args, **kwargs):
        if next(count) == update:
            raise KeyboardInterrupt
        return original(*args, **kwargs)

    monkeypatch.setattr(loop, "one_update", stopping)
    return original


RESUMED = ["erm", "group_dro", "lff", "kernel_whitening", "learned_mixin", "read"]


@pytest.mark.parametrize("method", RESUMED)
def test_an_interrupted_training_continues_to_the_same_weights(open_context, monkeypatch, method):
    whole = open_context(store="whole")
    expected = weights(whole.trained("teacher", whole.settings.teacher, method, 0))
    ctx = open_context(store="cut", checkpoint_steps=7)
    original = interrupt_at(monkeypatch, 17)
    with pytest.raises(KeyboardInterrupt):
        ctx.trained("teacher", ctx.settings.teacher, method, 0)
    (partial,) = ctx.store.root.glob("model-*.partial")
    assert [path.name for path in partial.glob("resume/*")] == ["checkpoint-14"]
    monkeypatch.setattr(loop, "one_update", original)
    again = open_context(store="cut", checkpoint_steps=7)
    model = again.trained("teacher", again.settings.teacher, method, 0)
    assert same(weights(model), expected)
    assert model.updates == 30
    assert not (model.path / "resume").exists()


def test_a_half_written_checkpoint_is_not_used(open_context, monkeypatch):
    ctx = open_context(checkpoint_steps=7)
    original = interrupt_at(monkeypatch, 10)
    with pytest.raises(KeyboardInterrupt):
        ctx.trained("teacher", ctx.settings.teacher, "erm", 0)
    (partial,) = ctx.store.root.glob("model-*.partial")
    (partial / "resume" / "unfinished").mkdir()
    monkeypatch.setattr(loop, "one_update", original)
    assert open_context(checkpoint_steps=7).trained("teacher", ctx.settings.teacher, "erm", 0)


def test_accumulation_cuts_a_batch_without_changing_it(open_context):
    one = open_context("teacher.config={hidden_dropout_prob: 0, attention_probs_dropout_prob: 0}")
    plain = weights(one.trained("teacher", one.settings.teacher, "erm", 0))
    cut = one.settings.teacher.model_copy(update={"gradient_accumulation_steps": 3})
    pieces = weights(one.trained("teacher", cut, "erm", 0))
    worst = max(float((plain[name] - pieces[name]).abs().max()) for name in plain)
    assert 0 < worst < 2e-4


def test_a_loss_that_is_not_finite_names_role_and_update(open_context, monkeypatch):
    ctx = open_context(checkpoint_steps=5)
    calls = iter(range(10**6))

    def loss(self, logits, batch):
        return logits.sum() * (float("nan") if next(calls) == 12 else 1e-3)

    monkeypatch.setattr(ERM, "loss", loss)
    with pytest.raises(
        HarnessError, match=r"teacher on toy, seed 0 \(erm\).*update 13.*checkpoint-10"
    ):
        ctx.trained("teacher", ctx.settings.teacher, "erm", 0)
    (partial,) = ctx.store.root.glob("model-*.partial")
    assert (partial / "resume" / "checkpoint-10").is_dir()


def test_a_tracker_gets_the_loss_of_every_role(tmp_path):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    out = tmp_path / "out"
    words = f"--tasks {TOY} --seeds 0 --log_with tensorboard --resamples 100 --output_path {out}"
    words += " --threads 1 --precision no --attention sdpa --set references=false"
    words += " --set teacher.epochs=1 --set student.epochs=1"
    assert main(words.split()) == 0
    events = EventAccumulator(str(out / "harness_plugin_toy"))
    events.Reload()
    tags = events.Tags()["scalars"]
    assert "teacher on toy seed 0 group_dro/loss" in tags
    assert "student on toy seed 0 group_dro/lr" in tags

    def of(role):
        """The one run of a role and seed, in the group of this run."""
        (run,) = out.glob(f"harness_plugin_toy/*/{role}-seed0")
        events = EventAccumulator(str(run))
        events.Reload()
        return run, events

    def final(events, name):
        return events.Scalars(name)[-1].value

    (record,) = [json.loads(file.read_text()) for file in out.glob("transfer_toy_*.json")]
    for role in ("teacher", "student", "control"):
        (scores,) = [s for s in record["scores"] if (s["role"], s["split"]) == (role, "swapped")]
        run, events = of(role)
        assert final(events, "swapped/acc") == pytest.approx(scores["metrics"]["acc"]["value"])
        assert len(events.Scalars("loss")) >= 1
        (file,) = run.rglob("hparams.yml")
        hparams = file.read_text()
        assert "run/resamples: 100" in hparams
        assert f"role: {role}" in hparams
        assert ("verdict/swapped: " in hparams) == (role == "student")
    shutil.rmtree(out)
    assert main(words.split()) == 0  # everything comes from the store: nothing is empty
    assert [folder.name for folder in out.glob("harness_plugin_toy/*/*")]
    assert final(of("student")[1], "swapped/acc") >= 0
    assert of("student")[1].Scalars("loss")
    assert not list(out.glob("harness_plugin_toy/events*"))


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("tensorbord", "unknown tracker 'tensorbord'. Did you mean tensorboard"),
        ("comet_ml", "tracker 'comet_ml' is not installed: pip install comet_ml"),
    ],
)
def test_a_tracker_that_would_be_left_out_is_refused(tmp_path, capsys, name, message):
    out = tmp_path / "out"
    assert main(["--tasks", TOY, "--log_with", name, "--output_path", str(out)]) == 2
    assert message in capsys.readouterr().err
    assert not out.exists()


def test_a_limit_below_the_batch_makes_batches_smaller_and_says_so(open_context):
    ctx = open_context("teacher.epochs=1", limit=10)
    assert ctx.settings.teacher.batch_size == ctx.settings.student.batch_size == 10
    assert "--limit leaves 10 training rows: batches of 10 rows, not of 16" in ctx.data.notes
    assert ctx.trained("teacher", ctx.settings.teacher, "erm", 0).updates == 1
    whole = open_context("teacher.epochs=1", limit=20)
    assert whole.settings.teacher.batch_size == 16
    assert not [note for note in whole.data.notes if "batches" in note]


def test_a_batch_that_cannot_be_cut_is_refused(open_context):
    ctx = open_context("teacher.batch_size=1000")
    with pytest.raises(HarnessError, match="a batch of 1000 of 240 rows cannot be cut"):
        ctx.trained("teacher", ctx.settings.teacher, "erm", 0)


MODELS = {"bert-pico": TOY, "t5-pico": TOY, "resnet-pico": "celeba_bias", "vit-pico": "celeba_bias"}
SHORT = ["validation_fraction=0.2", "teacher.batch_size=16"]
SHORT += [f"method_options.{name}.epochs=0.2" for name in ("cnc", "pgd")]
SHORT += ["method_options.jtt.epochs=0.1"]  # later a t5-pico makes no error
SHORT += ["method_options.evals.epochs=2"]  # of 35 last layers, each
UNMOVED = {
    "bert.embeddings.position_embeddings.weight",  # by weight decay alone
    "encoder.block.0.layer.0.SelfAttention.relative_attention_bias.weight",  # far buckets unused
}


def cases():
    """Every method on BERT and ResNet, in mixed precision; on T5 and ViT what touches them.

    Mixed precision goes with gradient accumulation: the loop offers both, every method bears both.
    Without it they learn in test_architectures.py, and here what touches them on BERT and ResNet.
    """
    touching = {"forward", "setup", "uses_features", "finish", "prepare", "partners"}
    for offer in load_plugins()["method"]:
        classes = offer.load().__mro__
        own = {name for c in classes[: classes.index(Method)] for name in vars(c)}
        touches = bool(own & touching)
        for model in MODELS if touches or offer.name == "erm" else ():
            yield offer.name, model, "no"
        yield from ((offer.name, model, "bf16") for model in ("bert-pico", "resnet-pico"))


@pytest.mark.parametrize(("name", "model", "precision"), list(cases()))
def test_three_steps_of_every_method_move_every_weight(
    open_context, shared_store, monkeypatch, name, model, precision
):
    from harness_plugin.models.checkpoints import locate, model_type
    from harness_plugin.models.classifiers import build_model, load_trained

    monkeypatch.setattr(EIIL, "defaults", {"steps": 100, "learning_rate": 0.01})  # of EVaLS
    text = MODELS[model] == TOY
    sets = (*SHORT, f"teacher.model={model}", *(() if text else FACES))
    sets += ("teacher.gradient_accumulation_steps=2",) if precision == "bf16" else ()
    ctx = open_context(*sets, task=MODELS[model], precision=precision, store=shared_store)
    method = ctx.plugins["method"].offer(name).load()
    settings = ctx.settings.teacher.model_copy(update={"epochs": 0.3 if text else 2})
    kind = model_type(locate(settings, ctx.task.modality, ctx.plugins))
    if method.refusal(ctx.task.modality, kind):
        with pytest.raises(HarnessError, match=f"method {name} cannot train {model}"):
            ctx.check_method(name, settings)
        return
    trained = ctx.trained("teacher", settings, name, 0)
    fresh = build_model(
        locate(settings, ctx.task.modality, ctx.plugins),
        settings,
        modality=ctx.task.modality,
        labels=ctx.labels,
        processor=ctx.processor(settings)[0],
        attention="sdpa",
        seed=0,
    ).state_dict()
    loaded = load_trained(str(trained.path), ctx.task.modality, attention="eager")
    after = loaded.state_dict()
    assert trained.updates >= 3
    still = {n for n in after if after[n].is_floating_point() and torch.equal(after[n], fresh[n])}
    refitted = {"classifier.bias"} if method.base else set()  # a refitted bias may be 0 as well
    assert still <= UNMOVED | refitted
    assert all(torch.isfinite(value).all() for value in after.values())


@pytest.mark.parametrize("name", ["lff", "learned_mixin", "read"])
def test_a_methods_own_modules_are_trained(open_context, monkeypatch, name):
    ctx = open_context("teacher.epochs=0.3")
    method = ctx.plugins["method"].offer(name).load()
    kept = []

    def setup(self, network, original=method.setup):
        original(self, network)
        kept.append((self, {n: p.detach().clone() for n, p in self.named_parameters()}))

    monkeypatch.setattr(method, "setup", setup)
    ctx.trained("teacher", ctx.settings.teacher, name, 0)
    ((module, before),) = kept
    moved = {n for n, p in module.named_parameters() if not torch.equal(p.cpu(), before[n])}
    assert before
    assert moved >= {n for n in before if "position_embeddings" not in n}


def test_methods_declare_what_they_train_and_weigh():
    for offer in load_plugins()["method"]:
        method = offer.load()
        assert method.has_trainable_modules == (method.setup is not Method.setup), offer.name
        weighs = method.loss_and_weights is not Method.loss_and_weights
        assert method.weighs_examples == weighs, offer.name


def test_processes_do_not_send_each_other_what_all_of_them_know(open_context):
    """The buffers of the training rows; those of a method's own modules they do."""
    method = LfF(metadata_of(open_context().data.train))
    network = torch.nn.Sequential(torch.nn.BatchNorm1d(3))
    trainable = TrainableModel(network, DistillationLoss(method))
    ignored = set(trainable._ddp_params_and_buffers_to_ignore)
    assert {"loss.method.label", "loss.method.easy"} <= ignored
    assert ignored < {name for name, _ in trainable.named_buffers()}
    assert "loss.method.biased.0.running_mean" not in ignored
    assert not any("label" in name for name in trainable.state_dict())
    assert "loss.method.easy" in trainable.state_dict()


def test_a_student_without_a_label_term_cannot_have_a_method_that_trains_modules(open_context):
    with pytest.raises(HarnessError, match="student has ce_weight 0, and method lff trains"):
        open_context("method=lff", "students.student.ce_weight=0")


def test_group_weights_follow_a_training_without_a_label_term(open_context):
    facts = metadata_of(open_context().data.train)
    method = GroupDRO(facts, eta=1.0)
    teacher = torch.zeros(len(facts.label), 2)
    objective = DistillationLoss(
        method, KD(1.0), TeacherOutputs(teacher), ce_weight=0.0, kd_weight=1.0
    )
    before = method.group_weights.q.clone()
    rows = torch.arange(16)
    logits = torch.randn(16, 2, requires_grad=True)
    objective(logits, Batch(rows, facts.label[rows], facts.group[rows])).backward()
    assert not torch.equal(method.group_weights.q, before)
    assert logits.grad.abs().sum() > 0


def test_a_student_learns_from_the_store_as_from_the_live_teacher(open_context):
    ctx = open_context("teacher.epochs=1")
    teacher = ctx.trained("teacher", ctx.settings.teacher, "erm", 0)
    (stage,) = ctx.outputs(Distillation((teacher,), ctx.settings.students["student"]))
    stored = np.load(stage.path / "logits.npy")
    from harness_plugin.models.classifiers import load_trained

    live = load_trained(str(teacher.path), "text", attention="sdpa").eval()
    rows = np.array([5, 100, 7])
    with torch.inference_mode():
        out = live(**ctx.encoded(ctx.data.train, ctx.settings.teacher).batch(rows)).logits
    assert np.allclose(stored[rows], out.numpy(), atol=1e-5)


def test_a_student_depends_on_the_code_of_its_distiller_and_method(open_context):
    ctx = open_context("teacher.epochs=0.2", "student.epochs=0.2")
    teacher = ctx.trained("teacher", ctx.settings.teacher, "erm", 0)
    distillation = Distillation((teacher,), ctx.settings.students["student"])
    student = ctx.trained("student", ctx.settings.student, "erm", 0, distillation)
    code = json.loads((student.path / "stage.json").read_text())["spec"]["code"]
    assert code == code_version(TRAINING, target_of(KD), target_of(ERM))


def test_distillation_without_teacher_logits_is_an_error(open_context):
    ctx = open_context()
    facts = metadata_of(ctx.data.train)
    row = torch.tensor([0, 1])
    batch = Batch(row, facts.label[row], facts.group[row])
    objective = DistillationLoss(ERM(facts), KD(2.0), None, kd_weight=1.0)
    with pytest.raises(HarnessError, match="needs teacher logits"):
        objective(torch.randn(2, 2), batch)


FAMILIES = {
    "distilbert-base": {"n_layers": 1, "dim": 32, "n_heads": 2, "hidden_dim": 64},
    "roberta-base": {"num_hidden_layers": 1, "hidden_size": 32, "num_attention_heads": 2},
    "deberta-v3-small": {"num_hidden_layers": 1, "hidden_size": 32, "num_attention_heads": 2},
    "t5-pico-encdec": {},
}


@pytest.mark.parametrize("name", FAMILIES)
def test_every_family_trains_is_distilled_and_loads_again(open_context, name):
    config = json.dumps(FAMILIES[name])
    sets = [f"{role}.model={name}" for role in ("teacher", "student")]
    sets += [f"{role}.config={config}" for role in ("teacher", "student")]
    sets += [f"{role}.epochs=0.3" for role in ("teacher", "student")]
    ctx = open_context(*sets)
    teacher = ctx.trained("teacher", ctx.settings.teacher, "group_dro", 0)
    settings = StudentSettings(method="erm", distiller="hints")
    distillation = Distillation((teacher,), settings)
    student = ctx.trained("student", ctx.settings.student, "erm", 0, distillation)
    split = ctx.data.evaluation[0]
    p = ctx.predictions(student, split)
    assert len(p.correct) == len(split)
    record = json.loads((student.path / "stage.json").read_text())
    assert np.isfinite(record["loss"][-1][1])
