"""Every method and every distiller on every family of classifiers: two updates of a tiny model."""

import copy
import math
from dataclasses import dataclass, replace
from functools import cache

import numpy as np
import pytest
import torch
from accelerate import Accelerator
from memory_trainer import MemoryTrainer
from tiny_models import IMAGES, tiny_model
from torch import nn

from harness_plugin.models.layers import OnlineTeacher, Shape
from harness_plugin.models.network import Network, answered_from, last_layer
from harness_plugin.plugins.registry import load_plugins
from harness_plugin.training import loop
from harness_plugin.training.batch import TrainingMetadata
from harness_plugin.training.inputs.encode import EncodedImages, EncodedText
from harness_plugin.training.loss import DistillationLoss
from harness_plugin.training.teacher_outputs import TeacherOutputs
from harness_plugin.training.trainer import TrainingSpec
from harness_plugin_hooks.methods.last_layer import evals

PLUGINS = load_plugins()
ROWS, LABELS, PAD, END = 24, 3, 0, 1
RNG = np.random.default_rng(0)
LABEL = np.arange(ROWS) % LABELS
ATTRIBUTE = np.arange(ROWS) // LABELS % 2
BIAS = RNG.dirichlet(np.ones(LABELS), size=ROWS)

TEXT = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "vocab_size": 50}
FEED = {"intermediate_size": 32}
DECODER = {**TEXT, **FEED, "num_key_value_heads": 1, "bos_token_id": None, "eos_token_id": END}
VISION = {"image_size": 32, "patch_size": 8}
T5 = {"d_model": 16, "num_layers": 2, "num_heads": 2, "d_kv": 8, "d_ff": 32, "vocab_size": 50}
T5 |= {"decoder_start_token_id": 0, "eos_token_id": END, "num_decoder_layers": 1}
CONFIGS = {
    "bert": {**TEXT, **FEED},
    "deberta-v2": {**TEXT, **FEED},
    "modernbert": {**TEXT, **FEED, "bos_token_id": 2, "eos_token_id": END},
    "t5_encoder_classifier": T5,
    "t5": T5,
    "qwen2": DECODER,
    "llama": DECODER,
    "resnet": {"depths": [1, 1], "hidden_sizes": [8, 16], "embedding_size": 8},
    "vit": {**TEXT, **FEED, **VISION},
    "swin": {"embed_dim": 8, "depths": [1, 1], "num_heads": [1, 2], "window_size": 4}
    | {"image_size": 32, "patch_size": 4},
    "dinov2": {**TEXT, **VISION},
}
SHORT = {"steps": 2, "subsamples": 1, "points": 4}
"""Options of methods that make them long."""
FAMILIES = [*CONFIGS, "qwen2 padded left", "llama padded left"]
LEARNING = [*FAMILIES[:-1], pytest.param(FAMILIES[-1], marks=pytest.mark.exhaustive)]
"""Of those padded left one: what learns from another sees the same features, as is asked below."""


class PaddedLeft(EncodedText):
    """Texts whose padding comes first, as a tokenizer with `padding_side="left"` makes it."""

    def batch(self, *arguments):
        made = super().batch(*arguments)
        padding = (made["attention_mask"] == 0).sum(dim=1)
        return {
            name: torch.stack([row.roll(int(by)) for row, by in zip(value, padding, strict=True)])
            for name, value in made.items()
        }


@dataclass(frozen=True)
class Family:
    """A tiny classifier and the training rows as it reads them."""

    name: str
    model: nn.Module
    teacher: nn.Module
    encoded: object
    modality: str


def build(kind, seed):
    torch.manual_seed(seed)
    names = {"num_labels": LABELS, "pad_token_id": PAD} if kind not in IMAGES else {}
    return tiny_model(kind, LABELS, **CONFIGS[kind], **names)


