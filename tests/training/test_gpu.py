"""What must hold on a GPU: precision, agreement with the CPU, repeatable bytes, no idle waits."""

import json
import warnings
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from stepwise import Distillation

from harness_plugin.models.classifiers import load_trained
from harness_plugin.training import loop, predict
from harness_plugin.training.inputs.encode import EncodedImages
from harness_plugin.training.inputs.transfer import to_device
from harness_plugin_hooks.distill.logits import KD
from harness_plugin_hooks.methods.erm import ERM

pytestmark = pytest.mark.gpu
DEVICE = "cuda"
NO_DROPOUT = "teacher.config={hidden_dropout_prob: 0, attention_probs_dropout_prob: 0}"
FACES = Path(__file__).parents[2] / "tasks/harness_plugin_tasks/celeba_bias/celeba_bias.yaml"


@pytest.fixture
def exact(monkeypatch):
    """torch's deterministic algorithms; what has none warns."""
    monkeypatch.setenv("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    torch.use_deterministic_algorithms(True, warn_only=True)
    yield
    torch.use_deterministic_algorithms(False)


def weights(model):
    return load_file(model.path / "model.safetensors")


def curve(model):
    return np.array(json.loads((model.path / "stage.json").read_text())["loss"])[:, 1]


def same(first, second):
    return all(torch.equal(first[name], second[name]) for name in first)


@pytest.mark.parametrize("precision", ["no", "bf16", "fp16"])
def test_every_precision_learns_and_keeps_float32_weights(open_context, precision):
    ctx = open_context("teacher.epochs=8", NO_DROPOUT, precision=precision, device=DEVICE)
    model = ctx.trained("teacher", ctx.settings.teacher, "erm", 0)
    losses = curve(model)
    assert losses[-1] < 0.8 * losses[0] < 0.8
    assert {value.dtype for value in weights(model).values()} == {torch.float32}
    record = json.loads((model.path / "stage.json").read_text())
    assert record["precision"] == precision


@pytest.mark.parametrize(("precision", "most"), [("no", 2e-3), ("bf16", 0.05), ("fp16", 0.05)])
def test_a_training_follows_that_of_the_cpu(open_context, precision, most):
    sets = (NO_DROPOUT, "teacher.learning_rate=1e-4")
    on_cpu = open_context(*sets, store="cpu", device="cpu")
    there = open_context(*sets, store="gpu", device=DEVICE, precision=precision)
    models = [ctx.trained("teacher", ctx.settings.teacher, "erm", 0) for ctx in (on_cpu, there)]
    assert np.abs(curve(models[0]) - curve(models[1])).max() < most
    split = on_cpu.data.splits["id"]
    one, other = (
        ctx.predictions(model, split).logits
        for ctx, model in zip((on_cpu, there), models, strict=True)
    )
    assert np.abs(one - other).max() < 4 * most


@pytest.mark.parametrize(("precision", "most"), [("no", 1e-4), ("bf16", 0.05), ("fp16", 0.02)])
def test_one_model_answers_alike_on_the_cpu_and_the_gpu(open_context, precision, most):
    on_cpu = open_context(store="cpu", device="cpu")
    there = open_context(store="gpu", device=DEVICE, precision=precision)
    model = on_cpu.trained("teacher", on_cpu.settings.teacher, "erm", 0)
    split = on_cpu.data.splits["id"]
    tables = []
    for ctx in (on_cpu, there):
        loaded = load_trained(str(model.path), "text", attention="sdpa")
        encoded = ctx.encoded(split, ctx.settings.teacher)
        tables.append(predict.predict(ctx.accelerator, loaded, encoded, batch_size=32))
    assert tables[1].dtype == np.float32
    assert np.abs(tables[0] - tables[1]).max() < most
    margin = np.abs(tables[0][:, 0] - tables[0][:, 1]) > 2 * most
    assert margin.mean() > 0.5
    assert (tables[0].argmax(1) == tables[1].argmax(1))[margin].all()


@pytest.mark.parametrize("precision", ["bf16", "fp16"])
def test_losses_are_computed_in_float32_outside_autocast(open_context, monkeypatch, precision):
    sets = ("teacher.epochs=0.3", "student.epochs=0.3")
    ctx = open_context(*sets, precision=precision, device=DEVICE)
    teacher = ctx.trained("teacher", ctx.settings.teacher, "erm", 0)
    seen = []

    def watched(cls, places):
        def loss(self, logits, *others, original=cls.loss):
            tensors = [logits, *(value for value in others if torch.is_tensor(value))]
            seen.append({value.dtype for value in tensors if value.is_floating_point()})
            assert not torch.is_autocast_enabled(DEVICE)
            assert all(value.device.type == DEVICE for value in tensors[:places])
            return original(self, logits, *others)

        monkeypatch.setattr(cls, "loss", loss)

    watched(ERM, 1)
    watched(KD, 2)
    distillation = Distillation((teacher,), ctx.settings.students["student"])
    ctx.trained("student", ctx.settings.student, "erm", 0, distillation)
    assert seen
    assert all(dtypes == {torch.float32} for dtypes in seen)


@pytest.mark.filterwarnings("default:.*determinis")  # what differs shows in the bytes
@pytest.mark.parametrize("precision", ["no", "bf16", "fp16"])
def test_a_resumed_training_has_the_bytes_of_an_uninterrupted_one(
    open_context, monkeypatch, exact, precision
):
    flags = {"precision": precision, "attention": "eager", "device": DEVICE}
    whole, again = (open_context(store=name, **flags) for name in ("whole", "again"))
    expected = weights(whole.trained("teacher", whole.settings.teacher, "group_dro", 0))
    repeated = weights(again.trained("teacher", again.settings.teacher, "group_dro", 0))
    assert same(expected, repeated)
    original, count = loop.one_update, iter(range(10**6))

    def stopping(*args):
        if next(count) == 17:
            raise KeyboardInterrupt
        return original(*args)

    cut = open_context(store="cut", checkpoint_steps=7, **flags)
    monkeypatch.setattr(loop, "one_update", stopping)
    with pytest.raises(KeyboardInterrupt):
        cut.trained("teacher", cut.settings.teacher, "group_dro", 0)
    monkeypatch.setattr(loop, "one_update", original)
    assert same(expected, weights(cut.trained("teacher", cut.settings.teacher, "group_dro", 0)))


def test_images_are_normalised_to_the_same_bytes():
    pixels = np.random.default_rng(0).integers(0, 256, (8, 32, 32, 3), dtype=np.uint8)
    encoded = EncodedImages(pixels, 1 / 255, (0.48, 0.45, 0.4), (0.22, 0.23, 0.24))
    rows = np.array([3, 0, 7])
    here = encoded.batch(rows)["pixel_values"]
    there = encoded.batch(rows, torch.device(DEVICE))["pixel_values"]
    assert there.is_contiguous(memory_format=torch.channels_last)
    assert torch.equal(here, there.cpu())


def test_a_copy_does_not_wait_for_earlier_work():
    value, device = torch.arange(10_000), torch.device(DEVICE)
    busy = torch.randn(4096, 4096, device=device)
    to_device(value, device)  # page-locked memory is kept: to make it may wait
    torch.cuda.synchronize()
    for _ in range(20):
        busy = torch.mm(busy, busy).clamp(-1, 1)
    copied = to_device(value, device)
    done = torch.cuda.Event()
    done.record()
    assert not done.query()
    assert torch.equal(copied.cpu(), value)


def waits(work):
    """Where the host waited for the device: file name -> times."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        torch.cuda.set_sync_debug_mode("warn")
        try:
            work()
        finally:
            torch.cuda.set_sync_debug_mode("default")
    result = [w for w in caught if "called a synchronizing" in str(w.message)]
    return Counter(Path(w.filename).name for w in result)


@pytest.mark.parametrize("task", ["text", "image"])
def test_between_looks_at_the_loss_only_transformers_waits(open_context, monkeypatch, task):
    """It asks whether a batch is padded at all, to leave the mask out (masking_utils)."""
    chosen = {} if task == "text" else {"task": str(FACES)}
    ctx = open_context(precision="bf16", device=DEVICE, **chosen)
    original, counts = loop.one_update, []

    def counted(*args):
        result = []
        counts.append(waits(lambda: result.append(original(*args))))
        return result[0]

    monkeypatch.setattr(loop, "one_update", counted)
    settings = ctx.settings.teacher.model_copy(update={"epochs": 0.1})
    ctx.trained("teacher", settings, "erm", 0)
    assert len(counts) > 1
    for count in counts[1:]:
        assert set(count) <= {"masking_utils.py"}, count
        assert count.total() <= 1