@cache
def family(name):
    kind = name.partition(" ")[0]
    if kind in IMAGES:
        pixels = RNG.integers(0, 256, size=(ROWS, 32, 32, 3)).astype(np.uint8)
        encoded = EncodedImages(pixels, 1 / 255, (0.5,) * 3, (0.5,) * 3)
    else:
        lengths = RNG.integers(4, 9, size=ROWS)
        tokens = RNG.integers(5, 50, size=lengths.sum()).astype(np.int32)
        offsets = np.concatenate([[0], lengths.cumsum()])
        tokens[offsets[1:] - 1] = END
        tokens[offsets[:-1]] = 2
        layout = PaddedLeft if "left" in name else EncodedText
        has_types = kind in ("bert", "deberta-v2")
        second = (lengths // 2).astype(np.int32) if has_types else None
        encoded = layout(tokens, offsets, second, PAD)
    modality = "image" if kind in IMAGES else "text"
    return Family(name, build(kind, 0), build(kind, 1), encoded, modality)


def metadata():
    return TrainingMetadata(
        label=torch.from_numpy(LABEL),
        group=torch.from_numpy(LABEL * 2 + ATTRIBUTE),
        n_labels=LABELS,
        groups=tuple(f"{a}/{b}" for a in "abc" for b in "xy"),
        bias_log_probs=torch.from_numpy(np.log(BIAS)).float(),
        environment=torch.from_numpy(ATTRIBUTE),
        environments=("x", "y"),
    )


@pytest.fixture(scope="module")
def accelerator():
    torch.set_num_threads(1)
    return Accelerator(cpu=True)


@pytest.fixture
def trainer(request, accelerator, tmp_path, monkeypatch):
    """Trains models of one family; `losses` are those of every update."""
    of = family(request.param)
    made = MemoryTrainer(
        accelerator, of.model, of.encoded, metadata(), PLUGINS["method"], of.modality, tmp_path
    )
    made.family, made.losses = of, []
    real = loop.one_update

    def update(*arguments):
        loss = real(*arguments)
        made.losses.append(float(loss))
        return loss

    monkeypatch.setattr(loop, "one_update", update)
    return made


def check_training(trainer, stage):
    """The losses of a training are finite and change, and so do its weights."""
    assert len(trainer.losses) >= 2
    assert all(math.isfinite(loss) for loss in trainer.losses)
    assert len(set(trainer.losses)) > 1
    before, after = trainer.model.state_dict(), trainer.models[stage.key].state_dict()
    assert any(not torch.equal(before[name], after[name]) for name in before)
    assert all(bool(torch.isfinite(after[name]).all()) for name in before)


def train_method(trainer, name):
    """A method's stages as a run makes them."""
    cls = PLUGINS["method"].offer(name).load()
    short = {option: value for option, value in SHORT.items() if option in cls.defaults}
    options = cls.resolved(short, trainer.modality)
    if cls.base:
        rows = cls.rows(trainer, options)
        trained = trainer.fit(TrainingSpec(cls.base, rows=rows))
        return cls.finish(trainer, trained, options)
    prepared = cls.prepare(trainer, options)
    known = replace(trainer.metadata, prepared=prepared.tensors)
    return trainer.fit(TrainingSpec(name, options, metadata=known, start=prepared.start))


def train_distiller(trainer, name):
    """A student of another model of the family; None where the pair is refused."""
    cls = PLUGINS["distiller"].offer(name).load()
    options = cls.resolved({})
    teacher = copy.deepcopy(trainer.family.teacher)
    shape = Shape.of(teacher.config)
    live = None
    if "layers" in cls.teacher_outputs:
        if cls.mismatch(options, shape, shape):
            return None
        # predicting leaves tensors behind that no gradient may pass
        live = OnlineTeacher(copy.deepcopy(teacher), trainer.encoded)
    head = last_layer(teacher)
    trainer.models["teacher"] = teacher
    expected = trainer.predict(replace(trainer.keep(teacher, {}), key="teacher"))
    outputs = TeacherOutputs(
        torch.from_numpy(expected.logits),
        expected.features,
        head.weight.detach(),
        torch.zeros(LABELS) if head.bias is None else head.bias.detach(),
        live=live,
    )

    def loss(known):
        ce_weight = 0.0 if name == "simkd" else 0.5
        erm = PLUGINS["method"].offer("erm").load()(known)
        return DistillationLoss(erm, cls(2.0, known, **options), outputs, ce_weight, 0.5)

    return trainer.fit_loss(loss, TrainingSpec("erm"))


METHODS = sorted(PLUGINS["method"].offers)
DISTILLERS = sorted(PLUGINS["distiller"].offers)


@pytest.mark.filterwarnings("ignore:The max_iter was reached")  # of a regression on 24 rows
@pytest.mark.parametrize("name", [*METHODS, *DISTILLERS])
@pytest.mark.parametrize("trainer", LEARNING, indirect=True)
def test_every_method_and_distiller_learns_on_every_family(trainer, name, monkeypatch):
    monkeypatch.setattr(evals.EIIL, "defaults", {"steps": 20, "learning_rate": 0.01})
    if name in METHODS:
        cls = PLUGINS["method"].offer(name).load()
        if cls.refusal(trainer.modality, trainer.model.config.model_type):
            return
        stage = train_method(trainer, name)
    else:
        stage = train_distiller(trainer, name)
    if stage is not None:
        check_training(trainer, stage)


# ---- features


def reference_features(model, kind, inputs):
    """The last layer's inputs (B, H), from the model's own parts."""
    mask = inputs.get("attention_mask")
    if kind in ("qwen2", "llama"):
        hidden = model.model(**inputs).last_hidden_state
        last = [int(row.nonzero()[-1]) for row in mask]
        return torch.stack([hidden[row, place] for row, place in enumerate(last)])
    if kind == "t5_encoder_classifier":
        hidden = model.encoder(**inputs).last_hidden_state
        return torch.stack(
            [row[real.bool()].mean(0) for row, real in zip(hidden, mask, strict=True)]
        )
    if kind == "t5":
        inner = model.transformer(
            **inputs, decoder_input_ids=model._shift_right(inputs["input_ids"])
        )
        end = [row.tolist().index(END) for row in inputs["input_ids"]]
        rows = torch.stack([inner.last_hidden_state[row, place] for row, place in enumerate(end)])
        return torch.tanh(model.classification_head.dense(rows))
    if kind == "deberta-v2":
        return model.pooler(model.deberta(**inputs).last_hidden_state)
    if kind == "modernbert":
        hidden = model.model(**inputs).last_hidden_state
        assert model.config.classifier_pooling == "cls"
        return model.head(hidden[:, 0])
    if kind == "bert":
        return model.bert(**inputs).pooler_output
    if kind == "resnet":
        return model.resnet(**inputs).last_hidden_state.mean(dim=(2, 3))
    if kind == "vit":
        return model.vit(**inputs).last_hidden_state[:, 0]
    if kind == "swin":
        return model.swin(**inputs).last_hidden_state.mean(dim=1)
    hidden = model.dinov2(**inputs).last_hidden_state
    return torch.cat([hidden[:, 0], hidden[:, 1:].mean(dim=1)], dim=1)


@torch.no_grad()
@pytest.mark.parametrize("name", FAMILIES)
def test_features_are_what_the_answer_is_made_of(name):
    of, kind = family(name), name.partition(" ")[0]
    model = copy.deepcopy(of.model).eval()
    rows = np.arange(ROWS)
    inputs = of.encoded.batch(rows)
    network = Network(model)
    output = network(inputs)
    width = last_layer(model).in_features
    assert output.features.shape == (ROWS, width)
    assert torch.allclose(network.head(output.features), output.logits, atol=1e-5)
    expected = reference_features(model, kind, inputs)
    assert torch.allclose(output.features, expected, atol=1e-5)
    alone = torch.cat([network(of.encoded.batch(rows[i : i + 1])).features for i in range(4)])
    assert torch.allclose(output.features[:4], alone, atol=1e-5)  # padding is in none of it


def test_of_positions_that_answer_alike_the_last_real_one_is_taken():
    features = torch.arange(2 * 4 * 1).float().view(2, 4, 1)
    answers = torch.zeros(2, 4, 3)  # a last layer of zeros says the same everywhere
    real = torch.tensor([[1, 1, 1, 0], [0, 1, 1, 1]])
    assert answered_from(features, answers, answers[:, 0], real).tolist() == [[2], [7]]
    answers[0, 1] = 5
    assert answered_from(features, answers, answers[:, 1], real).tolist() == [[1], [7]]
    assert answered_from(features, answers, answers[:, 1], None).tolist() == [[1], [7]]
